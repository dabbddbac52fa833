"""Numbers read from weights in full: points decide, fits may leave open, and what was not measured never passes."""

from __future__ import annotations

from typing import Any

import pytest
from gate_evidence import counts, decide, estimate, interval
from hypothesis import given
from hypothesis import strategies as st

from evalkit.gates.conditions import Decision
from evalkit.records.scorecard import Estimate
from evalkit.spectral.compare import compare_weights


def census(
    value: float | None,
    ends: tuple[float, float] | None = None,
    planned: int = 38,
    measured: int | None = None,
    **changes: Any,
) -> Estimate:
    """A number over ``planned`` tensors; a point unless ``ends`` are given."""
    low, high = ends or (value, value)
    held = None if low is None or high is None else interval(low, high, method="exact")
    fields: dict[str, Any] = {
        "task": "weights", "metric": "integrity.nonfinite", "kind": "census", "unit": "findings",
        "better": "lower", "signature": "integrity.nonfinite|version:1",
    }  # fmt: skip
    return estimate(value, held, counts(planned, measured), **{**fields, **changes})


def test_a_check_without_findings_passes_at_most_0() -> None:
    decision = decide("at_most", census(0.0), value=0)
    assert decision.status == "pass"
    assert decision.reason == "weights/integrity.nonfinite is 0, at or below 0"


def test_a_finding_fails_at_most_0_and_its_number_is_a_whole_one() -> None:
    decision = decide("at_most", census(3.0), value=0)
    assert decision.status == "fail"
    assert decision.reason == "weights/integrity.nonfinite is 3, above 0"


def test_a_number_at_the_limit_keeps_it_from_either_side() -> None:
    at = census(0.12, metric="drift")
    assert decide("at_most", at, value=0.12).status == "pass"
    assert decide("at_least", at, value=0.12).status == "pass"
    assert decide("inside", at, low=0.12, high=0.2).status == "pass"


def test_a_tensor_that_was_not_measured_keeps_a_rule_from_passing() -> None:
    decision = decide("at_most", census(0.0, measured=37), value=0)
    assert decision.status == "inconclusive"
    assert "1 of 38 tensors was not measured" in decision.reason


def test_a_tensor_that_was_not_measured_does_not_keep_a_rule_from_failing() -> None:
    assert decide("at_most", census(2.0, measured=37), value=0).status == "fail"


def test_a_fit_across_the_limit_is_undecided_and_nobody_is_told_to_get_more_samples() -> None:
    alpha = census(5.2, (3.9, 6.5), metric="alpha", unit="exponent")
    decision = decide("at_most", alpha, value=6.0)
    assert decision.status == "inconclusive"
    assert "the fit behind it leaves open whether it is at or below 6" in decision.reason
    assert "samples" not in decision.reason
    assert "5.200 (95 % interval 3.900 to 6.500)" in decision.reason


def test_a_fit_wholly_beyond_the_limit_is_decided() -> None:
    alpha = census(5.2, (3.9, 6.5), metric="alpha")
    assert decide("at_most", alpha, value=7.0).status == "pass"
    assert decide("at_most", alpha, value=3.0).status == "fail"
    assert decide("at_least", alpha, value=7.0).status == "fail"
    assert decide("inside", alpha, low=2.0, high=6.6).status == "pass"
    assert decide("inside", alpha, low=2.0, high=6.0).status == "inconclusive"


def test_a_number_that_does_not_exist_is_missing_with_the_reason() -> None:
    why = ("38 without a number: it holds NaN or infinity",)
    nothing = census(None, measured=0, metric="drift", warnings=why)
    decision = decide("at_most", nothing, value=0.1)
    assert decision.status == "missing"
    assert "measured on none of 38 tensors" in decision.reason and "NaN" in decision.reason


def test_a_fit_without_an_interval_decides_nothing() -> None:
    bare = census(3.0, metric="alpha", warnings=("a fit behind it has no interval",))
    decision = decide("at_most", bare.model_copy(update={"interval": None}), value=6.0)
    assert decision.status == "inconclusive"
    assert "without an interval (a fit behind it has no interval)" in decision.reason


def test_a_point_is_its_own_exact_interval_and_a_fit_has_none() -> None:
    assert decide("at_most", census(0.0), value=0, exact=True).status == "pass"
    fitted = census(3.0, (2.5, 3.5), metric="alpha")
    assert decide("at_most", fitted, value=6.0, exact=True).status == "inconclusive"


def test_coverage_is_told_in_tensors() -> None:
    decision = decide("coverage_at_least", census(0.0, measured=19), value=1.0)
    assert decision.status == "fail"
    assert "measured on 19 of 38 tensors" in decision.reason


@given(
    value=st.floats(-10, 10),
    below=st.floats(0, 5),
    above=st.floats(0, 5),
    limit=st.floats(-15, 15),
    missing=st.integers(0, 3),
)
def test_more_tensors_without_a_number_never_help(
    value: float, below: float, above: float, limit: float, missing: int
) -> None:
    """Law: taking measurements away may undo a pass and never makes one; a fail stays a fail."""
    ends = (value - below, value + above)
    whole = decide("at_most", census(value, ends), value=limit).status
    partial = decide("at_most", census(value, ends, measured=38 - missing), value=limit).status
    assert partial == (whole if whole != "pass" or not missing else "inconclusive")


@pytest.mark.parametrize("name", ["at_least", "at_most"])
def test_a_floor_mirrors_a_ceiling(name: str) -> None:
    """Law: negating number and limit swaps the conditions."""
    other = "at_most" if name == "at_least" else "at_least"
    for value, limit in ((1.0, 2.0), (2.0, 1.0), (1.5, 1.5)):
        here = decide(name, census(value), value=limit).status
        assert here == decide(other, census(-value), value=-limit).status


def against(ours: Estimate, theirs: Estimate, name: str, **options: Any) -> Decision:
    (comparison,) = compare_weights([ours], [theirs])
    return decide(name, comparison, **options)


def test_on_the_margin_is_not_within_it() -> None:
    ours, theirs = census(4.0), census(3.0)
    assert against(ours, theirs, "no_worse_than", margin=1).status == "fail"
    assert against(ours, theirs, "no_worse_than", margin=1.5).status == "pass"
    assert against(theirs, theirs, "better_than").status == "fail"


def test_nobody_is_told_to_get_more_pairs_where_a_fit_leaves_a_difference_open() -> None:
    ours, theirs = census(5.2, (3.9, 6.5)), census(5.0, (4.0, 6.0))
    decision = against(ours, theirs, "no_worse_than", margin=0.5)
    assert decision.status == "inconclusive"
    assert decision.reason.endswith("the fits behind it leave it open")


def test_a_relative_margin_is_no_easier_than_the_same_absolute_one() -> None:
    ours, theirs = census(3.1, (3.0, 9.0)), census(3.1, (3.1, 3.1))
    assert against(ours, theirs, "no_worse_than", margin=4.65).status == "inconclusive"
    assert (
        against(ours, theirs, "no_worse_than", margin=1.5, relative=True).status == "inconclusive"
    )
    on_it = against(census(4.0), census(2.0), "no_worse_than", margin=1.0, relative=True)
    assert on_it.status == "fail", "what is exact and on the limit is not beyond it"
