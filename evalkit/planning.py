"""From rows to requests: a pure function of suite, samples and model. Same in, same bytes out.

A request's id is SHA-256 over what could change its answer: the model's identity, the kind of request, the
decoding or window, and the rendered text. The sample, the task and the place in the run are no part of it, so
the same question is asked once however often it occurs. Two exceptions: a sampled answer carries a seed derived
from its sample and replicate, so that equal prompts get independent draws; and a model made of recorded answers
(``Model.per_sample``) answers samples, not prompts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jinja2 import StrictUndefined
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from evalkit.errors import Problem, UsageError
from evalkit.identity import canonical_json, derived_seed
from evalkit.records.exchange import (
    Decoding,
    Message,
    Model,
    Need,
    Request,
    RequestKind,
    Sample,
    Window,
)
from evalkit.records.suite import (
    FewShotSpec,
    GenerateTask,
    MultipleChoiceTask,
    PerplexityTask,
    TaskSpec,
)

Row = Mapping[str, Any]

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
    """Requests of one replicate: 1, or one per choice."""
    problem: str = ""
    """Why the sample could not be turned into requests; counted as a failure of kind ``bad_sample``."""


def _shown(value: Any) -> Any:  # noqa: ANN401 - whatever a template expression gives
    """Write structures as JSON and truth values as ``true``/``false``, not as Python would."""
    if isinstance(value, bool | dict | list | tuple):
        return canonical_json(value).decode("utf-8", "replace")
    if value is None:
        raise ValueError("the value is null")
    return value


_templates = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False, finalize=_shown
)


class RowTemplate:
    """A sandboxed template over a row: its names are the row's fields, ``row`` the row itself.

    Does what ``jinja2.Template.render`` does, which would copy and look through the global names twice for every row.
    """

    def __init__(self, source: str) -> None:
        """Compile ``source``; raises jinja2.TemplateSyntaxError."""
        self._template = _templates.from_string(source)
        self._globals = dict(self._template.globals)

    def render(self, row: Row) -> str:
        """Return the text for one row; raises whatever the template's expressions do."""
        names = {**self._globals, **row, "row": row}
        context = Context(_templates, names, self._template.name, self._template.blocks)
        return "".join(self._template.root_render_func(context))


class _RequestId:
    """Digests of requests that share a model, a kind and a decoding."""

    def __init__(self, model: Model, kind: RequestKind, settings: Mapping[str, Any]) -> None:
        header = {"format": 1, "model": model.digest, "kind": kind, **settings}
        self._header = hashlib.sha256(canonical_json(header))

    def __call__(self, *parts: str) -> str:
        state = self._header.copy()
        for part in parts:
            raw = part.encode("utf-8", "surrogatepass")
            state.update(len(raw).to_bytes(8, "little"))
            state.update(raw)
        return state.hexdigest()


def needs_of(task: TaskSpec) -> frozenset[Need]:
    """Return what a task asks of a backend."""
    if isinstance(task, GenerateTask):
        return frozenset({"chat" if task.messages else "text"})
    return frozenset({"logprobs"})


class TaskPlanner:
    """Turns the rows of one task into planned samples for one model.

    ``examples`` are the few-shot rows. Raises UsageError where an example cannot be rendered.
    """

    def __init__(self, task: TaskSpec, model: Model, examples: Sequence[Row] = ()) -> None:
        self.task = task
        self._model = model
        self._ids: set[int] = set()
        self._numbered: bool | None = None
        self._form = _FORMS[task.kind](task, model, examples)

    def plan(self, rows: Iterator[tuple[str, Row]]) -> Iterator[PlannedSample]:
        """Yield one planned sample per row, in order.

        A row that a template cannot render becomes a planned sample with a ``problem``; an identifier that is
        missing or used twice is a UsageError, because nothing could be paired by it.
        """
        for index, (place, row) in enumerate(rows):
            identifier = self._identify(place, index, row)
            try:
                targets, choices, requests, width = self._form.ask(identifier, row)
                problem = ""
            except (
                Exception
            ) as error:  # templates are the user's code: whatever a row does to them is counted
                targets, choices, requests, width = (), (), (), 1
                problem = f"{place}: {_reason(error)}"
            sample = Sample(
                id=identifier,
                index=index,
                fields=row,
                targets=targets,
                choices=choices,
                attributes={field: _attribute(row, field) for field in self.task.slices},
                cluster=None if self.task.cluster is None else _attribute(row, self.task.cluster),
            )
            yield PlannedSample(sample, requests, width, problem)

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


