"""What ``evalkit verify`` and ``evalkit promote --require-signature`` share: options, the check, how it is told."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from evalkit.cli.options import KEY_FILE, F, Option, option

if TYPE_CHECKING:
    from evalkit.signing import Objection, RunState, Verification

CHECKPOINT = click.Path(exists=True, path_type=Path)
_AGE: Final = re.compile(r"(?P<count>[0-9]{1,6})(?P<unit>[dhm])")
_UNITS: Final = {"d": "days", "h": "hours", "m": "minutes"}


def _age(context: click.Context, parameter: click.Parameter, value: str | None) -> timedelta | None:
    """Return a span of time: ``30d``, ``12h``, ``90m``."""
    if value is None:
        return None
    found = _AGE.fullmatch(value)
    if found is None or not int(found["count"]):
        message = f"{value!r} is no span of time: write 30d, 12h or 90m"
        raise click.BadParameter(message, context, parameter)
    return timedelta(**{_UNITS[found["unit"]]: int(found["count"])})


class Demanded(Option):
    """An option that says what is demanded: a variable that is set but empty is a mistake, not a demand for nothing."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Return what the variable holds; None where it is not set. Raises UsageError where it is empty."""
        for name in [self.envvar] if isinstance(self.envvar, str) else self.envvar or ():
            if (held := os.environ.get(name)) is not None and not held.strip():
                raise click.UsageError(
                    f"{name} is set but empty: give it a value, or unset it", ctx
                )
        return super().resolve_envvar_value(ctx)


def demanded(*names: str, **settings: Any) -> Callable[[F], F]:  # noqa: ANN401 - click's own settings
    """Return the decorator of an option that loosens nothing where its variable is set but empty."""
    return click.option(*names, cls=Demanded, **settings)


TRUSTED_KEYS = demanded(
    "--key",
    "--trusted-key",
    "keys",
    envvar="EVALKIT_TRUSTED_KEY",
    type=KEY_FILE,
    multiple=True,
    metavar="FILE",
    help="A public key that is trusted. May be given again.",
)
IDENTITIES = option(
    "--sigstore-identity",
    "identities",
    multiple=True,
    metavar="WHO",
    help="An identity that is trusted: a mail address, a workflow's URL. May be given again.",
)
ISSUER = option(
    "--sigstore-issuer",
    "issuer",
    default="",
    metavar="URL",
    help="Who vouches for these identities.",
)
THRESHOLD = demanded(
    "--threshold",
    "--approvals",
    "threshold",
    envvar="EVALKIT_APPROVALS",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How many different trusted keys or identities must have signed.",
)
MAX_AGE = demanded(
    "--max-age",
    callback=_age,
    metavar="AGE",
    help="How long a signature counts: 30d, 12h, 90m.  [default: for ever]",
)


def model_folder(told: str) -> Callable[[F], F]:
    """Return the option ``--model``: the checkpoint that was signed."""
    return demanded(
        "--model",
        "--checkpoint",
        "model",
        envvar="EVALKIT_CHECKPOINT",
        type=CHECKPOINT,
        metavar="DIR",
        help=told,
    )


ADAPTER = option(
    "--adapter",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="The adapter that the run put on the model.",
)


@dataclass(frozen=True)
class Trusted:
    """Whose signatures count."""

    keys: Sequence[Path]
    """Files of public keys."""
    identities: Sequence[str] = ()
    """As a Sigstore certificate names them."""
    issuer: str = ""
    """Who vouches for the identities."""


@dataclass(frozen=True)
class Checked:
    """What was checked, and the answer."""

    verification: Verification
    """The answer."""
    state: RunState
    """The run's files, as they were read."""
    model: Mapping[str, str] | None
    """The model's files, as they were read; None where they were not to be compared."""
    keys: Mapping[str, tuple[Path, ...]]
    """Key id → the files that hold it."""
    trusted: Trusted
    """Whose signatures were to count."""
    threshold: int
    """How many keys must have signed."""
    now: datetime
    """By which clock."""
    others: tuple[str, ...]
    """Files among the attestations that are none."""


