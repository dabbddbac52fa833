"""Plan → collect → score: the road a suite takes, over ports.

Samples stream from planning through the collector (``collecting``) to scoring, and leave in data order, so a resumed
run writes the same bytes as one that was never interrupted.

Stopping early. The candidate's samples of a task that may stop early (``gates.stopping``) are planned in full, held in
memory, and asked in an order drawn from the suite's seed, the task's name and their ids. They leave in that order, and
looks happen at fixed counts of samples that left, so where the task ends depends on answers and not on when they came:
a resumed run ends at the same sample. Questions under way at that moment are given up; those already answered stay in
the store and do not count. Since looks need the baseline's answers, it goes first, in full and in data order.

Metrics that rest on what judges say are no part of this road: they are scored in a second pass (``second_pass``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evalkit.collecting import Collector
from evalkit.errors import UsageError
from evalkit.estimating import ROLES
from evalkit.gates.stopping import Draw, why_not_sequential
from evalkit.identity import derived_seed, digest, short
from evalkit.metrics.base import Metric
from evalkit.planning import PlannedSample, Row, TaskPlanner, needs_of
from evalkit.ports import AnswerStore, Backend, Executor, Progress, SampleSource
from evalkit.records.exchange import Completion, Failure, Model, Role
from evalkit.records.scorecard import EarlyStop, TaskTally
from evalkit.records.suite import GateSpec, SampledTask
from evalkit.scoring import MetricTable, TaskScorer


@dataclass(frozen=True)
class TaskParts:
    """A task with the concrete parts it needs."""

    spec: SampledTask
    """What the suite declares."""
    source: SampleSource
    """Its rows."""
    metrics: tuple[Metric, ...]
    """Its metrics."""
    examples: tuple[Row, ...] = ()
    """Its few-shot rows."""

    @property
    def judged(self) -> bool:
        """Whether any of its metrics rests on what judges say."""
        return any(metric.judges for metric in self.metrics)

    @property
    def signature(self) -> str:
        """What of the task could change a number: prompt, target, decoding, few-shot rows; not name or data set."""
        left_out = {
            "name",
            "dataset",
            "metrics",
            "slices",
            "groups",
            "review",
            "cluster",
            "min_coverage",
            "stop",
            "fewshot",
        }
        declared = {"kind": self.spec.kind, **self.spec.beyond_defaults(exclude=left_out)}
        return f"task:{short(digest([declared, [dict(row) for row in self.examples]]))}"


@dataclass(frozen=True)
class EarlyStopping:
    """What tasks with ``stop: early`` need to know."""

    gates: Sequence[GateSpec] = ()
    """The rules that must be decided."""
    seed: int = 0
    """The suite's seed, from which the order of samples derives."""
    confidence: float = 0.95
    """The suite's confidence, at which rules on the candidate's own value are decided."""


@dataclass
class Measured:
    """What running a suite gave."""

    tables: dict[Role, list[MetricTable]] = field(default_factory=dict)
    """Statistics, from which estimates and comparisons follow."""
    tallies: list[TaskTally] = field(default_factory=list)
    """What happened in each task, the candidate first."""
    asked: int = 0
    """Requests sent."""
    reused: int = 0
    """Requests answered from the answer store."""


def check_needs(tasks: Sequence[TaskParts], backends: Iterable[Backend]) -> None:
    """Refuse, before anything is asked, what a backend cannot answer. Raises UsageError."""
    for backend in backends:
        for task in tasks:
            lacking = needs_of(task.spec) - backend.provides
            if lacking:
                raise UsageError(
                    f"task {task.spec.name!r} needs {', '.join(sorted(lacking))} from the model, and the backend "
                    f"{type(backend).__name__} for {backend.model.name!r} gives {', '.join(sorted(backend.provides))}"
                )


