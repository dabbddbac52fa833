"""Rules over a scorecard: what a pattern matches, what an outcome counts as, and the verdict."""

from __future__ import annotations

import pytest
from gate_evidence import comparison, counts, estimate, interval, rate, scorecard, tally
from hypothesis import given
from hypothesis import strategies as st

from evalkit.errors import UsageError
from evalkit.gates.conditions import Condition, Decision
from evalkit.gates.evaluate import evaluate, matching
from evalkit.identity import digest
from evalkit.records.suite import GateSpec, RuleSpec, Spec
from evalkit.registry import register

NAMES = [
    "extract/schema.valid",
    "extract/schema.parsed",
    "extract/f1",
    "extract/f1@region=eu",
    "extract/f1@region=us",
    "extract/f1@tier=a/b@c [x]?",
    "decide/f1",
]


def rule(require="at_least", estimate="extract/valid", **changes):
    options = {"value": 0.9} if require in ("at_least", "at_most") else {"margin": 0.02}
    common = {k: changes.pop(k) for k in list(changes) if k in RuleSpec.model_fields}
    return RuleSpec(
        **{
            "id": "r1",
            "estimate": estimate,
            "require": require,
            "options": {**options, **changes},
            **common,
        }
    )


def gate(*rules, name="g"):
    return GateSpec(gate=name, rules=rules)


def verdict(*rules, held=(), tasks=()):
    return evaluate([gate(*rules)], scorecard(*held, tasks=tasks))


PASSING, UNDECIDED, FAILING = rate(295, 300), rate(272, 300), rate(200, 300)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("extract/f1", ["extract/f1"]),
        ("extract/*", ["extract/schema.valid", "extract/schema.parsed", "extract/f1"]),
        ("*/f1", ["extract/f1", "decide/f1"]),
        ("extract/schema.*", ["extract/schema.valid", "extract/schema.parsed"]),
        ("extract/f1@region=*", ["extract/f1@region=eu", "extract/f1@region=us"]),
        ("extract/f1@*", NAMES[3:6]),
        ("extract/f1@tier=a/b@c [x]?", [NAMES[5]]),
        ("extract/schema.v?lid", []),
        ("extract/schema[.]valid", []),
        ("Extract/f1", []),
        ("extract", []),
        ("*", [n for n in NAMES if "@" not in n]),
        ("*@region=eu", ["extract/f1@region=eu"]),
    ],
)
def test_a_pattern_matches_by_stars_alone(pattern, names):
    assert matching(pattern, NAMES) == names


@pytest.mark.parametrize(
    ("held", "status", "exit_code"),
    [(PASSING, "pass", 0), (FAILING, "fail", 1), (UNDECIDED, "inconclusive", 4)],
)
def test_one_blocking_rule_decides(held, status, exit_code):
    found = verdict(rule(), held=[held])
    assert (found.status, found.exit_code) == (status, exit_code)
    (outcome,) = found.outcomes
    assert (outcome.status, outcome.counts_as, outcome.estimate) == (
        status,
        status,
        "extract/valid",
    )
    assert (outcome.observed, outcome.interval) == (held.value, held.interval)
    assert outcome.required == "≥ 0.9"


def test_any_fail_outweighs_what_is_undecided():
    found = verdict(
        rule(id="a"),
        rule(id="b", value=0.99),
        rule(id="c", estimate="nowhere/x"),
        held=[UNDECIDED],
    )
    assert found.status == "fail"
    assert found.reason == "1 of 3 blocking outcomes failed: b"


@pytest.mark.parametrize("severity", ["warn", "info"])
def test_a_rule_that_does_not_block_never_decides(severity):
    found = verdict(rule(id="a"), rule(id="b", value=0.999, severity=severity), held=[PASSING])
    assert found.status == "pass"
    assert [outcome.counts_as for outcome in found.outcomes] == ["pass", "fail"]


@pytest.mark.parametrize(
    ("on_inconclusive", "status"),
    [("inconclusive", "inconclusive"), ("fail", "fail"), ("pass", "pass")],
)
def test_what_is_undecided_counts_as_the_rule_says(on_inconclusive, status):
    found = verdict(rule(on_inconclusive=on_inconclusive), held=[UNDECIDED])
    assert (found.status, found.outcomes[0].counts_as) == (status, status)
    assert found.outcomes[0].status == "inconclusive"


