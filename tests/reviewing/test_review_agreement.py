"""How far annotators agree, through the road that ratings take."""

from __future__ import annotations

import numpy as np
import pytest
from review_worlds import SCALE, rated

from evalkit.records.suite import ReviewSpec
from evalkit.reviewing import task_agreement

KRIPPENDORFF = """
1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 .
"""
WORDS = ("one", "two", "three", "four", "five")


def agreement(rows, spec=SCALE, level=0.95):
    return task_agreement("write", spec, rows, seed=1, level=level)


def published(spec, name):
    coders = [line.split() for line in KRIPPENDORFF.strip().splitlines()]
    return [
        rated(n, **{f"c{k}": name(int(v)) for k, v in enumerate(unit) if v != "."})
        for n, unit in enumerate(zip(*coders, strict=True))
    ]


@pytest.mark.parametrize(
    ("spec", "name", "measurement", "alpha"),
    [
        (SCALE, int, "ordinal", 0.8154),
        (
            ReviewSpec(labels=WORDS, pass_at="three"),
            lambda v: WORDS[v - 1],
            "nominal",
            0.7434,
        ),
    ],
)
def test_alpha_of_the_published_example(spec, name, measurement, alpha):
    """Source: Krippendorff 2011, Computing Krippendorff's alpha-reliability, section E (4 coders, 12 units)."""
    found = agreement(published(spec, name), spec)
    assert found.measurement == measurement
    assert found.alpha.value == pytest.approx(alpha, abs=5e-5)
    assert (found.items, found.alpha.units) == (12, 11), "one unit has a single rating"


def test_kappa_of_each_two_annotators():
    """Source: the worked example of the Wikipedia article on Cohen's kappa, [[20, 5], [10, 15]]: 0.4."""
    spec = ReviewSpec(labels=("no", "yes"), pass_at="yes")
    cells = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15
    rows = [rated(n, ann=one, bob=two) for n, (one, two) in enumerate(cells)]
    (pair,) = agreement([*rows, rated(99, cat="yes")], spec).pairs
    assert pair.annotators == ("ann", "bob"), "who shares no item with another makes no pair"
    assert pair.kappa.value == pytest.approx(0.4)
    assert pair.same.value == pytest.approx(0.7)
    assert pair.kappa.interval is not None
    assert pair.kappa.interval.low < 0.4 < pair.kappa.interval.high


def test_an_item_of_both_models_counts_once():
    rows = [
        row.model_copy(update={"item": f"i{n}"})
        for n in range(8)
        for row in (rated(n, ann=1 + n % 2), rated(n, "baseline", ann=1 + n % 2))
    ]
    assert agreement(rows).items == 8


def test_ratings_that_are_all_the_same_have_no_alpha():
    found = agreement([rated(n, ann=5, bob=5) for n in range(30)])
    assert found.alpha.value is None
    assert found.same.value == 1.0


def test_perfect_agreement_has_an_interval_that_widens_where_one_rating_is_rare():
    """With one of 40 items rated low, a single disagreement more would undo alpha: its lower end must show that."""
    even = agreement([rated(n, ann=1 + 4 * (n % 2), bob=1 + 4 * (n % 2)) for n in range(40)])
    rare = agreement([rated(n, ann=1 if n == 0 else 5, bob=1 if n == 0 else 5) for n in range(40)])
    for found in (even, rare):
        assert found.alpha.value == pytest.approx(1.0)
        assert found.alpha.interval is not None
    assert even.alpha.interval.low > 0.75
    assert rare.alpha.interval.low < 0.4


@pytest.mark.parametrize("share", [0.9, 0.97])
def test_the_lower_end_covers_where_samples_show_no_disagreement(share):
    """Coverage: raters who agree on a share of units, categories 50:50, so that alpha = 1 − 2(1 − share) in truth.

    Of 300 samples of 25 units those without a disagreement alone are read; the truth lies in their interval.
    """
    rng, truth, seen = np.random.default_rng(5), 1 - 2 * (1 - share), 0
    for _ in range(300):
        first = rng.integers(2, size=25)
        second = np.where(rng.random(25) < share, first, 1 - first)
        if (first != second).any() or len(set(first)) == 1:
            continue
        seen += 1
        rows = [
            rated(n, a=int(1 + 4 * x), b=int(1 + 4 * y))
            for n, (x, y) in enumerate(zip(first, second, strict=True))
        ]
        interval = agreement(rows).alpha.interval
        assert interval.low <= truth
    assert seen > 5


def test_one_annotator_agrees_with_nobody():
    found = agreement([rated(n, ann=1 + n % 5) for n in range(20)])
    assert (found.alpha.value, found.alpha.units, found.pairs) == (None, 0, ())


@pytest.mark.slow
def test_the_interval_of_alpha_covers_where_two_answers_share_a_sample():
    """Coverage of 95 % intervals over 50 samples with both models' answers: at least 90 %, the lower end misses ≤ 5 %.

    Truth is the mean alpha of three draws of 3,000 samples from the same raters.
    """
    rng = np.random.default_rng(3)

    def draw(samples):
        rows = []
        for n in range(samples):
            hard = rng.normal()
            for model in ("candidate", "baseline"):
                good = hard + 0.7 * rng.normal()
                one, two = np.clip(np.round(3 + 1.2 * good + 0.8 * rng.normal(size=2)), 1, 5)
                rows.append(rated(n, model, a=int(one), b=int(two)))
        return rows

    truth = np.mean([agreement(draw(3000)).alpha.value for _ in range(3)])
    found = [agreement(draw(50)).alpha.interval for _ in range(300)]
    assert np.mean([i.low <= truth <= i.high for i in found]) >= 0.90
    assert np.mean([i.low > truth for i in found]) <= 0.05
