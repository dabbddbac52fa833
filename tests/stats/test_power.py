"""Sample sizes and chances, against published numbers, statsmodels and full enumeration."""

from __future__ import annotations

from itertools import pairwise
from math import comb, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.power import NormalIndPower, normal_power, tt_solve_power

from evalkit.stats.discordant import tango_interval
from evalkit.stats.power import (
    binomial_below,
    chances_of,
    detectable_distance,
    joint_chance,
    least_samples,
    likely_counts,
    normal_below,
    pair_chances,
    region_above,
    required_samples,
    stretches,
)

TABLE = {
    0.06: (3710, 927, 413, 149),
    0.15: (9274, 2318, 1031, 371),
    0.27: (16693, 4174, 1855, 668),
}
"""Source: n = 6.1826·discordance/margin² pairs for non-inferiority at margins of 1, 2, 3 and 5 points (one-sided 5 %,
80 % power, true difference 0), printed to the next or the nearest whole number."""


@pytest.mark.parametrize("discordance", TABLE)
def test_the_number_of_pairs_for_non_inferiority_is_the_published_one(discordance):
    margins = (0.01, 0.02, 0.03, 0.05)
    found = [required_samples(discordance, m, alpha=0.05, power=0.8) for m in margins]
    for n, printed in zip(found, TABLE[discordance], strict=True):
        assert abs(n - printed) < 1


def test_millers_worked_example_needs_969_questions():
    # Source: Miller 2024, arXiv 2411.00640, section 5: omega² = 1/9, delta .03, two-sided 5 %, 80 %: n = 968.998.
    n = required_samples(1 / 9, 0.03, alpha=0.025, power=0.8)
    assert n == pytest.approx(968.998, abs=1e-3)


@pytest.mark.parametrize(("effect", "alpha", "power"), [(0.2, 0.05, 0.8), (0.5, 0.025, 0.9)])
def test_the_closed_form_is_the_normal_power_of_statsmodels(effect, alpha, power):
    n = required_samples(1.0, effect, alpha=alpha, power=power)
    assert normal_power(effect, n, alpha, alternative="larger") == pytest.approx(power)
    two_groups = NormalIndPower().solve_power(
        effect, alpha=alpha, power=power, alternative="larger"
    )
    assert 2 * n == pytest.approx(two_groups)


def test_the_closed_form_is_students_t_but_for_a_few_samples():
    # statsmodels solves the paired t test with the noncentral t distribution.
    exact = tt_solve_power(effect_size=0.1, alpha=0.05, power=0.8, alternative="larger")
    n = required_samples(1.0, 0.1, alpha=0.05, power=0.8)
    assert n < exact < n + 3


@given(st.floats(1e-3, 10), st.integers(2, 10**6), st.floats(0.005, 0.2), st.floats(0.5, 0.99))
def test_distance_and_number_of_samples_are_each_others_inverse(variance, n, alpha, power):
    distance = detectable_distance(variance, n, alpha=alpha, power=power)
    assert required_samples(variance, distance, alpha=alpha, power=power) == pytest.approx(n)


@given(st.lists(st.floats(0, 1), max_size=6))
def test_frechets_bound_is_never_above_independence(chances):
    independent, least = joint_chance(chances)
    assert 0 <= least <= independent + 1e-12
    assert independent <= min(chances, default=1.0) + 1e-12


def test_frechets_bound_is_reached_by_events_that_never_miss_together():
    # Two events of .6 whose complements exclude each other hold together with .2.
    assert joint_chance([0.6, 0.6]) == pytest.approx((0.36, 0.2))


@given(st.lists(st.integers(0, 60), min_size=2, max_size=5, unique=True), st.data())
def test_stretches_cover_everything_between_the_probes_once(changes, data):
    edges = sorted(changes)
    probes = data.draw(st.sets(st.integers(0, 60), min_size=2))

    def answer(place: int) -> int:
        return sum(place >= edge for edge in edges)

    found = stretches(answer, probes)
    assert (found[0][0], found[-1][1]) == (min(probes), max(probes))
    for (_, last, _), (first, _, _) in pairwise(found):
        assert first == last + 1
    # The answer here never returns to what it was, so no change can hide between equal probes.
    for first, last, held in found:
        assert {answer(place) for place in range(first, last + 1)} == {held}


