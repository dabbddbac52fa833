"""Weights of candidate and baseline side by side: the difference of every estimate that both have.

Weights are read in full, so most differences are exact: their intervals are points, at every level, and rules such
as ``no_worse_than`` decide by the difference alone. Fitted numbers (alpha and its kin) bring the interval of each
fit; that of the difference is the square-and-add interval of two independent fits, scaled to each level by the
normal's quantile.

Where either side could not measure a tensor the comparison has no interval, and so no rule on it can pass: what was
not measured may hold anything.

**Source**: Zou & Donner 2008, Statistics in Medicine 27, 1693 (square-and-add, for intervals that are not symmetric).

**Deviation**: candidate and baseline often descend from one model, so their fits err alike; taken as independent,
the interval is too wide, never too narrow. For how alpha changed, ``hill`` is the exact number: it uses the same
share of the eigenvalues in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import hypot

from evalkit.records.scorecard import Comparison, Estimate, Interval, JointErrors
from evalkit.stats.intervals import normal_quantile
from evalkit.stats.paired import LEVELS


def compare_weights(
    candidate: Sequence[Estimate], baseline: Sequence[Estimate]
) -> list[Comparison]:
    """Return one comparison per estimate of the candidate, in its order; all estimates are of kind ``census``.

    What the baseline does not have is incomparable; that is said of numbers over the whole model, and not again of each
    of their slices.
    """
    of_baseline = {estimate.name: estimate for estimate in baseline}
    return [
        _compared(ours, of_baseline.get(ours.name))
        for ours in candidate
        if ours.slice is None or ours.name in of_baseline
    ]


def _compared(ours: Estimate, theirs: Estimate | None) -> Comparison:
    empty = Comparison(
        task=ours.task,
        metric=ours.metric,
        slice=ours.slice,
        status="incomparable",
        pairs=ours.counts.scored,
        unpaired=ours.counts.planned - ours.counts.scored,
        unit=ours.unit,
        better=ours.better,
    )
    if theirs is None:
        return empty.model_copy(update={"reason": "the baseline has no such number"})
    if why := _why_incomparable(ours.signature, theirs.signature):
        return empty.model_copy(update={"reason": why})
    if ours.value is None or theirs.value is None:
        whose = "candidate" if ours.value is None else "baseline"
        reason = f"the {whose} has no value: it was measured on none of its tensors"
        return empty.model_copy(update={"status": "no pairs", "reason": reason})
    difference = ours.value - theirs.value
    intervals, warnings = _intervals(difference, ours, theirs)
    return empty.model_copy(
        update={
            "status": "compared",
            "candidate": ours.value,
            "baseline": theirs.value,
            "difference": difference,
            "interval": intervals[0] if intervals else None,
            "intervals": intervals[1:],
            "test": "census",
            "errors": _errors(ours, theirs) if intervals else None,
            "warnings": warnings,
        }
    )


def _why_incomparable(ours: str, theirs: str) -> str:
    if ours == theirs:
        return ""
    parts, others = ours.split("|"), theirs.split("|")
    only = [", ".join(p for p in a if p not in b) for a, b in ((parts, others), (others, parts))]
    return f"the weights were measured differently: candidate {only[0]}, baseline {only[1]}"


def _intervals(
    difference: float, ours: Estimate, theirs: Estimate
) -> tuple[tuple[Interval, ...], tuple[str, ...]]:
    """Return the interval at the suite's confidence and those at ``LEVELS``, or none with the reason."""
    for whose, held in (("candidate", ours), ("baseline", theirs)):
        if missing := held.counts.planned - held.counts.scored:
            of = f"{missing:,} of the {whose}'s {held.counts.planned:,} tensors"
            return (), (f"{of} were not measured",)
        if held.interval is None:
            return (), (f"the {whose}'s value has no interval",)
    ends, their_ends = ours.interval, theirs.interval
    assert ends is not None and their_ends is not None
    assert ours.value is not None and theirs.value is not None
    below = hypot(ours.value - ends.low, their_ends.high - theirs.value)
    above = hypot(ends.high - ours.value, theirs.value - their_ends.low)
    method = "square-and-add" if below or above else "exact"
    unit = normal_quantile(ends.level)

    def at(level: float) -> Interval:
        times = normal_quantile(level) / unit
        low, high = difference - times * below, difference + times * above
        return Interval(low=low, high=high, level=level, method=method)

    return tuple(map(at, _levels(ends.level))), ()


def _levels(level: float) -> Iterable[float]:
    return (level, *LEVELS)


def _errors(ours: Estimate, theirs: Estimate) -> JointErrors:
    return JointErrors(
        candidate=_standard_error(ours), baseline=_standard_error(theirs), covariance=0.0, df=None
    )


def _standard_error(held: Estimate) -> float:
    """Return half the interval's width over the normal's quantile; 0 for what is exact."""
    assert held.interval is not None
    interval = held.interval
    return (interval.high - interval.low) / 2 / normal_quantile(interval.level)
