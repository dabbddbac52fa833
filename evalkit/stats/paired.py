"""The difference of two models on the same samples: interval, p-value and test, chosen by the measure's kind.

Theory. Both models answer the same samples, so only pairs that differ carry information; treating the two rates as
independent samples throws most of the precision away. Zeros and ones: Bonett and Price's interval, Tango's for
decisions, McNemar's mid-p (``discordant``). Means: paired t, with CR1 and t(C − 1) under clusters. Corpus measures:
bootstrap of the difference, the same weights for both models, and approximate randomisation: swap the models' answers
sample by sample, p = (hits + 1)/(R + 1).

**Source**: Miller 2024, arXiv 2411.00640 (paired and clustered differences of evals); Koehn 2004, EMNLP; Riezler &
Maxwell 2005, ACL workshop on evaluation measures.

**Deviation**: zeros and ones in clusters, and means of which fewer than 10 pairs differ, get t with two pairs added,
as Bonett and Price add them: differences of ± the largest difference seen, each a cluster of its own and weighted by
the square root of the mean cluster size m (the largest design effect is m). With m = 1 this is Bonett–Price. Plain
CR1 passes a candidate at the margin in up to 74 % instead of 5 % of runs when hardly a pair differs: its standard
error is then 0. Where no pair differs at all, bounded corpus measures get Tango's interval over their range, and
unbounded measures the point 0 under the name ``identical``, with a warning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evalkit.records.scorecard import Interval
from evalkit.stats.discordant import bonett_price_interval, mcnemar_mid_p, tango_interval
from evalkit.stats.estimate import UNIT_BOUNDS, Aggregate, bounds_of, real_clusters
from evalkit.stats.intervals import (
    FEW_CLUSTERS,
    FEW_EVENTS,
    FEW_SAMPLES,
    Array,
    Codes,
    standard_error,
    t_quantile,
)
from evalkit.stats.resampling import (
    FromSums,
    Resampled,
    UnitSums,
    bootstrap_intervals,
    bootstrap_sums,
)

LEVELS = (0.80, 0.90, 0.95, 0.98, 0.99)
"""Two-sided levels of every difference: one-sided tests at .10, .05, .025, .01 and .005 read them."""


@dataclass(frozen=True, slots=True)
class Paired:
    """Candidate minus baseline on the same samples."""

    candidate: float
    """Candidate's value."""
    baseline: float
    """Baseline's value."""
    difference: float
    """Candidate − baseline."""
    interval: Interval | None
    """To be shown, at the level asked for; None where it cannot be estimated."""
    intervals: tuple[Interval, ...]
    """For one-sided decisions, one per level in ``LEVELS``; empty where none can be estimated."""
    p_value: float | None
    """Two-sided, of no difference."""
    test: str
    """The test behind the p-value; empty where there is none."""
    warnings: tuple[str, ...]
    """Why the intervals are not to be trusted blindly, in words."""


