"""The ``openai`` backend against the stub server, whose every answer and log-probability is known."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from stub_server import BOS, answer_text, chat_prompt, logprob, running_stub, write_tokenizer

from evalkit.backends.openai import OpenAIArgs, OpenAIBackend, server_root
from evalkit.errors import Fault, RunError, UsageError
from evalkit.records.exchange import Checkpoint, Decoding, Message, Request, Window

GREEDY = Decoding(max_tokens=64, temperature=0, top_p=1, stop=(), seed=None)


class Silent:
    def step(self, text):
        pass

    def advance(self, done, total, failed=0):
        pass


def find(name):
    return Checkpoint(name, {"tokenizer.json": "0" * 64}, "0" * 64)


def backend_for(url, **args):
    return OpenAIBackend.from_model(url, OpenAIArgs(**args), find)


@asynccontextmanager
async def opened(url, **args):
    backend = backend_for(url, **args)
    await backend.open(Silent())
    try:
        yield backend
    finally:
        await backend.close()


def ask(url, *requests, **args):
    """Ask one by one; return completions and faults."""

    async def run():
        async with opened(url, **args) as backend:
            results = []
            for request in requests:
                try:
                    results += await backend.answer([request])
                except Fault as fault:
                    results.append(fault)
            return results

    return asyncio.run(run())


def text(prompt, decoding=GREEDY, **more):
    return Request("r" + prompt, "s", "t", "generate", prompt, decoding=decoding, **more)


def continuation(prompt, choice):
    return Request("r" + choice, "s", "t", "loglikelihood", prompt, continuation=choice)


def perplexity(document, window):
    return Request("r", "s", "t", "rolling", document, window=window)


def bigrams(tokens):
    return [logprob(a, b) for a, b in itertools.pairwise(tokens)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return str(write_tokenizer(tmp_path_factory.mktemp("tokenizer")))


@pytest.fixture(scope="module")
def stub(tmp_path_factory):
    with running_stub(tmp_path_factory.mktemp("stub")) as stub:
        yield stub


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A server that is not vLLM."""
    with running_stub(tmp_path_factory.mktemp("plain"), flags=("--plain",)) as stub:
        yield stub


# -- answers ---------------------------------------------------------------------------------------


def test_a_prompt_is_answered(stub):
    [completion] = ask(stub.url, text("Where is the harbour?"))
    assert completion.request_id == "rWhere is the harbour?"
    assert completion.text == answer_text("Where is the harbour?")
    assert completion.finish_reason == "stop"
    assert completion.prompt_tokens == 1 + len("Where is the harbour?")
    assert completion.latency_s > 0


def test_a_chat_is_answered(stub):
    messages = (Message("user", "hi"),)
    [completion] = ask(stub.url, text("", messages=messages))
    assert completion.text == answer_text(chat_prompt([{"role": "user", "content": "hi"}]))


def test_decoding_reaches_the_server(stub):
    whole = answer_text("p")
    word = whole.split()[1]
    [stopped, cut] = ask(
        stub.url,
        text("p", Decoding(64, 0, 1, (word,), None)),
        text("p", Decoding(5, 0, 1, (), None)),
    )
    assert (stopped.text, stopped.finish_reason) == (whole[: whole.index(word)], "stop")
    assert (cut.text, cut.finish_reason) == (whole[:5], "length")


def test_the_seed_of_a_sampled_answer_reaches_the_server(stub):
    first, again, other = ask(
        stub.url, *(text("p", Decoding(64, 0.8, 1, (), seed)) for seed in (1, 1, 2))
    )
    assert first.text == again.text == answer_text("p", 1)
    assert other.text == answer_text("p", 2)


def test_a_prompt_of_several_megabytes_is_sent(tmp_path):
    with running_stub(tmp_path, max_model_len=10**8) as stub:
        prompt = "long " * 500_000
        [completion] = ask(stub.url, text(prompt))
    assert completion.text == answer_text(prompt)


def test_a_batch_is_answered_in_order(stub):
    async def run():
        async with opened(stub.url) as backend:
            return await backend.answer([text(f"p{n}") for n in range(20)])

    assert [c.request_id for c in asyncio.run(run())] == [f"rp{n}" for n in range(20)]


