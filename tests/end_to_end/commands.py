"""How the end-to-end tests drive the command line: as a user does, in a process of its own, or faster in this one."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.cli import main


@dataclass(frozen=True)
class Finished:
    """A finished command."""

    code: int
    out: str
    err: str


def environment(**changes: str) -> dict[str, str]:
    """The environment without whatever EVALKIT_… the machine sets."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("EVALKIT_")}
    return kept | {"OMP_NUM_THREADS": "1", "COLUMNS": "160"} | changes


def start(*arguments: str | Path, cwd: Path, **changes: str) -> subprocess.Popen[str]:
    """Start ``evalkit`` in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "evalkit", *map(str, arguments)],
        cwd=cwd,
        env=environment(**changes),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def evalkit(*arguments: str | Path, cwd: Path, timeout: float = 300, **changes: str) -> Finished:
    """Run ``evalkit`` to its end."""
    process = start(*arguments, cwd=cwd, **changes)
    out, err = process.communicate(timeout=timeout)
    return Finished(process.returncode, out, err)


def command(*arguments: str | Path, cwd: Path) -> tuple[int, str, str]:
    """A command that asks no model, in this process; return its exit code, what it printed, what it complained of."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = main.run([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def stored(store: Path) -> int:
    """How many answers a store holds, read as any SQLite client would."""
    with sqlite3.connect(store) as connection:
        count = connection.execute("select count(*) from answers").fetchone()[0]
    connection.close()
    return int(count)


def holds(store: Path, count: int) -> bool:
    """Whether a store is there and holds so many answers."""
    try:
        return store.exists() and stored(store) >= count
    except sqlite3.OperationalError:  # the table is being made
        return False


def only_run(out: Path) -> Path:
    """The one run folder under ``out``."""
    folders = [path for path in out.iterdir() if path.is_dir()]
    assert len(folders) == 1, folders
    return folders[0]


def scorecard(out: Path) -> dict[str, Any]:
    """The scorecard of the one run, without what may differ between equal runs."""
    card = json.loads((only_run(out) / "scorecard.json").read_text())
    del card["circumstances"]
    return card
