"""Opens the data set that a suite names: a file, or a Hugging Face data set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from evalkit.errors import RunError, UsageError
from evalkit.identity import digest
from evalkit.loaders.published.bbq import BbqRows
from evalkit.loaders.published.crows_pairs import CrowsPairsRows
from evalkit.loaders.published.winogender import WinogenderRows
from evalkit.loaders.rows import FORMATS, CsvRows, FileRows, JsonLines, Row, format_of
from evalkit.loaders.tables import BATCH_ROWS, ParquetRows, missing_extra, numbered
from evalkit.ports import SampleSource
from evalkit.records.suite import DatasetSpec

_READERS: dict[str, type[FileRows]] = {
    kind.format: kind
    for kind in (JsonLines, CsvRows, ParquetRows, BbqRows, CrowsPairsRows, WinogenderRows)
}


def open_dataset(
    spec: DatasetSpec, folder: Path, file_digest: Callable[[Path], str]
) -> SampleSource:
    """Return the rows that ``spec`` declares; paths are relative to ``folder``.

    ``file_digest`` gives a file's SHA-256. Raises UsageError where there is no such data set, RunError where a
    library or the network that it needs is missing.
    """
    if spec.name is not None:
        return HubRows(spec.name, spec, folder)
    assert spec.path is not None, "a data set has a path or a name"
    path = folder / spec.path
    _refuse_absent(path, spec.source)
    format_ = spec.format or format_of(spec.path)
    if format_ is None:
        raise UsageError(
            f"the ending of {spec.path!r} does not say what it is; give 'format': {' or '.join(FORMATS)}"
        )
    reader = _READERS[format_]
    beside = [path.with_name(name) for name in reader.beside]
    for each in beside:
        _refuse_absent(each, spec.source)
    digests = [file_digest(each) for each in (path, *beside)]
    return reader(path, digest(digests) if beside else digests[0], spec.limit)


def _refuse_absent(path: Path, source: str) -> None:
    """Raise UsageError where there is no such file, with where it can be had."""
    if not path.is_file():
        raise UsageError(f"there is no file {str(path)!r}{source and f': {source}'}")


class HubRows:
    """The rows of a Hugging Face data set, from the hub, its cache on this machine, or a folder.

    The digest covers the rows themselves: what ``datasets`` calls a fingerprint changes with the time of a download.
    """

    def __init__(self, name: str, spec: DatasetSpec, folder: Path) -> None:
        self._place = f"{name}[{spec.split}]"
        table = _load(str(folder / name) if (folder / name).is_dir() else name, spec)
        self._rows = (
            table if spec.limit is None else table.select(range(min(spec.limit, len(table))))
        )

    @property
    def total(self) -> int | None:
        """How many rows."""
        return len(self._rows)

    @cached_property
    def digest(self) -> str:
        """Digest of the rows in their order."""
        state = hashlib.sha256()
        for _, row in self.rows():
            state.update(orjson.dumps(row, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE))
        return digest({"rows": state.hexdigest()})

    def rows(self) -> Iterator[tuple[str, Row]]:
        """Yield (``name[split]:number``, row) in order."""
        batches = self._rows.with_format("arrow").iter(batch_size=BATCH_ROWS)
        for number, row in numbered(batches, self._place):
            yield f"{self._place}:{number}", row


def _load(name: str, spec: DatasetSpec) -> Any:  # noqa: ANN401 - datasets has no types
    try:
        import datasets
    except ImportError as error:
        raise missing_extra("Hugging Face data sets", "datasets") from error
    datasets.disable_progress_bars()
    asked = f"the data set {spec.name!r}{f' ({spec.config})' if spec.config else ''}, split {spec.split!r}"
    try:
        return datasets.load_dataset(name, spec.config, split=spec.split, revision=spec.revision)
    except (ValueError, FileNotFoundError) as error:  # no such split, configuration or data set
        raise UsageError(f"{asked}, cannot be loaded: {error}") from error
    except (OSError, RuntimeError) as error:
        advice = "check the network, or download it where there is one and copy the cache folder here (HF_HOME)"
        raise RunError(f"{asked}, cannot be loaded: {error}", advice) from error
