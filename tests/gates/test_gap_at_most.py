"""Gates on gaps between groups: ``gap_at_most``, and limits, by the interval and never by the point."""

from __future__ import annotations

import pytest
from gate_evidence import counts, estimate, interval
from hypothesis import given
from hypothesis import strategies as st

from evalkit.gates.conditions import Decision, Evidence
from evalkit.records.scorecard import Cell, Disparity
from evalkit.registry import find


def evidence(
    value=0.2, low=0.12, high=0.28, *, n=400, scored=None, form="difference", missing=0, **changes
):
    """A gap of two groups of ``n``; the lower has so many ``missing`` samples."""
    cells = (
        Cell(
            measure="m", group="Elm", n=n, value=0.7, interval=interval(0.65, 0.75), missing=missing
        ),
        Cell(measure="m", group="Oak", n=n, value=0.9, interval=interval(0.86, 0.93)),
        Cell(measure="m", group="Ash", n=3, value=1.0, interval=None, left_out="only 3 samples"),
    )
    told = {"expected": 0.03, "low": "Elm", "high": "Oak", "measure": "m", **changes}
    disparity = Disparity(
        model="candidate",
        task="t",
        metric="m.gap",
        by="district",
        form=form,
        value=value,
        cells=cells,
        **told,
    )
    planned = 2 * n + missing
    held = estimate(
        value,
        None if low is None else interval(low, high),
        counts(planned, planned - missing if scored is None else scored),
        task="t",
        metric="m.gap",
        slice="district",
        kind="gap",
        better="lower" if form == "difference" else "higher",
        warnings=(told.get("reason", "it says why"),) if value is None or low is None else (),
    )
    return Evidence(held.name, held, None, None, disparity)


def decide(held, require="gap_at_most", **options) -> Decision:
    make = find("condition", require).make
    return make(make.Options.model_validate(options)).decide(held)


@pytest.mark.parametrize(
    ("value", "tolerate", "status"),
    [
        (0.1, None, "fail"),
        (0.1, 0.5, "fail"),
        (0.12, None, "inconclusive"),
        (0.15, 0.25, "inconclusive"),
        (0.15, 0.28, "pass"),
        (0.28, None, "pass"),
    ],
)
def test_it_fails_where_the_whole_interval_is_wider_and_passes_within_what_is_tolerated(
    value, tolerate, status
):
    assert decide(evidence(), value=value, tolerate=tolerate).status == status


@pytest.mark.parametrize(
    ("value", "tolerate", "status"),
    [(0.9, None, "fail"), (0.8, None, "inconclusive"), (0.8, 0.7, "pass"), (0.72, None, "pass")],
)
def test_of_a_ratio_the_ends_change_places(value, tolerate, status):
    held = evidence(0.78, 0.72, 0.85, form="ratio")
    assert decide(held, value=value, tolerate=tolerate).status == status


def test_its_reason_names_both_groups_with_rate_number_and_interval_and_what_chance_shows():
    assert decide(evidence(), value=0.1).reason == (
        "t/m.gap@district: m is lowest for district=Elm (0.700 on 400 samples, 95 % interval 0.650 to 0.750) and "
        "highest for district=Oak (0.900 on 400 samples, 95 % interval 0.860 to 0.930); the gap is 0.200 (95 % "
        "interval 0.120 to 0.280), wholly above 0.1; if the groups did not differ, chance alone would show 0.030"
    )


def test_undecided_it_says_how_many_samples_would_show_it():
    told = decide(evidence(), value=0.15).reason
    assert (
        "so that it is not shown to be wider than 0.15: at this value it needs about 2,050" in told
    )
    told = decide(evidence(0.1, 0.0, 0.2), value=0.15).reason
    assert "so that it is not shown to be no wider than 0.15: at this value" in told


