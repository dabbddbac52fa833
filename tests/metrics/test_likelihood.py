"""Perplexity and multiple choice: what is no measurement, known values, and lm-evaluation-harness itself."""

from __future__ import annotations

import json
import math
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.metrics.base import NoOptions
from evalkit.metrics.likelihood import MultipleChoice, Perplexity
from evalkit.records.exchange import Completion, Sample, Score, Unscored

PERPLEXITY = Perplexity("perplexity", NoOptions())
MULTIPLE_CHOICE = MultipleChoice("multiple_choice", NoOptions())

texts = st.text(min_size=1, max_size=40).filter(lambda t: t.isprintable() or "\n" in t)
logprobs = st.floats(-30, -1e-3)


@pytest.fixture(scope="module")
def harness_tasks():
    return pytest.importorskip("lm_eval.api.task", reason="the lm-eval extra is not installed")


def completion(values):
    return Completion("r", "", "stop", logprobs=None if values is None else tuple(values))


def score_text(text, values):
    sample = Sample("s", 0, {}, (text,), (), {}, None)
    return PERPLEXITY.score(sample, [completion(values)])


def score_choices(choices, values, target="0"):
    targets = () if target is None else (target,)
    sample = Sample("s", 0, {}, targets, tuple(choices), {}, None)
    return MULTIPLE_CHOICE.score(sample, [completion(v) for v in values])


def statistics(results):
    return np.array([result.statistics for result in results])


def perplexities(stats_NK):
    return {m.name: m.aggregate(stats_NK) for m in PERPLEXITY.measures}


# --- what is no measurement ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (None, "no log-probabilities"),
        ([], "no scored token"),
        ([0.0, 0.0, -0.0], "no log-probabilities"),  # read as a perplexity of 1
        ([-1.0, -math.inf], "a token has probability 0"),
        ([-1.0, -9999.0], "a token has probability 0"),  # what vLLM sends for -inf
        ([-1.0, math.nan], "not log-probabilities"),
        ([math.nan, -1.0], "not log-probabilities"),
        ([-1.0, math.inf], "not log-probabilities"),
        ([-1.0, 0.3], "not log-probabilities"),  # a probability, not its logarithm
    ],
)
def test_what_is_no_measurement_is_unscored_with_its_reason(values, reason):
    perplexity = score_text("to be", values)
    choice = score_choices(["a", "b"], [values, values or None])
    assert isinstance(perplexity, Unscored)
    assert isinstance(choice, Unscored)
    assert perplexity.reason == choice.reason == reason


def test_an_empty_text_has_no_perplexity():
    assert score_text("", [-1.0]) == Unscored("empty text")
    assert isinstance(
        PERPLEXITY.score(Sample("s", 0, {}, (), (), {}, None), [completion([-1.0])]), Unscored
    )


def test_log_probabilities_missing_for_one_choice_leave_the_question_unscored():
    # scored as 0 that choice would always win
    assert score_choices(["a", "b"], [[-1.0], None]) == Unscored("no log-probabilities")
    assert score_choices(["a", "b"], [[-1.0], []]) == Unscored("no scored token")


def test_a_server_without_log_probabilities_scores_nothing_rather_than_chance():
    results = [score_choices("abcd", [[0.0]] * 4, target=str(n % 4)) for n in range(100)]
    assert {type(result) for result in results} == {Unscored}
    assert {result.reason for result in results} == {"no log-probabilities"}


@pytest.mark.parametrize("target", ["2", "-1", "b", "", "1.0", "²", None])
def test_a_target_that_names_no_choice_is_unscored(target):
    result = score_choices(["a", "b"], [[-1.0], [-2.0]], target=target)
    assert isinstance(result, Unscored)
    assert result.reason == "target is not a choice"


def test_an_empty_choice_has_no_length_to_divide_by():
    assert score_choices(["a", ""], [[-1.0], [-2.0]]) == Unscored("empty choice")


def test_a_little_above_zero_is_rounding():
    assert isinstance(score_text("to be", [1e-7, -2.0]), Score)


