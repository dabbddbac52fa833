"""Reports as a user meets them: written by every run, again on request, elsewhere, and by reporters of one's own."""

from __future__ import annotations

import json
import shutil

import pytest
from commands import command, evalkit, only_run

from evalkit.cli.reporting import ALWAYS
from evalkit.reports import reported

PLUGIN = "from evalkit.registry import register\n\n" + "\n".join(
    line.removeprefix("    ")
    for line in (reported.__doc__ or "").partition("::\n\n")[2].splitlines()
)
"""The example in the module's own words."""
BROKEN = """
from evalkit.registry import register

@register("reporter", "broken", summary="Fails.", example="--report broken")
class Broken:
    file = "broken.txt"

    def render(self, run):
        raise LookupError("no such thing")
"""
FILES = {"report.html", "junit.xml", "summary.md"}


@pytest.fixture(scope="module")
def starter(tmp_path_factory):
    """The starter suite, run once; its gate passes."""
    folder = tmp_path_factory.mktemp("reports") / "evals"
    assert evalkit("init", folder, cwd=folder.parent).code == 0
    assert evalkit("run", "suite.yaml", "--quiet", cwd=folder).code == 0
    (folder / "strict.yaml").write_text(
        "gate: strict\nrules:\n  - {id: all, estimate: sums/numeric, require: at_least, value: 0.99}\n"
    )
    return folder


@pytest.fixture
def evals(starter, tmp_path):
    """A copy of it."""
    return shutil.copytree(starter, tmp_path / "evals")


def test_every_run_has_a_page_a_junit_file_and_a_summary(starter):
    assert len(ALWAYS) == len(FILES)
    assert {path.name for path in only_run(starter / "reports").iterdir()} >= FILES


def test_a_reporter_that_is_lost_is_written_again_the_same(evals):
    run = only_run(evals / "reports")
    before = {name: (run / name).read_bytes() for name in FILES}
    for name in FILES:
        (run / name).unlink()
    code, out, _ = command("report", run.name, cwd=evals)
    assert code == 0
    assert sorted(out.split()) == sorted(f"reports/{run.name}/{name}" for name in FILES)
    assert {name: (run / name).read_bytes() for name in FILES} == before


def test_one_format_is_written_elsewhere(evals):
    run = only_run(evals / "reports").name
    code, out, _ = command("report", run, "--format", "sarif", "--to", "ci", cwd=evals)
    assert (code, out) == (0, "ci/outcomes.sarif\n")
    assert json.loads((evals / "ci/outcomes.sarif").read_text())["version"] == "2.1.0"
    assert [path.name for path in (evals / "ci").iterdir()] == ["outcomes.sarif"]


def test_reports_of_another_verdict_leave_the_runs_own(evals):
    run = only_run(evals / "reports")
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    code, _, err = command("gate", run.name, "strict.yaml", "--reports", "ci", cwd=evals)
    assert code == 1, err
    assert {path.name for path in (evals / "ci").iterdir()} == FILES
    assert "<failure" in (evals / "ci/junit.xml").read_text()
    assert "<failure" not in (run / "junit.xml").read_text()
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_a_verdict_that_is_replaced_takes_its_reports_along(evals):
    run = only_run(evals / "reports")
    code, _, _ = command("gate", run.name, "strict.yaml", "--write", "--report", "jsonl", cwd=evals)
    assert code == 1
    assert "<failure" in (run / "junit.xml").read_text()
    first = json.loads((run / "outcomes.jsonl").read_text().splitlines()[0])
    assert (first["record"], first["status"]) == ("verdict", "fail")


def test_the_summary_goes_to_the_page_of_the_ci_job(evals):
    page = evals / "step.md"
    page.write_text("# earlier step\n")
    done = evalkit("run", "suite.yaml", "--quiet", cwd=evals, GITHUB_STEP_SUMMARY=str(page))
    assert done.code == 0, done.err
    told = page.read_text()
    assert told.startswith("# earlier step\n")
    assert (only_run(evals / "reports") / "summary.md").read_text() in told


