"""``evalkit init``: a suite, a gate and a CI workflow that run as they are."""

from __future__ import annotations

import json
import random
from importlib.resources import files
from pathlib import Path

import click

from evalkit.cli.options import FOLDER

SAMPLES = 400
SEED = 20
SHARE_RIGHT = {"candidate": 0.97, "baseline": 0.95}
"""How often the recorded answers are right."""


@click.command("init")
@click.argument("folder", type=FOLDER, default=Path())
@click.option("--force", is_flag=True, help="Replace files that are there already.")
def command(folder: Path, *, force: bool) -> None:
    """Write a suite, a gate, data and a CI workflow into FOLDER; they run as they are.

    \b
    evalkit init my-evals
    cd my-evals && evalkit run suite.yaml
    """
    from evalkit.errors import UsageError

    contents = starter_files()
    taken = [name for name in contents if (folder / name).exists()]
    if taken and not force:
        raise UsageError(
            f"{folder}: {', '.join(taken)} would be replaced; --force does that, another folder is safer"
        )
    for name, text in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        click.echo(f"wrote {path}")
    where = "" if folder == Path() else f"cd {folder} && "
    click.echo(f"\nNext: {where}evalkit run suite.yaml")


def starter_files() -> dict[str, str]:
    """Return path → content of every file: the same each time."""
    from evalkit.loaders.schemas import gate_schema, suite_schema

    templates = files("evalkit.cli") / "starter"
    return {
        "suite.yaml": (templates / "suite.yaml").read_text(encoding="utf-8"),
        "gate.yaml": (templates / "gate.yaml").read_text(encoding="utf-8"),
        ".github/workflows/evalkit.yml": (templates / "workflow.yml").read_text(encoding="utf-8"),
        ".gitignore": "reports/\n",
        "suite.schema.json": json.dumps(suite_schema(), indent=1, ensure_ascii=False) + "\n",
        "gate.schema.json": json.dumps(gate_schema(), indent=1, ensure_ascii=False) + "\n",
        **_sums(),
    }


def _sums() -> dict[str, str]:
    """Return the data set and the answers two models are said to have given."""
    draw = random.Random(SEED)
    rows, answers = [], {role: [] for role in SHARE_RIGHT}  # type: ignore[var-annotated]
    for number in range(SAMPLES):
        first, second = draw.randrange(2, 100), draw.randrange(2, 100)
        kind = draw.choice(["plus", "times"])
        right = first + second if kind == "plus" else first * second
        name = f"sum-{number:04}"
        rows.append(
            {
                "id": name,
                "question": f"What is {first} {kind} {second}?",
                "answer": right,
                "kind": kind,
            }
        )
        for role, share in SHARE_RIGHT.items():
            given = right if draw.random() < share else right + draw.choice([-10, -1, 1, 10])
            answers[role].append({"sample_id": name, "text": str(given)})
    return {
        "data/sums.jsonl": _lines(rows),
        **{f"answers/{role}.jsonl": _lines(held) for role, held in answers.items()},
    }


def _lines(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)
