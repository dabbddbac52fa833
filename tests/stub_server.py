"""A stand-in for an OpenAI-compatible server: sure answers, faults on demand, a log of all it was asked.

Run it as a program (``python tests/stub_server.py --log asked.jsonl``; it prints ``ready PORT``) or from a test::

    with running_stub(tmp_path, faults=["500@3", "reset%10"]) as stub:
        ...                       # stub.url is the server, stub.asked() what it was asked so far

**Model.** Tokens are bytes: id 0–255 the byte, ``BOS`` and ``EOS`` above. ``logprob(previous, token)`` is a fixed
bigram table, so a test knows every log-probability it must see. An answer is a function of the prompt (and of the
seed, when the temperature is above 0); ``--answers FILE`` (JSONL of ``prompt`` and ``text``) puts other texts in its
place.

**Faults.** ``KIND@N`` strikes at the N-th request (from 1), ``KIND%N`` at every N-th; a prompt that holds ``<<KIND>>``
always, ``<<KINDx2>>`` the first two times it is asked. Kinds: an HTTP status (``429:1.5`` adds ``Retry-After: 1.5``),
``reset`` (the connection is cut before the answer), ``truncated`` (in the middle of the body), ``malformed`` (the body
is no JSON), ``empty`` (no choices), ``slow`` (answers after ten seconds), ``exit`` (the server dies), ``sick`` (it
lives on, but answers everything, its health included, with an error).

The server speaks HTTP/1.1 by hand on an ``asyncio.Protocol``, so that it costs a fraction of the client's time in
benchmarks and can cut a connection anywhere.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import hashlib
import itertools
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BOS, EOS = 256, 257
VOCABULARY = 258
SLOW_S = 10.0
_MARK = re.compile(r"<<([a-z]+|\d{3}(?::[\d.]+)?)(?:x(\d+))?>>")
_WORDS = (
    *("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath"),
    *("inlet", "jetty", "knoll", "larch", "marsh", "north", "ocean", "prism"),
)


# -- the model -------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=VOCABULARY)
def _row(previous: int) -> tuple[float, ...]:
    weights = [
        1 + (previous * 31 + token * 17 + previous * token) % 97 for token in range(VOCABULARY)
    ]
    total = math.log(sum(weights))
    return tuple(math.log(weight) - total for weight in weights)


def logprob(previous: int, token: int) -> float:
    """The model's natural-log probability of ``token`` after ``previous``."""
    return _row(previous)[token]


def answer_text(prompt: str, seed: int | None = None) -> str:
    """What the model writes after ``prompt``; ``seed`` counts only where the temperature is above 0."""
    digest = hashlib.sha256(f"{prompt}\0{seed}".encode("utf-8", "surrogatepass")).digest()
    return " " + " ".join(_WORDS[byte % 16] for byte in digest[:6])


def chat_prompt(messages: list[dict[str, str]]) -> str:
    """The text that chat messages become."""
    return "".join(f"[{m['role']}]{m['content']}\n" for m in messages) + "[assistant]"


def write_tokenizer(folder: Path) -> Path:
    """Write this model's tokenizer as a checkpoint folder holds it (``tokenizer.json`` and its configuration)."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    letters = {byte: chr(byte if byte in printable else next(spare)) for byte in range(256)}
    tokenizer = Tokenizer(models.BPE(vocab={letters[b]: b for b in range(256)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken("<s>", special=True), AddedToken("</s>", special=True)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", BOS)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {"bos_token": "<s>", "eos_token": "</s>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    config = {"model_type": "llama", "max_position_embeddings": 2048, "vocab_size": VOCABULARY}
    (folder / "config.json").write_text(
        json.dumps({**config, "bos_token_id": BOS, "eos_token_id": EOS})
    )
    return folder


# -- answers ---------------------------------------------------------------------------------------


@dataclass
class Refusal(Exception):
    """An HTTP error."""

    status: int
    message: str
    retry_after: str | None = None


@dataclass
class Options:
    """How the server behaves."""

    models: tuple[str, ...] = ("stub",)
    max_model_len: int = 2048
    vllm: bool = True
    """Whether it reports itself as vLLM and takes vLLM's own parameters."""
    api_key: str | None = None
    latency_s: float = 0.0
    faults: tuple[str, ...] = ()
    answers: dict[str, str] | None = None
    bos_twice: bool = False
    """Whether it puts a BOS before token ids that were sent: the defect clients must notice."""


