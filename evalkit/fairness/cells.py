"""One measure over the groups of a field: each group's number with its interval, and whether it is part of a gap.

A number is estimated as that of a slice is: Wilson's interval for a rate over zeros and ones, Student's t for a mean,
CR1 with t(C − 1) under clusters, BCa for a corpus measure. Groups in which it rests on too few samples are shown and
left out, as are those in which it has no value: of a group without a positive label the true-positive rate is not 0
but unknown.

A group that is small in the data is left out and decides nothing. One that the data make large enough, and of which
only the run or the model leaves too little (samples failed, were refused or selected none), is ``unmeasured``: no rule
passes on a gap without it.

**Source**: Bird et al. 2020, Fairlearn, Microsoft MSR-TR-2020-32 (numbers by group). **Deviation**: Fairlearn gives a
rate over no sample as 0, which makes a gap of nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from evalkit.estimating import full_name
from evalkit.fairness.grouping import Grouping, counted_rows
from evalkit.identity import derived_seed
from evalkit.metrics.base import Measure
from evalkit.records.scorecard import Cell, Interval
from evalkit.scoring import MetricTable
from evalkit.stats.estimate import Estimated, estimate
from evalkit.stats.gaps import Part
from evalkit.stats.intervals import Array, Codes, cluster_codes
from evalkit.stats.permutation import Grouped, mean_from_sums
from evalkit.stats.resampling import Resampled, Resampler

LABELS: Mapping[str, str] = {
    "tpr": "no sample whose label is positive",
    "fnr": "no sample whose label is positive",
    "fpr": "no sample whose label is negative",
    "tnr": "no sample whose label is negative",
    "ppv": "no sample that was selected",
}
"""What a group lacks in which a rate of decisions is over no sample."""


class Estimator:
    """Estimates the measures of one table over any of its rows, at any level."""

    def __init__(self, table: MetricTable, seed: int) -> None:
        """``seed`` is the suite's; resamples are those of the table's other estimates."""
        self.table = table
        self.clusters_N = None if table.clusters is None else cluster_codes(table.clusters)
        rng = np.random.default_rng(derived_seed(seed, table.task))
        self._resampler = Resampler(table.sample_ids, rng, self.clusters_N)

    def of(self, measure: Measure, rows_M: Codes) -> Callable[[float], Estimated]:
        """Return a function from a level to the measure's estimate over these rows."""
        stats_MK = self.table.stats_NK[rows_M]
        # Nothing is drawn unless the measure asks for it.
        resampled = Resampled(self._resampler, stats_MK, rows_M)
        clusters_M = self.clusters(rows_M)
        held: dict[float, Estimated] = {}

        def at(level: float) -> Estimated:
            if level not in held:
                held[level] = estimate(
                    measure,
                    stats_MK,
                    level=level,
                    binary=self.table.binary,
                    clusters_N=clusters_M,
                    resampled=resampled,
                    anytime=self.table.anytime,
                )
            return held[level]

        return at

    def clusters(self, rows_M: Codes) -> Codes | None:
        """Return the clusters of these rows."""
        return None if self.clusters_N is None else self.clusters_N[rows_M]


@dataclass(frozen=True)
class Cells:
    """One measure over the groups of one field."""

    measure: Measure
    """The measure."""
    cells: tuple[Cell, ...]
    """Every group's number, in the order of the groups' names."""
    kept: tuple[str, ...]
    """The groups that are part of a gap."""
    values_G: Array
    """Their numbers."""
    rows: Mapping[str, Codes]
    """Their rows: the samples that the number is over."""
    estimated: Sequence[Callable[[float], Estimated]] = field(repr=False)
    """Their estimates, by level."""

    @property
    def part(self) -> Part:
        """What the statistics of gaps take: values, and each group's interval at any level."""
        return Part(self.values_G, self._limits)

    def _limits(self, level: float) -> Array:
        return limits_of([at(level).interval for at in self.estimated])

    def grouped(self, estimator: Estimator) -> Grouped:
        """Return the samples that the measure is over, with their groups as numbers."""
        rows_M = np.concatenate([self.rows[group] for group in self.kept])
        sizes_G = [len(self.rows[group]) for group in self.kept]
        stats_MK, from_sums = estimator.table.stats_NK[rows_M], self.measure.from_sums
        column, over = self.measure.column, self.measure.over
        if column >= 0 and (over < 0 or (stats_MK[:, over] == 1).all()):
            # One column is enough, and lets arrangements of zeros and ones be counted instead of drawn.
            stats_MK, from_sums = stats_MK[:, [column]], mean_from_sums
        return Grouped(
            stats_MK=stats_MK,
            codes_M=np.repeat(np.arange(len(self.kept)), sizes_G),
            from_sums=from_sums,
            clusters_M=estimator.clusters(rows_M),
        )

    def only(self, groups: Collection[str]) -> Cells:
        """Return the same with these groups alone as part of a gap."""
        places = [n for n, group in enumerate(self.kept) if group in groups]
        return replace(
            self,
            kept=tuple(self.kept[n] for n in places),
            values_G=self.values_G[places],
            estimated=[self.estimated[n] for n in places],
        )

    def without_interval(self, level: float) -> list[str]:
        """Return the kept groups whose number has no interval at this level."""
        found = zip(self.kept, self.estimated, strict=True)
        return [group for group, at in found if at(level).interval is None]

    @property
    def ends(self) -> tuple[str, str]:
        """The groups with the least and with the greatest number."""
        return self.kept[int(self.values_G.argmin())], self.kept[int(self.values_G.argmax())]


def limits_of(intervals: Sequence[Interval | None]) -> Array:
    """Return the ends (G, 2) of each group's interval; NaN where a group has none."""
    unknown = np.nan, np.nan
    return np.array([unknown if held is None else (held.low, held.high) for held in intervals])


def cells_of(estimator: Estimator, measure: Measure, grouping: Grouping, level: float) -> Cells:
    """Return each group's number with its interval at ``level``, and which groups are large enough to compare."""
    table = estimator.table
    counted = np.zeros(len(table.stats_NK), dtype=bool)
    counted[counted_rows(measure, table.stats_NK)] = True
    cells, kept, values, rows, estimated = [], [], [], {}, []
    for group, scored_M in grouping.rows.items():
        rows_M = scored_M[counted[scored_M]]
        at = estimator.of(measure, rows_M)
        found = at(level)
        why = _left_out(measure, len(scored_M), len(rows_M), found.value, grouping.min_size)
        missing = grouping.missing(group)
        possible = missing + (len(scored_M) if measure.over_answers else len(rows_M))
        cells.append(
            Cell(
                measure=full_name(table.metric, measure.name),
                group=group,
                n=len(rows_M),
                missing=missing,
                value=found.value,
                interval=found.interval,
                left_out=why,
                unmeasured=bool(why) and possible >= grouping.min_size,
            )
        )
        if not why and found.value is not None:
            kept.append(group)
            values.append(found.value)
            rows[group] = rows_M
            estimated.append(at)
    return Cells(measure, tuple(cells), tuple(kept), np.array(values), rows, estimated)


def _left_out(measure: Measure, scored: int, n: int, value: float | None, min_size: int) -> str:
    if scored == 0:
        return "no sample with a score"
    if n == 0:
        return LABELS.get(measure.name, "no sample that the number is over")
    if n < min_size:
        return f"only {n:,} sample{'' if n == 1 else 's'}, fewer than {min_size}"
    return "" if value is not None else f"it is undefined on its {n:,} samples"
