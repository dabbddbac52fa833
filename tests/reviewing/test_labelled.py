"""``labelled``: enough ratings, by people who agree."""

from __future__ import annotations

import pytest

from evalkit.gates.conditions import Evidence
from evalkit.gates.people import Labelled, lacking_ratings, reads_ratings
from evalkit.records.scorecard import Counts, Estimate, Interval
from evalkit.reviewing import NAMES


def decide(
    alpha, low, high, rated=120, drawn=150, *, samples=100, floor=0.6, metric="human.agreement"
):
    interval = None if low is None else Interval(low=low, high=high, level=0.95, method="bca")
    estimate = Estimate(
        model="candidate",
        task="write",
        metric=metric,
        slice=None,
        kind="corpus",
        value=alpha,
        interval=interval,
        counts=Counts(
            planned=drawn, completed=drawn, failed=0, scored=rated, unscored=drawn - rated
        ),
        n=rated,
        unit="alpha (ordinal)",
        better="higher",
        signature="human",
    )
    condition = Labelled(Labelled.Options(samples=samples, agreement=floor))
    return condition.decide(Evidence(estimate.name, estimate, None))


@pytest.mark.parametrize(
    ("alpha", "low", "high", "status"),
    [
        (0.8, 0.61, 0.9, "pass"),
        (0.8, 0.6, 0.9, "pass"),
        (0.8, 0.59, 0.9, "inconclusive"),
        (0.5, 0.3, 0.7, "inconclusive"),
        (0.3, 0.1, 0.59, "fail"),
        (None, None, None, "inconclusive"),
        (1.0, None, None, "inconclusive"),
    ],
)
def test_the_lower_end_of_alpha_decides(alpha, low, high, status):
    assert decide(alpha, low, high).status == status


def test_too_few_ratings_fail_however_well_people_agree():
    found = decide(0.95, 0.9, 0.99, rated=99)
    assert found.status == "fail"
    assert "99 of 150 drawn answers are rated, fewer than 100" in found.reason


def test_exactly_as_many_ratings_as_asked_are_enough():
    assert decide(0.95, 0.9, 0.99, rated=100).status == "pass"


def test_another_number_is_no_agreement():
    assert decide(0.95, 0.9, 0.99, metric="human.pass").status == "missing"


def test_a_rule_on_ratings_is_known_by_its_name():
    assert all(reads_ratings(f"write/{name}") for name in NAMES)
    assert reads_ratings("*/human.*@part=odd")
    assert not reads_ratings("write/*")
    assert not reads_ratings("human/exact_match")
    assert "evalkit review export" in lacking_ratings("write/human.pass")
    assert lacking_ratings("write/exact_match") == ""
