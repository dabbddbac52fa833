"""From Python: the same run as the command line's, and frames that hold the scorecard's very numbers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pandas as pd
import pytest

import evalkit
from evalkit import frames
from evalkit.cli import main
from evalkit.errors import UsageError
from evalkit.store.runs import read_scorecard

SUITE = """\
suite: capitals
version: 1
models: {candidate: new.jsonl, baseline: old.jsonl}
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
gate: level
rules:
  - {id: right, estimate: cities/exact_match, require: at_least, value: 0.5}
  - {id: no-worse, estimate: cities/exact_match, require: no_worse_than, margin: 0.3}
"""
STRICT = "gate: strict\nrules:\n  - {id: all, estimate: cities/exact_match, require: at_least, value: 0.96}\n"


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A suite of sixty questions, with the answers of two models."""
    made = tmp_path_factory.mktemp("api")
    (made / "suite.yaml").write_text(SUITE)
    (made / "gate.yaml").write_text(GATE)
    (made / "strict.yaml").write_text(STRICT)
    ids = [(f"q{n:02}", "eu" if n % 2 else "us") for n in range(60)]
    write(
        made / "data.jsonl",
        [{"id": i, "question": f"Ask {i}?", "answer": "yes", "region": r} for i, r in ids],
    )
    write(made / "old.jsonl", [{"id": i, "text": "yes" if i != "q07" else "no"} for i, _ in ids])
    said = {"q03": {"text": "no"}, "q05": {"failed": "timeout"}}
    write(
        made / "new.jsonl", [{"id": i} | said.get(i, {"text": "yes"}) for i, _ in ids if i != "q05"]
    )
    return made


@pytest.fixture(scope="module")
def run(folder):
    return evalkit.run(folder / "suite.yaml", out=folder / "reports")


def test_running_from_python_writes_the_run_that_the_command_line_writes(folder, run, capsys):
    code = main.run(["run", str(folder / "suite.yaml"), "--out", str(folder / "again"), "--quiet"])
    assert code == run.verdict.exit_code == 0
    (again,) = (path for path in (folder / "again").iterdir() if path.is_dir())
    assert read_scorecard(again).digest == run.scorecard.digest
    assert again.name == run.path.name
    assert "PASS" in capsys.readouterr().out


def test_it_prints_nothing(folder, capsys):
    evalkit.run(folder / "suite.yaml", out=folder / "silent")
    assert capsys.readouterr() == ("", "")


def test_the_run_records_the_command_that_does_the_same(folder):
    done = evalkit.run(
        folder / "suite.yaml", out=folder / "told", limit=40, gates=[folder / "strict.yaml"]
    )
    words = done.scorecard.circumstances.command
    assert words[:2] == ("evalkit", "run")
    assert (
        main.run([*words[1:-1], "--out", str(folder / "retold"), words[-1]])
        == done.verdict.exit_code
        == 4
    )
    (retold,) = (path for path in (folder / "retold").iterdir() if path.is_dir())
    assert read_scorecard(retold).digest == done.scorecard.digest


def test_a_finished_run_is_opened_by_folder_name_or_scorecard(folder, run):
    for name, out in (
        (run.path, "reports"),
        (run.path / "scorecard.json", "reports"),
        (run.path.name, folder / "reports"),
    ):
        assert evalkit.load(name, out=out).scorecard == run.scorecard


def test_another_gate_decides_without_a_model(folder, run):
    before = run.verdict
    assert run.decide(folder / "strict.yaml").status == "inconclusive"
    assert run.verdict == before
    with pytest.raises(UsageError, match="name a gate file"):
        run.decide()


def test_the_frame_of_estimates_is_the_scorecard(run):
    frame = run.estimates
    assert tuple(frame.columns) == frames.ESTIMATES
    assert len(frame) == len(run.scorecard.estimates)
    for row, one in zip(frame.itertuples(), run.scorecard.estimates, strict=True):
        assert (row.model, row.task, row.metric, row.value) == (
            one.model,
            one.task,
            one.metric,
            one.value,
        )
        assert (row.low, row.high) == (one.interval.low, one.interval.high)
        assert row.planned == row.scored + row.unscored + row.failed
    ours = frame.query("model == 'candidate' and slice.isna()")
    assert (ours.value.item(), ours.n.item(), ours.failed.item()) == (58 / 59, 59, 1)


