"""Digests of files: always those of the bytes, and each computed once."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evalkit.errors import RunError
from evalkit.loaders import file_digests
from evalkit.loaders.file_digests import CHUNK_BYTES, FileDigests

SHA256_ABC = (
    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
)
SHA256_EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # NIST CAVP, SHA256ShortMsg, Len = 0


@pytest.fixture
def digests(tmp_path):
    return FileDigests(tmp_path / "cache" / "digests.sqlite")


@pytest.fixture
def reads(monkeypatch):
    """The files that were read, one entry for each time."""
    seen: list[str] = []
    compute = file_digests._sha256
    monkeypatch.setattr(
        file_digests, "_sha256", lambda path, *rest: seen.append(path.name) or compute(path, *rest)
    )
    return seen


@pytest.fixture
def settled(tmp_path, monkeypatch):
    """Write a file whose times are long past, as those of any checkpoint soon are."""

    def settled(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    monkeypatch.setattr(file_digests, "RACY_S", -3600.0)
    return settled


@pytest.mark.parametrize(("content", "expected"), [(b"abc", SHA256_ABC), (b"", SHA256_EMPTY)])
def test_a_digest_is_the_sha256_of_the_bytes(digests, tmp_path, content, expected):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert digests(path) == expected


def test_files_longer_than_a_chunk_are_digested_whole_with_progress(digests, tmp_path):
    content = os.urandom(1000) * ((2 * CHUNK_BYTES) // 1000 + 7)
    path = tmp_path / "file"
    path.write_bytes(content)
    told = []
    assert (
        digests(path, lambda done, size: told.append((done, size)))
        == hashlib.sha256(content).hexdigest()
    )
    assert told[-1] == (len(content), len(content))
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_file_is_read_once_whatever_path_leads_to_it(digests, settled, reads, tmp_path):
    path = settled("weights", b"abc")
    (tmp_path / "link").symlink_to(path)
    assert [
        digests(p) for p in (path, path, tmp_path / "link", tmp_path / "cache" / ".." / "weights")
    ] == [SHA256_ABC] * 4
    assert reads == ["weights"]


def test_another_process_need_not_read_it_again(settled, reads, tmp_path):
    path = settled("weights", b"abc")
    FileDigests(tmp_path / "db")(path)
    assert FileDigests(tmp_path / "db")(path) == SHA256_ABC
    assert reads == ["weights"]


def test_new_bytes_at_the_old_path_are_read(digests, settled, reads):
    path = settled("weights", b"abc")
    digests(path)
    path.write_bytes(b"abd")
    assert digests(path) == hashlib.sha256(b"abd").hexdigest()
    assert reads == ["weights", "weights"]


def test_new_bytes_with_the_old_size_and_time_are_read(digests, settled):
    path = settled("weights", b"abc")
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    digests(path)
    time.sleep(0.02)  # the time of change cannot be set; it moves on
    path.write_bytes(b"xyz")
    os.utime(path, ns=times)
    assert digests(path) == hashlib.sha256(b"xyz").hexdigest()


def test_a_file_put_in_the_place_of_another_is_read(digests, settled, tmp_path):
    path = settled("weights", b"abc")
    digests(path)
    other = tmp_path / "other"
    other.write_bytes(b"xyz")
    stat = path.stat()
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(path)
    assert digests(path) == hashlib.sha256(b"xyz").hexdigest()


def test_a_file_modified_a_moment_ago_is_not_remembered(digests, reads, tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"abc")
    assert [digests(path), digests(path)] == [SHA256_ABC] * 2
    assert reads == ["weights", "weights"]


def test_a_file_with_a_time_in_the_future_is_not_remembered(digests, reads, tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"abc")
    os.utime(path, (time.time() + 9e5, time.time() + 9e5))
    digests(path)
    digests(path)
    assert reads == ["weights", "weights"]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(contents=st.lists(st.sampled_from([b"aaaa", b"bbbb", b"cccc"]), max_size=6))
def test_however_a_file_is_rewritten_the_digest_is_that_of_its_bytes(contents, tmp_path):
    """Writes of equal size within one tick of the clock are what a cache by times gets wrong."""
    digests = FileDigests(tmp_path / "db")
    path = tmp_path / "weights"
    for content in contents:
        path.write_bytes(content)
        assert digests(path) == hashlib.sha256(content).hexdigest()


def test_a_file_that_changes_while_it_is_read_is_a_run_error(digests, tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"a" * (2 * CHUNK_BYTES))

    def append(done: int, size: int) -> None:
        with path.open("ab") as file:
            file.write(b"more")

    with pytest.raises(RunError, match="changed while it was read"):
        digests(path, append)


def test_a_file_that_cannot_be_read_is_a_run_error(digests, tmp_path):
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(RunError, match="cannot be read") as caught:
            digests(path)
        assert caught.value.__cause__ is not None


# --- a cache that cannot be kept -------------------------------------------------------------------------------


def folder_in_the_way(tmp_path: Path) -> Path:
    (tmp_path / "db").mkdir()
    return tmp_path / "db"


def file_in_the_way(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("x")
    return tmp_path / "file" / "db"


def damaged(tmp_path: Path) -> Path:
    (tmp_path / "db").write_bytes(b"not a database, and long enough to look like one " * 50)
    return tmp_path / "db"


def of_something_else(tmp_path: Path) -> Path:
    with sqlite3.connect(tmp_path / "db") as db:
        db.execute("CREATE TABLE digests (other TEXT)")
    db.close()
    return tmp_path / "db"


@pytest.mark.parametrize("place", [folder_in_the_way, file_in_the_way, damaged, of_something_else])
def test_where_nothing_can_be_remembered_digests_are_computed(place, settled, reads, tmp_path):
    path = settled("weights", b"abc")
    digests = FileDigests(place(tmp_path))
    assert [digests(path), digests(path)] == [SHA256_ABC] * 2
    assert reads == ["weights", "weights"]


def test_without_a_place_nothing_is_remembered(settled, reads):
    path = settled("weights", b"abc")
    assert [FileDigests(None)(path) for _ in range(2)] == [SHA256_ABC] * 2
    assert reads == ["weights", "weights"]


def test_threads_and_processes_share_one_cache(settled, tmp_path, root):
    paths = [settled(f"file{n}", bytes([n]) * 1000) for n in range(20)]
    expected = [hashlib.sha256(p.read_bytes()).hexdigest() for p in paths]
    program = (
        "import sys, pathlib\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from evalkit.loaders import file_digests\n"
        "file_digests.RACY_S = -3600.0\n"
        "digests = file_digests.FileDigests(pathlib.Path(sys.argv[1]))\n"
        "with ThreadPoolExecutor(4) as threads:\n"
        "    print(*threads.map(digests, map(pathlib.Path, sys.argv[2:])))\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "db"), *map(str, paths)]
    with ThreadPoolExecutor(4) as threads:
        done = threads.map(
            lambda _: subprocess.run(command, capture_output=True, text=True, check=True, cwd=root),
            range(4),
        )
        assert [process.stdout.split() for process in done] == [expected] * 4
    with sqlite3.connect(tmp_path / "db") as db:
        assert db.execute("SELECT count(*) FROM digests").fetchone()[0] == 20
    db.close()
