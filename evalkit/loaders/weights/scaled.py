"""Weights of one stored number each, times a scale: float8 and int8, by tensor, row, group or block.

W = (q − z) · s. The scale is ``weight_scale`` (compressed-tensors, vLLM, FBGEMM) or ``weight_scale_inv`` (DeepSeek,
in spite of its name a factor); bytes are powers of two (MXFP8). Stacked experts, which have no ``.weight``, add the
same endings to their own names. int8 with powers of two holds two 4-bit floats in each byte.

**Source**: compressed-tensors 0.20 ``naive_quantized/base.py`` and ``mxfp8/base.py``; transformers 5.23
``integrations/finegrained_fp8.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from evalkit.loaders.weights.blocks import blocks_of
from evalkit.loaders.weights.e2m1 import EXPONENTS, floats_in_bytes
from evalkit.loaders.weights.formats import as_float32
from evalkit.loaders.weights.quantised import (
    Declared,
    Load,
    Members,
    Quantised,
    Unreadable,
    times,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

FLOAT8: Final = {
    "F8_E4M3": "fp8 e4m3", "F8_E5M2": "fp8 e5m2",
    "F8_E4M3FNUZ": "fp8 e4m3fnuz", "F8_E5M2FNUZ": "fp8 e5m2fnuz",
}  # fmt: skip
"""Formats of 8-bit floats that hold weights → how they are called."""


def scaled(members: Members, declared: Declared) -> Quantised:
    """Return the weight called as the members' stem; raises Unreadable where its scale is missing or does not fit."""
    weight = members.need("", "I8", *FLOAT8)
    label = FLOAT8.get(weight.dtype, "int8")
    scale = members.get("_scale_inv") or members.get("_scale")
    if scale is None:
        raise Unreadable(
            f"{weight.name} is {label} without its scale ({weight.name}_scale, {weight.name}_scale_inv)"
        )
    if weight.dtype == "I8" and scale.dtype in EXPONENTS:
        return floats_in_bytes(members, weight, scale, declared)
    if len(weight.shape) < 2:
        raise Unreadable(f"{weight.name} is {label} with shape {times(weight.shape)}, not a matrix")
    zero = members.get("_zero_point") if weight.dtype == "I8" else None
    if zero is None and weight.dtype == "I8" and declared.asymmetric:
        raise Unreadable(
            f"{weight.name}_zero_point is missing, though the configuration is asymmetric"
        )
    if zero is not None and zero.dtype not in ("I8", "I32"):
        raise Unreadable(f"{zero.name} is {zero.dtype}, not I8")
    scales = blocks_of(scale, weight.shape, declared)
    zeros = None if zero is None else blocks_of(zero, weight.shape, declared)

    def rows(load: Load, start: int, stop: int) -> Array:
        import numpy as np

        found = as_float32(load(weight.name, start, stop))
        if zeros is not None:
            zeros.apply(np.subtract, found, load, start, stop)
        scales.apply(np.multiply, found, load, start, stop)
        return found

    module = weight.name.removesuffix(".weight")
    return Quantised(weight.shape, label, members.all_of(module), rows)
