"""Measures of a spectrum: WeightWatcher's table, closed forms, noise with known variance, and traps set on purpose."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from minilm import minilm_matrices

from evalkit.spectral.catalogue import MEASURES
from evalkit.spectral.decomposition import NumpyDecomposition
from evalkit.spectral.low_rank import effective_rank, update_singular_values
from evalkit.spectral.spectrum import correlation_traps, median_of_noise, spectral_measures

FLOAT64 = NumpyDecomposition("float64")


def measured(lambda_M, shape=None, *, compatible=False, resolution=0.0):
    lambda_M = np.asarray(lambda_M, dtype=np.float64)
    shape = shape or (len(lambda_M), len(lambda_M))
    return spectral_measures(lambda_M, shape, compatible=compatible, resolution=resolution)


def value(name, *args, **settings):
    return measured(*args, **settings)[name].value


def noise(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


# -- what has no spectrum --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lambda_M", "status", "why"),
    [
        ([], "degenerate", "empty"),
        ([0.0, 0.0], "degenerate", "all eigenvalues are 0"),
        ([0.0, np.nan], "failed", "NaN"),
        ([1.0, np.inf], "failed", "infinite"),
    ],
)
@pytest.mark.parametrize("compatible", [False, True])
def test_what_has_no_spectrum_has_a_status_and_no_number(lambda_M, status, why, compatible):
    found = measured(lambda_M, (2, 2), compatible=compatible)
    assert {(each.value, each.status) for each in found.values()} == {(None, status)}
    assert all(why in each.note for each in found.values())


def test_its_measures_are_in_the_catalogue():
    assert set(measured([1.0, 2.0])) <= {each.name for each in MEASURES}


@pytest.mark.parametrize("compatible", [False, True])
def test_one_eigenvalue_has_a_norm_and_no_entropy(compatible):
    found = measured([100.0], (1, 5), compatible=compatible)
    assert (found["log_norm"].value, found["matrix_rank"].value) == (2, 1)
    assert (found["entropy"].value, found["entropy"].status) == (None, "degenerate")


def test_where_half_of_the_eigenvalues_are_0_nothing_stands_out_of_noise():
    found = measured([0.0, 0.0, 0.0, 1.0, 2.0])
    for name in ("noise_edge", "noise_ratio", "spikes"):
        assert (found[name].value, found[name].status) == (None, "degenerate")
    assert found["matrix_rank"].value == 2


# -- WeightWatcher's numbers -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def matrices():
    """Name, as the table has it, → weights of all-MiniLM-L6-v2."""
    return {name.removesuffix(".weight"): W_RC for name, W_RC in minilm_matrices().items()}


@pytest.fixture(scope="module")
def table(shared_data):
    """Name → what WeightWatcher 0.7.7 gave for that matrix."""
    with (shared_data / "spectral" / "ww_minilm_details.csv").open(newline="") as lines:
        return {row["longname"]: row for row in csv.DictReader(lines)}


def columns(lambda_M, shape):
    """Return WeightWatcher's columns, but those of alpha, from eigenvalues and measures."""
    found = {name: each.value for name, each in measured(lambda_M, shape, compatible=True).items()}
    names = ("log_norm", "log_spectral_norm", "stable_rank", "entropy", "matrix_rank")
    return {name: found[name] for name in names} | {
        "M": min(shape),
        "N": max(shape),
        "Q": max(shape) / min(shape),
        "num_evals": len(lambda_M),
        "norm": 10 ** found["log_norm"],
        "spectral_norm": 10 ** found["log_spectral_norm"],
        "lambda_max": lambda_M[-1],
        "sv_max": math.sqrt(lambda_M[-1]),
        "sv_min": math.sqrt(lambda_M[0]),
        "rank_loss": len(lambda_M) - found["matrix_rank"],
        "weak_rank_loss": np.count_nonzero(lambda_M < 1e-6),
    }


def test_every_column_of_weightwatchers_table_but_alphas_is_met_to_1e_6(matrices, table):
    exact = NumpyDecomposition("float64", exact=True)
    assert matrices.keys() == table.keys()
    assert len(table) == 39
    for name, W_RC in matrices.items():
        found = columns(exact.eigenvalues(W_RC), W_RC.shape)
        told = {column: float(table[name][column]) for column in found}
        assert found == pytest.approx(told, rel=1e-6, abs=1e-6), name


