"""Rows to requests."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.errors import UsageError
from evalkit.planning import MISSING, TaskPlanner
from evalkit.records.exchange import Message, Model
from evalkit.records.suite import SuiteSpec

MODEL = Model("m", "/somewhere", "d" * 64, pinned=True)


def task(**declared):
    declared = {"name": "t", "dataset": {"path": "x.jsonl"}, "kind": "generate", **declared}
    if declared["kind"] == "generate":
        declared.setdefault("metrics", [{"name": "exact_match"}])
        if "messages" not in declared:
            declared.setdefault("prompt", "Q: {{ text }}")
    return SuiteSpec.model_validate({"suite": "s", "version": 1, "tasks": [declared]}).tasks[0]


def plan(spec, rows, model=MODEL, examples=()):
    places = ((f"x.jsonl:{number}", row) for number, row in enumerate(rows, 1))
    return list(TaskPlanner(spec, model, examples).plan(places))


def ids(planned):
    return [request.id for sample in planned for request in sample.requests]


def test_the_same_inputs_give_the_same_requests():
    rows = [{"text": "a"}, {"text": "b"}]
    assert plan(task(), rows) == plan(task(), rows)


def test_an_id_covers_model_prompt_and_decoding():
    rows = [{"text": "a"}]
    other_model = dataclasses.replace(MODEL, digest="e" * 64)
    variants = [
        ids(plan(task(), rows)),
        ids(plan(task(prompt="Q:{{ text }}"), rows)),
        ids(plan(task(decoding={"max_tokens": 5}), rows)),
        ids(plan(task(decoding={"stop": ["\n"]}), rows)),
        ids(plan(task(messages=[{"role": "user", "content": "Q: {{ text }}"}]), rows)),
        ids(plan(task(), rows, other_model)),
    ]
    assert len({v[0] for v in variants}) == len(variants)


def test_an_id_covers_neither_name_nor_place_of_model_sample_and_task():
    here = ids(plan(task(), [{"text": "a", "id": "1"}]))
    moved = dataclasses.replace(MODEL, name="other", location="/elsewhere")
    there = ids(plan(task(name="u"), [{"text": "z", "id": "0"}, {"text": "a", "id": "2"}], moved))
    assert here[0] == there[1]


@given(st.text(), st.text())
def test_different_prompts_never_share_an_id(first, second):
    rows = [{"text": first}, {"text": second}]
    one, other = ids(plan(task(), rows))
    assert (one == other) == (first == second)


@given(st.text(max_size=3), st.text(max_size=3), st.text(max_size=3), st.text(max_size=3))
def test_the_border_between_prompt_and_choice_is_part_of_the_id(
    prompt, choice, other_prompt, other_choice
):
    spec = task(kind="multiple_choice", prompt="{{ p }}", choices="c", target="0", delimiter="")
    rows = [
        {"p": prompt, "c": [choice + "x", "y"]},
        {"p": other_prompt, "c": [other_choice + "x", "y"]},
    ]
    first, second = (sample.requests[0].id for sample in plan(spec, rows))
    assert (first == second) == ((prompt, choice) == (other_prompt, other_choice))


def test_sampled_answers_have_seeds_of_their_own_and_greedy_ones_have_none():
    rows = [{"text": "a", "id": "1"}, {"text": "a", "id": "2"}]
    sampled = plan(task(decoding={"temperature": 1, "replicates": 3}), rows)
    seeds = [request.decoding.seed for sample in sampled for request in sample.requests]
    assert len(set(seeds)) == 6
    assert len(set(ids(sampled))) == 6
    greedy = plan(task(), rows)
    assert [r.decoding.seed for s in greedy for r in s.requests] == [None, None]
    assert len(set(ids(greedy))) == 1, "the same greedy question is asked once"


def test_recorded_answers_belong_to_their_samples():
    recorded = dataclasses.replace(MODEL, per_sample=True)
    assert len(set(ids(plan(task(), [{"text": "a"}, {"text": "a"}], recorded)))) == 2


def test_a_row_that_a_template_cannot_render_is_a_problem_with_its_place():
    planned = plan(task(), [{"text": "a"}, {"other": 1}])
    assert planned[0].problem == ""
    assert planned[1].problem.startswith("x.jsonl:2: ")
    assert "text" in planned[1].problem
    assert planned[1].requests == ()


def test_templates_cannot_reach_into_python():
    spec = task(prompt="{{ ''.__class__.__mro__ }}")
    assert "unsafe" in plan(spec, [{}])[0].problem


def test_structures_are_rendered_as_json_and_null_is_refused():
    spec = task(prompt="{{ value }}")
    rendered = [
        p.requests[0].prompt if p.requests else p.problem
        for p in plan(
            spec, [{"value": {"b": [True, 1.5], "a": None}}, {"value": False}, {"value": None}]
        )
    ]
    assert rendered[0] == '{"a":null,"b":[true,1.5]}'
    assert rendered[1] == "false"
    assert "null" in rendered[2]


def test_a_missing_or_repeated_identifier_is_a_usage_error_with_its_place():
    with pytest.raises(UsageError, match=r"x\.jsonl:2.*used twice"):
        plan(task(), [{"text": "a", "id": "1"}, {"text": "b", "id": "1"}])
    with pytest.raises(UsageError, match=r"x\.jsonl:2.*no identifier"):
        plan(task(), [{"text": "a", "id": "1"}, {"text": "b"}])


def test_samples_without_an_id_field_are_numbered():
    assert [p.sample.id for p in plan(task(), [{"text": "a"}, {"text": "b"}])] == ["0", "1"]


def test_a_missing_slice_field_is_a_slice_of_its_own():
    planned = plan(
        task(slices=["region"]),
        [{"text": "a", "region": "n"}, {"text": "b"}, {"text": "c", "region": 4}],
    )
    assert [p.sample.attributes["region"] for p in planned] == ["n", MISSING, "4"]


def test_several_targets_come_from_templates_or_from_a_list_field():
    row = {"text": "a", "x": "1", "all": ["2", "3"]}
    assert plan(task(target=["{{ x }}", "z"]), [row])[0].sample.targets == ("1", "z")
    assert plan(task(targets="all"), [row])[0].sample.targets == ("2", "3")


def test_few_shot_examples_stand_before_every_prompt():
    shots = {"dataset": {"path": "y.jsonl"}, "count": 2, "separator": "\n"}
    spec = task(target="{{ y }}", fewshot=shots)
    planned = plan(
        spec, [{"text": "c", "y": "3"}], examples=[{"text": "a", "y": "1"}, {"text": "b", "y": "2"}]
    )
    assert planned[0].requests[0].prompt == "Q: a 1\nQ: b 2\nQ: c"


def test_few_shot_examples_become_turns_of_a_chat():
    shots = {"dataset": {"path": "y.jsonl"}, "count": 1}
    spec = task(
        messages=[{"role": "user", "content": "{{ text }}"}], target="{{ y }}", fewshot=shots
    )
    planned = plan(spec, [{"text": "c", "y": "3"}], examples=[{"text": "a", "y": "1"}])
    assert planned[0].requests[0].messages == (
        Message("user", "a"),
        Message("assistant", "1"),
        Message("user", "c"),
    )


def test_the_right_choice_is_found_by_text_or_by_number():
    spec = task(kind="multiple_choice", prompt="{{ q }}", choices="c", target="{{ t }}")
    rows = [
        {"q": "?", "c": ["x", "y"], "t": 1},
        {"q": "?", "c": ["x", "y"], "t": "x"},
        {"q": "?", "c": ["1", "0"], "t": "1"},
        {"q": "?", "c": ["x", "y"], "t": 2},
        {"q": "?", "c": ["x"], "t": 0},
    ]
    planned = plan(spec, rows)
    assert [p.sample.targets for p in planned[:3]] == [("1",), ("0",), ("0",)]
    assert "neither a choice" in planned[3].problem
    assert "two choices" in planned[4].problem
    assert [r.continuation for r in planned[0].requests] == [" x", " y"]


def test_a_text_for_perplexity_is_one_request_with_its_window():
    spec = task(kind="perplexity", text="{{ text }}", max_length=16, context=4)
    sample = plan(spec, [{"text": "some words"}])[0]
    assert sample.sample.targets == ("some words",)
    assert (sample.requests[0].kind, sample.requests[0].window.max_length) == ("rolling", 16)
