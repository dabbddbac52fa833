"""Sends requests from this process, many at once, on asyncio.

As many workers run as the backend takes calls. Each pulls a batch, asks, delivers, and pulls again, so that what
has been pulled and not delivered never exceeds ``concurrency × batch_size`` requests. Workers pull one at a time,
each a whole batch, in the order of arrival: the same requests make the same batches. A batch is sent short of full
only at the end, or where the source says (by None) that it will wait for deliveries.

A fault is handled by the table in ``evalkit.executors.retry``. Two faults concern more than their own request:

* ``overloaded``: nobody pulls new work until the wait is over.
* ``connection``: one request may break its own connection, a dead server breaks them all. A request that used up
  its attempts is therefore held back, not failed, until there is a sign of life from the server. When several are
  held, the backend is lost: what was pulled stays unanswered, and is asked when the run is resumed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Final

import numpy as np

from evalkit.errors import BackendLost, Fault, FaultKind
from evalkit.executors.retry import ACTIONS, wait_s
from evalkit.ports import Backend, Progress
from evalkit.records.exchange import Completion, Failure, Request

Deliver = Callable[[Completion | Failure], None]

_YIELD_EVERY: Final = 32
"""Batches between two unconditional turns of the event loop: a backend that never waits (recorded answers) must not
keep timers and cancellation from running."""


class LocalExecutor:
    """Sends requests from this process; see ``evalkit.ports.Executor``.

    ``request_timeout_s`` is the time allowed for one ``answer`` call, whatever its batch.
    """

    def __init__(
        self, request_timeout_s: float = 600.0, progress: Progress | None = None, seed: int = 0
    ) -> None:
        """``seed`` drives the jitter of waits, nothing that could change an answer."""
        self._request_timeout_s = request_timeout_s
        self._progress = progress if progress is not None else _Silent()
        self._seed = seed

    async def run(
        self, backend: Backend, requests: AsyncIterator[Request | None], deliver: Deliver
    ) -> None:
        """Send every request and deliver each once; returns when all are delivered.

        Raises BackendLost when the backend is gone. Whatever ``requests``, ``deliver`` or the backend raise besides
        a Fault stops all workers and comes out as it is.
        """
        async for first in requests:
            if first is not None:
                break
        else:
            return
        await backend.open(self._progress)
        rng = np.random.default_rng(self._seed)
        await _Crew(backend, requests, deliver, self._request_timeout_s, rng).work(first)


class _Crew:
    """The workers of one run and what they share."""

    def __init__(
        self,
        backend: Backend,
        requests: AsyncIterator[Request | None],
        deliver: Deliver,
        timeout_s: float,
        rng: np.random.Generator,
    ) -> None:
        self._backend = backend
        self._batch_size = backend.batch_size
        self._requests = requests
        self._pulled: list[Request] = []
        self._exhausted = False
        self._deliver = deliver
        self._timeout_s = timeout_s
        self._rng = rng
        self._clock = asyncio.get_running_loop().time
        self._pulling = asyncio.Lock()
        self._paused_until = 0.0
        self._unheard: list[Failure] = []
        # Ten, so that a few odd requests do not pass for a dead server; fewer where ten would take minutes.
        self._lost_after = max(3, min(10, backend.concurrency))
        self._batches = 0
        self._answered = 0

    async def work(self, first: Request) -> None:
        """Run every worker to its end; the first error stops the others and is raised bare.

        ``first`` has been pulled already and opens the first batch.
        """
        self._pulled.append(first)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._backend.concurrency):
                    group.create_task(self._worker())
        except BaseExceptionGroup as errors:
            error = errors.exceptions[0]
            if isinstance(error, BackendLost):  # how many were answered is known only now
                kept = f"the same command resumes: {self._answered} answers of this run are kept"
                error.advice = "; ".join(filter(None, [error.advice, kept]))
            raise error from error.__cause__
        self._release_unheard()

    async def _worker(self) -> None:
        while batch := await self._pull():
            await self._settle(batch)
            self._batches += 1
            if self._batches % _YIELD_EVERY == 0:
                await asyncio.sleep(0)

    async def _pull(self) -> list[Request]:
        """Return the next batch, empty at the end; waits while the server asks for patience."""
        async with self._pulling:
            while (pause_s := self._paused_until - self._clock()) > 0:
                await asyncio.sleep(pause_s)
            batch, self._pulled = self._pulled, []
            while len(batch) < self._batch_size and not self._exhausted:
                try:
                    request = await anext(self._requests)
                except StopAsyncIteration:
                    self._exhausted = True
                    break
                if request is not None:
                    batch.append(request)
                elif batch:  # the source will wait for deliveries, maybe for those of this batch
                    break
            return batch

    async def _settle(self, batch: list[Request]) -> None:
        """Bring every request of a batch to its end."""
        fault = await self._ask(batch)
        if fault is None:
            return
        if len(batch) == 1:
            await self._ask_again(batch[0], fault, asked=1)
            return
        if ACTIONS[fault.kind].attempts > 1:
            await self._wait(fault, 1)
        for request in batch:  # one by one: a bad request must not fail its mates
            alone = await self._ask([request])
            if alone is not None:
                await self._ask_again(request, alone, asked=2)

    async def _ask_again(self, request: Request, fault: Fault, asked: int) -> None:
        """Ask a faulted request until it is answered or the table gives up."""
        met: Counter[FaultKind] = Counter()
        while True:
            met[fault.kind] += 1
            if met[fault.kind] >= ACTIONS[fault.kind].attempts:
                self._give_up(Failure(request.id, fault.kind, fault.message, asked))
                return
            await self._wait(fault, met[fault.kind])
            again = await self._ask([request])
            if again is None:
                return
            fault, asked = again, asked + 1

    async def _wait(self, fault: Fault, met: int) -> None:
        delay_s = wait_s(fault, met, self._rng)
        if ACTIONS[fault.kind].pauses_all:
            self._paused_until = max(self._paused_until, self._clock() + delay_s)
        await asyncio.sleep(delay_s)

    async def _ask(self, batch: list[Request]) -> Fault | None:
        """Ask once and deliver the answers; return the fault if there are none, raise if the run must end."""
        try:
            async with asyncio.timeout(self._timeout_s):
                completions = await self._backend.answer(batch)
        except Fault as raised:
            fault = raised
        except TimeoutError:
            fault = Fault("timeout", f"no answer within {self._timeout_s:g} s")
        else:
            if [c.request_id for c in completions] == [r.id for r in batch]:
                self._release_unheard()
                self._answered += len(batch)
                for completion in completions:
                    self._deliver(completion)
                return None
            message = f"{len(completions)} answers to {len(batch)} requests, or to other requests"
            fault = Fault("bad_response", message)
        action = ACTIONS[fault.kind]
        if action.ends_run:
            raise self._lost(fault.kind, fault.message) from fault
        if not action.silent:
            self._release_unheard()
        return fault

    def _give_up(self, failure: Failure) -> None:
        if failure.kind != "connection":
            self._deliver(failure)
            return
        self._unheard.append(failure)
        if len(self._unheard) >= self._lost_after:
            held = len(self._unheard)
            message = f"{held} requests in a row found no connection: {failure.message}"
            raise self._lost("connection", message)

    def _release_unheard(self) -> None:
        """The server lives, or the run is over: the requests held back failed by themselves."""
        if self._unheard:
            failures, self._unheard = self._unheard, []
            for failure in failures:
                self._deliver(failure)

    def _lost(self, kind: FaultKind, message: str) -> BackendLost:
        advice = "check the key or token" if kind == "unauthorised" else "start the server again"
        return BackendLost(f"{self._backend.model.name}: {message}", advice)


class _Silent:
    """A progress that nobody watches."""

    def step(self, text: str) -> None:
        """Say nothing."""

    def advance(self, done: int, total: int | None, failed: int = 0) -> None:
        """Say nothing."""
