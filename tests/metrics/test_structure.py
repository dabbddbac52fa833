"""JSON answers against a schema and against a target payload, leaf by leaf."""

from __future__ import annotations

import copy
import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from evalkit.metrics.structure import JsonFieldsMetric, JsonSchemaMetric
from evalkit.records.exchange import Completion, Sample, Score, Unscored
from evalkit.registry import parts

ORDER = {
    "type": "object",
    "properties": {"id": {"type": "integer"}, "when": {"type": "string", "format": "date"}},
    "required": ["id"],
    "additionalProperties": False,
}


def schema_metric(schema=ORDER, **options):
    return JsonSchemaMetric("json_schema", JsonSchemaMetric.Options(schema=schema, **options))


def fields_metric(**options):
    return JsonFieldsMetric("json_fields", JsonFieldsMetric.Options.model_validate(options))


def grade(metric, answer, *targets, finish="stop"):
    sample = Sample("s", 0, {}, targets, (), {}, None)
    return metric.score(sample, [Completion("r", answer, finish)])


def measured(metric, *scores):
    stats_NK = np.array([score.statistics for score in scores])
    return {measure.name: measure.aggregate(stats_NK) for measure in metric.measures}


def graded(gold, answer, **options):
    """The measures of one document; ``answer`` is JSON text or a document."""
    metric = fields_metric(**options)
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return measured(metric, grade(metric, text, json.dumps(gold)))


# --- json_schema -----------------------------------------------------------------------------------------------

COLUMNS = ("parse_strict", "parse_fenced", "valid", "valid_fenced", "truncated")


@pytest.mark.parametrize(
    ("answer", "finish", "indicators", "note"),
    [
        ("", "stop", "00000", "not JSON"),
        ("I'm sorry, I cannot help with that.", "stop", "00000", "not JSON"),
        ('<think>{"id": 1}</think> No.', "stop", "00000", "not JSON"),
        ('{"іd": 1}', "stop", "11000", "Additional properties"),  # a Ukrainian і
        ('{"id": NaN}', "stop", "00000", "not JSON: NaN is not JSON"),
        ('{"id": 1, "id": 1}', "stop", "00000", "twice"),
        ("[" * 100_000, "stop", "00000", "nested deeper"),
        ('{"id": "1"}', "stop", "11000", '/id: "1" is not of type "integer"'),
        ('{"id": 1, "when": "2024-02-30"}', "stop", "11000", '/when: "2024-02-30" is not a "date"'),
        ("{}", "stop", "11000", 'the document: "id" is a required property'),
        ('{"id": 1', "length", "00001", "cut off at the token limit; not JSON"),
        ('{"id": 1}', "length", "11001", "cut off at the token limit"),
        ('```json\n{"id": 1}\n```', "stop", "01010", "not JSON"),
        ('```json\n{"id": "1"}\n```', "stop", "01000", "/id"),
        ('```json\n{"id": 1}\n', "length", "01001", "cut off"),
        ('{"id": 1.0}', "stop", "11110", ""),  # 1.0 is an integer since draft 6
        ('{"id": 123456789012345678901234567890}', "stop", "11110", ""),
        (' {"id": 1, "when": "2024-02-29"}\n', "stop", "11110", ""),
    ],
)
def test_each_rate_asks_one_thing_of_the_answer_and_the_note_says_what_failed(
    answer, finish, indicators, note
):
    score = grade(schema_metric(), answer, finish=finish)
    assert dict(zip(COLUMNS, score.statistics, strict=True)) == dict(
        zip(COLUMNS, map(float, indicators), strict=True)
    )
    assert note in score.note
    assert bool(note) == bool(score.note)
    assert len(score.note) <= 300


def test_the_rates_are_shares_of_all_answers():
    metric = schema_metric()
    answers = ['{"id": 1}', "{}", "no", '```\n{"id": 1}\n```']
    assert measured(metric, *(grade(metric, answer) for answer in answers)) == {
        "parse_strict": 0.5,
        "parse_fenced": 0.75,
        "valid": 0.25,
        "valid_fenced": 0.5,
        "truncated": 0.0,
    }
    assert [measure.better for measure in metric.measures] == ["higher"] * 4 + ["lower"]
    assert not metric.needs_target


