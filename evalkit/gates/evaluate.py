"""Gates over a scorecard: every rule on everything its pattern matches, and the verdict they add up to.

Each gate's outcomes pass through its family (``families``), then its waivers (``waivers``); what counts then decides.

Verdict, in this order. ``incomplete`` when a task fell short of its ``min_coverage``: what was measured is no ground
for a decision, not even a fail, since the missing samples may be the run's fault and not the model's; outcomes are
still shown. Then ``fail`` when a blocking outcome counts as fail, ``inconclusive`` when one is undecided or missing,
else ``pass``; what is waived does not block. Without any rule nothing was decided, so the verdict is
``inconclusive``, never ``pass``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Literal

from evalkit.errors import UsageError
from evalkit.gates.against_baseline import AgainstBaseline
from evalkit.gates.conditions import Condition, Decision, Evidence, Scores
from evalkit.gates.families import combined
from evalkit.gates.judged import GIVEN_BY_JUDGES, NO_RECORD, lacking_pass_at, why_unfit
from evalkit.gates.people import CORRECTED, lacking_ratings
from evalkit.gates.waivers import check_dates, waived
from evalkit.identity import digest
from evalkit.records.judging import JudgeRecord
from evalkit.records.patterns import expression
from evalkit.records.scorecard import Scorecard, TaskTally, estimate_name
from evalkit.records.suite import GateSpec, JudgeDemands, RuleSpec
from evalkit.records.verdict import (
    EXIT_CODES,
    FamilyRecord,
    Outcome,
    OutcomeStatus,
    Verdict,
    VerdictStatus,
)
from evalkit.registry import find, nearest
from evalkit.spectral.catalogue import CHECKS, MEASURES, Check, Measured

NAMES_SHOWN = 8
TAKES: Mapping[str, str] = {
    "base": "a base model",
    "changes": "a base model",
    "tokens": "a tokenizer or vocab_size",
    "spectra": "spectra: true",
    "spectra+base": "spectra: true and a base model",
    "traps": "spectra: true and traps: true",
    "importance": "importance: true",
    "adapter": "an adapter",
    "merge": "a base model and the merged adapter",
    "frozen": "a base model and frozen: […]",
    "trained": "a base model and trained: […]",
}
"""What a measure or check of weights takes, in words."""


ScoresOf = Callable[[str], Scores | None]
"""``task/metric[@slice]`` → the scores of its samples; None where a sample alone has none."""


def evaluate(
    gates: Sequence[GateSpec],
    scorecard: Scorecard,
    *,
    today: date | None = None,
    scores: ScoresOf | None = None,
) -> Verdict:
    """Return the answer of all gates together.

    ``today`` is the day by which waivers are judged (UTC). ``scores`` gives the per-sample scores under a name, for
    the conditions that read them; it is called only when one does.

    Raises UsageError on two gates of one name, an expired waiver, and waivers without ``today``.
    """
    names = [gate.gate for gate in gates]
    if len(set(names)) < len(names):
        raise UsageError(f"two gates have the same name: {', '.join(names)}")
    check_dates(gates, today)
    held = evidence_by_name(scorecard, scores)
    not_run, weighed = scorecard.not_run, scorecard.weighed
    outcomes: list[Outcome] = []
    families: list[FamilyRecord] = []
    notes: list[str] = []
    for gate in gates:
        found = [
            each
            for rule in gate.rules
            for each in _outcomes(
                gate,
                rule,
                held,
                not_run,
                weighed,
                scorecard.judges,
                earlier=bool(scorecard.baseline_run),
            )
        ]
        finest = [least for _, least in found]
        in_family, told = combined(gate, [o for o, _ in found], finest, weighed)
        counting, idle = waived(gate, in_family)
        blocking = sum(outcome.severity == "block" for outcome in counting)
        families.append(
            FamilyRecord(gate=gate.gate, family=gate.family, blocking=blocking, told=told)
        )
        outcomes += counting
        notes += idle
    status, reason = _verdict(outcomes, scorecard.tasks)
    return Verdict(
        status=status,
        exit_code=EXIT_CODES[status],
        scorecard=scorecard.digest or scorecard.computed_digest(),
        gates={gate.gate: digest(gate.beyond_defaults()) for gate in gates},
        reason=reason,
        outcomes=tuple(outcomes),
        families=tuple(families),
        notes=tuple(notes),
    )


def evidence_by_name(scorecard: Scorecard, scores: ScoresOf | None = None) -> dict[str, Evidence]:
    """Return what the scorecard holds of the candidate, by ``task/metric[@slice]``, in its order."""
    estimates = {e.name: e for e in scorecard.estimates if e.model == "candidate"}
    comparisons = {c.name: c for c in scorecard.comparisons}
    disparities = {d.name: d for d in scorecard.disparities if d.model == "candidate"}
    return {
        name: Evidence(
            name,
            (estimate := estimates.get(name)),
            comparisons.get(name),
            None if estimate and estimate.kind in ("corpus", "gap") else _thunk(name, scores),
            disparities.get(name),
        )
        for name in dict.fromkeys([*estimates, *comparisons])
    }


def _thunk(name: str, scores: ScoresOf | None) -> Callable[[], Scores] | None:
    return None if scores is None else lambda: scores(name) or {}


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """Return the names that a rule's pattern matches.

    ``*`` matches any text; nothing else is special. Without ``@`` a pattern matches no slice, and a ``*`` before the
    ``@`` matches nothing behind it. Behind a gap's ``@`` stands the field alone, which ``field=*`` does not match.

    >>> matching("extract/*", ["extract/f1", "extract/f1@region=eu", "decide/f1"])
    ['extract/f1']
    >>> matching("extract/f1@region=*", ["extract/f1", "extract/f1@region=eu"])
    ['extract/f1@region=eu']
    """
    wanted = [expression(part) for part in pattern.split("@", 1)]

    def matches(name: str) -> bool:
        parts = name.split("@", 1)
        return len(parts) == len(wanted) and all(
            one.fullmatch(part) for one, part in zip(wanted, parts, strict=True)
        )

    return [name for name in names if matches(name)]


def may_match_slice(slice_pattern: str, field: str) -> bool:
    """Return whether what a pattern says behind the ``@`` matches ``field=value`` for some value.

    After a ``*`` anything may follow, so what stands before the first one decides.

    >>> [may_match_slice(pattern, "region") for pattern in ("region=eu", "reg*", "*=eu", "product=*")]
    [True, True, True, False]
    """
    head, star, _ = slice_pattern.partition("*")
    begun = f"{field}="
    return head.startswith(begun) or (star == "*" and begun.startswith(head))


def condition_of(rule: RuleSpec, **changed: float) -> Condition:
    """Return a rule's condition, with some of its options changed."""
    make = find("condition", rule.require).make
    condition: Condition = make(make.Options.model_validate({**rule.options, **changed}))
    return condition


