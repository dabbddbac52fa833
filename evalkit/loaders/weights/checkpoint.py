"""A checkpoint of safetensors files as a stream of tensors.

What is stored is described once, when the checkpoint is opened, from headers alone. Rows are read when they are asked
for; so memory holds what was asked for and about 1 MiB, whatever the checkpoint's size.

Tied weights: where the configuration ties the output head to the embedding and the files hold one of them, the other is
named in ``tied`` and is no tensor. Where they hold both, both are tensors and ``tied`` names the pair all the same, so
that the two can be compared; whoever counts weights leaves out what ``tied`` names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.loaders.weights.formats import UNREAD
from evalkit.loaders.weights.headers import Header, read_bytes, read_headers
from evalkit.loaders.weights.layout import OneExpert, Piece, plain_pieces, quantised_pieces
from evalkit.loaders.weights.names import natural_key
from evalkit.loaders.weights.parts import with_known_types
from evalkit.loaders.weights.shards import file_fault, left_out
from evalkit.loaders.weights.ties import head_missing, tied_names
from evalkit.loaders.weights.vocabulary import vocabulary_of
from evalkit.records.weights import NO_WEIGHT, StructureFault, Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class CheckpointWeights:
    """A folder's safetensors files; a ``ports.TensorSource``."""

    def __init__(self, folder: Path, *, split: bool = True) -> None:
        """Read the headers of ``folder``; with ``split=False`` fused projections stay whole (experts still come apart).

        Raises RunError where a file cannot be opened.
        """
        self.name = str(folder)
        self._headers, found = read_headers(folder)
        self.faults: list[StructureFault] = found
        self.skipped: dict[str, str] = left_out(folder)
        self.config: Mapping[str, Any] = _config(folder, self.faults)
        self.vocabulary = _vocabulary(folder, self.faults)
        self._pieces: dict[str, Piece] = {}
        for piece in self._described(split):
            name, stored = piece.tensor.name, piece.tensor.stored
            if name in self._pieces:
                other = self._pieces[name].tensor.stored
                self.skipped[stored] = f"{other} is called {name} too"
                self.faults.append(
                    file_fault(stored, f"{name} is stored twice: as {other} and {stored}")
                )
            else:
                self._pieces[name] = piece
        self.tensors: Sequence[Tensor] = tuple(piece.tensor for piece in self._pieces.values())
        self.tied: Mapping[str, str] = tied_names(self.tensors, self.config)
        if not self.faults and (lacking := head_missing(self.tensors, self.config)):
            self.faults.append(file_fault(None, lacking))
        if not self.tensors and not self.faults:
            self.faults.append(file_fault(None, "the files hold no weights"))

    def read(self, tensor: Tensor, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Return rows ``start:stop`` of one of ``tensors``; see ``ports.TensorSource.read``."""
        begin, end, _ = slice(start, stop).indices(tensor.shape[0] if tensor.shape else 1)
        return self._pieces[tensor.name].read(begin, max(begin, end))

    def _described(self, split: bool) -> Iterator[Piece]:
        """Yield all that can be read, file by file, naturally sorted in each; lists the rest in ``skipped``."""
        from evalkit.loaders.weights.dequantise import quantised_weights

        quantised, unread = quantised_weights(self._headers, self.config)
        taken = {member for weight in quantised.values() for member in weight.members}
        plain = self._headers.keys() - taken - unread.keys()
        self.skipped |= unread
        files = {name: header.file for name, header in self._headers.items()}
        files |= {name: files[min(weight.members)] for name, weight in quantised.items()}
        order = {file: place for place, file in enumerate(dict.fromkeys(files.values()))}
        config = (
            self.config if "model_type" in self.config else _guessed(self._headers, self.config)
        )
        experts = OneExpert(self._load)
        for stored in sorted(
            {*plain, *quantised}, key=lambda name: (order[files[name]], natural_key(name))
        ):
            if stored in quantised:
                weight = quantised[stored]
                yield from quantised_pieces(
                    stored, weight, config, self._load, experts, split=split
                )
            elif why := _why_no_weight(self._headers[stored]):
                self.skipped[stored] = why
            else:
                yield from plain_pieces(self._headers[stored], config, split=split)

    def _load(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        return read_bytes(self._headers[name], start, stop)


def _why_no_weight(header: Header) -> str:
    """Return why a stored tensor is no weight that can be measured; or nothing.

    Buffers may be empty. A weight that is has been lost: DeepSpeed's ZeRO-3 writes such where nothing gathers them.
    """
    if header.dtype in UNREAD:
        return f"the number format {header.dtype} is not read"
    if header.dtype[0] not in "FB" or header.dtype == "BOOL":
        return f"{NO_WEIGHT}whole numbers ({header.dtype}) that belong to no quantised weight, a buffer"
    if header.name.endswith(".inv_freq"):
        return f"{NO_WEIGHT}frequencies of rotary positions, computed from the configuration"
    is_mask = header.name.endswith(("attn.bias", "attention.bias")) and len(header.shape) == 4
    if is_mask or header.name.endswith(".masked_bias"):
        return f"{NO_WEIGHT}a causal mask, computed from the configuration"
    return "it holds no numbers" if 0 in header.shape else ""


def _config(folder: Path, faults: list[StructureFault]) -> Mapping[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        faults.append(file_fault(None, f"config.json cannot be read: {error}"))
        return {}
    if not isinstance(config, dict):
        faults.append(file_fault(None, "config.json holds no JSON object"))
        return {}
    known, odd = with_known_types(config)
    faults += [file_fault(None, f"config.json: {place} is no text") for place in odd]
    return known


def _vocabulary(folder: Path, faults: list[StructureFault]) -> int | None:
    try:
        return vocabulary_of(folder)
    except (OSError, ValueError) as error:
        faults.append(file_fault(None, f"the tokenizer cannot be read: {error}"))
        return None


def _guessed(headers: Mapping[str, Header], config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the configuration with GPT-2's name in it where none is stated but its layout is unmistakable."""
    for name, header in headers.items():
        if name.endswith(".c_attn.weight") and header.shape == (header.rows, 3 * header.rows):
            return {**config, "model_type": "gpt2"}
    return config