def _attribute(row: Row, field: str) -> str:
    value = row.get(field)
    if value is None or value == "":
        return MISSING
    return value if isinstance(value, str) else canonical_json(value).decode("utf-8", "replace")


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error)


_Asked = tuple[tuple[str, ...], tuple[str, ...], tuple[Request, ...], int]
"""Targets, choices, requests, requests per replicate."""


class _Generate:
    """Generated answers, from a text prompt or chat messages."""

    def __init__(self, task: GenerateTask, model: Model, examples: Sequence[Row]) -> None:
        spec = task.decoding
        self._name = task.name
        self._per_sample = model.per_sample
        self._seed, self._replicates = spec.seed, spec.replicates
        self._greedy = spec.temperature == 0
        self._limits = (spec.max_tokens, spec.temperature, spec.top_p, spec.stop)
        self._id = _RequestId(
            model,
            "generate",
            {"decoding": spec.model_dump(mode="json", exclude={"seed", "replicates"})},
        )
        self._prompt = None if task.prompt is None else RowTemplate(task.prompt)
        self._messages = [(m.role, RowTemplate(m.content)) for m in task.messages or ()]
        templates = (task.target,) if isinstance(task.target, str) else task.target or ()
        self._targets = [RowTemplate(t) for t in templates]
        self._targets_field = task.targets
        self._shots = ""
        self._shot_messages: tuple[Message, ...] = ()
        if task.fewshot:
            self._prepare_shots(task.fewshot, examples)

    def _prepare_shots(self, spec: FewShotSpec, examples: Sequence[Row]) -> None:
        try:
            for row in examples:
                answer = self._targets_of(row)[0]
                if self._prompt is not None:
                    self._shots += f"{self._prompt.render(row)} {answer}{spec.separator}"
                else:
                    self._shot_messages += (*self._talk(row), Message("assistant", answer))
        except Exception as error:  # templates are the user's code
            raise UsageError(
                f"task {self._name!r}: a few-shot example cannot be rendered: {_reason(error)}"
            ) from error

    def _talk(self, row: Row) -> tuple[Message, ...]:
        return tuple(Message(role, content.render(row)) for role, content in self._messages)

    def _targets_of(self, row: Row) -> tuple[str, ...]:
        if self._targets_field is not None:
            values = row[self._targets_field]
            if not isinstance(values, list) or not values:
                raise ValueError(f"field {self._targets_field!r} is not a list of right answers")
            return tuple(str(_shown(value)) for value in values)
        return tuple(template.render(row) for template in self._targets)

    def ask(self, sample_id: str, row: Row) -> _Asked:
        targets = self._targets_of(row)
        if self._prompt is not None:
            messages = None
            prompt = self._shots + self._prompt.render(row)
            content = ["prompt", prompt]
        else:
            prompt = ""
            messages = self._shot_messages + self._talk(row)
            content = ["messages", *(part for m in messages for part in (m.role, m.content))]
        if self._per_sample:
            content += [self._name, sample_id]
        requests = tuple(
            self._request(sample_id, prompt, messages, content, replicate)
            for replicate in range(self._replicates)
        )
        return targets, (), requests, 1

    def _request(
        self,
        sample_id: str,
        prompt: str,
        messages: tuple[Message, ...] | None,
        content: list[str],
        replicate: int,
    ) -> Request:
        seed = None if self._greedy else derived_seed(self._seed, sample_id, replicate)
        parts = content if seed is None else [*content, str(seed)]
        if self._per_sample:
            parts = [*parts, str(replicate)]
        return Request(
            id=self._id(*parts),
            sample_id=sample_id,
            task=self._name,
            kind="generate",
            prompt=prompt,
            messages=messages,
            decoding=Decoding(*self._limits, seed),
            replicate=replicate,
        )