def complete(body: dict[str, Any], options: Options, *, chat: bool) -> dict[str, Any]:
    """The answer to a completion request."""
    if body["model"] not in options.models:
        raise Refusal(404, f"The model `{body['model']}` does not exist.")
    prompt: str | list[int] = chat_prompt(body["messages"]) if chat else body["prompt"]
    tokens = prompt if isinstance(prompt, list) else [BOS, *prompt.encode()]
    if options.bos_twice and isinstance(prompt, list):
        tokens = [BOS, *tokens]
    limit = body.get("max_tokens", 16)
    if len(tokens) + limit > options.max_model_len:
        raise Refusal(
            400,
            f"This model's maximum context length is {options.max_model_len} tokens. However, you "
            f"requested {limit} output tokens and your prompt contains {len(tokens)} input tokens.",
        )
    text, finish = _write(prompt if isinstance(prompt, str) else str(prompt), body, options)
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
    if chat:
        choice["message"] = {"role": "assistant", "content": text}
    else:
        choice["text"] = text
        _add_logprobs(choice, tokens, body, options)
    usage = {"prompt_tokens": len(tokens), "completion_tokens": len(text.encode())}
    return {
        "id": "cmpl-stub",
        "object": "chat.completion" if chat else "text_completion",
        "created": 0,
        "model": body["model"],
        "choices": [choice],
        "usage": {**usage, "total_tokens": sum(usage.values())},
    }


def _write(prompt: str, body: dict[str, Any], options: Options) -> tuple[str, str]:
    seed = body.get("seed") if body.get("temperature", 1.0) > 0 else None
    text = (options.answers or {}).get(prompt) or answer_text(prompt, seed)
    finish = "stop"
    encoded = text.encode()
    if len(encoded) > body.get("max_tokens", 16):
        text, finish = encoded[: body.get("max_tokens", 16)].decode(errors="replace"), "length"
    stops = body.get("stop") or []
    ends = [
        text.index(stop) for stop in ([stops] if isinstance(stops, str) else stops) if stop in text
    ]
    return (text[: min(ends)], "stop") if ends else (text, finish)


def _add_logprobs(
    choice: dict[str, Any], tokens: list[int], body: dict[str, Any], options: Options
) -> None:
    scored = [None, *(logprob(a, b) for a, b in itertools.pairwise(tokens))]
    if options.vllm and body.get("prompt_logprobs") is not None:
        choice["prompt_logprobs"] = [
            value if value is None else {str(token): {"logprob": value, "rank": 1}}
            for token, value in zip(tokens, scored, strict=True)
        ]
    if body.get("echo") and body.get("logprobs") is not None:
        written = list(choice["text"].encode())
        by_id = options.vllm and body.get("return_tokens_as_token_ids")
        after = [logprob(a, b) for a, b in zip([tokens[-1], *written], written, strict=False)]
        choice["text"] = (
            bytes(t for t in tokens if t < BOS).decode(errors="replace") + choice["text"]
        )
        choice["logprobs"] = {
            "tokens": [f"token_id:{t}" if by_id else _spelled(t) for t in (*tokens, *written)],
            "token_logprobs": [*scored, *after],
            "top_logprobs": None,
            "text_offset": [],
        }


def _spelled(token: int) -> str:
    return {BOS: "<s>", EOS: "</s>"}.get(token) or bytes([token]).decode(errors="replace")


# -- the server ------------------------------------------------------------------------------------


