"""The summary in the place where GitHub's runner looks for one: the file that ``$GITHUB_STEP_SUMMARY`` names.

**Source**: GitHub's workflow commands, "Adding a job summary": appended Markdown, 1 MiB at most for one step; a longer
file is not shown at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click

VARIABLE: Final = "GITHUB_STEP_SUMMARY"
LIMIT: Final = 1024 * 1024
"""Bytes of one step's summary."""
CUT: Final = "\n\nThe summary was cut here: a step's summary holds 1 MiB.\n"


def append_step_summary(text: str, environ: Mapping[str, str]) -> bool:
    """Append Markdown to the step's summary and return whether it is there; without the variable do nothing.

    With what the file holds already it stays within the limit: what has no room is cut at the end of a paragraph, and
    says so. A disk that refuses is one line on stderr: the exit code is the verdict's.
    """
    name = environ.get(VARIABLE, "")
    if not name:
        return False
    try:
        with Path(name).open("ab") as file:
            held = file.tell()
            content = _within(text, LIMIT - held, beside=held > 0)
            if content:
                file.write(content)
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        why = getattr(error, "strerror", None) or error
        click.echo(f"warning: ${VARIABLE}: {name!r} cannot be written: {why}", err=True)
        return False
    if not content:
        click.echo(f"warning: ${VARIABLE}: no room is left for the summary", err=True)
    return bool(content)


def _within(text: str, room: int, *, beside: bool) -> bytes:
    """Return a text as bytes that have room, behind an empty line where something stands before it; empty for none."""
    lead = b"\n\n" if beside else b""
    content = lead + text.encode("utf-8", "replace")
    if len(content) <= room:
        return content
    cut = CUT.encode()
    kept = content[: max(room - len(cut), 0)]
    end = kept.rfind(b"\n\n")
    return kept[:end] + cut if end > len(lead) else b""
