"""Candidate against baseline: one-sided, in the metric's direction, three answers in sentences."""

from __future__ import annotations

import re

import numpy as np
import pytest
from gate_evidence import comparison, decide, interval
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from evalkit.gates.against_baseline import ALPHAS
from evalkit.records.scorecard import Comparison, JointErrors
from evalkit.registry import find
from evalkit.stats.discordant import tango_interval

BEST_FIRST = ["pass", "inconclusive", "fail"]


def held(low, high, *, better="higher", level=0.9, baseline=0.8, **changes):
    middle = (low + high) / 2
    fields = {
        "task": "t",
        "metric": "m",
        "slice": None,
        "status": "compared",
        "candidate": baseline + middle,
        "baseline": baseline,
        "difference": middle,
        "intervals": (interval(low, high, level),),
        "pairs": 100,
        "better": better,
        **changes,
    }
    return Comparison(**fields)


@pytest.mark.parametrize(
    ("name", "options", "ends", "better", "status"),
    [
        ("no_worse_than", {"margin": 0.02}, (-0.019, 0.03), "higher", "pass"),
        ("no_worse_than", {"margin": 0.02}, (-0.02, 0.03), "higher", "inconclusive"),
        ("no_worse_than", {"margin": 0.02}, (-0.05, -0.021), "higher", "fail"),
        ("no_worse_than", {"margin": 0.02}, (-0.03, 0.019), "lower", "pass"),
        ("no_worse_than", {"margin": 0.02}, (-0.03, 0.03), "lower", "inconclusive"),
        ("no_worse_than", {"margin": 0.02}, (0.021, 0.05), "lower", "fail"),
        ("better_than", {}, (0.001, 0.02), "higher", "pass"),
        ("better_than", {}, (0.0, 0.0), "higher", "inconclusive"),
        ("better_than", {}, (-0.03, -0.01), "higher", "fail"),
        ("better_than", {}, (-0.03, -0.01), "lower", "pass"),
        ("better_than", {"by": 0.02}, (0.021, 0.05), "higher", "pass"),
        ("better_than", {"by": 0.02}, (0.0, 0.019), "higher", "fail"),
    ],
)
def test_the_whole_interval_decides_in_the_metrics_direction(name, options, ends, better, status):
    assert decide(name, held(*ends, better=better), **options).status == status


def test_a_relative_margin_is_a_share_of_the_baselines_value():
    # Errors that leave the ratio to the difference alone: the baseline hardly varies.
    errors = JointErrors(candidate=0.3 / 1.644854, baseline=1e-9, covariance=0.0, df=None)
    found = held(-0.5, 0.1, baseline=30.0, errors=errors)
    assert decide("no_worse_than", found, margin=0.02, relative=True).status == "pass"
    assert decide("no_worse_than", found, margin=0.01, relative=True).status == "inconclusive"
    assert "it may be worse by less than 0.6 (2 % of it)" in (
        decide("no_worse_than", found, margin=0.02, relative=True).reason
    )


@pytest.mark.parametrize(("better", "sign"), [("higher", 1), ("lower", -1)])
@pytest.mark.parametrize("baseline", [30.0, -30.0])
def test_a_relative_margin_counts_the_baselines_error(baseline, better, sign):
    # Candidate − (1 ∓ .1)·baseline, by hand: the covariance makes its error larger or smaller than the difference's.
    factor = 1 - sign * 0.1 * np.sign(baseline)
    for covariance in (0.5, -0.5):
        errors = JointErrors(candidate=1.0, baseline=1.0, covariance=covariance, df=20)
        half = stats.t.ppf(0.95, 20) * np.sqrt(1 + factor**2 - 2 * factor * covariance)
        for nudge, status in ((1e-6, "pass"), (-1e-6, "inconclusive")):
            difference = sign * (half - 3.0 + nudge)
            found = held(difference, difference, baseline=baseline, better=better, errors=errors)
            decision = decide("no_worse_than", found, margin=0.1, relative=True)
            assert decision.status == status
            assert (decision.interval.low, decision.interval.high) == pytest.approx(
                (difference - half, difference + half)
            )


def test_a_relative_margin_is_never_easier_than_the_same_absolute_one_where_few_pairs_differ():
    same = comparison(0, 0, 30)
    assert decide("no_worse_than", same, margin=0.016).status == "inconclusive"
    assert decide("no_worse_than", same, margin=0.02, relative=True).status == "inconclusive"


def test_a_relative_margin_without_the_baselines_error_decides_nothing():
    decision = decide("no_worse_than", held(-0.1, 0.1, baseline=30.0), margin=0.1, relative=True)
    assert (decision.status, decision.p_broken) == ("inconclusive", 1.0)
    assert decision.reason == (
        "t/m differs by 0.000 without a known error of the baseline's value, which a limit relative to it asks for, "
        "so nothing is decided"
    )


