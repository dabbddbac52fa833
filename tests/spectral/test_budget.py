"""FROG's budget over matrices: the overflow the study found, and the exact sums of what is redistributed."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from minilm import minilm_matrices

from evalkit.spectral.budget import overflow, redistributed_budget, trainable_budget
from evalkit.spectral.importance import frobenius_shares

matrices = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3),
    st.tuples(st.floats(0, 1e3), st.integers(0, 10**9)),
    min_size=1,
    max_size=12,
).filter(lambda found: any(norm for norm, _ in found.values()))


def split(found):
    shares = frobenius_shares({name: norm for name, (norm, _) in found.items()})
    return shares, {name: size for name, (_, size) in found.items()}


def test_as_written_a_small_matrix_with_a_large_norm_is_asked_for_more_than_it_has():
    """Half of 400 weights: three quarters of these 200 fall to a matrix of 100."""
    sizes = {"query": 100, "up": 300}
    shares = frobenius_shares({"query": 9.0, "up": 3.0})
    asked = trainable_budget(shares, sizes, 0.5)
    assert asked == {"query": 150, "up": 50}
    assert overflow(asked, sizes) == (1, 0.25)  # 50 of 200 are lost
    assert redistributed_budget(shares, sizes, 0.5) == {"query": 100, "up": 100}


def test_what_overflows_is_shared_out_in_proportion_and_may_overflow_again():
    sizes = {"a": 10, "b": 20, "c": 1000}
    shares = {"a": 0.5, "b": 0.3, "c": 0.2}
    assert redistributed_budget(shares, sizes, 100 / 1030) == {"a": 10, "b": 20, "c": 70}


def test_whole_numbers_are_made_by_largest_remainders():
    """Ten seats by 5.25 : 2.75 : 2, as Hamilton's method fills them, of ties the first."""
    sizes = dict.fromkeys("abc", 40)
    assert redistributed_budget({"a": 0.525, "b": 0.275, "c": 0.2}, sizes, 10 / 120) == {
        "a": 5,
        "b": 3,
        "c": 2,
    }
    thirds = dict.fromkeys("abc", 1 / 3)
    assert redistributed_budget(thirds, sizes, 10 / 120) == {"a": 4, "b": 3, "c": 3}


@given(matrices, st.floats(0, 1))
def test_the_redistributed_budget_sums_exactly_and_overflows_nowhere(found, share):
    shares, sizes = split(found)
    counts = redistributed_budget(shares, sizes, share)
    assert list(counts) == list(shares)
    assert sum(counts.values()) == round(Fraction(share) * sum(sizes.values()))
    assert all(0 <= counts[name] <= sizes[name] for name in shares)


@given(matrices, st.floats(0, 1))
def test_matrices_that_are_not_full_keep_the_ratio_of_their_shares(found, share):
    """Water filling: one level c serves them all, up to the rounding to whole weights."""
    shares, sizes = split(found)
    counts = redistributed_budget(shares, sizes, share)
    open_ = [name for name in shares if counts[name] < sizes[name] and shares[name] > 0]
    levels = [(counts[name] / Fraction(shares[name]), Fraction(shares[name])) for name in open_]
    for level, weight in levels:
        for other, other_weight in levels:
            assert abs(level - other) <= 1 / weight + 1 / other_weight
    full = [name for name in shares if counts[name] == sizes[name] and shares[name] > 0]
    for name in full:
        for level, weight in levels:
            assert sizes[name] / Fraction(shares[name]) <= level + 1 / weight + 1 / Fraction(
                shares[name]
            )


@given(matrices, st.floats(0, 1))
def test_where_nothing_overflows_redistribution_changes_rounding_alone(found, share):
    shares, sizes = split(found)
    asked = trainable_budget(shares, sizes, share)
    if all(asked[name] < sizes[name] for name in shares):
        counts = redistributed_budget(shares, sizes, share)
        assert all(abs(counts[name] - asked[name]) <= 1 for name in shares)


def test_matrices_of_zeros_are_filled_last():
    shares, sizes = {"zero": 0.0, "full": 1.0}, {"zero": 10, "full": 10}
    assert redistributed_budget(shares, sizes, 0.5) == {"zero": 0, "full": 10}
    assert redistributed_budget(shares, sizes, 0.6) == {"zero": 2, "full": 10}
    assert redistributed_budget(shares, sizes, 1.0) == sizes


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_0_to_1_is_refused(share):
    for budget in (trainable_budget, redistributed_budget):
        with pytest.raises(ValueError, match="between 0 and 1"):
            budget({"a": 1.0}, {"a": 10}, share)


@pytest.mark.parametrize(
    ("share", "over", "lost"), [(0.01, 0, 0.0), (0.3, 11, 0.023), (0.5, 22, 0.162)]
)
def test_the_budget_overflows_on_a_real_model_as_the_study_says(share, over, lost):
    found = minilm_matrices()
    sizes = {name: W.size for name, W in found.items()}
    shares = frobenius_shares(
        {name: float(np.linalg.norm(W.astype(float))) for name, W in found.items()}
    )
    asked = trainable_budget(shares, sizes, share)
    assert overflow(asked, sizes) == (over, pytest.approx(lost, abs=5e-4))
    counts = redistributed_budget(shares, sizes, share)
    assert overflow(counts, sizes) == (0, 0.0)
    assert sum(counts.values()) == round(share * sum(sizes.values()))
    if share == 0.01:
        densities = [asked[name] / sizes[name] for name in sizes]
        assert min(densities) == pytest.approx(0.0027, abs=5e-5)
        assert max(densities) == pytest.approx(0.042, abs=5e-4)
