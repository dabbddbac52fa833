"""Which of two sides a text takes, a label or an answer: positive or negative.

A label, or a choice that was offered, *is* one of a side's texts. An answer *opens* with one: its first line, after
what announces it and the marks around it, begins with a text that is not part of a longer word, and there the clause
ends ("Yes.", "**Yes**, since …", "Answer: yes") or goes on with a word that opens a reason ("yes because", "no the").
So "yes and no", "yes or no?", "no idea", "no one knows" and "yes/no" take no side, nor does "not yes", which does not
begin with one. A line with a clause that opens with the other side's text ("Yes. No.", "yes, or no", "yes, deny it")
takes none either.
Texts are compared by code points, letters that differ in case alone are equal if asked for, and runs of white space
are one space.

Limits. Only the first line is read, so a change of mind further down is not seen. "Yes it would be wrong" opens with
yes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field

from evalkit.metrics.answer import first_line
from evalkit.records.exchange import Sample
from evalkit.records.suite import Spec

_GOES_ON = (
    "as|because|since|based|given|due|considering|for|the|this|that|these|those|there|he|she|they|it|i|we|you|his|her"
    "|their|its"
)
_ENDS = re.compile(
    r"""["'”’»_)\]]*+ (?: $ | [,;:!?…—–] | [.-] (?=\s|$) | \.{2,}"""
    rf""" | \s++ (?: [-–—]++(?!>) | \( | (?:{_GOES_ON})\b ) )""",
    re.VERBOSE | re.IGNORECASE,
)
"""What follows a text that is an answer."""
_CLAUSES = re.compile(r"[,;:!?…—–()]++|\.(?=\s|$)|\s-\s")
_JOINING = re.compile(r"^(?:and|or|but|maybe|perhaps|also)\s+", re.IGNORECASE)
_AROUND = " \t\"'“”‘’«»_[]"

Text = Annotated[str, Field(min_length=1)]


class SidesOptions(Spec):
    """Options of metrics that tell two sides apart."""

    positive: Annotated[tuple[Text, ...], Field(min_length=1)] = ("yes",)
    """Texts of the positive side: what is granted, predicted or affirmed."""
    negative: Annotated[tuple[Text, ...], Field(min_length=1)] = ("no",)
    """Texts of the negative side."""
    ignore_case: bool = True
    """Whether letters that differ in case only are equal."""
    reasoning: Literal["drop", "keep"] = "drop"
    """Whether text between ``<think>`` tags is part of the answer."""


class Sides:
    """The texts of both sides."""

    def __init__(self, options: SidesOptions) -> None:
        """Take the texts; raise ValueError where one is blank or stands on both sides."""
        self._ignore_case = options.ignore_case
        self._texts = {True: self._all(options.positive), False: self._all(options.negative)}
        if not all(text for texts in self._texts.values() for text in texts):
            raise ValueError("'positive' and 'negative' hold texts, not white space")
        if both := sorted(self._texts[True] & self._texts[False]):
            raise ValueError(f"{both[0]!r} stands under both 'positive' and 'negative'")
        # The longest first, so that "not approved" is not read as "not".
        self._longest = sorted(
            ((text, side) for side, texts in self._texts.items() for text in texts),
            key=lambda held: (-len(held[0]), held[0]),
        )

    def of(self, text: str) -> bool | None:
        """Return the side whose text this is, True for the positive one; None where it is neither's."""
        plain = self._normal(text)
        return next((side for side, texts in self._texts.items() if plain in texts), None)

    def taken_by(self, answer: str) -> bool | None:
        """Return the side that an answer opens with; None where it takes none, or both."""
        whole = self.of(answer)
        if whole is not None:
            return whole
        line = self._normal(first_line(answer))
        opened = self._opening(line)
        if opened is None:
            return None
        text, side = opened
        clauses = _CLAUSES.split(line[len(text) :])
        opened_later = (self._opening(_JOINING.sub("", each.strip(_AROUND))) for each in clauses)
        return None if any(held and held[1] is not side for held in opened_later) else side

    def _opening(self, clause: str) -> tuple[str, bool] | None:
        """Return the text that a clause opens with, and its side; None where it goes on as no answer does."""
        opened = next((held for held in self._longest if clause.startswith(held[0])), None)
        return opened if opened is not None and _ENDS.match(clause, len(opened[0])) else None

    def _all(self, texts: Iterable[str]) -> frozenset[str]:
        return frozenset(map(self._normal, texts))

    def _normal(self, text: str) -> str:
        text = " ".join(text.split())
        return text.casefold() if self._ignore_case else text


def label_text(sample: Sample) -> str:
    """Return what a sample's first target says: of multiple choice, the choice whose place it names; else empty."""
    target = sample.targets[0] if sample.targets else ""
    if not sample.choices:
        return target
    places = [str(place) for place in range(len(sample.choices))]
    return sample.choices[places.index(target)] if target in places else ""
