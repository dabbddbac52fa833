"""Turns YAML text into plain values that remember their lines.

What a declaration never needs and an accident or an attack may hold is refused with its line: a key written twice, keys
that are not texts, tags that name types, NaN and infinity, endless aliases. A whole number may be a key below the top
of a file, as it is in ``rubric: {1: bad, 5: good}``, and means its text.

Source: YAML 1.2.2. The scanner is ruamel.yaml's.

Deviation: merge keys (``<<``), which 1.2 left out, are understood, because people share settings between tasks
with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from evalkit.errors import Problem, UsageError
from evalkit.loaders.places import KeyPath, Lines, Value, key_path
from evalkit.loaders.yaml_scalars import plain, with_joined_surrogates

Written = ScalarEvent | SequenceStartEvent | MappingStartEvent
"""The events that begin a value written in place."""
MAX_DEPTH = 64
"""Deepest nesting of lists and mappings."""
MAX_ALIASED = 100_000
"""Most values that aliases may stand for, all together: ten lines of aliases of aliases are billions."""

_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class _Anchored:
    """A value that aliases may stand for."""

    value: Value
    lines: Lines
    size: int
    """How many values it is made of."""
    height: int
    """How many levels of lists and mappings lie in it."""


class YamlReader:
    """Turns the scanner's events into values with lines."""

    def __init__(self, path: Path, text: str) -> None:
        self.problems: list[Problem] = []
        self.unread: set[str] = set()
        self._path = path
        self._events: Iterator[Event] = YAML(typ="safe", pure=True).parse(text)
        self._anchors: dict[str, _Anchored | None] = {}  # None while the value is being read
        self._deepest = 0
        self._read = 0
        self._aliased = 0

    def note(self, line: int, message: str, allowed: str = "", key: str = "") -> None:
        """Remember a mistake that leaves the rest readable, but not the value at ``key``."""
        self.problems.append(Problem(str(self._path), line, key, message, allowed))
        self.unread.add(key)

    def stop(self, line: int, message: str, allowed: str = "") -> NoReturn:
        """Raise a mistake after which nothing can be read, with those before it."""
        self.note(line, message, allowed)
        raise UsageError(self.problems)

    def document(self) -> tuple[Value, Lines]:
        """Return the only document of the stream."""
        try:
            event = self._next()
            while not isinstance(event, DocumentStartEvent):
                if isinstance(event, StreamEndEvent):
                    return None, Lines(1)
                event = self._next()
            value, lines = self._value(self._next(), (), 0)
            self._next()  # the document's end
            if not isinstance(after := self._next(), StreamEndEvent):
                self.stop(_line(after), "a second document begins here", "one document in a file")
        except YAMLError as error:
            self.stop(*_explain(error))
        return value, lines

    def _next(self) -> Event:
        return next(self._events)

    def _value(self, event: Event, path: KeyPath, depth: int) -> tuple[Value, Lines]:
        self._reach(event, depth)
        self._read += 1
        if isinstance(event, AliasEvent):
            return self._alias(event, path, depth)
        assert isinstance(event, Written), f"the scanner gave {event!r} for a value"
        anchor, read, deepest = event.anchor, self._read, self._deepest
        if anchor:
            self._anchors[anchor] = None
            self._deepest = depth
        lines = Lines(_line(event))
        value: Value
        if isinstance(event, MappingStartEvent):
            value = self._mapping(event, lines, path, depth)
        elif isinstance(event, SequenceStartEvent):
            value = self._sequence(event, lines, path, depth)
        else:
            value = self._scalar(event, path)
            lines.text = lines.line + 1 if event.style == "|" else None
        if anchor:
            size, height = self._read - read + 1, self._deepest - depth
            self._anchors[anchor] = _Anchored(value, lines, size, height)
            self._deepest = max(self._deepest, deepest)
        return value, lines

    def _reach(self, event: Event, depth: int) -> None:
        self._deepest = max(self._deepest, depth)
        if depth > MAX_DEPTH:
            message = f"lists and mappings are nested more than {MAX_DEPTH} levels deep"
            self.stop(_line(event), message)

    def _alias(self, event: AliasEvent, path: KeyPath, depth: int) -> tuple[Value, Lines]:
        line, name = _line(event), event.anchor
        if name not in self._anchors:
            allowed = f"an anchor &{name} above it"
            self.note(line, f"the alias *{name} stands for nothing", allowed, key_path(path))
            return None, Lines(line)
        anchored = self._anchors[name]
        if anchored is None:
            self.stop(line, f"the alias *{name} stands for a value that contains it")
        self._reach(event, depth + anchored.height)
        self._read += anchored.size
        self._aliased += anchored.size
        if self._aliased > MAX_ALIASED:
            self.stop(line, f"aliases stand for more than {MAX_ALIASED} values")
        return deepcopy(anchored.value), Lines(line, anchored.lines.text, anchored.lines.inside)

    def _sequence(
        self, event: SequenceStartEvent, lines: Lines, path: KeyPath, depth: int
    ) -> list[Value]:
        self._check_tag(event, "seq", path)
        values: list[Value] = []
        while not isinstance(entry := self._next(), SequenceEndEvent):
            place = len(values)
            value, lines.inside[place] = self._value(entry, (*path, place), depth + 1)
            values.append(value)
        return values

    def _mapping(
        self, event: MappingStartEvent, lines: Lines, path: KeyPath, depth: int
    ) -> dict[str, Value]:
        self._check_tag(event, "map", path)
        values: dict[str, Value] = {}
        merged: list[tuple[Value, Lines]] = []
        while not isinstance(written := self._next(), MappingEndEvent):
            line = _line(written)
            merges = (
                isinstance(written, ScalarEvent) and written.value == "<<" and written.implicit[0]
            )
            key, _ = self._value(written, path, depth + 1)
            if path and isinstance(written, ScalarEvent) and str(key) == written.value:
                key = _number_as_text(key)
            value, held = self._value(self._next(), (*path, str(key)), depth + 1)
            held.line = line
            if merges:
                merged.append((value, held))
            elif not isinstance(key, str):
                self.note(line, *_odd_key(key, written), key_path(path))
            elif key in values:
                message = f"the key is written twice, first on line {lines.inside[key].line}"
                self.problems.append(
                    Problem(str(self._path), line, key_path((*path, key)), message)
                )
            else:
                values[key], lines.inside[key] = value, held
        for value, held in merged:
            self._merge(value, held, values, lines, path)
        return values

    def _merge(
        self, value: Value, held: Lines, into: dict[str, Value], lines: Lines, path: KeyPath
    ) -> None:
        """Fill in the keys of merged mappings; what is written in place, or merged earlier, wins."""
        many = isinstance(value, list)
        for place, mapping in enumerate(value if many else [value]):
            source = held.at((place,)) if many else held
            if not isinstance(mapping, dict):
                self.note(
                    held.line,
                    "'<<' merges something that is no mapping",
                    "an alias of a mapping",
                    key_path(path),
                )
                return
            for key in mapping:
                if key not in into:
                    into[key], lines.inside[key] = mapping[key], source.at((key,))

    def _check_tag(self, event: Written, kind: str, path: KeyPath) -> None:
        tag = str(event.tag) if event.tag else ""
        if tag not in ("", "!", _TAG + kind):
            shown = tag.replace(_TAG, "!!")
            self.note(
                _line(event), f"the tag {shown} is not allowed here", "plain values", key_path(path)
            )

    def _scalar(self, event: ScalarEvent, path: KeyPath) -> Value:
        self._check_tag(event, "str", path)
        text = str(event.value)
        try:
            if event.tag or not event.implicit[0]:  # quoted, a block, or marked as a text
                return with_joined_surrogates(text)
            return plain(text)
        except ValueError as error:
            self.note(_line(event), str(error), key=key_path(path))
            return None


