"""Aliases: names such as ``production`` for runs that others are compared with, and the history of who named them when.

``OUT/aliases.jsonl`` holds one promotion per line, oldest first; nothing in it is ever changed. An alias means the
last run that was promoted under it. A line is durable before ``append_promotion`` returns; writers take turns. What a
kill in the middle of a line leaves was never acknowledged: readers pass over it, the next writer removes it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

from pydantic import StringConstraints, TypeAdapter, ValidationError

from evalkit.errors import Problem, RunError, UsageError
from evalkit.identity import canonical_json
from evalkit.records.scorecard import Record
from evalkit.records.suite import Name
from evalkit.records.verdict import VerdictStatus
from evalkit.store.durable import disk_errors

HISTORY: Final = "aliases.jsonl"
"""The file under OUT."""


class SignedBy(Record):
    """A signature that a promotion required, and found."""

    key: str
    """The key's id."""
    approver: str
    """The name that was signed with it; empty where the key signed somebody else's statement too."""


class Promotion(Record):
    """One run named as a baseline."""

    time: str
    """UTC, ISO 8601."""
    alias: Name
    """The name it was given."""
    run: Annotated[str, StringConstraints(min_length=1)]
    """The run's folder, relative to OUT, with ``/`` between folders."""
    scorecard: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
    """Digest of the run's scorecard."""
    status: VerdictStatus | None
    """What the run's gates had answered; null where the run had no verdict."""
    exit_code: int | None
    """The same as an exit code."""
    anyway: bool = False
    """Whether it was promoted although it had not passed."""
    by: str
    """The operating system's user who promoted it."""
    note: str = ""
    """Why, in the user's words."""
    signed_by: tuple[SignedBy, ...] = ()
    """Who had signed the run, where signatures were required."""


def check_alias(alias: str) -> None:
    """Raise UsageError on a name that cannot be an alias: one that is no name, or means something else already."""
    try:
        TypeAdapter(Name).validate_python(alias)
    except ValidationError as error:
        message = f"{alias!r} is no alias: letters, digits, '_', '.', '-', beginning with a letter or digit"
        raise UsageError(message) from error
    if alias == "none" or alias.endswith((".json", ".jsonl")):
        raise UsageError(f"{alias!r} cannot be an alias: as a baseline it means something else")


def promotions(out: Path) -> tuple[Promotion, ...]:
    """Return every promotion under ``out``, oldest first; none where there is no history.

    Raises UsageError with the line of each that cannot be read.
    """
    path = out / HISTORY
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return ()
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise RunError(message, "check its permissions") from error
    found: list[Promotion] = []
    problems: list[Problem] = []
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            found.append(Promotion.model_validate(json.loads(line)))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(map(str, first["loc"]))
            problems.append(Problem(str(path), number, key, first["msg"]))
        except ValueError as error:
            problems.append(Problem(str(path), number, "", f"not JSON: {error}"))
    if problems:
        raise UsageError(problems)
    return tuple(found)


def aliases(out: Path) -> dict[str, Promotion]:
    """Return alias → the promotion that it stands for now, sorted by alias."""
    last = {promotion.alias: promotion for promotion in promotions(out)}
    return dict(sorted(last.items()))


def relative_run(run: Path, out: Path) -> str:
    """Return how a promotion under ``out`` names a run's folder: both may move together."""
    return Path(os.path.relpath(run.resolve(), out.resolve())).as_posix()


def append_promotion(out: Path, promotion: Promotion) -> None:
    """Add a promotion to the history, durably. Raises RunError when the disk refuses."""
    path = out / HISTORY
    line = canonical_json(promotion.model_dump(mode="json")) + b"\n"
    with disk_errors(path):
        out.mkdir(parents=True, exist_ok=True)
        with path.open("a+b", buffering=0) as file, _alone(file.fileno()):
            file.seek(0)
            held = file.read()
            if not held.endswith(b"\n"):
                file.truncate(held.rfind(b"\n") + 1)
            file.write(line)
            os.fsync(file.fileno())


@contextmanager
def _alone(descriptor: int) -> Iterator[None]:
    """Hold a file against other writers; the lock ends with the block or the process."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
