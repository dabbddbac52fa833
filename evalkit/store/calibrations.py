"""Calibrations on disk: ``OUT/calibrations/<suite>-<digest>.json``, one file each, never replaced by another one."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from evalkit.errors import Problem, UsageError
from evalkit.identity import short
from evalkit.records.calibration import Calibration
from evalkit.store.documents import checked, document, read_json
from evalkit.store.durable import disk_errors, write_bytes

_FOLDER: Final = "calibrations"


def write_calibration(out: Path, calibration: Calibration) -> Path:
    """Write a sealed calibration under ``out`` and return its file; equal results give the same file.

    Raises RunError when the disk refuses.
    """
    assert calibration.digest == calibration.computed_digest(), "the calibration is not sealed"
    folder = out / _FOLDER
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{calibration.provenance.suite}-{short(calibration.digest)}.json"
    write_bytes(file, document(calibration.model_dump(mode="json")))
    return file


def read_calibration(file: Path) -> Calibration:
    """Return the calibration in a file.

    Raises UsageError when there is none, when it is none, or when it was changed after it was written.
    """
    calibration = checked(file, read_json(file), Calibration)
    if calibration.digest != calibration.computed_digest():
        message = "the calibration was changed after it was written"
        raise UsageError([Problem(str(file), None, "digest", message)])
    return calibration


@contextmanager
def kept_salt(out: Path, identity: str) -> Iterator[str]:
    """Yield random text for the calibration of a model whose bytes cannot be seen.

    It stays the same until a block ends well: an interrupted calibration resumes, a later one asks anew.
    """
    file = out / _FOLDER / f".{short(identity)}.salt"
    with disk_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            write_bytes(file, secrets.token_hex(16).encode())
        salt = file.read_text(encoding="ascii")
    yield salt
    with disk_errors(file):
        file.unlink(missing_ok=True)
