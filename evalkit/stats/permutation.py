"""What a gap between groups would be by chance alone: its expectation and p-value under equality, and its bias.

Theory. Under the hypothesis that groups make no difference, their labels can be exchanged between samples
(``arrangements``), and the gap seen is one of equally likely gaps. Its p-value, the share of arrangements with a gap at
least as wide, holds at any size for any measure; drawn at random B times, (hits + 1)/(B + 1) does (Phipson & Smyth).
The hypothesis is that whole distributions are equal. Groups that are equal in their means but not in their spread, or
in the sizes of their clusters, may be refuted more often than said where sizes are unequal too; the limits of pairs
(``gaps``), which a gap must pass besides, take each group's own spread.

Labels move among the samples that a measure is over: of a true-positive rate those whose label is positive. Measures
over different samples (true- and false-positive rates) move theirs independently; under clusters, which both share,
they move together.

**Source**: Fisher 1935, The Design of Experiments; Phipson & Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9, 39;
Good 2005; Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 10 (estimate of bias).

**Deviation**: arrangements in which a group has no value (a ratio without a denominator) count as hits, and not into
the expectation. Cells of one cluster in different groups are resampled apart when the bias is estimated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from evalkit.stats.exchangeable import Exchangeable, exchangeable
from evalkit.stats.gaps import Form, Joined, join, spread
from evalkit.stats.intervals import Array, Codes
from evalkit.stats.resampling import FEWEST_DEFINED, FromSums

MOST_JOINT_TABLES = 1_000_000
"""Most combinations of several measures' gaps that are counted one by one."""
ROUNDING = 1e-9
"""Gaps that differ by less are the same gap."""


@dataclass(frozen=True, slots=True)
class Grouped:
    """The M samples that a measure is over, in G ≥ 2 groups."""

    stats_MK: Array
    """Their statistics. Of a rate or mean the one column it averages is enough, and what makes it exact."""
    codes_M: Codes
    """Each sample's group, 0 … G − 1; every group has a sample."""
    from_sums: FromSums
    """The measure."""
    clusters_M: Codes | None = None
    """Each sample's cluster, numbered alike in all measures that are joined; None where samples stand alone."""


@dataclass(frozen=True, slots=True)
class GapNull:
    """What chance alone would show."""

    expected: float
    """Mean gap over the arrangements; NaN where none has a value."""
    p_value: float
    """Share of arrangements with a gap at least as wide as that observed."""
    exact: bool
    """Whether every arrangement was counted rather than drawn."""


def mean_from_sums(sums_XK: Array, n_X: Array) -> Array:
    """Return the mean of a single column: the measure of a rate or mean; NaN of no samples.

    >>> mean_from_sums(np.array([[3.0], [0.0]]), np.array([4.0, 0.0])).tolist()
    [0.75, nan]
    """
    quotient = np.full(np.broadcast_shapes(sums_XK.shape[:-1], np.shape(n_X)), np.nan)
    np.divide(sums_XK[..., 0], n_X, out=quotient, where=np.asarray(n_X) != 0)
    return quotient


def gap_under_equality(
    parts: Sequence[Grouped],
    observed: float,
    *,
    form: Form,
    joined: Joined,
    rng: np.random.Generator,
    draws: int = 2000,
) -> GapNull:
    """Return what a gap of the same samples is where their groups make no difference.

    ``observed`` is the gap of the groups as they are. Every arrangement is counted where the samples stand alone, are
    of two kinds and in few groups; else ``draws`` are drawn.
    """
    pools = _units(parts)
    counted = [pool.every_gap(form) for pool in pools]
    exact = [found for found in counted if found is not None]
    if len(exact) == len(pools) and np.prod([float(len(x)) for x, _ in exact]) <= MOST_JOINT_TABLES:
        gaps = [x.ravel() for x in np.meshgrid(*(x for x, _ in exact), indexing="ij")]
        odds_A = reduce(np.multiply.outer, [w for _, w in exact]).ravel()
        gaps_A = join(gaps, form, joined)
        hits_A = _as_wide(gaps_A, observed, form)
        p_value = min(1.0, float(odds_A[hits_A].sum()))
        return GapNull(_mean(gaps_A, odds_A), p_value, exact=True)
    values = [values_BG for pool in pools for values_BG in pool.exchanged(draws, rng)]
    gaps_B = join([spread(values_BG, form) for values_BG in values], form, joined)
    hits = int(np.count_nonzero(_as_wide(gaps_B, observed, form)))
    return GapNull(_mean(gaps_B, np.ones(draws)), (hits + 1) / (draws + 1), exact=False)


def corrected_gap(
    parts: Sequence[Grouped],
    observed: float,
    *,
    form: Form,
    joined: Joined,
    rng: np.random.Generator,
    draws: int = 1000,
) -> float | None:
    """Return the gap with its upward bias taken off: observed − (mean gap of resamples − observed).

    Samples (or clusters) are resampled within groups. Where groups differ by far more than chance, that is nearly all
    of the bias; where they are equal, resamples show √2 times the gap seen, and a share 2 − √2 = .59 of it is left. It
    is never beyond no gap: 0 of a difference, 1 of a ratio; nor is a ratio below 0. None where over a tenth of the
    resamples have no value.
    """
    values = [values_BG for pool in _units(parts) for values_BG in pool.resampled(draws, rng)]
    gaps_B = join([spread(values_BG, form) for values_BG in values], form, joined)
    if np.isfinite(gaps_B).mean() < FEWEST_DEFINED or not np.isfinite(observed):
        return None
    corrected = 2 * observed - _mean(gaps_B, np.ones(draws))
    return max(0.0, corrected) if form == "difference" else min(max(0.0, corrected), 1.0)


def _as_wide(gaps_A: Array, observed: float, form: Form) -> NDArray[np.bool_]:
    beyond_A = observed - gaps_A if form == "difference" else gaps_A - observed
    return np.asarray(~(beyond_A > ROUNDING * max(1.0, abs(observed))))


def _mean(gaps_A: Array, weights_A: Array) -> float:
    defined_A = np.isfinite(gaps_A)
    if not defined_A.any():
        return float("nan")
    return float(np.average(gaps_A[defined_A], weights=weights_A[defined_A]))


def _units(parts: Sequence[Grouped]) -> list[Exchangeable]:
    return exchangeable(
        [part.stats_MK for part in parts],
        [part.codes_M for part in parts],
        [part.from_sums for part in parts],
        [part.clusters_M for part in parts],
    )
