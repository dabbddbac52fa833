"""``evalkit power`` as a user runs it: before a run, from an earlier run, and with too few samples."""

from __future__ import annotations

import json

import pytest

from evalkit.cli.main import run

SUITE = """\
suite: capitals
version: 1
gates: [gate.yaml]
tasks:
  - name: cities
    dataset: {path: data.jsonl}
    prompt: "{{ question }}"
    target: "{{ answer }}"
    slices: [region]
    metrics: [exact_match]
"""
GATE = """\
gate: ship
rules:
  - {id: no-worse, estimate: cities/exact_match, require: no_worse_than, margin: 0.06}
  - {id: regions, estimate: "cities/exact_match@region=*", require: at_least, value: 0.6}
"""
STRICT = """\
gate: strict
rules:
  - {id: hardly-worse, estimate: cities/exact_match, require: no_worse_than, margin: 0.01}
"""
SAMPLES = [(f"q{i:03}", "eu" if i % 2 else "us") for i in range(120)]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A suite with its gate and the recorded answers of two models that differ on 2 of 120 samples."""
    monkeypatch.chdir(tmp_path)
    for name, text in (("suite.yaml", SUITE), ("gate.yaml", GATE), ("strict.yaml", STRICT)):
        (tmp_path / name).write_text(text)
    write(
        tmp_path / "data.jsonl",
        [{"id": i, "question": f"Ask {i}?", "answer": "yes", "region": r} for i, r in SAMPLES],
    )
    for name, wrong in (("old", {"q000", "q001"}), ("new", {"q000", "q002"})):
        write(
            tmp_path / f"{name}.jsonl",
            [{"id": i, "text": "no" if i in wrong else "yes"} for i, _ in SAMPLES],
        )
    return tmp_path


def power(capsys, *arguments):
    code = run(["power", *arguments])
    said = capsys.readouterr()
    return code, " ".join(said.out.split()), said.err


def test_the_suites_own_gates_and_those_of_the_command_line_are_told_together(folder, capsys):
    code, out, _ = power(capsys, "suite.yaml", "strict.yaml", "--json", "power.json")
    assert code == 1  # the strict rule can pass no equal candidate
    assert "hardly-worse on cities/exact_match can never pass an equal candidate" in out
    assert "no-worse on cities/exact_match passes an unchanged candidate with" in out
    assert "you have 120" in out
    assert "assumed discordance 0.1" in out
    assert "Gate ship: an unchanged candidate passes all 3 blocking outcomes with" in out
    held = json.loads((folder / "power.json").read_text())
    assert [row["samples"] for row in held["rules"]] == [120, 60, 60, 120]
    assert {gate["gate"] for gate in held["gates"]} == {"ship", "strict"}


def test_an_earlier_run_tells_how_scores_vary(folder, capsys):
    made = ["--candidate", "new.jsonl", "--baseline", "old.jsonl", "--quiet"]
    assert run(["run", "suite.yaml", *made]) == 0
    (past,) = (path for path in (folder / "reports").iterdir() if path.is_dir())
    power(capsys, "suite.yaml", "--json", "assumed.json")
    code, out, _ = power(capsys, "suite.yaml", "--from", str(past), "--json", "seen.json")
    assert code == 0
    assert "the run: 2 of 120 pairs differed" in out
    first = [
        json.loads((folder / name).read_text())["rules"][0]
        for name in ("assumed.json", "seen.json")
    ]
    assert first[0]["passes_unchanged"] < 0.85 < first[1]["passes_unchanged"]


def test_rules_that_decide_with_what_there_is_exit_with_0(folder, capsys):
    code, out, _ = power(capsys, "suite.yaml", "--assume", "discordance=0.02", "--power", "0.7")
    assert code == 0
    assert "70 %" in out


def test_the_first_samples_alone_are_counted_under_a_limit(folder, capsys):
    code, out, _ = power(capsys, "suite.yaml", "--limit", "10")
    assert code == 1
    assert "with 10 samples" in out


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("acuracy=0.9", "did you mean 'accuracy'?"),
        ("accuracy", "is not KEY=NUMBER"),
        ("accuracy=1.4", "less than 1"),
        ("discordance=often", "number"),
    ],
)
def test_an_assumption_that_cannot_be_meant_is_a_usage_error(folder, capsys, given, told):
    code, _, err = power(capsys, "suite.yaml", "--assume", given)
    assert code == 2
    assert told in err


def test_a_suite_without_a_gate_is_a_usage_error(folder, capsys):
    (folder / "suite.yaml").write_text(SUITE.replace("gates: [gate.yaml]\n", ""))
    code, _, err = power(capsys, "suite.yaml")
    assert code == 2
    assert "there is no gate" in err


def test_a_run_that_is_not_there_is_a_usage_error(folder, capsys):
    code, _, err = power(capsys, "suite.yaml", "--from", "nowhere")
    assert code == 2
    assert "nowhere" in err


def test_a_run_of_another_suite_tells_nothing_and_is_refused(folder, capsys):
    other = SUITE.replace("name: cities", "name: rivers").replace("gates: [gate.yaml]\n", "")
    (folder / "other.yaml").write_text(other)
    run(["run", "other.yaml", "--candidate", "old.jsonl", "--quiet"])
    (past,) = (path for path in (folder / "reports").iterdir() if path.is_dir())
    code, _, err = power(capsys, "suite.yaml", "--from", str(past))
    assert code == 2
    assert "none of the numbers" in err


def test_of_several_gates_each_rule_is_told_with_its_own(folder, capsys):
    (folder / "again.yaml").write_text(GATE.replace("ship", "again"))
    _, out, _ = power(capsys, "suite.yaml", "again.yaml")
    assert "? ship/no-worse on" in out and "? again/no-worse on" in out


def test_a_level_that_an_unchanged_candidate_only_just_has_is_not_denied_but_cannot_be_shown(
    folder, capsys
):
    (folder / "level.yaml").write_text(
        "gate: level\nrules:\n"
        "  - {id: level, estimate: cities/exact_match, require: at_least, value: 0.9}\n"
    )
    _, out, _ = power(capsys, "suite.yaml", "level.yaml")
    assert "no number of samples shows that such a candidate, at 0.900, is ≥ 0.9" in out


def test_a_file_that_cannot_be_written_is_no_verdict(folder, capsys):
    code, _, err = power(capsys, "suite.yaml", "--json", "nowhere/power.json")
    assert code == 3
    assert "make its folder first" in err


def test_help_shows_examples(capsys):
    code, out, _ = power(capsys, "--help")
    assert code == 0
    assert "--from production" in out
