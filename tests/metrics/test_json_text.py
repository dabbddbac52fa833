"""Strict and tolerant reading of JSON: what must be refused, published cases, and agreement with the json module."""

from __future__ import annotations

import json
import math

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.metrics import json_text
from evalkit.metrics.json_text import (
    MAX_DEPTH,
    MAX_INTEGER_DIGITS,
    NotJson,
    parse_fenced,
    parse_strict,
)

# What one parser takes and the next refuses or reads otherwise; Python's own json takes all but the last six.
UNPORTABLE = {
    "NaN": "NaN is not JSON",
    '{"a": Infinity}': "Infinity is not JSON",
    "[-Infinity]": "-Infinity is not JSON",
    "1e400": "out of range",
    "[-1e400]": "out of range",
    '{"a": 1, "a": 2}': "'a' comes twice",
    '[{"b": {"a": 1, "\\u0061": 1}}]': "'a' comes twice",
    '"\\ud800"': "surrogate",
    '{"\\udc00": 1}': "surrogate",
    '"\ud800"': "surrogate",
    "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1): "nested deeper",
    "1" * (MAX_INTEGER_DIGITS + 1): "digits",
    '{"a": 1} {"b": 2}': "text after the document at character 8",
    "[" * 100_000: "nested deeper",
    '{"a":' * 100_000: "nested deeper",
    "\ufeff{}": "at character 0",
    "": "at character 0",
}


@pytest.mark.parametrize("text", UNPORTABLE, ids=lambda text: text[:20])
def test_what_parsers_read_differently_is_refused_with_the_reason(text):
    with pytest.raises(NotJson, match=UNPORTABLE[text]):
        parse_strict(text)


@pytest.mark.parametrize(
    "text", ["I cannot do that.", '```json\n{"a": 1}\n```', "{'a': 1}", "{a: 1}", '{"a": 1,}']
)
def test_what_is_no_json_is_refused(text):
    with pytest.raises(NotJson):
        parse_strict(text)


# Cases of JSONTestSuite (Nicolas Seriot, commit 1ef36fa): y_* must be accepted, n_* must be refused.
# fmt: off
ACCEPTED = [
    "[[]   ]", '[""]', "[]", '[null, 1, "1", {}]', "[1\n]", " [1]", "[2] ", "[123e65]", "[0e+1]", "[0e1]",
    "[-0]", "[1E22]", "[1E-2]", "[1E+2]", "[123.456e78]", '{"":0}', '{"a":[]}', '{\n"a": "b"\n}',
    '["\\uD801\\udc37"]', '["\\\\u0000"]', '["\\""]', '["a/*b*/c/*d//e"]', '["\\\\a"]', '["\\u0012"]',
    '["\\uFFFF"]', '["\\u0000"]', '["\U0010ffff"]', '["\uffff"]', '["π"]', '" "', '["\\uD834\\uDd1e"]',
    '["\u2028"]', '["\x7f"]', '["\\uDBFF\\uDFFE"]', '["€𝄞"]', "false", "42", "-0.1", "null", '"asd"', '""',
    '["a"]\n',
]
REFUSED = [
    "[1 true]", '["": 1]', '[""],', "[,1]", "[1,,2]", '["x"', "[1:2]", "[,]", "[-]", "[1,]", "[fals]",
    "123\x00", "[++1234]", "[+1]", "[+Inf]", "[-01]", "[-1.0.]", "[-2.]", "[-NaN]", "[.-1]", "[0.1.2]",
    "[0.3e+]", "[0.e1]", "[0E]", "[1 000.0]", "[2.e3]", "[Inf]", "[NaN]", "[１]", "[1+2]", "[0x1]", "[- 1]",
    "[-012]", "[.123]", "[012]", '{[: "x"}\n', '{"x", null}', '{"x"::"b"}', "{key: 'value'}", '{"a" b}',
    '{:"b"}', '{"a":', "{1:1}", '{"id":0,}', '{"a":"b"}/**/', '{"a":"b"}//', '{"a":"b"}#', " ",
    '["\\uD800\\u1x"]', '["\\\x00"]', '["\\x00"]', '["\\"]', '"', '["\\u00A"]', '["\\a"]', '["\\uqqqq"]',
    "[\\n]", "['single quote']", "abc", '["\\', '["a\x00a"]', '["new\nline"]', '["\t"]', '"\\UA66D"',
    "[\u2060]", "\ufeff", "<.>", "[1]x", "[1]]", "[True]", "[][]", "]", "2@", "{}}", "[\x0c]",
]
# fmt: on


@pytest.mark.parametrize("text", ACCEPTED)
def test_the_published_cases_of_valid_json_are_accepted(text):
    assert parse_strict(text) == json.loads(text)


