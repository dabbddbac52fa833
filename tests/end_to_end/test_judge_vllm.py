"""A judge on a real vLLM server that evalkit starts: its verdicts are those of the same checkpoint in this process."""

from __future__ import annotations

import json

import pytest
from commands import evalkit, only_run, scorecard

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

N = 40
SUITE = """\
suite: judged
version: 1
judges:
  quality:
    model: {judge}
    backend: {backend}
    model_args: {arguments}
    criteria: Is the decision right?
    read: probabilities
    chat: false
    reference: true
tasks:
  - name: decide
    dataset: {{path: {data}/applicants.jsonl, limit: {limit}}}
    prompt: "Applicant: {{{{ text }}}}\\nApprove:"
    target: "{{{{ target }}}}"
    decoding: {{max_tokens: 4, temperature: 0, stop: ["\\n"]}}
    metrics: [exact_match, {{judged: {{judge: quality}}}}]
"""


def judged(folder, root, backend, arguments):
    shown = root / "suites/quickstart"
    suite = folder / f"{backend}.yaml"
    suite.write_text(
        SUITE.format(
            judge=shown / "models/baseline",
            backend=backend,
            arguments=json.dumps(arguments),
            data=shown / "data",
            limit=N,
        )
    )
    command = (
        *("run", suite, "--candidate", shown / "models/candidate", "--baseline", "none"),
        *("--backend", "transformers", "--out", folder / backend),
    )
    first = evalkit(*command, cwd=root, timeout=600)
    again = evalkit(*command, cwd=root, timeout=600)
    assert first.code == again.code == 4, first.out + first.err
    return scorecard(folder / backend), values(folder / backend), again


def values(out):
    rows = (only_run(out) / "judgements.jsonl").read_text().splitlines()
    return {row["id"]: row["value"] for row in map(json.loads, rows)}


def test_a_judge_that_vllm_serves_says_what_the_same_checkpoint_says_here(tmp_path, root):
    _, here, _ = judged(tmp_path, root, "transformers", {})
    card, served, again = judged(tmp_path, root, "vllm", {})
    assert served.keys() == here.keys()
    assert len(served) == N
    for sample, value in here.items():
        assert served[sample] == pytest.approx(value, abs=2e-3), sample
    (record,) = card["judges"]
    assert record["requests"] == 5 * N, "one likelihood for each value of the scale"
    assert card["provenance"]["models"]["judge quality"]["engine"]["backend"] == "vllm"
    assert "0 requests asked" in again.out, "the second run asks nobody and starts no server"
