"""Low-rank updates: a dense SVD of scale · B A gives the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.spectral.low_rank import (
    effective_rank,
    stable_rank,
    top_share,
    update_measures,
    update_singular_values,
)


@st.composite
def factors(draw):
    """A (r, in) and B (out, r) of any rank up to 64, with equal, zero and missing directions among them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    r = draw(st.integers(1, 64))
    rows, columns = draw(st.integers(1, 80)), draw(st.integers(1, 80))
    A_rC = rng.standard_normal((r, columns)).astype(np.float32)
    B_Rr = rng.standard_normal((rows, r)).astype(np.float32)
    kind = draw(st.sampled_from(["full", "repeated", "zero rows", "B = 0", "A = 0"]))
    if kind == "repeated":
        A_rC[r // 2 :] = A_rC[0]
    elif kind == "zero rows":
        A_rC[::2] = 0
    elif kind == "B = 0":
        B_Rr[:] = 0
    elif kind == "A = 0":
        A_rC[:] = 0
    return A_rC, B_Rr


@given(factors(), st.floats(-64, 64))
def test_singular_values_are_those_of_the_product(pair, scale):
    A_rC, B_Rr = pair
    dense_K = np.linalg.svd(scale * (B_Rr.astype(float) @ A_rC.astype(float)), compute_uv=False)
    found_r = update_singular_values(A_rC, B_Rr, scale)
    assert len(found_r) == min(*A_rC.shape, B_Rr.shape[0])
    tolerance = 1e-12 * max(dense_K[0], 1e-300)
    np.testing.assert_allclose(found_r, dense_K[: len(found_r)], rtol=1e-10, atol=tolerance)
    assert (dense_K[len(found_r) :] <= tolerance).all()  # and there are no others


@given(factors(), st.floats(0.01, 100))
def test_the_scale_multiplies_and_its_sign_does_not_matter(pair, scale):
    once_r = update_singular_values(*pair, 1.0)
    scaled_r = update_singular_values(*pair, -scale)
    np.testing.assert_allclose(scaled_r, scale * once_r, rtol=1e-9, atol=1e-12 * scaled_r[0])


def test_factors_as_small_and_as_large_as_float32_goes_are_measured():
    for size in (1e-38, 1e38):
        A_rC, B_Rr = np.full((1, 3), size, np.float32), np.full((3, 1), size, np.float32)
        found = update_singular_values(A_rC, B_Rr, 1.0)
        np.testing.assert_allclose(found, 3 * float(np.float32(size)) ** 2, rtol=1e-12)
        assert effective_rank(found).value == pytest.approx(1)


def test_nan_in_a_factor_gives_no_number_and_no_crash():
    A_rC, B_Rr = np.ones((2, 3), np.float32), np.ones((4, 2), np.float32)
    A_rC[1, 2] = np.nan
    found = update_singular_values(A_rC, B_Rr, 1.0)
    assert np.isnan(found).all()
    measures = update_measures(found, 1.0)
    assert {m.value for m in measures.values()} == {None}
    assert {m.note for m in measures.values()} == {"NaN or infinity"}
    assert np.isnan(update_singular_values(np.ones((2, 3)), B_Rr, math.inf)).all()


def test_factors_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="have no product"):
        update_singular_values(np.ones((2, 3)), np.ones((4, 3)), 1.0)


def test_measures_of_singular_values_3_and_4_are_worked_out_by_hand():
    measures = update_measures(np.array([4.0, 3.0]), base_norm=10.0)
    assert measures["update_norm"].value == 0.5  # √(9 + 16) / 10
    assert measures["update_top_share"].value == pytest.approx(16 / 25)
    entropy = -(4 / 7 * math.log(4 / 7) + 3 / 7 * math.log(3 / 7))
    assert measures["update_effective_rank"].value == pytest.approx(math.exp(entropy))
    assert stable_rank(np.array([4.0, 3.0])).value == pytest.approx(25 / 16)


@given(st.integers(1, 64), st.floats(1e-30, 1e30))
def test_equal_directions_count_each_as_one(r, size):
    singular_r = np.full(r, size)
    assert effective_rank(singular_r).value == pytest.approx(r)
    assert stable_rank(singular_r).value == pytest.approx(r)
    assert top_share(singular_r).value == pytest.approx(1 / r)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=64).filter(any))
def test_ranks_lie_between_one_and_the_number_of_directions(singular):
    singular_r = np.array(singular)
    directions = np.count_nonzero(singular_r)
    for rank in (effective_rank(singular_r).value, stable_rank(singular_r).value):
        assert 1 - 1e-9 <= rank <= directions + 1e-9
    assert 1 / directions - 1e-9 <= top_share(singular_r).value <= 1


def test_an_update_of_zeros_has_a_norm_of_zero_and_no_rank():
    measures = update_measures(np.zeros(8), base_norm=2.0)
    assert measures["update_norm"].value == 0.0
    for name in ("update_effective_rank", "update_top_share"):
        assert (measures[name].value, measures[name].status) == (None, "degenerate")


@pytest.mark.parametrize(
    ("base_norm", "status"), [(None, "insufficient"), (0.0, "degenerate"), (math.nan, "degenerate")]
)
def test_without_a_norm_of_the_base_there_is_no_relative_norm(base_norm, status):
    found = update_measures(np.array([1.0]), base_norm)["update_norm"]
    assert (found.value, found.status) == (None, status)
    assert found.note
