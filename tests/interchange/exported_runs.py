"""A finished run to export, and the command line in this process.

Six tasks on recorded answers, with failures, ungradable samples, clusters, slices, groups, replicates and a baseline.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
from pathlib import Path

from evalkit.cli import main

N = 60
SUITE = """
suite: orders
version: 3
seed: 7
tasks:
  - name: extract
    dataset: {path: extract.jsonl}
    prompt: "Order: {{ text }}\\nCode:"
    target: "{{ target }}"
    slices: [region]
    cluster: customer
    min_coverage: 0.5
    metrics: [exact_match]
  - name: summarise
    dataset: {path: summarise.jsonl}
    prompt: "{{ text }}"
    target: "{{ target }}"
    decoding: {temperature: 0.7, replicates: 2, stop: ["\\n"]}
    min_coverage: 0.5
    metrics: [bleu, {rouge: {variants: [rougeL]}}]
  - name: decide
    dataset: {path: decide.jsonl}
    prompt: "{{ text }}"
    target: "{{ target }}"
    groups: {by: [group], min_size: 5}
    min_coverage: 0.5
    metrics: [exact_match, decisions]
  - name: choose
    kind: multiple_choice
    dataset: {path: choose.jsonl}
    prompt: "{{ text }}"
    choices: choices
    target: "{{ target }}"
    min_coverage: 0.5
  - name: read
    kind: perplexity
    dataset: {path: read.jsonl}
    text: "{{ text }}"
    min_coverage: 0.5
  - name: swap
    kind: counterfactual
    dataset: {path: swap.jsonl}
    prompt: "{{ text }} {{ who }}"
    variants: {he: {who: "he"}, she: {who: "she"}}
    target: "{{ target }}"
    min_coverage: 0.5
    metrics: [flips]
"""
GATE = """
gate: strict
rules:
  - {id: codes, estimate: extract/exact_match, require: at_least, value: 0.9}
"""
HOSTILE = "\x00 </script><script>alert(1)</script> \u2028 \x1b[31m \u202e %s {{x}}"
"""What a model may say: NUL, markup, line ends of other kinds, escapes, a template."""
TASKS = ("extract", "summarise", "decide", "choose", "read", "swap")


def rows_of(task: str) -> list[dict]:
    """The data of one task; some of ``choose`` cannot be graded, since a choice is empty."""
    rows: list[dict] = []
    for n in range(N):
        row: dict = {"id": f"{task}-{n}", "text": f"case {n} <b>&amp; | ümläut</b>"}
        if task == "extract":
            row |= {
                "target": f"c{n}",
                "region": "north" if n % 3 else "south",
                "customer": f"k{n // 3}",
            }
        elif task == "summarise":
            row |= {"target": f"the {n} quick brown foxes jump over it"}
        elif task == "decide":
            row |= {
                "target": ("maybe" if n > 57 else "yes" if n % 2 else "no"),
                "group": "a" if n % 3 else "b",
            }
        elif task == "swap":
            row |= {"target": "yes"}
        elif task == "choose":
            row |= {"choices": ["x", "y", "" if n % 20 == 7 else "z"], "target": str(n % 3)}
        rows.append(row)
    return rows


def answers(row: dict, task: str, draw: random.Random, share: float) -> list[dict]:
    """What a model says that is right as often as ``share``; now and then nothing."""
    if draw.random() < 0.05 and row["id"] != "extract-1":
        return []
    right = draw.random() < share
    if task == "choose":
        best = int(row["target"]) if right else (int(row["target"]) + 1) % 3
        return [
            {"choice": text, "logprobs": [-0.2 if n == best else -2.0 - draw.random()]}
            for n, text in enumerate(row["choices"])
        ]
    if task == "read":
        return [{"logprobs": [-draw.random() for _ in row["text"].split()]}]
    if task == "summarise":
        words = row["target"].split()
        return [
            {"text": " ".join(words[: len(words) - k * (not right)]), "replicate": k}
            for k in (0, 1)
        ]
    if row["id"] == "extract-1":
        return [{"text": HOSTILE}]
    if task == "swap":
        return [{"text": "yes" if k or right else "no", "replicate": k} for k in (0, 1)]
    wrong = {"yes": "no", "no": "yes"}.get(row["target"], "none")
    return [{"text": row["target"] if right else wrong}]


def make_run(folder: Path) -> Path:
    """Run the suite on recorded answers; return the run's folder. Its gate fails."""
    (folder / "suite.yaml").write_text(SUITE)
    (folder / "gate.yaml").write_text(GATE)
    for model, share in (("acme/new model", 0.8), ("old", 0.6)):
        (folder / model).mkdir(parents=True)
        draw = random.Random(model)
        for task in TASKS:
            rows = rows_of(task)
            (folder / f"{task}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            with (folder / model / f"{task}.jsonl").open("w") as file:
                for row in rows:
                    for said in answers(row, task, draw, share):
                        file.write(json.dumps({"sample_id": row["id"], **said}) + "\n")
    models = ("--candidate", "acme/new model", "--baseline", "old")
    code, _, err = command(
        *("run", "suite.yaml", *models, "--gate", "gate.yaml", "--backend", "replay", "--quiet"),
        cwd=folder,
    )
    assert code == 1, err
    return next((folder / "reports").glob("orders-*"))


def command(*arguments: str | Path, cwd: Path) -> tuple[int, str, str]:
    """Run ``evalkit`` in this process; return its exit code, what it printed, what it complained of."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = main.run([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def scorecard(run: Path) -> dict:
    """The run's scorecard, as any program would read it."""
    return json.loads((run / "scorecard.json").read_text())


def estimates(run: Path, role: str = "candidate") -> list[dict]:
    """One model's estimates over all samples that asked the model, gaps aside."""
    return [
        one
        for one in scorecard(run)["estimates"]
        if one["model"] == role and one["slice"] is None and one["kind"] not in ("gap", "census")
    ]
