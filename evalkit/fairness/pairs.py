"""The samples that two models both scored, and one measure of both over the groups of a field.

Groups are those of the candidate's samples, so that a baseline whose suite declared none is put into the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from evalkit.fairness.cells import Cells, Estimator, cells_of, limits_of
from evalkit.fairness.grouping import Grouping
from evalkit.identity import derived_seed
from evalkit.metrics.base import Measure
from evalkit.records.scorecard import Interval
from evalkit.scoring import MetricTable
from evalkit.stats.gaps import Part
from evalkit.stats.intervals import Array, Codes
from evalkit.stats.paired import paired_difference
from evalkit.stats.resampling import Resampled, Resampler


@dataclass(frozen=True)
class Change:
    """One measure of both models over the groups of one field."""

    candidate: Cells
    """The candidate's numbers on the pairs."""
    baseline: Cells
    """The baseline's, over the same groups."""
    paired: Part
    """Each group's paired difference."""
    resampled: bool
    """Whether it rests on resamples, which tell nothing at the highest levels."""


@dataclass(frozen=True)
class Pairs:
    """The M samples that both models scored."""

    candidate: Estimator
    baseline: Estimator
    resampler: Resampler

    @classmethod
    def of(cls, candidate: MetricTable, baseline: MetricTable, seed: int) -> Pairs:
        """Return the pairs in the order of the candidate's samples, in the candidate's groups."""
        place = {sample: row for row, sample in enumerate(baseline.sample_ids)}
        both = [(n, place[s]) for n, s in enumerate(candidate.sample_ids) if s in place]
        ours = np.array([n for n, _ in both], dtype=np.intp)
        theirs = np.array([n for _, n in both], dtype=np.intp)
        ids = [candidate.sample_ids[n] for n in ours]
        clusters = None if candidate.clusters is None else [candidate.clusters[n] for n in ours]
        attributes = {f: [values[n] for n in ours] for f, values in candidate.attributes.items()}
        # What the baseline alone lacks is missing too: a group of which nothing was paired is not forgotten.
        alone = [n for n, sample in enumerate(candidate.sample_ids) if sample not in place]
        missing = {
            f: [*candidate.missing_attributes.get(f, ()), *(values[n] for n in alone)]
            for f, values in candidate.attributes.items()
        }
        anytime = candidate.anytime or baseline.anytime

        def paired(table: MetricTable, rows: Codes) -> Estimator:
            held = replace(
                table,
                sample_ids=ids,
                stats_NK=table.stats_NK[rows],
                clusters=clusters,
                attributes=attributes,
                planned=candidate.planned,
                completed=candidate.completed,
                missing_attributes=missing,
                anytime=anytime,
                groups=candidate.groups,
            )
            return Estimator(held, seed)

        one, other = paired(candidate, ours), paired(baseline, theirs)
        rng = np.random.default_rng(derived_seed(seed, candidate.task, "gaps", "paired"))
        return cls(one, other, Resampler(ids, rng, one.clusters_N))

    def of_measure(self, measure: Measure, grouping: Grouping, level: float) -> Change:
        """Return a measure over the groups that are large enough for both models."""
        ours = cells_of(self.candidate, measure, grouping, level)
        theirs = cells_of(self.baseline, measure, grouping, level)
        kept = [group for group in ours.kept if group in theirs.kept]
        ours, theirs = ours.only(kept), theirs.only(kept)
        resampled = measure.kind == "corpus"
        if measure.over >= 0:
            ours_M = self.candidate.table.stats_NK[:, measure.over]
            theirs_M = self.baseline.table.stats_NK[:, measure.over]
            resampled = not np.array_equal(ours_M, theirs_M) or bool((ours_M % 1).any())
        return Change(ours, theirs, self._part(measure, grouping, ours, theirs), resampled)

    def _part(self, measure: Measure, grouping: Grouping, ours: Cells, theirs: Cells) -> Part:
        binary = self.candidate.table.binary and self.baseline.table.binary
        asked = [self._difference(measure, grouping.rows[g], binary=binary) for g in ours.kept]
        held: dict[float, Array] = {}

        def limits(level: float) -> Array:
            if level not in held:
                held[level] = limits_of([interval(level) for interval in asked])
            return held[level]

        return Part(ours.values_G - theirs.values_G, limits)

    def _difference(
        self, measure: Measure, rows_M: Codes, *, binary: bool
    ) -> Callable[[float], Interval | None]:
        """Return a function from a level to the interval of candidate − baseline over these pairs."""
        ours_MK = self.candidate.table.stats_NK[rows_M]
        theirs_MK = self.baseline.table.stats_NK[rows_M]
        resampled = Resampled(self.resampler, np.hstack([ours_MK, theirs_MK]), rows_M)

        def interval(level: float) -> Interval | None:
            found = paired_difference(
                measure,
                ours_MK,
                theirs_MK,
                level,
                binary=binary,
                clusters_N=self.candidate.clusters(rows_M),
                resampled=resampled,
                anytime=self.candidate.table.anytime,
            )
            return None if found is None else found.interval

        return interval
