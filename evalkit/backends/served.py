"""A model behind an OpenAI-compatible server, asked over HTTP: what the ``openai`` and ``vllm`` backends share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Final

from evalkit.backends.http_client import HttpClient
from evalkit.backends.server_checks import TEXTS, measure_noise
from evalkit.backends.wire import (
    CHAT,
    COMPLETIONS,
    Dialect,
    decode_generate,
    decode_score,
    encode_generate,
    encode_score,
)
from evalkit.errors import Fault
from evalkit.records.exchange import Completion, Request

if TYPE_CHECKING:
    from evalkit.backends.tokens import Job, Tokenizer

WINDOWS_AT_ONCE: Final = 64
"""Most windows of long texts under way at once, over all requests."""
_CHECK_TOKENS: Final = 48


class ServedModel:
    """Answers requests by asking ``model`` on the server at ``root``.

    Token-level requests need ``tokenizer_folder``, where the served model's tokenizer lies. ``context_length`` is what
    the server allows; it counts where it is less than what the checkpoint allows.
    """

    def __init__(
        self,
        root: str,
        model: str,
        dialect: Dialect,
        *,
        key: str | None = None,
        tokenizer_folder: str | None = None,
        context_length: int | None = None,
    ) -> None:
        self.model = model
        self.dialect: Dialect = dialect
        self.context_length = context_length
        self.measured: dict[str, float] = {}
        """What the self-test found, by name; empty until the first token-level request."""
        self._client = HttpClient(root, key)
        self._tokenizer_folder = tokenizer_folder
        self._tokenizer: Tokenizer | None = None

    async def open(self) -> None:
        """Make ready to ask."""
        self._checking = asyncio.Lock()
        self._windows = asyncio.Semaphore(WINDOWS_AT_ONCE)
        await self._client.open((COMPLETIONS, CHAT))

    async def get(self, path: str, timeout_s: float = 10.0) -> bytes | None:
        """Return what the server says under ``path``; None where it says nothing."""
        return await self._client.get(path, timeout_s)

    async def close(self) -> None:
        """Drop all connections."""
        await self._client.close()

    async def answer(self, requests: Sequence[Request]) -> list[Completion]:
        """Return one completion per request, in order; raises Fault, and RunError where the self-test fails."""
        if len(requests) == 1:
            return [await self._answer(requests[0])]
        return list(await asyncio.gather(*map(self._answer, requests)))

    async def _answer(self, request: Request) -> Completion:
        if request.kind != "generate":
            return await self._score_request(request)
        path, body = encode_generate(request, self.model, self.dialect)
        started = perf_counter()
        content = await self._client.post(path, body)
        return decode_generate(request, content, perf_counter() - started, self.dialect)

    async def _score_request(self, request: Request) -> Completion:
        from evalkit.backends.tokens import SERVER_RESERVE, scored_jobs

        tokenizer = self.tokenizer()
        await self._trust_scores()
        jobs = scored_jobs(
            tokenizer, request, context_length=self._context(tokenizer), reserve=SERVER_RESERVE
        )
        started = perf_counter()
        tasks = [asyncio.ensure_future(self._score_job(job, len(jobs) > 1)) for job in jobs]
        try:
            scored = await asyncio.gather(*tasks)
        finally:
            for task in tasks:  # one window failed: the others are not wanted any more
                task.cancel()
        return Completion(
            request.id,
            "",
            "stop",
            tuple(value for values in scored for value in values),
            sum(len(job.ids) for job in jobs),
            0,
            perf_counter() - started,
        )

    async def _score_job(self, job: Job, one_of_many: bool) -> list[float]:
        if not one_of_many:
            return (await self.score(job.ids))[-job.n_scored :]
        async with self._windows:
            return (await self.score(job.ids))[-job.n_scored :]

    async def score(self, tokens: Sequence[int], model: str | None = None) -> list[float]:
        """Return log p(tokens[i] | tokens[:i]) for i = 1 … n − 1; of ``model``, where it is not the served one."""
        body = encode_score(tokens, model or self.model, self.dialect)
        return decode_score(tokens, await self._client.post(COMPLETIONS, body), self.dialect)

    async def _trust_scores(self) -> None:
        """Before the first score, have the server show that its scores mean something."""
        if self.measured:
            return
        async with self._checking:
            if not self.measured:
                self.measured["logprob_noise"] = await measure_noise(self, self.check_texts())

    def check_texts(self) -> list[list[int]]:
        """Return a few short texts as token ids, for checks on the server."""
        tokenizer = self.tokenizer()
        most = min(_CHECK_TOKENS, (self._context(tokenizer) or _CHECK_TOKENS + 1) - 1)
        return [tokenizer.encode(text, special=True)[:most] for text in TEXTS]

    def tokenizer(self) -> Tokenizer:
        """Return the served model's tokenizer; raises Fault("unsupported") where none is known."""
        if self._tokenizer is None:
            if self._tokenizer_folder is None:
                raise Fault(
                    "unsupported", "log-probabilities need the model's tokenizer (tokenizer=…)"
                )
            from evalkit.backends.tokens import Tokenizer

            self._tokenizer = Tokenizer.from_folder(self._tokenizer_folder)
        return self._tokenizer

    def _context(self, tokenizer: Tokenizer) -> int | None:
        known = [n for n in (self.context_length, tokenizer.context_length) if n is not None]
        return min(known, default=None)
