"""Calibration: whether probabilities that a model gives for the positive side are as large as how often it occurs.

Let p be the probability an answer gives and y = 1 where the label is positive, else 0. ``bias`` = mean(p − y), above
0 where the model promises too much: a rule on it sets limits on both sides (``inside``). ``brier`` = mean((p − y)²).
``ece`` = Σ_b |Σ_{i∈b} (p_i − y_i)| / n over ten bins of equal width, each closed at its upper end: how far the mean
probability of a bin lies from its share of positive labels, weighted by the bin's size. ``ece`` is biased upwards
where bins hold few samples, so a rule is better put on ``brier`` or ``bias``. Between groups the gap of ``bias`` is
calibration by group.

The probability in a text is the number that its first line opens with: from 0 to 1, or per cent where it says so. Of
multiple choice it is what the positive choices have of all: softmax over the log-likelihoods of whole choices.

**Source** Brier 1950, Mon. Weather Rev. 78, 1; Guo et al. 2017, ICML, with its bins closed above; Kleinberg,
Mullainathan & Raghavan 2017, ITCS (calibration within groups). **Deviation** Guo bins the confidence in the class
predicted; here it is the probability of the positive side, as in reliability diagrams of scikit-learn.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from evalkit.metrics.answer import final_answer, first_line, head_number, refuses
from evalkit.metrics.base import Array, Metric, corpus, mean, ratio
from evalkit.metrics.logprobs import log_likelihoods
from evalkit.metrics.sides import Sides, SidesOptions, label_text
from evalkit.records.exchange import Completion, Sample, Score, Unscored
from evalkit.registry import register

EDGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Upper ends of all bins but the last; each belongs to the bin below it."""
_FIRST_BIN = 4


def _ece(sums_XK: Array, n_X: Array) -> Array:
    return ratio(np.abs(sums_XK[..., _FIRST_BIN:]).sum(axis=-1), n_X)


@register(
    "metric",
    "calibration",
    summary="Probabilities against labels: bias, Brier score, expected calibration error.",
    example="{calibration: {positive: [repaid], negative: [defaulted]}}",
)
class Calibration(Metric):
    """Statistics of one probability; the task's target is the label, a text of either side."""

    Options = SidesOptions
    options: SidesOptions
    kinds = frozenset({"generate", "multiple_choice"})
    columns = (
        "probability",
        "positive",
        "residual",
        "squared_residual",
        *(f"residual_to_{edge}" for edge in (*EDGES, 1.0)),
    )
    measures = (
        mean("bias", column=2, unit="signed fraction", better="lower"),
        mean("brier", column=3, better="lower"),
        corpus("ece", _ece, unit="fraction", better="lower"),
    )

    def __init__(self, name: str, options: SidesOptions) -> None:
        super().__init__(name, options)
        self._sides = Sides(options)

    def score(self, sample: Sample, completions: Sequence[Completion]) -> Score | Unscored:
        """Return probability, label, p − y, its square, and p − y in the column of the probability's bin."""
        if not sample.targets:
            return Unscored("no target")
        label = self._sides.of(label_text(sample))
        if label is None:
            return Unscored("label is neither positive nor negative", sample.targets[0][:80])
        given = self._of_choices if sample.choices else self._of_text
        p = given(sample, completions)
        if isinstance(p, Unscored):
            return p
        residual = p - label
        bins = [0.0] * (len(EDGES) + 1)
        bins[bisect_left(EDGES, p)] = residual
        return Score((p, float(label), residual, residual * residual, *bins))

    def _of_text(self, sample: Sample, completions: Sequence[Completion]) -> float | Unscored:
        text = completions[0].text
        answer = final_answer(text) if self.options.reasoning == "drop" else text
        line = first_line(answer)
        found = head_number(line)
        if found is None:
            return Unscored("refusal" if refuses(answer) else "no probability", answer.strip()[:80])
        number, per_cent = found
        p = float(number.scaleb(-2) if per_cent else number)
        return p if 0 <= p <= 1 else Unscored("number is not a probability", line[:80])

    def _of_choices(self, sample: Sample, completions: Sequence[Completion]) -> float | Unscored:
        assert len(completions) == len(sample.choices), (
            "multiple choice needs one completion per choice"
        )
        positive = [self._sides.of(choice) is True for choice in sample.choices]
        if not any(positive):
            return Unscored("no choice is positive", repr(sample.choices)[:80])
        totals = log_likelihoods(completions)
        if isinstance(totals, Unscored):
            return totals
        weights = [math.exp(total - max(totals)) for total in totals]
        share = math.fsum(w for w, held in zip(weights, positive, strict=True) if held)
        return min(share / math.fsum(weights), 1.0)
