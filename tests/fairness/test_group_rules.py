"""What a task with groups gives by name, and rules and waivers on it, checked before anything is run."""

from __future__ import annotations

import json
import re
from datetime import date, timedelta
from pathlib import Path

import pytest

from evalkit.errors import UsageError
from evalkit.fairness import gap_names, group_names
from evalkit.gates.evaluate import matching, may_match_slice
from evalkit.gates.stopping import why_not_sequential
from evalkit.loaders.gates import load_gate
from evalkit.loaders.suite_metrics import build_metric
from evalkit.loaders.suites import check_gates_against_suite, load_suite
from evalkit.metrics.base import Metric
from evalkit.planning.planner import attributes_of
from evalkit.records.suite import GenerateTask

SUITE = """
suite: people
version: 1
tasks:
  - name: decide
    dataset: {path: people.jsonl}
    prompt: "{{ text }}"
    target: "{{ label }}"
    slices: [region]
    groups: {by: [sex, [sex, age]]}
    stop: early
    metrics:
      - exact_match
      - decisions: {positive: ["yes"], negative: ["no"]}
"""
TOMORROW = date.today() + timedelta(days=1)


@pytest.fixture
def suite(tmp_path):
    (tmp_path / "people.jsonl").write_text(json.dumps({"text": "?", "label": "yes"}) + "\n")
    (tmp_path / "suite.yaml").write_text(SUITE)
    return load_suite(tmp_path / "suite.yaml").spec


def problems(suite, tmp_path, *rules, waivers=""):
    lines = "".join(f"  - {{id: r{n}, {rule}}}\n" for n, rule in enumerate(rules))
    (tmp_path / "gate.yaml").write_text(f"gate: g\nrules:\n{lines}{waivers}")
    return [str(p) for p in check_gates_against_suite(suite, [load_gate(tmp_path / "gate.yaml")])]


@pytest.mark.parametrize(
    "estimate",
    [
        "decide/exact_match@sex=F",
        "decide/exact_match@sex+age=*",
        "decide/exact_match.unscored@sex=*",
    ],
)
def test_numbers_of_each_group_are_known_as_those_of_a_slice(suite, tmp_path, estimate):
    assert not problems(suite, tmp_path, f"estimate: {estimate}, require: at_most, value: 1")


@pytest.mark.parametrize(
    "estimate",
    [
        "decide/exact_match.gap@sex",
        "decide/exact_match.unscored.gap@sex+age",
        "decide/decisions.equalized_odds_ratio@*",
        "decide/*@sex",
    ],
)
def test_gaps_are_known_by_their_field_without_a_value(suite, tmp_path, estimate):
    assert not problems(suite, tmp_path, f"estimate: {estimate}, require: gap_at_most, value: 0.1")


@pytest.mark.parametrize(
    ("estimate", "told"),
    [
        ("decide/exact_match.gapp@sex", "did you mean 'decide/exact_match.gap@sex'?"),
        (
            "decide/exact_match.gap",
            "'decide/exact_match.gap' is a gap between groups, named by their field without a value",
        ),
        (
            "decide/exact_match.gap@sex=F",
            "named by their field without a value; did you mean 'decide/exact_match.gap@sex'?; allowed: @sex, @sex+age",
        ),
        (
            "decide/exact_match.gap@sexx",
            "is not compared by 'sexx'; did you mean 'decide/exact_match.gap@sex'?",
        ),
        ("decide/exact_match.gap@region", "is not compared by 'region'"),
        (
            "decide/exact_match.gap@age+sex",
            "is not compared by 'age+sex'; did you mean 'decide/exact_match.gap@sex+age'?",
        ),
        ("decide/exact_match@age+sex=*", "did you mean 'decide/exact_match@sex+age=*'?"),
        (
            "decide/exact_match@sex",
            "'decide/exact_match' is a number of each group and no gap between them; did you mean "
            "'decide/exact_match@sex=*'?",
        ),
        (
            "decide/exact_match.unscored",
            "'decide/exact_match.unscored' is given of each group alone; did you mean "
            "'decide/exact_match.unscored@sex=*'?",
        ),
    ],
)
def test_what_names_no_gap_is_told_with_what_was_meant(suite, tmp_path, estimate, told):
    (problem,) = problems(suite, tmp_path, f"estimate: {estimate}, require: at_most, value: 1")
    assert told in problem
    assert "rules[0].estimate" in problem