@pytest.mark.parametrize(("on_missing", "status"), [("missing", "inconclusive"), ("fail", "fail")])
def test_a_rule_that_matches_nothing_is_missing_and_never_passes(on_missing, status):
    found = verdict(rule(estimate="extract/vald", on_missing=on_missing), held=[PASSING])
    assert (found.status, found.outcomes[0].status) == (status, "missing")
    assert found.outcomes[0].estimate == "extract/vald"
    assert found.outcomes[0].reason == (
        "nothing in this run is named extract/vald (did you mean extract/valid?)"
    )


def test_a_name_near_nothing_is_told_what_there_is():
    found = verdict(rule(estimate="poetry/metre@*"), held=[PASSING])
    assert found.outcomes[0].reason.endswith("there is nothing of that form")
    found = verdict(rule(estimate="poetry/metre"), held=[PASSING])
    assert found.outcomes[0].reason.endswith("there is extract/valid")


def test_nothing_scored_is_missing():
    nothing = estimate(None, None, counts(30, 0))
    assert verdict(rule(), held=[nothing]).outcomes[0].counts_as == "missing"


def test_without_a_baseline_a_comparison_is_missing():
    found = verdict(rule("no_worse_than"), held=[PASSING])
    assert found.status == "inconclusive"
    assert found.outcomes[0].reason == "extract/valid cannot be compared: the run has no baseline"


def test_an_incomparable_baseline_counts_as_missing():
    other = comparison(0, 0, 10).model_copy(
        update={"status": "incomparable", "difference": None, "reason": "the data sets differ"}
    )
    (outcome,) = verdict(rule("no_worse_than"), held=[PASSING, other]).outcomes
    assert (outcome.status, outcome.counts_as) == ("incomparable", "missing")


def test_the_baselines_own_estimates_are_not_judged():
    own = rate(200, 300, model="baseline")
    found = verdict(rule(), held=[PASSING, own, comparison(5, 5, 300)])
    assert [outcome.status for outcome in found.outcomes] == ["pass"]


def test_each_value_of_a_slice_has_its_own_outcome():
    held = [rate(295, 300), rate(99, 100, slice="region=eu"), rate(50, 100, slice="region=us")]
    found = verdict(rule(estimate="extract/valid@region=*"), held=held)
    assert [(o.estimate, o.status) for o in found.outcomes] == [
        ("extract/valid@region=eu", "pass"),
        ("extract/valid@region=us", "fail"),
    ]
    assert found.reason == "1 of 2 blocking outcomes failed: r1"


def test_an_incomplete_run_decides_nothing_not_even_a_fail():
    short = tally(complete=False, failures={"timeout": 40}, unscored={"f1": {"no target": 20}})
    found = verdict(rule(), held=[FAILING], tasks=(tally("decide"), short))
    assert (found.status, found.exit_code) == ("incomplete", 3)
    assert found.reason == (
        "the run is incomplete: task extract on the candidate has 240 of 300 samples scored "
        "(coverage 0.800), fewer than it must"
    )
    assert found.outcomes[0].status == "fail"


def test_no_gate_decides_nothing():
    found = evaluate([], scorecard(PASSING))
    assert (found.status, found.exit_code) == ("inconclusive", 4)
    assert found.reason == "no gate was given: nothing was decided"


def test_a_verdict_names_what_it_was_decided_on():
    card, one = scorecard(PASSING), gate(rule())
    found = evaluate([one, gate(rule(), name="h")], card)
    assert found.scorecard == card.digest
    assert found.gates == {
        "g": digest(one.beyond_defaults()),
        "h": digest(gate(rule(), name="h").beyond_defaults()),
    }
    assert found.reason == "every blocking outcome passed (2)"


def test_only_information_passes_and_says_so():
    found = verdict(rule(severity="info", value=0.999), held=[PASSING])
    assert (found.status, found.reason) == (
        "pass",
        "no rule blocks; outcomes shown for information: 1",
    )


def test_two_gates_of_one_name_are_refused():
    with pytest.raises(UsageError, match="same name"):
        evaluate([gate(rule()), gate(rule())], scorecard(PASSING))


