"""How sure alpha is: powerlaw's likelihood ratios, refits that know the rule, and what their intervals cover."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri
from scipy.stats import norm
from weightwatcher_peer import ask_peer

from evalkit.spectral.tail import fit_tail, nearest_tail
from evalkit.spectral.tail_tests import (
    against_exponential,
    against_lognormal,
    alpha_interval,
    refits,
)

SAMPLE = 120


def sample(kind):
    """120 values by formula, so that another program could be asked about the same ones."""
    share_N = (np.arange(SAMPLE) + 0.5) / SAMPLE
    wave_N = 0.03 * np.sin(7 * np.arange(SAMPLE))
    if kind == "pareto":
        values_N = np.exp(-0.6 * np.log1p(-share_N) + wave_N)
    elif kind == "lognormal":
        values_N = np.exp(0.8 * ndtri(share_N) + wave_N)
    elif kind == "exponential":
        values_N = 1 - np.log1p(-share_N) + wave_N
    elif kind == "uniform":
        values_N = 1 + 4 * share_N + wave_N
    else:
        high_N = 2 + 1200 * np.maximum(share_N - 0.9, 0) ** 1.5
        values_N = np.where(share_N < 0.9, 1 + share_N + wave_N, high_N)
    return np.sort(values_N)


@pytest.mark.parametrize(
    # As powerlaw 1.5 gives them: alpha, D, tail, R and p against the lognormal, R and p against the exponential
    # (``Fit(values).distribution_compare('power_law', …)``).
    ("kind", "alpha", "distance", "tail", "lognormal", "exponential"),
    [
        ("pareto", 2.67690652718, 0.021906739534, 120, (-0.00643095427, 0.945498076), (26.28143, 0.0338215175)),
        ("lognormal", 3.80354770345, 0.0799541107207, 14, (-0.118342494, 0.734968292), (-0.0142670865, 0.986070524)),
        ("exponential", 5.28160360663, 0.0759611474851, 14, (-0.214855854, 0.659318645), (-0.251847264, 0.614340738)),
        ("uniform", 28.0662571745, 0.155745175445, 13, (-0.990830537, 0.401928935), (-0.117880276, 0.0887868865)),
        ("spikes", 1.69158565252, 0.202310357362, 16, (-0.678661917, 0.569507498), (0.112404566, 0.977190066)),
    ],
)  # fmt: skip
def test_likelihood_ratios_are_those_of_powerlaw(
    kind, alpha, distance, tail, lognormal, exponential
):
    values = sample(kind)
    fit = fit_tail(values, compatible=True)
    assert (fit.alpha, fit.distance) == pytest.approx((alpha, distance), rel=1e-9)
    assert fit.tail == tail
    found = against_lognormal(values, fit)
    # Its search ends within 1e-4 of the maximum, and p with it only roughly.
    assert found.ratio == pytest.approx(lognormal[0], abs=1e-4)
    assert found.p == pytest.approx(lognormal[1], abs=2e-3)
    found = against_exponential(values, fit)
    assert (found.ratio, found.p) == pytest.approx(exponential, abs=1e-3)


@given(
    st.integers(0, 2**32),
    st.floats(0.05, 1.5),
    st.floats(-30, 3),
    st.floats(0.02, 10),
)
def test_no_lognormal_is_likelier_than_the_one_found_and_the_power_law_never_is(
    seed, bend, mean, scale
):
    rng = np.random.default_rng(seed)
    values = np.exp(np.sort(rng.exponential(1, 80) ** bend))
    fit = fit_tail(values, compatible=True)
    found = against_lognormal(values, fit)
    assert found.ratio <= 1e-9
    assert 0 <= found.p <= 1
    log_K = np.log(values[-fit.tail :] / fit.xmin)
    power_law = float((np.log(fit.alpha - 1) - (fit.alpha - 1) * log_K).sum())
    standard_K = (log_K - mean) / scale
    lognormal_K = norm.logpdf(standard_K) - np.log(scale) - norm.logsf(-mean / scale)
    assert found.ratio <= power_law - lognormal_K.sum() + 1e-6


def test_where_the_power_law_is_the_likeliest_lognormal_the_ratio_is_0_and_decides_nothing():
    rng = np.random.default_rng(4)
    log_K = rng.exponential(1, 400) * rng.choice([0.3, 3.0], 400)  # E[t²] > 2 E[t]²
    values = np.sort(np.exp(log_K))
    found = against_lognormal(values, fit_tail(values))
    assert (found.ratio, found.p) == (0.0, 1.0)


@given(st.integers(0, 2**32), st.floats(0.5, 2.0))
def test_no_exponential_is_likelier_than_the_one_it_is_held_against(seed, factor):
    values = 3 + np.sort(np.random.default_rng(seed).exponential(2, 100))
    fit = fit_tail(values, compatible=True)
    tail_K = values[-fit.tail :]
    rate = factor / (tail_K.mean() - tail_K[0])
    exponential = float((np.log(rate) - rate * (tail_K - tail_K[0])).sum())
    power_law = float(
        (np.log((fit.alpha - 1) / fit.xmin) - fit.alpha * np.log(tail_K / fit.xmin)).sum()
    )
    assert against_exponential(values, fit).ratio <= power_law - exponential + 1e-9


def test_likelihood_ratios_tell_a_long_power_law_from_an_exponential_and_do_not_know_the_scale():
    rng = np.random.default_rng(0)
    heavy = np.sort((1 - rng.random(1_000)) ** -1.0)
    found = against_exponential(heavy, fit_tail(heavy))
    assert found.ratio > 0
    assert found.p < 0.01
    for compare in (against_exponential, against_lognormal):
        one, other = (compare(at * heavy, fit_tail(at * heavy)) for at in (1.0, 2.0**-30))
        assert one == other


def test_refits_are_the_same_for_the_same_seed_and_as_many_as_asked_for():
    values = sample("lognormal")
    fit = fit_tail(values)
    one, other = (refits(values, fit, 30, np.random.default_rng(7)) for _ in range(2))
    assert one.gof_p == other.gof_p
    assert one.alphas_D.shape == (30,)
    np.testing.assert_array_equal(one.alphas_D, other.alphas_D)
    another = refits(values, fit, 30, np.random.default_rng(8))
    assert (another.alphas_D != one.alphas_D).any()


def test_a_power_law_fits_and_two_heaps_do_not():
    rng = np.random.default_rng(2)
    good = np.sort((1 - rng.random(400)) ** -0.8)
    assert refits(good, fit_tail(good), 100, rng).gof_p > 0.1
    heaps = np.concatenate([1 + np.arange(200) / 200, 50 + 50 * np.arange(60) / 60])
    assert refits(heaps, fit_tail(heaps), 100, rng).gof_p < 0.05


def test_the_interval_holds_alpha_and_says_what_it_is():
    values = sample("lognormal")
    fit = fit_tail(values, minimum_tail=5)
    asymptotic = alpha_interval(fit, None, 0.95)
    assert asymptotic.method == "asymptotic"
    assert "ignores the choice of xmin" in asymptotic.note
    assert asymptotic.high - fit.alpha == pytest.approx(1.959964 * fit.sigma, rel=1e-6)
    assert asymptotic.low == max(1.0, 2 * fit.alpha - asymptotic.high)
    drawn = refits(values, fit, 200, np.random.default_rng(0))
    found = alpha_interval(fit, drawn.alphas_D, 0.95)
    assert found.method == "200 resamples"
    assert found.low <= fit.alpha <= found.high
    inside = np.mean((drawn.alphas_D >= found.low) & (drawn.alphas_D <= found.high))
    assert inside >= 0.94
    wider = alpha_interval(fit, drawn.alphas_D, 0.98)
    assert wider.low <= found.low <= found.high <= wider.high


@pytest.mark.parametrize("alphas", [np.full(20, 3.0), np.append(np.full(80, 3.0), [np.nan] * 20)])
def test_too_few_resamples_for_the_level_give_no_narrower_interval_than_none(alphas):
    fit = fit_tail(sample("pareto"))
    asymptotic, found = alpha_interval(fit, None, 0.95), alpha_interval(fit, alphas, 0.95)
    assert found.low <= asymptotic.low
    assert found.high >= max(asymptotic.high, 3.0)
    assert "too few for 95.0%" in found.note


def test_resamples_in_which_all_values_are_equal_are_none_and_do_not_raise():
    values = np.append(np.full(60, 1.0), 2.0)
    fit = fit_tail(values, compatible=True)
    drawn = refits(values, fit, 100, np.random.default_rng(0))
    assert 10 < np.isnan(drawn.alphas_D).sum() < 70
    assert 0 <= drawn.gof_p <= 1
    assert "too few" in alpha_interval(fit, drawn.alphas_D, 0.95).note


RATIOS = """
import io, contextlib, powerlaw, warnings
warnings.simplefilter('ignore')
answers = []
for values in spectra:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        fit = powerlaw.Fit(values, verbose=False)
        answers.append([float(number) for other in ('lognormal', 'exponential')
                        for number in fit.distribution_compare('power_law', other)] + [float(fit.lognormal.mu)])
