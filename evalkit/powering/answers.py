"""What a rule's answer to evidence will count as for the verdict.

Answers go through ``on_inconclusive`` and ``on_missing``; in a family ``any_regression`` through the first step of
Holm's procedure, which decides whether anything is rejected at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from evalkit.gates.conditions import Condition, Evidence
from evalkit.gates.evaluate import condition_of, finest_p, matching
from evalkit.powering.estimands import Estimand
from evalkit.powering.hypothetical import Answer, Ask
from evalkit.powering.possible import unchanged_outcomes
from evalkit.records.suite import GateSpec, RuleSpec

ROUNDING = 1e-6
"""p-values are compared with levels to this relative precision."""


def matched(rule: RuleSpec, estimands: Iterable[Estimand]) -> list[Estimand]:
    """Return the estimands that a rule's pattern matches."""
    by_name = {estimand.name: estimand for estimand in estimands}
    return [by_name[name] for name in matching(rule.estimate, by_name)]


def matched_of_groups(rule: RuleSpec, estimands: Iterable[Estimand]) -> dict[str, int]:
    """Return the samples behind each gap between groups, and each group's share of answers without a score, it matches.

    Samples are those of the task.
    """
    held = {name: each.samples for each in estimands for name in each.of_groups}
    return {name: held[name] for name in matching(rule.estimate, held)}


def family_alpha(gate: GateSpec, estimands: Sequence[Estimand], level: float) -> float | None:
    """Return the level of the first step of Holm's procedure; None where all rules must hold."""
    if gate.family != "any_regression":
        return None
    blocking = [rule for rule in gate.rules if rule.severity == "block"]
    members = sum(
        _is_tested(condition_of(rule), estimand, level)
        for rule in blocking
        for estimand in matched(rule, estimands)
    )
    members += sum(
        len(matched_of_groups(rule, estimands))
        for rule in blocking
        if condition_of(rule).reads == "comparison"
    )
    return gate.alpha / max(members, 1)


def _is_tested(condition: Condition, estimand: Estimand, level: float) -> bool:
    """Return whether a rule asks the family's question: whether a regression is shown."""
    try:
        outcome = next(unchanged_outcomes(condition, estimand, level))
        return condition.decide(outcome).p_broken is not None
    except Exception:  # what breaks here is told where the rule itself is asked
        return False


def ask_of(rule: RuleSpec, condition: Condition, family: float | None) -> Ask:
    """Return a function from evidence to what the rule's answer will count as.

    ``family`` is the level at which a regression must be shown where the gate's family asks for one.
    """

    def ask(evidence: Evidence) -> Answer:
        decision = condition.decide(evidence)
        tested = family is not None and rule.severity == "block"
        if tested and decision.p_broken is not None and decision.status != "pass":
            return _in_family(rule, decision.p_broken, family or 0.0, finest_p(condition, evidence))
        if decision.status == "inconclusive":
            return rule.on_inconclusive
        if decision.status in ("missing", "incomparable"):
            return rule.on_missing
        return decision.status

    return ask


def remade(rule: RuleSpec, family: float | None) -> Callable[[float], Ask] | None:
    """Return a function from another margin to what the rule would answer then; None for rules without a margin."""
    if "margin" not in rule.options:
        return None
    return lambda margin: ask_of(rule, condition_of(rule, margin=margin), family)


def _in_family(rule: RuleSpec, p_broken: float, family: float, finest: float) -> Answer:
    """Return what an outcome that did not pass counts as in a family that asks for a shown regression."""
    if p_broken <= family * (1 + ROUNDING):
        return "fail"
    return rule.on_inconclusive if p_broken <= finest * (1 + ROUNDING) else "pass"
