"""Which interval fits which measure: a value with its interval and warnings for one set of samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Protocol

import numpy as np

from evalkit.records.scorecard import Interval
from evalkit.stats.betting import betting_interval
from evalkit.stats.intervals import (
    Array,
    Bounds,
    Codes,
    Kind,
    bounded_interval,
    cluster_interval,
    t_interval,
    warnings_for,
    wilson_interval,
)
from evalkit.stats.resampling import (
    FEWEST_UNITS,
    FromSums,
    Resampled,
    UnitSums,
    bootstrap_intervals,
)

UNIT_BOUNDS: Mapping[str, Bounds] = MappingProxyType(
    {"fraction": (0.0, 1.0), "points": (0.0, 100.0), "signed fraction": (-1.0, 1.0)}
)
"""Units whose values lie between known ends, so that an interval can be given even where values show no spread."""

STOPPED = "the samples decided how many of them were asked"
"""Opens the reason why a value of a task that could stop early has no interval."""


class Aggregate(Protocol):
    """What is asked of a measure: its kind decides the interval."""

    @property
    def kind(self) -> Kind:
        """``rate``, ``mean`` or ``corpus``."""

    @property
    def column(self) -> int:
        """The statistic that a rate or mean averages."""

    @property
    def from_sums(self) -> FromSums:
        """The aggregate of sets of samples from their sums and sizes."""

    @property
    def unit(self) -> str:
        """``fraction``, ``points`` …"""

    @property
    def over(self) -> int:
        """The statistic that marks the samples a rate is over; -1 for all."""


@dataclass(frozen=True, slots=True)
class Estimated:
    """A measure's value on a set of samples."""

    value: float | None
    """None where the samples give none."""
    interval: Interval | None
    """None where it cannot be estimated."""
    warnings: tuple[str, ...]
    """Why the interval is not to be trusted blindly, in words."""
    n: int | None = None
    """Samples the value is over, where the measure is not over all of them."""


def estimate(
    measure: Aggregate,
    stats_NK: Array,
    *,
    level: float,
    binary: bool,
    clusters_N: Codes | None = None,
    resampled: Resampled | None = None,
    anytime: bool = False,
) -> Estimated:
    """Return the value of a measure on N samples with the interval its kind asks for.

    A rate over zeros and ones (``binary``) gets Wilson's interval; a rate over averaged replicates and a mean get t;
    both get CR1 with t(C − 1) where ``clusters_N`` (from ``cluster_codes``) are given, and stay within the unit's
    bounds. A corpus measure gets BCa or percentile intervals from ``resampled``, the same statistics under the task's
    resampler, which must be given for it.

    A rate ``over`` some of the samples (those whose label is positive, say) is a rate on those alone, in their order.
    Where there is none it is not estimable, never 0. Where averaged replicates make a sample belong in part (a positive
    predictive value is over what was selected), it is a ratio of sums, resampled as a corpus measure is; fewer than
    ``FEWEST_UNITS`` of what is resampled, or of its ones or zeros, then give no interval.

    ``anytime`` says that looking at the samples decided how many there are: rates and means within known bounds get an
    interval by betting, which holds at any look; for everything else there is none, and a warning says so.
    """
    n = len(stats_NK)
    if n == 0:
        return Estimated(None, None, ())
    if measure.over >= 0:
        rows_N = stats_NK[:, measure.over] > 0
        n = int(rows_N.sum())
        if n == 0:
            return Estimated(None, None, (not_estimable(len(stats_NK)),), 0)
        if in_part(stats_NK, measure.over):
            return replace(_in_part(measure, stats_NK, level, clusters_N, resampled, anytime), n=n)
        clusters_N = None if clusters_N is None else clusters_N[rows_N]
        made = _estimate(measure, stats_NK[rows_N], level, binary, clusters_N, resampled, anytime)
        return replace(made, n=n)
    return _estimate(measure, stats_NK, level, binary, clusters_N, resampled, anytime)


def not_estimable(n: int) -> str:
    """Return why a rate over some of n samples has no value."""
    return f"not estimable: it is over none of the {n:,} scored sample{'' if n == 1 else 's'}"


def in_part(stats_NK: Array, over: int) -> bool:
    """Return whether averaged replicates make any sample one that a rate is over in part."""
    return bool(((stats_NK[:, over] != 0) & (stats_NK[:, over] != 1)).any())


def holding(sums: UnitSums, column: int, but_not: int = -1) -> int:
    """Return how many units hold more of one statistic of zeros and ones than of another, or of nothing."""
    less_U = sums.sums_UK[:, but_not] if but_not >= 0 else 0.0
    return int(np.count_nonzero(sums.sums_UK[:, column] > less_U))


