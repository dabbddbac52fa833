"""JSON answers: whether they parse and satisfy a schema, and how many fields of a nested payload are right.

Rates stand side by side because services differ in what they take: ``parse_strict`` and ``valid`` are what a client
meets that hands the whole answer to a parser, ``parse_fenced`` and ``valid_fenced`` what one meets that looks for a
fence first. An answer cut off at the token limit is never valid, even where its beginning happens to parse.

Source: JSON Schema drafts 4 to 2020-12 as jsonschema-rs reads them; the draft is what ``$schema`` says, else 2020-12.
Deviation: ``format`` is asserted unless ``assert_format`` says otherwise; 2020-12 by itself would treat it as a remark.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np
from pydantic import Field, field_serializer

from evalkit.metrics.base import Array, Metric, corpus, mean, rate, ratio
from evalkit.metrics.json_compare import Tally, compare, count_leaves
from evalkit.metrics.json_places import (
    MISSING,
    Equality,
    Json,
    Place,
    build_place,
    parse_pointer,
    pointer_text,
    resolve,
)
from evalkit.metrics.json_text import NotJson, parse_fenced, parse_strict
from evalkit.records.exchange import Completion, Sample, Score, Unscored
from evalkit.records.suite import JsonDocument, Spec
from evalkit.registry import register

if TYPE_CHECKING:
    from jsonschema_rs import Validator

LONGEST_NOTE = 300
"""Characters of a note; schema errors quote the whole instance."""


def build_validator(
    schema: Json,
    *,
    assert_format: bool | None = True,
    retrieve: Callable[[str], Json] | None = None,
) -> Validator:
    """Return the compiled validator of a schema; compiling costs far more than validating.

    ``assert_format`` says whether ``format`` must hold; None leaves it to the draft and its vocabularies. ``retrieve``
    returns the document at an address that the schema refers to; by default every address outside the schema is
    refused and nothing is fetched. Raises ValueError, with the place of the mistake, on a schema that breaks its
    draft's rules, names an unknown draft, or refers to what is not there.
    """
    import jsonschema_rs

    try:
        return jsonschema_rs.validator_for(
            schema, validate_formats=assert_format, retriever=retrieve or _refuse_to_fetch
        )
    except jsonschema_rs.ValidationError as error:
        where = pointer_text(error.instance_path)
        problem = f"at {where}: {error.message}" if where else error.message
        advice = f"; {_FETCHES_NOTHING}" if "present in a registry" in problem else ""
        raise ValueError(f"no usable JSON Schema: {problem}{advice}") from None


_FETCHES_NOTHING = "nothing is fetched: copy what '$ref' names under '$defs'"


def _refuse_to_fetch(address: str) -> NoReturn:
    raise ValueError(f"{address} lies outside the schema")


class JsonSchemaOptions(Spec):
    """Options of ``json_schema``."""

    document: JsonDocument = Field(alias="schema")
    """The JSON Schema, written in place or as a path relative to the suite file."""
    assert_format: bool | None = True
    """Whether ``format`` (date, email, uri …) must hold; if not, it is a remark; null: as the draft says."""


@register(
    "metric",
    "json_schema",
    summary="Share of answers that are JSON, strictly or in a fence, and that satisfy a schema.",
    example="{json_schema: {schema: schemas/order.json}}",
)
class JsonSchemaMetric(Metric):
    """Rates of answers that parse and satisfy a JSON Schema.

    ``parse_strict``: the whole answer is one document as ``parse_strict`` reads it. ``parse_fenced``: a tolerant client
    finds one. ``valid``, ``valid_fenced``: that document satisfies the schema and the answer was not cut off.
    ``truncated``: the answer was cut off at the token limit.
    """

    Options = JsonSchemaOptions
    columns = ("parse_strict", "parse_fenced", "valid", "valid_fenced", "truncated")
    measures = (
        rate("parse_strict", column=0),
        rate("parse_fenced", column=1),
        rate("valid", column=2),
        rate("valid_fenced", column=3),
        rate("truncated", column=4, better="lower"),
    )
    needs_target = False

    def __init__(self, name: str, options: JsonSchemaOptions) -> None:
        super().__init__(name, options)
        if isinstance(options.document, str):
            raise ValueError("'schema' must be a JSON Schema document (an object or a boolean)")
        self._validator = build_validator(options.document, assert_format=options.assert_format)

    def library_versions(self) -> dict[str, str]:
        """Return the validator's version."""
        return {"jsonschema_rs": version("jsonschema_rs")}

    def score(self, sample: Sample, completions: Sequence[Completion]) -> Score:
        """Return the five indicators; an answer that does not parse is wrong, not unscored."""
        answer = completions[0]
        truncated = answer.finish_reason == "length"
        document, problem = _read(parse_strict, answer.text)
        fenced, _ = (document, "") if not problem else _read(parse_fenced, answer.text)
        strict_parses, fenced_parses = document is not MISSING, fenced is not MISSING
        violation = self._violation(fenced) if fenced_parses else ""
        satisfies = fenced_parses and not violation
        valid = strict_parses and satisfies and not truncated
        valid_fenced = satisfies and not truncated
        remarks = ["cut off at the token limit" if truncated else "", problem, violation]
        indicators = (strict_parses, fenced_parses, valid, valid_fenced, truncated)
        return Score(tuple(map(float, indicators)), _note(remarks))

    def _violation(self, document: Json) -> str:
        """Return the first violation with its place; an empty text when there is none."""
        import jsonschema_rs

        try:
            self._validator.validate(document)
        except jsonschema_rs.ValidationError as error:
            return f"{pointer_text(error.instance_path) or 'the document'}: {error.message}"
        return ""