def test_format_is_a_remark_only_on_demand():
    answer = '{"id": 1, "when": "tomorrow"}'
    assert grade(schema_metric(), answer).statistics[2] == 0.0
    assert grade(schema_metric(assert_format=False), answer).statistics[2] == 1.0


@pytest.mark.parametrize(
    ("draft", "valid"),
    [  # JSON Schema 2019-09, section 8.2.4.1 / draft 7, section 8.3: before 2019-09, siblings of $ref are ignored
        ("http://json-schema.org/draft-07/schema#", 1.0),
        ("https://json-schema.org/draft/2019-09/schema", 0.0),
        (None, 0.0),
    ],
)
def test_the_draft_is_the_one_the_schema_names_and_2020_12_otherwise(draft, valid):
    schema = {"definitions": {"any": {}}, "$ref": "#/definitions/any", "maximum": 3}
    metric = schema_metric(schema | ({"$schema": draft} if draft else {}))
    assert grade(metric, "5").statistics[2] == valid


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"$ref": "https://example.com/order.json"}, "lies outside the schema; nothing is fetched"),
        ({"properties": {"a": {"$ref": "http://localhost:1/a.json"}}}, "nothing is fetched"),
        ({"$ref": "order.json"}, "nothing is fetched"),
        ({"$ref": "file:///etc/passwd"}, "lies outside the schema; nothing is fetched"),
        ({"$ref": "#/$defs/absent"}, "/\\$defs/absent"),
        ({"$schema": "https://example.com/meta"}, "meta-schema"),
        ({"type": "strin"}, "at /type"),
        ({"properties": {"a": {"minimum": "3"}}}, "at /properties/a/minimum"),
        ({"pattern": "("}, "at /pattern"),
        ("schemas/order.json", "must be a JSON Schema document"),
    ],
)
def test_a_schema_that_cannot_serve_is_refused_when_the_metric_is_built(schema, words):
    with pytest.raises(ValueError, match=words):
        schema_metric(schema)


def test_a_boolean_is_a_schema():
    assert grade(schema_metric(True), "[1]").statistics[2] == 1.0
    assert grade(schema_metric(False), "[1]").statistics[2] == 0.0


def test_a_hostile_string_does_not_stall_the_pattern_of_a_schema():
    metric = schema_metric({"pattern": "^(a|a)*(?=c)$"})
    score = grade(metric, json.dumps("a" * 4000 + "b"))
    assert score.statistics[2] == 0.0
    assert "backtracking" in score.note


def test_a_schema_that_refers_to_itself_reads_the_deepest_document():
    deep = '{"a":' * 127 + "{}" + "}" * 127
    metric = schema_metric({"type": "object", "additionalProperties": {"$ref": "#"}})
    assert grade(metric, deep).statistics[2] == 1.0


# --- json_fields: what must not score ----------------------------------------------------------------------------

ADDRESS = {
    "name": "Ada",
    "ship": {"city": "Rome", "zip": "00118"},
    "items": [{"sku": "a", "qty": 1}],
    "gift": None,
}


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "I'm sorry, I cannot help with that.",
        f"<think>{json.dumps(ADDRESS)}</think>",
        f"```json\n{json.dumps(ADDRESS)}\n```",
        json.dumps(ADDRESS)[:-1],
        json.dumps(ADDRESS) + "!",
        '{"name": NaN}',
        '{"name": "Ada", "name": "Ada"}',
        "[" * 100_000,
    ],
    ids=lambda text: text[:20],
)
def test_an_answer_that_does_not_parse_scores_0_everywhere_and_misses_every_gold_leaf(answer):
    metric = fields_metric(fields=["/name"])
    score = grade(metric, answer, json.dumps(ADDRESS))
    assert score.statistics == (0, 0, 6, 0, 0, 0, 0)
    assert score.note.startswith("not JSON")
    assert set(measured(metric, score).values()) == {0.0}


@pytest.mark.parametrize(
    "answer", ["{}", "[]", "null", '"Ada"', "1", '{"Name": "Ada"}', '{"name": "Аda"}']
)
def test_an_answer_with_nothing_right_scores_0(answer):
    values = graded(ADDRESS, answer)
    assert set(values.values()) == {0.0}


