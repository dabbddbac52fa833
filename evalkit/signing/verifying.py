"""Whether enough trusted keys have signed exactly this run and exactly this model.

An attestation counts when a trusted key made its signature and every word of it is true of the run, the model and the
day. What counts is keys, not files: a key that signed twice counts once. One attestation that does not count harms no
other, so that a new approval stands beside an outdated one; where too few count, all reasons are given. Three things
are never passed over, since no honest history leads to them: a file that is no envelope, a signature that the key it
names did not make, and a signature that names another key than the one that made it.

**Source**: DSSE v1.0.2, protocol.md, "Multi-signature Verification": t of n *unique* keys; the payload that was
verified is the one that is parsed. in-toto attestation v1, README.md, monotonic principle: leaving something out must
never turn a no into a yes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from evalkit.identity import short
from evalkit.signing.envelope import PAYLOAD_TYPE
from evalkit.signing.evidence import MODEL, Objection, RunState, run_objections
from evalkit.signing.opening import Opened
from evalkit.signing.statement import (
    CLOCK_SKEW,
    Statement,
    WrongStatement,
    claims_of,
    parse_statement,
)

_KEY: Final = re.compile("[0-9a-f]{64}")
_NEVER_PASSED_OVER: Final = frozenset({"malformed", "wrong_signature", "key_mismatch"})


@dataclass(frozen=True)
class Policy:
    """What is required."""

    now: datetime
    """The verifier's clock."""
    threshold: int = 1
    """How many different keys or identities must have signed."""
    max_age: timedelta | None = None
    """How long a signature counts; None for ever."""

    def __post_init__(self) -> None:
        """Raise ValueError where nobody would have to sign."""
        if self.threshold < 1:
            raise ValueError(f"threshold is {self.threshold}: at least one must have signed")


@dataclass(frozen=True, slots=True)
class Approval:
    """One trusted key's signature that counts."""

    key: str
    """The key's id; of a Sigstore certificate, identity and issuer."""
    approver: str
    """The name that the statement gives; empty where the key signed somebody else's statement too."""
    signed: datetime
    """When, by the signer's clock."""
    note: str
    """What the approver added."""
    attestation: str
    """The file."""


@dataclass(frozen=True)
class Verification:
    """The answer: it holds where there is no objection."""

    approvals: tuple[Approval, ...]
    """The signatures that count, one per key, sorted by time and key."""
    objections: tuple[Objection, ...]
    """Why it does not hold; all reasons, each once."""
    passed_over: tuple[Objection, ...]
    """Why attestations do not count where enough others do."""

    @property
    def holds(self) -> bool:
        """Whether enough trusted keys have signed exactly this."""
        return not self.objections


def verified(
    attestations: Iterable[Opened],
    run: RunState,
    model: Mapping[str, str] | None,
    policy: Policy,
) -> Verification:
    """Return whether the attestations count for this run, this model and this moment.

    ``model`` is the name → SHA-256 of the files that are to be deployed; None where they are not at hand, and what
    was signed is then held against what the run saw.
    """
    objections = run_objections(run, policy.now.date())
    counted: dict[str, Approval] = {}
    against: list[Objection] = []
    attested_model = False
    files = sorted(attestations, key=lambda each: each.attestation)
    for each in files:
        approvals, found, read = _judged(each, run, model, policy)
        attested_model |= read
        against += found
        for approval in () if found else approvals:
            other = counted.get(approval.key)
            if other is None or approval.signed > other.signed:
                counted[approval.key] = approval
    if model is not None and not attested_model and run.scorecard is not None:
        # nobody has signed any model, but the run says which it was
        objections += _differences(_as_model(run.model_files), _as_model(model), "measured")
    if not files:
        objections.append(Objection("no_attestation", "nobody has signed this run"))
    enough = len(counted) >= policy.threshold
    objections += [o for o in against if not enough or o.kind in _NEVER_PASSED_OVER]
    passed_over = [o for o in against if enough and o.kind not in _NEVER_PASSED_OVER]
    approvals_ = sorted(counted.values(), key=lambda a: (a.signed, a.key))
    if not enough:
        objections.append(Objection("threshold", _too_few(approvals_, policy.threshold)))
    return Verification(
        tuple(approvals_), tuple(dict.fromkeys(objections)), tuple(dict.fromkeys(passed_over))
    )


