"""Gaps between groups against published intervals and tables, and their laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.stats.gaps import (
    Part,
    gap_change_interval,
    gap_interval,
    gap_value,
    range_quantile,
    simultaneous_level,
)
from evalkit.stats.intervals import normal_quantile, wilson_interval

LEVEL = 0.95
GROUPS = st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
RATES = st.lists(GROUPS, min_size=2, max_size=6)
FORMS = st.sampled_from(["difference", "ratio"])
JOINED = st.sampled_from(["worst", "mean"])


def rates(*groups):
    """Groups of (successes, n) with Wilson's intervals."""

    def limits(level):
        found = [wilson_interval(hits, n, level) for hits, n in groups]
        return np.array([[i.low, i.high] for i in found])

    return Part(np.array([hits / n for hits, n in groups]), limits)


def normal(values, errors):
    """Groups with normal intervals: value ± z · error."""
    values, errors = np.asarray(values, float), np.asarray(errors, float)
    return Part(
        values,
        lambda level: np.column_stack(
            [values - normal_quantile(level) * errors, values + normal_quantile(level) * errors]
        ),
    )


def interval(*parts, level=LEVEL, form="difference", joined="worst", p_value=None):
    return gap_interval(parts, level, form=form, joined=joined, p_value=p_value)


# Two groups, where both ends are a published interval: the upper end at its level, and the lower end at 1 − 2α where
# the published level is 1 − α, since either group may be the greater.


@pytest.mark.parametrize(
    ("first", "second", "ends"),
    [
        # Newcombe 1998, Stat. Med. 17, 873, Table II, method 10; a lower end below 0 is no gap.
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((6, 7), (2, 7), (0.0582, 0.8062)),
        ((5, 56), (0, 29), (0.0, 0.1926)),
        ((0, 10), (0, 10), (0.0, 0.2775)),
        ((10, 10), (0, 20), (0.6791, 1.0)),
        ((10, 10), (0, 10), (0.6075, 1.0)),
        # R package contingencytables 3.1.0, tests/testthat/test-ch4.R, perondi_2004.
        ((7, 34), (1, 34), (0.0189, 0.3404)),
    ],
)
def test_the_gap_of_two_rates_has_newcombes_ends(first, second, ends):
    lower, _ = interval(rates(first, second), level=0.90)
    _, upper = interval(rates(first, second), level=0.95)
    assert (lower, upper) == pytest.approx(ends, abs=6e-5)


def test_the_ratio_of_two_rates_has_the_ends_of_mover_r():
    # R package contingencytables, tests/testthat/test-ch4.R, MOVER_R_Wilson_CI_ratio_2x2 on perondi_2004:
    # estimate 7.0000 (1.1537 to 41.9763); least ÷ greatest turns it around.
    part = rates((7, 34), (1, 34))
    assert gap_value([part.values_G], form="ratio", joined="worst") == pytest.approx(1 / 7)
    lower, _ = interval(part, level=0.95, form="ratio")
    _, upper = interval(part, level=0.90, form="ratio")
    assert (1 / upper, 1 / lower) == pytest.approx((1.1537, 41.9763), abs=6e-5)


@pytest.mark.parametrize(
    ("tail", "groups", "quantile"),
    # Tables of the studentised range, infinite degrees of freedom (Pearson & Hartley, Biometrika Tables I, Table 29).
    [
        (0.05, 2, 2.77),
        (0.05, 3, 3.31),
        (0.05, 5, 3.86),
        (0.05, 8, 4.29),
        (0.05, 20, 5.01),
        (0.01, 3, 4.12),
        (0.01, 10, 5.16),
    ],
)
def test_the_quantile_of_the_range_is_that_of_printed_tables(tail, groups, quantile):
    assert range_quantile(tail, groups) == pytest.approx(quantile, abs=0.0051)


@pytest.mark.parametrize("groups", [2, 4, 12, 200])
@pytest.mark.parametrize("tail", [0.05, 0.005, 0.0005])
def test_the_quantile_of_the_range_is_scipys(tail, groups):
    from scipy.stats import studentized_range

    found = studentized_range.ppf(1 - tail, groups, np.inf)
    assert range_quantile(tail, groups) == pytest.approx(found, rel=1e-7)


