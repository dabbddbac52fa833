"""Scores read from the probabilities of a scale whose greater values begin as smaller ones do."""

from __future__ import annotations

from math import log

import pytest

from evalkit.judging.reading import read_pointwise, score_of
from evalkit.records.exchange import Completion
from evalkit.records.suite import JudgeSpec

TEN = JudgeSpec(judge="q", model="m", criteria="c", scale=(1, 10), read="probabilities", chat=False)


def likely(*logprobs):
    return [Completion(str(n), "", "stop", logprobs=each) for n, each in enumerate(logprobs)]


def test_where_digits_are_tokens_one_does_not_get_what_belongs_to_ten():
    # P("1") = 0.8 as a first digit, of which "0" follows in 7/8: P(1) = 0.1, P(10) = 0.7; the other eight 0.025 each.
    rest = [(log(0.025),)] * 8
    said = read_pointwise(TEN, likely((log(0.8),), *rest, (log(0.8), log(7 / 8))))
    mean = 1 * 0.1 + sum(range(2, 10)) * 0.025 + 10 * 0.7
    assert said.value == pytest.approx((mean - 1) / 9)


def test_where_each_value_is_a_token_nothing_is_taken_off():
    rest = [(log(0.025),)] * 8
    said = read_pointwise(TEN, likely((log(0.1),), *rest, (log(0.7),)))
    mean = 1 * 0.1 + sum(range(2, 10)) * 0.025 + 10 * 0.7
    assert said.value == pytest.approx((mean - 1) / 9)


def test_a_number_beyond_every_float_is_no_score():
    assert score_of('{"reason": "much", "score": 1' + "0" * 400 + "}", 1, 5) == (None, "much")
