"""Finds a checkpoint, in a folder or on the Hugging Face hub, and knows it by its bytes.

The digest covers every file that can change an answer (weights, adapter, configuration, tokenizer, chat template,
the checkpoint's own code) and nothing else: not where it lies, not its README, not an optimizer's state.

A model that is to answer must be whole. Whoever looks at the weights alone wants to say what is wrong with them, so
for them a damaged checkpoint is found too, as long as it holds weights at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from evalkit.errors import UsageError
from evalkit.identity import digest
from evalkit.loaders.files import json_object
from evalkit.loaders.weights.headers import read_file
from evalkit.records.exchange import Checkpoint
from evalkit.registry import nearest

DigestFile = Callable[[Path], str]

RELEVANT = (
    "*.json", "*.safetensors", "*.gguf", "*.jinja", "*.model", "*.tiktoken", "*.py",
    "vocab*.txt", "merges*.txt", "dict.txt", "*.codes", "*.spm", "tokenizer.model*",
    "additional_chat_templates/*.jinja", "custom_generate/*",
)  # fmt: skip
"""Files that can change an answer."""
IRRELEVANT = ("trainer_state.json", "*_results.json", "modelcard.json")
"""Files named like them that cannot."""
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
"""Weights in Python's pickle format, which runs code when it is read."""
NOT_WEIGHTS = (
    "training_args.bin", "optimizer*", "scheduler*", "rng_state*", "scaler*", "random_states*",
)  # fmt: skip
"""Files named like pickled weights that a training leaves."""
HASHED_AT_ONCE = 4
"""Files digested side by side."""

_HUB_ID = re.compile(r"(?P<id>[\w.-]+/[\w.-]+|[\w.-]+)(@(?P<revision>[\w./-]+))?")


def find_checkpoint(
    name: str, *, folder: Path, digest_file: DigestFile, whole: bool = True
) -> Checkpoint:
    """Return the checkpoint that ``name`` means: a folder relative to ``folder`` or to the current one, or a hub id.

    A hub id may end in ``@revision``. Raises UsageError where there is none, or, if it must be ``whole``, where what is
    there is not; RunError where a file of it cannot be read.
    """
    place = _find(name, folder)
    if whole:
        check_whole(place)
    found = _weights_at(place, name, digest_file, None)  # an adapter's answers are its base's too
    return Checkpoint(str(place), found.files, found.digest)


@dataclass(frozen=True, slots=True)
class FoundWeights:
    """A model's weights as they lie on disk, whole or damaged, known by their bytes."""

    name: str
    """As the user named the model."""
    folder: Path
    """The checkpoint; of an adapter, the base model's that it is put on."""
    adapter: Path | None
    """The adapter that is put on it; None where the model is a whole checkpoint."""
    files: Mapping[str, str]
    """File → SHA-256; the base model's begin with ``base/``."""

    @property
    def digest(self) -> str:
        """Digest of the files."""
        return digest(dict(self.files))


def find_weights(
    name: str, *, folder: Path, digest_file: DigestFile, put_on: FoundWeights | None = None
) -> FoundWeights:
    """Return the weights that ``name`` means, found as ``find_checkpoint`` finds them but damaged ones too.

    An adapter is put on the base model that it names; where that is not to be found, on ``put_on``. Raises UsageError
    where there is no such folder, where it holds no weights at all, or an adapter whose base is nowhere.
    """
    return _weights_at(_find(name, folder), name, digest_file, put_on)


def _weights_at(
    place: Path, name: str, digest_file: DigestFile, put_on: FoundWeights | None
) -> FoundWeights:
    base_name = _base_of(place)
    files = _digests(place, digest_file)
    if base_name is None:
        return FoundWeights(name, place, None, files)
    try:
        base = _base_folder(base_name, place)
        base_files = _digests(base, digest_file)
    except UsageError:
        if put_on is None or put_on.adapter is not None:
            raise
        base, base_files = put_on.folder, dict(put_on.files)
    files |= {f"base/{file}": sha256 for file, sha256 in base_files.items()}
    return FoundWeights(name, base, place, files)


def find_adapter(name: str, *, folder: Path, digest_file: DigestFile) -> FoundWeights:
    """Return an adapter by itself, whatever became of its base model. Raises UsageError where ``name`` means none."""
    place = _find(name, folder)
    if not (place / "adapter_config.json").is_file():
        raise UsageError(f"{str(place)!r} is no adapter: it holds no adapter_config.json")
    return FoundWeights(name, place, place, _digests(place, digest_file))


def check_whole(place: Path) -> None:
    """Raise UsageError unless a folder holds a whole checkpoint, or an adapter whose base model is one."""
    _check_shards(place)
    base_name = _base_of(place)
    _check_files(place, needs_config=base_name is None)
    if base_name is not None:
        base = _base_folder(base_name, place)
        _check_shards(base)
        _check_files(base, needs_config=True)


def _find(name: str, folder: Path) -> Path:
    return _local(name, folder) or _from_hub(name, folder)


def _local(name: str, folder: Path) -> Path | None:
    if not name.strip():
        raise UsageError("no checkpoint: the name is empty")
    for place in (folder / Path(name).expanduser(), Path(name).expanduser().absolute()):
        try:
            if place.is_dir():
                return place.resolve()
            if place.exists():
                raise UsageError(f"{str(place)!r} is a file; a checkpoint is a folder")
        except OSError as error:  # a name too long for the file system, a folder nobody may read
            raise UsageError(f"no checkpoint {name!r}: {error.strerror}") from error
    return None


