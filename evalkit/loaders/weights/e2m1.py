"""4-bit floats (E2M1) in bytes, with a scale for every 16 or 32 inputs: NVFP4 and MXFP4.

A number is a place in the table of sixteen, the even column in the low half of a byte. NVFP4: a float8 per 16 inputs,
over ``weight_global_scale`` (compressed-tensors) or times ``weight_scale_2`` (ModelOpt). MXFP4: a power of two per 32
inputs; gpt-oss keeps them in 16 bytes (``_blocks``, ``_scales``), DeepSeek's experts in int8 (``weight_scale_inv``).

**Source**: compressed-tensors 0.20 ``nvfp4``, ``mxfp4`` and ``converters/modelopt_nvfp4.py``; transformers 5.23
``integrations/mxfp4.py`` (``convert_moe_packed_tensors``) and ``integrations/finegrained_fp8.py``; OCP Microscaling
Formats (MX) 1.0.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from evalkit.loaders.weights.blocks import blocks_of, per_group
from evalkit.loaders.weights.formats import as_float32
from evalkit.loaders.weights.headers import Header
from evalkit.loaders.weights.packed import E2M1, looked_up, powers
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

EXPONENTS: Final = ("U8", "F8_E8M0")
"""Formats of powers of two."""


def nvfp4_of_modelopt(members: Members, declared: Declared) -> Quantised:
    """Return ModelOpt's NVFP4 weight; raises Unreadable with the reason where it cannot be read."""
    weight = members.need(".weight", "U8")
    return floats_in_bytes(members, weight, members.need(".weight_scale", "F8_E4M3"), declared)


def floats_in_bytes(
    members: Members, weight: Header, scale: Header, declared: Declared
) -> Quantised:
    """Return a weight whose numbers are the halves of ``weight``'s bytes; raises Unreadable where scales do not fit.

    Where the scales are no powers of two, ``members`` is asked for ``.weight_global_scale`` or ``.weight_scale_2``.
    """
    import numpy as np

    if len(weight.shape) < 2:
        raise Unreadable(f"{weight.name} has shape {times(weight.shape)}, not a matrix")
    shape = (*weight.shape[:-1], weight.shape[-1] * 2)
    exponents = scale.dtype in EXPONENTS
    group = 32 if exponents else 16
    scales = blocks_of(
        scale, shape, replace(declared, groups=frozenset({group}), blocks=frozenset())
    )
    whole, divides = None, False
    if not exponents:
        divisor = members.get(".weight_global_scale")
        whole, divides = divisor or members.need(".weight_scale_2"), divisor is not None
        if whole.dtype not in ("F32", "BF16", "F16") or math.prod(whole.shape) != 1:
            raise Unreadable(
                f"{whole.name} is {whole.dtype} of {times(whole.shape)}, not one number"
            )

    def rows(load: Load, start: int, stop: int) -> Array:
        found = looked_up(load(weight.name, start, stop).view(np.uint8), _table())
        factors = scales.of_rows(load, start, stop)
        if whole is not None:
            number = as_float32(load(whole.name, 0, 1)).reshape(())
            factors = factors / number if divides else factors * number
        per_group(np.multiply, found, factors, scales.group_of)
        return found

    label = "mxfp4" if exponents else "nvfp4"
    return Quantised(shape, label, members.all_of(members.stem.removesuffix(".weight")), rows)


def _table() -> Array:
    import numpy as np

    return np.array(E2M1, np.float32)


def mxfp4_of_gpt_oss(members: Members, declared: Declared) -> Quantised:
    """Return stacked experts, (experts, in, out) as gpt-oss stores them unquantised; raises Unreadable with the reason.

    Rows are experts.
    """
    del declared
    blocks, scale = members.need("_blocks", "U8"), members.need("_scales", *EXPONENTS)
    if len(blocks.shape) != 4 or not all(blocks.shape) or blocks.shape[:-1] != scale.shape:
        raise Unreadable(
            f"{blocks.name} has shape {times(blocks.shape)} and its scales {times(scale.shape)}, which do not fit"
        )
    experts, outputs, groups, half = blocks.shape

    def rows(load: Load, start: int, stop: int) -> Array:
        import numpy as np

        found = looked_up(load(blocks.name, start, stop), _table())
        exponents = load(scale.name, start, stop).view(np.uint8)
        with np.errstate(over="ignore"):  # beyond float32 a weight is told to be infinite
            found *= powers(exponents)[..., None]
        return found.reshape(stop - start, outputs, groups * half * 2).swapaxes(1, 2)

    shape = (experts, groups * half * 2, outputs)
    return Quantised(shape, "mxfp4", members.all_of(members.stem), rows)
