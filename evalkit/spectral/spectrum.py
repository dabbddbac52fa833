"""What one spectrum tells: sizes, ranks, entropy, what stands out of noise, and correlation traps.

Theory. λ are the M eigenvalues of WᵀW, M the smaller side and N the larger, p = λ / Σλ their shares; the singular
values are σ = √λ. Entropy is that of p, effective rank that of σ / Σσ, as for updates.

*Noise*: were W of independent entries of variance s², its eigenvalues would end at N s² (1 + √y)², y = M/N (Marchenko
and Pastur), the largest within a width that shrinks as M^(−2/3) (Tracy and Widom). Which s²? The mean of all λ / N is
moved by the very eigenvalues that stand out. So the median: s² = median(λ) / (N m(y)), m(y) the median of the law at
N s² = 1; half of the spectrum may be anything. For a matrix that is no noise at all it is that of noise with the same
median. ``spikes`` are eigenvalues above Johnstone's centring and scaling at the 99.9 % point of Tracy–Widom's law for
the largest. The median of few eigenvalues moves by itself: of square noise, 1 % of matrices of 64 have one and 0.6 % of
those of 128. *Correlation traps* are the same of W with its entries shuffled, which destroys what rows and columns had
learned; what still stands out is due to single entries out of all proportion. Their mean is taken off first, for it
is a direction of its own that no shuffle destroys. There s² is that of the entries, known without a median, and noise
has a trap in one of a thousand matrices.

**Source**: WeightWatcher 0.7.7 (``compatible``, ``det_tail``, traps); Roy & Vetterli 2007, EUSIPCO (effective rank);
Gavish & Donoho 2014, IEEE Trans. Inf. Theory 60, 5040, eq. 8 (s² from the median); Johnstone 2001, Ann. Stat. 29, 295,
theorem 1.1; Bejan 2005, table of F₁ (3.2724).

**Deviation**: WeightWatcher's entropy adds 1e-10 to each share and divides by the logarithm of the rank, ours by that
of M, so that a lost rank lowers it. Its rank is of W in float64, where rounding to float32 alone makes any rank full;
ours is that of numpy's ``matrix_rank`` for float32. ``compatible`` gives WeightWatcher's. Noise, spikes and traps are
ours in both: WeightWatcher tries 195 variances against a smoothed density, widens the edge by the root of a width, and
shuffles without a seed and with the mean.
"""

from __future__ import annotations

from functools import lru_cache
from math import log, log10, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from evalkit.records.weights import Fitted
from evalkit.spectral.decomposition import Decomposition, Eigenvalues, NumpyDecomposition
from evalkit.spectral.low_rank import effective_rank

__all__ = ["Decomposition", "NumpyDecomposition", "correlation_traps", "spectral_measures"]

MEASURES: Final = (
    "log_norm", "log_spectral_norm", "stable_rank", "entropy", "effective_rank", "matrix_rank",
    "noise_edge", "noise_ratio", "spikes", "det_tail",
)  # fmt: skip
"""What ``spectral_measures`` gives, by their names in the catalogue."""
TRACY_WIDOM: Final = 3.2724
"""99.9 % point of the law of the largest eigenvalue of real noise (β = 1)."""
ADDED_SHARE: Final = 1e-10
"""What WeightWatcher adds to shares and rank."""


def spectral_measures(
    lambda_M: Eigenvalues,
    shape: tuple[int, ...],
    *,
    compatible: bool,
    resolution: float = 0.0,
) -> dict[str, Fitted]:
    """Return the measures of ascending eigenvalues of WᵀW that need no fit, by name; logarithms are to base 10.

    ``shape`` is W's; ``compatible`` takes WeightWatcher's entropy and rank. ``resolution`` is the share of the largest
    eigenvalue below which the decomposition tells none from 0: where that leaves the rank open, it has no number, and
    the effective rank takes them as 0.
    Zeros alone, or none at all, have no spectrum and a status instead; so have NaN and infinity.
    """
    wrong = _no_spectrum(lambda_M)
    if wrong is not None:
        return dict.fromkeys(MEASURES, wrong)
    size, largest, total = len(lambda_M), float(lambda_M[-1]), float(lambda_M.sum())
    share_M = lambda_M / total
    longer = max(shape)
    epsilon = np.finfo(np.float64 if compatible else np.float32).eps
    tolerance = (longer * float(epsilon)) ** 2
    rank = int(np.count_nonzero(lambda_M > tolerance * largest))
    return {
        "log_norm": Fitted(log10(total)),
        "log_spectral_norm": Fitted(log10(largest)),
        "stable_rank": Fitted(total / largest),
        "entropy": _compatible_entropy(share_M, rank) if compatible else _evenness(share_M),
        "effective_rank": effective_rank(
            np.sqrt(np.where(lambda_M > resolution * largest, lambda_M, 0.0))
        ),
        "matrix_rank": _rank(rank, lambda_M, resolution if resolution > tolerance else 0.0),
        **_against_noise(lambda_M, shape),
        "det_tail": Fitted(float(_det_tail(share_M * size))),
    }


