"""Alpha by Clauset's rule: the rule itself, WeightWatcher's numbers, and what has no exponent."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from weightwatcher_peer import ask_peer

from evalkit.spectral.tail import fit_tail, hill_alpha, nearest_tail

KINDS = ("pareto", "lognormal", "exponential", "uniform", "noise", "spiked")


def spectrum(kind, n, seed):
    """Draw n ascending eigenvalues of one kind."""
    rng = np.random.default_rng(seed)
    if kind == "pareto":
        drawn = (1 - rng.random(n)) ** -0.7
    elif kind == "lognormal":
        drawn = np.exp(rng.normal(0, 1.5, n))
    elif kind == "exponential":
        drawn = rng.exponential(1, n)
    elif kind == "uniform":
        drawn = 1 + rng.random(n)
    else:
        W_RC = rng.standard_normal((n, 2 * n)) if n < 400 else rng.standard_normal((n, n))
        drawn = np.linalg.svd(W_RC, compute_uv=False) ** 2
        if kind == "spiked":
            drawn[: n // 10] *= (1 - rng.random(n // 10)) ** -1.0
    return np.sort(drawn)


def plfit(x):
    """Clauset's plfit.m for continuous values, as published: {xmin: (D, alpha)} of every unique value but the last."""
    found = {}
    for xmin in np.unique(x)[:-1]:
        z = np.sort(x[x >= xmin])
        n = len(z)
        a = n / np.sum(np.log(z / xmin))
        cx = np.arange(n) / n
        cf = 1 - (xmin / z) ** a
        found[xmin] = np.max(np.abs(cf - cx)), a + 1
    return found


@given(
    st.sampled_from(KINDS),
    st.integers(50, 260),
    st.integers(0, 2**32),
    st.sampled_from([None, 3, 2, 1]),
)
@example("uniform", 60, 0, 0)
def test_the_pruned_search_finds_what_trying_every_tail_finds_with_ties_or_without(
    kind, n, seed, digits
):
    values = spectrum(kind, n, seed)
    if digits is not None:
        values = np.maximum(np.round(values, digits), 10.0**-digits)
    if values[0] == values[-1]:
        return
    tried = plfit(values)
    found = nearest_tail(np.log(values))
    distance, alpha = tried[values[found.start]]
    assert distance <= min(tried.values())[0] + 1e-12
    assert found.distance == pytest.approx(distance, abs=1e-12)
    assert 1 + found.rate == pytest.approx(alpha, rel=1e-10)
    assert found.start == 0 or values[found.start - 1] < values[found.start]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1024, pytest.param(3000, marks=pytest.mark.slow)])
def test_thousands_of_eigenvalues_have_the_tail_that_trying_each_finds(kind, n):
    values = spectrum(kind, n, n)
    tried = plfit(values)
    xmin = min(tried, key=lambda at: tried[at][0])
    fit = fit_tail(values, minimum_tail=2)
    assert (fit.xmin, fit.tail) == (xmin, np.count_nonzero(values >= xmin))
    assert (fit.distance, fit.alpha) == pytest.approx(tried[xmin], rel=1e-9)
    assert fit.sigma == pytest.approx((fit.alpha - 1) / np.sqrt(fit.tail))
    assert (fit.status, fit.note, fit.xmax, fit.kept) == ("ok", "", values[-1], n)


def few(kind, n):
    """Fewer than 20 eigenvalues by formula, so that another program could be asked about the same ones."""
    place_N = np.arange(n)
    share_N = (place_N + 0.5) / n
    if kind == "bent":
        return np.sort(np.exp(np.tan(1.3 * (share_N - 0.5))))
    return np.sort((1 - share_N) ** -0.7 * (1 + 0.2 * np.sin(9 * place_N)))


