"""How rules combine: what is corrected, what is not, and what the correction leaves standing."""

from __future__ import annotations

import pytest
from gate_evidence import comparison, interval, rate, scorecard
from hypothesis import given
from hypothesis import strategies as st

from evalkit.gates.conditions import Evidence
from evalkit.gates.evaluate import evaluate, finest_p
from evalkit.gates.families import combined
from evalkit.records.scorecard import Interval
from evalkit.records.suite import GateSpec
from evalkit.records.verdict import Outcome
from evalkit.registry import find
from evalkit.stats.multiple import benjamini_hochberg, holm

# Benjamini and Hochberg 1995, section 3.2: 15 p-values of a thrombolysis study.
STUDY = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528,
         0.7590, 1.0]  # fmt: skip
P_VALUES = st.lists(st.floats(0, 1), max_size=30)


def gate(family="any_regression", rules=("a",), alpha=0.05, **changes):
    fields = {"estimate": "t/m", "require": "no_worse_than", "options": {"margin": 0.02}, **changes}
    return GateSpec.model_validate(
        {
            "gate": "g",
            "family": family,
            "alpha": alpha,
            "rules": [{"id": r, **fields} for r in rules],
        }
    )


def outcome(p, status="fail", severity="block", rule="a", **changes):
    fields = {
        "gate": "g",
        "rule": rule,
        "estimate": "t/m",
        "status": status,
        "counts_as": status,
        "severity": severity,
        "observed": -0.1,
        "interval": interval(-0.2, -0.05),
        "required": "no worse",
        "reason": "it is so",
        "p_broken": p,
        **changes,
    }
    return Outcome(**fields)


def decided(*outcomes, finest=0.0, **changes):
    return combined(gate(**changes), outcomes, [finest] * len(outcomes))[0]


# --- adjustments -----------------------------------------------------------------------------------------------


def test_the_study_of_benjamini_and_hochberg_gives_their_rejections():
    assert sum(p <= 0.05 for p in holm(STUDY)) == 3
    adjusted = benjamini_hochberg(STUDY)
    assert sum(p <= 0.05 for p in adjusted) == 4
    assert adjusted[:5] == pytest.approx([0.0015, 0.003, 0.0095, 0.035625, 0.0603])


@given(P_VALUES)
def test_adjusted_p_values_are_those_of_statsmodels(p_values):
    from statsmodels.stats import multitest

    for adjust, method in ((holm, "holm"), (benjamini_hochberg, "fdr_bh")):
        expected = multitest.multipletests(p_values, method=method)[1] if p_values else []
        assert adjust(p_values) == pytest.approx(list(expected))


@given(P_VALUES)
def test_holm_never_rejects_what_plain_alpha_does_not(p_values):
    assert all(a >= p for a, p in zip(holm(p_values), p_values, strict=True))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=20))
def test_upper_bounds_of_p_values_never_give_smaller_adjusted_ones(pairs):
    exact, bounds = [min(pair) for pair in pairs], [max(pair) for pair in pairs]
    assert all(b >= e for e, b in zip(holm(exact), holm(bounds), strict=True))


# --- any regression --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p_values", "counts_as"),
    [
        ([0.05], ["fail"]),
        ([0.1], ["pass"]),
        ([0.025, 0.05], ["fail", "fail"]),
        ([0.05, 0.05], ["pass", "pass"]),
        ([0.025, 0.1], ["fail", "pass"]),
        ([0.01, 0.01, 0.01, 1.0, 1.0], ["fail", "fail", "fail", "pass", "pass"]),
        ([0.01, 0.01, 1.0, 1.0, 1.0, 1.0], ["pass"] * 6),
    ],
)
def test_only_what_holm_shows_at_the_gates_alpha_fails(p_values, counts_as):
    assert [o.counts_as for o in decided(*map(outcome, p_values))] == counts_as


def test_a_product_that_is_alpha_but_for_its_last_digit_is_not_above_it():
    assert 3 * 0.1 > 0.3
    assert [o.counts_as for o in decided(*map(outcome, [0.1] * 3), alpha=0.3)] == ["fail"] * 3


