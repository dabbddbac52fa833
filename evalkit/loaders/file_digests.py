"""SHA-256 of files, each computed once: a large checkpoint is read when it is new, not at every run.

A digest is remembered under the file's path together with its size, device, inode and times of modification and of
change. A file that was modified within the last seconds is never remembered: it could be written again without its
times moving ("racy" in git's index).

Source: git, Documentation/technical/racy-git.txt, for the law of recent files.

Deviation: someone who rewrites a file and sets the clock back so that size, inode and both times are as before is
believed.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from evalkit.errors import RunError
from evalkit.loaders.files import unreadable

CHUNK_BYTES = 4 << 20
"""Bytes read at once."""
RACY_S = 2.0
"""Coarsest tick of a file system's clock (FAT has two seconds)."""
BUSY_S = 10.0
"""Seconds to wait for another process that is writing."""

Stamp = tuple[int, int, int, int, int]
"""Size, device, inode, nanoseconds of modification and of change."""

_TABLE = """
CREATE TABLE IF NOT EXISTS digests (
    path TEXT PRIMARY KEY, size INTEGER, device TEXT, inode TEXT, mtime_ns INTEGER, ctime_ns INTEGER, sha256 TEXT
) WITHOUT ROWID
"""


class FileDigests:
    """Gives the SHA-256 of files and remembers them in a small database that processes may share.

    Threads and processes may use it at once. Where the database cannot be kept (a read-only folder, a full disk, a
    damaged file) digests are computed each time.
    """

    def __init__(self, db_path: Path | None) -> None:
        self._db_path = db_path

    def __call__(self, path: Path, progress: Callable[[int, int], None] | None = None) -> str:
        """Return the SHA-256 of a file's bytes, in hexadecimal.

        ``progress`` is told (bytes read, bytes in all) while reading. Raises RunError where the file cannot be read
        or changes meanwhile.
        """
        try:
            begun = time.time()
            path = path.resolve(strict=True)  # links to one file share its digest
            stamp = _stamp(path)
            known = self._recall(path, stamp)
            if known is not None:
                return known
            found = _sha256(path, stamp[0], progress)
            if _stamp(path) != stamp:
                raise RunError(
                    f"{path} changed while it was read", "wait until it is written, then run again"
                )
        except OSError as error:
            raise unreadable(path, error) from error
        # The clock is that of the machine, the times may be a file server's: a time ahead of ours is recent too.
        if begun - max(stamp[3:]) / 1e9 > RACY_S:
            self._remember(path, stamp, found)
        return found

    def _recall(self, path: Path, stamp: Stamp) -> str | None:
        query = (
            "SELECT sha256 FROM digests WHERE path = ? AND size = ? AND device = ? AND inode = ?"
            " AND mtime_ns = ? AND ctime_ns = ?"
        )
        row = self._ask(query, (_key(path), *_columns(stamp)))
        return None if row is None else str(row[0])

    def _remember(self, path: Path, stamp: Stamp, sha256: str) -> None:
        self._ask(
            "INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?, ?, ?, ?)",
            (_key(path), *_columns(stamp), sha256),
        )

    def _ask(self, statement: str, values: tuple[object, ...]) -> tuple[object, ...] | None:
        """Run one statement on a connection of its own; None where the database cannot be used."""
        if self._db_path is None:
            return None
        try:
            self._db_path.parent.mkdir(parents=True, exist_ok=True)
            with closing(
                sqlite3.connect(self._db_path, timeout=BUSY_S, isolation_level=None)
            ) as db:
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = NORMAL")
                db.execute(_TABLE)
                row: tuple[object, ...] | None = db.execute(statement, values).fetchone()
                return row
        except (sqlite3.Error, OSError):
            return None


def _sha256(path: Path, size: int, progress: Callable[[int, int], None] | None) -> str:
    state = hashlib.sha256()
    buffer = memoryview(bytearray(min(CHUNK_BYTES, max(size, 1))))
    done = 0
    with path.open("rb", buffering=0) as file:
        while done <= size and (count := file.readinto(buffer)):  # a growing file has no end
            state.update(buffer[:count])
            done += count
            if progress is not None:
                progress(done, size)
    return state.hexdigest()


def _stamp(path: Path) -> Stamp:
    found = path.stat()
    return found.st_size, found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def _columns(stamp: Stamp) -> tuple[object, ...]:
    size, device, inode, modified, changed = stamp
    return size, str(device), str(inode), modified, changed  # SQLite's numbers end at 63 bits


def _key(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")
