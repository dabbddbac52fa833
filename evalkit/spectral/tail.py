"""The power-law exponent alpha of a spectrum's tail: by Clauset's rule, and of a tail of fixed size.

Theory. Above a smallest value xmin, p(λ) ∝ λ^−α has the maximum-likelihood exponent α = 1 + n / Σ ln(λⱼ / xmin) over
the n eigenvalues from xmin on. Clauset's rule tries each eigenvalue but the largest as xmin and takes the one whose
tail lies nearest to its own fit: least D = max |1 − (λⱼ / xmin)^(1 − α) − j/n|, j = 0 … n − 1. So xmin jumps between
far-off places when the spectrum hardly changes: an int8 round trip moves this alpha by up to 6, that of a tail of
fixed size (``hill_alpha``) by 0.002. The first compares with published tables, the second two models.

The search is exact without trying them all. One j bounds every D from below; where a tail was evaluated in full, the j
of its largest deviation is a bound that its neighbours hardly stay under. Evaluating the tail with the least bound next
and striking those whose bound exceeds the least D found leaves some 5–20 tails out of thousands.

**Source**: Clauset, Shalizi & Newman 2009, SIAM Rev. 51, 661, sections 3.1 and 3.3 (``plfit.m``); WeightWatcher 0.7.7
(``compatible``); Hill 1975, Ann. Stat. 3, 1163; Zhou et al. 2023, arXiv 2312.00359 (the upper half).

**Deviation**: what cannot be fitted is a status with words; WeightWatcher reports −1, which its warnings take for
over-trained and its summaries average. Eigenvalues count from M·ε·λ_max on, not from 1e-5, which is most of a
fine-tune's update; fits need 50 of them, and a chosen tail of fewer than 10 is no exponent. ``compatible`` keeps
WeightWatcher's floor, its lack of a least tail, and its routine for fewer than 20 eigenvalues with the choice of xmin
by least D that overwrites that routine's own. There too a tail of equal eigenvalues, whose exponent would be infinite,
is no candidate.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evalkit.records.weights import Fitted

Array = NDArray[np.float64]

FEWEST_EIGENVALUES = 50
"""Below this there is no fit: 16 eigenvalues of noise give any alpha between 3.4 and 4.7."""
FEWEST_COMPATIBLE = 20
"""Below this WeightWatcher takes its routine for few eigenvalues."""
SMALLEST_FEW = 8
"""Eigenvalues that a tail needs in that routine."""
COMPATIBLE_FLOOR = 1e-5
"""WeightWatcher's floor of eigenvalues."""
ROUNDING = 1e-13
"""Distances so close may be one: tails whose bound is so little above the least distance are evaluated."""


@dataclass(frozen=True, slots=True)
class TailFit:
    """A power law fitted to the largest eigenvalues, or the reason why there is none."""

    alpha: float | None = None
    """Exponent of the density; None without a fit."""
    xmin: float | None = None
    """Smallest eigenvalue of the tail."""
    xmax: float | None = None
    """Largest eigenvalue."""
    distance: float | None = None
    """Kolmogorov–Smirnov distance of tail and fit, 0–1."""
    tail: int = 0
    """Eigenvalues from xmin on."""
    sigma: float | None = None
    """Asymptotic standard error of alpha; it ignores the choice of xmin."""
    kept: int = 0
    """Eigenvalues above the floor, which are all that the fit saw: the largest ``kept`` ones."""
    status: Literal["ok", "insufficient", "degenerate", "failed"] = "ok"
    """Why there is no fit."""
    note: str = ""
    """The status in words."""


@dataclass(frozen=True, slots=True)
class NearestTail:
    """The tail nearest to a power law among ascending values."""

    start: int
    """Place of its smallest value."""
    rate: float
    """alpha − 1."""
    distance: float
    """Kolmogorov–Smirnov distance of tail and fit."""


def fit_tail(
    lambda_M: NDArray[Any], *, compatible: bool = False, minimum_tail: int = 10
) -> TailFit:
    """Return the power law fitted to ascending eigenvalues by Clauset's rule; without one, a status and words.

    ``minimum_tail`` is the least size of a tail that gives an exponent; it does not steer the choice of xmin.
    ``compatible`` gives WeightWatcher 0.7.7's numbers. Multiplying the eigenvalues leaves alpha as it is (but for
    WeightWatcher's absolute floor).
    """
    lambda_M = np.asarray(lambda_M, dtype=np.float64)
    unusable = _unusable(lambda_M)
    if unusable is not None:
        return unusable
    largest = float(lambda_M[-1])
    floor = COMPATIBLE_FLOOR if compatible else _floor(lambda_M)
    kept_N = lambda_M[np.searchsorted(lambda_M, floor, side="right") :]
    n, few = len(kept_N), compatible and len(kept_N) < FEWEST_COMPATIBLE
    fewest = 2 if compatible else FEWEST_EIGENVALUES
    if n < fewest:
        note = f"{n} of {len(lambda_M)} eigenvalues above {floor:.3g}; a fit needs {fewest}"
        return TailFit(kept=n, status="insufficient", note=note)
    if few:
        found = nearest_tail(
            np.log(kept_N / largest), least=min(SMALLEST_FEW, n), lost=1, ties=True
        )
    else:
        found = nearest_tail(np.log(kept_N / largest), ties=compatible)
    if found is None:
        note = f"all {n} eigenvalues above the floor are equal"
        return TailFit(kept=n, status="degenerate", note=note)
    xmin = float(kept_N[found.start])
    tail = n - int(np.searchsorted(kept_N, xmin))
    if tail < minimum_tail and not compatible:
        note = f"the rule chose a tail of {tail} eigenvalues; an exponent needs {minimum_tail}"
        return TailFit(kept=n, status="insufficient", note=note)
    return TailFit(
        alpha=1 + found.rate,
        xmin=xmin,
        xmax=largest,
        distance=found.distance,
        tail=tail,
        sigma=found.rate / sqrt(n - found.start),
        kept=n,
    )


