"""From label files to one rating per answer: every fault told at once, annotators merged, conflicts named.

Where several annotators rated an item, its rating is their mean on a scale, and the label that more than half of them
gave among labels; where no label has a majority the item is *unresolved* and has no score. A *conflict* is an item on
which annotators disagree about passing, or which is unresolved: an adjudicated rating stands in the place of theirs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from evalkit.errors import Problem, UsageError
from evalkit.records.exchange import Unscored
from evalkit.records.review import DrawnAnswer, RatedAnswer, Rating, Review
from evalkit.records.suite import ReviewSpec
from evalkit.registry import nearest
from evalkit.reviewing.items import shown_answers

NOT_RATED: Final = "not rated"
UNRESOLVED: Final = "annotators are tied"
LONGEST_NAME: Final = 80
"""Characters of an annotator's name, as the page takes it."""
LONGEST_SHOWN: Final = 60
"""Characters that a message shows of what a label says."""


@dataclass(frozen=True)
class Label:
    """One rating as somebody wrote it into a file."""

    file: str
    """The file."""
    line: int
    """1-based line."""
    item: Any
    """The item's id."""
    rating: Any
    """The rating; None where the item was not rated."""
    annotator: Any
    """Who rated."""
    comment: Any = None
    """What was said beside it."""
    review: Any = None
    """The id of the review that the label says it belongs to; None where it says none."""

    def problem(self, key: str, message: str, allowed: str = "", close: str = "") -> Problem:
        """Return what is wrong with this line."""
        return Problem(self.file, self.line, key, message, allowed, close)


@dataclass(frozen=True)
class Resolved:
    """What an answer's ratings come to."""

    passed: float
    """1 where the rating reaches ``pass_at``, else 0."""
    rating: float
    """From 0, the worst rating, to 1, the best."""


@dataclass(frozen=True)
class Conflict:
    """An item that annotators disagree about."""

    answer: DrawnAnswer
    """The item."""
    ratings: Mapping[str, Rating]
    """Annotator → rating, by name."""


def merged(
    review: Review, labels: Sequence[Label], adjudicated: Sequence[Label] = ()
) -> list[RatedAnswer]:
    """Return every drawn answer with its ratings, one row per sample and model, in the order task, sample, model.

    Raises UsageError with every problem in the files.
    """
    specs = {task.task: task.review for task in review.tasks}
    shown = {answer.item: answer for answer in shown_answers(review)}
    given: dict[str, dict[str, tuple[Rating, str, Label]]] = {}
    problems: list[Problem] = []
    for label in labels:
        rating, wrong = _checked(label, review, shown, specs)
        name, unnamed = _annotator(label)
        problems += [*wrong, *unnamed]
        if wrong or unnamed or rating is None:
            continue
        held = given.setdefault(str(label.item), {}).get(name)
        if held is not None and held[0] != rating:
            where = f"{held[2].file}:{held[2].line}"
            told = f"{name} rated item {label.item} {rating} here and {held[0]} in {where}"
            problems.append(label.problem("rating", told))
            continue
        comment = str(label.comment).strip() if label.comment else ""
        given[str(label.item)][name] = (rating, comment or (held[1] if held else ""), label)
    ratings = {item: {n: each[0] for n, each in by.items()} for item, by in given.items()}
    settled, wrong_settled = _settled(adjudicated, review, shown, specs, ratings)
    problems += wrong_settled
    if problems:
        raise UsageError(problems)
    comments = {item: {n: c for n, (_, c, _) in by.items() if c} for item, by in given.items()}
    return [
        RatedAnswer(
            model=role,
            task=answer.task,
            id=answer.sample,
            item=answer.item,
            ratings=dict(sorted(ratings.get(answer.item, {}).items())),
            comments=dict(sorted(comments.get(answer.item, {}).items())),
            adjudicated=settled.get(answer.item),
            failed=answer.failed,
        )
        for answer in sorted(review.answers, key=lambda a: (a.task, a.sample, a.models))
        for role in answer.models
    ]


def _settled(
    adjudicated: Iterable[Label],
    review: Review,
    shown: Mapping[str, DrawnAnswer],
    specs: Mapping[str, ReviewSpec],
    ratings: Mapping[str, Mapping[str, Rating]],
) -> tuple[dict[str, Rating], list[Problem]]:
    """Return item → adjudicated rating, with what is wrong."""
    settled: dict[str, Rating] = {}
    problems: list[Problem] = []
    for label in adjudicated:
        rating, wrong = _checked(label, review, shown, specs)
        problems += wrong
        if wrong or rating is None:
            continue
        item = str(label.item)
        if not is_conflict(specs[shown[item].task], ratings.get(item, {})):
            told = f"item {item} is no conflict: there is nothing to adjudicate"
            problems.append(label.problem("item", told, "an item of conflicts.csv"))
        elif settled.setdefault(item, rating) != rating:
            told = f"item {item} is adjudicated {settled[item]} before and {rating} here"
            problems.append(label.problem("rating", told))
    return settled, problems


