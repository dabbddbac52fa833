"""Whether weights are base + adapter: every element within what rounding alone can explain.

Theory. A merged weight is m = w₀ + Δ, Δ = s · (B A)ᵢⱼ, computed by some program in float32 or in the stored format
and then rounded to the stored format. A number x of a format with p significant bits is rounded by at most half a
unit in its last place, ½ulp(x) = 2^(e − p) for 2^e ≤ |x| < 2^(e + 1) (e no less than the format's least exponent).
So a faithful merge differs from m by at most

    ½ulp(m)                          the stored number
    + 2 · 2^−p · (|Δ| + 2^least)     the product, and its scaling, where they were rounded to the stored format first
    + (r + 2) · 2^−24 · |s| ‖Bᵢ‖ ‖Aⱼ‖ the float32 sum over r products, in whatever order (Cauchy–Schwarz for Σ |b||a|)
    + 2^−23 · |m|                    the float32 sum here and there

and one element beyond that is enough to say that the weights are something else. DoRA's rescaled rows go through a
norm and a quotient more, each of which may be rounded to the stored format: four times the first line.

**Source**: Higham 2002, Accuracy and Stability of Numerical Algorithms, sections 2.2 and 3.1 (rounding, inner
products).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import RunError
from evalkit.ports import AdapterSource, TensorSource
from evalkit.records.weights import Tensor

Array = NDArray[np.float32]

FORMATS: Final = {
    "F64": (24, -126), "F32": (24, -126), "BF16": (8, -126), "F16": (11, -14),
    "F8_E4M3": (4, -6), "F8_E5M2": (3, -14),
}  # fmt: skip
"""Format → significant bits, hidden one included, and least exponent of a normal number; all is read as float32."""
DORA_ROUNDINGS: Final = 4
"""How often DoRA's merge may round a number to the stored format."""


class MergeCheck:
    """Counts the elements of one tensor that are not base + adapter."""

    def __init__(
        self, dtype: str, factors: tuple[Array, Array, Array | None] | None, scale: float
    ) -> None:
        """``dtype`` must be one of ``FORMATS``; ``factors`` are A, B and DoRA's magnitudes, None without an update."""
        self._precision, self._least = FORMATS[dtype]
        self._roundings = 1
        self._row_slack_R = self._column_slack_C = None
        if factors is not None:
            A_rC, B_Rr, magnitudes_R = factors
            self._roundings = 1 if magnitudes_R is None else DORA_ROUNDINGS
            unit = (len(A_rC) + 2) * 2.0**-24 * abs(scale)
            self._row_slack_R = unit * np.linalg.norm(B_Rr.astype(np.float64), axis=1)
            self._column_slack_C = np.linalg.norm(A_rC.astype(np.float64), axis=0)
        self.beyond = 0
        """Elements that rounding does not explain; NaN and infinity among them."""
        self.count = 0
        """Elements looked at."""
        self.worst = 0.0
        """Largest distance from base + adapter among those beyond."""

    def add(self, start: int, block_RC: Array, base_RC: Array, merged_RC: Array) -> None:
        """Look at rows ``start:`` of the weights, of the base's, and of base + adapter; all of one shape."""
        with np.errstate(invalid="ignore", over="ignore"):
            apart_RC = np.abs(block_RC.astype(np.float64) - merged_RC)
            explained_RC = apart_RC <= self._allowed(start, block_RC, base_RC, merged_RC)
            wrong_RC = ~(explained_RC & np.isfinite(apart_RC))  # the bound of infinity is infinite
        self.count += block_RC.size
        if wrong_RC.any():
            self.beyond += int(np.count_nonzero(wrong_RC))
            finite = apart_RC[wrong_RC & np.isfinite(apart_RC)]
            self.worst = max(self.worst, float(finite.max(initial=0.0)))

    def _allowed(
        self, start: int, block_RC: Array, base_RC: Array, merged_RC: Array
    ) -> NDArray[np.float64]:
        magnitude_RC = np.maximum(np.abs(block_RC), np.abs(merged_RC)).astype(np.float64)
        exponent_RC = np.maximum(np.frexp(magnitude_RC)[1] - 1, self._least)
        half_ulp_RC = np.ldexp(1.0, exponent_RC - self._precision)
        allowed_RC: NDArray[np.float64] = self._roundings * half_ulp_RC + 2.0**-23 * magnitude_RC
        if self._row_slack_R is not None and self._column_slack_C is not None:
            change_RC = np.abs(merged_RC.astype(np.float64) - base_RC)
            allowed_RC += 2.0 ** (1 - self._precision) * (change_RC + 2.0**self._least)
            rows_R = self._row_slack_R[start : start + len(block_RC), None]
            allowed_RC += rows_R * self._column_slack_C
        return allowed_RC


class Merging:
    """Base + adapter, tensor by tensor."""

    def __init__(self, merged: TensorSource | None, adapter: AdapterSource | None) -> None:
        self._merged, self._adapter = merged, adapter
        self._tensors = {} if merged is None else {t.name: t for t in merged.tensors}
        self._updates = {} if adapter is None else {u.name: u for u in adapter.updates}

    def rows(self, tensor: Tensor) -> Callable[[int, int], Array] | None:
        """Return what reads rows of base + adapter; None where there is nothing of that name and shape."""
        merged, other = self._merged, self._tensors.get(tensor.name)
        if merged is None or other is None or other.shape != tensor.shape:
            return None
        return lambda start, stop: merged.read(other, start, stop)

    def check(self, tensor: Tensor) -> MergeCheck | None:
        """Return what counts the elements that differ; None where the stored format's rounding is not known."""
        if self.rows(tensor) is None or tensor.dtype not in FORMATS:
            return None
        update = self._updates.get(tensor.name)
        if update is None or self._adapter is None:
            return MergeCheck(tensor.dtype, None, 1.0)
        try:
            return MergeCheck(tensor.dtype, self._adapter.factors(update), update.scale)
        except RunError:  # integrity.adapter says so
            return None
