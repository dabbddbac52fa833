"""Paired differences against published tables, scipy, statsmodels and sacrebleu, and the laws they obey."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.metrics.base import corpus, mean, rate, ratio
from evalkit.stats.betting import betting_interval, betting_p
from evalkit.stats.discordant import bonett_price_interval, tango_interval
from evalkit.stats.intervals import cluster_codes
from evalkit.stats.paired import LEVELS, paired_difference
from evalkit.stats.paired_corpus import newcombe_interval
from evalkit.stats.resampling import Resampled, Resampler

RATE = rate("", column=0)
MEAN = mean("", column=0)
WORDS = mean("", column=0, unit="words")
MICRO = corpus("", lambda s, n: ratio(s[..., 0], s[..., 1]), unit="fraction")
NATS = corpus("", lambda s, n: ratio(s[..., 0], s[..., 1]), unit="nats/byte", better="lower")


def column(values):
    return np.asarray(values, dtype=float)[:, None]


def compare(
    measure, candidate, baseline, *, binary=False, clusters=None, seed=0, rng=None, anytime=False
):
    resampled = None
    if measure.kind == "corpus" or measure.over >= 0:
        ids = [f"s{i:06d}" for i in range(len(candidate))]
        resampler = Resampler(ids, np.random.default_rng(seed), clusters)
        resampled = Resampled(resampler, np.hstack([candidate, baseline]))
    found = paired_difference(
        measure,
        candidate,
        baseline,
        0.95,
        binary=binary,
        clusters_N=clusters,
        resampled=resampled,
        rng=rng,
        anytime=anytime,
    )
    assert found is not None
    return found


def at(found, level):
    return next((i.low, i.high) for i in found.intervals if i.level == level)


def pairs_of(gained, lost, both, neither):
    """Candidate's and baseline's zeros and ones from the four counts of a 2 × 2 table."""
    candidate = [1] * gained + [0] * lost + [1] * both + [0] * neither
    baseline = [0] * gained + [1] * lost + [1] * both + [0] * neither
    return column(candidate), column(baseline)


# --- zeros and ones ---


def test_a_large_table_gives_agrestis_interval():
    # Agresti, Categorical Data Analysis, approval ratings (794, 150; 86, 570): .04, 95 % (.0213, .0587); p = 3.1e-5,
    # exact 3.716e-5.
    found = compare(RATE, *pairs_of(150, 86, 794, 570), binary=True)
    assert found.difference == pytest.approx(0.04)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((0.0213, 0.0587), abs=2e-4)
    assert at(found, 0.95) == pytest.approx((0.0213, 0.0587), abs=4e-4)
    from scipy import stats

    assert found.p_value == pytest.approx(3.716e-5 - stats.binom.pmf(86, 236, 0.5), abs=5e-9)
    assert (found.test, found.interval.method) == ("mcnemar mid-p", "bonett-price")


def test_zeros_and_ones_show_bonett_price_and_decide_by_tango():
    found = compare(RATE, *pairs_of(12, 20, 40, 28), binary=True)
    assert found.interval == bonett_price_interval(12, 20, 100, 0.95)
    assert found.intervals == tuple(tango_interval(12, 20, 100, level) for level in LEVELS)


def test_clusters_of_one_pair_are_no_clusters():
    candidate, baseline = pairs_of(12, 20, 40, 28)
    alone = cluster_codes([f"c{i}" for i in range(100)])
    assert compare(RATE, candidate, baseline, binary=True, clusters=alone) == compare(
        RATE, candidate, baseline, binary=True
    )


def test_many_discordant_clusters_give_the_cluster_robust_interval():
    import statsmodels.api as sm

    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(400), 5)
    candidate = (rng.random(2000) < 0.3 + 0.4 * (rng.random(400) < 0.5)[groups]).astype(float)
    baseline = (rng.random(2000) < 0.5).astype(float)
    fit = sm.OLS(candidate - baseline, np.ones(2000)).fit(
        cov_type="cluster", cov_kwds={"groups": groups}, use_t=True
    )
    found = compare(
        RATE, column(candidate), column(baseline), binary=True, clusters=cluster_codes(groups)
    )
    low, high = fit.conf_int(alpha=0.05)[0]
    assert at(found, 0.95) == pytest.approx((low, high), abs=0.02 * (high - low))
    assert found.p_value == pytest.approx(fit.pvalues[0], rel=0.2)
    assert found.intervals[0].method == "adjusted-cr1-t"


def test_clusters_without_a_discordant_pair_never_give_a_point():
    same = column(np.ones(100))
    clusters = cluster_codes(np.repeat(np.arange(20), 5))
    apart = compare(RATE, same, same, binary=True)
    together = compare(RATE, same, same, binary=True, clusters=clusters)
    assert at(apart, 0.9)[1] == pytest.approx(1.6449**2 / (100 + 1.6449**2), rel=1e-3)
    assert at(together, 0.9)[1] > 2 * at(apart, 0.9)[1]
    assert together.p_value == 1.0


@pytest.mark.parametrize("clusters", [None, cluster_codes(np.repeat(np.arange(50), 2))])
def test_pairs_that_differ_are_counted_in_both_directions(clusters):
    found = compare(RATE, *pairs_of(12, 20, 40, 28), binary=True, clusters=clusters)
    assert (found.gained, found.lost) == (12, 20)


def test_zeros_and_ones_have_joint_errors_with_bonett_and_prices_two_pairs():
    candidate, baseline = pairs_of(3, 2, 90, 5)
    found = compare(RATE, candidate, baseline, binary=True)
    covariance = np.cov(np.r_[candidate[:, 0], 1, 0], np.r_[baseline[:, 0], 0, 1]) / 102
    assert found.errors is not None
    assert found.errors.candidate == pytest.approx(np.sqrt(covariance[0, 0]))
    assert found.errors.baseline == pytest.approx(np.sqrt(covariance[1, 1]))
    assert found.errors.covariance == pytest.approx(covariance[0, 1])
    assert found.errors.df == 99


# --- means ---


def test_a_paired_mean_agrees_with_scipys_paired_t():
    from scipy import stats

    rng = np.random.default_rng(1)
    candidate, baseline = rng.normal(1, 1, 80), rng.normal(0.8, 1, 80)
    theirs = stats.ttest_rel(candidate, baseline)
    found = compare(WORDS, column(candidate), column(baseline))
    assert found.p_value == pytest.approx(theirs.pvalue)
    for level in LEVELS:
        ends = theirs.confidence_interval(level)
        assert at(found, level) == pytest.approx((ends.low, ends.high))
    assert (found.test, found.intervals[0].method) == ("paired t", "t")
    assert found.errors is not None
    covariance = np.cov(candidate, baseline) / 80
    assert found.errors.candidate == pytest.approx(np.sqrt(covariance[0, 0]))
    assert found.errors.baseline == pytest.approx(np.sqrt(covariance[1, 1]))
    assert found.errors.covariance == pytest.approx(covariance[0, 1])


def test_levels_ascend_and_wider_intervals_hold_narrower_ones():
    rng = np.random.default_rng(5)
    assert list(LEVELS) == sorted(LEVELS)
    for found in (
        compare(WORDS, column(rng.random(40)), column(rng.random(40))),
        compare(RATE, *pairs_of(3, 9, 40, 8), binary=True),
        compare(RATE, *pairs_of(3, 9, 40, 8), binary=True, anytime=True),
    ):
        assert tuple(i.level for i in found.intervals) == LEVELS
        for inner, outer in zip(found.intervals, found.intervals[1:], strict=False):
            assert outer.low <= inner.low <= inner.high <= outer.high


def test_a_clustered_mean_agrees_with_statsmodels():
    import statsmodels.api as sm

    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(25), 8)
    candidate = rng.normal(size=200) + rng.normal(size=25)[groups]
    baseline = rng.normal(size=200)
    fit = sm.OLS(candidate - baseline, np.ones(200)).fit(
        cov_type="cluster", cov_kwds={"groups": groups}, use_t=True
    )
    found = compare(WORDS, column(candidate), column(baseline), clusters=cluster_codes(groups))
    assert at(found, 0.95) == pytest.approx(tuple(fit.conf_int(alpha=0.05)[0]))
    assert found.p_value == pytest.approx(fit.pvalues[0])
    assert (found.test, found.intervals[0].method) == ("clustered paired t", "cr1-t")


@pytest.mark.parametrize("loss", [1.0, 0.5])
def test_a_mean_of_which_few_pairs_differ_widens_as_bonett_price_and_tango_would(loss):
    candidate, baseline = column([1.0 - loss] * 2 + [1.0] * 198), column([1.0] * 200)
    found = compare(MEAN, candidate, baseline)
    shown, decided = bonett_price_interval(0, 2, 200, 0.95), tango_interval(0, 2, 200, 0.95)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx(
        (loss * shown.low, loss * shown.high), abs=5e-4
    )
    assert at(found, 0.95)[0] == pytest.approx(loss * decided.low)
    assert at(found, 0.95)[1] == found.interval.high
    assert found.intervals[0].method == "adjusted-t"
    assert any("only 2 of 200 pairs differ" in warning for warning in found.warnings)


def test_identical_means_of_fractions_are_bounded_and_others_are_called_identical():
    same = column(np.linspace(0, 1, 50))
    bounded, unbounded = compare(MEAN, same, same), compare(WORDS, same, same)
    assert at(bounded, 0.95)[0] < 0 < at(bounded, 0.95)[1]
    assert {i.method for i in unbounded.intervals} == {"identical"}
    assert at(unbounded, 0.95) == (0, 0)
    assert unbounded.p_value == 1.0
    assert "candidate and baseline score the same on all 50 pairs" in unbounded.warnings


def test_fewer_than_ten_identical_pairs_without_known_ends_decide_nothing():
    few, enough = (column(np.linspace(0, 1, n)) for n in (9, 10))
    ratios = [np.column_stack([np.arange(9.0), np.full(9, 10.0)])] * 2
    assert compare(WORDS, few, few).intervals == compare(NATS, *ratios).intervals == ()
    assert {i.method for i in compare(WORDS, enough, enough).intervals} == {"identical"}


def test_bounded_means_that_all_differ_alike_get_an_interval_and_unbounded_ones_none():
    more, less = column(np.full(40, 0.6)), column(np.full(40, 0.5))
    bounded, unbounded = compare(MEAN, more, less), compare(WORDS, more, less)
    assert bounded.intervals[0].method == "adjusted-t"
    assert at(bounded, 0.9)[0] < 0.1 < at(bounded, 0.99)[1]
    assert unbounded.intervals == ()


def test_one_pair_or_one_cluster_gives_no_interval():
    same = compare(WORDS, column([1.0]), column([1.0]))
    assert (same.intervals, same.p_value) == ((), None)
    one = compare(WORDS, column([1.0]), column([0.0]))
    cluster = compare(WORDS, column([1.0, 2]), column([0.0, 0]), clusters=np.zeros(2, np.intp))
    assert one.intervals == cluster.intervals == ()
    assert one.p_value is None


# --- corpus measures ---


def test_a_ratio_of_sums_agrees_with_the_delta_method():
    rng = np.random.default_rng(3)
    hits, totals = rng.integers(0, 20, (2, 3000)).astype(float), np.full(3000, 20.0)
    found = compare(MICRO, np.column_stack([hits[0], totals]), np.column_stack([hits[1], totals]))
    differences = (hits[0] - hits[1]) / 20
    half = 1.96 * differences.std(ddof=1) / np.sqrt(3000)
    low, high = at(found, 0.95)
    assert (high - low) / 2 == pytest.approx(half, rel=0.06)
    assert (low + high) / 2 == pytest.approx(differences.mean(), abs=0.1 * half)
    assert found.test == "approximate randomisation"
    assert found.intervals[0].method == "bca"


def _sentences():
    """Two systems' outputs on one reference: words dropped at different rates."""
    rng = np.random.default_rng(8)
    words = [f"word{i}" for i in range(17)]
    reference = [" ".join(rng.permutation(words)[:14]) for _ in range(250)]
    systems = [
        [
            " ".join(w if rng.random() < keep else "noise" for w in line.split())
            for line in reference
        ]
        for keep in (0.80, 0.775)
    ]
    return systems, reference


