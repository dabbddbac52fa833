"""Metrics that judges give: a score of each answer, and whether it is preferred to the baseline's.

They are scored in a second pass, from judgements that ``evalkit.judging`` has read; without a judgement a sample is
Unscored, with the judgement's reason. The numbers are what judges say, not what people would say: rules on them need
a judge card, and ``evalkit review`` gives labels by which they are corrected.

Length control: preferences are regressed on the relative difference of lengths, (l₁ − l₂)/(l₁ + l₂), by least squares;
the value at no difference is the length-controlled win rate.

**Source**: Zheng et al. 2023, arXiv 2306.05685 (pairwise, both orders); Verga et al. 2024, arXiv 2404.18796 (juries);
Dubois et al. 2024, arXiv 2404.04475 (length control).

**Deviation**: AlpacaEval controls length by a logistic model with a term for each instruction; a line of one slope is a
function of sums, so that it is resampled and compared like any other measure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from evalkit.metrics.base import Array, Measure, Metric, corpus, mean, rate, ratio
from evalkit.records.exchange import Completion, Sample, Score, Unscored
from evalkit.records.judging import Judgement
from evalkit.records.suite import Name, Spec
from evalkit.registry import register

UNJUDGED = "not judged"


class JudgedOptions(Spec):
    """Options of metrics that judges give."""

    judge: Name | Annotated[tuple[Name, ...], Field(min_length=1)]
    """A judge of the suite, or several: a jury."""
    combine: Literal["mean", "vote"] = "mean"
    """What a jury says: the mean of its judgements, or what most of its judges say (0, ½ or 1; a tie is ½)."""

    @model_validator(mode="after")
    def _different(self) -> JudgedOptions:
        if len(set(self.names)) < len(self.names):
            raise ValueError("a jury lists each judge once")
        if len(self.names) > 1 and "corrected" in self.names:
            raise ValueError(
                "'corrected' names what people make of the score: call the judge something else"
            )
        return self

    @property
    def names(self) -> tuple[Name, ...]:
        """The judges."""
        return (self.judge,) if isinstance(self.judge, str) else self.judge


class JudgedMetric(Metric):
    """Base: finds a sample's judgements and combines a jury's."""

    form: ClassVar[Literal["pointwise", "pairwise"]] = "pointwise"
    """The judges it takes."""
    Options = JudgedOptions
    options: JudgedOptions
    needs_target = False

    @property
    def judges(self) -> tuple[str, ...]:
        """The judges whose judgements it reads."""
        return self.options.names

    def _found(self, sample: Sample) -> list[Judgement] | Unscored:
        held: Mapping[str, Judgement] = sample.fields.get("judgements", {})
        found = [held.get(name, Judgement(None, UNJUDGED)) for name in self.judges]
        for name, judgement in zip(self.judges, found, strict=True):
            if judgement.value is None:
                by = f" ({name})" if len(found) > 1 else ""
                return Unscored(f"{judgement.reason}{by}", judgement.note)
        return found

    def _combined(self, values: Sequence[float]) -> float:
        if self.options.combine == "mean" or len(values) == 1:
            return sum(values) / len(values)
        votes = sum((value > 0.5) - (value < 0.5) for value in values)
        return 0.5 if votes == 0 else float(votes > 0)


@register(
    "metric",
    "judged",
    summary="How good a judge, or a jury, calls each answer: 0 to 1.",
    example="{judged: {judge: quality}}",
)
class Judged(JudgedMetric):
    """Mean score on the judge's scale, from 0 (its least) to 1 (its greatest)."""

    def __init__(self, name: str, options: JudgedOptions) -> None:
        """Name the columns: the score, and for a jury its agreement and each judge's own."""
        super().__init__(name, options)
        jury = options.names if len(options.names) > 1 else ()
        self.columns: tuple[str, ...] = ("score", *(("agree", "spread") if jury else ()), *jury)
        self.measures: tuple[Measure, ...] = (mean("score", column=0),)
        if jury:
            self.measures += (rate("agree", column=1), mean("spread", column=2, better="lower"))
            self.measures += tuple(
                mean(f"score.{judge}", column=3 + n) for n, judge in enumerate(jury)
            )

    def score(self, sample: Sample, completions: Sequence[Completion]) -> Score | Unscored:
        """Return the score; of a jury also whether all say the same, and how far they lie apart."""
        found = self._found(sample)
        if isinstance(found, Unscored):
            return found
        values = [judgement.value for judgement in found if judgement.value is not None]
        statistics = [self._combined(values)]
        if len(values) > 1:
            apart = max(values) - min(values)
            statistics += [float(apart == 0), apart, *values]
        return Score(tuple(statistics), found[0].note)


def length_controlled(sums_XK: Array, n_X: Array) -> Array:
    """Return the preference at no difference of lengths, within 0 and 1; the plain mean where lengths do not differ."""
    mean_X, apart_X = ratio(sums_XK[..., 0], n_X), ratio(sums_XK[..., 5], n_X)
    spread_X = ratio(sums_XK[..., 6], n_X) - apart_X**2
    shared_X = ratio(sums_XK[..., 7], n_X) - apart_X * mean_X
    slope_X = np.where(spread_X > 1e-12, shared_X / np.where(spread_X > 1e-12, spread_X, 1.0), 0.0)
    return np.asarray(np.clip(mean_X - slope_X * apart_X, 0.0, 1.0))


@register(
    "metric",
    "preferred",
    summary="How often a judge prefers the candidate's answer to the baseline's, asked in both orders.",
    example="{preferred: {judge: better}}",
)
class Preferred(JudgedMetric):
    """Win rate of the candidate: 1 for a win, ½ for a tie or where the order decided, 0 for a loss."""

    form = "pairwise"
    columns = ("win", "tie", "consistent", "first", "decided", "d", "d*d", "d*win")
    measures = (
        mean("win_rate", column=0),
        mean("tie", column=1, better="lower"),
        rate("consistent", column=2),
        corpus("first", lambda sums, n: ratio(sums[..., 3], sums[..., 4]), unit="fraction", better="lower"),
        corpus("lc_win_rate", length_controlled, unit="fraction"),
    )  # fmt: skip

    def score(self, sample: Sample, completions: Sequence[Completion]) -> Score | Unscored:
        """Return who won, whether both orders say so, and what length control needs."""
        found = self._found(sample)
        if isinstance(found, Unscored):
            return found
        values = [judgement.value for judgement in found if judgement.value is not None]
        win = self._combined(values)
        firsts = [judgement.first for judgement in found if judgement.first is not None]
        consistent = float(all(judgement.consistent is not False for judgement in found))
        ours, theirs = sample.fields.get("lengths", (0, 0))
        apart = (ours - theirs) / (ours + theirs) if ours + theirs else 0.0
        statistics = (
            win,
            float(win == 0.5),
            consistent,
            sum(firsts) / len(firsts) if firsts else 0.0,
            float(bool(firsts)),
            apart,
            apart**2,
            apart * win,
        )
        return Score(statistics, found[0].note)
