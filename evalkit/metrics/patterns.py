"""Finds the plainest regular expressions that can take exponential time: a repetition of a repetition.

Python's engine tries every way to split the text between the two (``(a+)+`` on n letters: 2**n ways) and knows no time
limit. This is a lint for the author of a pattern, not a proof: it looks at how repetitions nest, not at what they
match, so it refuses some harmless patterns (``(\\w+ )+``) and lets others pass (``(a|a)+``, ``(a?){50}``).
"""

from __future__ import annotations

import re

_QUANTIFIER = re.compile(r"(?P<many>[*+]|\{\d*,\})(?P<mode>[+?]?)|(?:\?|\{\d+\}|\{\d*,\d+\})[+?]?")
_ITEM = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*+\]|\\.|[^\[\\]", re.DOTALL)
_ATOMIC = ("(?>", "(?=", "(?!", "(?<=", "(?<!")


def repeats_repetition(pattern: re.Pattern[str]) -> bool:
    """Return whether an unbounded repetition stands inside another, neither of them possessive or atomic.

    >>> repeats_repetition(re.compile("(a+)+")), repeats_repetition(re.compile("(a++b)+"))
    (True, False)
    """
    text = pattern.pattern
    verbose = bool(pattern.flags & re.VERBOSE)
    open_groups = [_Group(atomic=False)]
    last_repeats = False  # whether the item just read holds an unbounded repetition
    i = 0
    while i < len(text):
        if text.startswith("(?#", i):
            i = text.index(")", i) + 1
        elif verbose and text[i] == "#":
            i = text.find("\n", i) + 1 or len(text)
        elif quantifier := _QUANTIFIER.match(text, i):
            if quantifier["many"] and quantifier["mode"] != "+":
                if last_repeats:
                    return True
                last_repeats = open_groups[-1].repeats = True
            i = quantifier.end()
        elif text[i] == "(":
            open_groups.append(_Group(atomic=text.startswith(_ATOMIC, i)))
            last_repeats = False
            i += 2 if text.startswith("(?", i) else 1
        elif text[i] == ")":
            group = open_groups.pop()
            last_repeats = group.repeats and not group.atomic
            open_groups[-1].repeats |= last_repeats
            i += 1
        else:
            last_repeats = False
            item = _ITEM.match(text, i)
            assert item is not None, "re.compile has taken the pattern"
            i = item.end()
    return False


class _Group:
    def __init__(self, *, atomic: bool) -> None:
        self.atomic = atomic
        self.repeats = False
