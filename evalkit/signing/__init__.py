"""Sign-off: what an approver puts a name to, how it is signed, and what a signature is worth later.

A sign-off is an in-toto statement about the bytes of a finished run and of its candidate, signed in a DSSE envelope
with an Ed25519 key. Values in, values out: files, clocks and environment are read by others.
"""

from evalkit.signing.envelope import (
    PAYLOAD_TYPE,
    Envelope,
    MalformedEnvelope,
    Signature,
    parse_envelope,
    pre_authentication_encoding,
    written_envelope,
)
from evalkit.signing.evidence import (
    MODEL,
    Objection,
    RunState,
    run_objections,
    signed_files,
)
from evalkit.signing.keys import PublicKey, SigningKey, new_key, read_private_key, read_public_key
from evalkit.signing.opening import KEYLESS, Held, Opened, open_envelope
from evalkit.signing.statement import (
    CLOCK_SKEW,
    PREDICATE_TYPE,
    Statement,
    WrongStatement,
    claims_of,
    parse_statement,
    sign_off,
)
from evalkit.signing.verifying import Approval, Policy, Verification, verified

__all__ = [
    "CLOCK_SKEW",
    "KEYLESS",
    "MODEL",
    "PAYLOAD_TYPE",
    "PREDICATE_TYPE",
    "Approval",
    "Envelope",
    "Held",
    "MalformedEnvelope",
    "Objection",
    "Opened",
    "Policy",
    "PublicKey",
    "RunState",
    "Signature",
    "SigningKey",
    "Statement",
    "Verification",
    "WrongStatement",
    "claims_of",
    "new_key",
    "open_envelope",
    "parse_envelope",
    "parse_statement",
    "pre_authentication_encoding",
    "read_private_key",
    "read_public_key",
    "run_objections",
    "sign_off",
    "signed_files",
    "verified",
    "written_envelope",
]
