"""The ``transformers`` backend: a checkpoint in this process, on the CPU or on CUDA.

Weights are read from safetensors only, code that lies beside a checkpoint is never run, and a checkpoint that lacks
weights is refused (transformers would fill them with random numbers). Decoding follows the request alone: what
``generation_config.json`` sets (temperature, penalties) is ignored, but for the tokens that end an answer.

**Deviation.** A prompt that does not fit the model's window together with ``max_tokens`` is a fault, as on a vLLM
server; transformers itself would go on beyond the window.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import Field

from evalkit.errors import RunError, UsageError
from evalkit.ports import Progress
from evalkit.records.exchange import Checkpoint, Completion, FindCheckpoint, Model, Need, Request
from evalkit.records.suite import Spec
from evalkit.registry import register

if TYPE_CHECKING:
    from evalkit.backends.local_model import LocalModel

INSTALL: Final = "pip install 'evalkit-gates[transformers]'"


class TransformersArgs(Spec):
    """Options of the ``transformers`` backend."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs; ``auto`` takes CUDA where there is a GPU and torch was built for it."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the weights; ``auto`` is float32 on the CPU and the checkpoint's own on CUDA."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Most requests computed at once."""
    max_length: Annotated[int, Field(ge=3)] | None = None
    """Context length in tokens, where it is to be less than the checkpoint's own."""
    adapter: str | None = None
    """Folder or hub id of a LoRA adapter to put on the checkpoint (needs ``peft``)."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Processor threads; by default one for a model of under 20 million weights, else what torch takes."""


@register(
    "backend",
    "transformers",
    summary="A checkpoint in this process, on the CPU or on CUDA; needs no server.",
    example="--candidate models/candidate --model-arg batch_size=16 --model-arg dtype=bfloat16",
)
class TransformersBackend:
    """Answers with a checkpoint that transformers loads into this process."""

    Args: ClassVar[type[Spec]] = TransformersArgs

    def __init__(self, model: Model, args: TransformersArgs, adapter: str | None) -> None:
        """``model.location`` is the checkpoint's folder, ``adapter`` the adapter's."""
        self._model = model
        self._args = args
        self._adapter = adapter
        self._chat = has_chat_template(Path(model.location))
        self._loaded: LocalModel | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._unwanted = threading.Event()

    @classmethod
    def from_model(cls, name: str, args: Any, find_checkpoint: FindCheckpoint) -> Self:  # noqa: ANN401
        """Return a backend for a checkpoint folder or hub id, or for an adapter on its base; loads nothing.

        Raises UsageError where there is no such checkpoint, RunError where the libraries are missing.
        """
        assert isinstance(args, TransformersArgs)
        versions = {part: _version(part) for part in ("transformers", "torch", "tokenizers")}
        checkpoint, adapter = _base_and_adapter(name, args.adapter, find_checkpoint)
        device = _device(args.device, versions["torch"])
        engine: dict[str, Any] = {
            "backend": "transformers",
            **versions,
            "device": device,
            "dtype": _dtype(args.dtype, device, Path(checkpoint.location)),
        }
        if args.max_length is not None:
            engine["max_length"] = args.max_length
        if adapter is None:
            return cls(checkpoint.as_model(name, engine), args, None)
        engine |= {"adapter": adapter.digest, "peft": _version("peft")}
        model = checkpoint.as_model(name, engine)
        files = {f"adapter/{file}": held for file, held in adapter.files.items()}
        return cls(replace(model, files={**model.files, **files}), args, adapter.location)

    @property
    def model(self) -> Model:
        """The checkpoint on this engine, known by its bytes."""
        return self._model

    @property
    def provides(self) -> frozenset[Need]:
        """Everything; chat only where the checkpoint has a chat template."""
        return frozenset({"text", "logprobs", "chat"} if self._chat else {"text", "logprobs"})

    @property
    def batch_size(self) -> int:
        """Most requests computed at once."""
        return self._args.batch_size

    @property
    def concurrency(self) -> int:
        """One: a batch takes the whole device."""
        return 1

    async def open(self, progress: Progress) -> None:
        """Load tokenizer and weights. Raises RunError where they cannot be loaded."""
        if self._loaded is not None:
            return
        # One thread: torch takes all cores by itself, and a call that nobody waits for must end before the next.
        self._thread = self._thread or ThreadPoolExecutor(1, "transformers")
        started = perf_counter()
        loading = asyncio.get_running_loop().run_in_executor(self._thread, self._load)
        while not loading.done():
            progress.step(f"loading {self._model.name}: {perf_counter() - started:.0f} s")
            await asyncio.wait([loading], timeout=1.0)
        self._loaded = loading.result()

    def _load(self) -> LocalModel:
        from evalkit.backends.local_model import load  # imports torch and transformers

        engine, args = self._model.engine, self._args
        return load(
            Path(self._model.location),
            device=engine["device"],
            dtype=engine["dtype"],
            rows=args.batch_size,
            max_length=args.max_length,
            threads=args.threads,
            adapter=None if self._adapter is None else Path(self._adapter),
        )

    async def answer(self, requests: Sequence[Request]) -> Sequence[Completion]:
        """Return one completion per request, in order; raises Fault."""
        assert self._loaded is not None, "a backend is opened before it is asked"
        self._unwanted = unwanted = threading.Event()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(
                self._thread, self._loaded.answer, requests, unwanted.is_set
            )
        finally:
            unwanted.set()  # where the wait was cancelled, the work is too

    async def close(self) -> None:
        """Forget the model."""
        self._unwanted.set()
        self._loaded = None
        if self._thread is not None:
            self._thread.shutdown(wait=False)
            self._thread = None

    def engine(self) -> Mapping[str, Any]:
        """Return how the model is run, as far as that cannot change an answer."""
        return {"batch_size": self._args.batch_size, **(self._loaded.facts if self._loaded else {})}