def test_the_fast_decomposition_gives_the_same_norms_and_entropies(matrices, table):
    found = FLOAT64.eigenvalues_of_many(list(matrices.values()))
    for (name, W_RC), lambda_M in zip(matrices.items(), found, strict=True):
        fast = measured(lambda_M, W_RC.shape, compatible=True)
        for column in ("log_norm", "log_spectral_norm", "stable_rank", "entropy"):
            assert fast[column].value == pytest.approx(float(table[name][column]), abs=1e-6), name


def test_a_matrix_of_a_real_model_has_lost_a_rank_in_float32_as_numpy_says(matrices):
    lost = "encoder.layer.5.attention.output.dense"
    for name in (lost, "encoder.layer.5.attention.self.key"):
        W_RC = matrices[name]
        rank = value("matrix_rank", FLOAT64.eigenvalues(W_RC), W_RC.shape)
        assert rank == np.linalg.matrix_rank(W_RC) == (383 if name == lost else 384)


# -- closed forms ----------------------------------------------------------------------------------


def test_equal_eigenvalues_have_full_ranks_and_entropy_1():
    found = {name: each.value for name, each in measured([4.0] * 25, (25, 100)).items()}
    assert found["log_norm"] == pytest.approx(2)
    assert found["log_spectral_norm"] == pytest.approx(math.log10(4))
    assert found["stable_rank"] == pytest.approx(25)
    assert found["effective_rank"] == pytest.approx(25)
    assert found["entropy"] == pytest.approx(1)
    assert found["matrix_rank"] == 25


def test_entropy_is_of_the_eigenvalues_shares_and_effective_rank_of_the_singular_values():
    # Shares 1/2, 1/4, 1/8, 1/8: an entropy of 1.75 bits, of 2 at most.
    assert value("entropy", [1.0, 1.0, 2.0, 4.0]) == pytest.approx(1.75 / 2)
    assert value("effective_rank", [1.0, 1.0, 4.0, 16.0]) == pytest.approx(2**1.75)


@pytest.mark.parametrize("compatible", [False, True])
def test_the_effective_rank_of_a_matrix_is_that_of_the_same_matrix_as_an_update(compatible):
    rng = np.random.default_rng(4)
    A_rC, B_Rr = noise(rng, 6, 30), noise(rng, 20, 6)
    lambda_M = FLOAT64.eigenvalues(B_Rr @ A_rC)
    of_update = effective_rank(update_singular_values(A_rC, B_Rr, 1.0)).value
    found = value("effective_rank", lambda_M, (20, 30), compatible=compatible)
    assert found == pytest.approx(of_update, rel=1e-4)


def test_what_the_arithmetic_tells_not_from_0_adds_nothing_to_the_effective_rank():
    lambda_M = np.array([0.0] * 98 + [1.0, 1.0])
    rounded_M = np.maximum(lambda_M, 1e-7)
    assert value("effective_rank", rounded_M, resolution=1e-6) == pytest.approx(2)
    assert value("effective_rank", rounded_M) > 2.1


def test_a_lost_rank_lowers_entropy_unlike_in_weightwatcher():
    assert value("entropy", [0.0, 0.0, 1.0, 1.0]) == pytest.approx(0.5)
    assert value("entropy", [0.0, 0.0, 1.0, 1.0], compatible=True) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    # Products from the largest on, at a mean of 1, worked out by hand.
    ("lambda_M", "tail"),
    [
        ([0.1, 0.2, 2.7], 3),  # 2.7, 0.54, …
        ([0.5, 0.5, 2.0], 3),
        ([0.5, 1.0, 1.5], 3),  # 1.5, 1.5, 0.75
        ([0.1, 0.1, 0.1, 3.7], 3),  # 3.7, 0.37
        ([1.0, 1.0, 1.0], 3),
        ([0.0, 0.0, 3.0], 2),  # 3, 0
    ],
)
def test_the_tail_of_a_product_below_1_is_counted_from_the_largest_on(lambda_M, tail):
    lambda_M = np.array(lambda_M)
    products = np.cumprod(lambda_M[::-1] / lambda_M.mean())
    below = np.flatnonzero(products < 1)
    assert value("det_tail", lambda_M) == (below[0] + 1 if len(below) else len(lambda_M))


