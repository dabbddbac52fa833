"""Requests and completions as OpenAI-compatible JSON, both ways; pure, no input or output.

Three things are asked. *Text from a prompt* goes to ``/v1/completions``, *text from messages* to
``/v1/chat/completions``. *Log-probabilities of given tokens* go to ``/v1/completions`` as token ids, never as text, so
that no server adds a second BOS or cuts the text differently; what comes back is checked against the ids sent.

A reply is untrusted: whatever is missing, of a wrong type or not a number is a ``Fault("bad_response")``, never a 0.

**Source.** OpenAI API reference, completions and chat; vLLM 0.32 ``entrypoints/openai/completion``; RFC 9110
section 10.2.3 (Retry-After).
**Deviation.** vLLM is asked for log-probabilities by ``prompt_logprobs: 0`` (one value per token under its id; half the
bytes of ``echo`` and a quarter more requests per second), and is sent neutral values of the sampling parameters that a
checkpoint's ``generation_config.json`` would set unseen. Other servers are asked by ``echo`` with ``max_tokens: 1``,
since 0 is refused or leaks a token on several of them, and the written token is dropped.
"""

from __future__ import annotations

import email.utils
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import orjson

from evalkit.errors import Fault, FaultKind
from evalkit.records.exchange import Completion, FinishReason, Request

Dialect = Literal["openai", "vllm"]
"""``vllm`` where the server is known to take vLLM's own parameters."""

COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"