def _outcomes(
    gate: GateSpec,
    rule: RuleSpec,
    held: Mapping[str, Evidence],
    not_run: Sequence[str],
    weighed: Sequence[str],
    judges: Sequence[JudgeRecord],
    *,
    earlier: bool,
) -> Iterator[tuple[Outcome, float]]:
    """Yield a rule's outcomes, each with the least p-value that could have been read for it."""
    condition = condition_of(rule)
    readable = {
        name: evidence
        for name, evidence in held.items()
        if getattr(evidence, condition.reads) is not None
    }
    names = matching(rule.estimate, readable)
    if not names:
        task = rule.estimate.partition("/")[0]
        reason = f"task {task} was not run, because the weights fail"
        if task not in not_run:
            reason = _why_missing(rule.estimate, condition, held, readable, weighed, earlier)
        yield _outcome(gate, rule, condition, rule.estimate, Decision("missing", reason)), 0.0
    for name in names:
        decision = condition.decide(readable[name])
        measured = decision.status in ("pass", "fail", "inconclusive")
        if measured and (doubt := _why_unbelieved(rule, name, judges)):
            decision = replace(
                decision, status="inconclusive", reason=doubt, p_broken=None, lines=()
            )
            outcome = _outcome(gate, rule, condition, name, decision)
            if outcome.counts_as == "pass":  # a judge nobody checked lets nothing pass
                outcome = outcome.model_copy(update={"counts_as": "inconclusive"})
        else:
            outcome = _outcome(gate, rule, condition, name, decision)
        yield outcome, finest_p(condition, readable[name])


