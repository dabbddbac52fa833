"""The rows of lm-evaluation-harness's ``samples_<task>_<time>.jsonl``: one per document and filter.

A file is read twice, row by row: once for the numbers (``read_recordings``), once more for the texts
(``read_samples``), so that memory holds numbers only.

**Source**: lm-evaluation-harness 0.4.13, ``evaluator.py`` (what a row holds), ``loggers/evaluation_tracker.py`` (how it
is written: arguments as ``gen_args_i`` → ``arg_j``, answers as text, ``task_hashes`` over all rows).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import orjson

from evalkit.errors import Problem, RunError, UsageError
from evalkit.identity import digest_bytes
from evalkit.interchange.foreign import (
    ForeignSample,
    fingerprint,
    finite,
    plain_json,
    slices_of,
)
from evalkit.interchange.lm_eval_texts import calls_of, texts_of
from evalkit.records.exchange import Score, Unscored

Number = tuple[str, str]
"""Metric and filter, as lm-eval tells its numbers apart."""
Shape = Literal["number", "pair", "other"]
"""What a row holds of a number: one, log-likelihood and weight, or something else that is not read."""
Recorded = Score | Unscored
NOT_GIVEN: Final = Unscored("lm-eval gave no such score")
_LONGEST_NOTE: Final = 200


@dataclass
class Recordings:
    """What a samples file says in numbers."""

    documents: list[str] = field(default_factory=list)
    """Ids in the order of the file."""
    scores: dict[Number, dict[str, Recorded]] = field(default_factory=dict)
    """Metric and filter → document → what was recorded, of what is read."""
    given: dict[Number, int] = field(default_factory=dict)
    """Metric and filter → documents with such an entry."""
    fields: set[str] = field(default_factory=set)
    """Fields of the documents."""
    dataset: str = ""
    """Digest of the documents and their targets."""
    prompts: str = ""
    """Digest of everything that was asked of each document."""
    generation: tuple[str, ...] = ()
    """The settings by which answers were drawn, as JSON."""
    requests: int = 0
    """Requests sent."""
    extra: set[str] = field(default_factory=set)
    """Metrics that rows name."""
    task_hash: str = ""
    """lm-eval's own hash over all rows; empty where rows lack the parts."""
    sha256: str = ""
    """Digest of the file."""


def read_recordings(
    file: Path, filters: Sequence[str], shapes: Mapping[Number, Shape]
) -> Recordings:
    """Return what the rows say of the numbers that the results have.

    ``filters`` are those of the results. Raises UsageError where a row is cut or no row, where a document has two rows
    of one filter, and where filters have different documents.
    """
    found = Recordings(given=dict.fromkeys(shapes, 0))
    found.scores = {number: {} for number, shape in shapes.items() if shape != "other"}
    seen: dict[str, dict[str, int]] = {name: {} for name in filters}
    contents, asked = [], []
    generation: set[str] = set()
    own_hash: Any = hashlib.sha256()
    sha256 = hashlib.sha256()
    for line, row in _rows(file, sha256):
        document, filter_ = _place(file, line, row, seen)
        own_hash = _rolled(own_hash, row)
        if filter_ == filters[0]:
            found.documents.append(document)
            doc = row.get("doc")
            found.fields |= doc.keys() if isinstance(doc, dict) else set()
            contents.append((document, digest_bytes(plain_json([doc, row.get("target")]))))
            calls = calls_of(row)
            found.requests += len(calls)
            texts = [[part for part in call if not isinstance(part, dict)] for call in calls]
            asked.append((document, digest_bytes(plain_json(texts))))
            for call in calls:
                generation |= {
                    plain_json(p).decode("utf-8", "replace") for p in call if isinstance(p, dict)
                }
        if isinstance(row.get("metrics"), list):
            found.extra |= {str(name) for name in row["metrics"]}
        for number, held in found.scores.items():
            if number[1] == filter_:
                read = _pair if shapes[number] == "pair" else _scalar
                held[document] = read(row[number[0]]) if number[0] in row else NOT_GIVEN
        for number in shapes:
            found.given[number] += number[1] == filter_ and number[0] in row
    _same_documents(file, seen)
    found.dataset, found.prompts = fingerprint(contents), fingerprint(asked)
    found.generation = tuple(sorted(generation))
    found.task_hash = own_hash.hexdigest() if own_hash is not None else ""
    found.sha256 = sha256.hexdigest()
    return found


