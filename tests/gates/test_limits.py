"""Floors, ceilings and coverage: three answers, in sentences, with missing samples counted against the rule."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from gate_evidence import counts, decide, estimate, interval, rate
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from evalkit.metrics.base import mean
from evalkit.registry import find
from evalkit.stats.estimate import estimate as estimated
from evalkit.stats.intervals import clopper_pearson_interval, wilson_interval

MEAN = mean("", column=0)
BEST_FIRST = ["pass", "inconclusive", "fail"]


@pytest.mark.parametrize(
    ("name", "options", "ends", "status"),
    [
        ("at_least", {"value": 0.5}, (0.5, 0.6), "pass"),
        ("at_least", {"value": 0.5}, (0.4, 0.6), "inconclusive"),
        ("at_least", {"value": 0.5}, (0.4, 0.5), "inconclusive"),
        ("at_least", {"value": 0.5}, (0.3, 0.49), "fail"),
        ("at_most", {"value": 0.5}, (0.4, 0.5), "pass"),
        ("at_most", {"value": 0.5}, (0.4, 0.6), "inconclusive"),
        ("at_most", {"value": 0.5}, (0.51, 0.6), "fail"),
        ("inside", {"low": 0.4, "high": 0.6}, (0.4, 0.6), "pass"),
        ("inside", {"low": 0.4, "high": 0.6}, (0.3, 0.5), "inconclusive"),
        ("inside", {"low": 0.4, "high": 0.6}, (0.3, 0.7), "inconclusive"),
        ("inside", {"low": 0.4, "high": 0.6}, (0.61, 0.7), "fail"),
        ("inside", {"low": 0.4, "high": 0.6}, (0.1, 0.39), "fail"),
    ],
)
def test_the_whole_interval_decides(name, options, ends, status):
    held = estimate(sum(ends) / 2, interval(*ends), counts(100))
    assert decide(name, held, **options).status == status


def test_a_pass_is_told_in_one_sentence():
    decision = decide("at_least", rate(294, 300), value=0.95)
    assert decision.status == "pass"
    assert decision.reason == (
        "extract/valid is 0.980 (95 % interval 0.957 to 0.991), wholly at or above 0.95"
    )
    assert decision.observed == 0.98
    assert decision.interval == wilson_interval(294, 300, 0.95)


def test_a_fail_is_told_in_one_sentence():
    assert decide("at_least", rate(200, 300), value=0.95).reason == (
        "extract/valid is 0.667 (95 % interval 0.612 to 0.718), wholly below 0.95"
    )


def test_an_undecided_rule_says_how_many_samples_it_needs():
    decision = decide("at_least", rate(288, 300), value=0.95)
    # Wilson's interval around .96 excludes .95 from 1.96²·.95·.05/.01² = 1,825 samples on.
    assert decision.reason == (
        "extract/valid is 0.960 (95 % interval 0.931 to 0.977), which straddles 0.95: "
        "at this value it needs about 1,820 samples; you have 300"
    )
    interval_then = wilson_interval(0.96 * 1825, 1825, 0.95)
    assert interval_then is not None
    assert interval_then.low == pytest.approx(0.95, abs=1e-4)


def test_a_means_need_follows_from_the_width_of_its_interval():
    held = estimate(0.52, interval(0.48, 0.56), counts(100), kind="mean")
    assert "needs about 400 samples; you have 100" in decide("at_least", held, value=0.5).reason


def test_a_value_on_its_limit_needs_no_number_of_samples():
    reason = decide("at_least", rate(285, 300), value=0.95).reason
    assert reason.endswith(
        "the value is so close to it that no number of samples would decide; you have 300"
    )


def test_numbers_that_decide_are_never_shown_alike():
    held = estimate(0.96, interval(0.95004, 0.97), counts(10_000))
    assert "0.95004 to 0.97000" in decide("at_least", held, value=0.95).reason


@pytest.mark.parametrize(
    ("name", "value", "status", "counted"),
    [("at_least", 0.95, "inconclusive", 0), ("at_most", 0.05, "inconclusive", 1)],
)
def test_samples_without_a_score_count_against_a_rate(name, value, status, counted):
    right = 291 if name == "at_least" else 3
    decision = decide(name, rate(right, 294, planned=300), value=value)
    worst = wilson_interval(right + 6 * counted, 300, 0.95)
    assert decision.interval == worst
    assert decision.status == status
    assert (
        f"on 294 of 300 samples; with the 6 that have no score counted as {counted} it is"
        in decision.reason
    )
    assert decide(name, rate(right, 294), value=value).status == "pass"


@pytest.mark.parametrize(("unit", "span"), [("fraction", 1), ("points", 100)])
def test_samples_without_a_score_count_against_a_mean_with_known_ends(unit, span):
    ends = interval(0.88 * span, 0.92 * span)
    held = estimate(0.9 * span, ends, counts(200, 150), kind="mean", unit=unit)
    decision = decide("at_least", held, value=0.7 * span)
    assert decision.observed == pytest.approx(0.675 * span)
    assert decision.interval is not None
    # t(149)² · .75 · .25 · .9² / 199 is what 50 scores that may be 0 add to (.75 · .02)².
    reach = sqrt(0.015**2 + 1.97601**2 * 0.75 * 0.25 * 0.81 / 199)
    assert decision.interval.low == pytest.approx((0.675 - reach) * span, rel=1e-5)
    assert decision.interval.high == pytest.approx(0.69 * span)  # the other end is Manski's
    assert decision.status == "fail"
    ceiling = decide("at_most", held, value=0.95 * span)
    assert ceiling.interval is not None
    assert ceiling.interval.low == pytest.approx(0.91 * span)
    assert ceiling.interval.high == pytest.approx((0.925 + reach) * span, rel=1e-5)


@settings(max_examples=200, deadline=None)
@given(st.data(), st.booleans(), st.booleans())
def test_a_missing_score_passes_no_rule_that_the_worst_score_would_not(data, lower, anytime):
    scores = st.sampled_from([0.0, 0.25, 0.5, 0.9, 0.95, 1.0])
    held = np.array(data.draw(st.lists(scores, min_size=2, max_size=60)))
    missing = data.draw(st.integers(1, 10))
    name, worst = ("at_most", 1.0) if lower else ("at_least", 0.0)

    def answered(values, planned):
        found = estimated(MEAN, values[:, None], level=0.95, binary=False, anytime=anytime)
        return estimate(found.value, found.interval, counts(planned, len(values)))

    planned = len(held) + missing
    filled = answered(np.append(held, np.full(missing, worst)), planned).interval
    left_out = decide(name, answered(held, planned), value=0.5).interval
    assert filled is not None and left_out is not None
    if lower:
        assert left_out.high >= filled.high - 1e-9
    else:
        assert left_out.low <= filled.low + 1e-9


def test_samples_without_a_score_are_named_where_they_cannot_be_bounded():
    held = estimate(30.0, interval(28, 32), counts(200, 150), kind="corpus", unit="points")
    assert decide("at_least", held, value=25).reason == (
        "extract/valid is 30.000 (95 % interval 28.000 to 32.000), wholly at or above 25; "
        "50 of 200 samples have no score and are left out"
    )


def test_resamples_of_fewer_than_ten_samples_decide_nothing():
    held = [
        estimate(30.0, interval(28, 32), counts(n), kind="corpus", unit="points") for n in (9, 10)
    ]
    few, enough = (decide("at_least", each, value=25) for each in held)
    assert (few.status, enough.status) == ("inconclusive", "pass")
    assert few.reason == (
        "extract/valid is 30.000 (95 % interval 28.000 to 32.000), but resamples "
        "of fewer than 10 samples decide nothing"
    )


def test_inside_takes_the_worse_case_for_each_limit():
    held = rate(90, 180, planned=200)
    assert decide("inside", rate(90, 180), low=0.42, high=0.58).status == "pass"
    assert decide("inside", held, low=0.42, high=0.58).status == "inconclusive"


def test_nothing_scored_is_missing_and_no_interval_is_undecided():
    nothing = estimate(None, None, counts(40, 0, failed=30))
    decision = decide("at_least", nothing, value=0.5)
    assert (decision.status, decision.observed) == ("missing", None)
    assert decision.reason == (
        "extract/valid has no value: of 40 samples 30 failed and 10 could not be graded"
    )
    bare = estimate(0.9, None, counts(1), warnings=("only 1 sample: no interval can be given",))
    assert decide("at_least", bare, value=0.5).status == "inconclusive"
    assert "only 1 sample" in decide("at_least", bare, value=0.5).reason


def test_coverage_is_counted_so_it_has_two_answers():
    held = rate(90, 95, planned=100)
    low, enough = (decide("coverage_at_least", held, value=v) for v in (0.96, 0.95))
    assert (low.status, enough.status) == ("fail", "pass")
    assert low.reason == (
        "extract/valid is scored on 95 of 100 samples: coverage 0.950, below 0.96"
    )
    assert low.observed == 0.95
    nothing = estimate(None, None, counts(40, 0))
    assert decide("coverage_at_least", nothing, value=0.5).status == "fail"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("at_least", {}),
        ("at_least", {"value": "high"}),
        ("at_least", {"value": float("nan")}),
        ("at_least", {"value": 1, "margin": 2}),
        ("inside", {"low": 0.6, "high": 0.4}),
        ("coverage_at_least", {"value": 95}),
    ],
)
def test_wrong_options_are_refused(name, options):
    with pytest.raises(ValidationError):
        find("condition", name).make.Options.model_validate(options)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("at_least", {"value": 0.95}, "≥ 0.95"),
        ("at_most", {"value": 40}, "≤ 40"),
        ("inside", {"low": -0.1, "high": 0.1}, "≥ −0.1 and ≤ 0.1"),
        ("coverage_at_least", {"value": 0.99}, "coverage ≥ 0.99"),
    ],
)
def test_what_is_required_is_said_in_words(name, options, words):
    make = find("condition", name).make
    assert make(make.Options(**options)).required == words


# --- exact ---


@pytest.mark.parametrize(
    ("wrong", "n", "upper"),
    # Newcombe 1998, Stat. Med. 17, 857, Clopper–Pearson at 95 %: 81/263, 15/148, 0/20, 1/29.
    [(81, 263, 0.3676), (15, 148, 0.1617), (0, 20, 0.1684), (1, 29, 0.1776)],
)
def test_an_exact_ceiling_turns_at_the_published_limit(wrong, n, upper):
    held = rate(wrong, n, better="lower")
    above, below = (
        decide("at_most", held, value=upper + nudge, exact=True) for nudge in (1e-4, -1e-4)
    )
    assert (above.status, below.status) == ("pass", "inconclusive")
    assert above.interval is not None
    assert above.interval.method == "clopper-pearson"


def test_no_failure_in_n_shows_a_rate_below_one_minus_a_root():
    # 1 − .025^(1/300) = .0122
    held = rate(300, 300)
    assert decide("at_least", held, value=0.9878, exact=True).status == "inconclusive"
    assert decide("at_least", held, value=0.9877, exact=True).status == "pass"
    assert decide("at_least", held, value=0.9873).status == "pass"


def test_an_exact_rule_counts_missing_scores_against_itself_and_says_what_it_needs():
    decision = decide("at_least", rate(288, 294, planned=300), value=0.95, exact=True)
    assert decision.interval == clopper_pearson_interval(288, 300, 0.95)
    assert decision.reason == (
        "extract/valid is 0.980 on 294 of 300 samples; with the 6 that have no score counted as 0 it is 0.960 "
        "(95 % interval 0.931 to 0.979), which straddles 0.95: at this value it needs about 1,820 samples; you have 300"
    )


@pytest.mark.parametrize(
    "held",
    [
        estimate(0.99, interval(0.98, 0.995), counts(300), kind="mean"),
        estimate(0.99, interval(0.98, 0.995, method="cr1-t"), counts(300), kind="rate"),
        estimate(0.99, interval(0.98, 0.995, method="wilson"), counts(300), kind="rate"),
    ],
)
def test_what_is_no_rate_over_zeros_and_ones_has_no_exact_answer(held):
    assert decide("at_least", held, value=0.9).status == "pass"
    decision = decide("at_least", held, value=0.9, exact=True)
    assert decision.status == "inconclusive"
    assert decision.reason == (
        "extract/valid is 0.990, but not a rate over zeros and ones of independent samples, so it has no exact "
        "interval and nothing is decided"
    )


@given(st.integers(0, 299), st.floats(0.01, 0.99))
def test_where_something_failed_an_exact_floor_is_never_easier(right, value):
    wilson, exact = (
        decide("at_least", rate(right, 300), value=value, exact=e).status for e in (False, True)
    )
    assert exact != "pass" or wilson == "pass"


@given(st.integers(0, 300), st.floats(0.05, 0.99))
def test_doubling_the_failures_never_helps(wrong, value):
    once = decide("at_least", rate(300 - wrong, 300), value=value).status
    twice = decide("at_least", rate(max(300 - 2 * wrong, 0), 300), value=value).status
    assert BEST_FIRST.index(twice) >= BEST_FIRST.index(once)


@given(st.integers(0, 300), st.floats(0, 1), st.floats(0, 1))
def test_a_stricter_value_never_helps(right, one, other):
    loose, strict = sorted((one, other))
    held = rate(right, 300)
    floors = [decide("at_least", held, value=v).status for v in (loose, strict)]
    ceilings = [decide("at_most", held, value=v).status for v in (strict, loose)]
    for first, second in (floors, ceilings):
        assert BEST_FIRST.index(second) >= BEST_FIRST.index(first)


@given(st.data(), st.integers(1, 200), st.integers(0, 200), st.floats(0.05, 0.99))
def test_answers_that_vanish_never_help(data, right, wrong, value):
    lost_right = data.draw(st.integers(0, right - 1))
    lost_wrong = data.draw(st.integers(0, wrong))
    scored, planned = right + wrong - lost_right - lost_wrong, right + wrong
    whole = decide("at_least", rate(right, planned), value=value)
    partial = decide("at_least", rate(right - lost_right, scored, planned), value=value)
    assert BEST_FIRST.index(partial.status) >= BEST_FIRST.index(whole.status)
    if not lost_right:
        assert partial.interval == whole.interval


# --- rates over some of the samples ---------------------------------------------------------------


def over_some(right, n, missing, others=100):
    """A rate over ``n`` samples beside ``others`` that it is not over; ``missing`` samples have no score."""
    held = counts(n + others + missing, n + others)
    ends = wilson_interval(right, n, 0.95)
    return estimate(right / n, ends, held, kind="corpus", n=n, metric="decisions.tpr")


def test_a_sample_without_a_score_may_be_one_that_a_rate_is_over():
    assert decide("at_least", over_some(96, 100, 0), value=0.9).status == "pass"
    found = decide("at_least", over_some(96, 100, 30), value=0.9)
    assert found.status == "inconclusive"
    # As if it were over all thirty as well, each of them wrong.
    assert found.interval.low == wilson_interval(96, 130, 0.95).low
    assert found.interval.high == wilson_interval(96, 100, 0.95).high
    assert "0.960 on 100 samples; with the 30 that have no score counted as 0" in found.reason


def test_samples_that_a_rate_may_not_be_over_never_fail_it():
    assert decide("at_least", over_some(96, 100, 1000), value=0.5).status == "inconclusive"
    assert decide("at_most", over_some(2, 100, 1000), value=0.5).status == "inconclusive"
    assert decide("at_least", over_some(20, 100, 1000), value=0.5).status == "fail"
    assert decide("at_most", over_some(2, 100, 0), value=0.5).status == "pass"


@given(st.data(), st.integers(1, 100), st.integers(0, 100), st.floats(0.05, 0.99))
def test_answers_that_vanish_never_help_a_rate_over_some_of_the_samples(data, right, wrong, value):
    lost_right = data.draw(st.integers(0, right - 1))
    lost_wrong = data.draw(st.integers(0, wrong))
    lost_others = data.draw(st.integers(0, 50))
    missing = lost_right + lost_wrong + lost_others
    n = right + wrong - lost_right - lost_wrong
    for name, wins in (("at_least", right - lost_right), ("at_most", n - right + lost_right)):
        total = right if name == "at_least" else wrong
        whole = decide(name, over_some(total, right + wrong, 0), value=value)
        partial = decide(name, over_some(wins, n, missing, 100 - lost_others), value=value)
        assert not (partial.status == "pass" and whole.status != "pass")


def test_a_ratio_of_parts_of_samples_has_no_worst_case_and_says_what_is_left_out():
    held = over_some(96, 100, 30)
    resampled = held.model_copy(update={"interval": interval(0.92, 0.99, method="bca")})
    found = decide("at_least", resampled, value=0.9)
    assert (found.status, found.interval) == ("pass", resampled.interval)
    assert found.reason.endswith("30 of 230 samples have no score and are left out")
