"""Answers that match a target: exactly, by containing it, by a pattern, as a number, or by SQuAD's words.

An answer is right when it matches any of its targets. Reasoning between ``<think>`` tags is no part of an answer
unless ``reasoning: keep`` says so. Texts are compared by code points: look-alike letters of other scripts, full-width
digits and zero-width spaces are not the characters they resemble. Caseless comparison is Unicode's default one
(``casefold``); SQuAD's is its program's (``lower``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field

from evalkit.metrics.answer import final_answer
from evalkit.metrics.base import Metric, mean, rate
from evalkit.metrics.numbers import first_number, last_number, near, whole_number
from evalkit.metrics.patterns import repeats_repetition
from evalkit.metrics.squad_text import squad_f1, squad_normal
from evalkit.records.exchange import Completion, Sample, Score, Unscored
from evalkit.records.suite import Spec
from evalkit.registry import register

Normalise = Literal["none", "strip", "squad"]


class MatchOptions(Spec):
    """Options of every metric of this family."""

    reasoning: Literal["drop", "keep"] = "drop"
    """Whether text between ``<think>`` tags is part of the answer."""


class TextOptions(MatchOptions):
    """Options of metrics that compare texts."""

    normalise: Normalise = "strip"
    """What is done to answer and target first: nothing; white space at both ends removed; or SQuAD's normal form."""
    ignore_case: bool = False
    """Whether letters that differ in case only are equal."""


class MatchMetric(Metric):
    """Base of the family: finds the answer and refuses samples without a target."""

    options: MatchOptions

    def score(self, sample: Sample, completions: Sequence[Completion]) -> Score | Unscored:
        """Return the statistics; a wrong or empty answer is a score, a sample without targets is not."""
        if self.needs_target and not sample.targets:
            return Unscored("no target")
        text = completions[0].text
        answer = final_answer(text) if self.options.reasoning == "drop" else text
        return self.grade(answer, sample.targets)

    def grade(self, answer: str, targets: tuple[str, ...]) -> Score | Unscored:
        """Return the statistics of an answer against its targets."""
        raise NotImplementedError


def _normal(text: str, options: TextOptions) -> str:
    if options.normalise == "squad":
        text = squad_normal(text)
    elif options.normalise == "strip":
        text = text.strip()
    return text.casefold() if options.ignore_case else text


@register(
    "metric",
    "exact_match",
    summary="Share of answers equal to a target.",
    example="{exact_match: {normalise: squad}}",
)
class ExactMatch(MatchMetric):
    """Share of answers equal to one of their targets, both in normal form."""

    Options = TextOptions
    options: TextOptions
    columns = ("match",)
    measures = (rate("", column=0),)

    def grade(self, answer: str, targets: tuple[str, ...]) -> Score:
        """Return 1 for an equal answer."""
        found = _normal(answer, self.options)
        return Score((float(any(found == _normal(target, self.options) for target in targets)),))


class ContainsOptions(TextOptions):
    """Options of ``contains``."""

    whole_words: bool = False
    """Whether the target must not be part of a longer word: ``cat`` is in ``concatenate`` otherwise."""


@register(
    "metric",
    "contains",
    summary="Share of answers that contain a target.",
    example="{contains: {ignore_case: true, whole_words: true}}",
)
class Contains(MatchMetric):
    """Share of answers in which one of their targets stands, both in normal form.

    An answer that lists everything contains everything: prefer ``exact_match`` where the answer's form is known.
    """

    Options = ContainsOptions
    options: ContainsOptions
    columns = ("match",)
    measures = (rate("", column=0),)

    def grade(self, answer: str, targets: tuple[str, ...]) -> Score | Unscored:
        """Return 1 for an answer that contains a target; an empty target would be in every answer."""
        found = _normal(answer, self.options)
        wanted = [_normal(target, self.options) for target in targets]
        if not all(wanted):
            return Unscored("target is empty")
        return Score((float(any(self._stands_in(found, target) for target in wanted)),))

    def _stands_in(self, answer: str, target: str) -> bool:
        if not self.options.whole_words:
            return target in answer
        return re.search(rf"(?<!\w){re.escape(target)}(?!\w)", answer) is not None


class RegexOptions(TextOptions):
    """Options of ``regex``; ``normalise`` and ``ignore_case`` hold for what ``extract`` found and the target."""

    pattern: str
    """A Python regular expression; flags are written in it: ``(?i)``, ``(?s)``."""
    where: Literal["search", "full"] = "search"
    """Whether it may match anywhere in the answer, or must match all of it."""
    extract: str | int | None = None
    """A group, by name or number, that must equal a target; without it, an answer that matches is right."""
    take: Literal["first", "last"] = "first"
    """Which match counts where there are several."""
    longest_answer: Annotated[int, Field(ge=1)] = 100_000
    """Longer answers, in characters, do not match; bounds the time that a pattern can take."""


