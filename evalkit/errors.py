"""Every exception evalkit raises on purpose, and what each means for the exit code.

::

    EvalkitError
    ├── UsageError        the command, suite or gate file is wrong            exit 2
    └── RunError          the world is wrong: server, disk, checkpoint        exit 3
        └── BackendLost   whatever answered is gone; asking on is pointless   exit 3

    Fault                 one request (or batch) was not answered; the executor's retry table
                          decides whether it is asked again, becomes a Failure, or ends the run

Faults never reach a user as exceptions: they end as counted ``Failure`` values or as a ``RunError``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

FaultKind = Literal[
    "timeout",  # no answer in the time allowed
    "connection",  # refused, reset or cut off
    "overloaded",  # 429, 503: the server asks for patience
    "server_error",  # another 5xx
    "bad_response",  # an answer that breaks the protocol
    "bad_request",  # 4xx: the server will never take this request
    "context_length",  # prompt and answer do not fit the model's window
    "unsupported",  # the backend cannot do this kind of request
    "no_answer",  # a replay file holds no answer for this sample
    "bad_sample",  # the sample could not be turned into a request
    "out_of_memory",  # the engine ran out of memory on this request
    "unauthorised",  # 401, 403: no request will be answered
    "server_lost",  # the server process is gone
]


class EvalkitError(Exception):
    """Base of every error that evalkit raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a user's file, with all that is needed to mend it."""

    file: str
    """The file as the user named it."""
    line: int | None
    """1-based line, where one is known."""
    key: str
    """Key path inside the file, such as ``tasks[0].metrics[1].schema``; empty for the whole file."""
    message: str
    """What was found and why it is wrong, in one sentence."""
    allowed: str = ""
    """What would be right."""
    nearest: str = ""
    """The allowed name nearest to what was found."""

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        parts = [f"{where}: {self.key}: {self.message}" if self.key else f"{where}: {self.message}"]
        if self.nearest:
            parts.append(f"did you mean {self.nearest!r}?")
        if self.allowed:
            parts.append(f"allowed: {self.allowed}")
        return "; ".join(parts)


class UsageError(EvalkitError):
    """The command or a file the user wrote is wrong; carries every problem found, not the first."""

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        self.problems: tuple[Problem, ...] = () if isinstance(problems, str) else tuple(problems)
        text = problems if isinstance(problems, str) else "\n".join(map(str, problems))
        super().__init__(text)


class RunError(EvalkitError):
    """The world is wrong; ``advice`` says in one sentence what to do about it."""

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice


class BackendLost(RunError):
    """The backend is gone. What was answered is in the answer store; the same command resumes."""


class Fault(Exception):
    """A request, or a batch of them, was not answered. Raised by backends, handled by executors."""

    def __init__(self, kind: FaultKind, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.kind: FaultKind = kind
        self.message = message
        self.retry_after_s = retry_after_s
