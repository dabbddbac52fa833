"""The pytest plug-in, in sessions of their own: rules as tests, the fixture, and nothing where nobody asks."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stub_server import running_stub

from evalkit.asserting import answer, assert_gate
from evalkit.gates.evaluate import _verdict
from evalkit.pytest_plugin.session import is_suite
from evalkit.records.verdict import Outcome

pytest_plugins = ["pytester"]

INSTALLED = any(
    point.name == "evalkit" for point in importlib.metadata.entry_points(group="pytest11")
)
LOADED = ("-p", "no:hypothesispytest", *(() if INSTALLED else ("-p", "evalkit.pytest_plugin")))
"""What loads the plug-in where the installed distribution does not name it; another that starts slowly stays away."""
ASKED = ("--evalkit", "--evalkit-backend=replay", "--evalkit-allow-undecidable")
SAMPLES = 200
RIGHT = 180
SUITE = """
suite: shop
version: 1
models: {candidate: answers}
gates: [gate.yaml]
tasks:
  - name: ask
    dataset: {path: data.jsonl}
    prompt: "{{ question }}"
    target: "{{ answer }}"
    slices: [region]
    metrics: [exact_match]
"""
HOLDS = "{id: holds, estimate: ask/exact_match, require: at_least, value: 0.5}"
BROKEN = "{id: broken, estimate: ask/exact_match, require: at_least, value: 0.95, why: Who asks wants to know.}"
BETWEEN = "{id: between, estimate: ask/exact_match, require: at_least, value: 0.9}"
ABSENT = "{id: absent, estimate: ask/bleu, require: at_least, value: 0.9}"
REGIONS = '{id: regions, estimate: "ask/exact_match@region=*", require: at_least, value: 0.5}'
WARNS = "{id: warns, estimate: ask/exact_match, require: at_least, value: 0.99, severity: warn}"
LENIENT = (
    "{id: lenient, estimate: ask/exact_match, require: at_least, value: 0.9, on_inconclusive: pass}"
)
WAIVER = "waivers: [{rule: broken, owner: Release board, reason: Known since the last release, expires: 2099-12-31}]"
ALL = (HOLDS, BROKEN, BETWEEN, ABSENT, REGIONS, WARNS)


def gate(*rules, name="release", also=""):
    return f"gate: {name}\n{also}\nrules:\n" + "".join(f"  - {rule}\n" for rule in rules)


def write_shop(folder: Path, *rules: str, also: str = "", lost: int = 0) -> Path:
    """A suite of 200 questions, 180 of them answered right, on recorded answers; ``lost`` answers are not there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "answers").mkdir(exist_ok=True)
    rows = [
        {
            "id": f"q{n}",
            "question": f"{n} + 1?",
            "answer": str(n + 1),
            "region": "en" if n % 2 else "de",
        }
        for n in range(SAMPLES)
    ]
    said = [
        {"sample_id": row["id"], "text": row["answer"] if n < RIGHT else "who knows"}
        for n, row in enumerate(rows)
    ]
    for path, lines in (("data.jsonl", rows), ("answers/ask.jsonl", said[lost:])):
        (folder / path).write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "suite.yaml").write_text(SUITE if rules else SUITE.replace("gates: [gate.yaml]", ""))
    if rules:
        (folder / "gate.yaml").write_text(gate(*rules, also=also))
    return folder


def clean():
    """The environment without what the machine sets for evalkit and pytest."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("EVALKIT_", "PYTEST_"))}
    return kept | {"OMP_NUM_THREADS": "1"}


@pytest.fixture
def shop(pytester):
    """Make a folder with a suite in the session's root folder."""
    return lambda *rules, name="shop", **more: write_shop(pytester.path / name, *rules, **more)


@pytest.fixture
def run(pytester, monkeypatch):
    """Run pytest with ``--evalkit`` on recorded answers, in a process of its own."""
    for name in os.environ.keys() - clean().keys():
        monkeypatch.delenv(name)

    def ask(*arguments, evalkit=True):
        asked = ASKED if evalkit else ()
        return pytester.runpytest_subprocess(*LOADED, *asked, *arguments)

    return ask


# -- the items -------------------------------------------------------------------------------------


