"""Attestations opened: who of those that are trusted made a signature in them, and what was signed.

**Source**: DSSE v1.0.2, protocol.md: a key id is a hint, and never decides; the payload that was verified is the one
that is parsed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from evalkit.identity import short
from evalkit.signing.envelope import Envelope, MalformedEnvelope, parse_envelope
from evalkit.signing.evidence import Objection
from evalkit.signing.keys import PublicKey

KEYLESS: Final = "sigstore"
"""What a statement gives as its key where a Sigstore certificate says who signed it."""


@dataclass(frozen=True, slots=True)
class Held:
    """A file in a run's ``attestations/``."""

    name: str
    """Its name."""
    content: bytes
    """What it holds."""


@dataclass(frozen=True)
class Opened:
    """An attestation whose signatures were verified."""

    attestation: str
    """The file's name."""
    objections: Sequence[Objection]
    """What is wrong with it or with its signatures."""
    signers: Mapping[str, str] = field(default_factory=dict)
    """Trusted key, or identity, that signed → what the statement calls it; none where nobody trusted did."""
    payload_type: str = ""
    """What kind of payload it is."""
    payload: bytes = b""
    """What was signed; to be parsed only where there are signers."""


def open_envelope(held: Held, keys: Sequence[PublicKey]) -> Opened:
    """Return what a DSSE envelope says, and which of the trusted keys signed it."""
    try:
        envelope = parse_envelope(held.content)
    except MalformedEnvelope as error:
        told = f"this is no DSSE envelope: {error}"
        return Opened(held.name, [Objection("malformed", told, held.name)])
    signers, against = _signers(envelope, {key.id: key for key in keys})
    about = [Objection(each.kind, each.message, held.name) for each in against]
    named = {key: key for key in signers}
    return Opened(held.name, about, named, envelope.payload_type, envelope.payload)


def _signers(
    envelope: Envelope, trusted: Mapping[str, PublicKey]
) -> tuple[list[str], list[Objection]]:
    """Return the trusted keys that made a signature in the envelope, and what is wrong with the signatures."""
    found: dict[str, None] = {}
    against: list[Objection] = []
    strangers: list[str] = []
    for signature in envelope.signatures:
        named = trusted.get(signature.keyid)
        if named is not None:
            if named.verifies(signature.value, envelope.signed_bytes):
                found[named.id] = None
            else:
                message = f"the signature is wrong: key {short(named.id)} did not sign these bytes"
                against.append(Objection("wrong_signature", message))
            continue
        maker = next(
            (k for k in trusted.values() if k.verifies(signature.value, envelope.signed_bytes)),
            None,
        )
        if maker is None:
            strangers.append(short(signature.keyid) or "of no name")
        else:
            names = f"names key {short(signature.keyid)!r}" if signature.keyid else "names no key"
            message = f"the signature {names}, but key {short(maker.id)} made it"
            against.append(Objection("key_mismatch", message))
    if not found and not against:
        message = f"signed by no trusted key (by key {', '.join(strangers)})"
        against.append(Objection("untrusted", message))
    return list(found), against
