"""From the names a user gives to backends: which backend answers for which model."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from evalkit.errors import Problem, RunError, UsageError
from evalkit.ports import Backend
from evalkit.records.exchange import FindCheckpoint
from evalkit.registry import find, nearest

BACKENDS = ("auto", "transformers", "vllm", "openai", "replay")


def backend_name(requested: str, model: str) -> str:
    """Return the backend for a model: by what the model is, else as requested.

    A URL is a running server and a ``.jsonl`` file holds recorded answers, whatever was requested; for
    checkpoints ``auto`` takes vLLM where a GPU and vLLM are found, else transformers.
    """
    if model.startswith(("http://", "https://")):
        return "openai"
    if model.endswith(".jsonl"):
        return "replay"
    if requested == "auto":
        return "vllm" if _has_gpu() and _has_vllm() else "transformers"
    return requested


def _has_gpu() -> bool:
    return shutil.which("nvidia-smi") is not None and Path("/dev/nvidiactl").exists()


def _has_vllm() -> bool:
    from evalkit.backends.vllm_command import find_installation

    try:
        find_installation(None)
    except RunError:
        return False
    return True


def arguments_for(role: str, given: Mapping[str, str]) -> dict[str, str]:
    """Return the model arguments of one role: plain keys hold for both, ``baseline.key`` for one."""
    plain = {k: v for k, v in given.items() if not k.startswith(("candidate.", "baseline."))}
    own = {k.removeprefix(f"{role}."): v for k, v in given.items() if k.startswith(f"{role}.")}
    return plain | own


def open_model(
    requested: str, model: str, arguments: Mapping[str, str], find_checkpoint: FindCheckpoint
) -> Backend:
    """Return the backend that answers for a model; nothing is loaded yet. Raises UsageError."""
    name = backend_name(requested, model)
    kind: type[Backend] = find("backend", name).make
    try:
        parsed = kind.Args.model_validate(dict(arguments))
    except ValidationError as error:
        known = sorted(kind.Args.model_fields)
        problems = []
        for fault in error.errors():
            key = ".".join(map(str, fault["loc"]))
            unknown = fault["type"] == "extra_forbidden"
            message = f"the {name} backend has no such argument" if unknown else fault["msg"]
            close = nearest(key, known) if unknown else ""
            allowed = ", ".join(known) if unknown else ""
            problems.append(Problem("--model-arg", None, key, message, allowed, close))
        raise UsageError(problems) from error
    return kind.from_model(model, parsed, find_checkpoint)
