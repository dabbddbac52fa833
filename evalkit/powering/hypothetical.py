"""Hypothetical evidence: what a run may find, how likely that is, and what a rule answers to it.

Zeros and ones are counted: every outcome is built as arrays and given to the very functions that a run uses, so that
a rule meets its real interval. Means, corpus measures and whatever is clustered are taken as normal with the standard
error that the spread tells, and get Student's interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from math import sqrt
from typing import Protocol

import numpy as np

from evalkit.gates.conditions import Evidence
from evalkit.powering.estimands import Estimand
from evalkit.powering.evidence import compared, compared_as, estimated, estimated_as
from evalkit.powering.spreads import Spread
from evalkit.records.scorecard import Interval, JointErrors
from evalkit.stats.estimate import UNIT_BOUNDS
from evalkit.stats.intervals import t_quantile
from evalkit.stats.paired import LEVELS
from evalkit.stats.power import (
    NEGLIGIBLE,
    chances_of,
    count_chances,
    normal_below,
    pair_chances,
    stretches,
)

Answer = str
Ask = Callable[[Evidence], Answer]
"""What a rule answers, as it counts for the verdict."""

FINE = 1000
"""Steps per standard error in which edges of a normal outcome are found."""
PROBES = 400
"""Most places, evenly spaced, at which an outcome is looked at before halving."""


class Outcomes(Protocol):
    """All that n samples may show of one estimand, with the answers of one rule."""

    @property
    def unchanged(self) -> float | None:
        """The effect of an unchanged candidate: a true value, or a true difference of 0; None where unknown."""

    @property
    def effects(self) -> Sequence[float]:
        """True effects worth looking at, ascending; the first and the last are the ends of what there can be."""

    @property
    def tolerance(self) -> float:
        """How finely an effect is told."""

    def chances(self, effect: float) -> dict[Answer, float]:
        """Return each answer's probability under a true effect."""


def outcomes_of(
    estimand: Estimand, spread: Spread, n: int, ask: Ask, reads: str, level: float
) -> Outcomes | str:
    """Return the outcomes of n samples; a sentence where nothing says how they vary."""
    if reads == "comparison":
        if estimand.binary and spread.discordance is not None:
            return CountedPairs(estimand, spread, n, ask, level)
        if spread.sd_difference is None or spread.value is None:
            return f"{spread.pairs_from}; give an earlier run with --from"
        return NormalDifference(estimand, spread, n, ask, level)
    if spread.counted:
        return CountedRate(estimand, spread, n, ask, level)
    if spread.sd is None or spread.value is None:
        return f"{spread.value_from}; give an earlier run with --from"
    return NormalValue(estimand, spread, n, ask, level)


class CountedRate:
    """K of n samples have the statistic 1; K is binomial and the effect its rate."""

    def __init__(self, estimand: Estimand, spread: Spread, n: int, ask: Ask, level: float) -> None:
        self._estimand, self._n, self._ask, self._level = estimand, n, ask, level
        self.unchanged = spread.value
        self.tolerance = max(1e-4, 0.005 / sqrt(n))
        self._answers: dict[int, Answer] = {}

    @cached_property
    def effects(self) -> Sequence[float]:
        """Rates from 0 to 1."""
        assert self.unchanged is not None, "a counted rate has a value"
        return sorted({*np.linspace(0, 1, 41).tolist(), self.unchanged})

    def _answer(self, ones: int) -> Answer:
        if ones not in self._answers:
            values_N = np.zeros(self._n)
            values_N[:ones] = 1.0
            self._answers[ones] = self._ask(estimated(self._estimand, values_N, self._level))
        return self._answers[ones]

    def chances(self, effect: float) -> dict[Answer, float]:
        """Sum the binomial's mass."""
        return count_chances(self._answer, self._n, effect)


class CountedPairs:
    """Of n pairs some are gained and some lost; the effect is the true share gained − lost.

    The share of discordant pairs stays as assumed, unless the effect itself is larger.
    """

    unchanged = 0.0

    def __init__(self, estimand: Estimand, spread: Spread, n: int, ask: Ask, level: float) -> None:
        assert spread.discordance is not None, "counted pairs have a discordance"
        self._estimand, self._n, self._ask, self._level = estimand, n, ask, level
        self._discordance = spread.discordance
        value = 0.5 if spread.value is None else spread.value
        self._right = value if estimand.measure.better == "higher" else 1 - value
        self.tolerance = max(1e-4, 0.01 * sqrt(spread.discordance / n))
        self._answers: dict[tuple[int, int], Answer] = {}

    @property
    def effects(self) -> Sequence[float]:
        """Differences around 0, doubling up to all that can be lost or gained."""
        return _around_zero(sqrt(self._discordance / self._n) / 2, -self._right, 1 - self._right)

    def _answer(self, gained: int, lost: int) -> Answer:
        key = gained, lost
        if key not in self._answers:
            self._answers[key] = self._ask(self._evidence(gained, lost))
        return self._answers[key]

    def _evidence(self, gained: int, lost: int) -> Evidence:
        right = min(max(round(self._right * self._n), lost), self._n - gained)
        baseline_N, candidate_N = np.zeros(self._n), np.zeros(self._n)
        baseline_N[:right] = 1.0
        candidate_N[lost : right + gained] = 1.0
        if self._estimand.measure.better == "lower":
            baseline_N, candidate_N = 1 - baseline_N, 1 - candidate_N
        return compared(self._estimand, candidate_N, baseline_N, self._level)

    def chances(self, effect: float) -> dict[Answer, float]:
        """Sum the trinomial's mass."""
        share = max(self._discordance, abs(effect))
        return pair_chances(self._answer, self._n, (share + effect) / 2, (share - effect) / 2)


