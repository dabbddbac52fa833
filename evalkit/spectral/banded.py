"""All eigenvalues of a large symmetric matrix by way of a band, so that most of the work is products of matrices.

Theory. LAPACK reduces a matrix to three diagonals column by column, and for each column reads all that is left of it:
of 4/3 M³ operations half are products of a matrix with a vector, and M³/6 numbers come from memory whatever the
processor could do with them (4096 columns: 92 GB in float64). Reducing it to ``WIDTH`` diagonals first takes as many
operations, with ``WIDTH`` columns at a time: what is left is read once for all of them, and changed only every
``PENDING`` panels. With panel Q = I − V T Vᵀ of Householder reflections,

    QᵀAQ = A − V Wᵀ − W Vᵀ,     Y = A V T,     W = Y − ½ V Tᵀ Vᵀ Y.

From the band to three diagonals it is 6 M² ``WIDTH`` operations, in float64 whatever came before: in float32 they would
cost two digits (measured: 10⁻⁵ instead of 3·10⁻⁷), being so many in a row. Only the lower triangle is read and written,
and rows are cut where the matrix begins, not where what is left begins, so that pieces on the diagonal stay whole.

**Source**: Bischof, Lang & Sun 2000, ACM TOMS 26, 581 (band reduction); Schreiber & Van Loan 1989, SIAM J. Sci. Stat.
Comput. 10, 53 (I − V T Vᵀ); Puglisi 1992, SIAM J. Sci. Stat. Comput. 13, 723 (T⁻¹ from VᵀV); LAPACK ``sbtrd``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.floating[Any]]
Run = Callable[[Callable[[tuple[int, int]], Any], Iterable[tuple[int, int]]], Iterable[Any]]
"""``map``, or that of a pool of threads: applies a function to spans of rows, and gives the results in order."""

WIDTH: Final = 32
"""Diagonals below the main one that the band has."""
PENDING: Final = 4
"""Panels whose changes are gathered before the matrix is changed."""
ROWS: Final = 256
"""Rows that are one piece of work."""


def spans(start: int, stop: int) -> list[tuple[int, int]]:
    """Return the pieces of rows from ``start`` on, the longest last; all but the first begin at multiples of ROWS.

    >>> spans(200, 600)
    [(200, 256), (256, 512), (512, 600)]
    """
    cuts = [start, *range((start // ROWS + 1) * ROWS, stop, ROWS), stop]
    return list(pairwise(cuts))


def banded_eigenvalues(A_MM: Matrix, run: Run) -> NDArray[np.float64]:
    """Return the M eigenvalues of a symmetric matrix of finite numbers, ascending.

    Only the lower triangle and the square pieces on the diagonal (``spans``) are read, and they are overwritten. Off by
    2 ε of the largest in float32 and some 50 ε in float64. The same whatever ``run`` does at once.
    """
    from scipy.linalg import eigvals_banded

    band = _band(A_MM, run)
    found: NDArray[np.float64] = eigvals_banded(
        band, lower=True, overwrite_a_band=True, check_finite=False
    )
    return found


def _band(A_MM: Matrix, run: Run) -> NDArray[np.float64]:
    """Return a band matrix of the same eigenvalues: entry (i, j) is that of row j + i and column j."""
    size = len(A_MM)
    band = np.zeros((WIDTH + 1, size))
    # The matrix is A − L Rᵀ: L gathers V, W of panel after panel, R gathers W, V.
    L_MP, R_MP = np.zeros((2, size, 2 * WIDTH * PENDING), A_MM.dtype)
    used = 0
    for start in range(0, size, WIDTH):
        rest = min(start + WIDTH, size)
        panel = A_MM[start:, start:rest] - L_MP[start:, :used] @ R_MP[start:rest, :used].T
        V, T, triangle = _reflections(panel[rest - start :])
        _store(band[:, start:rest], np.vstack([panel[: rest - start], triangle]))
        if rest == size:
            break
        Y = _product(A_MM, rest, V @ T, run)
        Y -= L_MP[rest:, :used] @ (R_MP[rest:, :used].T @ (V @ T))
        W = Y - V @ (T.T @ (V.T @ Y)) / 2
        reflections = V.shape[1]
        L_MP[rest:, used : used + 2 * reflections] = np.hstack([V, W])
        R_MP[rest:, used : used + 2 * reflections] = np.hstack([W, V])
        used += 2 * reflections
        if used == L_MP.shape[1]:
            _subtract(A_MM, rest, L_MP, R_MP, run)
            used = 0
    return band


def _reflections(panel: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """Return V and T of the Q = I − V T Vᵀ that makes a panel triangular, and the triangle."""
    if not len(panel):
        return panel, panel, panel
    raw, tau = np.linalg.qr(panel.astype(np.float64), mode="raw")
    held = raw.T[:, : len(tau)]
    V = np.tril(held, -1)
    np.fill_diagonal(V, 1.0)
    V[:, tau == 0] = 0.0  # a column that was done already is not reflected
    inverse = np.triu(V.T @ V, 1)
    np.fill_diagonal(inverse, 1 / np.where(tau == 0, 1.0, tau))
    T = np.linalg.inv(inverse)
    triangle = np.triu(raw.T[: len(tau)])
    return V.astype(panel.dtype), T.astype(panel.dtype), triangle


def _store(band: NDArray[np.float64], columns: Matrix) -> None:
    """Put a panel's columns, from its diagonal on, into its part of the band."""
    width = columns.shape[1]
    padded = np.zeros((WIDTH + width, width))
    padded[: len(columns)] = columns[: WIDTH + width]
    column = np.arange(width)
    band[:] = padded[np.arange(WIDTH + 1)[:, None] + column, column]


def _product(A_MM: Matrix, start: int, X: Matrix, run: Run) -> Matrix:
    """Return A[start:, start:] X, from the lower triangle; the pieces on the diagonal are whole."""

    def piece(span: tuple[int, int]) -> tuple[Matrix, Matrix]:
        begin, end = span
        rows = A_MM[begin:end, start:end]
        above = rows[:, : begin - start]
        return rows @ X[: end - start], above.T @ X[begin - start : end - start]

    product = np.zeros_like(X)
    pieces = spans(start, len(A_MM))
    for (begin, end), (own, mirrored) in zip(pieces, run(piece, pieces), strict=True):
        product[begin - start : end - start] += own
        product[: begin - start] += mirrored
    return product


def _subtract(A_MM: Matrix, start: int, L_MP: Matrix, R_MP: Matrix, run: Run) -> None:
    """Subtract L Rᵀ from the lower triangle of A[start:, start:]."""

    def piece(span: tuple[int, int]) -> None:
        begin, end = span
        A_MM[begin:end, start:end] -= L_MP[begin:end] @ R_MP[start:end].T

    list(run(piece, spans(start, len(A_MM))))
