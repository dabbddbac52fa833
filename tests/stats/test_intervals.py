"""Closed-form intervals against published numbers, scipy and statsmodels, and the laws they obey."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.records.scorecard import Interval
from evalkit.stats.intervals import (
    clopper_pearson_interval,
    cluster_codes,
    cluster_interval,
    standard_error,
    t_interval,
    warnings_for,
    wilson_interval,
)

LEVELS = st.sampled_from([0.8, 0.9, 0.95, 0.99])
UNIT = (0.0, 1.0)

# Newcombe 1998, Stat. Med. 17, 857, table I: methods 3 (score) and 5 (exact), 95 %.
NEWCOMBE = [
    (81, 263, (0.2553, 0.3662), (0.2527, 0.3676)),
    (15, 148, (0.0624, 0.1605), (0.0578, 0.1617)),
    (0, 20, (0.0, 0.1611), (0.0, 0.1684)),
    (1, 29, (0.0061, 0.1718), (0.0009, 0.1776)),
]
# Miller 2024, arXiv 2411.00640, appendix A, worked on 12 answers in 4 clusters: CR0 .1039349, times sqrt(4/3) CR1.
ANSWERS = np.array([1, 1, 0, 1, 0, 0, 1, 1, 1, 0, 1, 1], dtype=float)
GROUPS = cluster_codes(list("aaaabbbcccdd"))


def ends(interval: Interval | None) -> tuple[float, float]:
    assert interval is not None
    return interval.low, interval.high


@pytest.mark.parametrize(("successes", "n", "wilson", "exact"), NEWCOMBE)
def test_rate_intervals_are_those_newcombe_published(successes, n, wilson, exact):
    assert ends(wilson_interval(successes, n, 0.95)) == pytest.approx(wilson, abs=5e-5)
    assert ends(clopper_pearson_interval(successes, n, 0.95)) == pytest.approx(exact, abs=5e-5)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_rate_intervals_agree_with_statsmodels(level):
    from statsmodels.stats.proportion import proportion_confint

    for n in (1, 7, 30, 300, 10_000):
        for successes in {0, 1, n // 3, n - 1, n}:
            for ours, method in ((wilson_interval, "wilson"), (clopper_pearson_interval, "beta")):
                theirs = proportion_confint(successes, n, 1 - level, method)
                assert ends(ours(successes, n, level)) == pytest.approx(theirs, abs=1e-9), method


def test_no_failure_among_n_bounds_the_rate_by_the_closed_form():
    interval = clopper_pearson_interval(0, 300, 0.95)
    assert interval is not None
    assert interval.high == pytest.approx(1 - 0.025 ** (1 / 300))


def test_a_mean_agrees_with_scipys_t_interval():
    from scipy import stats

    values = np.random.default_rng(1).normal(3, 2, size=41)
    theirs = stats.t.interval(0.9, 40, values.mean(), stats.sem(values))
    assert ends(t_interval(values, 0.9)) == pytest.approx(theirs)


def test_the_clustered_standard_error_is_the_worked_one():
    found = standard_error(ANSWERS, GROUPS)
    assert found is not None
    assert found[0] == pytest.approx(0.1200137, abs=5e-8)
    assert found[1] == 3
    naive = standard_error(ANSWERS)
    assert naive is not None
    assert naive[0] == pytest.approx(0.1421338, abs=5e-8)


def test_a_clustered_mean_agrees_with_statsmodels_cluster_robust_regression():
    import statsmodels.api as sm

    rng = np.random.default_rng(2)
    groups = rng.integers(0, 13, size=200)
    values = rng.normal(size=200) + rng.normal(size=13)[groups]
    fit = sm.OLS(values, np.ones(200)).fit(
        cov_type="cluster", cov_kwds={"groups": groups}, use_t=True
    )
    low, high = fit.conf_int(alpha=0.05)[0]
    found = cluster_interval(values, cluster_codes(groups), 0.95)
    assert ends(found) == pytest.approx((low, high))
    assert found is not None
    assert found.method == "cr1-t"


def test_clusters_are_numbered_by_their_names():
    assert cluster_codes(list("bcab")).tolist() == [1, 2, 0, 1]


def test_clusters_of_one_sample_are_no_clusters():
    values = np.random.default_rng(3).normal(size=25)
    alone = cluster_codes([f"c{i}" for i in range(25)])
    assert ends(cluster_interval(values, alone, 0.95)) == pytest.approx(
        ends(t_interval(values, 0.95))
    )


def test_what_cannot_be_estimated_has_no_interval():
    assert wilson_interval(0, 0, 0.95) is None
    assert clopper_pearson_interval(0, 0, 0.95) is None
    assert t_interval(np.array([0.3]), 0.95) is None
    assert t_interval(np.full(50, 7.0), 0.95) is None
    assert cluster_interval(ANSWERS, np.zeros(12, dtype=np.intp), 0.95) is None


def test_equal_values_between_bounds_never_give_a_point():
    flawless = t_interval(np.ones(20), 0.95, UNIT)
    assert ends(flawless) == ends(wilson_interval(20, 20, 0.95))
    clustered = cluster_interval(
        np.ones(20), cluster_codes([i // 5 for i in range(20)]), 0.95, UNIT
    )
    assert ends(clustered)[0] < ends(flawless)[0]


def test_residuals_that_cancel_within_clusters_never_give_a_point():
    values, groups = np.array([0.0, 1.0, 0.0, 1.0]), cluster_codes(list("aabb"))
    low, high = ends(cluster_interval(values, groups, 0.95, UNIT))
    assert high - low > 0.5


def test_an_interval_stays_within_its_bounds():
    values = np.array([1.0] * 9 + [0.5])
    assert t_interval(values, 0.95) is not None
    assert ends(t_interval(values, 0.95))[1] > 1
    assert ends(t_interval(values, 0.95, UNIT))[1] == 1


@given(st.data(), st.integers(1, 5000), LEVELS)
def test_a_rates_interval_holds_its_estimate_and_lies_in_0_to_1(data, n, level):
    successes = data.draw(st.integers(0, n))
    for interval in (
        wilson_interval(successes, n, level),
        clopper_pearson_interval(successes, n, level),
    ):
        assert interval is not None
        assert 0 <= interval.low <= successes / n <= interval.high <= 1


@given(st.data(), st.integers(2, 60), LEVELS)
def test_order_does_not_matter(data, n, level):
    values = np.array(data.draw(st.lists(st.floats(-10, 10), min_size=n, max_size=n)))
    groups = np.array(data.draw(st.lists(st.integers(0, 5), min_size=n, max_size=n)))
    order = np.array(data.draw(st.permutations(range(n))))
    first = cluster_interval(values, cluster_codes(groups), level)
    second = cluster_interval(values[order], cluster_codes(groups[order]), level)
    if first is not None and second is not None:
        assert ends(first) == pytest.approx(ends(second), rel=1e-6, abs=1e-6)


@given(st.integers(0, 200), st.integers(1, 200))
def test_more_samples_at_the_same_rate_narrow_the_interval(failures, more):
    once = wilson_interval(failures, 200, 0.95)
    again = wilson_interval(failures * (more + 1), 200 * (more + 1), 0.95)
    assert once is not None
    assert again is not None
    assert again.high - again.low < once.high - once.low


@pytest.mark.parametrize(
    ("n", "mean", "worst"),
    # Exact enumeration over p = .500, .505 … .990, 95 % nominal; computed independently.
    [
        (20, 0.954, 0.912),
        (50, 0.951, 0.911),
        (100, 0.950, 0.921),
        (300, 0.950, 0.939),
        (1000, 0.950, 0.944),
    ],
)
def test_wilson_covers_what_exact_enumeration_says(n, mean, worst):
    from scipy import stats

    rates = np.linspace(0.5, 0.99, 99)
    intervals = [ends(wilson_interval(k, n, 0.95)) for k in range(n + 1)]
    low, high = np.array(intervals).T
    covered = [
        stats.binom.pmf(np.arange(n + 1), n, p)[(low <= p) & (p <= high)].sum() for p in rates
    ]
    assert np.mean(covered) == pytest.approx(mean, abs=6e-4)
    assert min(covered) == pytest.approx(worst, abs=6e-4)


@pytest.mark.parametrize("n", [20, 100, 300])
def test_clopper_pearson_never_covers_less_than_it_says(n):
    from scipy import stats

    low, high = np.array([ends(clopper_pearson_interval(k, n, 0.95)) for k in range(n + 1)]).T
    for p in np.linspace(0.001, 0.999, 333):
        held = (low <= p) & (p <= high)
        assert stats.binom.pmf(np.arange(n + 1), n, p)[held].sum() >= 0.95


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("mean", 12), "only 12 samples; below 30 the interval is rough"),
        (("rate", 300, 297.0), "only 3 of 300 samples score 0; with fewer than 10"),
        (("rate", 300, 1.0), "only 1 of 300 samples scores 1; with fewer than 10"),
        (("mean", 90, None, 7), "only 7 clusters; below 20 the interval is somewhat too narrow"),
        (("mean", 90, None, 1), "all 90 samples belong to one cluster: no interval can be given"),
        (("mean", 1), "only 1 sample: no interval can be given"),
    ],
)
def test_what_weakens_an_interval_is_said_in_words(arguments, words):
    kind, n, successes, clusters = (*arguments, None, None)[:4]
    (found,) = warnings_for(kind, n, successes=successes, clusters=clusters)
    assert found.startswith(words)


def test_a_sound_interval_has_no_warning():
    assert warnings_for("rate", 300, successes=280, clusters=40) == ()
    assert warnings_for("mean", 0) == ()
