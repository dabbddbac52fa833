"""Reviews on disk: what annotators get, the key that is kept from them, their label files, and a run with ratings.

::

    RUN-review/
        review.json      the key: which model gave which answer; annotators must not get it
        review.html      the page on which answers are rated; one file, works without a network
        items.jsonl      the same items for other labelling tools
        items.csv        … and for spreadsheets, with empty columns for rating, annotator and comment
        conflicts.csv    written by the import: the items that annotators disagree about; what is filled in stays

    RUN-reviewed/        the run's own files, with labels.jsonl and a scorecard that holds people's ratings

A label file is JSONL with the keys ``item``, ``rating``, ``annotator`` and maybe ``comment`` and ``review``, or CSV
with these columns; other columns are not read. A spreadsheet must not take an answer for a formula, so a text that
begins like one has an apostrophe before it in CSV files.

**Source**: OWASP, CSV Injection.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from evalkit.errors import Problem, RunError, UsageError
from evalkit.records.review import Item, RatedAnswer, Review
from evalkit.records.scorecard import Scorecard
from evalkit.records.suite import ReviewSpec
from evalkit.reviewing import Conflict, Exported, Label
from evalkit.store.documents import checked, document, read_json
from evalkit.store.durable import disk_errors, make_folder, replacing, write_bytes
from evalkit.store.runs import JUDGEMENTS, PLOTS, SAMPLES, SCORECARD, VERDICT, WEIGHTS

KEY: Final = "review.json"
PAGE: Final = "review.html"
ITEMS: Final = "items.jsonl"
SHEET: Final = "items.csv"
CONFLICTS: Final = "conflicts.csv"
LABELS: Final = "labels.jsonl"
_OWN: Final = {
    "run.json",
    SCORECARD,
    VERDICT,
    LABELS,
    "report.html",
    "junit.xml",
    "summary.md",
}
"""What tells of one run alone: a run with ratings has its own."""
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""
_WHOLE: Final = re.compile(r"-?[0-9]+")
_BY: Final = "rating by "
"""Before an annotator's name: the column of their ratings in ``conflicts.csv``."""
_FIELD: Final = 1 << 27
"""The longest cell that is read, in characters; the csv module's own limit is 131,072."""


def write_review(folder: Path, made: Exported, page: str) -> None:
    """Write a review's files, the key last. The same review is written again; another one is never replaced.

    Raises UsageError where the folder holds another review, RunError when the disk refuses.
    """
    key = folder / KEY
    if key.exists() and (held := read_review(folder)).id != made.review.id:
        message = (
            f"the folder holds another review ({held.id}), whose labels would fit no more; name another folder with "
            "--out, or remove it"
        )
        raise UsageError([Problem(str(key), None, "id", message)])
    make_folder(folder)
    specs = {task.task: task.review for task in made.review.tasks}
    write_bytes(folder / PAGE, page.encode("ascii", "xmlcharrefreplace"))
    write_bytes(folder / ITEMS, b"".join(_lines(made, specs)))
    write_bytes(folder / SHEET, _sheet(made, specs))
    write_bytes(key, document(made.review.model_dump(mode="json")))


def read_review(folder: Path) -> Review:
    """Return a review's key. Raises UsageError where there is none or it was changed."""
    file = folder / KEY
    absent = (
        "there is no such file: 'evalkit review export RUN' writes it; --review names its folder"
    )
    return checked(file, read_json(file, absent), Review)


def read_items(folder: Path) -> dict[str, Item]:
    """Return the items by id; none where the folder has them no more."""
    file = folder / ITEMS
    if not file.is_file():
        return {}
    fields = set(Item.model_fields)
    rows = (row for _, row in _json_rows(file, []))
    items = (Item.model_validate({k: row[k] for k in fields if k in row}) for row in rows)
    return {item.item: item for item in items}


def _lines(made: Exported, specs: Mapping[str, ReviewSpec]) -> Iterator[bytes]:
    for item in made.items:
        spec = specs[item.task]
        row = {
            **item.model_dump(mode="json"),
            "question": spec.question,
            "ratings": list(spec.ratings),
            "review": made.review.id,
        }
        yield json.dumps(row).encode() + b"\n"  # ASCII: a lone surrogate stays what it is


