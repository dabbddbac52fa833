"""Number formats of stored tensors: how many bits each takes, its numpy type, and its numbers as float32.

bfloat16 is the upper half of a float32, so its numbers are made by a shift; float16's by a shift of exponent and
fraction and one multiplication by 2¹¹², which also makes its subnormal numbers; float8's by a table of 256. Work is
done in pieces that stay in the processor's cache, so that a pass costs little more than reading the file.

**Source**: the safetensors format (names and widths); IEEE 754; OCP 8-bit floating point 1.0.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BITS: Final = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8,
    "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
"""Format → bits of one number."""
UNREAD: Final = ("F4", "F6_E2M3", "F6_E3M2", "C64")
"""Formats whose numbers are not read."""
PIECE: Final = 1 << 19
"""Numbers converted at once, 2 MiB of float32: few enough for the cache, so many that a call costs nothing."""

_NUMPY: Final = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "I16": "<i2", "U16": "<u2", "I32": "<i4", "U32": "<u4",
    "I64": "<i8", "U64": "<u8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip
_ML_DTYPES: Final = {
    "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu", "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip


@cache
def numpy_type(dtype: str) -> np.dtype[Any]:
    """Return the numpy type of a stored format (bfloat16 and float8 by ``ml_dtypes``); KeyError for ``UNREAD`` ones."""
    import numpy as np

    if dtype in _NUMPY:
        return np.dtype(_NUMPY[dtype])
    import ml_dtypes

    found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, _ML_DTYPES[dtype]))
    return found


def as_float32(stored: NDArray[Any]) -> NDArray[np.float32]:
    """Return the same numbers as a new float32 array of the same shape; exact but for float64 and wide integers.

    A float64 beyond float32's range becomes infinite.
    """
    import numpy as np

    out = np.empty(stored.shape, np.float32)
    convert(stored.reshape(-1), out.reshape(-1))
    return out


def convert(stored_N: NDArray[Any], out_N: NDArray[np.float32]) -> None:
    """Write the numbers of ``stored_N`` into ``out_N`` as float32; both are contiguous."""
    for start in range(0, stored_N.size, PIECE):
        _convert_piece(stored_N[start : start + PIECE], out_N[start : start + PIECE])


def _convert_piece(stored_N: NDArray[Any], out_N: NDArray[np.float32]) -> None:
    import numpy as np

    kind = stored_N.dtype.name
    if kind == "bfloat16":
        bits_N = out_N.view(np.uint32)
        np.copyto(bits_N, stored_N.view(np.uint16))
        np.left_shift(bits_N, 16, out=bits_N)
    elif kind == "float16":
        _half(stored_N, out_N)
    elif kind.startswith("float8"):
        np.take(_table(kind), stored_N.view(np.uint8), out=out_N, mode="wrap")
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            np.copyto(out_N, stored_N, casting="unsafe")


def _half(stored_N: NDArray[Any], out_N: NDArray[np.float32]) -> None:
    import numpy as np

    bits_N = out_N.view(np.int32)
    np.copyto(bits_N, stored_N.view(np.int16))  # the sign fills the upper half
    np.left_shift(bits_N, 13, out=bits_N)
    np.bitwise_and(bits_N, np.int32(0x0FFFE000 - (1 << 31)), out=bits_N)
    np.multiply(out_N, np.float32(2.0**112), out=out_N)
    if (
        out_N.max() >= 65536 or out_N.min() <= -65536
    ):  # infinity and NaN have an exponent of their own
        np.copyto(out_N, stored_N)


@cache
def _table(kind: str) -> NDArray[np.float32]:
    import ml_dtypes
    import numpy as np

    bytes_N = np.arange(256, dtype=np.uint8)
    table: NDArray[np.float32] = bytes_N.view(getattr(ml_dtypes, kind)).astype(np.float32)
    return table
