"""Files that appear whole or not at all, and the disk's refusals as errors with advice.

A file is written beside its place, made durable, then renamed: ``rename`` replaces a name at once, so that a reader, or
whoever comes after a kill, finds the old content or the new, never a part.

**Source**: POSIX.1-2017, rename(): the name refers to the old or the new file throughout.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from evalkit.errors import RunError


def write_bytes(path: Path, content: bytes) -> None:
    """Put a file with this content at ``path``, durably. Raises RunError when the disk refuses."""
    with replacing(path) as file, disk_errors(path):
        file.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file that takes the place of ``path``, durably, when the block ends well; else nothing changes.

    Only one process at a time may replace a path. Raises RunError when the disk refuses.
    """
    partial = path.with_name(f".{path.name}.partial")
    with disk_errors(path):
        file = partial.open("wb", buffering=1 << 20)
    try:
        yield file
        with disk_errors(path):
            file.flush()
            os.fsync(file.fileno())
            file.close()
            partial.replace(path)
            _sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):  # the error under way says more
            file.close()
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an OSError into a RunError that names ``path`` and says what to do."""
    try:
        yield
    except OSError as error:
        raise disk_error(path, error) from error


def make_folder(path: Path) -> None:
    """Make a folder and those it lies in, unless they are there. Raises RunError when the disk refuses."""
    with disk_errors(path):
        path.mkdir(parents=True, exist_ok=True)


def disk_error(path: Path, error: OSError) -> RunError:
    """Return the RunError for a file that could not be written."""
    advice = _ADVICE.get(error.errno or 0, _FULL)
    return RunError(f"{path} cannot be written: {error.strerror or error}", advice)


_FULL = "free some space, or write elsewhere; the same command resumes"
_RIGHTS = "let this user write there, or write elsewhere; the same command resumes"
_PLACE = "make its folder first, or write elsewhere"
_ADVICE = {
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: _RIGHTS,
    errno.ENOENT: _PLACE,
    errno.ENOTDIR: _PLACE,
    errno.EISDIR: "this is a folder: name a file",
}
"""What to do by the system's error number; for any other ``_FULL``."""


def _sync_folder(folder: Path) -> None:
    """Make a rename durable, where the system lets a folder be opened."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
