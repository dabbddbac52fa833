"""Blocking rules that no outcome could decide with the samples there are, found before anything is asked of a model."""

from __future__ import annotations

from collections.abc import Sequence

from evalkit.powering.answers import ask_of, condition_of, family_alpha, matched, remade
from evalkit.powering.evidence import NeedsSamples
from evalkit.powering.possible import possible
from evalkit.powering.targets import Target, Task, targets_of
from evalkit.records.suite import GateSpec, RuleSpec


def undecidable(tasks: Sequence[Task], gates: Sequence[GateSpec], level: float) -> list[str]:
    """Return a sentence per blocking rule and estimate that can never pass or never fail, with what it would need.

    ``level`` is the suite's confidence. Reads the data sets of the tasks that blocking rules name. What a rule answers
    on single samples, and what breaks while it is asked, is not called impossible. Waived rules are left out.
    """
    blocking = [
        (gate, rule)
        for gate in gates
        for rule in gate.rules
        if rule.severity == "block"
        and not any(w.rule == rule.id and w.slice is None for w in gate.waivers)
    ]
    if not blocking:
        return []
    targets = list(targets_of(tasks, gates))
    told = []
    for gate, rule in blocking:
        family = family_alpha(gate, targets, level)
        waived = {waiver.slice for waiver in gate.waivers if waiver.rule == rule.id}
        found = [target for target in matched(rule, targets) if target.slice not in waived]
        sentences = [(target, why) for target in found for why in _why(rule, target, level, family)]
        told += [f"rule {rule.id} on {target.name} {why}" for target, why in sentences]
        if not matched(rule, targets):
            told.append(
                f"rule {rule.id} can never pass: the data hold nothing named {rule.estimate}"
            )
    return told


def _why(rule: RuleSpec, target: Target, level: float, family: float | None) -> list[str]:
    condition = condition_of(rule)
    ask = ask_of(rule, condition, family)
    try:
        could = possible(condition, ask, target, level, remade(rule, family))
    except NeedsSamples:
        return []
    except Exception:  # a condition may be a plug-in's code; the run itself will tell
        return []
    return [why for why in (could.cannot_pass, could.cannot_fail) if why]
