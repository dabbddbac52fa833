"""What the data sets of a suite hold (``evalkit validate --data``): every row of each, before any model is asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from evalkit.cli.assemble import task_parts
from evalkit.cli.terminal import console
from evalkit.errors import UsageError
from evalkit.fairness.data_bias import DataReader, DataReport
from evalkit.identity import digest_bytes
from evalkit.loaders.datasets import open_dataset
from evalkit.pipeline import TaskParts
from evalkit.planning import Row, TaskPlanner
from evalkit.records.exchange import Model
from evalkit.records.suite import DatasetSpec, SampledTask, SuiteSpec
from evalkit.reports.data_bias import data_lines

NOBODY = Model("validate", "", "", pinned=True)
"""Stands for the model: which questions are asked does not depend on it."""


def print_data(suite: SuiteSpec, folder: Path, against: Sequence[Path]) -> None:
    """Print what each task's data set holds.

    ``against`` are files whose rows are rendered by each task's templates as well: whatever asks the same is told.
    Raises UsageError where a data set cannot be read, or no row of such a file can be asked.
    """
    out = console()
    for report in data_reports(suite, folder, against):
        for part in data_lines(report):
            out.print(part)


def data_reports(suite: SuiteSpec, folder: Path, against: Sequence[Path]) -> Iterator[DataReport]:
    """Yield one report per task that asks the model, in the suite's order."""
    fitting: set[Path] = set()
    for task in suite.sampled:
        elsewhere = task.model_copy(
            update={"dataset": task.dataset.model_copy(update={"id": None})}
        )
        parts = task_parts(task, folder, _digest)
        reader = _read(parts, parts.source.rows(), task, suite.seed)
        others = {}
        if parts.examples:
            shots = ((f"example {n}", row) for n, row in enumerate(parts.examples, start=1))
            others["the few-shot examples"] = _read(parts, _placed(shots), elsewhere, suite.seed)
        for path in against:
            rows = open_dataset(DatasetSpec(path=str(path.resolve())), folder, _digest).rows()
            others[path.name] = _read(parts, _placed(rows), elsewhere, suite.seed)
            if others[path.name].questions:
                fitting.add(path)
        yield reader.report({name: other.questions for name, other in others.items()})
    if unfit := [str(path) for path in against if path not in fitting]:
        raise UsageError(
            f"--against {', '.join(unfit)}: no task can ask its rows, so nothing was searched: "
            "they need the fields that the tasks' templates name"
        )


def _read(
    parts: TaskParts, rows: Iterable[tuple[str, Row]], task: SampledTask, seed: int
) -> DataReader:
    reader = DataReader(task.name, task.groups, seed)
    for planned in TaskPlanner(task, NOBODY, parts.examples).plan(iter(rows)):
        reader.add(planned)
    return reader


def _placed(rows: Iterable[tuple[str, Row]]) -> Iterator[tuple[str, Row]]:
    """Yield rows of other data sets, each identified by its place."""
    for place, row in rows:
        yield place, {**row, "id": place}


def _digest(file: Path) -> str:
    return digest_bytes(str(file).encode())
