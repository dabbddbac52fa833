"""Weights of bitsandbytes: NF4 and FP4, whose numbers are places in a table, and int8 by rows.

The 4-bit kinds lay a weight out as one row of numbers, two in a byte, the first in the high half; a block of 64 (or as
``quant_state`` says) shares its largest absolute value, which may itself be a byte in a table of 256 over blocks of
256, plus an offset. int8: ``SCB`` is the largest absolute weight of a row, W = q · SCB / 127.

**Source**: bitsandbytes 0.50 ``functional.py`` (``QuantState.from_dict``, ``dequantize_4bit``,
``int8_vectorwise_dequant``).
**Deviation**: bitsandbytes multiplies int8 by 7.874015718698502e-3, which is 1/127 to 8 digits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from evalkit.loaders.weights.formats import as_float32
from evalkit.loaders.weights.headers import Header
from evalkit.loaders.weights.packed import looked_up
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

STATE: Final = ".weight.quant_state.bitsandbytes__"
"""What names the description of a 4-bit weight, with ``nf4`` or ``fp4`` behind it."""

STORAGE: Final = ("U8", "I8", "F16", "BF16", "F32", "F64")
"""Number formats that 4-bit weights hide in (``quant_storage``)."""


def four_bit_of_bitsandbytes(members: Members, declared: Declared) -> Quantised:
    """Return an NF4 or FP4 weight; raises Unreadable with the reason where it cannot be read."""
    del declared
    described = members.get(f"{STATE}nf4") or members.need(f"{STATE}fp4")
    state = _state(described)
    shape, block = state.shape, state.block
    weight, table = members.need(".weight", *STORAGE), members.need(".weight.quant_map", "F32")
    count, stored = math.prod(shape), weight.stop - weight.start
    if stored * 2 < count or table.shape != (16,):
        raise Unreadable(
            f"{weight.name} holds {stored} bytes and a table of {times(table.shape)}, which do not fit {times(shape)}"
        )
    peaks = _peaks(members, -(-count // block), state)
    columns, row_bytes = count // shape[0], stored // weight.rows

    def rows(load: Load, start: int, stop: int) -> Array:
        import numpy as np

        first, last = start * columns, stop * columns
        begin, end = first // 2 // row_bytes, -(-last // 2 // row_bytes)
        held = np.ascontiguousarray(load(weight.name, begin, end)).reshape(-1).view(np.uint8)
        codes = as_float32(load(table.name, 0, 16))
        skipped = first - begin * row_bytes * 2
        found = looked_up(held, codes, high_first=True)[skipped : skipped + last - first]
        found *= peaks(load, first // block, -(-last // block))[
            np.arange(first, last) // block - first // block
        ]
        return found.reshape(stop - start, *shape[1:])

    kind = described.name.rpartition("__")[2]
    return Quantised(shape, f"bnb {kind}", members.all_of(members.stem), rows)


@dataclass(frozen=True, slots=True)
class _State:
    """What bitsandbytes says of a weight."""

    shape: tuple[int, ...]
    block: int
    nested_block: int
    offset: float


def _state(header: Header) -> _State:
    """Return the JSON in ``quant_state``; raises Unreadable where it is none or says what cannot be."""
    try:
        said = json.loads(bytes(numbers(header)))
        state = _State(
            tuple(said["shape"]),
            said["blocksize"],
            said.get("nested_blocksize", 0),
            float(said.get("nested_offset", 0)),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreadable(f"{header.name} does not describe its weight: {error}") from error
    counts = (*state.shape, state.block)
    whole = all(type(number) is int and number > 0 for number in counts)
    if not whole or len(state.shape) < 2 or type(state.nested_block) is not int:
        raise Unreadable(
            f"{header.name} says shape {list(state.shape)} and blocks of {state.block}"
        )
    return state


def _peaks(members: Members, blocks: int, state: _State) -> Callable[[Load, int, int], Array]:
    """Return what reads the largest absolute values of blocks; raises Unreadable where they do not fit."""
    peak = members.need(".weight.absmax", "F32", "U8")
    if peak.shape != (blocks,):
        raise Unreadable(
            f"{peak.name} has shape {times(peak.shape)}, which does not fit {blocks} blocks of {state.block}"
        )
    if peak.dtype == "F32":
        return lambda load, start, stop: as_float32(load(peak.name, start, stop))
    outer = members.need(".weight.nested_absmax", "F32")
    table = members.need(".weight.nested_quant_map", "F32")
    block = state.nested_block
    if block < 1 or outer.shape != (-(-blocks // block),) or table.shape != (256,):
        raise Unreadable(
            f"{outer.name} has shape {times(outer.shape)}, which does not fit {blocks} numbers in blocks of {block}"
        )

    def nested(load: Load, start: int, stop: int) -> Array:
        import numpy as np

        found = as_float32(load(table.name, 0, 256))[load(peak.name, start, stop)]
        found *= as_float32(load(outer.name, 0, outer.rows))[np.arange(start, stop) // block]
        found += np.float32(state.offset)
        return found

    return nested


def int8_of_bitsandbytes(members: Members, declared: Declared) -> Quantised:
    """Return a weight of LLM.int8; raises Unreadable where its scale does not fit or its rows are shuffled."""
    del declared
    weight, scale = members.need(".weight", "I8"), members.need(".SCB", "F32", "F16", "BF16")
    if len(weight.shape) != 2 or scale.shape != weight.shape[:1]:
        raise Unreadable(
            f"{scale.name} has shape {times(scale.shape)}, which does not fit a weight of {times(weight.shape)}"
        )
    layout = members.get(".weight_format")
    if layout is not None and numbers(layout) != [0]:
        raise Unreadable(
            f"{layout.name} is {numbers(layout)}: only weights stored by rows are read"
        )

    def rows(load: Load, start: int, stop: int) -> Array:
        found = as_float32(load(weight.name, start, stop))
        found *= (as_float32(load(scale.name, start, stop)) / 127)[:, None]
        return found

    return Quantised(weight.shape, "bnb int8", members.all_of(members.stem), rows)
