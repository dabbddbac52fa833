"""The published JSON Schemas say the same as the loaders."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from loader_goldens import assert_golden

from evalkit.errors import UsageError
from evalkit.loaders.gates import load_gate
from evalkit.loaders.schemas import gate_schema, scorecard_schema, suite_schema, verdict_schema
from evalkit.loaders.suites import load_suite
from evalkit.loaders.yaml_source import read_yaml
from evalkit.records.scorecard import (
    Circumstances,
    Counts,
    Estimate,
    Interval,
    ModelRecord,
    Provenance,
    Scorecard,
)
from evalkit.records.verdict import Outcome, Verdict
from evalkit.registry import parts

SCHEMAS = {
    "suites/suite.schema.json": suite_schema,
    "gates/gate.schema.json": gate_schema,
    "reports/scorecard.schema.json": scorecard_schema,
    "reports/verdict.schema.json": verdict_schema,
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_itself_valid_and_says_what_it_is_for(name):
    schema = SCHEMAS[name]()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"].startswith("evalkit ")
    assert schema["description"]
    assert "$id" not in json.dumps(schema)


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_published_schema_is_current(root, name):
    text = json.dumps(SCHEMAS[name](), indent=2, ensure_ascii=False) + "\n"
    assert_golden(root / name, text)


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_key_is_described(name):
    def keys(schema):
        yield from schema.get("properties", {}).items()
        for part in (*schema.get("$defs", {}).values(), *schema.get("properties", {}).values()):
            yield from keys(part)

    for key, inner in keys(SCHEMAS[name]()):
        assert inner.get("description") or "$ref" in inner or key in ("kind", *parts("metric")), key


@pytest.fixture
def suite_errors():
    validator = jsonschema.Draft202012Validator(suite_schema())
    return lambda value: sorted(error.message for error in validator.iter_errors(value))


@pytest.fixture
def gate_errors():
    validator = jsonschema.Draft202012Validator(gate_schema())
    return lambda value: sorted(error.message for error in validator.iter_errors(value))


# --- suites ----------------------------------------------------------------------------------------------------


def suite_of(tmp_path: Path, task: str, head: str = "") -> Path:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    (tmp_path / "schema.json").write_text("{}")
    path = tmp_path / "suite.yaml"
    path.write_text(f"suite: s\nversion: 1\n{head}\ntasks:\n  - {task}\n")
    return path


TASK = "{name: t, dataset: {path: rows.jsonl}, prompt: x, target: y, metrics: [squad]}"


def with_key(key: str, value: str) -> str:
    """Return the task with one key added or, where it is there, replaced; an empty value removes it."""
    task = {
        "name": "t",
        "dataset": "{path: rows.jsonl}",
        "prompt": "x",
        "target": "y",
        "metrics": "[squad]",
    }
    return "{" + ", ".join(f"{k}: {v}" for k, v in (task | {key: value}).items() if v) + "}"


RIGHT = [
    TASK,
    with_key("kind", "generate"),
    with_key("decoding", "{temperature: 1, stop: [a], replicates: 2}"),
    with_key("dataset", "{name: squad, config: plain, split: validation, revision: main}"),
    with_key("dataset", "{path: rows.jsonl, format: jsonl, limit: 5}"),
    with_key("fewshot", "{dataset: {path: rows.jsonl}, count: 2}"),
    with_key("target", "[a, b]"),
    with_key("cluster", "~"),
    with_key("metrics", "[exact_match, {json_schema: {schema: schema.json}}, {squad: }, {bleu: {}}]"),
    with_key("metrics", "[{json_schema: {schema: {type: object}}}, {rouge: {variants: [rouge1]}}]"),
    "{name: t, dataset: {path: rows.jsonl}, messages: [{role: user, content: x}], targets: answers, metrics: [squad]}",
    "{name: t, kind: multiple_choice, dataset: {path: rows.jsonl}, prompt: x, choices: [a, b], target: a}",
    "{name: t, kind: multiple_choice, dataset: {path: rows.jsonl}, prompt: x, choices: c, target: a, "
    "metrics: [multiple_choice]}",
    "{name: t, kind: perplexity, dataset: {path: rows.jsonl}, text: x, max_length: 8, context: 2, prefix: none}",
]  # fmt: skip


@pytest.mark.parametrize("task", RIGHT)
def test_a_suite_that_loads_satisfies_the_schema(tmp_path, suite_errors, task):
    path = suite_of(tmp_path, task)
    load_suite(path)
    assert suite_errors(read_yaml(path).value) == []


WRONG = [
    with_key("name", '"a b"'),
    with_key("name", ""),
    with_key("nme", "x"),
    with_key("kind", "generat"),
    with_key("prompt", ""),
    with_key("prompt", "1"),
    with_key("messages", "[{role: user, content: x}]"),
    with_key("targets", "answers"),
    with_key("decoding", '{max_tokens: "5"}'),
    with_key("decoding", "{max_tokens: 0}"),
    with_key("decoding", "{top_p: 2}"),
    with_key("decoding", "{stop: x}"),
    with_key("min_coverage", "95"),
    with_key("slices", "region"),
    with_key("dataset", "{}"),
    with_key("dataset", "{path: rows.jsonl, name: squad}"),
    with_key("dataset", "{path: rows.jsonl, split: train}"),
    with_key("dataset", "{name: squad, format: csv}"),
    with_key("dataset", "rows.jsonl"),
    with_key("fewshot", "{count: 2}"),
    with_key("metrics", "[]"),
    with_key("metrics", ""),
    with_key("metrics", "squad"),
    with_key("metrics", "[exact_mach]"),
    with_key("metrics", "[{exact_mach: {}}]"),
    with_key("metrics", "[perplexity]"),
    with_key("metrics", "[{perplexity: {}}]"),
    with_key("metrics", "[json_schema]"),
    with_key("metrics", "[{json_schema: }]"),
    with_key("metrics", "[{json_schema: {shema: x}}]"),
    with_key("metrics", "[{squad: {reasoning: maybe}}]"),
    with_key("metrics", "[{squad: {}, bleu: {}}]"),
    with_key("metrics", "[{squad: [x]}]"),
    with_key("metrics", "[1]"),
    "{name: t, kind: perplexity, dataset: {path: rows.jsonl}, text: x, metrics: [squad]}",
    "{name: t, kind: perplexity, dataset: {path: rows.jsonl}, text: x, prompt: x}",
    "{name: t, kind: multiple_choice, dataset: {path: rows.jsonl}, prompt: x, choices: 3, target: a}",
    "x",
]


@pytest.mark.parametrize("task", WRONG)
def test_a_mistake_of_form_is_refused_by_loader_and_schema_alike(tmp_path, suite_errors, task):
    path = suite_of(tmp_path, task)
    with pytest.raises(UsageError):
        load_suite(path)
    assert suite_errors(read_yaml(path).value)


@pytest.mark.parametrize(
    "head", ["sede: 1", "confidence: 1", "models: {candidat: x}", "gates: x", "description: 1"]
)
def test_a_mistake_at_the_top_is_refused_by_loader_and_schema_alike(tmp_path, suite_errors, head):
    path = suite_of(tmp_path, TASK, head)
    with pytest.raises(UsageError):
        load_suite(path)
    assert suite_errors(read_yaml(path).value)


def test_names_that_plugins_bring_pass_where_a_file_names_plugins(suite_errors, tmp_path):
    value = read_yaml(suite_of(tmp_path, with_key("metrics", "[my_metric, {mine: {a: 1}}]"))).value
    assert suite_errors(value)
    assert suite_errors(value | {"plugins": ["mine"]}) == []
    value["tasks"][0]["metrics"] = [{"squad": {"unknown": 1}}]
    assert suite_errors(value | {"plugins": ["mine"]})


def test_the_quickstart_satisfies_its_schemas(root, suite_errors, gate_errors):
    assert suite_errors(read_yaml(root / "suites" / "quickstart" / "suite.yaml").value) == []
    assert gate_errors(read_yaml(root / "gates" / "quickstart.yaml").value) == []


def test_the_example_of_every_metric_satisfies_the_schema(suite_errors, tmp_path):
    for name, part in parts("metric").items():
        if "generate" in part.make.kinds:
            path = suite_of(tmp_path, with_key("metrics", f"[{part.example}]"))
            assert suite_errors(read_yaml(path).value) == [], name


# --- gates -----------------------------------------------------------------------------------------------------


def gate_of(tmp_path: Path, rule: str) -> Path:
    path = tmp_path / "gate.yaml"
    path.write_text(f"gate: g\nrules:\n  - {rule}\n")
    return path


def test_the_example_of_every_condition_loads_and_satisfies_the_schema(gate_errors, tmp_path):
    for name, part in parts("condition").items():
        path = gate_of(tmp_path, "{id: a, " + part.example.removeprefix("{"))
        assert load_gate(path).rules[0].require == name
        assert gate_errors(read_yaml(path).value) == [], name


WRONG_RULES = [
    "{id: a, estimate: t/m, require: at_least}",
    "{id: a, estimate: t/m, require: at_least, value: x}",
    "{id: a, estimate: t/m, require: at_least, value: 1, margin: 2}",
    "{id: a, estimate: t/m, require: at_lest, value: 1}",
    "{id: a, estimate: t/m, value: 1}",
    "{estimate: t/m, require: at_least, value: 1}",
    "{id: a b, estimate: t/m, require: at_least, value: 1}",
    "{id: a, estimate: t/m, require: at_least, value: 1, severity: blocking}",
    "{id: a, estimate: t/m, require: at_least, value: 1, on_missing: pass}",
    "{id: a, estimate: t/m, require: at_least, value: 1, options: {}}",
    "at_least",
]


@pytest.mark.parametrize("rule", WRONG_RULES)
def test_a_wrong_rule_is_refused_by_loader_and_schema_alike(gate_errors, tmp_path, rule):
    path = gate_of(tmp_path, rule)
    with pytest.raises(UsageError):
        load_gate(path)
    assert gate_errors(read_yaml(path).value)


def test_conditions_that_plugins_bring_pass_where_a_file_names_plugins(gate_errors, tmp_path):
    value = read_yaml(
        gate_of(tmp_path, "{id: a, estimate: t/m, require: my_own, whatever: 1}")
    ).value
    assert gate_errors(value)
    assert gate_errors(value | {"plugins": ["mine"]}) == []


KEYS = st.sampled_from(
    ["id", "estimate", "require", "severity", "why", "value", "margin", "alpha", "low", "other"]
)
TEXTS = ["t/m", "at_least", "inside", "no_worse_than", "warn", "a"]
RULES = st.dictionaries(KEYS, st.sampled_from([*TEXTS, 0.05, 1, True, None, []]), max_size=6)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rule=RULES)
def test_a_rule_that_the_schema_refuses_never_loads(gate_errors, tmp_path, rule):
    """The schema may not know every law, but it must not refuse what the loader takes."""
    assume(rule)
    value = {"gate": "g", "rules": [{"id": "a", "estimate": "t/m", **rule}]}
    path = tmp_path / "gate.yaml"
    path.write_text(json.dumps(value))
    if gate_errors(value):
        with pytest.raises(UsageError):
            load_gate(path)


# --- what is written -------------------------------------------------------------------------------------------


def test_a_scorecard_and_a_verdict_as_they_are_written_satisfy_their_schemas():
    interval = Interval(low=0.1, high=0.3, level=0.95, method="wilson")
    counts = Counts(planned=3, completed=3, failed=0, scored=3, unscored=0)
    estimate = Estimate(
        model="candidate", task="t", metric="m", slice=None, value=0.2, interval=interval, counts=counts,
        unit="fraction", better="higher", signature="m|v:1",
    )  # fmt: skip
    model = ModelRecord(digest="d", pinned=True, files={"f": "0"}, engine={"dtype": "bf16"})
    scorecard = Scorecard(
        provenance=Provenance(
            suite="s", suite_version=1, suite_digest="d", models={"candidate": model}, datasets={"t": "d"}, seed=0,
            versions={},
        ),
        estimates=(estimate,),
        comparisons=(),
        tasks=(),
        circumstances=Circumstances(
            started="", finished="", command=(), git_commit=None, hardware={}, host={}, asked=1, reused=0, seconds=1.0
        ),
    ).sealed()  # fmt: skip
    outcome = Outcome(
        gate="g", rule="r", estimate="t/m", status="pass", counts_as="pass", severity="block", observed=0.2,
        interval=interval, required="≥ 0.1", reason="x",
    )  # fmt: skip
    verdict = Verdict(
        status="pass", exit_code=0, scorecard="d", gates={"g": "d"}, reason="x", outcomes=(outcome,)
    )
    jsonschema.validate(json.loads(scorecard.model_dump_json()), scorecard_schema())
    jsonschema.validate(json.loads(verdict.model_dump_json()), verdict_schema())
    broken = json.loads(verdict.model_dump_json()) | {"status": "passed"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, verdict_schema())


JUDGED = """suite: s
version: 1
judges:
  filed: quality.yaml
  placed: {model: ./model, criteria: better, form: pairwise}
tasks:
  - name: t
    dataset: {path: rows.jsonl}
    prompt: "{{ q }}"
    metrics: [{judged: {judge: filed}}, {preferred: {judge: placed}}]
"""


def test_a_judge_in_a_file_and_one_in_place_satisfy_the_schema(tmp_path, suite_errors):
    (tmp_path / "quality.yaml").write_text("judge: filed\nmodel: ./m\ncriteria: c\n")
    (tmp_path / "rows.jsonl").write_text('{"q": "1"}\n')
    (tmp_path / "suite.yaml").write_text(JUDGED)
    load_suite(tmp_path / "suite.yaml")
    assert suite_errors(read_yaml(tmp_path / "suite.yaml").value) == []
    (tmp_path / "suite.yaml").write_text(JUDGED.replace("quality.yaml", "[quality.yaml]"))
    assert suite_errors(read_yaml(tmp_path / "suite.yaml").value)