def paired_difference(
    measure: Aggregate,
    candidate_NK: Array,
    baseline_NK: Array,
    level: float,
    *,
    binary: bool,
    clusters_N: Codes | None = None,
    resampled: Resampled | None = None,
    rng: np.random.Generator | None = None,
) -> Paired | None:
    """Return the difference of two models on N paired samples; None where either has no value.

    ``level`` is that of the interval to be shown. ``binary`` says that a rate's statistics are zeros and ones for both.
    A corpus measure needs ``resampled``, both models' statistics side by side under the task's resampler, and ``rng``,
    from which the swaps of its randomisation test are drawn.
    """
    n = len(candidate_NK)
    if n == 0:
        return None
    clusters_N, clusters = real_clusters(clusters_N)
    warnings = _warnings(candidate_NK, baseline_NK, measure, clusters)
    if measure.kind == "corpus":
        assert resampled is not None and rng is not None, "a corpus measure is resampled"
        return _corpus(measure, resampled, level, rng, warnings)
    candidate_N, baseline_N = candidate_NK[:, measure.column], baseline_NK[:, measure.column]
    differences_N = candidate_N - baseline_N
    found = float(candidate_N.mean()), float(baseline_N.mean()), float(differences_N.mean())
    if measure.kind == "rate" and binary and clusters_N is None:
        gained, lost = int((differences_N > 0).sum()), int((differences_N < 0).sum())
        shown = bonett_price_interval(gained, lost, n, level)
        for_decisions = tuple(tango_interval(gained, lost, n, held) for held in LEVELS)
        p_value = mcnemar_mid_p(gained, lost)
        return Paired(*found, shown, for_decisions, p_value, "mcnemar mid-p", warnings)
    bounds = bounds_of(measure.unit, np.concatenate([candidate_N, baseline_N]))
    span = None if bounds is None else bounds[1] - bounds[0]
    few = int(np.count_nonzero(differences_N)) < FEW_EVENTS
    adjust = few or (measure.kind == "rate" and binary)
    made, p_value_t, test = _t(differences_N, clusters_N, (level, *LEVELS), span, adjust=adjust)
    return Paired(*found, made[0] if made else None, made[1:], p_value_t, test, warnings)


def _t(
    differences_N: Array,
    clusters_N: Codes | None,
    levels: Sequence[float],
    span: float | None,
    *,
    adjust: bool,
) -> tuple[tuple[Interval, ...], float | None, str]:
    spread = standard_error(differences_N, clusters_N)
    if spread is None:
        return (), None, ""
    centre, (error, df) = float(differences_N.mean()), spread
    if span is None and not differences_N.any():
        return _points(levels), 1.0, ""
    if adjust:
        largest = float(np.abs(differences_N).max()) or span or 0.0
        centre, error = _with_two_pairs(differences_N, clusters_N, largest, df + 1)
    if error <= 0:
        return (), None, ""
    from scipy.special import stdtr

    p_value = float(2 * stdtr(df, -abs(centre) / error))
    method = ("adjusted-" if adjust else "") + ("t" if clusters_N is None else "cr1-t")
    intervals = []
    for level in levels:
        half = t_quantile(level, df) * error
        low, high = centre - half, centre + half
        if span is not None:
            low, high = max(low, -span), min(high, span)
        intervals.append(Interval(low=low, high=high, level=level, method=method))
    test = "paired t" if clusters_N is None else "clustered paired t"
    return tuple(intervals), p_value, test


def _with_two_pairs(
    differences_N: Array, clusters_N: Codes | None, largest: float, clusters: int
) -> tuple[float, float]:
    """Return mean and standard error after adding ± ``largest``, each a cluster with weight √(mean cluster size)."""
    n = len(differences_N)
    weight = 1.0 if clusters_N is None else np.sqrt(n / clusters)
    total = n + 2 * weight
    mean = float(differences_N.sum()) / total
    residuals_N = differences_N - mean
    sums_C = residuals_N if clusters_N is None else np.bincount(clusters_N, weights=residuals_N)
    added = weight * np.array([largest - mean, -largest - mean])
    groups = clusters + 2
    error = np.sqrt(groups / (groups - 1) * (sums_C @ sums_C + added @ added)) / total
    return mean, float(error)


