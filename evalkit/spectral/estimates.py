"""What was measured on tensors, as estimates: over the whole model; the chief ones by module, depth and tensor too.

Each summary of ``catalogue`` is an estimate of kind ``census``: planned are the tensors to which the measure
applies, unscored those that gave no number. Over the whole model whatever could not be read counts as well, since
it may be of any kind. Tied copies count once. Experts of a layer share one estimate, the worst of theirs;
``weights.jsonl`` has each.

Intervals. What is computed and not estimated is a point. A summary of fitted numbers reaches from the summary of
their lower ends to that of their upper ends. Mean, median, least, greatest and sum do not fall when a number grows,
so this holds whatever the fits' errors have to do with one another; where they are independent it is wider than
need be for a mean or a median. It does not know that the least or the greatest of many fits was picked, and says
so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from re import sub
from statistics import fmean, median

from evalkit.records.scorecard import Counts, Estimate
from evalkit.records.weights import Fitted, Form, Tensor
from evalkit.spectral.catalogue import DEPTH, MEASURES, MODULE, TENSOR, Measured, Summary
from evalkit.spectral.elementwise import ElementStats, merged
from evalkit.spectral.layers import alpha_by_depth, correlation_flow, is_dense_block
from evalkit.spectral.measuring import Measurement
from evalkit.spectral.tail import FEWEST_EIGENVALUES
from evalkit.spectral.terms import Terms

OF_THE_ENDS = "summary of the ends"
"""How intervals of summaries of fits are made."""
PICKED = "the extreme of many fits was picked, which its interval does not know"
"""Said of the least and the greatest of fitted numbers."""
REASONS_SHOWN = 3
"""So many reasons are told why tensors have no number."""
OF_EVERY_FORM = frozenset({"norm", "max_abs", "zeros", "drift", "cosine", "changed", "norm_change"})
"""Measures of whatever was read: a tensor that was not counts, also where it would be the only one of its form."""
TWO_SIDED = frozenset({"norm_change", "spectral_change"})
"""Measures of which the farthest from 0 is the worst."""

SUMMARISED: Mapping[Summary, Callable[[Sequence[float]], float]] = {
    "max": max, "min": min, "median": median, "mean": fmean, "sum": math.fsum,
}  # fmt: skip


def measure_estimates(terms: Terms, measurements: Sequence[Measurement]) -> Iterator[Estimate]:
    """Yield the estimates of every measure of the catalogue that was made, in its order.

    ``measurements`` are one for each tensor, without tied copies.
    """
    groups = list(_groups(measurements))
    by_tensor: dict[str, list[Measurement]] = {}
    for measurement in measurements:
        by_tensor.setdefault(_folded(measurement.pair.tensor), []).append(measurement)
    for measure in MEASURES:
        if measure.needs not in terms.has:
            continue
        forms = {m.pair.tensor.form for m in measurements if _key(measure) in m.measured}
        if all(m.unread for m in measurements) and (measure.name != "traps" or terms.task.traps):
            forms = {m.pair.tensor.form for m in measurements}
        for slice_, members in groups if measure.per_tensor else groups[:1]:
            concerned = [m for m in members if _concerns(measure, m, forms)]
            lost = terms.lost if slice_ is None else 0
            if concerned:
                yield from _summaries(terms, measure, slice_, concerned, lost)
        if measure.per_tensor:
            for name, members in by_tensor.items():
                concerned = [m for m in members if _concerns(measure, m, forms)]
                if concerned:
                    yield _worst(terms, measure, f"{TENSOR}={name}", concerned)


def _groups(
    measurements: Sequence[Measurement],
) -> Iterator[tuple[str | None, list[Measurement]]]:
    """Yield all tensors, those of each module, those of each depth."""
    yield None, list(measurements)
    modules: dict[str, list[Measurement]] = {}
    depths: dict[int, list[Measurement]] = {}
    for measurement in measurements:
        tensor = measurement.pair.tensor
        modules.setdefault(tensor.module, []).append(measurement)
        if tensor.depth is not None:
            depths.setdefault(tensor.depth, []).append(measurement)
    for module in sorted(modules):
        yield f"{MODULE}={module}", modules[module]
    for depth in sorted(depths):
        yield f"{DEPTH}={depth}", depths[depth]


def _folded(tensor: Tensor) -> str:
    """Return the name under which a tensor is told: experts of one layer share theirs.

    >>> from evalkit.records.weights import Tensor
    >>> expert = Tensor("m.1.experts.1.w1", "", (2, 2), "F32", "gate", "matrix", 1, expert=1)
    >>> _folded(expert)
    'm.1.experts.*.w1'
    """
    if tensor.expert is None:
        return tensor.name
    return sub(
        rf"(experts\.|\[){tensor.expert}(?=\.|\]|$)", lambda found: found[1] + "*", tensor.name
    )


def _key(measure: Measured) -> str:
    """Return the tensors' measure that one is made of."""
    return "alpha" if measure.name.startswith("flow_") else measure.name


