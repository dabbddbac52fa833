"""The bootstrap against Efron and Tibshirani's worked example and scipy, and what keeps it in memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.stats import resampling
from evalkit.stats.intervals import cluster_codes, cluster_interval
from evalkit.stats.resampling import (
    Resampled,
    Resampler,
    acceleration,
    bootstrap_intervals,
    bootstrap_sums,
    resample_weights,
    supported_levels,
)

# Efron & Tibshirani 1993, table 14.1: test A of the spatial data; θ is the variance with divisor n.
SPATIAL = np.array(
    [
        48,
        36,
        20,
        29,
        42,
        42,
        20,
        42,
        22,
        41,
        45,
        14,
        6,
        0,
        33,
        28,
        34,
        4,
        32,
        24,
        47,
        41,
        24,
        26,
        30,
        41.0,
    ]
)


def variance(sums_XK, n_X):
    """The variance with divisor n from the sums of x and x²."""
    return sums_XK[..., 1] / n_X - (sums_XK[..., 0] / n_X) ** 2


def moments(values):
    return np.column_stack([values, values**2])


def share(sums_XK, n_X):
    return sums_XK[..., 0] / n_X


def names(n):
    return [f"s{i:07d}" for i in range(n)]


def intervals_of(stats_NK, from_sums, levels, *, seed=0, clusters=None, resamples=2000):
    resampler = Resampler(
        names(len(stats_NK)), np.random.default_rng(seed), clusters, resamples=resamples
    )
    sums = resampler.unit_sums(stats_NK)
    values_B = from_sums(*resampler.resample(sums))
    return bootstrap_intervals(values_B, sums.total(from_sums), sums.jackknife(from_sums), levels)


def test_bca_gives_the_published_interval_of_the_spatial_variance():
    (interval,) = intervals_of(moments(SPATIAL), variance, [0.9], resamples=50_000)
    assert interval.method == "bca"
    # Published from 2,000 resamples; scipy gives (115.4, 260.3) to (116.0, 261.6) from 200,000.
    assert (interval.low, interval.high) == pytest.approx((115.8, 259.6), abs=2.5)
    assert variance(moments(SPATIAL).sum(axis=0), 26) == pytest.approx(171.534, abs=5e-4)


def test_the_acceleration_is_the_published_one():
    # Efron & Tibshirani 1993, section 14.3: a = .061 for the spatial variance.
    sums = Resampler(names(26), np.random.default_rng(0)).unit_sums(moments(SPATIAL))
    assert acceleration(sums.jackknife(variance)) == pytest.approx(0.061, abs=5e-4)


def test_bca_agrees_with_scipy_on_a_skewed_ratio_within_monte_carlo_error():
    from scipy import stats

    rng = np.random.default_rng(4)
    top, bottom = rng.gamma(1.0, 2.0, 60), rng.gamma(3.0, 1.0, 60)
    (ours,) = intervals_of(
        np.column_stack([top, bottom]), lambda s, n: s[..., 0] / s[..., 1], [0.95], resamples=40_000
    )
    theirs = stats.bootstrap(
        (top, bottom),
        lambda x, y, axis: x.sum(axis=axis) / y.sum(axis=axis),
        paired=True,
        n_resamples=40_000,
        method="BCa",
        rng=np.random.default_rng(5),
    ).confidence_interval
    width = theirs.high - theirs.low
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02 * width)


def test_whole_clusters_are_resampled():
    rng = np.random.default_rng(6)
    groups = np.repeat(np.arange(60), 10)
    values = rng.normal(size=600) + rng.normal(size=60)[groups]
    codes = cluster_codes(groups)
    (ours,) = intervals_of(values[:, None], share, [0.95], clusters=codes)
    theirs = cluster_interval(values, codes, 0.95)
    (naive,) = intervals_of(values[:, None], share, [0.95])
    assert theirs is not None
    assert ours.high - ours.low == pytest.approx(theirs.high - theirs.low, rel=0.1)
    assert naive.high - naive.low < 0.6 * (ours.high - ours.low)


def test_every_resample_draws_as_many_units_as_there_are():
    batches = list(resample_weights(700, 1000, np.random.default_rng(0)))
    assert len(batches) > 1
    assert (np.concatenate(batches).sum(axis=1) == 700).all()


def test_weights_do_not_depend_on_the_size_of_batches(monkeypatch):
    whole = np.concatenate(list(resample_weights(701, 301, np.random.default_rng(0))))
    monkeypatch.setattr(resampling, "DRAWN_CELLS", 1500)
    monkeypatch.setattr(resampling, "PRODUCT_CELLS", 1500)
    cut = np.concatenate(list(resample_weights(701, 301, np.random.default_rng(0))))
    assert (whole == cut).all()
    sums = np.random.default_rng(1).random((701, 3))
    assert bootstrap_sums(cut, sums) == pytest.approx(cut.astype(float) @ sums)


def test_counts_are_multinomial():
    weights = np.concatenate(list(resample_weights(20, 20_000, np.random.default_rng(0))))
    # Each count is Binomial(20, 1/20): variance .95; two counts covary by −1/20.
    covariance = np.cov(weights[:, :2].T)
    assert covariance[0, 0] == pytest.approx(0.95, abs=0.03)
    assert covariance[0, 1] == pytest.approx(-0.05, abs=0.02)


def test_two_measures_of_a_task_see_the_same_resamples():
    values = np.random.default_rng(0).normal(size=(50, 1))
    resampler = Resampler(names(50), np.random.default_rng(0))
    first = share(*resampler.resample(resampler.unit_sums(values)))
    second = share(*resampler.resample(resampler.unit_sums(1 - values)))
    assert first == pytest.approx(1 - second)


def test_a_slice_uses_the_weights_of_its_own_samples():
    values = np.random.default_rng(0).normal(size=(50, 1))
    rows = np.arange(50) % 2 == 0
    resampler = Resampler(names(50), np.random.default_rng(0))
    sums, counts = resampler.resample(resampler.unit_sums(values[rows], np.flatnonzero(rows)))
    weights = resampler.weights_BU
    assert counts == pytest.approx(weights[:, rows].sum(axis=1))
    assert sums[:, 0] == pytest.approx((weights[:, rows] * values[rows, 0]).sum(axis=1))


@pytest.mark.parametrize("cells", [4_000_000, 300])
def test_sets_resampled_together_are_what_each_is_alone(cells, monkeypatch):
    monkeypatch.setattr(resampling, "PRODUCT_CELLS", cells)
    values = np.random.default_rng(0).normal(size=(50, 4))
    sets = [np.arange(50), np.arange(0, 50, 2), np.arange(0), np.arange(7)]
    resampler = Resampler(names(50), np.random.default_rng(0), resamples=30)
    together = Resampled.each(resampler, [(values[rows], rows) for rows in sets])
    for held, rows in zip(together, sets, strict=True):
        alone = Resampled(resampler, values[rows], rows)
        for one, other in zip(
            (*held.drawn, held.swapped), (*alone.drawn, alone.swapped), strict=True
        ):
            assert one == pytest.approx(other)


def test_a_swap_moves_what_the_second_model_has_more_than_the_first():
    values = np.random.default_rng(0).normal(size=(50, 4))
    resampler = Resampler(names(50), np.random.default_rng(0), resamples=2000)
    swaps = resampler.swaps_BU.astype(float)
    moved = Resampled(resampler, values).swapped
    assert moved == pytest.approx(swaps @ (values[:, 2:] - values[:, :2]))
    assert set(np.unique(swaps)) == {0.0, 1.0}
    assert swaps.mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(swaps.size))


def test_swaps_do_not_move_the_weights():
    one, other = (Resampler(names(20), np.random.default_rng(0)) for _ in range(2))
    assert one.swaps_BU.any()
    assert (one.weights_BU == other.weights_BU).all()
    assert (one.swaps_BU == other.swaps_BU).all()


@pytest.mark.parametrize(
    ("resamples", "widest"),
    [(100, 0.9), (1000, 0.99), (2000, 0.995), (5000, 0.998), (10_000, 0.999)],
)
def test_an_interval_that_decides_has_five_resamples_beyond_each_end(resamples, widest):
    levels = (0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
    assert supported_levels(levels, resamples) == tuple(v for v in levels if v <= widest)


@settings(max_examples=20)
@given(st.permutations(range(26)))
def test_order_of_samples_does_not_matter(order):
    values, ids = moments(SPATIAL), names(26)
    levels = [0.9]

    def interval(rows):
        resampler = Resampler([ids[i] for i in rows], np.random.default_rng(0), resamples=200)
        sums = resampler.unit_sums(values[rows])
        boot = variance(*resampler.resample(sums))
        return bootstrap_intervals(boot, sums.total(variance), sums.jackknife(variance), levels)[0]

    first, second = interval(list(range(26))), interval(order)
    assert (first.low, first.high) == pytest.approx((second.low, second.high))


def test_groups_of_samples_give_the_interval_that_samples_give():
    rng = np.random.default_rng(7)
    stats = moments(rng.gamma(1.0, 1.0, 40_000))

    def interval(max_units):
        resampler = Resampler(names(40_000), np.random.default_rng(1), max_units=max_units)
        sums = resampler.unit_sums(stats)
        boot = variance(*resampler.resample(sums))
        found = bootstrap_intervals(boot, sums.total(variance), sums.jackknife(variance), [0.95])[0]
        return np.array([found.low, found.high]), acceleration(sums.jackknife(variance))

    (each, skew), (grouped, grouped_skew) = interval(40_000), interval(4_000)
    assert grouped == pytest.approx(each, abs=0.1 * (each[1] - each[0]))
    assert grouped_skew == pytest.approx(skew, abs=0.4 * abs(skew))


def test_groups_are_of_equal_size():
    resampler = Resampler(names(25_003), np.random.default_rng(0), resamples=2)
    sizes = resampler.unit_sums(np.ones((25_003, 1))).n_U
    assert len(sizes) == resampling.MAX_UNITS
    assert set(sizes) == {2.0, 3.0}


@pytest.mark.slow
def test_a_million_samples_stay_in_memory():
    stats = np.random.default_rng(0).random((1_000_000, 20))
    ids = names(1_000_000)
    tracemalloc.start()
    resampler = Resampler(ids, np.random.default_rng(0))
    sums = resampler.unit_sums(stats)
    boot = share(*resampler.resample(sums))
    bootstrap_intervals(boot, sums.total(share), sums.jackknife(share), [0.95])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 256 * 2**20


def test_a_measure_without_spread_has_no_interval():
    assert intervals_of(np.full((40, 1), 0.1), share, [0.9, 0.95]) == ()


def test_a_measure_that_is_undefined_in_many_resamples_has_no_interval():
    stats = np.zeros((10, 2))
    stats[0] = [1, 1]  # every third resample or so has an empty denominator

    def precision(sums, n):
        with np.errstate(invalid="ignore"):
            return sums[..., 0] / sums[..., 1]

    assert intervals_of(stats, precision, [0.95]) == ()


def test_percentiles_stand_in_where_bca_degenerates():
    values = np.arange(100.0)
    one_sided = bootstrap_intervals(values, -1.0, np.array([1.0, 2.0, 3.0]), [0.9])
    no_jackknife = bootstrap_intervals(values, 50.0, np.array([1.0, np.nan]), [0.9])
    for (interval,) in (one_sided, no_jackknife):
        assert interval.method == "percentile"
        assert (interval.low, interval.high) == pytest.approx(np.quantile(values, [0.05, 0.95]))


def test_wider_levels_hold_narrower_ones():
    found = intervals_of(moments(SPATIAL), variance, [0.8, 0.9, 0.95, 0.99])
    lows, highs = [i.low for i in found], [i.high for i in found]
    assert lows == sorted(lows, reverse=True)
    assert highs == sorted(highs)
