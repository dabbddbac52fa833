"""Whether a rule can pass, and can fail, at all with these samples: the extreme outcomes are put to it.

A rule cannot pass when no outcome passes it, or when an unchanged candidate does not even in its most favourable
outcome (no sample scores differently; or one gained and one lost, since resampling tells nothing from none) although
it would with more samples: what is wanted is then shown by too few. A rule that an unchanged candidate never passes,
such as "better than", is only held against the first.

**Deviation**: outcomes of means and corpus measures cannot be counted out. They are taken to pass or fail where a value
with next to no spread does, so a rule on them is said to be impossible only where it surely is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

from evalkit.gates.conditions import Condition, Evidence
from evalkit.powering.estimands import Estimand
from evalkit.powering.evidence import compared, compared_as, estimated, estimated_as
from evalkit.powering.hypothetical import Ask
from evalkit.records.scorecard import Interval, JointErrors
from evalkit.stats.discordant import tango_interval
from evalkit.stats.estimate import UNIT_BOUNDS, real_clusters
from evalkit.stats.intervals import normal_quantile
from evalkit.stats.paired import LEVELS
from evalkit.stats.power import least_samples

COUNTED_OUT = 5000
"""Up to so many samples every number of right answers is tried before a rate's rule is said to be impossible."""
MOST_SAMPLES = 1_000_000
"""Above this many, a number of samples is no plan."""
NEXT_TO_NONE = 1e-9
"""Half the width, as a share of the range, of an interval with next to no spread."""


@dataclass(frozen=True, slots=True)
class Possible:
    """What a rule can answer at all."""

    cannot_pass: str = ""
    """Why it cannot pass, in words that follow its name; empty when it can."""
    cannot_fail: str = ""
    """Why it can never fail, likewise."""


def possible(
    condition: Condition,
    ask: Ask,
    estimand: Estimand,
    level: float,
    remade: Callable[[float], Ask] | None = None,
) -> Possible:
    """Return whether a rule can pass and can fail on an estimand.

    ``remade`` gives the rule with another margin, where it has one. Raises what the condition raises.
    """
    n = estimand.samples
    if n == 0:
        return Possible("can never pass: the data hold no such sample")
    fails = any(ask(evidence) == "fail" for evidence in _unfavourable(condition, estimand, level))
    cannot_fail = (
        "" if fails else f"can never fail: with {_samples(n)} not even the worst outcome fails it"
    )
    if any(ask(evidence) == "pass" for evidence in unchanged_outcomes(condition, estimand, level)):
        return Possible("", cannot_fail)
    return Possible(_why_not(condition, ask, estimand, level, remade), cannot_fail)


def _why_not(
    condition: Condition,
    ask: Ask,
    estimand: Estimand,
    level: float,
    remade: Callable[[float], Ask] | None,
) -> str:
    """Return why no unchanged candidate passes, where that makes the rule impossible; else an empty string."""
    n = estimand.samples

    def passes(samples: int) -> bool:
        resized = _resized(estimand, samples)
        return any(
            ask(evidence) == "pass" for evidence in unchanged_outcomes(condition, resized, level)
        )

    needed = least_samples(passes, 2 * n, MOST_SAMPLES) if n < MOST_SAMPLES else None
    asks_for = f"; it needs about {_about(needed)} samples" if needed else ""
    nothing = (
        f"can never pass: with {_samples(n)} not even the most favourable outcome does{asks_for}"
    )
    if condition.reads == "estimate":
        return nothing if needed or _counted_out(estimand) else ""
    if any(ask(evidence) == "pass" for evidence in _favourable(estimand, level)):
        if not needed:
            return ""
        margin = _margin(remade, estimand, level, condition)
        return (
            f"can never pass an equal candidate: with {_samples(n)} not even one that scores as the baseline on each "
            f"is shown to be {condition.required}{asks_for}{margin}"
        )
    return nothing


def _margin(
    remade: Callable[[float], Ask] | None, estimand: Estimand, level: float, condition: Condition
) -> str:
    """Return what margin an unchanged candidate would pass, in words."""
    low = float(getattr(condition.options, "margin", 0.0) or 0.0)
    if remade is None or low <= 0:
        return ""

    def passes(margin: float) -> bool:
        ask = remade(margin)
        return any(
            ask(evidence) == "pass" for evidence in unchanged_outcomes(condition, estimand, level)
        )

    high = low
    while not passes(high):
        low, high = high, 2 * high
        if high > 1000 * low:
            return ""
    while high - low > 0.01 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return (
        f", or a margin of {high:.2g}"
        if passes(float(f"{high:.2g}"))
        else f", or a margin of {1.05 * high:.2g}"
    )


def _samples(n: int) -> str:
    return f"{n:,} sample{'' if n == 1 else 's'}"


def _about(n: int) -> str:
    digits = max(0, len(str(n)) - 3)
    return f"{-(-n // 10**digits) * 10**digits:,}"


def _resized(estimand: Estimand, samples: int) -> Estimand:
    """Return an estimand with another number of samples, in clusters as large on average."""
    clusters_N = estimand.clusters_N
    if clusters_N is not None and estimand.samples:
        size = estimand.samples / max(len(np.unique(clusters_N)), 1)
        clusters_N = (np.arange(samples) / size).astype(np.intp)
    return replace(estimand, samples=samples, clusters_N=clusters_N)