def test_a_sample_without_a_readable_target_is_unscored():
    assert grade(fields_metric(), "{}") == Unscored("no target")
    unscored = grade(fields_metric(), "{}", "{'a': 1}")
    assert isinstance(unscored, Unscored)
    assert unscored.reason == "target is not JSON"
    assert unscored.note


def test_a_fence_is_tolerated_only_on_demand():
    fenced = f"```json\n{json.dumps(ADDRESS)}\n```"
    assert graded(ADDRESS, fenced)["f1"] == 0.0
    assert graded(ADDRESS, fenced, parse="fenced")["f1"] == 1.0


# --- json_fields: laws --------------------------------------------------------------------------------------------


def payload(rng):
    """A nested document of exactly 100 leaves, and the paths of its leaves."""
    document = {
        "head": {f"h{i}": rng.choice(["x", 1.5, 7, True, None]) for i in range(20)},
        "lines": [
            {"sku": f"s{i}", "qty": i, "tags": ["a", "b", {"deep": {"er": i}}]} for i in range(12)
        ],
        "notes": [[f"n{i}{j}" for j in range(4)] for i in range(5)],
    }
    return document, [*_leaf_paths(document)]


def _leaf_paths(value, path=()):
    if isinstance(value, dict | list):
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaf_paths(inner, (*path, name))
    else:
        yield path


def _parent(document, path):
    for name in path[:-1]:
        document = document[name]
    return document


@given(st.integers(0, 100), st.randoms(use_true_random=False))
def test_k_of_100_leaves_mutated_give_precision_and_recall_of_100_minus_k_percent(k, rng):
    gold, paths = payload(rng)
    answer = copy.deepcopy(gold)
    for path in rng.sample(paths, k):
        _parent(answer, path)[path[-1]] = "mutated"
    values = graded(gold, answer)
    right = (100 - k) / 100
    for name in ("precision", "recall", "f1", "macro_f1", "accuracy"):
        assert values[name] == pytest.approx(right, abs=1e-15)
    assert values["exact_document"] == (k == 0)


@given(st.integers(0, 20), st.randoms(use_true_random=False))
def test_k_of_100_leaves_deleted_cost_recall_and_not_precision(k, rng):
    gold, _ = payload(rng)
    answer = copy.deepcopy(gold)
    for name in rng.sample(sorted(gold["head"]), k):
        del answer["head"][name]
    values = graded(gold, answer)
    if k == 20:  # the emptied object is itself a leaf, and a wrong one
        assert values["precision"] == pytest.approx(80 / 81)
    else:
        assert values["precision"] == 1.0
        assert values["accuracy"] == pytest.approx((100 - k) / 100)
    assert values["recall"] == pytest.approx((100 - k) / 100)


@given(st.integers(0, 50), st.randoms(use_true_random=False))
def test_k_leaves_added_to_100_cost_precision_and_not_recall(k, rng):
    gold, _ = payload(rng)
    answer = copy.deepcopy(gold)
    for i in range(k):
        rng.choice([answer, answer["head"], answer["lines"][0]])[f"extra{i}"] = i
    values = graded(gold, answer)
    assert values["precision"] == pytest.approx(100 / (100 + k))
    assert values["recall"] == 1.0
    assert values["accuracy"] == pytest.approx(100 / (100 + k))
    assert values["exact_document"] == (k == 0)


# --- json_fields: what is equal -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        ("1", "1.0", True),
        ("1", "true", False),
        ("0", "false", False),
        ("1", '"1"', False),
        ("null", "0", False),
        ('""', "null", False),
        ("{}", "[]", False),
        ("{}", "{}", True),
        ("[]", "null", False),
        ("9007199254740993", "9007199254740992.0", False),
        ("100", "1e2", True),
        ('"\\u00e9"', '"é"', True),
        ('"é"', '"e\\u0301"', False),
        ('"Rome"', '"rome"', False),
        ('"Rome"', '" Rome"', False),
    ],
)
def test_leaves_are_equal_by_type_and_value(gold, answer, right):
    metric = fields_metric()
    assert grade(metric, answer, gold).statistics[0] == float(right)


