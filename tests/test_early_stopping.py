"""Tasks that stop early: in which order samples are asked, when they are looked at, what the scorecard then says."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest
from stub_server import running_stub

from evalkit.backends.openai import OpenAIArgs, OpenAIBackend
from evalkit.compare import compare_tables
from evalkit.errors import Fault
from evalkit.estimating import estimate_tables
from evalkit.executors.local import LocalExecutor
from evalkit.gates.evaluate import evaluate
from evalkit.gates.stopping import next_look, why_not_sequential
from evalkit.metrics.base import Metric, corpus, mean, rate
from evalkit.pipeline import EarlyStopping, TaskParts, measure
from evalkit.records.exchange import Completion, Model, Score
from evalkit.records.scorecard import Circumstances, Provenance, Scorecard
from evalkit.records.suite import GateSpec, SuiteSpec

MODELS = {
    role: Model(role, "/somewhere", role[0] * 64, pinned=True) for role in ("candidate", "baseline")
}
ROWS = [
    {"id": f"s{i:04}", "text": f"question {i}", "region": "north" if i % 4 else "south", "who": i}
    for i in range(2000)
]


class Right(Metric):
    """Whether the answer is ``right``, how right it is, and a measure of the whole corpus."""

    columns = ("right", "words")
    measures = (
        rate("", column=0),
        mean("words", column=1, unit="words"),
        corpus("corpus", lambda sums, n: sums[..., 0] / n, unit="fraction"),
    )

    def score(self, sample, completions):
        words = completions[0].text.split()
        return Score((float(words[-1] == "right"), float(len(words))))


class Rows:
    digest = "rows"

    def __init__(self, rows):
        self._rows, self.total = rows, len(rows)

    def rows(self):
        for number, row in enumerate(self._rows, 1):
            yield f"x.jsonl:{number}", row


class Grader:
    """Answers ``wrong`` to each question with a given chance, fixed by the question, after a random wait."""

    provides = frozenset({"text"})
    batch_size = 1

    def __init__(self, wrong, *, concurrency=16, jitter_s=0.0, fault=0.0):
        self.wrong, self.concurrency, self.jitter_s, self.fault = (
            wrong,
            concurrency,
            jitter_s,
            fault,
        )
        self.asked, self.order, self.waits = Counter(), [], random.Random(0)
        self.closed = 0

    async def open(self, progress):
        pass

    async def close(self):
        self.closed += 1

    async def answer(self, requests):
        await asyncio.sleep(self.waits.random() * self.jitter_s)
        (request,) = requests
        self.asked[request.prompt] += 1
        self.order.append(request.prompt)
        luck = random.Random(request.prompt).random()
        if luck < self.fault:
            raise Fault("bad_request", "as told")
        text = "it is wrong" if luck < self.wrong else "it is right"
        return [Completion(request.id, text, "stop", prompt_tokens=7, completion_tokens=3)]


class Memory(dict):
    """An answer store."""

    def get(self, ids):
        return {i: self[i] for i in ids if i in self}

    def put(self, completion):
        self[completion.request_id] = completion

    def flush(self):
        pass


class Silent:
    def __init__(self):
        self.seen = []

    def step(self, text):
        pass

    def advance(self, done, total, failed=0):
        self.seen.append((done, total))


def task(rows=ROWS, **declared):
    suite = SuiteSpec.model_validate(
        {
            "suite": "s",
            "version": 1,
            "tasks": [
                {
                    "name": "t",
                    "kind": "generate",
                    "dataset": {"path": "x"},
                    "prompt": "{{ text }}",
                    "metrics": [{"name": "right"}],
                    "stop": "early",
                    **declared,
                }
            ],
        }
    )
    return TaskParts(suite.tasks[0], Rows(rows), (Right("right", Right.Options()),))


def gate(*rules, **declared):
    rules = [{"id": f"r{n}", "estimate": "t/right", **rule} for n, rule in enumerate(rules)]
    return GateSpec.model_validate({"gate": "g", "rules": rules, **declared})


NO_WORSE = {"require": "no_worse_than", "options": {"margin": 0.05}}
FLOOR = {"require": "at_least", "options": {"value": 0.5}}


def run(tasks, backends, gates, *, store=None, seed=1, loaded=None, watch=None):
    rows, watch = [], watch or Silent()
    measured = asyncio.run(
        measure(
            tasks,
            backends,
            MODELS,
            LocalExecutor(request_timeout_s=5),
            Memory() if store is None else store,
            rows.append,
            lambda role, task: watch,
            early=EarlyStopping(gates=tuple(gates), seed=seed, confidence=0.95),
            loaded=loaded,
        )
    )
    return measured, rows


def scorecard(measured):
    return Scorecard(
        provenance=Provenance(
            suite="s",
            suite_version=1,
            suite_digest="0" * 64,
            models={},
            datasets={},
            seed=1,
            versions={},
        ),
        estimates=tuple(estimate_tables(measured.tables, 1, 0.95)),
        comparisons=tuple(compare_tables(measured.tables, 1, 0.95)),
        tasks=tuple(measured.tallies),
        circumstances=Circumstances(
            started="2026-01-01T00:00:00Z",
            finished="2026-01-01T00:00:01Z",
            command=(),
            git_commit=None,
            hardware={},
            host={},
            asked=0,
            reused=0,
            seconds=1.0,
        ),
    ).sealed()


def ended(measured):
    return next(t for t in measured.tallies if t.model == "candidate").early


def test_a_clearly_worse_candidate_fails_after_few_samples():
    backends = {"candidate": Grader(wrong=0.3), "baseline": Grader(wrong=0.1)}
    measured, rows = run([task()], backends, [gate(NO_WORSE)])
    early = ended(measured)
    assert early.decided
    assert (early.available, early.drawn % 10) == (2000, 0)
    assert early.drawn < 400
    verdict = evaluate([gate(NO_WORSE)], scorecard(measured))
    assert verdict.status == "fail"
    assert verdict.outcomes[0].interval.method == "betting"
    assert sum(row["model"] == "candidate" for row in rows) == early.drawn


def test_an_equal_candidate_passes_a_wide_margin_early():
    backends = {"candidate": Grader(wrong=0.1), "baseline": Grader(wrong=0.1)}
    measured, _ = run([task()], backends, [gate(NO_WORSE)])
    assert ended(measured).decided
    assert ended(measured).drawn < 400
    assert evaluate([gate(NO_WORSE)], scorecard(measured)).status == "pass"


def test_what_stays_undecided_is_asked_in_full():
    backends = {"candidate": Grader(wrong=0.115), "baseline": Grader(wrong=0.1)}
    narrow = gate({"require": "no_worse_than", "options": {"margin": 0.016}})
    measured, _ = run([task()], backends, [narrow])
    early = ended(measured)
    assert (early.decided, early.drawn, early.tokens_saved) == (False, 2000, 0)
    assert evaluate([narrow], scorecard(measured)).status == "inconclusive"


def test_the_baseline_goes_first_and_in_full_and_the_candidate_is_told_first():
    candidate, baseline = Grader(wrong=0.3), Grader(wrong=0.1)
    measured, rows = run([task()], {"candidate": candidate, "baseline": baseline}, [gate(NO_WORSE)])
    roles = [row["model"] for row in rows]
    assert roles == sorted(roles)
    assert [row["id"] for row in rows[:2000]] == [row["id"] for row in ROWS]
    assert [tally.model for tally in measured.tallies] == ["candidate", "baseline"]
    assert measured.tallies[1].early is None
    assert [t.anytime for t in measured.tables["baseline"]] == [False]
    compared = scorecard(measured).comparisons[0]
    assert (compared.pairs, compared.unpaired) == (ended(measured).drawn, 0)


def test_samples_leave_in_an_order_of_their_own_that_only_the_seed_moves():
    def ids(seed, rows=ROWS):
        backends = {"candidate": Grader(wrong=0.3, jitter_s=0.002)}
        measured, written = run([task(rows)], backends, [gate(FLOOR)], seed=seed)
        return [row["id"] for row in written], ended(measured).seed

    (one, seed), (again, _), (other, other_seed) = ids(1), ids(1, ROWS[::-1]), ids(2)
    assert one == again
    assert one != sorted(one)
    assert one[:30] != other[:30]
    assert seed != other_seed


def test_the_drawn_samples_keep_the_ids_that_data_order_gave_them():
    rows = [{"text": f"question {i}"} for i in range(200)]
    backends = {"candidate": Grader(wrong=0.1), "baseline": Grader(wrong=0.1)}
    _, written = run([task(rows)], backends, [gate({**NO_WORSE, "options": {"margin": 0.3}})])
    drawn = [row for row in written if row["model"] == "candidate"]
    assert len(drawn) >= 30
    assert [row["prompt"] for row in drawn] == [f"question {row['id']}" for row in drawn]


def test_a_resumed_run_stops_at_the_same_sample_with_the_same_scorecard():
    def once(store, **how):
        backends = {
            "candidate": Grader(wrong=0.25, **how),
            "baseline": Grader(wrong=0.1, **how),
        }
        measured, rows = run([task()], backends, [gate(NO_WORSE)], store=store)
        return scorecard(measured).digest, rows, backends["candidate"].asked.total()

    store, half = Memory(), Memory()
    digest, rows, asked = once(store, concurrency=64, jitter_s=0.003)
    assert asked >= sum(row["model"] == "candidate" for row in rows)
    assert once(store) == (digest, rows, 0)
    for identifier in list(store)[::2]:
        half[identifier] = store[identifier]
    assert once(half, concurrency=3)[:2] == (digest, rows)


def test_answers_beyond_the_stop_stay_in_the_store_and_do_not_count():
    store = Memory()
    backend = Grader(wrong=0.1, concurrency=64, jitter_s=0.001)
    measured, rows = run([task()], {"candidate": backend}, [gate(FLOOR)], store=store)
    drawn = ended(measured).drawn
    assert len(rows) == drawn == measured.tables["candidate"][0].planned[None]
    assert drawn <= len(store) <= backend.asked.total() < 2000
    assert measured.tallies[0].requests == drawn


def test_a_real_server_is_asked_little_more_than_what_counts(tmp_path):
    rows = ROWS[:600]
    answers = {row["text"]: "wrong" if row["who"] % 10 == 0 else "right" for row in rows}
    with running_stub(tmp_path, answers=answers, latency_ms=10) as stub:
        backend = OpenAIBackend.from_model(
            stub.url, OpenAIArgs(concurrency=16), lambda name: pytest.fail("a URL is no folder")
        )
        measured, written = run([task(rows)], {"candidate": backend}, [gate(FLOOR)])
        asked = len(stub.asked())
    assert ended(measured).decided
    assert len(written) == ended(measured).drawn <= asked < 300


def test_tokens_saved_are_those_of_the_samples_not_drawn():
    measured, _ = run([task()], {"candidate": Grader(wrong=0.1)}, [gate(FLOOR)])
    early = ended(measured)
    assert early.tokens_saved == 10 * (2000 - early.drawn)


def test_progress_is_told_against_the_whole_data_set():
    watch = Silent()
    measured, _ = run([task()], {"candidate": Grader(wrong=0.1)}, [gate(FLOOR)], watch=watch)
    assert watch.seen[-1] == (ended(measured).drawn, 2000)


def test_looks_begin_at_30_samples_come_every_10_and_thin_out():
    looks = [next_look(0)]
    while looks[-1] < 20_000:
        looks.append(next_look(looks[-1]))
    assert looks[:3] == [30, 40, 50]
    assert looks[looks.index(1000) + 1] == 1010
    assert len(looks) < 420


def test_a_task_with_fewer_samples_than_the_first_look_is_looked_at_once_at_its_end():
    measured, _ = run([task(ROWS[:20])], {"candidate": Grader(wrong=0.0)}, [gate(FLOOR)])
    early = ended(measured)
    assert (early.drawn, early.looks, early.decided) == (20, 1, True)


def test_a_task_without_samples_ends_undecided():
    measured, _ = run([task([])], {"candidate": Grader(wrong=0.0)}, [gate(FLOOR)])
    early = ended(measured)
    assert (early.available, early.drawn, early.looks, early.decided) == (0, 0, 0, False)


def test_every_value_of_a_slice_must_be_seen_before_its_rule_is_decided():
    rows = [{**row, "region": "rare" if n == 1500 else "common"} for n, row in enumerate(ROWS)]
    sliced = {**FLOOR, "estimate": "t/right@region=*"}
    measured, written = run(
        [task(rows, slices=["region"])], {"candidate": Grader(wrong=0.1)}, [gate(sliced)]
    )
    # One sample decides nothing, so all are asked.
    assert not ended(measured).decided
    assert len(written) == 2000


def test_a_rule_on_slices_waits_for_the_slowest():
    floor = {"require": "at_least", "options": {"value": 0.8}}
    sliced = {**floor, "estimate": "t/right@region=*"}
    alone, _ = run([task()], {"candidate": Grader(wrong=0.1)}, [gate(floor)])
    measured, _ = run(
        [task(slices=["region"])], {"candidate": Grader(wrong=0.1)}, [gate(floor, sliced)]
    )
    assert ended(alone).drawn < ended(measured).drawn < 2000
    outcomes = evaluate([gate(floor, sliced)], scorecard(measured)).outcomes
    assert {o.status for o in outcomes} == {"pass"}
    assert len(outcomes) == 3


def test_nothing_is_decided_while_too_few_samples_could_be_scored():
    measured, _ = run([task()], {"candidate": Grader(wrong=0.4, fault=0.3)}, [gate(FLOOR)])
    assert not ended(measured).decided
    assert ended(measured).drawn == 2000


def test_the_baseline_of_an_earlier_run_serves_the_looks():
    full = task(stop="full")
    earlier, _ = run([full], {"baseline": Grader(wrong=0.1)}, [])
    candidate = Grader(wrong=0.3)
    measured, rows = run(
        [task()],
        {"candidate": candidate},
        [gate(NO_WORSE)],
        loaded={"baseline": earlier.tables["baseline"]},
    )
    assert ended(measured).decided
    assert measured.tables["baseline"] == earlier.tables["baseline"]
    assert {row["model"] for row in rows} == {"candidate"}


def test_a_task_that_cannot_stop_early_runs_in_data_order_with_ordinary_intervals():
    watch = Silent()
    backends = {"candidate": Grader(wrong=0.3), "baseline": Grader(wrong=0.1)}
    counted = {"require": "coverage_at_least", "options": {"value": 0.9}}
    measured, rows = run([task()], backends, [gate(FLOOR, counted)], watch=watch)
    assert measured.tallies[0].in_full.startswith("rule 'r1' (coverage_at_least)")
    assert [row["id"] for row in rows[:2000]] == [row["id"] for row in ROWS]
    assert [row["model"] for row in (rows[0], rows[-1])] == ["candidate", "baseline"]
    assert ended(measured) is None
    assert scorecard(measured).estimates[0].interval.method == "wilson"


def test_without_word_of_gates_a_task_runs_in_full():
    backend = Grader(wrong=0.1)
    measured = asyncio.run(
        measure(
            [task(ROWS[:50])],
            {"candidate": backend},
            MODELS,
            LocalExecutor(request_timeout_s=5),
            Memory(),
            lambda row: None,
            lambda role, task: Silent(),
        )
    )
    assert backend.asked.total() == 50
    assert "no rule reads it" in measured.tallies[0].in_full


METRICS = (Right("right", Right.Options()),)


@pytest.mark.parametrize(
    "rule",
    [
        NO_WORSE,
        FLOOR,
        {"require": "at_most", "options": {"value": 0.5}, "severity": "warn"},
        {"require": "inside", "options": {"low": 0.1, "high": 0.9}},
        {"require": "better_than", "options": {}},
        {"require": "equivalent", "options": {"margin": 0.05}},
        {**FLOOR, "estimate": "*/right@region=*"},
    ],
)
def test_limits_and_fixed_margins_on_bounded_rates_can_be_looked_at(rule):
    assert why_not_sequential([gate(rule)], task(slices=["region"]).spec, METRICS) == ""


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ({"require": "coverage_at_least", "options": {"value": 0.9}}, "(coverage_at_least)"),
        ({"require": "max_flips", "options": {"count": 3}}, "(max_flips)"),
        ({**NO_WORSE, "options": {"margin": 0.05, "relative": True}}, "relative to the baseline"),
        ({"require": "recovers", "options": {"share": 0.98}}, "relative to the baseline"),
        ({**FLOOR, "options": {"value": 0.5, "exact": True}}, "the exact interval"),
        ({**FLOOR, "estimate": "t/right.words"}, "reads t/right.words in words"),
        ({**FLOOR, "estimate": "t/right.corpus", "severity": "info"}, "a corpus measure"),
        ({**FLOOR, "estimate": "other/right"}, "no rule reads it"),
        ({**FLOOR, "estimate": "t/right@who=*"}, "no rule reads it"),
    ],
)
def test_what_has_no_interval_that_holds_at_any_look_is_told_before_the_run(rule, why):
    assert why in why_not_sequential([gate(rule)], task(slices=["region"]).spec, METRICS)


def test_one_rule_that_cannot_be_looked_at_is_enough():
    rules = [FLOOR, {**FLOOR, "estimate": "*"}]
    assert "'r1'" in why_not_sequential([gate(*rules)], task().spec, METRICS)


def test_clusters_cannot_be_looked_at():
    why = why_not_sequential([gate(FLOOR)], task(cluster="who").spec, METRICS)
    assert "share clusters (who)" in why


def test_a_comparison_without_a_baseline_cannot_be_looked_at():
    why = why_not_sequential([gate(NO_WORSE)], task().spec, METRICS, has_baseline=False)
    assert "the run has none" in why


def test_comparisons_of_a_family_are_decided_together():
    family = gate(NO_WORSE, family="any_regression")
    assert "together with all comparisons" in why_not_sequential([family], task().spec, METRICS)
    alone = gate(FLOOR, family="any_regression")
    assert why_not_sequential([alone], task().spec, METRICS) == ""


@pytest.mark.slow
def test_a_candidate_at_the_margin_passes_early_in_one_run_of_twenty_at_most():
    """True rates .90 and .85 differ by just the margin; 5 % of 100 runs and four standard errors are 13."""
    passed = 0
    for seed in range(100):
        rng = random.Random(seed)
        rows = [{"id": f"{i}", "text": f"{rng.random()}"} for i in range(400)]
        backends = {"candidate": Grader(wrong=0.15), "baseline": Grader(wrong=0.10)}
        measured, _ = run([task(rows)], backends, [gate(NO_WORSE)], seed=seed)
        passed += evaluate([gate(NO_WORSE)], scorecard(measured)).status == "pass"
    assert passed <= 13


def test_what_judges_give_is_never_a_ground_to_stop_early():
    class Judged(Right):
        judges = ("quality",)

    judged = Judged("judged", Right.Options())
    told = "its answers are judged once all of them are there"
    assert why_not_sequential([gate(FLOOR)], task().spec, METRICS) == ""
    assert why_not_sequential([gate(FLOOR)], task().spec, [*METRICS, judged]) == told
