"""Where each tensor of a safetensors checkpoint lies in its file, and its bytes by ``pread``.

A safetensors file is a length (8 bytes), a JSON header (name → format, shape, place) and the numbers. Headers are
read tolerantly: what is whole is described, what is not becomes a fault in words. Nothing is mapped: memory holds
the rows that were asked for and no page of the file besides.

**Source**: the safetensors format; the checks are those of its reference implementation (safetensors 0.8,
``Metadata::validate``), which refuses a file where this reader names a fault.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.errors import RunError
from evalkit.loaders.files import unreadable
from evalkit.loaders.weights.formats import BITS, as_float32, convert, numpy_type
from evalkit.loaders.weights.shards import file_fault, find_files
from evalkit.records.weights import StructureFault

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_HEADER_BYTES = 100_000_000
"""Length beyond which the format refuses a header."""

_PIECE_BYTES = 1 << 20
_TURNED_AT_ONCE = 16  # float32 of a cache line: more rows at once are slower to turn
_LFS = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class Header:
    """Where one stored tensor lies, and in what format."""

    name: str
    """Its name in the file."""
    dtype: str
    """Format as the file calls it: ``F32``, ``BF16``, ``F8_E4M3``, ``I32`` …"""
    shape: tuple[int, ...]
    """Stored shape."""
    file: Path
    """The file that holds it."""
    start: int
    """Offset in the file of its first byte."""
    stop: int
    """Offset after its last byte."""

    @property
    def rows(self) -> int:
        """Length of the first axis; 1 for a scalar."""
        return self.shape[0] if self.shape else 1


def read_headers(folder: Path) -> tuple[dict[str, Header], list[StructureFault]]:
    """Return stored name → header of all that can be read of a checkpoint, in the order of the files, and its faults.

    Faults: a shard that is missing, cut off or no safetensors file; a tensor of the wrong size or outside its file;
    one that the index promises and no file holds, that lies in a shard and not in the index, or in two shards (the
    one the index names counts, else the first). Raises RunError where a file cannot be opened.
    """
    files, promised, faults = find_files(folder)
    headers: dict[str, Header] = {}
    for path in files:
        found, wrong = read_file(path)
        faults += wrong
        lost = sum(shard == path.name for shard in promised.values())
        if lost and not found:
            faults.append(file_fault(None, f"all {lost} tensors of {path.name} are lost with it"))
        for name, header in found.items():
            if why := _misplaced(header, headers.get(name), promised):
                faults.append(file_fault(name, f"{name} {why}"))
            if name not in headers or promised.get(name) == path.name:
                headers[name] = header
    told = {fault.tensor for fault in faults}
    whole = {header.file.name for header in headers.values()}
    faults += [
        file_fault(name, f"{name} is promised by the index, but {shard} has none")
        for name, shard in promised.items()
        if name not in headers and name not in told and shard in whole
    ]
    return headers, faults


def _misplaced(header: Header, other: Header | None, promised: Mapping[str, str]) -> str:
    """Return what is wrong with where a tensor was found, given one of its name and the index; or nothing."""
    file = header.file.name
    if other is not None:
        return f"is stored twice: in {other.file.name} and {file}"
    if not promised or promised.get(header.name) == file:
        return ""
    if header.name in promised:
        return f"lies in {file}, but the index says {promised[header.name]}"
    return f"lies in {file} and not in the index: loaders that follow the index leave it out"


def read_file(path: Path) -> tuple[dict[str, Header], list[StructureFault]]:
    """Return stored name → header of one safetensors file, in the order of the numbers, and what is wrong with it.

    Raises RunError where it cannot be opened.
    """
    twice: list[str] = []
    try:
        text, size = _header_text(path)
        told = json.loads(text.decode(), object_pairs_hook=lambda pairs: _once(pairs, twice))
        entries = sorted(_entries(told).items(), key=lambda entry: entry[1][2:])
    except _NoHeader as error:
        return {}, [file_fault(None, f"{path.name} {error}")]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        said = "is damaged or no safetensors file; copy it again"
        return {}, [file_fault(None, f"{path.name} {said}")]
    headers: dict[str, Header] = {}
    faults = [file_fault(name, f"{name} stands twice in {path.name}") for name in twice]
    first = end = 8 + len(text)
    for name, (dtype, shape, begin, stop) in entries:
        header = Header(name, dtype, shape, path, first + begin, first + stop)
        why = _wrong(header, end, size)
        if not why:
            headers[name] = header
            if header.start > end:
                why = f"lies {header.start - end} bytes behind the tensor before it"
        if why:
            faults.append(file_fault(name, f"{name} in {path.name} {why}"))
        end = max(end, header.stop)
    if end > size:
        faults.insert(0, file_fault(None, f"{path.name} is cut off: {size} of {end} bytes"))
    elif end < size:
        faults.insert(0, file_fault(None, f"{path.name} has {size - end} bytes of no tensor"))
    return headers, faults


class _NoHeader(Exception):
    """A file has no header that could be read."""


def _header_text(path: Path) -> tuple[bytes, int]:
    """Return a file's header and the file's size."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(40)
            length = int.from_bytes(start[:8], "little")
            if start.startswith(_LFS):
                raise _NoHeader("is a Git LFS pointer, not the weights; run: git lfs pull")
            if size < 8 or length > min(size - 8, MOST_HEADER_BYTES):
                raise _NoHeader("is cut off or no safetensors file; copy it again")
            file.seek(8)
            return file.read(length), size
    except OSError as error:
        raise unreadable(path, error) from error


