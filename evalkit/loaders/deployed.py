"""The files of a model that is to be deployed, as a run would name them, each read in full: no cache is believed."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final

from evalkit.errors import UsageError
from evalkit.loaders.checkpoints import find_checkpoint
from evalkit.loaders.file_digests import FileDigests

ADAPTER: Final = "adapter/"
"""Before the files of an adapter that was put on a model."""
BASE: Final = "base/"
"""Before the files of the model that an adapter names as its base."""


def deployed_files(
    place: Path, adapter: Path | None, recorded: Collection[str], *, replayed: bool = False
) -> tuple[dict[str, str], list[str]]:
    """Return name → SHA-256 of every file of a checkpoint that can change an answer, and what is wrong with it.

    ``recorded`` are the names that the run gave: where it put an adapter on a model, ``place`` may be that adapter, or
    the model with ``adapter`` beside it. Of a folder that cannot be read as a checkpoint, those of them that are there
    are returned. ``replayed``: the place holds recorded answers, in a file or a folder. Raises RunError where a file
    cannot be read.
    """
    if replayed:
        paths = sorted(place.glob("*.jsonl")) if place.is_dir() else [place]
        others = sorted({*place.iterdir()} - {*paths}) if place.is_dir() else []
        told = f"the run scored recorded answers and saw no weights, yet {str(place)!r} holds more than those"
        unseen = (
            [f"{told}: {others[0].name}; sign a run of the checkpoint itself"] if others else []
        )
        return {path.name: FileDigests(None)(path) for path in paths if path.is_file()}, unseen
    wrong: list[str] = []
    files = _files(place, recorded, wrong)
    if adapter is not None:
        own = [n.removeprefix(ADAPTER) for n in recorded if n.startswith(ADAPTER)]
        put_on = _files(adapter, own, wrong)
        return {**files, **_under(ADAPTER, put_on)}, wrong
    of_base = {n.removeprefix(BASE): sha for n, sha in files.items() if n.startswith(BASE)}
    if of_base and any(name.startswith(ADAPTER) for name in recorded):
        return {**of_base, **_under(ADAPTER, files)}, wrong
    return files, wrong


def _files(place: Path, recorded: Collection[str], wrong: list[str]) -> dict[str, str]:
    digest_file = FileDigests(None)
    try:
        found = find_checkpoint(
            str(place.absolute()), folder=place, digest_file=digest_file, whole=False
        )
        return dict(found.files)
    except UsageError as error:
        wrong.append(str(error))
        return {n: digest_file(place / n) for n in sorted(recorded) if (place / n).is_file()}


def _under(prefix: str, files: dict[str, str]) -> dict[str, str]:
    return {f"{prefix}{name}": sha256 for name, sha256 in files.items()}
