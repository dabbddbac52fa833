"""Waivers change what an outcome counts as: never a number, never what was found, never for the worse."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from gate_evidence import comparison, rate, scorecard, tally
from hypothesis import given
from hypothesis import strategies as st

from evalkit.errors import UsageError
from evalkit.gates.evaluate import evaluate
from evalkit.records.suite import GateSpec, WaiverSpec

TODAY = date(2026, 11, 21)


def waiver(rule="valid", slice_=None, expires=TODAY, **changes):
    fields = {"owner": "Ada Lovelace", "reason": "The parser ships with release 4.2", **changes}
    return WaiverSpec(rule=rule, slice=slice_, expires=expires, **fields)


def gate(*waivers, estimate="extract/valid", name="g", **changes):
    rule = {"id": "valid", "estimate": estimate, "require": "at_least", "options": {"value": 0.9}}
    return GateSpec.model_validate(
        {"gate": name, "rules": [{**rule, **changes}], "waivers": [w.model_dump() for w in waivers]}
    )


def verdict(*waivers, held=(), tasks=(), today=TODAY, **changes):
    return evaluate([gate(*waivers, **changes)], scorecard(*held, tasks=tasks), today=today)


PASSING, UNDECIDED, FAILING = rate(295, 300), rate(272, 300), rate(200, 300)


@pytest.mark.parametrize("held", [[UNDECIDED], [FAILING], []])
def test_a_waived_outcome_does_not_block_and_shows_its_waiver_and_its_numbers(held):
    bare, found = verdict(held=held), verdict(waiver(), held=held)
    assert (bare.status == "pass", found.status, found.exit_code) == (False, "pass", 0)
    (before,), (after,) = bare.outcomes, found.outcomes
    assert (after.counts_as, after.waiver) == ("waived", waiver())
    assert after.model_copy(update={"counts_as": before.counts_as, "waiver": None}) == before
    assert found.reason == "0 of 1 blocking outcomes passed, 1 waived: valid"


def test_a_waiver_that_is_not_needed_is_noted_and_not_used():
    found = verdict(waiver(), held=[PASSING])
    assert (found.outcomes[0].counts_as, found.outcomes[0].waiver) == ("pass", None)
    assert found.reason == "every blocking outcome passed (1)"
    assert found.notes == (
        "gate g: the waiver of rule valid (Ada Lovelace, until 2026-11-21) was not needed: what it covers passed",
    )


def test_a_waiver_of_one_slice_leaves_the_others_blocking():
    held = [rate(50, 100, slice=f"region={region}") for region in ("eu", "us")]
    found = verdict(waiver(slice_="region=eu"), held=held, estimate="extract/valid@region=*")
    assert [o.counts_as for o in found.outcomes] == ["waived", "fail"]
    assert (found.status, found.notes) == ("fail", ())


def test_a_waiver_without_a_slice_covers_all_that_the_rule_matches_and_a_narrow_one_goes_first():
    held = [rate(50, 100, slice=f"region={region}") for region in ("eu", "us")]
    waivers = [waiver(), waiver(slice_="region=us", owner="Grace Hopper")]
    found = verdict(*waivers, held=held, estimate="extract/valid@region=*")
    assert [o.waiver and o.waiver.owner for o in found.outcomes] == ["Ada Lovelace", "Grace Hopper"]


def test_a_waiver_that_matched_nothing_in_the_run_is_noted():
    held = [rate(99, 100, slice="region=us")]
    found = verdict(waiver(slice_="region=eu"), held=held, estimate="extract/valid@region=*")
    assert found.notes == (
        "gate g: the waiver of rule valid on region=eu (Ada Lovelace, until 2026-11-21) matched no outcome of this run",
    )


def test_a_slices_waiver_does_not_cover_a_pattern_that_matched_nothing_at_all():
    found = verdict(waiver(slice_="region=eu"), held=[PASSING], estimate="extract/valid@region=*")
    assert (found.status, found.outcomes[0].counts_as) == ("inconclusive", "missing")


def test_a_waiver_holds_in_its_own_gate_only():
    gates = [gate(waiver()), gate(name="h")]
    found = evaluate(gates, scorecard(FAILING), today=TODAY)
    assert [o.counts_as for o in found.outcomes] == ["waived", "fail"]


def test_a_waived_regression_stays_in_its_family():
    rules = [
        {
            "id": m,
            "estimate": f"extract/{m}",
            "require": "no_worse_than",
            "options": {"margin": 0.02},
        }
        for m in ("a", "b")
    ]
    spec = {"gate": "g", "family": "any_regression", "rules": rules}
    card = scorecard(*(comparison(5, 60, 300, metric=m) for m in ("a", "b")))
    bare = evaluate([GateSpec.model_validate(spec)], card)
    found = evaluate(
        [GateSpec.model_validate({**spec, "waivers": [waiver("a").model_dump()]})],
        card,
        today=TODAY,
    )
    assert [o.counts_as for o in found.outcomes] == ["waived", "fail"]
    assert [o.p_adjusted for o in found.outcomes] == [o.p_adjusted for o in bare.outcomes]


def test_an_incomplete_run_is_not_made_complete_by_a_waiver():
    found = verdict(waiver(), held=[FAILING], tasks=(tally(complete=False),))
    assert (found.status, found.outcomes[0].counts_as) == ("incomplete", "waived")


def test_the_last_day_counts_and_the_day_after_is_refused():
    last = waiver(expires=TODAY)
    assert verdict(last, held=[FAILING], today=TODAY).status == "pass"
    with pytest.raises(UsageError, match="gate g: the waiver of rule valid expired on 2026-11-21"):
        verdict(last, held=[FAILING], today=TODAY + timedelta(days=1))


def test_without_a_day_waivers_cannot_be_judged_and_gates_without_them_can():
    with pytest.raises(UsageError, match=r"without today's date \(gates: g\)"):
        verdict(waiver(), held=[FAILING], today=None)
    assert verdict(held=[FAILING], today=None).status == "fail"


BEST_FIRST = ["pass", "inconclusive", "fail"]
WAIVERS = st.lists(
    st.builds(
        waiver,
        st.sampled_from(["valid", "other", "elsewhere"]),
        st.sampled_from([None, "region=eu", "region=us"]),
    ),
    max_size=4,
)


@given(st.lists(st.integers(0, 100), min_size=3, max_size=3), WAIVERS, st.booleans())
def test_a_waiver_changes_no_number_and_never_makes_a_verdict_worse(right, waivers, missing_fails):
    held = [
        rate(count, 100, slice=slice_)
        for count, slice_ in zip(right, (None, "region=eu", "region=us"), strict=True)
    ]
    rules = [
        {
            "id": i,
            "estimate": e,
            "require": "at_least",
            "options": {"value": 0.8},
            "on_missing": on_missing,
        }
        for i, e in (
            ("valid", "extract/valid@region=*"),
            ("other", "extract/valid"),
            ("elsewhere", "x/y"),
        )
        for on_missing in ("fail" if missing_fails else "missing",)
    ]

    def decided(*held_waivers):
        spec = {"gate": "g", "rules": rules, "waivers": [w.model_dump() for w in held_waivers]}
        return evaluate([GateSpec.model_validate(spec)], scorecard(*held), today=TODAY)

    bare, found = decided(), decided(*waivers)
    assert BEST_FIRST.index(found.status) <= BEST_FIRST.index(bare.status)
    for before, after in zip(bare.outcomes, found.outcomes, strict=True):
        assert after.model_copy(update={"counts_as": before.counts_as, "waiver": None}) == before
        assert after.counts_as in (before.counts_as, "waived")
        assert (after.counts_as == "waived") == (after.waiver is not None)
        if before.counts_as == "pass":
            assert after == before
