"""Places in a file: key paths, and the line where each value was written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

KeyPath = tuple[str | int, ...]
"""Keys and positions that lead to a value."""
Value = Any
"""Any value that a file can hold: text, number, truth value, nothing, list, or mapping of texts to values."""


@dataclass(slots=True)
class Lines:
    """Where a value and everything in it was written."""

    line: int
    """1-based line of the key, the list entry or, at the top, the value."""
    text: int | None = None
    """First line of a text written as a block (``|``): its line k lies k - 1 below."""
    inside: dict[str | int, Lines] = field(default_factory=dict)
    """Key or position → lines of what it holds."""

    def at(self, path: Sequence[str | int]) -> Lines:
        """Return the lines of the value at ``path``, or of the nearest one around it that is written."""
        here = self
        for step in path:
            if step not in here.inside:
                break
            here = here.inside[step]
        return here


def key_path(path: Sequence[str | int]) -> str:
    """Return a path as people write it.

    >>> key_path(("tasks", 0, "metrics", 1))
    'tasks[0].metrics[1]'
    """
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")