def _from_hub(name: str, folder: Path) -> Path:
    hub_id = _HUB_ID.fullmatch(name)
    parent = (folder / name).parent
    begins_locally = "/" in name and (folder / Path(name).parts[0]).is_dir()
    if hub_id is None or begins_locally:
        raise UsageError(_nowhere(name, parent, "there is no such folder"))
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError
    except ImportError as error:
        why = "there is no such folder, and hub ids need: pip install 'evalkit-gates[transformers]'"
        raise UsageError(_nowhere(name, parent, why)) from error
    try:
        found = snapshot_download(
            hub_id["id"],
            revision=hub_id["revision"],
            allow_patterns=list(RELEVANT),
            ignore_patterns=["*/*"],
        )
    except (
        OSError,
        HFValidationError,
    ) as error:  # what the hub and the network raise is an OSError
        told = str(error).strip().splitlines()[0]
        why = f"there is no such folder, and the hub gives none: {told}"
        raise UsageError(_nowhere(name, parent, why)) from error
    return Path(found)


def _nowhere(name: str, parent: Path, why: str) -> str:
    beside = parent.iterdir() if parent.is_dir() else ()
    close = nearest(Path(name).name, sorted(entry.name for entry in beside if entry.is_dir()))
    hint = f"; did you mean {str(Path(name).with_name(close))!r}?" if close else ""
    return f"no checkpoint {name!r}: {why}{hint}"


def _relevant(place: Path) -> Iterator[Path]:
    for pattern in RELEVANT:
        for path in place.glob(pattern):
            if path.is_file() and not any(fnmatchcase(path.name, p) for p in IRRELEVANT):
                yield path


def _digests(place: Path, digest_file: DigestFile) -> dict[str, str]:
    _refuse_shards_elsewhere(place)
    paths = sorted(set(_relevant(place)))
    with ThreadPoolExecutor(HASHED_AT_ONCE) as threads:
        found = list(threads.map(digest_file, paths))
    return {path.relative_to(place).as_posix(): sha for path, sha in zip(paths, found, strict=True)}


def _base_of(place: Path) -> str | None:
    """Return the base model's name where a folder holds an adapter alone.

    Raises UsageError where it holds no weights.
    """
    weights = _weights(place)
    if not weights:
        raise UsageError(
            f"{str(place)!r} holds no weights (*.safetensors, *.gguf){instead_of_weights(place)}"
        )
    own = [path for path in weights if not path.name.startswith("adapter_")]
    if own or not (place / "adapter_config.json").is_file():
        return None
    base = json_object(place / "adapter_config.json").get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise UsageError(
            f"{str(place)!r}: adapter_config.json names no base model (base_model_name_or_path)"
        )
    return base


def _base_folder(name: str, adapter: Path) -> Path:
    """Return the base model's folder, as the adapter names it."""
    base = _find(name, adapter)
    if _base_of(base) is not None:
        raise UsageError(f"{str(adapter)!r} is an adapter of {name!r}, which is an adapter itself")
    return base


def _weights(place: Path) -> list[Path]:
    return sorted([*place.glob("*.safetensors"), *place.glob("*.gguf")])


def _check_shards(place: Path) -> None:
    """Refuse a folder in which shards are missing."""
    for index in sorted(place.glob("*.safetensors.index.json")):
        shards = sorted(set(json_object(index).get("weight_map", {}).values()))
        absent = [shard for shard in shards if not (place / str(shard)).is_file()]
        if absent:
            raise UsageError(
                f"{str(place)!r}: {len(absent)} of {len(shards)} shards that {index.name} names are missing: "
                f"{', '.join(map(str, absent[:5]))}{' …' if len(absent) > 5 else ''}"
            )


def _refuse_shards_elsewhere(place: Path) -> None:
    """Refuse an index that names weights outside its folder: engines read them, and no digest here would see them."""
    for index in sorted(place.glob("*.safetensors.index.json")):
        try:
            shards = json_object(index).get("weight_map")
        except UsageError:
            continue  # no engine reads it either
        named = {str(shard) for shard in shards.values()} if isinstance(shards, dict) else set()
        if away := sorted(shard for shard in named if Path(shard).name != shard):
            raise UsageError(
                f"{str(place)!r}: {index.name} names weights outside the folder ({away[0]!r}): put all beside it"
            )


def _check_files(place: Path, *, needs_config: bool) -> None:
    """Refuse weights that are cut off or damaged, or that need a configuration and have none."""
    weights = _weights(place)
    for path in weights:
        _check_header(path)
    has_config = any((place / name).is_file() for name in ("config.json", "params.json"))
    if needs_config and not has_config and not any(path.suffix == ".gguf" for path in weights):
        raise UsageError(f"{str(place)!r} holds weights but no config.json")


def instead_of_weights(place: Path) -> str:
    """Say what a folder without weights holds that may have been meant."""
    pickled = sorted(
        path.name
        for pattern in PICKLED
        for path in place.glob(pattern)
        if not any(fnmatchcase(path.name, other) for other in NOT_WEIGHTS)
    )
    if pickled:
        return (
            f", only pickled ones ({pickled[0]}), which run code when they are read; convert them: "
            "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder, safe_serialization=True)"
        )
    inside = sorted(path.parent.name for path in place.glob("*/*.safetensors"))
    return f"; did you mean {str(place / inside[-1])!r}?" if inside else ""


def _check_header(path: Path) -> None:
    """Refuse a safetensors file that is cut off, damaged or a pointer; the numbers themselves are not read."""
    if path.suffix != ".safetensors":
        return
    _, faults = read_file(path)
    if faults:
        raise UsageError(f"{str(path.parent)!r}: {faults[0].message}")
