"""Which interval a measure gets, and what happens where there is little to estimate from."""

from __future__ import annotations

import numpy as np
import pytest

from evalkit.metrics.base import corpus, mean, rate, ratio
from evalkit.stats.betting import betting_interval
from evalkit.stats.estimate import estimate
from evalkit.stats.intervals import (
    cluster_codes,
    cluster_interval,
    t_interval,
    wilson_interval,
)
from evalkit.stats.resampling import Resampled, Resampler

RATE = rate("", column=0)
MEAN = mean("", column=0)
WORDS = mean("", column=0, unit="words")
MICRO = corpus("", lambda s, n: ratio(s[..., 0], s[..., 1]), unit="fraction")
NATS = corpus("", lambda s, n: ratio(s[..., 0], s[..., 1]), unit="nats/byte")


def column(values):
    return np.asarray(values, dtype=float)[:, None]


def found(measure, stats, *, binary=False, clusters=None):
    resampler = Resampler(
        [f"s{i:05d}" for i in range(len(stats))], np.random.default_rng(0), clusters
    )
    return estimate(
        measure,
        stats,
        level=0.95,
        binary=binary,
        clusters_N=clusters,
        resampled=Resampled(resampler, stats),
    )


def test_zeros_and_ones_get_wilsons_interval():
    result = found(RATE, column([1] * 90 + [0] * 30), binary=True)
    assert result.value == 0.75
    assert result.interval == wilson_interval(90, 120, 0.95)
    assert result.warnings == ()


def test_a_rate_over_averaged_replicates_gets_t_within_0_and_1():
    values = np.array([1.0] * 40 + [0.5] * 2)
    result = found(RATE, column(values))
    assert result.interval == t_interval(values, 0.95, (0.0, 1.0))
    assert result.interval is not None
    assert (result.interval.method, result.interval.high) == ("t", 1.0)


def test_clusters_widen_a_rate_and_keep_it_within_0_and_1():
    values = np.repeat([1.0] * 24 + [0.0], 8)
    clusters = cluster_codes(np.repeat(np.arange(25), 8))
    result = found(RATE, column(values), binary=True, clusters=clusters)
    assert result.interval == cluster_interval(values, clusters, 0.95, (0.0, 1.0))
    assert result.interval is not None
    assert (result.interval.method, result.interval.high) == ("cr1-t", 1.0)
    alone = found(RATE, column(values), binary=True).interval
    assert alone is not None
    assert result.interval.low < alone.low


def test_clusters_of_one_sample_leave_wilsons_interval():
    clusters = cluster_codes([f"c{i}" for i in range(40)])
    result = found(RATE, column([1] * 30 + [0] * 10), binary=True, clusters=clusters)
    assert result.interval == wilson_interval(30, 40, 0.95)


def test_a_mean_gets_t_and_a_corpus_measure_gets_bca():
    rng = np.random.default_rng(1)
    words = rng.gamma(2.0, 3.0, 200)
    assert found(WORDS, column(words)).interval == t_interval(words, 0.95)
    hits = rng.integers(0, 10, 200).astype(float)
    result = found(MICRO, np.column_stack([hits, np.full(200, 10.0)]))
    assert result.interval is not None
    assert result.interval.method == "bca"
    plain = t_interval(hits / 10, 0.95)
    assert plain is not None
    assert (result.interval.low, result.interval.high) == pytest.approx(
        (plain.low, plain.high), abs=0.004
    )


def test_nothing_scored_has_no_value():
    for measure in (RATE, MEAN, MICRO):
        assert found(measure, np.empty((0, 2))).value is None
    assert found(MICRO, np.zeros((5, 2))).value is None


def test_flawless_answers_still_have_an_interval():
    for stats, measure in (
        (column(np.ones(100)), MEAN),
        (np.ones((100, 2)), MICRO),
        (column(np.ones(100)), RATE),
    ):
        result = found(measure, stats)
        assert result.interval is not None
        expected = wilson_interval(100, 100, 0.95)
        assert expected is not None
        assert (result.interval.low, result.interval.high) == (expected.low, expected.high)


def test_equal_unbounded_values_have_none():
    words = found(WORDS, column(np.full(100, 7.0)))
    nats = found(NATS, np.full((100, 2), 3.0))
    assert (words.value, words.interval) == (7.0, None)
    assert (nats.value, nats.interval) == (1.0, None)
    assert nats.warnings == ("every resample gives the same value: no interval can be given",)


def test_one_sample_or_one_cluster_has_a_value_and_no_interval():
    one = found(MICRO, np.array([[1.0, 2.0]]))
    cluster = found(MICRO, np.ones((9, 2)), clusters=np.zeros(9, dtype=np.intp))
    assert (one.value, one.interval) == (0.5, None)
    assert (cluster.value, cluster.interval) == (1.0, None)
    assert cluster.warnings == ("all 9 samples belong to one cluster: no interval can be given",)


def test_fractions_outside_0_and_1_are_not_cut():
    values = np.array([-0.5, 1.5] * 20)
    assert found(MEAN, column(values)).interval == t_interval(values, 0.95)


def test_many_resamples_without_a_value_leave_none_and_say_so():
    stats = np.zeros((40, 2))
    stats[0] = 1
    result = found(MICRO, stats)
    assert (result.value, result.interval) == (1.0, None)
    assert "of the resamples have no value" in result.warnings[-1]


def test_a_rate_of_a_task_that_could_stop_early_gets_a_betting_interval():
    stats = column([1] * 90 + [0] * 30)
    result = estimate(RATE, stats, level=0.95, binary=True, anytime=True)
    assert result.value == 0.75
    assert result.interval == betting_interval(stats[:, 0], 0.95, (0.0, 1.0))
    assert result.warnings == ()


