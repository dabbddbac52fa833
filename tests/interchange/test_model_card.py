"""A run's results on a Hugging Face model card: its own library reads our numbers, and all else is untouched.

Truth: huggingface_hub as installed (``ModelCard``, ``EvalResult``, ``eval_results_to_model_index``), and PyYAML, by
which it reads.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil

import pytest
import yaml
from exported_runs import command, estimates, make_run, scorecard
from hypothesis import example, given
from hypothesis import strategies as st

from evalkit.interchange.model_card import CardResults, escaped
from evalkit.interchange.model_card_text import card_text

hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")

OTHERS = """\
---
# kept: the licence was asked about in spring
license: apache-2.0
tags: [a,   "b",
       c]
model-index:
- name: "Old name"
  results:
  - task: {type: text-generation, name: Text generation}   # a comment of theirs
    dataset:
      name: ARC
      type: ai2_arc
      config: ARC-Challenge
      split: test
    metrics:
    - type: acc_norm
      value: 64.590
      name: normalized accuracy
    source: {url: 'https://example.org/board', name: Board}

# kept: the language
language: no
widget:
- text: >-
    model-index: this is no key
---

# A model

model-index: nor is this.

| a | b |
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("evals"))


def export(run, *arguments):
    return command("export", "model-card", run, *arguments, cwd=run.parent.parent)


def card_of(run, folder, text=None, *arguments):
    """Export into a folder's card that says ``text`` before; return what it says then, as Hugging Face reads it."""
    folder.mkdir(exist_ok=True)
    file = folder / "README.md"
    if text is not None:
        file.write_bytes(text.encode())
    code, _, told = export(run, folder, *arguments)
    assert code == 0, told
    return file.read_bytes().decode(), hub.ModelCard.load(file)


def ours(card):
    return [r for r in card.data.eval_results if (r.metric_args or {}).get("evalkit")]


def test_hugging_faces_library_reads_every_number_over_all_samples_with_its_interval(run, tmp_path):
    _, card = card_of(run, tmp_path / "model")
    found = {(r.task_name, r.metric_name): r for r in ours(card)}
    expected = estimates(run)
    assert set(found) == {(e["task"], e["metric"]) for e in expected}
    for one in expected:
        result = found[one["task"], one["metric"]]
        assert result.metric_value == one["value"]
        assert result.metric_args["low"] == one["interval"]["low"]
        assert result.metric_args["high"] == one["interval"]["high"]
        assert result.metric_args["n"] == (one["n"] or one["counts"]["scored"])
        assert result.verified is False


def test_data_are_named_by_suite_and_task_and_pinned_by_their_digest(run, tmp_path):
    _, card = card_of(run, tmp_path / "model")
    datasets = scorecard(run)["provenance"]["datasets"]
    assert {(r.dataset_type, r.dataset_name, r.dataset_revision) for r in ours(card)} == {
        (f"orders.{task}", f"orders 3: {task}", digest) for task, digest in datasets.items()
    }
    types = {r.task_name: r.task_type for r in ours(card)}
    assert types["extract"] == types["read"] == "text-generation"
    assert types["choose"] == "multiple-choice"
    metrics = {r.metric_name: r.metric_type for r in ours(card)}
    assert metrics["multiple_choice.acc"] == "accuracy"
    assert metrics["rouge.rougeL"] == "rouge"


def test_hugging_faces_own_writer_would_write_the_same_index(run, tmp_path):
    text, card = card_of(run, tmp_path / "model")
    index = yaml.safe_load(text.split("---\n")[1])["model-index"]
    assert hub.repocard_data.eval_results_to_model_index("model", card.data.eval_results) == index


def test_a_run_that_did_not_pass_says_so_in_the_text_and_beside_each_number(run, tmp_path):
    _, card = card_of(run, tmp_path / "model")
    assert json.loads((run / "verdict.json").read_text())["status"] == "fail"
    assert "**Verdict: fail.**" in card.text
    assert {r.metric_args["verdict"] for r in ours(card)} == {"fail"}


def test_a_run_that_no_gate_decided_on_says_so(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "verdict.json").unlink()
    _, card = card_of(copy, tmp_path / "model")
    assert "No gate has decided" in card.text
    assert {r.metric_args["verdict"] for r in ours(card)} == {"none"}


def test_whatever_else_the_card_says_stays_byte_for_byte(run, tmp_path):
    text, card = card_of(run, tmp_path / "model", OTHERS)
    before, behind = (
        OTHERS.partition("model-index:\n")[0],
        OTHERS[OTHERS.index("\n# kept: the language") :],
    )
    assert text.startswith(before)
    assert behind in text
    theirs = OTHERS[len(before) : OTHERS.index("\n# kept: the language")]
    assert text[len(before) :].startswith(
        theirs
    )  # spelling, quotes and comments of others' results too
    kept = [r for r in card.data.eval_results if r not in ours(card)]
    assert [(r.metric_value, r.metric_name, r.source_name) for r in kept] == [
        (64.590, "normalized accuracy", "Board")
    ]
    assert card.data.model_name == "Old name"


