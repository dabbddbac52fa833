"""Eigenvalues by way of a band, against closed forms and LAPACK, at sizes around each seam of the algorithm."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from evalkit.spectral.banded import ROWS, WIDTH, banded_eigenvalues, spans


def symmetric(size, seed=0):
    half = np.random.default_rng(seed).standard_normal((size, size))
    return half + half.T


@pytest.mark.parametrize(
    "size", [1, 2, WIDTH - 1, WIDTH, WIDTH + 1, 2 * WIDTH, 2 * WIDTH + 1, ROWS, ROWS + 1, 400, 613]
)
def test_they_are_lapacks_at_every_size(size):
    A_MM = symmetric(size)
    truth = np.linalg.eigvalsh(A_MM)
    found = banded_eigenvalues(A_MM.copy(), map)
    assert found == pytest.approx(truth, rel=0, abs=1e-13 * np.abs(truth).max())
    short = banded_eigenvalues(A_MM.astype(np.float32), map)
    assert short.dtype == np.float64
    assert short == pytest.approx(truth, rel=0, abs=2.5e-7 * np.abs(truth).max())


def test_second_differences_in_two_dimensions_have_the_eigenvalues_of_the_textbook():
    # Golub & Van Loan, 4.8.3: on an n × n grid they are 4 − 2 cos(iπ/(n+1)) − 2 cos(jπ/(n+1)).
    n = 20
    line = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    grid = np.kron(line, np.eye(n)) + np.kron(np.eye(n), line)
    cosine = 2 * np.cos(np.arange(1, n + 1) * np.pi / (n + 1))
    truth = np.sort((4 - cosine[:, None] - cosine).ravel())
    assert banded_eigenvalues(grid, map) == pytest.approx(truth, abs=1e-12)


@pytest.mark.parametrize(
    "A_MM",
    [np.zeros((100, 100)), np.eye(300), np.diag(np.arange(300.0)), np.ones((200, 200))],
    ids=["zeros", "identity", "diagonal", "rank one"],
)
def test_columns_that_are_done_already_are_left_alone(A_MM):
    truth = np.linalg.eigvalsh(A_MM)
    assert banded_eigenvalues(A_MM.copy(), map) == pytest.approx(truth, abs=1e-11)


def test_only_the_lower_triangle_and_the_pieces_on_the_diagonal_are_read():
    size = 2 * ROWS + 40
    A_MM = symmetric(size)
    truth = np.linalg.eigvalsh(A_MM)
    read = np.zeros((size, size), dtype=bool)
    for begin, end in spans(0, size):
        read[begin:end, :end] = True
    A_MM[~read] = np.nan
    assert banded_eigenvalues(A_MM, map) == pytest.approx(truth, rel=0, abs=1e-11)


def test_how_many_threads_there_are_changes_no_bit():
    A_MM = symmetric(700)
    alone = banded_eigenvalues(A_MM.copy(), map)
    for threads in (2, 5):
        with ThreadPoolExecutor(threads) as pool:
            assert (banded_eigenvalues(A_MM.copy(), pool.map) == alone).all()