def test_a_mean_in_points_that_could_stop_early_is_bounded_by_its_unit():
    points = mean("", column=0, unit="points")
    result = estimate(points, column([80.0, 55.5, 91.0]), level=0.9, binary=False, anytime=True)
    assert 0 < result.interval.low < result.value < result.interval.high < 100


@pytest.mark.parametrize(
    ("measure", "clusters", "told"),
    [
        (MICRO, None, "for a corpus measure"),
        (WORDS, None, "without known bounds"),
        (RATE, np.array([0, 0, 1, 1]), "under clusters"),
    ],
)
def test_what_cannot_be_looked_at_has_a_value_and_no_interval(measure, clusters, told):
    stats = np.array([[1.0, 1.0], [0.0, 2.0], [1.0, 1.0], [0.0, 4.0]])
    result = estimate(measure, stats, level=0.95, binary=True, clusters_N=clusters, anytime=True)
    assert result.value == (0.25 if measure is MICRO else 0.5)
    assert result.interval is None
    assert told in result.warnings[0]


def test_an_undefined_corpus_measure_of_a_task_that_could_stop_early_has_no_value():
    result = estimate(MICRO, np.zeros((4, 2)), level=0.95, binary=False, anytime=True)
    assert (result.value, result.interval) == (None, None)


def test_a_ratio_beyond_the_largest_float_is_infinite_and_none_over_nothing():
    found = ratio(np.array([1.0, 1.0]), np.array([2.2e-309, 0.0]))
    assert np.isinf(found[0])
    assert np.isnan(found[1])


# --- rates over some of the samples ---

TPR = rate("tpr", column=0, over=1)


def over_labels(right, labels):
    """Statistics of a rate over the samples whose label is 1."""
    labels = np.asarray(labels, dtype=float)
    return np.column_stack([np.asarray(right, dtype=float) * labels, labels])


LABELS = np.tile([1.0, 0.0, 1.0], 40)
RIGHT = (np.arange(120) % 7 > 1).astype(float)
ON_LABELS = RIGHT[LABELS == 1]


def test_a_rate_over_some_samples_has_wilsons_interval_of_those_alone():
    result = found(TPR, over_labels(RIGHT, LABELS), binary=True)
    assert (result.value, result.n) == (ON_LABELS.mean(), 80)
    assert result.interval == wilson_interval(ON_LABELS.sum(), 80, 0.95)
    assert result.warnings == ()


def test_a_rate_over_some_samples_is_warned_of_by_their_number():
    labels = np.zeros(120)
    labels[:12] = 1
    result = found(TPR, over_labels(RIGHT, labels), binary=True)
    assert result.n == 12
    assert result.warnings == found(RATE, column(RIGHT[:12]), binary=True).warnings
    assert "only 12 samples" in result.warnings[0]


def test_a_rate_over_none_of_the_samples_is_not_estimable_and_never_0():
    for changes in ({}, {"anytime": True}, {"clusters_N": np.arange(30) // 3}):
        stats = over_labels(np.ones(30), np.zeros(30))
        result = estimate(TPR, stats, level=0.95, binary=True, **changes)
        assert (result.value, result.interval, result.n) == (None, None, 0)
        assert result.warnings == ("not estimable: it is over none of the 30 scored samples",)


def test_a_rate_over_all_samples_tells_no_number_of_its_own():
    assert found(RATE, column(RIGHT), binary=True).n is None
    assert found(TPR, over_labels(RIGHT, np.ones(120)), binary=True).n == 120


def test_clusters_of_a_rate_over_some_samples_are_those_of_these_samples():
    clusters = cluster_codes([f"c{i // 6:02d}" for i in range(120)])
    result = found(TPR, over_labels(RIGHT, LABELS), binary=True, clusters=clusters)
    assert result.interval == cluster_interval(ON_LABELS, clusters[LABELS == 1], 0.95, (0.0, 1.0))
    alone = cluster_codes([f"c{i}" if label else "rest" for i, label in enumerate(LABELS)])
    assert found(TPR, over_labels(RIGHT, LABELS), binary=True, clusters=alone).interval == (
        wilson_interval(ON_LABELS.sum(), 80, 0.95)
    )


def test_a_rate_over_some_samples_is_bet_on_in_their_order():
    stats = over_labels(RIGHT, LABELS)
    result = estimate(TPR, stats, level=0.95, binary=True, anytime=True)
    assert result.interval == betting_interval(ON_LABELS, 0.95, (0.0, 1.0))


def test_averaged_replicates_of_a_rate_over_labels_get_t_over_those():
    halves = np.where(np.arange(120) % 5 == 0, 0.5, RIGHT)
    result = found(TPR, over_labels(halves, LABELS))
    assert result.interval == t_interval(halves[LABELS == 1], 0.95, (0.0, 1.0))


def test_a_rate_over_parts_of_samples_is_a_ratio_of_sums_and_resampled():
    # A positive predictive value over averaged replicates: each sample is selected in a share of them.
    selected = np.array([0.0, 0.25, 0.5, 1.0] * 30)
    stats = np.column_stack([selected * RIGHT, selected])
    result = found(TPR, stats)
    assert result.value == pytest.approx((selected * RIGHT).sum() / selected.sum())
    assert (result.n, result.interval) == (90, found(MICRO, stats).interval)
    few = found(TPR, stats[:12])  # 2 of its 9 samples are not wholly right
    assert few.interval is None
    assert few.warnings[-1] == (
        "it rests on only 2 of what is resampled; fewer than 10 give no interval"
    )
    early = estimate(TPR, stats, level=0.95, binary=False, anytime=True)
    assert (early.value, early.interval) == (pytest.approx(result.value), None)