def test_the_lower_end_over_equal_normal_groups_is_tukeys_honestly_significant_difference():
    # mean_g − mean_h − q · s/√n (NIST/SEMATECH e-Handbook of Statistical Methods, 7.4.7.1); q of 4 groups, infinite df.
    part = normal([10.0, 8.0, 9.0, 7.5], [0.4] * 4)
    lower, _ = interval(part, level=0.90)
    assert lower == pytest.approx(2.5 - 3.6332 * 0.4, abs=1e-4)


def test_a_gap_that_the_permutation_test_does_not_refute_may_be_none():
    part = rates((45, 50), (20, 50), (30, 50))
    tail = (1 - LEVEL) / 2
    low, high = interval(part)
    assert low > 0.1
    assert interval(part, p_value=tail) == (low, high)
    assert interval(part, p_value=tail + 1e-9) == (0.0, high)
    assert interval(part, form="ratio", p_value=tail)[1] < 0.9
    assert interval(part, form="ratio", p_value=tail + 1e-9)[1] == 1.0


def test_rates_that_are_all_zero_show_no_gap_and_any_ratio_remains_possible():
    part = rates((0, 30), (0, 40))
    assert gap_value([part.values_G], form="ratio", joined="worst") == 1.0
    assert interval(part, form="ratio") == (0.0, 1.0)
    assert interval(part)[0] == 0.0


def test_one_rate_of_zero_makes_the_ratio_zero_and_its_upper_end_less_than_one():
    low, high = interval(rates((0, 60), (55, 60)), form="ratio")
    assert low == 0.0
    assert 0 < high < 0.2


@pytest.mark.parametrize(("form", "open_end"), [("difference", np.inf), ("ratio", 0.0)])
def test_a_group_without_an_interval_leaves_the_end_away_from_no_gap_open(form, open_end):
    part = rates((45, 50), (20, 50), (30, 50))

    def limits(level):
        found = part.limits(level)
        found[2] = np.nan
        return found

    known, unknown = interval(part, form=form), interval(Part(part.values_G, limits), form=form)
    away, towards = (1, 0) if form == "difference" else (0, 1)
    assert unknown[away] == open_end
    assert unknown[towards] == known[towards]


def test_the_lower_end_of_the_worst_of_two_measures_shares_the_error_and_the_upper_does_not():
    wide, narrow = rates((45, 50), (20, 50)), rates((40, 50), (40, 50))
    low, high = interval(wide, narrow)
    assert low == pytest.approx(interval(wide, level=1 - (1 - LEVEL) / 2)[0])
    assert high == pytest.approx(interval(wide)[1])


def test_the_mean_of_two_gaps_has_the_mean_of_ends_that_share_the_error():
    first, second = rates((45, 50), (20, 50)), rates((40, 50), (10, 50))
    ends = [interval(part, level=1 - (1 - LEVEL) / 2) for part in (first, second)]
    assert interval(first, second, joined="mean") == pytest.approx(tuple(np.mean(ends, axis=0)))


def test_the_gap_of_several_measures_is_the_widest_or_the_mean():
    values = [np.array([0.8, 0.4, 0.6]), np.array([0.5, 0.4, 0.3])]
    gaps = {
        (form, joined): gap_value(values, form=form, joined=joined)
        for form in ("difference", "ratio")
        for joined in ("worst", "mean")
    }
    assert gaps == {
        ("difference", "worst"): pytest.approx(0.4),
        ("difference", "mean"): pytest.approx(0.3),
        ("ratio", "worst"): pytest.approx(0.5),
        ("ratio", "mean"): pytest.approx(0.55),
    }


def test_a_group_without_a_value_leaves_no_gap():
    assert np.isnan(gap_value([np.array([0.8, np.nan])], form="difference", joined="worst"))


@given(RATES, RATES, FORMS, JOINED, st.sampled_from([0.8, 0.95, 0.999]))
def test_an_interval_holds_its_gap_and_grows_with_its_level(first, second, form, joined, level):
    parts = rates(*first), rates(*second)
    gap = gap_value([part.values_G for part in parts], form=form, joined=joined)
    low, high = interval(*parts, level=level, form=form, joined=joined)
    inner = interval(*parts, level=level - 0.1, form=form, joined=joined)
    assert 0 <= low <= gap + 1e-12
    assert gap - 1e-12 <= high <= 1 + 1e-12
    assert low <= inner[0] + 1e-12
    assert inner[1] <= high + 1e-12


