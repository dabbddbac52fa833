"""Loads a suite file: everything it says is checked here, without a model, and every mistake is told at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evalkit.errors import Problem, UsageError
from evalkit.loaders.declarations import check, names_twice
from evalkit.loaders.gate_fit import check_gates_against_suite
from evalkit.loaders.judges import LoadedJudge, misjudged, read_judges
from evalkit.loaders.references import import_plugins, missing_file
from evalkit.loaders.tasks import read_task
from evalkit.loaders.yaml_source import YamlSource, read_yaml
from evalkit.records.suite import SuiteSpec

__all__ = ["LoadedSuite", "check_gates_against_suite", "load_suite"]


@dataclass(frozen=True, slots=True)
class LoadedSuite:
    """A suite and where it lay."""

    spec: SuiteSpec
    """What the file declares, with the documents it names read in."""
    path: Path
    """The file as the user named it."""
    folder: Path
    """What its paths are relative to."""
    judges: Mapping[str, LoadedJudge] = field(default_factory=dict)
    """Its judges by the names that metrics give them, each with the folder of the file that declares it."""


def load_suite(path: Path) -> LoadedSuite:
    """Return a suite; raises one UsageError with every problem in the file, in the order of its lines.

    Modules under ``plugins:`` are imported, which runs their code. Models are not looked for.
    """
    source = read_yaml(path)
    problems = [*import_plugins(source), *_gate_files(source)]
    value = dict(source.value)
    twice = names_twice(value.get("tasks"), "name", source, ("tasks",))
    problems += twice
    if isinstance(value.get("tasks"), list):
        read = [read_task(task, source, ("tasks", n)) for n, task in enumerate(value["tasks"])]
        value["tasks"] = [task for task, _ in read]
        problems += [problem for _, wrong in read for problem in wrong]
    judges, wrong = read_judges(source)
    problems += wrong
    for place, task in enumerate(value["tasks"] if isinstance(value.get("tasks"), list) else ()):
        if isinstance(task, dict):
            at = ("tasks", place, "metrics")
            problems += misjudged(task.get("metrics"), value.get("judges"), judges, source, at)
    if isinstance(value.get("judges"), dict):
        value["judges"] = {
            name: {**judge.spec.model_dump(mode="json"), "judge": name}
            for name, judge in judges.items()
        }
    spec, wrong = check(SuiteSpec, value, source)
    problems += [p for p in wrong if p.key or not twice]  # the suite's own law names no line
    told = source.in_order(problems)
    if told or spec is None:
        raise UsageError(told)
    return LoadedSuite(spec, path, path.parent, judges)


def _gate_files(source: YamlSource) -> Iterator[Problem]:
    gates = source.value.get("gates")
    for place, gate in enumerate(gates if isinstance(gates, list) else ()):
        if isinstance(gate, str) and (problem := missing_file(source, ("gates", place), gate)):
            yield problem
