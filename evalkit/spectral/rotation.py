"""How far training turned a matrix's leading directions: intruder dimensions, principal angles, the update's rank.

Theory. Fine-tuning hardly moves singular values; what it moves are singular vectors, which no number made of
eigenvalues sees. An *intruder dimension* is a leading left singular vector of the tuned matrix that resembles none of
the base's: Shuttleworth et al. find them in LoRA fine-tunes and tie them to forgetting, by removing them. The
*largest principal angle* between the leading subspaces says how far the span turned as a whole; it also grows where
two singular values just behind and before the cut change places, which harms nobody. By Wedin's theorem an update
smaller than the gap at the cut cannot do that; where it is larger, a note says so.

**Source**: Shuttleworth et al. 2024, arXiv 2410.21228 (intruder dimensions); ``reduce_intruder_dimension`` in Hugging
Face peft 0.21 (first 10 vectors, threshold 0.5); Björck & Golub 1973, Math. Comp. 27, 579 (principal angles); Wedin
1972, BIT 12, 99.

**Deviation**: directions whose singular value is 0 up to rounding are arbitrary, and are left out on both sides; peft
counts them. Against noise the check is blind where rows are few, since one of so many orthogonal vectors always
resembles: of random directions 3 % are intruders at 8 rows, 40 % at 16, 91 % at 32, 99.8 % at 64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from evalkit.records.weights import Fitted
from evalkit.spectral.low_rank import NOT_FINITE, effective_rank, stable_rank, top_share

if TYPE_CHECKING:
    from evalkit.spectral.decomposition import Decomposition

Matrix = NDArray[np.floating]

LEADING: Final = 10
"""Leading directions that are looked at."""
LIKENESS: Final = 0.5
"""A direction whose cosine with every one of the base's is below this is an intruder."""
ROUNDING: Final = 1e-3
"""Singular values below this share of the largest are rounding in float32, and taken for that in any arithmetic."""


def intruders(U_tuned_RK: Matrix, U_base_RM: Matrix, threshold: float = LIKENESS) -> int:
    """Return how many of K tuned directions have |cosine| < ``threshold`` with every one of the base's M directions.

    Columns are singular vectors, of length 1. Without directions in the base, every one of the tuned is an intruder.

    >>> intruders(np.eye(3)[:, :2], np.eye(3)[:, 1:])
    1
    """
    if not U_base_RM.shape[1]:
        return int(U_tuned_RK.shape[1])
    likeness_K = np.abs(U_tuned_RK.T @ U_base_RM).max(axis=1)
    return int(np.count_nonzero(likeness_K < threshold))


def rotation_degrees(U_tuned_RK: Matrix, U_base_RK: Matrix) -> float:
    """Return the largest principal angle between two subspaces in degrees, 0–90; columns are orthonormal bases.

    >>> round(rotation_degrees(np.array([[3.0], [4.0]]) / 5, np.array([[1.0], [0.0]])), 6)
    53.130102
    """
    from scipy.linalg import subspace_angles

    angles = subspace_angles(U_tuned_RK.astype(np.float64), U_base_RK.astype(np.float64))
    return float(np.rad2deg(angles.max()))


def delta_measures(singular_K: NDArray[np.float64]) -> dict[str, Fitted]:
    """Return effective rank, stable rank and top share of W − W₀ from its singular values; none for zeros."""
    return {
        "delta_effective_rank": effective_rank(singular_K),
        "delta_stable_rank": stable_rank(singular_K),
        "delta_top_share": top_share(singular_K),
    }


def turned(
    W_RC: NDArray[np.float32],
    W0_RC: NDArray[np.float32],
    decomposition: Decomposition,
    k: int = LEADING,
) -> dict[str, Fitted]:
    """Return ``intruders``, ``rotation`` (degrees) and the ``delta_…`` measures of a tuned matrix against its base.

    ``k`` leading directions are looked at, fewer where either matrix has a lower rank (a note says so). Equal
    matrices are not decomposed: no intruder, no rotation, no update. Raises ValueError where the shapes differ.
    """
    if W_RC.shape != W0_RC.shape:
        raise ValueError(f"shapes differ: {W_RC.shape} and {W0_RC.shape}")
    with np.errstate(invalid="ignore", over="ignore"):
        delta_RC = W_RC - W0_RC
    if not np.isfinite(delta_RC).all():
        nothing = delta_measures(np.array([np.nan]))
        return {"intruders": NOT_FINITE, "rotation": NOT_FINITE, **nothing}
    if not delta_RC.any():
        nothing = delta_measures(np.zeros(1))
        return {"intruders": Fitted(0.0), "rotation": Fitted(0.0), **nothing}
    update_M = np.sqrt(decomposition.eigenvalues(delta_RC)[::-1])
    return {
        **_directions(W_RC, W0_RC, decomposition, k, float(update_M[0])),
        **delta_measures(update_M),
    }


def _directions(
    W_RC: NDArray[np.float32],
    W0_RC: NDArray[np.float32],
    decomposition: Decomposition,
    k: int,
    update: float,
) -> dict[str, Fitted]:
    """Return intruders and rotation; ``update`` is the largest singular value of W − W₀."""
    tuned_RK, _ = _leading(W_RC, decomposition, k)
    base_RM, base_M = _leading(W0_RC, decomposition, None)
    if not tuned_RK.shape[1]:
        zero = Fitted(None, status="degenerate", note="the matrix is 0: it has no directions")
        return {"intruders": zero, "rotation": zero}
    found = Fitted(float(intruders(tuned_RK, base_RM)), note=_fewer(tuned_RK.shape[1], k))
    compared = min(tuned_RK.shape[1], base_RM.shape[1])
    if not compared:
        angle = Fitted(None, status="degenerate", note="the base is 0: it has no directions")
    elif compared == W_RC.shape[0]:
        note = f"the {compared} first directions are all that {compared} rows have"
        angle = Fitted(None, status="insufficient", note=note)
    else:
        gap = base_M[compared - 1] - (base_M[compared] if compared < len(base_M) else 0.0)
        notes = [_fewer(compared, k)]
        if update >= gap:
            notes.append(
                f"the update exceeds the gap behind singular value {compared} ({update:.3g} ≥ {gap:.3g}): part of the "
                "angle may be a change of order"
            )
        degrees = rotation_degrees(tuned_RK[:, :compared], base_RM[:, :compared])
        angle = Fitted(degrees, note="; ".join(filter(None, notes)))
    return {"intruders": found, "rotation": angle}


def _leading(
    W_RC: NDArray[np.float32], decomposition: Decomposition, k: int | None
) -> tuple[Matrix, Matrix]:
    """Return the first ``k`` left singular vectors and singular values, without those that are 0 up to rounding."""
    U_RK, singular_K, _ = decomposition.svd(W_RC, k)
    rank = int(np.count_nonzero(singular_K > ROUNDING * singular_K[0]))
    return U_RK[:, :rank], singular_K[:rank]


def _fewer(compared: int, k: int) -> str:
    return "" if compared == k else f"{compared} directions instead of {k}"
