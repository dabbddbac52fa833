"""The road from rows to statistics, with the real executor, a scripted backend and a store in memory."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from evalkit import collecting
from evalkit.errors import Fault, RunError, UsageError
from evalkit.executors.local import LocalExecutor
from evalkit.metrics.base import Metric, mean
from evalkit.pipeline import TaskParts, check_needs, measure
from evalkit.records.exchange import Completion, Model, Score, Unscored
from evalkit.records.suite import SuiteSpec

MODEL = Model("m", "/somewhere", "d" * 64, pinned=True)


class Length(Metric):
    """Length of the answer; an answer of ``?`` cannot be graded."""

    columns = ("length",)
    measures = (mean("", column=0, unit="characters"),)

    def score(self, sample, completions):
        text = completions[0].text
        return Unscored("no idea") if text == "?" else Score((float(len(text)),))


class Rows:
    def __init__(self, rows):
        self._rows = rows
        self.digest = "rows"
        self.total = len(rows)

    def rows(self):
        for number, row in enumerate(self._rows, 1):
            yield f"x.jsonl:{number}", row


class Echo:
    """Answers the prompt after a random wait; ``faults`` maps a prompt to the fault it meets."""

    provides = frozenset({"text"})
    model = MODEL

    def __init__(self, batch_size=1, concurrency=8, faults=None, jitter_s=0.0):
        self.batch_size, self.concurrency = batch_size, concurrency
        self.faults, self.jitter_s = faults or {}, jitter_s
        self.asked = Counter()
        self.opened = self.closed = 0
        self.random = random.Random(0)

    async def open(self, progress):
        self.opened += 1

    async def close(self):
        self.closed += 1

    def engine(self):
        return {}

    async def answer(self, requests):
        await asyncio.sleep(self.random.random() * self.jitter_s)
        for request in requests:
            self.asked[request.prompt] += 1
            if request.prompt in self.faults:
                raise Fault(self.faults[request.prompt], "as told")
        return [Completion(r.id, r.prompt, "stop", latency_s=0.0) for r in requests]


class Memory(dict):
    """An answer store."""

    full = False

    def get(self, ids):
        return {i: self[i] for i in ids if i in self}

    def put(self, completion):
        assert completion.request_id not in self, "an answer is stored once"
        self[completion.request_id] = completion

    def flush(self):
        if self.full:
            raise RunError("the disk is full")


class Watch:
    def __init__(self):
        self.seen = []

    def step(self, text):
        pass

    def advance(self, done, total, failed=0):
        self.seen.append((done, total, failed))


def parts(rows, **declared):
    declared = {
        "name": "t",
        "dataset": {"path": "x"},
        "prompt": "{{ text }}",
        "metrics": [{"name": "length"}],
        "kind": "generate",
        **declared,
    }
    suite = SuiteSpec.model_validate({"suite": "s", "version": 1, "tasks": [declared]})
    return TaskParts(suite.tasks[0], Rows(rows), (Length("length", Length.Options()),))


def run(tasks, backend, store=None, watch=None):
    rows = []
    watch = watch or Watch()
    measured = asyncio.run(
        measure(
            tasks,
            {"candidate": backend},
            {"candidate": MODEL},
            LocalExecutor(request_timeout_s=5),
            Memory() if store is None else store,
            rows.append,
            lambda role, task: watch,
        )
    )
    return measured, rows


def test_samples_leave_in_data_order_however_answers_arrive():
    texts = [{"text": f"{i:04}"} for i in range(1500)]
    measured, rows = run([parts(texts)], Echo(concurrency=64, jitter_s=0.002))
    assert [row["answers"][0]["text"] for row in rows] == [row["text"] for row in texts]
    assert (measured.asked, measured.reused) == (1500, 0)


def test_what_is_stored_is_not_asked_and_the_backend_is_not_opened():
    store, first, second = Memory(), Echo(), Echo()
    task = parts([{"text": str(i)} for i in range(300)])
    once = run([task], first, store)
    again = run([task], second, store)
    assert again[1] == once[1]
    assert (second.opened, sum(second.asked.values())) == (0, 0)
    assert again[0].reused == 300


def test_equal_questions_are_asked_once():
    backend = Echo(jitter_s=0.001)
    measured, rows = run([parts([{"text": "same"}] * 700)], backend)
    assert backend.asked == {"same": 1}
    assert len(rows) == 700
    assert measured.asked + measured.reused == 700


@pytest.mark.parametrize("batch_size", [1, 32])
def test_one_slow_answer_holds_back_at_most_a_window(monkeypatch, batch_size):
    monkeypatch.setattr(collecting, "WINDOW", 512)
    planned = 0

    class Counted(Rows):
        def rows(self):
            nonlocal planned
            for planned, row in enumerate(super().rows(), 1):  # noqa: B007
                yield row

    class FirstIsSlow(Echo):
        async def answer(self, requests):
            if any(r.prompt == "0" for r in requests):
                await asyncio.sleep(0.2)
                self.planned_while_waiting = planned
            return await super().answer(requests)

    task = parts([{"text": str(i)} for i in range(5000)])
    task = TaskParts(task.spec, Counted([{"text": str(i)} for i in range(5000)]), task.metrics)
    backend = FirstIsSlow(batch_size=batch_size)
    _, rows = run([task], backend)
    assert len(rows) == 5000
    assert backend.planned_while_waiting <= 512 + collecting.CHUNK


def test_a_full_window_of_stored_answers_behind_a_part_of_a_batch_does_not_hang(monkeypatch):
    monkeypatch.setattr(collecting, "WINDOW", 512)
    store = Memory()
    task = parts([{"text": str(i)} for i in range(3000)])
    run([task], Echo(), store)
    first = next(iter(store))
    del store[first]
    measured, rows = run([task], Echo(batch_size=32), store)
    assert (measured.asked, len(rows)) == (1, 3000)


def test_failures_and_ungradable_answers_are_counted_by_reason_and_never_scored():
    faults = {"bad": "bad_request", "long": "context_length"}
    texts = [{"text": t} for t in ["abc", "bad", "?", "long", "abcde"]] + [{"other": 1}]
    watch = Watch()
    measured, rows = run([parts(texts)], Echo(faults=faults), watch=watch)
    tally, table = measured.tallies[0], measured.tables["candidate"][0]
    assert tally.failures == {"bad_request": 1, "context_length": 1, "bad_sample": 1}
    assert tally.unscored == {"length": {"no idea": 1}}
    assert table.stats_NK.tolist() == [[3.0], [5.0]]
    counts = table.counts(None, 2)
    assert (counts.planned, counts.completed, counts.failed, counts.unscored) == (6, 3, 3, 1)
    assert not tally.complete
    assert rows[1]["failed"] == {"kind": "bad_request", "message": "as told", "attempts": 1}
    assert rows[2]["scores"] == {"length": {"unscored": "no idea"}}
    assert watch.seen[-1] == (6, 6, 3)


def test_a_failure_is_asked_again_by_the_next_run():
    store = Memory()
    task = parts([{"text": "a"}, {"text": "b"}])
    run([task], Echo(faults={"b": "bad_request"}), store)
    backend = Echo()
    measured, _ = run([task], backend, store)
    assert backend.asked == {"b": 1}
    assert measured.tallies[0].complete


def test_a_lost_backend_ends_the_run_with_every_answer_kept():
    class Dying(Echo):
        async def answer(self, requests):
            if sum(self.asked.values()) >= 50:
                raise Fault("server_lost", "gone")
            return await super().answer(requests)

    store, task = Memory(), parts([{"text": str(i)} for i in range(200)])
    backend = Dying()
    with pytest.raises(RunError, match="gone"):
        run([task], backend, store)
    kept = len(store)
    assert kept == sum(backend.asked.values()) >= 50
    assert backend.closed == 1
    after = Echo()
    run([task], after, store)
    assert sum(after.asked.values()) == 200 - kept


def test_a_full_disk_ends_the_run():
    store = Memory()
    store.full = True
    with pytest.raises(RunError, match="disk is full"):
        run([parts([{"text": str(i)} for i in range(500)])], Echo(jitter_s=0.05), store)


def test_slices_count_what_was_planned_and_what_was_completed():
    rows = [{"text": "a", "r": "n"}, {"text": "bad", "r": "n"}, {"text": "c", "r": "s"}]
    measured, _ = run([parts(rows, slices=["r"])], Echo(faults={"bad": "bad_request"}))
    table = measured.tables["candidate"][0]
    assert table.planned == {None: 3, "r=n": 2, "r=s": 1}
    assert table.completed == {None: 2, "r=n": 1, "r=s": 1}
    assert table.attributes == {"r": ["n", "s"]}


def test_a_slice_with_too_many_values_is_refused():
    rows = [{"text": "a", "r": str(i)} for i in range(201)]
    with pytest.raises(UsageError, match="201 values"):
        run([parts(rows, slices=["r"])], Echo())


def test_replicates_are_averaged_per_sample():
    class Growing(Echo):
        async def answer(self, requests):
            return [Completion(r.id, "x" * (r.replicate + 1), "stop") for r in requests]

    task = parts([{"text": "a"}], decoding={"temperature": 1, "replicates": 3})
    measured, rows = run([task], Growing())
    table = measured.tables["candidate"][0]
    assert table.stats_NK.tolist() == [[2.0]]
    assert not table.binary
    assert len(rows[0]["answers"]) == 3


def test_a_metric_that_breaks_is_an_unscored_sample_not_a_crash():
    class Broken(Length):
        def score(self, sample, completions):
            raise ZeroDivisionError("oops")

    task = parts([{"text": "a"}])
    task = TaskParts(task.spec, task.source, (Broken("length", Length.Options()),))
    measured, rows = run([task], Echo())
    assert measured.tallies[0].unscored == {"length": {"the metric failed": 1}}
    assert rows[0]["scores"]["length"]["note"] == "ZeroDivisionError: oops"


def test_what_the_backend_cannot_answer_is_refused_before_anything_is_asked():
    task = parts([{"text": "a"}], prompt=None, messages=[{"role": "user", "content": "{{ text }}"}])
    with pytest.raises(UsageError, match="needs chat"):
        check_needs([task], [Echo()])
