"""``evalkit gate``: decide again on a finished run, without a model."""

from __future__ import annotations

from pathlib import Path

import click

from evalkit.cli.options import CALIBRATION, EXISTING_FILE, option, out_folder


@click.command("gate")
@click.argument("run")
@click.argument("gates", nargs=-1, required=True, type=EXISTING_FILE)
@option("--write", is_flag=True, help="Replace the run's verdict.json with this verdict.")
@out_folder("The folder of runs that a name or an alias is looked up in.")
@CALIBRATION
def command(
    run: str, gates: tuple[Path, ...], out: Path, calibration: Path | None, *, write: bool
) -> int:
    """Decide on RUN (a run's folder, its scorecard.json, its name under OUT, or an alias) by the rules in GATES.

    \b
    evalkit gate reports/orders-3f9a1c2b0d11 gates/strict.yaml
    evalkit gate production gates/strict.yaml

    Exits with the verdict: 0 passed, 1 failed, 3 the run was incomplete, 4 undecided.
    """
    from evalkit.cli.assemble import load_gates
    from evalkit.cli.past_runs import decide_again, open_run
    from evalkit.cli.terminal import print_run
    from evalkit.store.calibrations import read_calibration
    from evalkit.store.runs import write_verdict

    noise = None if calibration is None else read_calibration(calibration)
    specs = load_gates(gates)
    past = open_run(run, out)
    verdict = decide_again(specs, past)
    if write:
        write_verdict(past.path, verdict)
    print_run(past.scorecard, verdict, past.path, quiet=False, calibration=noise)
    return verdict.exit_code
