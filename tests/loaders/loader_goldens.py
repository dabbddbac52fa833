"""Compares a text with the one kept beside the tests; ``UPDATE_GOLDENS=1`` writes it anew."""

from __future__ import annotations

import os
from pathlib import Path


def assert_golden(path: Path, text: str) -> None:
    if os.environ.get("UPDATE_GOLDENS") == "1":
        path.write_text(text, encoding="utf-8")
    assert path.is_file(), f"{path.name} is missing; UPDATE_GOLDENS=1 writes it"
    assert text == path.read_text(encoding="utf-8"), (
        f"{path.name} has changed; UPDATE_GOLDENS=1 writes it anew"
    )