def _concerns(measure: Measured, measurement: Measurement, forms: set[Form]) -> bool:
    """Return whether a measure applies to a tensor; what was not read is taken to be like others of its form.

    Where no tensor was read, it is taken to be what every measure is about.
    No power law is fitted to fewer than 50 eigenvalues, so a router of eight rows is none of alpha's business.
    """
    tensor = measurement.pair.tensor
    if measure.name.startswith("flow_") and not is_dense_block(tensor):
        return False
    if measurement.unread:
        return tensor.form in forms or (bool(forms) and measure.name in OF_EVERY_FORM)
    fitted = measurement.measured.get(_key(measure))
    too_small = min(tensor.matrix_shape) < FEWEST_EIGENVALUES
    return fitted is not None and not (too_small and fitted.status == "insufficient")


def _summaries(
    terms: Terms,
    measure: Measured,
    slice_: str | None,
    members: Sequence[Measurement],
    lost: int,
) -> Iterator[Estimate]:
    held = [_held(measure, member) for member in members]
    for summary, metric in zip(measure.summaries, measure.names, strict=True):
        numbers = held
        if summary == "pooled":
            numbers = [
                _part(measure.name, member, own) for member, own in zip(members, held, strict=True)
            ]
            found = _pooled(measure.name, members, numbers, terms.level)
            numbers = held if found.value is None else numbers
        else:
            found = _summarised(held, summary)
        warnings = _reasons(numbers, found)
        if found.method == OF_THE_ENDS and summary in ("max", "min"):
            warnings += (PICKED,)
        yield _of_measure(
            terms, measure, metric, slice_, found, _counts(members, numbers, lost), warnings
        )


def _worst(
    terms: Terms, measure: Measured, slice_: str, members: Sequence[Measurement]
) -> Estimate:
    """Return a tensor's own estimate, or that of the worst of a layer's experts, from the least end to the greatest."""
    held = [_held(measure, member) for member in members]
    numbers = [fitted for fitted in held if fitted.value is not None]

    def badness(fitted: Fitted) -> float:
        value = fitted.value or 0.0
        return abs(value) if measure.name in TWO_SIDED else value if lower else -value

    lower = measure.better == "lower"
    found = max(numbers, key=badness, default=held[0])
    if found.value is not None and found.method != "exact":
        low, high = _summarised(numbers, "min").low, _summarised(numbers, "max").high
        found = replace(found, low=low, high=high)
    warnings = _reasons(held, found)
    if found.note and found.value is not None:
        warnings += (found.note,)
    return _of_measure(
        terms, measure, measure.name, slice_, found, _counts(members, held, 0), warnings
    )


def _of_measure(
    terms: Terms,
    measure: Measured,
    metric: str,
    slice_: str | None,
    found: Fitted,
    counts: Counts,
    warnings: tuple[str, ...],
) -> Estimate:
    return terms.estimate(
        metric,
        slice_,
        found,
        counts,
        unit=measure.unit,
        better=measure.better,
        signed=terms.of_measure(measure),
        warnings=warnings,
    )