def _once(pairs: list[tuple[str, Any]], twice: list[str]) -> dict[str, Any]:
    """Return a JSON object; lists in ``twice`` the keys that it has more than once."""
    found: dict[str, Any] = {}
    for key, content in pairs:
        if key in found:
            twice.append(key)
        found[key] = content
    return found


Entry = tuple[str, tuple[int, ...], int, int]
"""Format, shape, and where its bytes begin and end, counted from the first tensor's."""


def _entries(header: Mapping[str, Any]) -> dict[str, Entry]:
    """Return the header's entries; raises ValueError, KeyError, TypeError or AttributeError where there are none."""
    found = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        shape, (begin, stop) = tuple(entry["shape"]), entry["data_offsets"]
        if not all(type(number) is int and number >= 0 for number in (*shape, begin, stop)):
            raise ValueError(name)
        found[name] = (str(entry["dtype"]), shape, begin, stop)
    return found


def _wrong(header: Header, end: int, size: int) -> str:
    """Return what is wrong with a tensor's place, or nothing; ``end`` is where the one before it ends."""
    if header.dtype not in BITS:
        return f"has an unknown number format {header.dtype!r}"
    needed, length = math.prod(header.shape) * BITS[header.dtype], header.stop - header.start
    if needed != length * 8:
        shape = "×".join(map(str, header.shape)) or "one number"
        return f"has {length} bytes, but {shape} of {header.dtype} take {needed / 8:g}"
    if header.start < end:
        return "overlaps the tensor before it"
    if header.stop > size:
        return f"is cut off: it should end at byte {header.stop:,}, and the file has {size:,}"
    return ""


def read_bytes(header: Header, start: int = 0, stop: int | None = None) -> NDArray[Any]:
    """Return rows ``start:stop`` of the first axis in the stored format (``formats.numpy_type``); a scalar whole.

    Raises RunError where the bytes cannot be read; KeyError for a format of ``formats.UNREAD``.
    """
    import numpy as np

    shape, offset = _rows(header, start, stop)
    raw = np.empty(math.prod(shape), numpy_type(header.dtype))
    with _opened(header) as fd:
        _fill(fd, header, offset, raw)
    return raw.reshape(shape)


def read_float32(header: Header, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
    """Return rows ``start:stop`` of the first axis as float32; a scalar whole.

    Besides what is returned, memory holds one piece of 1 MiB. Raises as ``read_bytes``.
    """
    import numpy as np

    shape, offset = _rows(header, start, stop)
    out = np.empty(shape, np.float32)
    out_N, dtype = out.reshape(-1), numpy_type(header.dtype)
    with _opened(header) as fd:
        if dtype == np.float32:
            _fill(fd, header, offset, out_N)
            return out
        piece = np.empty(_PIECE_BYTES // dtype.itemsize, dtype)
        for begin in range(0, out_N.size, piece.size):
            part = out_N[begin : begin + piece.size]
            _fill(fd, header, offset + begin * dtype.itemsize, piece[: part.size])
            convert(piece[: part.size], part)
    return out


def read_columns(header: Header, start: int, stop: int) -> NDArray[np.float32]:
    """Return columns ``start:stop`` of a matrix as the rows of a float32 array: rows of what is stored turned.

    Rows of the file are read whole where at least half of each is wanted, a few at a time, which is all that memory
    holds besides what is returned. Raises as ``read_bytes``.
    """
    import numpy as np

    rows, columns = header.shape
    dtype = numpy_type(header.dtype)
    left, right = (0, columns) if 2 * (stop - start) >= columns else (start, stop)
    out = np.empty((stop - start, rows), np.float32)
    piece = np.empty((_TURNED_AT_ONCE, right - left), dtype)
    with _opened(header) as fd:
        for begin in range(0, rows, _TURNED_AT_ONCE):
            part = piece[: rows - begin]
            offset = header.start + (begin * columns + left) * dtype.itemsize
            if right - left == columns:
                _fill(fd, header, offset, part.reshape(-1))
            else:
                for row, cells in enumerate(part):
                    _fill(fd, header, offset + row * columns * dtype.itemsize, cells)
            out[:, begin : begin + len(part)] = as_float32(part[:, start - left : stop - left]).T
    return out


def _rows(header: Header, start: int, stop: int | None) -> tuple[tuple[int, ...], int]:
    """Return the shape of rows ``start:stop`` and where in the file they begin."""
    if not header.shape:
        return (), header.start
    begin, end, _ = slice(start, stop).indices(header.rows)
    row_bytes = (header.stop - header.start) // max(header.rows, 1)
    return (max(end - begin, 0), *header.shape[1:]), header.start + begin * row_bytes


@contextmanager
def _opened(header: Header) -> Iterator[int]:
    try:
        fd = os.open(header.file, os.O_RDONLY)
        try:
            yield fd
        finally:
            os.close(fd)
    except OSError as error:
        raise unreadable(header.file, error) from error


def _fill(fd: int, header: Header, offset: int, out_N: NDArray[Any]) -> None:
    """Read from ``offset`` on until ``out_N`` is full."""
    import numpy as np

    left = out_N.view(np.uint8).data
    while left:
        got = os.preadv(fd, [left], offset)
        if not got:
            raise RunError(
                f"{header.file} ends within {header.name}; it was whole when it was opened",
                "do not change a checkpoint while it is read",
            )
        left, offset = left[got:], offset + got
