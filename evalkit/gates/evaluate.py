"""Gates over a scorecard: every rule on everything its pattern matches, and the verdict they add up to.

Verdict, in this order. ``incomplete`` when a task fell short of its ``min_coverage``: what was measured is no ground
for a decision, not even a fail, since the missing samples may be the run's fault and not the model's; outcomes are
still shown. Then ``fail`` when a blocking outcome counts as fail, ``inconclusive`` when one is undecided or missing,
else ``pass``. Without any rule nothing was decided, so the verdict is ``inconclusive``, never ``pass``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from evalkit.errors import UsageError
from evalkit.gates.conditions import Condition, Decision, Evidence
from evalkit.identity import digest
from evalkit.records.scorecard import Scorecard, TaskTally
from evalkit.records.suite import GateSpec, RuleSpec
from evalkit.records.verdict import EXIT_CODES, Outcome, OutcomeStatus, Verdict, VerdictStatus
from evalkit.registry import find, nearest

NAMES_SHOWN = 8


def evaluate(gates: Sequence[GateSpec], scorecard: Scorecard) -> Verdict:
    """Return the answer of all gates together. Raises UsageError on two gates of one name."""
    names = [gate.gate for gate in gates]
    if len(set(names)) < len(names):
        raise UsageError(f"two gates have the same name: {', '.join(names)}")
    held = evidence_by_name(scorecard)
    outcomes = tuple(
        outcome for gate in gates for rule in gate.rules for outcome in _outcomes(gate, rule, held)
    )
    status, reason = _verdict(outcomes, scorecard.tasks)
    return Verdict(
        status=status,
        exit_code=EXIT_CODES[status],
        scorecard=scorecard.digest or scorecard.computed_digest(),
        gates={gate.gate: digest(gate.model_dump(mode="json")) for gate in gates},
        reason=reason,
        outcomes=outcomes,
    )


def evidence_by_name(scorecard: Scorecard) -> dict[str, Evidence]:
    """Return what the scorecard holds of the candidate, by ``task/metric[@slice]``, in its order."""
    estimates = {e.name: e for e in scorecard.estimates if e.model == "candidate"}
    comparisons = {c.name: c for c in scorecard.comparisons}
    return {
        name: Evidence(name, estimates.get(name), comparisons.get(name))
        for name in dict.fromkeys([*estimates, *comparisons])
    }


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """Return the names that a rule's pattern matches.

    ``*`` matches any text; nothing else is special. Without ``@`` a pattern matches no slice, and a ``*`` before the
    ``@`` matches nothing behind it.

    >>> matching("extract/*", ["extract/f1", "extract/f1@region=eu", "decide/f1"])
    ['extract/f1']
    >>> matching("extract/f1@region=*", ["extract/f1", "extract/f1@region=eu"])
    ['extract/f1@region=eu']
    """
    wanted = [_expression(part) for part in pattern.split("@", 1)]

    def matches(name: str) -> bool:
        parts = name.split("@", 1)
        return len(parts) == len(wanted) and all(
            one.fullmatch(part) for one, part in zip(wanted, parts, strict=True)
        )

    return [name for name in names if matches(name)]


def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)


def _outcomes(gate: GateSpec, rule: RuleSpec, held: Mapping[str, Evidence]) -> Iterator[Outcome]:
    make = find("condition", rule.require).make
    condition: Condition = make(make.Options.model_validate(rule.options))
    readable = {
        name: evidence
        for name, evidence in held.items()
        if getattr(evidence, condition.reads) is not None
    }
    names = matching(rule.estimate, readable)
    if not names:
        reason = _why_missing(rule.estimate, condition, held, readable)
        yield _outcome(gate, rule, condition, rule.estimate, Decision("missing", reason))
    for name in names:
        yield _outcome(gate, rule, condition, name, condition.decide(readable[name]))


def _why_missing(
    pattern: str,
    condition: Condition,
    held: Mapping[str, Evidence],
    readable: Mapping[str, Evidence],
) -> str:
    if not readable and condition.reads == "comparison":
        return f"{pattern} cannot be compared: the run has no baseline"
    if matching(pattern, held):
        return f"{pattern} has no {condition.reads} in this run"
    of_its_kind = [name for name in readable if ("@" in name) == ("@" in pattern)]
    close = nearest(pattern, of_its_kind)
    if close:
        return f"nothing in this run is named {pattern}; did you mean {close}?"
    shown = ", ".join(of_its_kind[:NAMES_SHOWN]) or "nothing of that form"
    more = len(of_its_kind) - NAMES_SHOWN
    return f"nothing in this run is named {pattern}; there is {shown}" + (
        f" and {more} more" if more > 0 else ""
    )


def _outcome(
    gate: GateSpec, rule: RuleSpec, condition: Condition, name: str, decision: Decision
) -> Outcome:
    return Outcome(
        gate=gate.gate,
        rule=rule.id,
        estimate=name,
        status=decision.status,
        counts_as=_counts_as(rule, decision.status),
        severity=rule.severity,
        observed=decision.observed,
        interval=decision.interval,
        required=condition.required,
        reason=decision.reason,
        why=rule.why,
    )


def _counts_as(
    rule: RuleSpec, status: OutcomeStatus
) -> Literal["pass", "fail", "inconclusive", "missing"]:
    if status == "inconclusive":
        return rule.on_inconclusive
    if status in ("missing", "incomparable"):
        return rule.on_missing
    return "pass" if status == "pass" else "fail"


def _verdict(outcomes: Sequence[Outcome], tasks: Sequence[TaskTally]) -> tuple[VerdictStatus, str]:
    short = [task for task in tasks if not task.complete]
    if short:
        return "incomplete", "the run is incomplete: " + "; ".join(map(_shortfall, short))
    if not outcomes:
        return "inconclusive", "no gate was given: nothing was decided"
    blocking = [outcome for outcome in outcomes if outcome.severity == "block"]
    failed = [outcome for outcome in blocking if outcome.counts_as == "fail"]
    if failed:
        return "fail", f"{_of(failed, blocking)} failed: {_rules(failed)}"
    undecided = [outcome for outcome in blocking if outcome.counts_as != "pass"]
    if undecided:
        return "inconclusive", f"{_of(undecided, blocking)} undecided: {_rules(undecided)}"
    if not blocking:
        return "pass", f"no rule blocks; outcomes shown for information: {len(outcomes)}"
    return "pass", f"every blocking outcome passed ({len(blocking)})"


def _of(some: Sequence[Outcome], every: Sequence[Outcome]) -> str:
    return f"{len(some)} of {len(every)} blocking outcomes"


def _rules(outcomes: Sequence[Outcome]) -> str:
    return ", ".join(dict.fromkeys(outcome.rule for outcome in outcomes))


def _shortfall(task: TaskTally) -> str:
    failed = sum(task.failures.values())
    ungraded = max((sum(reasons.values()) for reasons in task.unscored.values()), default=0)
    scored = task.planned - failed - ungraded
    share = scored / task.planned if task.planned else 0.0
    return (
        f"task {task.task} on the {task.model} has {scored:,} of {task.planned:,} samples scored "
        f"(coverage {share:.3f}), fewer than it must"
    )