def test_a_reporter_of_ones_own_is_one_small_class(evals, monkeypatch):
    (evals / "one_line.py").write_text(PLUGIN)
    text = (evals / "suite.yaml").read_text()
    (evals / "suite.yaml").write_text(text.replace("version: 1", "version: 1\nplugins: [one_line]"))
    done = evalkit(
        "run",
        "suite.yaml",
        "--report",
        "one-line",
        "--out",
        "own",
        cwd=evals,
        PYTHONPATH=str(evals),
    )
    assert done.code == 0, done.err
    assert (
        (only_run(evals / "own") / "verdict.txt").read_text().startswith("every blocking outcome")
    )


def test_a_reporter_that_fails_costs_nothing_else(evals):
    (evals / "broken_reporter.py").write_text(BROKEN)
    text = (evals / "suite.yaml").read_text()
    (evals / "suite.yaml").write_text(
        text.replace("version: 1", "version: 1\nplugins: [broken_reporter]")
    )
    done = evalkit(
        "run", "suite.yaml", "--report", "broken", "--out", "own", cwd=evals, PYTHONPATH=str(evals)
    )
    assert done.code == 0
    assert "broken.txt was not written, its reporter 'broken' failed: LookupError" in done.err
    assert {"scorecard.json", *FILES} <= {p.name for p in only_run(evals / "own").iterdir()}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("report",), "name a run"),
        (("report", "nothing-here"), "no run 'nothing-here'"),
        (("report", "--site", "public", "--format", "html"), "--site is written instead"),
        (("run", "suite.yaml", "--report", "sarf", "--out", "x"), "did you mean 'sarif'"),
    ],
)
def test_what_cannot_be_is_told(evals, words, told):
    code, _, err = command(*words, cwd=evals)
    assert code == 2
    assert told in err
    assert not list(evals.glob("x/*/run.json"))


def test_a_report_needs_somewhere_to_be_written(evals):
    run = only_run(evals / "reports").name
    code, _, err = command("gate", run, "strict.yaml", "--report", "sarif", cwd=evals)
    assert code == 2
    assert "--write or --reports DIR" in err


def test_a_verdict_that_was_edited_by_hand_is_not_believed(evals):
    run = only_run(evals / "reports")
    command("gate", run.name, "strict.yaml", "--write", cwd=evals)
    held = json.loads((run / "verdict.json").read_text())
    assert held["status"] == "fail"
    held |= {"status": "pass", "exit_code": 0, "reason": "every blocking outcome passed (1)"}
    (run / "verdict.json").write_text(json.dumps(held))
    before = (run / "report.html").read_bytes()
    for words in (("report", run.name), ("promote", run.name, "--as", "production")):
        code, _, err = command(*words, cwd=evals)
        assert code == 2
        assert "it says pass, but all on sums/numeric did not: it was changed by hand" in err
    assert (run / "report.html").read_bytes() == before
    assert not (evals / "reports/aliases.jsonl").exists()


def test_samples_that_were_changed_leave_the_reports_as_they_are(evals):
    run = only_run(evals / "reports")
    before = (run / "report.html").read_bytes()
    with (run / "samples.jsonl").open("ab") as file:
        file.write(b"\n")
    code, _, err = command("report", run.name, cwd=evals)
    assert code == 2
    assert "samples were changed after the run" in err
    assert (run / "report.html").read_bytes() == before


def test_a_report_that_could_not_be_written_is_no_success(evals, monkeypatch):
    (evals / "unwritten.py").write_text(BROKEN.replace("broken", "unwritten"))
    monkeypatch.syspath_prepend(evals)
    __import__("unwritten")
    code, _, err = command(
        "report", only_run(evals / "reports").name, "--format", "unwritten", cwd=evals
    )
    assert code == 3
    assert "unwritten.txt was not written" in err


def test_the_page_of_a_verdict_written_elsewhere_is_the_one_named(evals):
    run = only_run(evals / "reports").name
    _, out, _ = command("gate", run, "strict.yaml", "--reports", "ci", cwd=evals)
    assert "report: ci/report.html" in out
    _, out, _ = command("gate", run, "strict.yaml", cwd=evals)
    assert "report:" not in out


def test_a_trial_on_some_samples_says_so_in_every_report(evals):
    done = evalkit("run", "suite.yaml", "--limit", "300", "--out", "trial", cwd=evals)
    assert done.code in (0, 4)
    made = only_run(evals / "trial")
    assert "Made with --limit" in done.out
    for file in ("report.html", "summary.md"):
        assert "Made with" in (made / file).read_text()
