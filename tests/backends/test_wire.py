"""Requests and completions as OpenAI-compatible JSON.

Replies are bodies that real servers sent (vLLM 0.32, trimmed) or breaches of the protocol.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.backends import wire
from evalkit.errors import Fault
from evalkit.records.exchange import Decoding, Message, Request

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
GREEDY = Decoding(max_tokens=16, temperature=0, top_p=1, stop=("\n",), seed=None)
PROMPT = Request("r1", "s1", "t", "generate", "Order: two pens\nJSON:", decoding=GREEDY)
CHAT = Request(
    "r2",
    "s2",
    "t",
    "generate",
    "",
    messages=(Message("system", "Be brief."), Message("user", "hi")),
    decoding=Decoding(8, 0.7, 0.9, (), 42),
)

VLLM_TEXT = b"""{"id":"cmpl-9a5b22ae62ae5203","object":"text_completion","created":1795185243,"model":"model",
"choices":[{"index":0,"text":"C1\\u000f","logprobs":null,"finish_reason":"length","stop_reason":null,
"prompt_logprobs":null}],"usage":{"prompt_tokens":6,"total_tokens":9,"completion_tokens":3}}"""
VLLM_CHAT = b"""{"id":"chatcmpl-b015","object":"chat.completion","created":1795185244,"choices":[{"index":0,
"message":{"role":"assistant","content":"0fo\\\\","refusal":null,"reasoning":null},"logprobs":null,
"finish_reason":"stop","stop_reason":null}],"usage":{"prompt_tokens":23,"total_tokens":26,"completion_tokens":3}}"""
VLLM_SCORES = b"""{"choices":[{"index":0,"text":"j","logprobs":null,"finish_reason":"length","prompt_logprobs":[null,
{"40":{"logprob":-7.8558573722839355,"rank":158,"decoded_token":"G"}},
{"50":{"logprob":-5.270595550537109,"rank":25,"decoded_token":"Q"}},
{"60":{"logprob":-13.077920913696289,"rank":324,"decoded_token":"["}}]}],
"usage":{"prompt_tokens":4,"total_tokens":5,"completion_tokens":1}}"""
VLLM_ECHO = b"""{"choices":[{"index":0,"text":"<s>GQ[e","finish_reason":"length","logprobs":{"text_offset":[0,3,4,5,6],
"token_logprobs":[null,-7.8558573722839355,-5.270595550537109,-13.077920913696289,-0.25],
"tokens":["<s>","G","Q","[","j"],"top_logprobs":null}}],
"usage":{"prompt_tokens":4,"total_tokens":5,"completion_tokens":1}}"""
TOKENS = [0, 40, 50, 60]
LOGPROBS = [-7.8558573722839355, -5.270595550537109, -13.077920913696289]


def fault_in(act):
    with pytest.raises(Fault) as caught:
        act()
    return caught.value


def changed(body: bytes, *path, to):
    reply = json.loads(body)
    place = reply
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return json.dumps(reply).encode()


# -- asking ----------------------------------------------------------------------------------------


def test_a_prompt_is_asked_as_text_with_its_decoding():
    path, body = wire.encode_generate(PROMPT, "m", "openai")
    assert path == "/v1/completions"
    assert json.loads(body) == {
        "model": "m",
        "prompt": "Order: two pens\nJSON:",
        "max_tokens": 16,
        "temperature": 0,
        "top_p": 1,
        "stop": ["\n"],
    }


def test_messages_are_asked_as_a_chat_with_the_answers_seed():
    path, body = wire.encode_generate(CHAT, "m", "openai")
    assert path == "/v1/chat/completions"
    assert json.loads(body) == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
        "max_tokens": 8,
        "temperature": 0.7,
        "top_p": 0.9,
        "seed": 42,
    }


def test_a_checkpoints_own_sampling_defaults_are_switched_off_on_vllm():
    body = json.loads(wire.encode_generate(PROMPT, "m", "vllm")[1])
    assert {key: body[key] for key in wire.NEUTRAL} == {
        "top_k": -1,
        "min_p": 0,
        "repetition_penalty": 1,
        "presence_penalty": 0,
        "frequency_penalty": 0,
    }


def test_tokens_are_sent_as_ids():
    assert json.loads(wire.encode_score(TOKENS, "m", "vllm")) == {
        "model": "m",
        "prompt": TOKENS,
        "max_tokens": 1,
        "temperature": 0,
        "prompt_logprobs": 0,
    }
    plain = json.loads(wire.encode_score(TOKENS, "m", "openai"))
    assert (plain["echo"], plain["logprobs"], plain["max_tokens"]) == (True, 1, 1)
    assert plain["prompt"] == TOKENS


def test_half_a_surrogate_pair_is_refused_before_it_is_sent():
    broken = Request("r", "s", "t", "generate", "half \ud83d", decoding=GREEDY)
    assert fault_in(lambda: wire.encode_generate(broken, "m", "openai")).kind == "bad_request"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_arrives_as_it_was_written(text):
    request = Request("r", "s", "t", "generate", text, decoding=GREEDY)
    assert json.loads(wire.encode_generate(request, "m", "vllm")[1])["prompt"] == text


# -- reading answers -------------------------------------------------------------------------------


def test_an_answer_is_read_with_its_usage():
    completion = wire.decode_generate(PROMPT, VLLM_TEXT, 0.25, "openai")
    assert completion.request_id == "r1"
    assert completion.text == "C1\x0f"
    assert completion.finish_reason == "length"
    assert (completion.prompt_tokens, completion.completion_tokens) == (6, 3)
    assert completion.latency_s == 0.25
    assert completion.logprobs is None


def test_a_chat_answer_is_the_messages_content():
    completion = wire.decode_generate(CHAT, VLLM_CHAT, 0.0, "openai")
    assert (completion.text, completion.finish_reason) == ("0fo\\", "stop")


@pytest.mark.parametrize("reason", ["tool_calls", "content_filter", None, 7])
def test_an_answer_that_ended_otherwise_says_so(reason):
    reply = changed(VLLM_TEXT, "choices", 0, "finish_reason", to=reason)
    assert wire.decode_generate(PROMPT, reply, 0.0, "openai").finish_reason == "other"


def test_a_refusal_without_content_is_empty_text():
    reply = changed(VLLM_CHAT, "choices", 0, "message", "content", to=None)
    assert wire.decode_generate(CHAT, reply, 0.0, "openai").text == ""


def test_an_answer_that_vllm_cut_short_for_want_of_room_is_told_from_one_that_is_long_enough():
    """Its ``max_tokens`` is lowered silently where prompt and answer do not fit the window."""
    short = fault_in(lambda: wire.decode_generate(PROMPT, VLLM_TEXT, 0.0, "vllm"))
    assert short.kind == "context_length"
    assert "3 of 16 tokens" in short.message
    whole = changed(VLLM_TEXT, "usage", "completion_tokens", to=16)
    assert wire.decode_generate(PROMPT, whole, 0.0, "vllm").finish_reason == "length"
    stopped = changed(VLLM_TEXT, "choices", 0, "finish_reason", to="stop")
    assert wire.decode_generate(PROMPT, stopped, 0.0, "vllm").finish_reason == "stop"


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_an_answer_the_server_gave_up_is_no_answer(reason):
    reply = changed(VLLM_TEXT, "choices", 0, "finish_reason", to=reason)
    assert (
        fault_in(lambda: wire.decode_generate(PROMPT, reply, 0.0, "openai")).kind == "server_error"
    )


def test_usage_that_is_absent_or_nonsense_is_unknown():
    for usage in (None, {}, {"prompt_tokens": -1, "completion_tokens": True}, [3]):
        completion = wire.decode_generate(
            PROMPT, changed(VLLM_TEXT, "usage", to=usage), 0.0, "openai"
        )
        assert (completion.prompt_tokens, completion.completion_tokens) == (None, None)


def test_half_a_surrogate_pair_in_an_answer_becomes_storable():
    reply = VLLM_TEXT.replace(b"C1\\u000f", b"a \\ud83d b \\ud83d\\ude00 c \\ude00")
    text = wire.decode_generate(PROMPT, reply, 0.0, "openai").text
    assert text == "a � b 😀 c �"
    assert text.encode("utf-8")


BREACHES = [
    b"",
    b"null",
    b"[]",
    b"<html>Bad gateway</html>",
    VLLM_TEXT[:-20],
    VLLM_TEXT.replace(b'"text":"C1\\u000f"', b'"text":NaN'),
    b'{"choices":' + b"[" * 5000 + b"]" * 5000 + b"}",
    b"\xff\xfe" + VLLM_TEXT,
    changed(VLLM_TEXT, "choices", to=[]),
    changed(VLLM_TEXT, "choices", to=None),
    changed(VLLM_TEXT, "choices", to={"0": {}}),
    changed(VLLM_TEXT, "choices", to=[None]),
    changed(VLLM_TEXT, "choices", to=json.loads(VLLM_TEXT)["choices"] * 2),
    changed(VLLM_TEXT, "choices", 0, "text", to=None),
    changed(VLLM_TEXT, "choices", 0, "text", to=["C1"]),
    VLLM_CHAT,
    b'{"error": {"message": "the model is loading"}}',
]


@pytest.mark.parametrize("reply", BREACHES)
def test_a_reply_that_breaks_the_protocol_is_no_answer(reply):
    assert (
        fault_in(lambda: wire.decode_generate(PROMPT, reply, 0.0, "openai")).kind == "bad_response"
    )


@pytest.mark.parametrize(
    "message", [None, "text", {}, {"content": 3}, {"content": [{"text": "a"}]}]
)
def test_a_chat_reply_without_content_is_no_answer(message):
    reply = changed(VLLM_CHAT, "choices", 0, "message", to=message)
    assert fault_in(lambda: wire.decode_generate(CHAT, reply, 0.0, "openai")).kind == "bad_response"


def test_an_error_inside_a_200_reply_is_told():
    reply = b'{"error": {"message": "the model is loading"}}'
    assert (
        "the model is loading"
        in fault_in(lambda: wire.decode_generate(PROMPT, reply, 0.0, "openai")).message
    )


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "choices",
                        "text",
                        "message",
                        "content",
                        "finish_reason",
                        "usage",
                        "logprobs",
                        "prompt_logprobs",
                    ]
                ),
                inner,
            )
        ),
    )
)
def test_no_json_makes_the_reader_fail_otherwise_than_by_a_fault(reply):
    content = json.dumps(reply).encode()
    for read in (
        lambda: wire.decode_generate(PROMPT, content, 0.0, "openai"),
        lambda: wire.decode_generate(CHAT, content, 0.0, "openai"),
        lambda: wire.decode_score(TOKENS, content, "vllm"),
        lambda: wire.decode_score(TOKENS, content, "openai"),
    ):
        try:
            read()
        except Fault as fault:
            assert fault.kind in ("bad_response", "server_error")


# -- reading log-probabilities ---------------------------------------------------------------------


def test_log_probabilities_are_read_from_vllm_and_from_an_echo_alike():
    assert wire.decode_score(TOKENS, VLLM_SCORES, "vllm") == LOGPROBS
    assert wire.decode_score(TOKENS, VLLM_ECHO, "openai") == LOGPROBS


def test_an_echo_without_the_written_token_is_read_alike():
    held = json.loads(VLLM_ECHO)["choices"][0]["logprobs"]["token_logprobs"][:4]
    reply = changed(VLLM_ECHO, "choices", 0, "logprobs", "token_logprobs", to=held)
    assert wire.decode_score(TOKENS, reply, "openai") == LOGPROBS


def scores(*, entries):
    return changed(VLLM_SCORES, "choices", 0, "prompt_logprobs", to=entries)


def echo(*, values):
    return changed(VLLM_ECHO, "choices", 0, "logprobs", "token_logprobs", to=values)


ENTRIES = json.loads(VLLM_SCORES)["choices"][0]["prompt_logprobs"]
NOT_THE_SCORES = {
    "no log-probabilities at all": ("vllm", VLLM_TEXT, "no prompt log-probabilities"),
    "one entry short": ("vllm", scores(entries=ENTRIES[:-1]), "4 tokens were sent, 3"),
    "a BOS more": ("vllm", scores(entries=[None, *ENTRIES]), "second BOS"),
    "a value for the first token": ("vllm", scores(entries=[*ENTRIES[1:], ENTRIES[1]]), "first"),
    "another token": ("vllm", scores(entries=[None, ENTRIES[2], ENTRIES[1], ENTRIES[3]]), "id 40"),
    "a null": ("vllm", scores(entries=[None, None, *ENTRIES[2:]]), "id 40"),
    "no number": ("vllm", VLLM_SCORES.replace(b"-5.270595550537109", b'"-5"'), "token 2"),
    "a truth value": ("vllm", VLLM_SCORES.replace(b"-5.270595550537109", b"false"), "token 2"),
    "not a number": ("vllm", VLLM_SCORES.replace(b"-5.270595550537109", b"NaN"), "NaN"),
    "minus infinity": ("vllm", VLLM_SCORES.replace(b"-5.270595550537109", b"-Infinity"), "Infinity"),
    "minus infinity, clamped": ("vllm", VLLM_SCORES.replace(b"-5.27", b"-9999.0"), "probability 0"),
    "above zero": ("vllm", VLLM_SCORES.replace(b"-5.27", b"5.27"), "above 0"),
    "echo without log-probabilities": ("openai", VLLM_TEXT, "no log-probabilities"),
    "echo of the written token only": ("openai", echo(values=[-0.25]), "1 came back"),
    "echo with a value for the first": ("openai", echo(values=[*LOGPROBS, -1.0]), "first"),
    "echo with a null inside": ("openai", echo(values=[None, -1.0, None, -1.0]), "token 2"),
    "echo of more tokens": ("openai", echo(values=[None, *LOGPROBS, -1, -1]), "6 came back"),
    "echo after a second BOS": (
        "openai",
        changed(VLLM_ECHO, "usage", "prompt_tokens", to=5),
        "second BOS",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NOT_THE_SCORES)
def test_whatever_is_not_the_log_probability_of_each_token_sent_is_refused(case):
    dialect, reply, why = NOT_THE_SCORES[case]
    fault = fault_in(lambda: wire.decode_score(TOKENS, reply, dialect))
    assert fault.kind == "bad_response"
    assert why in fault.message


def test_a_value_above_zero_by_rounding_is_zero():
    reply = VLLM_SCORES.replace(b"-5.270595550537109", b"0.0001")
    assert wire.decode_score(TOKENS, reply, "vllm")[1] == 0.0


# -- errors ----------------------------------------------------------------------------------------

# What servers say when a prompt is too long, and the server that says it.
TOO_LONG = [
    # vLLM 0.32, three places
    "max_tokens=300 cannot be greater than max_model_len=256. Please request fewer output tokens.",
    "The decoder prompt (length 256) plus the number of requested output tokens (at least 1) is longer than the "
    "maximum model length of 256.",
    "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)",
    "This model's maximum context length is 256 tokens. However, you requested 300 output tokens",
    # OpenAI
    "This model's maximum context length is 8192 tokens, however you requested 9000 tokens. (context_length_exceeded)",
    # llama.cpp
    "the request exceeds the available context size, try increasing it",
    # SGLang
    "The input (300 tokens) is longer than the model's context length (256 tokens).",
]


@pytest.mark.parametrize("message", TOO_LONG)
def test_a_prompt_that_is_too_long_is_told_from_other_bad_requests(message):
    content = json.dumps({"error": {"message": message, "code": 400}}).encode()
    assert wire.fault_of(400, content, None, NOW).kind == "context_length"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "bad_request"),
        (401, "unauthorised"),
        (403, "unauthorised"),
        (404, "bad_request"),
        (408, "timeout"),
        (422, "bad_request"),
        (429, "overloaded"),
        (500, "server_error"),
        (502, "server_error"),
        (503, "overloaded"),
        (504, "timeout"),
        (529, "overloaded"),
        (301, "bad_response"),
        (204, "bad_response"),
    ],
)
def test_each_status_means_one_kind_of_fault(status, kind):
    fault = wire.fault_of(status, b'{"error": {"message": "why"}}', None, NOW)
    assert (fault.kind, fault.message) == (kind, f"HTTP {status}: why")


def test_running_out_of_memory_is_told_from_other_server_errors():
    content = b'{"error": {"message": "CUDA out of memory. Tried to allocate 7.50 GiB"}}'
    assert wire.fault_of(500, content, None, NOW).kind == "out_of_memory"


def test_a_spent_quota_is_no_reason_to_wait():
    content = b'{"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}'
    assert wire.fault_of(429, content, None, NOW).kind == "unauthorised"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"error": {"message": "no such model"}}', "no such model"),  # OpenAI, vLLM
        (b'{"error": "Unauthorized"}', "Unauthorized"),  # vLLM's key check
        (b'{"detail": "Not Found"}', "Not Found"),  # FastAPI
        (b"<h1>Bad gateway</h1>", "<h1>Bad gateway</h1>"),
        (b"", "no message"),
        (b"\xff", "�"),
        (b"[1]", "[1]"),
        (b"x" * 1000, "x" * 499 + "…"),
    ],
)
def test_an_error_tells_what_the_server_said(content, message):
    assert wire.error_message(content) == message


# RFC 9110, section 10.2.3: seconds or a date.
@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        ("1.5", 1.5),
        ("Fri, 20 Nov 2026 12:00:30 GMT", 30.0),
        ("Fri, 20 Nov 2026 11:59:00 GMT", 0.0),
        ("soon", None),
        ("-3", None),
        ("Fri, 20 Nov 2026 12:00:30", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value, seconds):
    assert wire.retry_after_seconds(value, NOW) == seconds
    assert wire.fault_of(429, b"", value, NOW).retry_after_s == seconds


def test_bodies_are_json_that_other_readers_read_alike():
    body = wire.encode_generate(CHAT, "m", "vllm")[1]
    assert orjson.loads(body) == json.loads(body)
