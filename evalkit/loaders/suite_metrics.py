"""The metrics of a task as a suite file writes them: ``name`` or ``{name: {option: value}}``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, get_args

from evalkit.errors import Problem
from evalkit.loaders.declarations import check, refusals
from evalkit.loaders.places import KeyPath, Value
from evalkit.loaders.references import with_documents
from evalkit.loaders.sentences import found
from evalkit.loaders.yaml_source import YamlSource
from evalkit.metrics.base import Metric
from evalkit.records.suite import MetricSpec, SampledTask, TaskBase
from evalkit.registry import nearest, parts

TASKS: Mapping[Any, type[TaskBase]] = {
    get_args(task.model_fields["kind"].annotation)[0]: task
    for task in get_args(get_args(SampledTask)[0])
}
"""Kind → the class that declares such tasks, for those that ask the model and so have metrics."""

_TARGET_OPTIONAL = ("generate", "counterfactual")
"""Kinds of task that need not say what is right."""

_FORM = "a metric's name, or one name with its options: {name: {option: value}}"

WrittenMetrics = tuple[list[dict[str, Value]], list[Problem]]
"""What ``MetricSpec`` declares, one per entry, and what is wrong."""


def read_metrics(
    task: Mapping[str, Value], kind: str, source: YamlSource, at: KeyPath
) -> WrittenMetrics:
    """Return a task's list of metrics in the form that ``MetricSpec`` declares, and every problem with it.

    ``at`` is the list's place in the file. Each metric is built once, so that what only the metric itself can
    tell (a broken regular expression, an invalid JSON Schema) is told now.
    """
    specs: list[dict[str, Value]] = []
    problems: list[Problem] = []
    seen: set[str] = set()
    for place, entry in enumerate(task["metrics"]):
        here = (*at, place)
        spec, wrong = _read_metric(entry, source, here)
        if spec is not None:
            if spec["name"] in seen:
                message = f"the metric {spec['name']!r} is listed twice"
                wrong.append(source.problem(here, message, "each metric once"))
            seen.add(spec["name"])
            wrong += _misfits(spec["name"], task, kind, source, here)
        specs.append(spec or {"name": ""})
        problems += wrong
    return specs, problems


def has_target(task: Mapping[str, Value]) -> bool:
    """Tell whether a generating task says what right answers are."""
    return task.get("target") is not None or task.get("targets") is not None


def build_metric(spec: MetricSpec, task: SampledTask) -> Metric:
    """Return one of a task's metrics from a declaration that has been checked."""
    part = parts("metric")[spec.name].make
    metric: Metric = part(spec.name, part.Options.model_validate(spec.options))
    return metric.on(task)


def _read_metric(
    entry: Value, source: YamlSource, at: KeyPath
) -> tuple[dict[str, Value] | None, list[Problem]]:
    if isinstance(entry, str):
        name, written = entry, None
    elif isinstance(entry, dict) and len(entry) == 1:
        ((name, written),) = entry.items()
        at = (*at, name)
    else:
        return None, [source.problem(at, found(entry), _FORM)]
    known = parts("metric")
    if name not in known:
        message, close = f"unknown metric {name!r}", nearest(name, known)
        return None, [source.problem(at, message, ", ".join(known), close)]
    if not isinstance(written, dict | None):
        allowed = f"the metric's options, such as {known[name].example}"
        return None, [source.problem(at, found(written), allowed)]
    options, problems = with_documents(known[name].make.Options, written or {}, source, at)
    checked, wrong = check(known[name].make.Options, options, source, at)
    problems += wrong
    if checked is not None and not problems:
        problems += refusals(partial(known[name].make, name, checked), source, at)
    return {"name": name, "options": options}, problems


def _misfits(
    name: str, task: Mapping[str, Value], kind: str, source: YamlSource, at: KeyPath
) -> list[Problem]:
    """Return why a metric cannot score this task."""
    metric: type[Metric] = parts("metric")[name].make
    if kind not in TASKS:
        return []  # the kind itself is wrong, and told as such
    if kind not in metric.kinds:
        fitting = [other for other, part in parts("metric").items() if kind in part.make.kinds]
        kinds = " and ".join(sorted(metric.kinds))
        message = f"{name!r} scores tasks of kind {kinds}, this one is of kind {kind}"
        return [source.problem(at, message, ", ".join(fitting))]
    if kind in _TARGET_OPTIONAL and metric.needs_target and not has_target(task):
        message = f"{name!r} compares with a target, and the task has none"
        return [source.problem(at, message, "a task with 'target' or 'targets'")]
    return []
