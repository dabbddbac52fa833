"""The statement that is signed: which files, and what an approver says of them.

Its subjects are every file that the decision rests on and every file of the candidate, each by SHA-256. Its predicate
repeats what a reader wants to know without the run at hand; ``verifying`` holds that against the run's own files.

The predicate's type is a URI that names no domain, for there is none to name: a UUID, drawn for it once. A name such
as ``urn:evalkit:…`` would claim a namespace that nobody has registered (RFC 8141, section 5); ``urn:uuid`` is
registered, and unique without asking anybody (RFC 9562, section 4). What stands behind ``#`` is for people, and says
the version; the type is compared as a whole.

**Source**: in-toto attestation framework v1: ``spec/v1/statement.md``, ``resource_descriptor.md``, ``digest_set.md``,
``field_types.md`` (TypeURI, Timestamp), ``README.md`` (fields that are not known are passed over).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from evalkit.records.scorecard import Scorecard
from evalkit.records.verdict import Verdict
from evalkit.signing.envelope import strict_json
from evalkit.signing.evidence import RunState, signed_files, waivers_in_force

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "urn:uuid:f7b61331-2401-4c82-9b8e-b082a00f1bb8#evalkit-sign-off-v1"
"""Changes with the meaning of what stands in a predicate."""
CLOCK_SKEW: Final = timedelta(minutes=5)
"""How far the signer's clock may be ahead of the verifier's."""
_SHA256: Final = re.compile("[0-9a-f]{64}")


class WrongStatement(ValueError):
    """What is signed is no sign-off; the message says why."""


@dataclass(frozen=True)
class Statement:
    """A sign-off, as it was signed."""

    subjects: Mapping[str, str]
    """Name → SHA-256."""
    approver: str
    """Who approves, in their own words: the key is what is verified, not the name."""
    note: str
    """Why, or under which conditions."""
    key: str
    """Id of the key it is signed with."""
    signed: datetime
    """When, by the signer's clock (UTC)."""
    claims: Mapping[str, Any]
    """What it says of the run, as ``claims_of`` gives it."""


def sign_off(
    run: RunState, *, approver: str, note: str, key: str, signed: datetime, evalkit: str
) -> bytes:
    """Return the in-toto statement of an approval, as JSON in ASCII with its keys sorted.

    ``key`` is the id of the key that will sign it, ``evalkit`` the version that writes it. The run must have scorecard
    and verdict.
    """
    assert run.scorecard is not None and run.verdict is not None, "a run that was not decided on"
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": name, "digest": {"sha256": sha}}
            for name, sha in sorted(signed_files(run).items())
        ],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "approver": approver,
            "note": note,
            "key": key,
            "signed": signed.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "evalkitVersion": evalkit,
            "run": claims_of(run.scorecard, run.verdict),
        },
    }
    return json.dumps(statement, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def claims_of(scorecard: Scorecard, verdict: Verdict) -> dict[str, Any]:
    """Return what a sign-off says of a run, as plain JSON."""
    provenance = scorecard.provenance
    return {
        "scorecard": scorecard.digest,
        "verdict": {
            "status": verdict.status,
            "exitCode": verdict.exit_code,
            "reason": verdict.reason,
        },
        "gates": dict(sorted(verdict.gates.items())),
        "suite": {
            "name": provenance.suite,
            "version": provenance.suite_version,
            "digest": provenance.suite_digest,
        },
        "models": {
            role: {"digest": model.digest, "pinned": model.pinned}
            for role, model in sorted(provenance.models.items())
        },
        "baselineRun": scorecard.baseline_run,
        "datasets": dict(sorted(provenance.datasets.items())),
        "waivers": [
            {
                "gate": outcome.gate,
                "rule": outcome.rule,
                "estimate": outcome.estimate,
                "owner": outcome.waiver.owner,
                "expires": outcome.waiver.expires.isoformat(),
                "reason": outcome.waiver.reason,
            }
            for outcome in waivers_in_force(verdict)
            if outcome.waiver is not None
        ],
    }


def parse_statement(payload: bytes) -> Statement:
    """Return the sign-off in a payload whose signature was verified. Raises WrongStatement where it holds none."""
    try:
        held = strict_json(payload)
    except ValueError as error:
        raise WrongStatement(f"the payload is not JSON: {error}") from error
    if not isinstance(held, dict) or held.get("_type") != STATEMENT_TYPE:
        raise WrongStatement(f"the payload is no in-toto statement ({STATEMENT_TYPE})")
    if held.get("predicateType") != PREDICATE_TYPE:
        kind = held.get("predicateType")
        raise WrongStatement(f"the statement is no sign-off of evalkit: its type is {kind!r}")
    predicate = held.get("predicate")
    if not isinstance(predicate, dict) or not isinstance(predicate.get("run"), dict):
        raise WrongStatement("the sign-off says nothing of a run")
    return Statement(
        subjects=_subjects(held.get("subject")),
        approver=_text(predicate, "approver"),
        note=_text(predicate, "note"),
        key=_text(predicate, "key"),
        signed=_time(_text(predicate, "signed")),
        claims=predicate["run"],
    )


def _subjects(held: Any) -> dict[str, str]:  # noqa: ANN401 - any JSON value
    subjects: Sequence[Any] = held if isinstance(held, list) else ()
    found: dict[str, str] = {}
    for each in subjects:
        name = each.get("name") if isinstance(each, dict) else None
        digests = each.get("digest") if isinstance(each, dict) else None
        sha256 = digests.get("sha256") if isinstance(digests, dict) else None
        if (
            not isinstance(name, str)
            or not isinstance(sha256, str)
            or not _SHA256.fullmatch(sha256)
        ):
            raise WrongStatement("a subject without name and SHA-256")
        if name in found:
            raise WrongStatement(f"two subjects have one name: {name!r}")
        found[name] = sha256
    if not found:
        raise WrongStatement("the sign-off has no subjects")
    return found


def _text(predicate: Mapping[str, Any], key: str) -> str:
    text = predicate.get(key)
    if not isinstance(text, str):
        raise WrongStatement(f"the sign-off has no {key}")
    return text


def _time(text: str) -> datetime:
    try:
        if text.endswith("Z"):
            return datetime.fromisoformat(text)
    except ValueError:
        pass
    raise WrongStatement(f"the time of signing is no time in UTC: {text!r}")
