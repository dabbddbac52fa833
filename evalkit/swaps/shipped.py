"""The mappings that come with evalkit, by name, and those that a suite declares.

No list of given names is among them: a name tells origin, class, age and sex at once, differently in every country and
decade, so that a difference between names does not say what it comes from. A suite lists its own under ``groups``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from evalkit.errors import UsageError
from evalkit.records.suite import SwapSpec
from evalkit.registry import nearest
from evalkit.swaps import gender
from evalkit.swaps.lexicon import Lexicon


@dataclass(frozen=True, slots=True)
class Shipped:
    """A mapping that comes with evalkit."""

    summary: str
    """What it swaps, in one line."""
    example: str
    """How it is written in a task."""
    version: int
    """Grows when a text would be swapped differently."""
    build: Callable[[], Lexicon]
    """Makes it."""


SHIPPED: Mapping[str, Shipped] = MappingProxyType(
    {
        "gender": Shipped(
            "English words for men and women, with his/him for her by grammar; given names stay.",
            "swap: {fields: [text], using: gender}",
            gender.VERSION,
            gender.gender_lexicon,
        ),
    }
)


@lru_cache(maxsize=16)
def shipped_lexicon(name: str) -> Lexicon:
    """Return a shipped mapping; an unknown name is a UsageError that names the nearest."""
    if name not in SHIPPED:
        close = nearest(name, SHIPPED)
        hint = f"; did you mean {close!r}?" if close else ""
        raise UsageError(f"unknown swap {name!r}{hint}; known: {', '.join(SHIPPED)}")
    return SHIPPED[name].build()


def groups_of(spec: SwapSpec | None) -> tuple[str, ...]:
    """Return the groups of a swap in order, and so its variants; an unknown mapping is a UsageError."""
    if spec is None:
        return ()
    if spec.using is not None:
        return shipped_lexicon(spec.using).groups
    return tuple(spec.groups or ())


def lexicon_of(spec: SwapSpec) -> Lexicon:
    """Return what a suite declares. Raises ValueError where its words cannot be told apart, UsageError on an unknown
    name."""
    if spec.using is not None:
        return shipped_lexicon(spec.using)
    assert spec.groups is not None, "a swap has exactly one of the two"
    width = len(next(iter(spec.groups.values())))
    places = [{group: words[k] for group, words in spec.groups.items()} for k in range(width)]
    return Lexicon("'groups'", places, articles=spec.articles == "english")