def hill_alpha(lambda_M: NDArray[Any], k: int | None = None) -> Fitted:
    """Return Hill's exponent of the k largest eigenvalues, by default half of them: 1 + k / Σ ln(λⱼ / λ_(k+1)).

    λ_(k+1) is the largest eigenvalue that is not among them. The exponent is computed and not estimated, so it has no
    interval: two models differ by the difference of their numbers.

    >>> hill_alpha(np.exp(np.arange(6.0))).value  # 1 + 3 / (1 + 2 + 3)
    1.5
    """
    lambda_M = np.asarray(lambda_M, dtype=np.float64)
    unusable = _unusable(lambda_M)
    if unusable is not None:
        return Fitted(None, status=unusable.status, note=unusable.note)
    count = len(lambda_M)
    k = count // 2 if k is None else k
    if not 2 <= k < count:
        note = f"{k} of {count} eigenvalues are no tail"
        return Fitted(None, status="insufficient", note=note)
    under = lambda_M[-k - 1]
    if under <= _floor(lambda_M):
        note = f"no more than {k} of {count} eigenvalues are above 0 but for rounding"
        return Fitted(None, status="degenerate", note=note)
    total = float(np.log(lambda_M[-k:] / under).sum())
    if total <= 0:
        note = f"the {k + 1} largest eigenvalues are equal"
        return Fitted(None, status="degenerate", note=note)
    return Fitted(1 + k / total)


def _floor(lambda_M: Array) -> float:
    """Return what an eigenvalue of 0 may be by rounding."""
    return len(lambda_M) * float(np.finfo(np.float64).eps) * float(lambda_M[-1])


def _unusable(lambda_M: Array) -> TailFit | None:
    """Return the status of eigenvalues that no exponent can be had of; None for others."""
    if len(lambda_M) == 0:
        return TailFit(status="insufficient", note="there are no eigenvalues")
    wrong = len(lambda_M) - int(np.count_nonzero(np.isfinite(lambda_M)))
    if wrong:
        note = f"{wrong} of {len(lambda_M)} eigenvalues are NaN or infinite"
        return TailFit(status="failed", note=note)
    if lambda_M[-1] <= 0:
        return TailFit(status="degenerate", note="all eigenvalues are 0")
    return None


def nearest_tail(
    log_N: Array, *, least: int = 2, lost: int = 0, ties: bool = False
) -> NearestTail | None:
    """Return the tail of least distance D among N ascending logarithms; None if no tail has unequal values.

    ``least`` is the size of the smallest tail tried and ``lost`` what is taken off n in alpha = 1 + (n − lost) / Σ.
    Equal values begin one tail, as in ``plfit.m``, unless ``ties`` lets each begin one. Of tails at the same distance
    the longest is taken.
    """
    count = len(log_N)
    size_N = np.arange(count, 0, -1.0)
    step_N = np.diff(log_N)
    # Σ ln(xⱼ / xᵢ) from the steps between neighbours: no term is negative, so nothing cancels.
    total_N = np.cumsum((size_N[1:] * step_N)[::-1])[::-1][: max(count - least + 1, 0)]
    usable_N = total_N > 0
    if not ties:
        usable_N[1:] &= step_N[: len(usable_N) - 1] > 0
    start_A = np.flatnonzero(usable_N)
    if len(start_A) == 0:
        return None
    # A: tails that may be the nearest. Rows: place, logarithm of xmin, size, rate, bound of the distance.
    size_A = size_N[start_A]
    rate_A = (size_A - lost) / total_N[start_A]
    open_A = np.stack([start_A, log_N[start_A], size_A, rate_A, np.zeros(len(start_A))])

    def cut(place: int) -> None:
        """Raise the bounds of tails that begin below a place to their deviation there."""
        below = np.searchsorted(open_A[0], place)
        start, log, size, rate, bound = open_A[:, :below]
        deviation = np.exp(rate * (log - log_N[place]))
        deviation += (place - start) / size
        deviation -= 1
        np.maximum(bound, np.abs(deviation, out=deviation), out=bound)

    for power in range(1, 8):  # places at shares 1/3, 1/9 … of the sample, from the top
        if count >= 2 * 3**power:
            cut(count - count // 3**power)
    best = NearestTail(0, 0.0, np.inf)
    place_N = np.arange(count, dtype=np.float64)
    while open_A.shape[1]:
        nearest = int(open_A[4].argmin())
        if open_A[4, nearest] > best.distance + ROUNDING:
            break
        first, rate = int(open_A[0, nearest]), float(open_A[3, nearest])
        deviation = np.exp(rate * (log_N[first] - log_N[first:]))
        deviation += place_N[: count - first] / (count - first)
        deviation -= 1
        np.abs(deviation, out=deviation)
        widest = int(deviation.argmax())
        distance = float(deviation[widest])
        if (distance, first) < (best.distance, best.start):
            best = NearestTail(first, rate, distance)
        cut(first + widest)
        open_A[4, nearest] = np.inf
        keep_A = open_A[4] <= best.distance + ROUNDING
        if keep_A.sum() < 0.8 * len(keep_A):
            open_A = open_A[:, keep_A]
    return best
