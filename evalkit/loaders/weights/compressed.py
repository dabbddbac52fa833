"""Integers of 1 to 8 bits packed by compressed-tensors.

They lie along the inputs, with 2^(b − 1) added; W = (q − z) · s with scales per row or group of inputs, zero points
packed along the outputs, and ``weight_g_idx`` naming each input's group where inputs were reordered.

**Source**: compressed-tensors 0.20 ``pack_quantized/base.py`` and ``helpers.py``; the rule of ``weight_g_idx`` is that
of 0.9, which still wrote it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from evalkit.loaders.weights.blocks import Blocks, blocks_of
from evalkit.loaders.weights.e2m1 import EXPONENTS, floats_in_bytes
from evalkit.loaders.weights.formats import as_float32
from evalkit.loaders.weights.headers import Header
from evalkit.loaders.weights.packed import MOST_BITS, unpack, words_for
from evalkit.loaders.weights.quantised import (
    Declared,
    Load,
    Members,
    Quantised,
    Unreadable,
    numbers,
    times,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

SCALES = ("F32", "F16", "BF16")
"""Formats of scales of integers."""


def packed_weight(members: Members, declared: Declared) -> Quantised:
    """Return a weight stored as ``weight_packed``; raises Unreadable with the reason where it cannot be read."""
    packed = members.need(".weight_packed", "I32", "U8")
    if packed.dtype == "U8":
        return floats_in_bytes(
            members, packed, members.need(".weight_scale", "F8_E4M3", *EXPONENTS), declared
        )
    return _integers(members, packed, declared)


def _integers(members: Members, packed: Header, declared: Declared) -> Quantised:
    scale = members.need(".weight_scale", *SCALES)
    shape = tuple(numbers(members.need(".weight_shape", "I64", "I32")))
    if len(shape) < 2 or len(shape) != len(packed.shape) or shape[:-1] != packed.shape[:-1]:
        raise Unreadable(
            f"{packed.name} has shape {times(packed.shape)}, which does not fit a weight of {times(shape)}"
        )
    bits = _bits(packed, shape[-1], declared.bits)
    scales = blocks_of(scale, shape, declared)
    zero = members.get(".weight_zero_point")
    if zero is None and declared.asymmetric:
        raise Unreadable(
            f"{members.stem}.weight_zero_point is missing, though the configuration is asymmetric"
        )
    scales = _reordered(members.get(".weight_g_idx"), scales)
    zeros = None if zero is None else _zeros(zero, scales, bits)

    def rows(load: Load, start: int, stop: int) -> Array:
        import numpy as np

        found = as_float32(unpack(load(packed.name, start, stop), bits, shape[-1]))
        if zeros is None:
            found -= 2 ** (bits - 1)
        else:
            unpacked = partial(_unpacked, load, zeros, bits)
            zeros.apply(np.subtract, found, unpacked, start, stop)
        scales.apply(np.multiply, found, load, start, stop)
        return found

    return Quantised(shape, f"packed int{bits}", members.all_of(members.stem), rows)


def _bits(packed: Header, inputs: int, declared: Collection[int]) -> int:
    """Return how many bits a number takes; raises Unreadable where the width of the words does not say it."""
    said = [bits for bits in declared or range(1, MOST_BITS + 1) if bits <= MOST_BITS]
    fitting = [bits for bits in said if words_for(inputs, bits) == packed.shape[-1]]
    if len(fitting) != 1:
        raise Unreadable(
            f"{packed.name} has {packed.shape[-1]} words for {inputs} inputs, which does not say the bits of each"
        )
    return fitting[0]


def _zeros(zero: Header, scales: Blocks, bits: int) -> Blocks:
    """Return the zero points as shared as the scales are; raises Unreadable where they do not fit."""
    *lead, rows, columns = scales.counts
    wanted = scales.header.shape
    if zero.dtype == "I32":
        wanted = (*lead, words_for(rows, bits), columns)
    if zero.dtype not in ("I8", "I32") or zero.shape != wanted:
        raise Unreadable(
            f"{zero.name} has shape {times(zero.shape)} of {zero.dtype}, which does not fit scales of "
            f"{times(scales.counts)}"
        )
    return replace(scales, header=zero)


def _unpacked(
    load: Load, zeros: Blocks, bits: int, name: str, start: int, stop: int
) -> NDArray[Any]:
    """Return zero points ``start:stop`` of the first axis in the same offset as the weight's numbers; a ``Load``."""
    import numpy as np

    if zeros.header.dtype == "I8":
        signed: NDArray[np.int16] = load(name, start, stop).astype(np.int16)
        signed += 2 ** (bits - 1)
        return signed
    matrix = len(zeros.counts) == 2  # whose rows are packed together
    words = load(name, 0, zeros.header.rows) if matrix else load(name, start, stop)
    found = np.swapaxes(unpack(np.swapaxes(words, -1, -2), bits, zeros.counts[-2]), -1, -2)
    return np.ascontiguousarray(found[start:stop] if matrix else found)


def _reordered(index: Header | None, scales: Blocks) -> Blocks:
    """Return the scales by the groups that the index names; raises Unreadable where it names one that is not there."""
    import numpy as np

    if index is None or scales.counts[-1] == 1:
        return scales
    found = np.array(numbers(index), dtype=np.int64)
    if -1 in found:  # as the library writes it before it has found an order
        return scales
    inputs, groups = scales.shape[-1], scales.counts[-1]
    if found.size != inputs or found.min() < 0 or found.max() >= groups:
        raise Unreadable(
            f"{index.name} does not name one of {groups} groups for each of {inputs} inputs"
        )
    return replace(scales, group_of=found.astype(np.intp))
