"""Samples without a score: the worst and best they could do, and that more of them never help."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from evalkit.metrics.base import mean, rate
from evalkit.stats.discordant import tango_interval
from evalkit.stats.intervals import cluster_codes
from evalkit.stats.paired import LEVELS, paired_difference
from evalkit.stats.unpaired import extreme_differences

NAN = float("nan")
UNIT = (0.0, 1.0)
SOME = (0.9, 0.998)
TOLERANCE = 1e-9


def extremes(candidate, baseline, levels=SOME, **options):
    arrays = np.asarray(candidate, dtype=float), np.asarray(baseline, dtype=float)
    return extreme_differences(*arrays, UNIT, levels, **{"binary": False, **options})


def limits(bounded):
    return np.array([[i.low, i.high] for i in bounded.intervals]).reshape(-1, 2)


def test_missing_zeros_and_ones_are_filled_against_and_for_the_candidate():
    # Scored for both: 3 gained, 2 lost, 12 alike. Only the baseline scored: 1 right, 1 wrong. Only the candidate: 1
    # right. Neither: 2.
    candidate = [1] * 3 + [0] * 2 + [1] * 12 + [NAN, NAN, 1, NAN, NAN]
    baseline = [0] * 3 + [1] * 2 + [1] * 12 + [1, 0, NAN, NAN, NAN]
    least, greatest = extremes(candidate, baseline, LEVELS, binary=True)
    assert least.difference == pytest.approx((3 - (2 + 1 + 2)) / 22)
    assert greatest.difference == pytest.approx((3 + 1 + 1 + 2 - 2) / 22)
    for held, (gained, lost) in ((least, (3, 5)), (greatest, (7, 2))):
        for interval, level in zip(held.intervals, LEVELS, strict=True):
            expected = tango_interval(gained, lost, 22, level)
            assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))


def test_the_case_best_for_one_model_is_the_case_worst_for_the_other():
    rng = np.random.default_rng(0)
    one, other = rng.random((2, 30))
    one[:4], other[2:7] = NAN, NAN
    least, greatest = extremes(one, other)
    turned, mirrored = extremes(other, one)
    assert least.difference == pytest.approx(-mirrored.difference)
    assert limits(least) == pytest.approx(-limits(mirrored)[:, ::-1])
    assert limits(greatest) == pytest.approx(-limits(turned)[:, ::-1])


def test_a_few_missing_means_move_the_limits_by_little_more_than_filling_them_in():
    rng = np.random.default_rng(1)
    candidate, baseline = rng.random((2, 2000))
    whole = np.array(candidate)
    candidate[:20] = NAN
    least, _ = extremes(candidate, baseline, (0.95,))
    filled = np.where(np.isnan(candidate), 0.0, whole)
    plain = paired_difference(
        mean("", column=0), filled[:, None], baseline[:, None], 0.95, binary=False
    )
    assert plain is not None and plain.interval is not None
    assert least.difference == pytest.approx(plain.difference)
    width = plain.interval.high - plain.interval.low
    assert limits(least)[0] == pytest.approx(
        [plain.interval.low, plain.interval.high], abs=0.03 * width
    )
    assert least.intervals[0].method == "completed-t"


def test_nothing_shown_is_a_minus_zero():
    least, greatest = extremes([1, 1, NAN], [1, 1, 0], binary=True)
    assert [str(least.difference), str(greatest.difference > 0)] == ["0.0", "True"]
    assert "-0.0" not in (str(greatest.difference), str(extremes([NAN, 1], [1, 1])[1].difference))


def test_one_cluster_gives_the_difference_without_intervals():
    least, greatest = extremes([1, NAN, 0], [1, 1, 1], clusters_N=np.zeros(3, dtype=np.intp))
    assert (least.difference, greatest.difference) == pytest.approx((-2 / 3, -1 / 3))
    assert least.intervals == greatest.intervals == ()


def test_at_any_look_the_filled_differences_are_bet_on():
    from evalkit.stats.betting import betting_interval

    candidate, baseline = np.ones(50), np.r_[np.ones(30), np.zeros(20)]
    candidate[:5] = NAN
    least, _ = extremes(candidate, baseline, (0.9,), binary=True, anytime=True)
    differences = np.r_[-np.ones(5), np.zeros(25), np.ones(20)]
    assert least.intervals == (betting_interval(differences, 0.9, (-1.0, 1.0)),)


def test_at_any_look_clusters_get_no_interval():
    clusters = cluster_codes(np.repeat(np.arange(5), 2))
    least, _ = extremes([NAN] + [1] * 9, [1] * 10, binary=True, anytime=True, clusters_N=clusters)
    assert least.intervals == ()


SCORES = st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0])


@st.composite
def tables(draw, scores=SCORES):
    """Scores of both models with some missing, and clusters or none."""
    n = draw(st.integers(2, 30))
    column = st.lists(scores, min_size=n, max_size=n)
    both = np.array([draw(column), draw(column)])
    if draw(st.booleans()):  # nearly identical models
        both[1] = np.where(np.arange(n) < draw(st.integers(0, 4)), both[1], both[0])
    both[np.array(draw(st.lists(st.booleans(), min_size=2 * n, max_size=2 * n))).reshape(2, n)] = (
        NAN
    )
    groups = draw(st.none() | st.lists(st.integers(0, 6), min_size=n, max_size=n))
    return both, None if groups is None else cluster_codes(groups)


@settings(max_examples=100, deadline=None)
@given(tables(), st.data())
def test_a_sample_that_loses_its_score_never_makes_the_worst_better_or_the_best_worse(held, data):
    both, clusters = held
    more = both.copy()
    more[data.draw(st.integers(0, 1)), data.draw(st.integers(0, both.shape[1] - 1))] = NAN
    anytime = data.draw(st.booleans())
    least, greatest = extremes(*both, clusters_N=clusters, anytime=anytime)
    lower, higher = extremes(*more, clusters_N=clusters, anytime=anytime)
    assert lower.difference <= least.difference + TOLERANCE
    assert higher.difference >= greatest.difference - TOLERANCE
    assert (limits(lower) <= limits(least) + TOLERANCE).all()
    assert (limits(higher) >= limits(greatest) - TOLERANCE).all()


@settings(max_examples=100, deadline=None)
@given(tables(st.sampled_from([0.0, 1.0])), st.data())
def test_a_lost_zero_or_one_never_makes_the_worst_better_or_the_best_worse(held, data):
    both, clusters = held
    more = both.copy()
    more[data.draw(st.integers(0, 1)), data.draw(st.integers(0, both.shape[1] - 1))] = NAN
    (least, greatest), (lower, higher) = (
        extremes(*table, clusters_N=clusters, binary=True) for table in (both, more)
    )
    assert (limits(lower) <= limits(least) + TOLERANCE).all()
    assert (limits(higher) >= limits(greatest) - TOLERANCE).all()


@settings(max_examples=100, deadline=None)
@given(tables(), st.booleans(), st.data())
def test_the_limits_hold_over_every_completion(held, binary, data):
    both, clusters = held
    if binary:
        both = np.where(np.isnan(both), both, np.round(both))
    assume(np.isnan(both).any())
    scores = st.sampled_from([0.0, 1.0]) if binary else st.floats(0, 1)
    filled = [v if not np.isnan(v) else data.draw(scores) for v in both.ravel()]
    candidate, baseline = np.reshape(filled, both.shape)
    measure = rate("", column=0) if binary else mean("", column=0)
    whole = paired_difference(
        measure,
        candidate[:, None],
        baseline[:, None],
        0.9,
        binary=binary,
        clusters_N=clusters,
    )
    assert whole is not None
    least, greatest = extremes(*both, LEVELS[::3], binary=binary, clusters_N=clusters)
    assert least.difference - TOLERANCE <= whole.difference <= greatest.difference + TOLERANCE
    if whole.intervals:
        completed = np.array([[i.low, i.high] for i in whole.intervals[::3]])
        assert (limits(least) <= completed + TOLERANCE).all()
        assert (limits(greatest) >= completed - TOLERANCE).all()
