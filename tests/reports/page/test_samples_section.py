"""The samples that a page holds: what became of each, what is told of the rest, and a size that no run exceeds."""

from __future__ import annotations

import base64
import gzip
import json
import random
import shutil
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replayed_runs import replayed

from evalkit.cli.past_runs import open_run
from evalkit.metrics.base import rate
from evalkit.reports.page import scorecard_page
from evalkit.reports.page.embedded_samples import embedded_samples
from evalkit.reports.page.sample_states import (
    CLASSES,
    FAILED,
    FIRST,
    MEASURED,
    PARTLY,
    RIGHT,
    STATES,
    WRONG,
    TaskStates,
    _states,
    preferred,
    task_states,
)
from evalkit.reports.page.sample_texts import (
    MOST_PACKED,
    KeptTexts,
    cut,
    fair_share,
    packed,
    row_texts,
)
from evalkit.reports.page.sections import samples
from evalkit.scoring import MetricTable

CITIES = ["Lima", "Oslo", "Rome", "Kyiv", "Bern"]


def unpacked(held):
    lines = gzip.decompress(base64.b64decode(held.packed.text)).splitlines()
    return [json.loads(line) for line in lines]


def rows_of(run):
    """Return the rows as any JSON reader reads them, by model and id."""
    lines = (run.path / "samples.jsonl").read_bytes().splitlines()
    return {(row["model"], row["id"]): row for row in map(json.loads, lines)}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Sixty samples, some of which failed, some with a target that is no JSON, many of which flipped."""
    draw = random.Random(7)
    rows, candidate, baseline = [], {}, {}
    for n in range(60):
        city = CITIES[n % 5]
        target = "no JSON" if n % 20 == 3 else json.dumps({"city": city})
        row = {"id": f"s{n:02}", "question": f"Which city is number {n}?", "target": target}
        rows.append(row | {"region": "north" if n % 3 else "south"})
        for answers, right in ((candidate, 0.6), (baseline, 0.7)):
            answers[row["id"]] = target if draw.random() < right else '{"city": "Paris"}'
    candidate["s10"] = candidate["s11"] = baseline["s11"] = baseline["s12"] = None
    folder = tmp_path_factory.mktemp("samples")
    return replayed(folder, rows, candidate, baseline, metrics="[exact_match, json_fields, squad]")


def test_each_sample_is_embedded_once_with_the_state_and_texts_of_its_rows(run):
    rows = rows_of(run)
    held = unpacked(embedded_samples(run))
    assert sorted(sample["i"] for sample in held) == sorted({name for _, name in rows})
    for sample in held:
        for place, model in enumerate(("candidate", "baseline")):
            row = rows[model, sample["i"]]
            named = {name for bit, name in enumerate(STATES) if sample["s"][place] >> bit & 1}
            if "failed" in row:
                assert named == {"failed"}
                assert sample["w"][place]["f"] == [row["failed"]["kind"], row["failed"]["message"]]
                continue
            right = "right" if row["scores"]["exact_match"]["match"] else "wrong"
            unscored = {"unscored"} if "unscored" in row["scores"]["json_fields"] else set()
            assert named == {right} | unscored
            assert sample["w"][place]["a"][0]["t"] == row["answers"][0]["text"]
        assert sample["c"]["q"] == rows["baseline", sample["i"]]["prompt"]
        assert sample["c"]["g"] == rows["baseline", sample["i"]]["targets"]


def test_changes_are_those_that_the_scorecard_counted(run):
    (compared,) = (
        c for c in run.scorecard.comparisons if c.metric == "exact_match" and c.slice is None
    )
    (states,) = task_states(run)
    assert states.by == "exact_match"
    assert ((states.change_N < 0).sum(), (states.change_N > 0).sum()) == (
        compared.worsened,
        compared.improved,
    )
    assert compared.worsened and compared.improved


def test_scores_beside_a_sample_are_those_of_its_row(run):
    held = embedded_samples(run)
    (names,) = held.index["measures"]
    rows = rows_of(run)
    seen = 0
    for sample in unpacked(held):
        scores = rows["candidate", sample["i"]].get("scores", {})
        ours = dict(zip(names, (each[0] for each in sample["x"]), strict=True))
        assert ours["exact_match"] == scores.get("exact_match", {}).get("match")
        if "squad" in scores:
            assert ours["squad.f1"] == pytest.approx(scores["squad"]["f1"], abs=1e-6)
            seen += 0 < ours["squad.f1"] < 1
    assert seen > 3


def test_failures_and_unscored_are_counted_by_reason_with_examples(run):
    counted = Counter()
    for (model, _), row in rows_of(run).items():
        if "failed" in row:
            counted[model, "", row["failed"]["kind"]] += 1
        else:
            for metric, scores in row["scores"].items():
                if "unscored" in scores:
                    counted[model, metric, scores["unscored"]] += 1
    held = embedded_samples(run)
    told = list(samples._lost(run.scorecard.tasks, held.examples))
    assert {(t["model"], t["metric"], t["reason"]): t["count"] for t in told} == counted
    rows = rows_of(run)
    for each in told:
        assert 1 <= len(each["examples"]) <= 3
        for name in each["examples"]:
            row = rows[each["model"], name]
            assert each["reason"] in json.dumps(row.get("failed") or row["scores"][each["metric"]])
    body = samples.section(run).body
    assert "no_answer" in body and "target is not JSON" in body


def test_the_same_run_gives_the_same_bytes_without_a_time_in_them(run):
    texts = [embedded_samples(open_run(str(run.path), run.path.parent)).packed.text for _ in "ab"]
    assert texts[0] == texts[1]
    assert base64.b64decode(texts[0])[4:8] == b"\0\0\0\0"


def test_a_run_without_its_samples_says_so_and_reads_none(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "run")
    (tmp_path / "run" / "samples.jsonl").unlink()
    left = open_run(str(tmp_path / "run"), tmp_path)
    made = samples.section(left)
    assert "does not hold its samples" in made.body and "samples-browser" not in made.body
    assert "no_answer" in made.body  # what the scorecard counted still stands
    assert not made.data


def test_what_does_not_fit_is_counted_and_said_where_it_lies(run):
    whole = embedded_samples(run)
    less = embedded_samples(run, most_packed=len(whole.packed.text) // 2)
    assert 0 < len(less.packed.places) < len(whole.packed.places) == less.planned == 60
    assert len(less.packed.text) <= len(whole.packed.text) // 2
    assert less.index["embedded"] == len(less.packed.places) == len(unpacked(less))
    assert less.index["planned"] == 60


@pytest.fixture(scope="module")
def great(tmp_path_factory):
    """Twenty thousand samples whose texts no packing makes small."""
    draw = random.Random(1)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=7)) for _ in range(20_000)]

    def text(count):
        return " ".join(draw.choices(words, k=count))

    rows, candidate, baseline = [], {}, {}
    for n in range(20_000):
        row = {"id": f"sample-{n}", "question": text(38), "target": text(2)}
        rows.append(row | {"region": "eu" if n % 2 else "us"})
        candidate[row["id"]] = row["target"] if draw.random() < 0.93 else text(12)
        baseline[row["id"]] = row["target"] if draw.random() < 0.93 else text(12)
    return replayed(tmp_path_factory.mktemp("great"), rows, candidate, baseline)


def test_a_page_of_twenty_thousand_samples_is_smaller_than_3_mb(great):
    page = scorecard_page(great)
    assert 1_000_000 < len(page.encode()) < 3_000_000


def test_what_is_looked_for_is_on_the_page_and_the_rest_is_told(great):
    made = samples.section(great)
    text = made.data[samples.PACKED]
    assert MOST_PACKED * 0.9 < len(text) <= MOST_PACKED
    lines = gzip.decompress(base64.b64decode(text)).splitlines()
    shown = {json.loads(line)["i"] for line in lines}
    (states,) = task_states(great)
    worse = {name for name, d in zip(states.ids, states.change_N, strict=True) if d < 0}
    assert worse <= shown and 1000 < len(worse) < len(shown) < 20_000
    assert f"{len(shown):,} of 20,000 samples" in made.body
    assert f"The other {20_000 - len(shown):,} are counted above" in made.body


def states_of(name, classes):
    """A task whose samples are in these classes, by the candidate's state and the change."""
    bits = {"worse": WRONG, "wrong": WRONG, "better": RIGHT, "other": RIGHT}
    change = {"worse": -1, "better": 1}
    ours_N = np.array([bits[each] for each in classes], dtype=np.uint8)
    return TaskStates(
        name,
        "exact_match",
        [f"{name}{n}" for n in range(len(classes))],
        {"candidate": ours_N},
        np.array([change.get(each, 0) for each in classes], dtype=np.int8),
    )