def read_samples(
    file: Path,
    first_filter: str,
    recordings: Recordings,
    names: Mapping[Number, str],
    slices: Sequence[str],
) -> Iterator[ForeignSample]:
    """Yield the documents in the order of the file; ``names`` are those of the scores here.

    Raises UsageError where the file was changed since its recordings were read.
    """
    sha256 = hashlib.sha256()
    for _, row in _rows(file, sha256):
        if row.get("filter", first_filter) != first_filter:
            continue
        document = str(row["doc_id"])
        asked, targets, answers = texts_of(row)
        doc = row.get("doc")
        yield ForeignSample(
            id=document,
            asked=asked,
            targets=targets,
            answers=answers,
            scores={name: recordings.scores[number][document] for number, name in names.items()},
            slices=slices_of(doc if isinstance(doc, dict) else {}, slices),
        )
    if sha256.hexdigest() != recordings.sha256:
        raise UsageError([Problem(str(file), None, "", "the file changed while it was read")])


def _rows(file: Path, sha256: Any) -> Iterator[tuple[int, dict[str, Any]]]:  # noqa: ANN401 - hashlib's type is private
    """Yield each row with its line."""
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                sha256.update(line)
                if line.strip():
                    yield number, _row(file, number, line)
    except OSError as error:
        raise RunError(
            f"{file} cannot be read: {error.strerror}", "check its permissions"
        ) from error


def _row(file: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        try:  # NaN, Infinity and lone surrogates, which Python writes as well
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            message = (
                f"the row is cut or no JSON ({error}): fetch the file again, or run lm-eval again"
            )
            raise UsageError([Problem(str(file), number, "", message)]) from error
    if not isinstance(row, dict):
        raise UsageError([Problem(str(file), number, "", "this is no row of lm-eval's samples")])
    return row


def _place(
    file: Path, line: int, row: dict[str, Any], seen: dict[str, dict[str, int]]
) -> tuple[str, str]:
    """Return a row's document and filter, which no row before it had."""

    def wrong(key: str, message: str, allowed: str = "") -> UsageError:
        return UsageError([Problem(str(file), line, key, message, allowed)])

    document = row.get("doc_id")
    if isinstance(document, bool) or not isinstance(document, int | str) or document == "":
        raise wrong("doc_id", f"no document's number: found {document!r}"[:_LONGEST_NOTE])
    filter_ = row.get("filter", next(iter(seen)) if len(seen) == 1 else None)
    if not isinstance(filter_, str) or filter_ not in seen:
        raise wrong(
            "filter", f"the results have no filter {filter_!r}"[:_LONGEST_NOTE], ", ".join(seen)
        )
    held = seen[filter_]
    if str(document) in held:
        message = f"document {document!r} of filter {filter_!r} stands in line {held[str(document)]} already"
        raise wrong("doc_id", message)
    held[str(document)] = line
    return str(document), filter_


def _same_documents(file: Path, seen: Mapping[str, Mapping[str, int]]) -> None:
    first, *others = seen
    for name in others:
        if seen[name].keys() != seen[first].keys():
            message = (
                f"filter {first!r} has {len(seen[first]):,} documents and filter {name!r} {len(seen[name]):,}, not the "
                "same ones: rows are missing"
            )
            raise UsageError([Problem(str(file), None, "filter", message)])


def _rolled(own_hash: Any, row: Mapping[str, Any]) -> Any:  # noqa: ANN401 - hashlib's type is private
    """Return lm-eval's hash of a task with one more row; None once a row lacks a part."""
    parts = [row.get(key) for key in ("doc_hash", "prompt_hash", "target_hash")]
    if own_hash is None or not all(isinstance(part, str) for part in parts):
        return None
    own_hash.update("".join(map(str, parts)).encode("utf-8", "surrogatepass"))
    return own_hash


def _scalar(value: Any) -> Recorded:  # noqa: ANN401 - any JSON value
    return _numbers([value])


def _pair(value: Any) -> Recorded:  # noqa: ANN401 - any JSON value
    return _numbers(value if isinstance(value, list) and len(value) == 2 else [None])


def _numbers(values: Sequence[Any]) -> Recorded:
    numbers = tuple(number for number in map(finite, values) if number is not None)
    if len(numbers) == len(values):
        return Score(numbers)
    if all(isinstance(value, int | float) for value in values):
        return Unscored("what was recorded is no finite number", str(values)[:_LONGEST_NOTE])
    return Unscored("what was recorded is no number", repr(values[0])[:_LONGEST_NOTE])
