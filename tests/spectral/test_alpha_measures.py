"""What the scorecard says about a spectrum's tail."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.spectral.alpha import alpha_measures
from evalkit.spectral.catalogue import MEASURES
from evalkit.spectral.tail import fit_tail


def measured(values, shape=(300, 300), *, draws=40, compatible=False, seed=0):
    return alpha_measures(
        np.asarray(values, dtype=np.float64),
        shape,
        level=0.95,
        draws=draws,
        rng=np.random.default_rng(seed),
        compatible=compatible,
    )


def heavy(n=300, seed=0, scale=1.0):
    return scale * np.sort((1 - np.random.default_rng(seed).random(n)) ** -0.7)


def test_each_measure_is_in_the_catalogue_and_there_with_or_without_a_fit():
    known = {measure.name for measure in MEASURES}
    names = measured(heavy()).keys()
    assert names <= known
    assert {name for name in known if name.startswith("alpha")} <= names
    assert measured([]).keys() == measured(np.zeros(100)).keys() == names


@pytest.mark.parametrize("compatible", [False, True])
@pytest.mark.parametrize(
    ("values", "status"),
    [
        ([], "insufficient"),
        ([2.0], "insufficient"),
        (np.zeros(100), "degenerate"),
        (np.ones(100), "degenerate"),
        (np.full(100, np.nan), "failed"),
        ([*np.ones(99), np.inf], "failed"),
    ],
    ids=["none", "one", "zero", "equal", "nan", "infinite"],
)
def test_without_a_fit_nothing_has_a_number_and_each_its_reason(values, status, compatible):
    for name, found in measured(values, compatible=compatible).items():
        assert (found.value, found.low, found.high) == (None, None, None), name
        assert found.status == status, name
        assert found.note, name


def test_every_interval_holds_its_number():
    for draws in (0, 10, 60):
        for compatible in (False, True):
            for values in (heavy(), heavy(scale=1e-3), heavy(60)):
                for name, found in measured(values, draws=draws, compatible=compatible).items():
                    if found.low is not None:
                        assert found.low <= found.value <= found.high, name


def test_without_refits_the_interval_is_asymptotic_and_there_is_no_goodness_of_fit():
    values = heavy()
    found, fit = measured(values, draws=0), fit_tail(values)
    assert found["alpha"].method == "asymptotic"
    assert found["alpha"].high == pytest.approx(fit.alpha + 1.959964 * fit.sigma)
    assert (found["alpha_gof"].value, found["alpha_gof"].status) == (None, "insufficient")
    assert found["alpha_gof"].note == "nothing was refitted"
    refitted = measured(values)
    assert refitted["alpha"].value == found["alpha"].value
    assert refitted["alpha"].method == "40 resamples"
    assert 0 <= refitted["alpha_gof"].low <= refitted["alpha_gof"].value <= 1


def test_the_same_seed_gives_the_same_numbers():
    assert measured(heavy(), seed=3) == measured(heavy(), seed=3)
    assert measured(heavy(), seed=3) != measured(heavy(), seed=4)


def test_alpha_hat_and_its_ends_follow_the_sign_of_the_largest_eigenvalues_logarithm():
    for scale in (1.0, 1e-6):
        values = heavy(scale=scale)
        found = measured(values, draws=0)
        log_largest = np.log10(values[-1])
        alpha, weighted = found["alpha"], found["alpha_weighted"]
        assert weighted.value == pytest.approx(alpha.value * log_largest)
        ends = sorted((alpha.low * log_largest, alpha.high * log_largest))
        assert (weighted.low, weighted.high) == pytest.approx(ends)


def test_the_log_alpha_norm_is_the_sum_and_does_not_overflow():
    values = heavy()
    found = measured(values, draws=0)
    alpha = found["alpha"].value
    assert found["log_alpha_norm"].value == pytest.approx(np.log10((values**alpha).sum()))
    steep = np.sort(1e4 * (1 + 1e-3 * np.random.default_rng(0).random(200)))
    found = measured(steep, draws=0)
    assert found["alpha"].value > 100
    assert np.isfinite([found["log_alpha_norm"].value, found["log_alpha_norm"].high]).all()
    assert found["log_alpha_norm"].value == pytest.approx(found["alpha"].value * 4, rel=0.01)
    with_zeros = measured(np.append(np.zeros(50), values), draws=0)
    assert with_zeros["log_alpha_norm"].value == pytest.approx(np.log10((values**alpha).sum()))


def test_the_null_percentile_is_low_for_heavy_tails_and_has_a_reason_where_there_is_none():
    found = measured(heavy(), (300, 300), draws=0)["alpha_null"]
    assert found.low <= found.value <= 5
    noise = np.linalg.svd(np.random.default_rng(0).normal(size=(300, 300)), compute_uv=False)
    assert 1 < measured(noise[::-1] ** 2, (300, 300), draws=0)["alpha_null"].value < 99
    small = measured(heavy(60), (60, 60), draws=0)["alpha_null"]
    assert (small.value, small.status) == (None, "insufficient")
    assert "60 × 60" in small.note


def test_a_likelihood_ratio_has_vuongs_interval_and_its_p():
    found = measured(heavy(), draws=0)["alpha_over_exponential"]
    half = (found.high - found.low) / 2
    assert found.value == pytest.approx((found.high + found.low) / 2)
    assert found.method == "vuong"
    from scipy.stats import norm

    p = 2 * norm.sf(abs(found.value) / (half / 1.959964))
    assert float(found.note.removeprefix("p = ")) == pytest.approx(p, rel=0.01)


def test_weightwatchers_routine_for_few_eigenvalues_is_not_refitted():
    found = measured(heavy(15), (15, 15), compatible=True)
    assert found["alpha"].value is not None
    assert found["alpha"].method == "asymptotic"
    assert found["alpha_gof"].status == "insufficient"


@given(st.integers(0, 2**32), st.integers(0, 90), st.booleans(), st.integers(0, 3))
def test_whatever_the_eigenvalues_all_measures_are_there_and_finite(seed, n, compatible, draws):
    rng = np.random.default_rng(seed)
    values = np.sort(rng.choice([0.0, 1e-300, 1.0, 2.0, 1e150], n) * rng.random(n))
    for found in measured(values, draws=draws, compatible=compatible).values():
        assert (found.value is None) == (found.status != "ok")
        ends = [end for end in (found.value, found.low, found.high) if end is not None]
        assert np.isfinite(ends).all()