class JsonFieldsOptions(Equality):
    """Options of ``json_fields``; what counts as equal holds everywhere unless an override says otherwise."""

    parse: Literal["strict", "fenced"] = "strict"
    """Whether the whole answer must be JSON, or a fence and leading prose are tolerated."""
    ignore: tuple[str, ...] = ()
    """JSON Pointers to what does not count; ``*`` stands for any one name or index (``/items/*/id``)."""
    overrides: dict[str, Equality] = Field(default_factory=dict)
    """JSON Pointer → what counts as equal there and beneath; ``*`` as in ``ignore``."""
    fields: tuple[str, ...] = ()
    """JSON Pointers that get a rate of their own: ``/ship/city`` becomes ``json_fields.field.ship.city``."""

    @field_serializer("overrides")
    def _as_set(self, overrides: dict[str, Equality]) -> dict[str, Any]:
        """Write only what an override sets: an unset option is inherited, so it is not its default."""
        return {p: changed.model_dump(exclude_unset=True) for p, changed in overrides.items()}


def _precision(sums_XK: Array, n_X: Array) -> Array:
    right, predicted, gold = sums_XK[..., 0], sums_XK[..., 1], sums_XK[..., 2]
    return ratio(right, np.where(predicted > 0, predicted, gold))  # nothing predicted: 0


def _recall(sums_XK: Array, n_X: Array) -> Array:
    return ratio(sums_XK[..., 0], sums_XK[..., 2])


def _f1(sums_XK: Array, n_X: Array) -> Array:
    return ratio(2 * sums_XK[..., 0], sums_XK[..., 1] + sums_XK[..., 2])


