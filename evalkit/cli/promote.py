"""``evalkit promote``: name a run's model as a baseline that others are compared with."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evalkit.cli.attested import (
    ADAPTER,
    IDENTITIES,
    ISSUER,
    MAX_AGE,
    THRESHOLD,
    TRUSTED_KEYS,
    Trusted,
    demanded,
    model_folder,
)
from evalkit.cli.options import KeyCommand, option, out_folder

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from evalkit.store.aliases import Promotion, SignedBy

SCORECARD_DIGITS = 12
"""Of a digest; enough to tell two apart."""


@click.command("promote", cls=KeyCommand)
@click.argument("run", required=False)
@option("--as", "alias", metavar="ALIAS", help="The name to give it, such as production.")
@out_folder("The folder of runs whose aliases these are.")
@option("--note", default="", metavar="TEXT", help="Why; kept in the history.")
@option(
    "--anyway", is_flag=True, help="Promote although the gates did not pass; the history says so."
)
@demanded(
    "--require-signature",
    is_flag=True,
    help="Promote only what 'evalkit verify' would believe: signed by the keys that follow.",
)
@TRUSTED_KEYS
@IDENTITIES
@ISSUER
@THRESHOLD
@MAX_AGE
@model_folder("With --require-signature: compare these weights with the signed ones too.")
@ADAPTER
@option("--list", "shown", is_flag=True, help="Show the aliases and every promotion so far.")
def command(
    run: str | None,
    alias: str | None,
    out: Path,
    note: str,
    keys: tuple[Path, ...],
    identities: tuple[str, ...],
    issuer: str,
    threshold: int,
    max_age: timedelta | None,
    model: Path | None,
    adapter: Path | None,
    *,
    anyway: bool,
    require_signature: bool,
    shown: bool,
) -> int:
    """Name the candidate of RUN as a baseline; RUN is a run's folder, its name under OUT, or another alias.

    \b
    evalkit promote reports/orders-3f9a1c2b0d11 --as production --note "release 14"
    evalkit run suite.yaml --candidate ./checkpoint-900 --baseline production
    evalkit promote RUN --as production --require-signature --key mara.pub --key bo.pub --threshold 2
    evalkit promote --list

    The history in OUT/aliases.jsonl only grows: promoting again moves the name, and nothing is forgotten. It says who
    had signed, where signatures were required. Exits with 1 where they were and did not hold.
    """
    if shown:
        _show(out)
        return 0
    if run is None or alias is None:
        raise click.UsageError("name a run and an alias: evalkit promote RUN --as production")
    required = None
    if require_signature:
        if anyway:
            raise click.UsageError(
                "--anyway promotes what did not pass; --require-signature never does"
            )
        required = Required(Trusted(keys, identities, issuer), threshold, max_age, model, adapter)
    elif (flag := _without_effect()) is not None:
        raise click.UsageError(f"{flag} has no effect without --require-signature")
    return _promote(run, alias, out, note, required, anyway=anyway)


@dataclass(frozen=True)
class Required:
    """Which signatures a run must have to be promoted."""

    trusted: Trusted
    """Whose signatures count."""
    threshold: int
    """How many of them must have signed."""
    max_age: timedelta | None
    """How long a signature counts."""
    model: Path | None
    """The weights to compare."""
    adapter: Path | None
    """The adapter on them."""


def _without_effect() -> str | None:
    """Return an option of the command line that only matters where signatures are required; variables may stand."""
    context = click.get_current_context()
    on_line = click.core.ParameterSource.COMMANDLINE
    flags = {
        "keys": "--key",
        "identities": "--sigstore-identity",
        "threshold": "--threshold",
        "max_age": "--max-age",
    }
    flags |= {"model": "--model", "adapter": "--adapter"}
    given = (flag for name, flag in flags.items() if context.get_parameter_source(name) is on_line)
    return next(given, None)


def _promote(
    name: str, alias: str, out: Path, note: str, required: Required | None, *, anyway: bool
) -> int:
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
        advice = (
            "--anyway promotes it, as for the model that ships today, and says so in the history"
        )
        if required is not None:
            advice = "nothing else is promoted where signatures are required"
        raise UsageError(f"{run.path} did not pass: {told}; {advice}")
    signed_by = _signers(run.path, required, run.scorecard.digest) if required else ()
    if signed_by is None:
        return 1
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
            signed_by=signed_by,
        ),
    )
    click.echo(f"{alias}: {run.path}" + ("" if passed else "  (it did not pass)"))
    return 0


def _signers(folder: Path, required: Required, scorecard: str) -> tuple[SignedBy, ...] | None:
    """Return who has signed a run; None, and say why, where that is not enough."""
    from evalkit.cli.attested import check, lines
    from evalkit.errors import UsageError
    from evalkit.store.aliases import SignedBy

    checked = check(
        folder,
        required.trusted,
        threshold=required.threshold,
        max_age=required.max_age,
        model=required.model,
        adapter=required.adapter,
    )
    holds = checked.verification.holds
    if holds and (card := checked.state.scorecard) is not None and card.digest != scorecard:
        raise UsageError(
            f"{folder} changed while it was checked: promote again when nothing writes there"
        )
    if not holds:
        click.echo(f"not promoted: the signatures of {folder} do not hold", err=True)
    for line in lines(checked):
        click.echo(line, err=not holds)
    if required.model is None:
        click.echo("the weights were not compared: --model DIR does", err=not holds)
    if not holds:
        return None
    approvals = checked.verification.approvals
    return tuple(SignedBy(key=each.key, approver=each.approver) for each in approvals)


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
        signers = " and ".join(each.approver or "a co-signer" for each in one.signed_by)
        signed = f"signed by {signers}" if signers else ""
        told = ", ".join(filter(None, (verdict, signed, one.by, one.note)))
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