def test_gap_at_most_is_refused_on_what_is_no_gap(suite, tmp_path):
    (problem,) = problems(
        suite, tmp_path, "estimate: decide/exact_match@sex=*, require: gap_at_most, value: 0.1"
    )
    assert "gap_at_most reads gaps between groups, and 'decide/exact_match' is none" in problem
    assert "decide/decisions.equal_opportunity_difference" in problem


def test_gap_at_most_on_a_number_that_has_a_gap_is_told_its_name(suite, tmp_path):
    (problem,) = problems(
        suite, tmp_path, "estimate: decide/exact_match, require: gap_at_most, value: 0.1"
    )
    assert "did you mean 'decide/exact_match.gap@sex'?" in problem


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("require: keeps", "rules[0].require: keeps counts single samples"),
        ("require: max_flips, value: 0.1", "rules[0].require: max_flips counts single samples"),
        ("require: recovers, share: 0.9", "rules[0].require: "),
        ("require: no_worse_than, margin: 0.1, relative: true", "rules[0].relative: "),
    ],
)
def test_a_condition_that_never_decides_on_a_gap_is_refused(suite, tmp_path, rule, told):
    (problem,) = problems(suite, tmp_path, f"estimate: decide/exact_match.gap@sex, {rule}")
    assert told in problem
    assert "'decide/exact_match.gap' is a gap between groups" in problem
    assert not problems(suite, tmp_path, f"estimate: decide/exact_match, {rule}")


def test_a_gap_has_no_exact_interval(suite, tmp_path):
    rule = "estimate: decide/exact_match.gap@sex, require: at_most, value: 0.1, exact: true"
    (problem,) = problems(suite, tmp_path, rule)
    assert "'decide/exact_match.gap' is a gap between groups and has no exact interval" in problem


def test_the_change_of_a_ratio_is_refused_with_the_difference_to_name(suite, tmp_path):
    rule = (
        "estimate: decide/decisions.equalized_odds_ratio@sex, require: no_worse_than, margin: 0.1"
    )
    (problem,) = problems(suite, tmp_path, rule)
    assert "is a ratio, and the change of a ratio is not given" in problem


@pytest.mark.parametrize(
    ("name", "tolerate", "told"),
    [
        ("equalized_odds_difference", 0.05, "at least 0.1, the rule's 'value'"),
        ("equalized_odds_ratio", 0.2, "at most 0.1, the rule's 'value'"),
    ],
)
def test_what_may_remain_possible_lies_beyond_what_is_allowed(
    suite, tmp_path, name, tolerate, told
):
    rule = f"estimate: decide/decisions.{name}@sex, require: gap_at_most, value: 0.1, tolerate: {tolerate}"
    (problem,) = problems(suite, tmp_path, rule)
    assert told in problem


def test_no_blocking_rule_may_rest_on_an_advisory_metric(suite, tmp_path, monkeypatch):
    monkeypatch.setattr(Metric, "advisory", "it is an unvalidated heuristic")
    rule = "estimate: decide/exact_match.gap@sex, require: at_most, value: 0.1"
    (problem,) = problems(suite, tmp_path, rule)
    assert "no blocking rule may rest on 'decide/exact_match.gap': it is an unvalidated" in problem
    assert not problems(suite, tmp_path, f"{rule}, severity: warn")


def test_a_waiver_of_a_gap_names_its_field_without_a_value(suite, tmp_path):
    rule = "estimate: decide/exact_match.gap@*, require: gap_at_most, value: 0.1"

    def waiver(slice_):
        told = f"owner: A, reason: B, expires: {TOMORROW}"
        return f"waivers:\n  - {{rule: r0, slice: {slice_}, {told}}}\n"

    assert not problems(suite, tmp_path, rule, waivers=waiver("sex"))
    (problem,) = problems(suite, tmp_path, rule, waivers=waiver("sec"))
    assert "is not compared by 'sec'; did you mean 'sex'?" in problem


