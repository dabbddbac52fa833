"""Which samples people see."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from review_worlds import table

from evalkit.errors import UsageError
from evalkit.reviewing import drawn, eligible

IDS = [f"s{n}" for n in range(40)]


def test_a_uniform_draw_takes_from_every_planned_sample_also_those_without_a_score():
    held = table({"s1": 1, "s2": 0}, missing=["s3"])
    assert eligible("uniform", [held], []) == ["s1", "s2", "s3"]


@given(st.lists(st.sampled_from([0, 1]), min_size=40, max_size=40), st.integers(0, 10_000))
def test_no_score_can_change_which_samples_are_drawn(scores, seed):
    """The law behind every estimate: the draw is independent of what was answered."""
    one = table(dict(zip(IDS, scores, strict=True)))
    two = table(dict.fromkeys(reversed(IDS), 1))
    assert drawn(eligible("uniform", [one], []), 7, "uniform", seed, "t") == drawn(
        eligible("uniform", [two], []), 7, "uniform", seed, "t"
    )


def test_each_sample_is_drawn_as_often_as_any_other():
    """Inclusion is n/N = 1/4: over 2,000 seeds 500 ± 5·sqrt(2000·3/16), and a chi-square of 40 samples below 90."""
    counts = Counter(i for seed in range(2000) for i in drawn(IDS, 10, "uniform", seed, "t"))
    assert all(abs(counts[i] - 500) < 5 * (2000 * 3 / 16) ** 0.5 for i in IDS)
    assert sum((counts[i] - 500) ** 2 / 375 for i in IDS) < 90


def test_drawing_more_than_there_are_takes_all_of_them_once():
    assert drawn(IDS, 100, "uniform", 0, "t") == sorted(IDS)


def test_another_task_of_the_same_ids_is_drawn_independently():
    assert drawn(IDS, 10, "uniform", 0, "one") != drawn(IDS, 10, "uniform", 0, "two")


def test_flips_are_the_samples_whose_first_rate_differs_between_the_models():
    ours = [table({"s1": 1, "s2": 0, "s3": 1, "s4": 1})]
    theirs = [table({"s1": 0, "s2": 0, "s3": 1}, missing=["s4"])]
    assert eligible("flips", ours, theirs) == ["s1"], "without both scores nothing has flipped"


def test_flips_need_a_baseline_and_a_rate():
    with pytest.raises(UsageError, match="baseline"):
        eligible("flips", [table({"s1": 1})], [])
    corpus = [table({"s1": 1}, kind="corpus")]
    with pytest.raises(UsageError, match="no rate"):
        eligible("flips", corpus, corpus)


def test_disagreement_puts_first_what_the_metrics_contradict_most_about():
    first = table({"s1": 1, "s2": 1, "s3": 1})
    second = table({"s1": 0.9, "s2": 0.2, "s3": 1}, metric="rouge", kind="mean")
    assert eligible("disagreement", [first, second], []) == ["s2", "s1"], "s3 is agreed on"


def test_a_metric_where_less_is_better_agrees_when_it_is_low():
    good = table({"s1": 1, "s2": 1})
    errors = table({"s1": 0, "s2": 1}, metric="refused", better="lower")
    assert eligible("disagreement", [good, errors], []) == ["s2"]


def test_one_metric_cannot_disagree_with_itself():
    with pytest.raises(UsageError, match="fewer than two"):
        eligible("disagreement", [table({"s1": 1})], [])