"""


@pytest.mark.weightwatcher
def test_powerlaw_run_now_gives_the_same_ratios_where_its_search_ends_at_a_maximum(tmp_path):
    rng = np.random.default_rng(11)
    spectra = [np.sort(np.exp(rng.normal(0, 1, 200))) for _ in range(6)]
    spectra += [np.sort(1 + rng.exponential(1, 200)) for _ in range(6)]
    spectra += [np.linalg.svd(rng.normal(size=(200, 300)), compute_uv=False)[::-1] ** 2]
    compared = 0
    for values, (ratio, p, exponential, exponential_p, mean) in zip(
        spectra, ask_peer(RATIOS, spectra, tmp_path), strict=True
    ):
        fit = fit_tail(values, compatible=True)
        found = against_exponential(values, fit)
        assert (found.ratio, found.p) == pytest.approx((exponential, exponential_p), abs=1e-3)
        found = against_lognormal(values, fit)
        if mean > -100:  # farther off, its lognormal is the power law but for rounding
            compared += 1
            assert (found.ratio, found.p) == pytest.approx((ratio, p), abs=1e-3)
    assert compared >= 8


# -- simulations -----------------------------------------------------------------------------------


def pareto(rng):
    """384 values of a power law, exponent 3."""
    return np.sort((1 - rng.random(384)) ** -0.5)


def bent(rng):
    """384 values: a fifth on a power law of exponent 3 from 1 on, the others half-normal in ln x below it."""
    above = rng.binomial(384, 0.2)
    below = np.exp(-np.abs(rng.normal(0, 1, 384 - above)))
    return np.sort(np.concatenate([below, (1 - rng.random(above)) ** -0.5]))


def smooth(rng):
    """1024 values of the density that Clauset et al. try the rule on: e^(−α(x/xmin − 1)) below xmin; α = 3."""
    below, above = (np.exp(3) - 1) / 3, 1 / 2
    tail = rng.binomial(1024, above / (above + below))
    body = 1 - np.log1p(rng.random(1024 - tail) * (np.exp(3) - 1)) / 3
    return np.sort(np.concatenate([np.maximum(body, 1e-9), (1 - rng.random(tail)) ** -0.5]))


def noise(rng):
    """Eigenvalues of 192 × 384 noise."""
    return np.linalg.svd(rng.normal(size=(192, 384)), compute_uv=False)[::-1] ** 2


def heavy(rng):
    """Eigenvalues of a 192 × 384 matrix of Student's t on 3 degrees of freedom."""
    return np.linalg.svd(rng.standard_t(3, (192, 384)), compute_uv=False)[::-1] ** 2


