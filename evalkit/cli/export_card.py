"""A model card as it lies beside a checkpoint: read as it is, and held against the model that was measured."""

from __future__ import annotations

from pathlib import Path

from evalkit.cli.past_runs import PastRun
from evalkit.errors import Problem, RunError, UsageError
from evalkit.loaders.file_digests import FileDigests
from evalkit.records.exchange import Role
from evalkit.records.scorecard import ModelRecord

WEIGHTS = ("*.safetensors", "*.gguf")
"""Files beside a card that must have been measured."""


def held_against(folder: Path, measured: ModelRecord, *, anyway: bool) -> tuple[str, str]:
    """Return what the card and the terminal say of the files beside the card, held against those that were measured.

    Raises UsageError where they are others, unless that is asked for.
    """
    own = {file: sha256 for file, sha256 in measured.files.items() if not file.startswith("base/")}
    there = [file for file in own if (folder / file).is_file()]
    weights = {path.name for pattern in WEIGHTS for path in folder.glob(pattern)}
    if not own or not (there or weights):
        why = "none lies there" if own else "the run knows none of its model's files"
        return "", f"not checked that the card is of the measured model: {why}"
    digest = FileDigests(None)
    others = [file for file in own if file not in there or digest(folder / file) != own[file]]
    others += sorted(weights - own.keys())
    if not others:
        return "", ""
    what = f"{len(others)} of {len(own.keys() | weights)} files beside the card are not those that were measured"
    if not anyway:
        raise UsageError(
            f"{folder}: {what} ({', '.join(sorted(others)[:5])}); run the suite on this model, or say --anyway"
        )
    return f"The files beside this card are not those that were measured: {what}.", what


def text_of(file: Path) -> str:
    """Return a card as it is, line ends included; empty where there is none yet."""
    try:
        return file.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        problem = Problem(str(file), None, "", "the card is not UTF-8; save it as UTF-8")
        raise UsageError([problem]) from error
    except OSError as error:
        raise RunError(f"{file} cannot be read: {error.strerror}", "check the path") from error


def model_name(past: PastRun, role: Role, file: Path | None) -> str:
    """Return the folder's name, or that of the model as the user gave it."""
    if file is not None:
        return file.absolute().parent.name or role
    named = past.scorecard.circumstances.names.get(role, role)
    return named.rstrip("/").rpartition("/")[2] or role
