"""Seeded simulations: how often ``no_worse_than`` passes a candidate that is worse by exactly its margin.

At a one-sided alpha of 5 % it should be 5 % at most. Run with ``-s -v`` to see the table.
"""

from __future__ import annotations

import numpy as np
import pytest

from evalkit.gates.conditions import Evidence
from evalkit.metrics.base import corpus, mean, rate, ratio
from evalkit.records.scorecard import Comparison
from evalkit.registry import find
from evalkit.stats.paired import paired_difference
from evalkit.stats.resampling import Resampled, Resampler

pytestmark = pytest.mark.slow

DRAWS = 2_000
RATE = rate("", column=0)
MEAN = mean("", column=0)
MICRO = corpus("", lambda s, n: ratio(s[..., 0], s[..., 1]), unit="fraction")


def passes(
    measure, candidate, baseline, margin, *, binary=False, clusters=None, seed=0, relative=False
):
    resampled = rng = None
    if measure.kind == "corpus":
        ids = [f"s{i:04d}" for i in range(len(candidate))]
        resampler = Resampler(ids, np.random.default_rng(seed), clusters, resamples=1000)
        resampled = Resampled(resampler, np.hstack([candidate, baseline]))
        rng = np.random.default_rng(seed)
    found = paired_difference(
        measure,
        candidate,
        baseline,
        0.95,
        binary=binary,
        clusters_N=clusters,
        resampled=resampled,
        rng=rng,
    )
    assert found is not None
    comparison = Comparison(
        task="t",
        metric="m",
        slice=None,
        status="compared",
        candidate=found.candidate,
        baseline=found.baseline,
        difference=found.difference,
        intervals=found.intervals,
        errors=found.errors,
        pairs=len(candidate),
    )
    make = find("condition", "no_worse_than").make
    condition = make(make.Options(margin=margin, relative=relative))
    return condition.decide(Evidence("t/m", None, comparison)).status == "pass"


def pairs(differences):
    """Zeros and ones of both models whose difference is −1, 0 or 1."""
    candidate = (differences > 0).astype(float)
    return candidate[:, None], (candidate - differences)[:, None]


def at_most(passed, alpha, slack=0.0):
    share = float(np.mean(passed))
    print(f"\n  passed at the margin: {share:.3f}")
    assert share <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / len(passed)) + slack


@pytest.mark.parametrize("n", [30, 100, 300, 1000])
@pytest.mark.parametrize(
    ("margin", "gained"), [(0.02, 0.0), (0.02, 0.01), (0.02, 0.05), (0.05, 0.0), (0.05, 0.02)]
)
def test_independent_pairs_keep_alpha_however_few_differ(n, margin, gained):
    rng = np.random.default_rng(n)
    odds = [margin + gained, 1 - margin - 2 * gained, gained]
    passed = [
        passes(RATE, *pairs(rng.choice([-1.0, 0.0, 1.0], n, p=odds)), margin, binary=True)
        for _ in range(DRAWS)
    ]
    at_most(passed, 0.05, slack=0.01)  # exact enumeration: 6.0 % at most


def clustered(rng, clusters, size, lost, gained, correlation):
    """Differences whose odds vary between clusters: Dirichlet with the given intra-cluster correlation."""
    odds = np.array([lost, gained, 1 - lost - gained])
    if correlation:
        weight = (1 - correlation) / correlation
        drawn = rng.gamma(np.maximum(odds * weight, 1e-12), size=(clusters, 3))
        rates = drawn / drawn.sum(axis=1, keepdims=True)
    else:
        rates = np.tile(odds, (clusters, 1))
    toss = rng.random((clusters, size))
    cut = rates.cumsum(axis=1)
    return np.where(toss < cut[:, :1], -1.0, np.where(toss < cut[:, 1:2], 1.0, 0.0)).ravel()


@pytest.mark.parametrize("correlation", [0.0, 0.1, 0.3])
@pytest.mark.parametrize(("clusters", "size"), [(10, 5), (20, 10), (50, 5)])
@pytest.mark.parametrize(("margin", "gained"), [(0.02, 0.02), (0.05, 0.05), (0.02, 0.0)])
def test_clustered_pairs_keep_alpha(clusters, size, correlation, margin, gained):
    rng = np.random.default_rng(clusters + size)
    codes = np.repeat(np.arange(clusters), size)
    passed = []
    for _ in range(DRAWS):
        differences = clustered(rng, clusters, size, margin + gained, gained, correlation)
        passed.append(passes(RATE, *pairs(differences), margin, binary=True, clusters=codes))
    at_most(passed, 0.05, slack=0.005)


def test_means_of_which_few_pairs_differ_keep_alpha():
    rng = np.random.default_rng(0)
    passed = []
    for _ in range(DRAWS):
        # 4 % of the documents lose half of their fields: a mean loss of .02.
        lost = np.where(rng.random(100) < 0.04, 0.5, 0.0)
        passed.append(passes(MEAN, (1 - lost)[:, None], np.ones((100, 1)), 0.02))
    # Plain t passes 8.8 %: a lucky draw with one such document or none also shows little spread. With two pairs added
    # it passes 7.0 %; joined with Tango's interval, none.
    at_most(passed, 0.05)


@pytest.mark.parametrize("n", [100, 300, 1000])
@pytest.mark.parametrize("gained", [0.0, 0.02, 0.1])
def test_relative_margins_keep_alpha(n, gained):
    # The baseline is right on 80 %; the candidate's rate is 95 % of that, so it loses .04 more than it gains.
    rng = np.random.default_rng(n)
    odds = [0.76 - gained, 0.04 + gained, gained, 0.2 - gained]
    answers = np.array([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    passed = []
    for _ in range(DRAWS):
        drawn = answers[rng.choice(4, n, p=odds)]
        passed.append(passes(RATE, drawn[:, :1], drawn[:, 1:], 0.05, binary=True, relative=True))
    at_most(passed, 0.05, slack=0.01)


def test_means_keep_alpha():
    rng = np.random.default_rng(0)
    passed = []
    for _ in range(DRAWS):
        baseline = rng.beta(8, 2, 60)
        candidate = np.clip(baseline + rng.normal(-0.03, 0.1, 60), -5, 5)
        passed.append(passes(MEAN, candidate[:, None], baseline[:, None], 0.03))
    at_most(passed, 0.05)


def test_corpus_measures_keep_alpha():
    rng = np.random.default_rng(0)
    passed = []
    for draw in range(600):
        sizes = rng.geometric(1 / 20, 150).astype(int)
        models = [
            np.column_stack(
                [rng.binomial(sizes, rng.beta(40 * p, 40 * (1 - p), 150)), sizes]
            ).astype(float)
            for p in (0.77, 0.80)
        ]
        passed.append(passes(MICRO, *models, 0.03, seed=draw))
    at_most(passed, 0.05)


def test_an_equal_candidate_passes_as_often_as_the_sample_size_formula_says():
    # n = (1.645 + .842)²·discordance/margin² = 927 pairs for 80 % power at 6 % discordance and 2 points.
    rng = np.random.default_rng(0)
    passed = [
        passes(
            RATE, *pairs(rng.choice([-1.0, 0.0, 1.0], 927, p=[0.03, 0.94, 0.03])), 0.02, binary=True
        )
        for _ in range(DRAWS)
    ]
    print(f"\n  an equal candidate passed: {np.mean(passed):.3f}")
    assert np.mean(passed) == pytest.approx(0.80, abs=0.04)
