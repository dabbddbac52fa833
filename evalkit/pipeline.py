"""Plan → collect → score → compare: the road a suite takes, over ports.

Samples stream. ``collect`` keeps at most ``WINDOW`` samples between planning and scoring: answers arrive in any
order, samples leave in data order, so a resumed run writes the same bytes as one that was never interrupted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from evalkit.errors import UsageError
from evalkit.identity import digest, short
from evalkit.metrics.base import Metric
from evalkit.planning import PlannedSample, Row, TaskPlanner, needs_of
from evalkit.ports import AnswerStore, Backend, Executor, Progress, SampleSource
from evalkit.records.exchange import Completion, Failure, Model, Request, Role
from evalkit.records.scorecard import TaskTally
from evalkit.records.suite import TaskSpec
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


@dataclass
class Measured:
    """What running a suite gave."""

    tables: dict[Role, list[MetricTable]] = field(default_factory=dict)
    """Statistics, from which estimates and comparisons follow."""
    tallies: list[TaskTally] = field(default_factory=list)
    """What happened in each task."""
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
) -> Measured:
    """Run every task on every model; each model is closed before the next one opens.

    ``models`` are the identities that answers are kept under.
    Raises RunError when a backend or the disk gives out; what was answered is in the store by then.
    """
    measured = Measured()
    for role, backend in backends.items():
        try:
            for task in tasks:
                scorer = TaskScorer(
                    task.spec, task.metrics, role, task.source.digest, task.signature
                )
                planner = TaskPlanner(task.spec, models[role], task.examples)
                view = progress(role, task.spec)

                def finish(
                    planned: PlannedSample,
                    outcomes: Sequence[Outcome],
                    scorer: TaskScorer = scorer,
                    view: Progress = view,
                    total: int | None = task.source.total,
                ) -> None:
                    write_row(scorer.add(planned, outcomes))
                    view.advance(scorer.seen, total, scorer.failed)

                collector = _Collector(planner.plan(task.source.rows()), store, finish)
                await collector.run(executor, backend)
                measured.asked += collector.asked
                measured.reused += collector.reused
                measured.tallies.append(scorer.tally())
                measured.tables.setdefault(role, []).extend(scorer.tables())
        finally:
            await backend.close()
    return measured


class _Collector:
    """Gets the answers of planned samples, from the store or by asking, and lets samples go in order."""

    def __init__(
        self,
        planned: Iterator[PlannedSample],
        store: AnswerStore,
        finish: Callable[[PlannedSample, Sequence[Outcome]], None],
    ) -> None:
        self._planned, self._store, self._finish = planned, store, finish
        self._waiting: deque[PlannedSample] = deque()
        self._outcomes: dict[str, Outcome | None] = {}
        """Request id → its outcome, None while it is being asked."""
        self._users: dict[str, int] = {}
        """Request id → how many waiting samples still need its outcome."""
        self._room = asyncio.Event()
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
        assert not self._waiting, "the executor returned before every request was delivered"

    async def _settle_often(self) -> None:
        while True:
            await asyncio.sleep(SETTLE_S)
            self._store.flush()
            self._release()

    async def _missing(self) -> AsyncIterator[Request | None]:
        while chunk := list(islice(self._planned, CHUNK)):
            while len(self._waiting) >= WINDOW:
                self._room.clear()
                yield None
                await self._room.wait()
            for request in self._take(chunk):
                self.asked += 1
                yield request
            self._release()
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
        while self._waiting:
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
            self._finish(head, outcomes)
        self._room.set()
