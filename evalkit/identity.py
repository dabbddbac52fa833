"""Canonical bytes, digests, derived seeds and signatures: what makes two things "the same".

A digest is SHA-256 in lower-case hexadecimal over canonical JSON: keys sorted, no spaces, UTF-8, shortest
round-trip numbers, NaN and infinity refused.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

SHORT = 12
"""Characters of a digest shown to people: 48 bits, enough to tell runs and models apart."""


def canonical_json(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """Return the one byte string that stands for a JSON value.

    >>> canonical_json({"b": 1.0, "a": ["é", None]}).decode()
    '{"a":["é",null],"b":1.0}'

    Raises ValueError on NaN and infinity, TypeError on what JSON cannot hold.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode("utf-8", "surrogatepass")


def digest_bytes(content: bytes) -> str:
    """Return the SHA-256 of ``content`` as 64 hexadecimal characters."""
    return hashlib.sha256(content).hexdigest()


def digest(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return the SHA-256 of a JSON value's canonical bytes."""
    return digest_bytes(canonical_json(value))


def short(full: str) -> str:
    """Return the form of a digest that people read."""
    return full[:SHORT]


def derived_seed(*parts: str | int) -> int:
    """Return a 63-bit seed that depends on every part and on nothing else.

    Seeds are derived from names (run seed, task, metric, slice), so adding a metric does not move
    another metric's interval.
    """
    return int.from_bytes(hashlib.sha256(canonical_json(list(parts))).digest()[:8], "big") >> 1


def signature(name: str, **parts: str | float | bool | None) -> str:
    """Return ``name|key:value|…`` with keys sorted: all that could change a number.

    >>> signature("exact_match", normalise="squad", version=1)
    'exact_match|normalise:squad|version:1'
    """
    return "|".join([name, *(f"{key}:{_plain(value)}" for key, value in sorted(parts.items()))])


def _plain(value: str | float | bool | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