def test_a_slice_pattern_and_a_gap_never_match_one_another():
    names = ["t/m@sex=F", "t/m@sex", "t/m@sex+age"]
    assert matching("t/m@sex=*", names) == ["t/m@sex=F"]
    assert matching("t/m@sex", names) == ["t/m@sex"]
    assert not may_match_slice("sex", "sex")


def test_the_names_are_those_that_the_metrics_give(suite):
    (task,) = suite.sampled
    metrics = [build_metric(spec, task) for spec in task.metrics]
    assert set(group_names(task, metrics)) == {
        "decide/exact_match.unscored",
        "decide/decisions.unscored",
    }
    named = gap_names(task, metrics)
    assert "decide/exact_match.gap" in named
    assert named["decide/decisions.equal_opportunity_ratio"].form == "ratio"
    bare = task.model_copy(update={"groups": None})
    assert not gap_names(bare, metrics)


def test_a_rule_on_a_gap_makes_a_task_run_in_full_and_says_why(suite, tmp_path):
    (task,) = suite.sampled
    metrics = [build_metric(spec, task) for spec in task.metrics]

    def why(estimate, require):
        rule = f"  - {{id: fair, estimate: {estimate}, require: {require}}}\n"
        (tmp_path / "gate.yaml").write_text(f"gate: g\nrules:\n{rule}")
        return why_not_sequential([load_gate(tmp_path / "gate.yaml")], task, metrics)

    assert why("decide/exact_match@sex=*", "at_least, value: 0.5") == ""
    assert why("decide/exact_match.gap@sex", "gap_at_most, value: 0.1") == (
        "rule 'fair' reads decide/exact_match.gap, which compares groups, and for that no interval holds at any look"
    )
    assert "compares groups" in why("decide/decisions.unscored@sex=*", "at_most, value: 0.1")


@pytest.mark.parametrize("field", ["a+b", "a=b", "a@b", "a*", ""])
def test_a_field_that_rules_could_not_name_is_refused(tmp_path, field):
    (tmp_path / "people.jsonl").write_text('{"text": "?", "label": "yes"}\n')
    text = SUITE.replace("[sex, [sex, age]]", json.dumps([field]))
    (tmp_path / "suite.yaml").write_text(text)
    with pytest.raises(UsageError) as caught:
        load_suite(tmp_path / "suite.yaml")
    assert f"the field {field!r} cannot name groups: rules write @field=value" in str(caught.value)


def test_an_intersection_keeps_apart_what_would_read_alike():
    task = GenerateTask.model_validate(
        {
            "name": "t",
            "dataset": {"path": "x.jsonl"},
            "prompt": "?",
            "groups": {"by": [["a", "b"]]},
            "metrics": [{"name": "exact_match"}],
        }
    )
    one = attributes_of({"a": "x+y", "b": "z"}, task)
    other = attributes_of({"a": "x", "b": "y+z"}, task)
    assert one == {"a+b": "x\\+y+z"}
    assert one != other
    assert attributes_of({"a": "x"}, task) == {"a+b": "(missing)"}
    assert attributes_of({"a": "x", "b": 1}, task) == {"a+b": "x+1"}


def test_the_suite_and_the_gate_of_the_page_on_fairness_fit_one_another(tmp_path):
    page = Path(__file__).parents[2] / "gates" / "FAIRNESS.md"
    suite, gate = re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "applications.jsonl").write_text('{"id": "a", "text": "He asks."}\n')
    (tmp_path / "suite.yaml").write_text(suite)
    (tmp_path / "gate.yaml").write_text(gate)
    spec = load_suite(tmp_path / "suite.yaml").spec
    loaded = load_gate(tmp_path / "gate.yaml")
    assert len(loaded.rules) >= 7
    assert check_gates_against_suite(spec, [loaded]) == []
