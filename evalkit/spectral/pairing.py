"""Which tensor of the base model each tensor is held against.

Names are canonical, so wrappers match; a name that a checkpoint does not store, since it is tied to another, stands
for that other. Shapes must be equal, but for tables: a vocabulary that has grown or shrunk is compared on the rows
that both have, and ``checks`` says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from evalkit.ports import TensorSource
from evalkit.records.weights import Form, Tensor

TABLES: tuple[Form, ...] = ("embedding", "head")
"""Forms with a row for each token."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A tensor and the base's of the same name."""

    tensor: Tensor
    """The tensor that is weighed."""
    base: Tensor | None = None
    """The base's; None where the base has none of this name, or there is no base."""
    rows: int = 0
    """Leading rows that both have and that are compared; 0 where nothing can be."""

    @property
    def compared(self) -> bool:
        """Whether there is something to compare."""
        return self.base is not None and (self.rows > 0 or self.tensor.shape == self.base.shape)

    @property
    def resized(self) -> bool:
        """Whether only part of the rows is compared."""
        return self.base is not None and self.rows > 0 and self.tensor.shape != self.base.shape


def pair_up(source: TensorSource, base: TensorSource | None) -> list[Pair]:
    """Return every tensor of ``source``, in its order, with the base's of the same name."""
    if base is None:
        return [Pair(tensor) for tensor in source.tensors]
    of_base = {tensor.name: tensor for tensor in base.tensors}
    pairs = []
    for tensor in source.tensors:
        found = find(of_base, tensor.name, base.tied)
        pairs.append(Pair(tensor, found, _common_rows(tensor, found)))
    return pairs


def find(tensors: Mapping[str, Tensor], name: str, tied: Mapping[str, str]) -> Tensor | None:
    """Return the tensor of a name, or the one that the name is tied to."""
    return tensors.get(name) or tensors.get(tied.get(name, ""))


def lacking(source: TensorSource, base: TensorSource) -> list[Tensor]:
    """Return the base's tensors whose name ``source`` does not store, in the base's order."""
    names = {tensor.name for tensor in source.tensors}
    return [tensor for tensor in base.tensors if tensor.name not in names]


def _common_rows(tensor: Tensor, base: Tensor | None) -> int:
    if base is None:
        return 0
    if tensor.shape == base.shape:
        return tensor.shape[0] if tensor.shape else 1
    tables = tensor.form in TABLES and base.form in TABLES
    if tables and tensor.shape[1:] == base.shape[1:]:
        return min(tensor.shape[0], base.shape[0])
    return 0
