"""``evalkit validate``: check files without a model."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evalkit.cli.options import EXISTING_FILE, option

if TYPE_CHECKING:
    from evalkit.metrics.base import Metric
    from evalkit.planning import PlannedSample
    from evalkit.records.exchange import Sample
    from evalkit.records.suite import SampledTask

MOST_ROWS = 3
"""Rows told of each reason why a row cannot be asked; the others are counted."""
_PLACE = re.compile(r"^\S+:\d+: ")
"""What a problem of a row begins with."""


@click.command("validate")
@click.argument("files", nargs=-1, required=True, type=EXISTING_FILE)
@option(
    "--rows",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    help="Rows of each data set to read and render; 0 reads none.",
)
@option(
    "--data",
    is_flag=True,
    help="Also read every row and show what the data hold: groups, labels by group, repeated questions.",
)
@option(
    "--against",
    type=EXISTING_FILE,
    multiple=True,
    help="With --data: a file of other rows (training, say); whatever asks the same as a row under test is told.",
)
def command(files: tuple[Path, ...], rows: int, data: bool, against: tuple[Path, ...]) -> int:
    """Check suite, gate and judge FILES: every mistake at once, with its line. Needs no model.

    \b
    evalkit validate suites/quickstart/suite.yaml gates/*.yaml

    A suite's gates are checked with it, against the estimates the suite can give, and the first rows of every
    data set are read and rendered.

    \b
    evalkit validate suite.yaml --data --against train.jsonl

    shows what of a gap between groups may come from the data, and which rows under test were trained on.
    """
    from evalkit.errors import Problem, UsageError

    if against and not data:
        raise UsageError("--against goes with --data")
    problems: list[Problem] = []
    lines: list[str] = []
    for path in files:
        try:
            lines.append(_check(path, rows))
        except UsageError as error:
            if not error.problems:
                raise
            problems += error.problems
    if problems:
        raise UsageError(list(dict.fromkeys(problems)))
    for line in lines:
        click.echo(line)
    if data:
        _show_data(files, against)
    return 0


def _show_data(files: tuple[Path, ...], against: tuple[Path, ...]) -> None:
    from evalkit.cli.data_bias import print_data
    from evalkit.errors import UsageError
    from evalkit.loaders.suites import load_suite
    from evalkit.loaders.yaml_source import read_yaml

    suites = [path for path in files if "suite" in read_yaml(path).value]
    if not suites:
        raise UsageError("--data reads the data sets of a suite, and no file here is one")
    for path in suites:
        loaded = load_suite(path)
        click.echo("")
        print_data(loaded.spec, loaded.folder, against)


def _check(path: Path, rows: int) -> str:
    from evalkit.loaders.yaml_source import read_yaml

    value = read_yaml(path).value
    if "judge" in value and "suite" not in value and "gate" not in value:
        from evalkit.loaders.judges import load_judge

        judge = load_judge(path).spec
        return f"{path}: judge {judge.judge!r}, {judge.form}: ok"
    if "gate" in value:
        from evalkit.loaders.gates import load_gate

        gate = load_gate(path)
        return f"{path}: gate {gate.gate!r}, {_count(len(gate.rules), 'rule')}: ok"
    return _check_suite(path, rows)


def _check_suite(path: Path, rows: int) -> str:
    from evalkit.cli.assemble import load_files
    from evalkit.errors import Problem, UsageError
    from evalkit.loaders.suites import check_gates_against_suite

    loaded, gates = load_files(path, ())
    problems = list(check_gates_against_suite(loaded.spec, gates))
    checked = 0
    notes: list[str] = []
    for task in loaded.spec.sampled if rows else ():
        where = f"task {task.name!r}"
        try:
            read = _read(task, loaded.folder, rows)
            checked += read.rows
            notes += read.notes(task.name)
            problems += [
                Problem(str(path), None, where, told) for told in _told_once(read.unusable)
            ]
            problems += [
                Problem(str(path), None, f"{where}: {at}", *told) for at, told in read.problems()
            ]
        except UsageError as error:
            problems += error.problems or [Problem(str(path), None, where, str(error))]
    if problems:
        raise UsageError(problems)
    names = ", ".join(gate.gate for gate in gates) or "none"
    return "\n".join(
        [
            f"{path}: suite {loaded.spec.suite!r}, {_count(len(loaded.spec.tasks), 'task')}, gates: {names}, "
            f"{checked} rows rendered: ok",
            *notes,
        ]
    )


@dataclass
class _Read:
    """What the first rows of one task's data set say of themselves."""

    rows: int = 0
    """How many were read."""
    whole: bool = False
    """Whether they are all that there are."""
    unusable: list[str] = field(default_factory=list)
    """Why some of them cannot be asked."""
    swapped: str = ""
    """What the first sample's variants ask."""
    groups: dict[str, Counter[str]] = field(default_factory=dict)
    """Field that names groups → group → rows."""
    sideless: dict[str, list[str]] = field(default_factory=dict)
    """Metric that takes a label's side → the labels that are on neither."""

    def problems(self) -> Iterator[tuple[str, tuple[str, str]]]:
        """Yield what no row read can serve: its place in the task, what is wrong and what is allowed."""
        if not self.rows:
            yield "dataset", ("the data set holds no sample: nothing can be measured", "")
            return
        for name, held in self.groups.items():
            if not held:
                nowhere = f"no row read has the field {name!r}, so that it names no group"
                yield "groups.by", (nowhere, "")
        for metric, labels in self.sideless.items():
            if len(labels) == self.rows - len(self.unusable):
                told = f"no row read has a label that is positive or negative: the first is {labels[0]!r}"
                mend = f"texts of either side: {{{metric}: {{positive: [...], negative: [...]}}}}"
                yield f"metric {metric}", (told, mend)

    def notes(self, task: str) -> Iterator[str]:
        """Yield a line for each thing that some of the rows lack."""
        if self.swapped:
            yield self.swapped
        for name, held in self.groups.items():
            if lost := self.rows - len(self.unusable) - held.total():
                told = f"{lost:,} of {_count(self.rows, 'row')} read do not say their {name}"
                yield f"  {task}: {told}: they are in no group"
            if len(held) == 1 and self.whole:
                alone = json.dumps(next(iter(held)))
                yield f"  {task}: every row that says its {name} says {alone}: a gap takes two groups, and has no value"
        for metric, labels in self.sideless.items():
            if labels:
                yield (
                    f"  {task}: {len(labels):,} of {_count(self.rows, 'row')} read have a label that is neither "
                    f"positive nor negative, and no score by {metric}: the first is {labels[0]!r}"
                )


def _read(task: SampledTask, folder: Path, rows: int) -> _Read:
    """Return what the first ``rows`` rows of a task's data set say; raise UsageError where they cannot be read."""
    from evalkit.cli.assemble import task_parts
    from evalkit.identity import digest_bytes
    from evalkit.metrics.sides import SidesOptions
    from evalkit.planning import MISSING, TaskPlanner
    from evalkit.records.exchange import Model

    parts = task_parts(task, folder, lambda file: digest_bytes(str(file).encode()))
    nobody = Model("validate", "", "", pinned=True)
    sided = [m for m in parts.metrics if isinstance(m.options, SidesOptions) and m.needs_target]
    read = _Read(
        groups={name: Counter() for name in (task.groups.names if task.groups else ())},
        sideless={metric.name: [] for metric in sided},
    )
    samples = TaskPlanner(task, nobody, parts.examples).plan(parts.source.rows())
    for planned in islice(samples, rows):
        read.rows += 1
        if planned.problem:
            read.unusable.append(planned.problem)
            continue
        if planned.requests and planned.sample.variants and not read.swapped:
            read.swapped = _variants(task.name, planned)
        for name, held in read.groups.items():
            if (group := planned.sample.attributes[name]) != MISSING:
                held[group] += 1
        for metric in sided:
            if _label_refused(metric, planned.sample):
                read.sideless[metric.name].append(planned.sample.targets[0])
    read.whole = next(iter(samples), None) is None
    return read


def _told_once(problems: Sequence[str]) -> Iterator[str]:
    """Yield each reason with the first rows it holds for; how many more there are is counted."""
    by_reason: dict[str, list[str]] = {}
    for problem in problems:
        by_reason.setdefault(_PLACE.sub("", problem), []).append(problem)
    for told in by_reason.values():
        yield from told[:MOST_ROWS]
        if (more := len(told) - MOST_ROWS) > 0:
            yield f"and {_count(more, 'row')} more like this"


def _label_refused(metric: Metric, sample: Sample) -> bool:
    """Whether a metric can score no answer to a sample, whatever it says, since its label is on neither side."""
    from evalkit.records.exchange import Completion, Unscored

    if not sample.targets:
        return False
    silence = [Completion("", "", "stop")] * max(1, len(sample.choices))
    scored = metric.score(sample, silence)
    return isinstance(scored, Unscored) and scored.reason.startswith("label ")


def _variants(task: str, planned: PlannedSample) -> str:
    """Return what a sample's variants ask, as an example of what was swapped; the last message of a chat."""
    names = planned.sample.variants
    lines = [f"  {task}: sample {planned.sample.id!r} is asked as"]
    width = len(planned.requests) // len(names)
    for k, name in enumerate(names):
        request = planned.requests[k * width]
        prompt = request.messages[-1].content if request.messages else request.prompt
        lines.append(f"    {name}: {json.dumps(prompt, ensure_ascii=False)}")
    return "\n".join(lines)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
