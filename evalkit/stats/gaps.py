"""How far groups lie apart: the gap of a measure between G groups, its interval, and the interval of its change.

Theory. The greatest of G estimates minus the least is never negative, so it lies above 0 even where all groups are
equal: eight groups of 50 at 80 % show .16 on average. An interval around it is useless; what holds is a statement on
pairs. The true gap is the difference of one pair of groups, the one that lies furthest apart, and no other pair's
difference exceeds it.

- Lower end: if every pair's difference lies above its lower limit, the gap lies above the greatest of these limits.
  All pairs hold together where each group's own interval is taken at the level whose normal quantile is q/√2, with q
  the quantile of the range of G standard normal values (Tukey–Kramer; unequal sizes make it conservative).
- Upper end: the true pair is fixed, so its own upper limit holds at the plain level; as nobody knows which pair it is,
  the greatest of all pairs' upper limits is taken.
- Change from baseline to candidate on the same samples: for the candidate's widest pair (g, h) the baseline's gap is at
  least its own difference of g and h, so the change is at most δ_g − δ_h, where δ is each group's paired difference.
  A tenth of the error is spent on telling which pairs may be the candidate's widest. The lower end mirrors it with the
  pairs that may be the baseline's widest.

A pair's limits join the groups' own intervals [l, u] by square-and-add, d − sqrt((p_g − l_g)² + (u_h − p_h)²), which
keeps the shape of Wilson's or any other interval; ratios likewise by Fieller's argument (MOVER-R). Of several measures,
the worst gap is the gap of one fixed measure: lower ends share the error (Bonferroni), upper ends need not. A mean of
gaps has the mean of ends that share it.

The ends are as good as the intervals that they join. Wilson's is right on average over rates, one end of it at some
rates is not: between two groups the upper end errs at 4 % on average instead of 5 % and at up to 8 % (200 each) or 13 %
(20 each, rates near 0 or 1); exact limits of Clopper and Pearson bring that to 5 and 6 %. With more groups it is less.

Groups are taken as independent. Where the same clusters answer for several groups their estimates move together as a
rule, and the limits are too wide rather than too narrow.

**Source**: Newcombe 1998, Stat. Med. 17, 873, method 10; Zou & Donner 2008, Stat. Med. 27, 1693 (square-and-add for any
limits: MOVER); Donner & Zou 2012, Stat. Methods Med. Res. 21, 347 (ratios: MOVER-R); Tukey 1953 and Kramer 1956,
Biometrics 12, 307 (all pairs); Hayter 1984, Ann. Statist. 12, 61 (unequal sizes are conservative).

**Deviation**: MOVER-R is written as c/(b + sqrt(b² − ac)) rather than (b − sqrt(b² − ac))/a, so that a limit of 0 or of
twice the estimate divides by nothing. Where the permutation test does not refute equality (``permutation``), no gap is
always held possible, whatever the limits say: equal groups then raise a false alarm no oftener than the level allows,
at any size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evalkit.stats.intervals import Array

Form = Literal["difference", "ratio"]
"""``difference``: greatest − least, 0 where all are equal; ``ratio``: least ÷ greatest, 1 where all are equal."""
Joined = Literal["worst", "mean"]
"""Of several measures: the widest gap, or the mean of their gaps."""

SELECTION_SHARE = 0.1
"""Share of the error of a change that is spent on telling which pairs of groups may be the widest."""


@dataclass(frozen=True, slots=True)
class Part:
    """One measure over G ≥ 2 groups."""

    values_G: Array
    """Each group's number."""
    limits: Callable[[float], Array]
    """Two-sided level → (G, 2): lower and upper end of each group's own interval; NaN where it has none."""


def gap_value(values: Sequence[Array], *, form: Form, joined: Joined) -> float:
    """Return the gap of one or more measures, each the numbers of its groups.

    >>> gap_value([np.array([0.9, 0.7, 0.75])], form="difference", joined="worst").__round__(3)
    0.2
    """
    return float(join([spread(values_G, form) for values_G in values], form, joined))


