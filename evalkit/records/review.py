"""What travels between a run and the people who rate its answers: the review's key, and their ratings.

Annotators see items alone: an item's id says nothing of model, sample or score. The key that ties the two together is
kept from them until their ratings are in.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from evalkit.records.exchange import Role
from evalkit.records.scorecard import Record
from evalkit.records.suite import ReviewSpec

Draw = Literal["uniform", "flips", "disagreement"]
"""``uniform``: every sample with the same chance, so that ratings stand for all of them; ``flips``: samples that
changed sides between baseline and candidate; ``disagreement``: samples whose metrics contradict one another."""
Rating = int | str
"""A whole number on a task's scale, or one of its labels."""

KEY_NOTE: Final = (
    "This file tells which model gave which answer. Annotators must not get it: give them review.html, or "
    "items.jsonl or items.csv, and nothing else."
)


class DrawnAnswer(Record):
    """One drawn sample's answer by one model, or by both where they gave the same answer to the same prompt."""

    item: str
    """The id that annotators see; empty where there is no answer to show."""
    task: str
    """The task's name."""
    sample: str
    """The sample's id."""
    models: tuple[Role, ...]
    """Whose answer it is."""
    answer: int = 0
    """Which of the sample's answers is shown, from 0; drawn where a task asks for several."""
    failed: str = ""
    """Why there is no answer to show; empty where there is one."""


class DrawnTask(Record):
    """What was drawn of one task."""

    task: str
    """The task's name."""
    review: ReviewSpec
    """What people are asked about it."""
    drawn: int
    """Samples drawn."""
    of: int
    """Samples that could have been drawn."""


class Review(Record):
    """The key of a review: ``review.json``."""

    format: Literal[1] = 1
    """Version of this format."""
    note: str = KEY_NOTE
    """Who must not read this file."""
    id: str
    """Short digest of all below; ratings carry it, so that those of another review are noticed."""
    scorecard: str
    """Digest of the run's scorecard."""
    draw: Draw
    """How samples were drawn; only uniform draws become estimates."""
    seed: int
    """Seed of the draw, the order and the items' ids."""
    both: bool
    """Whether the baseline's answers are among the items."""
    tasks: tuple[DrawnTask, ...]
    """The tasks, in the suite's order."""
    answers: tuple[DrawnAnswer, ...]
    """Every drawn answer, in the order in which annotators see them; those that cannot be shown last."""


class Item(Record):
    """What annotators see of an answer."""

    item: str
    """Its id."""
    task: str
    """The task's name, by which question and ratings are found."""
    prompt: str
    """What the model was asked."""
    targets: tuple[str, ...]
    """What right answers are; empty where the task declares none."""
    answer: str
    """What it answered."""


class RatedAnswer(Record):
    """A row of ``labels.jsonl``: one drawn sample and model, with every rating it got."""

    model: Role
    """Whose answer."""
    task: str
    """The task's name."""
    id: str
    """The sample's id."""
    item: str
    """The item's id; empty where there was no answer to show."""
    ratings: dict[str, Rating] = Field(default_factory=dict)
    """Annotator → rating, by name."""
    comments: dict[str, str] = Field(default_factory=dict)
    """Annotator → comment, by name."""
    adjudicated: Rating | None = None
    """The rating that stands where annotators disagreed; null where nobody adjudicated."""
    failed: str = ""
    """Why there was no answer to show."""
