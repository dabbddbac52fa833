"""How far samples without a score could move a difference: the least and the greatest it could be.

Theory. A planned sample that a model has no score for has one nonetheless, somewhere between the ends of its range. Any
way to fill in all missing scores is a completion. What is told here are the least and greatest limits over all
completions, so a sample that loses its score only adds completions, and the case worst for a candidate never gets
better. Zeros and ones: Tango's limits grow with every score, so the least are those of the completion with all missing
scores at the end that makes the difference least. Betting likewise. The limits of a mean do not: an outlier in the
candidate's favour widens the interval, and without it the lower limit could rise. So the least lower limit is the least
mean less t times the greatest standard error, the least upper limit the least mean plus t times the least standard
error. Residual sums within a cluster lie in a known range; the standard errors are made of its far and near ends.

**Source**: Manski 2003, Partial Identification of Probability Distributions, chapter 1 (worst-case bounds for missing
outcomes); Horowitz & Manski 2000, JASA 95, 77 (limits over all completions).

**Deviation**: the range of a residual takes the cluster's sum and the mean apart, though they move together, so the
limits are somewhat wider than over the completions alone. Two pairs are added and Tango's interval is joined, as in
``paired``, if any completion would have it so; Tango's upper limit, which could only raise the least one, is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np

from evalkit.records.scorecard import Bounded, Interval
from evalkit.stats.discordant import tango_interval
from evalkit.stats.estimate import real_clusters
from evalkit.stats.intervals import FEW_EVENTS, Array, Bounds, Codes, t_quantile


def extreme_differences(
    candidate_N: Array,
    baseline_N: Array,
    ends: Bounds,
    levels: Sequence[float],
    *,
    binary: bool,
    clusters_N: Codes | None = None,
    anytime: bool = False,
) -> tuple[Bounded, Bounded]:
    """Return the least and the greatest difference of two means over N ≥ 1 planned samples, NaN where not scored.

    Every score lies between ``ends``. ``binary`` says that scores are zeros and ones; ``anytime`` that looking at them
    decided N. There are no intervals for one cluster, and for clusters under ``anytime``.
    """
    clusters_N, _ = real_clusters(clusters_N)
    low, high = ends
    least_N = _filled(candidate_N, low) - _filled(baseline_N, high)
    greatest_N = _filled(candidate_N, high) - _filled(baseline_N, low)

    def least(least_N: Array, greatest_N: Array) -> Bounded:
        difference = float(least_N.mean())
        if anytime:
            made = () if clusters_N is not None else _betting(least_N, high - low, levels)
        elif binary and clusters_N is None:
            gained, lost = int((least_N > 0).sum()), int((least_N < 0).sum())
            made = tuple(tango_interval(gained, lost, len(least_N), held) for held in levels)
        else:
            made = _least_t(least_N, greatest_N, clusters_N, high - low, levels, adjust=binary)
        return Bounded(difference=difference, intervals=made)

    return least(least_N, greatest_N), _mirrored(least(-greatest_N, -least_N))


def _filled(values_N: Array, end: float) -> Array:
    return np.where(np.isnan(values_N), end, values_N)


def _mirrored(bounded: Bounded) -> Bounded:
    # 0 − x rather than −x: no minus zero is to be shown.
    intervals = tuple(
        i.model_copy(update={"low": 0 - i.high, "high": 0 - i.low}) for i in bounded.intervals
    )
    return Bounded(difference=0 - bounded.difference, intervals=intervals)


def _betting(values_N: Array, span: float, levels: Sequence[float]) -> tuple[Interval, ...]:
    from evalkit.stats.betting import betting_interval

    return tuple(betting_interval(values_N, level, (-span, span)) for level in levels)


def _least_t(
    least_N: Array,
    greatest_N: Array,
    clusters_N: Codes | None,
    span: float,
    levels: Sequence[float],
    *,
    adjust: bool,
) -> tuple[Interval, ...]:
    """Return the least limits of a mean; ``adjust`` says that two pairs are added whatever the scores are."""
    least_C, greatest_C, n_C = least_N, greatest_N, np.ones(len(least_N))
    if clusters_N is not None:
        sizes_C = np.bincount(clusters_N)
        present = np.flatnonzero(sizes_C)
        n_C = sizes_C[present].astype(np.float64)
        least_C, greatest_C = (
            np.bincount(clusters_N, weights=ends_N)[present].astype(np.float64)
            for ends_N in (least_N, greatest_N)
        )
    if len(n_C) < 2:
        return ()
    plain = _spread(least_C, greatest_C, n_C)
    surely = np.count_nonzero(least_N > 0) + np.count_nonzero(greatest_N < 0)
    possibly = np.count_nonzero((least_N != 0) | (greatest_N != 0))
    spreads, size = [], None
    if not adjust and possibly >= FEW_EVENTS:
        spreads.append(plain)
    if adjust or surely < FEW_EVENTS or plain[1] <= 0:
        straddles_N = (least_N <= 0) & (greatest_N >= 0)
        near_N = np.minimum(np.abs(least_N), np.abs(greatest_N))
        nearest = float(np.where(straddles_N, 0.0, near_N).max())
        farthest = float(np.maximum(np.abs(least_N), np.abs(greatest_N)).max())
        size = (nearest, farthest if nearest else span)
        spreads.append(_spread(least_C, greatest_C, n_C, size))
    method = "completed-t" if clusters_N is None else "completed-cr1-t"
    intervals = []
    for level in levels:
        t = t_quantile(level, len(n_C) - 1)
        low = min(mean - t * error for mean, _, error in spreads)
        if size is not None and clusters_N is None:
            low = min(low, _least_tango(least_N, size, level))
        high = min(mean + t * error for mean, error, _ in spreads)
        intervals.append(
            Interval(
                low=max(low, -span), high=max(min(high, span), -span), level=level, method=method
            )
        )
    return tuple(intervals)


def _least_tango(least_N: Array, size: Bounds, level: float) -> float:
    """Return the least of Tango's lower limit times the largest difference, whose ends are ``size``."""
    gained, lost = int((least_N > 0).sum()), int((least_N < 0).sum())
    counted = tango_interval(gained, lost, len(least_N), level).low
    return counted * (size[1] if counted < 0 else size[0])


