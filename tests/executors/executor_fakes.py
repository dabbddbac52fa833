"""A scripted backend and an event loop whose clock runs only while everybody waits."""

from __future__ import annotations

import asyncio
import selectors
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from evalkit.errors import Fault
from evalkit.ports import Progress
from evalkit.records.exchange import Completion, Failure, Model, Need, Request
from evalkit.records.suite import Spec


def request(name: str) -> Request:
    return Request(id=name, sample_id=name, task="say", kind="generate", prompt=f"say {name}")


def answer_to(asked: Request) -> Completion:
    return Completion(request_id=asked.id, text=f"{asked.id} said", finish_reason="stop")


def requests(count: int) -> list[Request]:
    return [request(f"r{n}") for n in range(count)]


class Source:
    """An async iterator over requests (and None) that counts what was pulled."""

    def __init__(self, items: Sequence[Request | None]) -> None:
        self.items = items
        self.pulled = 0

    def __aiter__(self) -> AsyncIterator[Request | None]:
        return self

    async def __anext__(self) -> Request | None:
        if self.pulled == len(self.items):
            raise StopAsyncIteration
        self.pulled += 1
        return self.items[self.pulled - 1]


Script = Callable[[Sequence[Request]], Awaitable[Sequence[Completion]]]


class FakeBackend:
    """Answers by a script and keeps a record of what it was asked, and when."""

    Args = Spec
    provides: frozenset[Need] = frozenset({"text"})

    def __init__(
        self, script: Script | None = None, *, batch_size: int = 1, concurrency: int = 4
    ) -> None:
        self.batch_size = batch_size
        self.concurrency = concurrency
        self.model = Model("fake", "nowhere", "0" * 64, True)
        self.asked: list[list[str]] = []
        self.asked_at: list[float] = []
        self.times: Counter[str] = Counter()
        self.under_way = 0
        self.most_under_way = 0
        self.opened = 0
        self._script = script if script is not None else answer_all

    @classmethod
    def from_model(cls, name: str, args: object, find_checkpoint: object) -> FakeBackend:
        return cls()

    async def open(self, progress: Progress) -> None:
        progress.step("opening")
        self.opened += 1

    async def answer(self, batch: Sequence[Request]) -> Sequence[Completion]:
        assert self.opened, "asked before it was opened"
        self.asked.append([one.id for one in batch])
        self.asked_at.append(asyncio.get_running_loop().time())
        self.times.update(one.id for one in batch)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            return await self._script(batch)
        finally:
            self.under_way -= 1

    async def close(self) -> None:
        pass

    def engine(self) -> dict[str, str]:
        return {}


async def answer_all(batch: Sequence[Request]) -> list[Completion]:
    return [answer_to(one) for one in batch]


def failing(fault: Fault, *names: str, until: int = 10**9) -> Script:
    """Return a script that meets ``fault`` when one of ``names`` is asked, the first ``until`` times."""
    met = 0

    async def script(batch: Sequence[Request]) -> list[Completion]:
        nonlocal met
        await asyncio.sleep(0.01)
        if any(one.id in names for one in batch) and met < until:
            met += 1
            raise fault
        return [answer_to(one) for one in batch]

    return script


class Ended:
    """What was delivered, and a check that nothing was delivered twice."""

    def __init__(self) -> None:
        self.completions: dict[str, Completion] = {}
        self.failures: dict[str, Failure] = {}

    def __call__(self, result: Completion | Failure) -> None:
        assert result.request_id not in self.completions, "delivered twice"
        assert result.request_id not in self.failures, "delivered twice"
        if isinstance(result, Failure):
            self.failures[result.request_id] = result
        else:
            self.completions[result.request_id] = result

    def __len__(self) -> int:
        return len(self.completions) + len(self.failures)


class _VirtualSelector(selectors.SelectSelector):
    """Never waits: advances the clock by the time it was asked to wait."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everybody waits for something that will not happen"
        self.now += max(timeout, 0.0)
        return super().select(0)


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = _VirtualSelector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def run_virtually(work: Callable[[], Awaitable[object]]) -> float:
    """Run ``work()`` to its end in virtual time and return how many seconds it would have taken."""

    async def timed() -> float:
        loop = asyncio.get_running_loop()
        start = loop.time()
        await work()
        return loop.time() - start

    with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
        return runner.run(timed())
