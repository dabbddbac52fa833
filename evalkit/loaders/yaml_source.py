"""A suite or gate file as it was read: what it says, where it says so, and what is already wrong with it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.errors import Problem, UsageError
from evalkit.loaders.places import Lines, key_path
from evalkit.loaders.yaml_reader import YamlReader

MAX_BYTES = 4 << 20
"""Largest file: a suite holds declarations, its data lie beside it."""

_UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)


@dataclass(frozen=True, slots=True)
class YamlSource:
    """A file's top-level mapping, its lines, and what is already wrong with it."""

    path: Path
    """The file as the user named it."""
    value: dict[str, Any]
    """What the file says."""
    lines: Lines
    """Where it says so."""
    problems: tuple[Problem, ...]
    """Mistakes that leave the rest readable, such as a key written twice."""
    unread: frozenset[str]
    """Key paths of values that could not be read."""

    def problem(
        self,
        path: Sequence[str | int],
        message: str,
        allowed: str = "",
        nearest: str = "",
        line: int | None = None,
    ) -> Problem:
        """Return a problem with the value at ``path``."""
        return Problem(
            str(self.path),
            line or self.lines.at(path).line,
            key_path(path),
            message,
            allowed,
            nearest,
        )

    def in_order(self, more: Sequence[Problem]) -> list[Problem]:
        """Return the source's own problems and ``more`` by line; of a value that was not read, nothing more is told."""
        new = [problem for problem in dict.fromkeys(more) if problem.key not in self.unread]
        return sorted([*self.problems, *new], key=lambda problem: problem.line or 0)


def read_yaml(path: Path) -> YamlSource:
    """Return what a YAML file says and where.

    Raises UsageError where nothing can be read: no file, not UTF-8, not YAML, no mapping at the top.
    """
    reader = YamlReader(path, _read_text(path))
    value, lines = reader.document()
    if not isinstance(value, dict):
        found = "nothing" if value is None else f"a {_KINDS[type(value)]}"
        reader.stop(lines.line, f"the file holds {found}", "keys with values (key: value)")
    return YamlSource(
        path, value, lines, tuple(dict.fromkeys(reader.problems)), frozenset(reader.unread)
    )


_KINDS = {
    str: "text",
    bool: "truth value",
    int: "number",
    float: "number",
    list: "list",
    dict: "mapping",
}


def _read_text(path: Path) -> str:
    def refuse(line: int | None, message: str, allowed: str = "") -> UsageError:
        return UsageError([Problem(str(path), line, "", message, allowed)])

    try:
        if path.stat().st_size > MAX_BYTES:
            raise refuse(None, f"the file is larger than {MAX_BYTES >> 20} MiB")
        content = path.read_bytes()
    except OSError as error:
        raise refuse(None, f"the file cannot be read: {error.strerror}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise refuse(
            line, f"the byte 0x{content[error.start]:02x} is not UTF-8", "a file in UTF-8"
        ) from error
    if strange := _UNPRINTABLE.search(text):
        line = text.count("\n", 0, strange.start()) + 1
        raise refuse(line, f"the character U+{ord(strange.group()):04X} is not allowed in YAML")
    return text
