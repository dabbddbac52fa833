"""Checks, before anything is run, that every rule and waiver of a gate can match what the suite will give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from evalkit.errors import Problem, UsageError
from evalkit.estimating import full_name
from evalkit.fairness import gap_names, group_names, may_match_gap
from evalkit.gates.census import Fields, census_fields, census_lacking
from evalkit.gates.evaluate import condition_of, matching, may_match_slice
from evalkit.gates.judged import DIAGNOSED
from evalkit.gates.people import CORRECTED
from evalkit.gates.people import METRICS as HUMAN_METRICS
from evalkit.gates.people import READS as HUMAN_AGREEMENT
from evalkit.loaders.gates import LoadedGate
from evalkit.loaders.places import KeyPath, key_path
from evalkit.loaders.suite_metrics import build_metric
from evalkit.metrics.base import Gap
from evalkit.metrics.judged import JudgedMetric
from evalkit.records.scorecard import estimate_name
from evalkit.records.suite import GateSpec, RuleSpec, SuiteSpec
from evalkit.registry import nearest, parts

LISTED = "'evalkit list weights' has its names"
"""Where the many numbers of weights are listed."""
OF_SAMPLES = ("keeps", "max_flips")
"""The conditions that count single samples, of which a gap has none."""
LABELLED = "labelled"
"""The condition that reads annotators' agreement and nothing else."""
GAP_AT_MOST = "gap_at_most"
"""The condition that reads gaps between groups and nothing else."""


@dataclass
class _Names:
    """What a suite will give, by ``task/metric[.measure]``."""

    whole: dict[str, Sequence[str]] = field(default_factory=dict)
    """Numbers of all samples → the fields that they are sliced by as well."""
    of_groups: dict[str, Sequence[str]] = field(default_factory=dict)
    """Numbers of each group alone → the fields that name groups."""
    gaps: dict[str, Sequence[str]] = field(default_factory=dict)
    """Gaps between groups → the fields that name groups."""
    forms: dict[str, Gap] = field(default_factory=dict)
    """Gaps between groups → what they join."""
    advisory: dict[str, str] = field(default_factory=dict)
    """Any of them → why no blocking rule may rest on it."""
    judged: set[str] = field(default_factory=set)
    """Those of them that judges give."""
    of_pairs: dict[str, str] = field(default_factory=dict)
    """Those of them that compare with the baseline by themselves → the one of the same metric to set a limit to."""

    @property
    def all(self) -> list[str]:
        """Every name."""
        return [*self.whole, *self.of_groups, *self.gaps]

    def matched(self, rule: RuleSpec) -> tuple[list[str], list[str]]:
        """Return which numbers, and which gaps, a rule matches for some value of its slice."""
        pattern, at, behind = rule.estimate.partition("@")
        if not at:
            return matching(pattern, self.whole), []
        sliced = {**self.whole, **self.of_groups}
        numbers = [
            name
            for name in matching(pattern, sliced)
            if any(may_match_slice(behind, field) for field in sliced[name])
        ]
        gaps = [
            name
            for name in matching(pattern, self.gaps)
            if any(may_match_gap(behind, field) for field in self.gaps[name])
        ]
        return numbers, gaps


def check_gates_against_suite(suite: SuiteSpec, gates: Sequence[GateSpec]) -> list[Problem]:
    """Return a problem for each rule, and each waiver of a slice, that matches nothing that ``suite`` can yield.

    A slice matches when its field is declared, whatever its value: values are known only from the data. What takes a
    base model or an adapter matches too: the command line may name them. A rule that does not fit what it matches is a
    problem as well: ``gap_at_most`` on what is no gap, ``exact`` on a gap, a blocking rule on an advisory number.
    """
    names = _names_of(suite)
    allowed = ", ".join([*names.all, *(f"{task.name}/… ({LISTED})" for task in suite.spectral)])
    for task in suite.spectral:
        names.whole |= census_fields(task)
    lacking = {name: how for task in suite.spectral for name, how in census_lacking(task).items()}
    return [
        problem
        for gate in gates
        for found in (
            _unmatched_rules(gate, names, lacking, allowed),
            _misfits(gate, names),
            _unmatched_waivers(gate, names),
        )
        for problem in found
    ]