def utc_clock() -> datetime:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def check(
    folder: Path,
    trusted: Trusted,
    *,
    threshold: int,
    max_age: timedelta | None,
    model: Path | None,
    adapter: Path | None,
) -> Checked:
    """Return whether enough of those who are trusted have signed a run, and the model where there is one.

    Raises UsageError where the question makes no sense, RunError where a file cannot be read.
    """
    from evalkit.errors import UsageError
    from evalkit.loaders.keyless import open_bundles
    from evalkit.loaders.keys import public_keys
    from evalkit.signing import Policy, open_envelope, verified
    from evalkit.store.attestations import read_attestations, read_state

    identities = tuple(dict.fromkeys(trusted.identities))
    if not trusted.keys and not identities:
        raise UsageError("name at least one public key that is trusted: --key FILE.pub")
    if bool(identities) != bool(trusted.issuer):
        raise UsageError("--sigstore-identity and --sigstore-issuer belong together: name both")
    if adapter is not None and model is None:
        raise UsageError("--adapter is put on a model: name it with --model DIR")
    keys = public_keys(trusted.keys)
    by_id: dict[str, tuple[Path, ...]] = {}
    for file, key in keys:
        by_id[key.id] = (*by_id.get(key.id, ()), file)
    if threshold > (most := len(by_id) + len(identities)):
        kind = "identities and keys" if identities else f"key{'s' * (most > 1)}"
        message = f"--threshold {threshold} cannot be reached with {most} different {kind}"
        raise UsageError(f"{message}{_same(by_id)}")
    state = read_state(folder)
    held = read_attestations(folder)
    now = utc_clock()
    opened = [open_envelope(each, [key for _, key in keys]) for each in held.envelopes]
    opened += open_bundles(held.bundles, identities, trusted.issuer)
    files, wrong = (None, []) if model is None else _model(model, adapter, state)
    answer = verified(opened, state, files, Policy(now, threshold, max_age))
    return Checked(_with(answer, wrong), state, files, by_id, trusted, threshold, now, held.others)


def lines(checked: Checked) -> Iterator[str]:
    """Yield what was found, one sentence a line; whatever others wrote is made harmless."""
    from evalkit.signing.verifying import key_named

    answer = checked.verification
    for each in answer.approvals:
        who = each.approver or "a co-signer"
        note = f": {each.note}" if each.note else ""
        yield clean(
            f"signed by {who} ({key_named(each.key)}) at {each.signed:%Y-%m-%d %H:%M} UTC{note}"
        )
    for files in checked.keys.values():
        if len(files) > 1:
            yield clean(f"note: {', '.join(map(str, files))} are one key, which counts once")
    for name in checked.others:
        yield clean(f"note: {name}: no attestation (neither .dsse.json nor .sigstore.json)")
    if words := _said(checked.state):
        told = "which files of the candidate the run measured is known only"
        yield clean(f"note: {told} {words}: the harness does not tell what it read")
    for told in _grouped(answer.passed_over):
        yield f"note: does not count: {told}"
    for told in _grouped(answer.objections):
        yield f"- {told}"


def as_json(checked: Checked, run: Path) -> dict[str, Any]:
    """Return what was checked and found, as plain JSON."""
    answer = checked.verification
    return {
        "format": 1,
        "run": str(run),
        "verified": answer.holds,
        "time": checked.now.isoformat(),
        "threshold": checked.threshold,
        "keys": {key: [str(file) for file in files] for key, files in checked.keys.items()},
        "identities": list(checked.trusted.identities),
        "issuer": checked.trusted.issuer,
        "model_compared": checked.model is not None,
        "approvals": [
            {**asdict(each), "signed": each.signed.isoformat()} for each in answer.approvals
        ],
        "objections": [asdict(each) for each in answer.objections],
        "passed_over": [asdict(each) for each in answer.passed_over],
        "files": dict(sorted(checked.state.files.items())),
        "model": None if checked.model is None else dict(sorted(checked.model.items())),
    }


def clean(text: str) -> str:
    """Return text on one line that moves no cursor and hides nothing."""
    from evalkit.reports.clean import printable

    return printable(text)


def _model(
    place: Path, adapter: Path | None, state: RunState
) -> tuple[Mapping[str, str], Sequence[str]]:
    from evalkit.loaders.deployed import deployed_files

    models = state.scorecard.provenance.models if state.scorecard else {}
    engine = models["candidate"].engine if "candidate" in models else {}
    replayed = engine.get("backend") == "replay"
    return deployed_files(place, adapter, state.model_files, replayed=replayed)


def _said(state: RunState) -> str:
    """Return on whose word the candidate's files stand in an imported run; empty where the run read them."""
    models = state.scorecard.provenance.models if state.scorecard else {}
    return str(models["candidate"].engine.get("files", "")) if "candidate" in models else ""


def _with(answer: Verification, wrong: Sequence[str]) -> Verification:
    """Return an answer with why the model's folder is no checkpoint."""
    from dataclasses import replace

    from evalkit.signing import Objection

    more = [Objection("model_unread", each) for each in wrong]
    return replace(answer, objections=(*answer.objections, *more))


def _grouped(objections: Sequence[Objection]) -> Iterator[str]:
    """Yield each sentence once, with the attestations it is about."""
    about: dict[str, list[str]] = {}
    for each in objections:
        about.setdefault(each.message, []).append(each.attestation)
    for message, files in about.items():
        where = ", ".join(filter(None, files))
        yield clean(f"{message} ({where})" if where else message)


def _same(by_id: Mapping[str, tuple[Path, ...]]) -> str:
    twice = [files for files in by_id.values() if len(files) > 1]
    told = "; ".join(f"{', '.join(map(str, files))} are one key" for files in twice)
    return f": {told}" if told else ""
