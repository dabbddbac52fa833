"""One-sided tests of candidate − baseline: on the pairs, and with unpaired samples where they are worst for the test.

A test at alpha reads the two-sided interval of the difference at level 1 − 2·alpha.

Unpaired samples. Where scores have known ends, comparisons also hold the difference over all planned samples with each
missing score at the end that makes it least, or greatest (Manski's bounds). A limit from below is tested on the least,
one from above on the greatest.

Limits relative to the baseline's value b. "Above −m·b" is a statement about candidate − (1 − m)·b, and b has an error
too. The interval tested is the difference ± q·(standard error of that contrast), Fieller's test, q of Student's t or
the normal as the errors say. Where the difference has an interval made for few differing pairs (Tango's, t with two
pairs added), the wider end of the two counts, so that a relative limit is never easier to keep than an absolute one.
With unpaired samples the baseline is taken at the end of its own interval, over all planned samples, that is worse
for the test; to fail, the difference must lie beyond the limit at the other end too. Without errors a relative limit
cannot be tested.

**Source**: Schuirmann 1987, J. Pharmacokinet. Biopharm. 15, 657 (tests by interval); Fieller 1954, JRSS B 16, 175;
Manski 1990, Am. Econ. Rev. 80, 319.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import copysign, sqrt
from typing import Literal

from evalkit.gates.wording import percent, plain
from evalkit.records.scorecard import Bounded, Comparison, Interval
from evalkit.stats.estimate import UNIT_BOUNDS
from evalkit.stats.intervals import normal_quantile, t_quantile

Answer = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Limit:
    """What candidate − baseline must keep to, whichever direction is better."""

    at: float
    """The limit, in the metric's unit or as a share of the baseline's value."""
    above: bool
    """Whether the difference must lie above it, or below."""
    relative: bool = False
    """Whether ``at`` is a share."""


@dataclass(frozen=True, slots=True)
class Side:
    """One one-sided test."""

    value: float
    """What was found."""
    interval: Interval
    """The interval that is compared with the limit."""
    limit: float
    """In the interval's unit."""
    above: bool
    """Whether all of it must lie above the limit, or below."""
    baseline: float
    """The baseline's value behind a relative limit."""
    broken_at: float | None = None
    """The limit beyond which all of it must lie to fail, where the baseline's error leaves ``limit`` open."""

    @property
    def status(self) -> Answer:
        """The test's answer."""
        if self.interval.low > self.limit if self.above else self.interval.high < self.limit:
            return "pass"
        beyond = self.limit if self.broken_at is None else self.broken_at
        if self.interval.method == "exact" and self.interval.low == self.interval.high == beyond:
            return (
                "fail"  # on the limit is not beyond it, and nothing was sampled that could move it
            )
        broken = self.interval.high < beyond if self.above else self.interval.low > beyond
        return "fail" if broken else "inconclusive"


def why_untestable(comparison: Comparison, limits: Sequence[Limit], level: float) -> str:
    """Return why limits cannot be tested at a level, in words that follow a difference; empty when they can."""
    if not comparison.intervals:
        why = "; ".join(comparison.warnings) or "its spread cannot be estimated"
        return f"without an interval ({why})"
    extremes = (comparison.worst, comparison.best) if is_bounded(comparison) else ()
    if any(case is None or _at(case, level) is None for case in (comparison, *extremes)):
        alpha = plain(round((1 - level) / 2, 6))
        return f"without a {percent(level)} interval, which α {alpha} asks for"
    if comparison.errors is None and any(limit.relative for limit in limits):
        return (
            "without a known error of the baseline's value, which a limit relative to it asks for"
        )
    return ""


