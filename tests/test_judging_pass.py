"""The second pass: judges asked of the rows of the first, with the real executor and a scripted judge."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.errors import BackendLost, Fault
from evalkit.executors.local import LocalExecutor
from evalkit.judging.pins import flags, pins
from evalkit.metrics.judged import Judged, JudgedOptions, Preferred
from evalkit.records.exchange import Completion, Model
from evalkit.records.judging import JudgeRecord
from evalkit.records.scorecard import TaskTally
from evalkit.records.suite import JudgeSpec, SuiteSpec
from evalkit.second_pass import Answered, JudgeParts, judge, judged_metrics
from evalkit.store.judgements import Said, SampleFile

MODEL = Model("j", "/somewhere", "d" * 64, pinned=True)
LOG: list[str] = []


class Grader:
    """Gives each answer the score it ends on, prefers the answer of the higher one; gives out after so many."""

    provides = frozenset({"text", "chat"})
    model = MODEL
    batch_size, concurrency = 1, 4

    def __init__(self, name="j", lost_after=None, fault=""):
        self.name, self.lost_after, self.fault = name, lost_after, fault
        self.asked: Counter[str] = Counter()

    async def open(self, progress):
        LOG.append(f"open {self.name}")

    async def close(self):
        LOG.append(f"close {self.name}")

    def engine(self):
        return {}

    async def answer(self, requests):
        await asyncio.sleep(0)
        (request,) = requests
        prompt = request.messages[0].content
        if self.lost_after is not None and sum(self.asked.values()) >= self.lost_after:
            raise Fault("server_lost", "gone")
        if self.fault and self.fault in prompt:
            raise Fault("bad_request", "as told")
        self.asked[prompt] += 1
        parts = [part.split("\n</answer")[0] for part in prompt.split("<answer")[1:]]
        scores = [part.split()[-1] for part in parts]
        if len(scores) == 1:
            text = json.dumps({"reason": "as it says", "score": int(scores[0])})
        else:
            first, second = map(int, scores)
            winner = "A" if first > second else "B" if second > first else "tie"
            text = json.dumps({"winner": winner})
        return [Completion(request.id, text, "stop", prompt_tokens=7, completion_tokens=3)]


class Memory(dict):
    def get(self, ids):
        return {i: self[i] for i in ids if i in self}

    def put(self, completion):
        assert completion.request_id not in self, "a judgement is asked for once"
        self[completion.request_id] = completion

    def flush(self):
        pass


class Rows:
    """The rows of samples.jsonl in memory."""

    def __init__(self, rows):
        self.rows = rows

    def of(self, role, task):
        return (row for row in self.rows if (row["model"], row["task"]) == (role, task))

    def one(self, role, task, sample):
        return next((row for row in self.of(role, task) if row["id"] == sample), None)

    def count(self, role, task):
        return sum(1 for _ in self.of(role, task))


class Silent:
    def step(self, text):
        pass

    def advance(self, done, total, failed=0):
        pass


def row(number, *texts, role="candidate", **more):
    answers = [{"text": text, "finish_reason": "stop"} for text in texts]
    held = {"model": role, "task": "t", "id": f"s{number}", "prompt": f"question {number}"}
    return {**held, "answers": answers, **more}


def judge_spec(name="quality", **declared):
    return JudgeSpec(**{"judge": name, "model": "m", "criteria": "good?", **declared})


def parts(spec, backend=None, signature="pins"):
    record = JudgeRecord(judge=spec.judge, form=spec.form, pins="p", model="m")
    return JudgeParts(spec, backend or Grader(spec.judge), MODEL, signature, record)


def task(**declared):
    declared = {
        "name": "t",
        "kind": "generate",
        "dataset": {"path": "x"},
        "prompt": "{{ q }}",
        "metrics": [{"name": "judged"}],
        **declared,
    }
    return SuiteSpec.model_validate({"suite": "s", "version": 1, "tasks": [declared]}).tasks[0]


def judged_metric(*names, **options):
    return Judged("judged", JudgedOptions(judge=names if len(names) > 1 else names[0], **options))


def preferred(*names):
    return Preferred("preferred", JudgedOptions(judge=names if len(names) > 1 else names[0]))


def run(rows, metrics, judges, *, store=None, written=None, spec=None):
    specs = {each.spec.judge: each.spec for each in judges}
    roles = [r for r in ("candidate", "baseline") if any(x["model"] == r for x in rows)]
    answered = [
        Answered(role, spec or task(), mine, "data", "task:x")
        for role in roles
        if (mine := judged_metrics(metrics, specs, role))
    ]
    return asyncio.run(
        judge(
            answered,
            judges,
            Rows(rows),
            lambda name: LocalExecutor(request_timeout_s=5),
            Memory() if store is None else store,
            (written if written is not None else []).append,
            lambda name: Silent(),
        )
    )


def values(table, measure):
    found = next(m for m in table.measures if m.name == measure)
    return found.aggregate(table.stats_NK)


def test_each_answer_is_scored_on_the_judges_scale():
    rows = [row(n, f"an answer {score}") for n, score in enumerate((1, 2, 5))]
    found = run(rows, [judged_metric("quality")], [parts(judge_spec())])
    (table,) = found.tables["candidate"]
    assert table.stats_NK[:, 0].tolist() == [0.0, 0.25, 1.0]
    assert table.signature.split("|")[-2:] == ["judge:pins", "task:x"]
    assert table.judges == ("quality",)


def test_pairs_are_asked_in_both_orders_and_a_candidate_without_its_pair_is_unscored():
    rows = [row(0, "a 5"), row(1, "b 1"), row(2, "c 3"), row(3, "d 3")]
    rows += [row(n, f"other {s}", role="baseline") for n, s in ((0, 2), (1, 2), (2, 3))]
    spec = judge_spec("better", form="pairwise")
    grader, written = Grader(), []
    found = run(rows, [preferred("better")], [parts(spec, grader)], written=written)
    (table,) = found.tables["candidate"]
    assert "baseline" not in found.tables
    assert table.sample_ids == ["s0", "s1", "s2"]
    assert table.stats_NK[:, 0].tolist() == [1.0, 0.0, 0.5]
    assert sum(grader.asked.values()) == 6
    assert written[3]["reason"] == "the baseline gave no answer"
    assert found.records[0].unjudged == {"the baseline gave no answer": 1}


def test_each_judge_is_closed_before_the_next_one_opens_and_none_opens_for_nothing():
    rows = [row(n, f"an answer {n % 5 + 1}") for n in range(10)]
    judges = [parts(judge_spec(name, criteria=name)) for name in ("first", "second")]
    store = Memory()
    LOG.clear()
    run(rows, [judged_metric("first", "second")], judges, store=store)
    assert LOG == ["open first", "close first", "open second", "close second"]
    LOG.clear()
    again = run(rows, [judged_metric("first", "second")], judges, store=store)
    assert LOG == ["close first", "close second"]
    assert (again.asked, again.reused) == (0, 20)


def test_a_jurys_agreement_and_each_judges_own_score_stand_beside_the_mean():
    rows = [row(n, f"an answer {score}") for n, score in enumerate((1, 3, 5))]
    judges = [parts(judge_spec("a")), parts(judge_spec("b", scale=(0, 10)))]
    found = run(rows, [judged_metric("a", "b")], judges)
    (table,) = found.tables["candidate"]
    own, other = np.array([0, 0.5, 1.0]), np.array([0.1, 0.3, 0.5])
    assert values(table, "score") == pytest.approx(np.mean((own + other) / 2))
    assert values(table, "score.a") == pytest.approx(own.mean())
    assert values(table, "score.b") == pytest.approx(other.mean())
    assert values(table, "agree") == 0
    assert values(table, "spread") == pytest.approx(np.abs(own - other).mean())


def test_failures_stay_failed_and_requests_that_fail_are_unscored_with_a_reason():
    rows = [row(0, "a 5"), row(1, failed={"kind": "bad_sample"}), row(2, "poison 3"), row(3, "")]
    found = run(rows, [judged_metric("quality")], [parts(judge_spec(), Grader(fault="poison"))])
    (table,) = found.tables["candidate"]
    counts = table.counts(None, len(table.sample_ids))
    assert (counts.planned, counts.failed, counts.scored, counts.unscored) == (4, 1, 2, 1)
    assert table.sample_ids == ["s0", "s3"]
    assert table.stats_NK[:, 0].tolist() == [1.0, 0.0]
    tally = TaskTally(
        model="candidate", task="t", kind="generate", dataset="data", planned=4, requests=4,
        failures={"bad_sample": 1}, unscored={"other": {"no target": 1}}, complete=True,
    )  # fmt: skip
    (told,) = found.tallied([tally])
    assert told.unscored == {
        "judged": {"the judge did not answer": 1},
        "other": {"no target": 1},
    }
    assert not told.complete, "2 of 4 are scored, and 0.95 must be"


def test_replicates_are_judged_each_and_averaged():
    rows = [row(0, "a 1", "b 5"), row(1, "a 5", "b 5")]
    found = run(rows, [judged_metric("quality")], [parts(judge_spec())])
    (table,) = found.tables["candidate"]
    assert table.stats_NK[:, 0].tolist() == [0.5, 1.0]


def test_an_empty_replicate_counts_as_the_worst_and_the_others_are_judged():
    rows = [row(0, "", "b 5"), row(1, "a 5", ""), row(2, "", "")]
    grader = Grader()
    found = run(rows, [judged_metric("quality")], [parts(judge_spec(), grader)])
    (table,) = found.tables["candidate"]
    assert table.stats_NK[:, 0].tolist() == [0.5, 0.5, 0.0]
    assert sum(grader.asked.values()) == 2
    assert found.records[0].settled == {"empty answer": 1}, "the sample no replicate of which was"


def test_pairs_of_replicates_are_each_asked_in_both_orders_and_equal_ones_are_ties():
    rows = [row(0, "a 5", "b 1"), row(1, "c 2", "same 3")]
    rows += [row(0, "x 2", "y 4", role="baseline"), row(1, "z 1", "same 3", role="baseline")]
    grader = Grader()
    spec = judge_spec("better", form="pairwise")
    found = run(rows, [preferred("better")], [parts(spec, grader)])
    (table,) = found.tables["candidate"]
    assert table.stats_NK[:, 0].tolist() == [0.5, 0.75]
    assert sum(grader.asked.values()) == 6
    assert values(table, "consistent") == 1


def test_an_answer_given_to_every_question_is_settled_without_the_judge():
    rows = [row(n, "the same 5") for n in range(30)] + [row(30, "another 4")]
    grader = Grader()
    found = run(rows, [judged_metric("quality")], [parts(judge_spec(), grader)])
    (table,) = found.tables["candidate"]
    assert table.stats_NK[:, 0].tolist() == [0.0] * 30 + [0.75]
    assert sum(grader.asked.values()) == 1
    assert found.records[0].settled == {"constant answer": 30}


def test_slices_and_clusters_are_those_of_the_rows():
    rows = [
        row(n, f"x {score}", slices={"lang": lang}, cluster=f"c{n // 2}")
        for n, (score, lang) in enumerate([(1, "en"), (5, "en"), (3, "fr"), (5, "fr")])
    ]
    spec = task(slices=["lang"], cluster="doc")
    found = run(rows, [judged_metric("quality")], [parts(judge_spec())], spec=spec)
    (table,) = found.tables["candidate"]
    assert table.attributes == {"lang": ["en", "en", "fr", "fr"]}
    assert table.clusters == ["c0", "c0", "c1", "c1"]
    assert table.planned == {None: 4, "lang=en": 2, "lang=fr": 2}


def test_tokens_and_requests_are_counted_also_where_they_were_stored():
    rows = [row(n, f"a {n % 5 + 1}") for n in range(10)]
    store = Memory()
    for asked in (10, 0):
        found = run(rows, [judged_metric("quality")], [parts(judge_spec())], store=store)
        (record,) = found.records
        assert (found.asked, record.samples, record.requests) == (asked, 10, 10)
        assert (record.prompt_tokens, record.completion_tokens) == (70, 30)
        assert record.metrics == ("t/judged",)


def test_the_length_controlled_rate_is_the_line_of_least_squares_at_no_difference():
    rng = np.random.default_rng(3)
    lengths = rng.integers(5, 60, (40, 2))
    scores = rng.integers(1, 6, (40, 2))
    rows = [
        row(n, f"{'x' * lengths[n, k]} {scores[n, k]}", role=role)
        for k, role in enumerate(("candidate", "baseline"))
        for n in range(40)
    ]
    found = run(rows, [preferred("better")], [parts(judge_spec("better", form="pairwise"))])
    (table,) = found.tables["candidate"]
    long_N2 = lengths + 2
    apart = (long_N2[:, 0] - long_N2[:, 1]) / long_N2.sum(axis=1)
    wins = (scores[:, 0] > scores[:, 1]) + (scores[:, 0] == scores[:, 1]) / 2
    _, at_none = np.polyfit(apart, wins, 1)
    assert values(table, "lc_win_rate") == pytest.approx(at_none)
    assert values(table, "win_rate") == pytest.approx(wins.mean())


@settings(max_examples=25)
@given(st.integers(0, 40), st.integers(1, 5))
def test_given_out_anywhere_it_resumes_with_what_is_missing_and_gives_the_same(lost_after, many):
    rows = [row(n, f"{'abcdefgh'[n % many]} {n % 5 + 1}") for n in range(12)]
    rows += [row(n, f"other {n} {n % 4 + 1}", role="baseline") for n in range(12)]
    metrics = [judged_metric("quality"), preferred("better")]

    def judges(backend):
        return [
            parts(judge_spec(), backend),
            parts(judge_spec("better", form="pairwise"), backend),
        ]

    whole, calm, grader = [], Memory(), Grader()
    run(rows, metrics, judges(grader), store=calm, written=whole)
    store, first, second, again = Memory(), Grader(lost_after=lost_after), Grader(), []
    try:
        run(rows, metrics, judges(first), store=store)
    except BackendLost:
        assert len(store) <= lost_after
    resumed = run(rows, metrics, judges(second), store=store, written=again)
    assert again == whole
    assert not first.asked.keys() & second.asked.keys()
    assert resumed.asked == len(calm) - sum(first.asked.values())


def test_what_was_written_is_read_back_row_by_row(tmp_path):
    rows = [row(n, f"a {n % 5 + 1}") for n in range(6)]
    rows += [row(n, f"b {n % 3 + 1}", role="baseline") for n in range(5)]
    file = tmp_path / "samples.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in rows))
    held = SampleFile(file)
    assert list(held.of("candidate", "t")) == rows[:6]
    assert held.one("baseline", "t", "s4") == rows[-1]
    assert held.one("baseline", "t", "s5") is None
    assert (held.count("candidate", "t"), held.count("candidate", "u")) == (6, 0)
    written = []
    spec = judge_spec("better", form="pairwise")
    run(rows, [preferred("better")], [parts(spec)], written=written)
    said = Said(json.loads(json.dumps(written)))
    judgements, lengths = said.of(rows[3], 3)
    assert judgements["better"].value == 1.0
    assert lengths == (3, 3)
    with pytest.raises(ValueError, match="says nothing of sample 's3'"):
        said.of(rows[3], 2)


def test_of_pairs_the_baseline_has_no_number_and_of_answers_it_has():
    specs = {"quality": judge_spec(), "better": judge_spec("better", form="pairwise")}
    metrics = [judged_metric("quality"), preferred("better")]
    assert judged_metrics(metrics, specs, "candidate") == tuple(metrics)
    assert judged_metrics(metrics, specs, "baseline") == (metrics[0],)


def test_pins_hold_what_changes_a_verdict_and_not_what_a_judge_is_called_or_where_it_lies():
    spec = judge_spec()
    same = [
        (judge_spec("other"), MODEL),
        (judge_spec(version=2), MODEL),
        (judge_spec(model="elsewhere"), dataclasses.replace(MODEL, location="b", name="c")),
    ]
    others = [
        (judge_spec(criteria="short?"), MODEL),
        (judge_spec(scale=(1, 3)), MODEL),
        (judge_spec(rubric={1: "bad"}), MODEL),
        (judge_spec(reference=True), MODEL),
        (judge_spec(prompt="{{ answer }}"), MODEL),
        (judge_spec(decoding={"max_tokens": 9}), MODEL),
        (judge_spec(form="pairwise"), MODEL),
        (spec, dataclasses.replace(MODEL, digest="e" * 64)),
    ]
    assert {pins(*each) for each in same} == {pins(spec, MODEL)}
    assert len({pins(*each) for each in [*others, (spec, MODEL)]}) == len(others) + 1


def test_a_judge_is_flagged_where_it_judges_itself_or_its_family():
    other = dataclasses.replace(MODEL, digest="e" * 64)
    shape = {"model_type": "llama", "hidden_size": 8, "vocab_size": 9}
    assert flags(MODEL, {"candidate": MODEL}, {}) == ("the judge is the candidate itself",)
    assert flags(MODEL, {"candidate": other}, {}) == ()
    (told,) = flags(MODEL, {"baseline": other}, {"judge": shape, "baseline": dict(shape)})
    assert "the baseline's architecture" in told
    grown = {**shape, "hidden_size": 16}
    assert flags(MODEL, {"baseline": other}, {"judge": shape, "baseline": grown}) == ()
