"""A coefficient on labelled items as a card's figure: its value, its interval, the items it rests on.

**Source**: BCa, Efron 1987; least squares by normal equations.
"""

from __future__ import annotations

import numpy as np

from evalkit.records.judging import CardFigure
from evalkit.stats.agreement import Agreement, estimated, or_worst
from evalkit.stats.intervals import Array
from evalkit.stats.resampling import FromSums

SINGULAR = 1e-12
"""Below this share of the variances' product two regressors are one."""


def figure(
    stats_NK: Array, from_sums: FromSums, level: float, rng: np.random.Generator, told: str = ""
) -> CardFigure:
    """Return a function of sums of N items' statistics, with its BCa interval by bootstrap of items."""
    return _figure(estimated(stats_NK, from_sums, level, rng), told)


def agreement(
    stats_NK: Array, from_sums: FromSums, level: float, rng: np.random.Generator, told: str = ""
) -> CardFigure:
    """Return a coefficient of agreement of N items' confusion or coincidence tables, its worst case where all agree."""
    found = estimated(stats_NK, from_sums, level, rng)
    return _figure(or_worst(found, stats_NK, from_sums, level), told)


def _figure(found: Agreement, told: str) -> CardFigure:
    return CardFigure(value=found.value, interval=found.interval, n=found.units, told=told)


def slope_stats(x_N: Array, y_N: Array, given_N: Array) -> Array:
    """Return (N, 8): what the sums of make ``slope``: x, y, z, x², xy, xz, z², zy with z = ``given_N``."""
    x, y, z = x_N, y_N, given_N
    return np.column_stack([x, y, z, x * x, x * y, x * z, z * z, z * y])


def slope(sums_XK: Array, n_X: Array) -> Array:
    """Return b of the least squares y = a + b·x + c·z from sums of ``slope_stats``; NaN where x does not vary beside z.

    Where z does not vary it is left out.
    """
    n = np.where(n_X > 0, n_X, np.nan)
    x, y, z, xx, xy, xz, zz, zy = (sums_XK[..., k] / n for k in range(8))
    xx, xy, xz, zz, zy = xx - x * x, xy - x * y, xz - x * z, zz - z * z, zy - z * y
    varies = zz > SINGULAR
    zz = np.where(varies, zz, 1.0)
    xz, zy = np.where(varies, xz, 0.0), np.where(varies, zy, 0.0)
    within = xx * zz - xz * xz
    alone = within > SINGULAR * np.maximum(xx * zz, 1e-300)
    return np.asarray(np.where(alone, (xy * zz - zy * xz) / np.where(alone, within, 1.0), np.nan))
