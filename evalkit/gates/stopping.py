"""Stopping early, validly: which tasks may, when they are looked at, and when everything on them is decided.

A task with ``stop: early`` draws its samples in a random order and ends at the first look at which every rule on it, of
whatever severity, passes or fails by its own condition. So many looks void ordinary intervals (looking every 10 samples
turns 5 % false alarms into 29 %); those of such a task are by betting, valid at all looks at once (``stats.betting``).
There are such intervals for rates and means within known bounds over independent samples, and for conditions that
compare one with a fixed limit; for gaps between groups there are none. Where any rule on the task asks for something
else, the task runs in full instead, with ordinary intervals.

A slice's rules are decided only when each of its values in the data set has been seen, and nothing is while the task is
short of its ``min_coverage``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from evalkit.compare import compare_tables
from evalkit.estimating import estimate_tables, full_name
from evalkit.fairness import gap_names, group_names, may_match_gap
from evalkit.gates.against_baseline import AgainstBaseline
from evalkit.gates.conditions import Condition, Evidence
from evalkit.gates.evaluate import condition_of, matching, may_match_slice
from evalkit.identity import derived_seed
from evalkit.metrics.base import Measure, Metric
from evalkit.planning import PlannedSample
from evalkit.records.scorecard import EarlyStop, estimate_name
from evalkit.records.suite import GateSpec, RuleSpec, SampledTask
from evalkit.scoring import MetricTable, TaskScorer
from evalkit.stats.estimate import UNIT_BOUNDS

FIRST_LOOK: Final = 30
"""Samples before the first look."""
LOOK_EVERY: Final = 10
"""Samples between two looks up to 1,000; from there on a hundredth of the samples drawn, so that looks stay few."""

_ON_ITS_OWN_VALUE: Final = frozenset({"at_least", "at_most", "inside"})
"""Conditions that compare the candidate's interval with fixed limits."""


