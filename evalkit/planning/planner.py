"""Rows to planned samples: identifiers, attributes and requests, in data order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evalkit.errors import Problem, UsageError
from evalkit.identity import canonical_json
from evalkit.planning.forms import FORMS
from evalkit.planning.requests import Asked, reason
from evalkit.planning.templates import Row
from evalkit.records.exchange import Model, Need, Request, Sample
from evalkit.records.suite import CounterfactualTask, GenerateTask, SampledTask

MISSING = "(missing)"
"""Slice value of samples that lack the field: they are shown, not dropped."""


@dataclass(frozen=True, slots=True)
class PlannedSample:
    """A sample with everything that will be asked about it."""

    sample: Sample
    """The sample; without targets where ``problem`` is set."""
    requests: tuple[Request, ...]
    """Replicates in order, each with ``per_replicate`` requests; empty where ``problem`` is set."""
    per_replicate: int
    """Requests of one replicate: 1, one per choice, or all of every variant."""
    problem: str = ""
    """Why the sample could not be turned into requests; counted as a failure of kind ``bad_sample``."""


def needs_of(task: SampledTask) -> frozenset[Need]:
    """Return what a task asks of a backend."""
    if isinstance(task, CounterfactualTask) and task.choices is not None:
        return frozenset({"logprobs"})
    if isinstance(task, GenerateTask | CounterfactualTask):
        return frozenset({"chat" if task.messages else "text"})
    return frozenset({"logprobs"})


def replicates_of(task: SampledTask) -> int:
    """Return how many answers a task asks for to each sample."""
    return task.decoding.replicates if isinstance(task, GenerateTask) else 1


class TaskPlanner:
    """Turns the rows of one task into planned samples for one model.

    ``examples`` are the few-shot rows. Raises UsageError where an example cannot be rendered.
    """

    def __init__(self, task: SampledTask, model: Model, examples: Sequence[Row] = ()) -> None:
        self.task = task
        self._model = model
        self._ids: set[int] = set()
        self._numbered: bool | None = None
        self._form = FORMS[task.kind](task, model, examples)

    def plan(self, rows: Iterator[tuple[str, Row]]) -> Iterator[PlannedSample]:
        """Yield one planned sample per row, in order.

        A row that a template cannot render becomes a planned sample with a ``problem``; an identifier that is
        missing or used twice is a UsageError, because nothing could be paired by it.
        """
        for index, (place, row) in enumerate(rows):
            identifier = self._identify(place, index, row)
            try:
                asked: Asked = self._form.ask(identifier, row)
                problem = ""
            except (
                Exception
            ) as error:  # templates are the user's code: what breaks there is counted
                asked = Asked((), (), (), 1)
                problem = f"{place}: {reason(error)}"
            sample = Sample(
                id=identifier,
                index=index,
                fields=row,
                targets=asked.targets,
                choices=asked.choices,
                attributes=attributes_of(row, self.task),
                cluster=None if self.task.cluster is None else attribute_of(row, self.task.cluster),
                variants=asked.variants,
            )
            yield PlannedSample(sample, asked.requests, asked.per_replicate, problem)

    def _identify(self, place: str, index: int, row: Row) -> str:
        field = self.task.dataset.id
        if field is None:
            if self._numbered is None:
                self._numbered = "id" not in row
            if self._numbered:
                return str(index)
            field = "id"
        value = row.get(field)
        if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
            raise UsageError(
                [
                    Problem(
                        place, None, field, f"no identifier: found {value!r}", "a text or a number"
                    )
                ]
            )
        identifier = str(value)
        mark = hash(identifier)  # 64 bits: a million identifiers in about 60 MB
        if mark in self._ids:
            raise UsageError(
                [
                    Problem(
                        place,
                        None,
                        field,
                        f"identifier {identifier!r} is used twice",
                        "unique values",
                    )
                ]
            )
        self._ids.add(mark)
        return identifier


def attributes_of(row: Row, task: SampledTask) -> dict[str, str]:
    """Return what a row is split by: field → value. An intersection lacks a value where one of its fields does.

    A ``+`` within a value of an intersection is written ``\\+``, so that different values never read alike.
    """
    found = {field: attribute_of(row, field) for field in task.slices}
    for fields in task.groups.by if task.groups else ():
        if isinstance(fields, str):
            found[fields] = attribute_of(row, fields)
            continue
        values = [attribute_of(row, field) for field in fields]
        parts = (value.replace("\\", "\\\\").replace("+", "\\+") for value in values)
        found["+".join(fields)] = MISSING if MISSING in values else "+".join(parts)
    return found


def attribute_of(row: Row, field: str) -> str:
    """Return a row's value of a slice or cluster field as text; ``MISSING`` where it has none."""
    value = row.get(field)
    if value is None or value == "":
        return MISSING
    return value if isinstance(value, str) else canonical_json(value).decode("utf-8", "replace")