def test_the_frame_of_comparisons_is_the_scorecard(run):
    frame = run.comparisons
    assert tuple(frame.columns) == frames.COMPARISONS
    whole = frame[frame.slice.isna()].iloc[0]
    held = next(c for c in run.scorecard.comparisons if c.slice is None)
    assert (whole.difference, whole.low, whole.pairs) == (held.difference, held.interval.low, 59)


def test_the_frame_of_outcomes_tells_each_rule(run):
    assert tuple(run.outcomes.columns) == frames.OUTCOMES
    assert run.outcomes.set_index("rule").counts_as.to_dict() == {
        "right": "pass",
        "no-worse": "pass",
    }


def test_the_frame_of_samples_gives_the_estimate_again(run):
    frame = run.samples
    ours = frame[frame.model == "candidate"].set_index("id")
    assert len(frame) == 120
    assert ours.loc["q03", "answers"] == ["no"]
    assert ours.loc["q03", "prompt"] == "Ask q03?"
    assert ours.loc["q05", "failed"]  # why it has none
    assert pd.isna(ours.loc["q05", "exact_match.match"])
    means = ours.groupby("slice.region")["exact_match.match"].mean()
    told = {e.slice: e.value for e in run.scorecard.estimates if e.model == "candidate" and e.slice}
    assert {f"region={region}": value for region, value in means.items()} == told


def test_a_run_without_weights_has_no_layers(run):
    assert tuple(run.layers.columns) == frames.LAYERS
    assert run.layers.empty


def test_layers_have_their_measures_with_intervals_and_why_there_is_none():
    frame = frames.layers_frame(
        [
            {"model": "candidate", "task": "w", "tensor": "a", "stored": "a", "shape": [2, 3], "dtype": "F32",
             "module": "up", "form": "matrix", "depth": 0,
             "measured": {"alpha": {"value": 3.5, "low": 3.0, "high": 4.0}, "norm": {"value": 1.0}}},
            {"model": "candidate", "task": "w", "tensor": "b", "stored": "b", "shape": [2], "dtype": "F32",
             "module": "norm", "form": "vector", "depth": None,
             "measured": {"alpha": {"value": None, "status": "too small"}}},
        ]
    )  # fmt: skip
    first, second = frame.to_dict("records")
    assert (first["alpha"], first["alpha.low"], first["alpha.high"], first["norm"]) == (
        3.5,
        3.0,
        4.0,
        1.0,
    )
    assert pd.isna(second["alpha"])
    assert second["alpha.status"] == "too small"
    assert pd.isna(second["norm"])


def test_a_wrong_option_names_the_nearest(folder):
    with pytest.raises(UsageError, match="no option 'limits'; did you mean 'limit'"):
        evalkit.run(folder / "suite.yaml", limits=3)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"limit": 0}, "--limit"),
        ({"backend": "magic"}, "'magic' is not one of"),
        ({"report": ["sculpture"]}, "unknown reporter 'sculpture'"),
    ],
)
def test_a_wrong_value_is_told_as_on_the_command_line(folder, options, told):
    with pytest.raises(UsageError, match=told):
        evalkit.run(folder / "suite.yaml", out=folder / "wrong", **options)
    assert not list(folder.glob("wrong/*/run.json"))


def test_a_suite_that_is_not_there_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        evalkit.run(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match="no run"):
        evalkit.load(tmp_path / "none")


def test_a_run_within_a_running_loop_as_in_a_notebook(folder, run):
    async def cell():
        return evalkit.run(folder / "suite.yaml", out=folder / "notebook")

    assert asyncio.run(cell()).scorecard.digest == run.scorecard.digest


def test_a_value_that_begins_with_a_dash_is_a_value(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = evalkit.run(folder / "suite.yaml", out="-out")
    assert done.path.parent.name == "-out"


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, evalkit; print(*sorted(m for m in sys.modules if m.split('.')[0] in {heavy}))"
    )
    heavy = "('click', 'numpy', 'pandas', 'pydantic', 'torch', 'asyncio')"
    done = subprocess.run(
        [sys.executable, "-c", code.format(heavy=heavy)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_every_public_name_is_there():
    for name in evalkit.__all__:
        assert getattr(evalkit, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'walk'"):
        _ = evalkit.walk
