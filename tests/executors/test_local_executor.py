"""How the asyncio executor behaves when the world does not."""

from __future__ import annotations

import asyncio
import itertools
import signal

import pytest
from executor_fakes import (
    Ended,
    FakeBackend,
    Source,
    answer_all,
    answer_to,
    failing,
    requests,
    run_virtually,
)

from evalkit.errors import BackendLost, Fault, RunError
from evalkit.executors.local import LocalExecutor
from evalkit.executors.retry import ACTIONS
from evalkit.records.exchange import Completion


def test_batches_are_made_in_the_order_of_arrival_and_are_always_the_same():
    async def uneven(batch):
        await asyncio.sleep(int(batch[0].id[1:]) * 5 % 7 / 10)
        return [answer_to(one) for one in batch]

    backend = FakeBackend(uneven, concurrency=3, batch_size=4)
    run_virtually(lambda: LocalExecutor().run(backend, Source(requests(10)), Ended()))
    assert sorted(backend.asked) == [
        ["r0", "r1", "r2", "r3"],
        ["r4", "r5", "r6", "r7"],
        ["r8", "r9"],
    ]


def test_a_source_that_is_slower_than_the_backend_is_pulled_by_one_worker_at_a_time():
    async def slow_source():
        for one in requests(12):
            await asyncio.sleep(1)
            yield one

    backend = FakeBackend(failing(Fault("bad_request", "no")), concurrency=3, batch_size=4)
    run_virtually(lambda: LocalExecutor().run(backend, slow_source(), Ended()))
    assert [len(batch) for batch in backend.asked] == [4, 4, 4]


def test_one_bad_request_does_not_fail_its_mates():
    ended = Ended()
    backend = FakeBackend(failing(Fault("bad_request", "no"), "r2"), batch_size=4, concurrency=1)
    run_virtually(lambda: LocalExecutor().run(backend, Source(requests(6)), ended))
    assert sorted(ended.completions) == ["r0", "r1", "r3", "r4", "r5"]
    assert ended.failures["r2"].attempts == 2  # once with its mates, once alone
    assert backend.asked == [
        ["r0", "r1", "r2", "r3"],
        ["r0"],
        ["r1"],
        ["r2"],
        ["r3"],
        ["r4", "r5"],
    ]


def test_a_batch_that_does_not_fit_into_memory_is_asked_one_by_one():
    async def small_memory(batch):
        if len(batch) > 1:
            raise Fault("out_of_memory", "CUDA out of memory")
        return [answer_to(one) for one in batch]

    ended = Ended()
    backend = FakeBackend(small_memory, batch_size=8, concurrency=1)
    run_virtually(lambda: LocalExecutor().run(backend, Source(requests(8)), ended))
    assert len(ended.completions) == 8


@pytest.mark.parametrize("kind", [kind for kind in ACTIONS if ACTIONS[kind].attempts > 1])
def test_a_passing_fault_is_asked_again_as_often_as_the_table_says(kind):
    attempts = ACTIONS[kind].attempts
    ended = Ended()
    backend = FakeBackend(failing(Fault(kind, "not now"), "r1", until=attempts - 1), concurrency=1)
    run_virtually(lambda: LocalExecutor().run(backend, Source(requests(3)), ended))
    assert len(ended.completions) == 3
    assert backend.times["r1"] == attempts


@pytest.mark.parametrize("kind", [k for k in ACTIONS if not ACTIONS[k].ends_run])
def test_a_fault_that_does_not_pass_becomes_a_failure_after_the_attempts_of_the_table(kind):
    ended = Ended()
    backend = FakeBackend(failing(Fault(kind, "never"), "r1"), concurrency=2)
    run_virtually(lambda: LocalExecutor().run(backend, Source(requests(3)), ended))
    assert ended.failures["r1"].kind == kind
    assert ended.failures["r1"].attempts == ACTIONS[kind].attempts == backend.times["r1"]
    assert len(ended.completions) == 2


def test_one_kind_of_fault_does_not_use_up_the_attempts_of_another():
    faults = iter(["overloaded"] * 5 + ["server_error"] * 3)

    async def script(batch):
        kind = next(faults, None)
        if kind is not None:
            raise Fault(kind, "not now")
        return await answer_all(batch)

    ended = Ended()
    backend = FakeBackend(script, concurrency=1)
    run_virtually(lambda: LocalExecutor().run(backend, Source(requests(1)), ended))
    assert list(ended.completions) == ["r0"]


def test_an_answer_that_does_not_come_in_time_is_a_timeout():
    async def hangs_on_r1(batch):
        await asyncio.sleep(10_000 if batch[0].id == "r1" else 1)
        return [answer_to(one) for one in batch]

    ended, backend = Ended(), FakeBackend(hangs_on_r1)
    run_virtually(
        lambda: LocalExecutor(request_timeout_s=30).run(backend, Source(requests(5)), ended)
    )
    assert ended.failures["r1"].kind == "timeout"
    assert ended.failures["r1"].message == "no answer within 30 s"
    assert len(ended.completions) == 4


