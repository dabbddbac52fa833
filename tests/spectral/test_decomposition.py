"""The contract of a decomposition, over every implementation, against LAPACK's SVD in float64; then numpy's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lapack import with_singular_values

from evalkit.backends.torch_decomposition import TorchDecomposition
from evalkit.spectral import decomposition as module
from evalkit.spectral.decomposition import NumpyDecomposition
from evalkit.spectral.tail import fit_tail

ALL = {
    "numpy float32": NumpyDecomposition,
    "numpy float64": lambda: NumpyDecomposition("float64"),
    "numpy exact": lambda: NumpyDecomposition("float64", exact=True),
    "torch float32": lambda: TorchDecomposition("cpu"),
    "torch float64": lambda: TorchDecomposition("cpu", "float64"),
}
if torch.cuda.is_available():
    ALL["torch cuda"] = lambda: TorchDecomposition("cuda")
SHAPES = [(40, 40), (90, 40), (40, 90), (1, 7), (7, 1), (1, 1)]


@pytest.fixture(params=ALL)
def decomposition(request):
    """Each implementation in turn."""
    return ALL[request.param]()


@pytest.fixture
def narrow_bands(monkeypatch):
    """Matrices of 33 columns and more go by way of a band, in float32 where that is allowed."""
    monkeypatch.setattr(module, "WIDE", 33)


def noise(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def squares(W_RC):
    return np.linalg.svd(W_RC.astype(np.float64), compute_uv=False)[::-1] ** 2


# -- every decomposition ---------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_eigenvalues_are_the_squares_of_singular_values_ascending(decomposition, shape):
    W_RC = noise(shape)
    truth, found = squares(W_RC), decomposition.eigenvalues(W_RC)
    assert found.dtype == np.float64
    within = decomposition.resolution(len(truth)) * truth[-1]
    assert found == pytest.approx(truth, rel=0, abs=max(within, 1e-12))
    assert (np.diff(found) >= 0).all()


def test_many_matrices_give_what_each_gives_in_order(decomposition):
    matrices = [noise(SHAPES[place % 3], place) for place in range(9)]
    found = decomposition.eigenvalues_of_many(matrices)
    assert len(found) == 9
    for W_RC, lambda_M in zip(matrices, found, strict=True):
        assert lambda_M == pytest.approx(decomposition.eigenvalues(W_RC), rel=1e-5, abs=1e-5)
    assert decomposition.eigenvalues_of_many([]) == []


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("k", [None, 1, 5])
def test_singular_triplets_are_orthonormal_descending_and_give_the_matrix_back(
    decomposition, shape, k
):
    W_RC = noise(shape)
    U_RK, singular_K, V_CK = decomposition.svd(W_RC, k)
    truth = np.linalg.svd(W_RC.astype(np.float64), compute_uv=False)[:k]
    count = len(truth)
    assert (U_RK.shape, V_CK.shape) == ((shape[0], count), (shape[1], count))
    assert singular_K == pytest.approx(truth, rel=1e-4, abs=1e-4)
    for vectors in (U_RK, V_CK):
        assert vectors.T @ vectors == pytest.approx(np.eye(count), abs=2e-3)
    left_over = W_RC - (U_RK * singular_K) @ V_CK.T
    norm = np.linalg.norm(W_RC.astype(np.float64)) ** 2 - np.sum(truth**2)
    assert np.linalg.norm(left_over) ** 2 == pytest.approx(norm, abs=1e-3)


def test_rounding_comes_out_as_0_and_its_vectors_have_no_direction(decomposition):
    W_RC = with_singular_values(np.random.default_rng(0), 60, 30, np.array([3.0, 2.0, 1.0]))
    lambda_M = decomposition.eigenvalues(W_RC)
    resolved = lambda_M > 1e-6 * lambda_M[-1]
    assert resolved.sum() == 3
    assert lambda_M[-3:] == pytest.approx([1, 4, 9], rel=1e-5)
    U_RK, singular_K, _ = decomposition.svd(W_RC)
    assert singular_K[:3] == pytest.approx([3, 2, 1], rel=1e-5)
    lengths = np.linalg.norm(U_RK, axis=0)
    assert ((lengths == 0) | (np.abs(lengths - 1) < 1e-4)).all()
    assert (singular_K[lengths == 0] == 0).all()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_in_words(decomposition, wrong):
    W_RC = noise((20, 30))
    W_RC[3, 4] = wrong
    for ask in (decomposition.eigenvalues, decomposition.svd):
        with pytest.raises(ValueError, match="NaN or infinity has no spectrum"):
            ask(W_RC)


@pytest.mark.parametrize("exponent", [-60, 60])
def test_weights_whose_squares_leave_float32_scale_the_eigenvalues_and_nothing_else(
    decomposition, exponent
):
    W_RC = noise((40, 50))
    scaled = decomposition.eigenvalues(np.ldexp(W_RC, exponent))
    assert np.ldexp(scaled, -2 * exponent) == pytest.approx(
        decomposition.eigenvalues(W_RC), rel=1e-4, abs=1e-3
    )


def test_zeros_have_eigenvalues_of_0(decomposition):
    assert decomposition.eigenvalues(np.zeros((5, 3), np.float32)).tolist() == [0, 0, 0]
    assert decomposition.svd(np.zeros((5, 3), np.float32))[1].tolist() == [0, 0, 0]


@settings(max_examples=25)
@given(
    rows=st.integers(1, 30),
    columns=st.integers(1, 30),
    seed=st.integers(0, 2**32 - 1),
    name=st.sampled_from(sorted(ALL)),
)
def test_transposing_permuting_and_rotating_leave_eigenvalues_as_they_are(
    rows, columns, seed, name
):
    rng = np.random.default_rng(seed)
    decomposition = ALL[name]()
    W_RC = rng.standard_normal((rows, columns)).astype(np.float32)
    turned_RR = np.linalg.qr(rng.standard_normal((rows, rows)))[0].astype(np.float32)
    truth = decomposition.eigenvalues(W_RC)
    within = 1e-5 * truth[-1]
    for same in (
        W_RC.T,
        W_RC[rng.permutation(rows)][:, rng.permutation(columns)],
        turned_RR @ W_RC,
    ):
        assert decomposition.eigenvalues(same) == pytest.approx(truth, rel=0, abs=within)


def test_each_names_its_arithmetic_so_that_numbers_of_two_are_told_apart():
    names = [make().name for key, make in ALL.items() if "cuda" not in key]
    assert names == [
        "numpy-float32",
        "numpy-float64",
        "numpy-svd",
        "torch-cpu-float32",
        "torch-cpu-float64",
    ]


# -- numpy's ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("narrow_bands")
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(33, 33), (300, 64), (64, 5000), (290, 300)])
def test_wide_matrices_by_way_of_a_band_have_the_same_eigenvalues(precision, shape):
    found = NumpyDecomposition(precision)
    W_RC = noise(shape)
    truth = squares(W_RC)
    resolution = found.resolution(min(shape))
    assert resolution < {"float32": 1e-6, "float64": 1e-12}[precision]
    assert found.eigenvalues(W_RC) == pytest.approx(truth, rel=0, abs=resolution * truth[-1])


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_how_many_threads_there_are_changes_no_bit(precision, monkeypatch):
    monkeypatch.setattr(module, "WIDE", 200)
    matrices = [noise((80, 120), seed) for seed in range(5)] + [noise((500, 300))]
    alone, *others = (
        NumpyDecomposition(precision, threads=threads).eigenvalues_of_many(matrices)
        for threads in (1, 2, 3)
    )
    for other in others:
        assert all((a == b).all() for a, b in zip(alone, other, strict=True))


def test_below_2048_columns_float32_is_not_used():
    W_RC = noise((300, 200))
    short, long = (NumpyDecomposition(name).eigenvalues(W_RC) for name in ("float32", "float64"))
    assert (short == long).all()


def heavy_tailed(size, seed=0):
    """A matrix with noise in 70 % of its spectrum and a Pareto tail in the rest, by Householder reflections."""
    rng = np.random.default_rng(seed)
    tail = int(0.3 * size)
    W_RC = np.diag(np.concatenate([np.linspace(0.01, 1, size - tail), 1 + rng.pareto(2.5, tail)]))
    for _ in range(8):
        for side in (W_RC, W_RC.T):
            v = rng.standard_normal(size)
            v /= np.linalg.norm(v)
            np.subtract(side, 2 * np.outer(v, v @ side), out=side)
    return W_RC.astype(np.float32)


def test_alpha_in_float32_is_that_of_float64_to_1e_5(monkeypatch):
    monkeypatch.setattr(module, "WIDE", 1000)
    W_RC = heavy_tailed(1100)
    short, long = (NumpyDecomposition(name) for name in ("float32", "float64"))
    assert short.resolution(1100) != long.resolution(1100)
    fits = [fit_tail(each.eigenvalues(W_RC)) for each in (short, long)]
    assert fits[0].tail == fits[1].tail >= 100
    assert fits[0].alpha == pytest.approx(fits[1].alpha, abs=1e-5)


def test_an_exact_decomposition_keeps_small_eigenvalues_that_a_product_loses():
    singular_K = np.logspace(0, -6, 20)
    W_RC = with_singular_values(np.random.default_rng(0), 50, 20, singular_K)
    exact = NumpyDecomposition("float64", exact=True)
    assert exact.eigenvalues(W_RC) == pytest.approx(squares(W_RC), rel=1e-6)
    short = np.diag(np.array([1.0, 1e-9], np.float32))
    assert exact.eigenvalues(short).tolist() == pytest.approx([1e-18, 1.0])
    assert NumpyDecomposition("float64").eigenvalues(short).tolist() == [0.0, 1.0]