def test_null_is_not_missing():
    values = graded({"a": 1, "b": None}, {"a": 1})
    assert (values["precision"], values["recall"]) == (1.0, 0.5)


def test_a_member_named_0_is_not_the_first_element():
    assert graded({"a": ["x"]}, {"a": {"0": "x"}})["f1"] == 0.0


@pytest.mark.parametrize(
    ("options", "gold", "answer", "right"),
    [
        ({"ignore_case": True}, "Rome", "ROME", True),
        ({"strip": True}, "Rome", " Rome\n", True),
        ({"strip": True}, "Rome", "rome", False),
        ({"tolerance": 0.01}, 19.99, 20.00, True),
        ({"tolerance": 0.01}, 19.99, 20.001, False),
        ({"tolerance": 0.01}, 1, True, False),
        ({"tolerance": 1.0}, 10**400, 10**400 + 1, True),
        ({"tolerance": 1.0}, 10**400, 1.5, False),
        ({"relative_tolerance": 0.1}, 200, 220, True),
        ({"relative_tolerance": 0.1}, 200, 221, False),
        ({"relative_tolerance": 0.1}, -200, -180, True),
    ],
)
def test_strings_and_numbers_are_equal_as_the_options_say(options, gold, answer, right):
    assert graded({"v": gold}, {"v": answer}, **options)["exact_document"] == float(right)


def test_an_override_holds_beneath_its_pointer_and_the_narrower_one_wins():
    gold = {
        "a": {"x": "R", "y": {"z": "R"}},
        "b": "R",
        "rows": [{"p": 1.0, "q": 1.0}, {"p": 1.0, "q": 1.0}],
    }
    answer = {
        "a": {"x": "r", "y": {"z": "r"}},
        "b": "r",
        "rows": [{"p": 1.2, "q": 1.2}, {"p": 1.2, "q": 1.2}],
    }

    def right(**overrides):
        metric = fields_metric(overrides=overrides)
        return grade(metric, json.dumps(answer), json.dumps(gold)).statistics[0]

    assert right() == 0
    assert right(**{"/a": {"ignore_case": True}}) == 2
    assert right(**{"/a": {"ignore_case": True}, "/a/y": {"ignore_case": False}}) == 1
    assert right(**{"/a/y": {"ignore_case": False}, "/a": {"ignore_case": True}}) == 1
    assert right(**{"": {"ignore_case": True}}) == 3
    assert right(**{"/rows/*/p": {"tolerance": 0.2}}) == 2
    assert right(**{"/rows/*/p": {"tolerance": 0.2}, "/rows/1/p": {"tolerance": 0.1}}) == 1
    assert right(**{"/rows/1/p": {"tolerance": 0.1}, "/rows/*/p": {"tolerance": 0.2}}) == 1
    assert right(**{"/*": {"tolerance": 0.2}}) == 4


def test_what_an_override_leaves_unset_is_inherited():
    metric = fields_metric(ignore_case=True, overrides={"/a": {"strip": True}})
    assert grade(metric, '{"a": " rome"}', '{"a": "Rome"}').statistics[0] == 1


def test_what_is_ignored_counts_on_neither_side():
    gold = {"id": 1, "a": 2, "rows": [{"id": 1, "v": 1}, {"id": 2, "v": 2}]}
    answer = {
        "id": 9,
        "a": 2,
        "rows": [{"v": 1}, {"id": 7, "v": 2, "note": "x"}],
        "trace": {"x": [1, 2]},
    }
    values = graded(gold, answer, ignore=["/id", "/rows/*/id", "/rows/*/note", "/trace"])
    assert values["exact_document"] == 1.0
    assert values["precision"] == values["recall"] == 1.0


def test_arrays_go_by_index_unless_told_otherwise():
    assert graded(["a", "b", "c"], ["b", "a", "c"])["recall"] == pytest.approx(1 / 3)
    assert graded(["a", "b", "c"], ["b", "a", "c"], arrays="assign")["recall"] == 1.0
    assert graded(["a", "b"], ["b", "b", "a"], arrays="assign")["precision"] == pytest.approx(2 / 3)


