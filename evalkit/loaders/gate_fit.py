"""Checks, before anything is run, that every rule of a gate can match an estimate that the suite will give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evalkit.errors import Problem
from evalkit.estimating import full_name
from evalkit.gates.evaluate import matching
from evalkit.loaders.gates import LoadedGate
from evalkit.loaders.suite_metrics import build_metric
from evalkit.records.suite import GateSpec, RuleSpec, SuiteSpec
from evalkit.registry import nearest


def check_gates_against_suite(suite: SuiteSpec, gates: Sequence[GateSpec]) -> list[Problem]:
    """Return a problem for each rule whose pattern matches nothing that ``suite`` can yield.

    A slice matches when its field is declared, whatever its value: values are known only from the data.
    """
    metrics = dict(_metrics_of(suite))
    return [
        problem
        for gate in gates
        for place, rule in enumerate(gate.rules)
        for problem in _unmatched(gate, place, rule, metrics)
    ]


def _metrics_of(suite: SuiteSpec) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield every ``task/metric[.measure]`` with the fields that it is sliced by."""
    for task in suite.tasks:
        for spec in task.metrics:
            for measure in build_metric(spec).measures:
                yield f"{task.name}/{full_name(spec.name, measure.name)}", task.slices


def _unmatched(
    gate: GateSpec, place: int, rule: RuleSpec, metrics: dict[str, tuple[str, ...]]
) -> Iterator[Problem]:
    pattern, at, slice_pattern = rule.estimate.partition("@")
    sliced_by = [metrics[name] for name in matching(pattern, metrics)]
    fields = sorted({field for fields in sliced_by for field in fields})
    if not sliced_by:
        close = nearest(pattern, metrics)
        message = f"no estimate of this suite is named {pattern!r}"
        meant = close and f"{close}{at}{slice_pattern}"
        yield _problem(gate, place, message, ", ".join(metrics), meant)
    elif at and not any(_may_match(slice_pattern, field) for field in fields):
        written, _, value = slice_pattern.partition("=")
        close = nearest(written, fields)
        message = f"{pattern!r} is not sliced by {written!r}"
        allowed = (
            ", ".join(f"@{field}=…" for field in fields)
            or "no slice: its task has none under 'slices'"
        )
        meant = close and f"{pattern}@{close}={value or '*'}"
        yield _problem(gate, place, message, allowed, meant)


def _may_match(slice_pattern: str, field: str) -> bool:
    """Tell whether ``field=value`` matches a pattern for some value.

    After a ``*`` anything may follow, so what stands before the first one decides.
    """
    head, star, _ = slice_pattern.partition("*")
    begun = f"{field}="
    return head.startswith(begun) or (star == "*" and begun.startswith(head))


def _problem(gate: GateSpec, place: int, message: str, allowed: str, close: str) -> Problem:
    if isinstance(gate, LoadedGate):
        return gate.problem(place, "estimate", message, allowed, close)
    return Problem(f"gate {gate.gate}", None, f"rules[{place}].estimate", message, allowed, close)