@pytest.mark.parametrize("name", ["BLEU", "CHRF"])
def test_corpus_scores_agree_with_sacrebleus_paired_tests(name):
    from sacrebleu import metrics, significance
    from scipy import stats

    (candidate, baseline), reference = _sentences()
    metric = getattr(metrics, name)(references=[reference])
    statistics = [
        np.array(metric._extract_corpus_statistics(system, None), dtype=float)
        for system in (candidate, baseline)
    ]

    def score(sums_XK, n_X):
        flat = sums_XK.reshape(-1, sums_XK.shape[-1])
        scores = [metric._compute_score_from_stats(row.astype(int).tolist()).score for row in flat]
        return np.array(scores).reshape(sums_XK.shape[:-1])

    found = compare(corpus("", score, unit="points"), *statistics)
    again = compare(corpus("", score, unit="points"), *statistics, rng=np.random.default_rng(1))

    def theirs(test, trials):
        systems = [("baseline", baseline), ("candidate", candidate)]
        run = significance.PairedTest(
            systems, {name: metric}, None, test_type=test, n_samples=trials, n_jobs=1
        )
        return run()[1][type(metric).__name__ if name == "BLEU" else "chrF2"][1]

    assert found.candidate == pytest.approx(theirs("ar", 2000).score)
    p = theirs("ar", 2000).p_value
    for p_value in (found.p_value, again.p_value):  # the resampler's swaps, and swaps of one's own
        assert p_value == pytest.approx(p, abs=4 * np.sqrt(2 * p * (1 - p) / 2000))
    # sacrebleu's bootstrap p is the share of centred differences above the one seen: one-sided.
    low, high = at(found, 0.95)
    z = found.difference / ((high - low) / 2 / 1.96)
    assert stats.norm.sf(z) == pytest.approx(theirs("bs", 2000).p_value, abs=0.015)


