"""Candidate against baseline: samples paired by id, every measure and slice, never across different definitions.

All metrics of a task are scored on the same planned samples, so ids, slices and clusters are looked up once per task
and metric tables become arrays over its planned samples in the order of their ids. Where a table has no score the array
holds NaN: a pair is a row without any.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from evalkit.estimating import full_name, slice_rows
from evalkit.identity import derived_seed
from evalkit.metrics.base import Measure
from evalkit.records.exchange import Role
from evalkit.records.scorecard import Bounded, Comparison
from evalkit.scoring import MetricTable
from evalkit.stats.estimate import UNIT_BOUNDS, bounds_of
from evalkit.stats.intervals import Array, Codes, cluster_codes
from evalkit.stats.paired import LEVELS, Paired, paired_difference
from evalkit.stats.resampling import Resampled, Resampler
from evalkit.stats.unpaired import extreme_differences


def compare_tables(
    tables: Mapping[Role, Sequence[MetricTable]], seed: int, level: float
) -> list[Comparison]:
    """Return one comparison per measure and slice of the candidate; none when there is no baseline.

    ``level`` is the suite's confidence; intervals at the levels that gates ask for come with it. Corpus measures of a
    task share one resampling matrix over its planned samples, drawn from ``seed`` and the task's name. Planned are the
    candidate's samples: what the baseline scored beyond them, where the candidate stopped early, is no part of it.
    """
    if "baseline" not in tables:
        return []
    baselines = {(table.task, table.metric): table for table in tables["baseline"]}
    plans: dict[tuple[str, int], _Plan] = {}
    comparisons: list[Comparison] = []
    for candidate in tables.get("candidate", ()):
        baseline = baselines.get((candidate.task, candidate.metric))
        reason = why_incomparable(candidate, baseline)
        if baseline is None or reason:
            comparisons += _incomparable(candidate, reason)
            continue
        planned = candidate.task, candidate.planned[None]  # people rate some of a task's samples
        if planned not in plans:
            plans = {planned: _Plan.of(candidate, seed)}  # only one is kept
        comparisons += _compared(plans[planned], candidate, baseline, level)
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
class _Plan:
    """The P samples that a task planned for the candidate, in the order of their ids."""

    rows: Mapping[str, int]
    """Id → row."""
    slices: Mapping[str | None, Codes]
    """Slice → rows."""
    clusters_P: Codes | None
    """Cluster of each sample."""
    resampler: Resampler
    """The task's resampling matrix."""

    @classmethod
    def of(cls, table: MetricTable, seed: int) -> _Plan:
        """Return the plan behind any of a task's tables."""
        named = [*table.sample_ids, *table.missing_ids]
        assert len(named) == table.planned[None], "scored and missing samples are the planned ones"
        ids = sorted(named)
        rows = {identifier: row for row, identifier in enumerate(ids)}
        place_P = _rows_of(rows, named)
        clusters_P = None
        if table.clusters is not None:
            clusters_P = np.empty(len(ids), dtype=np.intp)
            clusters_P[place_P] = cluster_codes([*table.clusters, *(table.missing_clusters or ())])
        rng = np.random.default_rng(derived_seed(seed, "paired resamples", table.task))
        return cls(rows, _slices(table, place_P), clusters_P, Resampler(ids, rng, clusters_P))

    def stats(self, table: MetricTable) -> Array:
        """Return a table's statistics (P, K) over the planned samples; NaN where it has no score."""
        stats_PK = np.full((len(self.rows), table.stats_NK.shape[1]), np.nan)
        place_N = _rows_of(self.rows, table.sample_ids)
        planned_N = place_N >= 0
        stats_PK[place_N[planned_N]] = table.stats_NK[planned_N]
        return stats_PK

    def clusters(self, rows_M: Codes) -> Codes | None:
        """Return the clusters of these samples."""
        return None if self.clusters_P is None else self.clusters_P[rows_M]


def _rows_of(rows: Mapping[str, int], ids: Sequence[str]) -> Codes:
    """Return the row of each id; −1 where it was not planned."""
    return np.fromiter(map(rows.get, ids, repeat(-1)), dtype=np.intp, count=len(ids))


def _slices(table: MetricTable, place_P: Codes) -> dict[str | None, Codes]:
    """Return each slice's rows, ascending; ``place_P`` are the rows of scored and missing samples."""
    attributes = {}
    for name, scored in table.attributes.items():
        values_P = np.empty(len(place_P), dtype=object)
        values_P[place_P] = [*scored, *table.missing_attributes.get(name, ())]
        attributes[name] = values_P.tolist()
    found = slice_rows(len(place_P), attributes)
    return {slice_: found.get(slice_, np.arange(0)) for slice_ in table.planned}


