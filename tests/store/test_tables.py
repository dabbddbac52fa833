"""A run's samples read back are the very tables that the run measured."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.compare import compare_tables
from evalkit.errors import UsageError
from evalkit.estimating import estimate_tables
from evalkit.metrics.base import Metric, corpus, mean, rate, ratio
from evalkit.planning import PlannedSample
from evalkit.records.exchange import Completion, Failure, Request, Sample, Score, Unscored
from evalkit.records.suite import SuiteSpec
from evalkit.scoring import TaskScorer
from evalkit.store.runs import RunFolder
from evalkit.store.tables import MeasuredTask, read_rows, rebuild_tables


class Told(Metric):
    """Scores what the answer says: two numbers, or a reason for none."""

    columns = ("right", "weight")
    measures = (
        rate("", column=0),
        mean("weight", column=1),
        corpus("share", lambda sums, n: ratio(sums[..., 0], sums[..., 1]), unit="fraction"),
    )

    def score(self, sample, completions):
        told = json.loads(completions[0].text)
        if isinstance(told, str):
            return Unscored(told, "a note")
        return Score(tuple(told), "a note" if told[0] else "")


class Length(Metric):
    columns = ("length",)
    measures = (mean("", column=0, unit="characters"),)

    def score(self, sample, completions):
        return Score((len(completions[0].text),))  # an integer: a plug-in may give one


METRICS = (Told("told", Told.Options()), Length("length", Length.Options()))


def task(**declared):
    suite = {
        "suite": "s",
        "version": 1,
        "tasks": [
            {
                "kind": "generate",
                "name": "t",
                "dataset": {"path": "x"},
                "prompt": "{{ text }}",
                "metrics": [{"name": "told"}, {"name": "length"}],
                "slices": ["kind", "size"],
                "cluster": "customer",
                **declared,
            }
        ],
    }
    return SuiteSpec.model_validate(suite).tasks[0]


finite = st.floats(allow_nan=False, allow_infinity=False)
answers = st.one_of(
    st.tuples(st.sampled_from([0.0, 1.0]), finite).map(list),
    st.sampled_from(["no target", "\ud800"]),
    st.none(),  # no answer: the request failed
)
any_text = st.text(st.characters(codec=None, exclude_categories=()), max_size=6)
samples = st.lists(
    st.tuples(
        any_text,  # id
        st.sampled_from(["a", "b=c", "\ud800"]),  # kind
        st.sampled_from(["1", "2"]),  # size
        any_text,  # customer
        st.lists(answers, min_size=2, max_size=2),
        st.booleans(),  # whether the sample could be asked at all
    ),
    max_size=8,
    unique_by=lambda sample: sample[0],
)


def planned(name, kind, size, customer, told, asked, replicates):
    sample = Sample(
        id=name,
        index=0,
        fields={},
        targets=("x",),
        choices=(),
        attributes={"kind": kind, "size": size},
        cluster=customer,
    )
    if not asked:
        return PlannedSample(sample, (), 1, "it could not be rendered"), []
    requests = tuple(
        Request(id=f"{name}{n}", sample_id=name, task="t", kind="generate", prompt="p")
        for n in range(replicates)
    )
    outcomes = [
        Failure(request.id, "timeout", "too late", 3)
        if answer is None
        else Completion(request.id, json.dumps(answer), "stop")
        for request, answer in zip(requests, told, strict=False)
    ]
    return PlannedSample(sample, requests, 1), outcomes


def measured(folder, spec, rows, replicates, role="candidate"):
    """Tables as a run makes them, their rows written as a run writes them, and what reading these back gives."""
    anytime = spec.stop == "early"
    scorer = TaskScorer(spec, METRICS, role, "data", "task:0123", anytime=anytime)
    with folder.write_samples() as write:
        for row in rows:
            write(scorer.add(*planned(*row, replicates)))
    tables = scorer.tables()
    signatures = {table.metric: table.signature for table in tables}
    recorded = MeasuredTask(role, spec, METRICS, "data", signatures, anytime)
    back = rebuild_tables(read_rows(folder.path, folder.samples_digest), [recorded])
    return tables, back[role]


def assert_equal(one, two):
    assert (one.stats_NK.dtype, one.stats_NK.shape) == (two.stats_NK.dtype, two.stats_NK.shape)
    assert one.stats_NK.tobytes() == two.stats_NK.tobytes(), "every bit of every statistic"
    for held in dataclasses.fields(one):
        if held.name != "stats_NK":
            assert getattr(one, held.name) == getattr(two, held.name), held.name
    assert list(one.planned) == list(two.planned), "slices keep their order"


@given(samples, st.sampled_from([1, 2]), st.sampled_from(["full", "early"]))
def test_rebuilt_tables_are_the_measured_ones_whatever_was_answered(
    tmp_path_factory, rows, replicates, stop
):
    decoding = {"temperature": 1.0, "replicates": replicates}
    spec = task(decoding=decoding, stop=stop)
    with RunFolder.create(tmp_path_factory.mktemp("runs"), "a") as folder:
        tables, back = measured(folder, spec, rows, replicates)
    assert len(back) == len(tables) == 2
    for one, two in zip(tables, back, strict=True):
        assert_equal(one, two)
        assert two.anytime == (stop == "early")


@settings(max_examples=25)
@given(samples, samples)
def test_estimates_and_comparisons_from_rebuilt_tables_are_the_same(tmp_path_factory, ours, theirs):
    out = tmp_path_factory.mktemp("runs")
    spec = task()
    with RunFolder.create(out, "a") as folder:
        candidate, candidate_back = measured(folder, spec, _small(ours), 1)
    with RunFolder.create(out, "b") as folder:
        baseline, baseline_back = measured(folder, spec, _small(theirs), 1, "baseline")
    once = {"candidate": candidate, "baseline": baseline}
    again = {"candidate": candidate_back, "baseline": baseline_back}
    assert list(estimate_tables(once, 7, 0.9)) == list(estimate_tables(again, 7, 0.9))
    assert compare_tables(once, 7, 0.9) == compare_tables(again, 7, 0.9)


def _small(rows):
    """Weights that statistics can hold, without overflow."""
    bounded = []
    for *head, told, asked in rows:
        weights = [
            [t[0], float(np.clip(t[1], -1e6, 1e6))] if isinstance(t, list) else t for t in told
        ]
        bounded.append((*head, weights, asked))
    return bounded


def written(folder, rows):
    with folder, folder.write_samples() as write:
        for row in rows:
            write(row)
    return folder


def row(**changes):
    scores = {"told": {"right": 1.0, "weight": 2.0}, "length": {"length": 3}}
    held = {"model": "candidate", "task": "t", "id": "1", "slices": {"kind": "a", "size": "1"}}
    return {**held, "cluster": "c", "answers": [], "scores": scores, **changes}


def test_rows_that_were_changed_are_refused_before_the_first_is_given(tmp_path):
    folder = written(RunFolder.create(tmp_path, "a"), [row(), row(id="2")])
    file = folder.path / "samples.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"right":1.0', b'"right":0.0', 1))
    with pytest.raises(UsageError, match="changed after the run"):
        next(read_rows(folder.path, folder.samples_digest))


def test_rows_that_were_removed_are_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        next(read_rows(tmp_path, "0" * 64))


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "another"},
        {"model": "baseline"},
        {"slices": {"kind": "a"}},
        {"scores": {"told": {"right": 1.0, "weight": 2.0}}},
        {"scores": {"told": {"right": 1.0, "mass": 2.0}, "length": {"length": 3}}},
        {"scores": {"told": {"right": "yes", "weight": 2.0}, "length": {"length": 3}}},
    ],
)
def test_a_row_that_does_not_fit_its_task_is_told_by_its_line(changes):
    spec = task()
    recorded = MeasuredTask("candidate", spec, METRICS, "data", {}, anytime=False)
    with pytest.raises(UsageError, match="does not fit") as error:
        rebuild_tables([row(), row(id="2", **changes)], [recorded])
    assert error.value.problems[0].line == 2


def test_tables_come_in_the_order_of_the_run_whatever_the_order_of_the_rows():
    spec, other = task(), task(name="u")
    recorded = [
        MeasuredTask(role, each, METRICS, "data", {}, anytime=False)
        for role in ("candidate", "baseline")
        for each in (spec, other)
    ]
    rows = [row(task=name, model=model) for name in "ut" for model in ("baseline", "candidate")]
    tables = rebuild_tables(rows, recorded)
    assert list(tables) == ["candidate", "baseline"]
    for held in tables.values():
        assert [(t.task, t.metric) for t in held] == [
            ("t", "told"),
            ("t", "length"),
            ("u", "told"),
            ("u", "length"),
        ]
