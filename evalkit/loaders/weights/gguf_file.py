"""A GGUF file as a stream of tensors: dequantised by the ``gguf`` library, under the names of the hub's checkpoints.

Every row of a GGUF tensor is a row of whole blocks, so rows are read where they lie and dequantised alone. Stacks of
experts come apart, fused projections too (llama.cpp keeps query, key and value one after the other, whatever the
architecture), and what the converter changed is taken back (``gguf_names``).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from evalkit.errors import RunError, UsageError
from evalkit.loaders.weights.gguf_header import Stored, read_gguf_header
from evalkit.loaders.weights.gguf_names import (
    COMPUTED,
    SHIFTED_NORMS,
    gguf_depth,
    gguf_module,
    holds_experts,
    hub_name,
    paired_heads,
)
from evalkit.loaders.weights.headers import read_bytes
from evalkit.loaders.weights.layout import Piece, ReadRows
from evalkit.loaders.weights.names import form_of
from evalkit.loaders.weights.parts import Rows
from evalkit.loaders.weights.shards import file_fault
from evalkit.records.weights import NO_WEIGHT, Module, StructureFault, Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

INSTALL: Final = "pip install 'evalkit-gates[spectral]'"
PLAIN: Final = ("F32", "F16", "BF16")
"""Formats that safetensors files have too, under the same names."""
_SPLIT: Final = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
_OTHERS: Final = ("mmproj", "imatrix")
"""What stands in the names of files that lie beside a model and are none."""


class GgufWeights:
    """A folder's GGUF model, in one file or split; a ``ports.TensorSource``."""

    def __init__(self, folder: Path, *, split: bool = True) -> None:
        """Read the headers in ``folder``; with ``split=False`` fused projections stay whole.

        Raises UsageError where several models lie there; RunError where a file cannot be opened, or without ``gguf``.
        """
        try:
            import gguf  # noqa: F401 - said here, once, rather than at the first tensor
        except ImportError as error:
            raise RunError("GGUF files need the gguf library, not installed", INSTALL) from error
        self.name = str(folder)
        self.tied: Mapping[str, str] = {}
        self.skipped: dict[str, str] = {}
        self.faults: list[StructureFault] = []
        self._metadata: dict[str, Any] = {}
        stored = self._stored(folder)
        self._architecture = str(self._metadata.get("general.architecture", ""))
        self.config: Mapping[str, Any] = {**self._stated(stored), **_config(folder)}
        self._pieces: dict[str, Piece] = {}
        for one in stored.values():
            for piece in self._described(one, split=split):
                other = self._pieces.setdefault(piece.tensor.name, piece)
                if other is not piece:
                    said = f"{other.tensor.stored} is called {piece.tensor.name} too"
                    self.skipped[one.name] = said
                    self.faults.append(file_fault(one.name, f"{one.name}: {said}"))
        self.tensors: Sequence[Tensor] = tuple(piece.tensor for piece in self._pieces.values())
        if "token_embd.weight" in stored and "output.weight" not in stored:
            head, table = "output.weight", "token_embd.weight"
            self.tied = {hub_name(head, self._architecture): hub_name(table, self._architecture)}

    @property
    def vocabulary(self) -> int | None:
        """How many tokens the tokenizer in the file knows."""
        tokens = self._metadata.get("tokenizer.ggml.tokens")
        return tokens if type(tokens) is int else None

    def read(self, tensor: Tensor, start: int = 0, stop: int | None = None) -> Array:
        """Return rows ``start:stop`` of one of ``tensors``; see ``ports.TensorSource.read``."""
        begin, end, _ = slice(start, stop).indices(tensor.shape[0])
        return self._pieces[tensor.name].read(begin, max(begin, end))

    def _stored(self, folder: Path) -> dict[str, Stored]:
        """Return what lies in the model's files; fills metadata, ``skipped`` and ``faults``."""
        found: dict[str, Stored] = {}
        for path in self._files(folder):
            header = read_gguf_header(path)
            self._metadata = header.metadata | self._metadata
            self.faults += header.faults
            self.skipped |= header.skipped
            for name, one in header.tensors.items():
                if name in found:
                    said = f"{name} is stored twice: in {found[name].raw.file.name} and {path.name}"
                    self.faults.append(file_fault(name, said))
                found.setdefault(name, one)
        for name in found:
            if COMPUTED.match(name):
                self.skipped[name] = (
                    f"{NO_WEIGHT}factors of rotary positions, computed from the configuration"
                )
        return {name: one for name, one in found.items() if name not in self.skipped}

    def _files(self, folder: Path) -> list[Path]:
        """Return the files of the one model in a folder; raises UsageError where there are several."""
        paths = sorted(folder.glob("*.gguf"))
        models = [p for p in paths if not any(other in p.name.lower() for other in _OTHERS)]
        self.skipped |= {
            p.name: f"{NO_WEIGHT}another model's file" for p in paths if p not in models
        }
        splits = [_SPLIT.fullmatch(path.name) for path in models]
        series = {split and (split["stem"], int(split["count"])) for split in splits}
        if len(models) > 1 and (len(series) > 1 or None in series):
            names = ", ".join(path.name for path in models[:5])
            raise UsageError(
                f"{str(folder)!r} holds several models ({names}); keep one in a folder"
            )
        there = {int(split["number"]) for split in splits if split}
        for split in [split for split in splits if split][:1]:
            missing = sorted(set(range(1, int(split["count"]) + 1)) - there)
            if missing:
                said = (
                    f"{split['stem']}: {len(there)} of {split['count'].lstrip('0')} parts are there"
                )
                self.faults.append(file_fault(None, said))
        return models

    def _number(self, key: str) -> int:
        """Return a number of the architecture's, or 0 where it is absent or differs from block to block."""
        number = self._metadata.get(f"{self._architecture}.{key}")
        return number if type(number) is int and number > 0 else 0

    def _stated(self, stored: Mapping[str, Stored]) -> dict[str, Any]:
        """Return what the metadata say, in the words of a ``config.json``."""
        table = stored.get("token_embd.weight")
        said = {
            "hidden_size": self._number("embedding_length"),
            "num_hidden_layers": self._number("block_count"),
            "intermediate_size": self._number("feed_forward_length"),
            "num_attention_heads": self._number("attention.head_count"),
            "num_key_value_heads": self._number("attention.head_count_kv"),
            "head_dim": self._number("attention.key_length"),
            "vocab_size": self._number("vocab_size") or (table.shape[0] if table else 0),
        }
        config: dict[str, Any] = {key: number for key, number in said.items() if number}
        if self._architecture:
            config |= {
                "model_type": self._architecture,
                "tie_word_embeddings": "output.weight" not in stored,
            }
        return config

    def _described(self, one: Stored, *, split: bool) -> Iterator[Piece]:
        """Yield the logical tensors of a stored one; lists it in ``skipped`` where it cannot be read."""
        if not _is_decoded(one.kind):
            self.skipped[one.name] = f"the gguf library does not decode {one.kind}"
            return
        module = gguf_module(one.name)
        if len(one.shape) == 3 and holds_experts(one.name):
            for expert in range(one.shape[0]):
                name = hub_name(one.name, self._architecture, expert)
                tensor = self._tensor(one, name, one.shape[1:], module, expert)
                yield Piece(tensor, partial(_expert_rows, one, expert))
            return
        shape, read = one.shape, partial(_rows, one)
        if key := paired_heads(one.name, self._architecture):
            heads = self._number(key) or self._number("attention.head_count")
            if not heads or shape[0] % (2 * heads):
                self.skipped[one.name] = (
                    "its rows are paired head by head, and the file does not say how many heads"
                )
                return
            read = partial(_unpaired, read, shape[0] // heads)
        elif module == "norm" and self._architecture in SHIFTED_NORMS:
            read = partial(_less_one, read)
        elif (
            module == "router" and len(shape) == 1
        ):  # one row, which the hub's checkpoints keep as a matrix
            shape, read = (1, *shape), partial(_as_row, read, shape[0])
        tensor = self._tensor(one, hub_name(one.name, self._architecture), shape, module)
        parts = self._parts(tensor) if split and len(shape) == 2 else ()
        for label, kind, rows in parts:
            own = (rows.count, shape[1])
            name = f"{tensor.name}[{label}]"
            yield Piece(
                replace(tensor, name=name, shape=own, module=kind, part_of=tensor.name), read, rows
            )
        if not parts:
            yield Piece(tensor, read)

    def _tensor(
        self,
        one: Stored,
        name: str,
        shape: tuple[int, ...],
        module: Module,
        expert: int | None = None,
    ) -> Tensor:
        dtype = one.kind if one.kind in PLAIN else f"gguf {one.kind.lower()}"
        form = form_of(name, shape, module)
        return Tensor(name, one.name, shape, dtype, module, form, gguf_depth(one.name), expert)

    def _parts(self, tensor: Tensor) -> tuple[tuple[str, Module, Rows], ...]:
        """Return the projections that lie one after the other in a matrix, and their rows; () where there are none."""
        heads = self._number("attention.head_count")
        keys = self._number("attention.head_count_kv") or heads
        length = self._number("attention.key_length") or tensor.shape[1] // max(heads, 1)
        value = self._number("attention.value_length") or length
        kinds: tuple[tuple[str, Module, int], ...] = ()
        if tensor.module == "qkv":
            kinds = (
                ("q", "query", heads * length),
                ("k", "key", keys * length),
                ("v", "value", keys * value),
            )
        elif tensor.module == "up" and tensor.shape[0] == 2 * self._number("feed_forward_length"):
            half = tensor.shape[0] // 2
            kinds = (("gate", "gate", half), ("up", "up", half))
        ends = list(accumulate(count for *_, count in kinds))
        if not ends or ends[-1] != tensor.shape[0] or min(count for *_, count in kinds) < 1:
            return ()
        return tuple(
            (label, module, Rows(end - count, count, tensor.shape[0], count))
            for (label, module, count), end in zip(kinds, ends, strict=True)
        )


def _config(folder: Path) -> dict[str, Any]:
    """Return the ``config.json`` beside the file; empty where there is none or it cannot be understood."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _is_decoded(kind: str) -> bool:
    import gguf
    import numpy as np

    number = gguf.GGMLQuantizationType[kind]
    try:
        gguf.dequantize(np.zeros((1, gguf.GGML_QUANT_SIZES[number][1]), np.uint8), number)
    except NotImplementedError:
        return False
    return True


def _decoded(one: Stored, start: int, stop: int) -> Array:
    """Return rows ``start:stop`` along the last axis, (rows, columns)."""
    import gguf
    import numpy as np

    if start == stop:
        return np.empty((0, one.shape[-1]), np.float32)
    stored = read_bytes(one.raw, start, stop)
    with np.errstate(all="ignore"):  # scales of a damaged block may be infinite
        found = gguf.dequantize(stored, gguf.GGMLQuantizationType[one.kind])
    return np.ascontiguousarray(found, np.float32)


def _rows(one: Stored, start: int, stop: int) -> Array:
    """Return rows ``start:stop`` of the first axis."""
    if len(one.shape) == 1:
        return _decoded(one, 0, 1)[0, start:stop]
    inner = math.prod(one.shape[1:-1])
    return _decoded(one, start * inner, stop * inner).reshape(stop - start, *one.shape[1:])


def _expert_rows(one: Stored, expert: int, start: int, stop: int) -> Array:
    first = expert * one.shape[1]
    return _decoded(one, first + start, first + stop)


def _unpaired(read: ReadRows, length: int, start: int, stop: int) -> Array:
    """Return rows whose halves of each head follow one another, from rows that alternate between the halves."""
    import numpy as np

    first, last = start // length, -(-stop // length)
    paired = read(first * length, last * length)
    heads = paired.reshape(last - first, length // 2, 2, *paired.shape[1:]).swapaxes(1, 2)
    whole = heads.reshape(paired.shape)
    return np.ascontiguousarray(whole[start - first * length : stop - first * length])


def _less_one(read: ReadRows, start: int, stop: int) -> Array:
    return read(start, stop) - 1


def _as_row(read: ReadRows, columns: int, start: int, stop: int) -> Array:
    return read(0, columns)[None][start:stop]
