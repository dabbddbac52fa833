"""Everything that the scorecard says about a spectrum's tail: alpha, how sure it is, and what follows from it.

**Source**: as in ``tail``, ``tail_tests`` and ``nulls``; Martin, Peng & Mahoney 2021, Nat. Commun. 12, 4122 (alpha-hat,
log alpha-norm).

**Deviation**: log alpha-norm is summed in logarithms; Σ λ^α itself overflows from an alpha of some 100 on.
"""

from __future__ import annotations

from math import log, log10
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.records.weights import Fitted
from evalkit.spectral.nulls import null_percentile
from evalkit.spectral.tail import FEWEST_COMPATIBLE, Array, fit_tail, hill_alpha
from evalkit.spectral.tail_tests import (
    LikelihoodRatio,
    Refits,
    against_exponential,
    against_lognormal,
    alpha_interval,
    refits,
)
from evalkit.stats.intervals import normal_quantile, wilson_interval

OF_ALPHA = (
    "alpha", "alpha_tail", "alpha_distance", "alpha_gof", "alpha_null", "alpha_over_lognormal",
    "alpha_over_exponential", "alpha_weighted", "log_alpha_norm",
)  # fmt: skip
"""Measures that there are none of without a fit."""
STEPS = 33
"""Exponents in alpha's interval at which the log alpha-norm is computed: it may be least between the ends."""


def alpha_measures(
    lambda_M: NDArray[Any],
    shape: tuple[int, int],
    *,
    level: float,
    draws: int,
    rng: np.random.Generator,
    compatible: bool = False,
) -> dict[str, Fitted]:
    """Return the measures of a spectrum's tail by name, from the ascending eigenvalues of a matrix of a shape.

    ``level`` is that of the intervals, ``draws`` the number of refits behind alpha's interval and goodness of fit; 0
    gives the asymptotic interval and no goodness of fit. ``compatible`` gives WeightWatcher 0.7.7's numbers. A measure
    without a number has its reason; nothing is raised.
    """
    lambda_M = np.asarray(lambda_M, dtype=np.float64)
    fit, hill = fit_tail(lambda_M, compatible=compatible), hill_alpha(lambda_M)
    if fit.alpha is None:
        none = Fitted(None, status=fit.status, note=fit.note)
        return {**dict.fromkeys(OF_ALPHA, none), "hill": hill}
    # Refits follow Clauset's rule, not WeightWatcher's routine for few eigenvalues.
    refitted = (
        refits(lambda_M, fit, draws, rng) if draws and fit.kept >= FEWEST_COMPATIBLE else None
    )
    alpha = alpha_interval(fit, refitted.alphas_D if refitted else None, level)
    return {
        "alpha": alpha,
        "alpha_tail": Fitted(float(fit.tail)),
        "alpha_distance": Fitted(fit.distance),
        "alpha_gof": _goodness_of_fit(refitted, level),
        "alpha_null": _null(alpha, shape),
        "alpha_over_lognormal": _likelihoods(against_lognormal(lambda_M, fit), level),
        "alpha_over_exponential": _likelihoods(against_exponential(lambda_M, fit), level),
        "alpha_weighted": _weighted(alpha, log10(lambda_M[-1])),
        "log_alpha_norm": _log_alpha_norm(alpha, lambda_M),
        "hill": hill,
    }


def _goodness_of_fit(refitted: Refits | None, level: float) -> Fitted:
    if refitted is None:
        return Fitted(None, status="insufficient", note="nothing was refitted")
    draws = len(refitted.alphas_D)
    found = wilson_interval(refitted.gof_p * draws, draws, level)
    assert found is not None, "there are draws"
    note = "for independent values; eigenvalues repel one another"
    return Fitted(refitted.gof_p, found.low, found.high, method=f"{draws} refits", note=note)


def _null(alpha: Fitted, shape: tuple[int, int]) -> Fitted:
    value, low, high = (
        None if number is None else null_percentile(number, *shape)
        for number in (alpha.value, alpha.low, alpha.high)
    )
    if value is None:
        note = f"no noise was drawn of shapes such as {shape[0]} × {shape[1]}"
        return Fitted(None, status="insufficient", note=note)
    return Fitted(value, low, high, method=alpha.method, note=alpha.note)


def _likelihoods(found: LikelihoodRatio, level: float) -> Fitted:
    half = normal_quantile(level) * found.error
    low, high = found.ratio - half, found.ratio + half
    return Fitted(found.ratio, low, high, method="vuong", note=f"p = {found.p:.3g}")


def _weighted(alpha: Fitted, log_largest: float) -> Fitted:
    assert alpha.value is not None and alpha.low is not None and alpha.high is not None
    low, high = sorted((alpha.low * log_largest, alpha.high * log_largest))
    return Fitted(alpha.value * log_largest, low, high, method=alpha.method, note=alpha.note)


def _log_alpha_norm(alpha: Fitted, lambda_M: Array) -> Fitted:
    """Return log10 Σ λ^α. It is convex in alpha: greatest at an end of the interval, least perhaps between."""
    assert alpha.value is not None and alpha.low is not None and alpha.high is not None
    exponents_E = np.append(np.linspace(alpha.low, alpha.high, STEPS), alpha.value)
    powers_EM = np.multiply.outer(exponents_E, np.log(lambda_M[lambda_M > 0]))
    largest_E = powers_EM.max(axis=1)
    norms_E = (largest_E + np.log(np.exp(powers_EM - largest_E[:, None]).sum(axis=1))) / log(10)
    low, high, value = float(norms_E.min()), float(norms_E.max()), float(norms_E[-1])
    return Fitted(value, low, high, method=alpha.method, note=alpha.note)
