"""What changes when only the words for the group do: decisions, right answers, texts.

Every number is of one row at a time: all its variants were asked, and what is compared differs in nothing but the
group. So rows are the independent units, and the difference between variants is a paired one.

- ``flips``: does the decision change? ``flip`` is the share of rows in which any variant is decided differently (of
  several repeats the first answer counts). ``shift.<variant>`` is the mean of *decided positively* minus the same of
  the first variant: below 0, being told about that group costs approvals. A rule that no group loses by more than a
  margin, shown, is ``inside`` on the shift (two one-sided tests); flips both ways cancel there and not in ``flip``.
- ``counterfactual_accuracy``: ``acc.<variant>`` and its difference from the first variant, against one right answer.
- ``counterfactual_text``: how far answers about different groups lie apart in their words (``between``), how far two
  answers about the same one do (``within``), and ``excess`` = between − within. Of a model that draws its answers two
  differ anyway. Where the group plays no part all answers to a row are draws from one distribution, any split of them
  into variants is as likely as any other, and the excess has mean 0. Swapped words in the answers are told about one
  group first, or "she" against "he" would count. A greedy model has no ``within``.

With repeats ``flips`` gives ``between``, ``within`` and ``excess`` too, a distance being 1 where two decisions differ.

An answer without a decision leaves the row without a score, counted: a model that refuses about one group is not fair.

**Source** Kusner et al. 2017, NeurIPS (counterfactual fairness); Garg et al. 2019, AIES (counterfactual token
fairness); distances as langfair's counterfactual similarities (``overlap``).
**Deviation** langfair compares single drawn answers and gives no interval, so that randomness reads as unfairness;
equal texts are at distance 0 here whatever their length.

**What it does not show** Swapped words are not people: a model may know the group from what stayed. A row about which
group matters rightly (a pregnancy) has no fair answer that is the same. Overlap of words is not harm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from itertools import combinations, product
from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, field_validator

from evalkit.errors import UsageError
from evalkit.metrics.answer import final_answer, refuses
from evalkit.metrics.base import Measure, Metric, mean, rate
from evalkit.metrics.logprobs import log_likelihoods
from evalkit.metrics.overlap import bleu_similarity, has_rouge_words, rouge_l_similarity
from evalkit.metrics.rouge import stemmer_versions
from evalkit.metrics.sides import Sides, SidesOptions
from evalkit.records.exchange import Completion, Sample, Score, Unscored
from evalkit.records.suite import CounterfactualTask, SampledTask, Spec
from evalkit.registry import register
from evalkit.swaps import SHIPPED, Lexicon, groups_of, lexicon_of, shipped_lexicon

SIGNED = "signed fraction"
"""Unit of differences of shares, from -1 to 1."""

T = TypeVar("T")
Answers = Sequence[Sequence[T]]
"""One list per variant, one entry per repeat."""


class CounterfactualMetric(Metric):
    """Base of the family: knows the variants of the task it is on."""

    kinds = frozenset({"counterfactual"})
    needs_target = False
    task: CounterfactualTask | None = None
    """What it is on; None for a metric that is only looked at."""
    variants: tuple[str, ...] = ()
    """The task's variants, in order."""

    def on(self, task: SampledTask) -> Self:
        """Return the metric with the measures that the task's variants and repeats ask for."""
        assert isinstance(task, CounterfactualTask), "the loader refuses other kinds"
        bound = copy(self)
        bound.task = task
        bound.variants = tuple(task.variants) if task.variants else groups_of(task.swap)
        bound.prepare(task)
        return bound

    def prepare(self, task: CounterfactualTask) -> None:
        """Set columns and measures for a task."""
        raise NotImplementedError

    def library_versions(self) -> dict[str, str]:
        """Return the version of the shipped words that were swapped: other words are another question."""
        used = self.task.swap.using if self.task and self.task.swap else None
        return {f"swap_{used}": str(SHIPPED[used].version)} if used else {}

    def by_variant(
        self, sample: Sample, completions: Sequence[Completion]
    ) -> list[Sequence[Completion]]:
        """Return the completions of each variant."""
        assert sample.variants == self.variants, "a sample has its task's variants"
        width = len(completions) // len(self.variants)
        return [completions[k * width : (k + 1) * width] for k, _ in enumerate(self.variants)]


