"""The difference of two models in a measure that is a function of sums (BLEU, macro F1, perplexity).

Theory. Each resample draws the same samples for both models, so the spread of the difference is that of pairs. The test
of no difference is approximate randomisation: if the models do not differ, swapping their answers sample by sample
changes nothing, so p = (hits + 1)/(R + 1) with a hit for each round of swaps that sets them at least as far apart.

**Source**: Koehn 2004, EMNLP (paired bootstrap); Riezler & Maxwell 2005, ACL workshop on evaluation measures
(approximate randomisation); Newcombe 1998, Stat. Med. 17, 873, method 10 (independent rates).

**Deviation**: where no sample differs the resamples show no spread, however few the samples. Then bounded measures get
Tango's interval over their range, and unbounded ones the point 0 under the name ``identical``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot

import numpy as np

from evalkit.records.scorecard import Interval, JointErrors
from evalkit.stats.discordant import tango_interval
from evalkit.stats.estimate import UNIT_BOUNDS, Aggregate
from evalkit.stats.intervals import Array, wilson_interval
from evalkit.stats.joint import resampled_errors
from evalkit.stats.resampling import (
    FEWEST_UNITS,
    FromSums,
    Resampled,
    UnitSums,
    bootstrap_intervals,
    bootstrap_sums,
    supported_levels,
)

TEST = "approximate randomisation"


@dataclass(frozen=True, slots=True)
class CorpusDifference:
    """Candidate minus baseline in a corpus measure."""

    candidate: float
    """Candidate's value."""
    baseline: float
    """Baseline's value."""
    interval: Interval | None = None
    """At the level asked for."""
    intervals: tuple[Interval, ...] = ()
    """At the levels for decisions that the resamples can tell."""
    p_value: float | None = None
    """Two-sided, of no difference."""
    errors: JointErrors | None = None
    """Joint errors of the two values."""


def corpus_values(measure: Aggregate, sums: UnitSums) -> tuple[float, float] | None:
    """Return both models' values; ``sums`` holds their statistics side by side. None where either has none."""
    half = sums.sums_UK.shape[1] // 2
    totals_K, n = sums.sums_UK.sum(axis=0), np.asarray(sums.n_U.sum())
    candidate = float(measure.from_sums(totals_K[:half], n))
    baseline = float(measure.from_sums(totals_K[half:], n))
    return (candidate, baseline) if np.isfinite([candidate, baseline]).all() else None


def corpus_difference(
    measure: Aggregate,
    resampled: Resampled,
    level: float,
    levels: Sequence[float],
    rng: np.random.Generator | None = None,
    *,
    units: int | None = None,
) -> CorpusDifference | None:
    """Return the difference of two models whose statistics ``resampled`` holds side by side; None without values.

    ``level`` is that of the interval to be shown, ``levels`` those for decisions; fewer than ``FEWEST_UNITS`` units
    decide nothing. Swaps are those of the task's resampler, or drawn from ``rng``. ``units`` says how many units hold
    anything that the measure is over, where these are not all.
    """
    sums = resampled.sums
    found = corpus_values(measure, sums)
    if found is None:
        return None
    units = len(sums.units_U) if units is None else units
    if units < 2:
        return CorpusDifference(*found)
    if units < FEWEST_UNITS:
        levels = ()
    half = sums.sums_UK.shape[1] // 2
    sums_BK, n_B = resampled.drawn
    candidate_B = measure.from_sums(sums_BK[:, :half], n_B)
    baseline_B = measure.from_sums(sums_BK[:, half:], n_B)
    if np.array_equal(sums.sums_UK[:, :half], sums.sums_UK[:, half:]):
        made = _of_equals(measure.unit, units, (level, *levels))
        added = _of_two_pairs(measure.unit, units)
        errors = resampled_errors(candidate_B, baseline_B, added=added)
        return CorpusDifference(*found, made[0], made[1:], 1.0, errors)

    def difference(sums_XK: Array, n_X: Array) -> Array:
        return measure.from_sums(sums_XK[..., :half], n_X) - measure.from_sums(
            sums_XK[..., half:], n_X
        )

    rounds = len(n_B)
    held = (level, *supported_levels(levels, rounds))
    made = bootstrap_intervals(
        candidate_B - baseline_B, found[0] - found[1], sums.jackknife(difference), held
    )
    moved_RK = resampled.swapped if rng is None else _swapped(sums, rng, rounds)
    p_value = randomisation_p(sums, difference, moved_RK)
    errors = resampled_errors(candidate_B, baseline_B)
    return CorpusDifference(*found, made[0] if made else None, made[1:], p_value, errors)


def randomisation_p(sums: UnitSums, difference: FromSums, moved_RK: Array) -> float:
    """Return p = (hits + 1)/(R + 1): how often swapped answers differ at least as much as the models do.

    ``sums`` holds both models' statistics side by side, ``moved_RK`` what each round of swaps adds to the first model's
    sums and takes from the second's. A round that leaves the difference undefined counts as a hit.
    """
    totals_K, n = sums.sums_UK.sum(axis=0), sums.n_U.sum()
    seen = abs(float(difference(totals_K, np.asarray(n))))
    rounds = len(moved_RK)
    swapped_RK = totals_K + np.hstack([moved_RK, -moved_RK])
    apart_R = np.abs(difference(swapped_RK, np.full(rounds, n)))
    hits = int((~(apart_R < seen * (1 - 1e-12))).sum())
    return (hits + 1) / (rounds + 1)


def newcombe_interval(ones: float, n: float, others: float, m: float, level: float) -> Interval:
    """Return Newcombe's interval of ones ÷ n − others ÷ m, two independent rates over n, m > 0.

    The distances of each rate from the ends of its Wilson interval, squared and added.

    >>> interval = newcombe_interval(56, 70, 48, 80, 0.95)
    >>> round(interval.low, 4), round(interval.high, 4)
    (0.0524, 0.3339)
    """
    one, other = wilson_interval(ones, n, level), wilson_interval(others, m, level)
    assert one is not None and other is not None, "each rate is over something"
    p, q = ones / n, others / m
    low = p - q - hypot(p - one.low, other.high - q)
    high = p - q + hypot(one.high - p, q - other.low)
    return Interval(low=low, high=high, level=level, method="newcombe")


def _swapped(sums: UnitSums, rng: np.random.Generator, rounds: int) -> Array:
    half = sums.sums_UK.shape[1] // 2
    swaps_RU = rng.integers(0, 2, size=(rounds, len(sums.units_U)), dtype=np.int8)
    return bootstrap_sums(swaps_RU, sums.sums_UK[:, half:] - sums.sums_UK[:, :half])


def _of_equals(unit: str, units: int, levels: Sequence[float]) -> tuple[Interval, ...]:
    bounds = UNIT_BOUNDS.get(unit)
    if bounds is None:
        return identical_points(levels)
    span = bounds[1] - bounds[0]
    made = [tango_interval(0, 0, units, level) for level in levels]
    return tuple(i.model_copy(update={"low": i.low * span, "high": i.high * span}) for i in made)


def _of_two_pairs(unit: str, units: int) -> float:
    """Return the variance of a mean difference that is 0 but for two added pairs at the ends of a unit's range."""
    bounds = UNIT_BOUNDS.get(unit)
    return 0.0 if bounds is None else 2 * (bounds[1] - bounds[0]) ** 2 / (units + 1) / (units + 2)


def identical_points(levels: Sequence[float]) -> tuple[Interval, ...]:
    """Return the point 0 at each level, for unbounded values that are the same on every pair."""
    return tuple(Interval(low=0.0, high=0.0, level=level, method="identical") for level in levels)