def tested(comparison: Comparison, limit: Limit, level: float, *, bounded: bool) -> Side:
    """Return the test of one limit on the pairs, or ``bounded``, with missing scores where they are worst for it."""
    case = _extreme(comparison, limit) if bounded else None
    interval = _at(case or comparison, level)
    value = (case or comparison).difference
    assert interval is not None and value is not None, "why_untestable says so first"
    baseline = comparison.baseline or 0.0
    if not limit.relative:
        return Side(value, interval, limit.at, limit.above, baseline)
    if case is None:
        interval = _contrast(comparison, limit.at, interval)
        return Side(value, interval, limit.at * abs(baseline), limit.above, baseline)
    worse = max if limit.above else min
    baseline, opposite = worse(
        _baseline_ends(comparison, level), key=lambda ends: limit.at * ends[0]
    )
    at = limit.at * baseline
    return Side(value, interval, at, limit.above, baseline, limit.at * opposite)


def worst_of(sides: Sequence[Side]) -> Answer:
    """Return the worst answer of several tests that must all pass."""
    answers = {side.status for side in sides}
    return "fail" if "fail" in answers else "inconclusive" if "inconclusive" in answers else "pass"


def is_bounded(comparison: Comparison) -> bool:
    """Return whether unpaired samples have a worst and a best case."""
    return bool(comparison.unpaired) and None not in (comparison.worst, comparison.best)


def _extreme(comparison: Comparison, limit: Limit) -> Bounded | None:
    """Return the case with the lowest difference for a limit from below, with the highest for one from above."""
    lowest_is_worst = comparison.better == "higher"
    return comparison.worst if limit.above == lowest_is_worst else comparison.best


def _at(held: Comparison | Bounded, level: float) -> Interval | None:
    return next((i for i in held.intervals if abs(i.level - level) < 1e-9), None)


def _quantile(comparison: Comparison, level: float) -> float:
    assert comparison.errors is not None, "why_untestable says so first"
    df = comparison.errors.df
    return normal_quantile(level) if df is None else t_quantile(level, df)


def _contrast(comparison: Comparison, share: float, held: Interval) -> Interval:
    """Return the interval of the difference that tests candidate − baseline against ``share``·|baseline|."""
    if held.method == "exact":
        return held
    errors, difference = comparison.errors, comparison.difference
    assert errors is not None and difference is not None, "why_untestable says so first"
    factor = 1 + copysign(share, share * (comparison.baseline or 0.0))
    variance = (
        errors.candidate**2 - 2 * factor * errors.covariance + (factor * errors.baseline) ** 2
    )
    half = _quantile(comparison, held.level) * sqrt(max(variance, 0.0))
    low, high = difference - half, difference + half
    if held.method in ("tango", "square-and-add") or held.method.startswith("adjusted"):
        low, high = min(low, held.low), max(high, held.high)
    return Interval(low=low, high=high, level=held.level, method="fieller")


def shown_positive(comparison: Comparison, level: float) -> bool:
    """Return whether the interval of the baseline's value at ``level`` lies above 0."""
    assert comparison.errors is not None, "why_untestable says so first"
    return (comparison.baseline or 0.0) > _quantile(comparison, level) * comparison.errors.baseline


def _baseline_ends(comparison: Comparison, level: float) -> list[tuple[float, float]]:
    """Return the baseline's value over all planned samples with missing scores at the lower, and the upper end.

    Each is given at the end of its interval on that side, and at the opposite one.
    """
    errors, baseline = comparison.errors, comparison.baseline
    assert errors is not None and baseline is not None, "why_untestable says so first"
    least, greatest = UNIT_BOUNDS[comparison.unit]
    half = _quantile(comparison, level) * errors.baseline
    paired = comparison.pairs / (comparison.pairs + comparison.unpaired)
    low, high = (
        paired * end for end in (max(baseline - half, least), min(baseline + half, greatest))
    )
    lower, upper = (1 - paired) * least, (1 - paired) * greatest
    return [(low + lower, high + lower), (high + upper, low + upper)]


def hull(sides: Sequence[Side]) -> Interval:
    """Return what the sides' intervals span together."""
    low, high = min(s.interval.low for s in sides), max(s.interval.high for s in sides)
    return sides[0].interval.model_copy(update={"low": low, "high": high})