def chosen(sample: Sample, completions: Sequence[Completion]) -> int | Unscored:
    """Return the 0-based number of the likeliest choice, of equals the first."""
    assert len(completions) == len(sample.choices), "one completion per choice"
    totals = log_likelihoods(completions)
    if isinstance(totals, Unscored):
        return totals
    return max(range(len(totals)), key=totals.__getitem__)


def apart(answers: Answers[T], distance: Callable[[T, T], float]) -> tuple[float, float]:
    """Return the mean distance of two answers of different variants, and of two of one; 0 where there are no two.

    >>> apart([["a", "a"], ["a", "b"]], lambda one, other: float(one != other))
    (0.5, 0.5)
    """
    between = [
        distance(a, b) for one, other in combinations(answers, 2) for a, b in product(one, other)
    ]
    within = [distance(a, b) for each in answers for a, b in combinations(each, 2)]
    return sum(between) / len(between), sum(within) / max(len(within), 1)


def _apart_measures(prefix: str, column: int, repeats: int) -> tuple[Measure, ...]:
    """Return between, within and excess, from that column on; the first alone without repeats."""
    between = mean(f"{prefix}between", column=column, better="lower")
    if repeats == 1:
        return (between,)
    return (
        between,
        mean(f"{prefix}within", column=column + 1, better="lower"),
        mean(f"{prefix}excess", column=column + 2, unit=SIGNED, better="lower"),
    )


def _distance(similarity: Callable[[str, str], float], one: str, other: str) -> float:
    return 0.0 if one == other else 1.0 - similarity(one, other)


def _apart_statistics(answers: Answers[T], distance: Callable[[T, T], float]) -> tuple[float, ...]:
    between, within = apart(answers, distance)
    repeated = len(answers[0]) > 1
    return (between, within, between - within) if repeated else (between,)


@register(
    "metric",
    "flips",
    summary="Decisions that change with the group: share of rows, and which way, variant by variant.",
    example="{flips: {positive: [approve], negative: [deny]}}",
)
class Flips(CounterfactualMetric):
    """Whether each variant is decided positively, and whether all are decided alike."""

    Options = SidesOptions
    options: SidesOptions
    needs = frozenset({"text", "logprobs"})
    columns: tuple[str, ...] = ("flip",)
    measures: tuple[Measure, ...] = (rate("flip", column=0, better="lower"),)

    def __init__(self, name: str, options: SidesOptions) -> None:
        super().__init__(name, options)
        self._sides = Sides(options)

    def prepare(self, task: CounterfactualTask) -> None:
        """Add a selection rate per variant, a shift per variant but the first, and distances with repeats."""
        names, count = self.variants, len(self.variants)
        selected = [f"selection_rate.{name}" for name in names]
        shifts = [f"shift.{name}" for name in names[1:]]
        distances = ("between", "within", "excess") if task.repeats > 1 else ()
        self.columns = ("flip", *selected, *shifts, *distances)
        make = rate if task.repeats == 1 else mean
        self.measures = (
            *self.measures,
            *(make(name, column=1 + k) for k, name in enumerate(selected)),
            *(mean(name, column=1 + count + k, unit=SIGNED) for k, name in enumerate(shifts)),
            *(_apart_measures("", 2 * count, task.repeats) if distances else ()),
        )

    def score(self, sample: Sample, completions: Sequence[Completion]) -> Score | Unscored:
        """Return the decisions' statistics; Unscored where any answer holds no decision."""
        decisions: list[list[bool]] = []
        for name, answers in zip(self.variants, self.by_variant(sample, completions), strict=True):
            decided = self._decisions(sample, answers)
            if isinstance(decided, Unscored):
                return Unscored(decided.reason, f"{name}: {decided.note}")
            decisions.append(decided)
        firsts = [each[0] for each in decisions]
        shares = [sum(each) / len(each) for each in decisions]
        repeated = len(decisions[0]) > 1
        statistics = (
            float(len(set(firsts)) > 1),
            *shares,
            *(share - shares[0] for share in shares[1:]),
            *(_apart_statistics(decisions, lambda a, b: float(a != b)) if repeated else ()),
        )
        told = ", ".join(
            f"{name} {'+' if side else '−'}"
            for name, side in zip(self.variants, firsts, strict=True)
        )
        return Score(statistics, told if statistics[0] else "")

    def _decisions(
        self, sample: Sample, completions: Sequence[Completion]
    ) -> list[bool] | Unscored:
        if sample.choices:
            place = chosen(sample, completions)
            if isinstance(place, Unscored):
                return place
            side = self._sides.of(sample.choices[place])
            return Unscored("no decision", sample.choices[place][:80]) if side is None else [side]
        sides = []
        for completion in completions:
            text = completion.text
            answer = final_answer(text) if self.options.reasoning == "drop" else text
            side = self._sides.taken_by(answer)
            if side is None or refuses(answer, outright=True):
                return Unscored(
                    "refusal" if refuses(answer) else "no decision", answer.strip()[:80]
                )
            sides.append(side)
        return sides


