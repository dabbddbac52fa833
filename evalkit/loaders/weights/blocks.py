"""Scales and zero points that blocks of a weight share: one for all, one per row, per group of inputs, per 2-D block.

All of them are one rule: along each axis a run of neighbours shares a number, and the length of the run follows from
the two shapes, or from the configuration, which alone can say that the last run is short.

**Source**: compressed-tensors 0.20 ``quantization/lifecycle/forward_helpers.py`` (strategies tensor, channel, group,
block); DeepSeek-V3 ``inference/kernel.py`` (blocks of 128×128).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from evalkit.loaders.weights.formats import as_float32
from evalkit.loaders.weights.headers import Header
from evalkit.loaders.weights.packed import powers
from evalkit.loaders.weights.quantised import Declared, Load, Unreadable, block_length, times

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]


FORMATS: Final = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E8M0", "U8", "I8", "I32")
"""Number formats of scales and zero points."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """Numbers that blocks of a weight share."""

    header: Header
    """Where they are stored."""
    shape: tuple[int, ...]
    """The weight's."""
    counts: tuple[int, ...]
    """How many numbers there are along each axis of the weight."""
    lengths: tuple[int, ...]
    """How many neighbours along each axis share one."""
    group_of: NDArray[np.intp]
    """Which number along the last axis each input uses."""

    def apply(self, operation: np.ufunc, found: Array, load: Load, start: int, stop: int) -> None:
        """Combine rows ``start:stop`` of the weight, which are in ``found``, with the numbers that they share."""
        per_group(operation, found, self.of_rows(load, start, stop), self.group_of)

    def of_rows(self, load: Load, start: int, stop: int) -> Array:
        """Return what rows ``start:stop`` share, stretched along all axes but the last: (rows or 1, …, groups)."""
        import numpy as np

        begin, end, length = 0, 1, self.lengths[0]
        if self.counts[0] > 1:
            begin, end = start // length, -(-stop // length)
        found = self._decoded(load(self.header.name, begin, end), end - begin)
        if self.counts[0] > 1 and length > 1:
            found = found[np.arange(start, stop) // length - begin]
        for axis in range(1, len(self.shape) - 1):
            if self.counts[axis] > 1:
                found = np.take(found, np.arange(self.shape[axis]) // self.lengths[axis], axis=axis)
        return found

    def _decoded(self, stored: NDArray[Any], count: int) -> Array:
        found = powers(stored) if self.header.dtype == "U8" else as_float32(stored)
        return found.reshape(count, *self.counts[1:])


def per_group(operation: np.ufunc, found: Array, shared: Array, group_of: NDArray[np.intp]) -> None:
    """Combine each input with the number of its group, in place: found[…, i] and shared[…, group_of[i]].

    ``found`` is C-contiguous. Groups of neighbours, all of one length, take no memory; others as much as ``found``.
    """
    import numpy as np

    count, inputs = shared.shape[-1], found.shape[-1]
    length = inputs // count
    if count == 1:
        operation(found, shared, out=found)
    elif length * count == inputs and np.array_equal(group_of, np.arange(inputs) // length):
        view = found.reshape(*found.shape[:-1], count, length)
        operation(view, shared[..., None], out=view)
    else:
        operation(found, shared[..., group_of], out=found)


def blocks_of(header: Header, shape: tuple[int, ...], declared: Declared) -> Blocks:
    """Return how a weight of ``shape`` shares the numbers in ``header``; raises Unreadable where they do not fit.

    One number is for all; as many as there are rows, one for each row; otherwise there must be as many axes. Bytes
    stand for powers of two (E8M0).
    """
    import numpy as np

    if header.dtype not in FORMATS:
        raise Unreadable(f"{header.name} is {header.dtype}, which no scale is stored as")
    counts = header.shape
    if all(count == 1 for count in counts):
        counts = (1,) * len(shape)
    elif counts == shape[:1]:
        counts = (*counts, *(1,) * (len(shape) - 1))
    sizes: list[frozenset[int]] = [frozenset()] * len(shape)
    sizes[-2] = frozenset(rows for rows, _ in declared.blocks)
    sizes[-1] = declared.groups | {columns for _, columns in declared.blocks}
    lengths = [
        block_length(length, count, said)
        for length, count, said in zip(shape, counts, sizes, strict=False)
    ]
    fitting = tuple(length for length in lengths if length)
    if len(counts) != len(shape) or len(fitting) != len(shape):
        raise Unreadable(
            f"{header.name} has shape {times(header.shape)}, which does not fit a weight of {times(shape)}"
        )
    return Blocks(header, shape, counts, fitting, np.arange(shape[-1]) // fitting[-1])
