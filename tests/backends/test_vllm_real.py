"""The ``vllm`` and ``openai`` backends on a real vLLM server, compared with forward passes of transformers."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from tiny_checkpoints import find
from tiny_llama import BOS_ID, CONTEXT, EOS_ID, Reference, write_adapter, write_llama

from evalkit.backends.openai import OpenAIArgs, OpenAIBackend
from evalkit.backends.vllm_command import VllmArgs, find_installation
from evalkit.backends.vllm_server import VllmBackend
from evalkit.errors import Fault, RunError
from evalkit.metrics.windows import rolling_windows
from evalkit.records.exchange import Decoding, Message, Request, Window

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

PROMPTS = ["The order of", "seven green apples", "¿Qué? ✓", "a", "fox " * 20]
CLOSE = pytest.approx  # both compute in float32
NATS = 1e-3


class Silent:
    def step(self, text):
        pass

    def advance(self, done, total, failed=0):
        pass


@pytest.fixture(scope="module", autouse=True)
def _logs_vanish(tmp_path_factory):
    """Logs of servers that died are kept, for the user; these tests are none."""
    tmp_path_factory.getbasetemp()  # made before the folder below, or other modules' files would vanish with it
    with tempfile.TemporaryDirectory(prefix="ek-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", folder)
        yield


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return write_llama(tmp_path_factory.mktemp("llama") / "base")


@pytest.fixture(scope="module")
def adapter(llama):
    return write_adapter(llama.parent / "lora", llama)


@pytest.fixture(scope="module")
def reference(llama):
    return Reference(llama)


def backend_for(folder, **args):
    return VllmBackend.from_model(str(folder), VllmArgs(**args), find)


@pytest.fixture(scope="module")
def running():
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def served(llama, running):
    backend = backend_for(llama)
    running.run(backend.open(Silent()))
    yield backend
    running.run(backend.close())


@pytest.fixture(scope="module")
def asked_as_vllm(served, running):
    """The same server as one that somebody else started."""
    with pytest.MonkeyPatch.context() as patch:
        key = served._served._client._headers["Authorization"].removeprefix("Bearer ")
        patch.setenv("EVALKIT_API_KEY", key)
        args = OpenAIArgs(tokenizer=served.model.location)
        backend = OpenAIBackend.from_model(
            f"http://127.0.0.1:{served.engine()['port']}/v1", args, find
        )
    running.run(backend.open(Silent()))
    yield backend
    running.run(backend.close())


@pytest.fixture(scope="module")
def asked_plainly(asked_as_vllm, running):
    """The same server as one that is not known to be vLLM: log-probabilities come by echo."""
    known = asked_as_vllm
    plain = dataclasses.replace(known._server, dialect="openai")
    backend = OpenAIBackend(known.model, plain, None, known._tokenizer, 16)
    backend._served._client = known._served._client
    running.run(backend.open(Silent()))
    return backend


@pytest.fixture(params=["served", "asked_as_vllm", "asked_plainly"])
def backend(request):
    return request.getfixturevalue(request.param)


def ask(running, backend, *requests):
    async def run():
        async def one(request):
            try:
                return (await backend.answer([request]))[0]
            except Fault as fault:
                return fault

        return await asyncio.gather(*map(one, requests))

    return running.run(run())


def text(prompt, most=16, stop=(), temperature=0.0, seed=None):
    decoding = Decoding(most, temperature, 1.0, stop, seed)
    return Request("r", "s", "t", "generate", prompt, decoding=decoding)


def continuation(prompt, choice):
    return Request("r", "s", "t", "loglikelihood", prompt, continuation=choice)


def perplexity(document, window):
    return Request("r", "s", "t", "rolling", document, window=window)


def decoded(reference, ids):
    """Half a character at the end of an answer that was cut off is left out by vLLM, shown as U+FFFD by others."""
    return reference.tokenizer.decode(ids, skip_special_tokens=True).rstrip("\ufffd")


# -- answers ---------------------------------------------------------------------------------------


def test_greedy_answers_are_those_of_transformers(running, served, asked_as_vllm, reference):
    """Also: the checkpoint's generation_config.json (temperature 3, penalty 5, 2 tokens) has no say."""
    for backend in (served, asked_as_vllm):
        for prompt, completion in zip(
            PROMPTS, ask(running, backend, *map(text, PROMPTS)), strict=True
        ):
            ids = reference.tokenizer(prompt).input_ids
            written = reference.continued(ids, 16)
            assert completion.text.rstrip("\ufffd") == decoded(reference, written)
            assert completion.prompt_tokens == len(ids)
            assert completion.completion_tokens == len(written)
            assert completion.finish_reason == ("stop" if written[-1] == EOS_ID else "length")