@register(
    "metric",
    "regex",
    summary="Share of answers that match a pattern, or whose extracted group equals a target.",
    example=r"{regex: {pattern: 'ANSWER: (\w+)', extract: 1, take: last}}",
)
class Regex(MatchMetric):
    """Share of answers that match a pattern; with ``extract``, also ``.extracted``, the share it was found in.

    Python's engine backtracks and knows no time limit: the author of a pattern answers for its time on hostile answers.
    The plainest exponential patterns (``(a+)+``) are refused, and ``longest_answer`` bounds the others.
    """

    Options = RegexOptions
    options: RegexOptions

    def __init__(self, name: str, options: RegexOptions) -> None:
        super().__init__(name, options)
        try:
            self._pattern = re.compile(options.pattern)
        except (re.error, OverflowError) as error:
            raise ValueError(f"'pattern' is no regular expression: {error}") from None
        if repeats_repetition(self._pattern):
            raise ValueError(
                "'pattern' repeats a repetition, which can take exponential time; make the inner one possessive "
                "('x++' or '(?>x+)')"
            )
        groups: list[str | int] = [*range(self._pattern.groups + 1), *self._pattern.groupindex]
        if options.extract is not None and options.extract not in groups:
            raise ValueError(f"'pattern' has no group {options.extract!r}; it has {groups}")
        self.needs_target = options.extract is not None
        self.columns = ("match", "extracted") if self.needs_target else ("match",)
        extracted = (rate("extracted", column=1),) if self.needs_target else ()
        self.measures = (rate("", column=0), *extracted)

    def grade(self, answer: str, targets: tuple[str, ...]) -> Score:
        """Return whether the answer is right and, with ``extract``, whether the group was found."""
        group = self.options.extract
        if len(answer) > self.options.longest_answer:
            return Score(
                (0.0,) * len(self.columns), f"answer of {len(answer)} characters, too long to match"
            )
        match = self._match(answer)
        if group is None:
            return Score((float(match is not None),))
        text = match.group(group) if match else None
        if text is None:
            return Score((0.0, 0.0), "the pattern found nothing")
        found = _normal(text, self.options)
        right = any(found == _normal(target, self.options) for target in targets)
        return Score((float(right), 1.0), f"extracted {found[:80]!r}")

    def _match(self, answer: str) -> re.Match[str] | None:
        if self.options.where == "full":
            return self._pattern.fullmatch(answer)
        last = None
        for match in self._pattern.finditer(answer):
            if self.options.take == "first":
                return match
            last = match
        return last


class NumericOptions(MatchOptions):
    """Options of ``numeric``."""

    extract: Literal["last", "first", "after"] = "last"
    """Which number of an answer counts: the last, the first, or the first on the line that ``marker`` begins."""
    marker: Annotated[str, Field(min_length=1)] = "####"
    """What stands before the number (``extract: after``); the first in the answer counts."""
    tolerance: Annotated[float, Field(ge=0)] = 0.0
    """Greatest absolute difference from the target."""
    relative_tolerance: Annotated[float, Field(ge=0)] = 0.0
    """Greatest difference as a share of the target."""


@register(
    "metric",
    "numeric",
    summary="Share of answers whose number equals the target's, and share that hold a number.",
    example='{numeric: {extract: after, marker: "####", tolerance: 0.01}}',
)
class Numeric(MatchMetric):
    """Share of all answers whose number is right, and ``.extracted``, the share in which a number was found.

    Numbers are compared in decimal as written: ``18``, ``18.0`` and ``$18`` are equal. A target must be a number and
    nothing else; with ``extract: after`` it may also be a worked answer with the marker, as in GSM8K.
    """

    Options = NumericOptions
    options: NumericOptions
    columns = ("match", "extracted")
    measures = (rate("", column=0), rate("extracted", column=1))

    def grade(self, answer: str, targets: tuple[str, ...]) -> Score | Unscored:
        """Return whether the number is right and whether there is one; no number is a wrong answer."""
        wanted = [self._target(target) for target in targets]
        numbers = [number for number in wanted if number is not None]
        if len(numbers) < len(wanted):
            return Unscored("target is not a number")
        found = self._extract(answer)
        if found is None:
            return Score((0.0, 0.0), "no number found")
        absolute, relative = self.options.tolerance, self.options.relative_tolerance
        right = any(near(found, number, absolute, relative) for number in numbers)
        return Score((float(right), 1.0), f"extracted {str(found)[:80]}")

    def _extract(self, answer: str) -> Decimal | None:
        if self.options.extract == "last":
            return last_number(answer)
        if self.options.extract == "after":
            answer = answer.partition(self.options.marker)[2].lstrip().partition("\n")[0]
        return first_number(answer)

    def _target(self, target: str) -> Decimal | None:
        number = whole_number(target)
        return (
            self._extract(target) if number is None and self.options.extract == "after" else number
        )


@register(
    "metric",
    "squad",
    summary="SQuAD's exact match and word F1.",
    example="squad",
)
class Squad(MatchMetric):
    """``em``: share of answers equal to a target in SQuAD's normal form; ``f1``: mean of the best F1 over targets."""

    columns = ("em", "f1")
    measures = (rate("em", column=0), mean("f1", column=1))
    Options = MatchOptions

    def grade(self, answer: str, targets: tuple[str, ...]) -> Score:
        """Return the best exact match and the best F1 over the targets, each for itself."""
        exact = any(squad_normal(answer) == squad_normal(target) for target in targets)
        return Score((float(exact), max(squad_f1(answer, target) for target in targets)))
