"""``evalkit power``: what each rule can detect with the samples there are, before GPU time is spent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from evalkit.cli.options import EXISTING_FILE, json_file, limit, option, out_folder

if TYPE_CHECKING:
    from evalkit.powering import Assumptions


@click.command("power")
@click.argument("suite", type=EXISTING_FILE)
@click.argument("gates", nargs=-1, type=EXISTING_FILE)
@option(
    "--from",
    "run",
    envvar="EVALKIT_FROM",
    metavar="RUN",
    help="An earlier run of the suite (its folder, its name under OUT, or an alias) that shows how scores vary.",
)
@option(
    "--assume",
    multiple=True,
    metavar="KEY=NUMBER",
    help="What is assumed where no run tells: accuracy (0.9), discordance (0.1), sd, sd_difference. Repeatable.",
)
@option(
    "--power",
    "wanted",
    envvar="EVALKIT_POWER",
    type=click.FloatRange(min=0.5, max=0.999),
    default=0.8,
    show_default=True,
    help="The chance with which an effect must be seen.",
)
@limit("As if only the first N samples of each task were run.")
@out_folder("The folder of runs that RUN is looked up in.")
@json_file()
def command(
    suite: Path,
    gates: tuple[Path, ...],
    run: str | None,
    assume: tuple[str, ...],
    wanted: float,
    limit: int | None,
    out: Path,
    json_file: Path | None,
) -> int:
    """Tell what the rules of SUITE's own gates, and of GATES, can decide with the samples there are. Needs no model.

    \b
    evalkit power suite.yaml
    evalkit power suite.yaml gates/strict.yaml --from production
    evalkit power suite.yaml --assume accuracy=0.8 --assume discordance=0.05
    evalkit power suite.yaml --power 0.9 --json power.json

    For each rule: the chance that an unchanged candidate passes; from which true value, or difference from the
    baseline, on it passes or fails with 80 %; and how many samples an unchanged candidate needs to pass with 80 %. The
    rules themselves are asked, on every outcome that matters.

    Before a run nothing is known of the scores, so it is assumed that a model is right on 90 % of the samples, and that
    10 % turn right or wrong from one model to an equally good one. An earlier run (--from) tells better, and counts
    clusters.

    Rules on weights (tasks of kind spectral) have no power: weights are read in full, nothing is sampled.

    Exits with 1 when a blocking rule can never pass or never fail with these samples, else with 0.
    """
    from evalkit.cli.assemble import assemble
    from evalkit.cli.terminal import console
    from evalkit.errors import UsageError
    from evalkit.gates.evaluate import evidence_by_name
    from evalkit.identity import digest_bytes
    from evalkit.powering import estimands_of, power_of
    from evalkit.reports.power import power_drawing
    from evalkit.store.durable import write_bytes

    assumed = _assumptions(assume)
    parts = assemble(suite, gates, limit, lambda file: digest_bytes(str(file).encode()))
    if not parts.gates:
        raise click.UsageError(
            "there is no gate: name one after SUITE, or under 'gates:' in the suite"
        )
    estimands = list(estimands_of(parts.tasks, parts.gates))
    past = {}
    if run is not None:
        from evalkit.cli.past_runs import open_run

        scorecard = open_run(run, out).scorecard
        past = evidence_by_name(scorecard)
        if estimands and not any(estimand.name in past for estimand in estimands):
            raise UsageError(
                f"--from {run}: that run, of suite {scorecard.provenance.suite!r}, has none of the numbers that these "
                "gates look at; name a run of this suite"
            )
    report = power_of(
        parts.gates,
        estimands,
        assumed,
        past,
        power=wanted,
        level=parts.suite.confidence,
        weighed=parts.suite.spectral,
    )
    printer = console()
    printer.print(power_drawing(report, printer.width))
    if json_file is not None:
        write_bytes(json_file, report.model_dump_json(indent=2).encode() + b"\n")
    undecidable = any(
        row.severity == "block" and (row.cannot_pass or row.cannot_fail) for row in report.rules
    )
    return 1 if undecidable else 0


def _assumptions(pairs: tuple[str, ...]) -> Assumptions:
    """Return what ``--assume`` says; what it cannot mean is a usage error."""
    from pydantic import ValidationError

    from evalkit.powering import Assumptions
    from evalkit.registry import nearest

    given: dict[str, str] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or key not in Assumptions.model_fields:
            close = nearest(key, Assumptions.model_fields)
            hint = f"; did you mean {close!r}?" if close and sign else ""
            known = ", ".join(Assumptions.model_fields)
            raise click.UsageError(f"--assume {pair!r} is not KEY=NUMBER with one of {known}{hint}")
        given[key] = value
    try:
        return Assumptions.model_validate(given)
    except ValidationError as error:
        problem = error.errors()[0]
        name = str(problem["loc"][0])
        raise click.UsageError(f"--assume {name}={given[name]}: {problem['msg']}") from error
