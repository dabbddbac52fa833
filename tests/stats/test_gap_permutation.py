"""What chance alone would show, against SciPy's exact tests, and how labels move under clusters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import fisher_exact, multivariate_hypergeom, permutation_test, studentized_range

from evalkit.stats.arrangements import (
    drawn_tables,
    every_table,
    exchanged_labels,
    kinds_of,
    random_blocks,
)
from evalkit.stats.gaps import gap_value
from evalkit.stats.permutation import Grouped, corrected_gap, gap_under_equality, mean_from_sums
from evalkit.stats.resampling import FromSums

DRAWS = 2_000


def grouped(*groups, clusters=None, from_sums: FromSums = mean_from_sums):
    """One measure over groups, each a list of values."""
    codes = np.repeat(np.arange(len(groups)), [len(values) for values in groups])
    return Grouped(
        np.concatenate(groups).astype(float)[:, None],
        codes,
        from_sums,
        None if clusters is None else np.asarray(clusters),
    )


def counted(*groups):
    """Groups of (successes, n)."""
    return grouped(*(np.arange(n) < hits for hits, n in groups))


def observed(*parts, form="difference", joined="worst"):
    values = []
    for part in parts:
        groups = range(part.codes_M.max() + 1)
        values.append(np.array([part.stats_MK[part.codes_M == g, 0].mean() for g in groups]))
    return gap_value(values, form=form, joined=joined)


def null(*parts, form="difference", joined="worst", seed=0, draws=DRAWS, gap=None):
    gap = observed(*parts, form=form, joined=joined) if gap is None else gap
    rng = np.random.default_rng(seed)
    return gap_under_equality(parts, gap, form=form, joined=joined, rng=rng, draws=draws)


def within_error(found, expected, draws=DRAWS):
    """Four standard errors of a share over the draws, and the hit that is added."""
    return abs(found - expected) < 4 * np.sqrt(expected * (1 - expected) / draws) + 1 / draws


def scipys(*groups, form="difference"):
    """Every arrangement of a few samples, by SciPy."""

    def gap(*samples, axis):
        means = np.stack([x.mean(axis=axis) for x in samples])
        if form == "ratio":
            return -means.min(axis=0) / means.max(axis=0)
        return means.max(axis=0) - means.min(axis=0)

    found = permutation_test(
        [np.asarray(x, float) for x in groups],
        gap,
        vectorized=True,
        n_resamples=np.inf,
        alternative="greater",
    )
    return found.pvalue, abs(found.null_distribution.mean())


@pytest.mark.parametrize(("first", "second", "n"), [(9, 3, 10), (14, 8, 20), (40, 27, 50)])
def test_two_groups_of_one_size_give_fishers_exact_test(first, second, n):
    found = null(counted((first, n), (second, n)))
    assert found.exact
    assert found.p_value == pytest.approx(
        fisher_exact([[first, n - first], [second, n - second]]).pvalue, rel=1e-9
    )


@pytest.mark.parametrize(
    "groups",
    [
        ([1, 1, 1, 0, 1, 1, 1], [0, 0, 1, 0]),
        ([1, 1, 1], [0, 0, 1], [0, 1, 1]),
        ([1, 1, 0, 1], [0, 0], [0, 1, 1]),
    ],
)
@pytest.mark.parametrize("form", ["difference", "ratio"])
def test_a_few_zeros_and_ones_give_what_scipy_counts_over_every_arrangement(groups, form):
    found = null(grouped(*groups), form=form)
    assert found.exact
    assert (found.p_value, found.expected) == pytest.approx(scipys(*groups, form=form), rel=1e-9)


def test_means_that_are_drawn_are_near_what_scipy_counts_over_every_arrangement():
    rng = np.random.default_rng(3)
    groups = rng.normal(size=4) + 0.9, rng.normal(size=3), rng.normal(size=3)
    found, (p_value, expected) = null(grouped(*groups), draws=20_000), scipys(*groups)
    assert not found.exact
    assert within_error(found.p_value, p_value, 20_000)
    assert found.expected == pytest.approx(expected, rel=0.02)


def test_scores_of_many_kinds_and_of_few_have_their_labels_exchanged_alike():
    # Four scores give tables; a jitter too small to change a gap makes every sample a kind of its own.
    rng = np.random.default_rng(4)
    groups = [rng.integers(4, size=n) + shift for n, shift in ((30, 0), (20, 0), (25, 1))]
    jittered = [values + rng.normal(size=len(values)) * 1e-9 for values in groups]
    assert kinds_of(grouped(*groups).stats_MK) is not None
    assert kinds_of(grouped(*jittered).stats_MK) is None
    gap = 0.6
    few, many = null(grouped(*groups), gap=gap), null(grouped(*jittered), gap=gap, seed=1)
    assert few.p_value == pytest.approx(many.p_value, abs=0.04)
    assert few.expected == pytest.approx(many.expected, rel=0.05)


def test_every_table_has_its_multivariate_hypergeometric_probability():
    sizes = np.array([5, 3, 7])
    tables, odds = every_table(np.array([6, 9]), sizes)
    assert odds == pytest.approx(multivariate_hypergeom.pmf(tables[:, 0], sizes, 6), rel=1e-9)
    assert (tables.sum(axis=2) == [6, 9]).all()
    assert (tables.sum(axis=1) == sizes).all()
    assert len(np.unique(tables[:, 0], axis=0)) == len(tables)


def test_drawn_tables_have_the_mean_and_covariance_of_the_hypergeometric():
    sizes, kinds, draws = np.array([50, 30, 20, 10]), np.array([25, 60, 25]), 40_000
    tables = drawn_tables(kinds, sizes, draws, np.random.default_rng(5))
    assert (tables.sum(axis=2) == kinds).all()
    assert (tables.sum(axis=1) == sizes).all()
    for place, count in enumerate(kinds):
        cells = tables[:, place]
        covariance = multivariate_hypergeom.cov(sizes, count)
        error = 5 * np.sqrt(covariance.max() / draws)
        assert cells.mean(axis=0) == pytest.approx(sizes * count / 110, abs=error)
        assert np.cov(cells.T) == pytest.approx(covariance, abs=0.04 * covariance.max())


@pytest.mark.parametrize(
    ("n", "expected"),
    # Mean of greatest − least of eight groups that are all at 80 %, as an independent program found it.
    [(50, 0.160), (200, 0.081), (1000, 0.036)],
)
def test_eight_equal_groups_show_the_gap_that_chance_makes(n, expected):
    found = null(counted(*[(n * 4 // 5, n)] * 8))
    assert found.expected == pytest.approx(expected, abs=0.0025)
    assert found.p_value == 1.0


def test_many_samples_are_exchanged_in_random_blocks_of_their_group():
    labels = np.repeat([0, 1, 2], [6_050, 4_001, 2_000])
    rng = np.random.default_rng(13)
    block, groups, strata = random_blocks(labels[rng.permutation(len(labels))], rng)
    labels = labels[np.random.default_rng(13).permutation(len(labels))]
    sizes = np.bincount(block, minlength=len(groups))
    assert (groups[block] == labels).all()
    assert set(sizes[strata == 0]) == {4}
    assert sizes[strata > 0].tolist() == [2, 1, 0]
    assert strata[strata > 0].tolist() == [1, 2, 3]
    firsts = [np.flatnonzero(block == b)[1] - np.flatnonzero(block == b)[0] for b in range(20)]
    assert max(firsts) > 100


@pytest.mark.parametrize("sizes", [(1_000, 1_000), (90, 20_000)])
def test_few_samples_and_small_groups_are_exchanged_one_by_one(sizes):
    assert random_blocks(np.repeat([0, 1], sizes), np.random.default_rng(0)) is None


@pytest.mark.parametrize("n", [400, 4_000])
def test_many_normal_means_lie_as_far_apart_as_the_studentised_range_says(n):
    rng = np.random.default_rng(n)
    groups = [rng.normal(size=n) for _ in range(5)]
    error = np.concatenate(groups).std() / np.sqrt(n)
    for tail in (0.5, 0.05):
        gap = studentized_range.isf(tail, 5, np.inf) * error
        found = null(grouped(*groups), gap=gap)
        assert within_error(found.p_value, tail)
    # Its mean over five values is 2.326 (d₂ of control charts, ASTM Manual 7).
    assert found.expected == pytest.approx(2.326 * error, rel=0.03)


def test_all_samples_alike_leave_nothing_to_refute():
    found = null(counted((20, 20), (30, 30), (5, 5)))
    assert (found.expected, found.p_value, found.exact) == (0.0, 1.0, True)


def test_a_drawn_p_value_is_never_zero():
    # Phipson & Smyth 2010: (hits + 1)/(draws + 1).
    apart = grouped(np.linspace(0, 1, 30), np.linspace(9, 10, 30), np.linspace(0, 1, 30))
    assert null(apart, draws=499).p_value == 1 / 500


@pytest.mark.parametrize(
    "strata",
    [
        [0] * 6 + [1, 2, 3],  # only the first can move
        [0] * 3 + [1] * 2 + [2] * 4,
    ],
)
def test_labels_move_within_their_stratum_and_each_exchange_is_as_likely(strata):
    labels, strata = np.array([0, 0, 1, 2, 0, 1, 0, 1, 2]), np.array(strata)
    rng, draws = np.random.default_rng(14), 6_000
    found = np.concatenate(list(exchanged_labels(labels, strata, draws, rng)))
    assert found.shape == (draws, 9)
    for stratum in np.unique(strata):
        own = labels[strata == stratum]
        moved = found[:, strata == stratum]
        assert (np.sort(moved, axis=1) == np.sort(own)).all()
        for label in range(3):
            assert (moved == label).mean(axis=0) == pytest.approx(np.mean(own == label), abs=0.03)


# Several measures.


def test_measures_over_different_samples_have_their_labels_exchanged_independently():
    first, second = counted((9, 10), (4, 10)), counted((8, 15), (7, 15))
    gap = observed(first, second)
    alone = [null(part, gap=gap).p_value for part in (first, second)]
    joint = null(first, second)
    assert joint.exact
    assert joint.p_value == pytest.approx(1 - (1 - alone[0]) * (1 - alone[1]), rel=1e-9)


def test_the_mean_of_two_gaps_is_expected_to_be_the_mean_of_what_each_is_expected_to_be():
    first, second = counted((9, 10), (4, 10), (3, 5)), counted((8, 15), (7, 15), (2, 9))
    parts = [null(first).expected, null(second).expected]
    joint = null(first, second, joined="mean")
    assert joint.exact
    assert joint.expected == pytest.approx(np.mean(parts))
    drawn = null(first, grouped(*[np.linspace(0, 1, 20)] * 3), joined="mean")
    assert not drawn.exact


def test_many_groups_are_drawn_as_are_all_measures_where_one_cannot_be_counted():
    many = counted(*[(16, 20)] * 11, (3, 20))
    assert not null(many).exact
    assert null(many).p_value < 0.01
    assert not null(counted((9, 10), (4, 10)), many).exact


# Clusters.


def test_whole_clusters_exchange_their_labels():
    # Eight clusters of five, four in each group: SciPy's exact test on the clusters' means.
    means = np.array([0.2, 0.4, 0.2, 0.6, 0.6, 0.8, 1.0, 0.8])
    values = [np.arange(5) < 5 * mean - 1e-9 for mean in means]
    part = grouped(
        np.concatenate(values[:4]), np.concatenate(values[4:]), clusters=np.repeat(np.arange(8), 5)
    )
    p_value, expected = scipys(means[:4], means[4:])
    found = null(part, draws=20_000)
    assert within_error(found.p_value, p_value, 20_000)
    assert found.expected == pytest.approx(expected, rel=0.02)
    assert (
        found.p_value
        > 5 * null(grouped(*[np.concatenate(x) for x in (values[:4], values[4:])])).p_value
    )


def test_a_cluster_that_answers_for_both_groups_exchanges_its_cells():
    # Ten pairs, one sample of each group: SciPy's exact test that swaps within pairs.
    rng = np.random.default_rng(6)
    effect = rng.normal(size=10) * 5
    first, second = effect + rng.normal(size=10) + 0.7, effect + rng.normal(size=10)
    scipy = permutation_test(
        (first, second),
        lambda x, y, axis: np.abs(x.mean(axis=axis) - y.mean(axis=axis)),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
        alternative="greater",
    )
    part = grouped(first, second, clusters=np.tile(np.arange(10), 2))
    found = null(part, draws=20_000)
    assert within_error(found.p_value, scipy.pvalue, 20_000)
    assert null(grouped(first, second)).p_value > 0.5  # samples taken as independent see nothing


def test_samples_of_a_cell_stay_together():
    # Each cell's samples are copies: they say no more than one of them.
    rng = np.random.default_rng(7)
    first, second = rng.normal(size=12) + 0.5, rng.normal(size=12)
    clusters = np.tile(np.arange(12), 2)
    once = null(grouped(first, second, clusters=clusters))
    copied = grouped(np.repeat(first, 9), np.repeat(second, 9), clusters=np.repeat(clusters, 9))
    assert null(copied) == once


def test_measures_that_share_clusters_have_their_labels_exchanged_together():
    rng = np.random.default_rng(8)
    clusters = np.repeat(np.arange(20), 5)
    part = grouped(rng.random(50), rng.random(50) + 0.1, clusters=clusters)
    assert null(part, part) == null(part)


def test_clusters_of_one_sample_are_no_clusters():
    first, second = [1, 1, 1, 0, 1, 1, 1], [0, 0, 1, 0]
    assert null(grouped(first, second, clusters=np.arange(11))) == null(grouped(first, second))


def test_the_names_of_clusters_do_not_matter():
    rng = np.random.default_rng(9)
    groups, codes = (rng.random(40), rng.random(40) + 0.2), np.repeat(np.arange(16), 5)
    found = null(grouped(*groups, clusters=codes))
    assert null(grouped(*groups, clusters=3 * codes + 100)) == found


# Draws without a value.


def of_second_kind(sums, n):
    """A share among the samples whose second statistic is 1."""
    return np.divide(sums[..., 0], sums[..., 1])


def test_arrangements_without_a_value_count_as_hits():
    # One sample in the denominator: in each arrangement one of the groups has none.
    stats = np.array([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    part = Grouped(stats, np.array([0, 0, 1, 1]), of_second_kind)
    found = null(part, gap=0.5)
    assert found.p_value == 1.0
    assert np.isnan(found.expected)
    rng = np.random.default_rng(0)
    assert corrected_gap([part], 0.5, form="difference", joined="worst", rng=rng) is None


# The gap with its bias taken off.


def corrected(*parts, form="difference", joined="worst", seed=0, draws=4_000):
    rng = np.random.default_rng(seed)
    gap = observed(*parts, form=form, joined=joined)
    return corrected_gap(parts, gap, form=form, joined=joined, rng=rng, draws=draws)


def by_hand(groups, form="difference", draws=4_000):
    """2 · gap − mean gap of resamples within groups, a loop."""
    rng = np.random.default_rng(1)
    gaps = []
    for _ in range(draws):
        means = [rng.choice(values, len(values)).mean() for values in groups]
        gaps.append(np.ptp(means) if form == "difference" else min(means) / max(means))
    return 2 * observed(grouped(*groups), form=form) - np.mean(gaps)


@pytest.mark.parametrize("form", ["difference", "ratio"])
@pytest.mark.parametrize("jitter", [0.0, 1e-9])
def test_the_bias_is_that_of_a_loop_over_resamples(form, jitter):
    rng = np.random.default_rng(10)
    groups = [(rng.random(60) < p) + jitter * rng.random(60) for p in (0.9, 0.5, 0.55, 0.6)]
    found = corrected(grouped(*groups), form=form)
    assert found == pytest.approx(by_hand(groups, form), abs=0.005)
    assert (found < observed(grouped(*groups))) if form == "difference" else found > 0


def test_the_correction_never_goes_beyond_no_gap():
    equal = counted(*[(40, 50)] * 8)
    assert corrected(equal) == 0.0
    assert corrected(equal, form="ratio") == 1.0


def test_whole_clusters_are_resampled_for_the_bias():
    # Copies say no more than one: nine copies of each sample have the bias of the samples alone.
    rng = np.random.default_rng(11)
    groups = [rng.random(12) + shift for shift in (0.0, 0.3, 0.35)]
    copies = [np.repeat(values, 9) for values in groups]
    clustered = grouped(*copies, clusters=np.repeat(np.arange(36), 9))
    assert corrected(clustered) == pytest.approx(corrected(grouped(*groups)), abs=1e-9)
    assert corrected(clustered) < corrected(grouped(*copies)) - 0.005


# Laws.

SMALL = st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=6), min_size=2, max_size=4)


@given(SMALL, st.sampled_from(["difference", "ratio"]))
@settings(max_examples=60)
def test_a_p_value_is_a_share_and_the_gap_seen_is_one_of_the_arrangements(groups, form):
    found = null(grouped(*groups), form=form)
    assert found.exact
    assert 0 < found.p_value <= 1
    widest = 0.0 if form == "ratio" else 1.0
    assert null(grouped(*groups), form=form, gap=widest).p_value <= found.p_value + 1e-12


@given(SMALL)
@settings(max_examples=60)
def test_right_and_wrong_can_be_turned_around(groups):
    turned = [[1 - x for x in values] for values in groups]
    found, other = null(grouped(*groups)), null(grouped(*turned))
    assert (found.p_value, found.expected) == pytest.approx((other.p_value, other.expected))


def test_the_same_seed_draws_the_same():
    part = counted(*[(40, 50)] * 8, (30, 50))
    assert null(part, seed=2) == null(part, seed=2)
    assert corrected(part, seed=2) == corrected(part, seed=2)


def test_equal_groups_raise_a_false_alarm_no_oftener_than_the_level_allows():
    # A small version of the simulation in test_gap_error_rates.py: the test alone at its size.
    rng, tail, alarms = np.random.default_rng(12), 0.1, 0
    for _ in range(300):
        part = counted(*((rng.binomial(n, 0.7), n) for n in (20, 60, 40)))
        alarms += null(part, draws=199, seed=rng).p_value <= tail
    assert 0.03 < alarms / 300 < tail + 4 * np.sqrt(tail * (1 - tail) / 300)


def test_the_correction_of_a_ratio_is_never_below_nothing():
    # 1 of 1,000 against 1 of 20: in an eighth of the resamples nobody has any, and the ratio is then 1.
    stats = np.r_[1.0, np.zeros(999), 1.0, np.zeros(19)][:, None]
    codes = np.r_[np.zeros(1000, dtype=int), np.ones(20, dtype=int)]
    found = corrected_gap(
        [Grouped(stats, codes, mean_from_sums)],
        0.02,
        form="ratio",
        joined="worst",
        rng=np.random.default_rng(0),
    )
    assert found == 0


def test_whole_clusters_that_leave_a_group_without_a_sample_of_one_measure_give_it_no_value():
    # Two of four clusters hold samples of the first measure: in a third of the arrangements one group has both, and
    # the other group has no number of it, rather than 0. Wherever both have one the gap is 1.
    first = Grouped(
        np.array([[1.0], [1.0], [0.0], [0.0]]),
        np.array([0, 0, 1, 1]),
        mean_from_sums,
        np.array([0, 0, 2, 2]),
    )
    second = Grouped(
        np.zeros((8, 1)), np.repeat([0, 1], 4), mean_from_sums, np.repeat([0, 1, 2, 3], 2)
    )
    null = gap_under_equality(
        [first, second], 1.0, form="difference", joined="worst", rng=np.random.default_rng(0)
    )
    assert null.p_value == 1
    assert null.expected == 1
