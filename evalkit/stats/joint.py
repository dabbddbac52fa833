"""How two models' values on the same samples would vary together in another sample.

Theory. A ratio of the two values, or "at least 95 % of the baseline", needs both standard errors and the covariance
(Fieller). For means they are one covariance matrix of the sums within clusters (CR1; each sample its own cluster where
none is declared); for corpus measures they come from the resamples, which both models share.

Where hardly a pair differs, both values move together in every sample at hand and a ratio would seem to be known almost
exactly. So the matrix is given the same two added pairs as the difference: its variance of candidate − baseline is
that of the difference's own interval. For zeros and ones the pairs are (1, 0) and (0, 1), as Bonett and Price add them.

**Source**: Cameron & Miller 2015, J. Hum. Resour. 50, 317 (CR1); Bonett & Price 2012, J. Educ. Behav. Stat. 37, 479
(added pairs); Fieller 1954, J. R. Stat. Soc. B 16, 175 (what the covariance is for).
"""

from __future__ import annotations

from math import isfinite, sqrt

import numpy as np

from evalkit.records.scorecard import JointErrors
from evalkit.stats.intervals import Array, Bounds, Codes


def mean_covariance(
    values_JN: Array, clusters_N: Codes | None, added_J2: Array | None = None
) -> tuple[Array, Array, int] | None:
    """Return J means over N samples, the covariance of these means (J, J) and its degrees of freedom.

    C/(C − 1) · Σ_c s_c s_cᵀ / n² with s_c the sum of cluster c's residuals, on C − 1; without clusters each sample is
    one, and this is the covariance over n. ``added_J2`` are two more samples, each a cluster of its own, weighted by
    the square root of the mean cluster size (the largest design effect is that size); they add no degrees of freedom.
    None for fewer than two clusters.
    """
    variables, n = values_JN.shape
    groups = n if clusters_N is None else int(np.count_nonzero(np.bincount(clusters_N)))
    if groups < 2:
        return None
    weight = 0.0 if added_J2 is None else sqrt(n / groups)
    added_JX = np.zeros((variables, 0)) if added_J2 is None else added_J2
    total = n + weight * added_JX.shape[1]
    means_J = (values_JN.sum(axis=1) + weight * added_JX.sum(axis=1)) / total
    sums_JC = values_JN - means_J[:, None]
    if clusters_N is not None:
        sums_JC = np.stack([np.bincount(clusters_N, weights=r_N) for r_N in sums_JC])
    moved_JX = weight * (added_JX - means_J[:, None])
    counted = groups + added_JX.shape[1]
    # Not ``@``: for products this thin the linear algebra library's threads cost more than they save.
    spread_JJ = np.einsum("jc,kc->jk", sums_JC, sums_JC) + moved_JX @ moved_JX.T
    return means_J, counted / (counted - 1) * spread_JJ / total**2, groups - 1


def joint_errors(
    candidate_N: Array,
    baseline_N: Array,
    clusters_N: Codes | None,
    *,
    largest: float | None,
    bounds: Bounds | None,
) -> JointErrors | None:
    """Return the joint errors of two means; None for fewer than two clusters, or where no value varies.

    ``largest`` is the size of the differences of two pairs to be added, ± ``largest``; None adds none. They lie around
    the mean of both models, within ``bounds``.
    """
    values_2N = np.stack([candidate_N, baseline_N])
    added_22 = None
    if largest is not None:
        middle, half = float(values_2N.mean()), largest / 2
        if bounds is not None:
            middle = min(max(middle, bounds[0] + half), bounds[1] - half)
        added_22 = np.array([[middle + half, middle - half], [middle - half, middle + half]])
    found = mean_covariance(values_2N, clusters_N, added_22)
    return None if found is None else _errors(found[1], found[2])


def resampled_errors(
    candidate_B: Array, baseline_B: Array, *, added: float = 0.0
) -> JointErrors | None:
    """Return the joint errors of two corpus values from their resamples.

    ``added`` is a variance to be added to that of the difference: half of its root to each model, in opposite
    directions.
    None where fewer than two resamples have both values, where neither varies, or where a variance is too large to
    write (perplexities beyond 1e154).
    """
    both_2B = np.stack([candidate_B, baseline_B])
    both_2B = both_2B[:, np.isfinite(both_2B).all(axis=0)]
    if both_2B.shape[1] < 2:
        return None
    apart_22 = np.array([[1.0, -1.0], [-1.0, 1.0]])
    with np.errstate(over="ignore", invalid="ignore"):
        covariance_22 = np.cov(both_2B)
    return _errors(covariance_22 + added / 4 * apart_22, None)


def _errors(covariance_22: Array, df: int | None) -> JointErrors | None:
    candidate, baseline = (sqrt(float(variance)) for variance in covariance_22.diagonal())
    if not isfinite(candidate + baseline) or candidate + baseline <= 0:
        return None
    return JointErrors(
        candidate=candidate, baseline=baseline, covariance=float(covariance_22[0, 1]), df=df
    )
