"""Equivalence by two one-sided tests, and the share of the baseline that is recovered."""

from __future__ import annotations

import numpy as np
import pytest
from gate_evidence import comparison, decide, interval
from pydantic import ValidationError
from scipy import stats

from evalkit.metrics.base import mean
from evalkit.records.scorecard import Comparison, JointErrors
from evalkit.registry import find
from evalkit.stats.paired import LEVELS, paired_difference

WORDS = mean("", column=0, unit="words")


def paired(candidate, baseline, **changes):
    """What a mean's paired difference says, as a comparison."""
    found = paired_difference(
        WORDS,
        np.asarray(candidate, dtype=float)[:, None],
        np.asarray(baseline, dtype=float)[:, None],
        0.95,
        binary=False,
    )
    fields = {
        "candidate": found.candidate,
        "baseline": found.baseline,
        "difference": found.difference,
        "interval": found.interval,
        "intervals": found.intervals,
        "errors": found.errors,
        "pairs": len(candidate),
        "unit": "words",
        **changes,
    }
    return Comparison(task="t", metric="m", slice=None, status="compared", **fields)


def of_values(candidate, baseline, errors, **changes):
    """A comparison by its two values and their errors alone."""
    quantiles = {
        level: stats.norm.ppf((1 + level) / 2)
        if errors.df is None
        else stats.t.ppf((1 + level) / 2, errors.df)
        for level in LEVELS
    }
    error = np.sqrt(errors.candidate**2 + errors.baseline**2 - 2 * errors.covariance)
    difference = candidate - baseline
    fields = {
        "candidate": candidate,
        "baseline": baseline,
        "difference": difference,
        "intervals": tuple(
            interval(difference - q * error, difference + q * error, level)
            for level, q in quantiles.items()
        ),
        "errors": errors,
        "pairs": 50,
        **changes,
    }
    return Comparison(task="t", metric="m", slice=None, status="compared", **fields)


# --- equivalent ---


def test_two_one_sided_tests_agree_with_statsmodels():
    from statsmodels.stats.weightstats import ttost_paired

    rng = np.random.default_rng(4)
    answers = {"pass": 0, "not": 0}
    for _ in range(40):
        baseline = rng.normal(10, 2, 40)
        candidate = baseline + rng.normal(0.2, 1, 40)
        held = paired(candidate, baseline)
        for margin in (0.3, 0.5, 0.7):
            p_value, *_ = ttost_paired(candidate, baseline, -margin, margin)
            for alpha in (0.1, 0.05, 0.025, 0.01):
                status = decide("equivalent", held, margin=margin, alpha=alpha).status
                assert (status == "pass") == (p_value < alpha)
                answers["pass" if status == "pass" else "not"] += 1
    assert min(answers.values()) > 50


def test_lakens_worked_example_is_decided_as_published():
    # Lakens 2017: means 5.25 and 5.22, sd .95 and .83, n 95 and 89, margin d = .43; Welch t(181) = −2.69 and 3.15, so
    # p = .0039: equivalent at .005, not at .0025.
    errors = JointErrors(
        candidate=0.95 / np.sqrt(95), baseline=0.83 / np.sqrt(89), covariance=0.0, df=181
    )
    margin = 0.43 * np.sqrt((0.95**2 + 0.83**2) / 2)
    held = of_values(5.25, 5.22, errors)
    assert decide("equivalent", held, margin=margin, alpha=0.005).status == "pass"
    assert decide("equivalent", held, margin=margin, alpha=0.0025).status == "inconclusive"


