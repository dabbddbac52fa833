"""A completion survives its bytes, and damaged bytes never become a completion."""

from __future__ import annotations

import math
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.records.exchange import Completion
from evalkit.store.codec import FORMAT, decode, encode

ID = "ab" * 32

# Any text a server may send, lone surrogates too: JSON can say "\ud800".
texts = st.text(st.characters(codec=None, exclude_categories=()), max_size=200)
floats = st.floats(allow_nan=False)
tokens = st.none() | st.integers(0, 2**63 - 1)
completions = st.builds(
    Completion,
    request_id=st.just(ID),
    text=texts,
    finish_reason=st.sampled_from(["stop", "length", "other"]),
    logprobs=st.none() | st.lists(floats, max_size=50).map(tuple),
    prompt_tokens=tokens,
    completion_tokens=tokens,
    latency_s=floats,
)


@given(completions)
def test_whatever_is_encoded_comes_back_exactly(completion):
    """decode(encode(c)) = c"""
    assert decode(ID, encode(completion)) == completion


@given(st.floats())
def test_every_bit_of_a_log_probability_comes_back(value):
    """Also -0.0, infinities, NaN and numbers below the normal range, compared as bits."""
    (back,) = decode(ID, encode(Completion(ID, "", "stop", logprobs=(value,)))).logprobs
    assert math.copysign(1, back) == math.copysign(1, value)
    assert struct.pack("<d", back) == struct.pack("<d", value)


def test_no_log_probabilities_and_none_asked_stay_different():
    assert decode(ID, encode(Completion(ID, "a", "stop", logprobs=()))).logprobs == ()
    assert decode(ID, encode(Completion(ID, "a", "stop", logprobs=None))).logprobs is None


def test_no_tokens_and_none_told_stay_different():
    told = Completion(ID, "", "stop", prompt_tokens=0, completion_tokens=0)
    untold = Completion(ID, "", "stop")
    assert decode(ID, encode(told)) == told
    assert decode(ID, encode(untold)) == untold


def test_lone_surrogates_come_back():
    text = "half a smile \ud83d and \udc00 the rest"
    assert decode(ID, encode(Completion(ID, text, "stop"))).text == text


@given(completions, st.data())
def test_a_flipped_bit_anywhere_is_noticed(completion, data):
    """CRC-32 finds every single-bit error."""
    content = bytearray(encode(completion))
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ValueError, match="answer"):
        decode(ID, bytes(content))


@given(completions, st.data())
def test_an_answer_that_was_cut_off_is_noticed(completion, data):
    content = encode(completion)
    with pytest.raises(ValueError, match=r"cut off|checksum"):
        decode(ID, content[: data.draw(st.integers(0, len(content) - 1))])


@given(st.binary(max_size=80))
def test_noise_is_never_a_completion(noise):
    with pytest.raises(ValueError, match=r"cut off|checksum"):
        decode(ID, noise)


def test_a_newer_format_is_refused_by_number():
    body = bytes([FORMAT + 1]) + encode(Completion(ID, "a", "stop"))[5:]
    newer = zlib.crc32(body).to_bytes(4, "little") + body
    with pytest.raises(
        ValueError, match=f"format {FORMAT + 1}; this evalkit reads format {FORMAT}"
    ):
        decode(ID, newer)


def test_the_bytes_of_format_1_never_change():
    """Written out by hand from the table in the module's docstring."""
    body = (
        bytes([1, 1])
        + (7).to_bytes(8, "little")
        + b"\xff" * 8
        + struct.pack("<d", 0.5)
        + (2).to_bytes(4, "little")
        + struct.pack("<2d", -0.25, -1.5)
        + "né".encode()
    )
    content = zlib.crc32(body).to_bytes(4, "little") + body
    completion = Completion(ID, "né", "length", (-0.25, -1.5), 7, None, 0.5)
    assert encode(completion) == content
    assert decode(ID, content) == completion


def test_an_answer_costs_34_bytes_beside_its_text():
    assert len(encode(Completion(ID, "x" * 1000, "stop", None, 12, 250, 0.8))) == 1034
