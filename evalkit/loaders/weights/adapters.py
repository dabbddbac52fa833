"""A LoRA adapter's folder: its low-rank updates with their true scales, and the tensors it replaces altogether.

ΔW = scale · B A, with A (r, in) and B (out, r) whatever the base's layout; scale is alpha / r, or alpha / √r (rsLoRA),
with r and alpha of a module by ``rank_pattern`` and ``alpha_pattern``. Embeddings keep their factors turned:
ΔW = scale · (B A)ᵀ with A (r, tokens) and B (width, r). DoRA adds the magnitudes that rows of W + ΔW are brought to (of
an embedding: columns). Trained biases and ``modules_to_save`` are whole tensors.

**Source**: peft 0.21 ``tuners/lora/layer.py`` (``get_delta_weight``), ``tuners/lora/variants.py``
(``DoraLinearVariant``, ``DoraEmbeddingVariant``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from evalkit.errors import RunError, UsageError
from evalkit.loaders.weights.adapter_config import CONFIG, AdapterConfig, read_adapter_config
from evalkit.loaders.weights.fitted import fitted
from evalkit.loaders.weights.headers import Header, read_file, read_float32
from evalkit.loaders.weights.layout import Piece, plain_pieces
from evalkit.loaders.weights.merged import adapted
from evalkit.loaders.weights.names import canonical_name
from evalkit.loaders.weights.quantised import times
from evalkit.loaders.weights.whole import WholeTensors
from evalkit.ports import AdapterSource
from evalkit.records.weights import NO_WEIGHT, LowRank, StructureFault

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

__all__ = ["LoraAdapter", "adapted", "fitted", "open_adapter"]

WEIGHTS: Final = "adapter_model.safetensors"
PICKLED: Final = "adapter_model.bin"
MAGNITUDE: Final = "lora_magnitude_vector"
FLOATS: Final = ("F64", "F32", "F16", "BF16")
"""Number formats of factors."""
_PART = re.compile(
    r"(?P<stem>.+)\.(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)"
    r"(?!\.bias$)(\.[^.]+)?(\.weight)?$"
)


def open_adapter(folder: Path) -> AdapterSource:
    """Return the LoRA adapter in a folder.

    Raises UsageError where there is none, where it is pickled or of another kind, with what to do; RunError where its
    files cannot be read.
    """
    config = read_adapter_config(folder)
    path = folder / WEIGHTS
    if not path.is_file():
        if (folder / PICKLED).is_file():
            raise UsageError(
                f"{str(folder)!r} holds a pickled adapter ({PICKLED}), which runs code when it is read; convert it: "
                "PeftModel.from_pretrained(base, folder).save_pretrained(new_folder)"
            )
        raise UsageError(f"{str(folder)!r} holds no {WEIGHTS}")
    headers, faults = read_file(path)
    if not headers:
        why = faults[0].message if faults else f"{WEIGHTS} holds no tensors"
        raise RunError(f"{str(folder)!r}: {why}", "copy the adapter again")
    return LoraAdapter(folder, config, headers, faults)


class _Unreadable(Exception):
    """An update cannot be read; its text is the reason."""


@dataclass(frozen=True, slots=True)
class _Update:
    """One update and where its factors lie."""

    described: LowRank
    down: Header
    up: Header
    magnitude: Header | None
    turned: bool
    """Whether ``down`` is (r, tokens) and ``up`` (width, r), as embeddings have it."""


class LoraAdapter:
    """A LoRA adapter in a folder; a ``ports.AdapterSource``."""

    def __init__(
        self,
        folder: Path,
        config: AdapterConfig,
        headers: Mapping[str, Header],
        faults: Sequence[StructureFault],
    ) -> None:
        self.name = str(folder)
        self.base = config.base
        self.skipped: dict[str, str] = {}
        self._updates: dict[str, _Update] = {}
        modules: dict[str, dict[str, Header]] = {}
        whole: dict[str, Header] = {}
        for header in headers.values():
            part = _PART.match(header.name)
            place, key = whole, canonical_name(header.name.replace(".modules_to_save.", "."))
            if part:
                place, key = modules.setdefault(part["stem"], {}), part["part"]
            why = "" if part else _why_no_weight(header)
            if key in place:
                why = f"{place[key].name} is the same"
            if why:
                self.skipped[header.name] = why
            else:
                place[key] = header
        for stem, parts in modules.items():
            try:
                one = _read_update(canonical_name(stem), parts, config)
                if one.described.name in self._updates:
                    raise _Unreadable(f"{one.described.name} is updated twice")
            except _Unreadable as error:
                self.skipped |= dict.fromkeys(
                    (header.name for header in parts.values()), str(error)
                )
                continue
            self._updates[one.described.name] = one
            if one.magnitude is None and (unused := parts.get(MAGNITUDE)):
                self.skipped[unused.name] = (
                    f"{NO_WEIGHT}{CONFIG} does not say use_dora, so nothing reads it"
                )
        self.whole = WholeTensors(self.name, _pieces(whole), faults)
        self.updates: Sequence[LowRank] = tuple(one.described for one in self._updates.values())

    def factors(self, update: LowRank) -> tuple[Array, Array, Array | None]:
        """Return A (r, in), B (out, r) and DoRA's magnitudes or None, as float32.

        Magnitudes are (out,), of an embedding (in,). Raises RunError where the bytes cannot be read.
        """
        import numpy as np

        one = self._updates[update.name]
        down, up = (read_float32(header) for header in (one.down, one.up))
        down, up = down.reshape(update.rank, -1), up.reshape(-1, update.rank)
        if one.turned:
            down, up = np.ascontiguousarray(up.T), np.ascontiguousarray(down.T)
        magnitude = None if one.magnitude is None else read_float32(one.magnitude).reshape(-1)
        return down, up, magnitude


def _read_update(module: str, parts: Mapping[str, Header], config: AdapterConfig) -> _Update:
    """Return a module's update; raises _Unreadable with the reason where its factors do not make one."""
    turned = "lora_embedding_A" in parts or "lora_embedding_B" in parts
    kind = "lora_embedding" if turned else "lora"
    down, up = parts.get(f"{kind}_A"), parts.get(f"{kind}_B")
    magnitude = parts.get(MAGNITUDE) if config.dora else None
    if len({part[:-1] for part in parts} - {MAGNITUDE[:-1]}) > 1:
        raise _Unreadable(f"{module} has factors of a matrix and of an embedding")
    if down is None or up is None:
        raise _Unreadable(f"{module} has one factor of two")
    if formats := {header.dtype for header in parts.values()} - set(FLOATS):
        raise _Unreadable(f"{module} has factors of {', '.join(sorted(formats))}")
    if config.dora and magnitude is None:
        raise _Unreadable(f"{module} lacks the magnitudes that use_dora promises")
    if config.updates_parameters(module):
        raise _Unreadable(f"{module} updates parameters (target_parameters), which is not read")
    matrices = min(len(down.shape), len(up.shape)) > 1 and 0 not in (*down.shape, *up.shape)
    if not matrices or up.shape[1] != down.shape[0]:
        shapes = f"{times(down.shape)} and {times(up.shape)}"
        raise _Unreadable(f"{module} has factors of {shapes}, which do not fit")
    rank = down.shape[0]
    inputs, outputs = math.prod(down.shape[1:]), math.prod(up.shape) // rank
    shape = (inputs, outputs) if turned else (outputs, inputs)
    if magnitude is not None and math.prod(magnitude.shape) != outputs:
        raise _Unreadable(f"{module} has {math.prod(magnitude.shape)} magnitudes for {outputs}")
    if (said := config.rank_of(module)) != rank:
        raise _Unreadable(f"{module} has rank {rank}, but {CONFIG} says {said}: it would not load")
    scale = config.scale_of(module)
    described = LowRank(f"{module}.weight", rank, shape, scale, dora=magnitude is not None)
    return _Update(described, down, up, magnitude, turned)


def _pieces(whole: Mapping[str, Header]) -> Iterator[Piece]:
    """Yield the tensors that are replaced, with fused ones whole and in the layout they are stored in."""
    for name, header in whole.items():
        for piece in plain_pieces(replace(header, name=name), {}, split=False):
            yield replace(piece, tensor=replace(piece.tensor, stored=header.name))


def _why_no_weight(header: Header) -> str:
    """Return why a tensor is neither part of an update nor a whole one; or nothing."""
    if re.search(r"\.lora_[AB](\.[^.]+)?\.bias$", header.name):
        return "a bias of the update itself (lora_bias), which is not read"
    if ".token_adapter." in header.name or "trainable_tokens" in header.name:
        return "single tokens' rows (trainable_token_indices), which are not read"
    if ".original_module." in header.name:
        return f"{NO_WEIGHT}the base's own tensor, saved along with the one that takes its place"
    if 0 in header.shape:
        return f"{NO_WEIGHT}it holds no numbers"
    if ".lora_" in header.name:
        return "part of a kind of update that is not known here"
    return "" if header.dtype in FLOATS else f"a whole tensor of {header.dtype}"
