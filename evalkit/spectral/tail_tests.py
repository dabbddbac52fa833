"""Is the tail a power law, and how sure is its exponent: refits to drawn spectra, and likelihood ratios.

Theory. Goodness of fit: spectra are drawn from the fitted model (a power law above xmin, the eigenvalues below it as
they are), each is fitted anew, xmin included, and p is the share of them that lies at least as far from its own fit.
The interval of alpha holds what fits to resamples of the eigenvalues give, xmin chosen anew in each: their percentiles,
and alpha itself. Two models of one tail are compared by R, the difference of their log-likelihoods, over its standard
error (Vuong).

The lognormal cut off at xmin is a normal in ln x cut off at ln xmin, whose limit for μ → −∞ is the power law. So it is
never the less likely one: R ≤ 0. Its maximum is found by matching the first two moments, whose ratio depends on one
parameter alone; where the second is twice the square of the first, or more, the power law itself is the maximum.

**Source**: Clauset, Shalizi & Newman 2009, SIAM Rev. 51, 661, sections 3.3 (resamples), 4.1 (goodness of fit) and 5
(likelihood ratios); Vuong 1989, Econometrica 57, 307; powerlaw 1.5 (``distribution_compare``).

**Deviation**: all of it takes the eigenvalues for independent, and they repel one another. Intervals at 95 % hold the
exponent of independent values on a power law in 94–97 % of samples, and the alpha that the rule gives noise or
heavy-tailed matrices in the median in 96–100 % (asymptotic ones: 75–92 % and 55–80 %); p-values are indications.
Nothing here knows how far a finite matrix is from the exponent that a larger one would have. powerlaw 1.5 searches the
maxima, so its ratios differ from the 5th figure on; where the lognormal has none short of the power law it wanders off
until numbers underflow, and what it then reports (−0.0007 to −0.73 for MiniLM's layers) is rounding: here R = 0, p = 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erfc, exp, log, pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.records.weights import Fitted
from evalkit.spectral.tail import Array, TailFit, nearest_tail
from evalkit.stats.intervals import normal_quantile
from evalkit.stats.resampling import FEWEST_DEFINED

FARTHEST_CUT = 1e3
"""Standard deviations above its mean at which a cut-off normal is the exponential distribution but for rounding."""


@dataclass(frozen=True, slots=True)
class Refits:
    """What fits to drawn spectra say about a fit."""

    gof_p: float
    """Share of spectra drawn from the fit that lie at least as far from their own fit; small: no power law."""
    alphas_D: Array
    """Exponents of D resamples of the eigenvalues; NaN where all drawn values were equal."""


@dataclass(frozen=True, slots=True)
class LikelihoodRatio:
    """The power law against another model of the tail."""

    ratio: float
    """Log-likelihood of the power law minus the other's (natural logarithm): above 0 the power law is likelier."""
    p: float
    """Two-sided p-value of equal likelihood."""
    error: float
    """Standard error of the ratio."""


def refits(lambda_M: NDArray[Any], fit: TailFit, draws: int, rng: np.random.Generator) -> Refits:
    """Return what ``draws`` fits to spectra drawn from the fit, and as many to resamples of the spectrum, say about it.

    ``fit`` must be one of these ascending eigenvalues, with an exponent.
    """
    assert fit.alpha is not None and fit.distance is not None, "there is no fit"
    kept_N = np.asarray(lambda_M, dtype=np.float64)[-fit.kept :]
    log_N = np.log(kept_N / kept_N[-1])
    n, start, rate = fit.kept, fit.kept - fit.tail, fit.alpha - 1
    farther, alphas = 0, np.full(draws, np.nan)
    for draw in range(draws):
        above = int(rng.binomial(n, fit.tail / n))
        tail = log_N[start] + np.sort(rng.exponential(1 / rate, above))
        synthetic = nearest_tail(np.concatenate([_resampled(log_N[:start], n - above, rng), tail]))
        farther += synthetic is None or synthetic.distance >= fit.distance
        again = nearest_tail(_resampled(log_N, n, rng))
        if again is not None:
            alphas[draw] = 1 + again.rate
    return Refits(farther / draws, alphas)


def _resampled(log_N: Array, size: int, rng: np.random.Generator) -> Array:
    """Return ``size`` values drawn with replacement, ascending as the values are."""
    if size == 0:
        return log_N[:0]
    counts_N = np.bincount(rng.integers(len(log_N), size=size), minlength=len(log_N))
    return np.repeat(log_N, counts_N)


