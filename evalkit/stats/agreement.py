"""How far raters agree: a judge with people, people with one another.

Each coefficient is a function of sums over rated units (confusion tables, coincidences), so its interval comes from the
same bootstrap of units as any corpus measure's. Ratings are codes 0 … V − 1 of V categories, −1 where there is none.

- ``cohen_kappa`` (p_o − p_e)/(1 − p_e), p_e from both raters' own marginals. Where nearly all units get one category
  it is low however well raters agree (the kappa paradox), so ``gwet_ac1`` stands beside it: p_e = Σ q(1 − q)/(V − 1)
  with q the mean of the marginals.
- ``fleiss_kappa`` for the same number of ratings of every unit, by whomever.
- ``krippendorff_alpha`` 1 − D_o/D_e for any number of raters, missing ratings and any level of measurement.

**Source**: Cohen 1960, Educ. Psychol. Meas. 20, 37; Gwet 2008, Br. J. Math. Stat. Psychol. 61, 29; Fleiss 1971,
Psychol. Bull. 76, 378; Krippendorff 2011, Computing Krippendorff's alpha-reliability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from evalkit.records.scorecard import Interval
from evalkit.stats.intervals import Array, Codes, wilson_interval
from evalkit.stats.resampling import FromSums, Resampled, Resampler, bootstrap_intervals

Measurement = Literal["nominal", "ordinal", "interval", "ratio"]


@dataclass(frozen=True, slots=True)
class Agreement:
    """A coefficient on a set of units."""

    value: float | None
    """The coefficient; None where it is undefined (all ratings alike)."""
    interval: Interval | None
    """By bootstrap of units; None where no spread is seen or resamples are undefined."""
    units: int
    """Units with at least two ratings."""


def confusion_stats(first_N: Codes, second_N: Codes, categories: int) -> Array:
    """Return (M, V²): a one in the cell of both raters' categories, for the M units that both rated."""
    both_N = (first_N >= 0) & (second_N >= 0)
    cell_M = first_N[both_N] * categories + second_N[both_N]
    stats = np.zeros((len(cell_M), categories**2))
    stats[np.arange(len(cell_M)), cell_M] = 1.0
    return stats


def coincidence_stats(ratings_NR: Codes, categories: int) -> Array:
    """Return (M, V²): each unit's coincidences, pairs of ratings by different raters divided by (ratings − 1)."""
    counts_NV = _counts(ratings_NR, categories)
    counts_MV = counts_NV[counts_NV.sum(axis=1) > 1]
    pairs_MVV = counts_MV[:, :, None] * counts_MV[:, None, :]
    diagonal = np.arange(categories)
    pairs_MVV[:, diagonal, diagonal] -= counts_MV
    pairs_MVV /= (counts_MV.sum(axis=1) - 1)[:, None, None]
    stats: Array = pairs_MVV.reshape(len(counts_MV), categories**2)
    return stats


def rating_stats(ratings_NR: Codes, categories: int) -> Array:
    """Return (M, V + 1): each unit's ratings by category, and its share of agreeing pairs.

    Raises ValueError unless every unit has the same number of ratings, at least two.
    """
    counts_NV = _counts(ratings_NR, categories)
    sizes = set(counts_NV.sum(axis=1).tolist())
    if len(sizes) > 1 or min(sizes, default=2) < 2:
        raise ValueError("Fleiss' kappa needs the same number of ratings of every unit, at least 2")
    (raters,) = sizes or {2.0}
    agreeing = (counts_NV * (counts_NV - 1)).sum(axis=1) / (raters * (raters - 1))
    return np.column_stack([counts_NV, agreeing])


def observed_agreement(sums_XK: Array, n_X: Array) -> Array:
    """Return the share of units on which both raters agree, from sums of ``confusion_stats``."""
    table_XVV = _square(sums_XK)
    return _ratio(np.trace(table_XVV, axis1=-2, axis2=-1), table_XVV.sum(axis=(-2, -1)))


def cohen_kappa(sums_XK: Array, n_X: Array) -> Array:
    """Return Cohen's kappa from sums of ``confusion_stats``; NaN where chance agreement is certain."""
    shares_XVV = _shares(sums_XK)
    chance = (shares_XVV.sum(axis=-1) * shares_XVV.sum(axis=-2)).sum(axis=-1)
    return _beyond(np.trace(shares_XVV, axis1=-2, axis2=-1), chance)


def gwet_ac1(sums_XK: Array, n_X: Array) -> Array:
    """Return Gwet's AC1 from sums of ``confusion_stats``."""
    shares_XVV = _shares(sums_XK)
    mean_XV = (shares_XVV.sum(axis=-1) + shares_XVV.sum(axis=-2)) / 2
    chance = (mean_XV * (1 - mean_XV)).sum(axis=-1) / (mean_XV.shape[-1] - 1)
    return _beyond(np.trace(shares_XVV, axis1=-2, axis2=-1), chance)


def fleiss_kappa(sums_XK: Array, n_X: Array) -> Array:
    """Return Fleiss' kappa from sums of ``rating_stats``."""
    counts_XV = sums_XK[..., :-1]
    shares_XV = _ratio(counts_XV, counts_XV.sum(axis=-1, keepdims=True))
    return _beyond(_ratio(sums_XK[..., -1], n_X), (shares_XV**2).sum(axis=-1))