@pytest.mark.parametrize(
    # alpha, D and tail as WeightWatcher 0.7.7's ``WWFit`` gave them; last the tail that its routine chose by its own
    # objective, before its constructor chose again by least D.
    ("kind", "n", "alpha", "distance", "tail", "overwritten"),
    [
        ("bent", 5, 2.397229011316318, 0.15067103588277841, 5, 5),
        ("bent", 8, 2.3688848920629164, 0.16407603253845482, 8, 8),
        ("bent", 12, 3.1903161831124893, 0.13736370309470036, 8, 8),
        ("bent", 16, 3.822980991462888, 0.13355358387396343, 8, 8),
        ("bent", 19, 3.7085145730642064, 0.13250074232115594, 10, 8),
        ("wave", 5, 2.446737304732193, 0.14482267340569488, 5, 5),
        ("wave", 8, 2.416550636444482, 0.10571648180338955, 8, 8),
        ("wave", 12, 2.383847241708032, 0.10405930037455063, 12, 8),
        ("wave", 16, 2.503404733660288, 0.07527528432258207, 11, 8),
        ("wave", 19, 2.400185594968246, 0.09105812331639884, 11, 8),
    ],
)
def test_fewer_than_20_eigenvalues_have_weightwatchers_numbers_in_compatible_mode_only(
    kind, n, alpha, distance, tail, overwritten
):
    values = few(kind, n)
    fit = fit_tail(values, compatible=True)
    assert (fit.alpha, fit.distance) == pytest.approx((alpha, distance), rel=1e-12)
    assert fit.tail == tail
    assert fit.sigma == pytest.approx((alpha - 1) / np.sqrt(tail))
    assert tail >= overwritten
    assert fit_tail(values).status == "insufficient"


def test_only_compatible_mode_drops_eigenvalues_for_being_below_1e_5():
    values = spectrum("pareto", 300, 1)
    whole = fit_tail(values)
    small = fit_tail(values * 1e-9)
    assert small.alpha == pytest.approx(whole.alpha, rel=1e-9)
    assert small.tail == whole.tail
    lost = fit_tail(values * 1e-9, compatible=True)
    assert (lost.alpha, lost.status) == (None, "insufficient")
    assert "above 1e-05" in lost.note


@given(
    st.sampled_from(KINDS),
    st.integers(50, 200),
    st.integers(0, 2**32),
    st.floats(1e-200, 1e200),
)
def test_alpha_and_hill_do_not_change_with_the_scale(kind, n, seed, scale):
    values = spectrum(kind, n, seed)
    before, after = fit_tail(values), fit_tail(values * scale)
    # Scaling rounds: where two tails are equally near, either may be taken.
    if before.tail == after.tail and before.alpha is not None:
        assert after.alpha == pytest.approx(before.alpha, rel=1e-6)
        assert after.distance == pytest.approx(before.distance, abs=1e-9)
    else:
        assert before.alpha is None or after.distance == pytest.approx(before.distance, abs=1e-9)
    assert hill_alpha(values * scale).value == pytest.approx(hill_alpha(values).value, rel=1e-9)


@given(st.sampled_from(KINDS), st.integers(50, 200), st.integers(0, 2**32))
def test_a_power_of_two_changes_nothing_at_all(kind, n, seed):
    values = spectrum(kind, n, seed)
    before, after = fit_tail(values), fit_tail(values * 2.0**-40)
    assert (after.alpha, after.distance, after.tail) == (before.alpha, before.distance, before.tail)
    assert hill_alpha(values * 2.0**-40) == hill_alpha(values)


@pytest.mark.parametrize("compatible", [False, True])
@pytest.mark.parametrize(
    ("values", "status", "words"),
    [
        ([], "insufficient", "there are no eigenvalues"),
        ([3.0], "insufficient", "1 of 1 eigenvalues above"),
        (np.zeros(100), "degenerate", "all eigenvalues are 0"),
        (np.full(100, 7.0), "degenerate", "all 100 eigenvalues above the floor are equal"),
        ([*np.arange(1.0, 99), np.nan], "failed", "1 of 99 eigenvalues are NaN or infinite"),
        ([*np.arange(1.0, 99), np.inf], "failed", "1 of 99 eigenvalues are NaN or infinite"),
        ([*np.zeros(99), 5.0], "insufficient", "1 of 100 eigenvalues above"),
    ],
    ids=["none", "one", "zero", "equal", "nan", "infinite", "rank one"],
)
def test_what_has_no_exponent_is_a_status_with_words_and_never_minus_one(
    values, status, words, compatible
):
    fit = fit_tail(np.array(values), compatible=compatible)
    assert (fit.alpha, fit.xmin, fit.distance, fit.sigma, fit.tail) == (None, None, None, None, 0)
    assert fit.status == status
    assert words in fit.note


def test_fewer_than_50_eigenvalues_are_too_few_and_so_is_a_chosen_tail_of_fewer_than_10():
    assert fit_tail(spectrum("pareto", 50, 0)).status == "ok"
    short = fit_tail(spectrum("pareto", 49, 0))
    assert (short.status, short.alpha) == ("insufficient", None)
    assert "a fit needs 50" in short.note
    # 200 values in a heap and 6 far above them, on a power law of their own.
    values = np.concatenate([np.linspace(1, 1.01, 200), 100 * (1 - np.arange(6) / 6) ** -1.0])
    compatible = fit_tail(np.sort(values), compatible=True)
    assert compatible.tail == 6
    own = fit_tail(np.sort(values))
    assert (own.alpha, own.status) == (None, "insufficient")
    assert own.note == "the rule chose a tail of 6 eigenvalues; an exponent needs 10"
    assert fit_tail(np.sort(values), minimum_tail=6).alpha == compatible.alpha