def _held(measure: Measured, measurement: Measurement) -> Fitted:
    """Return a tensor's number, or why there is none."""
    if measurement.unread:
        return Fitted(None, status="failed", note=measurement.unread)
    return measurement.measured[_key(measure)]


def _counts(members: Sequence[Measurement], held: Sequence[Fitted], lost: int) -> Counts:
    failed = lost + sum(bool(member.unread) for member in members)
    scored = sum(fitted.value is not None for fitted in held)
    planned = len(members) + lost
    return Counts(
        planned=planned,
        completed=planned - failed,
        failed=failed,
        scored=scored,
        unscored=planned - failed - scored,
    )


def _reasons(held: Iterable[Fitted], found: Fitted) -> tuple[str, ...]:
    """Return in words why tensors have no number, and why the summary has no interval."""
    told: dict[str, int] = {}
    for fitted in held:
        if fitted.value is None:
            told[fitted.note or fitted.status] = told.get(fitted.note or fitted.status, 0) + 1
    most = sorted(told.items(), key=lambda each: -each[1])[:REASONS_SHOWN]
    words = tuple(f"{n} without a number: {why}" for why, n in most)
    if found.value is not None and found.method != "exact" and found.low is None:
        words += ("a fit behind it has no interval",)
    return words


def _summarised(held: Sequence[Fitted], summary: Summary) -> Fitted:
    """Return a summary of the numbers there are, from that of their lower ends to that of their upper ends."""
    values = [fitted.value for fitted in held if fitted.value is not None]
    if not values:
        return Fitted(None, status="insufficient")
    make = SUMMARISED[summary]
    numbers = [fitted for fitted in held if fitted.value is not None]
    if all(fitted.method == "exact" for fitted in numbers):
        return Fitted(make(values))
    lows, highs = [], []
    for fitted in numbers:
        point = fitted.value if fitted.method == "exact" else None
        low = point if fitted.low is None else fitted.low
        high = point if fitted.high is None else fitted.high
        if low is None or high is None:
            return Fitted(make(values), method=OF_THE_ENDS)
        lows.append(low)
        highs.append(high)
    return Fitted(make(values), make(lows), make(highs), method=OF_THE_ENDS)


def _part(name: str, member: Measurement, held: Fitted) -> Fitted:
    """Return a tensor's number, or a placeholder where it has none of its own and counts in a pooled one.

    Drift and cosine from zeros are no numbers; what moved from there is part of how far the model moved.
    """
    against = member.against
    if name not in ("drift", "cosine", "changed") or held.value is not None or against is None:
        return held
    finite = not against.nonfinite and not against.base_nonfinite
    return Fitted(0.0) if finite and not member.unread else held


def _pooled(
    name: str, members: Sequence[Measurement], parts: Sequence[Fitted], level: float
) -> Fitted:
    """Return a measure's own definition over all numbers of several tensors together."""
    if name.startswith("flow_"):
        held = ((m.pair.tensor.depth, m.measured["alpha"].value) for m in members if not m.unread)
        flow = correlation_flow(alpha_by_depth(held), level)
        return flow[0] if name == "flow_slope" else flow[1]
    stats = [
        found
        for member, part in zip(members, parts, strict=True)
        if part.value is not None
        if (found := member.own if name in ("norm", "zeros") else member.against) is not None
    ]
    if not stats:
        return Fitted(None, status="insufficient")
    value = POOLED[name](stats)
    if value is None:
        return Fitted(None, status="degenerate", note="the tensors are 0")
    return Fitted(value)


POOLED: Mapping[str, Callable[[Sequence[ElementStats]], float | None]] = {
    "norm": lambda parts: math.sqrt(math.fsum(part.sum_squares for part in parts)),
    "zeros": lambda parts: sum(part.zeros for part in parts) / sum(part.count for part in parts),
    "drift": lambda parts: merged(parts).drift,
    "cosine": lambda parts: merged(parts).cosine,
    "changed": lambda parts: merged(parts).changed_share,
}
"""Measures that are computed from the sums over several tensors."""
