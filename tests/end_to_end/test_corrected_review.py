"""A judge that favours the candidate, put right by people: run, review, import, a rule that rests on both.

The judge is a scripted server behind the ordinary backend. It takes each answer of the candidate for one step better
than people do. What people say is known for every answer, so that the corrected numbers have a truth.
"""

from __future__ import annotations

import json

import pytest
from commands import command, only_run
from judge_server import draw, running_judge

from evalkit.cli.past_runs import open_run
from evalkit.reviewing.corrected import CORRECTED

N, DRAWN = 240, 120
SUITE = """
suite: corrected
version: 1
judges:
  quality:
    model: http://127.0.0.1:1
    model_args: {revision: "1", concurrency: "4"}
    criteria: Is the answer helpful?
    scale: [1, 5]
tasks:
  - name: write
    dataset: {path: rows.jsonl}
    prompt: "Tell me about {{ topic }}."
    slices: [part]
    metrics: [{judged: {judge: quality}}]
    review: {question: Is it helpful?, scale: [1, 5], pass_at: 4}
"""
GATE = """
gate: helpful
rules:
  - {id: raw, estimate: write/judged.score, require: at_least, value: 0.6, severity: warn}
  - {id: corrected, estimate: write/judged.score.corrected, require: at_least, value: 0.3}
  - {id: better, estimate: write/judged.score, require: better_than, severity: warn}
  - {id: no-worse, estimate: write/judged.score.corrected, require: no_worse_than, margin: 0.15}
"""


def answer(role, n):
    return f"Answer {n} of the {role}, which says something."


def worth(role, n):
    """What people say of an answer: 0 to 3 of 4 steps."""
    return int(draw(role, str(n)) * 4) / 4


def taken_for(role, n):
    """What the judge says: of the candidate's answers a step more."""
    return worth(role, n) + (0.25 if role == "candidate" else 0)


@pytest.fixture
def project(tmp_path):
    (tmp_path / "suite.yaml").write_text(SUITE)
    (tmp_path / "gate.yaml").write_text(GATE)
    rows = [
        {"id": f"s{n}", "topic": f"topic {n}", "part": "odd" if n % 2 else "even"} for n in range(N)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for role in ("candidate", "baseline"):
        held = [{"sample_id": f"s{n}", "text": answer(role, n)} for n in range(N)]
        (tmp_path / f"{role}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in held))
    return tmp_path


def rate_all(folder):
    """Write what one annotator says of every item."""
    truth = {
        answer(role, n): worth(role, n) for role in ("candidate", "baseline") for n in range(N)
    }
    items = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]
    rows = [
        {"item": each["item"], "rating": int(1 + 4 * truth[each["answer"]]), "annotator": "ann"}
        for each in items
    ]
    (folder.parent.parent / "ann.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


def test_peoples_ratings_put_a_judges_scores_right_and_a_rule_rests_on_them_without_a_card(project):
    said = [
        (answer(role, n), taken_for(role, n))
        for role in ("candidate", "baseline")
        for n in range(N)
    ]
    with running_judge(project / "judge", said) as server:
        code, _, err = command(
            "run", "suite.yaml", "--candidate", "candidate.jsonl", "--baseline", "baseline.jsonl",
            "--judge", f"quality={server.url}", "--gate", "gate.yaml", "--quiet", cwd=project,
        )  # fmt: skip
    assert code == 4, err
    run = only_run(project / "reports")
    first = {o["rule"]: o for o in json.loads((run / "verdict.json").read_text())["outcomes"]}
    assert first["corrected"]["status"] == "missing"
    assert "evalkit review export" in first["corrected"]["reason"]

    code, _, err = command("review", "export", run.name, "--n", DRAWN, cwd=project)
    assert code == 0, err
    rate_all(run.with_name(f"{run.name}-review"))
    code, out, err = command(
        "review", "import", run.name, "ann.jsonl", "--gate", "gate.yaml", cwd=project
    )
    assert code == 0, out + err

    lines = [line.split()[0] for line in out.splitlines() if line.strip().startswith("judged.")]
    assert lines == ["judged.score", CORRECTED], "the corrected number stands under the raw one"

    card = open_run(run.with_name(f"{run.name}-reviewed"), project).scorecard
    held = {(e.model, e.metric): e for e in card.estimates if e.slice is None}
    for role in ("candidate", "baseline"):
        true = sum(worth(role, n) for n in range(N)) / N
        found = held[role, CORRECTED]
        assert found.interval.low <= true <= found.interval.high
        assert found.interval.method == "ppi++"
        assert (found.counts.planned, found.counts.scored) == (N, N)
    assert held["candidate", "judged.score"].value == pytest.approx(
        sum(taken_for("candidate", n) for n in range(N)) / N
    )
    assert held["candidate", "judged.score"].interval.low > held["candidate", CORRECTED].value
    (apart,) = (c for c in card.comparisons if c.metric == CORRECTED)
    true = sum(worth("candidate", n) - worth("baseline", n) for n in range(N)) / N
    assert apart.interval.low <= true <= apart.interval.high
    (raw,) = (c for c in card.comparisons if c.metric == "judged.score" and c.slice is None)
    assert raw.interval.low > true, "the judge alone calls the candidate better than it is"

    verdict = json.loads((run.with_name(f"{run.name}-reviewed") / "verdict.json").read_text())
    told = {o["rule"]: (o["status"], o["reason"]) for o in verdict["outcomes"]}
    assert told["corrected"][0] == told["no-worse"][0] == "pass", told
    assert told["raw"][0] == told["better"][0] == "inconclusive"
    assert "no judge card" in told["raw"][1]
    code, out, _ = command("gate", f"{run.name}-reviewed", "gate.yaml", cwd=project)
    assert code == 0, out
