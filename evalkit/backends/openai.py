"""The ``openai`` backend: any running server that speaks the OpenAI protocol (vLLM, SGLang, llama.cpp, a hosted one).

The bytes behind such a server cannot be seen. Its answers are known by the model id, the version that the server
reports, and a revision that the user states; without a stated revision they serve one run.

**Deviation.** Its identity needs the server, so ``from_model`` asks it two short questions (``/v1/models`` and
``/version``): the one backend whose identity is not free.
"""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Self
from urllib.parse import urlsplit

from pydantic import Field

from evalkit.backends.http_client import authorisation
from evalkit.backends.served import ServedModel
from evalkit.backends.wire import Dialect, error_message
from evalkit.errors import RunError, UsageError
from evalkit.identity import digest
from evalkit.ports import Progress
from evalkit.records.exchange import Completion, FindCheckpoint, Model, Need, Request
from evalkit.records.suite import Spec
from evalkit.registry import nearest, register

ASK_S: Final = 10.0
"""Seconds allowed for one question about the server itself."""


class OpenAIArgs(Spec):
    """Options of the ``openai`` backend."""

    model: str | None = None
    """The model's id on the server; not needed where it serves one."""
    revision: str | None = None
    """What you know the served weights by (a commit, a date): with it, answers are kept for later runs."""
    tokenizer: str | None = None
    """Folder or hub id of the served model's tokenizer; needed for perplexity and multiple choice."""
    api_key_env: str = "EVALKIT_API_KEY"
    """Name of the environment variable that holds the key; the key itself never stands on a command line."""
    concurrency: Annotated[int, Field(ge=1)] = 128
    """Most requests under way at once."""


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says of itself."""

    root: str
    """``http://host:8000``, without ``/v1``."""
    model: str
    """The id of the model to ask."""
    version: str
    """``vllm 0.32.0``; the Server header where it reports no version; ``unknown`` where there is neither."""
    dialect: Dialect
    """Whether it takes vLLM's own parameters."""
    context_length: int | None
    """Most tokens of prompt and answer together, where it tells."""


@register(
    "backend",
    "openai",
    summary="A running server that speaks the OpenAI protocol; needs no GPU here.",
    example="--candidate http://localhost:8000 --model-arg model=my-model --model-arg revision=2026-03-01",
)
class OpenAIBackend:
    """Asks a server that somebody else started."""

    Args: ClassVar[type[Spec]] = OpenAIArgs

    def __init__(
        self, model: Model, server: Server, key: str | None, tokenizer: str | None, concurrency: int
    ) -> None:
        self._model = model
        self._server = server
        self._concurrency = concurrency
        self._tokenizer = tokenizer
        self._served = ServedModel(
            server.root,
            server.model,
            server.dialect,
            key=key,
            tokenizer_folder=tokenizer,
            context_length=server.context_length,
        )

    @classmethod
    def from_model(cls, name: str, args: Any, find_checkpoint: FindCheckpoint) -> Self:  # noqa: ANN401
        """Return a backend for the server at the URL ``name``.

        Raises UsageError where the URL or the model id is wrong, RunError where the server does not answer.
        """
        assert isinstance(args, OpenAIArgs)
        key = os.environ.get(args.api_key_env) or None
        server = find_server(name, args.model, key, args.api_key_env)
        tokenizer = None if args.tokenizer is None else find_checkpoint(args.tokenizer)
        engine = {
            "backend": "openai",
            "model": server.model,
            "server": server.version,
            "revision": args.revision,
            "tokenizer": None if tokenizer is None else tokenizer.digest,
        }
        engine = {key: value for key, value in engine.items() if value is not None}
        model = Model(name, server.root, digest(engine), args.revision is not None, {}, engine)
        folder = None if tokenizer is None else tokenizer.location
        return cls(model, server, key, folder, args.concurrency)

    @property
    def model(self) -> Model:
        """The served model, pinned only where its revision was stated."""
        return self._model

    @property
    def provides(self) -> frozenset[Need]:
        """What it can be asked; log-probabilities only with a tokenizer."""
        return frozenset(
            {"text", "chat"} if self._tokenizer is None else {"text", "chat", "logprobs"}
        )

    @property
    def batch_size(self) -> int:
        """One: servers batch by themselves."""
        return 1

    @property
    def concurrency(self) -> int:
        """Most requests under way at once."""
        return self._concurrency

    async def open(self, progress: Progress) -> None:
        """Make ready to ask."""
        await self._served.open()

    async def answer(self, requests: Sequence[Request]) -> Sequence[Completion]:
        """Return one completion per request, in order; raises Fault."""
        return await self._served.answer(requests)

    async def close(self) -> None:
        """Drop all connections."""
        await self._served.close()

    def engine(self) -> Mapping[str, Any]:
        """Return where the server is and what the self-test found."""
        return {"url": self._server.root, **self._served.measured}