def _sheet(made: Exported, specs: Mapping[str, ReviewSpec]) -> bytes:
    head = ("review", "item", "task", "question", "prompt", "reference", "answer", "ratings")
    return _csv(
        (*head, "rating", "annotator", "comment"),
        (
            (
                made.review.id,
                item.item,
                item.task,
                specs[item.task].question,
                item.prompt,
                " | ".join(item.targets),
                item.answer,
                ", ".join(map(str, specs[item.task].ratings)),
                "",
                "",
                "",
            )
            for item in made.items
        ),
    )


def write_conflicts(
    folder: Path, review: Review, found: Sequence[Conflict], items: Mapping[str, Item]
) -> Path:
    """Write what annotators disagree about, with an empty column for the rating that shall stand; return the file.

    What an adjudicator has filled in there stays: it is work of hours, and the next import wants it again. Raises
    UsageError where the file that is there cannot be read.
    """
    path = folder / CONFLICTS
    settled = _filled_in(path, review.id)
    lowered = {name.lower() for conflict in found for name in conflict.ratings}
    names = {name for conflict in found for name in conflict.ratings} | {
        name.removeprefix(_BY)
        for row in settled.values()
        for name in row
        if name.startswith(_BY) and name.removeprefix(_BY) not in lowered
    }
    rows = []
    for conflict in found:
        task, known = conflict.answer.task, conflict.answer.item
        item, stands = items.get(known), settled.pop(known, {})
        texts = (
            ("", "", "") if item is None else (item.prompt, " | ".join(item.targets), item.answer)
        )
        held = [str(conflict.ratings.get(name, "")) for name in sorted(names)]
        told = (stands.get("rating", ""), stands.get("annotator") or "adjudicator")
        rows.append((review.id, known, task, *texts, *held, *told))
    head = ("review", "item", "task", "prompt", "reference", "answer")
    columns = (*head, *(f"{_BY}{name}" for name in sorted(names)), "rating", "annotator")
    rows += [tuple(row.get(name.lower()) or "" for name in columns) for row in settled.values()]
    write_bytes(path, _csv(columns, rows))
    return path


def _filled_in(path: Path, review: str) -> dict[str, Mapping[str, str]]:
    """Return the rows of ``conflicts.csv`` that an adjudicator rated, by item; none where there is no such file."""
    if not path.is_file():
        return {}
    problems: list[Problem] = []
    rows = [row for _, row in _csv_rows(path, problems)]
    if problems:
        raise UsageError(problems)
    return {
        row["item"]: row
        for row in rows
        if (row.get("rating") or "").strip() and row.get("review") in (None, "", review)
    }


