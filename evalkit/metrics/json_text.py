"""Reads JSON from a model's answer, strictly, or as a tolerant client would.

A document that one parser takes and the next refuses is not valid JSON for a service, so the strict reading takes
only what every conforming parser reads alike.

Source: RFC 8259 (grammar, and its leave to bound depth and range), RFC 7493 "I-JSON" section 2 (unique member
names, no lone surrogates).

Deviation: documents nested deeper than 128 levels (serde_json's limit), integers of more than 4,300 digits (CPython's
limit) and numbers beyond the range of a double are refused, as RFC 8259 section 9 allows.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from functools import lru_cache
from typing import Any, NoReturn

import orjson

from evalkit.metrics.answer import final_answer

MAX_DEPTH = 128
"""Deepest nesting of arrays and objects; bounds every recursion over a parsed document."""

MAX_INTEGER_DIGITS = 4300
"""Longest integer; reading one takes time quadratic in its length."""

_BEYOND_INTEGERS = 2.0**63
"""Least size of a float that orjson may have made of an integer."""

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_OPENING = re.compile(r"[\[{]")
_FENCE = re.compile(r"```[^\n`{\[]*\s*")


class NotJson(ValueError):
    """The text is not the JSON that was asked for; the message says why and where."""


def parse_strict(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value of a text that is one JSON document and nothing else.

    >>> parse_strict('{"a": [1, 2.5, null]}')
    {'a': [1, 2.5, None]}

    Raises NotJson for everything RFC 8259 refuses, and for duplicate names, lone surrogates, ``NaN``,
    ``Infinity``, ``1e400``, and documents beyond ``MAX_DEPTH`` or ``MAX_INTEGER_DIGITS``. The value is shared by all
    who read the same text, and nobody may change it.
    """
    value, problem = _read(text)
    if problem:
        raise NotJson(problem)
    return value


@lru_cache(maxsize=8)  # several metrics read one answer and one target, one after the other
def _read(text: str) -> tuple[Any, str]:
    """Return the document, or None and why there is none."""
    try:
        return _parse(text), ""
    except NotJson as error:
        return None, str(error)


def _parse(text: str) -> Any:  # noqa: ANN401 - any JSON value
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return _parse_carefully(text)  # refused there too, with the reason
    # orjson keeps the last of two members with one name and turns integers beyond 64 bits into floats. Each written
    # member has a colon, so as many colons as members prove that no name came twice.
    members, largest = _survey(value)
    if members == text.count(":") and largest < _BEYOND_INTEGERS:
        return value
    return _parse_carefully(text)


def parse_fenced(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return the strictly read document that a tolerant client finds in an answer.

    Tried in this order: the whole text; the inside of the first ``` fence (what follows the fence is ignored, a
    fence cut by a stop text needs no end); what follows leading prose, from the first ``[`` or ``{`` to the end.
    Reasoning between ``<think>`` tags is no part of the answer.

    >>> parse_fenced('Here you are: {"a": 1}')
    {'a': 1}

    Raises NotJson where none of the three is strict JSON.
    """
    try:
        return parse_strict(text)
    except NotJson as error:
        whole = error
    answer = final_answer(text)
    if fence := _FENCE.search(answer):
        value, end = _value_at(answer, fence.end())
        rest = answer[end:].lstrip(" \t\r\n")
        if rest and not rest.startswith("```"):
            raise NotJson(f"text after the document at character {end} of the answer")
        return value
    if opening := _OPENING.search(answer):
        return parse_strict(answer[opening.start() :])
    raise whole


def _parse_carefully(text: str) -> Any:  # noqa: ANN401 - any JSON value
    value, end = _value_at(text, 0)
    if text[end:].strip(" \t\r\n"):
        raise NotJson(f"text after the document at character {end}")
    return value


def _value_at(text: str, start: int) -> tuple[Any, int]:
    """Return the strictly read value that begins at ``start``, after white space, and where it ends."""
    while start < len(text) and text[start] in " \t\r\n":
        start += 1
    try:
        value, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise NotJson(f"{error.msg} at character {error.pos}") from None
    except RecursionError:
        raise NotJson(f"nested deeper than {MAX_DEPTH} levels") from None
    _survey(value)
    written = text[start:end]
    if _LONE_SURROGATE.search(written) or (
        _ESCAPED_SURROGATE.search(written)
        and _LONE_SURROGATE.search(json.dumps(value, ensure_ascii=False))
    ):
        raise NotJson("a string holds half of a surrogate pair")
    return value, end


def _survey(value: Any) -> tuple[int, float]:  # noqa: ANN401 - any JSON value
    """Return how many members a document's objects have and its largest float; refuse depth beyond ``MAX_DEPTH``."""
    members, largest = 0, 0.0
    level: list[Any] = [[value]]
    for _ in range(MAX_DEPTH + 1):
        inner = []
        for container in level:
            keyed = type(container) is dict
            if keyed:
                members += len(container)
            for v in container.values() if keyed else container:
                kind = type(v)
                if kind is dict or kind is list:
                    inner.append(v)
                elif kind is float and abs(v) > largest:
                    largest = abs(v)
        if not inner:
            return members, largest
        level = inner
    raise NotJson(f"nested deeper than {MAX_DEPTH} levels")


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        twice = next(name for name, count in Counter(n for n, _ in pairs).items() if count > 1)
        raise NotJson(f"the name {twice[:80]!r} comes twice in one object")
    return members


def _bounded_integer(digits: str) -> int:
    if len(digits) > MAX_INTEGER_DIGITS:
        raise NotJson(f"an integer of more than {MAX_INTEGER_DIGITS} digits")
    return int(digits)


def _finite_float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise NotJson(f"the number {digits[:40]} is out of range")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise NotJson(f"{name} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique_members,
    parse_int=_bounded_integer,
    parse_float=_finite_float,
    parse_constant=_refuse_constant,
)