def test_alpha_reads_the_two_sided_interval_at_one_minus_two_alpha():
    found = comparison(6, 8, 400)
    for alpha in ALPHAS:
        decision = decide("no_worse_than", found, margin=0.02, alpha=alpha)
        assert decision.interval == tango_interval(6, 8, 400, round(1 - 2 * alpha, 6))


def test_an_unknown_alpha_is_refused_with_the_ones_allowed():
    options = find("condition", "no_worse_than").make.Options
    with pytest.raises(
        ValidationError, match=r"alpha must be one of 0\.1, 0\.05, 0\.025, 0\.01, 0\.005"
    ):
        options.model_validate({"margin": 0.02, "alpha": 0.04})


@pytest.mark.parametrize(
    "options", [{}, {"margin": 0}, {"margin": -0.02}, {"margin": 0.02, "relatve": True}]
)
def test_wrong_options_are_refused(options):
    with pytest.raises(ValidationError):
        find("condition", "no_worse_than").make.Options.model_validate(options)


def test_a_pass_is_told_in_one_sentence():
    assert decide("no_worse_than", comparison(20, 18, 1000), margin=0.02).reason == (
        "extract/valid is 0.802 against the baseline's 0.800, a difference of 0.002 (90 % interval "
        "−0.008 to 0.013); it may be worse by less than 0.02, and the interval is wholly above −0.02"
    )


def test_an_undecided_rule_says_how_many_pairs_it_needs():
    reason = decide("no_worse_than", comparison(20, 22, 300), margin=0.02).reason
    assert "and the interval straddles −0.02: at this value it needs about" in reason
    assert reason.endswith("pairs; you have 300")


def test_the_number_of_pairs_is_the_published_one_at_a_true_difference_of_zero():
    # n = z²·discordance/margin² with z = 1.645 (no power added): 15 % discordant at 2 points, 1,014 pairs.
    reason = decide("no_worse_than", comparison(45, 45, 600), margin=0.02).reason
    (needed,) = re.findall(r"needs about ([\d,]+) pairs; you have 600", reason)
    assert int(needed.replace(",", "")) == pytest.approx(1014, rel=0.03)


def test_unpaired_samples_are_named():
    reason = decide("no_worse_than", comparison(20, 18, 990, unpaired=10), margin=0.02).reason
    assert reason.endswith("; 10 of 1,000 samples could not be paired")


def test_a_rule_passes_only_if_it_does_with_unpaired_samples_counted_against_the_candidate():
    assert decide("no_worse_than", comparison(20, 18, 988), margin=0.02).status == "pass"
    decision = decide("no_worse_than", comparison(20, 18, 988, missing=12), margin=0.02)
    assert (decision.status, decision.p_broken) == ("inconclusive", 1.0)
    assert decision.observed == -0.01
    assert decision.interval == tango_interval(20, 30, 1000, 0.9)
    assert decision.reason == (
        "extract/valid is 0.802 against the baseline's 0.800, a difference of 0.002 (90 % interval −0.009 to 0.013); "
        "12 of 1,000 samples are unpaired; counted against the candidate, the difference could be as low as −0.010 (90 "
        "% interval −0.022 to 0.002); it may be worse by less than 0.02, and the interval straddles −0.02, while that "
        "of the pairs alone would pass"
    )
    few = decide("no_worse_than", comparison(20, 18, 998, missing=2), margin=0.02)
    assert few.status == "pass"
    assert "as low as 0.000 (90 % interval −0.011 to 0.011)" in few.reason
    assert few.reason.endswith("and the interval is wholly above −0.02")


def test_samples_that_were_not_scored_can_break_a_rule():
    lost = decide("no_worse_than", comparison(0, 0, 200, missing=100), margin=0.02)
    assert lost.status == "fail"
    assert lost.reason.endswith("is wholly below −0.02, while that of the pairs alone would pass")
    assert lost.p_broken == min(ALPHAS)
    broken = decide("no_worse_than", comparison(0, 40, 200, missing=100), margin=0.02)
    assert broken.status == "fail"
    assert broken.reason.endswith("is wholly below −0.02; 100 of 300 samples could not be paired")


def test_where_lower_is_better_the_highest_difference_is_the_worst():
    found = comparison(20, 18, 988, missing=12)
    lower = found.model_copy(update={"better": "lower", "worst": found.best, "best": found.worst})
    decision = decide("no_worse_than", lower, margin=0.02)
    assert decision.status == "inconclusive"
    assert "counted against the candidate, the difference could be as high as 0.014" in (
        decision.reason
    )