def test_there_is_one_item_per_rule_and_collecting_asks_no_model(run, shop, pytester):
    shop(*ALL)
    (pytester.path / "shop" / "notes.yaml").write_text("a: suite\nlist:\n  suite: no\n")
    done = run("--collect-only", "-q")
    ids = [line for line in done.outlines if "::" in line]
    names = ("holds", "broken", "between", "absent", "regions", "warns")
    assert ids == [f"shop/suite.yaml::release::{name}" for name in names]
    assert done.ret == 0
    assert not (pytester.path / "reports").exists()


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A session over rules of every kind: its output, and its JUnit XML by rule."""
    folder = tmp_path_factory.mktemp("session")
    write_shop(folder / "shop", *ALL)
    told = [sys.executable, "-m", "pytest", *LOADED, *ASKED, "-rx", "--junitxml", "results.xml"]
    done = subprocess.run(
        told, cwd=folder, env=clean(), capture_output=True, text=True, check=False
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    cases = ET.parse(folder / "results.xml").iter("testcase")
    return done.stdout, {case.get("name"): case for case in cases}


def test_a_failure_tells_the_reason_the_numbers_the_verdict_and_the_report_and_no_traceback(
    session,
):
    out, _ = session
    pytest.LineMatcher(out.splitlines()).fnmatch_lines(
        [
            "shop/suite.yaml .FFF.x*",
            "*release::broken*",
            "failed: ask/exact_match is 0.900 (95 % interval 0.851 to 0.934), wholly below 0.95",
            "  observed 0.900 [[]0.851, 0.934], required ≥ 0.95",
            "why: Who asks wants to know.",
            "verdict: FAIL: 1 of 6 blocking outcomes failed: broken",
            "report: reports/shop-*",
            "*release::between*",
            "undecided: ask/exact_match is 0.900*",
            "*release::absent*",
            "missing: nothing in this run is named ask/bleu*",
            "shop/suite.yaml: FAIL: 1 of 6 blocking outcomes failed: broken",
            "XFAIL shop/suite.yaml::release::warns - a warning, does not block (failed: ask/exact_match is 0.900*",
        ]
    )
    assert "Traceback" not in out
    assert ".py" not in out.partition("FAILURES")[2]


def test_junit_xml_has_each_rule_with_its_message_and_what_was_observed_and_required(session):
    _, cases = session
    assert cases.keys() == {"holds", "broken", "between", "absent", "regions", "warns"}
    assert "failed: ask/exact_match is 0.900" in cases["broken"].find("failure").get("message")
    told = {p.get("name"): p.get("value") for p in cases["broken"].iter("property")}
    assert float(told["evalkit_observed"]) == RIGHT / SAMPLES
    assert told["evalkit_interval"] == "[0.851, 0.934]"
    assert told["evalkit_required"] == "≥ 0.95"
    assert cases["warns"].find("skipped") is not None
    properties = [(p.get("name"), p.get("value")) for p in cases["regions"].iter("property")]
    estimates = [value for name, value in properties if name == "evalkit_estimate"]
    assert sorted(estimates) == ["ask/exact_match@region=de", "ask/exact_match@region=en"]


def test_one_rule_alone_is_chosen_by_its_id_or_by_k_and_decides_alone(run, shop):
    shop(*ALL)
    run("shop/suite.yaml::release::holds").assert_outcomes(passed=1)
    done = run("-k", "regions or holds", "-v")
    done.assert_outcomes(passed=2, deselected=4)
    assert done.ret == 0
    done.stdout.fnmatch_lines(
        [
            "*::holds PASSED (observed 0.900 [[]0.85*, 0.93*], required ≥ 0.5)*",
            "*::regions PASSED (2 estimates)*",
        ]
    )


def test_x_ends_at_the_first_failure_and_lf_begins_with_it(run, shop):
    shop(*ALL)
    run("-x").assert_outcomes(passed=1, failed=1)
    run("--lf").assert_outcomes(failed=1, deselected=5)


def test_a_rule_of_a_gate_named_on_the_command_line_decides_beside_those_of_the_suite(
    run, shop, pytester
):
    shop(HOLDS)
    (pytester.path / "more.yaml").write_text(gate(BROKEN, name="more"))
    done = run("--evalkit-gate", "more.yaml", "-rfp")
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["FAILED shop/suite.yaml::more::broken*"])


def test_a_gate_that_decides_without_having_been_collected_lets_nothing_pass(
    run, shop, pytester, monkeypatch
):
    shop(HOLDS)
    (pytester.path / "more.yaml").write_text(gate(BROKEN, name="more"))
    monkeypatch.setenv("EVALKIT_GATE", str(pytester.path / "more.yaml"))
    done = run()
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["the gates that decided are not those that were collected: more; *"])


def test_a_suite_without_a_gate_fails_and_says_what_to_add(run, shop, pytester):
    shop()
    done = run()
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*add 'gates: [[]FILE]' to it, or give --evalkit-gate FILE"])
    assert not (pytester.path / "reports").exists()


def test_a_wrong_file_is_an_error_of_collection_with_its_line(run, shop, pytester):
    folder = shop(HOLDS)
    wrong = gate(HOLDS.replace("at_least", "at_leats"))
    (folder / "gate.yaml").write_text(wrong)
    done = run()
    assert done.ret == pytest.ExitCode.INTERRUPTED
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(
        ["shop/gate.yaml:4: rules[[]0].require: unknown condition 'at_leats'; did you mean*"]
    )
    assert "Traceback" not in done.stdout.str()


def test_an_incomplete_run_is_an_error_of_each_rule(run, shop):
    shop(HOLDS, REGIONS, lost=120)
    done = run()
    done.assert_outcomes(errors=2)
    done.stdout.fnmatch_lines(
        ["INCOMPLETE: the run is incomplete: task ask on the candidate has 80 of 200*"]
    )


def test_a_run_that_cannot_be_is_an_error_of_each_rule_with_its_reason_alone(run, shop, pytester):
    folder = shop(HOLDS, REGIONS)
    (folder / "answers" / "ask.jsonl").unlink()
    done = run()
    done.assert_outcomes(errors=2)
    assert "answers" in done.stdout.str().partition("ERRORS")[2]
    assert "During handling" not in done.stdout.str()
    assert "Traceback" not in done.stdout.str()
    assert ".py" not in done.stdout.str().partition("ERRORS")[2]


def test_an_undecidable_rule_is_refused_by_the_flag_that_pytest_knows(run, shop):
    shop(ABSENT)
    done = run("--evalkit", "--evalkit-backend=replay", evalkit=False)
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(
        ["rule absent can never pass*", "--evalkit-allow-undecidable runs all the same*"]
    )


def test_what_is_waived_is_an_expected_failure_that_names_its_owner(run, shop):
    shop(HOLDS, BROKEN, also=WAIVER)
    done = run("-rx")
    done.assert_outcomes(passed=1, xfailed=1)
    assert done.ret == 0
    done.stdout.fnmatch_lines(
        [
            "XFAIL *::broken - Waived by Release board until 2099-12-31: Known since the last release (waived: *"
        ]
    )


def test_what_data_say_moves_no_cursor_and_breaks_no_xml(run, shop, pytester):
    folder = shop(
        REGIONS.replace("0.5", "0.95"), WARNS.replace("exact_match", "exact_match@region=*")
    )
    data = folder / "data.jsonl"
    hostile = json.dumps("\x1b[31m\x00\u202een]]>")
    data.write_text(data.read_text().replace('"en"', hostile))
    done = run("--junitxml", "results.xml", "-rx", "-v")
    done.assert_outcomes(failed=1, xfailed=1)
    assert not set("\x1b\x00\u202e") & set(done.stdout.str())
    assert r"ask/exact_match@region=\x1b[31m\x00\u202een]]> is 0.900" in done.stdout.str()
    told = [p.get("value") for p in ET.parse(pytester.path / "results.xml").iter("property")]
    assert r"ask/exact_match@region=\x1b[31m\x00\u202een]]>" in told


# -- the exit status -------------------------------------------------------------------------------

GATES = {
    "pass": ((HOLDS, REGIONS), ""),
    "fail": ((HOLDS, BROKEN), ""),
    "undecided": ((HOLDS, BETWEEN), ""),
    "missing": ((HOLDS, ABSENT), ""),
    "waived": ((HOLDS, BROKEN), WAIVER),
    "waived-not-enough": ((BROKEN, BETWEEN), WAIVER),
    "lenient": ((LENIENT,), ""),
    "warns": ((HOLDS, WARNS), ""),
    "warns-alone": ((WARNS,), ""),
    "any-regression": ((HOLDS, BETWEEN), "family: any_regression"),
}


def test_pytest_succeeds_exactly_where_evalkit_passes(run, shop, pytester, root):
    for name, (rules, also) in GATES.items():
        shop(*rules, name=name, also=also)
    shop(HOLDS, name="incomplete", lost=120)
    done = run("--junitxml", "results.xml", "-q")
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    green = {}
    for case in ET.parse(pytester.path / "results.xml").iter("testcase"):
        name = case.get("classname").partition(".")[0]
        held = not any(case.find(kind) is not None for kind in ("failure", "error"))
        green[name] = green.get(name, True) and held
    codes = exit_codes([pytester.path / name for name in green])
    assert {name: codes[name] == 0 for name in green} == green
    assert set(codes.values()) == {0, 1, 3, 4}


def exit_codes(folders):
    """What the command line answers on the suite of each folder."""
    program = """