NEUTRAL: Mapping[str, float] = {
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""What vLLM takes from the checkpoint unless a request says otherwise."""

IMPOSSIBLE = -9999.0
"""vLLM writes this for a log-probability of minus infinity, which JSON cannot hold."""

ROUNDING = 1e-3
"""A log-probability may exceed 0 by this much in half precision; it is then 0."""

_FINISH: Mapping[str, FinishReason] = {"stop": "stop", "length": "length"}
_TOO_LONG = re.compile(
    r"context.length|context.window|context.size|maximum model length|max_model_len"
    r"|max_tokens must be at least 1, got|longer than the model|too many tokens",
    re.IGNORECASE,
)


def encode_generate(request: Request, model: str, dialect: Dialect) -> tuple[str, bytes]:
    """Return the path and the body that ask for an answer to a prompt or to messages.

    Raises Fault("bad_request") on text that is no valid Unicode (half of a surrogate pair).
    """
    decoding = request.decoding
    assert decoding is not None, "a generate request says how its answer is drawn"
    body: dict[str, Any] = {"model": model}
    if request.messages is None:
        body["prompt"] = request.prompt
    else:
        body["messages"] = [{"role": m.role, "content": m.content} for m in request.messages]
    body["max_tokens"] = decoding.max_tokens
    body["temperature"] = decoding.temperature
    body["top_p"] = decoding.top_p
    if decoding.stop:
        body["stop"] = decoding.stop
    if decoding.seed is not None:
        body["seed"] = decoding.seed
    if dialect == "vllm":
        body.update(NEUTRAL)
    try:
        return COMPLETIONS if request.messages is None else CHAT, orjson.dumps(body)
    except TypeError as error:
        raise Fault("bad_request", f"the prompt cannot be sent: {error}") from error


def decode_generate(
    request: Request, content: bytes, latency_s: float, dialect: Dialect
) -> Completion:
    """Return the completion that a server's reply to ``encode_generate`` holds.

    An answer without content (a refusal, a tool call) is empty text that finished for ``other`` reasons. Raises
    Fault("bad_response") where the reply breaks the protocol, Fault("server_error") where the server gave up,
    Fault("context_length") where vLLM silently allowed fewer tokens than were asked for.
    """
    assert request.decoding is not None, "a generate request says how its answer is drawn"
    reply = _parsed(content)
    choice = _choice(reply)
    if request.messages is None:
        text = choice.get("text")
    else:
        message = choice.get("message")
        if not isinstance(message, dict):
            raise Fault("bad_response", "the reply's choice has no message")
        text = message.get("content")
        if text is None and "content" in message:
            text = ""
    if not isinstance(text, str):
        raise Fault("bad_response", f"the reply's text is {_kind(text)}, not a string")
    reason = choice.get("finish_reason")
    if reason in ("abort", "error"):
        raise Fault("server_error", f"the server gave the answer up ({reason})")
    prompt_tokens, completion_tokens = _usage(reply)
    if dialect == "vllm" and reason == "length" and completion_tokens is not None:
        wanted = request.decoding.max_tokens
        if completion_tokens < wanted:
            message = f"the model's window had room for {completion_tokens} of {wanted} tokens"
            raise Fault("context_length", message)
    return Completion(
        request.id,
        text,
        _FINISH.get(reason, "other") if isinstance(reason, str) else "other",
        None,
        prompt_tokens,
        completion_tokens,
        latency_s,
    )


def encode_score(tokens: Sequence[int], model: str, dialect: Dialect) -> bytes:
    """Return the body that asks ``/v1/completions`` for the log-probability of each of ``tokens``."""
    body: dict[str, Any] = {
        "model": model,
        "prompt": list(tokens),
        "max_tokens": 1,
        "temperature": 0,
        **({"prompt_logprobs": 0} if dialect == "vllm" else {"echo": True, "logprobs": 1}),
    }
    return orjson.dumps(body)


def decode_score(tokens: Sequence[int], content: bytes, dialect: Dialect) -> list[float]:
    """Return log p(tokens[i] | tokens[:i]) for i = 1 … n − 1, natural logarithm.

    Raises Fault("bad_response") unless the reply holds exactly one finite value, at most 0, for each token that was
    sent, none for the first, and the token ids (the token count, where a server shows no ids) that were sent.
    """
    reply = _parsed(content)
    choice = _choice(reply)
    values = (
        _prompt_logprobs(tokens, choice) if dialect == "vllm" else _echoed(tokens, choice, reply)
    )
    for place, value in enumerate(values, start=1):
        # bool is an int in Python, and JSON's true is no log-probability.
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Fault("bad_response", f"no log-probability for token {place} of {len(tokens)}")
        if value <= IMPOSSIBLE:
            raise Fault("bad_response", f"token {place} of {len(tokens)} has probability 0")
        if value > ROUNDING:
            raise Fault("bad_response", f"token {place} has log-probability {value}, above 0")
    return [min(float(value), 0.0) for value in values]


def _prompt_logprobs(tokens: Sequence[int], choice: Mapping[str, Any]) -> list[Any]:
    entries = choice.get("prompt_logprobs")
    if not isinstance(entries, list):
        raise Fault("bad_response", "the reply holds no prompt log-probabilities")
    if len(entries) != len(tokens):
        message = f"{len(tokens)} tokens were sent, {len(entries)} came back (a second BOS?)"
        raise Fault("bad_response", message)
    if entries[0] is not None:
        raise Fault("bad_response", "the first token has a log-probability, but nothing before it")
    values = []
    for token, entry in zip(tokens[1:], entries[1:], strict=True):
        held = entry.get(str(token)) if isinstance(entry, dict) else None
        if not isinstance(held, dict):
            raise Fault("bad_response", f"token id {token} was sent, another came back")
        values.append(held.get("logprob"))
    return values


def _echoed(
    tokens: Sequence[int], choice: Mapping[str, Any], reply: Mapping[str, Any]
) -> list[Any]:
    held = choice.get("logprobs")
    values = held.get("token_logprobs") if isinstance(held, dict) else None
    if not isinstance(values, list):
        raise Fault("bad_response", "the reply holds no log-probabilities of the prompt")
    prompt_tokens, _ = _usage(reply)
    if prompt_tokens is not None and prompt_tokens != len(tokens):
        message = f"{len(tokens)} tokens were sent, {prompt_tokens} were read (a second BOS?)"
        raise Fault("bad_response", message)
    # One token is written after the prompt, or none where it is the end of the text.
    if not len(tokens) <= len(values) <= len(tokens) + 1:
        raise Fault("bad_response", f"{len(tokens)} tokens were sent, {len(values)} came back")
    if values[0] is not None:
        raise Fault("bad_response", "the first token has a log-probability, but nothing before it")
    return values[1 : len(tokens)]


def fault_of(status: int, content: bytes, retry_after: str | None, now: datetime) -> Fault:
    """Return the fault that an HTTP error answer means.

    ``now`` (with its time zone) turns a Retry-After date into seconds.
    """
    message = f"HTTP {status}: {error_message(content)}"
    return Fault(_fault_kind(status, message), message, retry_after_seconds(retry_after, now))


def _fault_kind(status: int, message: str) -> FaultKind:  # noqa: PLR0911 - a table of cases
    if status in (401, 403) or "insufficient_quota" in message:
        return "unauthorised"
    if status in (429, 503, 529):
        return "overloaded"
    if status in (408, 504):
        return "timeout"
    if "out of memory" in message.lower():
        return "out_of_memory"
    if status >= 500:
        return "server_error"
    if status >= 400:
        return "context_length" if _TOO_LONG.search(message) else "bad_request"
    return "bad_response"


def error_message(content: bytes) -> str:
    """Return what an error body says, shortened: OpenAI's ``error.message``, FastAPI's ``detail``, else its text."""
    try:
        return _told(orjson.loads(content))
    except orjson.JSONDecodeError:
        return _told(content.decode("utf-8", "replace").strip() or "no message")


def _told(body: Any) -> str:  # noqa: ANN401 - any JSON value
    if isinstance(body, dict):
        body = next((body[key] for key in ("error", "detail", "message") if body.get(key)), body)
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        code = body.get("code") or body.get("type")
        body = f"{body['message']} ({code})" if isinstance(code, str) else body["message"]
    text = body if isinstance(body, str) else json.dumps(body)
    return text if len(text) <= 500 else text[:499] + "…"


def retry_after_seconds(value: str | None, now: datetime) -> float | None:
    """Return the seconds that a Retry-After header asks for; None where it is absent or unreadable.

    >>> from datetime import UTC
    >>> retry_after_seconds("Fri, 13 Nov 2026 12:00:07 GMT", datetime(2026, 11, 13, 12, tzinfo=UTC))
    7.0
    """
    if value is None:
        return None
    if re.fullmatch(r"\s*\d+(\.\d+)?\s*", value):
        return float(value)
    try:
        then = email.utils.parsedate_to_datetime(value)
        return max(0.0, (then - now).total_seconds())
    except (TypeError, ValueError):  # no date, or one without a time zone
        return None


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        reply = orjson.loads(content)
    except orjson.JSONDecodeError:
        reply = _parsed_leniently(content)
    if not isinstance(reply, dict):
        raise Fault("bad_response", f"the reply is {_kind(reply)}, not an object")
    return reply


def _parsed_leniently(content: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Read what orjson refuses and a model can still write: halves of surrogate pairs, as ``\\ud83d``.

    They become U+FFFD, so that the text can be stored as UTF-8. NaN and infinity stay refused.
    """
    try:
        return _mended(json.loads(content, parse_constant=_refuse_constant))
    except (ValueError, RecursionError) as error:
        raise Fault("bad_response", f"the reply is no JSON: {error}") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _mended(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_mended(item) for item in value]
    if isinstance(value, dict):
        return {key: _mended(item) for key, item in value.items()}
    return value


def _choice(reply: Mapping[str, Any]) -> dict[str, Any]:
    choices = reply.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        # Some servers answer 200 with an error inside.
        why = f": {_told(reply)}" if reply.get("error") else ""
        raise Fault("bad_response", f"the reply does not hold exactly one choice{why}")
    return choices[0]


def _usage(reply: Mapping[str, Any]) -> tuple[int | None, int | None]:
    usage = reply.get("usage")
    if not isinstance(usage, dict):
        return None, None
    return _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))


def _count(value: Any) -> int | None:  # noqa: ANN401 - any JSON value
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _kind(value: object) -> str:
    return "missing" if value is None else f"of type {type(value).__name__}"