def test_more_than_a_hundred_requests_are_under_way_at_once(tmp_path):
    """aiohttp's own limit is 100 connections: the server would see no more before it has answered one."""

    async def run(stub):
        async with opened(stub.url, concurrency=300) as backend:
            asking = [asyncio.create_task(backend.answer([text(f"p{n}")])) for n in range(300)]
            while (seen := len(stub.asked())) < 300 and not any(task.done() for task in asking):
                await asyncio.sleep(0.05)
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
            return seen

    with running_stub(tmp_path, latency_ms=30_000) as stub:
        assert asyncio.run(run(stub)) == 300


# -- log-probabilities -----------------------------------------------------------------------------


@pytest.fixture(params=["vllm", "plain"])
def server(request, stub, plain):
    return {"vllm": stub, "plain": plain}[request.param]


def test_each_token_of_a_continuation_gets_its_log_probability(server, tokenizer):
    [completion] = ask(server.url, continuation("Is it red?", " yes"), tokenizer=tokenizer)
    tokens = [BOS, *b"Is it red? yes"]
    assert completion.logprobs == pytest.approx(bigrams(tokens)[-4:])
    assert completion.text == ""
    assert completion.prompt_tokens == len(tokens)


def test_a_text_is_scored_whole_in_windows(server, tokenizer):
    document = "The tide turned. " * 10
    [completion] = ask(server.url, perplexity(document, Window(50, 10, "bos")), tokenizer=tokenizer)
    # A bigram model sees one token back, so that windows change nothing.
    assert completion.logprobs == pytest.approx(bigrams([BOS, *document.encode()]))


def test_the_tokens_sent_are_never_text(stub, tokenizer):
    ask(stub.url, continuation("ä", "ö"), tokenizer=tokenizer)
    assert stub.prompts()[-1] == [BOS, *"äö".encode()]


def test_a_server_that_adds_a_second_bos_is_found_out(tmp_path, tokenizer):
    for flags in (("--bos-twice",), ("--bos-twice", "--plain")):
        with running_stub(tmp_path / flags[-1], flags=flags) as stub:  # noqa: SIM117
            with pytest.raises(RunError, match="second BOS"):
                ask(stub.url, continuation("a", "b"), tokenizer=tokenizer)


def test_scores_are_checked_once_before_the_first(tmp_path, tokenizer):
    async def run(url):
        async with opened(url, tokenizer=tokenizer) as backend:
            asked = [continuation("question", f" answer {n}") for n in range(8)]
            await asyncio.gather(*(backend.answer([request]) for request in asked))
            return backend.engine()

    with running_stub(tmp_path) as stub:
        engine = asyncio.run(run(stub.url))
        assert len(stub.asked()) == 6 + 8
    assert engine["logprob_noise"] == 0


def test_without_a_tokenizer_no_log_probabilities_are_offered(stub, tokenizer):
    assert "logprobs" not in backend_for(stub.url).provides
    assert "logprobs" in backend_for(stub.url, tokenizer=tokenizer).provides
    [fault] = ask(stub.url, continuation("a", "b"))
    assert fault.kind == "unsupported"


def test_a_text_beyond_the_servers_context_is_a_fault_of_its_own(tmp_path, tokenizer):
    with running_stub(tmp_path, max_model_len=64) as stub:
        long, generated, fits = ask(
            stub.url,
            continuation("x" * 80, "y"),
            text("x" * 80),
            perplexity("x" * 300, Window(None, 1, "bos")),
            tokenizer=tokenizer,
        )
    assert (long.kind, generated.kind) == ("context_length", "context_length")
    assert len(fits.logprobs) == 300


# -- faults ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("injected", "kind", "retry_after_s"),
    [
        ("429:1.5", "overloaded", 1.5),
        ("503", "overloaded", None),
        ("500", "server_error", None),
        ("401", "unauthorised", None),
        ("400", "bad_request", None),
        ("302", "bad_response", None),
        ("reset", "connection", None),
        ("truncated", "connection", None),
        ("malformed", "bad_response", None),
        ("empty", "bad_response", None),
    ],
)
def test_each_fault_of_a_server_has_its_kind(stub, injected, kind, retry_after_s):
    [fault, after] = ask(stub.url, text(f"<<{injected}x1>>"), text("and then"))
    assert (fault.kind, fault.retry_after_s) == (kind, retry_after_s)
    assert after.text == answer_text("and then")


def test_nothing_is_asked_twice_by_itself(tmp_path):
    with running_stub(tmp_path) as stub:
        ask(stub.url, *(text(f"<<{kind}>>") for kind in ("reset", "500", "malformed", "truncated")))
        assert len(stub.asked()) == 4


