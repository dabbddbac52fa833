"""``evalkit verify``: is this run, and this model, what trusted people have signed?"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import click

from evalkit.cli.attested import (
    ADAPTER,
    IDENTITIES,
    ISSUER,
    MAX_AGE,
    THRESHOLD,
    TRUSTED_KEYS,
    Trusted,
    model_folder,
)
from evalkit.cli.options import KeyCommand, check_writable, json_file, option, out_folder

NOT_VERIFIED = 1


@click.command("verify", cls=KeyCommand)
@click.argument("run")
@model_folder("The checkpoint that is to be deployed; each of its files is read in full.")
@ADAPTER
@option("--no-model", is_flag=True, help="Compare no weights: only the run's own files.")
@TRUSTED_KEYS
@IDENTITIES
@ISSUER
@THRESHOLD
@MAX_AGE
@out_folder("The folder of runs that a name or an alias is looked up in.")
@json_file("Write what was checked and found as JSON too.")
def command(
    run: str,
    model: Path | None,
    adapter: Path | None,
    keys: tuple[Path, ...],
    identities: tuple[str, ...],
    issuer: str,
    threshold: int,
    max_age: timedelta | None,
    out: Path,
    json_file: Path | None,
    *,
    no_model: bool,
) -> int:
    """Tell whether RUN passed, is what trusted keys have signed, and the model in DIR is the one it measured.

    \b
    evalkit verify reports/orders-3f9a1c2b0d11 --model ./checkpoint-900 --key mara.pem.pub
    evalkit verify RUN --model DIR --key mara.pub --key bo.pub --threshold 2 --max-age 30d
    evalkit verify RUN --no-model --key mara.pub             where the weights are not at hand

    \b
    In CI, before the step that deploys:
      evalkit verify "$RUN" --model "$CHECKPOINT" --key keys/risk.pub && ./deploy.sh "$CHECKPOINT"

    Every signed byte is read anew. Whatever was changed, is missing, was added, has expired, is too old or is signed by
    nobody trusted is named, all of it at once. A key counts once, however often it signed and under how many names.

    Exits with 0 where everything holds and 1 where anything does not; 2 is a wrong command, 3 a file that cannot be
    read. Only 0 is a yes.
    """
    from evalkit.cli.attested import as_json, check, lines
    from evalkit.store.durable import write_bytes

    if (model is None) != no_model:
        told = "name either the model, --model DIR, or say that its weights are not compared: --no-model"
        raise click.UsageError(told)
    check_writable(json_file, "--json")
    folder = _folder(run, out)
    checked = check(
        folder,
        Trusted(keys, identities, issuer),
        threshold=threshold,
        max_age=max_age,
        model=model,
        adapter=adapter,
    )
    answer = checked.verification
    click.echo(f"{'VERIFIED' if answer.holds else 'NOT VERIFIED'}: {folder}")
    for line in lines(checked):
        click.echo(line)
    if no_model:
        click.echo("the weights were not compared (--no-model)")
    elif answer.holds:
        click.echo(
            f"{len(checked.state.files)} files of the run and {_count(checked.model)} of the model are as signed"
        )
    if json_file is not None:
        write_bytes(json_file, json.dumps(as_json(checked, folder), indent=2).encode() + b"\n")
    return 0 if answer.holds else NOT_VERIFIED


def _count(model: object) -> int:
    return len(model) if isinstance(model, dict) else 0


def _folder(run: str, out: Path) -> Path:
    """Return a run's folder, in whatever state it is. Raises UsageError where there is none."""
    from evalkit.cli.past_runs import open_run
    from evalkit.store.aliases import aliases
    from evalkit.store.runs import ATTESTATIONS, is_run

    place = Path(run)
    here = place.is_dir() and (is_run(place) or (place / ATTESTATIONS).is_dir())
    if here and run not in aliases(out):  # which of the two is meant, open_run asks
        return place
    return open_run(run, out).path