def test_a_corpus_measure_decides_at_the_levels_its_resamples_can_tell():
    rng = np.random.default_rng(3)
    hits = rng.integers(0, 20, (2, 300)).astype(float)
    totals = np.full(300, 20.0)
    found = compare(MICRO, np.column_stack([hits[0], totals]), np.column_stack([hits[1], totals]))
    assert tuple(i.level for i in found.intervals) == (0.80, 0.90, 0.95, 0.98, 0.99, 0.995)
    assert (found.gained, found.lost) == (None, None)


@pytest.mark.parametrize("clusters", [None, np.repeat(np.arange(10), 2)])
def test_a_corpus_measure_of_fewer_than_ten_units_is_shown_and_decides_nothing(clusters):
    rng = np.random.default_rng(5)
    units = 10 if clusters is None else 20
    hits = rng.integers(0, 20, (2, units)).astype(float)
    models = [np.column_stack([column, np.full(units, 20.0)]) for column in hits]
    less = slice(1, None) if clusters is None else slice(2, None)
    enough = compare(MICRO, *models, clusters=clusters)
    few = compare(
        MICRO,
        *(each[less] for each in models),
        clusters=None if clusters is None else clusters[less] - 1,
    )
    assert enough.intervals and not few.intervals
    assert few.interval is not None and few.p_value is not None
    assert few.warnings[-1] == "fewer than 10 of what is resampled: too few to decide on"