@pytest.mark.slow
@pytest.mark.parametrize(
    # What is to be covered: the exponent, or where there is none the alpha that the rule gives in the median.
    ("draw", "truth", "covered", "asymptotic"),
    [
        (pareto, 3.0, 0.95, 0.92),
        (bent, 3.0, 0.94, 0.86),
        (smooth, 3.0, 0.97, 0.75),
        (noise, None, 0.99, 0.62),
        (heavy, None, 0.99, 0.78),
    ],
    ids=lambda part: getattr(part, "__name__", None),
)
def test_intervals_from_resamples_cover_what_they_say_and_asymptotic_ones_less(
    draw, truth, covered, asymptotic
):
    rng = np.random.default_rng(5)
    if truth is None:
        tails = [nearest_tail(np.log(draw(rng))) for _ in range(400)]
        truth = 1 + np.median([tail.rate for tail in tails])
    runs, held, held_asymptotic = 200, 0, 0
    for _ in range(runs):
        values = draw(rng)
        fit = fit_tail(values, minimum_tail=2)
        drawn = refits(values, fit, 100, rng)
        own, plain = alpha_interval(fit, drawn.alphas_D, 0.95), alpha_interval(fit, None, 0.95)
        held += own.low <= truth <= own.high
        held_asymptotic += plain.low <= truth <= plain.high
    print(f"\n| {draw.__doc__} | {held / runs:.3f} | {held_asymptotic / runs:.3f} |", end="")
    for share, expected in ((held / runs, covered), (held_asymptotic / runs, asymptotic)):
        assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / runs)


@pytest.mark.slow
def test_goodness_of_fit_is_about_uniform_where_the_tail_is_a_power_law():
    rng = np.random.default_rng(6)
    found = []
    for _ in range(300):
        values = bent(rng)
        found.append(refits(values, fit_tail(values, minimum_tail=2), 50, rng).gof_p)
    shares = [np.mean(np.array(found) < line) for line in (0.1, 0.25, 0.5, 0.75)]
    print(f"\np < .1, .25, .5, .75 in {shares}", end="")
    # The fit's own bend is taken for the truth, so it is not exactly uniform.
    assert shares == pytest.approx([0.1, 0.25, 0.5, 0.75], abs=0.12)
