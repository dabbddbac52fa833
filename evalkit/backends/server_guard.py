"""Keeps a server alive exactly as long as the process that wanted it: a program of its own, plain standard library.

``python -I -S server_guard.py FOLDER GRACE_S COMMAND…`` starts COMMAND in a session of its own, its output in
``FOLDER/server.log``, and then waits for one of two things. When *standard input ends*, because the parent closed it or
is gone (even by ``kill -9``, which no handler in the parent could catch), the server's process group is asked to stop
(SIGTERM), and what is left after GRACE_S seconds is killed. When *the server ends by itself*, that is told on standard
output at once, and what it left behind is stopped. On Linux the guard adopts orphans (``PR_SET_CHILD_SUBREAPER``), so
that it also finds those that made a process group of their own, and ends only when nobody is left. FOLDER, which is
the parent's to keep or to remove, is removed where the parent is gone.

Standard output says ``started PID`` and later ``ended CODE``; a negative CODE is a signal, as in ``subprocess``.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
POLL_S = 0.2


def main(folder: str, grace_s: str, *command: str) -> None:
    """Guard ``command`` until standard input or the server itself ends."""
    parent = os.getppid()
    for ignored in (signal.SIGINT, signal.SIGHUP):  # Ctrl-C is the parent's to handle
        signal.signal(ignored, signal.SIG_IGN)
    wanted = [True]
    signal.signal(signal.SIGTERM, lambda *_: wanted.clear())
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    server = Server(os.path.join(folder, "server.log"), command)  # noqa: PTH118 - pathlib is slow to import
    _say(f"started {server.pid}")
    # A process forked by the parent may hold the pipe open after the parent's death, hence the look at getppid.
    while wanted and os.getppid() == parent and server.living() and server.code is None:
        if select.select([0], [], [], POLL_S)[0] and not os.read(0, 1024):
            break
    if server.code is not None:
        _say(f"ended {server.code}")
    server.stop(float(grace_s))
    if os.getppid() != parent:
        import shutil

        shutil.rmtree(folder, ignore_errors=True)


class Server:
    """The guarded server and all that comes from it."""

    def __init__(self, log: str, command: tuple[str, ...]) -> None:
        with open(log, "ab", buffering=0) as output:  # noqa: PTH123
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_guard,  # noqa: PLW1509 - this process has one thread
            )
        self.pid = process.pid
        self.code: int | None = None
        """How the server itself ended."""

    def living(self) -> bool:
        """Reap whoever has ended; tell whether the server or anybody it left behind still runs."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return self._signal(0)
            if pid == 0:
                return True
            if pid == self.pid:
                self.code = os.waitstatus_to_exitcode(status)

    def stop(self, grace_s: float) -> None:
        """End everybody: SIGTERM to the group first, SIGKILL to all that is left after ``grace_s``."""
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        while self.living():
            if time.monotonic() > deadline:
                self._signal(signal.SIGKILL)
                for pid in _children():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    def _signal(self, number: int) -> bool:
        """Send a signal to the server's process group; tell whether there was anybody in it."""
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):  # macOS refuses where only zombies are left
            return False
        return True


def _children() -> Iterator[int]:
    """Yield the ids of this process's children, adopted ones included; none where there is no /proc."""
    own = os.getpid()
    with contextlib.suppress(OSError):
        for name in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as stat:  # noqa: PTH123
                # "pid (name) state ppid …", where the name may hold anything
                if int(stat.read().rpartition(b")")[2].split()[1]) == own:
                    yield int(name)


def _die_with_guard() -> None:
    """In the server, before it starts: have the kernel end it if the guard itself is killed."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):  # Linux only
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # nobody may be left to hear it
        os.write(1, line.encode() + b"\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