def _why_unbelieved(rule: RuleSpec, name: str, judges: Sequence[JudgeRecord]) -> str:
    """Return why a number that judges gave decides nothing; empty where it may decide, and for any other number."""
    task, _, metric = name.partition("@")[0].partition("/")
    jury_of_that_name = any(CORRECTED.endswith(f".{judge.judge}") for judge in judges)
    if metric == CORRECTED and not jury_of_that_name:
        return ""  # people corrected it, whatever the judge is worth
    gave = [judge for judge in judges if judge.gave(task, metric)]
    if not gave and metric.partition(".")[0] in GIVEN_BY_JUDGES:
        return NO_RECORD
    for judge in gave:
        why = why_unfit(rule.judge or JudgeDemands(), judge, judge.form)
        if why and judge.why_no_card:
            why += f" ({judge.why_no_card})"
        if why:
            return f"judge {judge.judge} is not to be believed: {why}"
    return ""


def finest_p(condition: Condition, evidence: Evidence) -> float:
    """Return the least p-value that a condition can read from intervals; 0 where it computes its p-value itself."""
    comparison = evidence.comparison
    if comparison is None or not isinstance(condition, AgainstBaseline):
        return 0.0
    levels = ((1 - interval.level) / 2 for interval in comparison.intervals)
    return len(condition.limits(comparison.better)) * min(levels, default=0.0)


def _why_missing(
    pattern: str,
    condition: Condition,
    held: Mapping[str, Evidence],
    readable: Mapping[str, Evidence],
    weighed: Sequence[str],
    earlier: bool,
) -> str:
    if not matching(pattern, held) and (
        lacks := lacking_ratings(pattern) or lacking_pass_at(pattern)
    ):
        return lacks
    if not readable and condition.reads == "comparison":
        return f"{pattern} cannot be compared: the run has no baseline"
    if matching(pattern, held):
        return f"{pattern} has no {condition.reads} in this run"
    if takes := _takes(pattern, weighed):
        needed = f": it takes {takes}" if takes in TAKES.values() else ""
        if earlier and TAKES["base"] in needed:
            needed += ", and the baseline is an earlier run, whose weights are not opened"
        return f"{pattern} was not measured{needed}"
    of_its_kind = [name for name in readable if ("@" in name) == ("@" in pattern)]
    close = nearest(pattern, of_its_kind)
    if close:
        return f"nothing in this run is named {pattern} (did you mean {close}?)"
    shown = ", ".join(of_its_kind[:NAMES_SHOWN]) or "nothing of that form"
    more = len(of_its_kind) - NAMES_SHOWN
    return f"nothing in this run is named {pattern}; there is {shown}" + (
        f" and {more} more" if more > 0 else ""
    )


def _takes(pattern: str, weighed: Sequence[str]) -> str:
    """Return what a number of weights takes that a rule names.

    It is ``weights`` where it takes nothing else, empty where there is no such number.
    """
    parts: tuple[Measured | Check, ...] = (*MEASURES, *CHECKS)
    named = {
        estimate_name(task, name, None): TAKES.get(part.name, TAKES.get(part.needs, part.needs))
        for task in weighed
        for part in parts
        for name in part.names
    }
    return next((named[name] for name in matching(pattern.partition("@")[0], named)), "")


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
        p_broken=decision.p_broken,
        lines=decision.lines,
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
    undecided = [outcome for outcome in blocking if outcome.counts_as not in ("pass", "waived")]
    if undecided:
        return "inconclusive", f"{_of(undecided, blocking)} undecided: {_rules(undecided)}"
    return "pass", _passed(blocking, len(outcomes))


def _passed(blocking: Sequence[Outcome], shown: int) -> str:
    exempt = [outcome for outcome in blocking if outcome.counts_as == "waived"]
    if exempt:
        passed = f"{len(blocking) - len(exempt)} of {len(blocking)} blocking outcomes passed"
        return f"{passed}, {len(exempt)} waived: {_rules(exempt)}"
    if not blocking:
        return f"no rule blocks; outcomes shown for information: {shown}"
    return f"every blocking outcome passed ({len(blocking)})"


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