def _in_part(
    measure: Aggregate,
    stats_NK: Array,
    level: float,
    clusters_N: Codes | None,
    resampled: Resampled | None,
    anytime: bool,
) -> Estimated:
    if anytime:
        return _anytime_ratio(measure, stats_NK)
    assert resampled is not None, "a rate over parts of samples is resampled"
    rows_N = stats_NK[:, measure.over] > 0
    clusters = real_clusters(None if clusters_N is None else clusters_N[rows_N])[1]
    units = holding(resampled.sums, measure.over)
    found = _corpus(measure, int(rows_N.sum()), level, clusters, resampled, units)
    ones = holding(resampled.sums, measure.column)
    zeros = holding(resampled.sums, measure.over, but_not=measure.column)
    fewest = min(units, ones or units, zeros or units)
    if found.interval is None or fewest >= FEWEST_UNITS:
        return found
    why = f"it rests on only {fewest} of what is resampled; fewer than {FEWEST_UNITS} give no interval"
    return Estimated(found.value, None, (*found.warnings, why))


def _estimate(
    measure: Aggregate,
    stats_NK: Array,
    level: float,
    binary: bool,
    clusters_N: Codes | None,
    resampled: Resampled | None,
    anytime: bool,
) -> Estimated:
    n = len(stats_NK)
    clusters_N, clusters = real_clusters(clusters_N)
    if anytime:
        return _anytime(measure, stats_NK, level, clustered=clusters_N is not None)
    if measure.kind == "corpus":
        assert resampled is not None, "a corpus measure is resampled"
        return _corpus(measure, n, level, clusters, resampled)
    values_N = stats_NK[:, measure.column]
    value = float(values_N.mean())
    bounds = bounds_of(measure.unit, values_N)
    interval: Interval | None
    if clusters_N is not None:
        interval = cluster_interval(values_N, clusters_N, level, bounds)
    elif measure.kind == "rate" and binary:
        interval = wilson_interval(float(values_N.sum()), n, level)
    else:
        interval = t_interval(values_N, level, bounds)
    successes = float(values_N.sum()) if measure.kind == "rate" else None
    return Estimated(
        value, interval, warnings_for(measure.kind, n, successes=successes, clusters=clusters)
    )


def _anytime(measure: Aggregate, stats_NK: Array, level: float, *, clustered: bool) -> Estimated:
    if measure.kind == "corpus":
        return _anytime_ratio(measure, stats_NK)
    values_N = stats_NK[:, measure.column]
    value, bounds = float(values_N.mean()), bounds_of(measure.unit, values_N)
    if clustered:
        return Estimated(value, None, (f"{STOPPED}, and under clusters no interval holds then",))
    if bounds is None:
        return Estimated(
            value, None, (f"{STOPPED}, and without known bounds no interval holds then",)
        )
    return Estimated(value, betting_interval(values_N, level, bounds), ())


def _anytime_ratio(measure: Aggregate, stats_NK: Array) -> Estimated:
    value = float(measure.from_sums(stats_NK.sum(axis=0), np.asarray(float(len(stats_NK)))))
    if not np.isfinite(value):
        return Estimated(None, None, ())
    return Estimated(value, None, (f"{STOPPED}, and for a corpus measure no interval holds then",))


def _corpus(
    measure: Aggregate,
    n: int,
    level: float,
    clusters: int | None,
    resampled: Resampled,
    units: int | None = None,
) -> Estimated:
    """Return the estimate of a corpus measure; ``units`` says how many hold what it is over, where not all do."""
    sums = resampled.sums
    value = sums.total(measure.from_sums)
    if not np.isfinite(value):
        return Estimated(None, None, ())
    warnings = warnings_for("corpus", n, clusters=clusters)
    units = len(sums.units_U) if units is None else units
    if units < 2:
        return Estimated(value, None, warnings)
    values_B = measure.from_sums(*resampled.drawn)
    intervals = bootstrap_intervals(values_B, value, sums.jackknife(measure.from_sums), (level,))
    if intervals:
        return Estimated(value, intervals[0], warnings)
    if not np.isfinite(values_B).all():
        share = float(np.mean(~np.isfinite(values_B)))
        warnings += (f"{share:.0%} of the resamples have no value: no interval can be given",)
        return Estimated(value, None, warnings)
    interval = bounded_interval(value, units, level, UNIT_BOUNDS.get(measure.unit))
    if interval is None:
        warnings += ("every resample gives the same value: no interval can be given",)
    return Estimated(value, interval, warnings)


def real_clusters(clusters_N: Codes | None) -> tuple[Codes | None, int | None]:
    """Return the clusters and how many there are; (None, None) where each sample is one of its own."""
    if clusters_N is None:
        return None, None
    count = int(np.count_nonzero(np.bincount(clusters_N))) if len(clusters_N) else 0
    if count == len(clusters_N) and count > 1:
        return None, None
    return clusters_N, count


def bounds_of(unit: str, values_N: Array) -> Bounds | None:
    """Return the ends a unit sets to its values; None where it sets none or the values do not keep to them."""
    bounds = UNIT_BOUNDS.get(unit)
    if bounds is None or values_N.min() < bounds[0] or values_N.max() > bounds[1]:
        return None
    return bounds
