"""An adapter in the terms of a base model: under the base's names, and as much apart as the base's tensors are.

An update of a fused projection becomes one of each part, with the part's rows of B; a tensor that is replaced comes
apart likewise, in (out, in) layout. So every update and every whole tensor stands beside the base's tensor of its name.
What fits nothing of the base stays as it is, for ``integrity.adapter`` to tell.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from evalkit.loaders.weights.layout import Piece
from evalkit.loaders.weights.names import module_of
from evalkit.loaders.weights.parts import Rows, fused_parts, is_turned, scope
from evalkit.loaders.weights.whole import WholeTensors
from evalkit.ports import AdapterSource, TensorSource
from evalkit.records.weights import LowRank, Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]


def fitted(base: TensorSource, adapter: AdapterSource) -> AdapterSource:
    """Return the adapter in the base's terms; doing it twice changes nothing more."""
    return _Fitted(base, adapter)


class _Fitted:
    """A ``ports.AdapterSource`` over another."""

    def __init__(self, base: TensorSource, adapter: AdapterSource) -> None:
        self.name, self.base, self.skipped = adapter.name, adapter.base, adapter.skipped
        self._adapter = adapter
        fit = _Fit(base)
        self._sources: dict[str, tuple[LowRank, Rows | None]] = {}
        updates = []
        for update in adapter.updates:
            for name, rows in fit.places(update.name, update.shape):
                shape = (rows.count, update.shape[1]) if rows else update.shape
                self._sources[name] = (update, rows)
                updates.append(replace(update, name=name, shape=shape))
        self.updates: Sequence[LowRank] = tuple(updates)
        pieces = [
            piece for tensor in adapter.whole.tensors for piece in fit.pieces(adapter.whole, tensor)
        ]
        self.whole = WholeTensors(adapter.name, pieces, adapter.whole.faults)

    def factors(self, update: LowRank) -> tuple[Array, Array, Array | None]:
        """Return an update's factors; see ``ports.AdapterSource.factors``."""
        import numpy as np

        source, rows = self._sources[update.name]
        A_KC, B_RK, magnitudes = self._adapter.factors(source)
        if rows is None:
            return A_KC, B_RK, magnitudes
        runs = list(rows.runs(0, rows.count))
        own = None if magnitudes is None else np.concatenate([magnitudes[a:b] for a, b in runs])
        return A_KC, np.concatenate([B_RK[a:b] for a, b in runs]), own


class _Fit:
    """How names and rows of an adapter's tensors are those of a base."""

    def __init__(self, base: TensorSource) -> None:
        self._config = base.config
        self._known = {tensor.name for tensor in base.tensors} | base.tied.keys()
        self._parts: dict[str, list[Tensor]] = {}
        for tensor in base.tensors:
            if tensor.part_of:
                self._parts.setdefault(tensor.part_of, []).append(tensor)
        self._known |= self._parts.keys()

    def places(self, name: str, shape: tuple[int, ...]) -> list[tuple[str, Rows | None]]:
        """Return the base's name of a tensor, or the names of its parts there, with their rows of it."""
        name = base_name(name, self._known)
        return [*self._rows(name, shape)] or [(name, None)]

    def pieces(self, whole: TensorSource, tensor: Tensor) -> Iterator[Piece]:
        """Yield a tensor that an adapter replaces, in the base's terms."""
        name = base_name(tensor.name, self._known)
        read: Callable[[int, int], Array] = partial(whole.read, tensor)
        own = tensor
        if len(tensor.shape) == 2 and is_turned(name, scope(self._config, name)):
            own, read = replace(tensor, shape=tensor.shape[::-1]), partial(_turned, whole, tensor)
        parts = {part.name: part for part in self._parts.get(name, ())}
        for place, rows in self.places(tensor.name, own.shape):
            if rows is None:
                yield Piece(replace(own, name=place), read)
            else:
                part = replace(parts[place], stored=tensor.stored, dtype=tensor.dtype)
                yield Piece(part, read, rows)

    def _rows(self, name: str, shape: tuple[int, ...]) -> Iterator[tuple[str, Rows]]:
        """Yield the base's parts of a tensor and their rows of it; none where they are not those of ``shape``."""
        parts = self._parts.get(name, [])
        if not parts or len(shape) != 2:
            return
        config = scope(self._config, name)
        module = module_of(name, shape, str(config.get("model_type", "")))
        apart = fused_parts(name, module, (shape[0], shape[1]), config)
        rows = {f"{name}[{part.label}]": part.rows for part in apart}
        shapes = {place: (own.count, shape[1]) for place, own in rows.items()}
        if all(shapes.get(part.name) == part.shape for part in parts):
            yield from ((part.name, rows[part.name]) for part in parts)


def _turned(whole: TensorSource, tensor: Tensor, start: int, stop: int) -> Array:
    """Return rows of a tensor that is stored (in, out), all of which is read for them."""
    import numpy as np

    return np.ascontiguousarray(whole.read(tensor).T[start:stop])


def base_name(name: str, known: Collection[str]) -> str:
    """Return the base's name of a tensor, which may have one prefix less or more than the adapter's.

    >>> base_name("transformer.h.0.attn.c_attn.weight", ["h.0.attn.c_attn.weight"])
    'h.0.attn.c_attn.weight'
    """
    inner = name.partition(".")[2]
    if name in known or inner in known:
        return name if name in known else inner
    longer = [one for one in known if one.partition(".")[2] == name]
    return longer[0] if len(longer) == 1 else name