class _MultipleChoice:
    """One log-likelihood request per choice."""

    def __init__(self, task: MultipleChoiceTask, model: Model, examples: Sequence[Row]) -> None:
        self._name = task.name
        self._per_sample = model.per_sample
        self._id = _RequestId(model, "loglikelihood", {})
        self._prompt = RowTemplate(task.prompt)
        self._target = RowTemplate(task.target)
        self._delimiter = task.delimiter
        self._field = task.choices if isinstance(task.choices, str) else None
        self._choices = (
            [] if isinstance(task.choices, str) else [RowTemplate(c) for c in task.choices]
        )
        self._shots = ""
        try:
            for row in examples:
                choices, right = self._choices_of(row)
                separator = task.fewshot.separator if task.fewshot else ""
                self._shots += (
                    self._prompt.render(row) + self._delimiter + choices[right] + separator
                )
        except Exception as error:  # templates are the user's code
            raise UsageError(
                f"task {self._name!r}: a few-shot example cannot be rendered: {_reason(error)}"
            ) from error

    def _choices_of(self, row: Row) -> tuple[tuple[str, ...], int]:
        if self._field is not None:
            values = row[self._field]
            if not isinstance(values, list):
                raise ValueError(f"field {self._field!r} is not a list of choices")
            choices = tuple(str(_shown(value)) for value in values)
        else:
            choices = tuple(template.render(row) for template in self._choices)
        if len(choices) < 2 or "" in choices:
            raise ValueError("a multiple-choice sample needs at least two choices, none empty")
        target = self._target.render(row)
        if target in choices:
            return choices, choices.index(target)
        if target.isdecimal() and int(target) < len(choices):
            return choices, int(target)
        raise ValueError(f"target {target!r} is neither a choice nor a choice's number")

    def ask(self, sample_id: str, row: Row) -> _Asked:
        choices, right = self._choices_of(row)
        prompt = self._shots + self._prompt.render(row)
        place = [self._name, sample_id] if self._per_sample else []
        requests = tuple(
            Request(
                id=self._id(prompt, self._delimiter + choice, *place),
                sample_id=sample_id,
                task=self._name,
                kind="loglikelihood",
                prompt=prompt,
                continuation=self._delimiter + choice,
            )
            for choice in choices
        )
        return (str(right),), choices, requests, len(choices)


class _Perplexity:
    """One rolling log-likelihood request per text."""

    def __init__(self, task: PerplexityTask, model: Model, examples: Sequence[Row]) -> None:
        assert not examples, "perplexity takes no examples"
        self._name = task.name
        self._per_sample = model.per_sample
        self._window = Window(task.max_length, task.context, task.prefix)
        self._id = _RequestId(model, "rolling", {"window": asdict(self._window)})
        self._text = RowTemplate(task.text)

    def ask(self, sample_id: str, row: Row) -> _Asked:
        text = self._text.render(row)
        place = [self._name, sample_id] if self._per_sample else []
        request = Request(
            id=self._id(text, *place),
            sample_id=sample_id,
            task=self._name,
            kind="rolling",
            prompt=text,
            window=self._window,
        )
        return (text,), (), (request,), 1


_FORMS: Mapping[str, Any] = {
    "generate": _Generate,
    "multiple_choice": _MultipleChoice,
    "perplexity": _Perplexity,
}