def test_an_index_written_on_one_line_takes_results_too(run, tmp_path):
    flow = (
        '---\nmodel-index: [{name: m, results: [{task: {type: t}, dataset: {type: d, name: "no"}, '
        "metrics: [{type: acc, value: 1e-3}]}]}]  # flow\nlicense: mit\n---\n"
    )
    text, card = card_of(run, tmp_path / "model", flow)
    theirs = [r for r in card.data.eval_results if r not in ours(card)]
    assert [r.dataset_name for r in theirs] == ["no"]
    assert "value: 1e-3" in text
    assert len(ours(card)) == len(estimates(run))
    assert card.data.license == "mit"


def test_putting_the_same_run_there_again_changes_nothing(run, tmp_path):
    once, _ = card_of(run, tmp_path / "model", OTHERS)
    twice, _ = card_of(run, tmp_path / "model")
    assert twice == once


def test_a_later_run_of_the_suite_replaces_the_earlier_ones_results_alone(run, tmp_path):
    card_of(run, tmp_path / "model", OTHERS)
    text, card = card_of(run, tmp_path / "model", None, "--model", "baseline")
    assert len(ours(card)) == len(estimates(run, "baseline"))
    accuracy = next(r for r in ours(card) if r.metric_name == "multiple_choice.acc")
    assert accuracy.metric_value == next(
        e["value"] for e in estimates(run, "baseline") if e["metric"] == "multiple_choice.acc"
    )
    assert text.count("<!-- evalkit orders: begin") == 1
    assert len(card.data.eval_results) == len(ours(card)) + 1


def test_another_suites_results_stay(run, tmp_path):
    text, _ = card_of(run, tmp_path / "model")
    other = text.replace("orders", "invoices")
    both, card = card_of(run, tmp_path / "model", other)
    assert {r.metric_args["suite"] for r in ours(card)} == {"orders", "invoices"}
    assert "evalkit invoices: begin" in both
    assert "evalkit orders: begin" in both


RIVAL = """\
---
model-index:
- name: m
  results:
  - task: {{type: text-generation}}
    dataset: {{name: theirs, type: orders.summarise}}
    metrics:
    - {{type: rouge, name: {name}, value: 0.5}}
    - {{type: perplexity, value: 3}}
---
"""


@pytest.mark.parametrize("name", ["rougeL", "ROUGE-L", "rouge.rougeL"])
def test_another_tools_result_for_the_same_metric_is_never_overwritten_unasked(run, tmp_path, name):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "README.md").write_text(RIVAL.format(name=name))
    code, _, told = export(run, folder)
    assert code == 2
    assert "another tool's results" in told
    assert "--overwrite" in told
    assert (folder / "README.md").read_text() == RIVAL.format(name=name)
    _, card = card_of(run, folder, None, "--overwrite")
    rivals = [r for r in card.data.eval_results if r not in ours(card)]
    assert [(r.metric_type, r.metric_value) for r in rivals] == [("perplexity", 3)]


def test_another_metric_of_another_tool_on_the_same_data_is_no_rival(run, tmp_path):
    _, card = card_of(run, tmp_path / "model", RIVAL.format(name="rouge2"))
    assert 0.5 in [r.metric_value for r in card.data.eval_results if r not in ours(card)]


def test_without_a_file_a_whole_card_is_printed(run):
    code, said, told = export(run)
    assert code == 0
    card = hub.ModelCard(said)
    assert len(ours(card)) == len(estimates(run))
    assert card.data.model_name == "new model"
    assert "by slice" in told


def test_a_card_without_metadata_gets_some_and_keeps_its_text(run, tmp_path):
    text, card = card_of(run, tmp_path / "model", "# Only text\n\nand more")
    assert "---\n# Only text\n\nand more\n" in text
    assert len(ours(card)) == len(estimates(run))