def test_elements_are_paired_by_their_key():
    gold = [{"id": 1, "v": "a"}, {"id": "1", "v": "b"}, {"id": True, "v": "c"}, {"id": 4, "v": "d"}]
    answer = [
        {"id": True, "v": "c"},
        {"v": "x"},
        {"id": 1.0, "v": "a"},
        {"id": "1", "v": "B"},
        {"id": 1, "v": "z"},
    ]
    metric = fields_metric(arrays="key")
    right, predicted, total, *_ = grade(metric, json.dumps(answer), json.dumps(gold)).statistics
    assert (right, predicted, total) == (5, 9, 8)  # the id and v of true and 1, the id of "1"


def test_arrays_without_keys_go_by_index_even_where_keys_are_asked_for():
    assert graded(["a", "b"], ["b", "a"], arrays="key")["recall"] == 0.0
    twice = [{"id": 1, "v": "a"}, {"id": 1, "v": "b"}]
    assert graded(twice, twice, arrays="key")["recall"] == 1.0


def test_free_pairing_makes_most_leaves_right_before_it_aligns_most():
    gold = [{"x": 1, "p": 0, "q": 0, "r": 0}]
    answer = [{"x": 9, "p": 9, "q": 9, "r": 9}, {"x": 1}]
    score = grade(fields_metric(arrays="assign"), json.dumps(answer), json.dumps(gold))
    assert score.statistics[:3] == (1, 5, 4)
    assert score.statistics[4] == 1 / 8  # 4 gold and 5 predicted leaves, one of them aligned


def test_arrays_too_long_to_pair_freely_go_by_index():
    gold = {"rows": list(range(200))}
    hostile = {"rows": [*["x"] * 10_000, *range(200)]}
    assert graded(gold, {"rows": [*["x"] * 100, *range(200)]}, arrays="assign")["recall"] == 1.0
    assert graded(gold, hostile, arrays="assign")["recall"] == 0.0


@pytest.mark.parametrize("arrays", ["index", "key", "assign"])
def test_the_deepest_document_is_compared(arrays):
    deep = "[" * 128 + "]" * 128
    assert grade(fields_metric(arrays=arrays), deep, deep).statistics[:3] == (1, 1, 1)


# --- json_fields: aggregates ---------------------------------------------------------------------------------------


def test_micro_counts_leaves_and_macro_counts_documents():
    metric = fields_metric()
    scores = [
        grade(metric, '{"a": 1}', '{"a": 1}'),  # 1 of 1
        grade(
            metric, '{"a": 1, "b": 2}', '{"a": 1, "b": 0, "c": 0, "d": 0}'
        ),  # 1 of 2 predicted, of 4 gold
        grade(metric, "no", '{"a": 1}'),  # nothing of 1
    ]
    assert measured(metric, *scores) == pytest.approx(
        {
            "precision": 2 / 3,
            "recall": 2 / 6,
            "f1": 4 / 9,
            "macro_f1": (1 + 1 / 3 + 0) / 3,
            "accuracy": (1 + 1 / 4 + 0) / 3,
            "exact_document": 1 / 3,
        }
    )


def test_precision_and_recall_have_no_value_without_documents():
    metric = fields_metric()
    empty = np.zeros((0, len(metric.columns)))
    assert all(np.isnan(measure.aggregate(empty)) for measure in metric.measures)


def test_aggregates_of_resamples_are_those_of_each_resample():
    metric = fields_metric()
    rng = random.Random(1)
    scores = []
    for k in range(8):
        gold, paths = payload(rng)
        answer = copy.deepcopy(gold)
        for path in rng.sample(paths, 10 * k):
            _parent(answer, path)[path[-1]] = "mutated"
        scores.append(grade(metric, json.dumps(answer), json.dumps(gold)))
    stats_NK = np.array([score.statistics for score in scores])
    weights_BN = np.random.default_rng(0).multinomial(8, np.full(8, 1 / 8), size=5).astype(float)
    for measure in metric.measures:
        values_B = measure.from_sums(weights_BN @ stats_NK, np.full(5, 8.0))
        one_by_one = [
            measure.aggregate(np.repeat(stats_NK, w.astype(int), axis=0)) for w in weights_BN
        ]
        assert values_B == pytest.approx(one_by_one)


