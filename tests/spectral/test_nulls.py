"""Alpha of noise by shape: the table, the program that makes it, and what is read from it."""

from __future__ import annotations

import json
import runpy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, ks_2samp

from evalkit.spectral.nulls import null_percentile
from evalkit.spectral.tail import nearest_tail


@pytest.fixture(scope="module")
def program(root):
    """The program that makes the table."""
    return runpy.run_path(str(root / "benchmarks" / "null_table.py"))


@pytest.fixture(scope="module")
def table(program):
    """The table that is shipped."""
    return json.loads(program["SHIPPED"].read_bytes())


def dense_eigenvalues(m, n, rng):
    """Eigenvalues of an m × n matrix of noise, drawn entry by entry."""
    return np.linalg.svd(rng.standard_normal((m, n)), compute_uv=False)[::-1] ** 2


def alpha_of(eigenvalues):
    return 1 + nearest_tail(np.log(eigenvalues)).rate


@pytest.mark.parametrize("shape", [(64, 64), (64, 200)])
def test_eigenvalues_without_a_matrix_are_distributed_as_those_of_matrices(program, shape):
    rng = np.random.default_rng(1)
    drawn = [program["noise_eigenvalues"](*shape, rng) for _ in range(400)]
    dense = [dense_eigenvalues(*shape, rng) for _ in range(400)]
    for number in (min, max, np.median, sum, alpha_of):
        one, other = ([float(number(each)) for each in drawing] for drawing in (drawn, dense))
        assert ks_2samp(one, other).pvalue > 1e-3
    assert all((np.diff(each) >= 0).all() for each in drawn)


def test_the_program_draws_the_table_that_is_shipped(program, table):
    for row, (size, ratio) in enumerate([(64, 1), (64, 1.5), (64, 2)]):
        alphas = program["alphas_of_noise"](size, round(size * ratio), table["draws"][0])
        drawn = np.percentile(alphas, table["percents"])
        assert table["alphas"][0][row] == pytest.approx(drawn, rel=1e-3)
    assert (table["sizes"], table["ratios"]) == (list(program["SIZES"]), list(program["RATIOS"]))
    assert table["draws"] == [program["draws_for"](m, program["DRAWS"]) for m in table["sizes"]]


def test_the_table_agrees_with_the_studys_dense_draws(shared_data):
    stored = json.loads((shared_data / "spectral" / "alpha_null_gaussian.json").read_bytes())
    compared = 0
    for row in stored:
        if row["m"] < 64 or row["reps"] < 15:
            continue
        for share, key in ((0.05, "p05"), (0.5, "p50"), (0.95, "p95")):
            found = null_percentile(row[key], row["m"], row["n"]) / 100
            # Of n draws the percentile lies between two neighbours by size, whose true shares are Beta variables.
            draws = row["reps"]
            below = min(int((draws - 1) * share), draws - 2)
            least = beta.ppf(1e-4, below + 1, draws - below) - 0.02
            most = beta.ppf(1 - 1e-4, below + 2, draws - below - 1) + 0.02
            assert least < found < most, (row["m"], row["n"], key)
            compared += 1
    assert compared == 45


def test_the_table_grows_with_both_sides_and_its_percentiles_ascend(table):
    alphas_SAP = np.array(table["alphas"])
    assert (np.diff(alphas_SAP, axis=2) >= 0).all()
    median = table["percents"].index(50)
    for axis in (0, 1):
        assert (np.diff(alphas_SAP[:, :, median], axis=axis) > 0).all()


@given(st.integers(64, 8192), st.floats(1, 256), st.floats(1, 1e6), st.floats(0, 1e6))
def test_percentiles_ascend_with_alpha_and_do_not_know_rows_from_columns(m, ratio, alpha, more):
    n = int(m * ratio)
    found = null_percentile(alpha, m, n)
    assert 0 <= found <= 100
    assert null_percentile(alpha + more, m, n) >= found
    assert null_percentile(alpha, n, m) == found
    assert null_percentile(1.0, m, n) == 0.0
    assert null_percentile(1e9, m, n) == 100.0


def test_a_percentile_of_the_table_is_read_back_at_its_shape(table):
    for s, size in enumerate(table["sizes"]):
        for a, ratio in enumerate(table["ratios"]):
            for percent, alpha in zip(table["percents"], table["alphas"][s][a], strict=True):
                found = null_percentile(alpha, size, round(size * ratio))
                assert found == pytest.approx(percent, abs=1e-6)


@pytest.mark.parametrize(
    "shape", [(63, 63), (8193, 8193), (64, 64 * 256 + 1), (16, 100_000), (0, 5), (0, 0)]
)
def test_shapes_out_of_the_table_have_no_percentile(shape):
    assert null_percentile(3.0, *shape) is None


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(96, 96), (384, 384), (384, 1536), (768, 3072), (90, 4000)])
def test_noise_of_shapes_between_those_of_the_table_has_uniform_percentiles(program, shape):
    alphas = program["alphas_of_noise"](*shape, 400, seed=1)
    found = np.array([null_percentile(alpha, *shape) for alpha in alphas])
    for percent in (5, 25, 50, 75, 95):
        error = 100 * np.sqrt(percent / 100 * (1 - percent / 100) / len(found))
        assert abs(100 * np.mean(found <= percent) - percent) < 4 * error
