"""``evalkit promote``: name a run's model as a baseline that others are compared with."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evalkit.cli.options import option, out_folder

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from evalkit.store.aliases import Promotion

SCORECARD_DIGITS = 12
"""Of a digest; enough to tell two apart."""


@click.command("promote")
@click.argument("run", required=False)
@option("--as", "alias", metavar="ALIAS", help="The name to give it, such as production.")
@out_folder("The folder of runs whose aliases these are.")
@option("--note", default="", metavar="TEXT", help="Why; kept in the history.")
@option(
    "--anyway", is_flag=True, help="Promote although the gates did not pass; the history says so."
)
@option("--list", "shown", is_flag=True, help="Show the aliases and every promotion so far.")
def command(
    run: str | None, alias: str | None, out: Path, note: str, *, anyway: bool, shown: bool
) -> int:
    """Name the candidate of RUN as a baseline; RUN is a run's folder, its name under OUT, or another alias.

    \b
    evalkit promote reports/orders-3f9a1c2b0d11 --as production --note "release 14"
    evalkit run suite.yaml --candidate ./checkpoint-900 --baseline production
    evalkit promote --list

    The history in OUT/aliases.jsonl only grows: promoting again moves the name, and nothing is forgotten.
    """
    if shown:
        _show(out)
        return 0
    if run is None or alias is None:
        raise click.UsageError("name a run and an alias: evalkit promote RUN --as production")
    _promote(run, alias, out, note, anyway=anyway)
    return 0


def _promote(name: str, alias: str, out: Path, note: str, *, anyway: bool) -> None:
    from evalkit.cli.circumstances import utc_now
    from evalkit.cli.past_runs import open_run
    from evalkit.errors import UsageError
    from evalkit.store.aliases import Promotion, append_promotion, check_alias, relative_run

    check_alias(alias)
    run = open_run(name, out)
    next(
        run.rows(), None
    )  # a baseline is compared sample by sample: without its samples it serves nobody
    next(run.weights_rows(), None)
    verdict = run.verdict
    passed = verdict is not None and verdict.status == "pass"
    if not passed and not anyway:
        told = verdict.reason if verdict else "no gate has decided on it"
        raise UsageError(
            f"{run.path} did not pass: {told}; --anyway promotes it, as for the model that ships today, and says so in "
            "the history"
        )
    append_promotion(
        out,
        Promotion(
            time=utc_now(),
            alias=alias,
            run=relative_run(run.path, out),
            scorecard=run.scorecard.digest,
            status=verdict.status if verdict else None,
            exit_code=verdict.exit_code if verdict else None,
            anyway=not passed,
            by=_user(),
            note=note,
        ),
    )
    click.echo(f"{alias}: {run.path}" + ("" if passed else "  (it did not pass)"))


def _user() -> str:
    """Return the operating system's name of who runs this; the number where it has no name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user without an entry
        return str(os.getuid())


def _show(out: Path) -> None:
    from evalkit.cli.terminal import console
    from evalkit.store.aliases import aliases, promotions

    history = promotions(out)
    if not history:
        click.echo(f"nothing was promoted under {out} yet")
        return
    console().print(_aliases(aliases(out).values(), out))
    console().print(_history(history))


def _aliases(promotions: Iterable[Promotion], out: Path) -> Table:
    """Return what each alias means now, and whether its run is there."""
    from evalkit.store.runs import is_run

    table = _table("Aliases")
    for column in ("alias", "run", "scorecard"):
        table.add_column(column, overflow="fold")
    for one in promotions:
        gone = "" if is_run(out / one.run) else "  (not there any more)"
        table.add_row(*_texts(one.alias, f"{one.run}{gone}", one.scorecard[:SCORECARD_DIGITS]))
    return table


def _history(promotions: Iterable[Promotion]) -> Table:
    table = _table("History, oldest first")
    table.add_column("when (UTC)", no_wrap=True)
    for column in ("alias", "run", "verdict, by, note"):
        table.add_column(column, overflow="fold")
    for one in promotions:
        verdict = f"{one.status or 'none'}{', promoted anyway' if one.anyway else ''}"
        told = ", ".join(filter(None, (verdict, one.by, one.note)))
        table.add_row(*_texts(one.time[:16].replace("T", " "), one.alias, one.run, told))
    return table


def _table(title: str) -> Table:
    from rich import box
    from rich.table import Table

    return Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )


def _texts(*cells: str) -> Iterable[Text]:
    """Return cells as they are: what a user wrote is no markup."""
    from rich.text import Text

    return map(Text, cells)
