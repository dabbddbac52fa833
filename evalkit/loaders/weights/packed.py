"""Several small numbers in one stored word, taken apart.

Integers of b bits lie in a stream of bits, the first in the lowest bits of the first byte; where b does not divide 8 a
number may straddle two words. AWQ alone shuffles the eight numbers of a word.

**Source**: compressed-tensors 0.20 ``pack_quantized/helpers.py`` (``pack_to_int32``); AutoGPTQ ``qlinear_cuda.py``
(``QuantLinear.pack``, whose three words of 32 3-bit numbers are that same stream); AutoAWQ ``modules/linear/gemm.py``
(``order_map``); OCP Microscaling Formats (MX) 1.0, sections 5.3 (E2M1) and 5.4 (E8M0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

MOST_BITS: Final = 8
"""Integers of more bits are never packed."""
AWQ_PLACES: Final = (0, 4, 1, 5, 2, 6, 3, 7)
"""Where in an AWQ word the numbers of eight neighbouring columns lie, in units of 4 bits."""
E2M1: Final = (
    0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0,
    -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0,
)  # fmt: skip
"""The sixteen numbers of the 4-bit float."""


def words_for(count: int, bits: int) -> int:
    """Return how many 32-bit words hold ``count`` numbers of ``bits`` bits.

    >>> words_for(32, 3), words_for(9, 4)
    (3, 2)
    """
    return -(-count * bits // 32)


def unpack(words: NDArray[Any], bits: int, count: int) -> Bytes:
    """Return the first ``count`` numbers along the last axis, 0 to 2^bits − 1; ``words`` are 32-bit integers."""
    import numpy as np

    words = np.ascontiguousarray(words)
    if 8 % bits == 0:
        return _from_bytes(words.view(np.uint8), bits)[..., :count]
    first, offset = np.divmod(np.arange(count) * bits, 32)
    words = words.view(np.uint32)
    low = words[..., first] >> offset.astype(np.uint32)
    # What straddles two words: shifting by 32 − offset in two steps, for a shift by 32 is undefined.
    after = np.minimum(first + 1, words.shape[-1] - 1)
    high = words[..., after] << (31 - offset).astype(np.uint32) << np.uint32(1)
    taken: Bytes = ((low | high) & np.uint32((1 << bits) - 1)).astype(np.uint8)
    return taken


def _from_bytes(stored: Bytes, bits: int) -> Bytes:
    """Return the numbers in bytes, the lowest bits of each first."""
    import numpy as np

    per_byte = 8 // bits
    out = np.empty((*stored.shape[:-1], stored.shape[-1] * per_byte), np.uint8)
    for place in range(per_byte):
        np.right_shift(stored, place * bits, out=out[..., place::per_byte])
    np.bitwise_and(out, (1 << bits) - 1, out=out)
    return out


def looked_up(
    stored: Bytes, table: NDArray[np.float32], *, high_first: bool = False
) -> NDArray[np.float32]:
    """Return the two numbers of each byte along the last axis, which are places in a table of sixteen.

    The number in the low half of a byte comes first unless told otherwise.
    """
    import numpy as np

    low, high = np.tile(table, 16), np.repeat(table, 16)
    pairs = np.stack((high, low) if high_first else (low, high), axis=-1)
    found: NDArray[np.float32] = np.take(pairs, stored, axis=0)
    return found.reshape(*stored.shape[:-1], stored.shape[-1] * 2)


def unpack_awq(words: NDArray[Any]) -> Bytes:
    """Return the eight 4-bit numbers of each word along the last axis, in the order of columns."""
    import numpy as np

    words = np.ascontiguousarray(words).view(np.uint32)
    out = np.empty((*words.shape, 8), np.uint8)
    for column, place in enumerate(AWQ_PLACES):
        np.right_shift(words, 4 * place, out=out[..., column], casting="unsafe")
    np.bitwise_and(out, 15, out=out)
    return out.reshape(*words.shape[:-1], words.shape[-1] * 8)


def powers(exponents: NDArray[Any]) -> NDArray[np.float32]:
    """Return 2^(e − 127) for bytes e (E8M0); 255 is NaN."""
    import numpy as np

    with np.errstate(over="ignore"):
        found = np.ldexp(np.float32(1), exponents.astype(np.int32) - 127)
    return np.where(exponents == 255, np.float32(np.nan), found).astype(np.float32)