def _checked(
    label: Label,
    review: Review,
    shown: Mapping[str, DrawnAnswer],
    specs: Mapping[str, ReviewSpec],
) -> tuple[Rating | None, list[Problem]]:
    """Return a label's rating, with what is wrong with item and rating; None where it has none."""
    if label.review not in (None, "", review.id):
        told = f"this label is of review {_shown(label.review)}, not of {review.id!r}"
        return None, [label.problem("review", told)]
    answer = shown.get(label.item) if isinstance(label.item, str) else None
    if answer is None:
        close = nearest(_cut(str(label.item)), shown)
        told = f"the review {review.id} has no item {_shown(label.item)}"
        return None, [label.problem("item", told, close=close)]
    if label.rating is None or label.rating == "":
        return None, []
    ratings = specs[answer.task].ratings
    rating = as_rating(label.rating, ratings)
    if rating is None:
        close = nearest(_cut(str(label.rating)), map(str, ratings))
        told = f"{_shown(label.rating)} is no rating of task {answer.task}"
        return None, [label.problem("rating", told, ", ".join(map(str, ratings)), close)]
    return rating, []


def _shown(value: object) -> str:
    return _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 1]}…"


def _annotator(label: Label) -> tuple[str, list[Problem]]:
    name = label.annotator.strip() if isinstance(label.annotator, str) else ""
    if label.rating is None or label.rating == "":
        return name, []
    if not name:
        return "", [label.problem("annotator", "the label does not say who rated", "a name")]
    if len(name) > LONGEST_NAME:
        told = f"the name has {len(name):,} characters"
        return "", [label.problem("annotator", told, f"at most {LONGEST_NAME}")]
    if not name.isprintable():
        told = f"{name!r} holds characters that cannot be shown"
        return "", [label.problem("annotator", told, "a name")]
    return name, []


def as_rating(written: object, ratings: Sequence[Rating]) -> Rating | None:
    """Return the rating that somebody wrote, as a number, a text or a spreadsheet's number; None where it is none.

    >>> as_rating("4", (3, 4, 5)), as_rating(4.0, (3, 4, 5)), as_rating(True, (0, 1)), as_rating("9", (1, 2))
    (4, 4, None, None)
    """
    if isinstance(written, bool):
        return None
    for rating in ratings:
        if isinstance(rating, str):
            if isinstance(written, str) and written.strip() == rating:
                return rating
        elif written == rating or (
            isinstance(written, str) and written.strip() in (str(rating), f"{rating}.0")
        ):
            return rating
    return None


def passes(spec: ReviewSpec, rating: Rating) -> bool:
    """Return whether one annotator's rating passes."""
    return spec.ratings.index(rating) >= spec.ratings.index(spec.pass_at)


def is_conflict(spec: ReviewSpec, ratings: Mapping[str, Rating]) -> bool:
    """Return whether annotators disagree about passing, or their labels have no majority."""
    if len({passes(spec, rating) for rating in ratings.values()}) > 1:
        return True
    return spec.labels is not None and bool(ratings) and _majority(ratings.values()) is None


def conflicts(review: Review, rated: Iterable[RatedAnswer]) -> Iterator[Conflict]:
    """Yield each conflict that nobody has adjudicated, in the order in which annotators saw the items."""
    specs = {task.task: task.review for task in review.tasks}
    held = {row.item: row for row in rated if row.item and row.adjudicated is None}
    for answer in shown_answers(review):
        row = held.get(answer.item)
        if row is not None and is_conflict(specs[answer.task], row.ratings):
            yield Conflict(answer, row.ratings)


def resolved(spec: ReviewSpec, row: RatedAnswer) -> Resolved | Unscored:
    """Return what an answer's ratings come to, or why they come to nothing."""
    ratings = spec.ratings
    top = max(len(ratings) - 1, 1)
    if row.adjudicated is not None:
        place = ratings.index(row.adjudicated)
        return Resolved(float(passes(spec, row.adjudicated)), place / top)
    if not row.ratings:
        return Unscored(NOT_RATED)
    if spec.labels is not None:
        label = _majority(row.ratings.values())
        if label is None:
            return Unscored(UNRESOLVED)
        return Resolved(float(passes(spec, label)), ratings.index(label) / top)
    places = [ratings.index(rating) for rating in row.ratings.values()]
    enough = sum(places) >= ratings.index(spec.pass_at) * len(places)  # whole numbers: exact
    return Resolved(float(enough), sum(places) / len(places) / top)


def _majority(ratings: Iterable[Rating]) -> Rating | None:
    counts = Counter(ratings)
    rating, most = counts.most_common(1)[0]
    return rating if 2 * most > counts.total() else None