def test_the_joint_errors_of_a_ratio_of_sums_agree_with_the_delta_method():
    rng = np.random.default_rng(4)
    hits, totals = rng.integers(0, 20, (2, 3000)).astype(float), np.full(3000, 20.0)
    hits[1] = np.where(rng.random(3000) < 0.5, hits[0], hits[1])
    found = compare(MICRO, np.column_stack([hits[0], totals]), np.column_stack([hits[1], totals]))
    expected = np.cov(hits / 20) / 3000
    assert found.errors is not None
    assert found.errors.candidate == pytest.approx(np.sqrt(expected[0, 0]), rel=0.06)
    assert found.errors.baseline == pytest.approx(np.sqrt(expected[1, 1]), rel=0.06)
    assert found.errors.covariance == pytest.approx(expected[0, 1], rel=0.12)
    assert found.errors.df is None


def test_identical_corpus_scores_between_known_ends_do_not_seem_to_move_together_exactly():
    same = np.column_stack([np.arange(50.0), np.full(50, 60.0)])
    bounded, unbounded = compare(MICRO, same, same), compare(NATS, same, same)
    assert bounded.errors is not None and unbounded.errors is not None
    for found, variance in ((bounded.errors, 2 / 51 / 52), (unbounded.errors, 0.0)):
        apart = found.candidate**2 + found.baseline**2 - 2 * found.covariance
        assert apart == pytest.approx(variance, abs=1e-12)


def test_the_smallest_p_of_a_randomisation_test_is_one_in_the_rounds_and_one():
    totals = np.full(200, 10.0)
    worse, better = np.column_stack([totals * 0.2, totals]), np.column_stack([totals * 0.8, totals])
    assert compare(MICRO, better, worse).p_value == 1 / 2001


def test_identical_corpus_scores_are_bounded_or_called_identical():
    same = np.column_stack([np.arange(50.0), np.full(50, 60.0)])
    bounded, unbounded = compare(MICRO, same, same), compare(NATS, same, same)
    assert at(bounded, 0.95)[0] < 0 < at(bounded, 0.95)[1]
    assert at(unbounded, 0.95) == (0, 0)
    assert bounded.p_value == unbounded.p_value == 1.0