def test_chances_of_a_binomial_are_scipys():
    held = stretches(lambda k: "few" if k < 7 else "some" if k < 12 else "many", range(0, 31, 3))
    chances = chances_of(held, binomial_below(30, 0.3))
    dist = stats.binom(30, 0.3)
    assert chances["few"] == pytest.approx(dist.cdf(6))
    assert chances["some"] == pytest.approx(dist.cdf(11) - dist.cdf(6))
    assert chances["many"] == pytest.approx(dist.sf(11))


def test_chances_of_a_normal_are_scipys():
    held = [(-50, 10, "low"), (11, 50, "high")]
    chances = chances_of(held, normal_below(3.0, 4.0))
    assert chances["low"] == pytest.approx(stats.norm(3, 4).cdf(10))


def enumerated(answer, n, gained, lost):
    """The whole trinomial, outcome by outcome."""
    chances: dict[str, float] = {}
    for g in range(n + 1):
        for l in range(n + 1 - g):  # noqa: E741
            mass = comb(n, g) * comb(n - g, l) * gained**g * lost**l
            mass *= (1 - gained - lost) ** (n - g - l)
            chances[answer(g, l)] = chances.get(answer(g, l), 0.0) + mass
    return chances


@pytest.mark.parametrize(
    ("n", "gained", "lost"),
    [(25, 0.1, 0.1), (60, 0.05, 0.15), (60, 0.0, 0.2), (40, 0.3, 0.7), (90, 0.02, 0.2)],
)
def test_chances_of_pairs_are_those_of_full_enumeration(n, gained, lost):
    def answer(g: int, l: int) -> str:  # noqa: E741
        low = (g - l) / n - 1.645 * sqrt(max(g + l - (g - l) ** 2 / n, 0.0)) / n
        return "pass" if low > -0.1 else "open"

    exact, found = enumerated(answer, n, gained, lost), pair_chances(answer, n, gained, lost)
    assert sum(found.values()) == pytest.approx(1)
    for name in exact.keys() | found.keys():
        assert found.get(name, 0.0) == pytest.approx(exact.get(name, 0.0), abs=3e-3)


def test_blocks_of_discordant_pairs_change_tangos_power_by_less_than_a_fifth_of_a_point():
    n, share = 1200, 0.2
    held: dict[tuple[int, int], bool] = {}

    def answer(g: int, l: int) -> bool:  # noqa: E741
        if (g, l) not in held:
            held[g, l] = tango_interval(g, l, n, 0.9).low > -0.04
        return held[g, l]

    exact = 0.0
    for d in range(*likely_counts(n, share), 1):
        least = next(
            (g for g in range(max(0, d // 2 - 40), d // 2 + 41) if answer(g, d - g)), d + 1
        )
        exact += stats.binom(n, share).pmf(d) * stats.binom(d, 0.5).sf(least - 1)
    found = pair_chances(answer, n, share / 2, share / 2)[True]
    assert found == pytest.approx(exact, abs=2e-3)


@settings(max_examples=50)
@given(st.integers(1, 400), st.floats(0, 1))
def test_likely_counts_hold_all_but_a_negligible_mass(n, p):
    low, high = likely_counts(n, p)
    dist = stats.binom(n, p)
    assert 0 <= low <= high <= n
    assert dist.cdf(low - 1) + dist.sf(high) < 1e-3


def test_a_region_ends_where_the_chance_crosses_what_is_wanted():
    grid = np.linspace(-3, 3, 13).tolist()
    low, high = region_above(lambda x: float(np.exp(-(x**2))), grid, 0.8, 1e-6)
    assert high == pytest.approx(sqrt(-np.log(0.8)), abs=1e-5)
    assert low == pytest.approx(-high, abs=1e-5)


def test_a_region_that_reaches_the_grids_end_is_open_there():
    assert region_above(lambda x: float(x > 0.3), [0.0, 0.5, 1.0], 0.8, 1e-6)[1] == 1.0


def test_there_is_no_region_where_nothing_is_likely_enough():
    assert region_above(lambda x: 0.5, [0.0, 1.0], 0.8, 1e-6) is None


@given(st.integers(3, 10**6), st.integers(1, 10**6))
def test_the_least_number_of_samples_is_found_from_any_guess(least, guess):
    found = least_samples(lambda n: n >= least, guess, 10**6)
    assert found is not None
    assert least <= found <= least * 1.02 + 2


def test_no_number_of_samples_is_none():
    assert least_samples(lambda n: False, 10, 10**6) is None