def alpha_interval(fit: TailFit, alphas_D: Array | None, level: float) -> Fitted:
    """Return alpha with the interval that resamples give it; without them alpha ± z·sigma, not below 1.

    Where the resamples are too few for the level, or a tenth of them gave no exponent, the interval spans them all and
    the asymptotic one.
    """
    assert fit.alpha is not None and fit.sigma is not None, "there is no fit"
    half = normal_quantile(level) * fit.sigma
    low, high = max(1.0, fit.alpha - half), fit.alpha + half
    if alphas_D is None:
        note = "the interval ignores the choice of xmin and is too narrow"
        return Fitted(fit.alpha, low, high, method="asymptotic", note=note)
    method = f"{len(alphas_D)} resamples"
    defined_D = alphas_D[np.isfinite(alphas_D)]
    beyond = (1 - level) / 2
    if len(defined_D) >= FEWEST_DEFINED * len(alphas_D) and beyond * (len(defined_D) + 1) >= 1:
        ends = np.quantile(defined_D, (beyond, 1 - beyond), method="weibull")
        low, high = min(fit.alpha, float(ends[0])), max(fit.alpha, float(ends[1]))
        return Fitted(fit.alpha, low, high, method=method)
    spanned_D = np.append(defined_D, (low, high))
    note = f"{len(defined_D)} resamples with an exponent are too few for {level:.1%}"
    return Fitted(
        fit.alpha, float(spanned_D.min()), float(spanned_D.max()), method=method, note=note
    )


def against_exponential(lambda_M: NDArray[Any], fit: TailFit) -> LikelihoodRatio:
    """Return the power law's likelihood ratio against an exponential tail from xmin on."""
    tail_K, log_K = _tail(lambda_M, fit)
    over_K = tail_K / tail_K[0] - 1
    mean = float(over_K.mean())
    exponential_K = -log(mean) - over_K / mean + log_K  # density of ln x, as below
    return _vuong(_power_law(log_K) - exponential_K)


def against_lognormal(lambda_M: NDArray[Any], fit: TailFit) -> LikelihoodRatio:
    """Return the power law's likelihood ratio against a lognormal tail from xmin on: at most 0 but for rounding."""
    _, log_K = _tail(lambda_M, fit)
    mean = float(log_K.mean())
    moments = float((log_K**2).mean()) / mean**2
    if moments >= _moment_ratio(FARTHEST_CUT):
        return LikelihoodRatio(0.0, 1.0, 0.0)
    from scipy.optimize import brentq
    from scipy.special import log_ndtr

    cut = float(brentq(lambda at: _moment_ratio(at) - moments, -FARTHEST_CUT, FARTHEST_CUT))
    scale = mean / (_hazard(cut) - cut)
    standard_K = log_K / scale + cut
    lognormal_K = -(standard_K**2) / 2 - log(scale * sqrt(2 * pi)) - float(log_ndtr(-cut))
    return _vuong(_power_law(log_K) - lognormal_K)


def _tail(lambda_M: NDArray[Any], fit: TailFit) -> tuple[Array, Array]:
    """Return the tail's eigenvalues and their logarithms over the least of them."""
    assert fit.alpha is not None, "there is no fit"
    tail_K = np.asarray(lambda_M, dtype=np.float64)[-fit.tail :]
    return tail_K, np.log(tail_K / tail_K[0])


def _power_law(log_K: Array) -> Array:
    """Return the power law's log-densities of ln x: an exponential distribution."""
    mean = float(log_K.mean())
    return -log(mean) - log_K / mean


def _hazard(at: float) -> float:
    """Return φ(a) / (1 − Φ(a)) of the standard normal."""
    from scipy.special import erfcx, log_ndtr

    if at < 0:
        return exp(-at * at / 2 - log(2 * pi) / 2 - float(log_ndtr(-at)))
    return sqrt(2 / pi) / float(erfcx(at / sqrt(2)))


def _moment_ratio(at: float) -> float:
    """Return E[t²] / E[t]² of t = z − a for a standard normal z above a: from 1 to 2 as a grows."""
    hazard = _hazard(at)
    return (1 + at * at - at * hazard) / (hazard - at) ** 2


def _vuong(difference_K: Array) -> LikelihoodRatio:
    ratio = float(difference_K.sum())
    error = sqrt(float(((difference_K - difference_K.mean()) ** 2).sum()))
    p = erfc(abs(ratio) / (sqrt(2) * error)) if error > 0 else 1.0
    return LikelihoodRatio(ratio, p, error)
