"""What each kind of task asks about a row: one form per kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from evalkit.errors import UsageError
from evalkit.identity import derived_seed
from evalkit.planning.counterfactual import CounterfactualForm
from evalkit.planning.requests import (
    Asked,
    Generation,
    Likelihood,
    RequestId,
    choice_number,
    reason,
    whole_choices,
)
from evalkit.planning.templates import Row, RowTemplate, shown
from evalkit.records.exchange import Message, Model, Request, Window
from evalkit.records.suite import FewShotSpec, GenerateTask, MultipleChoiceTask, PerplexityTask


class _Generate:
    """Generated answers, from a text prompt or chat messages."""

    def __init__(self, task: GenerateTask, model: Model, examples: Sequence[Row]) -> None:
        spec = task.decoding
        self._name = task.name
        self._seed, self._replicates = spec.seed, spec.replicates
        self._greedy = spec.temperature == 0
        self._generation = Generation(task.name, model, spec)
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
                f"task {self._name!r}: a few-shot example cannot be rendered: {reason(error)}"
            ) from error

    def _talk(self, row: Row) -> tuple[Message, ...]:
        return tuple(Message(role, content.render(row)) for role, content in self._messages)

    def _targets_of(self, row: Row) -> tuple[str, ...]:
        if self._targets_field is not None:
            values = row[self._targets_field]
            if not isinstance(values, list) or not values:
                raise ValueError(f"field {self._targets_field!r} is not a list of right answers")
            return tuple(str(shown(value)) for value in values)
        return tuple(template.render(row) for template in self._targets)

    def ask(self, sample_id: str, row: Row) -> Asked:
        targets = self._targets_of(row)
        if self._prompt is not None:
            messages, prompt = None, self._shots + self._prompt.render(row)
        else:
            messages, prompt = self._shot_messages + self._talk(row), ""
        requests = tuple(
            self._generation.request(
                sample_id,
                prompt,
                messages,
                seed=None if self._greedy else derived_seed(self._seed, sample_id, replicate),
                replicate=replicate,
            )
            for replicate in range(self._replicates)
        )
        return Asked(targets, (), requests, 1)


class _MultipleChoice:
    """One log-likelihood request per choice."""

    def __init__(self, task: MultipleChoiceTask, model: Model, examples: Sequence[Row]) -> None:
        self._name = task.name
        self._likelihood = Likelihood(task.name, model)
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
                f"task {self._name!r}: a few-shot example cannot be rendered: {reason(error)}"
            ) from error

    def _choices_of(self, row: Row) -> tuple[tuple[str, ...], int]:
        if self._field is not None:
            values = row[self._field]
            if not isinstance(values, list):
                raise ValueError(f"field {self._field!r} is not a list of choices")
            choices = tuple(str(shown(value)) for value in values)
        else:
            choices = tuple(template.render(row) for template in self._choices)
        choices = whole_choices(choices)
        return choices, choice_number(self._target.render(row), choices)

    def ask(self, sample_id: str, row: Row) -> Asked:
        choices, right = self._choices_of(row)
        prompt = self._shots + self._prompt.render(row)
        requests = tuple(
            self._likelihood.request(sample_id, prompt, self._delimiter + choice)
            for choice in choices
        )
        return Asked((str(right),), choices, requests, len(choices))


class _Perplexity:
    """One rolling log-likelihood request per text."""

    def __init__(self, task: PerplexityTask, model: Model, examples: Sequence[Row]) -> None:
        assert not examples, "perplexity takes no examples"
        self._name = task.name
        self._per_sample = model.per_sample
        self._window = Window(task.max_length, task.context, task.prefix)
        self._id = RequestId(model, "rolling", {"window": asdict(self._window)})
        self._text = RowTemplate(task.text)

    def ask(self, sample_id: str, row: Row) -> Asked:
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
        return Asked((text,), (), (request,), 1)


FORMS: Mapping[str, Any] = {
    "generate": _Generate,
    "multiple_choice": _MultipleChoice,
    "perplexity": _Perplexity,
    "counterfactual": CounterfactualForm,
}
