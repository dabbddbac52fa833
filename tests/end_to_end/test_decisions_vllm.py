"""A baseline is promoted, candidates are judged against it on a real vLLM server: fail, inconclusive and pass."""

from __future__ import annotations

import json
import re

import pytest
from commands import evalkit

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

SUITE = """\
suite: people
version: 1
tasks:
  - name: decide
    dataset: {{path: {data}/applicants.jsonl}}
    prompt: "Applicant: {{{{ text }}}}\\nApprove:"
    target: "{{{{ target }}}}"
    decoding: {{max_tokens: 4, temperature: 0, stop: ["\\n"]}}
    slices: [group]
    metrics: [exact_match]
    stop: {stop}
"""
GATE = """\
gate: people
rules:
  - {{id: accurate, estimate: decide/exact_match, require: at_least, value: 0.8}}
  - {{id: no-worse, estimate: decide/exact_match, require: no_worse_than, margin: {margin}}}
"""
FAIR = """\
gate: fair
rules:
  - id: fair
    estimate: decide/decisions.equal_opportunity_difference@group
    require: gap_at_most
    value: 0.05
    tolerate: 0.15
"""
FLOOR = """\
gate: floor
rules: [{id: accurate, estimate: decide/exact_match, require: at_least, value: 0.8}]
"""


@pytest.fixture(scope="module")
def work(root, tmp_path_factory):
    """A folder with suites and gates, in which the released model has been run and promoted."""
    folder = tmp_path_factory.mktemp("people")
    data = root / "suites/quickstart/data"
    for stop in ("full", "early"):
        (folder / f"{stop}.yaml").write_text(SUITE.format(data=data, stop=stop))
    for margin in ("0.002", "0.02"):
        (folder / f"margin-{margin}.yaml").write_text(GATE.format(margin=margin))
    (folder / "floor.yaml").write_text(FLOOR)
    groups = "groups: {by: [group]}\n    metrics: [exact_match, decisions]"
    grouped = SUITE.format(data=data, stop="full").replace("metrics: [exact_match]", groups)
    (folder / "groups.yaml").write_text(grouped)
    (folder / "fair.yaml").write_text(FAIR)
    released = root / "suites/quickstart/models/baseline"
    done = evalkit(
        *("run", folder / "full.yaml", "--candidate", released, "--gate", folder / "floor.yaml"),
        *("--backend", "vllm", "--out", folder / "reports"),
        cwd=root,
        timeout=600,
    )
    assert done.code == 0, done.out + done.err
    (run,) = [path for path in (folder / "reports").iterdir() if path.is_dir()]
    done = evalkit("promote", run.name, "--as", "production", "--out", run.parent, cwd=root)
    assert done.code == 0, done.err
    return folder


def judged(work, root, model, gate, suite="full.yaml"):
    """Judge a checkpoint against production; return the finished command and the new run's folder."""
    done = evalkit(
        *("run", work / suite, "--candidate", root / "suites/quickstart/models" / model),
        *("--baseline", "production", "--gate", work / gate, "--backend", "vllm"),
        *("--out", work / "reports", "--allow-undecidable"),
        cwd=root,
        timeout=600,
    )
    cards = sorted((work / "reports").glob("*/scorecard.json"), key=lambda p: p.stat().st_mtime)
    assert done.code != 2, done.err
    return done, cards[-1].parent


def reason(run, rule):
    verdict = json.loads((run / "verdict.json").read_text())
    return next(o["reason"] for o in verdict["outcomes"] if o["rule"] == rule)


def test_a_worse_candidate_fails_with_code_1(work, root):
    done, run = judged(work, root, "candidate", "margin-0.02.yaml")
    assert done.code == 1, done.out + done.err
    assert "wholly below −0.02" in reason(run, "no-worse")


def test_an_equal_candidate_and_a_narrow_margin_are_inconclusive_with_code_4(work, root):
    done, run = judged(work, root, "baseline", "margin-0.002.yaml")
    assert done.code == 4, done.out + done.err
    assert "needs about" in reason(run, "no-worse")
    assert "you have 800" in reason(run, "no-worse")


def test_an_equal_candidate_and_a_wider_margin_pass_with_code_0(work, root):
    done, run = judged(work, root, "baseline", "margin-0.02.yaml")
    assert done.code == 0, done.out + done.err
    assert "wholly above −0.02" in reason(run, "no-worse")


def test_a_task_that_may_stop_early_fails_a_worse_candidate_on_fewer_samples(work, root):
    done, run = judged(work, root, "candidate", "margin-0.02.yaml", suite="early.yaml")
    assert done.code == 1, done.out + done.err
    tallies = json.loads((run / "scorecard.json").read_text())["tasks"]
    (early,) = [tally["early"] for tally in tallies if tally["model"] == "candidate"]
    assert early["decided"]
    assert early["drawn"] < early["available"] == 800


def decided_on_groups(work, root, model):
    """Judge a checkpoint by its decisions about two districts, without a baseline."""
    out = work / f"fair-{model}"
    done = evalkit(
        *("run", work / "groups.yaml", "--candidate", root / "suites/quickstart/models" / model),
        *("--gate", work / "fair.yaml", "--backend", "vllm", "--out", out),
        *("--store", work / "reports" / "answers.sqlite"),
        cwd=root,
        timeout=600,
    )
    (card,) = out.glob("*/scorecard.json")
    return done, reason(card.parent, "fair")


def test_a_candidate_that_is_unfair_to_a_district_fails_with_its_rate_count_and_interval(
    work, root
):
    done, told = decided_on_groups(work, root, "candidate")
    assert done.code == 1, done.out + done.err
    assert re.search(
        r"tpr is lowest for group=Oak \(0\.5\d+ on 200 samples, 95 % interval 0\.", told
    )
    assert re.search(r"the gap is 0\.4\d+ \(95 % interval .*wholly above 0\.05", told)


def test_a_fair_model_passes(work, root):
    done, told = decided_on_groups(work, root, "baseline")
    assert done.code == 0, done.out + done.err
    assert "wholly at or below 0.15" in told or "not above 0.15" in told, told
