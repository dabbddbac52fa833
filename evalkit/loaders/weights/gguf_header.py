"""The header of a GGUF file: metadata, and where each tensor lies.

A file is a magic number, a version, counts, key–value pairs, the tensors' names, shapes, formats and places, and after
the next multiple of ``general.alignment`` the numbers. Read tolerantly: what is damaged becomes a fault in words. Long
lists of strings (a vocabulary, its merges) are walked and only counted.

**Source**: ``docs/gguf.md`` of ggml, version 3; ``gguf`` 0.19 ``gguf_reader.py``, ``constants.GGML_QUANT_SIZES``.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from evalkit.loaders.files import unreadable
from evalkit.loaders.weights.headers import Header
from evalkit.loaders.weights.shards import file_fault
from evalkit.records.weights import NO_WEIGHT, StructureFault

MAGIC: Final = b"GGUF"
VERSIONS: Final = (2, 3)
"""Versions that are read; the first counted in 32 bits and is extinct."""
MOST_AXES: Final = 4
"""Axes of a tensor, at most."""
MOST_NAME: Final = 1 << 16
"""Bytes of a key or a tensor's name, at most."""
MOST_LIST: Final = 1 << 28
"""Bytes of a list of numbers, at most."""
ALIGNMENT: Final = 32
"""Where the file states none."""

_SCALARS: Final = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9


class _Damaged(Exception):
    """The header ends too soon or says what cannot be."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor of a GGUF file."""

    name: str
    """Its name in the file, such as ``blk.0.attn_q.weight``."""
    kind: str
    """Its number format: ``F32``, ``Q4_K`` …"""
    shape: tuple[int, ...]
    """Its shape, slowest axis first."""
    raw: Header
    """Where its rows lie, as bytes: (rows along the last axis, bytes of each)."""


@dataclass(slots=True)
class GgufHeader:
    """What a GGUF file says of itself."""

    metadata: dict[str, Any] = field(default_factory=dict)
    """Key → value; a list of strings is its length."""
    tensors: dict[str, Stored] = field(default_factory=dict)
    """What can be read, in the order of the file."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Stored name → why it cannot be read."""
    faults: list[StructureFault] = field(default_factory=list)
    """What is wrong with the file."""


def read_gguf_header(path: Path) -> GgufHeader:
    """Return a file's header, as much of it as is sound. Raises RunError where the file cannot be opened."""
    found = GgufHeader()
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            walk = _Walk(file, size)
            try:
                entries = walk.header(found.metadata)
            except _Damaged as error:
                found.faults.append(file_fault(None, f"{path.name} {error}"))
                return found
    except OSError as error:
        raise unreadable(path, error) from error
    alignment = found.metadata.get("general.alignment", ALIGNMENT)
    if type(alignment) is not int or alignment < 1:
        found.faults.append(file_fault(None, f"{path.name} is aligned to {alignment!r} bytes"))
        return found
    start = -(-walk.place // alignment) * alignment
    for name, shape, kind, offset in entries:
        if name in found.tensors or name in found.skipped:
            found.faults.append(file_fault(name, f"{name} is stored twice in {path.name}"))
        else:
            _add(found, path, size, (name, shape, kind, start + offset))
    return found


Entry = tuple[str, tuple[int, ...], int, int]
"""Name, shape (slowest axis first), number of the format, place."""


def _add(found: GgufHeader, path: Path, size: int, entry: Entry) -> None:
    """Put a tensor where it belongs: among the tensors, the skipped or the faults."""
    import gguf

    name, shape, number, start = entry
    try:
        kind = gguf.GGMLQuantizationType(number)
    except ValueError:
        found.skipped[name] = f"number format {number} is not known to the gguf library"
        return
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    if 0 in shape:
        found.skipped[name] = f"{NO_WEIGHT}it holds no numbers"
    elif shape[-1] % block:
        found.skipped[name] = (
            f"rows of {shape[-1]} numbers are no whole blocks of {block} ({kind.name})"
        )
    else:
        rows, row_bytes = math.prod(shape[:-1]), shape[-1] // block * block_bytes
        stop = start + rows * row_bytes
        if stop > size:
            said = f"{name} in {path.name} is cut off: it ends at byte {stop} of {size}"
            found.faults.append(file_fault(name, said))
        else:
            raw = Header(name, "U8", (rows, row_bytes), path, start, stop)
            found.tensors[name] = Stored(name, kind.name, shape, raw)


class _Walk:
    """Reads a header from its first byte on, and never beyond the file's end."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self.place = 0

    def header(self, metadata: dict[str, Any]) -> list[Entry]:
        """Fill ``metadata`` and return the tensors; raises _Damaged."""
        if self._bytes(4) != MAGIC:
            raise _Damaged("is no GGUF file; copy it again")
        version = self._one("I")
        if version not in VERSIONS:
            why = (
                "written for another byte order"
                if version & 0xFFFF == 0
                else f"of version {version}"
            )
            raise _Damaged(f"is {why}; versions 2 and 3 in little-endian order are read")
        tensors, pairs = self._one("Q"), self._one("Q")
        for _ in range(pairs):
            key = self._string()
            metadata[key] = self._value(self._one("I"))
        return [self._tensor() for _ in range(tensors)]

    def _tensor(self) -> Entry:
        name, axes = self._string(), self._one("I")
        if axes > MOST_AXES:
            raise _Damaged(f"says that {name} has {axes} axes; copy it again")
        shape = tuple(self._one("Q") for _ in range(axes))
        return name, shape[::-1] or (1,), self._one("I"), self._one("Q")

    def _value(self, kind: int) -> Any:  # noqa: ANN401 - metadata holds anything
        if kind in _SCALARS:
            return self._one(_SCALARS[kind])
        if kind == _STRING:
            return self._string(most=self._size)
        if kind != _ARRAY:
            raise _Damaged(f"holds metadata of unknown type {kind}; copy it again")
        inner, count = self._one("I"), self._one("Q")
        if inner in _SCALARS:
            code = _SCALARS[inner]
            length = count * struct.calcsize(f"<{code}")
            if length > MOST_LIST:
                raise _Damaged("holds a list that is too long to be one; copy it again")
            return list(struct.unpack(f"<{count}{code}", self._bytes(length)))
        if inner != _STRING:
            raise _Damaged(f"holds a list of unknown type {inner}; copy it again")
        for _ in range(count):
            self._string(most=self._size)
        return count

    def _string(self, most: int = MOST_NAME) -> str:
        length = self._one("Q")
        if length > most:
            raise _Damaged("holds a name that is too long to be one; copy it again")
        return self._bytes(length).decode("utf-8", "replace")

    def _one(self, code: str) -> Any:  # noqa: ANN401 - a number or a truth value, as the code says
        (number,) = struct.unpack(f"<{code}", self._bytes(struct.calcsize(f"<{code}")))
        return number

    def _bytes(self, count: int) -> bytes:
        if self.place + count > self._size:
            raise _Damaged("is cut off in its header; copy it again")
        self.place += count
        return self._file.read(count)
