"""Reads labelled items for ``evalkit judge validate``: JSONL or CSV, every problem at once.

One item per row: ``question`` and ``answer``, or ``answer_a`` and ``answer_b`` for a pairwise judge; ``label``, a whole
number on the judge's scale, or ``A``, ``B`` or ``tie``. Optional are ``reference``, ``id`` and ``annotator``. Several
annotators stand in columns ``label:ann``, ``label:bob`` (in JSONL also as an object ``labels``), or in several rows
with the same item. An empty cell is no label. Columns stand between commas, or between semicolons, as spreadsheets of
some countries write them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from evalkit.errors import Problem, UsageError
from evalkit.identity import digest, digest_bytes
from evalkit.judging.asking import Question
from evalkit.judging.labels import PAIR_CODES, LabelledItem
from evalkit.loaders.files import unreadable
from evalkit.loaders.rows import CsvRows, FileRows, JsonLines
from evalkit.records.suite import JudgeSpec
from evalkit.registry import nearest

MAX_BYTES: Final = 256 << 20
"""Largest file: people label hundreds of items, not millions."""
MAX_TEXT: Final = 1 << 20
"""Most characters of one text: no judge's window holds more."""
MOST_PROBLEMS: Final = 50
"""Problems told; the rest are counted."""
MOST_COLUMNS: Final = 12
"""Columns named in a message."""
_COLUMNS: Final = {
    "question": "a column of what was asked",
    "answer": "a column of the answers that people rated",
    "answer_a": "a column of the first of two answers",
    "answer_b": "a column of the second of two answers",
    "label": "a column label, or label:NAME for each annotator",
    "reference": "a column of right answers",
}
"""What a file lacks that has no column of this name."""
_NUMBER = re.compile(r"[+-]?\d{1,9}(?:\.0{1,9})?", re.ASCII)
ONE: Final = "label"
"""Annotator where a file names none."""


class Labels(NamedTuple):
    """A file of labelled items."""

    items: tuple[LabelledItem, ...]
    """The items in the file's order."""
    digest: str
    """SHA-256 of the file."""


