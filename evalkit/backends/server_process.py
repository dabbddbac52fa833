"""A server run by this process that never outlives it, with its log: the client side of ``server_guard``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from evalkit.errors import RunError

TAIL_LINES: Final = 40
MOST_LETTERS: Final = 40
"""Longest temporary folder that is used: servers keep sockets there, whose paths may have about 100 letters."""
_TAIL_BYTES: Final = 64 << 10
_ESCAPES = re.compile(
    r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
_PREFIX = re.compile(r"^(\([\w-]+ pid=\d+\) ?)?((INFO|WARNING|ERROR) [\d-]+ [\d:.]+ \[[^\]]*\] ?)?")
_ERROR = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception): .|^\S+: error: ")
_NOISE = re.compile(r"nanobind: |See https://nanobind| - leaked | - \.\.\. skipped|\[shutdown\] ")
"""What a dying vLLM adds after it has said what is wrong."""
_REPEATED = re.compile(r"[Ss]ee (root cause|stack trace)|initialization failed|Worker failed")


class ServerProcess:
    """A command run as a server in a process group of its own, stopped when asked or when this process is gone.

    Its output goes to ``log`` in a folder of its own, which is also its working and temporary folder and vanishes
    with it, unless ``stop`` is told to keep the log.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], grace_s: float = 10.0
    ) -> None:
        """``environment`` is added to this process's own; ``grace_s`` is the time between SIGTERM and SIGKILL."""
        self._command = list(command)
        self._environment = dict(environment)
        self._grace_s = grace_s
        self._guard: subprocess.Popen[bytes] | None = None
        self._said = b""
        self._folder = Path()
        self.log = Path()
        """Where its output goes; exists from ``start`` on."""

    def start(self) -> None:
        """Start the server; returns at once. Raises RunError where the command cannot be run at all."""
        self._folder = Path(tempfile.mkdtemp(prefix="evalkit-", dir=_temporary_folder()))
        self.log = self._folder / "server.log"
        guard = Path(__file__).with_name("server_guard.py")
        self._guard = subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-S",
                str(guard),
                str(self._folder),
                str(self._grace_s),
                *self._command,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self._folder,
            env={**os.environ, **self._environment, "TMPDIR": str(self._folder)},
            start_new_session=True,
        )
        assert self._guard.stdout is not None and self._guard.stderr is not None
        if not self._guard.stdout.readline().startswith(b"started "):
            why = self._guard.stderr.read().decode(errors="replace").strip().rpartition("\n")[2]
            self._discard()
            raise RunError(f"{self._command[0]} cannot be started: {why}")
        os.set_blocking(self._guard.stdout.fileno(), False)

    def ended(self) -> int | None:
        """Return how the server ended (a negative number is a signal), None while it runs."""
        assert self._guard is not None and self._guard.stdout is not None, "the server was started"
        self._said += self._guard.stdout.read() or b""
        told = re.search(rb"^ended (-?\d+)$", self._said, re.MULTILINE)
        return int(told[1]) if told else self._guard.poll()

    async def stop(self, *, keep_log: bool = False) -> None:
        """Stop the server and wait until nothing of it is left; stopping twice is stopping once."""
        if self._guard is None:
            return
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        await asyncio.to_thread(self._guard.wait)
        self._discard(keep_log=keep_log)

    def tail(self, lines: int = TAIL_LINES) -> list[str]:
        """Return the last lines of the log that say something, cleaned of control characters."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
                text = log.read().decode(errors="replace")
        except FileNotFoundError:
            return []
        # A progress bar overwrites its line: what stands after the last carriage return is what one would see.
        shown = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
        kept = (line for line in map(clean, shown) if line.strip() and not _NOISE.match(line))
        return list(kept)[-lines:]

    def _discard(self, *, keep_log: bool = False) -> None:
        guard, self._guard = self._guard, None
        assert guard is not None
        guard.wait()
        for pipe in (guard.stdin, guard.stdout, guard.stderr):
            if pipe is not None:
                pipe.close()
        if keep_log:
            for left in self._folder.iterdir():
                if left != self.log:
                    shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink()
        else:
            shutil.rmtree(self._folder, ignore_errors=True)


def _temporary_folder() -> str:
    usual = tempfile.gettempdir()
    return usual if len(usual) <= MOST_LETTERS or not os.access("/tmp", os.W_OK) else "/tmp"


def clean(line: str) -> str:
    """Return a line of a server's log as it may be shown in a terminal: no control characters, no log prefix."""
    return _PREFIX.sub("", _ESCAPES.sub("", line)).rstrip()


def telling_line(lines: Sequence[str]) -> str:
    """Return the line of a log that says best what went wrong; empty if none does.

    That is the last error that does not merely point to another one. An error that announces details on the next
    line (a validation error) is joined with it.
    """
    found = ""
    for place, line in enumerate(lines):
        if _ERROR.match(line.strip()) and not _REPEATED.search(line):
            found = line.strip()
            if "validation error" in line and place + 1 < len(lines):
                found += " " + lines[place + 1].strip()
    return found


def ending(code: int) -> str:
    """Return how a process ended, in words.

    >>> ending(-9)
    'was killed by signal 9 (SIGKILL; often for want of memory)'
    """
    if code >= 0:
        return f"ended with exit code {code}"
    import signal

    name = str(-code)
    with contextlib.suppress(ValueError):
        name = signal.Signals(-code).name
    hint = "; often for want of memory" if name == "SIGKILL" else ""
    return f"was killed by signal {-code} ({name}{hint})"