def test_a_condition_of_ones_own_uses_the_same_door():
    @register("condition", "exactly_for_test", summary="Equal.", example="")
    class Exactly(Condition):
        class Options(Spec):
            value: float

        @property
        def required(self):
            return f"= {self.options.value:g}"

        def decide(self, evidence):
            same = evidence.estimate.value == self.options.value
            return Decision("pass" if same else "fail", "it is what it is")

    held = estimate(0.5, interval(0.4, 0.6), counts(9))
    own = RuleSpec(
        id="x", estimate="extract/valid", require="exactly_for_test", options={"value": 0.5}
    )
    assert verdict(own, held=[held]).status == "pass"


# --- scores of single samples ----------------------------------------------------------------------------------


@pytest.fixture
def seen():
    """Register a condition that hands back the scores it finds."""
    found = []

    @register("condition", "sees_for_test", summary="Sees.", example="")
    class Sees(Condition):
        required = ""

        def decide(self, evidence):
            found.append(evidence.scores and evidence.scores())
            return Decision("pass", "it has been seen")

    return found


def test_conditions_read_single_scores_under_the_names_they_match(seen):
    scores = {"extract/valid": {"s1": (1.0, 0.0)}}
    asked = []
    corpus = estimate(30.0, None, counts(10), metric="bleu", kind="corpus")
    card = scorecard(PASSING, rate(9, 10, metric="f1"), corpus)

    def scores_of(name):
        asked.append(name)
        return scores.get(name)

    rules = [
        rule(id="v"),
        rule("sees_for_test", "extract/*", id="s").model_copy(update={"options": {}}),
    ]
    evaluate([gate(*rules)], card, scores=scores_of)
    assert seen == [{"s1": (1.0, 0.0)}, {}, None]
    assert asked == ["extract/valid", "extract/f1"]
    evaluate([gate(*rules)], card)
    assert seen[3:] == [None, None, None]


# --- precedence ------------------------------------------------------------------------------------------------

COUNTED = {"fail": FAILING, "inconclusive": UNDECIDED, "pass": PASSING}


@given(st.lists(st.sampled_from([*COUNTED, "missing"]), min_size=1, max_size=5), st.booleans())
def test_incomplete_outweighs_fail_outweighs_undecided_outweighs_pass(wanted, complete):
    held = [
        COUNTED[w].model_copy(update={"metric": f"m{n}"})
        for n, w in enumerate(wanted)
        if w in COUNTED
    ]
    rules = [rule(id=f"r{n}", estimate=f"extract/m{n}") for n in range(len(wanted))]
    found = verdict(*rules, held=held, tasks=(tally(complete=complete),))
    assert [o.counts_as for o in found.outcomes] == wanted
    undecided = {"inconclusive", "missing"} & set(wanted)
    expected = "fail" if "fail" in wanted else "inconclusive" if undecided else "pass"
    assert found.status == (expected if complete else "incomplete")


@pytest.mark.parametrize("on_inconclusive", ["inconclusive", "pass"])
@pytest.mark.parametrize("metric", ["judged.score", "preferred.win_rate", "judged.score.alice"])
def test_a_number_of_judges_that_the_scorecard_does_not_name_passes_nothing(
    metric, on_inconclusive
):
    held = scorecard(rate(199, 200, metric=metric))
    found = rule(estimate=f"extract/{metric}", on_inconclusive=on_inconclusive)
    (outcome,) = evaluate([gate(found)], held).outcomes
    assert (outcome.status, outcome.counts_as) == ("inconclusive", "inconclusive")
    assert "nothing vouches for it" in outcome.reason


def test_the_same_number_of_another_metric_passes():
    held = scorecard(rate(199, 200, metric="exact_match"))
    verdict = evaluate([gate(rule(estimate="extract/exact_match"))], held)
    assert verdict.status == "pass"


@pytest.mark.parametrize("lost", [0, 15, 60])
def test_in_a_family_of_regressions_what_an_unbelieved_judge_compares_never_passes(lost):
    """Holm's adjustment passes what shows no regression; what nobody measured shows nothing either."""
    held = scorecard(comparison(10, lost, 100, metric="judged.score"))
    found = rule("no_worse_than", estimate="extract/judged.score")
    family = GateSpec(gate="g", family="any_regression", rules=(found,))
    verdict = evaluate([family], held)
    (outcome,) = verdict.outcomes
    assert (outcome.counts_as, verdict.status) == ("inconclusive", "inconclusive")
    believed = scorecard(comparison(10, lost, 100, metric="other"))
    other = family.model_copy(update={"rules": (rule("no_worse_than", estimate="extract/other"),)})
    assert evaluate([other], believed).status == ("fail" if lost == 60 else "pass")