async def measure(
    tasks: Sequence[TaskParts],
    backends: Mapping[Role, Backend],
    models: Mapping[Role, Model],
    executor: Executor,
    store: AnswerStore,
    write_row: Callable[[dict[str, Any]], None],
    progress: Callable[[Role, SampledTask], Progress],
    *,
    early: EarlyStopping | None = None,
    loaded: Mapping[Role, Sequence[MetricTable]] | None = None,
) -> Measured:
    """Run every task on every model; each model is closed before the next one opens.

    ``models`` are the identities that answers are kept under. ``early`` is what ``stop: early`` is decided by; without
    it every task runs in full. ``loaded`` are tables of an earlier run, which stand beside those measured here.
    ``write_row`` gets one row per sample that counts, in the order in which they were scored: data order, or the drawn
    order where a task may stop early. Raises RunError when a backend or the disk gives out; what was answered is in the
    store by then.
    """
    early = early or EarlyStopping()
    measured = Measured({role: list(tables) for role, tables in (loaded or {}).items()})
    has_baseline = "baseline" in {*backends, *measured.tables}
    why_not = {
        task.spec.name: why_not_sequential(
            early.gates, task.spec, task.metrics, has_baseline=has_baseline
        )
        for task in tasks
        if task.spec.stop == "early"
    }
    stopping = {name for name, why in why_not.items() if not why}
    # The baseline goes first where looks at the candidate need its answers.
    for role in sorted(backends, key=ROLES.index, reverse=bool(stopping)):
        backend = backends[role]
        try:
            for task in tasks:
                drawn = early if role == "candidate" and task.spec.name in stopping else None
                run = _TaskRun(
                    task,
                    role,
                    models[role],
                    write_row,
                    progress(role, task.spec),
                    drawn,
                    measured.tables.get("baseline", ()),
                )
                collector = Collector(run.planned, store, run.finish)
                await collector.run(executor, backend)
                measured.asked += collector.asked
                measured.reused += collector.reused
                in_full = why_not.get(task.spec.name, "") if role == "candidate" else ""
                measured.tallies.append(run.scorer.tally(run.early_stop(), in_full))
                measured.tables.setdefault(role, []).extend(run.scorer.tables())
        finally:
            await backend.close()
    measured.tallies.sort(key=lambda tally: ROLES.index(tally.model))
    return measured


class _TaskRun:
    """One task on one model: its samples in the order in which they are asked, scored as they leave."""

    def __init__(
        self,
        task: TaskParts,
        role: Role,
        model: Model,
        write_row: Callable[[dict[str, Any]], None],
        view: Progress,
        early: EarlyStopping | None,
        baseline: Sequence[MetricTable],
    ) -> None:
        """``early`` is given where the task may stop early; looks at it read the ``baseline``'s tables."""
        self.scorer = TaskScorer(
            task.spec,
            [metric for metric in task.metrics if not metric.judges],
            role,
            task.source.digest,
            task.signature,
            anytime=early is not None,
        )
        planner = TaskPlanner(task.spec, model, task.examples)
        self.planned = planner.plan(task.source.rows())
        self._total = task.source.total
        self._write_row, self._view = write_row, view
        self._draw: Draw | None = None
        if early is not None:
            self._draw = Draw(
                self.planned,
                task.spec,
                task.metrics,
                early.gates,
                [table for table in baseline if table.task == task.spec.name],
                seed=derived_seed(early.seed, "order of samples", task.spec.name),
                level=early.confidence,
            )
            self.planned, self._total = iter(self._draw.samples), len(self._draw.samples)

    def finish(self, planned: PlannedSample, outcomes: Sequence[Completion | Failure]) -> bool:
        """Score a sample; return whether it is the last that counts."""
        self._write_row(self.scorer.add(planned, outcomes))
        self._view.advance(self.scorer.seen, self._total, self.scorer.failed)
        return self._draw is not None and self._draw.ends(self.scorer)

    def early_stop(self) -> EarlyStop | None:
        """Return how the task ended; None where it could not stop early."""
        return None if self._draw is None else self._draw.ended(self.scorer)