def test_what_the_rule_itself_answered_stays_and_the_correction_is_told():
    shown, spared = decided(outcome(0.025), outcome(0.1))
    assert (shown.status, shown.p_broken, shown.p_adjusted) == ("fail", 0.025, 0.05)
    assert shown.reason == (
        "it is so; a regression is shown: Holm's p over 2 comparisons is 0.05, not above 0.05"
    )
    assert (spared.status, spared.p_adjusted) == ("fail", 0.1)
    assert spared.reason == (
        "it is so; no regression is shown: Holm's p over 2 comparisons is 0.1, above 0.05"
    )


def test_an_undecided_comparison_passes_and_one_that_holm_rejects_fails():
    lenient, strict = decided(
        outcome(1.0, "inconclusive"), outcome(0.025, "inconclusive"), on_inconclusive="fail"
    )
    assert (lenient.status, lenient.counts_as) == ("inconclusive", "pass")
    assert (strict.status, strict.counts_as) == ("inconclusive", "fail")


def test_a_rule_that_passed_at_its_own_alpha_stays_passed_and_is_in_the_family():
    passed, spared = decided(outcome(1.0, "pass"), outcome(0.05))
    assert (passed.counts_as, passed.p_adjusted, passed.reason) == ("pass", 1.0, "it is so")
    assert (spared.counts_as, spared.p_adjusted) == ("pass", 0.1)


@pytest.mark.parametrize("status", ["missing", "incomparable", "fail", "pass", "inconclusive"])
def test_what_was_not_tested_counts_as_its_rule_says(status):
    counted = "missing" if status == "incomparable" else status
    before = outcome(None, status, counts_as=counted)
    assert decided(before) == [before]


def test_a_comparison_without_an_interval_is_undecided_not_spared():
    bare = outcome(1.0, "inconclusive", interval=None)
    assert decided(bare)[0].counts_as == "inconclusive"


def test_where_the_finest_level_is_too_coarse_nothing_is_decided():
    many = [outcome(0.005), *[outcome(1.0, "pass")] * 18]
    (first, *_), told = combined(gate(), many, [0.005] * 19)
    assert first.counts_as == "inconclusive"
    assert first.reason.endswith(
        "whether that is a regression stays open: Holm's p over 19 comparisons is 0.095 or less, as finer levels are "
        "not held"
    )
    assert "one alone must reach p 0.0026, but the finest level held is 0.005" in told
    assert decided(*many, finest=0.005, on_inconclusive="fail")[0].counts_as == "fail"
    assert decided(*many, finest=0.005, on_inconclusive="pass")[0].counts_as == "inconclusive"
    assert decided(*many, finest=0.0005)[0].counts_as == "pass"


def test_what_does_not_block_is_adjusted_apart_and_decides_nothing():
    blocking, first, second = decided(
        outcome(0.05), outcome(0.01, severity="warn"), outcome(0.04, severity="info")
    )
    assert (blocking.p_adjusted, blocking.counts_as) == (0.05, "fail")
    assert [first.p_adjusted, second.p_adjusted] == pytest.approx([0.02, 0.04])
    assert (first.counts_as, first.reason) == ("fail", "it is so")


@given(st.lists(st.floats(0, 1), min_size=1, max_size=15), st.floats(0.001, 0.4))
def test_the_order_of_rules_does_not_matter(p_values, alpha):
    there = decided(*map(outcome, p_values), alpha=alpha)
    back = decided(*map(outcome, p_values[::-1]), alpha=alpha)
    assert sorted(o.p_adjusted for o in there) == sorted(o.p_adjusted for o in back)
    assert {(o.p_broken, o.counts_as) for o in there} == {(o.p_broken, o.counts_as) for o in back}


# --- what is told ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "share"), [(2, "64"), (7, "21"), (20, "1.2"), (40, "0.013")])
def test_all_must_hold_tells_how_power_multiplies(count, share):
    outcomes = [outcome(None, "pass")] * count + [outcome(0.001, severity="warn")]
    found, told = combined(gate("all_must_hold"), outcomes, [0.0] * (count + 1))
    assert found == outcomes
    assert told == (
        f"{count} blocking requirements must all hold: no correction is needed for false passes; if each passes an "
        f"acceptable candidate with 80 %, all pass with about {share} % if independent, so power multiplies"
    )


