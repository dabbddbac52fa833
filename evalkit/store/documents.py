"""Records as JSON files for people to read, and back, with all that is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import orjson
from pydantic import ValidationError

from evalkit.errors import Problem, RunError, UsageError
from evalkit.records.declared import Declared

AnyRecord = TypeVar("AnyRecord", bound=Declared)


def document(value: Mapping[str, Any]) -> bytes:
    """Return a JSON object indented, in UTF-8; numbers are the shortest that read back the same."""
    try:
        return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:  # a lone surrogate: escape it
        return json.dumps(value, allow_nan=False, indent=2).encode() + b"\n"


def read_json(file: Path, why_absent: str = "there is no such file") -> Any:  # noqa: ANN401 - any JSON value
    """Return what a JSON file holds.

    Raises UsageError where there is none (``why_absent`` says what that means) or it is no JSON, RunError where it
    cannot be read.
    """

    def wrong(message: str, line: int | None = None) -> UsageError:
        return UsageError([Problem(str(file), line, "", message)])

    try:
        return json.loads(file.read_bytes(), parse_constant=_refuse)
    except FileNotFoundError:
        raise wrong(why_absent) from None
    except OSError as error:
        message = f"{file} cannot be read: {error.strerror}"
        raise RunError(message, "check its permissions") from error
    except json.JSONDecodeError as error:
        raise wrong(f"not JSON: {error.msg}", error.lineno) from error
    except ValueError as error:  # not UTF-8, or NaN
        raise wrong(f"not JSON: {error}") from error


def checked(file: Path, content: Any, record: type[AnyRecord]) -> AnyRecord:  # noqa: ANN401
    """Return a file's content as a record. Raises UsageError with all that is wrong, or where its format is newer."""

    def wrong(message: str, key: str, allowed: str = "") -> Problem:
        return Problem(str(file), None, key, message, allowed)

    written = content.get("format") if isinstance(content, dict) else None
    known = record.model_fields["format"].default if "format" in record.model_fields else None
    if isinstance(written, int) and known is not None and written > known:
        message = f"format {written} was written by a newer evalkit; update evalkit to read it"
        raise UsageError([wrong(message, "format", str(known))])
    if isinstance(written, int) and known is not None and written < known:
        message = (
            f"format {written} was written by an older evalkit; run the command that wrote it again"
        )
        raise UsageError([wrong(message, "format", str(known))])
    try:
        return record.model_validate(content)
    except ValidationError as error:
        faults = error.errors()
        lacking, foreign = (
            [_key_path(f["loc"]) for f in faults if f["type"] == kind and len(f["loc"]) == 1]
            for kind in ("missing", "extra_forbidden")
        )
        if lacking and foreign:  # another kind of file: what else is wrong with it helps nobody
            message = f"this is no {record.__name__.lower()}: it lacks {', '.join(lacking)}"
            raise UsageError([wrong(message, "")]) from error
        raise UsageError([wrong(f["msg"], _key_path(f["loc"])) for f in faults]) from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _key_path(place: Sequence[str | int]) -> str:
    """Return ``tasks[0].counts`` for ``("tasks", 0, "counts")``."""
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in place).removeprefix(".")
