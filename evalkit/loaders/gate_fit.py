"""Checks, before anything is run, that every rule and waiver of a gate can match what the suite will give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from evalkit.errors import Problem
from evalkit.estimating import full_name
from evalkit.gates.census import Fields, census_fields, census_lacking
from evalkit.gates.evaluate import matching, may_match_slice
from evalkit.loaders.gates import LoadedGate
from evalkit.loaders.places import KeyPath, key_path
from evalkit.loaders.suite_metrics import build_metric
from evalkit.records.scorecard import estimate_name
from evalkit.records.suite import GateSpec, SuiteSpec
from evalkit.registry import nearest

LISTED = "'evalkit list weights' has its names"
"""Where the many numbers of weights are listed."""


def check_gates_against_suite(suite: SuiteSpec, gates: Sequence[GateSpec]) -> list[Problem]:
    """Return a problem for each rule, and each waiver of a slice, that matches nothing that ``suite`` can yield.

    A slice matches when its field is declared, whatever its value: values are known only from the data. What takes a
    base model or an adapter matches too: the command line may name them.
    """
    sampled = dict(_metrics_of(suite))
    metrics = sampled | {
        name: fields for task in suite.spectral for name, fields in census_fields(task).items()
    }
    lacking = {name: how for task in suite.spectral for name, how in census_lacking(task).items()}
    allowed = [*sampled, *(f"{task.name}/… ({LISTED})" for task in suite.spectral)]
    return [
        problem
        for gate in gates
        for found in (
            _unmatched_rules(gate, metrics, lacking, ", ".join(allowed)),
            _unmatched_waivers(gate, metrics),
        )
        for problem in found
    ]


def _metrics_of(suite: SuiteSpec) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield every ``task/metric[.measure]`` with the fields that it is sliced by."""
    for task in suite.sampled:
        for spec in task.metrics:
            for measure in build_metric(spec).measures:
                name = estimate_name(task.name, full_name(spec.name, measure.name), None)
                yield name, task.slices


def _unmatched_rules(
    gate: GateSpec, metrics: Fields, lacking: Mapping[str, str], allowed: str
) -> Iterator[Problem]:
    for place, rule in enumerate(gate.rules):
        key = ("rules", place, "estimate")
        pattern, at, slice_pattern = rule.estimate.partition("@")
        fields = _sliced_by(pattern, metrics)
        if not matching(pattern, metrics):
            unasked = next(iter(matching(pattern, lacking)), "")
            close = "" if unasked else nearest(pattern, metrics)
            message = f"no estimate of this suite is named {pattern!r}"
            if unasked:
                message = f"{unasked!r} is not measured: its task does not say '{lacking[unasked]}'"
            meant = close and f"{close}{at}{slice_pattern}"
            yield _problem(gate, key, message, allowed, meant)
        elif at and not any(may_match_slice(slice_pattern, field) for field in fields):
            written, _, value = slice_pattern.partition("=")
            close = nearest(written, fields)
            message = f"{pattern!r} is not sliced by {written!r}"
            meant = close and f"{pattern}@{close}={value or '*'}"
            yield _problem(gate, key, message, _slices(fields, "@"), meant)


def _unmatched_waivers(gate: GateSpec, metrics: Fields) -> Iterator[Problem]:
    """A rule on ``@*`` matches a waiver's slice of any name; the suite knows which there are."""
    estimates = {rule.id: rule.estimate for rule in gate.rules}
    for place, waiver in enumerate(gate.waivers):
        if waiver.slice is None or waiver.rule not in estimates:
            continue
        written, _, value = waiver.slice.partition("=")
        pattern = estimates[waiver.rule].partition("@")[0]
        fields = _sliced_by(pattern, metrics)
        if matching(pattern, metrics) and written not in fields:
            close = nearest(written, fields)
            message = f"{pattern!r} is not sliced by {written!r}"
            meant = close and f"{close}={value}"
            yield _problem(gate, ("waivers", place, "slice"), message, _slices(fields), meant)


def _sliced_by(pattern: str, metrics: Fields) -> list[str]:
    return sorted({field for name in matching(pattern, metrics) for field in metrics[name]})


def _slices(fields: Sequence[str], before: str = "") -> str:
    shown = ", ".join(f"{before}{field}=…" for field in fields)
    return shown or "no slice: its task has none under 'slices'"


def _problem(gate: GateSpec, at: KeyPath, message: str, allowed: str, close: str) -> Problem:
    if isinstance(gate, LoadedGate):
        return gate.problem(at, message, allowed, close)
    return Problem(f"gate {gate.gate}", None, key_path(at), message, allowed, close)