def test_samples_without_a_score_may_keep_it_from_passing_and_never_fail_it():
    assert decide(evidence(missing=0), value=0.05, tolerate=0.3).status == "fail"
    whole, short = (evidence(low=0.0, missing=m) for m in (0, 20))
    assert decide(whole, value=0.05, tolerate=0.3).status == "pass"
    found = decide(short, value=0.05, tolerate=0.3)
    assert found.status == "inconclusive"
    # 20 of 420 in Elm may be anything: the gap may be wider by 20/420.
    assert found.interval.high == pytest.approx(0.28 + 20 / 420)
    assert (
        "20 of 820 samples lack a score or a group: with them it could reach 0.328" in found.reason
    )
    assert "so that it is not shown to keep to 0.3" in found.reason
    assert decide(evidence(missing=200), value=0.1).status == "fail"
    assert decide(evidence(missing=200), value=0.13).status == "inconclusive"


def test_of_a_ratio_samples_without_a_score_lower_the_least_and_raise_the_greatest():
    held = evidence(0.8, 0.75, 1.0, form="ratio", missing=20)
    found = decide(held, value=0.9, tolerate=0.7)
    # The greatest is .9 and the least at least .75 of it; 20 of 420 may be anything in either.
    moved = 20 / 420
    assert found.interval.low == pytest.approx((0.75 * 0.9 - moved) / (0.9 + moved))
    assert found.interval.high == 1
    assert found.status == "inconclusive"


def test_samples_without_a_group_may_be_in_any():
    held = evidence(low=0.0, scored=800 - 40)
    found = decide(held, value=0.05, tolerate=0.3)
    assert found.interval.high == pytest.approx(0.28 + 2 * 40 / 440)


def test_what_has_no_value_or_no_interval_never_passes():
    nothing = evidence(None, None, None, reason="only the group Elm has enough samples")
    found = decide(nothing, value=1.0)
    assert found.status == "missing"
    assert "only the group Elm has enough samples" in found.reason
    unknown = decide(evidence(0.0, None, None), value=1.0)
    assert unknown.status == "inconclusive"
    assert "it says why" in unknown.reason


def test_what_is_no_gap_is_missing():
    held = estimate(0.0, interval(0.0, 0.01), counts(100))
    found = decide(Evidence(held.name, held, None), value=0.5)
    assert (found.status, found.reason) == ("missing", "extract/valid is no gap between groups")


def test_a_ceiling_reads_the_interval_of_a_gap_and_names_its_groups():
    assert decide(evidence(), "at_most", value=0.1).status == "fail"
    assert decide(evidence(), "at_most", value=0.2).status == "inconclusive"
    found = decide(evidence(), "at_most", value=0.3)
    assert found.status == "pass"
    assert "lowest for district=Elm (0.700 on 400 samples" in found.reason
    assert decide(evidence(missing=20), "at_most", value=0.3).status == "inconclusive"
    assert decide(evidence(), "inside", low=0.0, high=0.3).status == "pass"
    assert decide(evidence(), "at_least", value=0.3).status == "fail"


def test_a_gap_has_no_exact_interval():
    found = decide(evidence(), "at_most", value=0.9, exact=True)
    assert found.status == "inconclusive"
    assert "no exact interval" in found.reason


def test_a_ceiling_on_a_gap_without_a_value_says_why():
    nothing = evidence(None, None, None, reason="only the group Elm has enough samples")
    assert decide(nothing, "at_most", value=1.0).reason == (
        "t/m.gap@district has no value: only the group Elm has enough samples"
    )


@pytest.mark.parametrize("options", [{"value": -0.1}, {"value": 0.1, "tolerate": -1}, {}])
def test_limits_that_no_gap_can_have_are_refused(options):
    with pytest.raises(ValueError, match=r"value|tolerate"):
        decide(evidence(), **options)


SHARES = st.floats(0, 1)


@given(st.tuples(SHARES, SHARES, SHARES).map(sorted), SHARES, SHARES, st.integers(0, 400))
def test_a_wider_limit_or_a_sample_more_with_a_score_is_never_worse(ends, value, more, missing):
    low, middle, high = ends
    rank = {"fail": 0, "inconclusive": 1, "pass": 2}

    def answer(missing, value):
        return rank[decide(evidence(middle, low, high, missing=missing), value=value).status]

    assert answer(missing, value) <= answer(missing, min(1.0, value + more))
    if answer(0, value) != 0:
        assert answer(missing, value) <= answer(0, value)
    assert (answer(missing, value) == 0) == (answer(0, value) == 0)