def test_of_several_targets_the_one_met_best_counts():
    score = grade(fields_metric(), '{"a": 1, "b": 2}', '{"a": 0}', '{"a": 1, "b": 2}', '{"b": 2}')
    assert score.statistics == (2, 2, 2, 1, 1, 1)


@pytest.mark.parametrize(
    ("gold", "answer", "city", "first"),
    [
        ({"ship": {"city": "Rome"}, "rows": [1]}, {"ship": {"city": "Rome"}, "rows": [1, 2]}, 1, 1),
        ({"ship": {"city": "Rome"}, "rows": [1]}, {"ship": {}, "rows": [2]}, 0, 0),
        ({"rows": [{"a": 1}]}, {"rows": [{"a": 1, "b": 2}]}, 1, 0),
        ({}, {"ship": {"city": None}}, 0, 1),
        ({"ship": {"city": "Rome"}, "rows": []}, {"ship": {"city": " ROME"}, "rows": 1}, 1, 1),
    ],
)
def test_a_field_is_right_when_it_is_equal_or_absent_from_both(gold, answer, city, first):
    overrides = {"/ship": {"strip": True, "ignore_case": True}}
    values = graded(gold, answer, fields=["/ship/city", "/rows/0"], overrides=overrides)
    assert (values["field.ship.city"], values["field.rows.0"]) == (city, first)


def test_names_of_field_measures_fit_the_patterns_of_rules():
    names = [m.name for m in fields_metric(fields=["/a b/@c~1d", "/f1"]).measures][6:]
    assert names == ["field.a_b._c_d", "field.f1"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ignore": ["ship.city"]}, "is no JSON Pointer: write it as '/ship/city'"),
        ({"overrides": {"a": {"strip": True}}}, "is no JSON Pointer"),
        ({"fields": ["/rows/*/id"]}, "without '\\*'"),
        ({"fields": [""]}, "one field each"),
        ({"fields": ["/a/b"], "ignore": ["/a"]}, "ignored"),
        ({"fields": ["/a/b", "/a.b"]}, "one name"),
        ({"overrides": {"/a": {"tolerence": 1}}}, "tolerence"),
        ({"tolerance": -1}, "tolerance"),
        ({"tolerance": float("nan")}, "tolerance"),
    ],
)
def test_options_that_cannot_serve_are_refused_when_the_metric_is_built(options, words):
    with pytest.raises(ValueError, match=words):
        fields_metric(**options)


def test_unknown_options_are_refused():
    with pytest.raises(ValidationError, match="Extra inputs"):
        fields_metric(array="assign")


@pytest.mark.parametrize(
    ("gold", "answer", "note"),
    [
        ({"a": {"b": ["x", 1]}}, {"a": {"b": ["x", 2]}}, "/a/b/1: expected 1, found 2"),
        ({"a": 1, "b": 2}, {"b": 3}, "/a: missing"),
        ({"a": 1}, {"a": 1, "x/y": 2}, "/x~1y: not expected"),
        ([1], [1, 2], "/1: not expected"),
        ({"a": {"b": 1}}, {"a": "b"}, '/a: expected {"b": 1}, found "b"'),
        (1, 2, "the document: expected 1, found 2"),
    ],
)
def test_the_note_names_the_first_difference(gold, answer, note):
    assert grade(fields_metric(), json.dumps(answer), json.dumps(gold)).note == note


def test_an_unset_option_of_an_override_is_not_its_default_in_the_signature():
    unset = fields_metric(ignore_case=True, overrides={"/a": {"strip": True}})
    explicit = fields_metric(
        ignore_case=True, overrides={"/a": {"strip": True, "ignore_case": False}}
    )
    assert unset.signature != explicit.signature
    assert fields_metric().signature != fields_metric(tolerance=0.1).signature


def test_scores_are_plain_finite_floats_and_the_metrics_are_registered():
    score = grade(fields_metric(fields=["/a"]), '{"a": 1}', '{"a": 1}')
    assert isinstance(score, Score)
    assert {type(number) for number in score.statistics} == {float}
    assert {"json_schema", "json_fields"} <= set(parts("metric"))