def _spread(
    least_C: Array, greatest_C: Array, n_C: Array, added: Bounds | None = None
) -> tuple[float, float, float]:
    """Return the least mean, and the least and greatest standard error that a completion could have.

    ``least_C`` and ``greatest_C`` are the ends of sums over clusters of ``n_C`` samples; ``added`` the ends of the size
    of two added pairs' differences.
    """
    n, groups = float(n_C.sum()), len(n_C)
    weight = 0.0 if added is None else sqrt(n / groups)
    total, counted = n + 2 * weight, groups + (0 if added is None else 2)
    low, high = float(least_C.sum()) / total, float(greatest_C.sum()) / total
    down_C, up_C = least_C - n_C * high, greatest_C - n_C * low
    far_C = np.maximum(np.abs(down_C), np.abs(up_C))
    near_C = np.where((down_C <= 0) & (up_C >= 0), 0.0, np.minimum(np.abs(down_C), np.abs(up_C)))
    nearest, farthest = float(np.square(near_C).sum()), float(np.square(far_C).sum())
    if added is not None:  # residuals of ± size from the mean: 2·(size² + mean²)
        closest = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
        nearest += 2 * weight**2 * (added[0] ** 2 + closest**2)
        farthest += 2 * weight**2 * (added[1] ** 2 + max(abs(low), abs(high)) ** 2)
    scale = counted / (counted - 1)
    return low, sqrt(scale * nearest) / total, sqrt(scale * farthest) / total