# --- perplexity ---------------------------------------------------------------------------------


def test_a_uniform_model_over_65_symbols_has_perplexity_65_and_6_0224_bits():
    # log2(65) = 6.0224 (the 65 distinct characters of tinyshakespeare)
    text = "abcde fghij"
    values = perplexities(statistics([score_text(text, [-math.log(65)] * len(text))]))
    assert values["token"] == pytest.approx(65)
    assert values["byte"] == pytest.approx(65)
    assert values["bits_per_byte"] == pytest.approx(6.0224, abs=5e-5)


def test_a_unigram_model_of_tinyshakespeare_has_its_self_entropy(shared_data):
    # 4.779353 bits/byte, from the data's own table of known values; split in pieces that are summed
    text = (shared_data / "tinyshakespeare" / "input.txt").read_text("utf-8")
    assert len(text) == 1_115_394
    logprob = {c: math.log(n / len(text)) for c, n in Counter(text).items()}
    pieces = [text[i : i + 10_007] for i in range(0, len(text), 10_007)]
    values = perplexities(statistics(score_text(p, [logprob[c] for c in p]) for p in pieces))
    assert values["bits_per_byte"] == pytest.approx(4.779353, abs=5e-7)
    assert values["token"] == pytest.approx(2**4.779353, rel=1e-6)


@given(
    st.lists(st.tuples(texts, st.lists(logprobs, min_size=1, max_size=8)), min_size=1, max_size=5)
)
def test_values_are_those_of_the_harness(harness_tasks, cases):
    aggregations = pytest.importorskip("lm_eval.api.metrics")
    harness = harness_tasks.PerplexityTask
    of = SimpleNamespace(
        count_words=harness.count_words,
        count_bytes=harness.count_bytes,
        doc_to_target=lambda doc: doc,
    )
    rows = [harness.process_results(of, text, (math.fsum(values),)) for text, values in cases]
    stats_NK = statistics(score_text(text, values) for text, values in cases)
    ours = perplexities(stats_NK)
    for name, aggregation, key in [
        ("word", "weighted_perplexity", "word_perplexity"),
        ("byte", "weighted_perplexity", "byte_perplexity"),
        ("bits_per_byte", "bits_per_byte", "bits_per_byte"),
    ]:
        expected = getattr(aggregations, aggregation)([row[key] for row in rows])
        assert ours[name] == pytest.approx(expected, rel=1e-12)
    total = sum(math.fsum(values) for _, values in cases)
    tokens = sum(len(values) for _, values in cases)
    assert ours["token"] == pytest.approx(math.exp(-total / tokens), rel=1e-12)


def test_words_per_perplexity_count_space_at_the_ends_as_the_harness_does():
    assert score_text(" to be\n", [-1.0]).statistics[2] == 4
    assert score_text("naïve café", [-1.0]).statistics[2:] == (2, 12)


def test_texts_are_pooled_not_averaged():
    # two documents of perplexity 2 (1 token) and 8 (3 tokens): 2^(10/4), where their mean is 5
    stats_NK = statistics([score_text("a", [-math.log(2)]), score_text("bcd", [-math.log(8)] * 3)])
    assert perplexities(stats_NK)["token"] == pytest.approx(2**2.5)


def test_a_perplexity_beyond_the_largest_double_has_no_value_but_bits_per_byte_have():
    # a page without spaces is one word
    values = perplexities(statistics([score_text("長" * 500, [-4.0] * 500)]))
    assert math.isnan(values["word"])
    assert values["bits_per_byte"] == pytest.approx(2000 / (1500 * math.log(2)))


def test_a_set_without_samples_has_no_perplexity():
    assert all(math.isnan(value) for value in perplexities(np.empty((0, 4))).values())


