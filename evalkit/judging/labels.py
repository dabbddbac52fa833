"""Labelled items: answers that people have rated, by which a judge is measured.

Ratings are codes, the worst first: pointwise the place on the judge's scale, pairwise 0 where the second answer is
better, 1 for a tie, 2 where the first is. What a judge says becomes the same codes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evalkit.judging.asking import Question
from evalkit.records.suite import JudgeSpec
from evalkit.stats.intervals import Codes

PAIR_CODES: Mapping[str, int] = {"B": 0, "tie": 1, "A": 2}
"""What labels of pairs stand for."""


@dataclass(frozen=True, slots=True)
class LabelledItem:
    """One item with what people say of it."""

    question: Question
    """What they, and the judge, look at."""
    ratings: Mapping[str, int]
    """Annotator → code; at least one."""
    place: str
    """``file:line``, for messages."""


def categories(spec: JudgeSpec) -> int:
    """Return how many ratings there are."""
    return 3 if spec.form == "pairwise" else spec.scale[1] - spec.scale[0] + 1


def code_of(spec: JudgeSpec, value: float) -> int:
    """Return the rating nearest to a judgement's value, which is within 0 and 1; the better one where two are."""
    return int(np.floor(value * (categories(spec) - 1) + 0.5))


def consensus(spec: JudgeSpec, ratings: Sequence[int]) -> int:
    """Return what people say together: what most of them do; without such, pairwise a tie, else the rounded mean.

    >>> spec = JudgeSpec(judge="j", model="m", criteria="c", scale=(1, 5))
    >>> consensus(spec, [4, 4, 0]), consensus(spec, [0, 3])
    (4, 2)
    """
    (commonest, count), *others = Counter(ratings).most_common()
    if not others or count > others[0][1]:
        return commonest
    if spec.form == "pairwise":
        return PAIR_CODES["tie"]
    return int(np.floor(sum(ratings) / len(ratings) + 0.5))


def rating_codes(items: Sequence[LabelledItem]) -> tuple[tuple[str, ...], Codes]:
    """Return the annotators, sorted, and (N, R): their codes, −1 where one did not rate an item."""
    names = sorted({name for item in items for name in item.ratings})
    codes_NR = np.full((len(items), len(names)), -1, dtype=np.intp)
    for n, item in enumerate(items):
        for r, name in enumerate(names):
            codes_NR[n, r] = item.ratings.get(name, -1)
    return tuple(names), codes_NR


def bait(spec: JudgeSpec, items: Sequence[LabelledItem]) -> list[Question]:
    """Return the questions that canaries are made from, each once: asked of two answers it would count twice.

    Of pairs they have the answer that people prefer to be beaten; those that people call a tie serve where there are
    no others.
    """
    if spec.form == "pointwise":
        return _each_once([item.question for item in items])
    decided: list[Question] = []
    ties: list[Question] = []
    for item in items:
        said = consensus(spec, list(item.ratings.values()))
        if said == PAIR_CODES["A"]:
            decided.append(replace(item.question, others=item.question.answers))
        else:
            (decided if said == PAIR_CODES["B"] else ties).append(item.question)
    return _each_once(decided or ties)


def _each_once(questions: Sequence[Question]) -> list[Question]:
    """Return the questions that differ in more than the answer whose place a canary takes."""
    held = {(each.question, each.others, each.reference): each for each in reversed(questions)}
    return list(reversed(held.values()))
