"""Agreement of raters against published worked numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.stats.agreement import (
    cohen_kappa,
    coincidence_stats,
    confusion_stats,
    estimated,
    fleiss_kappa,
    gwet_ac1,
    krippendorff_alpha,
    observed_agreement,
    rating_stats,
)


def table_stats(table):
    cells = np.asarray(table)
    return np.repeat(np.eye(cells.size), cells.ravel(), axis=0)


def of(from_sums, stats):
    return float(from_sums(stats.sum(axis=0), np.asarray(float(len(stats)))))


@pytest.mark.parametrize(
    ("table", "kappa"),
    [
        ([[20, 5], [10, 15]], 0.4),
        ([[45, 15], [25, 15]], 0.1304),
        ([[25, 35], [5, 35]], 0.2593),
    ],
)
def test_cohens_kappa_of_worked_tables(table, kappa):
    """Source: the worked examples of the Wikipedia article on Cohen's kappa."""
    assert of(cohen_kappa, table_stats(table)) == pytest.approx(kappa, abs=5e-5)


def test_the_kappa_paradox_and_gwets_answer_to_it():
    """Source: Gwet 2008, Br. J. Math. Stat. Psychol. 61, 29, table 2: agreement .944, kappa −.0234, AC1 .9408."""
    stats = table_stats([[118, 5], [2, 0]])
    assert of(observed_agreement, stats) == pytest.approx(0.944, abs=5e-4)
    assert of(cohen_kappa, stats) == pytest.approx(-0.0234, abs=5e-5)
    assert of(gwet_ac1, stats) == pytest.approx(0.9408, abs=5e-5)


KRIPPENDORFF = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
        [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
    ]
).T - 1  # fmt: skip
"""Four observers, twelve units, values 1 to 5; −1 is no rating."""


@pytest.mark.parametrize(
    ("measurement", "alpha"),
    [("nominal", 0.7434), ("ordinal", 0.8154), ("interval", 0.8491), ("ratio", 0.7974)],
)
def test_krippendorffs_alpha_of_his_own_example(measurement, alpha):
    """Source: Krippendorff 2011, Computing Krippendorff's alpha-reliability, section E."""
    stats = coincidence_stats(KRIPPENDORFF, 5)
    assert of(krippendorff_alpha(measurement, [1, 2, 3, 4, 5]), stats) == pytest.approx(
        alpha, abs=5e-4
    )


FLEISS = [
    [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
]  # fmt: skip


def test_fleiss_kappa_of_a_worked_table():
    """Source: the worked example of the Wikipedia article on Fleiss' kappa: 14 raters, 10 units, kappa .210."""
    ratings = np.array([np.repeat(np.arange(5), row) for row in FLEISS])
    assert of(fleiss_kappa, rating_stats(ratings, 5)) == pytest.approx(0.2099, abs=5e-5)


def test_units_that_only_one_rater_saw_say_nothing():
    first, second = np.array([0, 1, -1, 1]), np.array([0, 1, 1, -1])
    assert len(confusion_stats(first, second, 2)) == 2
    alone = np.array([[0, 0], [1, 1], [-1, 1]])
    assert np.array_equal(coincidence_stats(alone, 2), coincidence_stats(alone[:2], 2))


def test_ratings_that_are_all_alike_have_no_coefficient():
    same = np.zeros((20, 2), dtype=np.intp)
    assert (
        estimated(
            confusion_stats(same[:, 0], same[:, 1], 2), cohen_kappa, 0.95, np.random.default_rng(0)
        ).value
        is None
    )
    assert np.isnan(of(krippendorff_alpha("nominal", [0, 1]), coincidence_stats(same, 2)))


def test_unequal_numbers_of_ratings_have_no_fleiss_kappa():
    with pytest.raises(ValueError, match="same number of ratings"):
        rating_stats(np.array([[0, 1], [0, -1]]), 2)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=3, max_size=40))
def test_coefficients_do_not_depend_on_who_is_first_or_what_categories_are_called(pairs):
    ratings = np.array(pairs)
    renamed = np.array([2, 0, 1])[ratings]
    for from_sums in (cohen_kappa, gwet_ac1, observed_agreement):
        ours = of(from_sums, confusion_stats(ratings[:, 0], ratings[:, 1], 3))
        swapped = of(from_sums, confusion_stats(ratings[:, 1], ratings[:, 0], 3))
        other = of(from_sums, confusion_stats(renamed[:, 0], renamed[:, 1], 3))
        assert swapped == pytest.approx(ours, abs=1e-12, nan_ok=True)
        assert other == pytest.approx(ours, abs=1e-12, nan_ok=True)


@pytest.mark.slow
def test_intervals_of_kappa_cover_it():
    """Units drawn from a table whose kappa is 0.4: 95 % intervals hold it in about that share of draws."""
    rng = np.random.default_rng(11)
    shares = np.array([0.4, 0.1, 0.2, 0.3])
    held = 0
    for _ in range(400):
        stats = np.eye(4)[rng.choice(4, size=100, p=shares)]
        interval = estimated(stats, cohen_kappa, 0.95, rng).interval
        held += interval is not None and interval.low <= 0.4 <= interval.high
    assert held / 400 >= 0.93
