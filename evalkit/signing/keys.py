"""Ed25519 keys: made, read from PEM, known by an id; and the signatures they make.

The private key is PKCS#8 PEM, encrypted or not, the public one SubjectPublicKeyInfo PEM: what ``openssl genpkey
-algorithm ed25519`` and ``openssl pkey -pubout`` write.

A key's id is the one that securesystemslib gives it by default, and with it in-toto and TUF: SHA-256 of the canonical
JSON of key type, scheme and the public key's hexadecimal. So ``SSlibKey.from_crypto(key)`` verifies our envelopes as
it is; SHA-256 of the DER, which other tools show, would have to be told to it.

**Source**: RFC 8032 (Ed25519); RFC 8410 (its PEM); securesystemslib 1.x, ``signer/_utils.py``:
``compute_default_keyid``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from evalkit.errors import RunError
from evalkit.identity import digest

SCHEME: Final = "ed25519"
"""Key type and signature scheme, as securesystemslib calls both."""
_BEGIN: Final = b"-----BEGIN "
_HOW: Final = (
    "'evalkit keygen FILE' writes one, and so does 'openssl genpkey -algorithm ed25519 -out FILE'"
)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that signatures are verified with."""

    raw: bytes
    """The 32 bytes of RFC 8032."""

    @property
    def id(self) -> str:
        """64 hexadecimal characters."""
        return digest({"keytype": SCHEME, "scheme": SCHEME, "keyval": {"public": self.raw.hex()}})

    def verifies(self, signature: bytes, content: bytes) -> bool:
        """Return whether this key made the signature over these bytes. Raises RunError without the library."""
        _need_library()
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, content)
        except InvalidSignature:
            return False
        return True

    def pem(self) -> bytes:
        """Return the key as SubjectPublicKeyInfo PEM."""
        _need_library()
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        key = Ed25519PublicKey.from_public_bytes(self.raw)
        return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that signs. Its secret is in no ``repr``, no message and no file but the one it was read from."""

    seed: bytes = field(repr=False)
    """The 32 secret bytes of RFC 8032."""
    public: PublicKey
    """What others verify with."""

    def sign(self, content: bytes) -> bytes:
        """Return the 64 bytes of the signature; the same each time."""
        _need_library()
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self.seed).sign(content)

    def pem(self, passphrase: str = "") -> bytes:
        """Return the key as PKCS#8 PEM, encrypted where there is a passphrase."""
        _need_library()
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import (
            BestAvailableEncryption,
            Encoding,
            NoEncryption,
            PrivateFormat,
        )

        key = Ed25519PrivateKey.from_private_bytes(self.seed)
        how = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)


def new_key(seed: bytes) -> SigningKey:
    """Return the key of 32 secret bytes, which must come from the system's random source. Raises RunError."""
    _need_library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    return SigningKey(seed, PublicKey(public))


def read_private_key(pem: bytes, passphrase: str = "") -> SigningKey:
    """Return the key in a PKCS#8 PEM; the passphrase is used where the key is encrypted.

    Raises ValueError, which never holds any of the key, where it is none; RunError without the library.
    """
    _need_library()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    _refuse_others(pem, "PUBLIC KEY", "a public key: signing needs the private one")
    encrypted = b"ENCRYPTED" in pem
    if encrypted and not passphrase:
        raise ValueError(
            "the private key is encrypted: put its passphrase into EVALKIT_SIGN_PASSPHRASE"
        )
    try:
        key = load_pem_private_key(pem, passphrase.encode() if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        why = "or the passphrase is wrong" if encrypted else f"or it is damaged; {_HOW}"
        raise ValueError(f"no private key in PKCS#8 PEM, {why}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"a private key, but not Ed25519; {_HOW}")
    return SigningKey(key.private_bytes_raw(), PublicKey(key.public_key().public_bytes_raw()))


def read_public_key(pem: bytes) -> PublicKey:
    """Return the key in a SubjectPublicKeyInfo PEM.

    Raises ValueError where it is none, RunError without the library.
    """
    _need_library()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    _refuse_others(
        pem,
        "PRIVATE KEY",
        "a private key, which nobody but its owner should hold: name the public one (FILE.pub)",
    )
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("no public key in PEM, or it is damaged") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("a public key, but not Ed25519")
    return PublicKey(key.public_bytes_raw())


def _refuse_others(pem: bytes, other: str, message: str) -> None:
    if pem.count(_BEGIN) > 1:
        raise ValueError("several keys in one file: name each in a file of its own")
    if _BEGIN in pem and other.encode() in pem:
        raise ValueError(message)


def _need_library() -> None:
    try:
        import cryptography  # noqa: F401 - whether it is there
    except ImportError as error:
        message = "signatures need the library 'cryptography', which is not installed"
        raise RunError(message, "pip install 'evalkit-gates[sign]'") from error
