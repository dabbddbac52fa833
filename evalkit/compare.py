"""Candidate against baseline: samples paired by id, every measure and slice, never across different definitions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evalkit.estimating import full_name
from evalkit.identity import derived_seed
from evalkit.metrics.base import Measure
from evalkit.records.exchange import Role
from evalkit.records.scorecard import Comparison
from evalkit.scoring import MetricTable
from evalkit.stats.intervals import Array, Codes, cluster_codes
from evalkit.stats.paired import paired_difference
from evalkit.stats.resampling import Resampled, Resampler


def compare_tables(
    tables: Mapping[Role, Sequence[MetricTable]], seed: int, level: float
) -> list[Comparison]:
    """Return one comparison per measure and slice of the candidate; none when there is no baseline.

    ``level`` is the suite's confidence; intervals at the levels that gates ask for come with it. Metrics of a task that
    are scored on the same samples share one resampling matrix, drawn from ``seed`` and the task's name.
    """
    if "baseline" not in tables:
        return []
    baselines = {(table.task, table.metric): table for table in tables["baseline"]}
    resamplers = _Resamplers(seed)
    comparisons: list[Comparison] = []
    for candidate in tables.get("candidate", ()):
        baseline = baselines.get((candidate.task, candidate.metric))
        reason = why_incomparable(candidate, baseline)
        if baseline is None or reason:
            comparisons += _incomparable(candidate, reason)
        else:
            comparisons += _compared(_Pairs.of(candidate, baseline), resamplers, seed, level)
    return comparisons


def why_incomparable(candidate: MetricTable, baseline: MetricTable | None) -> str:
    """Return why two tables must not be compared, in a sentence; empty when they may be."""
    if baseline is None:
        return f"the baseline has no metric {candidate.metric!r} on task {candidate.task!r}"
    if candidate.dataset != baseline.dataset:
        return f"the data sets differ: candidate {candidate.dataset[:12]}, baseline {baseline.dataset[:12]}"
    if candidate.signature != baseline.signature:
        ours, theirs = candidate.signature.split("|"), baseline.signature.split("|")
        return (
            f"the metric was measured differently: candidate {_only(ours, theirs)}, "
            f"baseline {_only(theirs, ours)}"
        )
    return ""


def _only(parts: Sequence[str], others: Sequence[str]) -> str:
    return ", ".join(part for part in parts if part not in others) or "without these"


@dataclass(frozen=True)
class _Pairs:
    """Two tables of one metric and the positions of the samples that both scored."""

    candidate: MetricTable
    baseline: MetricTable
    ids: tuple[str, ...]
    rows_candidate_N: Codes
    rows_baseline_N: Codes
    clusters_N: Codes | None

    @classmethod
    def of(cls, candidate: MetricTable, baseline: MetricTable) -> _Pairs:
        """Pair two tables by sample id, in the candidate's order."""
        row_of = {identifier: row for row, identifier in enumerate(baseline.sample_ids)}
        rows_N = [row for row, name in enumerate(candidate.sample_ids) if name in row_of]
        ids = tuple(candidate.sample_ids[row] for row in rows_N)
        clusters_N = None
        if candidate.clusters is not None:
            clusters_N = cluster_codes([candidate.clusters[row] for row in rows_N])
        there_N = np.fromiter((row_of[name] for name in ids), dtype=np.intp, count=len(ids))
        return cls(candidate, baseline, ids, np.asarray(rows_N, dtype=np.intp), there_N, clusters_N)

    def members(self, slice_: str | None) -> Codes:
        """Return the positions of a slice's pairs among all pairs."""
        inside = np.zeros(len(self.candidate.sample_ids), dtype=bool)
        inside[self.candidate.members(slice_)] = True
        return np.flatnonzero(inside[self.rows_candidate_N])

    def stats(self, rows_M: Codes) -> tuple[Array, Array]:
        """Return the candidate's and the baseline's statistics of the pairs at these positions."""
        return (
            self.candidate.stats_NK[self.rows_candidate_N[rows_M]],
            self.baseline.stats_NK[self.rows_baseline_N[rows_M]],
        )


class _Resamplers:
    """One resampling matrix per task and set of pairs; the same seed for all of a task."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._task = ""
        self._held: dict[tuple[str, ...], Resampler] = {}

    def over(self, pairs: _Pairs) -> Resampler:
        """Return the matrix for these pairs; only one task's are kept."""
        task = pairs.candidate.task
        if task != self._task:
            self._task, self._held = task, {}
        if pairs.ids not in self._held:
            rng = np.random.default_rng(derived_seed(self._seed, "paired resamples", task))
            self._held[pairs.ids] = Resampler(pairs.ids, rng, pairs.clusters_N)
        return self._held[pairs.ids]


def _compared(
    pairs: _Pairs, resamplers: _Resamplers, seed: int, level: float
) -> Iterator[Comparison]:
    members = {slice_: pairs.members(slice_) for slice_ in pairs.candidate.planned}
    resampler = resamplers.over(pairs)
    resampled = {
        slice_: Resampled(resampler, np.hstack(pairs.stats(rows_M)), rows_M)
        for slice_, rows_M in members.items()
    }
    for measure in pairs.candidate.measures:
        for slice_, rows_M in members.items():
            yield _comparison(pairs, measure, slice_, rows_M, resampled[slice_], seed, level)


def _comparison(
    pairs: _Pairs,
    measure: Measure,
    slice_: str | None,
    rows_M: Codes,
    resampled: Resampled,
    seed: int,
    level: float,
) -> Comparison:
    candidate, baseline = pairs.candidate, pairs.baseline
    parts = seed, "swaps", candidate.task, candidate.metric, measure.name, slice_ or ""
    found = paired_difference(
        measure,
        *pairs.stats(rows_M),
        level,
        binary=candidate.binary and baseline.binary,
        clusters_N=None if pairs.clusters_N is None else pairs.clusters_N[rows_M],
        resampled=resampled,
        rng=np.random.default_rng(derived_seed(*parts)),
    )
    planned = candidate.planned[slice_]
    empty = Comparison(
        task=candidate.task,
        metric=full_name(candidate.metric, measure.name),
        slice=slice_,
        status="no pairs",
        reason=f"none of {planned:,} samples was scored for both models",
        unpaired=planned - len(rows_M),
        pairs=len(rows_M),
        unit=measure.unit,
        better=measure.better,
    )
    if found is None:
        undefined = f"a model has no value on the {len(rows_M):,} samples scored for both"
        return empty.model_copy(update={"reason": undefined}) if len(rows_M) else empty
    return empty.model_copy(
        update={
            "status": "compared",
            "reason": "",
            "candidate": found.candidate,
            "baseline": found.baseline,
            "difference": found.difference,
            "interval": found.interval,
            "intervals": found.intervals,
            "p_value": found.p_value,
            "test": found.test,
            "warnings": found.warnings,
        }
    )


def _incomparable(candidate: MetricTable, reason: str) -> Iterator[Comparison]:
    for measure in candidate.measures:
        for slice_, planned in candidate.planned.items():
            yield Comparison(
                task=candidate.task,
                metric=full_name(candidate.metric, measure.name),
                slice=slice_,
                status="incomparable",
                reason=reason,
                unpaired=planned,
                unit=measure.unit,
                better=measure.better,
            )
