"""Eigenvalues and singular vectors of weights, on the processor: fast by way of WᵀW, or exact by an SVD.

Theory. With M the smaller side of W and N the larger, the eigenvalues of WᵀW (or WWᵀ) cost N M² operations for the
product, of which symmetry spares half, and 4/3 M³ for the rest; LAPACK's SVD takes 4 N M² − 4/3 M³, worse ordered.
The product squares the condition: an eigenvalue below some ε λ_max, ε that of the arithmetic, is rounding and comes
out as 0. In float32 this is a singular value of 1/1000 of the largest, so float32 tells exponents and norms, no rank.

*Which arithmetic* was measured. Below 2,048 columns float32 gains nothing on LAPACK in float64, so it is not used; from
there on it is nearly twice as fast, and alpha differs by some 10⁻⁶. *Cores*: matrices below that are decomposed side by
side, one core each; larger ones in pieces by all cores. BLAS gets one core in either, so results do not depend on how
many there are.

**Source**: Golub & Van Loan 2013, section 8.6 (SVD by bidiagonalisation, counts); ``banded`` for large matrices.

**Deviation**: WeightWatcher takes an SVD in float64; ``exact`` does that.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import frexp, isfinite
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray
from threadpoolctl import threadpool_limits

from evalkit.spectral.banded import Matrix, Run, banded_eigenvalues, spans

Weights = NDArray[np.float32]
Eigenvalues = NDArray[np.float64]

WIDE: Final = 2048
"""From so many columns on, matrices are reduced by way of a band, and in float32 where that is allowed."""
PIECE_ROWS: Final = 4096
"""Rows whose products are summed before they are added up in float64."""
ORDINARY: Final = 2.0**30
"""Up to this and down to its inverse, squares of weights neither overflow nor vanish in float32."""


class Decomposition(Protocol):
    """What finds eigenvalues and singular vectors of weights."""

    @property
    def name(self) -> str:
        """What it is, for the signature of numbers that rest on it."""

    def resolution(self, size: int) -> float:
        """Return the share of the largest eigenvalue up to which it tells none from 0; ``size`` is the smaller side."""

    def eigenvalues(self, W_RC: Weights) -> Eigenvalues:
        """Return the eigenvalues λ_M of WᵀW, M = min(R, C) of them, ascending and ≥ 0; 0 where they are rounding.

        Raises ValueError where W holds NaN or infinity.
        """

    def eigenvalues_of_many(self, matrices: Sequence[Weights]) -> list[Eigenvalues]:
        """Return the same of each, faster than one by one where matrices are small and as wide as one another."""

    def svd(self, W_RC: Weights, k: int | None = None) -> tuple[Matrix, Matrix, Matrix]:
        """Return U_RK, the K largest singular values descending, and V_CK: W ≈ U diag(s) Vᵀ; all M where k is None.

        Where a singular value is rounding it is 0, and the vector of the longer side may be of zeros.
        """


class NumpyDecomposition:
    """Eigenvalues by numpy and scipy.

    >>> NumpyDecomposition().eigenvalues(np.diag([3, 1, 2]).astype(np.float32)).round(12).tolist()
    [1.0, 4.0, 9.0]
    """

    def __init__(
        self,
        precision: Literal["float32", "float64"] = "float32",
        *,
        exact: bool = False,
        threads: int | None = None,
    ) -> None:
        """``exact`` takes an SVD in float64 of the weights themselves, some four times as slow.

        ``precision`` is that of large matrices. ``threads``: cores to use; None is all that there are.
        """
        self._precision, self._exact = precision, exact
        self._threads = threads or _cores()

    @property
    def name(self) -> str:
        """``numpy-svd``, ``numpy-float64`` or ``numpy-float32``."""
        return f"numpy-{'svd' if self._exact else self._precision}"

    def resolution(self, size: int) -> float:
        """Return the share of the largest eigenvalue that may be rounding.

        In float32 that is 8 ε: the error is at most 2 ε λ_max in flat, noisy, heavy-tailed, spiked and geometric
        spectra alike.
        """
        if self._exact:
            return (size * float(np.finfo(np.float64).eps)) ** 2
        if self._dtype(size) == np.float64:
            return size * float(np.finfo(np.float64).eps)
        return 8 * float(np.finfo(np.float32).eps)

    def _dtype(self, size: int) -> np.dtype[Any]:
        return np.dtype(np.float64 if size < WIDE else self._precision)

    def eigenvalues(self, W_RC: Weights) -> Eigenvalues:
        """Return the eigenvalues of WᵀW, ascending and ≥ 0."""
        return self.eigenvalues_of_many([W_RC])[0]

    def eigenvalues_of_many(self, matrices: Sequence[Weights]) -> list[Eigenvalues]:
        """Return the same of each; matrices below 2,048 columns side by side."""
        if self._exact:
            return [_squares(W_RC) for W_RC in matrices]
        if any(min(W_RC.shape) >= WIDE for W_RC in matrices):
            import scipy.linalg  # noqa: F401 - it brings a BLAS of its own, to be limited as well
        with (
            threadpool_limits(limits=1, user_api="blas"),
            ThreadPoolExecutor(self._threads) as pool,
        ):
            return self._by_gram(matrices, pool)

    def _by_gram(self, matrices: Sequence[Weights], pool: ThreadPoolExecutor) -> list[Eigenvalues]:
        found: dict[int, Eigenvalues] = {}
        narrow: dict[int, Weights] = {}
        factors = []
        for place, W_RC in enumerate(matrices):
            dtype = self._dtype(min(W_RC.shape))
            scaled_RC, factor = prepared(W_RC, dtype)
            factors.append(factor)
            if min(W_RC.shape) < WIDE:
                narrow[place] = scaled_RC
            else:
                found[place] = banded_eigenvalues(_gram(scaled_RC, dtype, pool.map), pool.map)
        for places, grams_BMM in _narrow_grams(narrow, pool):
            shares = range(min(self._threads, len(places)))
            parts = [grams_BMM[start :: len(shares)] for start in shares]
            for start, lambda_BM in zip(shares, pool.map(np.linalg.eigvalsh, parts), strict=True):
                found |= zip(places[start :: len(shares)], lambda_BM, strict=True)
        return [
            without_rounding(found[place], self.resolution(len(found[place]))) * factor
            for place, factor in enumerate(factors)
        ]

    def svd(self, W_RC: Weights, k: int | None = None) -> tuple[Matrix, Matrix, Matrix]:
        """Return the first k singular triplets, descending."""
        size = min(W_RC.shape)
        dtype = np.dtype(np.float64) if self._exact else self._dtype(size)
        scaled_RC, factor = prepared(W_RC, dtype)
        if self._exact:
            exact_RC = scaled_RC.astype(np.float64)
            U_RM, singular_M, Vt_MC = np.linalg.svd(exact_RC, full_matrices=False)
            return U_RM[:, :k], singular_M[:k], Vt_MC.T[:, :k]
        lambda_M, short_MM = np.linalg.eigh(_gram(scaled_RC, dtype, map))
        lambda_K = without_rounding(lambda_M, self.resolution(size))[::-1][:k]
        short_MK = short_MM[:, ::-1][:, :k]
        long_NK = (_tall(scaled_RC) @ short_MK) * (lambda_K > 0)
        long_NK /= np.linalg.norm(long_NK, axis=0) + (lambda_K == 0)
        U_RK, V_CK = (long_NK, short_MK) if size == W_RC.shape[1] else (short_MK, long_NK)
        return U_RK, np.sqrt(lambda_K * factor), V_CK


def _cores() -> int:
    """Return how many cores there are for this process, where the system tells; else those of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def prepared(W_RC: Weights, dtype: DTypeLike) -> tuple[Weights, float]:
    """Return the weights times a power of two, and what the eigenvalues of the result are to be multiplied by.

    So squares neither overflow nor vanish in ``dtype``. Raises ValueError where W holds NaN or infinity.
    """
    peak = max(float(W_RC.max(initial=0)), -float(W_RC.min(initial=0)))
    if not isfinite(peak):
        raise ValueError("a matrix with NaN or infinity has no spectrum")
    if np.dtype(dtype) == np.float64 or not peak or 1 / ORDINARY <= peak <= ORDINARY:
        return W_RC, 1.0
    exponent = frexp(peak)[1]
    return np.ldexp(W_RC, -exponent), 4.0**exponent


