"""Joint errors against numpy, statsmodels and the delta method, and what two added pairs are for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.stats.discordant import bonett_price_interval
from evalkit.stats.intervals import cluster_codes, t_quantile
from evalkit.stats.joint import joint_errors, mean_covariance, resampled_errors


def matrix(errors):
    return np.array(
        [
            [errors.candidate**2, errors.covariance],
            [errors.covariance, errors.baseline**2],
        ]
    )


def of_difference(errors):
    return errors.candidate**2 + errors.baseline**2 - 2 * errors.covariance


def test_without_clusters_it_is_numpys_covariance_over_n():
    values = np.random.default_rng(0).normal(size=(2, 40)).cumsum(axis=0)
    errors = joint_errors(*values, None, largest=None, bounds=None)
    assert errors is not None
    assert matrix(errors) == pytest.approx(np.cov(values) / 40)
    assert errors.df == 39


def test_with_clusters_every_combination_has_statsmodels_cluster_robust_error():
    import statsmodels.api as sm

    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(12), rng.integers(1, 9, 12))
    shared = rng.normal(size=12)[groups]
    values = shared + rng.normal(size=(2, len(groups)))
    errors = joint_errors(*values, cluster_codes(groups), largest=None, bounds=None)
    assert errors is not None
    for weights in ([1, 0], [0, 1], [1, -1], [1, -0.95]):
        fit = sm.OLS(np.dot(weights, values), np.ones(len(groups))).fit(
            cov_type="cluster", cov_kwds={"groups": groups}, use_t=True
        )
        assert np.dot(weights, matrix(errors) @ weights) == pytest.approx(fit.bse[0] ** 2)
    assert errors.df == 11


@given(*[st.integers(0, 30)] * 4)
def test_zeros_and_ones_with_two_pairs_give_bonett_and_prices_error(both, gained, lost, neither):
    n = both + gained + lost + neither
    if n < 2:
        return
    counts = [both, gained, lost, neither]
    errors = joint_errors(
        np.repeat([1.0, 1, 0, 0], counts),
        np.repeat([1.0, 0, 1, 0], counts),
        None,
        largest=1.0,
        bounds=(0.0, 1.0),
    )
    assert errors is not None
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    assert of_difference(errors) == pytest.approx((up + down - (up - down) ** 2) / (n + 1))
    shown = bonett_price_interval(gained, lost, n, 0.5)
    half = 0.67448975 * np.sqrt(of_difference(errors) * (n + 1) / (n + 2))
    assert shown.high == pytest.approx(min(1, up - down + half))


def test_added_pairs_give_the_joint_errors_the_variance_of_the_difference_itself():
    rng = np.random.default_rng(2)
    clusters = cluster_codes(np.repeat(np.arange(10), 5))
    candidate = rng.random(50)
    baseline = np.where(np.arange(50) < 4, rng.random(50), candidate)
    largest = float(np.abs(candidate - baseline).max())
    errors = joint_errors(candidate, baseline, clusters, largest=largest, bounds=(0.0, 1.0))
    alone = mean_covariance((candidate - baseline)[None], clusters, np.array([[largest, -largest]]))
    assert errors is not None and alone is not None
    assert of_difference(errors) == pytest.approx(alone[1][0, 0])


def test_fewer_than_two_clusters_and_values_without_spread_have_no_errors():
    one = np.zeros(3, dtype=np.intp)
    assert joint_errors(np.arange(3.0), np.ones(3), one, largest=None, bounds=None) is None
    assert joint_errors(np.ones(3), np.ones(3), None, largest=None, bounds=None) is None
    assert resampled_errors(np.array([1.0]), np.array([1.0])) is None


def test_resampled_errors_are_numpys_covariance_of_the_resamples_that_have_a_value():
    values = np.random.default_rng(3).normal(size=(2, 500))
    holes = values.copy()
    holes[0, :10], holes[1, 5:20] = np.nan, np.nan
    errors = resampled_errors(*holes)
    assert errors is not None
    assert matrix(errors) == pytest.approx(np.cov(values[:, 20:]))
    assert errors.df is None


@pytest.mark.parametrize("scale", [1e155, 1e262, 1e300])
def test_resampled_values_whose_variance_overflows_have_no_errors(scale):
    values = np.random.default_rng(0).random((2, 100)) * scale
    assert resampled_errors(*values) is None


def test_an_added_variance_is_all_in_the_difference():
    values = np.random.default_rng(4).normal(size=(2, 500))
    plain, more = resampled_errors(*values), resampled_errors(*values, added=0.3)
    assert plain is not None and more is not None
    assert of_difference(more) - of_difference(plain) == pytest.approx(0.3)
    assert matrix(more).sum() == pytest.approx(matrix(plain).sum())


def passes_the_ratio(candidate, baseline, share, largest):
    """Whether "at least ``share`` of the baseline" is shown at one-sided 5 %."""
    errors = joint_errors(candidate, baseline, None, largest=largest, bounds=(0.0, 1.0))
    shift = candidate.mean() - share * baseline.mean()
    if errors is None:
        return shift > 0
    spread = matrix(errors) @ [1, -share] @ [1, -share]
    return shift > t_quantile(0.9, len(candidate) - 1) * np.sqrt(max(spread, 0.0))


@pytest.mark.slow
@pytest.mark.parametrize("n", [50, 100, 200])
@pytest.mark.parametrize(("right", "share"), [(0.9, 0.97), (0.95, 0.98), (0.6, 0.95)])
def test_two_added_pairs_keep_a_ratios_error_rate_where_few_pairs_differ(n, right, share):
    # All that the candidate loses is lost, nothing gained: plain errors pass it in 9 to 39 % of runs instead of 5 %.
    lost = right * (1 - share)
    draws = np.random.default_rng(0).multinomial(n, [right - lost, lost, 1 - right], size=4000)
    tables, counts = np.unique(draws, axis=0, return_counts=True)
    passed = np.zeros(2)
    for table, count in zip(tables, counts, strict=True):
        candidate, baseline = np.repeat([1.0, 0, 0], table), np.repeat([1.0, 1, 0], table)
        for place, largest in enumerate((None, 1.0)):
            passed[place] += count * passes_the_ratio(candidate, baseline, share, largest)
    plain, added = passed / 4000
    assert plain > 0.085
    assert added < 0.09