@pytest.mark.parametrize("better", ["higher", "lower"])
@pytest.mark.parametrize(
    ("ends", "status", "where"),
    [
        ((-0.019, 0.019), "pass", "is wholly between −0.02 and 0.02"),
        ((-0.02, 0.019), "inconclusive", "straddles −0.02: "),
        ((-0.01, 0.03), "inconclusive", "straddles 0.02: "),
        ((-0.03, 0.04), "inconclusive", "straddles −0.02 and 0.02: "),
        ((-0.05, -0.021), "fail", "is wholly below −0.02"),
        ((0.021, 0.05), "fail", "is wholly above 0.02"),
    ],
)
def test_the_whole_interval_decides_on_both_sides(ends, status, where, better):
    held = Comparison(
        task="t",
        metric="m",
        slice=None,
        status="compared",
        difference=sum(ends) / 2,
        intervals=(interval(*ends, 0.9),),
        pairs=100,
        better=better,
    )
    decision = decide("equivalent", held, margin=0.02)
    assert decision.status == status
    assert f"it may differ by less than 0.02 either way, and the interval {where}" in (
        decision.reason
    )


def test_unpaired_samples_count_against_equivalence_on_both_sides():
    held = comparison(10, 10, 1000, missing=12)
    assert decide("equivalent", held, margin=0.03).status == "pass"
    undecided = decide("equivalent", held, margin=0.02)
    assert undecided.status == "inconclusive"
    assert decide("equivalent", comparison(10, 10, 1000), margin=0.02).status == "pass"
    assert undecided.reason == (
        "extract/valid is 0.800 against the baseline's 0.800, a difference of 0.000 (90 % interval −0.008 to 0.008); "
        "12 of 1,012 samples are unpaired; counted either way, the difference could be from −0.012 to 0.012 (90 % "
        "interval −0.022 to 0.022); it may differ by less than 0.02 either way, and the interval straddles −0.02 and "
        "0.02, while that of the pairs alone would pass"
    )


def test_a_two_sided_requirement_is_broken_at_twice_the_one_sided_p():
    above = comparison(60, 10, 400)
    one = decide("no_worse_than", comparison(10, 60, 400), margin=0.05)
    two = decide("equivalent", above, margin=0.05)
    assert one.status == two.status == "fail"
    assert two.p_broken == pytest.approx(2 * one.p_broken)


# --- recovers ---


def fieller(candidate, baseline, errors, level):
    """Fieller's interval of candidate ÷ baseline as Fieller 1954 writes it, with g = (q·s_b/b)²."""
    q = (
        stats.norm.ppf((1 + level) / 2)
        if errors.df is None
        else stats.t.ppf((1 + level) / 2, errors.df)
    )
    ratio, g = candidate / baseline, (q * errors.baseline / baseline) ** 2
    v11, v12, v22 = errors.candidate**2, errors.covariance, errors.baseline**2
    root = np.sqrt(v11 - 2 * ratio * v12 + ratio**2 * v22 - g * (v11 - v12**2 / v22))
    middle = ratio - g * v12 / v22
    return tuple((middle + side * q / baseline * root) / (1 - g) for side in (-1, 1))


@pytest.mark.parametrize("df", [None, 24])
@pytest.mark.parametrize("covariance", [0.0, 0.6, -0.4])
def test_the_answer_turns_where_fiellers_interval_of_the_ratio_ends(df, covariance):
    errors = JointErrors(candidate=1.1, baseline=1.4, covariance=covariance * 1.1 * 1.4, df=df)
    held = of_values(24.0, 25.0, errors)
    low, high = fieller(24.0, 25.0, errors, 0.9)
    for nudge, statuses in (
        (-1e-6, ("pass", "inconclusive")),
        (1e-6, ("inconclusive", "fail")),
    ):
        answers = tuple(decide("recovers", held, share=end + nudge).status for end in (low, high))
        assert answers == statuses
    for nudge in (-1e-6, 1e-6):
        margin = 1 - low - nudge
        no_worse = decide("no_worse_than", held, margin=margin, relative=True).status
        assert no_worse == decide("recovers", held, share=1 - margin).status