@given(
    arrays(np.float64, st.integers(0, 80), elements=st.floats(allow_nan=True, width=64)),
    st.booleans(),
)
def test_no_numbers_whatever_make_it_raise_and_an_exponent_is_finite_and_above_1(
    values, compatible
):
    values = np.sort(values)
    fit = fit_tail(values, compatible=compatible)
    assert (fit.alpha is None) == (fit.status != "ok") == bool(fit.note)
    if fit.alpha is not None:
        assert fit.alpha > 1
        assert np.isfinite([fit.alpha, fit.xmin, fit.distance, fit.sigma]).all()
    hill = hill_alpha(values)
    assert (hill.value is None) == (hill.status != "ok") == bool(hill.note)


def test_values_drawn_from_a_power_law_give_its_exponent_back():
    for seed, alpha in enumerate((1.8, 2.5, 4.0)):
        rng = np.random.default_rng(seed)
        drawn = np.sort((1 - rng.random(4_000)) ** (-1 / (alpha - 1)))
        fit = fit_tail(drawn)
        assert fit.alpha == pytest.approx(alpha, abs=4 * fit.sigma)
        assert hill_alpha(drawn).value == pytest.approx(alpha, abs=4 * (alpha - 1) / np.sqrt(2_000))


def test_hill_is_alpha_of_its_tail_with_one_eigenvalue_taken_off_and_of_exact_quantiles_the_exponent():
    values = spectrum("spiked", 300, 3)
    fit = fit_tail(values)
    hill = hill_alpha(values, fit.tail - 1).value
    assert (hill - 1) * fit.tail / (fit.tail - 1) == pytest.approx(fit.alpha - 1, rel=1e-12)
    n = 100_000
    quantiles = (1 - (np.arange(n) + 0.5) / n) ** (-1 / 1.5)
    assert hill_alpha(quantiles).value == pytest.approx(2.5, abs=1e-3)


@pytest.mark.parametrize(
    ("values", "k", "status", "words"),
    [
        ([], None, "insufficient", "there are no eigenvalues"),
        ([1.0, 2.0, 3.0], None, "insufficient", "1 of 3 eigenvalues are no tail"),
        ([1.0, 2.0, 3.0], 3, "insufficient", "3 of 3 eigenvalues are no tail"),
        ([0.0, 0.0, 1.0, 1.0], None, "degenerate", "no more than 2 of 4 eigenvalues are above 0"),
        ([1.0, 3.0, 3.0, 3.0], 2, "degenerate", "the 3 largest eigenvalues are equal"),
        ([1.0, 2.0, 3.0, np.nan], None, "failed", "1 of 4 eigenvalues are NaN"),
    ],
)
def test_hill_without_a_tail_is_a_status_with_words(values, k, status, words):
    found = hill_alpha(np.array(values), k)
    assert (found.value, found.status) == (None, status)
    assert words in found.note


FITS = """
import io, contextlib, powerlaw
from weightwatcher.WW_powerlaw import WWFit
answers = []
for values in spectra:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        own = WWFit(values)
        other = powerlaw.Fit(values, verbose=False) if len(values) >= 20 else own
    answers.append([own.alpha, own.xmin, own.D, own.sigma, int((values >= own.xmin).sum()), other.alpha, other.D])
"""


@pytest.mark.weightwatcher
def test_weightwatchers_own_fitter_and_powerlaw_give_the_same_numbers(tmp_path):
    spectra = [spectrum(kind, n, n) for kind in KINDS for n in (8, 13, 19, 20, 21, 64, 200, 800)]
    spectra = [values[values > 1e-5] for values in spectra]
    for values, (alpha, xmin, distance, sigma, tail, powerlaw_alpha, powerlaw_distance) in zip(
        spectra, ask_peer(FITS, spectra, tmp_path), strict=True
    ):
        fit = fit_tail(values, compatible=True)
        assert fit.alpha == pytest.approx(alpha, abs=1e-9, rel=1e-9)
        assert (fit.xmin, fit.tail) == (xmin, tail)
        assert (fit.distance, fit.sigma) == pytest.approx((distance, sigma), abs=1e-9)
        assert fit.alpha == pytest.approx(powerlaw_alpha, rel=1e-9)
        assert fit.distance == pytest.approx(powerlaw_distance, abs=1e-9)