def test_both_models_share_the_resamples_so_a_common_shift_has_no_spread():
    rng = np.random.default_rng(0)
    totals = np.full(100, 10.0)
    baseline = np.column_stack([rng.integers(2, 8, 100).astype(float), totals])
    found = compare(NATS, baseline + np.array([1.0, 0.0]), baseline)
    assert found.difference == pytest.approx(0.1)
    assert found.intervals == ()  # every resample differs by exactly 0.1


def test_an_undefined_value_gives_no_difference():
    empty = np.zeros((5, 2))
    resampler = Resampler([f"s{i}" for i in range(5)], np.random.default_rng(0))
    resampled = Resampled(resampler, np.hstack([empty, empty]))
    for anytime in (False, True):
        found = paired_difference(
            MICRO, empty, empty, 0.95, binary=False, resampled=resampled, anytime=anytime
        )
        assert found is None
    assert paired_difference(MEAN, empty[:0], empty[:0], 0.95, binary=False) is None


# --- samples whose number was decided by looking at them ---


@pytest.mark.parametrize("measure", [RATE, MEAN])
def test_at_any_look_bounded_differences_are_bet_on(measure):
    candidate, baseline = pairs_of(12, 40, 40, 28)
    found = compare(measure, candidate, baseline, binary=True, anytime=True)
    differences = (candidate - baseline)[:, 0]
    assert found.interval == betting_interval(differences, 0.95, (-1.0, 1.0))
    assert found.intervals == tuple(betting_interval(differences, v, (-1.0, 1.0)) for v in LEVELS)
    assert found.p_value == betting_p(differences, 0.0, (-1.0, 1.0))
    assert (found.test, found.warnings, found.errors) == ("betting", (), None)
    assert (found.gained, found.lost) == (12, 40)


def test_an_interval_that_holds_at_any_look_is_wider():
    tables = pairs_of(40, 30, 100, 30)
    once, any_look = (compare(RATE, *tables, binary=True, anytime=a) for a in (False, True))
    assert at(any_look, 0.95)[0] < at(once, 0.95)[0] < at(once, 0.95)[1] < at(any_look, 0.95)[1]


@pytest.mark.parametrize(
    ("measure", "clusters", "where"),
    [
        (WORDS, None, "without known bounds"),
        (MEAN, cluster_codes(np.repeat(np.arange(20), 2)), "under clusters"),
        (MICRO, None, "for a corpus measure"),
    ],
)
def test_what_cannot_be_bet_on_gets_no_interval_at_any_look(measure, clusters, where):
    candidate, baseline = np.random.default_rng(0).random((2, 40, 2))
    found = compare(measure, candidate, baseline, clusters=clusters, anytime=True)
    assert (found.interval, found.intervals, found.p_value, found.test) == (None, (), None, "")
    assert found.warnings == (
        f"the samples decided how many of them were asked, and {where} no interval holds then",
    )
    assert found.difference == pytest.approx(found.candidate - found.baseline)


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(40)))
def test_order_of_pairs_does_not_matter(order):
    rng = np.random.default_rng(0)
    a, b = rng.random((40, 2)), rng.random((40, 2)) + 0.5
    groups, order = cluster_codes(rng.integers(0, 8, 40)), np.array(order)
    first = compare(WORDS, a, b, clusters=groups)
    second = compare(WORDS, a[order], b[order], clusters=groups[order])
    assert at(first, 0.95) == pytest.approx(at(second, 0.95))


# --- rates over some of the samples ---

TPR = rate("tpr", column=0, over=1)


def over_labels(right, over):
    over = np.asarray(over, dtype=float)
    return np.column_stack([np.asarray(right, dtype=float) * over, over])


def over_pair(seed=3, n=90):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3 > 0
    candidate, baseline = rng.random(n) < 0.85, rng.random(n) < 0.7
    return over_labels(candidate, labels), over_labels(baseline, labels), labels


@pytest.mark.parametrize("anytime", [False, True])
@pytest.mark.parametrize("clustered", [False, True])
def test_a_rate_over_the_same_samples_for_both_is_the_rate_on_these_pairs(anytime, clustered):
    candidate, baseline, labels = over_pair()
    clusters = cluster_codes([f"c{i // 4:02d}" for i in range(90)]) if clustered else None
    kept = None if clusters is None else clusters[labels]
    whole = compare(TPR, candidate, baseline, binary=True, clusters=clusters, anytime=anytime)
    alone = compare(
        RATE, candidate[labels], baseline[labels], binary=True, clusters=kept, anytime=anytime
    )
    assert whole == alone
    assert whole.interval is None if anytime and clustered else whole.interval is not None


