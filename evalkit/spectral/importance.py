"""FROG's importance of matrices and weights: an unvalidated heuristic, and what of it holds.

Theory. FROG says which weights to train. A matrix's share is its Frobenius norm over the sum of all matrices' norms.
Within a matrix, weight (i, j) has the relevance

    S_ij = Σ_k σ_k |u_ik| |v_jk|,     W = Σ_k σ_k u_k v_kᵀ,

so S ≥ |W| by the triangle inequality.

**What a study on a 22 M sentence encoder measured**, and why this is labelled a heuristic: 99.8 % of S's energy is of
rank one, S_ij ≈ r_i c_j. It is the relevance of a row times that of a column, not of single weights: its rank
correlation with |W| is 0.23, and its 10 % largest entries share 76 % with those of r cᵀ but 24 % with those of |W|
(by chance 10 %). S scales with W, so that across matrices scale decides: of the top 1 %, 63 % lie in two of 39
matrices, and 17 get fewer than 100 weights each, 7 of them none (``scale_free`` divides by the mean). Shares favour
small matrices: at a budget of 1 % their density runs from 0.27 % to 4.2 %. No test of whether training the chosen
weights is better than training others is known.

With few triplets, for large matrices: from the first K alone, S loses most of its mass (60 % at K = 64 of 384). But
what is lost is bounded by known norms: with ρ_i² = Σ_{k>K} (σ_k u_ik)² = ‖w_i‖² − Σ_{k≤K} (σ_k u_ik)² and q_j² =
Σ_{k>K} v_jk² ≤ 1 − Σ_{k≤K} v_jk², Cauchy and Schwarz give Σ_{k>K} σ_k |u_ik| |v_jk| ≤ ρ_i q_j, and likewise with the
sides changed. Were the singular vectors random, the loss would be (2/π) E[σ]/√E[σ²] of that; this much is added.

**Source**: FROG is known from texts that name neither paper nor program, and none was found; Halko, Martinsson &
Tropp 2011, SIAM Rev. 53, 217, algorithm 4.4 (randomised iteration); E[σ]/√E[σ²] ≈ 1 − y/8 for noise of aspect y =
M/N: Marchenko & Pastur 1967, to the first order in the variance y of its eigenvalues.

**Deviation**: the norm is summed from the weights, not from σ. For large matrices S is estimated, as said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from evalkit.spectral.decomposition import Decomposition

Matrix = NDArray[np.float32]

SPARE = 10
"""Vectors beyond the wanted ones in randomised iteration."""
TURNS = 4
"""Times that its block is turned: of the largest entries of S, 4 find 76 % where exact triplets find 80 %."""


def frobenius_shares(norms: Mapping[str, float]) -> dict[str, float]:
    """Return ‖W_i‖ / Σ_j ‖W_j‖ by matrix, 0–1 with sum 1: FROG's importance of a matrix, an unvalidated heuristic.

    Matrices whose norm is not finite have no share and are not in the answer; neither is any where all norms are 0.

    >>> frobenius_shares({"q": 3.0, "k": 1.0, "v": math.inf})
    {'q': 0.75, 'k': 0.25}
    """
    known = {name: norm for name, norm in norms.items() if math.isfinite(norm)}
    total = math.fsum(known.values())
    return {name: norm / total for name, norm in known.items()} if total > 0 else {}


def svd_relevance(
    W_RC: Matrix,
    decomposition: Decomposition,
    *,
    rank: int | None = None,
    scale_free: bool = False,
) -> Matrix:
    """Return S_RC = Σ_k σ_k |u_k| |v_k|ᵀ, FROG's relevance of each weight, an unvalidated heuristic; S ≥ |W|.

    ``rank`` takes nearly so many leading triplets, found without the decomposition and much faster, and estimates the
    rest: for large matrices. Against the exact S of the study's 39 matrices (384 singular values each): mean error 6
    % (2 % to 9 % by matrix) at rank 64, where leaving the rest out would lose 60 % to 75 %, and 76 % (45 % to 95 %)
    of the 10 % largest entries in common; 3 % and 85 % at rank 128. ``scale_free`` divides by the mean, so that
    matrices of different scales compete on equal terms. ``W_RC`` must be finite; zeros have the relevance 0.
    """
    left_RK, right_CK = _factors(W_RC, decomposition, rank)
    if scale_free:
        mean = float(left_RK.mean(axis=0) @ right_CK.mean(axis=0))
        left_RK = left_RK / mean if mean > 0 else left_RK
    return left_RK @ right_CK.T


def row_column_relevance(
    W_RC: Matrix, decomposition: Decomposition, *, rank: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the means r_R of S over each row and c_C over each column, without forming S.

    Since S is nearly of rank one, S_ij ≈ r_i c_j / mean(S), and mean(S) = mean(r) = mean(c). ``rank`` as above.
    """
    left_RK, right_CK = _factors(W_RC, decomposition, rank)
    return left_RK @ right_CK.mean(axis=0), right_CK @ left_RK.mean(axis=0)