def test_a_chat_goes_through_the_checkpoints_own_template(running, served, reference):
    messages = (Message("system", "Be brief."), Message("user", "Hi ✓"))
    decoding = Decoding(12, 0.0, 1.0, (), None)
    request = Request("r", "s", "t", "generate", "", messages=messages, decoding=decoding)
    [completion] = ask(running, served, request)
    prompt = "[system] Be brief.\n[user] Hi ✓\n[assistant]"
    ids = reference.tokenizer(prompt).input_ids
    assert ids[0] == BOS_ID
    assert ids[1] != BOS_ID
    assert completion.prompt_tokens == len(ids)
    assert completion.text.rstrip("\ufffd") == decoded(reference, reference.continued(ids, 12))


def test_a_stop_text_ends_an_answer_and_is_no_part_of_it(running, served):
    [whole] = ask(running, served, text("The order of", 40))
    stop = whole.text[5:8]
    [stopped] = ask(running, served, text("The order of", 40, (stop,)))
    assert stopped.text == whole.text[: whole.text.index(stop)]
    assert stopped.finish_reason == "stop"


def test_a_seed_makes_a_sampled_answer_repeatable(running, served):
    asked = [text("The order of", 16, (), 1.0, seed) for seed in (1, 1, 2, 3)]
    first, again, *others = (c.text for c in ask(running, served, *asked))
    assert first == again
    assert {first} != set(others)


def test_a_prompt_beyond_the_context_is_a_fault_of_its_own(running, backend):
    asked = [
        text("fox " * 200),
        text("fox", CONTEXT * 3),
        continuation("fox " * 200, "dog"),
    ]
    faults = ask(running, backend, *asked)
    assert {getattr(fault, "kind", fault) for fault in faults} == {"context_length"}


def test_an_answer_is_never_cut_short_unseen(running, served):
    """vLLM lowers ``max_tokens`` silently to what fits: an answer that needed more is a fault, not an answer."""
    outcomes = ask(running, served, *(text(f"fox {n}", CONTEXT - 2) for n in range(12)))
    faults = [outcome for outcome in outcomes if isinstance(outcome, Fault)]
    assert {fault.kind for fault in faults} <= {"context_length"}
    assert {o.finish_reason for o in outcomes if o not in faults} <= {"stop"}
    assert faults


# -- log-probabilities -----------------------------------------------------------------------------


def test_a_continuations_log_probabilities_are_those_of_one_forward_pass(
    running, backend, reference
):
    pairs = [(prompt, choice) for prompt in PROMPTS for choice in (" yes", " no, never", "✓")]
    for (prompt, choice), completion in zip(
        pairs, ask(running, backend, *(continuation(*pair) for pair in pairs)), strict=True
    ):
        context = reference.tokenizer(prompt.rstrip()).input_ids
        whole = reference.tokenizer(prompt + choice).input_ids
        expected = reference.logprobs(whole)[len(context) - 1 :]
        assert completion.logprobs == CLOSE(expected, abs=NATS)


@pytest.mark.parametrize(
    "window", [Window(None, 1, "bos"), Window(40, 1, "bos"), Window(40, 30, "none")]
)
def test_a_long_texts_log_probabilities_are_those_of_its_windows(
    running, backend, reference, window
):
    document = "The order of seven green apples; the fox jumps. " * 12
    [completion] = ask(running, backend, perplexity(document, window))
    ids = reference.tokenizer(document, add_special_tokens=False).input_ids
    assert len(ids) > CONTEXT
    whole = [BOS_ID, *ids] if window.prefix == "bos" else ids
    shift = 1 if window.prefix == "bos" else 0
    expected = []
    for start, first, end in rolling_windows(
        len(ids),
        max_length=window.max_length or CONTEXT - 2,
        context=window.context,
        prefix=window.prefix,
    ):
        expected += reference.logprobs(whole[start + shift : end + shift])[first - end :]
    assert completion.logprobs == CLOSE(expected, abs=NATS)