@given(RATES, FORMS, st.randoms())
def test_the_order_of_groups_does_not_matter(groups, form, random):
    shuffled = list(groups)
    random.shuffle(shuffled)
    assert interval(rates(*shuffled), form=form) == pytest.approx(
        interval(rates(*groups), form=form), abs=1e-12
    )


@given(RATES)
def test_the_gap_of_failures_is_that_of_successes(groups):
    failures = [(n - hits, n) for hits, n in groups]
    assert interval(rates(*failures)) == pytest.approx(interval(rates(*groups)), abs=1e-9)


# The change of a gap.


def change(candidate, baseline, paired, level=LEVEL, joined="worst"):
    return gap_change_interval(candidate, baseline, paired, level, joined=joined)


def test_the_change_between_two_groups_far_apart_is_the_difference_of_their_paired_differences():
    ours, theirs = normal([0.9, 0.4], [0.02, 0.02]), normal([0.9, 0.5], [0.02, 0.02])
    paired = normal([0.0, -0.1], [0.01, 0.02])
    # Both models' widest pair is certain; a tenth of the error is spent on that: z at 1 − .025 · .9.
    z = 2.004654
    half = z * np.hypot(0.01, 0.02)
    assert change([ours], [theirs], [paired]) == pytest.approx((0.1 - half, 0.1 + half), abs=1e-6)


def test_a_group_that_surely_is_neither_greatest_nor_least_does_not_widen_the_change():
    ours = normal([0.9, 0.1, 0.5], [0.01] * 3)
    certain, wild = normal([0.0, 0.0, 0.0], [0.01] * 3), normal([0.0, 0.0, 0.0], [0.01, 0.01, 0.3])
    assert change([ours], [ours], [wild]) == change([ours], [ours], [certain])
    assert change([ours], [ours], [certain])[1] < 0.05


def test_groups_that_cannot_be_told_apart_may_all_be_the_widest_pair():
    ours = normal([0.8, 0.8, 0.8], [0.05] * 3)
    paired = normal([0.0, 0.0, -0.2], [0.01] * 3)
    low, high = change([ours], [ours], [paired])
    assert high > 0.2
    assert low < -0.2


def test_identical_models_change_no_gap():
    ours = rates((45, 50), (20, 50), (30, 50))
    paired = normal([0.0] * 3, [0.0] * 3)
    assert change([ours], [ours], [paired]) == (0.0, 0.0)


def test_a_group_without_a_paired_interval_leaves_the_change_open():
    ours = rates((45, 50), (20, 50))
    paired = Part(np.zeros(2), lambda level: np.array([[np.nan, np.nan], [-0.1, 0.1]]))
    assert change([ours], [ours], [paired]) == (-np.inf, np.inf)


def test_the_worst_of_two_measures_changes_by_no_more_than_either_may():
    one = normal([0.9, 0.4], [0.02, 0.02]), normal([0.0, -0.1], [0.01, 0.01])
    two = normal([0.7, 0.6], [0.02, 0.02]), normal([0.0, 0.0], [0.01, 0.01])
    both = change([one[0], two[0]], [one[0], two[0]], [one[1], two[1]])
    ends = [change([ours], [ours], [paired]) for ours, paired in (one, two)]
    assert both == (min(low for low, _ in ends), max(high for _, high in ends))
    mean = change([one[0], two[0]], [one[0], two[0]], [one[1], two[1]], joined="mean")
    shared = [change([ours], [ours], [x], level=1 - (1 - LEVEL) / 2) for ours, x in (one, two)]
    assert mean == pytest.approx(tuple(np.mean(shared, axis=0)))


PAIRS = st.lists(
    st.tuples(*[st.floats(0, 1)] * 2, *[st.floats(0.001, 0.2)] * 3), min_size=2, max_size=5
)


@given(PAIRS)
def test_a_change_holds_what_was_observed_and_turns_around_with_the_models(groups):
    c, b, c_error, b_error, error = np.array(groups).T
    ours, theirs = normal(c, c_error), normal(b, b_error)
    low, high = change([ours], [theirs], [normal(c - b, error)])
    assert low <= np.ptp(c) - np.ptp(b) + 1e-12
    assert np.ptp(c) - np.ptp(b) <= high + 1e-12
    turned = change([theirs], [ours], [normal(b - c, error)])
    assert turned == pytest.approx((-high, -low), abs=1e-12)


def test_two_groups_hold_together_where_either_holds_at_half_the_error():
    assert simultaneous_level(0.05, 2) == pytest.approx(0.95, abs=1e-10)
