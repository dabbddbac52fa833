"""Pairs of zeros and ones against published numbers and other programs, exact error rates, and laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.stats.discordant import (
    bonett_price_interval,
    mcnemar_mid_p,
    newcombe_interval,
    tango_interval,
)
from evalkit.stats.paired import LEVELS

COUNTS = st.integers(0, 40)


def test_bonett_price_is_the_interval_of_its_authors_package():
    # R package vcmeta (Bonett), manual of se.prop.ps(16, 64, 5, 15): estimate .5784314, standard error .05953213.
    interval = bonett_price_interval(64, 5, 100, 0.95)
    assert (interval.low + interval.high) / 2 == pytest.approx(0.5784314, abs=5e-8)
    assert (interval.high - interval.low) / 2 / 1.959964 == pytest.approx(0.05953213, abs=5e-8)


def test_a_published_table_gives_what_the_r_package_contingencytables_gives():
    # Its tests/testthat/test-ch8.R on cavo_2012, rows (59, 6), (16, 80): complete response before and after therapy.
    shown, decided = bonett_price_interval(6, 16, 161, 0.95), tango_interval(6, 16, 161, 0.95)
    assert (shown.low, shown.high) == pytest.approx((-0.1195, -0.0032), abs=5e-5)
    assert (decided.low, decided.high) == pytest.approx((-0.1240, -0.0054), abs=5e-5)
    assert mcnemar_mid_p(6, 16) == pytest.approx(0.034690, abs=5e-7)


@pytest.mark.parametrize(
    ("table", "ends", "places"),
    [
        # Newcombe 1998, Stat. Med. 17, 2635, method 10.
        ((36, 12, 2, 0), (0.0569, 0.3404), 4),
        # Fagerland, Lydersen & Laake 2014, Stat. Med. 33, 2850: airway hyper-responsiveness.
        ((1, 1, 7, 12), (-0.507, -0.026), 3),
        # R package contingencytables, tests/testthat/test-ch8.R, cavo_2012.
        ((59, 6, 16, 80), (-0.1186, -0.0046), 4),
    ],
)
def test_newcombes_interval_is_the_published_one(table, ends, places):
    interval = newcombe_interval(*table, 0.95)
    assert (interval.low, interval.high) == pytest.approx(ends, abs=0.51 * 10.0**-places)


@given(COUNTS, COUNTS, COUNTS, COUNTS, st.sampled_from(LEVELS))
def test_newcombes_interval_turns_around_with_the_models_and_with_right_and_wrong(
    both, gained, lost, neither, level
):
    if both + gained + lost + neither == 0:
        return
    one = newcombe_interval(both, gained, lost, neither, level)
    turned = newcombe_interval(both, lost, gained, neither, level)
    relabelled = newcombe_interval(neither, lost, gained, both, level)
    for other in (turned, relabelled):
        assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


@pytest.mark.parametrize("both", [0, 300, 700])
def test_the_three_intervals_agree_where_many_pairs_differ(both):
    counts = 150, 120
    newcombe = newcombe_interval(both, *counts, 730 - both, 0.95)
    for interval in (
        bonett_price_interval(*counts, 1000, 0.95),
        tango_interval(*counts, 1000, 0.95),
    ):
        assert (newcombe.low, newcombe.high) == pytest.approx(
            (interval.low, interval.high), abs=2e-3
        )


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    # Fagerland, Lydersen & Laake 2013: airway hyper-responsiveness of 21 children, mid-p .039 where exact p is .070.
    [(1, 7, 0.039), (7, 1, 0.039), (5, 5, 1.0), (0, 0, 1.0)],
)
def test_mcnemars_mid_p_is_the_published_one(gained, lost, p):
    assert mcnemar_mid_p(gained, lost) == pytest.approx(p, abs=5e-4)


@pytest.mark.parametrize(("gained", "lost"), [(86, 150), (0, 9), (3, 4), (12, 12), (1200, 1300)])
def test_mcnemars_mid_p_agrees_with_statsmodels_exact_test(gained, lost):
    from scipy import stats
    from statsmodels.stats.contingency_tables import mcnemar

    exact = mcnemar([[100, gained], [lost, 50]], exact=True).pvalue
    tie = stats.binom.pmf(min(gained, lost), gained + lost, 0.5)
    expected = 1.0 if gained == lost else exact - tie
    assert mcnemar_mid_p(gained, lost) == pytest.approx(expected)


@pytest.mark.parametrize("n", [1, 300, 1_000_000])
def test_without_a_discordant_pair_tangos_interval_has_a_closed_form(n):
    interval, z = tango_interval(0, 0, n, 0.95), 1.959964
    assert (interval.low, interval.high) == pytest.approx((-(z**2) / (n + z**2), z**2 / (n + z**2)))


@pytest.mark.parametrize("n", [1, 300, 1_000_000])
def test_with_nothing_but_gained_pairs_tangos_interval_has_a_closed_form(n):
    interval, z = tango_interval(n, 0, n, 0.95), 1.959964
    assert (interval.low, interval.high) == pytest.approx(((n - z**2) / (n + z**2), 1))


def test_tangos_interval_holds_zero_just_when_mcnemars_test_accepts():
    # At Δ = 0 the score statistic is McNemar's: (gained − lost)/sqrt(gained + lost).
    for gained in range(40):
        for lost in range(40):
            interval = tango_interval(gained, lost, 100, 0.95)
            rejected = abs(gained - lost) > 1.959964 * np.sqrt(gained + lost)
            assert (interval.low > 0 or interval.high < 0) == rejected


@given(COUNTS, COUNTS, st.integers(1, 300), st.sampled_from(LEVELS))
def test_swapping_the_models_turns_the_interval_around(gained, lost, same, level):
    n = gained + lost + same
    for interval in (bonett_price_interval, tango_interval):
        one, other = interval(gained, lost, n, level), interval(lost, gained, n, level)
        assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
        assert -1 <= one.low <= (gained - lost) / n <= one.high <= 1


@given(COUNTS, COUNTS, st.integers(0, 100), st.sampled_from(LEVELS))
def test_one_more_lost_answer_never_helps(gained, lost, same, level):
    n = gained + lost + same + 1
    before = tango_interval(gained, lost, n, level)
    after = tango_interval(gained, lost + 1, n, level)
    assert after.low <= before.low + 1e-12
    assert after.high <= before.high + 1e-12


@given(st.integers(0, 400), st.integers(0, 400))
def test_a_mid_p_is_a_probability(gained, lost):
    assert 0 < mcnemar_mid_p(gained, lost) <= 1


def error_at_the_margin(interval, n, margin, gained):
    """Exact chance that the interval at 90 % lies above −margin when that is the true difference."""
    from scipy import stats

    lost = margin + gained
    error = 0.0
    for down in range(int(stats.binom.ppf(1 - 1e-9, n, lost)) + 1):
        ups = np.arange(int(stats.binom.ppf(1 - 1e-9, n - down, gained / (1 - lost))) + 1)
        odds = stats.binom.pmf(down, n, lost) * stats.binom.pmf(ups, n - down, gained / (1 - lost))
        passed = [interval(up, down, n, 0.9).low > -margin for up in ups.tolist()]
        error += odds[passed].sum()
    return error


@pytest.mark.slow
@pytest.mark.parametrize("n", [50, 100, 200, 300, 500])
@pytest.mark.parametrize("margin", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("gained", [0.0, 0.005, 0.02, 0.1])
def test_a_candidate_at_the_margin_passes_tangos_interval_at_the_stated_rate(n, margin, gained):
    assert error_at_the_margin(tango_interval, n, margin, gained) < 0.061


@pytest.mark.slow
def test_bonett_price_would_pass_it_too_often():
    assert error_at_the_margin(bonett_price_interval, 200, 0.02, 0.0) == pytest.approx(
        0.089, abs=5e-4
    )
