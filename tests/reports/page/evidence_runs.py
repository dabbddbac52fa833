"""Finished runs with groups of people, judges, people's ratings and weights, made by the command line itself.

The answers are recorded ones, the judge is a scripted server behind the ordinary backend, the annotators are scripts.
Nothing else stands in for anything. Names that a page must not take for markup are among the groups and the topics.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
from functools import cache
from pathlib import Path

from judge_server import draw, running_judge

from evalkit.cli import main
from evalkit.cli.past_runs import PastRun, open_run

N, DRAWN, SLIP = 120, 60, 9
HOSTILE = "<script>document.title='owned'</script>"
SUITE = """
suite: evidence
version: 1
judges:
  quality: quality.yaml
  better: better.yaml
tasks:
  - name: write
    dataset: {path: rows.jsonl}
    prompt: "Tell me about {{ topic }}."
    groups: {by: [part]}
    metrics: [{judged: {judge: quality}}, {preferred: {judge: better}}]
    review: {question: Is it helpful?, scale: [1, 5], pass_at: 4}
    min_coverage: 0.5
  - name: decide
    dataset: {path: people.jsonl}
    prompt: "{{ id }}"
    target: "{{ label }}"
    groups: {by: [sex]}
    metrics: [decisions]
    min_coverage: 0.5
"""
GATE = """
gate: evidence
rules:
  - id: fair
    estimate: decide/decisions.equal_opportunity_difference@sex
    require: gap_at_most
    value: 0.05
    tolerate: 0.4
  - {id: quality, estimate: write/judged.score, require: at_least, value: 0.2}
  - {id: rated, estimate: write/human.agreement, require: labelled, samples: 40, agreement: 0.2}
"""
QUALITY = """
judge: quality
model: URL
model_args: {revision: "1", concurrency: "4"}
criteria: Is the answer helpful?
scale: [1, 5]
"""
BETTER = """
judge: better
model: URL
model_args: {revision: "1", concurrency: "4"}
form: pairwise
criteria: Which answer helps more?
"""


def evalkit(*arguments: str | Path, cwd: Path) -> int:
    """A command in this process; what it prints is dropped, what it complains of fails the test."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main.run([str(argument) for argument in arguments])
    assert code in (0, 1, 4), (arguments, code, err.getvalue())
    return code


def judged_run(folder: Path) -> PastRun:
    """A run that two judges scored, one of them with a card, and that two people rated a draw of."""
    _write_project(folder)
    labelled = [(f"Labelled answer {n} says something.", n % 5 / 4) for n in range(100)]
    with (folder / "labels.csv").open("w", newline="") as file:
        rows = [[f"Question {n}?", text, 1 + n % 5] for n, (text, _) in enumerate(labelled)]
        csv.writer(file).writerows([["question", "answer", "label"], *rows])
    truth = [(_answer(role, n), _worth(role, n)) for role in ROLES for n in range(N)]
    with running_judge(folder / "server", labelled + truth, faults={"noise": 0.2}) as server:
        for name, text in (("quality", QUALITY), ("better", BETTER)):
            (folder / f"{name}.yaml").write_text(text.replace("URL", server.url))
        validate = ("judge", "validate", "quality.yaml", "--labels", "labels.csv", "--pass-at", "4")
        evalkit(*validate, "--random-labels", "--quiet", cwd=folder)
        models = ("--candidate", "candidate", "--baseline", "baseline", "--backend", "replay")
        evalkit("run", "suite.yaml", *models, "--gate", "gate.yaml", "--quiet", cwd=folder)
    return open_run(_only(folder / "reports"), folder)


