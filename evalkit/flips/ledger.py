"""The ledger of flips: which samples changed sides, by slice, and which slices have really lost.

A difference of two rates says how many; the ledger says which: samples that went from right to wrong and from wrong to
right (for means: whose score moved by more than a threshold), by slice. Slices stand in the order of what they lost,
and the more of them are looked at, the more will seem to have lost something by chance: their p-values are adjusted
by Benjamini and Hochberg, and only a slice that stands after this is called a finding.

**Source**: the p-values are those of ``compare``; Benjamini & Hochberg 1995, J. R. Stat. Soc. B 57,
289, by ``scipy.stats.false_discovery_control``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Literal

import numpy as np

from evalkit.estimating import full_name, slice_rows
from evalkit.flips.scores import same_definition
from evalkit.metrics.base import Array, Measure
from evalkit.records.scorecard import Better, Comparison, Interval, Record
from evalkit.scoring import MetricTable
from evalkit.stats.intervals import Codes
from evalkit.stats.multiple import benjamini_hochberg


class Flip(Record):
    """One sample that changed sides."""

    sample: str
    """Its id."""
    baseline: float
    """The baseline's score."""
    candidate: float
    """The candidate's score."""
    slices: dict[str, str]
    """Slice field → its value."""
    question: str = ""
    """What was asked: the prompt, or the last chat message."""
    targets: tuple[str, ...] = ()
    """What right answers are."""
    baseline_answers: tuple[str, ...] = ()
    """The baseline's answers, one per replicate."""
    candidate_answers: tuple[str, ...] = ()
    """The candidate's."""


class SliceFlips(Record):
    """The flips of one slice, and what they prove."""

    slice: str | None
    """``field=value``; null for all samples."""
    pairs: int
    """Samples scored for both models."""
    unpaired: int
    """Planned samples that were not."""
    worsened: int
    """Pairs on which the candidate is worse by more than the threshold."""
    improved: int
    """Pairs on which it is better."""
    difference: float | None
    """Candidate − baseline; null without pairs."""
    interval: Interval | None
    """Of the difference."""
    p_value: float | None
    """Two-sided, of no difference."""
    p_adjusted: float | None
    """The same after Benjamini and Hochberg's correction over the slices; for all samples as it is."""
    test: str
    """The test behind it."""
    finding: Literal["better", "worse", ""]
    """What is shown at the ledger's level; empty where the difference may be noise."""
    worse: tuple[Flip, ...] = ()
    """The samples shown that got worse, the largest changes first."""
    better: tuple[Flip, ...] = ()
    """The samples shown that got better."""


class FlipLedger(Record):
    """Who changed sides under one measure."""

    task: str
    """The task's name."""
    metric: str
    """``metric`` or ``metric.measure``."""
    binary: bool
    """Whether scores are right and wrong, so that a change is a flip."""
    unit: str
    """The measure's unit."""
    better: Better
    """Which direction is better."""
    threshold: float
    """A score that moved by no more than this did not change."""
    level: float
    """Level of the intervals; a finding has an adjusted p-value of at most 1 − level."""
    whole: SliceFlips
    """All samples; holds the samples shown unless the ledger is grouped by a field."""
    slices: tuple[SliceFlips, ...]
    """The slices, the largest net loss first; hold the samples shown if the ledger is grouped by a field."""

    @property
    def name(self) -> str:
        """``task/metric``."""
        return f"{self.task}/{self.metric}"


def flip_ledger(
    candidate: MetricTable,
    baseline: MetricTable,
    measure: Measure,
    comparisons: Iterable[Comparison],
    *,
    level: float = 0.95,
    threshold: float = 0.0,
    most: int = 10,
    field: str | None = None,
) -> FlipLedger:
    """Return who changed sides under a rate or mean of two tables that may be compared.

    ``comparisons`` hold what ``compare_tables`` gave for the two; those of other numbers are passed over.

    Slices are ranked by net loss: the sum of the changes of score, worst first. Samples are ranked by the size of
    their change; where changes are equal, as with right and wrong, those of the slice that lost (or gained) most
    stand together. Of each direction the first ``most`` are shown; with ``field``, whose values are then the only
    slices, the first ``most`` of each.
    """
    assert measure.kind != "corpus", "a sample alone has no score under a corpus measure"
    assert same_definition(candidate, baseline), "tables measured differently are never compared"
    name = candidate.task, full_name(candidate.metric, measure.name)
    compared = {held.slice: held for held in comparisons if (held.task, held.metric) == name}
    pairs = _Pairs.of(candidate, baseline, measure)
    asked = [s for s in candidate.planned if s and (field is None or s.startswith(f"{field}="))]
    found = pairs.slice_rows()
    members = {slice_: found.get(slice_, np.arange(0)) for slice_ in asked}
    members = dict(sorted(members.items(), key=lambda m: (fsum(pairs.gain_N[m[1]]), m[0])))
    every_N = np.arange(len(pairs.ids), dtype=np.intp)
    whole = pairs.flips(every_N, compared[None], threshold)
    slices = [pairs.flips(rows_M, compared[s], threshold) for s, rows_M in members.items()]
    if field is None:
        ranks = pairs.ranks(list(members.values()))
        whole = pairs.shown(whole, every_N, ranks, threshold, most)
    else:
        ranks = pairs.ranks([])
        slices = [
            pairs.shown(held, rows_M, ranks, threshold, most)
            for held, rows_M in zip(slices, members.values(), strict=True)
        ]
    return FlipLedger(
        task=candidate.task,
        metric=name[1],
        binary=pairs.binary,
        unit=measure.unit,
        better=measure.better,
        threshold=threshold,
        level=level,
        whole=_judged(whole, whole.p_value, measure.better, level),
        slices=tuple(
            _judged(held, p, measure.better, level)
            for held, p in zip(slices, _adjusted([s.p_value for s in slices]), strict=True)
        ),
    )