def load_labels(path: Path, spec: JudgeSpec) -> Labels:
    """Return the items of a file with their labels.

    Raises UsageError with every row that is no labelled item for this judge, RunError where the file cannot be read.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError([Problem(str(path), None, "", "the file is larger than 256 MiB")])
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    file_digest = digest_bytes(content)
    reader = _Reader(path, spec)
    reader.read(file_digest, _kind(path, content))
    if not reader.problems and not reader.items:
        reader.problems.append(Problem(str(path), None, "", "the file holds no labelled item"))
    if (more := len(reader.problems) - MOST_PROBLEMS) > 0:
        told = Problem(str(path), None, "", f"and {more:,} more problems")
        raise UsageError([*reader.problems[:MOST_PROBLEMS], told])
    if reader.problems:
        raise UsageError(reader.problems)
    return Labels(tuple(reader.items.values()), file_digest)


class _SemicolonRows(CsvRows):
    separator = ";"


def _kind(path: Path, content: bytes) -> type[FileRows]:
    """Return what reads a file: its ending tells CSV, its first line the separator."""
    if path.suffix.lower() != ".csv":
        return JsonLines
    head = content.partition(b"\n")[0]
    return _SemicolonRows if head.count(b";") > head.count(b",") else CsvRows


class _Reader:
    """Reads one file; keeps what is wrong with it."""

    def __init__(self, path: Path, spec: JudgeSpec) -> None:
        self.path, self.spec = path, spec
        self.problems: list[Problem] = []
        self.items: dict[str, LabelledItem] = {}
        """Items by what they are: their texts."""
        pairwise = spec.form == "pairwise"
        self._texts = ("question", *(("answer_a", "answer_b") if pairwise else ("answer",)))
        low, high = spec.scale
        self._allowed = "A, B or tie" if pairwise else f"a whole number from {low} to {high}"

    def read(self, file_digest: str, kind: type[FileRows]) -> None:
        """Read all rows; where the file's form breaks, what follows is not read, and the problem is told."""
        try:
            for place, row in kind(self.path, file_digest, None).rows():
                if not self.items and not self.problems and not self._has_columns(place, row):
                    return
                self._read(place, int(place.rpartition(":")[2]), row)
        except UsageError as error:
            self.problems += error.problems

    def _has_columns(self, place: str, row: Mapping[str, Any]) -> bool:
        """Tell whether the first row has what each must have, so that a wrong header is told once."""
        lacking = [name for name in self._texts if name not in row]
        if not any(name in ("label", "labels") or name.startswith("label:") for name in row):
            lacking.append("label")
        if self.spec.reference and "reference" not in row:
            lacking.append("reference")
        names = [_shown(str(name)) for name in row]
        known = ", ".join(names[:MOST_COLUMNS]) or "nothing"
        for name in lacking:
            message = f"there is no {name!r}; the first row has {known}"
            other = "pairwise" if name == "answer" and "answer_a" in row else ""
            other = "pointwise" if name == "answer_a" and "answer" in row else other
            if other:
                message += f": these are labels for a {other} judge, and {self.spec.judge} is {self.spec.form}"
            if name == "reference":
                message += f": {self.spec.judge} is shown the right answer ('reference: true')"
            line = int(place.rpartition(":")[2])
            close = nearest(name, [n for n in map(str, row) if len(n) < 40])
            self._problem(line, name, message, _COLUMNS[name], close)
        return not lacking

    def _read(self, place: str, line: int, row: Mapping[str, Any]) -> None:
        before = len(self.problems)
        texts = {name: self._text(line, name, row.get(name)) for name in self._texts}
        reference = ""
        if row.get("reference") not in (None, ""):
            reference = self._text(line, "reference", row["reference"])
        elif self.spec.reference:
            message = "the judge is shown the right answer, and there is none"
            self._problem(line, "reference", message, "a text")
        if not texts["question"].strip() and before == len(self.problems):
            self._problem(line, "question", "it is empty", "a text")
        ratings = self._ratings(line, row)
        if len(self.problems) > before:
            return
        shown = reference if self.spec.reference else ""
        named = "" if row.get("id") is None else str(row["id"])
        identity = digest([*texts.values(), shown])
        item = self.items.get(identity)
        if item is not None and named not in ("", item.question.id):
            message = (
                f"this very item stands at {item.place} under the id {_shown(item.question.id)}"
            )
            self._problem(line, "id", message, "an item's ratings under one id, or under none")
        elif item is None:
            name = named or f"line {line}"
            answers = [texts[name] for name in self._texts[1:]]
            question = Question(
                name, texts["question"], (answers[0],), tuple(answers[1:]), reference=shown
            )
            self.items[identity] = LabelledItem(question, ratings, place)
        else:
            self._add(line, identity, item, ratings)

    def _add(
        self, line: int, identity: str, item: LabelledItem, ratings: Mapping[str, int]
    ) -> None:
        """Add another row's ratings to an item; one annotator rates it once."""
        known = dict(item.ratings)
        for name, code in ratings.items():
            if name == ONE:  # rows without names are by different people
                known[f"{ONE} {len(known) + 1}"] = code
            elif name in known:
                message = f"{name} has rated this item at {item.place} already"
                self._problem(line, "annotator", message, "each annotator once per item")
            else:
                known[name] = code
        self.items[identity] = replace(item, ratings=known)

    def _ratings(self, line: int, row: Mapping[str, Any]) -> dict[str, int]:
        found: dict[str, Any] = {}

        def give(annotator: object, value: object) -> None:
            name = str(annotator).strip() or ONE
            if name in found and found[name] != value:
                message = (
                    f"{_shown(name)} has two labels: {_shown(found[name])} and {_shown(value)}"
                )
                self._problem(line, "label", message, "one label of each annotator")
            found[name] = value

        if row.get("label") not in (None, ""):
            give(row.get("annotator") or ONE, row["label"])
        for name, value in row.items():
            if name.startswith("label:") and value not in (None, ""):
                give(name.removeprefix("label:"), value)
        several = row.get("labels")
        if isinstance(several, list):
            several = {f"{ONE} {place + 1}": value for place, value in enumerate(several)}
        if isinstance(several, dict):
            for name, value in several.items():
                if value is not None:
                    give(name, value)
        elif several not in (None, ""):
            self._problem(
                line, "labels", "it is no object of labels", '{"ann": 4, "bob": 5} or [4, 5]'
            )
        if not found and several in (None, ""):
            self._problem(line, "label", "it is empty: nobody rated this item", self._allowed)
        codes = {name: self._code(value) for name, value in found.items()}
        for name, code in codes.items():
            if code is None:
                message = f"found {_shown(found[name])}"
                self._problem(
                    line, "label" if name == ONE else f"label of {name}", message, self._allowed
                )
        return {name: code for name, code in codes.items() if code is not None}

    def _code(self, value: Any) -> int | None:  # noqa: ANN401 - whatever a file holds
        """Return a label's code; None where it is not one."""
        if self.spec.form == "pairwise":
            text = value.strip() if isinstance(value, str) else ""
            return PAIR_CODES.get("tie" if text.lower() == "tie" else text.upper())
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            return None
        if isinstance(value, str) and not _NUMBER.fullmatch(value.strip()):
            return None
        try:
            number = float(value)
        except OverflowError:
            return None
        low, high = self.spec.scale
        if not low <= number <= high or not number.is_integer():  # NaN is on no scale
            return None
        return int(number) - low

    def _text(self, line: int, name: str, value: Any) -> str:  # noqa: ANN401 - whatever a file holds
        if not isinstance(value, str):
            message = "it is missing" if value is None else f"found {_shown(value)}"
            self._problem(line, name, message, "a text")
            return ""
        if len(value) > MAX_TEXT:
            message = f"the text has {len(value):,} characters"
            self._problem(line, name, message, f"at most {MAX_TEXT:,}")
            return ""
        return value

    def _problem(
        self, line: int, name: str, message: str, allowed: str = "", close: str = ""
    ) -> None:
        self.problems.append(Problem(str(self.path), line, name, message, allowed, close))


def _shown(value: Any) -> str:  # noqa: ANN401 - whatever a file holds
    """Return a value as a message shows it, cut to a line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
