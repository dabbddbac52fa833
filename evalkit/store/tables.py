"""A finished run's samples, read back: its rows, and the tables of statistics that it measured.

``samples.jsonl`` holds every statistic by the name of its column, as the shortest number that reads back the same, so
the tables are rebuilt exactly: estimates and comparisons computed from them again are those of the scorecard.
Statistics of metrics that judges give are scored again, from the judgements in ``judgements.jsonl``.
Rows stream; memory is that of the tables, and of the judgements, as in the run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalkit.errors import Problem, RunError, UsageError
from evalkit.metrics.base import Gap, Metric
from evalkit.planning import PlannedSample
from evalkit.records.exchange import Completion, Role, Sample, Score, Unscored
from evalkit.records.suite import SampledTask
from evalkit.scoring import ANSWERED, MetricTable, TaskScorer, as_judged
from evalkit.store.judgements import Said, parsed_row
from evalkit.store.runs import JUDGEMENTS, SAMPLES, WEIGHTS


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
    judged: tuple[Metric, ...] = ()
    """The metrics that rest on judgements of these rows."""


def read_rows(folder: Path, sha256: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a run's ``samples.jsonl``, which must have this SHA-256.

    Raises UsageError, before the first row, when the file is not there or was changed after the run.
    """
    again = "run the suite again: what was answered is not asked again"
    return _rows(folder / SAMPLES, "samples", sha256, again)


def read_weights(folder: Path, sha256: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a run's ``weights.jsonl``, as ``read_rows`` does those of its samples."""
    return _rows(folder / WEIGHTS, "weights", sha256, "run the suite again")


def read_judgements(folder: Path, sha256: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a run's ``judgements.jsonl``, as ``read_rows`` does those of its samples."""
    again = "run the suite again: what was answered is not asked again"
    return _rows(folder / JUDGEMENTS, "judgements", sha256, again)


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
                yield parsed_row(line)
    except FileNotFoundError:
        message = f"there is no such file: the run's {what} were removed"
        raise UsageError([Problem(str(path), None, "", message)]) from None
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise RunError(message, "check its permissions") from error


def rebuild_tables(
    rows: Iterable[Mapping[str, Any]],
    tasks: Sequence[MeasuredTask],
    judgements: Iterable[Mapping[str, Any]] = (),
) -> dict[Role, list[MetricTable]]:
    """Return the tables that a run measured, in the order of ``tasks``, those that judges gave behind the others.

    Rows of one task and model stand in the order in which the run scored them, and so do a judge's ``judgements`` of
    them. Raises UsageError where a row does not fit its task's metrics, as when a metric's columns have other names
    than when it was written.
    """
    said = Said(judgements)
    scorers = {(task.role, task.spec.name): _scorer(task) for task in tasks}
    judged = {(task.role, task.spec.name): _judged_scorer(task) for task in tasks if task.judged}
    for number, row in enumerate(rows, start=1):
        try:
            scorer, metrics = scorers[row["model"], row["task"]]
            scorer.add(*_as_scored(row, metrics))
            if by_judges := judged.get((row["model"], row["task"])):
                by_judges.add(*as_judged(row, *said.of(row, by_judges.seen)))
        except (KeyError, TypeError, ValueError) as error:
            message = (
                f"the row does not fit the suite and its metrics ({type(error).__name__}: {error}); "
                "another version of evalkit or of a plug-in wrote it"
            )
            raise UsageError([Problem(SAMPLES, number, "", message)]) from error
    tables: dict[Role, list[MetricTable]] = {}
    for made in ({key: scorer for key, (scorer, _) in scorers.items()}, judged):
        for task in tasks:
            made_of = made.get((task.role, task.spec.name))
            tables.setdefault(task.role, []).extend(
                replace(table, signature=task.signatures.get(table.metric, ""))
                for table in (made_of.tables() if made_of else ())
            )
    return tables


def _scorer(task: MeasuredTask) -> tuple[TaskScorer, tuple[Metric, ...]]:
    recorded = tuple(_Recorded(metric) for metric in task.metrics)
    scorer = TaskScorer(task.spec, recorded, task.role, task.dataset, "", anytime=task.anytime)
    return scorer, task.metrics


def _judged_scorer(task: MeasuredTask) -> TaskScorer:
    return TaskScorer(task.spec, task.judged, task.role, task.dataset, "", anytime=task.anytime)


class _Recorded(Metric):
    """A metric whose scores stand in the sample already: the scorer makes the same tables of them as in the run."""

    def __init__(self, metric: Metric) -> None:
        super().__init__(metric.name, metric.options)
        self.columns, self.measures, self._gaps = metric.columns, metric.measures, metric.gaps

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """Those of the metric."""
        return self._gaps

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
    return PlannedSample(sample, (), 1, "it failed" if failed else ""), (ANSWERED,)


def _score(held: Mapping[str, Any], metric: Metric) -> Score | Unscored:
    if "unscored" in held and "unscored" not in metric.columns:
        return Unscored(held["unscored"])
    return Score(tuple(float(held[column]) for column in metric.columns))
