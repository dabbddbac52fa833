"""Alpha and its kin of all-MiniLM-L6-v2's 39 matrices, as WeightWatcher 0.7.7 and the study around it measured them."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from minilm import minilm_matrices

from evalkit.spectral.alpha import alpha_measures
from evalkit.spectral.tail import fit_tail, hill_alpha
from evalkit.spectral.tail_tests import against_exponential, against_lognormal, refits


@pytest.fixture(scope="module")
def matrices():
    """Name, as the study has it, → weights."""
    return {name.removesuffix(".weight"): W_RC for name, W_RC in minilm_matrices().items()}


@pytest.fixture(scope="module")
def spectra(matrices):
    """Name → eigenvalues by singular values in float64, as WeightWatcher takes them."""
    return {
        name: np.linalg.svd(W_RC.astype(np.float64), compute_uv=False)[::-1] ** 2
        for name, W_RC in matrices.items()
    }


def rows(folder, file, key):
    """Read a table of the study: name → row."""
    with (folder / "spectral" / file).open(newline="") as lines:
        return {row[key].removesuffix(".weight"): row for row in csv.DictReader(lines)}


def test_the_39_alphas_are_weightwatchers_to_1e_9_and_the_rest_to_1e_6(shared_data, spectra):
    details = rows(shared_data, "ww_minilm_details.csv", "longname")
    assert details.keys() == spectra.keys()
    assert len(details) == 39
    for name, row in details.items():
        fit = fit_tail(spectra[name], compatible=True)
        told = {
            key: float(value) for key, value in row.items() if key[0] in "Dalnxs" and _number(value)
        }
        assert fit.alpha == pytest.approx(told["alpha"], rel=0, abs=1e-9), name
        assert fit.tail == told["num_pl_spikes"], name
        found = (fit.sigma, fit.distance, fit.xmin, fit.xmax)
        keys = ("sigma", "D", "xmin", "xmax")
        assert found == pytest.approx([told[key] for key in keys], rel=1e-6, abs=1e-6), name
        measured = alpha_measures(
            spectra[name],
            (int(row["M"]), int(row["N"])),
            level=0.95,
            draws=0,
            rng=np.random.default_rng(0),
            compatible=True,
        )
        for measure in ("alpha", "alpha_weighted", "log_alpha_norm"):
            assert measured[measure].value == pytest.approx(told[measure], rel=0, abs=1e-6), name
        assert measured["alpha_tail"].value == told["num_pl_spikes"]
        assert measured["alpha_distance"].value == pytest.approx(told["D"], abs=1e-6)


def _number(text):
    return text not in {"", "True", "False", "success"} and text[0] in "-0123456789"


def test_clausets_transcription_and_powerlaw_gave_the_study_the_same_alphas(shared_data, spectra):
    for name, row in rows(shared_data, "fit_agreement_minilm.csv", "name").items():
        fit = fit_tail(spectra[name], compatible=True)
        for fitter in ("clauset", "pl15", "ww"):
            assert fit.alpha == pytest.approx(float(row[fitter]), rel=0, abs=1e-9), (name, fitter)
        assert (fit.kept, fit.tail) == (int(row["n"]), int(row["ntail"]))
        assert fit.distance == pytest.approx(float(row["D"]), abs=1e-9)


def test_its_own_mode_gives_the_same_alphas_but_for_a_tail_of_9(spectra):
    differing = {
        name: fit_tail(values)
        for name, values in spectra.items()
        if fit_tail(values).alpha != fit_tail(values, compatible=True).alpha
    }
    assert list(differing) == ["encoder.layer.4.attention.self.value"]
    (short,) = differing.values()
    assert (short.alpha, short.status) == (None, "insufficient")
    assert short.note == "the rule chose a tail of 9 eigenvalues; an exponent needs 10"


def int8_per_row(W_RC):
    scale_R = np.abs(W_RC).max(axis=1, keepdims=True) / 127
    return np.round(W_RC / scale_R) * scale_R


def bfloat16(W_RC):
    rounded = W_RC.astype(np.float32).view(np.uint32)
    rounded = (rounded + 0x7FFF + ((rounded >> 16) & 1)) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32)


@pytest.mark.parametrize(
    # The study's table of stability: most that the alpha of 39 layers moves, its own and that of the upper half.
    ("rounded", "key", "hill"),
    [(int8_per_row, "int8 per-row", 0.0022), (bfloat16, "fp32->bf16", 0.0010)],
    ids=["int8", "bf16"],
)
def test_rounding_moves_alpha_by_as_much_as_the_study_found_and_hill_hardly(
    shared_data, matrices, spectra, rounded, key, hill
):
    stored = json.loads((shared_data / "spectral" / "alpha_sensitivity_minilm.json").read_bytes())
    (told,) = (row for row in stored if row["pert"] == key)
    moved, moved_hill = [], []
    for name, W_RC in matrices.items():
        W_RC = rounded(W_RC).astype(np.float64)  # noqa: PLW2901 -- the same matrix, rounded
        values = np.linalg.eigvalsh(
            W_RC.T @ W_RC if W_RC.shape[0] >= W_RC.shape[1] else W_RC @ W_RC.T
        )
        values = np.maximum(values, 0)
        before, after = (fit_tail(each, compatible=True) for each in (spectra[name], values))
        moved.append(abs(after.alpha - before.alpha))
        moved_hill.append(abs(hill_alpha(values).value - hill_alpha(spectra[name]).value))
    assert max(moved) == pytest.approx(told["max_abs_dalpha"], rel=0.02)
    assert max(moved_hill) == pytest.approx(hill, abs=5e-5)


def test_the_exponents_of_the_upper_halves_are_2_00_in_the_mean_as_in_the_study(spectra):
    found = [hill_alpha(values).value for values in spectra.values()]
    assert np.mean(found) == pytest.approx(2.00, abs=0.005)


def test_as_in_the_study_no_layer_is_a_power_law_rather_than_lognormal(spectra):
    lognormal, exponential, goodness = [], [], []
    rng = np.random.default_rng(0)
    for values in spectra.values():
        fit = fit_tail(values, compatible=True)
        lognormal.append(against_lognormal(values, fit))
        exponential.append(against_exponential(values, fit))
        goodness.append(refits(values, fit, 50, rng).gof_p)
    sure = [found.ratio for found in lognormal if found.p < 0.1]
    assert (sum(ratio > 0 for ratio in sure), sum(ratio < 0 for ratio in sure)) == (0, 5)
    sure = [found.ratio for found in exponential if found.p < 0.1]
    assert (sum(ratio > 0 for ratio in sure), sum(ratio < 0 for ratio in sure)) == (5, 8)
    # The study's 200 draws: p > .1 for 30 of 39 layers, p < .05 for 6.
    assert sum(p > 0.1 for p in goodness) == pytest.approx(30, abs=3)
    assert sum(p < 0.05 for p in goodness) == pytest.approx(6, abs=3)
