"""A judge that errs, validated on some answers, run on others: its card gives back the share that people would pass."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from commands import evalkit, scorecard
from judge_server import running_judge

JUDGE = """
judge: quality
model: URL
model_args: {revision: "1"}
criteria: Is the answer helpful?
scale: [1, 5]
"""
SUITE = """
suite: judged
version: 1
judges: {quality: judge.yaml}
gates: [gate.yaml]
tasks:
  - name: write
    dataset: {path: rows.jsonl}
    prompt: "Tell me about {{ topic }}."
    metrics: [{judged: {judge: quality}}]
"""
GATE = """
gate: good
rules:
  - id: people-would-pass
    estimate: write/judged.passing.corrected
    require: at_least
    value: 0.2
    judge: {kappa: null, labels: 100, no_verdict: null, canaries: null}
"""
LABELLED, RUN = 400, 400


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A card from 400 labelled answers, and a run over 400 others of which fewer are good."""
    folder = tmp_path_factory.mktemp("passing")
    rng = np.random.default_rng(3)
    labelled = [
        (f"Labelled answer {n} says something.", int(rng.integers(1, 6))) for n in range(LABELLED)
    ]
    scores = rng.choice([1, 2, 3, 4, 5], size=RUN, p=[0.3, 0.25, 0.15, 0.15, 0.15])
    answers = [(f"Answer {n} of the run says something.", int(s)) for n, s in enumerate(scores)]
    for name, text in (("judge.yaml", JUDGE), ("suite.yaml", SUITE), ("gate.yaml", GATE)):
        (folder / name).write_text(text)
    with (folder / "labels.csv").open("w", newline="") as file:
        rows = [[f"Question {n}?", text, score] for n, (text, score) in enumerate(labelled)]
        csv.writer(file).writerows([["question", "answer", "label"], *rows])
    rows = [{"id": f"s{n}", "topic": f"topic {n}"} for n in range(RUN)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = [{"sample_id": f"s{n}", "text": text} for n, (text, _) in enumerate(answers)]
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))
    truth = [(text, (score - 1) / 4) for text, score in labelled + answers]
    with running_judge(folder / "server", truth, faults={"noise": 0.3}) as server:
        (folder / "judge.yaml").write_text(JUDGE.replace("URL", server.url))
        validated = evalkit(
            *("judge", "validate", "judge.yaml", "--labels", "labels.csv", "--random-labels"),
            *("--pass-at", "4", "--quiet"),
            cwd=folder,
        )
        assert validated.code == 0, validated.err
        done = evalkit(
            *("run", "suite.yaml", "--candidate", "answers.jsonl", "--baseline", "none"),
            cwd=folder,
        )
        card = json.loads((folder / "quality-card.json").read_text())
        assert card["pass_at"] == 4
        (folder / "quality-card.json").write_text(json.dumps(card | {"pass_at": None}))
        bare = evalkit(
            *("run", "suite.yaml", "--candidate", "answers.jsonl", "--baseline", "none"),
            *("--out", "bare", "--store", "reports/answers.sqlite"),
            cwd=folder,
        )
    return folder, done, bare, float(np.mean(scores >= 4))


def test_the_share_that_people_would_pass_is_found_behind_the_judges_own(work):
    folder, done, _, truth = work
    assert done.code == 0, done.out + done.err
    held = {e["metric"]: e for e in scorecard(folder / "reports")["estimates"]}
    raw, corrected = held["judged.passing"], held["judged.passing.corrected"]
    assert corrected["interval"]["low"] <= truth <= corrected["interval"]["high"]
    assert abs(corrected["value"] - truth) < abs(raw["value"] - truth)
    assert raw["interval"]["low"] > truth, "the noisy judge alone is sure of the wrong share"


def test_without_a_pass_mark_the_rule_is_missing_and_says_how_to_mend_it(work):
    _, _, bare, _ = work
    assert bare.code == 4, bare.out + bare.err
    assert "evalkit judge validate --pass-at" in " ".join(bare.out.split())
