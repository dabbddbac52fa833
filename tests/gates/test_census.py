"""Rules on weights: which there are, which gate decides by itself, and when a run need not go on."""

from __future__ import annotations

from datetime import date

import pytest

from evalkit.cli.weights import failed_on_weights
from evalkit.gates.census import census_fields, default_gate, reads_census, without_census
from evalkit.gates.evaluate import condition_of, evaluate
from evalkit.records.scorecard import (
    Circumstances,
    Comparison,
    Counts,
    Estimate,
    Interval,
    Provenance,
    Scorecard,
    TaskTally,
)
from evalkit.records.suite import GateSpec, RuleSpec, SpectralTask, SuiteSpec
from evalkit.stats.paired import LEVELS

TASK = SpectralTask(kind="spectral", name="weights")
SUITE = SuiteSpec.model_validate(
    {
        "suite": "s",
        "version": 1,
        "tasks": [
            {"kind": "perplexity", "name": "lm", "dataset": {"path": "x.jsonl"}, "text": "x"},
            TASK.model_dump(),
        ],
    }
)


def number(metric, value, slice_=None, scored=10):
    counts = Counts(planned=10, completed=10, failed=0, scored=scored, unscored=10 - scored)
    return Estimate(
        model="candidate",
        task="weights",
        metric=metric,
        slice=slice_,
        kind="census",
        value=value,
        interval=Interval(low=value, high=value, level=0.95, method="exact"),
        counts=counts,
        unit="findings",
        better="lower",
        signature="s",
    )


def card(*estimates, comparisons=()):
    return Scorecard(
        provenance=Provenance(
            suite="s",
            suite_version=1,
            suite_digest="0" * 64,
            models={},
            datasets={"lm": "1" * 64},
            seed=0,
            versions={},
        ),
        estimates=estimates,
        comparisons=comparisons,
        tasks=(
            TaskTally(
                model="candidate",
                task="weights",
                kind="spectral",
                dataset="",
                planned=10,
                requests=0,
            ),
        ),
        circumstances=Circumstances(
            started="", finished="", command=(), git_commit=None, hardware={}, host={}, asked=0,
            reused=0, seconds=0.0,
        ),
    )  # fmt: skip


def gate(*rules, **said):
    full = [{"id": f"r{n}", "require": "at_most", **rule} for n, rule in enumerate(rules)]
    return GateSpec.model_validate({"gate": said.pop("name", "g"), "rules": full, **said})


def rule(estimate, value=0, **said):
    return {"estimate": estimate, "options": {"value": value}, **said}


def stops(scorecard, *gates):
    return failed_on_weights(gates, evaluate(gates, scorecard), scorecard, SUITE)


NAN = number("integrity.nonfinite", 2)
WHOLE = number("integrity.nonfinite", 0)
HELD = (number("integrity.missing", 0), number("integrity.shape", 0), number("changed", 0.99))
"""What says that all was held against a base model."""


def test_a_blocking_rule_that_fails_on_weights_ends_the_run():
    assert stops(card(NAN), gate(rule("weights/integrity.*")))
    assert not stops(card(WHOLE), gate(rule("weights/integrity.*")))


@pytest.mark.parametrize("severity", ["warn", "info"])
def test_a_rule_that_only_warns_does_not(severity):
    assert not stops(card(NAN), gate(rule("weights/integrity.*", severity=severity)))


def test_what_is_undecided_on_weights_does_not_unless_it_counts_as_a_failure():
    half = number("integrity.nonfinite", 0, scored=5)
    assert not stops(card(half), gate(rule("weights/integrity.*")))
    assert stops(card(half), gate(rule("weights/integrity.*", on_inconclusive="fail")))


def test_a_rule_on_answers_that_were_not_asked_for_yet_does_not():
    """It is missing, and will not be when they are asked."""
    unasked = rule("lm/perplexity.byte", on_missing="fail")
    assert not stops(card(WHOLE), gate(unasked))
    assert not stops(card(WHOLE), gate(unasked, rule("weights/integrity.*")))


def test_a_rule_on_weights_that_will_never_be_measured_does_where_that_is_a_failure():
    assert stops(card(WHOLE), gate(rule("weights/drift", on_missing="fail")))
    assert not stops(card(WHOLE), gate(rule("weights/drift")))


def test_a_waived_failure_does_not():
    waiver = {"rule": "r0", "owner": "o", "reason": "r", "expires": "2999-01-01"}
    waived = gate(rule("weights/integrity.*"), waivers=[waiver])
    verdict = evaluate([waived], card(NAN), today=date(2026, 1, 1))
    assert not failed_on_weights([waived], verdict, card(NAN), SUITE)


def worse():
    """A difference of the weights from the baseline's, exact."""
    intervals = tuple(Interval(low=1, high=1, level=level, method="exact") for level in LEVELS)
    return Comparison(
        task="weights", metric="drift", slice=None, status="compared", candidate=2.0, baseline=1.0,
        difference=1.0, interval=intervals[0], intervals=intervals, pairs=10, better="lower",
    )  # fmt: skip


def test_what_a_family_decides_together_waits_for_the_comparisons_to_come():
    """Alone the regression is shown; among many comparisons Holm's adjustment may leave it open."""
    scorecard = card(number("drift", 2.0), comparisons=[worse()])
    against = {
        "estimate": "weights/drift",
        "require": "no_worse_than",
        "options": {"margin": 0.1},
    }
    together = gate(against, family="any_regression")
    assert evaluate([together], scorecard).status == "fail"
    assert not stops(scorecard, together)
    assert stops(scorecard, gate(against))
    # What the family has nothing to do with decides as ever.
    assert stops(card(NAN), gate(rule("weights/integrity.*"), family="any_regression"))