def server_root(url: str) -> str:
    """Return the server's root for a URL as people write it: with or without ``/v1``.

    >>> server_root("http://localhost:8000/v1/")
    'http://localhost:8000'

    Raises UsageError on anything but a plain http(s) URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{url!r} is no server's URL; allowed: http://host:port or https://host")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError(
            f"the URL of {parts.hostname!r} may hold no user, key, query or fragment; "
            "put the key into the environment variable EVALKIT_API_KEY"
        )
    path = parts.path.rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path.removesuffix('/v1')}"


def find_server(url: str, model: str | None, key: str | None, key_variable: str) -> Server:
    """Ask the server at ``url`` what it is and serves; ``model`` says which model, where it serves several."""
    root = server_root(url)
    status, header, content = _get(root + "/v1/models", key)
    if status in (401, 403):
        why = f"{root} refuses the key: {error_message(content)}"
        raise RunError(why, f"put the right key into the environment variable {key_variable}")
    models = _models(content) if status == 200 else {}
    if not models and model is None:
        raise RunError(
            f"{root} does not say which models it serves (HTTP {status})",
            "check the URL, or name the model by --model-arg model=…",
        )
    if model is None and len(models) > 1:
        raise UsageError(
            f"{root} serves several models; choose one by --model-arg model=…: {', '.join(models)}"
        )
    if model is not None and models and model not in models:
        close = nearest(model, models)
        hint = f"; did you mean {close!r}?" if close else ""
        raise UsageError(f"{root} does not serve {model!r}{hint}; it serves: {', '.join(models)}")
    model = next(iter(models)) if model is None else model
    entry = models.get(model, {})
    owner, length = entry.get("owned_by"), entry.get("max_model_len")
    return Server(
        root,
        model,
        _version(root, key, owner if isinstance(owner, str) else "", header),
        "vllm" if owner == "vllm" else "openai",
        length if isinstance(length, int) else None,
    )


def _models(content: bytes) -> dict[str, dict[str, Any]]:
    """Return model id → entry of a ``/v1/models`` answer, sorted; empty where it is none."""
    try:
        entries = json.loads(content)["data"]
        return {
            str(entry["id"]): dict(entry) for entry in sorted(entries, key=lambda e: str(e["id"]))
        }
    except (ValueError, KeyError, TypeError):
        return {}


def _version(root: str, key: str | None, owner: str, header: str) -> str:
    status, _, content = _get(root + "/version", key)
    try:
        version = json.loads(content)["version"] if status == 200 else None
    except (ValueError, KeyError, TypeError):
        version = None
    if isinstance(version, str):
        return f"{owner} {version}".strip()
    return header or "unknown"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:  # noqa: ANN401
        """Follow none: the key must not travel to another host."""


def _get(url: str, key: str | None) -> tuple[int, str, bytes]:
    """Return status, Server header and body; RunError where nobody answers. Uses no proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())
    request = urllib.request.Request(url, headers=dict(authorisation(key)))
    try:
        with opener.open(request, timeout=ASK_S) as reply:
            return reply.status, reply.headers.get("Server", ""), reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers.get("Server", ""), error.read()
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise RunError(
            f"no answer from {url}: {reason}", "start the server, or check its URL"
        ) from error