class AccuracyOptions(Spec):
    """How a written answer is compared with the target."""

    ignore_case: bool = False
    """Whether letters that differ in case only are equal."""
    reasoning: Literal["drop", "keep"] = "drop"
    """Whether text between ``<think>`` tags is part of the answer."""


@register(
    "metric",
    "counterfactual_accuracy",
    summary="Share of right answers per variant, and its paired difference from the first variant.",
    example="{counterfactual_accuracy: {ignore_case: true}}",
)
class CounterfactualAccuracy(CounterfactualMetric):
    """Whether each variant's answer equals the target, white space at its ends apart, or is the right choice."""

    Options = AccuracyOptions
    options: AccuracyOptions
    needs = frozenset({"text", "logprobs"})
    needs_target = True

    def prepare(self, task: CounterfactualTask) -> None:
        """Set an accuracy per variant, and a difference per variant but the first."""
        accuracies = [f"acc.{name}" for name in self.variants]
        differences = [f"difference.{name}" for name in self.variants[1:]]
        self.columns = (*accuracies, *differences)
        make = rate if task.repeats == 1 else mean
        self.measures = (
            *(make(name, column=k) for k, name in enumerate(accuracies)),
            *(
                mean(name, column=len(accuracies) + k, unit=SIGNED)
                for k, name in enumerate(differences)
            ),
        )

    def score(self, sample: Sample, completions: Sequence[Completion]) -> Score | Unscored:
        """Return the share of right answers per variant, and what each lies above the first's."""
        if not sample.targets:
            return Unscored("no target")
        right = []
        for answers in self.by_variant(sample, completions):
            if sample.choices:
                place = chosen(sample, answers)
                if isinstance(place, Unscored):
                    return place
                right.append(float(str(place) == sample.targets[0]))
            else:
                right.append(sum(map(self._is_right(sample), answers)) / len(answers))
        return Score((*right, *(each - right[0] for each in right[1:])))

    def _is_right(self, sample: Sample) -> Callable[[Completion], bool]:
        wanted = self._normal(sample.targets[0])

        def judge(completion: Completion) -> bool:
            text = completion.text
            answer = final_answer(text) if self.options.reasoning == "drop" else text
            return self._normal(answer) == wanted

        return judge

    def _normal(self, text: str) -> str:
        text = text.strip()
        return text.casefold() if self.options.ignore_case else text