def spread(values_XG: Array, form: Form) -> Array:
    """Return greatest − least or least ÷ greatest over the last axis, NaN where a group has no value.

    Of numbers that are all 0 the ratio is 1: nobody is at a disadvantage.
    """
    greatest_X, least_X = values_XG.max(axis=-1), values_XG.min(axis=-1)
    if form == "difference":
        return np.asarray(greatest_X - least_X)
    whole_X = np.where(greatest_X == 0, 1.0, greatest_X)
    return np.asarray(np.where(greatest_X == 0, 1.0, least_X / whole_X))


def join(gaps: Sequence[Array], form: Form, joined: Joined) -> Array:
    """Return the widest of several measures' gaps, or their mean."""
    if joined == "mean":
        return np.asarray(np.mean(gaps, axis=0))
    return np.asarray(np.max(gaps, axis=0) if form == "difference" else np.min(gaps, axis=0))


def gap_interval(
    parts: Sequence[Part], level: float, *, form: Form, joined: Joined, p_value: float | None
) -> tuple[float, float]:
    """Return the ends of a gap's interval; each lies on the wrong side of the true gap at most (1 − ``level``)/2.

    A difference has 0 ≤ low, a ratio 0 ≤ low ≤ high ≤ 1. ``p_value`` is that of no difference between groups; where it
    is above (1 − ``level``)/2, the end towards no gap is no gap. None: there is no test. A group without an interval
    leaves the end away from no gap open: infinity for a difference, 0 for a ratio.
    """
    tail = (1 - level) / 2
    shared = tail / len(parts)
    alone = shared if joined == "mean" else tail
    refuted = p_value is None or p_value <= tail
    near, far = [], []
    for part in parts:
        groups = len(part.values_G)
        together = _pairs(part, simultaneous_level(shared, groups), form)
        singly = _pairs(part, 1 - 2 * alone, form)
        if form == "difference":
            near.append(max(0.0, float(together[0].max())))
            far.append(float(singly[1].max()))
        else:
            near.append(min(1.0, float(together[1].min())))
            far.append(float(singly[0].min()))
    none = 0.0 if form == "difference" else 1.0
    towards = float(join([np.asarray(x) for x in near], form, joined)) if refuted else none
    away = float(join([np.asarray(x) for x in far], form, joined))
    return (towards, max(away, towards)) if form == "difference" else (min(away, towards), towards)


def gap_change_interval(
    candidate: Sequence[Part],
    baseline: Sequence[Part],
    change: Sequence[Part],
    level: float,
    *,
    joined: Joined,
) -> tuple[float, float]:
    """Return the ends of the change of a gap (difference form), candidate − baseline, on the same samples.

    The parts of all three are the same measures over the same groups; ``change`` holds each group's paired difference
    candidate − baseline. Each end lies on the wrong side of the true change at most (1 − ``level``)/2. A group of which
    the paired difference has no interval leaves an end open: infinite.
    """
    tail = (1 - level) / 2
    if joined == "mean":
        tail /= len(change)
    lows, highs = [], []
    for ours, theirs, paired in zip(candidate, baseline, change, strict=True):
        low_GG, high_GG = _pairs(paired, 1 - 2 * tail * (1 - SELECTION_SHARE), "difference")
        lows.append(float(low_GG[_may_be_widest(theirs, tail * SELECTION_SHARE)].min()))
        highs.append(float(high_GG[_may_be_widest(ours, tail * SELECTION_SHARE)].max()))
    if joined == "mean":
        return float(np.mean(lows)), float(np.mean(highs))
    return min(lows), max(highs)


def simultaneous_level(tail: float, groups: int) -> float:
    """Return the two-sided level of each group's interval at which all pairs of groups hold together.

    ``tail`` is the chance that the pair furthest off does not hold.
    """
    from scipy.special import ndtr

    return float(2 * ndtr(range_quantile(tail, groups) / np.sqrt(2)) - 1)