@register(
    "metric",
    "json_fields",
    summary="Key-level precision, recall, F1 and accuracy of a nested JSON payload.",
    example="{json_fields: {ignore: [/id], fields: [/ship/city], tolerance: 0.01}}",
)
class JsonFieldsMetric(Metric):
    """How many leaves of a nested payload are right; ``json_compare`` says what a right leaf is.

    Over leaves (micro): ``precision`` = right / predicted, ``recall`` = right / gold, ``f1`` their harmonic mean. Over
    documents (macro): ``macro_f1``, the mean of each document's F1; ``accuracy``, the mean of right / all places that
    the answer or the target fills; ``exact_document``, the share of documents with every leaf right and none too
    many. ``field.…``: the share of documents in which the field is equal, or absent from both.

    An answer that does not parse has no leaf: it predicts nothing and misses every gold leaf. Of several targets the
    one with the highest F1 counts.
    """

    Options = JsonFieldsOptions

    def __init__(self, name: str, options: JsonFieldsOptions) -> None:
        super().__init__(name, options)
        self._parse = parse_strict if options.parse == "strict" else parse_fenced
        self._place = build_place(options, options.overrides, options.ignore)
        self._fields = [_field(pointer, self._place) for pointer in options.fields]
        names = [_measure_name(path) for path, _ in self._fields]
        if len(set(names)) < len(names):
            raise ValueError(f"two of 'fields' have one name: {', '.join(sorted(names))}")
        self.columns = ("right", "predicted", "gold", "f1", "accuracy", "exact_document", *names)
        self.measures = (
            corpus("precision", _precision, unit="fraction"),
            corpus("recall", _recall, unit="fraction"),
            corpus("f1", _f1, unit="fraction"),
            mean("macro_f1", column=3),
            mean("accuracy", column=4),
            rate("exact_document", column=5),
            *(rate(name, column=column) for column, name in enumerate(names, start=6)),
        )

    def score(self, sample: Sample, completions: Sequence[Completion]) -> Score | Unscored:
        """Return the counts and shares of one document; Unscored where the target is no strict JSON."""
        if not sample.targets:
            return Unscored("no target")
        targets = []
        for text in sample.targets:
            target, problem = _read(parse_strict, text)
            if problem:
                return Unscored("target is not JSON", _note([problem]))
            targets.append(self._place.without_ignored(target))
        answer, problem = _read(self._parse, completions[0].text)
        if problem:
            missed = count_leaves(targets[0])
            return Score(
                (0.0, 0.0, float(missed), *[0.0] * (len(self.columns) - 3)), _note([problem])
            )
        answer = self._place.without_ignored(answer)
        tallies = [compare(target, answer, self._place) for target in targets]
        best = max(range(len(targets)), key=lambda i: _document_f1(tallies[i]))
        return self._scored(tallies[best], targets[best], answer)

    def _scored(self, tally: Tally, target: Json, answer: Json) -> Score:
        places = tally.gold + tally.predicted - tally.aligned
        fields = (_equal_at(path, place, target, answer) for path, place in self._fields)
        statistics = (
            *(tally.right, tally.predicted, tally.gold),
            *(_document_f1(tally), tally.right / places, tally.exact),
            *fields,
        )
        return Score(tuple(map(float, statistics)), _note([tally.describe()]))


def _document_f1(tally: Tally) -> float:
    return 2 * tally.right / (tally.gold + tally.predicted)


def _field(pointer: str, place: Place) -> tuple[tuple[str, ...], Place]:
    path = parse_pointer(pointer)
    if not path or "*" in path:
        raise ValueError(
            f"'fields' takes pointers to one field each, without '*'; found {pointer!r}"
        )
    for name in path:
        place = place.at(name)
        if place.ignored:
            raise ValueError(f"the field {pointer!r} is ignored by 'ignore'")
    return path, place


def _measure_name(path: Iterable[str]) -> str:
    return "field." + re.sub(r"[^\w.-]", "_", ".".join(path))


def _equal_at(path: Sequence[str], place: Place, target: Json, answer: Json) -> bool:
    expected, found = resolve(target, path), resolve(answer, path)
    if expected is MISSING or found is MISSING:
        return expected is found
    return compare(expected, found, place).exact


def _read(parse: Callable[[str], Json], text: str) -> tuple[Json, str]:
    """Return the document and an empty text, or ``MISSING`` and why there is none."""
    try:
        return parse(text), ""
    except NotJson as error:
        return MISSING, f"not JSON: {error}"


def _note(remarks: Iterable[str]) -> str:
    note = "; ".join(filter(None, remarks))
    return note if len(note) <= LONGEST_NOTE else note[: LONGEST_NOTE - 1] + "…"