def test_the_server_proved_that_its_scores_mean_something(running, served):
    ask(running, served, continuation("a", "b"))
    assert 0 <= served.engine()["logprob_noise"] < NATS


# -- identity --------------------------------------------------------------------------------------


def test_a_running_vllm_server_is_known_by_its_version(asked_as_vllm, asked_plainly):
    version = find_installation(None).version.partition("+")[0]
    assert asked_as_vllm.model.engine["server"].startswith(f"vllm {version}")
    assert asked_as_vllm._server.context_length == CONTEXT
    assert (asked_as_vllm._server.dialect, asked_plainly._server.dialect) == ("vllm", "openai")


# -- adapters, faults and endings ------------------------------------------------------------------


def processes():
    """Every process of a vLLM server on this machine that these tests started."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            environment = (place / "environ").read_bytes()
            state = (place / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if MARK.encode() in environment and state != "Z" and place.name != str(os.getpid()):
            found.append(int(place.name))
    return found


MARK = f"EVALKIT_TEST_MARK={os.getpid()}-{time.time_ns()}"


@pytest.fixture
def marked(monkeypatch):
    monkeypatch.setenv(*MARK.split("="))


def test_an_adapter_is_served_and_a_killed_server_ends_the_run(
    running, llama, adapter, reference, marked
):
    backend = backend_for(llama, adapter=str(adapter), max_model_len=64)
    merged = Reference(llama, adapter)
    try:
        running.run(backend.open(Silent()))
        [completion] = ask(running, backend, continuation("The order of", " seven"))
        ids = merged.tokenizer("The order of seven").input_ids
        scored = len(ids) - len(merged.tokenizer("The order of").input_ids)
        assert completion.logprobs == CLOSE(merged.logprobs(ids)[-scored:], abs=NATS)
        assert completion.logprobs != CLOSE(reference.logprobs(ids)[-scored:], abs=10 * NATS)

        async def run():
            asking = [
                asyncio.create_task(backend.answer([text(f"Item {n} of", 40)])) for n in range(400)
            ]
            await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
            # The engine, not the process that takes the requests: nobody resets the connections then.
            engine = next(p for p in processes() if b"EngineCore" in cmdline(p))
            os.kill(engine, signal.SIGKILL)
            return await asyncio.gather(*asking, return_exceptions=True)

        outcomes = running.run(run())
        faults = [o for o in outcomes if isinstance(o, BaseException)]
        assert len(faults) < 400
        assert {getattr(fault, "kind", fault) for fault in faults} == {"server_lost"}
    finally:
        running.run(backend.close())
    assert processes() == []


def cmdline(pid):
    return Path(f"/proc/{pid}/cmdline").read_bytes()


EVALKIT = """
import asyncio, sys
from functools import partial
from pathlib import Path
from evalkit.backends.vllm_command import VllmArgs
from evalkit.backends.vllm_server import VllmBackend
from evalkit.loaders.checkpoints import find_checkpoint

class Silent:
    def step(self, text): pass

async def main():
    find = partial(find_checkpoint, folder=Path(), digest_file=lambda path: "0")
    await VllmBackend.from_model(sys.argv[1], VllmArgs(), find).open(Silent())
    print("ready", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_vllm_process_outlives_a_killed_evalkit(llama, root, tmp_path, marked, number):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", EVALKIT, str(llama)]
    with subprocess.Popen(
        command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as evalkit:
        assert evalkit.stdout.readline() == b"ready\n"
        running = processes()
        assert sum(b"EngineCore" in cmdline(pid) for pid in running) == 1
        assert len(running) >= 4  # evalkit, guard, API server, engine
        evalkit.send_signal(number)
        evalkit.wait()
    deadline = time.monotonic() + 20
    while processes() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes() == []


def test_a_bad_checkpoint_ends_with_the_servers_own_error(running, llama, tmp_path, marked):
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in llama.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    config = (broken / "config.json").read_text()
    (broken / "config.json").write_text(config.replace("LlamaForCausalLM", "NoSuchForCausalLM"))
    backend = backend_for(broken)
    with pytest.raises(RunError) as caught:
        running.run(backend.open(Silent()))
    running.run(backend.close())
    first = str(caught.value).splitlines()[0]
    assert first.startswith("vLLM did not start: ")
    assert "NoSuchForCausalLM" in first
    assert processes() == []