def _factors(W_RC: Matrix, decomposition: Decomposition, rank: int | None) -> tuple[Matrix, Matrix]:
    """Return P and Q with S = P Qᵀ, both ≥ 0: one column for each triplet, and one for what is estimated."""
    assert np.isfinite(W_RC).all(), "a matrix with NaN or infinity has no singular values"
    partial = rank if rank is not None and rank < min(W_RC.shape) else None
    found = decomposition.svd(W_RC) if partial is None else leading_triplets(W_RC, partial)
    U_RK, singular_K, V_CK = found
    left_RK, right_CK = np.abs(U_RK) * singular_K, np.abs(V_CK)
    if partial is not None:
        more_R, more_C = _remainder(W_RC, np.abs(U_RK), singular_K, right_CK)
        left_RK = np.column_stack([left_RK, more_R])
        right_CK = np.column_stack([right_CK, more_C])
    return left_RK.astype(np.float32), right_CK.astype(np.float32)


def leading_triplets(
    W_RC: Matrix, rank: int
) -> tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]]:
    """Return U_RK, σ_K descending and V_CK, nearly the first ``rank`` singular triplets, by randomised iteration.

    A block of vectors is multiplied by W and Wᵀ in turn and made orthogonal each time; what it spans turns towards
    the leading directions. The start is fixed, so that the same matrix gives the same numbers. O(R C rank)
    operations.
    """
    columns = min(rank + SPARE, *W_RC.shape)
    start = np.random.default_rng(0).standard_normal((W_RC.shape[1], columns), dtype=np.float32)
    span_RL = np.linalg.qr(W_RC @ start)[0]
    for _ in range(TURNS):
        span_RL = np.linalg.qr(W_RC @ np.linalg.qr(W_RC.T @ span_RL)[0])[0]
    U_LL, singular_L, Vt_LC = np.linalg.svd(span_RL.T @ W_RC, full_matrices=False)
    return (span_RL @ U_LL)[:, :rank], singular_L[:rank], Vt_LC.T[:, :rank]


def _remainder(
    W_RC: Matrix,
    U_RK: NDArray[np.floating],
    singular_K: NDArray[np.floating],
    V_CK: NDArray[np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return x_R and y_C, whose product x yᵀ is what triplets beyond the K first are expected to add to S.

    The side whose vectors are a whole basis has exact tails; in a square matrix both have, and the geometric mean of
    the two bounds is of rank one as well.
    """
    rows, columns = W_RC.shape
    norm_R = _lengths(_squares(W_RC, axis=1) - _squares(U_RK * singular_K, axis=1))
    norm_C = _lengths(_squares(W_RC, axis=0) - _squares(V_CK * singular_K, axis=1))
    unit_R, unit_C = (_lengths(1 - _squares(vectors, axis=1)) for vectors in (U_RK, V_CK))
    expected = (2 / math.pi) * (1 - min(rows, columns) / max(rows, columns) / 8)
    if rows > columns:
        return expected * norm_R, unit_C
    if rows < columns:
        return expected * unit_R, norm_C
    return expected * np.sqrt(norm_R * unit_R), np.sqrt(norm_C * unit_C)


def _squares(values_RC: NDArray[np.floating], axis: int) -> NDArray[np.float64]:
    """Return sums of squares along an axis, in float64."""
    summed: NDArray[np.float64] = np.einsum(
        "rc,rc->" + "cr"[axis], values_RC, values_RC, dtype=np.float64
    )
    return summed


def _lengths(squares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return square roots, of a difference that rounding made negative 0."""
    return np.sqrt(np.maximum(squares, 0.0))