@pytest.mark.parametrize("text", REFUSED)
def test_the_published_cases_of_invalid_json_are_refused(text):
    with pytest.raises(NotJson):
        parse_strict(text)


@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_the_deepest_document_allowed_is_read(brackets):
    opening, closing = ("[", "]") if brackets == "[]" else ('{"a":', "}")
    inner = MAX_DEPTH - 1
    assert parse_strict(opening * inner + brackets + closing * inner)
    with pytest.raises(NotJson, match="nested deeper"):
        parse_strict(opening * (inner + 1) + brackets + closing * (inner + 1))


@pytest.mark.parametrize(
    "number", [2**63, 2**64, 2**64 + 1, -(2**63) - 1, 10**30, 10**MAX_INTEGER_DIGITS - 1]
)
def test_long_integers_are_exact(number):
    value = parse_strict(f'{{"n": {number}}}')["n"]
    assert value == number
    assert type(value) is int


def test_a_number_too_small_for_a_double_is_zero():
    assert parse_strict("1e-400") == 0.0


def test_names_that_differ_only_in_composition_are_two_names():
    assert parse_strict('{"\\u00e9": 1, "e\\u0301": 2}') == {"é": 1, "e\u0301": 2}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(2**70), max_value=2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=20,
)


def alike(left, right):
    """Equality that tells 1 from 1.0 and from True."""
    if isinstance(left, dict):
        return (
            isinstance(right, dict)
            and left.keys() == right.keys()
            and all(alike(left[k], right[k]) for k in left)
        )
    if isinstance(left, list):
        return isinstance(right, list) and len(left) == len(right) and all(map(alike, left, right))
    return type(left) is type(right) and left == right


@given(JSON, st.booleans(), st.sampled_from([None, 2]))
def test_everything_the_json_module_writes_reads_back_as_what_it_was(value, ascii_only, indent):
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert alike(parse_strict(text), value)


PIECES = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    '"a"',
    '"a":',
    '"b":',
    "1",
    "-0",
    "1e5",
    "1E999",
    "NaN",
    "true",
    "null",
    " ",
]
PIECES += [
    '"\\ud83d\\ude00"',
    '"\\ud83d"',
    '"x:y"',
    "123456789012345678901",
    "\n",
    '{"a":1}',
    "[1]",
    "0.5",
    "\x0c",
]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_the_quick_way_and_the_careful_way_give_one_answer(text):
    def outcome(parse):
        try:
            return parse(text)
        except NotJson as error:
            return str(error)

    assert alike(outcome(parse_strict), outcome(json_text._parse_carefully))


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_what_is_accepted_is_accepted_by_other_parsers_with_the_same_value(text):
    try:
        value = parse_strict(text)
    except NotJson:
        return
    assert value == json.loads(text)
    assert value == orjson.loads(text) or any(math.fabs(float(n)) > 2**63 for n in _numbers(value))


def _numbers(value):
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _numbers(inner)
    elif isinstance(value, int | float):
        yield value


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1}',
        '```json\n{"a": 1}\n```',
        '```\n{"a": 1}\n```\nI hope this helps! {"b": 2}',
        'Here it is:\n\n```JSON\n{"a": 1}```',
        '```json {"a": 1} ```',
        '```json\n{"a": 1}',  # the end of the fence was the stop text
        'Sure: {"a": 1}\n',
        '<think>Perhaps {"a": 2}?</think>\n{"a": 1}',
        '<think>```{"a": 2}```</think>```{"a": 1}```',
    ],
)
def test_a_tolerant_client_finds_the_document(text):
    assert parse_fenced(text) == {"a": 1}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I cannot do that.",
        "```json\n```",
        '```json\n{"a": 1, "a": 1}\n```',
        '```json\n{"a": 1} {"b": 2}\n```',
        "```python\nprint({})\n```\n```json\n{}\n```",  # the first fence holds no JSON
        'Sure: {"a": 1} there you go',
        'Sure: {"a": NaN}',
        '<think>{"a": 1}',  # the answer was never given
        '<think>```json\n{"a": 1}\n```</think> I do not know.',
        "```json\n" + "[" * 100_000,
    ],
    ids=lambda text: text[:30],
)
def test_tolerance_ends_where_the_document_is_not_strict_or_not_there(text):
    with pytest.raises(NotJson):
        parse_fenced(text)


def test_back_ticks_inside_a_string_do_not_end_the_fence():
    assert parse_fenced('```json\n{"code": "```x```"}\n```') == {"code": "```x```"}


@given(JSON)
def test_whatever_is_strict_is_tolerated_with_the_same_value(value):
    assert alike(parse_fenced(json.dumps(value)), value)
    if isinstance(value, dict | list):
        assert alike(
            parse_fenced(f"Here:\n```json\n{json.dumps(value, indent=1)}\n```\nDone."), value
        )
