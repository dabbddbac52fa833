"""What a scalar in a YAML file means: text, number, truth value or nothing.

``yes``, ``no`` and ``on`` are texts, ``012`` is twelve, dates are texts, as YAML 1.2 says and 1.1 did not.

Source: YAML 1.2.2, section 10.3.2 (core schema).

Deviation: NaN and infinity are refused; halves of characters escaped as in JSON are joined, so that JSON files mean
what JSON says.
"""

from __future__ import annotations

import math
import re

from evalkit.loaders.places import Value

_CORE: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("null", re.compile(r"null|Null|NULL|~|")),
    ("bool", re.compile(r"true|True|TRUE|false|False|FALSE")),
    ("int", re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")),
    ("float", re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")),
    ("float", re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")),
)


def plain(text: str) -> Value:
    """Return what an unquoted scalar means in the core schema; raises ValueError on NaN and infinity."""
    kind = next((kind for kind, pattern in _CORE if pattern.fullmatch(text)), "str")
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind == "int":
        if len(text) > 4000:  # Python refuses to read longer ones
            raise ValueError(f"a number of {len(text)} digits is too long")
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if kind == "float":
        number = math.nan if "n" in text.lower() else float(text)
        if not math.isfinite(number):
            raise ValueError(f"{text} is not a finite number")
        return number
    return text


def with_joined_surrogates(text: str) -> str:
    """Join the halves of characters escaped as in JSON (``\\ud83d\\ude00``); raises ValueError on half a character."""
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError as error:
        raise ValueError("the text holds half a character (a lone surrogate escape)") from error
