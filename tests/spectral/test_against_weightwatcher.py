"""WeightWatcher 0.7.7, run on the same weights in its own environment: every column that we have too."""

from __future__ import annotations

import numpy as np
import pytest
from weightwatcher_peer import ask_peer

from evalkit.spectral.decomposition import NumpyDecomposition
from evalkit.spectral.spectrum import spectral_measures
from evalkit.spectral.tail import fit_tail

pytestmark = pytest.mark.weightwatcher

ANALYZE = """
import logging
import torch, weightwatcher
logging.disable(logging.CRITICAL)
model = torch.nn.Sequential()
for W in spectra:
    layer = torch.nn.Linear(W.shape[1], W.shape[0], bias=False)
    layer.weight.data = torch.from_numpy(W)
    model.append(layer)
details = weightwatcher.WeightWatcher(model=model).analyze(detX=True, min_evals=4)
answers = [{key: row[key] for key in row if not isinstance(row[key], str)} for row in details.to_dict("records")]
answers = [{key: float(value) for key, value in row.items()} for row in answers]
"""
"""Gives WeightWatcher's table, one row per matrix."""

EXACT = NumpyDecomposition("float64", exact=True)


def matrices():
    """Noise, heavy tails, a low rank, few eigenvalues and a tiny scale, tall and wide."""
    rng = np.random.default_rng(0)
    drawn = [rng.standard_normal(shape) for shape in ((60, 60), (90, 300), (300, 90))]
    drawn += [rng.standard_t(3, shape) for shape in ((120, 50), (200, 200))]
    drawn += [rng.standard_normal((80, 20)) @ rng.standard_normal((20, 70))]
    drawn += [rng.standard_normal((40, 16)), 0.02 * rng.standard_normal((150, 100))]
    drawn += [rng.standard_normal((100, 120)) * rng.pareto(1.5, 120)]
    return [each.astype(np.float32) for each in drawn]


def test_every_column_is_the_same_on_the_same_weights(tmp_path):
    drawn = matrices()
    rows = ask_peer(ANALYZE, drawn, tmp_path)
    assert len(rows) == len(drawn)
    for W_RC, row in zip(drawn, rows, strict=True):
        lambda_M = EXACT.eigenvalues(W_RC)
        fit = fit_tail(lambda_M, compatible=True)
        assert fit.alpha == pytest.approx(row["alpha"], rel=0, abs=1e-9)
        assert fit.tail == row["num_pl_spikes"]
        found = (fit.xmin, fit.xmax, fit.distance, fit.sigma)
        assert found == pytest.approx([row[key] for key in ("xmin", "xmax", "D", "sigma")])
        measured = spectral_measures(lambda_M, W_RC.shape, compatible=True)
        for ours, theirs in {
            "log_norm": "log_norm",
            "log_spectral_norm": "log_spectral_norm",
            "stable_rank": "stable_rank",
            "entropy": "entropy",
            "matrix_rank": "matrix_rank",
            "det_tail": "detX_num",
        }.items():
            assert measured[ours].value == pytest.approx(row[theirs], rel=1e-6, abs=1e-6), ours
        assert len(lambda_M) - measured["matrix_rank"].value == row["rank_loss"]


def test_the_fast_decomposition_gives_its_alphas_to_1e_9_too(tmp_path):
    drawn = [W_RC for W_RC in matrices() if np.linalg.matrix_rank(W_RC) == min(W_RC.shape)]
    rows = ask_peer(ANALYZE, drawn, tmp_path)
    for row, lambda_M in zip(rows, NumpyDecomposition().eigenvalues_of_many(drawn), strict=True):
        fit = fit_tail(lambda_M, compatible=True)
        assert fit.alpha == pytest.approx(row["alpha"], rel=0, abs=1e-9)
