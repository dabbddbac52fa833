"""Tasks that ask the same about one group and about another: rows to requests, and what a report keeps of them."""

from __future__ import annotations

import dataclasses

import pytest

from evalkit.errors import UsageError
from evalkit.loaders.suite_metrics import build_metric
from evalkit.planning import TaskPlanner, needs_of, replicates_of
from evalkit.records.exchange import Completion, Failure, Model
from evalkit.records.suite import SuiteSpec
from evalkit.scoring import TaskScorer

MODEL = Model("m", "/somewhere", "d" * 64, pinned=True)
RECORDED = dataclasses.replace(MODEL, per_sample=True)
ROW = {"text": "Rosa is from district Elm.", "id": "1"}
SWAP = {"fields": ["text"], "groups": {"Oak": ["Oak"], "Elm": ["Elm"]}}
DRAWN = {"repeats": 2, "decoding": {"temperature": 1, "max_tokens": 4}}


def task(**declared):
    declared = {
        "name": "t",
        "dataset": {"path": "x.jsonl"},
        "kind": "counterfactual",
        "metrics": [{"name": "flips"}],
        **declared,
    }
    if "messages" not in declared:
        declared.setdefault("prompt", "Applicant: {{ text }}\nApprove:")
    if "variants" not in declared:
        declared.setdefault("swap", SWAP)
    return SuiteSpec.model_validate({"suite": "s", "version": 1, "tasks": [declared]}).tasks[0]


def plan(spec, rows, model=MODEL):
    return list(
        TaskPlanner(spec, model).plan((f"x.jsonl:{n}", row) for n, row in enumerate(rows, 1))
    )


def asked(spec, row=ROW, model=MODEL):
    (planned,) = plan(spec, [row], model)
    assert planned.problem == ""
    return planned


# --- requests -----------------------------------------------------------------------------------


def test_a_sample_with_all_its_variants_is_one_replicate():
    planned = asked(task(**DRAWN))
    assert planned.sample.variants == ("Oak", "Elm")
    assert planned.sample.fields == ROW
    assert len(planned.requests) == planned.per_replicate == 4
    assert replicates_of(task(**DRAWN)) == 1


def test_requests_go_variant_by_variant_and_within_one_repeat_by_repeat():
    planned = asked(task(**DRAWN))
    districts = [request.prompt[-13:-10] for request in planned.requests]
    assert districts == ["Oak", "Oak", "Elm", "Elm"]
    assert [request.replicate for request in planned.requests] == [0, 1, 2, 3]
    assert len({request.decoding.seed for request in planned.requests}) == 4
    assert len({request.id for request in planned.requests}) == 4


def test_a_seed_depends_on_sample_variant_and_repeat_and_on_nothing_else():
    again = asked(task(**DRAWN, name="u"), {**ROW, "text": "Sven, district Oak"})
    here = [request.decoding.seed for request in asked(task(**DRAWN)).requests]
    assert [request.decoding.seed for request in again.requests] == here
    other = [r.decoding.seed for r in asked(task(**DRAWN), {**ROW, "id": "2"}).requests]
    assert not set(here) & set(other)


def test_greedy_answers_have_no_seed_and_share_their_ids_with_generating_tasks():
    planned = asked(task())
    assert [request.decoding.seed for request in planned.requests] == [None, None]
    generate = {
        "name": "g",
        "kind": "generate",
        "dataset": {"path": "x.jsonl"},
        "prompt": "Applicant: {{ text }}\nApprove:",
        "metrics": [{"name": "exact_match"}],
    }
    plain = SuiteSpec.model_validate({"suite": "s", "version": 1, "tasks": [generate]}).tasks[0]
    (same,) = asked(plain).requests
    assert same.id == planned.requests[1].id


def test_choices_are_asked_after_each_variant():
    spec = task(choices=["yes", "no"], target="no")
    planned = asked(spec)
    assert planned.sample.choices == ("yes", "no")
    assert planned.sample.targets == ("1",)
    assert [(r.prompt[-13:-10], r.continuation) for r in planned.requests] == [
        ("Oak", " yes"), ("Oak", " no"), ("Elm", " yes"), ("Elm", " no"),
    ]  # fmt: skip
    assert {r.kind for r in planned.requests} == {"loglikelihood"}


def test_choices_may_stand_in_a_field_and_name_the_right_one_by_number():
    planned = asked(task(choices="options", target="0"), {**ROW, "options": ["a", "b", "c"]})
    assert planned.sample.choices == ("a", "b", "c")
    assert planned.sample.targets == ("0",)
    assert len(planned.requests) == 6