def spec(estimate):
    return RuleSpec(id="r", estimate=estimate, require="at_most", options={"value": 0})


@pytest.mark.parametrize(
    ("estimate", "reads"),
    [
        ("weights/drift", True),
        ("weights/*", True),
        ("*/drift@tensor=model.*", True),
        ("weights/drift@region=eu", False),
        ("weights/alpha", False),
        ("lm/perplexity.byte", False),
    ],
)
def test_whether_a_rule_reads_weights_is_known_from_its_name(estimate, reads):
    assert reads_census(spec(estimate), [TASK]) == reads


def test_rules_on_weights_are_left_out_with_their_waivers_where_only_answers_count():
    waivers = [
        {"rule": name, "owner": "o", "reason": "r", "expires": "2999-01-01"}
        for name in ("r0", "r1")
    ]
    both = gate(rule("weights/drift"), rule("lm/perplexity.byte"), waivers=waivers)
    left = without_census(both, [TASK], lambda _: False)
    assert [r.id for r in left.rules] == ["r1"] == [w.rule for w in left.waivers]
    assert without_census(gate(rule("weights/drift")), [TASK], lambda _: False) is None
    alike = gate(rule("*/*"))
    assert without_census(alike, [TASK], lambda _: True) == alike


@pytest.mark.parametrize("has_base", [False, True])
@pytest.mark.parametrize("spectra", [False, True])
def test_the_built_in_gate_holds_rules_on_what_will_be_measured(has_base, spectra):
    """Else a rule would be missing, and nothing could ever pass."""
    task = TASK.model_copy(update={"spectra": spectra})
    built_in = default_gate(task, has_base=has_base)
    names = census_fields(task)
    for each in built_in.rules:
        condition_of(each)
        assert reads_census(each, [task])
        blocks = each.id == "integrity" or each.id.startswith("compared-")
        assert each.severity == ("block" if blocks else "warn")
        assert each.estimate in names or each.id == "integrity"
    assert (len(built_in.rules) > 1) == has_base


def test_the_built_in_gate_reads_checks_and_never_a_measure_of_a_like_name():
    """``weights/drift.*`` would match drift.max, which is no count of findings."""
    healthy = [
        WHOLE,
        *HELD,
        number("drift", 0.02),
        number("drift.max", 0.03),
        number("scale.collapse", 0),
        number("drift.unrelated", 0),
        number("drift.outlier", 0),
        number("drift.unchanged", 0),
    ]
    verdict = evaluate([default_gate(TASK, has_base=True)], card(*healthy))
    assert verdict.status == "pass"
    assert {o.status for o in verdict.outcomes} == {"pass"}


def test_the_built_in_gate_blocks_faults_and_lets_what_moved_far_pass_with_a_warning():
    built_in = default_gate(TASK, has_base=True)
    told = {"scale.collapse": 1, "drift.unrelated": 0, "drift.outlier": 3}
    moved = [WHOLE, *HELD, *(number(name, found) for name, found in told.items())]
    assert evaluate([built_in], card(*moved)).status == "pass"
    assert evaluate([built_in], card(NAN, *moved[1:])).status == "fail"
    unseen = number("integrity.nonfinite", 0, scored=9)
    assert evaluate([built_in], card(unseen, *moved[1:])).status == "inconclusive"


@pytest.mark.parametrize("left", [0, 1, 2])
def test_what_was_not_held_against_the_base_never_passes_by_the_built_in_gate(left):
    built_in = default_gate(TASK, has_base=True)
    others = [held for place, held in enumerate(HELD) if place != left]
    assert evaluate([built_in], card(WHOLE, *others)).status == "inconclusive"
    unread = number("changed", 0, scored=9)
    assert evaluate([built_in], card(WHOLE, *HELD[:2], unread)).status == "inconclusive"


@pytest.mark.parametrize(
    ("estimate", "told"),
    [
        ("weights/drift", "weights/drift was not measured: it takes a base model"),
        ("weights/alpha.max", "weights/alpha.max was not measured: it takes spectra: true"),
        (
            "weights/traps",
            "weights/traps was not measured: it takes spectra: true and traps: true",
        ),
        ("weights/integrity.merge", "it takes a base model and the merged adapter"),
        ("weights/norm", "weights/norm was not measured"),
        (
            "weights/integrity.nonfinit",
            "named weights/integrity.nonfinit (did you mean weights/integrity.nonfinite?)",
        ),
    ],
)
def test_a_number_that_was_not_measured_is_told_with_what_it_takes(estimate, told):
    (outcome,) = evaluate([gate(rule(estimate))], card(WHOLE)).outcomes
    assert outcome.status == "missing" and outcome.reason.endswith(told)


def test_where_the_baseline_is_an_earlier_run_a_rule_says_that_it_is_no_base():
    earlier = card(WHOLE).model_copy(update={"baseline_run": "1" * 64})
    (drift,) = evaluate([gate(rule("weights/drift"))], earlier).outcomes
    assert drift.reason.endswith("the baseline is an earlier run, whose weights are not opened")
    (alpha,) = evaluate([gate(rule("weights/alpha"))], earlier).outcomes
    assert alpha.reason.endswith("it takes spectra: true")


def test_power_is_not_told_of_rules_on_weights_that_are_missing_or_undecided():
    rules = [rule("weights/drift"), rule("weights/integrity.*"), rule("lm/perplexity.byte")]
    half = number("integrity.nonfinite", 0, scored=5)
    (family,) = evaluate([gate(*rules)], card(half)).families
    assert family.told.startswith("3 blocking") and "power" not in family.told


def test_weights_that_could_not_be_read_at_all_never_pass():
    assert evaluate([default_gate(TASK, has_base=False)], card()).status == "inconclusive"