def test_opening_may_take_longer_than_a_request():
    class SlowToOpen(FakeBackend):
        async def open(self, progress):
            await asyncio.sleep(600)
            await super().open(progress)

    ended = Ended()
    run_virtually(
        lambda: LocalExecutor(request_timeout_s=1).run(SlowToOpen(), Source(requests(2)), ended)
    )
    assert len(ended.completions) == 2


def test_a_backend_that_cannot_be_opened_ends_the_run_with_its_own_words():
    class Shut(FakeBackend):
        async def open(self, progress):
            raise RunError("port 8000 is taken", "stop the other server")

    with pytest.raises(RunError, match="port 8000") as error:
        run_virtually(lambda: LocalExecutor().run(Shut(), Source(requests(2)), Ended()))
    assert error.value.advice == "stop the other server"


@pytest.mark.parametrize(
    "broken",
    [
        lambda batch: [],
        lambda batch: [answer_to(one) for one in batch][:-1],
        lambda batch: [answer_to(one) for one in batch] * 2,
        lambda batch: [answer_to(one) for one in reversed(batch)],
        lambda batch: [Completion("another", "text", "stop") for _ in batch],
    ],
)
def test_answers_that_do_not_match_the_requests_are_never_delivered(broken):
    async def script(batch):
        return broken(batch) if len(batch) > 1 else await answer_all(batch)

    ended = Ended()
    backend = FakeBackend(script, batch_size=3, concurrency=1)
    run_virtually(lambda: LocalExecutor().run(backend, Source(requests(3)), ended))
    assert ended.completions == {one.id: answer_to(one) for one in requests(3)}


def test_a_backend_that_always_breaks_the_protocol_fails_the_request():
    async def script(batch):
        return []

    ended = Ended()
    run_virtually(lambda: LocalExecutor().run(FakeBackend(script), Source(requests(1)), ended))
    assert ended.failures["r0"].kind == "bad_response"


def test_while_the_server_asks_for_patience_nobody_sends_new_work():
    fault = Fault("overloaded", "429", retry_after_s=20)
    backend = FakeBackend(failing(fault, "r5", until=1), concurrency=4)
    ended = Ended()
    run_virtually(lambda: LocalExecutor().run(backend, Source(requests(60)), ended))
    first = next(at for at, ids in zip(backend.asked_at, backend.asked, strict=True) if "r5" in ids)
    # The fault comes 0.01 s after the request; those asked with r5 finish, then it is silent.
    assert not [at for at in backend.asked_at if first + 0.01 < at < first + 20]
    assert len(ended.completions) == 60


def test_after_a_pause_all_workers_take_part_again():
    fault = Fault("overloaded", "429", retry_after_s=20)
    backend = FakeBackend(failing(fault, "r5", until=1), concurrency=4)
    took_s = run_virtually(lambda: LocalExecutor().run(backend, Source(requests(60)), Ended()))
    after = [at for at in backend.asked_at if at > 20]
    assert backend.most_under_way == 4
    assert took_s < 20 + 1.0 + 0.01 * (len(after) / 4 + 3)


def test_a_retry_of_one_request_does_not_hold_up_the_others():
    backend = FakeBackend(failing(Fault("server_error", "500"), "r0"), concurrency=2)
    ended = Ended()
    run_virtually(lambda: LocalExecutor().run(backend, Source(requests(40)), ended))
    retried_at = [t for t, ids in zip(backend.asked_at, backend.asked, strict=True) if "r0" in ids]
    others_at = [
        t for t, ids in zip(backend.asked_at, backend.asked, strict=True) if "r0" not in ids
    ]
    assert max(others_at) <= 0.41
    assert max(retried_at) > 0.5


def test_when_the_server_dies_the_run_ends_instead_of_failing_every_sample():
    async def dies_after_100(batch):
        await asyncio.sleep(0.01)
        if len(ended) >= 100:
            raise Fault("connection", "connection refused")
        return [answer_to(one) for one in batch]

    ended, source = Ended(), Source(requests(100_000))
    backend = FakeBackend(dies_after_100, concurrency=16)
    with pytest.raises(BackendLost, match="connection refused") as lost:
        run_virtually(lambda: LocalExecutor().run(backend, source, ended))
    assert len(ended.completions) >= 100
    assert not ended.failures, "what nobody answered stays unanswered"
    assert source.pulled <= len(ended) + 2 * 16
    assert f"{len(ended)} answers" in lost.value.advice


@pytest.mark.parametrize("concurrency", [1, 4, 256])
def test_a_server_that_is_back_within_seconds_costs_nothing(concurrency):
    async def away_for_5_s(batch):
        await asyncio.sleep(0.01)
        if 0.5 < asyncio.get_running_loop().time() < 5.5:
            raise Fault("connection", "connection refused")
        return [answer_to(one) for one in batch]

    ended, backend = Ended(), FakeBackend(away_for_5_s, concurrency=concurrency)
    run_virtually(lambda: LocalExecutor().run(backend, Source(requests(20_000)), ended))
    assert len(ended.completions) == 20_000


