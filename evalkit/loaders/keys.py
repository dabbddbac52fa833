"""Keys from files and from the environment, and new ones into files. No message holds any of a key.

``EVALKIT_SIGN_KEY`` holds the private key itself, as PEM or as base64 of the PEM for systems that keep no line ends;
``EVALKIT_SIGN_PASSPHRASE`` the passphrase of an encrypted one.
"""

from __future__ import annotations

import os
import stat
from base64 import b64decode
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from evalkit.errors import Problem, RunError, UsageError
from evalkit.loaders.files import unreadable
from evalkit.signing import PublicKey, SigningKey, new_key, read_private_key, read_public_key

KEY: Final = "EVALKIT_SIGN_KEY"
PASSPHRASE: Final = "EVALKIT_SIGN_PASSPHRASE"
PUBLIC: Final = ".pub"
"""Behind the name of a private key's file: its public key."""
LONGEST_PASSPHRASE: Final = 1023
"""Bytes that OpenSSL takes, and with it cryptography."""
_LARGEST: Final = 1 << 16
"""Bytes; a key has some hundred."""


def signing_key(file: Path | None) -> tuple[SigningKey, str]:
    """Return the private key in a file, else in the environment, and a warning where others may read it, else "".

    Raises UsageError where there is none or it cannot be used.
    """
    passphrase = _passphrase()
    if file is None:
        held = os.environ.get(KEY, "").strip()
        if not held:
            raise UsageError(
                f"no key to sign with: name its file with --key FILE, or put it into {KEY} ('evalkit keygen FILE' "
                "makes one)"
            )
        return _private(KEY, _pem(held), passphrase), ""
    content = _content(file)
    return _private(str(file), content, passphrase), _readable_by_others(file)


def public_keys(files: Sequence[Path]) -> list[tuple[Path, PublicKey]]:
    """Return the public key in each file. Raises UsageError with every file that holds none."""
    found: list[tuple[Path, PublicKey]] = []
    problems: list[Problem] = []
    for file in files:
        try:
            found.append((file, read_public_key(_content(file))))
        except ValueError as error:
            problems.append(Problem(str(file), None, "", str(error)))
    if problems:
        raise UsageError(problems)
    return found


def write_new_key(file: Path) -> tuple[SigningKey, bool]:
    """Make a key: the private one into ``file``, for its owner alone, the public one beside it; nothing is replaced.

    Returns it, and whether it is encrypted with the passphrase of the environment. Raises UsageError where either file
    is there, RunError where it cannot be written.
    """
    passphrase = _passphrase()
    key = new_key(os.urandom(32))
    public = file.with_name(file.name + PUBLIC)
    there = [path for path in (file, public) if path.exists() or path.is_symlink()]
    if there:
        message = "is there already, and a key is never replaced: name another file"
        raise UsageError([Problem(str(path), None, "", message) for path in there])
    _create(file, key.pem(passphrase), 0o600)
    try:
        _create(public, key.public.pem(), 0o644)
    except BaseException:
        file.unlink()  # a key without its other half serves nobody
        raise
    return key, bool(passphrase)


def _passphrase() -> str:
    """Return the passphrase of the environment, "" where there is none. Raises UsageError where it cannot be one."""
    held = os.environ.get(PASSPHRASE, "")
    try:
        long = len(held.encode()) > LONGEST_PASSPHRASE
    except UnicodeEncodeError:  # such bytes of the environment stand as lone surrogates
        raise UsageError([Problem(PASSPHRASE, None, "", "is not UTF-8")]) from None
    if long:
        message = f"is longer than {LONGEST_PASSPHRASE:,} bytes, and no key can be encrypted so"
        raise UsageError([Problem(PASSPHRASE, None, "", message)])
    return held


def _create(file: Path, content: bytes, mode: int) -> None:
    """Write a file that is not there yet; it has its mode from its first byte on."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(descriptor)
    except OSError as error:
        advice = "make its folder first, or name another file"
        raise RunError(f"{file} cannot be written: {error.strerror}", advice) from error


def _private(where: str, pem: bytes, passphrase: str) -> SigningKey:
    try:
        return read_private_key(pem, passphrase)
    except ValueError as error:
        raise UsageError([Problem(where, None, "", str(error))]) from None


def _pem(held: str) -> bytes:
    if held.startswith("-----BEGIN"):
        return held.encode("utf-8", "replace") + b"\n"
    try:
        return b64decode("".join(held.split()), validate=True)
    except ValueError:
        message = "neither a PEM nor base64 of one"
        raise UsageError([Problem(KEY, None, "", message)]) from None


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(_LARGEST)
    except OSError as error:
        raise unreadable(file, error) from error


def _readable_by_others(file: Path) -> str:
    if os.name != "posix":
        return ""
    mode = stat.S_IMODE(file.stat().st_mode)
    if not mode & 0o077:
        return ""
    return f"{file} may be read by others (mode {mode:04o}); chmod 600 {file}"