def test_recorded_answers_are_numbered_in_the_order_of_the_requests():
    written = asked(task(**DRAWN), model=RECORDED).requests
    scored = asked(task(choices=["yes", "no"]), model=RECORDED).requests
    assert [r.replicate for r in written] == [0, 1, 2, 3]
    assert [r.replicate for r in scored] == [0, 0, 1, 1]
    assert len({r.id for r in (*written, *scored)}) == 8


def test_messages_are_told_about_each_group():
    spec = task(messages=[{"role": "user", "content": "{{ text }}"}])
    said = [request.messages[0].content for request in asked(spec).requests]
    assert said == ["Rosa is from district Oak.", "Rosa is from district Elm."]


def test_variants_of_a_rows_own_fill_its_fields():
    spec = task(
        prompt="{{ story }}", variants={"as_is": {}, "other": {"story": "{{ told_again }}"}}
    )
    planned = asked(spec, {"story": "A", "told_again": "B"})
    assert planned.sample.variants == ("as_is", "other")
    assert [request.prompt for request in planned.requests] == ["A", "B"]


def test_the_shipped_mapping_names_the_variants():
    spec = task(swap={"fields": ["text"], "using": "gender"})
    planned = asked(spec, {"text": "She repaid her loan."})
    assert planned.sample.variants == ("male", "female")
    assert "He repaid his loan." in planned.requests[0].prompt


@pytest.mark.parametrize(
    ("declared", "needs"),
    [
        ({}, {"text"}),
        ({"messages": [{"role": "user", "content": "{{ text }}"}]}, {"chat"}),
        ({"choices": ["a", "b"]}, {"logprobs"}),
    ],
)
def test_what_a_task_needs_of_a_backend_follows_from_how_it_asks(declared, needs):
    assert needs_of(task(**declared)) == needs


# --- rows that measure nothing ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "row", "told"),
    [
        ({}, {"text": "Rosa lives in town."}, "nothing to swap: no word of 'groups' (Oak, Elm)"),
        ({}, {"other": "x"}, "no field 'text'"),
        ({"prompt": "{{ id }}"}, ROW, "'Oak' and 'Elm' ask the same"),
        ({"choices": ["yes"]}, ROW, "at least two choices"),
        ({"choices": ["yes", "no"], "target": "maybe"}, ROW, "neither a choice"),
        ({"prompt": "{{ nothing }}"}, ROW, "nothing"),
        (
            {"variants": {"a": {}, "b": {"x": "1"}}},
            ROW,
            "'a' and 'b' ask the same",
        ),
    ],
)
def test_a_row_whose_variants_cannot_differ_is_a_bad_sample_with_its_reason(declared, row, told):
    (planned,) = plan(task(**declared), [row])
    assert planned.requests == ()
    assert planned.problem.startswith("x.jsonl:1: ")
    assert told in planned.problem
    scorer = scorer_of(task(**declared))
    assert scorer.add(planned, [])["failed"]["kind"] == "bad_sample"
    assert scorer.tally().failures == {"bad_sample": 1}


def test_a_swap_that_cannot_be_used_is_the_users_mistake():
    swap = {"fields": ["text"], "groups": {"a": ["sir"], "b": ["sir"]}}
    with pytest.raises(UsageError, match="task 't': swap: 'sir' is listed"):
        plan(task(swap=swap), [])


# --- what a report keeps ------------------------------------------------------------------------


def scorer_of(spec):
    metrics = [build_metric(metric, spec) for metric in spec.metrics]
    return TaskScorer(spec, metrics, "candidate", "data", "signed")


def test_a_row_of_the_samples_file_shows_each_variants_prompt_and_whose_answer_is_whose():
    spec = task(**DRAWN)
    planned = asked(spec)
    texts = ("yes", "no", "no", "no")
    answers = [
        Completion(request.id, text, "stop")
        for request, text in zip(planned.requests, texts, strict=True)
    ]
    scorer = scorer_of(spec)
    row = scorer.add(planned, answers)
    assert [(a["variant"], a["text"]) for a in row["answers"]] == [
        ("Oak", "yes"), ("Oak", "no"), ("Elm", "no"), ("Elm", "no"),
    ]  # fmt: skip
    assert row["variants"]["Oak"]["prompt"] == "Applicant: Rosa is from district Oak.\nApprove:"
    assert row["variants"]["Elm"]["prompt"] == "Applicant: Rosa is from district Elm.\nApprove:"
    assert scorer.tally().finish_reasons == {"stop": 4}
    assert scorer.tally().requests == 4


def test_one_failed_variant_fails_its_row():
    spec = task()
    planned = asked(spec)
    outcomes = [
        Completion(planned.requests[0].id, "yes", "stop"),
        Failure(planned.requests[1].id, "server_error", "down", 3),
    ]
    row = scorer_of(spec).add(planned, outcomes)
    assert row["failed"]["kind"] == "server_error"
    assert row["answers"][1] == {"variant": "Elm", "failed": "server_error"}