import contextlib, json, sys
from evalkit.cli import main
codes = []
for folder in sys.argv[1:]:
    words = ["--backend", "replay", "--out", "out", "--quiet", "--allow-undecidable"]
    with contextlib.chdir(folder):
        codes.append(main.run(["run", "suite.yaml", *words]))
print(json.dumps(codes))
"""
    asked = [sys.executable, "-c", program, *map(str, folders)]
    done = subprocess.run(asked, capture_output=True, check=True, text=True)
    codes = json.loads(done.stdout.splitlines()[-1])
    return {folder.name: code for folder, code in zip(folders, codes, strict=True)}


OUTCOMES = st.builds(
    Outcome.model_construct,
    gate=st.just("gate"),
    rule=st.sampled_from("abc"),
    counts_as=st.sampled_from(["pass", "fail", "inconclusive", "missing", "waived"]),
    severity=st.sampled_from(["block", "warn", "info"]),
)


@given(st.lists(OUTCOMES, min_size=1, max_size=12))
def test_no_rule_fails_exactly_where_the_verdict_of_all_outcomes_is_a_pass(outcomes):
    rules = {outcome.rule for outcome in outcomes}
    answers = [answer(o for o in outcomes if o.rule == rule) for rule in rules]
    verdict, _ = _verdict(outcomes, ())
    assert ("failed" not in answers) == (verdict == "pass")


def test_a_rule_without_an_outcome_fails():
    assert answer([]) == "failed"


# -- several workers -------------------------------------------------------------------------------

SERVED = """
suite: served
version: 1
gates: [gate.yaml]
tasks:
  - name: ask
    dataset: {path: data.jsonl}
    prompt: "{{ question }}"
    target: "{{ answer }}"
    decoding: {max_tokens: 8, temperature: 0}
    metrics: [exact_match]