def _number_as_text(key: Value) -> Value:
    """Return a whole number as the text that JSON would have for a key (``{1: bad}``); all else as it is."""
    return str(key) if isinstance(key, int) and not isinstance(key, bool) else key


def _odd_key(key: Value, written: Event) -> tuple[str, str]:
    """Say why a key is none, and what to write instead."""
    if isinstance(written, ScalarEvent):
        return f"the key {written.value} is not a text", f'the key in quotes: "{written.value}"'
    if isinstance(written, MappingStartEvent):
        return (
            "a mapping stands where a key belongs",
            'a text that begins with "{" or "{{" in quotes',
        )
    return "a list stands where a key belongs", 'a text that begins with "[" in quotes'


def _line(event: Event) -> int:
    return int(event.start_mark.line) + 1


def _explain(error: YAMLError) -> tuple[int, str, str]:
    """Return line, message and what is allowed for what the scanner refused."""
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return 1, " ".join(str(error).split()), ""
    line = error.problem_mark.line + 1
    problem = str(error.problem)
    begun = error.context_mark.line + 1 if error.context_mark is not None else line
    since = f", begun on line {begun}" if begun != line else ""
    for trap, (message, allowed) in _TRAPS.items():
        if trap in problem:
            return line, message, allowed
    context = str(error.context or "").removeprefix("while ")
    return line, f"this is not YAML: {problem}{f' ({context}{since})' if context else ''}", ""


_TRAPS: Mapping[str, tuple[str, str]] = {
    r"character '\t'": ("a tab indents this line", "spaces"),
    "character '@' that": ("a text cannot begin with '@'", "the text in quotes"),
    "character '`' that": ("a text cannot begin with '`'", "the text in quotes"),
    "character '%' that": ("a text cannot begin with '%'", "the text in quotes"),
    "mapping values are not allowed here": (
        "a second ': ' on one line, or a line indented too far",
        "a text with ': ' in quotes; keys of one mapping indented alike",
    ),
}
