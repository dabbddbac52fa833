"""Reads the rows of tables that Arrow holds: Parquet files, and whatever else comes in batches.

A row is what JSON can say: NaN in a table is a missing value and becomes null, infinity is refused, dates and
decimals become texts, columns of bytes (pictures, sound) are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.errors import Problem, RunError, UsageError
from evalkit.loaders.places import Value
from evalkit.loaders.rows import FileRows, Row

if TYPE_CHECKING:
    import pyarrow


class ParquetRows(FileRows):
    """A Parquet file, read in batches; a row's line is its number."""

    format = "parquet"

    def _read(self) -> Iterator[tuple[int, Row]]:
        with self._open() as file:
            try:
                yield from numbered(file.iter_batches(batch_size=BATCH_ROWS), self.path)
            except _arrow_errors() as error:
                raise RunError(f"{self.path} is damaged: {error}", "copy the file again") from error

    def _count(self) -> int | None:
        with self._open() as file:
            return int(file.metadata.num_rows)

    def _open(self) -> Any:  # noqa: ANN401 - pyarrow has no types
        try:
            from pyarrow import parquet
        except ImportError as error:
            raise missing_extra("Parquet files", "parquet") from error
        try:
            return parquet.ParquetFile(self.path)
        except _arrow_errors() as error:
            raise UsageError(
                [Problem(str(self.path), None, "", f"this is no Parquet file: {error}")]
            ) from error


BATCH_ROWS = 1024
"""Rows of a table turned into values at once."""


def _arrow_errors() -> tuple[type[Exception], ...]:
    from pyarrow import ArrowException

    return OSError, ArrowException  # a damaged page is an OSError to it


def missing_extra(what: str, extra: str) -> RunError:
    """Return the error of reading something whose library is not installed."""
    return RunError(
        f"{what} need a library that is not installed", f"pip install 'evalkit-gates[{extra}]'"
    )


def numbered(
    batches: Iterable[pyarrow.RecordBatch | pyarrow.Table], place: Path | str
) -> Iterator[tuple[int, Row]]:
    """Yield (number, row) from batches of a table; numbers begin at 1."""
    number = 0
    for batch in batches:
        shown = [f.name for f in batch.schema if not _is_binary(f.type)]
        for row in batch.select(shown).to_pylist():
            number += 1
            try:
                yield number, {key: _as_json(value) for key, value in row.items()}
            except ValueError as error:
                raise UsageError([Problem(str(place), number, "", str(error))]) from None


def _is_binary(type_: Any) -> bool:  # noqa: ANN401 - pyarrow has no types
    from pyarrow import types

    if types.is_struct(type_):
        return any(_is_binary(type_.field(n).type) for n in range(type_.num_fields))
    if types.is_list(type_) or types.is_large_list(type_):
        return _is_binary(type_.value_type)
    return bool(
        types.is_binary(type_) or types.is_large_binary(type_) or types.is_fixed_size_binary(type_)
    )


def _as_json(value: Value) -> Value:
    """Return a table's value as JSON can say it; raises ValueError on infinity."""
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if kind is float:
        if math.isinf(value):
            raise ValueError("JSON has no infinity")
        return None if math.isnan(value) else value
    if kind is dict:
        return {str(key): _as_json(inner) for key, inner in value.items()}
    if kind is list or kind is tuple:
        return [_as_json(inner) for inner in value]
    return value.isoformat() if isinstance(value, datetime | date | time) else str(value)
