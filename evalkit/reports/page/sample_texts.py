"""The texts of samples as a page holds them: those preferred, cut to size, packed into a budget whatever the run.

Rows stream: of each only what is preferred and short enough is kept, and what is least preferred is let go as soon as
the whole is too large, so that memory is bounded for any run. What is packed is one JSON object a line, the most
preferred first, as gzip in base64; a browser unpacks it when it is looked at.

**Source**: RFC 1952 (gzip; the time in its header is 0, so that the same run gives the same bytes).
"""

from __future__ import annotations

import base64
import heapq
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from evalkit.flips.answers import Place, Row
from evalkit.records.exchange import Role

MOST_SAMPLES: Final = 20_000
"""Samples on a page: a browser searches so many while somebody types."""
MOST_PACKED: Final = 1_250_000
"""Characters of base64: what the other parts and Vega leave of 3 MB."""
MOST_HELD: Final = 16_000_000
"""Bytes of JSON held while rows are read, and in a browser."""
LONGEST_NAME: Final = 300
"""Characters of an id, a slice's value, a reason."""
LONGEST_NOTE: Final = 1_500
"""Characters of why a sample failed, or of what a metric says of it."""
MOST_PARTS: Final = 40
"""Messages, targets, choices, answers of one sample, each."""
_ALLOWED: Final = ((100, 30_000), (1_000, 12_000), (MOST_SAMPLES, 6_000))
"""Rank → characters of one model's texts of a sample with a lower rank."""
_LEAST: Final = 100
"""Characters of a text that are always kept."""
_CHUNK: Final = 100
"""Lines that are packed together before the size is looked at."""

Cut = str | tuple[str, int, str]
"""A text; or its beginning, how many characters are left out, and its end."""
ROLES: Final[tuple[Role, Role]] = ("candidate", "baseline")


@dataclass(frozen=True, slots=True)
class Packed:
    """What is embedded."""

    text: str
    """Base64 of gzip of JSON lines."""
    places: tuple[Place, ...]
    """The samples in it."""


def cut(text: str, most: int) -> Cut:
    """Return a text, or where it is longer two thirds of ``most`` characters from its head, the rest from its tail.

    >>> cut("abcdefghij", 6), cut("abc", 6)
    (('abcd', 4, 'ij'), 'abc')
    """
    if len(text) <= most:
        return text
    tail = most // 3
    return text[: most - tail], len(text) - most, text[len(text) - tail :]


def fair_share(lengths: Sequence[int], most: int) -> int:
    """Return the limit under which texts of these lengths have at most ``most`` characters, the short ones whole.

    >>> fair_share([10, 2000, 5000], 1000), fair_share([10, 20], 1000)
    (495, 1000)
    """
    left = most
    for number, length in enumerate(sorted(lengths)):
        share = left // (len(lengths) - number)
        if length > share:
            return max(share, _LEAST)
        left -= length
    return most


@dataclass(slots=True)
class KeptSample:
    """What was asked about one sample and answered, as JSON."""

    asked: bytes = b""
    """What both models were asked."""
    own: dict[Role, bytes] = field(default_factory=dict)
    """What each answered."""

    @property
    def size(self) -> int:
        """Bytes held."""
        return len(self.asked) + sum(map(len, self.own.values()))


class KeptTexts:
    """The texts of the most preferred samples, as much of them as is allowed to be held."""

    def __init__(self, ranks: Mapping[Place, int], most: int = MOST_HELD) -> None:
        """``ranks`` are the samples preferred, 0 above all; ``most`` is in bytes."""
        self._ranks, self._most, self._size = ranks, most, 0
        self._limit = len(ranks)
        self._held: dict[int, KeptSample] = {}
        self._least: list[int] = []

    def add(self, row: Row) -> None:
        """Keep what a page shows of a row of ``samples.jsonl``, unless more preferred samples take the room."""
        rank = self._ranks.get((row["task"], row["id"]))
        if rank is None or rank >= self._limit:
            return
        asked, own = row_texts(row, next(most for below, most in _ALLOWED if rank < below))
        if rank not in self._held:
            heapq.heappush(self._least, -rank)
            self._held[rank] = KeptSample(as_json(asked))
            self._size += len(self._held[rank].asked)
        self._held[rank].own[row["model"]] = held = as_json(own)
        self._size += len(held)
        while self._size > self._most:
            self._limit = -heapq.heappop(self._least)
            self._size -= self._held.pop(self._limit).size

    def __iter__(self) -> Iterator[tuple[Place, KeptSample]]:
        """Yield each sample with its texts, the most preferred first."""
        place_of = {rank: place for place, rank in self._ranks.items() if rank in self._held}
        for rank in sorted(self._held):
            yield place_of[rank], self._held[rank]

    def __len__(self) -> int:
        return len(self._held)


