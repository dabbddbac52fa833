"""``evalkit gate``: decide again on a finished run, without a model."""

from __future__ import annotations

from pathlib import Path

import click

from evalkit.cli.options import option


@click.command("gate")
@click.argument("run", type=click.Path(exists=True, path_type=Path))
@click.argument(
    "gates", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@option("--write", is_flag=True, help="Replace the run's verdict.json with this verdict.")
def command(run: Path, gates: tuple[Path, ...], *, write: bool) -> int:
    """Decide on RUN (a run's folder or its scorecard.json) by the rules in GATES.

    \b
    evalkit gate reports/orders-3f9a1c2b0d11 gates/strict.yaml

    Exits with the verdict: 0 passed, 1 failed, 3 the run was incomplete, 4 undecided.
    """
    from evalkit.cli.assemble import load_gates
    from evalkit.cli.terminal import print_run
    from evalkit.gates.evaluate import evaluate
    from evalkit.store.runs import read_scorecard, write_verdict

    specs = load_gates(gates)
    scorecard = read_scorecard(run)
    verdict = evaluate(specs, scorecard)
    folder = run if run.is_dir() else run.parent
    if write:
        write_verdict(folder, verdict)
    print_run(scorecard, verdict, folder, quiet=False)
    return verdict.exit_code