def _corpus(
    measure: Aggregate,
    resampled: Resampled,
    level: float,
    rng: np.random.Generator,
    warnings: tuple[str, ...],
) -> Paired | None:
    sums = resampled.sums
    half = sums.sums_UK.shape[1] // 2

    def difference(sums_XK: Array, n_X: Array) -> Array:
        return measure.from_sums(sums_XK[..., :half], n_X) - measure.from_sums(
            sums_XK[..., half:], n_X
        )

    totals_K, n = sums.sums_UK.sum(axis=0), np.asarray(sums.n_U.sum())
    candidate = float(measure.from_sums(totals_K[:half], n))
    baseline = float(measure.from_sums(totals_K[half:], n))
    if not np.isfinite([candidate, baseline]).all():
        return None
    found = candidate, baseline, candidate - baseline
    levels = (level, *LEVELS)
    p_value: float | None = None
    made: tuple[Interval, ...] = ()
    if np.array_equal(sums.sums_UK[:, :half], sums.sums_UK[:, half:]):
        made, p_value = _of_equals(measure.unit, len(sums.units_U), levels), 1.0
    elif len(sums.units_U) > 1:
        values_B = difference(*resampled.drawn)
        made = bootstrap_intervals(values_B, found[2], sums.jackknife(difference), levels)
        p_value = randomisation_p(sums, difference, rng, len(values_B))
    test = "" if p_value is None else "approximate randomisation"
    return Paired(*found, made[0] if made else None, made[1:], p_value, test, warnings)


def _of_equals(unit: str, units: int, levels: Sequence[float]) -> tuple[Interval, ...]:
    """Return intervals of the difference of a corpus measure where no sample differs."""
    if units < 2:
        return ()
    bounds = UNIT_BOUNDS.get(unit)
    if bounds is None:
        return _points(levels)
    span = bounds[1] - bounds[0]
    made = [tango_interval(0, 0, units, level) for level in levels]
    return tuple(i.model_copy(update={"low": i.low * span, "high": i.high * span}) for i in made)


def randomisation_p(
    sums: UnitSums, difference: FromSums, rng: np.random.Generator, rounds: int
) -> float:
    """Return p = (hits + 1)/(rounds + 1): how often swapped answers differ at least as much as the models do.

    ``sums`` holds both models' statistics side by side; each unit is swapped or not by the toss of a coin. A swap that
    leaves the difference undefined counts as a hit.
    """
    half = sums.sums_UK.shape[1] // 2
    totals_K, n = sums.sums_UK.sum(axis=0), sums.n_U.sum()
    seen = abs(float(difference(totals_K, np.asarray(n))))
    swaps_RU = rng.integers(0, 2, size=(rounds, len(sums.units_U)), dtype=np.int8)
    moved_RK = bootstrap_sums(swaps_RU, sums.sums_UK[:, half:] - sums.sums_UK[:, :half])
    swapped_RK = totals_K + np.hstack([moved_RK, -moved_RK])
    apart_R = np.abs(difference(swapped_RK, np.full(rounds, n)))
    hits = int((~(apart_R < seen * (1 - 1e-12))).sum())
    return (hits + 1) / (rounds + 1)


def _points(levels: Sequence[float]) -> tuple[Interval, ...]:
    return tuple(Interval(low=0.0, high=0.0, level=level, method="identical") for level in levels)


def _warnings(
    candidate_NK: Array, baseline_NK: Array, measure: Aggregate, clusters: int | None
) -> tuple[str, ...]:
    columns = slice(None) if measure.kind == "corpus" else [measure.column]
    n = len(candidate_NK)
    differing = int((candidate_NK[:, columns] != baseline_NK[:, columns]).any(axis=1).sum())
    found = []
    if n < FEW_SAMPLES:
        found.append(
            f"only {n:,} pair{'s' if n > 1 else ''}; below {FEW_SAMPLES} the interval is rough"
        )
    if differing == 0:
        found.append(f"candidate and baseline score the same on all {n:,} pairs")
    elif differing < FEW_EVENTS:
        found.append(
            f"only {differing} of {n:,} pairs differ; with fewer than {FEW_EVENTS} the interval is approximate"
        )
    if clusters is not None and clusters < 2:
        found.append(f"all {n:,} pairs belong to one cluster: no interval can be given")
    elif clusters is not None and clusters < FEW_CLUSTERS:
        found.append(
            f"only {clusters} clusters; below {FEW_CLUSTERS} the interval is somewhat too narrow"
        )
    return tuple(found)