def _units(estimand: Estimand) -> int:
    """Return how many independent units the samples are."""
    clusters = real_clusters(estimand.clusters_N)[1]
    return estimand.samples if clusters is None else clusters


def _counted_out(estimand: Estimand) -> bool:
    return (estimand.binary and estimand.samples <= COUNTED_OUT) or _units(estimand) < 2


def unchanged_outcomes(
    condition: Condition, estimand: Estimand, level: float
) -> Iterator[Evidence]:
    """Yield outcomes that an unchanged candidate may have, the most favourable first."""
    if condition.reads == "estimate":
        yield from _values(estimand, level)
        return
    n = estimand.samples
    if estimand.measure.kind != "corpus":
        same_N = np.ones(n)
        yield compared(estimand, same_N, same_N, level, estimand.clusters_N)
        half_N = (np.arange(n) % 2).astype(np.float64)
        yield compared(estimand, half_N, half_N, level, estimand.clusters_N)
        return
    units, bounds = _units(estimand), UNIT_BOUNDS.get(estimand.measure.unit)
    if units < 2:
        yield compared_as(estimand, 1.0, 0.0, (), None)
        return
    span = 0.0 if bounds is None else bounds[1] - bounds[0]
    equal = [_scaled(tango_interval(0, 0, units, held), span) for held in LEVELS]
    traded = [_around(0.0, normal_quantile(held) * sqrt(2) / n * span, held) for held in LEVELS]
    errors = JointErrors(
        candidate=NEXT_TO_NONE, baseline=NEXT_TO_NONE, covariance=NEXT_TO_NONE**2, df=None
    )
    for intervals in (equal, traded):
        yield compared_as(estimand, span or 1.0, 0.0, tuple(intervals), errors)


def _favourable(estimand: Estimand, level: float) -> Iterator[Evidence]:
    """Yield comparisons in which the candidate is as much better as can be."""
    yield from _apart(estimand, level, better=True)


def _unfavourable(condition: Condition, estimand: Estimand, level: float) -> Iterator[Evidence]:
    """Yield outcomes that a rule is likely to fail, the worst first."""
    if condition.reads == "estimate":
        yield from _values(estimand, level)
        yield estimated_as(estimand, None, None)
        return
    yield from _apart(estimand, level, better=False)
    yield from _apart(estimand, level, better=True)


def _apart(estimand: Estimand, level: float, *, better: bool) -> Iterator[Evidence]:
    n, sign = estimand.samples, 1.0 if estimand.measure.better == "higher" else -1.0
    up = better == (sign > 0)
    if estimand.binary:
        for changed in dict.fromkeys([n, n - 1, n - n // 10, n // 2]):
            if changed < 1:
                continue
            for elsewhere in (0.0, 1.0):
                low_N, high_N = np.full(n, elsewhere), np.full(n, elsewhere)
                low_N[:changed], high_N[:changed] = 0.0, 1.0
                pair = (high_N, low_N) if up else (low_N, high_N)
                yield compared(estimand, *pair, level, estimand.clusters_N)
        return
    bounds = UNIT_BOUNDS.get(estimand.measure.unit)
    span = 1e9 if bounds is None else (bounds[1] - bounds[0]) * (1 - 1e-6)
    difference = span if up else -span
    intervals: tuple[Interval, ...] = ()
    errors = None
    if _units(estimand) > 1:
        method = "t" if real_clusters(estimand.clusters_N)[1] is None else "cr1-t"
        half = NEXT_TO_NONE * span
        intervals = tuple(_around(difference, half, held, method) for held in LEVELS)
        errors = JointErrors(candidate=half, baseline=half, covariance=0.0, df=None)
    baseline = 1.0 if bounds is None else bounds[0] if up else bounds[1]
    moved = None
    if estimand.measure.kind != "corpus":
        moved = (n, 0) if better else (0, n)
    yield compared_as(estimand, baseline, difference, intervals, errors, changed=moved)


def _values(estimand: Estimand, level: float) -> Iterator[Evidence]:
    """Yield estimates over all values that there may be: the ends first, then between them."""
    n = estimand.samples
    if estimand.binary:
        coarse = [n, 0, *(round(n * i / 64) for i in range(1, 64))]
        every = range(n + 1) if n <= COUNTED_OUT else ()
        for ones in dict.fromkeys([*coarse, *every]):
            values_N = np.zeros(n)
            values_N[:ones] = 1.0
            yield estimated(estimand, values_N, level, estimand.clusters_N)
        return
    bounds = UNIT_BOUNDS.get(estimand.measure.unit)
    if bounds is None:
        sizes = np.geomspace(1e-6, 1e9, 301)
        values = [0.0, *sizes.tolist(), *(-sizes).tolist()]
        half = NEXT_TO_NONE
    else:
        values = np.linspace(bounds[1], bounds[0], 1001).tolist()
        values = list(dict.fromkeys([values[0], values[-1], *values]))
        half = NEXT_TO_NONE * (bounds[1] - bounds[0])
    for value in values:
        interval = _around(value, half, level) if _units(estimand) > 1 else None
        yield estimated_as(estimand, value, interval)


def _around(centre: float, half: float, level: float, method: str = "hypothetical") -> Interval:
    return Interval(low=centre - half, high=centre + half, level=level, method=method)


def _scaled(interval: Interval, span: float) -> Interval:
    return interval.model_copy(update={"low": interval.low * span, "high": interval.high * span})