Ranks = tuple[Codes, Codes]
"""Of each pair the least and the greatest rank among its slices."""


@dataclass(frozen=True)
class _Pairs:
    """Two tables of one metric on the N samples that both scored."""

    candidate: MetricTable
    baseline: MetricTable
    measure: Measure
    ids: Sequence[str]
    rows_candidate_N: Codes
    rows_baseline_N: Codes
    gain_N: Array
    """By how much the candidate is better; negative where it is worse."""

    @classmethod
    def of(cls, candidate: MetricTable, baseline: MetricTable, measure: Measure) -> _Pairs:
        """Pair two tables by sample id, in the candidate's order."""
        row_of = {name: row for row, name in enumerate(baseline.sample_ids)}
        rows = [row for row, name in enumerate(candidate.sample_ids) if name in row_of]
        ids = [candidate.sample_ids[row] for row in rows]
        here_N = np.asarray(rows, dtype=np.intp)
        there_N = np.asarray([row_of[name] for name in ids], dtype=np.intp)
        column = measure.column
        gain_N = candidate.stats_NK[here_N, column] - baseline.stats_NK[there_N, column]
        sign = 1.0 if measure.better == "higher" else -1.0
        return cls(candidate, baseline, measure, ids, here_N, there_N, sign * gain_N)

    @property
    def binary(self) -> bool:
        """Whether each score is 0 or 1."""
        return self.measure.kind == "rate" and self.candidate.binary and self.baseline.binary

    def slice_rows(self) -> dict[str | None, Codes]:
        """Return the positions of each slice's pairs."""
        attributes = {
            name: [values[row] for row in self.rows_candidate_N]
            for name, values in self.candidate.attributes.items()
        }
        return slice_rows(len(self.ids), attributes)

    def flips(self, rows_M: Codes, compared: Comparison, threshold: float) -> SliceFlips:
        """Return the counts of the pairs at these positions beside their comparison."""
        gain_M = self.gain_N[rows_M]
        return SliceFlips(
            slice=compared.slice,
            pairs=compared.pairs,
            unpaired=compared.unpaired,
            worsened=int((gain_M < -threshold).sum()),
            improved=int((gain_M > threshold).sum()),
            difference=compared.difference,
            interval=compared.interval,
            p_value=compared.p_value,
            p_adjusted=compared.p_value,
            test=compared.test,
            finding="",
        )

    def ranks(self, members: Sequence[Codes]) -> Ranks:
        """Return of each pair the least and the greatest rank among these slices, which are ranked by net loss."""
        least_N = np.full(len(self.ids), len(members), dtype=np.intp)
        greatest_N = np.full(len(self.ids), -1, dtype=np.intp)
        for rank, rows_M in enumerate(members):
            least_N[rows_M] = np.minimum(least_N[rows_M], rank)
            greatest_N[rows_M] = rank
        return least_N, greatest_N

    def shown(
        self, held: SliceFlips, rows_M: Codes, ranks: Ranks, threshold: float, most: int
    ) -> SliceFlips:
        """Return the slice's flips with the samples to be shown, of the pairs at these positions."""
        least_N, greatest_N = ranks
        worse = self._first(rows_M, -self.gain_N, least_N, threshold, most)
        better = self._first(rows_M, self.gain_N, -greatest_N, threshold, most)
        return held.model_copy(update={"worse": worse, "better": better})

    def _first(
        self, rows_M: Codes, size_N: Array, rank_N: Codes, threshold: float, most: int
    ) -> tuple[Flip, ...]:
        rows = rows_M[size_N[rows_M] > threshold]
        order = np.lexsort((rows, rank_N[rows], -size_N[rows]))
        return tuple(self._flip(int(row)) for row in rows[order[:most]])

    def _flip(self, row: int) -> Flip:
        here, there = self.rows_candidate_N[row], self.rows_baseline_N[row]
        return Flip(
            sample=self.ids[row],
            baseline=float(self.baseline.stats_NK[there, self.measure.column]),
            candidate=float(self.candidate.stats_NK[here, self.measure.column]),
            slices={name: values[here] for name, values in self.candidate.attributes.items()},
        )


def _adjusted(p_values: Sequence[float | None]) -> Iterator[float | None]:
    """Yield the p-values adjusted for their number, None where there is none."""
    adjusted = iter(benjamini_hochberg([p for p in p_values if p is not None]))
    return (None if p is None else next(adjusted) for p in p_values)


def _judged(held: SliceFlips, p: float | None, better: Better, level: float) -> SliceFlips:
    """Return the flips with an adjusted p-value and what they show by it."""
    finding = ""
    if p is not None and held.difference and p <= 1 - level:
        finding = "better" if (held.difference > 0) == (better == "higher") else "worse"
    return held.model_copy(update={"p_adjusted": p, "finding": finding})