classes = st.lists(st.sampled_from(["worse", "wrong", "better", "other"]), min_size=1, max_size=150)


@given(st.lists(classes, min_size=1, max_size=3), st.integers(1, 300), st.data())
def test_what_a_reader_looks_for_is_preferred(lists, most, data):
    tasks = [states_of(f"t{n}", each) for n, each in enumerate(lists)]
    every = [(task.task, name) for task in tasks for name in task.ids]
    pinned = set(data.draw(st.lists(st.sampled_from(every), max_size=5)))
    ranks = preferred(tasks, pinned, most)
    assert sorted(ranks.values()) == list(range(min(most, len(every))))
    class_of = {
        (task.task, name): CLASSES[c]
        for task in tasks
        for name, c in zip(task.ids, task.class_N.tolist(), strict=True)
    }
    order = sorted(ranks, key=ranks.__getitem__)
    assert set(order[: len(pinned)]) <= pinned
    rest = [place for place in order if place not in pinned]
    seen = Counter()
    early, late = [], []
    for place in rest:
        key = place[0], class_of[place]
        seen[key] += 1
        (early if seen[key] <= FIRST - len(pinned) else late).append(class_of[place])
    assert early == sorted(early, key=CLASSES.index)
    behind = [class_of[place] for place in rest if late and place in rest[-len(late) :]]
    if not pinned:
        assert behind == late == sorted(late, key=CLASSES.index)


