"""The largest eigenvalue of WᵀW without the others, by block Lanczos: a few passes over W.

Theory. From two start vectors, each step multiplies the newest two by WᵀW and keeps what is new. In the space of all
of them the largest eigenvalue θ is found ever better, from below; the vectors are made orthogonal to all earlier ones,
twice, so that rounding brings no eigenvalue back. With what is left of the best vector, r = ‖WᵀWv − θv‖, the error is
at most r, and at most r² over the distance to the other eigenvalues, for which the second-best value stands. It stops
when the smaller one is within the tolerance.

Two vectors, because one alone cannot see that the top is a cluster: it converges to the cluster's mean first, and takes
the distance to the *rest* of the spectrum for the distance to the next eigenvalue. In simulated clusters the same rule
then ends with errors up to the cluster's width in most of them, with two vectors in 4 % of them by some 10⁻⁶ (tests).
They are drawn from the shape, so nothing but the weights decides the number. To start from the base's largest direction
would save one step of six, and in one of twenty matrices with a new direction 5 % above it the rule was met before that
was seen: the result was 11 % too small. A step reads W once: a piece of rows that fits the cache is multiplied by both
vectors and, transposed, by what came out.

Products are float32, sums over pieces and all else float64, which is good for 10⁻⁷. Where squares of the weights would
leave float32's range, the weights are scaled by a power of two first, which changes no digit. Shares of a large matrix
are multiplied side by side and added in their order, BLAS with one core for each, so the number of cores changes no
digit either.

**Source**: Golub & Van Loan, Matrix Computations, 4th ed., 10.3.6 (block Lanczos); Parlett, The Symmetric Eigenvalue
Problem, 11.7 (r² over the gap); Marchenko & Pastur 1967 (``noise_stable_rank``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from math import frexp, isfinite, ldexp, sqrt

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

Array = NDArray[np.float32]
Floats = NDArray[np.float64]
Blocks = Callable[[], Iterator[Array]]
"""Gives a tensor's rows in blocks, from the first row on, each time it is called."""
Run = Callable[[Callable[[Array], Array | Floats], Iterable[Array]], Iterable[Array | Floats]]
"""``map``, or one that works side by side."""

TOLERANCE = 1e-6
"""Relative error at which the largest eigenvalue is good enough."""
SPENT = 1e-12
"""Share of the largest eigenvalue below which a new direction is nothing but rounding."""
PIECE = 1 << 19
"""Numbers multiplied at a time: 2 MiB, which stays in the cache from the first product to the last."""
SHARE = 1 << 22
"""Numbers that are one piece of work for a thread; smaller ones cost more to hand over than they gain."""
THREADS = 4
"""Shares multiplied side by side; more gain little, since they wait for memory."""
SMALL = 64
"""Rows or columns up to which all eigenvalues cost less than Lanczos."""
NARROW = 512
"""Columns up to which WᵀW from one reading costs less than reading the blocks again in each step."""
GRAM_ROWS = 1024
"""Rows whose products are summed in float32 before float64 takes over."""
ORDINARY = 2.0**60
"""Up to this and down to its inverse, float32 holds products of weights without overflow or loss."""


def noise_stable_rank(rows: int, columns: int) -> float:
    """Return the stable rank of a large matrix of independent noise: M / (1 + √(M/N))², M and N the sides, M ≤ N.

    ‖W‖² is M·N·σ², the largest eigenvalue N·σ²·(1 + √(M/N))² (Marchenko–Pastur's upper edge). A side of 0 gives 0.

    >>> noise_stable_rank(384, 384)
    96.0
    """
    small, large = sorted((rows, columns))
    return small / (1 + sqrt(small / large)) ** 2 if small else 0.0


def largest_eigenvalue(W_RC: Array, *, tolerance: float = TOLERANCE) -> float:
    """Return the largest eigenvalue of WᵀW, the square of W's spectral norm; 0 for zeros and for an empty matrix.

    Above the true one by rounding at most (10⁻⁷), and below it by at most ``tolerance``, both relative; how sure that
    is stands above. Raises ValueError where W holds NaN or infinity.
    """
    rows, columns = W_RC.shape
    if min(rows, columns) > SMALL:
        return _lanczos(lambda: iter((W_RC,)), (rows, columns), tolerance)
    gram = GramSum(min(rows, columns))
    gram.add(W_RC if columns <= rows else W_RC.T)
    return _largest(gram)


def largest_eigenvalue_of_blocks(
    blocks: Blocks, shape: tuple[int, int], *, tolerance: float = TOLERANCE
) -> float:
    """Return the same of a tensor too large to hold; ``blocks()`` is called once where it is narrow, else in each step.

    Besides a block, memory holds WᵀW where there are up to 512 columns, the tensor where there are up to 64 rows, and
    else two float64 vectors of a number per column for each step (5 to 30 steps; hundreds in the hardest spectra).
    """
    rows, columns = shape
    if rows <= SMALL:
        return largest_eigenvalue(np.concatenate([np.zeros((0, columns), np.float32), *blocks()]))
    if columns > NARROW:
        return _lanczos(blocks, shape, tolerance)
    gram = GramSum(columns)
    for block_RC in blocks():
        gram.add(block_RC)
    return _largest(gram)