def test_a_request_can_be_given_up_while_it_waits(stub):
    async def run():
        async with opened(stub.url) as backend:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await backend.answer([text("<<slow>>")])
            return await backend.answer([text("next")])

    assert asyncio.run(run())[0].text == answer_text("next")


def test_a_server_that_went_away_is_a_connection_fault(tmp_path):
    with running_stub(tmp_path) as stub:
        died, refused = ask(stub.url, text("<<exit>>"), text("anybody?"))
    assert (died.kind, refused.kind) == ("connection", "connection")


# -- identity --------------------------------------------------------------------------------------


def test_the_same_model_behind_another_port_is_the_same_model(tmp_path, stub):
    with running_stub(tmp_path) as other:
        assert other.url != stub.url
        one, two = (backend_for(url, revision="r1").model for url in (stub.url, other.url))
    assert one.digest == two.digest
    assert one.engine == {
        "backend": "openai",
        "model": "stub",
        "server": "vllm 0.0.stub",
        "revision": "r1",
    }


def test_only_a_stated_revision_pins_a_model(stub):
    assert backend_for(stub.url, revision="r1").model.pinned
    assert not backend_for(stub.url).model.pinned
    assert backend_for(stub.url, revision="r1").model.digest != backend_for(stub.url).model.digest


def test_a_server_that_reports_no_version_is_known_by_its_header(plain):
    assert backend_for(plain.url).model.engine["server"] == "stub/1"


def test_a_dead_server_is_a_run_error_with_advice():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(RunError, match="no answer from") as caught:
        backend_for(f"http://127.0.0.1:{port}")
    assert "start the server" in caught.value.advice


@contextmanager
def answering(content: bytes):
    """A server that answers every connection with the same bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(content)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.parametrize(
    "content",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_something_else_than_a_model_server_is_a_run_error(content):
    with answering(content) as url, pytest.raises(RunError):
        backend_for(url)


def test_several_models_must_be_chosen_from(tmp_path):
    with running_stub(tmp_path, models=("alpha", "beta")) as stub:
        with pytest.raises(UsageError, match="alpha, beta"):
            backend_for(stub.url)
        with pytest.raises(UsageError, match="did you mean 'alpha'"):
            backend_for(stub.url, model="alpa")
        [completion] = ask(stub.url, text("p"), model="beta")
    assert completion.text == answer_text("p")


def test_the_key_comes_from_the_environment_alone(tmp_path, monkeypatch):
    with running_stub(tmp_path, flags=("--api-key", "secret")) as stub:
        with pytest.raises(RunError) as caught:
            backend_for(stub.url, api_key_env="MY_KEY")
        assert "MY_KEY" in caught.value.advice
        monkeypatch.setenv("MY_KEY", "secret")
        [completion] = ask(stub.url, text("p"), api_key_env="MY_KEY")
        backend = backend_for(stub.url, api_key_env="MY_KEY")
    assert completion.text == answer_text("p")
    assert "secret" not in repr(backend.model) + repr(backend.engine())


def test_a_proxy_in_the_environment_is_not_used(stub, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    [completion] = ask(stub.url, text("p"))
    assert completion.text == answer_text("p")


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://localhost:8000/", "http://localhost:8000"),
        ("http://localhost:8000/v1", "http://localhost:8000"),
        ("https://models.example/team/v1/", "https://models.example/team"),
        ("http://[::1]:8000/v1", "http://[::1]:8000"),
    ],
)
def test_a_url_is_taken_with_or_without_v1(url, root):
    assert server_root(url) == root


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000",
        "ftp://host",
        "http://",
        "models/candidate",
        "http://u:secret@h",
        "http://h?k=secret",
    ],
)
def test_anything_else_is_no_url_and_shows_no_secret(url):
    with pytest.raises(UsageError) as caught:
        server_root(url)
    assert "secret" not in str(caught.value)


def test_opening_and_closing_twice_is_harmless(stub):
    async def run():
        backend = backend_for(stub.url)
        await backend.close()
        await backend.open(Silent())
        await backend.open(Silent())
        answers = await backend.answer([text("p")])
        await backend.close()
        await backend.close()
        return answers

    assert asyncio.run(run())[0].text == answer_text("p")


def test_the_tokenizer_is_part_of_the_identity(stub, tokenizer):
    assert Path(tokenizer).is_dir()
    with_it = backend_for(stub.url, tokenizer=tokenizer, revision="r").model
    assert with_it.engine["tokenizer"] == "0" * 64
    assert with_it.digest != backend_for(stub.url, revision="r").model.digest
