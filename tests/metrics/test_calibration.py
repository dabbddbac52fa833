"""Calibration: what is no probability first, then scikit-learn's examples and its reliability diagram."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.metrics.calibration import EDGES, Calibration
from evalkit.records.exchange import Completion, Sample, Score, Unscored

METRIC = Calibration("calibration", Calibration.Options())


def grade(answer, label="yes", **options):
    metric = Calibration("calibration", Calibration.Options(**options))
    sample = Sample("s", 0, {}, () if label is None else (label,), (), {}, None)
    return metric.score(sample, [Completion("r", answer, "stop")])


def choose(choices, logprobs, target="0", **options):
    metric = Calibration("calibration", Calibration.Options(**options))
    sample = Sample("s", 0, {}, (target,), tuple(choices), {}, None)
    completions = [Completion("r", "", "stop", logprobs=(each,)) for each in logprobs]
    return metric.score(sample, completions)


def values(probabilities, labels):
    scores = [
        grade(repr(float(p)), "yes" if y else "no")
        for p, y in zip(probabilities, labels, strict=True)
    ]
    assert all(isinstance(score, Score) for score in scores), scores
    stats_NK = np.array([score.statistics for score in scores])
    return {m.name: m.aggregate(stats_NK) for m in METRIC.measures}


# --- what is no probability -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "no probability"),
        ("yes", "no probability"),
        ("likely", "no probability"),
        ("0.6 to 0.8", "no probability"),
        ("60-80%", "no probability"),
        ("7/10", "no probability"),
        ("I'd say 0.8", "no probability"),
        ("It depends.\n0.8", "no probability"),
        ("<think>0.8</think>", "no probability"),
        ("０.8", "no probability"),  # a full-width digit
        ("I'm sorry, but I can't help with that.", "refusal"),
        ("70", "number is not a probability"),
        ("1.01", "number is not a probability"),
        ("-0.2", "number is not a probability"),
        ("101%", "number is not a probability"),
        ("9" * 400, "number is not a probability"),
    ],
)
def test_an_answer_without_a_probability_has_no_score(answer, reason):
    found = grade(answer)
    assert isinstance(found, Unscored)
    assert found.reason == reason


def test_a_label_of_no_side_has_no_score():
    assert grade("0.5", "maybe").reason == "label is neither positive nor negative"
    assert grade("0.5", None).reason == "no target"


def test_choices_fail_closed():
    assert choose(["a", "b"], [-1.0, -2.0]).reason == "label is neither positive nor negative"
    assert choose(["no", "b"], [-1.0, -2.0]).reason == "no choice is positive"
    assert choose(["yes", "no"], [0.0, 0.0]).reason == "no log-probabilities"
    assert choose(["yes", "no"], [-1.0, -2.0], target="yes").reason == (
        "label is neither positive nor negative"
    )


# --- what is one ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "p"),
    [
        ("0.8", 0.8),
        ("1", 1.0),
        (".25", 0.25),
        ("80%", 0.8),
        ("80 per cent", 0.8),
        ("**Probability:** 0.8, since all is paid", 0.8),
        ("The probability is about 12.5 %.", 0.125),
    ],
)
def test_a_probability_is_the_number_that_the_answer_opens_with(answer, p):
    assert grade(answer).statistics[:4] == (p, 1.0, p - 1, (p - 1) ** 2)


def test_of_choices_the_probability_is_the_share_of_the_positive_ones():
    found = choose(["yes", "no"], [math.log(0.3), math.log(0.1)], target="1")
    assert found.statistics[:3] == pytest.approx((0.75, 0, 0.75))
    three = [math.log(0.2), math.log(0.2), math.log(0.4)]
    assert choose(["sure", "yes", "no"], three, positive=["yes", "sure"]).statistics[0] == (
        pytest.approx(0.5)
    )
    assert choose(["yes", "no"], [-2000.0, -2001.0]).statistics[0] == pytest.approx(
        math.e / (1 + math.e)
    )


def test_a_probability_at_an_edge_belongs_to_the_bin_below():
    for place, p in enumerate((*EDGES, 1.0)):
        bins = grade(str(p), "no").statistics[4:]
        assert [n for n, residual in enumerate(bins) if residual] == [place]
    assert grade("0").statistics[4] == -1.0


# --- published --------------------------------------------------------------------------------------


def test_brier_is_that_of_scikit_learns_example():
    # scikit-learn, brier_score_loss: y_true = [0, 1, 1, 0], y_prob = [0.1, 0.9, 0.8, 0.3] gives 0.037 (0.0375).
    assert values([0.1, 0.9, 0.8, 0.3], [0, 1, 1, 0])["brier"] == pytest.approx(0.0375)


def test_ece_follows_from_the_bins_of_scikit_learns_example():
    # scikit-learn, calibration_curve: the example's data. Each of 0.1 … 1.0 falls into a bin of its own but 0.65 and
    # 0.7, whose two labels are 1: Σ|Σ(p − y)| = 0.1 + 0.2 + 0.3 + 0.4 + (0.35 + 0.3) + 0.2 + 0.1 + 0 = 1.95.
    found = values([0.1, 0.2, 0.3, 0.4, 0.65, 0.7, 0.8, 0.9, 1.0], [0, 0, 0, 0, 1, 1, 1, 1, 1])
    assert found["ece"] == pytest.approx(1.95 / 9)
    assert found["bias"] == pytest.approx((1.0 - 0.95) / 9)


pairs = st.lists(
    st.tuples(st.integers(0, 1000).map(lambda n: n / 1000), st.booleans()), min_size=1, max_size=60
)


@given(pairs)
def test_ece_is_that_of_scikit_learns_reliability_diagram(held):
    curve = pytest.importorskip("sklearn.calibration").calibration_curve
    p_N, y_N = (np.array(each, dtype=float) for each in zip(*held, strict=True))
    if len(set(y_N)) < 2:
        p_N, y_N = np.append(p_N, [0.05, 0.05]), np.append(y_N, [0, 1])
    share_B, mean_B = curve(y_N, p_N, n_bins=10)
    place_N = np.searchsorted(np.linspace(0, 1, 11)[1:-1], p_N)
    size_B = np.bincount(place_N, minlength=10)
    wanted = np.abs(share_B - mean_B) @ size_B[size_B > 0] / len(p_N)
    assert values(p_N, y_N)["ece"] == pytest.approx(wanted, abs=1e-12)


@given(pairs)
def test_brier_and_bias_are_means_over_samples_and_ece_is_never_below_the_size_of_the_bias(held):
    found = values(*zip(*held, strict=True))
    assert found["brier"] == pytest.approx(sum((p - y) ** 2 for p, y in held) / len(held))
    assert found["bias"] == pytest.approx(sum(p - y for p, y in held) / len(held))
    assert found["ece"] >= abs(found["bias"]) - 1e-12


def test_bias_keeps_its_sign_and_its_range():
    from evalkit.stats.estimate import UNIT_BOUNDS

    assert values([0.9, 0.9], [0, 0])["bias"] == pytest.approx(0.9)
    assert values([0.1, 0.1], [1, 1])["bias"] == pytest.approx(-0.9)
    assert UNIT_BOUNDS[METRIC.measures[0].unit] == (-1.0, 1.0)
