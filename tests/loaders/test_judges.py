"""Judges as files declare them: prompts read and tried out, every mistake told with its line."""

from __future__ import annotations

import pytest

from evalkit.cli.main import run
from evalkit.errors import UsageError
from evalkit.loaders.judges import load_judge
from evalkit.loaders.suites import load_suite

JUDGE = """judge: quality
model: ./model
criteria: Is it helpful?
"""
SUITE = """suite: s
version: 1
judges:
  quality: quality.yaml
  better: {model: ./model, criteria: better, form: pairwise}
tasks:
  - name: t
    dataset: {path: rows.jsonl}
    prompt: "{{ q }}"
    metrics: [METRICS]
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"q": "1"}\n')
    (tmp_path / "quality.yaml").write_text(JUDGE)
    return tmp_path


def judge(folder, text):
    (folder / "quality.yaml").write_text(text)
    return load_judge(folder / "quality.yaml")


def suite(folder, metrics):
    (folder / "suite.yaml").write_text(SUITE.replace("METRICS", metrics))
    return load_suite(folder / "suite.yaml")


def told(load, *arguments):
    with pytest.raises(UsageError) as caught:
        load(*arguments)
    return [
        (p.file.rpartition("/")[2], p.line, p.key, p.message, p.nearest)
        for p in caught.value.problems
    ]


def test_a_prompt_that_is_a_path_is_read_in_its_place(folder):
    (folder / "mine.jinja").write_text("{{ question }} / {{ answer }}")
    loaded = judge(folder, JUDGE + "prompt: mine.jinja\n")
    assert loaded.spec.prompt == "{{ question }} / {{ answer }}"
    assert loaded.folder == folder


def test_a_shipped_prompt_keeps_its_name_and_a_template_its_text(folder):
    assert judge(folder, JUDGE + "prompt: pointwise\n").spec.prompt == "pointwise"
    assert judge(folder, JUDGE + 'prompt: "{{ answer }}?"\n').spec.prompt == "{{ answer }}?"


@pytest.mark.parametrize(
    ("written", "message", "nearest"),
    [
        ("prompt: pointwize", "there is no file", "pointwise"),
        ('prompt: "{{ answer"', "this is no template", ""),
        ('prompt: "{{ question }}?"', "does not show {{ answer }}", ""),
        ('prompt: "{{ answr }}?"', "'answr' is undefined", ""),
        ('reference: true\nprompt: "{{ answer }}?"', "does not show {{ reference }}", ""),
        ("prompt: pairwise", "'answer_a' is undefined", ""),
    ],
)
def test_a_prompt_that_cannot_ask_is_refused_with_its_line(folder, written, message, nearest):
    ((file, line, key, said, close),) = told(judge, folder, JUDGE + written + "\n")
    assert (file, key, close) == ("quality.yaml", "prompt", nearest)
    assert line == 4 + written.count("\n")
    assert message in said


def test_every_mistake_of_a_judge_file_is_told_at_once(folder):
    problems = told(judge, folder, "judge: quality\nmodl: x\nscale: [1, 99]\nprompt: none.jinja\n")
    assert {key for _, _, key, *_ in problems} >= {"modl", "model", "criteria", "prompt"}


def test_a_suite_holds_its_judges_under_the_names_that_metrics_give_them(folder):
    loaded = suite(folder, "{judged: {judge: quality}}, {preferred: {judge: [better]}}")
    assert list(loaded.spec.judges) == ["quality", "better"]
    assert loaded.spec.judges["better"].judge == "better"
    assert loaded.judges["quality"].folder == folder


def test_a_judge_by_path_in_another_folder_keeps_its_own_folder(folder):
    (folder / "judges").mkdir()
    (folder / "judges" / "quality.yaml").write_text(JUDGE)
    text = SUITE.replace("quality: quality.yaml", "good: judges/quality.yaml")
    (folder / "suite.yaml").write_text(text.replace("METRICS", "{judged: {judge: good}}"))
    loaded = load_suite(folder / "suite.yaml")
    assert loaded.judges["good"].folder == folder / "judges"
    assert loaded.judges["good"].spec.judge == "quality"
    assert loaded.spec.judges["good"].judge == "good"


@pytest.mark.parametrize(
    ("metrics", "message", "nearest"),
    [
        ("{judged: {judge: qualty}}", "unknown judge 'qualty'", "quality"),
        ("{judged: {judge: [quality, nobody]}}", "unknown judge 'nobody'", ""),
        ("{judged: {judge: better}}", "takes a pointwise judge, and 'better' is pairwise", ""),
        ("{preferred: {judge: quality}}", "takes a pairwise judge, and 'quality' is pointwise", ""),
    ],
)
def test_a_metric_whose_judge_cannot_serve_it_is_told_with_its_line(
    folder, metrics, message, nearest
):
    ((file, line, key, said, close),) = told(suite, folder, metrics)
    assert (file, line, close) == ("suite.yaml", 10, nearest)
    assert key.startswith("tasks[0].metrics[0].") and key.endswith(".judge")
    assert message in said


def test_a_broken_judge_file_is_told_by_its_own_name_and_line(folder):
    (folder / "quality.yaml").write_text(JUDGE + "form: pairwize\n")
    ((file, line, key, *_),) = told(suite, folder, "{judged: {judge: quality}}")
    assert (file, line, key) == ("quality.yaml", 4, "form")


def test_a_judge_that_is_neither_a_path_nor_keys_is_refused(folder):
    text = SUITE.replace("quality: quality.yaml", "quality: 5").replace("METRICS", "exact_match")
    (folder / "suite.yaml").write_text(text.replace('"{{ q }}"', '"{{ q }}"\n    target: "1"'))
    problems = told(load_suite, folder / "suite.yaml")
    assert [(line, key) for _, line, key, *_ in problems] == [(4, "judges.quality")]


def test_a_rubric_is_written_with_its_numbers_quoted_or_not(folder):
    for written in ("{1: bad, 5: good}", '{"1": bad, "5": good}'):
        assert judge(folder, f"{JUDGE}rubric: {written}\n").spec.rubric == {1: "bad", 5: "good"}
    below = judge(folder, JUDGE + "scale: [-1, 1]\nrubric: {-1: bad}\n").spec
    assert below.rubric == {-1: "bad"}


def test_a_judge_file_is_checked_by_itself(tmp_path, capsys):
    file = tmp_path / "judge.yaml"
    file.write_text("judge: q\nmodel: http://127.0.0.1:1\ncriteria: Is it right?\n")
    assert run(["validate", str(file)]) == 0
    assert "judge 'q', pointwise: ok" in capsys.readouterr().out
    file.write_text("judge: q\nmodel: m\ncriteria: c\nscale: [1]\n")
    assert run(["validate", str(file)]) == 2