def row_texts(row: Row, most: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a page shows of a row: what any model was asked, and what this one answered.

    Texts are cut so that they have about ``most`` characters together, lists to ``MOST_PARTS``; ``more`` says how many
    parts are left out. Keys are short since there are thousands. Asked: ``q`` prompt, ``m`` messages, ``v`` variants,
    ``o`` choices, ``g`` targets, ``l`` slices, ``k`` cluster. Answered: ``a`` answers (``t`` text, ``r`` finish reason,
    ``p`` log-probability, ``n`` tokens, ``v`` variant), ``f`` failure, ``e`` notes by metric.
    """
    prompt, messages = row.get("prompt"), row.get("messages") or ()
    choices, targets, answers = (row.get(key, ()) for key in ("choices", "targets", "answers"))
    variants = {name: _asked(each) for name, each in (row.get("variants") or {}).items()}
    shown = dict(list(variants.items())[:MOST_PARTS])
    lengths = [len(message["content"]) for message in messages[-MOST_PARTS:]]
    lengths += [len(answer.get("text", "")) for answer in answers[:MOST_PARTS]]
    for texts in ((prompt or "",), choices[:MOST_PARTS], targets[:MOST_PARTS], shown.values()):
        lengths += map(len, texts)
    limit = fair_share(lengths, most)
    asked: dict[str, Any] = {}
    if prompt is not None:
        asked["q"] = cut(prompt, limit)
    if messages:
        asked["m"] = [
            (cut(message["role"], LONGEST_NAME), cut(message["content"], limit))
            for message in messages[-MOST_PARTS:]
        ]
    if shown:
        asked["v"] = [(cut(name, LONGEST_NAME), cut(text, limit)) for name, text in shown.items()]
    for key, texts in (("o", choices), ("g", targets)):
        if texts:
            asked[key] = [cut(text, limit) for text in texts[:MOST_PARTS]]
    full = {"m": messages, "v": variants, "o": choices, "g": targets, "a": answers}
    if more := {k: len(held) - MOST_PARTS for k, held in full.items() if len(held) > MOST_PARTS}:
        asked["more"] = more
    if row.get("slices"):
        asked["l"] = [(name, cut(value, LONGEST_NAME)) for name, value in row["slices"].items()]
    if row.get("cluster") is not None:
        asked["k"] = cut(row["cluster"], LONGEST_NAME)
    own: dict[str, Any] = {"a": [_answer(answer, limit) for answer in answers[:MOST_PARTS]]}
    if "failed" in row:
        own["f"] = row["failed"]["kind"], cut(str(row["failed"].get("message", "")), LONGEST_NOTE)
    if notes := _notes(row.get("scores", {})):
        own["e"] = notes
    return asked, own


def _asked(variant: Row) -> str:
    messages = variant.get("messages")
    return str(messages[-1]["content"] if messages else variant.get("prompt") or "")


def _answer(answer: Row, limit: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if "text" in answer:
        made = {"t": cut(answer["text"], limit), "r": answer.get("finish_reason", "")}
    elif "logprob" in answer:
        made = {"p": round(answer["logprob"], 4), "n": answer.get("tokens")}
    elif "failed" in answer:
        made = {"f": answer["failed"]}
    if "variant" in answer:
        made["v"] = cut(answer["variant"], LONGEST_NAME)
    return made


def _notes(scores: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Cut]]:
    """Return why scores are what they are, and why there are none, by metric."""
    notes = []
    for metric, held in scores.items():
        if reason := unscored_reason(held):
            notes.append((metric, cut(f"unscored: {reason}", LONGEST_NAME)))
        if held.get("note"):
            notes.append((metric, cut(str(held["note"]), LONGEST_NOTE)))
    return notes


def unscored_reason(held: Mapping[str, Any]) -> str:
    """Return why a row's metric has no score; empty where it has one."""
    reason = held.get("unscored")
    return reason if isinstance(reason, str) else ""  # a metric may have a column of this name


def packed(lines: Iterable[tuple[Place, Mapping[str, Any]]], most: int = MOST_PACKED) -> Packed:
    """Return as many of the first lines as ``most`` characters of base64 hold. The same lines give the same bytes."""
    room = most // 4 * 3 - 64  # base64 makes four of three; gzip has a trailer
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    done: list[bytes] = []
    size, places = 0, []
    for chunk in _chunks(lines):
        before = packer.copy()
        content = b"".join(as_json(line) + b"\n" for _, line in chunk)
        made = packer.compress(content) + packer.flush(zlib.Z_SYNC_FLUSH)
        if size + len(made) > room:
            packer = before
            break
        done.append(made)
        size += len(made)
        places += [place for place, _ in chunk]
    done.append(packer.flush())
    return Packed(base64.b64encode(b"".join(done)).decode("ascii"), tuple(places))


def _chunks(
    lines: Iterable[tuple[Place, Mapping[str, Any]]],
) -> Iterator[list[tuple[Place, Mapping[str, Any]]]]:
    """Yield lines in chunks that grow: the first ones, which may be long, are looked at one by one."""
    chunk: list[tuple[Place, Mapping[str, Any]]] = []
    most, seen = 1, 0
    for line in lines:
        chunk.append(line)
        if len(chunk) >= most:
            yield chunk
            seen += len(chunk)
            chunk, most = [], min(_CHUNK, 1 + seen // 20)
    if chunk:
        yield chunk


def as_json(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """Return a value as JSON on one line; a lone surrogate in it as an escape."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # a lone surrogate in a model's answer: escape it
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
