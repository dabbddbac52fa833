"""Tests and intervals that hold at any look: a gambler's wealth against every mean that values could have.

Theory. Values x in [a, b] arrive in random order. Whoever claims that their mean is at most m offers a fair bet: a
stake of a share κ of the wealth multiplies it by 1 − κ + κ(x − a)/(m − a), on average by 1 or less if the claim holds.
Wealth that starts at 1 then exceeds 1/α at *any* time with probability at most α (Ville's inequality), however often
one looks and for whatever reason one stops. As no one knows the best stake, the wealth is split over a grid of them,
and the mean of the parts is again fair. The claim that the mean is at least m is the mirror image. An interval holds
all means that neither gambler has refuted at (1 − level)/2, so that its lower or upper end alone is a one-sided test
at that rate.

The stakes do not change with time, so the wealth depends on the values and not on their order, and it falls steadily
in m, so that the interval's ends are roots.

**Source**: Waudby-Smith & Ramdas 2024, J. R. Stat. Soc. B 86, 1 (wealth as evidence on bounded means; "diversified
Kelly" betting, the mean over a grid of constant bets); Ville 1939.

**Deviation**: the stakes are the squares (1/16)² to (15/16)² where the source spaces them evenly: bold ones decide
within tens of samples, cautious ones find small effects and rare events after thousands.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from evalkit.records.scorecard import Interval
from evalkit.stats.intervals import Array, Bounds

STAKES_K: Final[Array] = (np.arange(1, 16) / 16) ** 2
"""Shares κ of the wealth that are staked; the grid of the mixture."""

_FACTORS: Final = 16
"""Payoffs of values that occur once are multiplied, so many at a time, before the logarithm is taken, which is dear;
products of so few neither vanish nor, at means above 1e-18, overflow."""

_PRECISION: Final = 1e-12
"""Precision of an interval's ends, as a share of the distance between the bounds."""


def betting_interval(values_N: Array, level: float, bounds: Bounds) -> Interval:
    """Return all means in ``bounds`` that the wealth has not refuted; holds at every look at once.

    Each end is an anytime-valid one-sided bound at (1 − level)/2. ``values_N`` lie within ``bounds``, in any order. It
    holds the mean of the values; without any value it is ``bounds``.

    >>> interval = betting_interval(np.repeat([1.0, 0.0], [90, 10]), 0.9, (0.0, 1.0))
    >>> interval.low < 0.9 < interval.high
    True
    """
    low, high = bounds
    if len(values_N) == 0:
        return Interval(low=low, high=high, level=level, method="betting")
    shares_J, counts_J = _tabulated(values_N, bounds)
    threshold = float(np.log(2 / (1 - level)))
    from_below = _least(shares_J, counts_J, threshold)
    from_above = _least(1 - shares_J, counts_J, threshold)
    mean = float(values_N.mean())
    return Interval(
        low=min(low + (high - low) * from_below, mean),
        high=max(high - (high - low) * from_above, mean),
        level=level,
        method="betting",
    )


def log_wealth(values_N: Array, null: float, bounds: Bounds) -> tuple[float, float]:
    """Return the log of the wealth against "the mean is at most ``null``" and against "at least ``null``".

    Each is a log e-value: above log(1/α), at whatever look, the claim is refuted at α. Infinite where the claim is
    impossible; 0 without any value.
    """
    shares_J, counts_J = _tabulated(values_N, bounds)
    share = (null - bounds[0]) / (bounds[1] - bounds[0])
    return _log_wealth(shares_J, counts_J, share), _log_wealth(1 - shares_J, counts_J, 1 - share)


def betting_p(values_N: Array, null: float, bounds: Bounds) -> float:
    """Return the two-sided p-value of "the mean is ``null``", valid at any look; 1 without any value.

    It is at most α just where ``betting_interval`` at level 1 − α does not hold ``null``.
    """
    return float(min(1.0, 2 * np.exp(-max(log_wealth(values_N, null, bounds)))))


def _tabulated(values_N: Array, bounds: Bounds) -> tuple[Array, Array]:
    """Return the distinct values as shares 0–1 of the way between the bounds, and how often each occurs.

    Where hardly a value occurs twice, all are returned, in ascending order, each to be counted once.
    """
    values_J, counts_J = np.unique(values_N, return_counts=True)
    if 2 * len(values_J) > len(values_N):
        values_J, counts_J = np.sort(values_N), np.ones_like(values_N, dtype=np.intp)
    shares_J = (values_J - bounds[0]) / (bounds[1] - bounds[0])
    assert not len(shares_J) or (shares_J[0] >= 0 and shares_J[-1] <= 1), "values lie within bounds"
    return shares_J, counts_J.astype(np.float64)


def _log_wealth(shares_J: Array, counts_J: Array, null: float) -> float:
    """Return the log of the wealth against "the mean share is at most ``null``"."""
    if (
        null <= 0
    ):  # then every share is 0: one that is not refutes it, and zeros win and lose nothing
        return np.inf if shares_J.any() else 0.0
    with np.errstate(over="ignore"):  # infinite wealth is a refutation all the same
        payoffs_KJ = np.outer(STAKES_K, shares_J / null) + (1 - STAKES_K)[:, np.newaxis]
        if 0 < len(shares_J) == counts_J.sum():
            starts = np.arange(0, len(shares_J), _FACTORS)
            logs_K = np.log(np.multiply.reduceat(payoffs_KJ, starts, axis=1)).sum(axis=1)
        else:
            logs_K = np.log(payoffs_KJ) @ counts_J
    return float(np.logaddexp.reduce(logs_K) - np.log(len(STAKES_K)))


def _least(shares_J: Array, counts_J: Array, threshold: float) -> float:
    """Return the least mean share whose refutation "it is no more than this" has not reached ``threshold``."""
    from scipy.optimize import brentq

    def excess(null: float) -> float:
        return _log_wealth(shares_J, counts_J, null) - threshold

    above = float(
        counts_J @ shares_J / counts_J.sum()
    )  # by Jensen's inequality no wealth is won there
    below = above / 2
    while below > _PRECISION and excess(below) < 0:
        above, below = below, below / 2
    if below <= _PRECISION:
        return 0.0
    return float(brentq(excess, below, above, xtol=_PRECISION))
