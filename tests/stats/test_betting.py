"""Wealth, intervals and p-values that hold at any look."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.stats.betting import STAKES_K, betting_interval, betting_p, log_wealth

UNIT = (0.0, 1.0)
DIFFERENCE = (-1.0, 1.0)
LOOKS = range(10, 1001, 10)

SAMPLES = {
    "binary": np.repeat([1.0, 0.0], [90, 10]),
    "ternary": np.repeat([0.0, 0.5, 1.0], [20, 170, 10]),
    "graded": (np.arange(1, 61) ** 2 % 61) / 61,
}

values = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(0, 1), min_size=1, max_size=80)


# confseq (git 70b1ef3), ``diversified_betting_mart(x, m, …, theta=1 and 0, trunc_scale=1)`` with one constant bet
# (k/16)²/m, or /(1 − m), for each k from 1 to 15; natural logarithms of the last value
@pytest.mark.parametrize(
    ("name", "null", "at_most", "at_least"),
    [
        ("binary", 0.3, 76.75957665, -2.68388879),
        ("binary", 0.5, 34.37756433, -2.63461634),
        ("binary", 0.8, 2.50824509, -2.34005371),
        ("ternary", 0.3, 48.83184201, -2.30452924),
        ("ternary", 0.5, -1.41752506, 0.88941143),
        ("ternary", 0.8, -2.64121878, 149.27729387),
        ("graded", 0.3, 12.39129028, -1.65822057),
        ("graded", 0.5, -0.70984082, -0.70984082),
        ("graded", 0.8, -1.81111576, 32.41340738),
    ],
)
def test_the_wealth_is_confseqs_with_the_same_bets(name, null, at_most, at_least):
    assert log_wealth(SAMPLES[name], null, UNIT) == pytest.approx((at_most, at_least), abs=1e-8)


# confseq (git 70b1ef3), ``betting_cs(x, …, alpha=0.1, theta=0.5, trunc_scale=1, breaks=1000)`` with the same bets; its
# ends are rounded outwards to the next thousandth
@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("binary", 0.791, 0.968), ("ternary", 0.432, 0.515), ("graded", 0.389, 0.611)],
)
def test_the_interval_is_confseqs_up_to_its_grid(name, low, high):
    found = betting_interval(SAMPLES[name], 0.9, UNIT)
    assert found.method == "betting"
    assert low <= found.low <= low + 0.001
    assert high - 0.001 <= found.high <= high


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
def test_the_interval_ends_where_the_wealth_reaches_its_threshold(level):
    for x in SAMPLES.values():
        found = betting_interval(x, level, UNIT)
        threshold = np.log(2 / (1 - level))
        assert log_wealth(x, found.low, UNIT)[0] == pytest.approx(threshold, abs=1e-6)
        assert log_wealth(x, found.high, UNIT)[1] == pytest.approx(threshold, abs=1e-6)


def test_without_values_nothing_is_excluded():
    found = betting_interval(np.empty(0), 0.95, (0.0, 100.0))
    assert (found.low, found.high) == (0.0, 100.0)
    assert log_wealth(np.empty(0), 0.5, UNIT) == (0.0, 0.0)
    assert betting_p(np.empty(0), 0.5, UNIT) == 1.0


def test_values_all_at_a_bound_never_exclude_it():
    ones, zeros = np.ones(500), np.zeros(500)
    assert betting_interval(ones, 0.95, UNIT).high == 1.0
    assert betting_interval(ones, 0.95, UNIT).low > 0.98
    assert betting_interval(zeros, 0.95, UNIT).low == 0.0
    assert log_wealth(zeros, 0.0, UNIT)[0] == 0.0


def test_an_impossible_claim_is_refuted_by_one_value():
    assert log_wealth(np.array([0.0, 0.5]), 0.0, UNIT)[0] == np.inf
    assert betting_p(np.array([1.0, 0.5]), 1.0, UNIT) == 0.0


def test_wealth_beyond_all_numbers_is_infinite_not_an_error():
    assert log_wealth(np.linspace(0.1, 1, 100), 1e-300, UNIT)[0] == np.inf


def test_one_success_among_many_failures_leaves_a_lower_end_at_or_above_zero():
    found = betting_interval(np.repeat([1.0, 0.0], [1, 20_000]), 0.95, UNIT)
    assert 0 <= found.low < 1 / 20_001 < found.high < 0.001


@given(values, st.sampled_from([0.8, 0.9, 0.95]))
def test_the_interval_holds_the_mean_and_keeps_to_the_bounds(x, level):
    found = betting_interval(np.array(x), level, UNIT)
    assert 0 <= found.low <= np.mean(x) <= found.high <= 1


@given(values, st.randoms())
def test_the_order_of_values_does_not_matter(x, random):
    mixed = list(x)
    random.shuffle(mixed)
    one, other = (betting_interval(np.array(v), 0.9, UNIT) for v in (x, mixed))
    assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=200), st.floats(1e-6, 1))
def test_the_wealth_is_the_mean_of_the_products_it_stands_for(x, null):
    """An independent, direct computation: each stake's product, one factor after the other, then their mean."""
    logs = [sum(np.log(1 - k + k * value / null) for value in x) for k in STAKES_K]
    expected = np.logaddexp.reduce(logs) - np.log(15)
    assert log_wealth(np.array(x), null, UNIT)[0] == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(values)
