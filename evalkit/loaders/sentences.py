"""Puts pydantic's complaints about a declaration in plain words: what was found, what is allowed, the nearest name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from evalkit.loaders.places import KeyPath, Value
from evalkit.records.declared import descriptions
from evalkit.registry import nearest

Sentence = tuple[str, str, str]
"""Message, what is allowed, the nearest name."""
Mistake = tuple[KeyPath, Sentence]
"""A path inside the declaration and what is wrong there."""

A_DATE = "a date such as 2026-12-31"
"""How a file writes a day."""

_TYPES: Mapping[str, str] = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "none_required": "nothing",
    "date_type": A_DATE,
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "keys with values",
    "model_type": "keys with values",
    "model_attributes_type": "keys with values",
}
_BOUNDS: Mapping[str, tuple[str, str]] = {
    "greater_than": ("gt", "a number above {}"),
    "greater_than_equal": ("ge", "a number of at least {}"),
    "less_than": ("lt", "a number below {}"),
    "less_than_equal": ("le", "a number of at most {}"),
    "too_short": ("min_length", "at least {} of them"),
    "too_long": ("max_length", "at most {} of them"),
    "string_too_short": ("min_length", "at least {} characters"),
    "string_too_long": ("max_length", "at most {} characters"),
    "multiple_of": ("multiple_of", "a multiple of {}"),
}
_PATTERNS: Mapping[str, str] = {
    r"^[A-Za-z0-9][A-Za-z0-9_.-]*$": "a name of letters, digits, '_', '.' and '-', without spaces",
}


def keys_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return a class's fields under the keys by which a file writes them."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def found(value: Value) -> str:
    """Return a value as a sentence shows it.

    >>> found("64")
    'found the text "64"'
    """
    if value is None:
        return "found nothing"
    if isinstance(value, list):
        return f"found a list of {len(value)}"
    if isinstance(value, dict):
        return f"found keys with values ({_cut(', '.join(value)) or 'none'})"
    kind = "the text " if isinstance(value, str) else ""
    return f"found {kind}{_cut(json.dumps(value, ensure_ascii=False))}"


def _cut(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def sentences(
    error: ValidationError, value: Mapping[str, Value], models: Mapping[KeyPath, type[BaseModel]]
) -> list[Mistake]:
    """Return one mistake per place."""
    complaints: dict[KeyPath, list[ErrorDetails]] = {}
    for details in error.errors(include_url=False):
        path, seen = _place(details, value, models)
        if details["type"] == "too_short" and len(seen) >= details["ctx"]["min_length"]:
            continue  # pydantic counts the right entries only
        complaints.setdefault(path, []).append(details)
    # A union complains once for each member. What a member says of a value's inside is closer to the point than
    # that another member wanted another type.
    inner = {path[:n] for path in complaints for n in range(len(path))}
    return [
        mistake
        for path, details in complaints.items()
        if not (path in inner and all(d["type"] in _TYPES for d in details))
        for mistake in _mistakes(path, details, models)
    ]


def _place(
    details: ErrorDetails,
    value: Value,
    models: Mapping[KeyPath, type[BaseModel]],
) -> tuple[KeyPath, Value]:
    """Return where a complaint points in the file and what stands there.

    pydantic puts the names of union members between the steps; they are left out.
    """
    path: KeyPath = ()
    steps = details["loc"]
    if details["type"] == "union_tag_invalid":
        steps = (*steps, str(details["ctx"]["discriminator"]).strip("'"))
    for number, step in enumerate(steps, start=1):
        if isinstance(value, list) and isinstance(step, int) and step < len(value):
            path, value = (*path, step), value[step]
        elif isinstance(value, Mapping) and isinstance(step, str):
            known = step in (keys_of(models[path]) if path in models else value)
            last = number == len(steps)
            if (known and step in value) or (
                last and details["type"] in ("missing", "extra_forbidden")
            ):
                path, value = (*path, step), value.get(step)
    return path, value


def _mistakes(
    path: KeyPath, complaints: list[ErrorDetails], models: Mapping[KeyPath, type[BaseModel]]
) -> Iterator[Mistake]:
    types = {details["type"]: details for details in complaints}
    if types.keys() <= _TYPES.keys():
        seen = complaints[0]["input"]
        allowed = list(dict.fromkeys(_TYPES[kind] for kind in types))
        if "a text" in allowed and isinstance(seen, int | float):
            allowed[allowed.index("a text")] = "a text (in quotes)"
        yield path, (found(seen), " or ".join(allowed), "")
        return
    for kind, details in types.items():
        if kind not in _TYPES:
            yield path, _sentence(kind, details, path, models.get(path[:-1]))


def _sentence(
    kind: str, details: ErrorDetails, path: KeyPath, model: type[BaseModel] | None
) -> Sentence:
    """Put one complaint about a key of ``model`` in words."""
    keys = keys_of(model) if model else {}
    context = details.get("ctx", {})
    match kind:
        case "missing":
            described = descriptions(model) if model else {}
            sentence = "the key is missing", _first_sentence(described.get(str(path[-1]), "")), ""
        case "extra_forbidden":
            sentence = "unknown key", ", ".join(keys), nearest(str(path[-1]), keys)
        case "literal_error" | "enum":
            seen, expected = details["input"], str(context["expected"])
            sentence = found(seen), expected, nearest(str(seen), _quoted(expected))
        case "union_tag_invalid":
            tags = _quoted(str(context["expected_tags"]))
            tag = details["input"].get(path[-1])
            sentence = found(tag), ", ".join(tags), nearest(str(tag), tags)
        case "string_pattern_mismatch":
            pattern = str(context["pattern"])
            sentence = (
                found(details["input"]),
                _PATTERNS.get(pattern, f"a text that matches {pattern}"),
                "",
            )
        case "date_parsing":
            sentence = found(details["input"]), A_DATE, ""
        case "value_error" | "assertion_error":
            sentence = str(context["error"]), "", ""
        case _ if kind in _BOUNDS:
            bound, form = _BOUNDS[kind]
            sentence = found(details["input"]), form.format(f"{context[bound]:g}"), ""
        case _:
            sentence = details["msg"].replace("Input should be", "the value must be"), "", ""
    return sentence


def _quoted(names: str) -> list[str]:
    return re.findall(r"'([^']*)'", names)


def _first_sentence(description: str) -> str:
    """Return a docstring's first sentence without its markup."""
    text = " ".join(description.replace("``", "'").split())
    return re.split(r"(?<=[.;]) ", text)[0].rstrip(".;")