@lru_cache(maxsize=256)
def range_quantile(tail: float, groups: int) -> float:
    """Return q with P(greatest − least of ``groups`` independent standard normal values > q) = ``tail``."""
    from scipy.optimize import brentq
    from scipy.special import ndtr

    def excess(q: float) -> float:
        z = np.linspace(-9.0, 9.0 + q, 2_001)
        density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
        within = density * (ndtr(z) - ndtr(z - q)) ** (groups - 1)
        return float(groups * within.sum() * (z[1] - z[0])) - (1 - tail)

    return float(brentq(excess, 0.0, 30.0, xtol=1e-12))


def _pairs(part: Part, level: float, form: Form) -> tuple[Array, Array]:
    """Return the limits (G, G) of p_g − p_h or p_g ÷ p_h for ordered pairs g ≠ h; what is not known holds all."""
    values_G, limits_G2 = part.values_G, part.limits(level)
    # A group that its own interval leaves out (betting may) is held at its end.
    low_G, high_G = np.minimum(limits_G2[:, 0], values_G), np.maximum(limits_G2[:, 1], values_G)
    if form == "difference":
        low_GG, high_GG = _differences(values_G, low_G, high_G)
        least, itself = -np.inf, -np.inf
    else:
        assert (values_G >= 0).all(), "ratios are of numbers that are not negative"
        low_GG, high_GG = _ratios(values_G, np.maximum(low_G, 0.0), high_G)
        least, itself = 0.0, np.inf
    low_GG, high_GG = (
        np.where(np.isnan(low_GG), least, low_GG),
        np.where(np.isnan(high_GG), np.inf, high_GG),
    )
    # A group against itself is no pair: out of the way of the greatest difference and of the least ratio.
    np.fill_diagonal(low_GG, itself)
    np.fill_diagonal(high_GG, itself)
    return low_GG, high_GG


def _differences(values_G: Array, low_G: Array, high_G: Array) -> tuple[Array, Array]:
    """Return the square-and-add limits of p_g − p_h."""
    differences_GG = values_G[:, None] - values_G[None, :]
    below_G, above_G = values_G - low_G, high_G - values_G
    return (
        differences_GG - np.hypot(below_G[:, None], above_G[None, :]),
        differences_GG + np.hypot(above_G[:, None], below_G[None, :]),
    )


def _ratios(values_G: Array, low_G: Array, high_G: Array) -> tuple[Array, Array]:
    """Return the MOVER-R limits of p_g ÷ p_h: those R at which a square-and-add limit of p_g − R·p_h is 0."""
    b_GG = values_G[:, None] * values_G[None, :]
    below_G, above_G = low_G * (2 * values_G - low_G), high_G * (2 * values_G - high_G)
    with np.errstate(divide="ignore", invalid="ignore"):
        root_GG = np.sqrt(b_GG**2 - below_G[:, None] * above_G[None, :])
        low_GG = np.where(below_G[:, None] == 0, 0.0, below_G[:, None] / (b_GG + root_GG))
        root_GG = np.sqrt(b_GG**2 - above_G[:, None] * below_G[None, :])
        high_GG = np.where(below_G[None, :] == 0, np.inf, (b_GG + root_GG) / below_G[None, :])
    return low_GG, high_GG


def _may_be_widest(part: Part, tail: float) -> NDArray[np.bool_]:
    """Return which ordered pairs (G, G) may lie furthest apart; the one that does is missed at most at ``tail``.

    No group above g, and none below h, can be told from them.
    """
    low_GG, _ = _pairs(part, simultaneous_level(tail, len(part.values_G)), "difference")
    greatest_G, least_G = low_GG.max(axis=0) <= 0, low_GG.max(axis=1) <= 0
    found_GG: NDArray[np.bool_] = np.logical_and.outer(greatest_G, least_G)
    np.fill_diagonal(found_GG, val=False)
    return found_GG
