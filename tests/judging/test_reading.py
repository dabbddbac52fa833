"""What counts as a judge's verdict, and what must not."""

from __future__ import annotations

from math import log

import pytest

from evalkit.judging.reading import read_pairwise, read_pointwise, score_of, winner_of
from evalkit.records.exchange import Completion, Failure
from evalkit.records.suite import JudgeSpec

POINTWISE = JudgeSpec(judge="q", model="m", criteria="Is it right?")
PAIRWISE = JudgeSpec(judge="p", model="m", criteria="Which is better?", form="pairwise")


def said(*texts):
    return [Completion(str(n), text, "stop") for n, text in enumerate(texts)]


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "The answer is good.",
        "5",
        '{"reason": "fine"}',
        '{"score": 7}',
        '{"score": 0}',
        '{"score": 3.5}',
        '{"score": true}',
        '{"score": null}',
        '{"score": "five"}',
        '{"score": [5]}',
        '{"score": 1e999}',
        '{"score": NaN}',
        "Score: 11",
        "Score: -1",
        "<think>Score: 5</think>",
        "<think>Score: 5",
        '{"score": 4} but then {"score": 9}',
    ],
)
def test_a_reply_without_a_verdict_on_the_scale_has_none(reply):
    assert score_of(reply, 1, 5)[0] is None
    assert read_pointwise(POINTWISE, said(reply)).reason == "no verdict"


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ('{"reason": "ok", "score": 4}', 4),
        ('```json\n{"score": "4"}\n```', 4),
        ('{"score": 4.0}', 4),
        ("Score: 2\nScore: 4", 4),
        ("Rating: [[4]]", 4),
        ("**Score:** 4", 4),
        ('The text says {"score": 5}. My verdict: {"reason": "it lies", "score": 1}', 1),
        ('{"outer": {"score": 5}, "score": 2}', 2),
        ('{broken {"score": 3}', 3),
        ("<think>Score: 5</think> Score: 3", 3),
    ],
)
def test_the_last_verdict_counts(reply, score):
    assert score_of(reply, 1, 5)[0] == score


@pytest.mark.parametrize("nested", ["{" * 5_000, "[" * 100_000 + "{", '{"a":' * 2_000])
def test_hostile_nesting_is_no_verdict(nested):
    assert score_of(nested, 1, 5) == (None, "")


@pytest.mark.parametrize(
    ("reply", "winner"),
    [
        ('{"winner": "A"}', "A"),
        ('{"winner": "tie"}', "tie"),
        ('{"winner": "Answer B"}', "B"),
        ("[[A]] no, [[B]]", "B"),
        ("[[C]]", "tie"),
        ("The better answer is A.", "A"),
        ('{"winner": "both"}', None),
        ('{"winner": 1}', None),
        ("A", None),
        ("Answer A is long. Answer B is short.", None),
    ],
)
def test_who_wins_is_read_from_the_last_verdict(reply, winner):
    assert winner_of(reply)[0] == winner


@pytest.mark.parametrize(
    ("forwards", "backwards", "value", "first", "consistent"),
    [
        ("A", "B", 1.0, 0.5, True),
        ("B", "A", 0.0, 0.5, True),
        ("A", "A", 0.5, 1.0, False),
        ("B", "B", 0.5, 0.0, False),
        ("tie", "tie", 0.5, None, True),
        ("A", "tie", 0.5, 1.0, False),
    ],
)
def test_both_orders_must_agree_on_a_winner(forwards, backwards, value, first, consistent):
    found = read_pairwise(PAIRWISE, said(f"[[{forwards}]]", f"[[{backwards}]]"))
    assert (found.value, found.first, found.consistent) == (value, first, consistent)


def test_one_order_without_a_verdict_leaves_none():
    assert read_pairwise(PAIRWISE, said("[[A]]", "?")).reason == "no verdict"


def test_a_judge_that_does_not_answer_gives_none():
    failure = Failure("0", "timeout", "too slow", 3)
    assert read_pointwise(POINTWISE, [failure]).reason == "the judge did not answer"
    assert read_pairwise(PAIRWISE, [*said("[[A]]"), failure]).value is None


def test_probabilities_give_the_expectation_over_the_scale():
    """By hand: probabilities .1 .2 .3 .4 of scores 1 to 4 have mean 3, which is ⅔ of the way from 1 to 4."""
    spec = POINTWISE.model_copy(update={"scale": (1, 4), "read": "probabilities", "chat": False})
    outcomes = [
        Completion(str(n), "", "stop", logprobs=(log(p) - 7,))
        for n, p in enumerate((0.1, 0.2, 0.3, 0.4))
    ]
    assert read_pointwise(spec, outcomes).value == pytest.approx(2 / 3)
