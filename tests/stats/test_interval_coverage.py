"""Seeded simulations: every interval covers what it says, about as often as the literature finds.

Each row states the coverage found elsewhere by simulation; ours must agree within Monte Carlo error. The table in
``gates/STATISTICS.md`` is what this prints::

    python -m pytest -m slow -s -q tests/stats/test_interval_coverage.py
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy.stats import binom

from evalkit.metrics.base import corpus, mean, ratio
from evalkit.metrics.text import BleuOptions, bleu_from_sums
from evalkit.stats.discordant import bonett_price_interval, tango_interval
from evalkit.stats.estimate import estimate
from evalkit.stats.intervals import (
    clopper_pearson_interval,
    cluster_interval,
    t_interval,
    t_quantile,
    wilson_interval,
)
from evalkit.stats.paired import paired_difference
from evalkit.stats.resampling import Resampled, Resampler

pytestmark = pytest.mark.slow

DRAWS = 3_000


def row(interval, case, *shares):
    """One line of the table."""
    cells = (interval, case, *(f"{share:.3f}" for share in shares))
    print(f"\n| {' | '.join(cells)} |", end="")


def within_error(interval, case, covered, expected, slack=0.0):
    """Four standard errors of a share over the draws."""
    share = float(np.mean(covered))
    row(interval, case, share, expected)
    error = np.sqrt(max(expected * (1 - expected), 1e-4) / len(covered))
    assert abs(share - expected) < 4 * error + slack


@pytest.mark.parametrize(
    ("interval", "n", "average", "worst"),
    # Mean and worst coverage over p = .5 … .99 by exact enumeration, as an independent program found them.
    [
        (wilson_interval, 20, 0.954, 0.912),
        (wilson_interval, 50, 0.951, 0.911),
        (wilson_interval, 100, 0.950, 0.921),
        (wilson_interval, 300, 0.950, 0.939),
        (wilson_interval, 1000, 0.950, 0.944),
        (clopper_pearson_interval, 20, 0.976, 0.958),
        (clopper_pearson_interval, 50, 0.969, 0.953),
        (clopper_pearson_interval, 100, 0.964, 0.954),
        (clopper_pearson_interval, 300, 0.958, 0.951),
        (clopper_pearson_interval, 1000, 0.955, 0.951),
    ],
)
def test_intervals_of_rates_cover_as_exact_enumeration_says(interval, n, average, worst):
    rates = np.arange(100, 199) / 200
    found = [interval(hits, n, 0.95) for hits in range(n + 1)]
    low, high = (np.array([getattr(i, end) for i in found]) for end in ("low", "high"))
    odds = binom.pmf(np.arange(n + 1), n, rates[:, None])
    covered = (odds * ((low <= rates[:, None]) & (rates[:, None] <= high))).sum(axis=1)
    row(found[0].method, f"n = {n}, p = .5 … .99", covered.mean(), covered.min())
    assert covered.mean() == pytest.approx(average, abs=0.001)
    assert covered.min() == pytest.approx(worst, abs=0.001)


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
    case = f"{clusters} clusters of 10, ICC .3"
    within_error("cr1-t", case, covered, expected, slack=0.01)


def test_an_interval_that_ignores_clusters_covers_two_thirds():
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(20), 10)
    covered = []
    for _ in range(DRAWS):
        rates = rng.beta(0.7 * 7 / 3, 0.3 * 7 / 3, 20)
        values = (rng.random(200) < rates[codes]).astype(float)
        found = t_interval(values, 0.95)
        covered.append(found is not None and found.low <= 0.7 <= found.high)
    within_error("t, clusters ignored", "20 clusters of 10, ICC .3", covered, 0.67, slack=0.02)


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
    within_error("t", f"normal values, n = {n}", covered, 0.95)


@pytest.mark.parametrize(
    ("interval", "n", "gained", "lost", "expected", "width"),
    # Coverage and mean width over 3,000 draws elsewhere; the first three cells cover .789, .865, .948 with the normal
    # interval.
    [
        (bonett_price_interval, 50, 0.01, 0.02, 1.0, 0.140),
        (bonett_price_interval, 100, 0.01, 0.02, 0.995, 0.085),
        (bonett_price_interval, 200, 0.01, 0.02, 0.980, 0.054),
        (bonett_price_interval, 100, 0.03, 0.03, 0.984, 0.107),
        (bonett_price_interval, 200, 0.10, 0.10, 0.953, 0.125),
        (tango_interval, 200, 0.01, 0.02, 0.941, 0.060),
        (tango_interval, 100, 0.03, 0.03, 0.957, 0.118),
        (tango_interval, 200, 0.10, 0.10, 0.950, 0.127),
    ],
)
def test_paired_intervals_cover_differences_of_near_identical_models(
    interval, n, gained, lost, expected, width
):
    rng = np.random.default_rng(n)
    counts = rng.multinomial(n, [gained, lost, 1 - gained - lost], size=DRAWS)
    found = [interval(up, down, n, 0.95) for up, down, _ in counts.tolist()]
    case = f"n = {n}, gained {gained:.0%}, lost {lost:.0%}"
    covered = [i.low <= gained - lost <= i.high for i in found]
    within_error(found[0].method, case, covered, expected)
    mean_width = float(np.mean([i.high - i.low for i in found]))
    print(f" mean width {mean_width:.3f} | elsewhere {width:.3f} |", end="")
    assert mean_width == pytest.approx(width, abs=0.0025)


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
    row("bca", f"ratio of sums, n = {n}", np.mean(covered), 0.95)
    assert least <= np.mean(covered) <= 0.97


@pytest.mark.parametrize(("n", "least"), [(50, 0.90), (200, 0.925)])
def test_bca_covers_corpus_bleu(n, least):
    # A pool of sentences whose quality varies; the pool's BLEU is the truth, a draw from it the sample.
    rng = np.random.default_rng(n)
    words = rng.integers(8, 40, 20_000)
    quality = rng.beta(8, 3, 20_000)
    totals = np.stack([words - order for order in range(4)], axis=1)
    matches = [rng.binomial(totals[:, order], quality ** (order + 1)) for order in range(4)]
    lengths = [words, words + rng.integers(-2, 3, 20_000)]
    pool = np.column_stack([*lengths, *matches, totals]).astype(float)
    measure = corpus("", partial(bleu_from_sums, options=BleuOptions()), unit="points")
    truth = measure.aggregate(pool)
    ids = [f"s{i:04d}" for i in range(n)]
    covered = []
    for draw in range(1_000):
        stats = pool[rng.integers(len(pool), size=n)]
        resampled = Resampled(Resampler(ids, np.random.default_rng(draw), resamples=1_000), stats)
        found = estimate(measure, stats, level=0.95, binary=False, resampled=resampled)
        assert found.interval is not None
        covered.append(found.interval.low <= truth <= found.interval.high)
    row("bca", f"corpus BLEU, n = {n}", np.mean(covered), 0.95)
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
    within_error("bca of a difference", "ratios of sums, 150 pairs", covered, 0.95, slack=0.01)
    rejected = [True] * small + [False] * (600 - small)
    within_error("randomisation, p ≤ .05", "no difference, 150 pairs", rejected, 0.05, slack=0.01)


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
    row("t or wilson", "98 % at the ceiling, n = 100", share, 0.95)
    # In 13 % of draws all documents are flawless; without an interval for these it would be .74.
    assert share > 0.84