"""


@pytest.mark.parametrize("how", [(), ("--dist", "loadgroup")], ids=["load", "loadgroup"])
def test_workers_ask_a_suite_and_a_fixtures_run_once(run, shop, pytester, how):
    answers = {f"{n} + 1?": str(n + 1) for n in range(SAMPLES)}
    rules = [HOLDS.replace("holds", f"holds-{n}") for n in range(4)]
    folder = shop(*rules)
    (folder / "suite.yaml").write_text(SERVED)
    tests = "".join(
        f"""
def test_{n}(evalkit_run):
    run = evalkit_run("suite.yaml", backend="openai", limit=50)
    assert_gate(run)
"""
        for n in range(4)
    )
    (folder / "test_served.py").write_text(f"from evalkit import assert_gate\n{tests}")
    with running_stub(pytester.path / "stub", answers=answers) as stub:
        told = (
            f"--evalkit-candidate={stub.url}",
            "--evalkit-backend=openai",
            "-n",
            "2",
            *how,
            "-v",
        )
        done = run("--evalkit", *told, evalkit=False)
        prompts = stub.prompts()
    done.assert_outcomes(passed=8)
    assert {"[gw0]", "[gw1]"} <= set(re.findall(r"\[gw\d\]", done.stdout.str()))
    # Answers of a server that states no revision serve one run alone: the whole suite, and the 50 of the fixture.
    assert len(prompts) == SAMPLES + 50
    done.stdout.fnmatch_lines(["shop/suite.yaml: PASS: every blocking outcome passed (4)"])


def test_the_rules_of_a_suite_are_one_group_of_xdist(run, shop, pytester):
    shop(HOLDS, REGIONS)
    shop(HOLDS, name="second")
    other = pytester.path / "second" / "suite.yaml"
    other.write_text(other.read_text().replace("suite: shop", "suite: second"))
    pytester.makeconftest(
        """