class Stub:
    """What all connections share: options, the log, and how often each prompt was asked."""

    def __init__(self, options: Options, log: Path | None) -> None:
        self.options = options
        self.count = 0
        self.sick = False
        self._marks: Counter[str] = Counter()
        self._log = None if log is None else os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def fault(self, body: dict[str, Any]) -> str | None:
        """Count a request and return the fault that strikes it."""
        self.count += 1
        for planned in self.options.faults:
            kind, _, place = planned.replace("%", "@%").partition("@")
            hit = self.count % int(place[1:]) == 0 if place[0] == "%" else self.count == int(place)
            if hit:
                return kind
        prompt = body.get("prompt", "") if "prompt" in body else chat_prompt(body["messages"])
        found = _MARK.search(prompt) if isinstance(prompt, str) else None
        if found is None:
            return None
        self._marks[prompt] += 1
        return None if found[2] and self._marks[prompt] > int(found[2]) else found[1]

    def note(self, path: str, body: dict[str, Any], fault: str | None) -> None:
        """Write down one request as it arrived."""
        if self._log is not None:
            line = json.dumps({"n": self.count, "path": path, "fault": fault, "body": body})
            os.write(self._log, line.encode() + b"\n")


class Connection(asyncio.Protocol):
    """One client connection."""

    def __init__(self, stub: Stub) -> None:
        self._stub = stub
        self._buffer = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            size = end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < size:
                return
            content, self._buffer = self._buffer[end + 4 : size], self._buffer[size:]
            self._serve(head, content)

    def _serve(self, head: bytes, content: bytes) -> None:
        method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        options = self._stub.options
        key = options.api_key
        if key is not None and f"Bearer {key}".encode() not in head:
            self._send(401, {"error": {"message": "Unauthorized"}})
        elif method == "GET":
            self._send(*self._page(path))
        elif path in ("/v1/completions", "/v1/chat/completions"):
            body = json.loads(content)
            fault = self._stub.fault(body)
            self._stub.note(path, body, fault)
            delay = options.latency_s + (SLOW_S if fault == "slow" else 0)
            if delay:
                loop = asyncio.get_running_loop()
                loop.call_later(delay, self._answer, body, path, fault)
            else:
                self._answer(body, path, fault)
        else:
            self._send(404, {"error": {"message": f"Not Found: {path}"}})

    def _page(self, path: str) -> tuple[int, Any]:
        options = self._stub.options
        if self._stub.sick:
            return 503, {}
        owner = "vllm" if options.vllm else "stub"
        entry = {"object": "model", "created": 0, "owned_by": owner}
        if options.vllm:
            entry["max_model_len"] = options.max_model_len
        pages: dict[str, Any] = {
            "/health": {},
            "/v1/models": {"object": "list", "data": [{"id": m, **entry} for m in options.models]},
            "/count": {"count": self._stub.count},
        }
        if options.vllm:
            pages["/version"] = {"version": "0.0.stub"}
        return (200, pages[path]) if path in pages else (404, {"error": {"message": "Not Found"}})

    def _answer(self, body: dict[str, Any], path: str, fault: str | None) -> None:
        if fault == "exit":
            os._exit(1)
        if fault == "reset":
            self._transport.abort()
            return
        self._stub.sick |= fault == "sick"
        if self._stub.sick:
            self._refuse(Refusal(500, "the engine is dead"))
            return
        if fault is not None and fault[0].isdigit():
            status, _, patience = fault.partition(":")
            self._refuse(Refusal(int(status), f"injected {status}", patience or None))
            return
        try:
            reply = complete(body, self._stub.options, chat=path.endswith("chat/completions"))
        except Refusal as refusal:
            self._refuse(refusal)
            return
        if fault == "empty":
            reply["choices"] = []
        content = json.dumps(reply).encode()
        if fault == "malformed":
            content = content[:-1] + b","
        self._send_bytes(200, content, cut=fault == "truncated")

    def _refuse(self, refusal: Refusal) -> None:
        extra = (
            b""
            if refusal.retry_after is None
            else f"Retry-After: {refusal.retry_after}\r\n".encode()
        )
        error = {"message": refusal.message, "type": "error", "code": refusal.status}
        self._send_bytes(refusal.status, json.dumps({"error": error}).encode(), extra)

    def _send(self, status: int, value: Any) -> None:
        self._send_bytes(status, json.dumps(value).encode())

    def _send_bytes(
        self, status: int, content: bytes, extra: bytes = b"", *, cut: bool = False
    ) -> None:
        if self._transport.is_closing():
            return
        head = b"HTTP/1.1 %d X\r\nServer: stub/1\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n"
        self._transport.write(
            head % (status, extra, len(content)) + content[: len(content) // 2 if cut else None]
        )
        if cut:
            self._transport.close()


async def serve(options: Options, log: Path | None, port: int = 0) -> None:
    """Serve until SIGTERM; print ``ready PORT`` when requests are taken."""
    stub = Stub(options, log)
    loop = asyncio.get_running_loop()
    listening = socket.create_server(("127.0.0.1", port), backlog=4096)
    server = await loop.create_server(lambda: Connection(stub), sock=listening)
    print(f"ready {listening.getsockname()[1]}", flush=True)
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    server.close()


# -- for tests -------------------------------------------------------------------------------------


@dataclass
class RunningStub:
    """A stub server in a process of its own."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]

    def asked(self) -> list[dict[str, Any]]:
        """Every request received so far: ``n``, ``path``, ``fault``, ``body``."""
        return (
            [json.loads(line) for line in self.log.read_text().splitlines()]
            if self.log.exists()
            else []
        )

    def prompts(self) -> list[Any]:
        """The prompts (or messages) received so far, in order, repeats included."""
        return [
            entry["body"].get("prompt", entry["body"].get("messages")) for entry in self.asked()
        ]


@contextlib.contextmanager
def running_stub(
    folder: Path,
    *,
    port: int = 0,
    models: tuple[str, ...] = ("stub",),
    faults: tuple[str, ...] | list[str] = (),
    latency_ms: float = 0,
    answers: dict[str, str] | None = None,
    max_model_len: int = 2048,
    flags: tuple[str, ...] = (),
    log: bool = True,
) -> Iterator[RunningStub]:
    """Run the server as a subprocess that keeps its log in ``folder`` (an old log there is continued)."""
    folder.mkdir(parents=True, exist_ok=True)
    asked = folder / "asked.jsonl"
    command = [sys.executable, __file__, "--port", str(port), "--latency-ms", str(latency_ms)]
    command += ["--max-model-len", str(max_model_len), *flags]
    command += ["--log", str(asked)] if log else []
    command += [f"--fault={fault}" for fault in faults] + [f"--model={model}" for model in models]
    if answers is not None:
        lines = (json.dumps({"prompt": p, "text": t}) for p, t in answers.items())
        (folder / "answers.jsonl").write_text("\n".join(lines))
        command += ["--answers", str(folder / "answers.jsonl")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        ready = process.stdout.readline().split()
        assert ready[:1] == [b"ready"], f"the stub server did not start: {process.wait()}"
        yield RunningStub(f"http://127.0.0.1:{int(ready[1])}", asked, process)
    finally:
        process.terminate()
        process.communicate()


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(description="A stand-in for an OpenAI-compatible server.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--max-model-len", type=int, default=2048)
    parser.add_argument("--latency-ms", type=float, default=0)
    parser.add_argument("--fault", action="append", default=[])
    parser.add_argument("--answers", type=Path)
    parser.add_argument("--api-key")
    parser.add_argument(
        "--plain", action="store_true", help="know nothing of vLLM's own parameters"
    )
    parser.add_argument("--bos-twice", action="store_true", help="put a BOS before token ids")
    args = parser.parse_args()
    answers = None
    if args.answers:
        rows = map(json.loads, args.answers.read_text().splitlines())
        answers = {row["prompt"]: row["text"] for row in rows}
    options = Options(
        models=tuple(args.model) or ("stub",),
        max_model_len=args.max_model_len,
        vllm=not args.plain,
        api_key=args.api_key,
        latency_s=args.latency_ms / 1000,
        faults=tuple(args.fault),
        answers=answers,
        bos_twice=args.bos_twice,
    )
    asyncio.run(serve(options, args.log, args.port))


if __name__ == "__main__":
    main()