def _csv(head: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(map(_cell, head))
    writer.writerows(map(_cell, row) for row in rows)
    return out.getvalue().encode("utf-8-sig")


def _cell(text: str) -> str:
    if _WHOLE.fullmatch(text):  # a rating below 0 is a number, and must be read as one again
        return text
    clean = text.replace("\0", "\N{SYMBOL FOR NULL}").encode("utf-8", "backslashreplace").decode()
    return f"'{clean}" if clean.startswith(_FORMULA) else clean


def read_labels(files: Sequence[Path]) -> list[Label]:
    """Return every label in JSONL and CSV files, in order. Raises UsageError with each line that is no label."""
    problems: list[Problem] = []
    labels = [
        Label(
            file=str(file),
            line=line,
            item=row.get("item"),
            rating=row.get("rating"),
            annotator=row.get("annotator"),
            comment=row.get("comment"),
            review=row.get("review"),
        )
        for file in files
        for line, row in _rows(file, problems)
    ]
    if problems:
        raise UsageError(problems)
    return labels


def _rows(file: Path, problems: list[Problem]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if file.suffix.lower() == ".csv":
        yield from _csv_rows(file, problems)
    else:
        yield from _json_rows(file, problems)


def _json_rows(file: Path, problems: list[Problem]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    # Split at line feeds alone: JSON texts may hold other characters that Python takes for line ends.
    for line, text in enumerate(_text(file).split("\n"), start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            problems.append(Problem(str(file), line, "", f"not JSON: {error}"))
            continue
        if isinstance(row, dict):
            yield line, row
        else:
            problems.append(Problem(str(file), line, "", "not a JSON object"))


def _csv_rows(file: Path, problems: list[Problem]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    text = _text(file)
    head = text.partition("\n")[0]
    separator = ";" if head.count(";") > head.count(",") else ","  # spreadsheets differ by country
    held = csv.field_size_limit(_FIELD)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        names = [name.strip().lower() for name in next(reader, [])]
        lacking = [name for name in ("item", "rating", "annotator") if name not in names]
        if lacking:
            message = f"the columns {', '.join(lacking)} are missing"
            problems.append(Problem(str(file), 1, "", message, "item, rating, annotator, comment"))
            return
        line = reader.line_num + 1
        for cells in reader:
            if any(cells):
                yield line, dict(zip(names, cells, strict=False))
            line = reader.line_num + 1
    except csv.Error as error:
        problems.append(Problem(str(file), reader.line_num, "", f"not CSV: {error}"))
    finally:
        csv.field_size_limit(held)


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError([Problem(str(file), None, "", f"not UTF-8: {error}")]) from error
    except OSError as error:
        message = f"{file} cannot be read: {error.strerror}"
        raise RunError(message, "check that it is there, and its permissions") from error


def rated_lines(rated: Iterable[RatedAnswer]) -> bytes:
    """Return the content of ``labels.jsonl``; its SHA-256 goes into the scorecard."""
    return b"".join(json.dumps(row.model_dump(mode="json")).encode() + b"\n" for row in rated)


def read_rated(folder: Path, scorecard: Scorecard) -> list[RatedAnswer]:
    """Return the ratings that a run's scorecard holds; none where nobody rated it.

    Raises UsageError where they are absent or were changed.
    """
    if not scorecard.labels:
        return []
    file = folder / LABELS
    if not file.is_file():
        message = "the run's labels are not there; 'evalkit review import' writes them again"
        raise UsageError([Problem(str(file), None, "", message)])
    if hashlib.sha256(file.read_bytes()).hexdigest() != scorecard.labels:
        message = "the labels were changed after the scorecard was written"
        raise UsageError([Problem(str(file), None, "", message)])
    problems: list[Problem] = []
    rated = []
    for line, row in _json_rows(file, problems):
        try:
            rated.append(RatedAnswer.model_validate(row))
        except ValidationError as error:
            problems.append(Problem(str(file), line, "", str(error.errors()[0]["msg"])))
    if problems:
        raise UsageError(problems)
    return rated


def copy_run(source: Path, target: Path, scorecard: Scorecard) -> None:
    """Copy into ``target`` all that a scorecard rests on, byte by byte; plots too. Reports and verdict stay behind.

    Raises UsageError where samples, weights or judgements are not those of the scorecard.
    """
    held = {
        SAMPLES: scorecard.samples,
        WEIGHTS: scorecard.weights,
        JUDGEMENTS: scorecard.judgements,
    }
    for file in sorted(source.iterdir()):
        if file.is_file() and not file.name.startswith(".") and file.name not in _OWN:
            _copy(file, target / file.name, held.get(file.name, ""))
    with disk_errors(target / PLOTS):
        if (source / PLOTS).is_dir():
            shutil.copytree(source / PLOTS, target / PLOTS, dirs_exist_ok=True)


def _copy(source: Path, target: Path, expected: str) -> None:
    sha256 = hashlib.sha256()
    with replacing(target) as file, disk_errors(target), source.open("rb") as opened:
        while part := opened.read(1 << 20):
            sha256.update(part)
            file.write(part)
        if expected and sha256.hexdigest() != expected:
            message = "the file was changed after the run was written"
            raise UsageError([Problem(str(source), None, "", message)])
