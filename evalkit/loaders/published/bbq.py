"""Rows of BBQ, the Bias Benchmark for Question answering, from a category's file or several of them joined.

Each item asks about two people; the context names nobody as the answer (``ambig``) or one of them (``disambig``), and
the question asks for what a stereotype says of one group (``neg``) or for its opposite (``nonneg``). One of the three
answers says that it cannot be known.

**The biased answer** is the one that the stereotype predicts: in ``neg`` questions the answer about a stereotyped
group, in ``nonneg`` questions the other person. Files name the groups of answers and the stereotyped groups in words
that do not always agree; the rules that match them are the authors'. Where they match no answer or two, it is not
derived, and the row says why.

**Fields**: ``id`` (category and example), ``category``, ``subset`` (the paper's rows: the category, with ``(names)``
where proper names stand for a group), ``template`` (category and question: what the items made from one template
share), ``question_polarity``, ``context_condition``, ``context``, ``question``, ``choices``, ``label``, ``unknown``
and ``biased`` (numbers of choices, from 0; null where not derived) and ``not_derived`` (why).

**Source**: Parrish et al. 2022, Findings of ACL, section 3; the authors' program
``analysis_scripts/BBQ_results_metadata.R``.

**Deviation**: the stereotyped groups are those that the row itself names; the program reads the same ones from the
templates. Every stereotyped group that begins with "trans" is matched by answers whose group does, where the program
lists the wordings. Of the categories that cross two (Race_x_gender, Race_x_SES) nothing is derived: their groups
stand in the templates alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evalkit.loaders.rows import Format, JsonLines, Row

ANSWERS = ("ans0", "ans1", "ans2")
UNKNOWN = "unknown"
"""The group of the answer that it cannot be known."""
LABELLED = 25
"""Questions up to this number name groups; later ones, where there are any, stand for them by proper names."""

_GENDERS = {
    **dict.fromkeys(("man", "boy", "men"), "m"),
    **dict.fromkeys(("woman", "girl", "women", "girls"), "f"),
}


class _Groups(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    stereotyped_groups: list[str]


class Item(BaseModel):
    """One line of a category's file."""

    model_config = ConfigDict(strict=True, extra="ignore")

    example_id: int
    """Its number in the category."""
    question_index: str
    """The number of its template in the category."""
    question_polarity: Literal["neg", "nonneg"]
    """Whether the question asks for what the stereotype says or for its opposite."""
    context_condition: Literal["ambig", "disambig"]
    """Whether the context tells the answer."""
    category: str
    """The social dimension."""
    answer_info: dict[str, Annotated[list[str], Field(min_length=2, max_length=2)]]
    """Answer → the person's description and group."""
    additional_metadata: _Groups
    """Which groups the stereotype is about."""
    context: str
    """What the model reads."""
    question: str
    """What it is asked."""
    ans0: str
    """The first answer."""
    ans1: str
    """The second."""
    ans2: str
    """The third."""
    label: Literal[0, 1, 2]
    """The right answer's number."""


def unknown_answer(item: Item) -> int | None:
    """Return the number of the answer that it cannot be known; None where there is not exactly one."""
    found = [n for n, name in enumerate(ANSWERS) if item.answer_info[name][1] == UNKNOWN]
    return found[0] if len(found) == 1 else None


def biased_answer(item: Item) -> int | str:
    """Return the number of the answer that the stereotype predicts, or why it is not derived."""
    if "_x_" in item.category:
        return "categories that cross two name their groups in the templates alone"
    groups = item.additional_metadata.stereotyped_groups
    if not groups:
        return "the row names no stereotyped group"
    unknown = unknown_answer(item)
    if unknown is None:
        return "not exactly one answer is that it cannot be known"
    known = _known(groups)
    people = [n for n in range(len(ANSWERS)) if n != unknown]
    targets = [n for n in people if _is_about(known, item.category, *item.answer_info[ANSWERS[n]])]
    if len(targets) != 1:
        found = "no answer" if not targets else "each person"
        return f"{found} is of a stereotyped group"
    other = next(n for n in people if n != targets[0])
    return targets[0] if item.question_polarity == "neg" else other


def _known(groups: list[str]) -> str:
    """Return the stereotyped groups as one text in lower case, as the authors' program writes them."""
    if len(groups) == 1 and groups[0].lower() in _GENDERS:
        return _GENDERS[groups[0].lower()]
    if groups[0].lower().startswith("trans"):
        return "trans"
    return ", ".join(groups).lower().replace("low ses", "lowses").replace("high ses", "highses")


def _is_about(known: str, category: str, person: str, group: str) -> bool:
    """Tell whether an answer's person, described so and of this group, is of a stereotyped group."""
    person = person.strip("{}").lower()
    group = _GENDERS.get(group.lower(), group)
    for prefix in ("M-", "F-"):  # the gender of a proper name
        group = group.replace(prefix, "", 1)
    group = group.lower()
    if not group:
        return False
    if category == "Age":  # "old" is part of "nonOld"
        return group == known
    if known == "trans":
        return group.startswith("trans")
    if person == "african" and "african american" in known:
        return False
    # Nationalities are grouped by regions of the world, and the stereotype is about the nationality.
    return group in known or (category == "Nationality" and person in known)


def row_of(item: Item) -> Row:
    """Return the row of one item."""
    named = item.question_index.isdecimal() and int(item.question_index) > LABELLED
    biased = biased_answer(item)
    derived = isinstance(biased, int)
    return {
        "id": f"{item.category}-{item.example_id}",
        "category": item.category,
        "subset": f"{item.category} (names)" if named else item.category,
        "template": f"{item.category}-{item.question_index}",
        "question_polarity": item.question_polarity,
        "context_condition": item.context_condition,
        "context": item.context,
        "question": item.question,
        "choices": [item.ans0, item.ans1, item.ans2],
        "label": item.label,
        "unknown": unknown_answer(item),
        "biased": biased if derived else None,
        "not_derived": "" if derived else biased,
    }


class BbqRows(JsonLines):
    """BBQ's items, one JSON object per line."""

    format: ClassVar[Format] = "bbq"

    def _read(self) -> Iterator[tuple[int, Row]]:
        for line, row in super()._read():
            try:
                item = Item.model_validate(row)
            except ValidationError as error:
                first = error.errors()[0]
                place = ".".join(map(str, first["loc"]))
                self._refuse(line, f"this is no item of BBQ: {place}: {first['msg']}")
            if set(item.answer_info) != set(ANSWERS):
                self._refuse(line, "this is no item of BBQ: answer_info", ", ".join(ANSWERS))
            yield line, row_of(item)
