"""Where in a JSON document something holds: JSON Pointers, and what counts as equal at a place.

Values are equal when they are of one type (``true`` is not 1, null is not missing) and numbers of one value (``1`` is
``1.0``) or within a tolerance, reckoned in decimal as written: 19.99 and 20.00 differ by exactly 0.01.

Source: RFC 6901 (pointers). Deviation: in a pattern ``*`` stands for any one name or index, so a member
named ``*`` cannot be told apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from evalkit.metrics.numbers import as_written, near
from evalkit.records.suite import Spec

Json = Any
Arrays = Literal["index", "key", "assign"]

MISSING: Final = object()
"""Stands where a document has nothing; null is something."""

_INDEX = re.compile("0|[1-9][0-9]{0,8}")


class Equality(Spec):
    """What counts as equal at a place."""

    ignore_case: bool = False
    """Strings by Unicode default caseless matching."""
    strip: bool = False
    """White space at a string's ends does not count."""
    tolerance: Annotated[float, Field(ge=0)] = 0.0
    """Greatest absolute difference of equal numbers."""
    relative_tolerance: Annotated[float, Field(ge=0)] = 0.0
    """Greatest difference of equal numbers as a share of the gold number."""
    arrays: Arrays = "index"
    """Which elements of two arrays belong together: those at one index; those whose member ``key`` is equal, in
    arrays whose gold elements all have one of their own, others by index; or those that make most leaves right."""
    key: str = "id"
    """The member that identifies an element."""

    def same(self, gold: Json, predicted: Json) -> bool:
        """Return whether two leaves are equal."""
        if gold == predicted and type(gold) is type(predicted):
            return True
        if isinstance(gold, str) and isinstance(predicted, str):
            return self._normal(gold) == self._normal(predicted)
        if _is_number(gold) and _is_number(predicted):
            return bool(gold == predicted) or self._near(gold, predicted)
        return False

    def _normal(self, text: str) -> str:
        text = text.strip() if self.strip else text
        return text.casefold() if self.ignore_case else text

    def _near(self, gold: float, predicted: float) -> bool:
        if not (self.tolerance or self.relative_tolerance):
            return False
        return near(
            as_written(predicted), as_written(gold), self.tolerance, self.relative_tolerance
        )


class Place:
    """What holds at one place of a document and, through ``at``, beneath it.

    A rule's path may hold ``*`` for any one name or index. What a rule says of a place holds for all beneath it, until
    a longer path says otherwise.
    """

    __slots__ = ("_beneath", "_names", "_rules", "equality", "ignored")

    def __init__(self, equality: Equality, rules: Sequence[_Rule] = ()) -> None:
        here = [rule for rule in rules if not rule.path]
        for rule in here:
            equality = equality.model_copy(update=rule.changes)
        self.equality = equality
        self.ignored = any(rule.ignored for rule in here)
        self._rules = [rule for rule in rules if rule.path]
        self._names = {rule.path[0] for rule in self._rules} - {"*"}
        self._beneath: dict[str | None, Place] = {}

    def at(self, name: str | int) -> Place:
        """Return the place of a member or element."""
        if not self._rules:
            return self
        known = str(name) if str(name) in self._names else None  # None: only "*" speaks of it
        if known not in self._beneath:
            rules = [r.beneath() for r in self._rules if r.path[0] == known or r.path[0] == "*"]
            self._beneath[known] = Place(self.equality, rules)
        return self._beneath[known]

    def without_ignored(self, value: Json) -> Json:
        """Return the document without its ignored members and elements."""
        if not self._rules:
            return value
        if isinstance(value, dict):
            members = ((name, inner, self.at(name)) for name, inner in value.items())
            return {n: at.without_ignored(inner) for n, inner, at in members if not at.ignored}
        if isinstance(value, list):
            elements = ((inner, self.at(i)) for i, inner in enumerate(value))
            return [at.without_ignored(inner) for inner, at in elements if not at.ignored]
        return value


@dataclass(frozen=True, slots=True)
class _Rule:
    path: tuple[str, ...]
    changes: Mapping[str, Any] = field(default_factory=dict)
    ignored: bool = False

    def beneath(self) -> _Rule:
        return replace(self, path=self.path[1:])


def build_place(
    equality: Equality,
    overrides: Mapping[str, Equality] | None = None,
    ignored: Sequence[str] = (),
) -> Place:
    """Return the place of a whole document.

    ``overrides`` maps JSON Pointers, with ``*`` for any one name or index, to what counts as equal there, as far as
    set; of two pointers to one place the one with fewer ``*`` wins. ``ignored`` are pointers to what is removed
    before documents are compared. Raises ValueError on a text that is no pointer.
    """
    rules = [
        _Rule(parse_pointer(p), changed.model_dump(exclude_unset=True))
        for p, changed in (overrides or {}).items()
    ]
    rules.sort(key=lambda rule: (-rule.path.count("*"), rule.path))
    return Place(equality, [*rules, *(_Rule(parse_pointer(p), ignored=True) for p in ignored)])


def parse_pointer(pointer: str) -> tuple[str, ...]:
    """Return the names in a JSON Pointer (RFC 6901).

    >>> parse_pointer("/a~1b/0")
    ('a/b', '0')

    Raises ValueError where the text is none.
    """
    if pointer and not pointer.startswith("/"):
        raise ValueError(
            f"{pointer!r} is no JSON Pointer: write it as '/{pointer.replace('.', '/')}'"
        )
    return tuple(n.replace("~1", "/").replace("~0", "~") for n in pointer.split("/")[1:])


def pointer_text(path: Sequence[str | int]) -> str:
    """Return the JSON Pointer of a path."""
    return "".join("/" + str(name).replace("~", "~0").replace("/", "~1") for name in path)


def resolve(document: Json, path: Sequence[str]) -> Json:
    """Return what stands at a path of names and indices, or ``MISSING``."""
    for name in path:
        if isinstance(document, dict) and name in document:
            document = document[name]
        elif isinstance(document, list) and _INDEX.fullmatch(name) and int(name) < len(document):
            document = document[int(name)]
        else:
            return MISSING
    return document


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
