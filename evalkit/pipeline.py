"""Plan → collect → score → compare: the road a suite takes, over ports.

Samples stream. At most ``WINDOW`` samples are kept between planning and scoring: answers arrive in any order, samples
leave in data order, so a resumed run writes the same bytes as one that was never interrupted.

Stopping early. The candidate's samples of a task that may stop early (``gates.stopping``) are planned in full, held in
memory, and asked in an order drawn from the suite's seed, the task's name and their ids. They leave in that order, and
looks happen at fixed counts of samples that left, so where the task ends depends on answers and not on when they came:
a resumed run ends at the same sample. Questions under way at that moment are given up; those already answered stay in
the store and do not count. Since looks need the baseline's answers, it goes first, in full and in data order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from evalkit.errors import UsageError
from evalkit.estimating import ROLES
from evalkit.gates.stopping import Draw, why_not_sequential
from evalkit.identity import derived_seed, digest, short
from evalkit.metrics.base import Metric
from evalkit.planning import PlannedSample, Row, TaskPlanner, needs_of
from evalkit.ports import AnswerStore, Backend, Executor, Progress, SampleSource
from evalkit.records.exchange import Completion, Failure, Model, Request, Role
from evalkit.records.scorecard import EarlyStop, TaskTally
from evalkit.records.suite import GateSpec, TaskSpec
from evalkit.scoring import MetricTable, TaskScorer

CHUNK = 256
"""Samples planned and looked up in the answer store at a time."""
WINDOW = 8192
"""Most samples that wait for an answer of an earlier one."""
SETTLE_S = 0.02
"""Time between two rounds in which what has come in is made durable and scored. While a round lasts, answers gather
on the connections and are then read together, which costs far less than one by one."""

Outcome = Completion | Failure


@dataclass(frozen=True)
class TaskParts:
    """A task with the concrete parts it needs."""

    spec: TaskSpec
    """What the suite declares."""
    source: SampleSource
    """Its rows."""
    metrics: tuple[Metric, ...]
    """Its metrics."""
    examples: tuple[Row, ...] = ()
    """Its few-shot rows."""

    @property
    def signature(self) -> str:
        """What of the task could change a number: prompt, target, decoding, few-shot rows; not name or data set."""
        left_out = {
            "name",
            "dataset",
            "metrics",
            "slices",
            "cluster",
            "min_coverage",
            "stop",
            "fewshot",
        }
        declared = self.spec.model_dump(mode="json", exclude=left_out)
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
    progress: Callable[[Role, TaskSpec], Progress],
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
                    task, role, models[role], write_row, progress(role, task.spec), drawn, measured
                )
                collector = _Collector(run.planned, store, run.finish)
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
        measured: Measured,
    ) -> None:
        """``early`` is given where the task may stop early, by ``measured``'s tables of the baseline."""
        self.scorer = TaskScorer(
            task.spec,
            task.metrics,
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
            baseline = measured.tables.get("baseline", ())
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

    def finish(self, planned: PlannedSample, outcomes: Sequence[Outcome]) -> bool:
        """Score a sample; return whether it is the last that counts."""
        self._write_row(self.scorer.add(planned, outcomes))
        self._view.advance(self.scorer.seen, self._total, self.scorer.failed)
        return self._draw is not None and self._draw.ends(self.scorer)

    def early_stop(self) -> EarlyStop | None:
        """Return how the task ended; None where it could not stop early."""
        return None if self._draw is None else self._draw.ended(self.scorer)


class _Collector:
    """Gets the answers of planned samples, from the store or by asking, and lets samples go in order.

    ``finish`` takes each sample with its outcomes and returns whether it is the last that is wanted.
    """

    def __init__(
        self,
        planned: Iterator[PlannedSample],
        store: AnswerStore,
        finish: Callable[[PlannedSample, Sequence[Outcome]], bool],
    ) -> None:
        self._planned, self._store, self._finish = planned, store, finish
        self._waiting: deque[PlannedSample] = deque()
        self._outcomes: dict[str, Outcome | None] = {}
        """Request id → its outcome, None while it is being asked."""
        self._users: dict[str, int] = {}
        """Request id → how many waiting samples still need its outcome."""
        self._room = asyncio.Event()
        self._over = False
        self.asked = 0
        self.reused = 0

    async def run(self, executor: Executor, backend: Backend) -> None:
        """Ask for everything that is missing. Raises what the executor, the store or the data set raises."""
        settler = asyncio.create_task(self._settle_often())
        sender = asyncio.create_task(executor.run(backend, self._missing(), self._deliver))
        try:
            await asyncio.wait((settler, sender), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (settler, sender):
                task.cancel()
            results = await asyncio.gather(sender, settler, return_exceptions=True)
            self._store.flush()
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
                raise result
        self._release()
        assert self._over or not self._waiting, (
            "the executor returned before every request was delivered"
        )

    async def _settle_often(self) -> None:
        while not self._over:  # its end ends the sender's work
            await asyncio.sleep(SETTLE_S)
            self._store.flush()
            self._release()

    async def _missing(self) -> AsyncIterator[Request | None]:
        while not self._over and (chunk := list(islice(self._planned, CHUNK))):
            while len(self._waiting) >= WINDOW:
                self._room.clear()
                yield None
                await self._room.wait()
            missing = self._take(chunk)
            self._release()  # what is stored may end the task, and then nothing need be asked
            for request in missing:
                if self._over:
                    return
                self.asked += 1
                yield request
            await asyncio.sleep(0)  # a fully cached run must still let progress and signals through

    def _take(self, chunk: list[PlannedSample]) -> list[Request]:
        """Queue a chunk; return its requests that nobody has answered or is asking."""
        fresh: dict[str, Request] = {}
        total = 0
        for planned in chunk:
            self._waiting.append(planned)
            total += len(planned.requests)
            for request in planned.requests:
                self._users[request.id] = self._users.get(request.id, 0) + 1
                if request.id not in self._outcomes:
                    fresh[request.id] = request
        for identifier, completion in self._store.get(list(fresh)).items():
            self._outcomes[identifier] = completion
            del fresh[identifier]
        for identifier in fresh:
            self._outcomes[identifier] = None
        self.reused += total - len(fresh)
        return list(fresh.values())

    def _deliver(self, outcome: Outcome) -> None:
        if isinstance(outcome, Completion):
            self._store.put(outcome)
        self._outcomes[outcome.request_id] = outcome

    def _release(self) -> None:
        """Finish samples from the head of the queue as long as all their answers are there."""
        while self._waiting and not self._over:
            head = self._waiting[0]
            outcomes = []
            for request in head.requests:
                outcome = self._outcomes[request.id]
                if outcome is None:
                    return
                outcomes.append(outcome)
            self._waiting.popleft()
            for request in head.requests:
                self._users[request.id] -= 1
                if not self._users[request.id]:
                    del self._users[request.id], self._outcomes[request.id]
            self._over = self._finish(head, outcomes)
        self._room.set()