def refuse_misfits(suite: SuiteSpec, gates: Sequence[GateSpec]) -> None:
    """Raise UsageError where a rule does not fit what it matches in ``suite``, whose plug-ins are imported.

    What matches nothing is no problem here: it will be missing, which no verdict passes.
    """
    names = _names_of(suite)
    if problems := [problem for gate in gates for problem in _misfits(gate, names)]:
        raise UsageError(problems)


def _names_of(suite: SuiteSpec) -> _Names:
    """Return what the tasks that ask the model give; without the metrics of plug-ins that are not there."""
    names = _Names()
    known = parts("metric")
    for task in suite.sampled:
        fields = task.groups.names if task.groups else ()
        for human in HUMAN_METRICS if task.review else ():  # once people have rated its answers
            split_by = () if human == HUMAN_AGREEMENT else task.split_by
            names.whole[estimate_name(task.name, human, None)] = split_by
        for spec in (spec for spec in task.metrics if spec.name in known):
            metric = build_metric(spec, task)
            whole = [
                estimate_name(task.name, full_name(metric.name, measure.name), None)
                for measure in metric.measures
            ]
            gaps, of_groups = gap_names(task, [metric]), group_names(task, [metric])
            if task.review and f"{task.name}/{CORRECTED}" in [
                f"{name}.corrected" for name in whole
            ]:
                names.whole[estimate_name(task.name, CORRECTED, None)] = ()
            names.whole |= dict.fromkeys(whole, task.split_by)
            names.of_groups |= dict.fromkeys(of_groups, fields)
            names.gaps |= dict.fromkeys(gaps, fields)
            names.forms |= gaps
            if metric.judges:
                names.judged |= {*whole, *of_groups, *gaps}
            if (
                spec.name == "judged" and len(metric.judges) == 1
            ):  # with a card that says what passes
                shares = [estimate_name(task.name, name, None) for name in DIAGNOSED]
                names.whole |= dict.fromkeys(shares, ())
                names.judged |= {*shares}
            if isinstance(metric, JudgedMetric) and metric.form == "pairwise":
                names.of_pairs |= dict.fromkeys([*whole, *of_groups, *gaps], whole[0])
            if metric.advisory:
                names.advisory |= dict.fromkeys([*whole, *of_groups, *gaps], metric.advisory)
    return names


def _unmatched_rules(
    gate: GateSpec, names: _Names, lacking: Mapping[str, str], allowed: str
) -> Iterator[Problem]:
    for place, rule in enumerate(gate.rules):
        key = ("rules", place, "estimate")
        pattern, at, behind = rule.estimate.partition("@")
        if any(names.matched(rule)):
            continue
        if not matching(pattern, names.all):
            unasked = next(iter(matching(pattern, lacking)), "")
            close = "" if unasked else nearest(pattern, names.all)
            message = f"no estimate of this suite is named {pattern!r}"
            if unasked:
                message = f"{unasked!r} is not measured: its task does not say '{lacking[unasked]}'"
            meant = close and f"{close}{at}{behind}"
            if close in names.gaps and not at:
                meant = f"{close}@{names.gaps[close][0]}"
            yield _problem(gate, key, message, allowed, meant)
        elif matching(pattern, names.gaps):
            yield _no_such_gap(gate, key, rule, names)
        else:
            yield _no_such_slice(gate, key, rule, names)


def _no_such_gap(gate: GateSpec, key: KeyPath, rule: RuleSpec, names: _Names) -> Problem:
    """Return what is wrong with what stands behind the ``@`` where a rule names a gap."""
    pattern, at, behind = rule.estimate.partition("@")
    fields = _fields_under(pattern, names.gaps)
    written, equals, _ = behind.partition("=")
    close = fields[0] if not at and len(fields) == 1 else _nearest_field(written, fields)
    message = f"{pattern!r} is not compared by {written!r}"
    if not at or equals:
        message = f"{pattern!r} is a gap between groups, named by their field without a value"
    shown = ", ".join(f"@{name}" for name in fields)
    return _problem(gate, key, message, shown, close and f"{pattern}@{close}")


