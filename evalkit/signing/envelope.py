"""The DSSE envelope: a payload, what kind of payload it is, and signatures over both.

What is signed is not the JSON around the payload but an encoding of type and payload in which no two pairs look alike
(PAE). So nothing needs a canonical form, and nothing is parsed before its signature is verified but the envelope.

**Source**: DSSE v1.0.2, secure-systems-lab/dsse, protocol.md (PAE, base64) and envelope.md (parsing rules).

**Deviation**: the protocol lets a key id be absent; here one that is absent names no key (``verifying``). Keys that
stand twice in one JSON object are refused, and so is base64 that does not encode back to itself: two readers could
see different payloads.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
"""The payload is an in-toto statement as JSON."""
LARGEST: Final = 16 << 20
"""Bytes of the longest envelope that is read: a sign-off has some kilobytes."""
_URL_SAFE: Final = b"-_"


class MalformedEnvelope(ValueError):
    """These bytes are no DSSE envelope; the message says why."""


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature."""

    keyid: str
    """Which key is said to have made it: an unauthenticated hint; empty where none is given."""
    value: bytes
    """The signature's bytes."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload with signatures, which are not verified yet."""

    payload: bytes
    """What is signed; not to be parsed before a signature is verified."""
    payload_type: str
    """What kind of payload it is; signed too."""
    signatures: tuple[Signature, ...]
    """At least one."""

    @property
    def signed_bytes(self) -> bytes:
        """What each signature is over."""
        return pre_authentication_encoding(self.payload_type, self.payload)


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """Return ``"DSSEv1" SP LEN(type) SP type SP LEN(payload) SP payload``, lengths in bytes as decimal ASCII.

    >>> pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def written_envelope(envelope: Envelope) -> bytes:
    """Return the JSON envelope, with standard base64 and no white space."""
    content = {
        "payload": b64encode(envelope.payload).decode(),
        "payloadType": envelope.payload_type,
        "signatures": [
            {"keyid": each.keyid, "sig": b64encode(each.value).decode()}
            for each in envelope.signatures
        ],
    }
    return json.dumps(content, separators=(",", ":")).encode()


def parse_envelope(content: bytes) -> Envelope:
    """Return the envelope that these bytes are; fields it does not know are passed over, as the specification demands.

    Raises MalformedEnvelope.
    """
    if len(content) > LARGEST:
        raise MalformedEnvelope(f"longer than {LARGEST:,} bytes")
    try:
        held = strict_json(content)
    except ValueError as error:
        raise MalformedEnvelope(f"not JSON: {error}") from error
    held = _of(held, dict, "the envelope", "an object")
    payload_type = _of(held.get("payloadType"), str, "payloadType", "a string")
    signatures = _of(held.get("signatures"), list, "signatures", "an array")
    if not signatures:
        raise MalformedEnvelope("signatures is empty: nobody signed it")
    try:
        payload_type.encode()
    except UnicodeEncodeError:
        raise MalformedEnvelope("payloadType is no text") from None
    return Envelope(
        _decoded(held.get("payload"), "payload"),
        payload_type,
        tuple(_signature(each, f"signatures[{n}]") for n, each in enumerate(signatures)),
    )


def strict_json(content: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value that UTF-8 JSON holds. Raises ValueError on another encoding, a repeated key or no JSON."""
    try:
        return json.loads(content.decode(), object_pairs_hook=_once, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    held = dict(pairs)
    if len(held) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return held


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _signature(held: Any, where: str) -> Signature:  # noqa: ANN401 - any JSON value
    fields = _of(held, dict, where, "an object")
    keyid = _of(fields.get("keyid", ""), str, f"{where}.keyid", "a string")
    return Signature(keyid, _decoded(fields.get("sig"), f"{where}.sig"))


def _of(held: Any, kind: type, where: str, what: str) -> Any:  # noqa: ANN401 - any JSON value
    if not isinstance(held, kind):
        raise MalformedEnvelope(f"{where} is {'absent' if held is None else f'not {what}'}")
    return held


def _decoded(text: Any, where: str) -> bytes:  # noqa: ANN401 - any JSON value
    """Return what base64 stands for, in the standard or the URL-safe alphabet: verifiers must take either."""
    given = _of(text, str, where, "a string")
    for alphabet in (None, _URL_SAFE):
        try:
            content = b64decode(given, alphabet, validate=True)
        except ValueError:
            continue
        if b64encode(content, alphabet).decode() == given:  # else bits behind the end were not zero
            return content
    raise MalformedEnvelope(f"{where} is not base64")