class _Normal:
    """A value or difference that is normal around the effect with a known standard error."""

    def __init__(
        self, n: int, ask: Ask, sd: float, around: float, ends: tuple[float, float] | None
    ) -> None:
        self._n, self._ask, self._error = n, ask, sd / sqrt(n)
        self._around, self._ends = around, ends
        self.tolerance = self._error / 100

    @property
    def unchanged(self) -> float | None:
        """What it is around."""
        return self._around

    @cached_property
    def effects(self) -> Sequence[float]:
        """Effects around the unchanged one, doubling up to the ends, or to a thousand times the standard error."""
        reach = max(1000 * self._error, 2 * abs(self._around))
        low, high = self._ends or (self._around - reach, self._around + reach)
        steps = _around_zero(self._error / 2, low - self._around, high - self._around)
        return [self._around + step for step in steps]

    @cached_property
    def _held(self) -> list[tuple[int, int, Answer]]:
        step = self._error / FINE
        low, high = self.effects[0] - self._around, self.effects[-1] - self._around
        beyond = 0.0 if self._ends else NEGLIGIBLE * self._error
        steps = min(PROBES, int((high - low) / self._error) + 2)
        even = np.linspace(low - beyond, high + beyond, steps)
        near = np.arange(-8, 8.25, 0.25) * self._error
        probes = {round(x / step) for x in (*even, *near, *_around_zero(self._error, low, high))}
        return stretches(lambda place: self._answer(self._around + place * step), probes)

    def _answer(self, found: float) -> Answer:
        raise NotImplementedError

    def chances(self, effect: float) -> dict[Answer, float]:
        """Sum the normal's mass; what lies beyond the ends counts at them."""
        step = self._error / FINE
        below = normal_below(effect, self._error)
        return chances_of(self._held, lambda place: below(self._around + (place + 0.5) * step))

    def _interval(self, found: float, level: float, ends: tuple[float, float] | None) -> Interval:
        half = t_quantile(level, max(self._n - 1, 1)) * self._error
        low, high = found - half, found + half
        if ends is not None:
            low, high = min(max(low, ends[0]), found), max(min(high, ends[1]), found)
        return Interval(low=low, high=high, level=level, method="t")


class NormalValue(_Normal):
    """The candidate's own value; the effect is the true one."""

    def __init__(self, estimand: Estimand, spread: Spread, n: int, ask: Ask, level: float) -> None:
        assert spread.sd is not None and spread.value is not None, "a spread was given"
        super().__init__(n, ask, spread.sd, spread.value, UNIT_BOUNDS.get(estimand.measure.unit))
        self._estimand, self._level = estimand, level

    def _answer(self, found: float) -> Answer:
        interval = self._interval(found, self._level, self._ends) if self._n > 1 else None
        return self._ask(estimated_as(self._estimand, found, interval, self._n))


class NormalDifference(_Normal):
    """Candidate − baseline, turned so that more is better; the effect is the true difference, turned alike."""

    def __init__(self, estimand: Estimand, spread: Spread, n: int, ask: Ask, level: float) -> None:
        assert spread.sd_difference is not None and spread.value is not None, "a spread was given"
        bounds = UNIT_BOUNDS.get(estimand.measure.unit)
        self._sign = 1.0 if estimand.measure.better == "higher" else -1.0
        ends = None
        if bounds is not None:
            to_ends = sorted(self._sign * (bound - spread.value) for bound in bounds)
            ends = to_ends[0], to_ends[1]
        super().__init__(n, ask, spread.sd_difference, 0.0, ends)
        self._estimand, self._spread = estimand, spread
        self._span = None if bounds is None else (bounds[0] - bounds[1], bounds[1] - bounds[0])

    def _answer(self, found: float) -> Answer:
        assert self._spread.value is not None, "a spread was given"
        found *= self._sign
        intervals: tuple[Interval, ...] = ()
        if self._n > 1:
            intervals = tuple(self._interval(found, level, self._span) for level in LEVELS)
        return self._ask(
            compared_as(
                self._estimand, self._spread.value, found, intervals, self._errors(), self._n
            )
        )

    def _errors(self) -> JointErrors | None:
        if self._spread.sd is None or self._n < 2:
            return None
        alone = self._spread.sd / sqrt(self._n)
        return JointErrors(
            candidate=alone,
            baseline=alone,
            covariance=alone**2 - self._error**2 / 2,
            df=self._n - 1,
        )


def _around_zero(first: float, low: float, high: float) -> list[float]:
    """Return ``low``, 0, ``high`` and between them ± ``first``, doubled again and again."""
    steps = [0.0]
    size = first
    while size < max(-low, high) and len(steps) < 100:
        steps += [-size, size]
        size *= 2
    return sorted({*(x for x in steps if low < x < high), low, high})
