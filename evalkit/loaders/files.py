"""Reading files that others wrote: what the system refuses, and JSON objects."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalkit.errors import RunError, UsageError


def unreadable(path: Path, error: OSError) -> RunError:
    """Return the error of a file that the system does not open or read."""
    return RunError(f"{path} cannot be read: {error.strerror}", "check the file and its rights")


def json_object(path: Path) -> Mapping[str, Any]:
    """Return the object that a JSON file holds.

    Raises UsageError where it holds something else, or is nested deeper than can be read; RunError where it cannot be
    opened or read.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{str(path)!r} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{str(path)!r} holds no JSON object")
    return content