@given(
    st.lists(st.tuples(texts, st.lists(logprobs, min_size=1, max_size=5)), min_size=2, max_size=6),
    st.randoms(),
)
def test_the_order_of_texts_does_not_matter_and_many_sets_are_done_at_once(cases, random):
    stats_NK = statistics(score_text(*case) for case in cases)
    shuffled = stats_NK.copy()
    random.shuffle(order := list(range(len(cases))))
    shuffled = stats_NK[order]
    for measure in PERPLEXITY.measures:
        value = measure.aggregate(stats_NK)
        assert measure.aggregate(shuffled) == pytest.approx(value, rel=1e-12)
        both = measure.from_sums(
            np.stack([stats_NK.sum(axis=0)] * 2), np.full(2, float(len(cases)))
        )
        assert both == pytest.approx([value, value], rel=1e-12)


# --- multiple choice ----------------------------------------------------------------------------


def test_a_hand_worked_question_has_a_different_answer_by_each_length():
    # log-likelihoods -4, -6, -9; per character -4/1, -6/3 and -9/6; per byte -4/1, -6/9 and -9/6
    choices = ["x", "長長長", "banana"]
    values = [[-4.0], [-2.0, -4.0], [-3.0, -3.0, -3.0]]
    by_target = [score_choices(choices, values, target=str(n)).statistics for n in range(3)]
    assert by_target == [(1, 0, 0, 0), (0, 0, 1, 0), (0, 1, 0, 0)]


def test_of_equals_the_first_is_the_answer_and_the_tie_is_told():
    assert score_choices("ab", [[-1.0], [-1.0]], target="0").statistics == (1, 1, 1, 1)
    assert score_choices("ab", [[-1.0], [-1.0]], target="1").statistics == (0, 0, 0, 1)
    assert score_choices("ab", [[-1.0], [-1.0 - 5e-7]]).statistics[3] == 1
    assert score_choices("ab", [[-1.0], [-1.0 - 5e-6]]).statistics[3] == 0
    assert score_choices("abc", [[-1.0], [-5.0], [-5.0]]).statistics[3] == 0


def test_a_single_choice_is_right_and_not_tied():
    assert score_choices("a", [[-1.0]]).statistics == (1, 1, 1, 0)


@st.composite
def questions(draw):
    choices = draw(st.lists(texts, min_size=2, max_size=5))
    values = [draw(st.lists(logprobs, min_size=1, max_size=4)) for _ in choices]
    return choices, values, draw(st.integers(0, len(choices) - 1))


@given(questions())
def test_answers_are_those_of_the_harness(harness_tasks, question):
    choices, values, gold = question
    task = SimpleNamespace(
        config=SimpleNamespace(process_results=None),
        OUTPUT_TYPE="multiple_choice",
        _metric_fn_list={"acc": None, "acc_norm": None, "acc_bytes": None},
        doc_to_choice=lambda doc: choices,
        doc_to_target=lambda doc: gold,
        multiple_input=False,
        multiple_target=0,
    )
    results = [(math.fsum(v), False) for v in values]
    expected = harness_tasks.ConfigurableTask.process_results(task, {}, results)
    ours = score_choices(choices, values, target=str(gold)).statistics
    assert dict(zip(("acc", "acc_norm", "acc_bytes"), ours, strict=False)) == expected


@given(questions(), st.randoms())
def test_the_order_of_choices_does_not_matter_where_none_are_tied(question, random):
    choices, values, gold = question
    order = list(range(len(choices)))
    random.shuffle(order)
    result = score_choices(choices, values, target=str(gold)).statistics
    moved = score_choices(
        [choices[i] for i in order], [values[i] for i in order], target=str(order.index(gold))
    ).statistics
    assert moved[3] == result[3]
    if not result[3]:
        assert moved[0] == result[0]


def test_rates_are_the_share_of_right_answers():
    results = [score_choices("ab", [[-1.0], [-2.0]], target=t) for t in "0010"]
    acc = {m.name: m for m in MULTIPLE_CHOICE.measures}["acc"]
    assert acc.aggregate(statistics(results)) == 0.75
    assert acc.kind == "rate"


def test_statistics_are_plain_numbers_that_json_can_hold():
    for result in (score_text("to be", [-1.0]), score_choices("ab", [[-1.0], [-2.0]])):
        assert json.loads(json.dumps(result.statistics)) == list(result.statistics)