def test_windows_line_ends_stay(run, tmp_path):
    text, card = card_of(run, tmp_path / "model", OTHERS.replace("\n", "\r\n"))
    assert "\n" not in text.replace("\r\n", "")
    assert len(ours(card)) == len(estimates(run))
    assert card.data.license == "apache-2.0"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("---\na: [1\n---\n", "cannot be read as YAML"),
        ("---\n- a\n---\n", "no mapping"),
        ("---\nmodel-index: 5\n---\n", "is not as Hugging Face has it"),
        ("---\nmodel-index: [{name: m}]\n---\n", "is not as Hugging Face has it"),
        ("---\n{a: 1, model-index: []}\n---\n", "shares its line"),
        ("---\na: 1\na: 2\n---\n", "cannot be read as YAML"),
        ("\ufeff---\na: 1\n---\n", "byte-order mark"),
        ("---\nx: &a {name: m, results: []}\nmodel-index:\n- *a\n---\n", "cannot be read as YAML"),
    ],
)
def test_a_card_that_cannot_be_understood_is_refused_and_left_as_it_is(run, tmp_path, text, said):
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    code, _, told = export(run, tmp_path)
    assert code == 2
    assert said in told
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == text


def with_files(run, place, files):
    """The run as if its candidate had these files."""
    from evalkit.records.scorecard import Scorecard

    copy = shutil.copytree(run, place)
    card = scorecard(run)
    card["provenance"]["models"]["candidate"]["files"] = files
    sealed = Scorecard.model_validate(card).sealed()
    (copy / "scorecard.json").write_text(sealed.model_dump_json())
    (copy / "verdict.json").unlink()
    return copy


def test_a_card_beside_other_files_than_those_measured_is_refused(run, tmp_path):
    sha256 = hashlib.sha256(b"weights").hexdigest()
    measured = with_files(run, tmp_path / "run", {"model.safetensors": sha256})
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    code, _, told = export(measured, folder)
    assert (code, "not checked" in told) == (0, False)
    (folder / "model.safetensors").write_bytes(b"Weights")
    before = (folder / "README.md").read_bytes()
    code, _, told = export(measured, folder)
    assert code == 2
    assert "not those that were measured" in told
    assert (folder / "README.md").read_bytes() == before
    code, _, told = export(measured, folder, "--anyway")
    assert code == 0
    assert "not those that were measured" in (folder / "README.md").read_text()


def test_a_card_beside_weights_that_the_run_never_saw_is_refused(run, tmp_path):
    sha256 = hashlib.sha256(b"weights").hexdigest()
    measured = with_files(run, tmp_path / "run", {"model.safetensors": sha256})
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"adapter")
    assert export(measured, folder)[0] == 2  # another model altogether
    (folder / "model.safetensors").write_bytes(b"weights")
    assert export(measured, folder)[0] == 2  # the model, and an adapter that was not there
    assert not (folder / "README.md").exists()


def test_a_card_without_the_models_files_beside_it_is_written_and_the_gap_is_told(run, tmp_path):
    code, _, told = export(run, tmp_path)
    assert code == 0
    assert "not checked" in told


def results(value, text="t"):
    metric = {
        "type": text,
        "value": value,
        "name": text,
        "args": {"evalkit": text, "scorecard": ""},
    }
    data = {"name": text, "type": text, "revision": text}
    result = {"task": {"type": text, "name": text}, "dataset": data, "metrics": [metric]}
    return CardResults((result,), {}, "section")


@example(1e-05)
@example(1e22)
@example(5e-324)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_reads_back_the_same_in_the_library_that_hugging_face_reads_cards_by(value):
    made = card_text("", results(value), suite="s", model_name="m", overwrite=False, file="f")
    read = hub.ModelCard(made.text).data.eval_results[0].metric_value
    assert isinstance(read, float)
    assert read == value
    assert math.copysign(1, read) == math.copysign(1, value)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn", "Co"]), min_size=1, max_size=20))
def test_every_text_reads_back_as_that_text_never_as_a_number_a_date_or_a_truth(text):
    made = card_text("", results(1.0, text), suite="s", model_name=text, overwrite=False, file="f")
    card = hub.ModelCard(made.text)
    assert card.data.model_name == text
    assert card.data.eval_results[0].metric_name == text


@pytest.mark.parametrize(
    "text", ["no", "1e3", "12:30:45", "2026-01-01", "0x1f", "~", "0" * 64, "1_000"]
)
def test_texts_that_yaml_1_1_takes_for_something_else_stay_texts(text):
    made = card_text("", results(1.0, text), suite="s", model_name=text, overwrite=False, file="f")
    assert hub.ModelCard(made.text).data.eval_results[0].dataset_revision == text


def test_what_a_verdict_says_is_no_markup_and_ends_no_section():
    hostile = "<script>alert(1)</script> --> <!-- evalkit s: end --> | [x](javascript:y) `z`\n# H"
    shown = escaped(hostile)
    assert "<" not in shown
    assert "\n" not in shown
    for mark in ("|", "[", "`", "#"):
        assert f"\\{mark}" in shown
        assert shown.count(mark) == shown.count(f"\\{mark}")
