"""FROG's importance: its formula written out as loops, closed forms, and the study's figures for a real model."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lapack import Lapack, with_singular_values
from minilm import minilm_matrices

from evalkit.spectral.decomposition import NumpyDecomposition
from evalkit.spectral.importance import (
    frobenius_shares,
    leading_triplets,
    row_column_relevance,
    svd_relevance,
)

LAPACK = Lapack()

shapes = st.tuples(st.integers(1, 24), st.integers(1, 24))
seeds = st.integers(0, 2**32)


def gaussian(seed, shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def top(scores_RC, share=0.1):
    kept = int(share * scores_RC.size)
    return set(np.argpartition(-scores_RC.ravel(), kept)[:kept])


def in_common(one_RC, other_RC):
    return len(top(one_RC) & top(other_RC)) / len(top(one_RC))


def test_relevance_is_the_sum_over_triplets_written_out():
    W_RC = gaussian(1, (5, 7))
    U, singular, Vt = np.linalg.svd(W_RC.astype(np.float64))
    S_RC = svd_relevance(W_RC, LAPACK)
    assert S_RC.dtype == np.float32
    for i in range(5):
        for j in range(7):
            expected = sum(singular[k] * abs(U[i, k]) * abs(Vt[k, j]) for k in range(5))
            assert S_RC[i, j] == pytest.approx(expected, rel=1e-5)


@given(seeds, shapes)
def test_relevance_is_never_below_the_absolute_weight(seed, shape):
    """The triangle inequality, in float32."""
    W_RC = gaussian(seed, shape)
    assert (svd_relevance(W_RC, LAPACK) >= np.abs(W_RC) * (1 - 1e-5) - 1e-6).all()


@given(seeds, shapes)
def test_of_a_matrix_of_rank_one_it_is_the_absolute_weight(seed, shape):
    rows, columns = shape
    W_RC = gaussian(seed, (rows, 1)) @ gaussian(seed + 1, (1, columns))
    np.testing.assert_allclose(svd_relevance(W_RC, LAPACK), np.abs(W_RC), rtol=1e-4, atol=1e-5)


@given(seeds, shapes, st.floats(0.01, 100))
def test_it_grows_with_the_matrix_unless_it_is_scale_free(seed, shape, scale):
    W_RC = gaussian(seed, shape)
    scaled_RC = (W_RC * np.float32(scale)).astype(np.float32)
    S_RC = svd_relevance(W_RC, LAPACK)
    np.testing.assert_allclose(svd_relevance(scaled_RC, LAPACK), scale * S_RC, rtol=1e-3)
    free_RC = svd_relevance(scaled_RC, LAPACK, scale_free=True)
    assert free_RC.mean() == pytest.approx(1, rel=1e-4)
    np.testing.assert_allclose(free_RC, S_RC / S_RC.mean(), rtol=1e-3)


@given(seeds, shapes, st.integers(1, 30) | st.none())
def test_row_and_column_relevance_are_its_means(seed, shape, rank):
    W_RC = gaussian(seed, shape)
    S_RC = svd_relevance(W_RC, LAPACK, rank=rank)
    row_R, column_C = row_column_relevance(W_RC, LAPACK, rank=rank)
    np.testing.assert_allclose(row_R, S_RC.mean(axis=1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(column_C, S_RC.mean(axis=0), rtol=1e-4, atol=1e-6)


def test_zeros_have_no_relevance():
    zeros = np.zeros((3, 4), np.float32)
    for decomposition in (LAPACK, NumpyDecomposition()):
        for rank in (None, 2):
            assert not svd_relevance(zeros, decomposition, rank=rank).any()
            assert not svd_relevance(zeros, decomposition, rank=rank, scale_free=True).any()


@given(seeds, st.sampled_from([(40, 40), (60, 20), (20, 60)]), st.integers(1, 20))
@settings(max_examples=40)
def test_what_few_triplets_leave_out_is_estimated_below_its_bound(seed, shape, rank):
    """Head ≤ estimate ≤ head + the Cauchy–Schwarz bound of the rest, which the exact S keeps as well."""
    W_RC = gaussian(seed, shape)
    U_RM, singular_M, V_CM = LAPACK.svd(W_RC)
    left, right = np.abs(U_RM), np.abs(V_CM)
    head_RC = (left[:, :rank] * singular_M[:rank]) @ right[:, :rank].T
    tail_R = np.sqrt(((left[:, rank:] * singular_M[rank:]) ** 2).sum(axis=1))
    tail_C = np.sqrt((right[:, rank:] ** 2).sum(axis=1))
    other_R = np.sqrt((left[:, rank:] ** 2).sum(axis=1))
    other_C = np.sqrt(((right[:, rank:] * singular_M[rank:]) ** 2).sum(axis=1))
    bound_RC = head_RC + np.maximum(np.outer(tail_R, tail_C), np.outer(other_R, other_C)) + 1e-3
    for S_RC in (svd_relevance(W_RC, LAPACK), svd_relevance(W_RC, LAPACK, rank=rank)):
        assert (S_RC - head_RC >= -1e-3).all()
        assert (bound_RC - S_RC >= 0).all()


@pytest.mark.parametrize("shape", [(256, 256), (512, 128), (128, 512)])
@pytest.mark.parametrize("spectrum", ["noise", "falling"])
def test_few_triplets_give_the_relevance_of_large_matrices_to_within_a_fifth(shape, spectrum):
    rng = np.random.default_rng(3)
    fewest = min(shape)
    falling = with_singular_values(rng, *shape, np.geomspace(10, 0.2, fewest))
    W_RC = falling if spectrum == "falling" else gaussian(3, shape)
    exact_RC = svd_relevance(W_RC, LAPACK)
    errors = []
    for rank in (fewest // 8, fewest // 4, fewest // 2, fewest):
        estimate_RC = svd_relevance(W_RC, LAPACK, rank=rank)
        errors.append(float(np.abs(estimate_RC - exact_RC).mean() / exact_RC.mean()))
    assert errors[0] < 0.2
    assert errors[-1] < 1e-5
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("shape", [(200, 120), (120, 200)])
def test_randomised_iteration_finds_leading_triplets_that_stand_out(shape):
    """Known singular values 2⁰, 2⁻¹, …: ten of them, and the subspaces that an SVD finds."""
    W_RC = with_singular_values(np.random.default_rng(4), *shape, 2.0 ** -np.arange(40))
    U_RK, singular_K, V_CK = leading_triplets(W_RC, 10)
    np.testing.assert_allclose(singular_K, 2.0 ** -np.arange(10), rtol=1e-4)
    U0_RK, _, V0_CK = LAPACK.svd(W_RC, 10)
    np.testing.assert_allclose(np.abs((U_RK * U0_RK).sum(axis=0)), 1, atol=1e-3)
    np.testing.assert_allclose(np.abs((V_CK * V0_CK).sum(axis=0)), 1, atol=1e-3)
    again = leading_triplets(W_RC, 10)
    assert all(
        (one == other).all() for one, other in zip(again, (U_RK, singular_K, V_CK), strict=True)
    )


def test_every_decomposition_gives_the_same_relevance():
    W_RC = gaussian(5, (96, 64))
    for decomposition in (NumpyDecomposition(), NumpyDecomposition(exact=True)):
        np.testing.assert_allclose(
            svd_relevance(W_RC, decomposition), svd_relevance(W_RC, LAPACK), rtol=1e-4
        )


def test_shares_of_norms_are_worked_out_by_hand():
    assert frobenius_shares({"a": 1.0, "b": 1.0, "c": 2.0}) == {"a": 0.25, "b": 0.25, "c": 0.5}


@given(
    st.dictionaries(st.text(max_size=4), st.floats(0, 1e30), min_size=1).filter(
        lambda n: any(n.values())
    )
)
def test_shares_sum_to_one_and_keep_the_ratios(norms):
    shares = frobenius_shares(norms)
    assert math.fsum(shares.values()) == pytest.approx(1)
    total = math.fsum(norms.values())
    for name, norm in norms.items():
        assert shares[name] == pytest.approx(norm / total)


def test_a_norm_that_is_not_finite_has_no_share_and_spoils_no_other():
    assert frobenius_shares({"a": 3.0, "b": math.nan, "c": math.inf, "d": 1.0}) == {
        "a": 0.75,
        "d": 0.25,
    }
    assert frobenius_shares({"a": 0.0}) == frobenius_shares({}) == {}


def test_shares_of_a_real_model_are_the_studys():
    """0.141 of the norm for the word table, which has 52 % of the weights."""
    matrices = minilm_matrices()
    assert len(matrices) == 39
    shares = frobenius_shares({name: float(np.linalg.norm(W)) for name, W in matrices.items()})
    assert shares["embeddings.word_embeddings.weight"] == pytest.approx(0.141, abs=5e-4)


def rank_one_energy(S_RC):
    lambda_C = np.linalg.eigvalsh(S_RC.astype(np.float64).T @ S_RC)
    return lambda_C[-1] / lambda_C.sum()


def check_against_the_study(W_RC, *, energy):
    """Return S and the product of its row and column means, which are what the study compared."""
    S_RC = svd_relevance(W_RC, LAPACK)
    product_RC = np.outer(S_RC.mean(axis=1), S_RC.mean(axis=0))
    assert (S_RC / (1 - 1e-5) - np.abs(W_RC) >= 0).all()
    assert rank_one_energy(S_RC) >= energy
    assert in_common(S_RC, product_RC) > in_common(S_RC, np.abs(W_RC)) + 0.2
    estimate_RC = svd_relevance(W_RC, LAPACK, rank=64)
    assert np.abs(estimate_RC - S_RC).mean() / S_RC.mean() < 0.1
    assert in_common(estimate_RC, S_RC) > 0.4
    return S_RC, product_RC


@pytest.mark.parametrize("name", ["attention.self.query", "intermediate.dense", "output.dense"])
def test_relevance_in_a_real_block_is_of_rank_one_as_in_the_study(name):
    check_against_the_study(minilm_matrices()[f"encoder.layer.3.{name}.weight"], energy=0.996)


@pytest.mark.slow
def test_relevance_in_all_matrices_of_a_real_model_is_the_studys():
    """S ≥ |W| in all 39; rank-one energy 0.998 on average, 0.991 at least; coefficient of variation 0.17."""
    energies, variations, products, weights = [], [], [], []
    for W_RC in minilm_matrices().values():
        S_RC, product_RC = check_against_the_study(W_RC, energy=0.9905)
        energies.append(rank_one_energy(S_RC))
        variations.append(S_RC.std() / S_RC.mean())
        products.append(in_common(S_RC, product_RC))
        weights.append(in_common(S_RC, np.abs(W_RC)))
    assert np.mean(energies) == pytest.approx(0.998, abs=5e-4)
    assert np.mean(variations) == pytest.approx(0.17, abs=0.005)
    assert np.mean(products) == pytest.approx(0.76, abs=0.005)
    assert np.mean(weights) == pytest.approx(0.24, abs=0.005)
