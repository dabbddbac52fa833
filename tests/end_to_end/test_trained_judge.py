"""A suite judged by a real model that writes its verdicts as text: trained in the test, served by transformers."""

from __future__ import annotations

import json
import random

import pytest
from commands import evalkit, only_run, scorecard
from tiny_judge import PLACES, PROMPT, THINGS, WORTH, answer, held_out, train

pytestmark = pytest.mark.slow
N = 60

SUITE = """
suite: judged
version: 1
judges:
  quality:
    model: judge
    backend: transformers
    criteria: How is it?
    prompt: prompt.jinja
    decoding: {max_tokens: 40}
tasks:
  - name: write
    dataset: {path: rows.jsonl}
    prompt: "{{ q }}"
    metrics: [{judged: {judge: quality}}]
"""


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    pytest.importorskip("torch")
    return train(tmp_path_factory.mktemp("judge") / "model")


def test_a_trained_judge_tells_a_better_model_from_a_worse_one_by_what_it_writes(tmp_path, trained):
    (tmp_path / "judge").symlink_to(trained)
    (tmp_path / "prompt.jinja").write_text(PROMPT)
    (tmp_path / "suite.yaml").write_text(SUITE)
    rng = random.Random(1)
    unseen = [(t, p) for t in THINGS for p in PLACES if held_out(t, p)]
    truth = {"candidate": [], "baseline": []}
    rows = [{"id": f"s{n}", "q": f"question {n}"} for n in range(N)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for role, among in (("candidate", "fair good fine"), ("baseline", "poor weak fair")):
        with (tmp_path / f"{role}.jsonl").open("w") as out:
            for n in range(N):
                adjective = rng.choice(among.split())
                truth[role].append((WORTH[adjective] - 1) / 4)
                text = answer(*rng.choice(unseen), adjective)
                out.write(json.dumps({"sample_id": f"s{n}", "text": text}) + "\n")
    models = ("--candidate", "candidate.jsonl", "--baseline", "baseline.jsonl")
    line = ("run", "suite.yaml", *models, "--out", "reports")
    done = evalkit(*line, cwd=tmp_path)
    assert done.code == 4, done.err
    folder = only_run(tmp_path / "reports")
    said = [json.loads(line) for line in (folder / "judgements.jsonl").read_text().splitlines()]
    for role in ("candidate", "baseline"):
        values = [row["value"] for row in said if row["model"] == role]
        right = sum(a == b for a, b in zip(values, truth[role], strict=True))
        assert right >= 0.9 * N, f"{right} of {N}"
    assert said[0]["note"].startswith("it is ")
    compared = scorecard(tmp_path / "reports")["comparisons"][0]
    assert compared["interval"]["low"] > 0.2
    again = evalkit(*line, cwd=tmp_path)
    assert "0 requests asked" in again.out
