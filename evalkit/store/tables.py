"""A finished run's samples, read back: its rows, and the tables of statistics that it measured.

``samples.jsonl`` holds every statistic by the name of its column, as the shortest number that reads back the same, so
the tables are rebuilt exactly: estimates and comparisons computed from them again are those of the scorecard.
Rows stream; memory is that of the tables, as in the run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from evalkit.errors import Problem, RunError, UsageError
from evalkit.metrics.base import Metric
from evalkit.planning import PlannedSample
from evalkit.records.exchange import Completion, Role, Sample, Score, Unscored
from evalkit.records.suite import SampledTask
from evalkit.scoring import MetricTable, TaskScorer
from evalkit.store.runs import SAMPLES, WEIGHTS

_ANSWERED = Completion("", "", "stop")
"""Stands for the answers of a completed sample: they were scored in the run."""


@dataclass(frozen=True)
class MeasuredTask:
    """What the rows of one task and model do not say about themselves."""

    role: Role
    """The model as the rows name it."""
    spec: SampledTask
    """What the suite declared."""
    metrics: tuple[Metric, ...]
    """The task's metrics."""
    dataset: str
    """Digest of the data set."""
    signatures: Mapping[str, str]
    """Metric → the signature that its numbers were given."""
    anytime: bool
    """Whether looking at the samples decided how many were asked."""


def read_rows(folder: Path, sha256: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a run's ``samples.jsonl``, which must have this SHA-256.

    Raises UsageError, before the first row, when the file is not there or was changed after the run.
    """
    again = "run the suite again: what was answered is not asked again"
    return _rows(folder / SAMPLES, "samples", sha256, again)


def read_weights(folder: Path, sha256: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a run's ``weights.jsonl``, as ``read_rows`` does those of its samples."""
    return _rows(folder / WEIGHTS, "weights", sha256, "run the suite again")


def _rows(path: Path, what: str, sha256: str, again: str) -> Iterator[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                message = (
                    f"the {what} were changed after the run: they are not the scorecard's; "
                    f"put the file back, or {again}"
                )
                raise UsageError([Problem(str(path), None, "", message)])
            file.seek(0)
            for line in file:
                yield _row(line)
    except FileNotFoundError:
        message = f"there is no such file: the run's {what} were removed"
        raise UsageError([Problem(str(path), None, "", message)]) from None
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise RunError(message, "check its permissions") from error


def _row(line: bytes) -> dict[str, Any]:
    try:
        row: dict[str, Any] = orjson.loads(line)
    except orjson.JSONDecodeError:  # a lone surrogate in a model's answer, escaped
        row = json.loads(line)
    return row


def rebuild_tables(
    rows: Iterable[Mapping[str, Any]], tasks: Sequence[MeasuredTask]
) -> dict[Role, list[MetricTable]]:
    """Return the tables that a run measured, in the order of ``tasks``.

    Rows of one task and model stand in the order in which the run scored them. Raises UsageError where a row does not
    fit its task's metrics, as when a metric's columns have other names than when it was written.
    """
    scorers = {(task.role, task.spec.name): _scorer(task) for task in tasks}
    for number, row in enumerate(rows, start=1):
        try:
            scorer, metrics = scorers[row["model"], row["task"]]
            scorer.add(*_as_scored(row, metrics))
        except (KeyError, TypeError, ValueError) as error:
            message = (
                f"the row does not fit the suite and its metrics ({type(error).__name__}: {error}); "
                "another version of evalkit or of a plug-in wrote it"
            )
            raise UsageError([Problem(SAMPLES, number, "", message)]) from error
    tables: dict[Role, list[MetricTable]] = {}
    for task in tasks:
        scorer, _ = scorers[task.role, task.spec.name]
        tables.setdefault(task.role, []).extend(
            replace(table, signature=task.signatures.get(table.metric, ""))
            for table in scorer.tables()
        )
    return tables


def _scorer(task: MeasuredTask) -> tuple[TaskScorer, tuple[Metric, ...]]:
    recorded = tuple(_Recorded(metric) for metric in task.metrics)
    scorer = TaskScorer(task.spec, recorded, task.role, task.dataset, "", anytime=task.anytime)
    return scorer, task.metrics


class _Recorded(Metric):
    """A metric whose scores stand in the sample already: the scorer makes the same tables of them as in the run."""

    def __init__(self, metric: Metric) -> None:
        super().__init__(metric.name, metric.options)
        self.columns, self.measures = metric.columns, metric.measures

    def score(self, sample: Sample, completions: Sequence[Completion]) -> Score | Unscored:
        """Return what the run gave."""
        scored: Score | Unscored = sample.fields[self.name]
        return scored


def _as_scored(
    row: Mapping[str, Any], metrics: Sequence[Metric]
) -> tuple[PlannedSample, tuple[Completion, ...]]:
    """Return a row as the scorer takes it, with the run's scores as its fields."""
    failed = "failed" in row
    sample = Sample(
        id=row["id"],
        index=0,
        fields={} if failed else {m.name: _score(row["scores"][m.name], m) for m in metrics},
        targets=(),
        choices=(),
        attributes=row.get("slices", {}),
        cluster=row.get("cluster"),
    )
    return PlannedSample(sample, (), 1, "it failed" if failed else ""), (_ANSWERED,)


def _score(held: Mapping[str, Any], metric: Metric) -> Score | Unscored:
    if "unscored" in held and "unscored" not in metric.columns:
        return Unscored(held["unscored"])
    return Score(tuple(float(held[column]) for column in metric.columns))