def test_one_rule_and_none_are_told_in_a_few_words():
    one, none = ([outcome(None, severity=severity)] for severity in ("block", "info"))
    assert combined(gate("all_must_hold"), one, [0.0])[1] == (
        "the one blocking requirement must be shown to hold"
    )
    assert combined(gate("all_must_hold"), none, [0.0])[1] == "no rule blocks"


def test_any_regression_tells_its_error_rate_and_what_else_must_hold():
    told = combined(gate(alpha=0.1), [outcome(1.0), outcome(None), outcome(0.1)], [0.0] * 3)[1]
    assert told == (
        "any of 2 comparisons with the baseline blocks where Holm's correction shows a regression: an unchanged "
        "candidate fails by them with a chance of 10 % at most, and a regression too small to be shown passes; other "
        "blocking requirements, which must hold: 1"
    )
    assert combined(gate(), [outcome(None)], [0.0])[1] == (
        "no blocking comparison with the baseline was tested; other blocking requirements, which must hold: 1"
    )


# --- in a whole gate -------------------------------------------------------------------------------------------


def verdict(family, *held):
    rules = [
        {
            "id": "valid",
            "estimate": "extract/valid",
            "require": "at_least",
            "options": {"value": 0.8},
        },
        *(
            {
                "id": m,
                "estimate": f"extract/{m}",
                "require": "no_worse_than",
                "options": {"margin": 0.02},
            }
            for m in ("a", "b", "c")
        ),
    ]
    return evaluate(
        [GateSpec.model_validate({"gate": "g", "family": family, "rules": rules})],
        scorecard(rate(290, 300), *held),
    )


def test_a_gate_blocks_by_its_family_and_says_which():
    undecided = [comparison(20, 22, 300, metric=metric) for metric in ("a", "b")]
    same = verdict("any_regression", *undecided, comparison(20, 22, 300, metric="c"))
    assert (same.status, same.families[0].family, same.families[0].blocking) == (
        "pass",
        "any_regression",
        4,
    )
    assert {o.p_adjusted for o in same.outcomes} == {None, 1.0}
    broken = verdict("any_regression", *undecided, comparison(5, 60, 300, metric="c"))
    assert (broken.status, broken.reason) == ("fail", "1 of 4 blocking outcomes failed: c")
    every = verdict("all_must_hold", *undecided, comparison(20, 22, 300, metric="c"))
    assert every.status == "inconclusive"
    assert all(o.p_adjusted is None for o in every.outcomes)


def test_without_a_baseline_no_family_passes():
    assert verdict("any_regression").status == "inconclusive"


@pytest.mark.parametrize(
    ("require", "options", "finest"),
    [
        ("no_worse_than", {"margin": 0.02}, 0.0005),
        ("equivalent", {"margin": 0.02}, 0.001),
        ("max_flips", {"value": 0.1}, 0.0),
    ],
)
def test_two_limits_double_the_finest_p_value_and_exact_ones_have_none(require, options, finest):
    make = find("condition", require).make
    held = comparison(5, 60, 300, improved=5, worsened=60)
    evidence = Evidence(held.name, None, held)
    condition = make(make.Options.model_validate(options))
    assert finest_p(condition, evidence) == pytest.approx(finest)
    p_broken = condition.decide(evidence).p_broken
    assert p_broken is not None
    assert p_broken >= finest_p(condition, evidence) - 1e-9


def test_power_is_told_of_rules_on_samples_alone_since_weights_are_read_in_full():
    point = Interval(low=0, high=0, level=0.95, method="exact")
    in_full, sampled = outcome(None, "pass", interval=point), outcome(None, "pass")
    told = combined(gate("all_must_hold"), [in_full] * 12, [0.0] * 12)[1]
    assert told.startswith("12 blocking requirements must all hold") and " if " not in told
    mixed = combined(gate("all_must_hold"), [in_full, sampled, sampled], [0.0] * 3)[1]
    assert (
        "if the 2 on samples each pass an acceptable candidate with 80 %, all pass with about 64 %"
        in mixed
    )