def test_a_product_that_overflows_still_has_a_tail():
    lambda_M = np.sort(np.random.default_rng(0).pareto(1.2, 8000))
    tail = value("det_tail", lambda_M)
    log_product = np.cumsum(np.log10(lambda_M[::-1] / lambda_M.mean()))
    assert log_product.max() > 308
    assert log_product[int(tail) - 1] < 0 <= log_product[int(tail) - 2]


@pytest.mark.parametrize("shape", [(50, 30), (30, 50)])
def test_the_rank_is_numpys_of_the_same_float32_matrix(shape):
    rng = np.random.default_rng(0)
    W_RC = noise(rng, shape[0], 7) @ noise(rng, 7, shape[1])
    assert np.linalg.matrix_rank(W_RC) == 7
    found = measured(FLOAT64.eigenvalues(W_RC), shape)
    assert found["matrix_rank"].value == 7
    assert value("matrix_rank", FLOAT64.eigenvalues(noise(rng, *shape)), shape) == 30


def test_a_rank_that_the_arithmetic_leaves_open_has_no_number():
    lambda_M = np.array([0.0, 0.0, 1e-3, 1.0])
    found = measured(lambda_M, resolution=1e-6)["matrix_rank"]
    assert (found.value, found.status) == (None, "insufficient")
    assert found.note.startswith("2 or more: 2 of 4 eigenvalues are too small to be told from 0")
    assert value("matrix_rank", lambda_M[2:], (2, 2), resolution=1e-6) == 2
    assert value("matrix_rank", lambda_M, resolution=1e-16) == 2


@given(
    scale=st.floats(1e-8, 1e8),
    seed=st.integers(0, 2**32 - 1),
    shape=st.sampled_from([(5, 5), (20, 30), (40, 12)]),
)
def test_scaling_the_weights_shifts_logarithms_and_moves_nothing_else(scale, seed, shape):
    lambda_M = FLOAT64.eigenvalues(noise(np.random.default_rng(seed), *shape))
    before, after = (measured(each, shape) for each in (lambda_M, lambda_M * scale))
    assert after["noise_edge"].value == pytest.approx(before["noise_edge"].value * scale)
    for name in ("log_norm", "log_spectral_norm"):
        assert after[name].value - before[name].value == pytest.approx(math.log10(scale))
    for name in before.keys() - {"noise_edge", "log_norm", "log_spectral_norm"}:
        assert after[name].value == pytest.approx(before[name].value), name


# -- noise -----------------------------------------------------------------------------------------

GAVISH_DONOHO = {
    0.05: 1.5194, 0.10: 1.6089, 0.20: 1.7650, 0.30: 1.9061, 0.40: 2.0403, 0.50: 2.1711,
    0.60: 2.3021, 0.70: 2.4339, 0.80: 2.5697, 0.90: 2.7099, 1.00: 2.8582,
}  # fmt: skip
"""Gavish & Donoho 2014, table IV: y → ω(y) = λ*(y) / √median, λ* their optimal threshold (eq. 11)."""


@pytest.mark.parametrize(("y", "omega"), GAVISH_DONOHO.items())
def test_the_median_of_noise_is_that_behind_gavish_and_donohos_table(y, omega):
    threshold = math.sqrt(2 * (y + 1) + 8 * y / (y + 1 + math.sqrt(y**2 + 14 * y + 1)))
    median = median_of_noise(round(100 * y), 100)
    assert threshold / math.sqrt(median) == pytest.approx(omega, abs=1e-3)


