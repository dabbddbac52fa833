"""Seeded simulations of gaps between groups: false alarms, coverage, and what independent programs found.

The tables for the documents are what ``benchmarks/gap_error_rates.py`` prints; here its functions are held to bounds::

    python -m pytest -m "slow or not slow" -q tests/stats/test_gap_error_rates.py
"""

from __future__ import annotations

import runpy

import numpy as np
import pytest

TAIL = 0.05
SEED = 7


@pytest.fixture(scope="module")
def simulate(root):
    """The functions of the program that prints the tables."""
    return runpy.run_path(str(root / "benchmarks" / "gap_error_rates.py"))


def at_most(share, runs, bound=TAIL):
    """Four standard errors of a share over the runs."""
    return share <= bound + 4 * np.sqrt(bound * (1 - bound) / runs)


# In every run of the tests.


@pytest.mark.parametrize("groups", [2, 8])
def test_equal_groups_seldom_show_a_lower_end_above_no_gap(simulate, groups):
    assert at_most(simulate["share_found"]([0.8] * groups, [50] * groups, 300, SEED, 500), 300)


def test_a_group_that_is_much_worse_is_found(simulate):
    rates = simulate["worse"](4, 0.8, 0.3)
    assert simulate["share_found"](rates, [100] * 4, 50, SEED, 500) > 0.9


def test_the_true_gap_lies_within_its_ends(simulate):
    below, above, _ = simulate["wrong_ends"]((0.8, 0.8, 0.6), (50, 200, 100), 500, SEED)
    assert at_most(below, 500)
    assert at_most(above, 500)


def test_a_change_of_exactly_the_margin_seldom_lies_below_the_margin(simulate):
    rates, flips = (0.6, 0.8), 0.005
    lost = simulate["worse"](2, flips, -0.05)
    true, below, above, _ = simulate["wrong_changes"](rates, lost, flips, [200, 200], 500, SEED)
    assert true == pytest.approx(0.05)
    assert at_most(below, 500)
    assert at_most(above, 500)


# Long ones.


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("n", [20, 50, 200, 1000])
@pytest.mark.parametrize("groups", [2, 4, 8, 12])
def test_equal_groups_of_any_size_and_rate_raise_no_more_false_alarms_than_said(
    simulate, groups, n, rate
):
    assert at_most(simulate["share_found"]([rate] * groups, [n] * groups, 1_000, SEED), 1_000)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.05, 0.5, 0.95])
@pytest.mark.parametrize(
    "sizes", [(20, 1000), (1000, 50, 50), (20, 20, 500, 500), (20, 40, 80, 160, 320, 640)], ids=str
)
def test_nor_do_groups_of_unequal_sizes(simulate, sizes, rate):
    found = simulate["share_found"]([rate] * len(sizes), sizes, 2_000, SEED)
    assert at_most(found, 2_000)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.5, 0.8, 0.95])
@pytest.mark.parametrize(
    ("kind", "clusters", "size"),
    [
        ("whole", (20, 20), (10, 10)),
        ("whole", (10,) * 8, (5,) * 8),
        ("whole", (8, 40), (50, 5)),
        ("whole", (8, 40), (5, 50)),
        ("whole", (5, 5, 40, 40), (20, 20, 2, 2)),
        ("whole", (5, 5, 40, 40), (2, 2, 20, 20)),
        ("mixed", (20, 20), (5, 5)),
        ("mixed", (15,) * 4, (3,) * 4),
    ],
    ids=str,
)
def test_nor_do_groups_in_clusters(simulate, kind, clusters, size, rate):
    found = simulate["share_found_clustered"](clusters, size, rate, 0.3, kind, 600, SEED)
    assert at_most(found, 600)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rates", "sizes"),
    [
        ((0.6, 0.8), (50, 50)),
        ((0.6, 0.8), (1000, 1000)),
        ((0.95, 0.8), (1000, 50)),
        ((0.8, 0.8, 0.8, 0.6), (200,) * 4),
        ((0.99, 0.9, 0.95, 0.97), (50, 500, 20, 100)),
        ((0.8,) * 7 + (0.6,), (50,) * 8),
        (tuple(np.linspace(0.5, 0.9, 12)), (100,) * 12),
    ],
    ids=str,
)
def test_the_gap_of_unequal_groups_lies_beyond_neither_end_oftener_than_said(
    simulate, rates, sizes
):
    below, above, _ = simulate["wrong_ends"](rates, sizes, 4_000, SEED)
    assert at_most(below, 4_000)
    # Wilson's limits are right on average over rates, not at each: one-sided, two groups of 50 err at 7 %.
    assert at_most(above, 4_000, TAIL + 0.02)
    assert at_most(below + above, 4_000, 2 * TAIL)


@pytest.mark.slow
@pytest.mark.parametrize("flips", [0.0, 0.005, 0.05])
@pytest.mark.parametrize("n", [50, 200, 1000])
@pytest.mark.parametrize(
    "baseline", [(0.8, 0.8), (0.6, 0.8), (0.8,) * 4, (0.6, 0.8, 0.8, 0.8), (0.8,) * 8], ids=str
)
def test_a_gap_that_grows_by_the_margin_passes_it_no_oftener_than_said(
    simulate, baseline, n, flips
):
    groups = len(baseline)
    lost = simulate["worse"](groups, flips, -0.05)
    true, below, above, _ = simulate["wrong_changes"](
        baseline, lost, flips, [n] * groups, 4_000, SEED
    )
    assert true == pytest.approx(0.05)
    # Tango's limits, which a group that loses alone rests on, err one-sided at up to 6 % (``discordant``).
    assert at_most(above, 4_000, TAIL + 0.01)
    assert at_most(below, 4_000, TAIL + 0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("groups", "n", "mean", "extreme"),
    # Mean and 95th percentile of greatest − least under equality, as an independent program found them.
    [(8, 50, 0.160, 0.240), (8, 200, 0.081, 0.120), (8, 1000, 0.036, 0.054)],
)
def test_equal_groups_show_the_gap_that_an_independent_program_found(
    simulate, groups, n, mean, extreme
):
    found = simulate["by_chance"]([0.8] * groups, [n] * groups, 4_000, SEED)
    assert found[0] == pytest.approx(mean, abs=0.0015)
    assert found[1] == pytest.approx(extreme, abs=0.021 if n == 50 else 0.0051)
    assert found[2] == pytest.approx(mean, abs=0.004)
    # Resampled groups have twice the variance about a common rate, so they show √2 times the gap.
    assert found[3] == pytest.approx((2 - np.sqrt(2)) * found[0], rel=0.05)


@pytest.mark.slow
def test_the_permutation_test_has_the_size_and_power_that_an_independent_program_found(simulate):
    eight, runs = [50] * 8, 1_000
    size = simulate["share_refuted"]([0.8] * 8, eight, runs, SEED)
    power = simulate["share_refuted"](simulate["worse"](8, 0.8, 0.25), eight, runs, SEED)
    assert size == pytest.approx(0.033, abs=0.025)
    assert power == pytest.approx(0.81, abs=0.05)


@pytest.mark.slow
def test_what_the_permutation_test_finds_the_lower_end_finds_nearly_as_often(simulate):
    rates, eight = simulate["worse"](8, 0.8, 0.25), [50] * 8
    alone = simulate["share_refuted"](rates, eight, 1_000, SEED)
    both = simulate["share_found"](rates, eight, 1_000, SEED)
    assert alone - 0.15 < both <= alone