def test_turning_better_into_worse_turns_the_interval_over(x):
    one, other = (betting_interval(np.array(v), 0.9, UNIT) for v in (x, [1 - v for v in x]))
    assert (one.low, one.high) == pytest.approx((1 - other.high, 1 - other.low), abs=1e-9)


@given(values)
def test_other_bounds_of_the_same_shape_give_the_same_interval(x):
    unit = betting_interval(np.array(x), 0.9, UNIT)
    points = betting_interval(100 * np.array(x), 0.9, (0.0, 100.0))
    assert (points.low, points.high) == pytest.approx((100 * unit.low, 100 * unit.high), abs=1e-7)


@given(values, st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_a_bolder_claim_of_smallness_loses_more(x, one, other):
    at_most = [log_wealth(np.array(x), null, UNIT)[0] for null in sorted([one, other])]
    assert at_most[0] >= at_most[1] - 1e-9


@given(values, st.floats(0.01, 0.99))
def test_a_greater_value_never_lowers_the_interval(x, raised_to):
    raised = [max(x[0], raised_to), *x[1:]]
    before, after = (betting_interval(np.array(v), 0.9, UNIT) for v in (x, raised))
    assert after.low >= before.low - 1e-9
    assert after.high >= before.high - 1e-9


@given(values, st.floats(0.01, 0.99))
def test_the_p_value_agrees_with_the_interval(x, null):
    p = betting_p(np.array(x), null, UNIT)
    for level in (0.8, 0.9, 0.95):
        found = betting_interval(np.array(x), level, UNIT)
        if min(abs(null - found.low), abs(null - found.high)) > 1e-9:
            assert (p <= 1 - level) == (not found.low < null < found.high)


@pytest.mark.parametrize("null", [0.1, 0.5, 0.95])
def test_a_true_claim_loses_nothing_on_average(null):
    """The mean wealth over all 2¹² outcomes of a Bernoulli variable with just this mean is 1."""
    from scipy.stats import binom

    n = 12
    wealth = [
        np.exp(log_wealth(np.repeat([1.0, 0.0], [k, n - k]), null, UNIT)) for k in range(n + 1)
    ]
    assert binom.pmf(np.arange(n + 1), n, null) @ np.array(wealth) == pytest.approx([1, 1])


@cache
def _log_wealth_of(n: int, worse: int, better: int) -> float:
    x = np.repeat([-1.0, 0.0, 1.0], [worse, n - worse - better, better])
    return log_wealth(x, 0.0, DIFFERENCE)[1]


def _stops(worse: float, better: float, runs: int = 2000) -> np.ndarray:
    """Return the look at which "no worse on average" is refuted at 5 % in each run; infinity where never."""
    u = np.random.default_rng(35).random((runs, LOOKS[-1]))
    worse_RL = np.cumsum(u < worse, axis=1)[:, LOOKS[0] - 1 :: LOOKS.step]
    better_RL = np.cumsum((u >= worse) & (u < worse + better), axis=1)[
        :, LOOKS[0] - 1 :: LOOKS.step
    ]
    found = np.full(runs, np.inf)
    for run in range(runs):
        for n, w, b in zip(LOOKS, worse_RL[run], better_RL[run], strict=True):
            if _log_wealth_of(n, int(w), int(b)) >= np.log(20):
                found[run] = n
                break
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("worse", "better"), [(0.05, 0.05), (0.01, 0.01)])
def test_looking_every_10_of_1000_pairs_raises_few_false_alarms(worse, better):
    share = np.isfinite(_stops(worse, better)).mean()
    print(f"\n  false alarms: {share:.3f}")
    assert share <= 0.05


# With pairs as discordant as these, a z test that looks once, at 1,000, finds −3 points in 94 % of runs.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("worse", "better", "found", "median"),
    [(0.06, 0.03, 0.69, 520), (0.09, 0.03, 0.99, 230), (0.13, 0.03, 1.0, 120)],
)
def test_a_worse_candidate_is_found_early(worse, better, found, median):
    stops = _stops(worse, better)
    share, middle = np.isfinite(stops).mean(), np.median(stops[np.isfinite(stops)])
    print(f"\n  found worse: {share:.3f}, median stop {middle:g}")
    assert share >= found
    assert middle <= median


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.5, 0.9, 0.98])
def test_the_interval_covers_the_rate_at_every_look_at_once(rate):
    rng = np.random.default_rng(7)
    interval_of = cache(lambda n, k: betting_interval(np.repeat([1.0, 0.0], [k, n - k]), 0.9, UNIT))
    missed = 0
    for _ in range(500):
        right = np.cumsum(rng.random(LOOKS[-1]) < rate)
        intervals = [interval_of(n, int(right[n - 1])) for n in LOOKS]
        missed += any(not i.low <= rate <= i.high for i in intervals)
    assert missed / 500 <= 0.1