class GramSum:
    """WᵀW of a tall tensor that is read in blocks of rows.

    Off by about 10⁻⁷ of the largest eigenvalue: eigenvalues smaller than that mean nothing.

    >>> import numpy as np
    >>> held = GramSum(2)
    >>> held.add(np.array([[1, 2]], np.float32))
    >>> held.add(np.array([[0, 1], [1, 0]], np.float32))
    >>> held.gram().tolist()
    [[2.0, 2.0], [2.0, 5.0]]
    """

    def __init__(self, columns: int) -> None:
        self._gram_CC = np.zeros((columns, columns))

    def add(self, block_RC: Array) -> None:
        """Take the next rows. Raises ValueError where they hold NaN or infinity."""
        with _side_by_side() as run:
            for found_CC in run(_squared, _pieces(block_RC, GRAM_ROWS)):
                self._gram_CC += found_CC

    def gram(self) -> Floats:
        """Return WᵀW of the rows so far, (columns, columns) in float64."""
        return self._gram_CC.copy()


@contextmanager
def _side_by_side() -> Iterator[Run]:
    """Give what maps pieces side by side. BLAS's own threads would wait for one another longer than they work."""
    with _blas().limit(limits=1, user_api="blas"), ThreadPoolExecutor(THREADS) as pool:
        yield pool.map


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _pieces(block_RC: Array, rows: int) -> Iterator[Array]:
    return (block_RC[start : start + rows] for start in range(0, len(block_RC), rows))


def _squared(piece_RC: Array) -> Array | Floats:
    if _ordinary(_peak(piece_RC) ** 2):
        return piece_RC.T @ piece_RC
    exact_RC = piece_RC.astype(np.float64)
    return exact_RC.T @ exact_RC


def _largest(gram: GramSum) -> float:
    with _side_by_side():
        eigenvalues_C = np.linalg.eigvalsh(gram.gram())
    return max(0.0, float(eigenvalues_C[-1])) if len(eigenvalues_C) else 0.0


def _lanczos(blocks: Blocks, shape: tuple[int, int], tolerance: float) -> float:
    with _side_by_side() as run:
        times = partial(_product, blocks, run if shape[0] * shape[1] > SHARE else map)
        drawn_C2 = np.random.default_rng(shape).standard_normal((shape[1], 2))
        newest_CK = basis_CM = np.linalg.qr(drawn_C2)[0]
        product_CK, exponent = times(newest_CK, 0), 0
        if not _ordinary(float(np.linalg.norm(product_CK))):
            exponent = -frexp(max(_peak(block_RC) for block_RC in blocks()))[1]
            product_CK = times(newest_CK, exponent)
        projected_MM = np.zeros((0, 0))
        while True:
            seen_MK = basis_CM.T @ product_CK
            projected_MM = _bordered(projected_MM, seen_MK)
            values_M, vectors_MM = np.linalg.eigh(projected_MM)
            product_CK -= basis_CM @ seen_MK
            product_CK -= basis_CM @ (basis_CM.T @ product_CK)
            newest_CK, sizes_K, turned_KK = np.linalg.svd(product_CK, full_matrices=False)
            top, best_K = float(values_M[-1]), vectors_MM[-len(turned_KK) :, -1]
            left_over = float(np.linalg.norm(sizes_K * (turned_KK @ best_K)))
            gap = top - float(values_M[-2])
            newest_CK = newest_CK[:, sizes_K > SPENT * top]
            if left_over**2 <= tolerance * top * max(gap, left_over) or not newest_CK.size:
                return ldexp(top, -2 * exponent)
            basis_CM = np.concatenate([basis_CM, newest_CK], axis=1)
            product_CK = times(newest_CK, exponent)


def _product(blocks: Blocks, run: Run, vectors_CK: Floats, exponent: int) -> Floats:
    """Return (2ᵉW)ᵀ(2ᵉW) times the vectors, e the exponent, summed in the order of the rows."""
    vectors_KC = np.ascontiguousarray(vectors_CK.T, np.float32)
    products_KC = np.zeros(vectors_KC.shape)
    of_share = partial(_share_product, vectors_KC, exponent)
    rows = max(1, PIECE // len(vectors_CK)) * (SHARE // PIECE)
    for block_RC in blocks():
        for found_KC in run(of_share, _pieces(block_RC, rows)):
            products_KC += found_KC
    return products_KC.T


def _share_product(vectors_KC: Array, exponent: int, share_RC: Array) -> Floats:
    """Return the product of some rows. ``np.dot``, because ``@`` with a vector lets no other thread work meanwhile."""
    products_KC = np.zeros(vectors_KC.shape)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for piece_RC in _pieces(share_RC, max(1, PIECE // vectors_KC.shape[1])):
            scaled_RC = np.ldexp(piece_RC, exponent) if exponent else piece_RC
            for place, vector_C in enumerate(vectors_KC):
                products_KC[place] += np.dot(np.dot(scaled_RC, vector_C), scaled_RC)
    return products_KC


def _bordered(square_MM: Floats, column_NK: Floats) -> Floats:
    """Return a symmetric matrix with more columns, and as many rows, at its end."""
    grown, known = len(column_NK), len(square_MM)
    bordered_NN = np.zeros((grown, grown))
    bordered_NN[:known, :known] = square_MM
    bordered_NN[:, known:] = column_NK
    bordered_NN[known:] = column_NK.T
    return bordered_NN


def _peak(W_RC: Array) -> float:
    peak = max(float(W_RC.max(initial=0)), -float(W_RC.min(initial=0)))
    if not isfinite(peak):
        raise ValueError("a matrix with NaN or infinity has no norm")
    return peak


def _ordinary(size: float) -> bool:
    return 1 / ORDINARY <= size <= ORDINARY
