"""Seeded simulations: every interval covers what it says, about as often as the literature finds.

Each row states the coverage found elsewhere by simulation; ours must agree within Monte Carlo error. Run with
``-s`` to see the table.
"""

from __future__ import annotations

import numpy as np
import pytest

from evalkit.metrics.base import corpus, mean, ratio
from evalkit.stats.discordant import bonett_price_interval
from evalkit.stats.estimate import estimate
from evalkit.stats.intervals import cluster_interval, t_interval, t_quantile
from evalkit.stats.paired import paired_difference
from evalkit.stats.resampling import Resampled, Resampler

pytestmark = pytest.mark.slow

DRAWS = 3_000


def within_error(covered, expected, slack=0.0):
    """Four standard errors of a share over the draws."""
    share = float(np.mean(covered))
    error = np.sqrt(max(expected * (1 - expected), 1e-4) / len(covered))
    print(f"\n  coverage {share:.3f}, expected {expected:.3f}")
    assert abs(share - expected) < 4 * error + slack


@pytest.mark.parametrize(("clusters", "expected"), [(5, 0.92), (10, 0.93), (20, 0.94)], ids=str)
def test_cr1_covers_clusters_of_ten_at_an_intra_cluster_correlation_of_03(clusters, expected):
    rng = np.random.default_rng(clusters)
    codes = np.repeat(np.arange(clusters), 10)
    covered = []
    for _ in range(DRAWS):
        # Beta-binomial zeros and ones: mean .7, correlation 1/(1 + 7/3) = .3.
        rates = rng.beta(0.7 * 7 / 3, 0.3 * 7 / 3, clusters)
        values = (rng.random(10 * clusters) < rates[codes]).astype(float)
        found = cluster_interval(values, codes, 0.95)
        covered.append(found is not None and found.low <= 0.7 <= found.high)
    within_error(covered, expected, slack=0.01)


def test_an_interval_that_ignores_clusters_covers_two_thirds():
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(20), 10)
    covered = []
    for _ in range(DRAWS):
        rates = rng.beta(0.7 * 7 / 3, 0.3 * 7 / 3, 20)
        values = (rng.random(200) < rates[codes]).astype(float)
        found = t_interval(values, 0.95)
        covered.append(found is not None and found.low <= 0.7 <= found.high)
    within_error(covered, 0.67, slack=0.02)


@pytest.mark.parametrize("n", [30, 100])
def test_t_covers_normal_means(n):
    rng = np.random.default_rng(n)
    draws = rng.normal(size=(DRAWS, n))
    half = t_quantile(0.95, n - 1) * draws.std(axis=1, ddof=1) / np.sqrt(n)
    covered = [
        (found := t_interval(row, 0.95)) is not None and found.low <= 0 <= found.high
        for row in draws
    ]
    assert (np.abs(draws.mean(axis=1)) <= half).tolist() == covered
    within_error(covered, 0.95)


@pytest.mark.parametrize(
    ("n", "gained", "lost", "expected", "width"),
    # Coverage and mean width of Bonett–Price over 3,000 draws elsewhere; the same cells cover .789, .865, .948 with
    # the normal interval.
    [
        (50, 0.01, 0.02, 1.0, 0.140),
        (100, 0.01, 0.02, 0.995, 0.085),
        (200, 0.01, 0.02, 0.980, 0.054),
        (100, 0.03, 0.03, 0.984, 0.107),
        (200, 0.10, 0.10, 0.953, 0.125),
    ],
)
def test_bonett_price_covers_differences_of_near_identical_models(n, gained, lost, expected, width):
    rng = np.random.default_rng(n)
    counts = rng.multinomial(n, [gained, lost, 1 - gained - lost], size=DRAWS)
    found = [bonett_price_interval(up, down, n, 0.95) for up, down, _ in counts.tolist()]
    within_error([i.low <= gained - lost <= i.high for i in found], expected)
    assert np.mean([i.high - i.low for i in found]) == pytest.approx(width, abs=0.002)


def _micro(rng, n):
    """Hits of documents of very different length, which agree within a document: micro recall .8."""
    sizes = rng.geometric(1 / 20, n).astype(float)
    return np.column_stack([rng.binomial(sizes.astype(int), rng.beta(8, 2, n)), sizes])


@pytest.mark.parametrize(("n", "least"), [(50, 0.90), (200, 0.925)])
def test_bca_covers_a_ratio_of_sums(n, least):
    measure = corpus("", lambda s, n: ratio(s[..., 0], s[..., 1]), unit="fraction")
    rng = np.random.default_rng(n)
    ids = [f"s{i:04d}" for i in range(n)]
    covered = []
    for draw in range(1_000):
        resampler = Resampler(ids, np.random.default_rng(draw), resamples=1_000)
        stats = _micro(rng, n)
        resampled = Resampled(resampler, stats)
        found = estimate(measure, stats, level=0.95, binary=False, resampled=resampled)
        assert found.interval is not None
        covered.append(found.interval.low <= 0.8 <= found.interval.high)
    print(f"\n  coverage {np.mean(covered):.3f}")
    assert least <= np.mean(covered) <= 0.97


def test_the_paired_bootstrap_covers_a_difference_of_ratios():
    measure = corpus("", lambda s, n: ratio(s[..., 0], s[..., 1]), unit="fraction")
    rng = np.random.default_rng(0)
    ids = [f"s{i:04d}" for i in range(150)]
    covered, small = [], 0
    for draw in range(600):
        one = _micro(rng, 150)
        other = np.column_stack(
            [rng.binomial(one[:, 1].astype(int), rng.beta(8, 2, 150)), one[:, 1]]
        )
        resampler = Resampler(ids, np.random.default_rng(draw), resamples=1_000)
        found = paired_difference(
            measure,
            one,
            other,
            0.95,
            binary=False,
            resampled=Resampled(resampler, np.hstack([one, other])),
            rng=np.random.default_rng(draw),
        )
        assert found is not None
        assert found.p_value is not None
        assert found.interval is not None
        covered.append(found.interval.low <= 0 <= found.interval.high)
        small += found.p_value <= 0.05
    within_error(covered, 0.95, slack=0.01)
    within_error([True] * small + [False] * (600 - small), 0.05, slack=0.01)


def test_bounded_means_at_the_ceiling_are_covered():
    # 98 % of documents are flawless; the rest lose up to half of their fields.
    measure, rng = mean("", column=0), np.random.default_rng(0)
    truth = 0.02 * 0.75 + 0.98
    covered = []
    for _ in range(DRAWS):
        values = np.where(rng.random(100) < 0.02, rng.uniform(0.5, 1, 100), 1.0)
        found = estimate(measure, values[:, None], level=0.95, binary=False)
        assert found.interval is not None
        covered.append(found.interval.low <= truth <= found.interval.high)
    share = float(np.mean(covered))
    print(f"\n  coverage {share:.3f}")
    # In 13 % of draws all documents are flawless; without an interval for these it would be .74.
    assert share > 0.84
