"""``evalkit validate``: check files without a model."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import click

from evalkit.cli.options import EXISTING_FILE, option


@click.command("validate")
@click.argument("files", nargs=-1, required=True, type=EXISTING_FILE)
@option(
    "--rows",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    help="Rows of each data set to read and render; 0 reads none.",
)
def command(files: tuple[Path, ...], rows: int) -> int:
    """Check suite and gate FILES: every mistake at once, with its line. Needs no model.

    \b
    evalkit validate suites/quickstart/suite.yaml gates/*.yaml

    A suite's gates are checked with it, against the estimates the suite can give, and the first rows of every
    data set are read and rendered.
    """
    from evalkit.errors import Problem, UsageError

    problems: list[Problem] = []
    lines: list[str] = []
    for path in files:
        try:
            lines.append(_check(path, rows))
        except UsageError as error:
            if not error.problems:
                raise
            problems += error.problems
    if problems:
        raise UsageError(list(dict.fromkeys(problems)))
    for line in lines:
        click.echo(line)
    return 0


def _check(path: Path, rows: int) -> str:
    from evalkit.loaders.yaml_source import read_yaml

    if "gate" in read_yaml(path).value:
        from evalkit.loaders.gates import load_gate

        gate = load_gate(path)
        return f"{path}: gate {gate.gate!r}, {_count(len(gate.rules), 'rule')}: ok"
    return _check_suite(path, rows)


def _check_suite(path: Path, rows: int) -> str:
    from evalkit.cli.assemble import load_files, task_parts
    from evalkit.errors import Problem, UsageError
    from evalkit.identity import digest_bytes
    from evalkit.loaders.suites import check_gates_against_suite
    from evalkit.planning import TaskPlanner
    from evalkit.records.exchange import Model

    loaded, gates = load_files(path, ())
    problems = list(check_gates_against_suite(loaded.spec, gates))
    nobody = Model("validate", "", "", pinned=True)
    checked = 0
    for task in loaded.spec.sampled if rows else ():
        try:
            parts = task_parts(task, loaded.folder, lambda file: digest_bytes(str(file).encode()))
            before = checked
            for planned in islice(
                TaskPlanner(task, nobody, parts.examples).plan(parts.source.rows()), rows
            ):
                checked += 1
                if planned.problem:
                    problems.append(
                        Problem(str(path), None, f"task {task.name!r}", planned.problem)
                    )
            if checked == before:
                empty = "the data set holds no sample: nothing can be measured"
                problems.append(Problem(str(path), None, f"task {task.name!r}", empty))
        except UsageError as error:
            problems += error.problems or [
                Problem(str(path), None, f"task {task.name!r}", str(error))
            ]
    if problems:
        raise UsageError(problems)
    names = ", ".join(gate.gate for gate in gates) or "none"
    return (
        f"{path}: suite {loaded.spec.suite!r}, {_count(len(loaded.spec.tasks), 'task')}, gates: {names}, "
        f"{checked} rows rendered: ok"
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
