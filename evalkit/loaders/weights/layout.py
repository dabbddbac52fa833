"""From stored tensors to logical ones: (out, in), experts and fused projections apart; and where their rows lie.

A logical tensor's rows are rows or columns of one stored matrix, all of them or a regular choice, so that no more is
read than was asked for. Two exceptions: of a block of quantised experts one is decoded whole, and where every other row
is wanted, the rows between are read as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING

from evalkit.loaders.weights.headers import Header, read_columns, read_float32
from evalkit.loaders.weights.names import canonical_name, depth_of, expert_of, form_of, module_of
from evalkit.loaders.weights.parts import (
    Config,
    Part,
    Rows,
    experts_turned,
    fused_parts,
    is_turned,
    scope,
)
from evalkit.records.weights import Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from evalkit.loaders.weights.quantised import Load, Quantised

    Array = NDArray[np.float32]

ReadRows = Callable[[int, int], "Array"]
"""Start, stop → these rows of a whole tensor in its logical layout, as float32."""


@dataclass(frozen=True, slots=True)
class TurnedTensor(Tensor):
    """A matrix that its file holds as (in, out): the transpose of what is read, and of what its ``shape`` says.

    The parameter of the model's class is turned likewise, as GPT-2's linear layers and some blocks of experts are.
    """


@dataclass(frozen=True, slots=True)
class Piece:
    """A logical tensor and where its numbers come from."""

    tensor: Tensor
    """The tensor."""
    whole: ReadRows
    """Reads the tensor that it is a part of, or itself."""
    rows: Rows | None = None
    """Which rows of that one it has; None for all."""

    def read(self, start: int, stop: int) -> Array:
        """Return rows ``start:stop`` as float32, C-contiguous."""
        import numpy as np

        if self.rows is None:
            return self.whole(start, stop)
        if self.rows.length == 1 and stop > start:  # every other row of one stretch
            first, step = self.rows.first, self.rows.stride
            stretch = self.whole(first + start * step, first + (stop - 1) * step + 1)
            return np.ascontiguousarray(stretch[::step])
        runs = list(self.rows.runs(start, stop))
        if len(runs) == 1:
            return self.whole(*runs[0])
        out, filled = np.empty((stop - start, *self.tensor.shape[1:]), np.float32), 0
        for begin, end in runs:
            out[filled : filled + end - begin] = self.whole(begin, end)
            filled += end - begin
        return out


class OneExpert:
    """Decodes experts of quantised blocks, and keeps the last: gate and up lie in the same one."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._last: tuple[Quantised, int, Array] | None = None

    def rows(self, weight: Quantised, number: int, turned: bool, start: int, stop: int) -> Array:
        """Return rows ``start:stop`` of one expert in (out, in) layout."""
        import numpy as np

        last = self._last
        if last is None or last[0] is not weight or last[1] != number:
            self._last = last = None  # two experts at once are more than is needed
            self._last = last = (weight, number, weight.read(self._load, number, number + 1)[0])
        matrix = last[2].T if turned else last[2]
        return np.ascontiguousarray(matrix[start:stop])


def plain_pieces(header: Header, config: Config, *, split: bool) -> Iterator[Piece]:
    """Yield the logical tensors of a tensor stored in a plain number format."""
    name, shape = canonical_name(header.name), header.shape
    inner = scope(config, name)
    tensor = _described(header.name, shape, header.dtype, inner)
    turned = experts_turned(name, tensor.module, shape, inner)
    if turned is not None:
        size = (header.stop - header.start) // max(shape[0], 1)
        for number in range(shape[0]):
            begin = header.start + number * size
            matrix = replace(header, shape=shape[1:], start=begin, stop=begin + size)
            read = partial(read_columns if turned else read_float32, matrix)
            yield from _apart(_expert(tensor, number, turned=turned), read, inner, split=split)
    elif len(shape) == 2 and is_turned(name, inner):
        whole = _turned(replace(tensor, shape=shape[::-1]))
        yield from _apart(whole, partial(read_columns, header), inner, split=split)
    else:
        header = replace(header, shape=_squeezed(name, shape))
        tensor = _described(header.name, header.shape, header.dtype, inner)
        yield from _apart(tensor, partial(read_float32, header), inner, split=split)


def quantised_pieces(
    stored: str, weight: Quantised, config: Config, load: Load, experts: OneExpert, *, split: bool
) -> Iterator[Piece]:
    """Yield the logical tensors of a quantised weight, which is (out, in) already where it is one matrix."""
    name = canonical_name(stored)
    inner = scope(config, name)
    tensor = _described(stored, weight.shape, weight.dtype, inner)
    turned = experts_turned(name, tensor.module, weight.shape, inner)
    if turned is None:
        yield from _apart(tensor, partial(weight.read, load), inner, split=split)
        return
    for number in range(weight.shape[0]):
        read = partial(experts.rows, weight, number, turned)
        yield from _apart(_expert(tensor, number, turned=turned), read, inner, split=split)


def _described(stored: str, shape: tuple[int, ...], dtype: str, config: Config) -> Tensor:
    name = canonical_name(stored)
    module = module_of(name, shape, str(config.get("model_type", "")))
    form = form_of(name, shape, module)
    return Tensor(name, stored, shape, dtype, module, form, depth_of(name), expert_of(name))


def _expert(block: Tensor, number: int, *, turned: bool) -> Tensor:
    _, rows, columns = block.shape
    shape = (columns, rows) if turned else (rows, columns)
    name = f"{block.name}[{number}]"
    one = replace(block, name=name, shape=shape, form="matrix", expert=number)
    return _turned(one) if turned else one


def _turned(tensor: Tensor) -> TurnedTensor:
    """Return a tensor, described in its logical layout, as one that is stored the other way round."""
    return TurnedTensor(**{field.name: getattr(tensor, field.name) for field in fields(tensor)})


def _squeezed(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Drop leading axes of length 1 of what is no kernel: a class token (1, 1, d) is a vector."""
    while len(shape) > 1 and shape[0] == 1 and not name.endswith(".weight"):
        shape = shape[1:]
    return shape


def _apart(tensor: Tensor, read: ReadRows, config: Config, *, split: bool) -> Iterator[Piece]:
    """Yield the projections fused in a tensor, or itself; ``config`` is the scope of its name."""
    parts: tuple[Part, ...] = ()
    if split and len(tensor.shape) == 2 and tensor.form == "matrix":
        rows, columns = tensor.shape
        name = canonical_name(tensor.stored)
        parts = fused_parts(name, tensor.module, (rows, columns), config)
    if not parts:
        yield Piece(tensor, read)
    for part in parts:
        own = replace(
            tensor,
            name=f"{tensor.name}[{part.label}]",
            shape=(part.rows.count, tensor.shape[1]),
            module=part.module,
            part_of=tensor.name,
        )
        yield Piece(own, read, part.rows)