def _nearest_field(written: str, fields: Sequence[str]) -> str:
    """Return the field that was meant: an intersection whose fields were written in another order, or a like name."""
    same = (f for f in fields if sorted(f.split("+")) == sorted(written.split("+")))
    return next(same, None) or nearest(written, fields)


def _no_such_slice(gate: GateSpec, key: KeyPath, rule: RuleSpec, names: _Names) -> Problem:
    """Return what is wrong with what stands behind the ``@`` where a rule names a number of samples."""
    pattern, at, behind = rule.estimate.partition("@")
    sliced = {**names.whole, **names.of_groups}
    fields = _fields_under(pattern, sliced)
    written, equals, value = behind.partition("=")
    close = _nearest_field(written, fields)
    message = f"{pattern!r} is not sliced by {written!r}"
    if not at:
        message, close = f"{pattern!r} is given of each group alone", fields[0]
    elif not equals and any(written in by for by in names.gaps.values()):
        message = f"{pattern!r} is a number of each group and no gap between them"
    meant = close and f"{pattern}@{close}={value or '*'}"
    return _problem(gate, key, message, _slices(fields, "@"), meant)


def _misfits(gate: GateSpec, names: _Names) -> Iterator[Problem]:
    """Yield where a rule's condition or severity does not fit what the rule matches."""
    for place, rule in enumerate(gate.rules):
        at = ("rules", place)
        numbers, gaps = names.matched(rule)
        if rule.require == GAP_AT_MOST and numbers:
            known = ", ".join(names.gaps) or "none: no task of the suite declares 'groups'"
            message = f"{GAP_AT_MOST} reads gaps between groups, and {numbers[0]!r} is none"
            own = f"{numbers[0]}.gap"
            meant = f"{own}@{names.gaps[own][0]}" if own in names.gaps else ""
            yield _problem(gate, (*at, "require"), message, known, meant)
        others = [name for name in (*numbers, *gaps) if not name.endswith(f"/{HUMAN_AGREEMENT}")]
        if rule.require == LABELLED and others:
            theirs = [name for name in names.whole if name.endswith(f"/{HUMAN_AGREEMENT}")]
            message = (
                f"{LABELLED} reads how far annotators agree, and {others[0]!r} is another number"
            )
            shown = ", ".join(theirs) or "none: no task of the suite declares 'review'"
            yield _problem(gate, (*at, "require"), message, shown, "")
        if gaps and rule.options.get("exact"):
            message = f"{gaps[0]!r} is a gap between groups and has no exact interval"
            yield _problem(gate, (*at, "exact"), message, "a rate")
        if gaps and not numbers:
            yield from _never_decided(gate, at, rule, gaps[0])
        ratios = [name for name in gaps if names.forms[name].form == "ratio"]
        if ratios and ratios == gaps and not numbers and _compares(rule):
            message = f"{ratios[0]!r} is a ratio, and the change of a ratio is not given"
            differences = [n for n in names.gaps if names.forms[n].form == "difference"]
            meant = nearest(ratios[0], differences)
            yield _problem(gate, (*at, "estimate"), message, "a difference", meant)
        yield from _odd_tolerance(gate, (*at, "tolerate"), rule, gaps, ratios)
        yield from _misjudged(gate, at, rule, names, [*numbers, *gaps])
        advisory = [name for name in (*numbers, *gaps) if name in names.advisory]
        if advisory and rule.severity == "block":
            message = f"no blocking rule may rest on {advisory[0]!r}: {names.advisory[advisory[0]]}"
            yield _problem(gate, (*at, "severity"), message, "warn or info")