def reviewed_run(folder: Path) -> PastRun:
    """The run of ``judged_run`` with two people's ratings."""
    run = judged_run(folder)
    evalkit("review", "export", run.path.name, "--n", str(DRAWN), cwd=folder)
    where = run.path.with_name(f"{run.path.name}-review")
    items = [json.loads(line) for line in (where / "items.jsonl").read_text().splitlines()]
    truth = {_answer(role, n): _worth(role, n) for role in ROLES for n in range(N)}
    for name, slip in (("ann", 0), ("bob", SLIP)):
        rows = []
        for n, item in enumerate(items):
            rating = int(1 + 4 * truth.get(item["answer"], 0))
            rating = 6 - rating if slip and n % slip == 0 else rating
            rows.append({"item": item["item"], "rating": rating, "annotator": name})
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    evalkit(
        *("review", "import", run.path.name, "ann.jsonl", "bob.jsonl", "--gate", "gate.yaml"),
        cwd=folder,
    )
    return open_run(run.path.with_name(f"{run.path.name}-reviewed"), folder)


def weighed_run(folder: Path, models: Path) -> PastRun:
    """The quickstart's candidate, damaged in two tensors, held against its baseline with spectra and plots."""
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(models / "candidate", folder / "broken")
    tensors = load_file(broken / "model.safetensors")
    tensors[DAMAGED][3, 4] = float("nan")
    tensors[EMPTIED][:] = 0
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    flags = ("--spectra", "--importance", "--plots", "--draws", "10", "--quiet")
    evalkit("spectral", broken, "--base", models / "baseline", *flags, cwd=folder)
    return open_run(_only(folder / "reports"), folder)


DAMAGED = "model.layers.1.mlp.down_proj.weight"
EMPTIED = "model.layers.0.self_attn.q_proj.weight"
ROLES = ("candidate", "baseline")


def _only(out: Path) -> Path:
    (found,) = (path for path in out.iterdir() if path.is_dir() and "review" not in path.name)
    return found


def _answer(role: str, n: int) -> str:
    return f"Answer {n} of the {role}, which says something."


def _worth(role: str, n: int) -> float:
    """What people say of an answer; the candidate is worse where the group is hostile."""
    step = int(draw(role, str(n)) * 5)
    return (max(step - 2, 0) if role == "candidate" and _part(n) == HOSTILE else step) / 4


def _part(n: int) -> str:
    return "tiny" if n < 4 else (HOSTILE, "plain", "other")[n % 3]


def _write_project(folder: Path) -> None:
    (folder / "suite.yaml").write_text(SUITE)
    (folder / "gate.yaml").write_text(GATE)
    rows = [{"id": f"s{n}", "topic": f"topic {n} {HOSTILE}", "part": _part(n)} for n in range(N)]
    people = [
        {"id": f"p{n}", "sex": "FM"[n % 2], "label": "yes" if n % 4 < 2 else "no"}
        for n in range(200)
    ]
    for name, held in (("rows", rows), ("people", people)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in held))
    for role in ROLES:
        (folder / role).mkdir()
        said = [{"sample_id": f"s{n}", "text": _answer(role, n)} for n in range(N) if n != 50]
        said[60]["text"] = ""
        decided = [
            {"sample_id": row["id"], "text": _decided(role, n, row)}
            for n, row in enumerate(people)
            if n % 25
        ]
        for task, held in (("write", said), ("decide", decided)):
            lines = "".join(json.dumps(row) + "\n" for row in held)
            (folder / role / f"{task}.jsonl").write_text(lines)


def _decided(role: str, n: int, row: dict[str, str]) -> str:
    wrong = role == "candidate" and row["sex"] == "F" and draw("wrong", str(n)) < 0.3
    return {"yes": "no", "no": "yes"}[row["label"]] if wrong else row["label"]


@cache
def made(kind: str, base: Path, models: Path) -> PastRun:
    """One of the runs, made once for all tests of a process: ``judged``, ``reviewed`` or ``weighed``."""
    if kind == "weighed":
        return weighed_run(_fresh(base, kind), models)
    if kind == "judged":
        reviewed = made("reviewed", base, models)
        return open_run(reviewed.path.with_name(reviewed.path.name.removesuffix("-reviewed")), base)
    return reviewed_run(_fresh(base, kind))


def _fresh(base: Path, kind: str) -> Path:
    """A folder without what a test that failed here may have left."""
    folder = base / f"evidence-{kind}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder
