"""Answers that match a target: what must not score first, then published definitions and data sets."""

from __future__ import annotations

import json
import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.metrics.answer import final_answer
from evalkit.metrics.match import Contains, ExactMatch, Numeric, Regex, Squad
from evalkit.metrics.numbers import first_number, last_number
from evalkit.metrics.patterns import repeats_repetition
from evalkit.records.exchange import Completion, Sample, Score, Unscored
from evalkit.registry import parts


def build(kind, **options):
    return kind("metric", kind.Options(**options))


def grade(metric, answer, *targets):
    sample = Sample("s", 0, {}, targets, (), {}, None)
    return metric.score(sample, [Completion("r", answer, "stop")])


def first(metric, answer, *targets):
    score = grade(metric, answer, *targets)
    assert isinstance(score, Score), score
    return score.statistics[0]


FAMILY = {
    "exact_match": build(ExactMatch),
    "exact_match squad": build(ExactMatch, normalise="squad", ignore_case=True),
    "contains": build(Contains, ignore_case=True),
    "regex": build(Regex, pattern=r"(\w+)\W*$", extract=1, ignore_case=True),
    "numeric": build(Numeric),
    "squad": build(Squad),
}


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize(
    "answer",
    [
        "",
        "   \n",
        "I'm sorry, I cannot help with that.",
        "<think>It must be 18.</think> I do not know.",
        "<think>It must be 18",
        "１８",  # full-width digits
        "1\u200b8",  # a zero-width space inside
        "l8",  # the letter l
        "۱۸",  # Arabic-Indic digits
        "1" * 200_000,
    ],
)
def test_what_is_no_answer_of_18_scores_0_and_is_not_left_out(name, answer):
    assert set(grade(FAMILY[name], answer, "18").statistics[:1]) == {0.0}


@pytest.mark.parametrize("name", FAMILY)
def test_the_answer_itself_is_right_and_no_target_is_unscored(name):
    assert first(FAMILY[name], "18", "18") == 1.0
    assert first(FAMILY[name], "<think>17? No.</think>18", "18") == 1.0
    assert grade(FAMILY[name], "18") == Unscored("no target")


@pytest.mark.parametrize("name", FAMILY)
def test_any_of_several_targets_will_do(name):
    assert first(FAMILY[name], "18", "17", "18", "19") == 1.0
    assert first(FAMILY[name], "16", "17", "18", "19") == 0.0


def test_reasoning_is_part_of_the_answer_only_on_demand():
    kept = build(Contains, reasoning="keep")
    assert first(kept, "<think>It must be 18.</think> I do not know.", "18") == 1.0


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("plain", "plain"),
        ("a</think>b", "b"),
        ("<think>a</think>b<think>c</think>d", "d"),
        ("b<think>never closed", "b"),
        ("<think></think>", ""),
    ],
)
def test_the_answer_is_what_stands_after_the_reasoning(text, answer):
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("options", "answer", "target", "right"),
    [
        ({}, " Paris\n", "Paris", 1),
        ({}, "paris", "Paris", 0),
        ({}, "Paris.", "Paris", 0),
        ({"normalise": "none"}, "Paris ", "Paris", 0),
        ({"ignore_case": True}, "STRASSE", "straße", 1),
        ({"ignore_case": True}, "Pаris", "paris", 0),  # a Cyrillic а
        ({"normalise": "squad"}, "The Paris!", "paris", 1),
    ],
)
def test_exact_match_normalises_as_its_options_say(options, answer, target, right):
    assert first(build(ExactMatch, **options), answer, target) == right


@pytest.mark.parametrize(
    ("options", "answer", "target", "right"),
    [
        ({}, "The capital is Paris.", "Paris", 1),
        ({}, "The capital is paris.", "Paris", 0),
        ({}, "concatenate", "cat", 1),
        ({"whole_words": True}, "concatenate", "cat", 0),
        ({"whole_words": True}, "the cat.", "cat", 1),
        ({"whole_words": True}, "is it C++?", "C++", 1),
        ({"whole_words": True}, "(a+b) is .", ".*", 0),
    ],
)
def test_contains_finds_a_target_in_the_answer(options, answer, target, right):
    assert first(build(Contains, **options), answer, target) == right


@pytest.mark.parametrize(
    ("options", "target"), [({}, ""), ({}, "  "), ({"normalise": "squad"}, "The")]
)
def test_an_empty_target_would_be_in_every_answer_so_it_cannot_be_graded(options, target):
    assert grade(build(Contains, **options), "anything", "x", target) == Unscored("target is empty")


@pytest.mark.parametrize(
    ("options", "answer", "targets", "statistics"),
    [
        ({"pattern": r"\d+"}, "room 12", (), (1,)),
        ({"pattern": r"\d+", "where": "full"}, "room 12", (), (0,)),
        ({"pattern": r"\d+", "where": "full"}, "12", (), (1,)),
        ({"pattern": r"\d+", "where": "full"}, "12\n", (), (0,)),
        ({"pattern": r"ANSWER: (\w)", "extract": 1}, "ANSWER: B, or ANSWER: C", ("B",), (1, 1)),
        (
            {"pattern": r"ANSWER: (\w)", "extract": 1, "take": "last"},
            "ANSWER: B, or ANSWER: C",
            ("B",),
            (0, 1),
        ),
        ({"pattern": r"ANSWER: (?P<x>\w)", "extract": "x"}, "answer: B", ("B",), (0, 0)),
        ({"pattern": r"(a)|(b)", "extract": 2}, "a", ("a",), (0, 0)),
        (
            {"pattern": r"is (.*)", "extract": 1, "ignore_case": True},
            "it is ROME ",
            ("Rome",),
            (1, 1),
        ),
    ],
)
def test_a_pattern_matches_or_extracts_what_must_equal_a_target(
    options, answer, targets, statistics
):
    assert grade(build(Regex, **options), answer, *targets).statistics == statistics


def test_a_pattern_without_a_group_to_compare_needs_no_target():
    assert not build(Regex, pattern="x").needs_target
    assert [m.name for m in build(Regex, pattern="x").measures] == [""]
    extracting = build(Regex, pattern="(x)", extract=1)
    assert extracting.needs_target
    assert [m.name for m in extracting.measures] == ["", "extracted"]


def test_an_answer_too_long_for_a_pattern_is_wrong_and_says_so():
    score = grade(build(Regex, pattern="a", longest_answer=10), "a" * 11)
    assert score.statistics == (0.0,)
    assert "11 characters" in score.note


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pattern": "("}, "no regular expression"),
        ({"pattern": "a{99999999999}"}, "no regular expression"),
        ({"pattern": "(a+)+$"}, "exponential"),
        ({"pattern": "a(b)", "extract": 2}, "no group 2"),
        ({"pattern": "a(?P<x>b)", "extract": "y"}, "no group 'y'"),
    ],
)
def test_a_pattern_that_cannot_serve_is_refused_when_the_metric_is_built(options, words):
    with pytest.raises(ValueError, match=words):
        build(Regex, **options)


# The patterns that catastrophic-backtracking guides warn of (OWASP, "Regular expression Denial of Service"), and
# patterns people write every day.
@pytest.mark.parametrize(
    ("pattern", "refused"),
    [
        ("(a+)+", True),
        ("([a-zA-Z]+)*", True),
        (r"^(([a-z])+.)+[A-Z]([a-z])+$", True),
        (r"(?:\w+\s*)+:", True),
        (r"(?P<n>\d+,?)*", True),
        ("(x{2,}y?)+", True),
        ("((a*)b?)*", True),
        ("(a+){2,}", True),
        ("(?x) ( a+  # one or (more\n )+ ", True),
        (r"(?:\w++\s*+)+:", False),
        ("(?>a+)+", False),
        ("(?=a+)+b", False),
        ("(a+)++", False),
        (r"\(a+\)+", False),
        ("[(a+)]+", False),
        ("[]+)]+(a)+", False),
        (r"####\s*(-?[\d,]+(?:\.\d+)?)", False),
        (r"(?:\d{1,3},)*\d+", False),
        ("(a+)(b)+", False),
        ("(?#(a+)x+", False),
        (r"(\w+)?", False),
        (r"(\w+){3}", False),
    ],
)
def test_a_repeated_repetition_is_found_unless_it_is_possessive_atomic_or_quoted(pattern, refused):
    assert repeats_repetition(re.compile(pattern)) is refused


# What people and models write; the reading of each is the plain one.
@pytest.mark.parametrize(
    ("text", "first_one", "last_one"),
    [
        ("18", "18", "18"),
        ("It costs $1,234.50.", "1234.50", "1234.50"),
        ("between 3-5", "3", "5"),
        ("3 - 5 = -2", "3", "-2"),
        ("(1)-2", "1", "2"),
        ("−7 degrees", "-7", "-7"),
        ("-$5 and $-6", "-5", "-6"),
        ("+4", "4", "4"),
        ("answer: .5", "0.5", "0.5"),
        ("so... 5", "5", "5"),
        ("so...5", "5", "5"),
        ("50%", "50", "50"),
        ("3/4", "3", "4"),
        ("6.02e23", "6.02e23", "6.02e23"),
        ("1E-3 m", "0.001", "0.001"),
        ("1,2,3", "1", "3"),
        ("12,34", "12", "34"),
        ("1,2345", "1", "2345"),
        ("1,000,000", "1000000", "1000000"),
        ("\\boxed{42}", "42", "42"),
        ("x=5.", "5", "5"),
        ("007", "7", "7"),
        ("20cm", "20", "20"),
        ("CO2 and H2O", None, None),
        ("GPT-4 says so", None, None),
        ("version 1.2.3", None, None),
        ("1e99999", "1", "1"),
        ("none", None, None),
        ("", None, None),
    ],
)
def test_numbers_are_read_as_people_write_them(text, first_one, last_one):
    assert first_number(text) == (first_one and Decimal(first_one))
    assert last_number(text) == (last_one and Decimal(last_one))


@pytest.mark.parametrize(
    ("options", "answer", "target", "statistics"),
    [
        ({}, "18.0", "18", (1, 1)),
        ({}, "$18", "18", (1, 1)),
        ({}, "I had 20, now 18.", "18", (1, 1)),
        ({"extract": "first"}, "I had 20, now 18.", "18", (0, 1)),
        ({}, "no idea", "18", (0, 0)),
        ({}, "18.000000000000000000000000000001", "18", (0, 1)),
        ({"extract": "after"}, "9 * 2\n#### 18\n\nQ: 5 more\n#### 23", "18", (1, 1)),
        ({"extract": "after"}, "####\n18", "18", (1, 1)),
        ({"extract": "after"}, "it is 18", "18", (0, 0)),
        ({"extract": "after"}, "#### none\nof the 18", "18", (0, 0)),
        ({"extract": "after", "marker": "A:"}, "A: $18", "2*9\nA: 18", (1, 1)),
        ({"tolerance": 0.01}, "20.00", "19.99", (1, 1)),
        ({"tolerance": 0.01}, "20.001", "19.99", (0, 1)),
        ({"tolerance": 1.0}, "1.0004", "0", (0, 1)),
        ({"relative_tolerance": 0.05}, "105", "100", (1, 1)),
        ({"relative_tolerance": 0.05}, "105.1", "100", (0, 1)),
        ({"relative_tolerance": 0.05}, "-95", "-100", (1, 1)),
        ({}, "1" + "0" * 5000, "1" + "0" * 5000, (1, 1)),
    ],
)
def test_numbers_are_equal_by_value_or_within_a_tolerance_in_decimal(
    options, answer, target, statistics
):
    assert grade(build(Numeric, **options), answer, target).statistics == statistics


@pytest.mark.parametrize("target", ["eighteen", "", "18 eggs", "3 #### 18"])
def test_a_target_that_is_no_number_cannot_be_graded(target):
    assert grade(build(Numeric), "18", target) == Unscored("target is not a number")


def test_every_worked_answer_of_gsm8k_grades_correct_and_its_neighbour_wrong(shared_data):
    lines = (shared_data / "gsm8k" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    answers = [json.loads(line)["answer"] for line in lines]
    after, last = build(Numeric, extract="after"), build(Numeric)
    assert len(answers) == 1319
    for answer in answers:
        target = answer.rpartition("####")[2].strip()  # the data set's own definition of the result
        assert grade(after, answer, answer).statistics == (1.0, 1.0)
        assert grade(after, answer, target).statistics == (1.0, 1.0)
        assert grade(last, answer, target).statistics == (1.0, 1.0)
        wrong = str(Decimal(target.replace(",", "")) + 1)
        assert grade(after, answer, wrong).statistics == (0.0, 1.0)


# Computed with the published program evaluate-v1.1 (functions normalize_answer, f1_score, exact_match_score and the
# maximum over golds).
SQUAD = [
    ("Denver Broncos", ["Denver Broncos", "The Denver Broncos"], 1, 1.0),
    ("the Denver Broncos.", ["Denver Broncos"], 1, 1.0),
    ("Denver Broncos won the game", ["Denver Broncos"], 0, 0.6666666666666666),
    ("Broncos", ["Denver Broncos", "Carolina Panthers"], 0, 0.6666666666666666),
    ("1,000", ["1000"], 1, 1.0),
    ("U.S.", ["us"], 1, 1.0),
    ("the theatre", ["theatre"], 1, 1.0),
    ("a\tan  the", ["x"], 0, 0),
    ("it's", ["its"], 1, 1.0),
    ("“Denver”", ["Denver"], 0, 0),  # punctuation beyond ASCII stays
    ("Saint-Denis", ["Saint Denis"], 0, 0),
    ("the the cat cat sat", ["cat sat sat"], 0, 0.6666666666666666),
    ("", ["Denver"], 0, 0),
    ("I cannot answer that.", ["Denver"], 0, 0),
    ("Dеnver", ["Denver"], 0, 0),  # a Cyrillic е
    ("ÉCOLE", ["école"], 1, 1.0),
    ("gold gold gold", ["gold", "golden gold"], 0, 0.5),
    ("New York City in the USA", ["York City", "New York"], 0, 0.5714285714285715),
]


@pytest.mark.parametrize(("answer", "targets", "exact", "f1"), SQUAD)
def test_squad_equals_the_published_program(answer, targets, exact, f1):
    assert grade(build(Squad), answer, *targets).statistics == pytest.approx((exact, f1), abs=1e-15)


# evaluate-v2.0, compute_f1: "If either is no-answer, then F1 is 1 if they agree, 0 otherwise".
@pytest.mark.parametrize(
    ("answer", "target", "f1"), [("", "", 1), ("the", "", 1), ("", "x", 0), ("x", "an", 0)]
)
def test_squad_f1_of_texts_that_are_empty_in_normal_form_is_that_of_evaluate_v2(answer, target, f1):
    assert grade(build(Squad), answer, target).statistics[1] == f1


WORDS = st.text(st.sampled_from("aAbthe n.,-é“ \t"), max_size=20)


@given(WORDS, WORDS)
def test_squad_f1_is_symmetric_and_1_exactly_where_the_bags_of_words_agree(left, right):
    exact, forward = grade(build(Squad), left, right).statistics
    _, backward = grade(build(Squad), right, left).statistics
    assert forward == backward
    assert exact <= forward <= 1.0


@given(st.text(max_size=60), st.sampled_from(["none", "strip", "squad"]), st.booleans())
def test_every_text_matches_itself(text, normalise, ignore_case):
    metric = build(ExactMatch, normalise=normalise, ignore_case=ignore_case, reasoning="keep")
    assert first(metric, text, text) == 1.0


@given(
    st.decimals(
        allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9
    )
)
def test_a_number_written_with_thousands_commas_in_a_sentence_is_read_back(number):
    sentence = f"So the result is {number:,} in all."
    assert last_number(sentence) == number
    assert first_number(sentence) == number


def test_the_signature_tells_every_option_that_changes_the_number():
    plain, caseless = build(ExactMatch), build(ExactMatch, ignore_case=True)
    assert plain.signature != caseless.signature
    assert plain.signature == "metric|ignore_case:no|normalise:strip|reasoning:drop|v:1"


def test_the_family_is_registered_under_its_names():
    assert {"exact_match", "contains", "regex", "numeric", "squad"} <= set(parts("metric"))
