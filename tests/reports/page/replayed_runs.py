"""Small finished runs, made as a user makes them: ``evalkit run`` on recorded answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from evalkit.cli.past_runs import PastRun, open_run

TASK = """\
  - name: {name}
    dataset: {{path: {rows}}}
    prompt: "{{{{ question }}}}"
    target: "{{{{ target }}}}"
    slices: [region]
    min_coverage: 0
    decoding: {decoding}
    metrics: {metrics}
"""


def environment() -> dict[str, str]:
    """Return the environment without whatever EVALKIT_… the machine sets."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("EVALKIT_")}
    return kept | {"OMP_NUM_THREADS": "1"}


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines in ASCII, so that lone surrogates survive."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="ascii")


Answers = Mapping[str, str | list[str] | None]
"""Sample id → its answer, or its answers; of None nothing is recorded, so that the sample fails."""


def write_answers(path: Path, answers: Answers) -> None:
    """Write recorded answers."""
    said = {
        sample: [text] if isinstance(text, str) else text or () for sample, text in answers.items()
    }
    rows = (
        {"id": sample, "text": text, "replicate": replicate}
        for sample, texts in said.items()
        for replicate, text in enumerate(texts)
    )
    write_lines(path, rows)


def replayed(
    folder: Path,
    rows: Iterable[Mapping[str, Any]],
    candidate: Answers,
    baseline: Answers | None = None,
    *,
    metrics: str = "[exact_match]",
    replicates: int = 1,
) -> PastRun:
    """Return the finished run of one task; rows have ``id``, ``question``, ``target`` and ``region``."""
    write_lines(folder / "rows.jsonl", rows)
    warm = f"{{temperature: 0.7, replicates: {replicates}}}"
    decoding = warm if replicates > 1 else "{temperature: 0}"
    task = TASK.format(name="capitals", rows="rows.jsonl", metrics=metrics, decoding=decoding)
    write_answers(folder / "candidate.jsonl", candidate)
    if baseline is not None:
        write_answers(folder / "baseline.jsonl", baseline)
    return finished(folder, task)


def finished(folder: Path, tasks: str) -> PastRun:
    """Return the finished run of these tasks on ``candidate.jsonl`` and, where it is there, ``baseline.jsonl``."""
    (folder / "suite.yaml").write_text(f"suite: replayed\nversion: 1\ntasks:\n{tasks}")
    models = ["--candidate", "candidate.jsonl"]
    if (folder / "baseline.jsonl").exists():
        models += ["--baseline", "baseline.jsonl"]
    arguments = ["run", "suite.yaml", *models, "--backend", "replay", "--out", "out", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "evalkit", *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4, done.stderr + done.stdout  # nothing decides without a gate
    (card,) = (folder / "out").glob("*/scorecard.json")
    return open_run(str(card.parent), folder / "out")