def test_a_relative_margin_takes_the_least_baseline_that_missing_scores_allow():
    found = comparison(5, 5, 980, missing=20)
    worst = tango_interval(5, 25, 1000, 0.9).low
    least = (0.8 - 1.644854 * np.sqrt(0.16 / 980)) * 0.98
    margin = -worst / least
    for nudge, status in ((1e-5, "pass"), (-1e-5, "inconclusive")):
        options = {"margin": margin + nudge, "relative": True}
        assert decide("no_worse_than", found, **options).status == status


def test_the_p_value_of_a_broken_rule_is_the_least_alpha_that_shows_it():
    found = comparison(10, 40, 400)
    shown = [a for a in ALPHAS if tango_interval(10, 40, 400, 1 - 2 * a).high < -0.02]
    assert 0 < len(shown) < len(ALPHAS)
    for alpha in ALPHAS:
        decision = decide("no_worse_than", found, margin=0.02, alpha=alpha)
        assert decision.p_broken == min(shown)
        assert (decision.status == "fail") == (alpha in shown)
    assert decide("no_worse_than", comparison(10, 10, 400), margin=0.02).p_broken == 1.0


def test_a_level_that_a_comparison_does_not_hold_decides_nothing():
    coarse = held(0.01, 0.03, level=0.9)
    assert decide("better_than", coarse).status == "pass"
    decision = decide("better_than", coarse, alpha=0.0005)
    assert decision.status == "inconclusive"
    assert decision.reason == (
        "t/m differs by 0.020 without a 99.9 % interval, which α 0.0005 asks for, so nothing is decided"
    )


def test_for_a_metric_where_lower_is_better_the_limit_lies_above():
    reason = decide("no_worse_than", held(0.03, 0.05, better="lower"), margin=0.02).reason
    assert reason.endswith(
        "it may be worse by less than 0.02, and the interval is wholly above 0.02"
    )


def test_what_cannot_be_compared_is_incomparable_and_what_has_no_pairs_is_missing():
    fields = {"task": "t", "metric": "m", "slice": None}
    other = Comparison(status="incomparable", reason="the data sets differ", **fields)
    none = Comparison(status="no pairs", reason="none of 30 samples was scored for both", **fields)
    assert decide("better_than", other).status == "incomparable"
    assert decide("better_than", other).reason.endswith("with the baseline: the data sets differ")
    assert decide("better_than", none).status == "missing"


def test_a_difference_without_an_interval_is_undecided():
    bare = held(0, 0, intervals=(), warnings=("only 1 pair; below 30 the interval is rough",))
    decision = decide("no_worse_than", bare, margin=0.02)
    assert decision.status == "inconclusive"
    assert "only 1 pair" in decision.reason


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        (
            "no_worse_than",
            {"margin": 0.02},
            "worse than the baseline by less than 0.02 (one-sided α 0.05)",
        ),
        (
            "no_worse_than",
            {"margin": 0.02, "relative": True, "alpha": 0.01},
            "worse than the baseline by less than 2 % (one-sided α 0.01)",
        ),
        ("better_than", {}, "better than the baseline (one-sided α 0.05)"),
        ("better_than", {"by": 1}, "better than the baseline by more than 1 (one-sided α 0.05)"),
    ],
)
def test_what_is_required_is_said_in_words(name, options, words):
    make = find("condition", name).make
    assert make(make.Options(**options)).required == words


@given(st.integers(1, 3000), st.floats(0.001, 0.5), st.sampled_from(ALPHAS))
def test_a_model_against_itself_never_fails(pairs, margin, alpha):
    same = comparison(0, 0, pairs)
    assert decide("no_worse_than", same, margin=margin, alpha=alpha).status != "fail"
    assert decide("better_than", same, alpha=alpha).status == "inconclusive"


@given(st.integers(0, 60), st.integers(0, 60), st.floats(0.001, 0.3))
def test_doubling_the_lost_answers_never_helps(gained, lost, margin):
    once = decide("no_worse_than", comparison(gained, lost, 300), margin=margin).status
    twice = decide("no_worse_than", comparison(gained, 2 * lost, 300), margin=margin).status
    assert BEST_FIRST.index(twice) >= BEST_FIRST.index(once)


@given(
    st.integers(0, 60),
    st.integers(0, 60),
    st.floats(0.001, 0.3),
    st.floats(0.001, 0.3),
    st.sampled_from(ALPHAS),
    st.sampled_from(ALPHAS),
)
def test_a_smaller_margin_or_alpha_never_turns_fail_into_pass(gained, lost, m1, m2, a1, a2):
    found = comparison(gained, lost, 200)
    loose = decide("no_worse_than", found, margin=max(m1, m2), alpha=max(a1, a2)).status
    strict = decide("no_worse_than", found, margin=min(m1, m2), alpha=min(a1, a2)).status
    assert (loose, strict) != ("fail", "pass")
    if a1 == a2:
        assert BEST_FIRST.index(strict) >= BEST_FIRST.index(loose)
