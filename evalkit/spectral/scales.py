"""What follows from the largest eigenvalue of WᵀW: spectral norm, stable rank, and how far the base's has moved.

**Source**: as in ``norms``.
"""

from __future__ import annotations

import math

from evalkit.records.weights import Fitted
from evalkit.spectral.norms import noise_stable_rank

SCALES = ("log_spectral_norm", "stable_rank", "stable_rank_ratio", "spectral_change")
"""What follows from the largest eigenvalue; the last from it and the base's."""


def scales_of(
    sum_squares: float, shape: tuple[int, int], of_base: float | Fitted | None, largest: float
) -> dict[str, Fitted]:
    """Return ``SCALES`` from the largest eigenvalue of WᵀW; the last where there is a base, or what stands for it."""
    if largest <= 0:
        none = Fitted(None, status="failed", note="its largest eigenvalue came out as 0")
        return dict.fromkeys(SCALES if of_base is not None else SCALES[:3], none)
    rank = sum_squares / largest
    found = {
        "log_spectral_norm": Fitted(math.log10(largest)),
        "stable_rank": Fitted(rank),
        "stable_rank_ratio": Fitted(rank / noise_stable_rank(*shape)),
    }
    if of_base is None:
        return found
    change = Fitted(math.log10(largest / of_base)) if isinstance(of_base, float) else of_base
    return {**found, "spectral_change": change}
