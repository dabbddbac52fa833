"""A completion as bytes and back, exactly; pure.

Little-endian, without the request id, which is the key it is stored under::

    u32  CRC-32 of all that follows
    u8   format, 1
    u8   finish reason: 0 stop, 1 length, 2 other
    i64  prompt tokens, -1 for none told
    i64  completion tokens, -1 for none told
    f64  latency in seconds
    i32  number of log-probabilities, -1 for none asked
    f64  × number
    text in UTF-8 to the end; lone surrogates as three bytes each

Log-probabilities keep all 64 bits, so that a resumed run computes the very same numbers. The checksum stands here
because SQLite keeps none: a flipped bit in an answer would otherwise be scored.
"""

from __future__ import annotations

import struct
from typing import Final
from zlib import crc32

from evalkit.records.exchange import Completion, FinishReason

FORMAT: Final = 1
"""Version of the bytes; grows when a reader of the old one would misread the new one."""

_REASONS: Final[tuple[FinishReason, ...]] = ("stop", "length", "other")
_NUMBERS: Final = {reason: number for number, reason in enumerate(_REASONS)}
_CHECKSUM: Final = struct.Struct("<I")
_HEAD: Final = struct.Struct("<BBqqdi")
_START: Final = _CHECKSUM.size + _HEAD.size


def encode(completion: Completion) -> bytes:
    """Return the completion's bytes; equal completions give equal bytes."""
    logprobs = completion.logprobs
    prompt_tokens, completion_tokens = completion.prompt_tokens, completion.completion_tokens
    body = _HEAD.pack(
        FORMAT,
        _NUMBERS[completion.finish_reason],
        -1 if prompt_tokens is None else prompt_tokens,
        -1 if completion_tokens is None else completion_tokens,
        completion.latency_s,
        -1 if logprobs is None else len(logprobs),
    )
    if logprobs:
        body += struct.pack(f"<{len(logprobs)}d", *logprobs)
    body += completion.text.encode("utf-8", "surrogatepass")
    return _CHECKSUM.pack(crc32(body)) + body


def decode(request_id: str, content: bytes) -> Completion:
    """Return the completion that ``content`` encodes.

    Raises ValueError when the bytes are damaged or were written by a newer format.
    """
    if len(content) < _START:
        raise ValueError(
            f"an answer of {len(content)} bytes is cut off: at least {_START} expected"
        )
    (checksum,) = _CHECKSUM.unpack_from(content)
    if crc32(memoryview(content)[_CHECKSUM.size :]) != checksum:
        raise ValueError("the checksum of an answer is wrong: its bytes were damaged")
    (
        version,
        reason,
        prompt_tokens,
        completion_tokens,
        latency_s,
        count,
    ) = _HEAD.unpack_from(content, _CHECKSUM.size)
    if version != FORMAT:
        raise ValueError(f"an answer has format {version}; this evalkit reads format {FORMAT}")
    logprobs = struct.unpack_from(f"<{count}d", content, _START) if count >= 0 else None
    text_start = _START + 8 * max(count, 0)
    return Completion(
        request_id=request_id,
        text=content[text_start:].decode("utf-8", "surrogatepass"),
        finish_reason=_REASONS[reason],
        logprobs=logprobs,
        prompt_tokens=None if prompt_tokens < 0 else prompt_tokens,
        completion_tokens=None if completion_tokens < 0 else completion_tokens,
        latency_s=latency_s,
    )
