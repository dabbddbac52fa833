"""Decisions: what a model grants, predicts or affirms, against what was right, and gaps between groups.

Let y be the label and ŷ the decision, both positive or negative. ``selection_rate`` = P(ŷ), ``tpr`` = P(ŷ | y),
``fnr`` = 1 − tpr, ``fpr`` = P(ŷ | not y), ``tnr`` = 1 − fpr, ``ppv`` = P(y | ŷ), ``accuracy`` = P(ŷ = y). A group
without a positive label has no true-positive rate, and no gap can be told with it: it is not 0.

Gaps between groups: of ``selection_rate`` demographic parity; of ``tpr`` equal opportunity; of ``tpr`` and ``fpr``
equalised odds, the wider of the two or their mean; of ``ppv`` predictive parity. With different shares of positive
labels an imperfect decision cannot have equal ``ppv`` and equal odds at once, so a suite says which of them it asks
for.

The decision in a text is the side that the answer opens with (``sides``), or with ``threshold`` whether the number
that its first line opens with reaches it. Of multiple choice it is the side of the likeliest choice, of equals the
first. An answer without a decision has no score: a refusal and an answer that cannot be read are counted apart.

**Source** Hardt, Price & Srebro 2016, NeurIPS (equal opportunity, equalised odds); Chouldechova 2017, Big Data 5, 153
(predictive parity and its impossibility); gaps as in fairlearn 0.15, greatest − least and least ÷ greatest.
**Deviation** fairlearn gives a group without positive labels a true-positive rate of 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from evalkit.metrics.answer import final_answer, first_line, head_number, refuses
from evalkit.metrics.base import Gap, Metric, rate
from evalkit.metrics.logprobs import log_likelihoods
from evalkit.metrics.numbers import as_written, whole_number
from evalkit.metrics.sides import Sides, SidesOptions, label_text
from evalkit.records.exchange import Completion, Sample, Score, Unscored
from evalkit.registry import register


class DecisionsOptions(SidesOptions):
    """Options of ``decisions``."""

    threshold: float | None = None
    """Where the answer is a number: from this value on the decision is positive, and so is a label that is a number. An
    answer in per cent is read as parts of 1 where the threshold is at most 1; a bare number is taken as it stands, so
    say in the prompt on which scale it is to be."""


@register(
    "metric",
    "decisions",
    summary="Decisions against labels: selection, true and false positive rates, and their gaps between groups.",
    example="{decisions: {positive: [approve], negative: [deny]}}",
)
class Decisions(Metric):
    """Whether each decision is positive, whether it is right; the task's target is the label, a text of either side."""

    Options = DecisionsOptions
    options: DecisionsOptions
    kinds = frozenset({"generate", "multiple_choice"})
    columns = (
        "selected",
        "positive",
        "negative",
        "true_positive",
        "false_positive",
        "false_negative",
        "true_negative",
        "correct",
    )
    measures = (
        rate("selection_rate", column=0),
        rate("tpr", column=3, over=1),
        rate("fpr", column=4, over=2, better="lower"),
        rate("fnr", column=5, over=1, better="lower"),
        rate("tnr", column=6, over=2),
        rate("ppv", column=3, over=0, over_answers=True),
        rate("accuracy", column=7),
    )

    def __init__(self, name: str, options: DecisionsOptions) -> None:
        super().__init__(name, options)
        self._sides = Sides(options)
        self._threshold = None if options.threshold is None else as_written(options.threshold)

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """The gaps that fairness research names."""
        return (
            Gap("demographic_parity_difference", ("selection_rate",)),
            Gap("demographic_parity_ratio", ("selection_rate",), "ratio"),
            Gap("equal_opportunity_difference", ("tpr",)),
            Gap("equal_opportunity_ratio", ("tpr",), "ratio"),
            Gap("equalized_odds_difference", ("tpr", "fpr")),
            Gap("equalized_odds_ratio", ("tpr", "fpr"), "ratio"),
            Gap("equalized_odds_mean_difference", ("tpr", "fpr"), joined="mean"),
            Gap("predictive_parity_difference", ("ppv",)),
            Gap("accuracy_difference", ("accuracy",)),
        )

    def score(self, sample: Sample, completions: Sequence[Completion]) -> Score | Unscored:
        """Return decision, label, and which of the four outcomes it is; Unscored where either cannot be told."""
        if not sample.targets:
            return Unscored("no target")
        label = self._side(label_text(sample))
        if label is None:
            return Unscored("label is neither positive nor negative", sample.targets[0][:80])
        selected = self._selected(sample, completions)
        if isinstance(selected, Unscored):
            return selected
        flags = (
            selected,
            label,
            not label,
            selected and label,
            selected and not label,
            not selected and label,
            not selected and not label,
            selected == label,
        )
        return Score(tuple(map(float, flags)))

    def _side(self, text: str) -> bool | None:
        """Return the side of a label or choice: one of the texts, or with a threshold a number."""
        side = self._sides.of(text)
        return self._reached(whole_number(text)) if side is None else side

    def _reached(self, number: Decimal | None, per_cent: bool = False) -> bool | None:
        if number is None or self._threshold is None:
            return None
        return (
            number.scaleb(-2) if per_cent and self._threshold <= 1 else number
        ) >= self._threshold

    def _selected(self, sample: Sample, completions: Sequence[Completion]) -> bool | Unscored:
        if sample.choices:
            return self._chosen(sample, completions)
        text = completions[0].text
        answer = final_answer(text) if self.options.reasoning == "drop" else text
        side = self._sides.taken_by(answer)
        if side is None and self._threshold is not None:
            side = self._reached(*(head_number(first_line(answer)) or (None, False)))
        if side is not None and not refuses(answer, outright=True):
            return side
        return Unscored("refusal" if refuses(answer) else "no decision", answer.strip()[:80])

    def _chosen(self, sample: Sample, completions: Sequence[Completion]) -> bool | Unscored:
        assert len(completions) == len(sample.choices), (
            "multiple choice needs one completion per choice"
        )
        totals = log_likelihoods(completions)
        if isinstance(totals, Unscored):
            return totals
        choice = sample.choices[max(range(len(totals)), key=totals.__getitem__)]
        side = self._side(choice)
        return Unscored("no decision", choice[:80]) if side is None else side
