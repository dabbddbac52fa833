"""Rows of ``samples.jsonl`` for judges, and what they said of them, read back from ``judgements.jsonl``."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from evalkit.errors import RunError
from evalkit.judging.asking import from_row
from evalkit.records.exchange import Role
from evalkit.records.judging import Judgement


class SampleFile:
    """The rows of a run's ``samples.jsonl`` by model and task; in memory are only their places in the file.

    Raises RunError where the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        """Look through the file once."""
        self._path = path
        self._places: dict[tuple[str, str], array[int]] = {}
        self._by_id: dict[tuple[str, str], dict[str, int]] = {}
        with _reading(path), path.open("rb") as file:
            place = 0
            for line in file:
                row = parsed_row(line)
                self._places.setdefault((row["model"], row["task"]), array("q")).append(place)
                place += len(line)

    def of(self, role: Role, task: str) -> Iterator[Mapping[str, Any]]:
        """Yield one model's rows of a task, in their order."""
        with _reading(self._path), self._path.open("rb") as file:
            at = 0
            for place in self._places.get((role, task), ()):
                if place != at:
                    file.seek(place)
                line = file.readline()
                at = place + len(line)
                yield parsed_row(line)

    def one(self, role: Role, task: str, sample: str) -> Mapping[str, Any] | None:
        """Return one row by the sample's id; None where that model has none."""
        key = (role, task)
        if key not in self._by_id:
            held = zip(self.of(role, task), self._places.get(key, ()), strict=True)
            self._by_id[key] = {str(row["id"]): place for row, place in held}
        place = self._by_id[key].get(sample)
        if place is None:
            return None
        with _reading(self._path), self._path.open("rb") as file:
            file.seek(place)
            return parsed_row(file.readline())

    def count(self, role: Role, task: str) -> int:
        """Return how many rows one model has of a task."""
        return len(self._places.get((role, task), ()))


class Said:
    """What judges said of the rows of a run, by the place of each row among those of its model and task."""

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take the rows of ``judgements.jsonl``."""
        self._ids: dict[tuple[str, str], dict[str, list[str]]] = {}
        self._said: dict[tuple[str, str], dict[str, list[Judgement]]] = {}
        self._lengths: dict[tuple[str, str], dict[int, tuple[int, int]]] = {}
        for row in rows:
            key, judge = (row["model"], row["task"]), row["judge"]
            held = self._said.setdefault(key, {}).setdefault(judge, [])
            if "lengths" in row:
                ours, theirs = row["lengths"]
                self._lengths.setdefault(key, {})[len(held)] = (ours, theirs)
            held.append(from_row({name: row[name] for name in row if name != "note"}))
            self._ids.setdefault(key, {}).setdefault(judge, []).append(row["id"])

    def of(
        self, row: Mapping[str, Any], place: int
    ) -> tuple[dict[str, Judgement], tuple[int, int]]:
        """Return what is said of a row, by judge, and the lengths of both answers.

        Raises ValueError where a judgement is of another sample, or where there is none.
        """
        key = row["model"], row["task"]
        said = {}
        for judge, held in self._said.get(key, {}).items():
            if place >= len(held) or self._ids[key][judge][place] != row["id"]:
                raise ValueError(f"judge {judge} says nothing of sample {row['id']!r}")
            said[judge] = held[place]
        return said, self._lengths.get(key, {}).get(place, (0, 0))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise RunError(message, "check its permissions") from error


def parsed_row(line: bytes) -> dict[str, Any]:
    """Return the object that one line of a run's rows holds."""
    try:
        row: dict[str, Any] = orjson.loads(line)
    except orjson.JSONDecodeError:  # a lone surrogate in a model's answer, escaped
        row = json.loads(line)
    return row