def has_chat_template(folder: Path) -> bool:
    """Return whether a checkpoint folder holds a chat template."""
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return True
    return bool(_json(folder / "tokenizer_config.json").get("chat_template"))


def _base_and_adapter(
    name: str, adapter: str | None, find_checkpoint: FindCheckpoint
) -> tuple[Checkpoint, Checkpoint | None]:
    """Return the checkpoint and the adapter on it; a model that is an adapter alone names its base itself."""
    found = find_checkpoint(name)
    place = Path(found.location)
    base = _json(place / "adapter_config.json").get("base_model_name_or_path")
    if (place / "config.json").is_file() or not isinstance(base, str):
        return found, None if adapter is None else find_checkpoint(adapter)
    if adapter is not None:
        raise UsageError(f"{name!r} is an adapter; it takes no second one (adapter={adapter})")
    beside = place / base
    return find_checkpoint(str(beside.resolve()) if beside.is_dir() else base), found


def _device(wanted: str, torch_version: str) -> str:
    """Return where the model will run, seen without importing torch."""
    if wanted != "auto":
        return wanted
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    present = any(Path(node).exists() for node in ("/dev/nvidiactl", "/dev/dxg"))
    return "cuda" if present and not hidden and "+cpu" not in torch_version else "cpu"


def _dtype(wanted: str, device: str, folder: Path) -> str:
    """Return the number format of the weights; float32 where a checkpoint does not tell its own."""
    if wanted != "auto" or device == "cpu":
        return "float32" if wanted == "auto" else wanted
    config = _json(folder / "config.json")
    for held in (config, config.get("text_config") or {}):
        stated = held.get("dtype") or held.get("torch_dtype")
        if stated in ("float32", "bfloat16", "float16"):
            return str(stated)
    return "float32"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError as error:
        advice = "pip install peft" if package == "peft" else INSTALL
        raise RunError(
            f"the transformers backend needs {package}, not installed", advice
        ) from error


def _json(path: Path) -> dict[str, Any]:
    """Return what a JSON file of a checkpoint says; nothing where it is absent or no object."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
