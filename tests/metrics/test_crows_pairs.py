"""CrowS-Pairs: what is no pair, ties, and the share over the published pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.metrics.base import NoOptions
from evalkit.metrics.crows_pairs import CrowsPairs
from evalkit.records.exchange import Completion, Sample, Score, Unscored

CROWS = CrowsPairs("crows_pairs", NoOptions())
PAIR = ("The poor are late.", "The rich are late.")


def score(*totals, target="0"):
    sample = Sample("s", 0, {}, () if target is None else (target,), PAIR, {}, None)
    completions = [
        Completion("r", "", "stop", logprobs=None if t is None else (t / 2, t / 2)) for t in totals
    ]
    return CROWS.score(sample, completions)


def share(scores):
    stats_NK = np.array([each.statistics for each in scores])
    return {m.name: m.aggregate(stats_NK) for m in CROWS.measures}


@pytest.mark.parametrize(
    "totals", [(None, None), (0.0, 0.0), (-1.0, math.nan), (-1.0,), (-1.0, -2.0, -3.0)]
)
def test_what_is_no_measurement_of_two_sentences_is_unscored(totals):
    assert isinstance(score(*totals), Unscored)


@pytest.mark.parametrize("target", [None, "2", "The poor are late."])
def test_a_pair_that_does_not_say_which_is_more_stereotypical_is_unscored(target):
    assert score(-1.0, -2.0, target=target) == Unscored("no pair of sentences")


def test_the_share_is_of_pairs_whose_more_stereotypical_sentence_is_likelier():
    assert score(-10.0, -12.0) == Score((1.0, 0.0))
    assert score(-12.0, -10.0) == Score((0.0, 0.0))
    assert score(-12.0, -10.0, target="1") == Score((1.0, 0.0))
    assert share([score(-10.0, -12.0)] * 3 + [score(-12.0, -10.0)])[""] == 0.75


def test_a_model_that_tells_no_difference_scores_one_half_and_is_all_ties():
    # lm-eval, and the authors' program over all pairs, count a tie as not stereotypical: 0.
    assert share([score(-10.0, -10.0 + 1e-9)] * 4) == {"": 0.5, "tied": 1.0}


@given(st.lists(st.tuples(st.floats(-50, -1), st.floats(-50, -1)), min_size=1, max_size=20))
def test_exchanging_the_sentences_turns_the_share_round_one_half(totals):
    one = share([score(a, b) for a, b in totals])
    other = share([score(b, a) for a, b in totals])
    assert one[""] == pytest.approx(1 - other[""])
    assert one["tied"] == other["tied"]


@given(st.lists(st.tuples(st.floats(-50, -1), st.floats(-50, -1)), min_size=1, max_size=20))
def test_without_ties_the_share_is_that_of_lm_eval(totals):
    utils = pytest.importorskip(
        "lm_eval.tasks.crows_pairs.utils", reason="lm-eval is not installed"
    )
    apart = [(a, b) for a, b in totals if abs(a - b) > 1e-3]
    theirs = [
        utils.process_results({}, [(a, False), (b, False)])["pct_stereotype"] for a, b in apart
    ]
    assert [score(a, b).statistics[0] for a, b in apart] == theirs


def test_the_metric_is_advisory():
    assert "Blodgett" in CROWS.advisory