def _compared(
    plan: _Plan, candidate: MetricTable, baseline: MetricTable, level: float
) -> Iterator[Comparison]:
    assert candidate.planned[None] == len(plan.rows), "a task's metrics have the same samples"
    candidate_PK, baseline_PK = plan.stats(candidate), plan.stats(baseline)
    both_P = ~(np.isnan(candidate_PK[:, 0]) | np.isnan(baseline_PK[:, 0]))
    pairs = {slice_: rows_M[both_P[rows_M]] for slice_, rows_M in plan.slices.items()}
    stats = {slice_: (candidate_PK[rows], baseline_PK[rows]) for slice_, rows in pairs.items()}
    resampled: Mapping[str | None, Resampled] = {}
    if any(measure.kind == "corpus" or measure.over >= 0 for measure in candidate.measures):
        sets = [(np.hstack(stats[slice_]), rows) for slice_, rows in pairs.items()]
        resampled = dict(zip(pairs, Resampled.each(plan.resampler, sets), strict=True))
    binary = candidate.binary and baseline.binary
    anytime = candidate.anytime or baseline.anytime
    for measure in candidate.measures:
        for slice_, rows_M in plan.slices.items():
            found = paired_difference(
                measure,
                *stats[slice_],
                level,
                binary=binary,
                clusters_N=plan.clusters(pairs[slice_]),
                resampled=resampled.get(slice_),
                anytime=anytime,
            )
            made = _comparison(candidate, measure, slice_, len(pairs[slice_]), found)
            asked_M = rows_M
            if measure.over >= 0:
                asked_M = rows_M[
                    _may_be_over(measure.over, candidate_PK[rows_M], baseline_PK[rows_M])
                ]
            if both_P[asked_M].all() or measure.kind == "corpus":
                yield made
                continue
            column_M2 = candidate_PK[asked_M, measure.column], baseline_PK[asked_M, measure.column]
            yield made.model_copy(
                update=_extremes(
                    measure,
                    *column_M2,
                    binary=binary and measure.kind == "rate",
                    clusters_M=plan.clusters(asked_M),
                    anytime=anytime,
                )
            )


def _may_be_over(over: int, candidate_MK: Array, baseline_MK: Array) -> NDArray[np.bool_]:
    """Return which of M planned samples a rate is over, or may be, since neither model has a score for them.

    None, so that there is no worst case, where the models do not agree on what it is over: that is then no property of
    the sample, such as its label, and a missing answer could have made it either.
    """
    ours_M, theirs_M = candidate_MK[:, over], baseline_MK[:, over]
    known_M = np.where(np.isnan(ours_M), theirs_M, ours_M)
    both_M = ~(np.isnan(ours_M) | np.isnan(theirs_M))
    if (ours_M[both_M] != theirs_M[both_M]).any() or ((known_M > 0) & (known_M < 1)).any():
        return np.zeros(len(known_M), dtype=bool)
    return np.isnan(known_M) | (known_M > 0)


def _extremes(
    measure: Measure,
    candidate_M: Array,
    baseline_M: Array,
    *,
    binary: bool,
    clusters_M: Codes | None,
    anytime: bool,
) -> dict[str, Bounded]:
    """Return the cases worst and best for the candidate over M planned samples; none where scores have no ends."""
    scored = np.concatenate([candidate_M, baseline_M])
    scored = scored[~np.isnan(scored)]
    ends = bounds_of(measure.unit, scored) if len(scored) else UNIT_BOUNDS.get(measure.unit)
    if ends is None:
        return {}
    least, greatest = extreme_differences(
        candidate_M, baseline_M, ends, LEVELS, binary=binary, clusters_N=clusters_M, anytime=anytime
    )
    if measure.better == "lower":
        least, greatest = greatest, least
    return {"worst": least, "best": greatest}


def _comparison(
    candidate: MetricTable, measure: Measure, slice_: str | None, pairs: int, found: Paired | None
) -> Comparison:
    planned = candidate.planned[slice_]
    empty = Comparison(
        task=candidate.task,
        metric=full_name(candidate.metric, measure.name),
        slice=slice_,
        status="no pairs",
        reason=f"none of {planned:,} samples was scored for both models",
        unpaired=planned - pairs,
        pairs=pairs,
        unit=measure.unit,
        better=measure.better,
    )
    if found is None:
        undefined = f"a model has no value on the {pairs:,} samples scored for both"
        return empty.model_copy(update={"reason": undefined}) if pairs else empty
    changes = (
        (found.gained, found.lost) if measure.better == "higher" else (found.lost, found.gained)
    )
    # A rate over some of the pairs has no score on the others, so changed pairs are no share of all pairs.
    improved, worsened = (None, None) if measure.over >= 0 else changes
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
            "improved": improved,
            "worsened": worsened,
            "errors": found.errors,
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
