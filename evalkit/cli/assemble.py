"""From files to parts: a suite, its gates, its data sets and metrics, checked and ready to run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from evalkit.errors import Problem, UsageError
from evalkit.loaders.datasets import open_dataset
from evalkit.loaders.gate_fit import refuse_misfits
from evalkit.loaders.gates import load_gate
from evalkit.loaders.suite_metrics import build_metric
from evalkit.loaders.suites import LoadedSuite, load_suite
from evalkit.planning import Row
from evalkit.records.suite import DatasetSpec, GateSpec, SampledTask, SpectralTask, SuiteSpec

if TYPE_CHECKING:
    from evalkit.pipeline import TaskParts

DigestFile = Callable[[Path], str]
T = TypeVar("T")


@dataclass(frozen=True)
class Assembly:
    """Everything a run needs but the models."""

    loaded: LoadedSuite
    """The suite file as it was read."""
    suite: SuiteSpec
    """What it declares, with the command line's ``--limit`` applied."""
    gates: tuple[GateSpec, ...]
    """Every gate that will decide."""
    tasks: tuple[TaskParts, ...]
    """The tasks that ask the model, with their data and metrics; those that read weights are the suite's alone."""


def load_files(
    suite_path: Path, gate_paths: Sequence[Path]
) -> tuple[LoadedSuite, tuple[GateSpec, ...]]:
    """Load a suite, the gates it names and those of the command line; raise every problem found at once."""
    problems: list[Problem] = []
    loaded = _loaded(load_suite, suite_path, problems)
    named = [loaded.folder / gate for gate in loaded.spec.gates] if loaded else []
    gates = load_gates([*named, *gate_paths], problems)
    assert loaded is not None, "a suite that did not load has problems"
    return loaded, gates


def load_gates(paths: Sequence[Path], problems: Sequence[Problem] = ()) -> tuple[GateSpec, ...]:
    """Load gate files; raise their problems, and those found before, all at once. No file is left out unsaid."""
    found = list(problems)
    gates = [gate for path in dict.fromkeys(paths) if (gate := _loaded(load_gate, path, found))]
    if found:
        raise UsageError(found)
    names = [gate.gate for gate in gates]
    if len(set(names)) < len(
        names
    ):  # evaluating refuses this too, but only after the models were asked
        raise UsageError(f"two gates have the same name: {', '.join(names)}")
    return tuple(gates)


def _loaded(load: Callable[[Path], T], path: Path, problems: list[Problem]) -> T | None:
    """Return what a file declares, or None with its problems noted; an error that names none is raised as it is."""
    try:
        return load(path)
    except UsageError as error:
        if not error.problems:
            raise
        problems += error.problems
        return None


def assemble(
    suite_path: Path, gate_paths: Sequence[Path], limit: int | None, digest_file: DigestFile
) -> Assembly:
    """Return the parts of a run. Raises UsageError with every problem found."""
    loaded, gates = load_files(suite_path, gate_paths)
    refuse_misfits(loaded.spec, gates)
    suite = loaded.spec if limit is None else _limited(loaded.spec, limit)
    tasks = tuple(task_parts(task, loaded.folder, digest_file) for task in suite.sampled)
    return Assembly(loaded, suite, gates, tasks)


def _limited(suite: SuiteSpec, limit: int) -> SuiteSpec:
    def cut(dataset: DatasetSpec) -> DatasetSpec:
        return dataset.model_copy(update={"limit": min(limit, dataset.limit or limit)})

    tasks = tuple(
        task
        if isinstance(task, SpectralTask)
        else task.model_copy(update={"dataset": cut(task.dataset)})
        for task in suite.tasks
    )
    return suite.model_copy(update={"tasks": tasks})


def task_parts(task: SampledTask, folder: Path, digest_file: DigestFile) -> TaskParts:
    """Return a task's rows, metrics and few-shot examples."""
    from evalkit.pipeline import TaskParts  # brings asyncio, which checking files does not need

    source = open_dataset(task.dataset, folder, digest_file)
    return TaskParts(
        spec=task,
        source=source,
        metrics=tuple(build_metric(metric, task) for metric in task.metrics),
        examples=_examples(task, source.digest, folder, digest_file),
    )


def _examples(
    task: SampledTask, tested: str, folder: Path, digest_file: DigestFile
) -> tuple[Row, ...]:
    shots = getattr(task, "fewshot", None)
    if shots is None:
        return ()
    source = open_dataset(shots.dataset, folder, digest_file)
    if source.digest == tested:
        raise UsageError(f"task {task.name!r}: the few-shot examples come from the rows under test")
    rows = tuple(row for _, row in islice(source.rows(), shots.count))
    if len(rows) < shots.count:
        raise UsageError(
            f"task {task.name!r}: {shots.count} few-shot examples asked for, {len(rows)} found"
        )
    return rows
