"""Gets the answers of planned samples, out of the answer store or by asking, and lets samples go in order.

At most ``WINDOW`` samples wait at a time: answers arrive in any order, samples leave in the order in which they were
planned, so what follows sees the same whether a run was interrupted or not.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import islice

from evalkit.planning import PlannedSample
from evalkit.ports import AnswerStore, Backend, Executor
from evalkit.records.exchange import Completion, Failure, Request

CHUNK = 256
"""Samples planned and looked up in the answer store at a time."""
WINDOW = 8192
"""Most samples that wait for an answer of an earlier one."""
SETTLE_S = 0.02
"""Time between two rounds in which what has come in is made durable and scored. While a round lasts, answers gather
on the connections and are then read together, which costs far less than one by one."""

Finish = Callable[[PlannedSample, Sequence[Completion | Failure]], bool]
"""Takes a sample with what came back for each of its requests; returns whether it is the last that is wanted."""


class Collector:
    """Collects the answers of one task's samples.

    Once ``finish`` says so, nothing more is asked, and what is under way is given up.
    """

    def __init__(
        self, planned: Iterator[PlannedSample], store: AnswerStore, finish: Finish
    ) -> None:
        self._planned, self._store, self._finish = planned, store, finish
        self._waiting: deque[PlannedSample] = deque()
        self._outcomes: dict[str, Completion | Failure | None] = {}
        """Request id → its outcome, None while it is being asked."""
        self._users: dict[str, int] = {}
        """Request id → how many waiting samples still need its outcome."""
        self._room = asyncio.Event()
        self._over = False
        self.asked = 0
        """Requests sent."""
        self.reused = 0
        """Requests answered from the answer store, or by what another sample asked."""

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

    def _deliver(self, outcome: Completion | Failure) -> None:
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