@pytest.mark.parametrize("concurrency", [1, 4])
def test_requests_that_break_their_own_connection_fail_alone(concurrency):
    """Others are answered in between: the server lives."""
    broken = [f"r{n}" for n in range(1, 100, 9)]
    ended = Ended()
    backend = FakeBackend(failing(Fault("connection", "reset"), *broken), concurrency=concurrency)
    run_virtually(lambda: LocalExecutor().run(backend, Source(requests(100)), ended))
    assert sorted(ended.failures) == sorted(broken)
    assert len(ended.completions) == 100 - len(broken)


def test_the_last_requests_fail_if_their_connections_break():
    ended = Ended()
    backend = FakeBackend(failing(Fault("connection", "reset"), "r8", "r9"), concurrency=4)
    run_virtually(lambda: LocalExecutor().run(backend, Source(requests(10)), ended))
    assert sorted(ended.failures) == ["r8", "r9"]


def test_a_refusal_is_a_sign_of_life():
    async def script(batch):
        await asyncio.sleep(0.01)
        number = int(batch[0].id[1:])
        raise Fault("bad_request" if number % 3 == 2 else "connection", "no")

    ended = Ended()
    backend = FakeBackend(script, concurrency=1)
    run_virtually(lambda: LocalExecutor().run(backend, Source(requests(30)), ended))
    assert len(ended.failures) == 30


def test_a_timeout_is_no_sign_of_life():
    async def script(batch):
        await asyncio.sleep(0.01)
        number = int(batch[0].id[1:])
        raise Fault("timeout" if number % 2 else "connection", "no")

    with pytest.raises(BackendLost):
        run_virtually(
            lambda: LocalExecutor().run(
                FakeBackend(script, concurrency=1), Source(requests(30)), Ended()
            )
        )


def test_a_full_disk_stops_everything_at_once():
    delivered = []

    def deliver(result):
        delivered.append(result)
        if len(delivered) == 10:
            raise RunError("the disk is full", "free some space")

    async def slow(batch):
        await asyncio.sleep(0.01 if int(batch[0].id[1:]) < 50 else 1000)
        return [answer_to(one) for one in batch]

    source, backend = Source(requests(1000)), FakeBackend(slow, concurrency=8)

    async def run():
        with pytest.raises(RunError, match="disk is full"):
            await LocalExecutor().run(backend, source, deliver)
        assert len(asyncio.all_tasks()) == 1, "workers are left behind"

    took_s = run_virtually(run)
    assert took_s < 0.1
    assert len(delivered) <= 16, "only what had arrived already may still be delivered"
    assert source.pulled <= 24
    assert backend.under_way == 0


def test_a_source_that_breaks_stops_everything_with_its_own_error():
    async def breaks():
        for one in requests(20):
            yield one
        raise RunError("data.jsonl: cannot be read")

    ended, backend = Ended(), FakeBackend(concurrency=4)
    with pytest.raises(RunError, match="cannot be read"):
        run_virtually(lambda: LocalExecutor().run(backend, breaks(), ended))
    assert len(ended.completions) >= 16


def test_a_bug_in_a_backend_comes_out_as_it_is():
    async def buggy(batch):
        raise ZeroDivisionError("here")

    with pytest.raises(ZeroDivisionError, match="here"):
        run_virtually(lambda: LocalExecutor().run(FakeBackend(buggy), Source(requests(5)), Ended()))


def test_cancelling_the_run_leaves_no_worker_and_no_half_delivered_batch():
    async def slow(batch):
        await asyncio.sleep(1)
        return [answer_to(one) for one in batch]

    ended, backend = Ended(), FakeBackend(slow, concurrency=3, batch_size=4)

    async def cancelled():
        run = asyncio.ensure_future(LocalExecutor().run(backend, Source(requests(100)), ended))
        await asyncio.sleep(2.5)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert len(asyncio.all_tasks()) == 1

    run_virtually(cancelled)
    assert backend.under_way == 0
    assert len(ended.completions) == 2 * 3 * 4
    assert not ended.failures


def test_ctrl_c_ends_the_run():
    async def interrupts(batch):
        if batch[0].id == "r30":
            signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(1)
        return [answer_to(one) for one in batch]

    ended, backend = Ended(), FakeBackend(interrupts)
    with pytest.raises(KeyboardInterrupt):
        run_virtually(lambda: LocalExecutor().run(backend, Source(requests(100)), ended))
    assert len(ended.completions) == 28
    assert backend.under_way == 0


def test_a_backend_that_never_waits_does_not_starve_timers():
    """Recorded answers come at once; what was answered must still be flushed now and then."""
    ticks = []

    async def timer():
        while True:
            ticks.append(len(ended))
            await asyncio.sleep(0)

    async def run():
        ticking = asyncio.ensure_future(timer())
        await LocalExecutor().run(FakeBackend(concurrency=1), Source(requests(10_000)), ended)
        ticking.cancel()

    ended = Ended()
    run_virtually(run)
    gaps = [later - earlier for earlier, later in itertools.pairwise(ticks)]
    assert 0 < max(gaps) <= 64
