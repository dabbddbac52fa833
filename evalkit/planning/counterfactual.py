"""Counterfactual tasks: one sample holds the answers about every group.

A row becomes one row per variant, by swapping words (``swaps``) or from templates that name the fields of each. Its
requests are variant by variant; within one, repeats or choices. They are one replicate, so that whatever a metric says
about the sample rests on all variants, and intervals, comparisons and gates see one independent row.

A row whose variants ask the same (nothing can be swapped, or the prompt does not show what was) is a bad sample: it
could only dilute what is measured. Recorded answers (``replay``) are numbered in the order of the requests:
``replicate`` = variant · repeats + repeat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evalkit.errors import UsageError
from evalkit.identity import derived_seed
from evalkit.planning.requests import (
    Asked,
    Generation,
    Likelihood,
    choice_number,
    whole_choices,
)
from evalkit.planning.templates import Row, RowTemplate, shown
from evalkit.records.exchange import Message, Model, Request
from evalkit.records.suite import CounterfactualTask
from evalkit.swaps import lexicon_of, swapped_rows

Shown = tuple[str, tuple[Message, ...] | None]
"""A prompt, and the messages that stand for it where the task has some."""

_DELIMITER = " "
"""What stands between prompt and choice, as multiple-choice tasks have it by default."""


class CounterfactualForm:
    """Answers, or likelihoods of choices, for every variant of a row."""

    def __init__(self, task: CounterfactualTask, model: Model, examples: Sequence[Row]) -> None:
        """Raise UsageError where the swap cannot be used."""
        assert not examples, "counterfactual tasks take no examples"
        self._repeats, self._seed = task.repeats, task.decoding.seed
        self._greedy = task.decoding.temperature == 0
        self._generation = Generation(task.name, model, task.decoding)
        self._likelihood = Likelihood(task.name, model)
        self._prompt = None if task.prompt is None else RowTemplate(task.prompt)
        self._messages = [(m.role, RowTemplate(m.content)) for m in task.messages or ()]
        self._target = None if task.target is None else RowTemplate(task.target)
        self._chooses = task.choices is not None
        self._choices_field = task.choices if isinstance(task.choices, str) else None
        self._choices = (
            [RowTemplate(c) for c in task.choices] if isinstance(task.choices, tuple) else []
        )
        self._variants = {
            name: {field: RowTemplate(template) for field, template in fields.items()}
            for name, fields in (task.variants or {}).items()
        }
        self._fields: tuple[str, ...] = ()
        if task.swap is not None:
            self._fields = task.swap.fields
            try:
                self._lexicon = lexicon_of(task.swap)
            except (ValueError, UsageError) as error:
                raise UsageError(f"task {task.name!r}: swap: {error}") from error

    def ask(self, sample_id: str, row: Row) -> Asked:
        """Return all that is asked about a row; raise ValueError where its variants do not differ."""
        rows = self._rows(row)
        asked = {name: self._shown(variant) for name, variant in rows.items()}
        _refuse_equal(asked)
        choices = tuple(self._choices_of(variant) for variant in rows.values())
        if len({len(each) for each in choices}) > 1:
            raise ValueError("the variants have different numbers of choices")
        targets = () if self._target is None else (self._target.render(row),)
        if self._chooses and targets:
            targets = (str(choice_number(targets[0], self._choices_of(row))),)
        requests = tuple(
            request
            for number, (name, said) in enumerate(asked.items())
            for request in (
                self._likelihoods(sample_id, said[0], choices[number], number)
                if self._chooses
                else self._answers(sample_id, name, said, number)
            )
        )
        return Asked(targets, choices[0], requests, len(requests), tuple(rows))

    def _rows(self, row: Row) -> Mapping[str, Row]:
        if self._fields:
            return swapped_rows(row, self._fields, self._lexicon)
        return {
            name: {
                **row,
                **{field: template.render(row) for field, template in fields.items()},
            }
            for name, fields in self._variants.items()
        }

    def _shown(self, row: Row) -> Shown:
        if self._prompt is not None:
            return self._prompt.render(row), None
        return "", tuple(Message(role, content.render(row)) for role, content in self._messages)

    def _choices_of(self, row: Row) -> tuple[str, ...]:
        if not self._chooses:
            return ()
        if self._choices_field is None:
            return whole_choices(tuple(template.render(row) for template in self._choices))
        values = row[self._choices_field]
        if not isinstance(values, list):
            raise ValueError(f"field {self._choices_field!r} is not a list of choices")
        return whole_choices(tuple(str(shown(value)) for value in values))

    def _answers(self, sample_id: str, variant: str, said: Shown, number: int) -> list[Request]:
        prompt, messages = said
        return [
            self._generation.request(
                sample_id,
                prompt,
                messages,
                seed=None if self._greedy else derived_seed(self._seed, sample_id, variant, repeat),
                replicate=number * self._repeats + repeat,
            )
            for repeat in range(self._repeats)
        ]

    def _likelihoods(
        self, sample_id: str, prompt: str, choices: tuple[str, ...], number: int
    ) -> list[Request]:
        return [
            self._likelihood.request(sample_id, prompt, _DELIMITER + choice, replicate=number)
            for choice in choices
        ]


def _refuse_equal(asked: Mapping[str, Shown]) -> None:
    first: dict[Shown, str] = {}
    for name, said in asked.items():
        other = first.setdefault(said, name)
        if other != name:
            raise ValueError(
                f"variants {other!r} and {name!r} ask the same: the prompt shows no difference between them"
            )