def pytest_collection_finish(session):
    for item in session.items:
        print("group", item.name, *item.get_closest_marker("xdist_group").args)
"""
    )
    done = run("--collect-only", "-s")
    done.stdout.fnmatch_lines_random(
        ["group holds evalkit-shop", "group regions evalkit-shop", "group holds evalkit-second"]
    )


def test_workers_do_not_take_the_run_of_an_earlier_session(run, shop):
    folder = shop(HOLDS, REGIONS)
    told = ("--evalkit", "--evalkit-backend=replay", "-n", "2")
    run(*told, evalkit=False).assert_outcomes(passed=2)
    answers = folder / "answers" / "ask.jsonl"
    answers.write_text(answers.read_text().replace('"text": "', '"text": "not '))
    run(*told, evalkit=False).assert_outcomes(failed=2)


# -- the fixture -----------------------------------------------------------------------------------


def test_a_test_runs_a_suite_once_and_fails_by_a_gate_with_its_reasons(run, shop, pytester):
    folder = shop(HOLDS, BROKEN)
    (folder / "lenient.yaml").write_text(gate(HOLDS, name="lenient"))
    (folder / "test_shop.py").write_text(
        """
from evalkit import assert_gate

def test_by_its_own_gates(evalkit_run):
    assert_gate(evalkit_run("suite.yaml", candidate="answers", backend="replay"))

def test_by_another_gate(evalkit_run):
    run = evalkit_run("suite.yaml", candidate="answers", backend="replay")
    assert run is evalkit_run("shop/suite.yaml", candidate="shop/answers", backend="replay")
    assert assert_gate(run, "lenient.yaml").status == "pass"

def test_a_mistake(evalkit_run):
    evalkit_run("nowhere.yaml")
"""
    )
    done = run(evalkit=False)
    done.assert_outcomes(passed=1, failed=2)
    done.stdout.fnmatch_lines(
        [
            ">*assert_gate(evalkit_run(*",
            "E*AssertionError: FAIL: 1 of 2 blocking outcomes failed: broken",
            "E*release::broken: failed: ask/exact_match is 0.900*(observed 0.900 *, required ≥ 0.95)",
            "E*run: */reports/shop-*",
            "*test_shop.py:5: AssertionError",
            "E*UsageError: 'nowhere.yaml' is not there, in */shop or */test_a_test_runs*",
        ]
    )
    assert len(list((pytester.path / "reports").glob("shop-*"))) == 1


def test_a_gate_that_nobody_named_is_no_pass(tmp_path):
    class Undecided:
        path, verdict = tmp_path, None

    with pytest.raises(AssertionError, match="no gate has decided on this run"):
        assert_gate(Undecided())


# -- other projects --------------------------------------------------------------------------------


def test_strict_projects_that_make_errors_of_warnings_run_suites_too(run, shop, pytester):
    folder = shop(HOLDS, WARNS)
    suite = SUITE.replace("models: {candidate: answers}", "plugins: [old_part]")
    (folder / "suite.yaml").write_text(suite)
    (folder / "again.yaml").write_text(suite.replace("old_part", "older_part"))
    pytester.makepyfile(
        old_part="import warnings\nwarnings.warn('this part is old')",
        older_part="import warnings\nwarnings.warn('this part is older')",
    )
    options = (
        "-W error --strict-markers --strict-config --import-mode=importlib -p no:cacheprovider"
    )
    pytester.makeini(f"[pytest]\naddopts = {options}\nevalkit_candidate = shop/answers\n")
    (folder / "test_shop.py").write_text(
        """
def test_shop(evalkit_run):
    assert evalkit_run("again.yaml", backend="replay").verdict.status == "pass"
