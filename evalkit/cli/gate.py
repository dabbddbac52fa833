"""``evalkit gate``: decide again on a finished run, without a model."""

from __future__ import annotations

from pathlib import Path

import click

from evalkit.cli.options import (
    CALIBRATION,
    EXISTING_FILE,
    FOLDER,
    option,
    out_folder,
    report_formats,
)


@click.command("gate")
@click.argument("run")
@click.argument("gates", nargs=-1, required=True, type=EXISTING_FILE)
@option(
    "--write",
    is_flag=True,
    help="Replace the run's verdict.json with this verdict, and its reports likewise.",
)
@option(
    "--reports",
    type=FOLDER,
    metavar="DIR",
    help="Write report.html, junit.xml and summary.md of this verdict into DIR, and leave the run's own.",
)
@report_formats("A report to write beside those")
@out_folder("The folder of runs that a name or an alias is looked up in.")
@CALIBRATION
def command(
    run: str,
    gates: tuple[Path, ...],
    out: Path,
    calibration: Path | None,
    reports: Path | None,
    report: tuple[str, ...],
    *,
    write: bool,
) -> int:
    """Decide on RUN (a run's folder, its scorecard.json, its name under OUT, or an alias) by the rules in GATES.

    \b
    evalkit gate reports/orders-3f9a1c2b0d11 gates/strict.yaml
    evalkit gate production gates/strict.yaml
    evalkit gate orders-3f9a1c2b0d11 gates/strict.yaml --reports ci/

    Exits with the verdict: 0 passed, 1 failed, 3 the run was incomplete, 4 undecided.
    """
    from evalkit.cli.assemble import load_gates
    from evalkit.cli.past_runs import decide_again, open_run
    from evalkit.cli.reporting import need_reporters, tell_ci, write_reports
    from evalkit.cli.terminal import print_run
    from evalkit.errors import UsageError
    from evalkit.store.calibrations import read_calibration
    from evalkit.store.durable import make_folder
    from evalkit.store.runs import write_verdict

    if report and not (write or reports):
        raise UsageError("--report takes --write or --reports DIR: somewhere to write it")
    noise = None if calibration is None else read_calibration(calibration)
    specs = load_gates(gates)
    past = open_run(run, out)
    need_reporters(report, [past])
    verdict = decide_again(specs, past)
    decided = past.decided(verdict)
    if write:
        write_verdict(past.path, verdict)
        write_reports(decided, past.path, report)
    if reports is not None:
        make_folder(reports)
        write_reports(decided, reports, report)
    tell_ci(decided)
    lie = past.path if write else reports
    print_run(past.scorecard, verdict, past.path, quiet=False, calibration=noise, reports=lie)
    return verdict.exit_code