@pytest.mark.parametrize("df", [None, 24])
def test_where_lower_is_better_the_candidate_may_be_the_baseline_divided_by_the_share(df):
    errors = JointErrors(candidate=1.1, baseline=1.4, covariance=0.3, df=df)
    held = of_values(24.0, 25.0, errors, better="lower")
    low, high = fieller(24.0, 25.0, errors, 0.9)
    assert decide("recovers", held, share=1 / high - 1e-6).status == "pass"
    assert decide("recovers", held, share=1 / high + 1e-6).status == "inconclusive"
    assert decide("recovers", held, share=1 / low - 1e-6).status == "inconclusive"
    assert decide("recovers", held, share=1 / low + 1e-6).status == "fail"
    assert "it must be below 1.25" in decide("recovers", held, share=0.8).reason


def test_a_recovered_share_is_told_in_one_sentence():
    errors = JointErrors(candidate=0.3, baseline=0.3, covariance=0.08, df=None)
    decision = decide("recovers", of_values(29.4, 30.0, errors), share=0.95)
    assert (decision.status, decision.observed) == ("pass", pytest.approx(0.98))
    assert decision.reason == (
        "t/m is 29.400 against the baseline's 30.000, a ratio of 0.980 (90 % interval 0.972 to 0.988); it must be "
        "above 0.95, and the interval is wholly above 0.95"
    )


def test_a_baseline_that_may_be_nought_has_no_share():
    errors = JointErrors(candidate=1.0, baseline=1.0, covariance=0.0, df=None)
    for baseline in (1.0, 0.0, -30.0):
        decision = decide("recovers", of_values(30.0, baseline, errors), share=0.9)
        assert decision.status == "inconclusive"
        assert "is not shown to be above 0, so there is no share of it" in decision.reason


def test_identical_answers_of_few_samples_recover_nothing_yet():
    assert decide("recovers", comparison(0, 0, 30), share=0.98).status == "inconclusive"
    assert decide("recovers", comparison(0, 0, 3000), share=0.98).status == "pass"


def test_unpaired_samples_count_against_the_share_by_the_least_the_baseline_could_be():
    held = comparison(10, 10, 1000, missing=20)
    assert decide("recovers", comparison(10, 10, 1000), share=0.98).status == "pass"
    decision = decide("recovers", held, share=0.98)
    assert decision.status == "inconclusive"
    baseline = (0.8 - 1.644854 * np.sqrt(0.16 / 1000)) * 1000 / 1020
    worst = held.worst
    assert worst is not None
    assert decision.observed == pytest.approx(1 + worst.difference / baseline, rel=1e-6)
    assert "counted against the candidate, the ratio could be as low as 0.974" in decision.reason


def test_a_share_above_one_asks_for_a_gain():
    held = comparison(200, 10, 1000)
    assert decide("recovers", held, share=1.15).status == "pass"
    assert decide("recovers", held, share=1.3).status == "fail"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("equivalent", {}),
        ("equivalent", {"margin": 0}),
        ("equivalent", {"margin": 0.1, "alpha": 0.2}),
        ("recovers", {}),
        ("recovers", {"share": 0}),
        ("recovers", {"share": 98}),
    ],
)
def test_wrong_options_are_refused(name, options):
    with pytest.raises(ValidationError):
        find("condition", name).make.Options.model_validate(options)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        (
            "equivalent",
            {"margin": 0.03, "relative": True},
            "different from the baseline by less than 3 % (one-sided α 0.05)",
        ),
        ("recovers", {"share": 0.98}, "recovers 98 % of the baseline (one-sided α 0.05)"),
    ],
)
def test_what_is_required_is_said_in_words(name, options, words):
    make = find("condition", name).make
    assert make(make.Options(**options)).required == words


@pytest.mark.slow
@pytest.mark.parametrize("n", [30, 200])
@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_a_candidate_at_just_the_share_passes_in_alpha_of_runs(n, correlation):
    rng = np.random.default_rng(n)
    draws, passed = 2_000, 0
    spread = 4 * np.array([[1, correlation], [correlation, 1]])
    for _ in range(draws):
        values = rng.multivariate_normal([0.95 * 20, 20], spread, n)
        held = paired(values[:, 0], values[:, 1])
        passed += decide("recovers", held, share=0.95).status == "pass"
    print(f"\n  passed at the share: {passed / draws:.3f}")
    assert passed / draws == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / draws))