def _judged(
    opened: Opened, run: RunState, model: Mapping[str, str] | None, policy: Policy
) -> tuple[list[Approval], list[Objection], bool]:
    """Return an attestation's approvals, what speaks against them, and whether a trusted statement could be read."""
    against = list(opened.objections)

    def objected(objection: Objection) -> None:
        against.append(replace(objection, attestation=opened.attestation))

    if not opened.signers:  # nothing that is not signed is parsed
        return [], against, False
    if opened.payload_type != PAYLOAD_TYPE:
        told = f"the payload's type is {opened.payload_type!r}, not {PAYLOAD_TYPE!r}"
        objected(Objection("wrong_payload_type", told))
        return [], against, False
    try:
        statement = parse_statement(opened.payload)
    except WrongStatement as error:
        objected(Objection("wrong_statement", str(error)))
        return [], against, False
    for each in _untrue(statement, run, model, policy):
        objected(each)
    if statement.key not in opened.signers.values():
        message = f"the statement names key {short(statement.key)!r}, which did not sign it"
        objected(Objection("key_mismatch", message))
    approvals = [
        Approval(
            key=signer,
            approver=statement.approver if named == statement.key else "",
            signed=statement.signed,
            note=statement.note,
            attestation=opened.attestation,
        )
        for signer, named in opened.signers.items()
    ]
    return approvals, against, True


def _untrue(
    statement: Statement,
    run: RunState,
    model: Mapping[str, str] | None,
    policy: Policy,
) -> Iterator[Objection]:
    """Yield what a signed statement says that is not so."""
    signed_model = {k: v for k, v in statement.subjects.items() if k.startswith(MODEL)}
    signed_run = {k: v for k, v in statement.subjects.items() if not k.startswith(MODEL)}
    changed = [*_differences(signed_run, run.files, "signed")]
    yield from changed
    if model is not None:
        yield from _differences(signed_model, _as_model(model), "signed")
    if not changed and run.scorecard is not None:
        if signed_model != _as_model(run.model_files):
            message = "the model's files that were signed are not those that the run saw"
            yield Objection("wrong_claim", message)
        true = claims_of(run.scorecard, run.verdict) if run.verdict is not None else {}
        for key in true:
            if statement.claims.get(key) != true[key]:
                message = f"what the statement says of {key!r} is not what the run says"
                yield Objection("wrong_claim", message)
    age = policy.now - statement.signed
    at = f"{statement.signed:%Y-%m-%d %H:%M} UTC"
    if age < -CLOCK_SKEW:
        minutes = int(CLOCK_SKEW.total_seconds() // 60)
        message = (
            f"signed at {at}, which is still to come by this clock (up to {minutes} minutes pass)"
        )
        yield Objection("from_the_future", message)
    if policy.max_age is not None and age > policy.max_age:
        yield Objection("too_old", f"signed at {at}, which is longer ago than --max-age allows")


def _differences(
    expected: Mapping[str, str], here: Mapping[str, str], since: str
) -> Iterator[Objection]:
    """Yield each file that is not what it was when it was ``since``: signed, or measured."""
    for name in sorted({*expected, *here}):
        of_model = name.startswith(MODEL)
        file = f"the model's file {name.removeprefix(MODEL)}" if of_model else name
        if name not in here:
            message = f"{file} is missing: it was there when it was {since}"
            yield Objection("model_missing" if of_model else "file_missing", message)
        elif name not in expected:
            message = f"{file} was added after the {'model' if of_model else 'run'} was {since}"
            yield Objection("model_added" if of_model else "file_added", message)
        elif here[name] != expected[name]:
            message = f"{file} was changed after it was {since}"
            yield Objection("model_changed" if of_model else "file_changed", message)


def _as_model(files: Mapping[str, str]) -> dict[str, str]:
    return {f"{MODEL}{name}": sha256 for name, sha256 in files.items()}


def key_named(key: str) -> str:
    """Return a signer as people read it: a key by the beginning of its id, an identity in full."""
    return f"key {short(key)}" if _KEY.fullmatch(key) else key


def _too_few(approvals: Sequence[Approval], threshold: int) -> str:
    who = ", ".join(f"{a.approver or 'a co-signer'} ({key_named(a.key)})" for a in approvals)
    counted = f"{len(approvals)} of {threshold} required approvals"
    return f"{counted}{f': {who}' if who else ''}"
