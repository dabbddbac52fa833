"""Which samples people see: drawn uniformly, or picked for reading.

Only a uniform draw says something about all samples: each has the same chance, whatever its answer, its score or its
failure, so the mean rating of the drawn ones is an unbiased estimate of the mean over all. Samples picked because they
flipped, or because metrics contradict one another, are the interesting ones and for that very reason not typical.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evalkit.errors import UsageError
from evalkit.flips import measure_name, same_definition
from evalkit.identity import derived_seed
from evalkit.metrics.base import Measure
from evalkit.records.review import Draw
from evalkit.scoring import MetricTable
from evalkit.stats.estimate import UNIT_BOUNDS


def planned_ids(table: MetricTable) -> list[str]:
    """Return the ids of every planned sample, those without a score included, sorted."""
    return sorted([*table.sample_ids, *table.missing_ids])


def eligible(
    draw: Draw, candidate: Sequence[MetricTable], baseline: Sequence[MetricTable]
) -> list[str]:
    """Return the ids that a draw takes from, of one task's tables: sorted, or the most telling first.

    ``uniform``: every planned sample. ``flips``: those whose score under the task's first rate differs between the
    models. ``disagreement``: those whose metrics lie apart, the farthest first.

    Raises UsageError where the tables have nothing to read that from.
    """
    if draw == "uniform":
        return planned_ids(candidate[0])
    if draw == "flips":
        return _flipped(candidate, baseline)
    return _contradicted(candidate)


def drawn(ids: Sequence[str], n: int, draw: Draw, seed: int, task: str) -> list[str]:
    """Return at most ``n`` of the ids: the first of those that stand by rank, else at random, sorted.

    The sample depends on ``seed``, the task's name and the ids alone.
    """
    if draw == "disagreement":
        return list(ids[:n])
    rng = np.random.default_rng(derived_seed(seed, "review", draw, task))
    chosen = rng.choice(len(ids), size=min(n, len(ids)), replace=False) if ids else ()
    return sorted(ids[int(place)] for place in chosen)


def _flipped(candidate: Sequence[MetricTable], baseline: Sequence[MetricTable]) -> list[str]:
    theirs = {table.metric: table for table in baseline}
    for table in candidate:
        other = theirs.get(table.metric)
        for measure in table.measures:
            if measure.kind != "rate" or measure.over >= 0 or other is None:
                continue
            if not same_definition(table, other):
                raise UsageError(
                    f"{measure_name(table, measure)} was measured differently on the two models: no sample can be said "
                    "to have flipped"
                )
            ours, held = _scores(table, measure), _scores(other, measure)
            return sorted(s for s in ours.keys() & held.keys() if ours[s] != held[s])
    if not baseline:
        raise UsageError("--draw flips needs a run with a baseline: a flip is between two models")
    raise UsageError(
        f"task {candidate[0].task!r} has no rate: no sample of it can flip; name other tasks with --task, or draw "
        "uniformly"
    )


def _contradicted(candidate: Sequence[MetricTable]) -> list[str]:
    """Return samples by how far their metrics lie apart, each read so that 1 is best; those that agree are left out."""
    scores = [
        {s: 1 - v if measure.better == "lower" else v for s, v in _scores(table, measure).items()}
        for table in candidate
        for measure in [m for m in table.measures if _scores_samples(m)][:1]
    ]
    if len(scores) < 2:
        raise UsageError(
            f"task {candidate[0].task!r} has fewer than two metrics that score a sample between 0 and 1: nothing can "
            "disagree; name other tasks with --task, or draw uniformly"
        )
    apart = {}
    for sample in planned_ids(candidate[0]):
        held = [of[sample] for of in scores if sample in of]
        if len(held) > 1 and max(held) > min(held):
            apart[sample] = max(held) - min(held)
    return sorted(apart, key=lambda sample: (-apart[sample], sample))


def _scores_samples(measure: Measure) -> bool:
    """Return whether a measure gives every sample alone a score between known ends."""
    return measure.kind != "corpus" and measure.unit in UNIT_BOUNDS and measure.over < 0


def _scores(table: MetricTable, measure: Measure) -> dict[str, float]:
    """Return each scored sample's score, of a measure between 0 and 100 as a fraction."""
    top = UNIT_BOUNDS.get(measure.unit, (0.0, 1.0))[1]
    values = (table.stats_NK[:, measure.column] / top).tolist()
    return dict(zip(table.sample_ids, values, strict=True))
