"""Blocking rules that no outcome could decide with the samples there are, found before anything is asked of a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evalkit.gates.census import reads_census
from evalkit.gates.evaluate import condition_of
from evalkit.gates.judged import reads_card
from evalkit.gates.people import reads_ratings
from evalkit.gates.stopping import measures_under, of_groups_under
from evalkit.powering.answers import (
    ask_of,
    family_alpha,
    matched,
    matched_of_groups,
    remade,
)
from evalkit.powering.estimands import Estimand, Task, estimands_of
from evalkit.powering.evidence import NeedsSamples
from evalkit.powering.possible import possible
from evalkit.records.suite import GateSpec, RuleSpec, SpectralTask


def undecidable(
    tasks: Sequence[Task],
    gates: Sequence[GateSpec],
    level: float,
    *,
    has_baseline: bool = True,
    weighed: Sequence[SpectralTask] = (),
) -> list[str]:
    """Return a sentence per blocking rule and estimate that can never pass or never fail, with what it would need.

    ``level`` is the suite's confidence. Reads the data sets of the tasks that blocking rules name. What a rule answers
    on single samples, and what breaks while it is asked, is not called impossible. Waived rules are left out, and
    without a baseline those that compare with it: they will be missing, which is no matter of samples. Numbers of the
    ``weighed`` tasks are read in full, so no number of samples decides on them. Gaps between groups are not asked.
    """
    blocking = [
        rule
        for gate in gates
        for rule in gate.rules
        if rule.severity == "block" and (has_baseline or condition_of(rule).reads == "estimate")
    ]
    named = [
        task
        for task in tasks
        if any(
            measures_under(rule, task.spec, task.metrics)
            or of_groups_under(rule, task.spec, task.metrics)
            for rule in blocking
        )
    ]
    estimands = list(estimands_of(named, gates, has_baseline=has_baseline))
    asked = [
        rule
        for rule in blocking
        if matched(rule, estimands)
        or not (
            reads_census(rule, weighed)
            or matched_of_groups(rule, estimands)
            or reads_ratings(rule.estimate)  # people rate after the run
            or reads_card(rule.estimate)  # what the judge's card says is known in the run
        )
    ]
    return [sentence for gate in gates for sentence in _of_gate(gate, asked, estimands, level)]


def _of_gate(
    gate: GateSpec, blocking: Sequence[RuleSpec], estimands: Sequence[Estimand], level: float
) -> Iterator[str]:
    family = family_alpha(gate, estimands, level)
    for rule in gate.rules:
        waived = {waiver.slice for waiver in gate.waivers if waiver.rule == rule.id}
        if rule not in blocking or None in waived:
            continue
        found = matched(rule, estimands)
        if not found:
            yield f"rule {rule.id} can never pass: the data hold nothing named {rule.estimate}"
        for estimand in found:
            if estimand.slice not in waived:
                for why in _why(rule, estimand, level, family):
                    yield f"rule {rule.id} on {estimand.name} {why}"


def _why(rule: RuleSpec, estimand: Estimand, level: float, family: float | None) -> list[str]:
    condition = condition_of(rule)
    ask = ask_of(rule, condition, family)
    try:
        could = possible(condition, ask, estimand, level, remade(rule, family))
    except NeedsSamples:
        return []
    except Exception:  # a condition may be a plug-in's code; the run itself will tell
        return []
    return [why for why in (could.cannot_pass, could.cannot_fail) if why]
