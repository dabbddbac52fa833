"""What people would have said: published worked numbers, and coverage by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from evalkit.stats.corrected import judged_mean, rogan_gladen

LABELS = np.array([1, 0, 1, 1, 0, 1, 1, 0, 1, 1.0])
JUDGED = np.array([1, 0, 1, 1, 1, 1, 1, 0, 1, 1.0])
OTHERS = np.repeat([1.0, 0.0], [75, 25])


@pytest.mark.parametrize(
    ("weight", "value", "low", "high"),
    [(1.0, 0.65, 0.4456, 0.8544), (None, 0.66595, 0.4678, 0.8641)],
)
def test_ppi_of_a_worked_example(weight, value, low, high):
    """Source: ppi-python 0.2.3, ``ppi_mean_pointestimate`` and ``ppi_mean_ci`` on these numbers, λ 1 and tuned."""
    found = judged_mean(LABELS, JUDGED, OTHERS, 0.95, weight=weight, small_sample=False)
    assert found.value == pytest.approx(value, abs=5e-6)
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high), abs=5e-5)


def test_a_judge_that_says_nothing_leaves_the_labels_alone():
    found = judged_mean(LABELS, np.ones(10), np.ones(100), 0.95)
    assert found.weight == 0
    assert found.value == pytest.approx(0.7)


def test_too_little_to_correct_by_gives_none():
    assert judged_mean(LABELS[:1], JUDGED[:1], OTHERS, 0.95) is None
    assert judged_mean(LABELS, JUDGED, OTHERS[:0], 0.95) is None


@pytest.mark.parametrize(("labels", "low", "high"), [(100, 0.6644, 0.8163), (500, 0.6865, 0.7812)])
def test_rogan_gladen_of_a_worked_example(labels, low, high):
    """Source: Lee et al. 2025 (arXiv 2511.21140), their program: p .70, q0 .85, q1 .90, n 1000, m0 = m1."""
    found = rogan_gladen(0.7, 0.85, 0.9, n=1000, bad_labels=labels, good_labels=labels, level=0.95)
    assert found.value == pytest.approx(0.7333, abs=5e-5)
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high), abs=5e-5)


def test_a_judge_no_better_than_chance_gives_none():
    assert rogan_gladen(0.7, 0.4, 0.6, n=100, bad_labels=50, good_labels=50, level=0.95) is None


def judged_population(rng, n, truth, sensitivity, specificity):
    y = (rng.random(n) < truth).astype(float)
    f = np.where(y == 1, rng.random(n) < sensitivity, rng.random(n) > specificity).astype(float)
    return y, f


@pytest.mark.slow
@pytest.mark.parametrize(("sensitivity", "specificity"), [(0.7, 0.77), (0.95, 0.6), (0.5, 0.5)])
def test_corrected_intervals_cover_what_people_would_say(sensitivity, specificity):
    """1,000 answers, 100 labels drawn at random, 500 draws: at least 0.93 of the 95 % intervals hold the truth."""
    rng = np.random.default_rng(5)
    held = raw = 0
    for _ in range(500):
        y, f = judged_population(rng, 1000, 0.42, sensitivity, specificity)
        found = judged_mean(y[:100], f[:100], f[100:], 0.95)
        held += found.interval.low <= 0.42 <= found.interval.high
        half = 1.96 * np.sqrt(f.mean() * (1 - f.mean()) / 1000)
        raw += abs(f.mean() - 0.42) <= half
    assert held / 500 >= 0.93
    assert raw / 500 < 0.5 or (sensitivity, specificity) == (0.7, 0.77)


@pytest.mark.slow
def test_rogan_gladen_covers_the_share_behind_a_biased_judge():
    rng = np.random.default_rng(6)
    held = 0
    for _ in range(500):
        _, f = judged_population(rng, 1000, 0.42, 0.7, 0.77)
        bad = rng.binomial(50, 0.77) / 50
        good = rng.binomial(50, 0.7) / 50
        found = rogan_gladen(f.mean(), bad, good, n=1000, bad_labels=50, good_labels=50, level=0.95)
        held += found is not None and found.interval.low <= 0.42 <= found.interval.high
    assert held / 500 >= 0.93
