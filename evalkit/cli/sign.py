"""``evalkit sign``: put a name to a run that passed."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from evalkit.cli.options import KEY_FILE, KeyCommand, option, out_folder

if TYPE_CHECKING:
    from evalkit.cli.past_runs import PastRun
    from evalkit.signing import RunState, SigningKey

WAIVERS: Final = (
    "; only what passed is signed: a rule that must give way takes a waiver, with owner and date"
)


@click.command("sign", cls=KeyCommand)
@click.argument("run")
@option(
    "--key",
    "--key-file",
    "key_file",
    envvar="EVALKIT_KEY_FILE",
    type=KEY_FILE,
    metavar="FILE",
    help="The private key.  [default: what EVALKIT_SIGN_KEY holds]",
)
@option(
    "--sigstore",
    is_flag=True,
    help="Sign by who you are instead of with a key: Sigstore's public service vouches, and publishes it.",
)
@option(
    "--approver", required=True, metavar="NAME", help="Who approves; written into what is signed."
)
@option("--note", default="", metavar="TEXT", help="Why, or under which conditions; signed too.")
@out_folder("The folder of runs that a name or an alias is looked up in.")
def command(
    run: str, key_file: Path | None, approver: str, note: str, out: Path, *, sigstore: bool
) -> int:
    """Sign RUN: its scorecard, verdict, suite, samples and every file of its candidate, by their bytes.

    \b
    evalkit sign reports/orders-3f9a1c2b0d11 --key mara.pem --approver "Mara Lind, risk"
    EVALKIT_SIGN_KEY="$SECRET" evalkit sign reports/orders-3f9a1c2b0d11 --approver "release pipeline"
    evalkit sign reports/orders-3f9a1c2b0d11 --sigstore --approver "release pipeline"

    RUN is a run's folder, its name under OUT, or an alias. Writes RUN/attestations/<key id>.dsse.json, an in-toto
    statement in a DSSE envelope; a second approver signs with a key of their own. 'evalkit verify' believes it as long
    as nothing has changed.

    Only a run that passed is signed. Where a rule must give way, a waiver in the gate file says for whom, why and until
    when, and is signed with the rest. EVALKIT_SIGN_KEY holds the key itself, as PEM or as base64 of it;
    EVALKIT_SIGN_PASSPHRASE the passphrase of an encrypted one.
    """
    from evalkit import __version__
    from evalkit.cli.attested import clean, utc_clock
    from evalkit.cli.past_runs import open_run
    from evalkit.errors import UsageError
    from evalkit.loaders.keyless import signed_keyless
    from evalkit.signing import KEYLESS, sign_off
    from evalkit.store.attestations import BUNDLE, ENVELOPE, read_state, write_attestation

    if sigstore and key_file is not None:
        raise UsageError("--sigstore signs without a key: leave out --key")
    if not approver.strip() or not approver.isprintable():
        raise UsageError(f"--approver {approver!r}: name somebody, on one line")
    key = None if sigstore else _key(key_file)
    past = open_run(run, out)
    state = read_state(past.path)
    now = utc_clock()
    _refuse(past, state, now.date())
    statement = sign_off(
        state,
        approver=approver.strip(),
        note=note,
        key=key.public.id if key else KEYLESS,
        signed=now,
        evalkit=__version__,
    )
    content, name, who = _sealed(statement, key) if key else signed_keyless(statement)
    file = write_attestation(past.path, name, content, ENVELOPE if key else BUNDLE)
    _tell(state, clean(f"{approver.strip()} ({who})"), file)
    return 0


def _key(file: Path | None) -> SigningKey:
    """Return the key to sign with, and warn where others may read it."""
    from evalkit.loaders.keys import signing_key

    key, warning = signing_key(file)
    if warning:
        click.echo(f"warning: {warning}", err=True)
    return key


def _sealed(statement: bytes, key: SigningKey) -> tuple[bytes, str, str]:
    """Return the envelope that a key signs, a name for its file, and who signed."""
    from evalkit.identity import short
    from evalkit.signing import PAYLOAD_TYPE, Envelope, Signature, written_envelope

    signed = Envelope(statement, PAYLOAD_TYPE, ()).signed_bytes
    made = Envelope(statement, PAYLOAD_TYPE, (Signature(key.public.id, key.sign(signed)),))
    return written_envelope(made), key.public.id, f"key {short(key.public.id)}"


def _refuse(past: PastRun, state: RunState, today: date) -> None:
    """Raise UsageError with all that speaks against signing a run."""
    from evalkit.cli.attested import clean
    from evalkit.errors import Problem, UsageError
    from evalkit.signing import run_objections
    from evalkit.store.runs import read_lent_baseline

    found = [
        each.message + (WAIVERS if each.kind == "verdict" else "")
        for each in run_objections(state, today)
    ]
    try:
        _ = past.suite
        read_lent_baseline(past.path, past.scorecard)
    except UsageError as error:
        found += [str(problem) for problem in error.problems] or [str(error)]
    if found:
        raise UsageError([Problem(str(past.path), None, "", clean(each)) for each in found])


def _tell(state: RunState, who: str, file: Path) -> None:
    from evalkit.cli.attested import clean

    assert state.verdict is not None
    click.echo(f"signed by {who}: {clean(state.verdict.reason)}")
    for outcome in state.verdict.outcomes:
        if outcome.counts_as == "waived" and (waiver := outcome.waiver):
            told = f"{outcome.rule} on {outcome.estimate}: {waiver.owner}, until {waiver.expires}: {waiver.reason}"
            click.echo(clean(f"waived: {told}"))
    click.echo(f"{len(state.files)} files of the run, {len(state.model_files)} of the candidate")
    click.echo(f"attestation: {file}")
