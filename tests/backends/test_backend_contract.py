"""One contract for every backend: to add one, write a factory and put it into ``BACKENDS``.

A factory is an asynchronous context manager: it takes a new folder, yields a backend that is not open, and clears up
what it started.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, get_args

import pytest
import stub_server
import tiny_checkpoints
from fake_vllm import write_fake_vllm

from evalkit.backends.openai import OpenAIArgs, OpenAIBackend
from evalkit.backends.replay import ReplayArgs, ReplayBackend
from evalkit.backends.transformers import TransformersArgs, TransformersBackend
from evalkit.backends.vllm_command import VllmArgs
from evalkit.backends.vllm_server import VllmBackend
from evalkit.errors import Fault
from evalkit.ports import Backend
from evalkit.records.declared import descriptions
from evalkit.records.exchange import (
    Checkpoint,
    Completion,
    Decoding,
    FinishReason,
    Message,
    Need,
    Request,
    Window,
)
from evalkit.records.suite import Spec
from evalkit.registry import parts

GREEDY = Decoding(8, 0.0, 1.0, ("\n",), None)
SAMPLED = Decoding(8, 1.0, 0.9, (), 7)

REQUESTS: dict[str, Request] = {
    "text": Request("t", "1", "task", "generate", "Say a word:", decoding=GREEDY),
    "sampled": Request("s", "2", "task", "generate", "Say a word:", decoding=SAMPLED, replicate=1),
    "chat": Request(
        "c", "3", "task", "generate", "", (Message("user", "Say a word."),), decoding=GREEDY
    ),
    "pair": Request("p", "4", "task", "loglikelihood", "A word:", continuation=" harbour"),
    "rolling": Request(
        "r", "5", "task", "rolling", "The boats came back.", window=Window(None, 1, "bos")
    ),
}
"""One request of each kind; every backend must answer those whose need it provides."""
NEEDS: dict[str, Need] = {
    "text": "text", "sampled": "text", "chat": "chat", "pair": "logprobs", "rolling": "logprobs",
}  # fmt: skip

Factory = Callable[[Path], AbstractAsyncContextManager[Backend]]


@asynccontextmanager
async def transformers(folder: Path) -> AsyncIterator[Backend]:
    tiny_checkpoints.make_llama(folder / "model")
    (folder / "model" / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    yield TransformersBackend.from_model(
        str(folder / "model"), TransformersArgs(), tiny_checkpoints.find
    )


@asynccontextmanager
async def replay(folder: Path) -> AsyncIterator[Backend]:
    records = [
        {"id": "1", "text": "harbour"},
        {"id": "2", "text": "boats", "replicate": 1},
        {"id": "3", "text": "word"},
        {"id": "4", "choice": "harbour", "logprobs": [-0.5]},
        {"id": "5", "logprobs": [-0.5, -2.0]},
    ]
    (folder / "answers.jsonl").write_text("\n".join(map(json.dumps, records)))
    yield ReplayBackend.from_model(
        str(folder / "answers.jsonl"), ReplayArgs(), tiny_checkpoints.find
    )


@asynccontextmanager
async def openai(folder: Path) -> AsyncIterator[Backend]:
    tokenizer = stub_server.write_tokenizer(folder / "tokenizer")
    with stub_server.running_stub(folder) as stub:
        yield OpenAIBackend.from_model(
            stub.url, OpenAIArgs(tokenizer=str(tokenizer)), _tokenizer_only
        )


@asynccontextmanager
async def vllm(folder: Path) -> AsyncIterator[Backend]:
    checkpoint = stub_server.write_tokenizer(folder / "checkpoint")
    args = VllmArgs(python=write_fake_vllm(folder), extra=("--chat-template", "x"))
    yield VllmBackend.from_model(str(checkpoint), args, _tokenizer_only)


def _tokenizer_only(name: str) -> Checkpoint:
    return Checkpoint(name, {"tokenizer.json": "0" * 64}, "0" * 64)


BACKENDS: list[Factory] = [transformers, replay, openai, vllm]


class Silent:
    """A progress that nobody watches."""

    def step(self, text: str) -> None: ...
    def advance(self, done: int, total: int | None, failed: int = 0) -> None: ...


@pytest.fixture(params=BACKENDS, ids=lambda factory: factory.__name__)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Any]:
    """Run a check on a new backend of each kind."""

    def run(check: Callable[[Backend], Coroutine[Any, Any, Any]]) -> Any:
        async def main() -> Any:
            async with request.param(tmp_path) as backend:
                try:
                    return await check(backend)
                finally:
                    await backend.close()

        return asyncio.run(main())

    return run


def _answerable(backend: Backend) -> list[Request]:
    return [r for name, r in REQUESTS.items() if NEEDS[name] in backend.provides]


async def _answers(backend: Backend, requests: Sequence[Request]) -> dict[str, Completion]:
    """Ask in batches as large as the backend allows; check that answers come in order."""
    found = {}
    for start in range(0, len(requests), backend.batch_size):
        batch = requests[start : start + backend.batch_size]
        answers = await backend.answer(batch)
        assert [a.request_id for a in answers] == [r.id for r in batch]
        found |= {a.request_id: a for a in answers}
    return found


def _content(answers: dict[str, Completion]) -> dict[str, Any]:
    return {i: (a.text, a.finish_reason, a.logprobs) for i, a in answers.items()}


def test_every_built_in_backend_is_registered_with_declared_options() -> None:
    for name, part in parts("backend").items():
        assert issubclass(part.make.Args, Spec), name
        assert descriptions(part.make.Args).keys() == part.make.Args.model_fields.keys(), name
        assert part.summary, name
        assert part.example, name


def test_the_model_is_known_before_the_backend_is_opened_and_stays_the_same(run: Any) -> None:
    async def check(backend: Backend) -> None:
        before = backend.model
        assert re.fullmatch("[0-9a-f]{64}", before.digest)
        json.dumps(dict(before.engine))
        await backend.open(Silent())
        await _answers(backend, _answerable(backend))
        assert backend.model == before

    run(check)


def test_what_it_provides_and_takes_at_once_is_told_before_it_is_opened(run: Any) -> None:
    async def check(backend: Backend) -> None:
        assert backend.provides
        assert backend.provides <= set(get_args(Need))
        assert backend.batch_size >= 1
        assert backend.concurrency >= 1

    run(check)


def test_every_request_is_answered_in_order_with_what_its_kind_calls_for(run: Any) -> None:
    async def check(backend: Backend) -> None:
        await backend.open(Silent())
        requests = _answerable(backend)
        answers = await _answers(backend, requests)
        for request in requests:
            answer = answers[request.id]
            answer.text.encode()  # a store holds UTF-8
            assert answer.finish_reason in get_args(FinishReason)
            assert answer.latency_s >= 0
            if request.kind == "generate":
                assert "\n" not in answer.text or request.decoding is SAMPLED
            else:
                assert answer.text == ""
                assert answer.logprobs
                assert all(math.isfinite(value) and value <= 0 for value in answer.logprobs)

    run(check)


def test_an_answer_does_not_depend_on_the_order_of_requests(run: Any) -> None:
    async def check(backend: Backend) -> None:
        await backend.open(Silent())
        requests = _answerable(backend)
        forward = await _answers(backend, requests)
        backward = await _answers(backend, requests[::-1])
        for i, answer in forward.items():
            assert backward[i].text == answer.text
            assert (backward[i].logprobs or ()) == pytest.approx(answer.logprobs or (), abs=1e-3)

    run(check)


def test_no_requests_have_no_answers(run: Any) -> None:
    async def check(backend: Backend) -> None:
        await backend.open(Silent())
        assert list(await backend.answer([])) == []

    run(check)


def test_opening_and_closing_twice_is_doing_it_once(run: Any) -> None:
    async def check(backend: Backend) -> None:
        await backend.open(Silent())
        await backend.open(Silent())
        assert _content(await _answers(backend, _answerable(backend)[:1]))
        await backend.close()
        await backend.close()

    run(check)


def test_a_backend_that_was_never_opened_can_be_closed(run: Any) -> None:
    async def check(backend: Backend) -> None:
        await backend.close()

    run(check)


def test_what_the_engine_reports_is_json(run: Any) -> None:
    async def check(backend: Backend) -> None:
        json.dumps(dict(backend.engine()))
        await backend.open(Silent())
        json.dumps(dict(backend.engine()))

    run(check)


def test_a_request_that_cannot_be_answered_is_a_fault_and_the_next_one_is_answered(
    run: Any,
) -> None:
    async def check(backend: Backend) -> None:
        await backend.open(Silent())
        endless = Decoding(10**7, 0.0, 1.0, (), None)  # in no model's window, and never recorded
        unanswerable = Request("x", "none", "task", "generate", "a", decoding=endless)
        with pytest.raises(Fault):
            await backend.answer([unanswerable])
        assert await _answers(backend, _answerable(backend)[:1])

    run(check)
