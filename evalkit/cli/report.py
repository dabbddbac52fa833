"""``evalkit report``: a finished run for people and machines, and a site over many."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from evalkit.cli.options import FOLDER, option, out_folder


@click.command("report")
@click.argument("runs", nargs=-1, metavar="RUN...")
@option(
    "--format",
    "formats",
    multiple=True,
    metavar="NAME",
    help="The report to write ('evalkit list reporters' names them). May be given again.  [default: html, junit, "
    "markdown]",
)
@option(
    "--to",
    type=FOLDER,
    metavar="DIR",
    help="Where the reports are written, of several runs in a folder each.  [default: the run's own folder]",
)
@option(
    "--site",
    type=FOLDER,
    metavar="DIR",
    help="Write a site over the runs instead: their verdicts, and the history of every number with its interval, "
    "promotions marked. Without a RUN it is over all runs under OUT.",
)
@out_folder("The folder of runs that names and aliases are looked up in.")
def command(
    runs: tuple[str, ...], formats: tuple[str, ...], to: Path | None, site: Path | None, out: Path
) -> int:
    """Write the reports of RUN again (a run's folder, its name under OUT, or an alias); no model is asked.

    \b
    evalkit report reports/orders-3f9a1c2b0d11                report.html, junit.xml, summary.md beside the scorecard
    evalkit report production --format sarif --to ci/
    evalkit report --site public/                             every run under reports/, as a site to be served or opened

    report.html is one file that loads nothing from any network: it can be mailed. Every run has one from the start;
    this writes it again, as after an update. The verdict is the one the run has ('evalkit gate' decides anew).

    Exits with 0 where everything was written, whatever the verdict; 2 where a run is not there or was
    changed, 3 where a report could not be written.
    """
    from evalkit.cli.past_runs import open_run
    from evalkit.cli.reporting import ALWAYS, need_reporters, write_reports
    from evalkit.errors import UsageError
    from evalkit.store.durable import make_folder

    if site is not None:
        if formats or to is not None:
            raise UsageError("--site is written instead of reports: leave out --format and --to")
        return _site(runs, site, out)
    if not runs:
        raise UsageError("name a run: evalkit report RUN (or --site DIR for all of them)")
    opened = [open_run(name, out) for name in runs]
    need_reporters(formats, opened)
    whole = True
    for run in opened:
        if run.scorecard.samples and not run.has_samples:
            click.echo(
                f"{run.path}: its samples are not there; reports are of the numbers alone", err=True
            )
        folder = run.path
        if to is not None:
            folder = to if len(opened) == 1 else to / run.path.name
            make_folder(folder)
        files = write_reports(run, folder, only=formats or None)
        for file in files:
            click.echo(file)
        whole &= len(files) == len(set(formats or ALWAYS))
    return 0 if whole else 3


def _site(runs: Sequence[str], site: Path, out: Path) -> int:
    from evalkit.cli.past_runs import find_run, runs_under
    from evalkit.cli.site import write_site
    from evalkit.errors import UsageError

    paths = []
    for name in runs:
        found = find_run(name, out)
        if found is None:
            raise UsageError(f"no run {name!r}, here, under {out} or as an alias")
        paths.append(found.path)
    paths = paths or runs_under(out)
    if not paths:
        raise UsageError(
            f"there is no run under {out}: name runs, or say where they lie with --out"
        )
    click.echo(write_site(paths, out, site))
    return 0
