"""The answer store: completions by request id in one SQLite file, so that resuming is a cache hit.

The file is in WAL mode: readers and one writer at a time work together, from as many processes as there are, and a
process killed at any moment leaves a file that the next one reads. What ``flush`` has written survives the process;
``synchronous=NORMAL`` means that a power cut may lose the last moments, never the file.

**Source**: sqlite.org/wal.html, sqlite.org/pragma.html#pragma_synchronous.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from evalkit.errors import RunError
from evalkit.records.exchange import Completion
from evalkit.store import codec

FORMAT: Final = 1
"""Version of the file's tables, in ``PRAGMA user_version``."""

_APPLICATION_ID: Final = 0x65766B61
"""``evka``: tells an answer store from any other SQLite file."""
_PENDING: Final = 256
"""Answers written in one transaction."""
_PENDING_S: Final = 0.05
"""Longest time between the first pending ``put`` and a later one that writes both."""
_PARAMETERS: Final = 500
"""Ids asked for in one statement."""
_BUSY_S: Final = 60.0
"""How long to wait for another process's transaction; one takes milliseconds."""
_CHECKPOINT_PAGES: Final = 8192
"""Size of the log (32 MiB) at which it is moved into the file: seldom enough to cost little."""

_ADVICE: Final = {
    "SQLITE_FULL": "free some space; what was flushed is kept, and the same command resumes",
    "SQLITE_IOERR": "check the disk and its space; what was flushed is kept, and the same command resumes",
    "SQLITE_READONLY": "make the file and its folder writable, or choose another place",
    "SQLITE_CANTOPEN": "make the folder writable, or choose another place",
    "SQLITE_PERM": "make the file and its folder writable, or choose another place",
    "SQLITE_NOTADB": "choose another place; this file was not written by evalkit",
    "SQLITE_CORRUPT": "move the file away: its answers will be asked again",
    "SQLITE_BUSY": "another process holds the file; end it, or choose another place",
    "SQLITE_LOCKED": "another process holds the file; end it, or choose another place",
}
"""What to do, by SQLite's primary result code."""


class SqliteAnswers:
    """Answers in a SQLite file; see ``evalkit.ports.AnswerStore``. Also a context manager that closes itself.

    ``put`` collects answers and writes many in one transaction; what is collected is found by ``get`` and becomes
    durable with ``flush``. Use it from one thread.
    """

    def __init__(self, path: Path) -> None:
        """Open the store at ``path``, creating it and its folder; raise RunError when that cannot be."""
        self.path = path
        self._pending: dict[bytes, bytes] = {}
        self._pending_since = 0.0
        if path.is_dir():
            raise RunError(
                f"answer store {path}: this is a folder", "name a file, such as answers.sqlite"
            )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"answer store {path}: its folder cannot be made: {error.strerror}"
            raise RunError(message, _ADVICE["SQLITE_CANTOPEN"]) from error
        with self._translated():
            self._connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        """Check that the file is an answer store, or make it one."""
        with self._translated():
            self._connection.execute(f"PRAGMA cache_size = -{64 * 1024}")
            if not self._is_store():
                self._enter_wal()
                with self._transaction():
                    if not self._is_store():  # another process may have been quicker
                        self._create()
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")

    def _enter_wal(self) -> None:
        """Switch the file to WAL mode, also while another process does the same."""
        give_up = time.monotonic() + _BUSY_S
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:  # this one statement does not wait for others
                busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() > give_up:
                    raise
            time.sleep(0.01)

    def _is_store(self) -> bool:
        """Return whether the tables are there, False for an empty file; raise RunError for a foreign file."""
        # Tables first: another process may create them between two questions, but all at once.
        (tables,) = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables:
            return False
        if self._pragma("application_id") != _APPLICATION_ID:
            raise RunError(
                f"answer store {self.path}: this is an SQLite file of another program",
                _ADVICE["SQLITE_NOTADB"],
            )
        version = self._pragma("user_version")
        if version > FORMAT:
            raise RunError(
                f"answer store {self.path}: written by a newer evalkit (format {version}, this one knows {FORMAT})",
                "update evalkit, or choose another place",
            )
        return True

    def _pragma(self, name: str) -> int:
        (value,) = self._connection.execute(f"PRAGMA {name}").fetchone()
        return int(value)

    def _create(self) -> None:
        self._connection.execute(
            "CREATE TABLE answers (id BLOB PRIMARY KEY NOT NULL, answer BLOB NOT NULL)"
        )
        self._connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        self._connection.execute(f"PRAGMA user_version = {FORMAT}")

    def get(self, ids: Sequence[str]) -> dict[str, Completion]:
        """Return the stored completions among ``ids``. Raises RunError when the file is damaged."""
        found: dict[str, Completion] = {}
        remaining = iter(ids)
        with self._translated():
            while keys := [bytes.fromhex(each) for each in islice(remaining, _PARAMETERS)]:
                places = ",".join("?" * len(keys))
                rows = self._connection.execute(
                    f"SELECT id, answer FROM answers WHERE id IN ({places})", keys
                )
                stored: dict[bytes, bytes] = dict(rows.fetchall())
                stored.update((key, self._pending[key]) for key in self._pending.keys() & keys)
                for key, answer in stored.items():
                    found[key.hex()] = self._decoded(key.hex(), answer)
        return found

    def _decoded(self, identifier: str, answer: bytes) -> Completion:
        try:
            return codec.decode(identifier, answer)
        except ValueError as error:
            raise RunError(
                f"answer store {self.path}: {error}", _ADVICE["SQLITE_CORRUPT"]
            ) from error

    def put(self, completion: Completion) -> None:
        """Store a completion; the first answer to a request stays. Raises what ``flush`` raises."""
        now = time.monotonic()
        if not self._pending:
            self._pending_since = now
        self._pending.setdefault(bytes.fromhex(completion.request_id), codec.encode(completion))
        if len(self._pending) >= _PENDING or now - self._pending_since >= _PENDING_S:
            self.flush()

    def flush(self) -> None:
        """Make everything put so far durable; RunError when it cannot be, and then it stays pending."""
        if not self._pending:
            return
        with self._translated(), self._transaction():
            self._connection.executemany(
                "INSERT OR IGNORE INTO answers (id, answer) VALUES (?, ?)", self._pending.items()
            )
        self._pending.clear()

    def close(self) -> None:
        """Flush and let go of the file."""
        try:
            self.flush()
        finally:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except RunError:
            if error is None:  # otherwise the error under way says more
                raise

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        # IMMEDIATE waits for other writers at the start; a transaction that becomes a writer later could not wait.
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if (
                self._connection.in_transaction
            ):  # SQLite has rolled back by itself when the disk is full
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn SQLite's errors and damaged answers into RunError with advice."""
        try:
            yield
        except sqlite3.Error as error:
            code = "_".join(getattr(error, "sqlite_errorname", "").split("_")[:2])
            advice = _ADVICE.get(code, "choose another place")
            raise RunError(f"answer store {self.path}: {error}", advice) from error
        except ValueError as error:
            raise RunError(
                f"answer store {self.path}: {error}", _ADVICE["SQLITE_CORRUPT"]
            ) from error