def next_look(drawn: int) -> int:
    """Return how many samples are drawn at the look after ``drawn``.

    >>> next_look(0), next_look(30), next_look(5_000)
    (30, 40, 5050)
    """
    return max(FIRST_LOOK, drawn + max(LOOK_EVERY, drawn // 100))


def why_not_sequential(
    gates: Sequence[GateSpec],
    task: SampledTask,
    metrics: Sequence[Metric],
    *,
    has_baseline: bool = True,
) -> str:
    """Return why a task must run in full whatever it says under ``stop``, in a sentence; empty when it may stop early.

    Depends on what is declared alone, so that it is known before anything is asked.
    """
    if any(metric.judges for metric in metrics):
        return "its answers are judged once all of them are there"
    if task.cluster is not None:
        return (
            f"its samples share clusters ({task.cluster}), for which no interval holds at any look"
        )
    found = False
    for gate in gates:
        for rule in gate.rules:
            measures = measures_under(rule, task, metrics)
            if named := of_groups_under(rule, task, metrics):
                return (
                    f"rule {rule.id!r} reads {named[0]}, which compares groups, and for that no interval holds at any "
                    "look"
                )
            if not measures:
                continue
            found = True
            why = _why_not_condition(gate, rule, has_baseline=has_baseline)
            why = why or _why_not_measure(measures)
            if why:
                return f"rule {rule.id!r} {why}"
    return "" if found else "no rule reads it, so that nothing could be decided early"


def measures_under(
    rule: RuleSpec, task: SampledTask, metrics: Sequence[Metric]
) -> dict[str, Measure]:
    """Return the measures of a task, by name, that a rule reads, or may read for some value of a slice."""
    pattern, at, slice_pattern = rule.estimate.partition("@")
    if at and not any(may_match_slice(slice_pattern, field) for field in task.split_by):
        return {}
    measures = {
        estimate_name(task.name, full_name(metric.name, measure.name), None): measure
        for metric in metrics
        for measure in metric.measures
    }
    return {name: measures[name] for name in matching(pattern, measures)}


def of_groups_under(rule: RuleSpec, task: SampledTask, metrics: Sequence[Metric]) -> list[str]:
    """Return the names, without what stands behind the ``@``, that a rule reads of what groups add to a task's metrics.

    These are gaps between groups, and each group's share of answers without a score.
    """
    pattern, at, slice_pattern = rule.estimate.partition("@")
    fields = task.groups.names if task.groups else ()
    found: list[str] = []
    if at and any(may_match_gap(slice_pattern, field) for field in fields):
        found += matching(pattern, gap_names(task, metrics))
    if at and any(may_match_slice(slice_pattern, field) for field in fields):
        found += matching(pattern, group_names(task, metrics))
    return found


def _why_not_condition(gate: GateSpec, rule: RuleSpec, *, has_baseline: bool) -> str:
    condition = condition_of(rule)
    compares = condition.reads == "comparison"
    against = condition if isinstance(condition, AgainstBaseline) else None
    reasons = {
        "compares with a baseline, and the run has none": compares and not has_baseline,
        f"is decided together with all comparisons of gate {gate.gate!r} (any_regression)": (
            compares and gate.family == "any_regression"
        ),
        "has a limit relative to the baseline, for which no interval holds at any look": (
            against is not None and any(limit.relative for limit in against.limits("higher"))
        ),
        "asks for the exact interval, which holds at one look only": (
            getattr(condition.options, "exact", False)
        ),
        f"({rule.require}) does not read an interval that holds at any look": (
            against is None and rule.require not in _ON_ITS_OWN_VALUE
        ),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _why_not_measure(measures: Mapping[str, Measure]) -> str:
    for name, measure in measures.items():
        if measure.kind == "corpus":
            return f"reads {name}, a corpus measure, for which no interval holds at any look"
        if measure.over >= 0:
            return f"reads {name}, which is over some of the samples only, for which no interval holds at any look"
        if measure.unit not in UNIT_BOUNDS:
            return f"reads {name} in {measure.unit}, without known bounds no interval holds at any look"
    return ""


class Draw:
    """A task's samples in random order, the looks at them, and what must be decided before the task may end.

    ``planned`` are all its samples, ``baseline`` the baseline's tables of the task, none where there are none. ``seed``
    is that of the order; ``level`` is the suite's confidence. The order depends on the seed and the samples' ids.
    """

    def __init__(
        self,
        planned: Iterable[PlannedSample],
        task: SampledTask,
        metrics: Sequence[Metric],
        gates: Sequence[GateSpec],
        baseline: Sequence[MetricTable],
        *,
        seed: int,
        level: float,
    ) -> None:
        self.samples = sorted(planned, key=lambda p: derived_seed(seed, p.sample.id))
        self._seed, self._level, self._baseline = seed, level, baseline
        slices = {f"{f}={v}" for p in self.samples for f, v in p.sample.attributes.items()}
        self._open = list(_questions(gates, task, metrics, sorted(slices)))
        self._next, self._looks, self._decided = next_look(0), 0, False

    def ends(self, scorer: TaskScorer) -> bool:
        """Return whether the task may end after the samples scored so far: it is time for a look, and all is decided.

        To be asked after every sample. The last sample is looked at too.
        """
        if scorer.seen < min(self._next, len(self.samples)):
            return False
        self._next, self._looks = next_look(scorer.seen), self._looks + 1
        self._decided = scorer.tally().complete and self._all_decided(scorer.tables())
        return self._decided

    def ended(self, scorer: TaskScorer) -> EarlyStop:
        """Return how the task ended, after the last sample that was scored."""
        left, tokens = len(self.samples) - scorer.seen, scorer.tokens
        return EarlyStop(
            available=len(self.samples),
            drawn=scorer.seen,
            seed=self._seed,
            looks=self._looks,
            decided=self._decided,
            tokens_saved=None if tokens is None else round(left * tokens / max(scorer.seen, 1)),
        )

    def _all_decided(self, tables: Sequence[MetricTable]) -> bool:
        """Return whether every question is; what was open is asked first, as it mostly still is."""
        for place, question in enumerate(self._open):
            if not question.is_decided(tables, self._baseline, self._level):
                self._open.insert(0, self._open.pop(place))
                return False
        return True


@dataclass(frozen=True, slots=True)
class _Question:
    """One condition on one value."""

    condition: Condition
    metric: str
    measure: str
    slice: str | None

    def is_decided(
        self, candidate: Sequence[MetricTable], baseline: Sequence[MetricTable], level: float
    ) -> bool:
        """Return whether the condition passes or fails on the samples so far."""
        # Nothing that depends on a seed is asked: what needs resampling has no interval that holds at any look.
        ours, theirs = self._only(candidate), self._only(baseline)
        estimates = {e.slice: e for e in estimate_tables({"candidate": ours}, 0, level)}
        if self.slice not in estimates:  # none of its samples has been drawn
            return False
        comparison, estimate = None, estimates[self.slice]
        if self.condition.reads == "comparison":
            found = compare_tables({"candidate": ours, "baseline": theirs}, 0, level)
            comparison = next(c for c in found if c.slice == self.slice)
        decision = self.condition.decide(Evidence(estimate.name, estimate, comparison))
        return decision.status in ("pass", "fail")

    def _only(self, tables: Sequence[MetricTable]) -> list[MetricTable]:
        """Return the metric's table with the question's measure alone, over all samples and the question's slice."""
        return [
            replace(
                table,
                measures=tuple(m for m in table.measures if m.name == self.measure),
                planned={s: n for s, n in table.planned.items() if s in (None, self.slice)},
            )
            for table in tables
            if table.metric == self.metric
        ]


def _questions(
    gates: Sequence[GateSpec], task: SampledTask, metrics: Sequence[Metric], slices: Sequence[str]
) -> Iterator[_Question]:
    """Yield each rule's condition on each value of the task that its pattern matches."""
    values = {
        estimate_name(task.name, full_name(metric.name, measure.name), slice_): (
            metric.name,
            measure.name,
            slice_,
        )
        for metric in metrics
        for measure in metric.measures
        for slice_ in (None, *slices)
    }
    for gate in gates:
        for rule in gate.rules:
            for name in matching(rule.estimate, values):
                yield _Question(condition_of(rule), *values[name])
