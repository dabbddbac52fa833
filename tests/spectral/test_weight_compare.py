"""Weights of two models side by side, and the rules that read the difference."""

from __future__ import annotations

from itertools import pairwise
from math import isclose, sqrt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.gates.conditions import Evidence
from evalkit.records.scorecard import Comparison, Counts, Estimate, Interval
from evalkit.registry import find
from evalkit.spectral.compare import compare_weights
from evalkit.stats.paired import LEVELS


def weight(
    value: float | None,
    ends: tuple[float, float] | None = None,
    planned: int = 38,
    missing: int = 0,
    **changes: Any,
) -> Estimate:
    low, high = ends or (value, value)
    method = "exact" if ends is None else "summary of the ends"
    held = None
    if low is not None and high is not None:
        held = Interval(low=low, high=high, level=0.95, method=method)
    fields: dict[str, Any] = {
        "model": "candidate", "task": "weights", "metric": "drift", "slice": None, "kind": "census", "unit": "fraction",
        "better": "lower", "signature": "drift|base:abc|version:1", "value": value, "interval": held,
    }  # fmt: skip
    scored = planned - missing
    held_counts = Counts(
        planned=planned, completed=scored, failed=missing, scored=scored, unscored=0
    )
    return Estimate(counts=held_counts, **{**fields, **changes})


def compared(ours: Estimate, theirs: Estimate) -> Comparison:
    (found,) = compare_weights([ours], [theirs])
    return found


def decision(name: str, comparison: Comparison, **options: Any) -> str:
    make = find("condition", name).make
    condition = make(make.Options.model_validate(options))
    status: str = condition.decide(Evidence(comparison.name, None, comparison)).status
    return status


def test_what_was_computed_differs_by_a_point_at_every_level() -> None:
    found = compared(weight(0.30), weight(0.10))
    assert found.status == "compared" and isclose(found.difference or 0, 0.2)
    assert [i.level for i in found.intervals] == list(LEVELS)
    assert all(i.low == i.high == found.difference for i in found.intervals)
    assert found.interval is not None and found.interval.level == 0.95


@pytest.mark.parametrize(
    ("ours", "theirs", "margin", "status"),
    [
        (0.11, 0.10, 0.02, "pass"),
        (0.13, 0.10, 0.02, "fail"),
        (0.05, 0.10, 0.02, "pass"),
    ],
)
def test_no_worse_than_decides_on_weights(
    ours: float, theirs: float, margin: float, status: str
) -> None:
    found = compared(weight(ours), weight(theirs))
    assert decision("no_worse_than", found, margin=margin) == status


def test_relative_margins_and_shares_work_on_exact_numbers() -> None:
    found = compared(weight(1.9, better="higher"), weight(2.0, better="higher"))
    assert decision("no_worse_than", found, margin=0.1, relative=True) == "pass"
    assert decision("no_worse_than", found, margin=0.04, relative=True) == "fail"
    assert decision("recovers", found, share=0.9) == "pass"
    assert decision("recovers", found, share=0.97) == "fail"


def test_equivalence_and_superiority_work_on_exact_numbers() -> None:
    found = compared(weight(0.09), weight(0.10))
    assert decision("better_than", found) == "pass"
    assert decision("equivalent", found, margin=0.02) == "pass"
    assert decision("equivalent", found, margin=0.005) == "fail"


def test_two_fits_square_and_add() -> None:
    """Zou and Donner's limits, by hand: 3 − 4 with halves 0.3 below and 0.4 above against 0.4 and 0.3."""
    found = compared(weight(3.0, (2.7, 3.4)), weight(4.0, (3.6, 4.3)))
    assert found.interval is not None
    assert isclose(found.interval.low, -1 - sqrt(0.3**2 + 0.3**2))
    assert isclose(found.interval.high, -1 + sqrt(0.4**2 + 0.4**2))


def test_intervals_at_higher_levels_hold_those_at_lower_ones() -> None:
    intervals = compared(weight(3.0, (2.7, 3.4)), weight(3.1, (2.9, 3.2))).intervals
    for inner, outer in pairwise(intervals):
        assert outer.low < inner.low < inner.high < outer.high


def test_a_fit_leaves_a_small_margin_open() -> None:
    found = compared(weight(3.0, (2.7, 3.4)), weight(3.1, (2.9, 3.2)))
    assert decision("no_worse_than", found, margin=0.1) == "inconclusive"
    assert decision("no_worse_than", found, margin=1.0) == "pass"


@pytest.mark.parametrize("side", ["candidate", "baseline"])
def test_a_tensor_that_was_not_measured_leaves_the_difference_without_an_interval(
    side: str,
) -> None:
    whole, partial = weight(0.1), weight(0.1, missing=1)
    found = compared(*((partial, whole) if side == "candidate" else (whole, partial)))
    assert found.intervals == () and f"1 of the {side}'s 38 tensors" in found.warnings[0]
    assert decision("no_worse_than", found, margin=0.5) == "inconclusive"


def test_numbers_with_other_signatures_are_never_compared() -> None:
    found = compared(weight(0.1), weight(0.1, signature="drift|base:xyz|version:1"))
    assert (
        found.status == "incomparable" and "base:abc" in found.reason and "base:xyz" in found.reason
    )
    assert decision("no_worse_than", found, margin=0.5) == "incomparable"


def test_a_number_that_the_baseline_lacks_is_incomparable() -> None:
    (found,) = compare_weights([weight(0.1)], [])
    assert found.status == "incomparable" and found.reason == "the baseline has no such number"


def test_a_model_without_a_value_has_no_difference() -> None:
    found = compared(weight(None, missing=38), weight(0.1))
    assert found.status == "no pairs" and found.difference is None
    assert decision("no_worse_than", found, margin=0.5) == "missing"


def test_slices_are_compared_with_their_like_and_left_out_where_the_baseline_has_none() -> None:
    ours = [weight(0.1), weight(0.2, slice="depth=0"), weight(0.3, slice="depth=1")]
    theirs = [weight(0.0, slice="depth=1"), weight(0.05)]
    found = {c.name: c.difference for c in compare_weights(ours, theirs)}
    assert found == {"weights/drift": 0.05, "weights/drift@depth=1": 0.3}


@given(st.floats(-5, 5), st.floats(0, 2), st.floats(0, 2))
def test_a_model_against_itself_never_fails(value: float, below: float, above: float) -> None:
    """Law: A against A is no regression, whatever the fit."""
    held = weight(value, (value - below, value + above))
    found = compared(held, held)
    assert found.difference == 0
    assert decision("no_worse_than", found, margin=0.01) in ("pass", "inconclusive")