def test_a_rate_over_no_pair_has_no_difference():
    nothing = over_labels(np.ones(40), np.zeros(40))
    assert paired_difference(TPR, nothing, nothing, 0.95, binary=True) is None


def over_selected(selected, right):
    return over_labels(right, selected)


def test_a_rate_over_other_samples_for_each_model_is_the_difference_of_two_ratios_of_sums():
    rng = np.random.default_rng(5)
    label = rng.random(400) < 0.5
    ours = over_selected(rng.random(400) < np.where(label, 0.8, 0.3), label)
    theirs = over_selected(rng.random(400) < np.where(label, 0.7, 0.4), label)
    found = compare(TPR, ours, theirs, binary=True)
    ppv = [each[:, 0].sum() / each[:, 1].sum() for each in (ours, theirs)]
    assert (found.candidate, found.baseline) == pytest.approx(ppv)
    assert found.difference == pytest.approx(ppv[0] - ppv[1])
    assert (found.test, found.gained, found.lost) == ("approximate randomisation", None, None)
    # The delta method: the difference's influence is (tp − ppv·selected) / Σ selected for each model.
    spread = [
        (e[:, 0] - p * e[:, 1]) / e[:, 1].sum() for e, p in zip((ours, theirs), ppv, strict=True)
    ]
    error = np.sqrt(np.square(spread[0] - spread[1]).sum())
    low, high = at(found, 0.95)
    assert (high - low) / (2 * 1.96) == pytest.approx(error, rel=0.1)


def test_a_rate_over_fewer_than_ten_samples_of_either_model_is_shown_and_decides_nothing():
    ours = over_selected(np.arange(60) < 9, np.arange(60) % 2)
    theirs = over_selected(np.arange(60) < 30, np.arange(60) % 2)
    for pair in ((ours, theirs), (theirs, ours)):
        found = compare(TPR, *pair, binary=True)
        assert found.interval is not None
        assert (found.intervals, found.warnings[-1]) == (
            (),
            "fewer than 10 of what is resampled: too few to decide on",
        )


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        ((56, 70, 48, 80), 0.0524, 0.3339),
        ((9, 10, 3, 10), 0.1705, 0.8090),
        ((5, 56, 0, 29), -0.0381, 0.1926),
    ],
)
def test_two_independent_rates_have_newcombes_interval(counts, low, high):
    # Newcombe 1998, Stat. Med. 17, 873, table II, method 10.
    found = newcombe_interval(*counts, 0.95)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_few_wrong_among_what_a_model_selects_widen_the_interval_to_newcombes():
    n = np.arange(300)
    ours, theirs = over_selected(n % 3 == 0, n % 60 > 0), over_selected(n % 4 == 0, n % 2 == 0)
    clusters = cluster_codes([f"c{i // 2:03d}" for i in n])
    assert (ours.sum(axis=0), theirs.sum(axis=0)) == (
        pytest.approx((95, 100)),
        pytest.approx((75, 75)),
    )
    found = compare(TPR, ours, theirs, binary=True)
    wide = newcombe_interval(95, 100, 75, 75, 0.95)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx(
        (wide.low, wide.high), abs=0.03
    )
    assert found.interval.low <= wide.low < wide.high <= found.interval.high
    assert found.errors is None
    for undecided in (
        compare(TPR, ours, theirs, binary=True, clusters=clusters),
        compare(TPR, ours, theirs, binary=False),
    ):
        assert undecided.interval is not None
        assert undecided.intervals == ()


def test_a_rate_over_other_samples_has_no_value_where_a_model_selects_none():
    ours = over_selected(np.zeros(60), np.ones(60))
    theirs = over_selected(np.ones(60), np.ones(60))
    resampled = Resampled(
        Resampler([f"s{i:02d}" for i in range(60)], np.random.default_rng(0)),
        np.hstack([ours, theirs]),
    )
    assert paired_difference(TPR, ours, theirs, 0.95, binary=True, resampled=resampled) is None


def test_a_rate_over_other_samples_gets_no_interval_at_any_look():
    ours = over_selected(np.arange(60) % 2, np.ones(60))
    theirs = over_selected(np.arange(60) % 3 > 0, np.ones(60))
    found = compare(TPR, ours, theirs, binary=True, anytime=True)
    assert (found.interval, found.intervals, found.p_value) == (None, (), None)
    assert "no interval holds then" in found.warnings[0]