def _misjudged(
    gate: GateSpec, at: KeyPath, rule: RuleSpec, names: _Names, matched: Sequence[str]
) -> Iterator[Problem]:
    """Yield where a rule compares what is a comparison already, or demands a judge's card where no judge speaks."""
    if not matched:
        return
    if _compares(rule) and all(name in names.of_pairs for name in matched):
        message = (
            f"{matched[0]!r} is the candidate against the baseline already, and the baseline has no such number to "
            f"compare it with: {rule.require} would never be decided"
        )
        limit = f"at_least on {names.of_pairs[matched[0]]}, such as 'value: 0.5'"
        yield _problem(gate, (*at, "require"), message, limit)
    if rule.judge is not None and not any(name in names.judged for name in matched):
        message = f"{matched[0]!r} is given by no judge: there is no card that could meet demands"
        known = ", ".join(sorted(names.judged & {*names.whole}))
        shown = known or "none: no task of the suite has a metric that a judge gives"
        yield _problem(gate, (*at, "judge"), message, shown)


def _never_decided(gate: GateSpec, at: KeyPath, rule: RuleSpec, name: str) -> Iterator[Problem]:
    """Yield why a condition never decides on a gap, whatever a run measures."""
    if rule.require in OF_SAMPLES:
        message = (
            f"{rule.require} counts single samples, and {name!r} is a gap between groups of them"
        )
        yield _problem(gate, (*at, "require"), message, "a rate or a mean")
    elif rule.require == "recovers" or rule.options.get("relative"):
        message = f"{name!r} is a gap between groups, and what a share of the baseline's is worth is not known"
        key = "require" if rule.require == "recovers" else "relative"
        yield _problem(
            gate, (*at, key), message, "no_worse_than with a margin in the metric's unit"
        )


def _compares(rule: RuleSpec) -> bool:
    return condition_of(rule).reads == "comparison"


def _odd_tolerance(
    gate: GateSpec, at: KeyPath, rule: RuleSpec, gaps: Sequence[str], ratios: Sequence[str]
) -> Iterator[Problem]:
    value, tolerate = rule.options.get("value"), rule.options.get("tolerate")
    if rule.require != GAP_AT_MOST or tolerate is None or value is None or not gaps:
        return
    if len(ratios) < len(gaps) and tolerate < value:
        message = "what may remain possible must not be narrower than the gap that is allowed"
        yield _problem(gate, at, message, f"at least {value:g}, the rule's 'value'")
    if ratios and tolerate > value:
        message = f"{ratios[0]!r} is a ratio: what may remain possible lies below the least allowed"
        yield _problem(gate, at, message, f"at most {value:g}, the rule's 'value'")


def _unmatched_waivers(gate: GateSpec, names: _Names) -> Iterator[Problem]:
    """A rule on ``@*`` matches a waiver's slice of any name; the suite knows which there are."""
    estimates = {rule.id: rule.estimate for rule in gate.rules}
    for place, waiver in enumerate(gate.waivers):
        if waiver.slice is None or waiver.rule not in estimates:
            continue
        written, equals, value = waiver.slice.partition("=")
        held = {**names.whole, **names.of_groups} if equals else names.gaps
        pattern = estimates[waiver.rule].partition("@")[0]
        fields = _fields_under(pattern, held)
        if matching(pattern, names.all) and written not in fields:
            close = nearest(written, fields)
            how = "sliced" if equals else "compared"
            message = f"{pattern!r} is not {how} by {written!r}"
            meant = close and f"{close}{equals}{value}"
            shown = _slices(fields) if equals else ", ".join(fields)
            yield _problem(gate, ("waivers", place, "slice"), message, shown, meant)


def _fields_under(pattern: str, held: Fields) -> list[str]:
    return sorted({field for name in matching(pattern, held) for field in held[name]})


def _slices(fields: Sequence[str], before: str = "") -> str:
    shown = ", ".join(f"{before}{field}=…" for field in fields)
    return shown or "no slice: its task has none under 'slices'"


def _problem(gate: GateSpec, at: KeyPath, message: str, allowed: str, close: str = "") -> Problem:
    if isinstance(gate, LoadedGate):
        return gate.problem(at, message, allowed, close)
    return Problem(f"gate {gate.gate}", None, key_path(at), message, allowed, close)
