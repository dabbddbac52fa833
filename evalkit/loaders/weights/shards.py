"""Which safetensors files of a folder are its checkpoint.

An index (``*.safetensors.index.json``) decides; without one ``model.safetensors`` is the checkpoint, else every
safetensors file that is no adapter's. Where loaders would disagree (transformers reads ``model.safetensors`` though
an index lies beside it, vLLM reads the shards), that is a fault.
"""

from __future__ import annotations

import errno
import json
import re
from pathlib import Path

from evalkit.loaders.files import unreadable
from evalkit.records.weights import NO_WEIGHT, StructureFault

CHECK = "integrity.unreadable"
"""The check that every fault of a file fails."""
INDEX = "model.safetensors.index.json"
"""The index that counts where there are several."""

_SHARD = re.compile(r"(?P<stem>.*)-(?P<number>\d+)-of-(?P<count>\d+)\.safetensors")


def file_fault(tensor: str | None, message: str) -> StructureFault:
    """Return what is wrong with a file, or with one tensor in it."""
    return StructureFault(CHECK, tensor, message)


def find_files(folder: Path) -> tuple[list[Path], dict[str, str], list[StructureFault]]:
    """Return the files of a checkpoint that exist, the index (tensor → file), and what is wrong with either."""
    found = [p for p in sorted(folder.glob("*.safetensors")) if not p.name.startswith("adapter_")]
    indices = sorted(folder.glob("*.safetensors.index.json"))
    if (folder / INDEX) in indices:
        indices = [folder / INDEX]
    promised: dict[str, str] = {}
    faults: list[StructureFault] = []
    for index in indices:
        promised |= _index(index, faults)
    if promised:
        named = sorted(set(promised.values()))
        for shard in named:
            if not _is_there(folder / shard):
                lost = sum(file == shard for file in promised.values())
                faults.append(file_fault(None, f"{shard} is missing, with {lost} tensors"))
        single = folder / "model.safetensors"
        if single.is_file() and single.name not in named:
            why = "some loaders read it and others the shards"
            faults.append(
                file_fault(None, f"model.safetensors lies beside {indices[0].name}: {why}")
            )
        return [folder / shard for shard in named if _is_there(folder / shard)], promised, faults
    if folder / "model.safetensors" in found:
        found = [folder / "model.safetensors"]
    return found, {}, faults + _shards_missing(found)


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise unreadable(path, error) from error


def _index(path: Path, faults: list[StructureFault]) -> dict[str, str]:
    try:
        weight_map = json.loads(path.read_bytes())["weight_map"]
        named = {str(name): str(shard) for name, shard in weight_map.items()}
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        faults.append(file_fault(None, f"{path.name} is damaged or no index"))
        return {}
    inside = {name: shard for name, shard in named.items() if shard == Path(shard).name}
    faults += [
        file_fault(name, f"{path.name} places {name} outside the folder")
        for name in sorted(named.keys() - inside.keys())
    ]
    return inside


def _shards_missing(found: list[Path]) -> list[StructureFault]:
    """Return a fault for each shard whose name says that there are more than there are, where no index lists them."""
    counted: dict[tuple[str, int], set[int]] = {}
    for path in found:
        if shard := _SHARD.fullmatch(path.name):
            counted.setdefault((shard["stem"], int(shard["count"])), set()).add(
                int(shard["number"])
            )
    return [
        file_fault(
            None, f"{stem}: {len(numbers)} of {count} shards are there, and no index lists them"
        )
        for (stem, count), numbers in sorted(counted.items())
        if len(numbers) < count
    ]


def left_out(folder: Path) -> dict[str, str]:
    """Return safetensors files of a checkpoint's folder that are no part of it → why."""
    files, promised, _ = find_files(folder)
    why = "the index does not name this file" if promised else "model.safetensors is the checkpoint"
    return {
        path.name: NO_WEIGHT + ("an adapter's file" if path.name.startswith("adapter_") else why)
        for path in sorted(folder.glob("*.safetensors"))
        if path not in files
    }