def krippendorff_alpha(measurement: Measurement, values_V: Sequence[float]) -> FromSums:
    """Return Krippendorff's alpha as a function of sums of ``coincidence_stats``.

    ``values_V`` are what the categories stand for, ascending; ``nominal`` and ``ordinal`` read their order alone. Ratio
    values must not be negative.
    """
    values = np.asarray(values_V, dtype=np.float64)

    def from_sums(sums_XK: Array, n_X: Array) -> Array:
        pairs_XVV = _square(sums_XK)
        marginal_XV = pairs_XVV.sum(axis=-1)
        total_X = marginal_XV.sum(axis=-1)
        distance_XVV = _distances(measurement, values, marginal_XV)
        observed = (pairs_XVV * distance_XVV).sum(axis=(-2, -1))
        by_chance = marginal_XV[..., :, None] * marginal_XV[..., None, :]
        expected = (by_chance * distance_XVV).sum(axis=(-2, -1))
        return 1 - _ratio(observed * (total_X - 1), expected)

    return from_sums


def _distances(measurement: Measurement, values_V: Array, marginal_XV: Array) -> Array:
    """Return the squared distance of each two categories."""
    if measurement == "nominal":
        return 1.0 - np.eye(len(values_V))
    if measurement == "ordinal":
        below_XV = np.cumsum(marginal_XV, axis=-1)
        middle_XV = below_XV - marginal_XV / 2
        return np.asarray((middle_XV[..., :, None] - middle_XV[..., None, :]) ** 2)
    apart_VV = values_V[:, None] - values_V[None, :]
    if measurement == "interval":
        return np.asarray(apart_VV**2)
    # Of two zeros the ratio is 0/0; they are the same value.
    return np.asarray(np.nan_to_num(_ratio(apart_VV, values_V[:, None] + values_V[None, :])) ** 2)


def estimated(
    stats_NK: Array, from_sums: FromSums, level: float, rng: np.random.Generator
) -> Agreement:
    """Return a coefficient with its interval: BCa over resampled units, drawn from ``rng``.

    >>> table = np.repeat(np.eye(4), [20, 5, 10, 15], axis=0)  # both yes, yes/no, no/yes, both no
    >>> round(estimated(table, cohen_kappa, 0.95, np.random.default_rng(1)).value, 4)
    0.4
    """
    units = len(stats_NK)
    if units < 2:
        return Agreement(None, None, units)
    width = len(str(units))
    ids = [f"{n:0{width}}" for n in range(units)]
    resampled = Resampled(Resampler(ids, rng), stats_NK)
    value = resampled.sums.total(from_sums)
    if not np.isfinite(value):
        return Agreement(None, None, units)
    found = bootstrap_intervals(
        from_sums(*resampled.drawn), value, resampled.sums.jackknife(from_sums), (level,)
    )
    return Agreement(value, found[0] if found else None, units)


def or_worst(found: Agreement, sums_UK: Array, from_sums: FromSums, level: float) -> Agreement:
    """Return a coefficient with its worst case where all agree on each unit; as it is otherwise.

    Then resampling shows no spread. Its lower end is the coefficient that would be seen if as many of the U units as
    Wilson's interval for 0 of U allows were rated by the worst and the best rating. ``sums_UK`` are the coincidences or
    confusion tables of units, flat.
    """
    sums_K = sums_UK.sum(axis=0)
    side = round(len(sums_K) ** 0.5)
    total = float(sums_K.sum())
    alike = float(np.trace(sums_K.reshape(side, side)))
    agree = bool(len(sums_UK)) and total - alike < 1e-9 * total
    wilson = wilson_interval(0, len(sums_UK), level) if len(sums_UK) > 1 else None
    if found.value is None or not agree or side < 2 or wilson is None:
        return found
    apart_VV = np.zeros((side, side))
    apart_VV[0, -1] = apart_VV[-1, 0] = 0.5
    worst_K = (1 - wilson.high) * sums_K + wilson.high * total * apart_VV.ravel()
    low = float(from_sums(worst_K, np.asarray(float(len(sums_UK)))))
    interval = Interval(low=low, high=found.value, level=level, method="wilson, worst case")
    return replace(found, interval=interval)


def _counts(ratings_NR: Codes, categories: int) -> Array:
    return np.stack([(ratings_NR == v).sum(axis=1) for v in range(categories)], axis=1).astype(
        float
    )


def _square(sums_XK: Array) -> Array:
    side = round(sums_XK.shape[-1] ** 0.5)
    return sums_XK.reshape(*sums_XK.shape[:-1], side, side)


def _shares(sums_XK: Array) -> Array:
    table_XVV = _square(sums_XK)
    return _ratio(table_XVV, table_XVV.sum(axis=(-2, -1), keepdims=True))


def _beyond(observed_X: Array, chance_X: Array) -> Array:
    """Return agreement beyond chance; NaN where chance is certain."""
    return _ratio(observed_X - chance_X, 1 - chance_X)


def _ratio(numerator: Array, denominator: Array) -> Array:
    quotient = np.full(np.broadcast_shapes(np.shape(numerator), np.shape(denominator)), np.nan)
    np.divide(numerator, denominator, out=quotient, where=np.asarray(denominator) > 0)
    return quotient
