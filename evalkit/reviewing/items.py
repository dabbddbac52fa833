"""From drawn samples to items: what annotators see, blinded and shuffled, and the key that tells whose answer it is.

An item's id is a digest of the run, the seed, the sample and the model; the order within a task is drawn from the seed.
Where both models gave the same answer to the same prompt one item stands for both: whoever rates it rates one text, and
a difference between equal answers would be noise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from evalkit.errors import UsageError
from evalkit.estimating import ROLES
from evalkit.identity import derived_seed, digest, short
from evalkit.records.exchange import Role
from evalkit.records.review import Draw, DrawnAnswer, DrawnTask, Item, Review
from evalkit.records.suite import SampledTask

Row = Mapping[str, Any]
"""A row of ``samples.jsonl``."""
Place = tuple[str, str]
"""Task and sample id."""
ABSENT: Final = "the run has no such sample of this model"


@dataclass(frozen=True)
class Exported:
    """A review, and what annotators get."""

    review: Review
    """The key."""
    items: tuple[Item, ...]
    """The items, in the order in which they are shown."""


def refuse_unreviewable(task: SampledTask) -> None:
    """Raise UsageError where a task's answers are nothing that people could read."""
    if task.kind == "perplexity" or (task.kind == "counterfactual" and task.choices is not None):
        raise UsageError(
            f"task {task.name!r}: its answers are likelihoods, which nobody can rate; take 'review' from it"
        )


def exported(
    tasks: Sequence[DrawnTask],
    drawn: Mapping[str, Sequence[str]],
    rows: Mapping[Role, Mapping[Place, Row]],
    *,
    scorecard: str,
    draw: Draw,
    seed: int,
) -> Exported:
    """Return the review of these samples, task by task in the order given.

    ``drawn`` holds the sample ids of each task, ``rows`` the run's rows of each model whose answers are shown. A sample
    that failed on a model has no answer there: it stays in the key, as drawn and not answered.
    """
    answers: list[DrawnAnswer] = []
    missing: list[DrawnAnswer] = []
    items: list[Item] = []
    for task in tasks:
        made = [
            each
            for sample in drawn[task.task]
            for each in _of_sample(task.task, sample, rows, scorecard, seed)
        ]
        shown = [(answer, item) for answer, item in made if item is not None]
        missing += [answer for answer, item in made if item is None]
        order = np.random.default_rng(derived_seed(seed, "order of items", task.task))
        for place in order.permutation(len(shown)):
            answers.append(shown[place][0])
            items.append(shown[place][1])
    review = Review(
        id="",
        scorecard=scorecard,
        draw=draw,
        seed=seed,
        both=len(rows) > 1,
        tasks=tuple(tasks),
        answers=(*answers, *missing),
    )
    content = review.model_dump(mode="json", exclude={"note", "id"})
    return Exported(review.model_copy(update={"id": _name("r", content)}), tuple(items))


def _of_sample(
    task: str,
    sample: str,
    rows: Mapping[Role, Mapping[Place, Row]],
    scorecard: str,
    seed: int,
) -> Iterator[tuple[DrawnAnswer, Item | None]]:
    """Yield a sample's answers with their items; None where there is no answer."""
    seen: dict[tuple[str, tuple[str, ...], str], tuple[DrawnAnswer, Item]] = {}
    for role in (role for role in ROLES if role in rows):
        row = rows[role].get((task, sample))
        made = DrawnAnswer(item="", task=task, sample=sample, models=(role,))
        failed = ABSENT if row is None else _failure(row)
        if row is None or failed:
            yield made.model_copy(update={"failed": failed}), None
            continue
        place = _which(row, seed, task, sample)
        content = (_prompt(row, place), _targets(row), _text(row, place))
        if content in seen:
            first, item = seen[content]
            seen[content] = first.model_copy(update={"models": (*first.models, role)}), item
            continue
        name = _name("i", ["review item", scorecard, seed, task, sample, role])
        item = Item(item=name, task=task, prompt=content[0], targets=content[1], answer=content[2])
        seen[content] = made.model_copy(update={"item": name, "answer": place}), item
    yield from seen.values()


def _name(letter: str, content: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return a short digest behind a letter, without which a spreadsheet would take 1376e5 for a number."""
    return f"{letter}{short(digest(content))}"


def _failure(row: Row) -> str:
    """Return why a row has no answer that could be read; empty where it has one."""
    if "failed" in row:
        return str(row["failed"].get("kind", "failed"))
    return "" if row.get("answers") else "no answer"


def _which(row: Row, seed: int, task: str, sample: str) -> int:
    """Return which of a sample's answers is shown: each has the same chance, and both models show the same one."""
    many = len(row["answers"])
    if many == 1 or row.get("choices"):
        return 0
    rng = np.random.default_rng(derived_seed(seed, "which answer", task, sample))
    return int(rng.integers(many))


def _prompt(row: Row, place: int) -> str:
    asked = row
    if variants := row.get("variants"):
        asked = variants[row["answers"][place]["variant"]]
    if messages := asked.get("messages"):
        return "\n\n".join(f"{m['role']}: {m['content']}" for m in messages)
    return str(asked.get("prompt") or "")


def _targets(row: Row) -> tuple[str, ...]:
    choices, targets = row.get("choices") or (), row.get("targets") or ()
    return tuple(str(choices[int(t)] if choices else t) for t in targets)


def _text(row: Row, place: int) -> str:
    """Return the answer, that of a multiple-choice task as its likeliest choice, the first of several."""
    if choices := row.get("choices"):
        likelihoods = [answer["logprob"] for answer in row["answers"]]
        return str(choices[likelihoods.index(max(likelihoods))])
    return str(row["answers"][place]["text"])


def shown_answers(review: Review) -> Iterable[DrawnAnswer]:
    """Return the answers that annotators see."""
    return (answer for answer in review.answers if answer.item)
