"""Weights packed by GPTQ and AWQ: integers in words, with inputs along the rows of what is stored.

GPTQ: ``qweight`` (in · b / 32, out) packs along the inputs, ``qzeros`` (groups, out · b / 32) along the outputs, and
``g_idx`` names each input's group; W[o, i] = scales[g, o] · (q[i, o] − z[g, o]). Its first format stores z − 1 and its
readers add 1 within b bits; ``gptq_v2`` stores z. AWQ ("gemm"): ``qweight`` (in, out / 8) packs 4 bits along the
outputs in an order of its own, zero points likewise, groups are neighbouring inputs. Either way the rows of W are
columns of what is stored, so any row costs reading the packed matrix; the last one is kept.

**Source**: AutoGPTQ ``nn_modules/qlinear/qlinear_cuda.py`` (``pack``, ``forward``); GPTQModel ``utils/model.py``
(``convert_gptq_v1_to_v2_format``); AutoAWQ ``modules/linear/gemm.py`` and ``utils/packing_utils.py``
(``dequantize_gemm``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from evalkit.loaders.weights.blocks import per_group
from evalkit.loaders.weights.formats import as_float32
from evalkit.loaders.weights.headers import Header
from evalkit.loaders.weights.packed import MOST_BITS, unpack, unpack_awq, words_for
from evalkit.loaders.weights.quantised import (
    Declared,
    Load,
    Members,
    Quantised,
    Unreadable,
    block_length,
    numbers,
    times,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

GPTQ_LAYOUTS: Final = {"": 1, "gptq": 1, "gptq_v2": 0}
"""GPTQ's formats → what is added to the zero points that they store."""
AWQ_LAYOUTS: Final = ("", "gemm", "awq")
"""AWQ's formats that are read."""


def packed_by_rows(members: Members, declared: Declared) -> Quantised:
    """Return a weight that is stored as ``qweight``; raises Unreadable with the reason where it cannot be read.

    The two methods are told apart by their shapes: GPTQ's words and scales have as many columns, AWQ's words an eighth.
    """
    words = members.need(".qweight", "I32")
    scale = members.need(".scales", "F16", "BF16", "F32")
    zero = members.need(".qzeros", "I32")
    if not all(len(header.shape) == 2 and all(header.shape) for header in (words, scale, zero)):
        shapes = ", ".join(times(header.shape) for header in (words, zero, scale))
        raise Unreadable(
            f"{words.name}, its zero points and scales have shapes {shapes}: not three matrices"
        )
    layout = declared.layout.rpartition(":")[2].removeprefix("auto_")
    if words.shape[1] == scale.shape[1]:
        return _gptq(members, (words, zero, scale), declared, layout)
    if words.shape[1] * 8 == scale.shape[1]:
        return _awq(members, (words, zero, scale), declared, layout)
    raise Unreadable(
        f"{words.name} has shape {times(words.shape)} and its scales {times(scale.shape)}: neither GPTQ's nor AWQ's"
    )


def _gptq(
    members: Members, stored: tuple[Header, Header, Header], declared: Declared, layout: str
) -> Quantised:
    import numpy as np

    words, zero, scale = stored
    if layout not in GPTQ_LAYOUTS:
        raise Unreadable(f"{words.name} is packed as {layout!r}; GPTQ's gptq and gptq_v2 are read")
    groups, outputs = scale.shape
    fitting = [
        bits
        for bits in declared.bits or range(2, MOST_BITS + 1)
        if zero.shape == (groups, words_for(outputs, bits)) and words.shape[0] * 32 % bits == 0
    ]
    if len(fitting) != 1:
        raise Unreadable(
            f"{zero.name} has shape {times(zero.shape)} for scales of {times(scale.shape)}, which does not say the "
            "bits of each"
        )
    bits, added = fitting[0], GPTQ_LAYOUTS[layout]
    inputs = words.shape[0] * 32 // bits
    group_of = _group_of(members, inputs, groups, declared)

    def rows(load: Load, start: int, stop: int) -> Array:
        q_words, z_words, s_GR = members.kept.whole(load, stored)
        z_GR = unpack(z_words, bits, outputs)[:, start:stop]
        z_GR = (z_GR + np.uint8(added)) & np.uint8(2**bits - 1)
        W_RC = as_float32(unpack(q_words[:, start:stop].T, bits, inputs))
        per_group(np.subtract, W_RC, as_float32(z_GR.T), group_of)
        per_group(np.multiply, W_RC, as_float32(s_GR[:, start:stop].T), group_of)
        return W_RC

    return Quantised((outputs, inputs), f"gptq int{bits}", members.all_of(members.stem), rows)


def _group_of(members: Members, inputs: int, groups: int, declared: Declared) -> NDArray[np.intp]:
    """Return the group of each input; raises Unreadable where it is not known or not there."""
    import numpy as np

    index = members.get(".g_idx")
    if index is None:
        length = block_length(inputs, groups, declared.groups)
        if length is None:
            raise Unreadable(
                f"{members.stem}.scales has {groups} groups, which do not fit {inputs} inputs"
            )
        return np.arange(inputs) // length
    found = np.array(numbers(index), dtype=np.int64)
    if found.size != inputs or found.min() < 0 or found.max() >= groups:
        raise Unreadable(
            f"{index.name} does not name one of {groups} groups for each of {inputs} inputs"
        )
    return found.astype(np.intp)


def _awq(
    members: Members, stored: tuple[Header, Header, Header], declared: Declared, layout: str
) -> Quantised:
    import numpy as np

    words, zero, scale = stored
    if layout not in AWQ_LAYOUTS or (declared.bits and 4 not in declared.bits):
        said = f"{layout or 'gemm'!r} with {', '.join(map(str, sorted(declared.bits)))} bits"
        raise Unreadable(f"{words.name} is packed as {said}; AWQ's gemm with 4 bits is read")
    groups, outputs = scale.shape
    inputs = words.shape[0]
    length = block_length(inputs, groups, declared.groups)
    if length is None or zero.shape != (groups, words.shape[1]):
        raise Unreadable(
            f"{members.stem} has scales of {times(scale.shape)} and zero points of {times(zero.shape)}, which do not "
            f"fit {inputs} inputs"
        )
    group_of = np.arange(inputs) // length

    def rows(load: Load, start: int, stop: int) -> Array:
        q_words, z_words, s_GR = members.kept.whole(load, stored)
        begin, end = start // 8, -(-stop // 8)
        within = slice(start - begin * 8, stop - begin * 8)
        q_CR, z_GR = (unpack_awq(words[:, begin:end])[:, within] for words in (q_words, z_words))
        W_RC = as_float32(q_CR.T)
        per_group(np.subtract, W_RC, as_float32(z_GR.T), group_of)
        per_group(np.multiply, W_RC, as_float32(s_GR[:, start:stop].T), group_of)
        return W_RC

    return Quantised((outputs, inputs), "awq int4", members.all_of(members.stem), rows)
