"""How many tokens a checkpoint's tokenizer knows, from its files alone.

Counted is the highest number of a token plus one, for that is how many rows an embedding must have; tokens added after
training are included. ``tokenizer.json`` decides where there is one; else the vocabulary's own file does.

**Source**: the files of ``tokenizers`` and ``transformers``; SentencePiece's ``ModelProto`` (field 1 is one piece).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final


def vocabulary_of(folder: Path) -> int | None:
    """Return how many tokens the tokenizer in a folder knows; None where there is none.

    Raises ValueError, with the file's name, where a file of it cannot be understood; OSError where one cannot be read.
    """
    own = next((name for name in _OWN if (folder / name).is_file()), None)
    if own is None:
        return None
    found = [_counted(folder / own, _OWN[own])]
    found += [
        _counted(folder / name, count)
        for name, count in _ADDED.items()
        if (folder / name).is_file()
    ]
    return max(found)


def _counted(path: Path, count: Callable[[bytes], int]) -> int:
    try:
        return count(path.read_bytes())
    except (
        ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, OverflowError
    ) as error:  # fmt: skip
        raise ValueError(f"{path.name} is damaged: no tokens can be counted in it") from error


def _highest(numbers: Iterable[Any]) -> int:
    rows = [int(number) + 1 for number in numbers]
    if min(rows, default=1) < 1:
        raise ValueError("a token has a number below 0")
    return max(rows, default=0)


def _tokenizer_json(text: bytes) -> int:
    told = json.loads(text)
    known = told["model"]["vocab"]  # Unigram's is a list of (piece, score), the others' a table
    own = len(known) if isinstance(known, list) else _highest(known.values())
    return max(own, _highest(token["id"] for token in told.get("added_tokens", ())))


def _table(text: bytes) -> int:
    return _highest(json.loads(text).values())


def _lines(text: bytes) -> int:
    return sum(1 for line in text.splitlines() if line.strip())


def _sentencepiece(message: bytes) -> int:
    """Count the pieces of a model: the fields numbered 1 of a protocol buffer."""
    pieces = place = 0
    while place < len(message):
        key, place = _varint(message, place)
        if key & 7 == 0:
            _, place = _varint(message, place)
        elif key & 7 == 2:
            length, place = _varint(message, place)
            place += length
        elif key & 7 in (1, 5):
            place += 8 if key & 7 == 1 else 4
        else:
            raise ValueError("no protocol buffer")
        pieces += key == 1 << 3 | 2
    if place != len(message) or not pieces:
        raise ValueError("no SentencePiece model")
    return pieces


def _varint(message: bytes, place: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = message[place]
        number |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return number, place


_OWN: Final[dict[str, Callable[[bytes], int]]] = {
    "tokenizer.json": _tokenizer_json,
    "vocab.json": _table,
    "tokenizer.model": _sentencepiece,
    "spiece.model": _sentencepiece,
    "sentencepiece.bpe.model": _sentencepiece,
    "vocab.txt": _lines,
}
"""The files that hold a vocabulary, the first that exists counts."""
_ADDED: Final[dict[str, Callable[[bytes], int]]] = {
    "added_tokens.json": _table,
    "tokenizer_config.json": lambda text: _highest(
        json.loads(text).get("added_tokens_decoder", {})
    ),
}
"""The files that may name further tokens."""