"""
    )
    done = run("shop/suite.yaml", "shop/test_shop.py")
    done.assert_outcomes(passed=2, xfailed=1, warnings=2)
    assert done.ret == 0
    done.stdout.fnmatch_lines(
        ["*UserWarning: this part is old", "*UserWarning: this part is older"]
    )
    run("-p", "no:xdist", "shop/suite.yaml").assert_outcomes(passed=1, xfailed=1, warnings=1)


@pytest.mark.parametrize(
    ("content", "collected"),
    [
        ("suite: a", True),
        ("# A suite\r\nversion: 1\r\nsuite : a\r\n", True),
        ('"suite": a', True),
        ("{suite: a}", True),
        ("\ufeffsuite: a", True),
        ("gate: a\nrules:\n  - suite: a", False),
        ("suites: a", False),
        ("# suite: a", False),
        ("- suite: a", False),
        ("", False),
    ],
)
def test_a_suite_is_told_by_its_key(tmp_path, content, collected):
    (tmp_path / "file.yaml").write_bytes(content.encode())
    assert is_suite(tmp_path / "file.yaml") == collected


UNRELATED = """
import sys

def test_passes():
    assert "evalkit.api" not in sys.modules

def test_fails():
    assert 1 + 1 == 3
"""
SAYS_MODULES = """
import sys

def pytest_unconfigure():
    with open("modules.txt", "w") as file:
        file.write("\\n".join(sorted(sys.modules)))
"""


def test_an_unrelated_project_sees_nothing_of_the_plug_in_but_its_name(tmp_path, root):
    project, installed = tmp_path / "project", tmp_path / "installed"
    said = {}
    project.mkdir()
    (project / "test_unrelated.py").write_text(UNRELATED)
    (project / "conftest.py").write_text(SAYS_MODULES.replace("\\\\", "\\"))
    (project / "suite.yaml").write_text(SUITE)
    (project / "gate.yaml").write_text("gate: [")
    # As pip leaves it, so that pytest finds the plug-in by itself.
    facts = installed / "evalkit_gates-0.1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: evalkit-gates\nVersion: 0.1.0\n")
    (facts / "entry_points.txt").write_text("[pytest11]\nevalkit = evalkit.pytest_plugin\n")
    for name, without in (("with", ()), ("without", ("-p", "no:evalkit"))):
        words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", *without]
        env = clean() | {
            "PYTHONPATH": f"{installed}{os.pathsep}{root}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        done = subprocess.run(
            words, cwd=project, env=env, capture_output=True, text=True, check=False
        )
        modules = set((project / "modules.txt").read_text().split())
        said[name] = done.returncode, done.stdout, done.stderr, modules
        (project / "modules.txt").unlink()
    assert said["with"][3] - said["without"][3] == {"evalkit", "evalkit.pytest_plugin"}
    texts = [without_times(said[name][1]) for name in ("with", "without")]
    assert texts[0].replace("evalkit-gates-0.1.0, ", "") == texts[1].replace(
        "evalkit-gates-0.1.0, ", ""
    )
    assert "1 failed, 1 passed" in texts[0]
    assert [(code, err) for code, _, err, _ in said.values()] == [(1, ""), (1, "")]
    assert sorted(path.name for path in project.iterdir()) == [
        "conftest.py",
        "gate.yaml",
        "suite.yaml",
        "test_unrelated.py",
    ]


def without_times(text):
    return re.sub(r"in \d+\.\d+s", "in …", text)


def test_an_interrupted_run_goes_on_where_it_was(run, shop, pytester):
    answers = {f"{n} + 1?": str(n + 1) for n in range(SAMPLES)}
    folder = shop(HOLDS, REGIONS.replace("@region=*", ""))
    (folder / "suite.yaml").write_text(SERVED)
    with running_stub(pytester.path / "stub", answers=answers, latency_ms=100) as stub:
        told = [
            f"--evalkit-candidate={stub.url}",
            "--evalkit-backend=openai",
            "--evalkit-model-arg=concurrency=4",
        ]
        words = [sys.executable, "-m", "pytest", *LOADED, "--evalkit", *told]
        process = subprocess.Popen(
            words, cwd=pytester.path, env=clean(), stdout=subprocess.PIPE, text=True
        )
        for _ in range(1200):
            if len(stub.asked()) >= 20 or process.poll() is not None:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=120)
        before = len(stub.asked())
        assert process.returncode == pytest.ExitCode.INTERRUPTED, out
        assert 20 <= before < SAMPLES
        done = run("--evalkit", *told, evalkit=False)
        asked = Counter(map(str, stub.prompts()))
    done.assert_outcomes(passed=2)
    assert len(asked) == SAMPLES
    assert sum(asked.values()) <= SAMPLES + 4  # what was under way when the interrupt came