def test_samples_shown_are_spread_over_the_data_set():
    """Of one class any first few leave no gap much wider than if they stood at equal distances."""
    task = states_of("t", ["other"] * 10_000)
    for most in (25, 100, 1000):
        rows = sorted(task.ids.index(name) for _, name in preferred([task], (), most))
        gaps = np.diff([0, *rows, 10_000])
        assert gaps.max() <= 3 * 10_000 / most


def test_several_answers_of_which_some_are_right_are_partly_right(tmp_path):
    rows = [{"id": name, "question": "?", "target": "yes", "region": "eu"} for name in "abc"]
    ours = {"a": ["yes", "yes"], "b": ["yes", "no"], "c": ["no", "no"]}
    theirs = {"a": ["yes", "no"], "b": ["yes", "no"], "c": ["no", "yes"]}
    (states,) = task_states(replayed(tmp_path, rows, ours, theirs, replicates=2))
    assert dict(zip(states.ids, states.states["candidate"].tolist(), strict=True)) == {
        "a": RIGHT,
        "b": PARTLY,
        "c": WRONG,
    }
    assert dict(zip(states.ids, states.change_N.tolist(), strict=True)) == {"a": 1, "b": 0, "c": -1}


@pytest.mark.parametrize(
    ("measure", "states"),
    [
        (rate("", column=0), [RIGHT, WRONG, WRONG]),
        (rate("", column=0, better="lower"), [WRONG, RIGHT, RIGHT]),
        (rate("", column=0, over=1), [RIGHT, WRONG, MEASURED]),
    ],
)
def test_right_is_the_better_end_of_a_rate_and_only_where_the_rate_is_over_a_sample(
    measure, states
):
    table = MetricTable(
        task="t",
        metric="m",
        signature="s",
        dataset="d",
        measures=(measure,),
        sample_ids=["a", "b", "c"],
        stats_NK=np.array([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]]),
        binary=True,
        clusters=None,
        attributes={},
        planned={None: 4},
        completed={None: 3},
        missing_ids=["d"],
        missing_completed=[False],
    )
    found = _states("t", {"candidate": [table]})
    assert found.states["candidate"].tolist() == [*states, FAILED]


@given(st.text(), st.integers(1, 30))
def test_a_cut_text_keeps_its_ends_and_counts_what_is_missing(text, most):
    held = cut(text, most)
    if len(text) <= most:
        assert held == text
        return
    head, left_out, tail = held
    assert len(head) + len(tail) == most and len(head) + left_out + len(tail) == len(text)
    assert text.startswith(head) and text.endswith(tail)


@given(st.lists(st.integers(0, 10_000), max_size=30), st.integers(3_000, 20_000))
def test_a_fair_share_keeps_short_texts_whole_and_the_sum_small(lengths, most):
    limit = fair_share(lengths, most)
    assert sum(min(length, limit) for length in lengths) <= most
    if sum(lengths) <= most:
        assert limit >= max(lengths, default=0)
    else:  # nothing more would fit
        assert sum(min(length, limit + 1) for length in lengths) + len(lengths) > most


def row(n, text="answer"):
    answers = [{"text": text, "finish_reason": "stop"}]
    return {"model": "candidate", "task": "t", "id": str(n), "prompt": "?", "answers": answers}


@given(st.permutations(range(40)), st.integers(200, 4_000))
def test_memory_is_bounded_and_holds_the_most_preferred(order, most):
    kept = KeptTexts({("t", str(n)): n for n in range(40)}, most)
    for n in order:
        kept.add(row(n))
        assert sum(each.size for _, each in kept) <= most
    names = [int(place[1]) for place, _ in kept]
    assert names == list(
        range(len(names))
    )  # those preferred, whatever the order in which they came


def test_long_texts_and_many_parts_are_cut_with_their_number():
    messages = [{"role": "user", "content": f"message {n}"} for n in range(100)]
    answers = [{"text": "y" * 5_000_000, "finish_reason": "length"}]
    asked, own = row_texts({"messages": messages, "answers": answers}, 6_000)
    assert asked["m"][-1] == ("user", "message 99") and asked["more"] == {"m": 60}
    head, left_out, tail = own["a"][0]["t"]
    assert len(head) + left_out + len(tail) == 5_000_000 and len(head) + len(tail) < 6_000


@given(st.lists(st.text(alphabet=st.characters(), max_size=50), min_size=1, max_size=30))
def test_what_is_packed_is_what_was_given_lone_surrogates_too(texts):
    kept = KeptTexts({("t", str(n)): n for n in range(len(texts))})
    for n, text in enumerate([*texts[:-1], f"{texts[-1]}\ud800"]):
        kept.add(row(n, text))
    held = packed((place, json.loads(each.own["candidate"])) for place, each in kept)
    lines = gzip.decompress(base64.b64decode(held.text)).decode("utf-8").split("\n")[:-1]
    assert [json.loads(line)["a"][0]["t"] for line in lines] == [*texts[:-1], f"{texts[-1]}\ud800"]