def without_rounding(lambda_M: Eigenvalues, resolution: float) -> Eigenvalues:
    """Return eigenvalues with 0 for those up to ``resolution`` times the largest."""
    return np.where(lambda_M > resolution * lambda_M.max(initial=0.0), lambda_M, 0.0)


def _squares(W_RC: Weights) -> Eigenvalues:
    exact_RC = prepared(W_RC, np.float64)[0].astype(np.float64)
    singular_M = np.linalg.svd(exact_RC, compute_uv=False)
    return np.asarray(singular_M[::-1] ** 2, dtype=np.float64)


def _tall(W_RC: Weights) -> Weights:
    return W_RC if W_RC.shape[0] >= W_RC.shape[1] else W_RC.T


def _gram(W_RC: Weights, dtype: np.dtype[Any], run: Run) -> Matrix:
    """Return WᵀW, or WWᵀ where that is smaller: its lower triangle, and pieces on the diagonal whole."""
    tall_NM = _tall(W_RC)
    gram_MM = np.zeros((tall_NM.shape[1],) * 2)

    def piece(piece_NM: Matrix, span: tuple[int, int]) -> None:
        begin, end = span
        gram_MM[begin:end, :end] += piece_NM[:, begin:end].T @ piece_NM[:, :end]

    for start in range(0, len(tall_NM), PIECE_ROWS):
        piece_NM = tall_NM[start : start + PIECE_ROWS].astype(dtype, copy=False)
        list(run(partial(piece, piece_NM), spans(0, len(gram_MM))))
    return gram_MM.astype(dtype, copy=False)


def _narrow_grams(
    narrow: Mapping[int, Weights], pool: ThreadPoolExecutor
) -> Iterator[tuple[list[int], Eigenvalues]]:
    """Yield places and WᵀW, whole and in float64, of matrices of one size; pieces are multiplied side by side."""
    by_size: dict[int, list[int]] = {}
    for place, W_RC in narrow.items():
        by_size.setdefault(min(W_RC.shape), []).append(place)
    for size, places in by_size.items():
        grams_BMM = np.empty((len(places), size, size))
        pieces = [
            (gram_MM, _tall(narrow[place])[start : start + PIECE_ROWS], start)
            for place, gram_MM in zip(places, grams_BMM, strict=True)
            for start in range(0, max(narrow[place].shape), PIECE_ROWS)
        ]
        for gram_MM, product_MM in pool.map(_multiplied, pieces):
            if product_MM is not None:
                np.add(gram_MM, product_MM, out=gram_MM)
        yield places, grams_BMM


def _multiplied(
    piece: tuple[Eigenvalues, Weights, int],
) -> tuple[Eigenvalues, Eigenvalues | None]:
    """Put the product of a matrix's first rows into its place; return that of others, to be added to it."""
    gram_MM, piece_NM, start = piece
    exact_NM = piece_NM.astype(np.float64)
    if start:
        return gram_MM, exact_NM.T @ exact_NM
    np.matmul(exact_NM.T, exact_NM, out=gram_MM)
    return gram_MM, None
