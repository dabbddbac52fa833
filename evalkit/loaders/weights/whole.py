"""The tensors that an adapter replaces altogether: ``modules_to_save``, resized embeddings, trained biases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evalkit.loaders.weights.layout import Piece
from evalkit.records.weights import StructureFault, Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]


class WholeTensors:
    """A ``ports.TensorSource`` over pieces; of several that share a name the first counts."""

    def __init__(
        self, name: str, pieces: Iterable[Piece], faults: Sequence[StructureFault]
    ) -> None:
        self.name, self.faults = name, faults
        self.config: Mapping[str, Any] = {}
        self.vocabulary: int | None = None
        self.tied: Mapping[str, str] = {}
        self.skipped: Mapping[str, str] = {}
        self._pieces: dict[str, Piece] = {}
        for piece in pieces:
            self._pieces.setdefault(piece.tensor.name, piece)
        self.tensors: Sequence[Tensor] = tuple(piece.tensor for piece in self._pieces.values())

    def read(self, tensor: Tensor, start: int = 0, stop: int | None = None) -> Array:
        """Return rows ``start:stop`` of one of ``tensors``; see ``ports.TensorSource.read``."""
        begin, end, _ = slice(start, stop).indices(tensor.shape[0] if tensor.shape else 1)
        return self._pieces[tensor.name].read(begin, max(begin, end))
