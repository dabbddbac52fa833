"""Reads the rows of text files, JSONL and CSV, as a stream: one record is in memory at a time.

Source: RFC 8259 (each line of a JSONL file is one object), RFC 4180 (CSV; the first record is the header).

Deviation: of two keys with one name in a JSON object the last counts.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn

import orjson

from evalkit.errors import Problem, RunError, UsageError
from evalkit.identity import digest
from evalkit.loaders.places import Value

Row = Mapping[str, Any]
Format = Literal["jsonl", "csv", "parquet", "bbq", "crows_pairs", "winogender"]

FORMATS: Mapping[Format, str] = {"jsonl": ".jsonl", "csv": ".csv", "parquet": ".parquet"}
"""Format → the file ending that says so."""
COUNTED_BYTES = 256 << 20
"""Largest text file whose rows are counted beforehand, in well under a second, so that progress can tell the rest."""


def format_of(path: str) -> Format | None:
    """Return what a file's ending says its format is."""
    endings = {ending: name for name, ending in FORMATS.items()}
    return endings.get(Path(path).suffix.lower())


class FileRows:
    """The rows of one file; subclasses read one format each."""

    format: ClassVar[Format]
    beside: ClassVar[tuple[str, ...]] = ()
    """Names of files in the same folder without which this one cannot be read; the digest covers them."""

    def __init__(self, path: Path, file_digest: str, limit: int | None) -> None:
        self.path = path
        self._limit = limit
        self._file_digest = file_digest

    @property
    def digest(self) -> str:
        """Digest of the file's bytes, how they are read and how many rows are."""
        return digest({"file": self._file_digest, "format": self.format, "limit": self._limit})

    @cached_property
    def total(self) -> int | None:
        """How many rows there are to read; None where counting would take long."""
        count = self._count()
        return count if count is None or self._limit is None else min(count, self._limit)

    def rows(self) -> Iterator[tuple[str, Row]]:
        """Yield (``file:line``, row) in order; raises UsageError on what is no row, RunError on a failing disk."""
        name = self.path.name
        try:
            for line, row in islice(self._read(), self._limit):
                yield f"{name}:{line}", row
        except OSError as error:
            raise RunError(
                f"{self.path} cannot be read: {error}", "check that the file is there"
            ) from error

    def _read(self) -> Iterator[tuple[int, Row]]:
        """Yield (line, row)."""
        raise NotImplementedError

    def _count(self) -> int | None:
        raise NotImplementedError

    def _refuse(self, line: int, message: str, allowed: str = "") -> NoReturn:
        raise UsageError([Problem(str(self.path), line, "", message, allowed)])

    def _lines(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            first = file.readline()
            yield first.removeprefix(b"\xef\xbb\xbf")
            yield from file


class JsonLines(FileRows):
    """One JSON object per line; empty lines are skipped."""

    format: ClassVar[Format] = "jsonl"

    def _read(self) -> Iterator[tuple[int, Row]]:
        for number, line in enumerate(self._lines(), start=1):
            if line.isspace() or not line:
                continue
            try:
                row = orjson.loads(line)
                if type(row) is dict and _has_rounded(row):
                    row = json.loads(line)
            except orjson.JSONDecodeError as error:
                self._refuse(number, _why_no_json(line, error), "one JSON object per line")
            except RecursionError:
                self._refuse(number, "the object is nested too deeply", "one JSON object per line")
            if type(row) is not dict:
                self._refuse(number, f"found {_named(row)}", "one JSON object per line")
            yield number, row

    def _count(self) -> int | None:
        if self.path.stat().st_size > COUNTED_BYTES:
            return None
        return sum(map(bool, map(bytes.strip, self._lines())))


def _has_rounded(value: Value) -> bool:
    """Tell whether a number may have been a whole one beyond 64 bits, which orjson makes a float."""
    kind = type(value)
    if kind is float:
        return bool(abs(value) >= 2.0**63)
    if kind is dict:
        return any(map(_has_rounded, value.values()))
    return kind is list and any(map(_has_rounded, value))


def _why_no_json(line: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        line.decode()
    except UnicodeDecodeError as wrong:
        return f"the byte 0x{line[wrong.start]:02x} at column {wrong.start + 1} is not UTF-8"
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return f"this is not JSON: {error.msg} at column {error.colno}"
    return f"JSON has no NaN, no infinity and no half characters: column {error.colno}"


def _named(value: Value) -> str:
    names = {list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


class CsvRows(FileRows):
    """Comma-separated values under a header row; every value is a text."""

    format: ClassVar[Format] = "csv"
    separator: ClassVar[str] = ","
    quoted: ClassVar[bool] = True
    """Whether a quotation mark opens a value; else it is a character like any other."""
    unnamed: ClassVar[bool] = False
    """Whether a column may have no name."""

    def _read(self) -> Iterator[tuple[int, Row]]:
        records = self._records()
        _, header = next(records, (1, []))
        if not header:
            self._refuse(
                1, "the file has no header row", "the names of the columns in the first line"
            )
        twice = sorted({name for name in header if header.count(name) > 1})
        if twice or ("" in header and not self.unnamed):
            found = (
                f"the header names {', '.join(twice)} twice" if twice else "a column has no name"
            )
            self._refuse(1, found, "each column with a name of its own")
        for line, values in records:
            if len(values) != len(header):
                self._refuse(
                    line,
                    f"found {len(values)} values for {len(header)} columns",
                    "one value for each column",
                )
            yield line, dict(zip(header, values, strict=True))

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Yield (first line, values) of each record that is not empty."""
        csv.field_size_limit(
            1 << 30
        )  # documents are longer than the module's 128 KiB; the setting is the process's
        reader = csv.reader(
            self._texts(),
            delimiter=self.separator,
            quoting=csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE,
            strict=True,
        )
        line = 1
        while True:
            try:
                values = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                self._refuse(
                    line, f"this is not CSV: {error}", "quotes inside a quoted value written twice"
                )
            if values:
                yield line, values
            line = reader.line_num + 1

    def _texts(self) -> Iterator[str]:
        for number, line in enumerate(self._lines(), start=1):
            try:
                yield line.decode()
            except UnicodeDecodeError as error:
                self._refuse(
                    number,
                    f"the byte 0x{line[error.start]:02x} at column {error.start + 1} is not UTF-8",
                )

    def _count(self) -> int | None:
        if self.path.stat().st_size > COUNTED_BYTES // 8:
            return None
        try:
            return max(sum(1 for _ in self._records()) - 1, 0)
        except UsageError:
            return None  # told when the rows are read


class TsvRows(CsvRows):
    """Values separated by tabs under a header row, without quoting."""

    separator = "\t"
    quoted = False
