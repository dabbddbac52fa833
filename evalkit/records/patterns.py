"""Patterns, as suites and gates write them: one name for many things."""

from __future__ import annotations

import re


def expression(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a pattern, to be matched in full: ``*`` is any text, nothing else is special.

    >>> names = ["layers.1.up", "layers.10.up", "layers.1.mlp.up", "layers-1.up"]
    >>> [name for name in names if expression("layers.1*.up").fullmatch(name)]
    ['layers.1.up', 'layers.10.up', 'layers.1.mlp.up']
    """
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