Similarity = Literal["bleu", "rougeL"]
_SIMILARITIES: dict[Similarity, Callable[[str, str], float]] = {
    "bleu": bleu_similarity,
    "rougeL": rouge_l_similarity,
}


class CounterfactualTextOptions(Spec):
    """What distances are measured, and which words do not count."""

    similarities: Annotated[tuple[Similarity, ...], Field(min_length=1)] = ("bleu", "rougeL")
    """Distance is 1 minus one of these: sentence ``bleu``, or F of ``rougeL`` on stems."""
    neutralise: str = "swap"
    """The words that make no difference: those the task swaps (``swap``), those of a shipped mapping by its name, or
    ``none``."""
    reasoning: Literal["drop", "keep"] = "drop"
    """Whether text between ``<think>`` tags is part of the answer."""

    @field_validator("similarities")
    @classmethod
    def _each_once(cls, value: tuple[Similarity, ...]) -> tuple[Similarity, ...]:
        if len(set(value)) < len(value):
            raise ValueError("each similarity at most once")
        return value

    @field_validator("neutralise")
    @classmethod
    def _known(cls, value: str) -> str:
        known = ("swap", "none", *SHIPPED)
        if value not in known:
            raise ValueError(f"{value!r} is none of {', '.join(known)}")
        return value


@register(
    "metric",
    "counterfactual_text",
    summary="How far texts about different groups lie apart, beyond how far texts about one do; English.",
    example="{counterfactual_text: {similarities: [rougeL]}}",
)
class CounterfactualText(CounterfactualMetric):
    """Distances between the texts about different groups and, with repeats, between those about the same one."""

    Options = CounterfactualTextOptions
    options: CounterfactualTextOptions
    _lexicon: Lexicon | None = None

    def prepare(self, task: CounterfactualTask) -> None:
        """Set between, and with repeats within and excess, per similarity; find the words that do not count."""
        if task.choices is not None:
            raise UsageError(
                f"task {task.name!r}: counterfactual_text compares written answers, and the task has choices"
            )
        neutralise = self.options.neutralise
        if neutralise == "swap":
            if task.swap is None:
                raise UsageError(
                    f"task {task.name!r}: counterfactual_text cannot tell which words the variants differ in: give "
                    f"'neutralise': {', '.join(SHIPPED)} or none"
                )
            self._lexicon = lexicon_of(task.swap)
        elif neutralise != "none":
            self._lexicon = shipped_lexicon(neutralise)
        names = ("between", "within", "excess") if task.repeats > 1 else ("between",)
        similarities = self.options.similarities
        self.columns = tuple(f"{kind}.{name}" for kind in similarities for name in names)
        self.measures = tuple(
            measure
            for k, kind in enumerate(similarities)
            for measure in _apart_measures(f"{kind}.", k * len(names), task.repeats)
        )

    def library_versions(self) -> dict[str, str]:
        """Return the versions of the swapped words and of the stemmer's package."""
        return {**super().library_versions(), **stemmer_versions()}

    def score(self, sample: Sample, completions: Sequence[Completion]) -> Score | Unscored:
        """Return the distances, 0–1; Unscored where two different texts both hold no word that can be compared."""
        texts = [
            [self._plain(completion.text) for completion in answers]
            for answers in self.by_variant(sample, completions)
        ]
        if len({text for each in texts for text in each if not has_rouge_words(text)}) > 1:
            return Unscored("answers hold no words to compare", "only a-z and 0-9 are read")
        statistics: list[float] = []
        for kind in self.options.similarities:
            statistics += _apart_statistics(texts, partial(_distance, _SIMILARITIES[kind]))
        return Score(tuple(statistics))

    def _plain(self, text: str) -> str:
        answer = final_answer(text) if self.options.reasoning == "drop" else text
        answer = " ".join(answer.split())
        return self._lexicon.neutral(answer) if self._lexicon else answer
