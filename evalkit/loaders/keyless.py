"""Sigstore: a signature by whoever an identity provider says somebody is, without a key to keep.

The statement is the one that keys sign; around it stands a Sigstore bundle: certificate, signature, entry of the public
transparency log. Signing sends the identity and a digest to Sigstore's public service, where both stay readable.

**Source**: sigstore-python 4.x: ``sigstore/sign.py`` (``SigningContext.from_trust_config``, ``Signer.sign_dsse``),
``sigstore/verify/verifier.py`` (``Verifier.verify_dsse``), ``verify/policy.py`` (``Identity``), ``oidc.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from evalkit.errors import RunError
from evalkit.identity import digest
from evalkit.signing import KEYLESS, Held, Objection, Opened

if TYPE_CHECKING:
    from sigstore.verify import Verifier

_ADVICE: Final = "see what sigstore says above; a key signs without a network: evalkit sign --key"


def signed_keyless(statement: bytes) -> tuple[bytes, str, str]:
    """Return a Sigstore bundle over a statement, a name for its signer that serves as a file's, and who that is.

    In CI the identity is the job's own (OpenID Connect); elsewhere a browser asks for it. Raises RunError.
    """
    _need_library()
    from sigstore.dsse import Statement
    from sigstore.errors import Error
    from sigstore.models import ClientTrustConfig
    from sigstore.oidc import ExpiredIdentity, IdentityToken, Issuer, IssuerError, detect_credential
    from sigstore.sign import SigningContext

    try:
        trust = ClientTrustConfig.production()
        found = detect_credential()
        token = (
            IdentityToken(found)
            if found
            else Issuer(trust.signing_config.get_oidc_url()).identity_token()
        )
        with SigningContext.from_trust_config(trust).signer(token) as signer:
            bundle = signer.sign_dsse(Statement(statement))
    except (Error, ExpiredIdentity, IssuerError, OSError) as error:  # requests' errors are OSErrors
        raise RunError(f"Sigstore did not sign: {error}", _ADVICE) from error
    who = (token.identity, token.federated_issuer)
    return bundle.to_json().encode(), digest(list(who)), _named(*who)


def open_bundles(
    bundles: Sequence[Held],
    identities: Sequence[str],
    issuer: str,
    verifier: Callable[[], Verifier] | None = None,
) -> list[Opened]:
    """Return what Sigstore bundles say, and which trusted identity signed each, as this issuer vouches.

    ``verifier`` gives who verifies; Sigstore's public service if not given. Raises RunError where its root of trust is
    not to be had, or the library is absent; neither is asked for where no identity is trusted.
    """
    if not bundles or not identities:
        told = "a Sigstore bundle, and no identity is trusted: --sigstore-identity"
        return [Opened(each.name, [Objection("untrusted", told, each.name)]) for each in bundles]
    _need_library()
    from sigstore.errors import Error
    from sigstore.verify import Verifier

    try:
        by = (verifier or Verifier.production)()
    except (Error, OSError) as error:
        message = f"Sigstore's root of trust cannot be had: {error}"
        raise RunError(message, "verify with keys, or where there is a network") from error
    return [_opened(each, identities, issuer, by) for each in bundles]


def _opened(held: Held, identities: Sequence[str], issuer: str, by: Verifier) -> Opened:
    from sigstore.errors import Error
    from sigstore.models import Bundle, InvalidBundle
    from sigstore.verify.policy import Identity

    try:
        bundle = Bundle.from_json(held.content)
    except (InvalidBundle, ValueError) as error:
        told = f"this is no Sigstore bundle: {error}"
        return Opened(held.name, [Objection("malformed", told, held.name)])
    why = ""
    for identity in dict.fromkeys(identities):
        try:
            kind, payload = by.verify_dsse(bundle, Identity(identity=identity, issuer=issuer))
        except Error as error:
            why = str(error)
            continue
        return Opened(held.name, [], {_named(identity, issuer): KEYLESS}, kind, payload)
    told = f"signed by no trusted identity: {why}"
    return Opened(held.name, [Objection("untrusted", told, held.name)])


def _named(identity: str, issuer: str) -> str:
    return f"{identity}, says {issuer}"


def _need_library() -> None:
    try:
        import sigstore  # noqa: F401 - whether it is there
    except ImportError as error:
        message = "keyless signatures need the library 'sigstore', which is not installed"
        raise RunError(message, "pip install 'evalkit-gates[sigstore]'") from error