@pytest.mark.parametrize("shape", [(300, 300), (200, 800), (800, 200)])
def test_noise_with_signals_in_it_has_its_own_edge_and_the_signals_as_spikes(shape):
    rng = np.random.default_rng(0)
    small, large = min(shape), max(shape)
    signals = sum(
        size * np.outer(*(each / np.linalg.norm(each) for each in map(rng.standard_normal, shape)))
        for size in (4, 6, 8)
    )
    W_RC = (0.1 * (rng.standard_normal(shape) + signals * math.sqrt(large))).astype(np.float32)
    found = measured(FLOAT64.eigenvalues(W_RC), shape)
    true_edge = 0.01 * (math.sqrt(large) + math.sqrt(small)) ** 2
    assert found["noise_edge"].value == pytest.approx(true_edge, rel=0.03)
    assert found["spikes"].value == 3
    ratio = found["noise_edge"].value / 10 ** found["log_spectral_norm"].value
    assert found["noise_ratio"].value == pytest.approx(ratio)


def test_noise_alone_seldom_has_a_spike():
    rng = np.random.default_rng(0)
    # 0.6 % of square matrices of 128 (20,000 draws); of 150, 5 or more have one in 1 of 500 runs.
    many = [noise(rng, 128, 128) for _ in range(150)]
    found = [measured(each)["spikes"].value for each in FLOAT64.eigenvalues_of_many(many)]
    assert sum(count > 0 for count in found) < 5


# -- traps -----------------------------------------------------------------------------------------


def traps(W_RC, seed=0):
    return correlation_traps(W_RC, FLOAT64, np.random.default_rng(seed))


def test_noise_has_a_trap_in_one_of_a_thousand_matrices():
    rng = np.random.default_rng(0)
    found = sum(traps(noise(rng, 24, 40), seed) > 0 for seed in range(2000))
    assert found <= 8  # of a Poisson law of mean 2, 9 or more have a chance of 2 in 10,000


@pytest.mark.parametrize("mean", [0.3, -5.0])
def test_noise_with_a_mean_has_no_trap(mean):
    W_RC = noise(np.random.default_rng(5), 200, 300) + np.float32(mean)
    assert traps(W_RC) == 0
    W_RC[3, 4] = 60
    assert traps(W_RC) == 1


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_not_finite_has_no_traps_to_count(wrong):
    W_RC = noise(np.random.default_rng(6), 8, 8)
    W_RC[1, 2] = wrong
    with pytest.raises(ValueError, match="NaN"):
        traps(W_RC)


def test_entries_out_of_all_proportion_are_traps_wherever_they_lie():
    rng = np.random.default_rng(1)
    W_RC = noise(rng, 200, 300)
    assert traps(W_RC) == 0
    W_RC[3, 4] = 60
    assert traps(W_RC) == 1
    W_RC[3, 5] = 60  # the same row: the shuffle parts them
    assert traps(W_RC) == 2


def test_what_rows_and_columns_have_in_common_is_a_spike_and_no_trap():
    rng = np.random.default_rng(2)
    W_RC = noise(rng, 200, 300) + np.outer(np.sign(noise(rng, 200)), np.sign(noise(rng, 300)))
    assert measured(FLOAT64.eigenvalues(W_RC), W_RC.shape)["spikes"].value == 1
    assert traps(W_RC) == 0


def test_traps_are_drawn_by_the_seed_alone_and_leave_the_weights_alone():
    W_RC = np.random.default_rng(3).standard_t(2.5, (60, 80)).astype(np.float32)
    before = W_RC.copy()
    assert traps(W_RC, 7) == traps(W_RC, 7) > 0
    assert (before == W_RC).all()


def test_matrices_of_a_real_model_have_traps_where_single_entries_exceed_baiks_limit(matrices):
    # Baik, Ben Arous & Péché 2005: an entry leaves the noise of the others at (M N)^(1/4) of their standard deviations.
    beyond = {}
    for name, W_RC in matrices.items():
        if "word" not in name:
            beyond[name] = float(np.abs(W_RC).max() / W_RC.std() / W_RC.size**0.25)
    near = {name for name, times in beyond.items() if 0.75 < times < 1}
    assert len(near) == 2
    assert sum(times > 1 for times in beyond.values()) == 7
    for name in beyond.keys() - near:
        assert (traps(matrices[name]) > 0) == (beyond[name] > 1), name
