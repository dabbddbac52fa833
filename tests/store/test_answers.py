"""The answer store survives kills, neighbours and full disks, and says what is wrong."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from evalkit.errors import RunError
from evalkit.records.exchange import Completion
from evalkit.store.answers import FORMAT, SqliteAnswers

ROOT = Path(__file__).resolve().parents[2]


def answer(name: object, text: str = "yes") -> Completion:
    return Completion(hashlib.sha256(str(name).encode()).hexdigest(), text, "stop")


def ids(names) -> list[str]:
    return [answer(name).request_id for name in names]


# Writes answers {prefix}0, {prefix}1, … and prints how many are flushed, after each flush.
WRITER = """
import hashlib, sys
from pathlib import Path
from evalkit.records.exchange import Completion
from evalkit.store.answers import SqliteAnswers

path, prefix, count, every = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
print("ready", flush=True)
sys.stdin.readline()
store = SqliteAnswers(path)
for n in range(count):
    name = hashlib.sha256(f"{prefix}{n}".encode()).hexdigest()
    store.put(Completion(name, f"{prefix}{n}" * 40, "stop"))
    if (n + 1) % every == 0:
        store.flush()
        print(n + 1, flush=True)
store.close()
"""


def start_writer(path: Path, prefix: str, count: int, every: int) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", WRITER, str(path), prefix, str(count), str(every)]
    return subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )


def integrity(path: Path) -> str:
    connection = sqlite3.connect(path)
    try:
        return connection.execute("PRAGMA integrity_check").fetchone()[0]
    finally:
        connection.close()


@pytest.mark.parametrize("seed", range(4))
def test_after_kill_9_everything_that_was_flushed_is_there(tmp_path, seed):
    path = tmp_path / "answers.sqlite"
    with start_writer(path, "k", 10**9, every=37) as writer:
        writer.stdout.readline()
        writer.stdin.write("go\n")
        writer.stdin.flush()
        chance = random.Random(seed)
        for _ in range(chance.randint(1, 300)):
            flushed = int(writer.stdout.readline())
        time.sleep(chance.random() * 0.01)
        writer.send_signal(signal.SIGKILL)
        for line in writer.stdout:
            if line.endswith("\n"):
                flushed = int(line)
    assert integrity(path) == "ok"
    with SqliteAnswers(path) as store:
        assert len(store.get(ids(f"k{n}" for n in range(flushed)))) == flushed
        store.put(answer("after"))
    with SqliteAnswers(path) as store:
        assert len(store.get(ids(["after"]))) == 1


def test_processes_may_share_one_store_from_its_first_moment(tmp_path):
    """Each waits until all are ready to open and write, so that they create and write at once."""
    path, count = tmp_path / "answers.sqlite", 3000
    writers = [start_writer(path, prefix, count, every=100) for prefix in "abcd"]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    assert integrity(path) == "ok"
    with SqliteAnswers(path) as store:
        names = [f"{prefix}{n}" for prefix in "abcd" for n in range(count)]
        assert len(store.get(ids(names))) == 4 * count


def test_a_store_is_made_also_while_another_process_makes_it(tmp_path):
    path = tmp_path / "answers.sqlite"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    other.execute("CREATE TABLE half_made (x)")
    release = threading.Timer(0.3, other.rollback)
    release.start()
    with SqliteAnswers(path) as store:
        store.put(answer("a"))
    release.join()
    other.close()


def test_one_store_sees_what_another_has_flushed(tmp_path):
    path = tmp_path / "answers.sqlite"
    with SqliteAnswers(path) as one, SqliteAnswers(path) as other:
        one.put(answer("a"))
        assert other.get(ids("a")) == {}
        one.flush()
        assert len(other.get(ids("a"))) == 1


def test_answers_are_written_when_256_wait(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: 1.0)
    path = tmp_path / "answers.sqlite"
    with SqliteAnswers(path) as writer, SqliteAnswers(path) as reader:
        for n in range(255):
            writer.put(answer(n))
        assert reader.get(ids(range(256))) == {}
        writer.put(answer(255))
        assert len(reader.get(ids(range(256)))) == 256


def test_answers_that_wait_for_50_ms_are_written_with_the_next_one(tmp_path, monkeypatch):
    now = 1.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    path = tmp_path / "answers.sqlite"
    with SqliteAnswers(path) as writer, SqliteAnswers(path) as reader:
        writer.put(answer("a"))
        now = 1.049
        writer.put(answer("b"))
        assert reader.get(ids("abc")) == {}
        now = 1.051
        writer.put(answer("c"))
        assert len(reader.get(ids("abc"))) == 3


def test_closing_flushes(tmp_path):
    path = tmp_path / "deep" / "folder" / "answers.sqlite"
    with SqliteAnswers(path) as store:
        store.put(answer("a"))
    with SqliteAnswers(path) as store:
        assert len(store.get(ids("a"))) == 1


def test_an_error_under_way_is_not_hidden_by_a_flush_that_fails(tmp_path):
    with pytest.raises(KeyboardInterrupt), SqliteAnswers(tmp_path / "a.sqlite") as store:
        fill_the_disk(store)
        store.put(answer("big", "x" * 10**6))
        raise KeyboardInterrupt


def fill_the_disk(store: SqliteAnswers) -> None:
    """Forbid the file to grow, as a full disk does."""
    store._connection.execute("PRAGMA max_page_count = 1")


def test_a_full_disk_is_a_run_error_and_keeps_what_was_flushed(tmp_path):
    path = tmp_path / "answers.sqlite"
    store = SqliteAnswers(path)
    store.put(answer("kept"))
    store.flush()
    fill_the_disk(store)
    store.put(answer("too big", "x" * 10**6))
    with pytest.raises(RunError, match="full") as error:
        store.flush()
    assert "free some space" in error.value.advice
    assert "the same command resumes" in error.value.advice
    assert len(store.get(ids(["kept"]))) == 1
    with pytest.raises(RunError, match="full"):
        store.close()
    assert integrity(path) == "ok"


def test_when_space_is_freed_what_was_pending_is_written(tmp_path):
    path = tmp_path / "answers.sqlite"
    with SqliteAnswers(path) as store:
        fill_the_disk(store)
        store.put(answer("big", "x" * 10**6))
        with pytest.raises(RunError):
            store.flush()
        store._connection.execute("PRAGMA max_page_count = 1000000")
    with SqliteAnswers(path) as store:
        assert len(store.get(ids(["big"]))) == 1


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    command = [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine mounts no file systems")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_really_full_is_a_run_error(small_disk):
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 100_000)
    path = small_disk / "answers.sqlite"
    store = SqliteAnswers(path)
    with pytest.raises(RunError, match=r"full|disk I/O error") as error:
        for n in range(10_000):
            store.put(answer(n, "x" * 1000))
    assert "space" in error.value.advice
    store._pending.clear()
    store.close()
    ballast.unlink()  # "free some space"
    with SqliteAnswers(path) as reopened:
        found = reopened.get(ids(range(10_000)))
    assert 0 < len(found) < 10_000
    assert set(found) == set(ids(range(len(found)))), "what came before the full disk is there"


def test_a_folder_is_no_store(tmp_path):
    with pytest.raises(RunError, match="folder") as error:
        SqliteAnswers(tmp_path)
    assert error.value.advice


@pytest.mark.parametrize("content", [b"hello", b"hello world\n" * 10_000, b"\0" * 5000])
def test_a_file_that_is_not_sqlite_is_left_alone(tmp_path, content):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(RunError, match="not a database") as error:
        SqliteAnswers(path)
    assert "not written by evalkit" in error.value.advice
    assert path.read_bytes() == content


def test_the_file_of_another_program_is_left_alone(tmp_path):
    path = tmp_path / "browser.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE history (url TEXT)")
    connection.close()
    content = path.read_bytes()
    with pytest.raises(RunError, match="another program"):
        SqliteAnswers(path)
    assert path.read_bytes() == content


def test_a_newer_store_is_left_alone(tmp_path):
    path = tmp_path / "answers.sqlite"
    SqliteAnswers(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
    connection.close()
    with pytest.raises(RunError, match=f"format {FORMAT + 1}, this one knows {FORMAT}") as error:
        SqliteAnswers(path)
    assert "update evalkit" in error.value.advice


def test_a_file_whose_pages_are_damaged_is_a_run_error(tmp_path):
    path = tmp_path / "answers.sqlite"
    with SqliteAnswers(path) as store:
        for n in range(2000):
            store.put(answer(n, "x" * 100))
    content = bytearray(path.read_bytes())
    for page in range(2, len(content) // 4096):
        content[page * 4096 : page * 4096 + 64] = b"\xff" * 64
    path.write_bytes(content)
    with pytest.raises(RunError, match="malformed") as error, SqliteAnswers(path) as store:
        store.get(ids(range(2000)))
    assert "move the file away" in error.value.advice


def test_a_damaged_answer_is_a_run_error_and_never_a_wrong_answer(tmp_path):
    path = tmp_path / "answers.sqlite"
    with SqliteAnswers(path) as store:
        store.put(answer("a", "the answer is 42"))
    content = path.read_bytes()
    assert content.count(b"the answer is 42") == 1
    path.write_bytes(content.replace(b"the answer is 42", b"the answer is 43"))
    with SqliteAnswers(path) as store, pytest.raises(RunError, match="checksum") as error:
        store.get(ids("a"))
    assert "move the file away" in error.value.advice


@pytest.fixture
def locked():
    """A folder that nobody may write, and a file in it."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        SqliteAnswers(folder / "answers.sqlite").close()
        (folder / "answers.sqlite").chmod(0o444)
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)


@contextmanager
def without_rights():
    """Root may write anywhere: be somebody else for a moment."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("new.sqlite", "unable to open database file"),
        ("answers.sqlite", "readonly database|unable to open"),
        ("deeper/answers.sqlite", "its folder cannot be made: Permission denied"),
    ],
)
def test_a_place_that_cannot_be_written_is_a_run_error(locked, name, message):
    with pytest.raises(RunError, match=message) as error, without_rights():
        store = SqliteAnswers(locked / name)
        store.put(answer("a"))
        store.close()
    assert "writable" in error.value.advice
