"""Tasks of kind spectral in a suite file: what they may say, what a schema says of them, and which rules fit them."""

from __future__ import annotations

import jsonschema
import pytest

from evalkit.errors import UsageError
from evalkit.gates.census import census_fields, census_lacking
from evalkit.loaders.gate_fit import check_gates_against_suite
from evalkit.loaders.schemas import suite_schema
from evalkit.loaders.suites import load_suite
from evalkit.records.suite import GateSpec, SpectralTask, SuiteSpec

HEAD = "suite: s\nversion: 1\ntasks:\n  - name: w\n    kind: spectral\n"
"""Everything behind it begins on line 6."""


def load(tmp_path, text):
    path = tmp_path / "suite.yaml"
    path.write_text(HEAD + text)
    return load_suite(path).spec


def problems(tmp_path, text):
    with pytest.raises(UsageError) as caught:
        load(tmp_path, text)
    return [str(problem).replace(f"{tmp_path}/", "") for problem in caught.value.problems]


def test_a_task_that_reads_weights_needs_nothing_but_its_name(tmp_path):
    suite = load(tmp_path, "")
    assert suite.spectral == (SpectralTask(kind="spectral", name="w"),)
    assert suite.sampled == ()


def test_it_says_what_the_weights_are_held_against_and_what_is_computed(tmp_path):
    text = "    base: ../base\n    adapter: lora\n    frozen: ['*.embed*']\n    spectra: true\n    draws: 0\n"
    (task,) = load(tmp_path, text).spectral
    assert (task.base, task.adapter, task.frozen, task.draws) == (
        "../base",
        "lora",
        ("*.embed*",),
        0,
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("    traps: true\n", "suite.yaml:6: tasks[0].traps: 'traps' changes nothing without spectra"),
        ("    compatible: true\n    spectra: false\n", "suite.yaml:6: tasks[0].compatible: "),
        ("    draws: 5\n", "suite.yaml:6: tasks[0].draws: "),
        ("    base: ' '\n", "suite.yaml:6: tasks[0].base: the name is empty"),
        ("    frozen: [a, '']\n", "suite.yaml:6: tasks[0].frozen[1]: an empty pattern"),
        ("    metrics: [exact_match]\n", "suite.yaml:6: tasks[0].metrics: unknown key"),
        ("    dataset: {path: x.jsonl}\n", "suite.yaml:6: tasks[0].dataset: unknown key"),
        ("    spectre: true\n", "did you mean 'spectra'?"),
        ("    draws: 5.5\n    spectra: true\n", "suite.yaml:6: tasks[0].draws: found 5.5"),
    ],
)  # fmt: skip
def test_what_it_cannot_mean_is_told_with_its_line(tmp_path, text, told):
    (problem,) = problems(tmp_path, text)
    assert told in problem


def test_a_misspelt_kind_is_told_with_the_nearest(tmp_path):
    path = tmp_path / "suite.yaml"
    path.write_text(HEAD.replace("spectral", "spectrum") + "    spectra: true\n")
    with pytest.raises(UsageError) as caught:
        load_suite(path)
    assert [problem.nearest for problem in caught.value.problems] == ["spectral"]


@pytest.mark.parametrize(
    ("more", "valid"),
    [
        ({}, True),
        ({"base": "b", "spectra": True, "draws": 3}, True),
        ({"metrics": ["exact_match"]}, False),
        ({"draws": -1}, False),
        ({"frozen": "all"}, False),
    ],
)
def test_the_schema_lets_pass_what_the_loader_does(more, valid):
    document = {"suite": "s", "version": 1, "tasks": [{"kind": "spectral", "name": "w", **more}]}
    assert jsonschema.Draft202012Validator(suite_schema()).is_valid(document) == valid


def suite(**said):
    sampled = {
        "kind": "generate",
        "name": "extract",
        "dataset": {"path": "x.jsonl"},
        "prompt": "x",
        "target": "y",
        "metrics": [{"name": "exact_match"}],
    }
    tasks = [sampled, {"kind": "spectral", "name": "weights", **said}]
    return SuiteSpec.model_validate({"suite": "s", "version": 1, "tasks": tasks})


def wrong(estimate, **said):
    rule = {"id": "r", "estimate": estimate, "require": "at_most", "options": {"value": 0}}
    gate = GateSpec.model_validate({"gate": "g", "rules": [rule]})
    return check_gates_against_suite(suite(**said), [gate])


@pytest.mark.parametrize(
    "estimate",
    [
        "weights/drift", "weights/drift.max", "weights/drift@tensor=*", "weights/drift@module=query",
        "weights/drift.max@depth=3", "weights/integrity.*", "weights/scale.collapse", "weights/*", "*/drift",
        "extract/exact_match", "weights/update_norm",
    ],
)  # fmt: skip
def test_a_rule_on_a_number_that_weights_give_fits(estimate):
    assert wrong(estimate) == []


@pytest.mark.parametrize(
    ("estimate", "nearest"),
    [
        ("weights/drfit", "weights/drift"),
        ("weights/drift.mx", "weights/drift.max"),
        ("weights/integrity.nonfinit", "weights/integrity.nonfinite"),
        ("weight/drift@tensor=*", "weights/drift@tensor=*"),
        ("weights/drift@tensors=*", "weights/drift@tensor=*"),
        ("weights/drift@modul=query", "weights/drift@module=query"),
    ],
)
def test_a_rule_on_none_of_them_is_told_with_the_nearest_name(estimate, nearest):
    (problem,) = wrong(estimate)
    assert problem.nearest == nearest
    assert len(str(problem)) < 400, "the whole catalogue helps nobody"


def test_only_a_measure_that_is_told_for_each_tensor_has_such_a_slice():
    """The norm of a single tensor stands in weights.jsonl alone."""
    assert wrong("weights/norm@tensor=*") != []
    assert wrong("weights/integrity.zero@tensor=*") != []
    assert wrong("weights/drift.max@tensor=*") != []


@pytest.mark.parametrize(
    ("estimate", "said"),
    [
        ("weights/alpha", "spectra: true"),
        ("weights/intruders.mean", "spectra: true"),
        ("weights/shape.over_trained", "spectra: true"),
        ("weights/importance", "importance: true"),
        ("weights/integrity.frozen", "frozen: [a pattern of tensors]"),
        ("weights/integrity.merge", "adapter: the merged adapter"),
    ],
)
def test_a_rule_on_what_the_task_does_not_compute_is_told_what_to_write(estimate, said):
    (problem,) = wrong(estimate)
    assert said in problem.message
    key, _, value = said.partition(": ")
    values = {"true": True, "[a pattern of tensors]": ["*"]}
    assert wrong(estimate, **{key: values.get(value, value)}) == []


def test_traps_are_a_number_only_where_they_are_asked_for():
    assert "traps: true" in wrong("weights/traps", spectra=True)[0].message
    assert wrong("weights/traps", spectra=True, traps=True) == []


def test_every_name_is_given_or_lacks_something():
    task = SpectralTask(kind="spectral", name="w")
    given, lacking = census_fields(task), census_lacking(task)
    assert not given.keys() & lacking.keys()
    everything = task.model_copy(
        update={
            "spectra": True,
            "traps": True,
            "importance": True,
            "frozen": ("a",),
            "trained": ("b",),
            "adapter": "c",
        }
    )
    assert census_fields(everything).keys() == given.keys() | lacking.keys()
    assert census_lacking(everything) == {}
