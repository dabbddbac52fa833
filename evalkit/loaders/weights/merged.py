"""A base model with an adapter's updates in it: W + ΔW, row block by row block, as merging would store it.

Rows of ΔW are scale · B[rows] A, so no more of B A than the rows asked for is ever formed. DoRA brings every row of
W + ΔW to its magnitude; of an embedding every column, whose norms take one pass over the table before the first row.

**Source**: peft 0.21 ``tuners/lora/layer.py`` (``merge``) and ``tuners/lora/variants.py``.
**Deviation**: sums are float32 whatever the base is stored in; peft rounds them to the base's format. An update of an
output head that is tied to the embedding makes a head of its own; merging in peft moves the embedding along with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from evalkit.loaders.weights.fitted import fitted
from evalkit.ports import AdapterSource, TensorSource
from evalkit.records.weights import LowRank, StructureFault, Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

BLOCK: Final = 1 << 22
"""Numbers of a table read at once while its columns are measured."""


def adapted(base: TensorSource, adapter: AdapterSource) -> TensorSource:
    """Return the base with the adapter's updates and whole tensors in it.

    Its ``tensors`` are the base's, in the shapes of those that take their place (a resized embedding, say); then heads
    that are tied in the base and have an update of their own; then what the adapter alone has. Its ``faults`` tell, as
    ``integrity.adapter``, of updates for which the base has no tensor, or one of another shape: these are left out.
    """
    return _Adapted(base, fitted(base, adapter))


@dataclass(frozen=True, slots=True)
class _Change:
    """Where the rows of one tensor come from."""

    source: TensorSource
    """What has the rows before the update: the base, or the adapter where it replaces the tensor."""
    tensor: Tensor
    """Which of its tensors."""
    update: LowRank | None = None
    """What is added."""


class _Adapted:
    """A ``ports.TensorSource`` over a base and an adapter in its terms."""

    def __init__(self, base: TensorSource, adapter: AdapterSource) -> None:
        self.name = f"{base.name} + {adapter.name}"
        self.config, self.vocabulary = base.config, base.vocabulary
        self.skipped: Mapping[str, str] = {**base.skipped, **adapter.skipped}
        self.faults: list[StructureFault] = [*base.faults, *adapter.whole.faults]
        self._base, self._adapter = base, adapter
        self._factors: tuple[LowRank, tuple[Array, Array, Array | None]] | None = None
        self._norms: tuple[str, Array] | None = None
        self._changes: dict[str, _Change] = {}
        self.tensors: Sequence[Tensor] = tuple(self._planned())
        self.tied = {name: of for name, of in base.tied.items() if name not in self._changes}

    def read(self, tensor: Tensor, start: int = 0, stop: int | None = None) -> Array:
        """Return rows ``start:stop`` of one of ``tensors``; see ``ports.TensorSource.read``."""
        import numpy as np

        begin, end, _ = slice(start, stop).indices(tensor.shape[0] if tensor.shape else 1)
        end = max(begin, end)
        change = self._changes[tensor.name]
        if change.update is None:
            return change.source.read(change.tensor, begin, end)
        magnitudes = self._factors_of(change.update)[2]
        with np.errstate(all="ignore"):  # what is not finite passes as it is
            W_RC = self._moved(change, change.update, begin, end)
            if magnitudes is not None and tensor.form == "embedding":
                W_RC *= magnitudes / self._column_norms(tensor, change, change.update)
            elif magnitudes is not None:
                norms_R = np.sqrt(np.einsum("rc,rc->r", W_RC, W_RC, dtype=np.float64))
                W_RC *= (magnitudes[begin:end] / norms_R)[:, None].astype(np.float32)
        return W_RC.reshape(end - begin, *tensor.shape[1:])

    def _planned(self) -> Iterator[Tensor]:
        """Yield the tensors and note where the rows of each come from; adds to ``faults``."""
        updates = {update.name: update for update in self._adapter.updates}
        wholes = {tensor.name: tensor for tensor in self._adapter.whole.tensors}
        of_base = {tensor.name: tensor for tensor in self._base.tensors}
        for name, tensor in of_base.items():
            change, planned = _Change(self._base, tensor), tensor
            if whole := wholes.pop(name, None):
                change = _Change(self._adapter.whole, whole)
                planned = replace(tensor, shape=whole.shape, dtype=whole.dtype)
            yield self._plan(planned, change, updates.pop(name, None))
        for name, whole in wholes.items():
            yield self._plan(whole, _Change(self._adapter.whole, whole), updates.pop(name, None))
        for name, table in self._base.tied.items():
            if name in updates and table in of_base:
                head = replace(of_base[table], name=name, module="head", form="head")
                yield self._plan(head, _Change(self._base, of_base[table]), updates.pop(name))
        self.faults += [
            _fault(name, "is updated, but the base has no such tensor") for name in updates
        ]

    def _plan(self, tensor: Tensor, change: _Change, update: LowRank | None) -> Tensor:
        if update is not None and update.shape != tensor.matrix_shape:
            self.faults.append(_fault(tensor.name, "is updated in another shape than the base's"))
        elif update is not None:
            change = replace(change, update=update)
        self._changes[tensor.name] = change
        return tensor

    def _moved(self, change: _Change, update: LowRank, start: int, stop: int) -> Array:
        """Return the rows of W + ΔW as a matrix, before DoRA."""
        import numpy as np

        A_KC, B_RK, _ = self._factors_of(update)
        delta_RC: Array = B_RK[start:stop] @ A_KC
        delta_RC *= np.float32(update.scale)
        delta_RC += change.source.read(change.tensor, start, stop).reshape(delta_RC.shape)
        return delta_RC

    def _factors_of(self, update: LowRank) -> tuple[Array, Array, Array | None]:
        """Return an update's factors; those of the last are kept, for its rows are asked for block by block."""
        last = self._factors
        if last is None or last[0] is not update:
            self._factors = None
            self._factors = last = (update, self._adapter.factors(update))
        return last[1]

    def _column_norms(self, tensor: Tensor, change: _Change, update: LowRank) -> Array:
        """Return the norms of the columns of W + ΔW; those of the last tensor are kept."""
        import numpy as np

        last = self._norms
        if last is None or last[0] != tensor.name:
            rows, columns = tensor.matrix_shape
            squares_C, step = np.zeros(columns), max(1, BLOCK // columns)
            for start in range(0, rows, step):
                W_RC = self._moved(change, update, start, min(start + step, rows))
                squares_C += np.einsum("rc,rc->c", W_RC, W_RC, dtype=np.float64)
            self._norms = last = (tensor.name, np.sqrt(squares_C).astype(np.float32))
        return last[1]


def _fault(name: str, why: str) -> StructureFault:
    return StructureFault("integrity.adapter", name, f"{name} {why}")