def correlation_traps(
    W_RC: NDArray[np.float32], decomposition: Decomposition, rng: np.random.Generator
) -> int:
    """Return how many eigenvalues stand out of noise when W's entries change places at random.

    Raises ValueError where W holds NaN or infinity.
    """
    shuffled_RC = rng.permuted(W_RC)
    with np.errstate(invalid="ignore"):
        shuffled_RC -= np.float32(shuffled_RC.mean(dtype=np.float64))
    lambda_M = decomposition.eigenvalues(shuffled_RC)
    variance = float(lambda_M.sum()) / W_RC.size
    return int(np.count_nonzero(lambda_M > variance * _noise_limit(W_RC.shape)))


def _no_spectrum(lambda_M: Eigenvalues) -> Fitted | None:
    if not len(lambda_M):
        return Fitted(None, status="degenerate", note="the matrix is empty")
    if not np.isfinite(lambda_M).all():
        return Fitted(None, status="failed", note="eigenvalues are NaN or infinite")
    if lambda_M[-1] <= 0:
        return Fitted(None, status="degenerate", note="all eigenvalues are 0")
    return None


def _evenness(share_M: Eigenvalues) -> Fitted:
    """Return −Σ p ln p over ln M; 0 ln 0 is 0."""
    if len(share_M) == 1:
        return Fitted(None, status="degenerate", note="one eigenvalue has no entropy")
    positive = share_M[share_M > 0]
    return Fitted(-float(np.sum(positive * np.log(positive))) / log(len(share_M)))


def _compatible_entropy(share_M: Eigenvalues, rank: int) -> Fitted:
    if rank == 1:
        return Fitted(None, status="degenerate", note="a matrix of rank 1 has no entropy")
    added_M = share_M + ADDED_SHARE
    return Fitted(-float(np.sum(added_M * np.log(added_M))) / log(rank + ADDED_SHARE))


def _rank(rank: int, lambda_M: Eigenvalues, resolution: float) -> Fitted:
    """Return the numerical rank; ``resolution`` is 0 where the decomposition tells it."""
    open_ = int(np.count_nonzero(lambda_M <= resolution * lambda_M[-1])) if resolution else 0
    if not open_:
        return Fitted(float(rank))
    note = (
        f"{len(lambda_M) - open_} or more: {open_} of {len(lambda_M)} eigenvalues are too small to be told from 0 in "
        "this arithmetic; float64 tells them"
    )
    return Fitted(None, status="insufficient", note=note)


def _against_noise(lambda_M: Eigenvalues, shape: tuple[int, ...]) -> dict[str, Fitted]:
    small, large = min(shape), max(shape)
    variance = float(np.median(lambda_M)) / (large * median_of_noise(small, large))
    if not variance:
        note = "half of the eigenvalues are 0, so there is no noise to stand out of"
        none = Fitted(None, status="degenerate", note=note)
        return dict.fromkeys(("noise_edge", "noise_ratio", "spikes"), none)
    edge = variance * large * (1 + sqrt(small / large)) ** 2
    spikes = np.count_nonzero(lambda_M > variance * _noise_limit(shape))
    return {
        "noise_edge": Fitted(edge),
        "noise_ratio": Fitted(edge / float(lambda_M[-1])),
        "spikes": Fitted(float(spikes)),
    }


def _noise_limit(shape: tuple[int, ...]) -> float:
    """Return what the largest eigenvalue of noise of variance 1 exceeds once in a thousand matrices."""
    short, long = sqrt(min(shape)), sqrt(max(max(shape) - 1, 1))
    width: float = (long + short) * (1 / long + 1 / short) ** (1 / 3)
    return (long + short) ** 2 + TRACY_WIDOM * width


@lru_cache
def median_of_noise(small: int, large: int) -> float:
    """Return the median of Marchenko and Pastur's law at y = small / large ≤ 1, in units of N s².

    With x = 1 + y − 2 √y cos θ the law's density over θ in [0, π] is (2/π) sin² θ / x.

    >>> round(median_of_noise(1, 1), 4)
    0.6528
    """
    y = small / large
    edges = np.linspace(0, np.pi, 4097)
    theta = (edges[1:] + edges[:-1]) / 2
    weight = np.sin(theta) ** 2 / (1 + y - 2 * sqrt(y) * np.cos(theta))
    cumulated = np.concatenate([[0.0], np.cumsum(weight)])
    median = np.interp(cumulated[-1] / 2, cumulated, edges)
    return float(1 + y - 2 * sqrt(y) * np.cos(median))


def _det_tail(scaled_M: Eigenvalues) -> int:
    """Return the size of the smallest tail, from the largest on, whose product is below 1; all if none is.

    The eigenvalues are scaled to a mean of 1, so the product rises and then falls; in logarithms it cannot overflow.
    """
    with np.errstate(divide="ignore"):
        log_product = np.cumsum(np.log(scaled_M[::-1]))
    below = np.flatnonzero(log_product < 0)
    return int(below[0]) + 1 if len(below) else len(scaled_M)
