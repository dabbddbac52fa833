"""What holds for every executor, whatever it runs on."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from executor_fakes import Ended, FakeBackend, Source, answer_to, failing, requests, run_virtually
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.errors import BackendLost, Fault
from evalkit.executors.local import LocalExecutor

pytestmark = pytest.mark.parametrize("executor", [LocalExecutor])


def test_every_request_is_delivered_once(executor):
    ended, backend = Ended(), FakeBackend()
    run_virtually(lambda: executor().run(backend, Source(requests(1000)), ended))
    assert ended.completions == {one.id: answer_to(one) for one in requests(1000)}


def test_without_a_request_the_backend_is_never_opened(executor):
    backend = FakeBackend()
    run_virtually(lambda: executor().run(backend, Source([]), Ended()))
    assert backend.opened == 0


def test_the_backend_is_opened_once_before_it_is_asked(executor):
    backend = FakeBackend(concurrency=8)
    run_virtually(lambda: executor().run(backend, Source(requests(50)), Ended()))
    assert backend.opened == 1


def test_an_executor_can_run_again(executor):
    backend, ended, sends = FakeBackend(), Ended(), executor()

    async def twice():
        await sends.run(backend, Source(requests(6)[:3]), ended)
        await sends.run(backend, Source(requests(6)[3:]), ended)

    run_virtually(twice)
    assert len(ended.completions) == 6


def test_a_request_that_the_backend_refuses_ends_as_a_failure(executor):
    ended = Ended()
    backend = FakeBackend(failing(Fault("context_length", "5000 > 4096 tokens"), "r3"))
    run_virtually(lambda: executor().run(backend, Source(requests(9)), ended))
    failure = ended.failures.pop("r3")
    assert (failure.kind, failure.message, failure.attempts) == (
        "context_length",
        "5000 > 4096 tokens",
        1,
    )
    assert len(ended.completions) == 8
    assert not ended.failures


@pytest.mark.parametrize("kind", ["server_lost", "unauthorised"])
def test_a_lost_backend_ends_the_run_after_delivering_what_was_answered(executor, kind):
    ended = Ended()
    source = Source(requests(100_000))
    backend = FakeBackend(failing(Fault(kind, "the server ended with code 137"), "r41"))
    with pytest.raises(BackendLost, match="ended with code 137") as lost:
        run_virtually(lambda: executor().run(backend, source, ended))
    assert 40 <= len(ended.completions) <= 43, "the three asked at the same time came back too"
    assert not ended.failures
    assert source.pulled < 60
    assert f"{len(ended.completions)} answers of this run are kept" in lost.value.advice
    assert "the same command resumes" in lost.value.advice


@pytest.mark.parametrize(("concurrency", "batch_size"), [(1, 1), (3, 1), (1, 8), (5, 4)])
def test_never_more_is_pulled_than_can_be_sent_soon(executor, concurrency, batch_size):
    ended, source = Ended(), Source(requests(400))
    ahead = []

    async def script(batch):
        ahead.append(source.pulled - len(ended))
        await asyncio.sleep(0.01)
        return [answer_to(one) for one in batch]

    backend = FakeBackend(script, concurrency=concurrency, batch_size=batch_size)
    run_virtually(lambda: executor().run(backend, source, ended))
    assert max(ahead) <= concurrency * batch_size
    assert len(ended) == 400


def test_a_thousand_calls_are_under_way_at_once_where_the_backend_takes_them(executor):
    async def script(batch):
        await asyncio.sleep(1)
        return [answer_to(one) for one in batch]

    backend = FakeBackend(script, concurrency=1000)
    took_s = run_virtually(lambda: executor().run(backend, Source(requests(3000)), Ended()))
    assert backend.most_under_way == 1000
    assert took_s == pytest.approx(3, abs=0.01)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_a_source_may_wait_for_deliveries_once_it_has_said_so(executor, batch_size):
    """None among the requests says that the source will wait: send what has been pulled."""

    async def slow(batch):
        await asyncio.sleep(0.01)
        return [answer_to(one) for one in batch]

    ended, backend = Ended(), FakeBackend(slow, concurrency=4, batch_size=batch_size)

    async def bounded():
        for handed_out, one in enumerate(requests(200)):
            if handed_out - len(ended) >= 7:
                yield None
                while handed_out - len(ended) >= 7:
                    await asyncio.sleep(0.001)
            yield one

    run_virtually(lambda: executor().run(backend, bounded(), ended))
    assert len(ended.completions) == 200


@pytest.mark.parametrize("nothing", [[None], [None, None, None]])
def test_a_source_that_only_waited_opens_no_backend(executor, nothing):
    backend = FakeBackend()
    run_virtually(lambda: executor().run(backend, Source(nothing), Ended()))
    assert backend.opened == 0


def test_requests_after_the_source_waited_are_sent(executor):
    ended = Ended()
    source = Source([None, *requests(3)[:1], None, None, *requests(3)[1:], None])
    run_virtually(lambda: executor().run(FakeBackend(batch_size=2), source, ended))
    assert len(ended.completions) == 3


PASSING = st.sampled_from(
    ["timeout", "connection", "overloaded", "server_error", "bad_response", "out_of_memory"]
)
HOPELESS = st.sampled_from(["bad_request", "context_length", "unsupported", "no_answer"])


@settings(max_examples=150, deadline=None)
@given(
    count=st.integers(0, 60),
    concurrency=st.integers(1, 9),
    batch_size=st.integers(1, 5),
    fault_share=st.floats(0, 0.6),
    kinds=st.lists(PASSING | HOPELESS, min_size=1, max_size=4),
    seed=st.integers(0, 2**32 - 1),
)
def test_whatever_faults_there_are_every_request_ends_exactly_once(
    executor, count, concurrency, batch_size, fault_share, kinds, seed
):
    """Every request ends as exactly one of Completion and Failure."""
    rng = np.random.default_rng(seed)

    async def script(batch):
        await asyncio.sleep(rng.random())
        if rng.random() < fault_share:
            raise Fault(kinds[rng.integers(len(kinds))], "now and then")
        return [answer_to(one) for one in batch]

    ended = Ended()
    backend = FakeBackend(script, concurrency=concurrency, batch_size=batch_size)
    source = Source(requests(count))
    try:
        run_virtually(lambda: executor().run(backend, source, ended))
    except BackendLost:
        assert "connection" in kinds
        assert len(ended) < count
    else:
        assert {*ended.completions, *ended.failures} == {one.id for one in requests(count)}
    for name, failure in ended.failures.items():
        assert failure.kind in kinds
        assert failure.attempts == backend.times[name]
    assert backend.most_under_way <= concurrency
    assert all(len(names) <= batch_size for names in backend.asked)
