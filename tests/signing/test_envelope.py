"""A DSSE envelope is what its specification says, and what another implementation reads and writes."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.signing import (
    Envelope,
    MalformedEnvelope,
    Signature,
    parse_envelope,
    pre_authentication_encoding,
    written_envelope,
)

# secure-systems-lab/dsse v1.0.2, protocol.md, "Test Vectors": ECDSA over P-256 and SHA-256, signature r ‖ s.
TYPE, BODY = "http://example.com/HelloWorld", b"hello world"
X = 46950820868899156662930047687818585632848591499744589407958293238635476079160
Y = 5640078356564379163099075877009565129882514886557779369047442380624545832820
SIGNATURE = (
    "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="
)
PUBLISHED = {
    "payload": "aGVsbG8gd29ybGQ=",
    "payloadType": TYPE,
    "signatures": [{"sig": SIGNATURE}],
}


def test_the_published_encoding_is_ours():
    expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pre_authentication_encoding(TYPE, BODY) == expected


def test_the_published_signature_is_over_our_encoding():
    from cryptography.hazmat.primitives.asymmetric import ec, utils
    from cryptography.hazmat.primitives.hashes import SHA256

    envelope = parse_envelope(json.dumps(PUBLISHED).encode())
    (signature,) = envelope.signatures
    r, s = (int.from_bytes(part, "big") for part in (signature.value[:32], signature.value[32:]))
    key = ec.EllipticCurvePublicNumbers(X, Y, ec.SECP256R1()).public_key()
    key.verify(utils.encode_dss_signature(r, s), envelope.signed_bytes, ec.ECDSA(SHA256()))


def test_lengths_are_counted_in_bytes_of_utf_8():
    assert pre_authentication_encoding("é", b"\x00\xff") == b"DSSEv1 2 \xc3\xa9 2 \x00\xff"


FEW = st.text(" 012", max_size=4)
"""Texts that look like lengths and spaces, where two encodings could meet."""


@given(FEW, FEW, FEW, FEW)
def test_no_two_payloads_have_one_encoding(type_a, body_a, type_b, body_b):
    one = pre_authentication_encoding(type_a, body_a.encode())
    other = pre_authentication_encoding(type_b, body_b.encode())
    assert (one == other) == ((type_a, body_a) == (type_b, body_b))


@given(st.binary(max_size=40), st.lists(st.tuples(st.text("abc012"), st.binary()), min_size=1))
def test_what_is_written_is_read_back(payload, signatures):
    envelope = Envelope(payload, TYPE, tuple(Signature(*each) for each in signatures))
    assert parse_envelope(written_envelope(envelope)) == envelope


@given(st.binary(max_size=40))
def test_either_alphabet_of_base64_is_read(payload):
    """protocol.md: verifiers MUST accept either."""
    for encoded in (b64encode(payload), urlsafe_b64encode(payload)):
        held = {**PUBLISHED, "payload": encoded.decode()}
        assert parse_envelope(json.dumps(held).encode()).payload == payload


def test_fields_it_does_not_know_are_passed_over():
    """envelope.md: consumers MUST ignore unrecognized fields."""
    held = {**PUBLISHED, "more": 1, "signatures": [{"sig": SIGNATURE, "cert": "x", "keyid": "k"}]}
    assert parse_envelope(json.dumps(held).encode()).signatures[0].keyid == "k"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not an object"),
        (b'{"payload":"","payload":""}', "a key stands twice"),
        (b'{"payload":NaN}', "no number"),
        ({**PUBLISHED, "payload": None}, "payload is absent"),
        ({**PUBLISHED, "payload": "aGVsbG8gd29ybGR="}, "payload is not base64"),
        ({**PUBLISHED, "payload": "aGVsbG8gd29ybGQ"}, "payload is not base64"),
        ({**PUBLISHED, "payload": "aGVs bG8="}, "payload is not base64"),
        ({**PUBLISHED, "payload": "-_+/"}, "payload is not base64"),
        ({**PUBLISHED, "payloadType": 1}, "payloadType is not a string"),
        ({**PUBLISHED, "payloadType": "\ud800"}, "payloadType is no text"),
        ({**PUBLISHED, "signatures": []}, "nobody signed it"),
        ({**PUBLISHED, "signatures": {}}, "signatures is not an array"),
        ({**PUBLISHED, "signatures": ["x"]}, "signatures[0] is not an object"),
        ({**PUBLISHED, "signatures": [{"keyid": "k"}]}, "signatures[0].sig is absent"),
        ({**PUBLISHED, "signatures": [{"sig": "", "keyid": 1}]}, "keyid is not a string"),
        (b" " * (17 << 20), "longer than"),
    ],
)
def test_what_is_no_envelope_says_why(content, told):
    held = content if isinstance(content, bytes) else json.dumps(content).encode()
    with pytest.raises(MalformedEnvelope) as raised:
        parse_envelope(held)
    assert told in str(raised.value)


def test_what_it_writes_is_standard_base64_without_white_space():
    written = written_envelope(Envelope(b"\xfb\xff", TYPE, (Signature("k", b"\xfb\xff"),)))
    assert json.loads(written)["payload"] == "+/8="
    assert written.split() == [written]
    assert b64decode(json.loads(written)["signatures"][0]["sig"]) == b"\xfb\xff"
