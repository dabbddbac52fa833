"""What people would have said of all samples, from a judge's scores on all and people's labels on a few.

PPI++ (``judged_mean``): with labels y on n samples drawn at random and the judge's scores f on these and on N others,
the mean of y is estimated by λ·mean(f over N) + mean(y − λ·f over n). The second term takes the judge's bias off
whatever the judge is; λ = cov(y, f) / ((1 + n/N)·var(f)) makes the variance least, so a useless judge (λ = 0) costs
nothing against labels alone. For candidate against baseline y and f are paired differences.

Rogan–Gladen (``rogan_gladen``): with the judge's specificity q₀ and sensitivity q₁ from labelled samples of each kind,
the share θ of good answers is (p + q₀ − 1)/(q₀ + q₁ − 1). It holds where labels come from another set than the answers,
as long as q₀ and q₁ are the same there; PPI++ does not need that, and needs labels drawn from these answers.

**Source**: Angelopoulos et al. 2023, Science 382, 669 (PPI) and arXiv 2311.01453 (PPI++), as ppi-python 0.2.3 computes
them; Rogan & Gladen 1978, Am. J. Epidemiol. 107, 71; Lee et al. 2025, arXiv 2511.21140 (interval).

**Deviation**: from ppi-python: Student's t with n − 1 degrees of freedom in place of the normal quantile where
``small_sample`` is set, since at n = 50 the normal interval covers 94 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np

from evalkit.records.scorecard import Interval
from evalkit.stats.intervals import Array, normal_quantile, t_quantile


@dataclass(frozen=True, slots=True)
class Corrected:
    """An estimate of what people would have said, with what it rests on."""

    value: float
    """The estimate."""
    error: float
    """Its standard error."""
    interval: Interval
    """Its interval."""
    weight: float
    """λ, how far the judge was relied on, 0–1."""
    labels: int
    """Samples with a label."""
    raw: float
    """Mean of the judge's scores over all samples, labelled or not, as it would stand uncorrected."""


def judged_mean(
    labels_N: Array,
    judged_N: Array,
    judged_M: Array,
    level: float,
    *,
    weight: float | None = None,
    small_sample: bool = True,
) -> Corrected | None:
    """Return the mean label of all N + M samples; None with fewer than 2 labels or nothing unlabelled.

    ``labels_N`` and ``judged_N`` are labels and judge's scores of the same N samples, drawn uniformly at random;
    ``judged_M`` are scores of the others. ``weight`` fixes λ (1 is PPI of 2023, 0 uses labels alone); None tunes it.

    >>> y, f = np.array([1, 0, 1, 1, 0, 1, 1, 0, 1, 1.0]), np.array([1, 0, 1, 1, 1, 1, 1, 0, 1, 1.0])
    >>> found = judged_mean(y, f, np.repeat([1.0, 0.0], [75, 25]), 0.95, weight=1, small_sample=False)
    >>> round(found.value, 4), round(found.interval.low, 4), round(found.interval.high, 4)
    (0.65, 0.4456, 0.8544)
    """
    n, others = len(labels_N), len(judged_M)
    assert len(judged_N) == n, "a score for each label"
    if n < 2 or others == 0:
        return None
    if weight is None:
        weight = _tuned(labels_N, judged_N, judged_M)
    rest_N = labels_N - weight * judged_N
    value = weight * float(judged_M.mean()) + float(rest_N.mean())
    error = sqrt(weight**2 * float(judged_M.var()) / others + float(rest_N.var()) / n)
    if small_sample:
        error *= sqrt(n / (n - 1))
    half = error * (t_quantile(level, n - 1) if small_sample else normal_quantile(level))
    interval = Interval(low=value - half, high=value + half, level=level, method="ppi++")
    raw = float(np.concatenate([judged_N, judged_M]).mean())
    return Corrected(value, error, interval, weight, n, raw)


def _tuned(labels_N: Array, judged_N: Array, judged_M: Array) -> float:
    """Return λ of least variance, within 0 and 1."""
    spread = float(np.concatenate([judged_N, judged_M]).var(ddof=1))
    if spread == 0:
        return 0.0
    shared = float(((labels_N - labels_N.mean()) * (judged_N - judged_N.mean())).mean())
    return min(max(shared / ((1 + len(labels_N) / len(judged_M)) * spread), 0.0), 1.0)


@dataclass(frozen=True, slots=True)
class Diagnosed:
    """The share of good answers behind a judge's share, given what the judge takes for what."""

    value: float
    """θ, within 0 and 1."""
    interval: Interval
    """Its interval."""


def rogan_gladen(
    judged_good: float,
    specificity: float,
    sensitivity: float,
    *,
    n: int,
    bad_labels: int,
    good_labels: int,
    level: float,
) -> Diagnosed | None:
    """Return the true share of good answers; None where the judge is no better than chance or a count is 0.

    ``judged_good`` is the judge's share of good ones among ``n`` answers; ``specificity`` the share of ``bad_labels``
    that it calls bad, ``sensitivity`` the share of ``good_labels`` that it calls good.
    """
    apart = specificity + sensitivity - 1
    if min(n, bad_labels, good_labels) < 1 or apart <= 0:
        return None
    value = (judged_good + specificity - 1) / apart
    z = normal_quantile(level)
    p = (n * judged_good + z**2 / 2) / (n + z**2)
    q0 = (bad_labels * specificity + 1) / (bad_labels + 2)
    q1 = (good_labels * sensitivity + 1) / (good_labels + 2)
    apart = q0 + q1 - 1
    if apart <= 0:
        return None
    middle = (p + q0 - 1) / apart
    of_bad, of_good = q0 * (1 - q0) / (bad_labels + 2), q1 * (1 - q1) / (good_labels + 2)
    shift = 2 * z**2 * (middle * of_good - (1 - middle) * of_bad)
    error = (
        sqrt(p * (1 - p) / (n + z**2) + (1 - middle) ** 2 * of_bad + middle**2 * of_good) / apart
    )
    low, high = middle + shift - z * error, middle + shift + z * error
    interval = Interval(
        low=min(max(low, 0.0), 1.0),
        high=min(max(high, 0.0), 1.0),
        level=level,
        method="rogan-gladen",
    )
    return Diagnosed(min(max(value, 0.0), 1.0), interval)
