"""What a metric is: per-sample statistics plus an aggregate.

``score`` gives K numbers for one sample. A ``Measure`` turns the sums of these numbers over any set of samples
into one number. So intervals, slices, paired differences and resampling are each written once and hold for
accuracy, BLEU and perplexity alike: a resample is a weight vector over samples, its sums are ``weights @ stats``.

A metric is a class registered with ``@register("metric", name, …)``, constructed with an instance of its
``Options``::

    @register("metric", "word_count", summary="Words per answer.", example="word_count")
    class WordCount(Metric):
        columns = ("words",)
        measures = (mean("", column=0, unit="words", better="lower"),)

        def score(self, sample, completions):
            return Score((float(len(completions[0].text.split())),))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from evalkit.identity import signature
from evalkit.records.exchange import Completion, Need, Sample, Score, Unscored
from evalkit.records.scorecard import Better
from evalkit.records.suite import SampledTask, Spec

Array = NDArray[np.float64]
FromSums = Callable[[Array, Array], Array]
"""``(sums_XK, n_X) → value_X``: the aggregate of sets of samples from the sums of their statistics (X is any
leading shape: one set, B resamples …) and their sizes. NaN where a set has no value (an empty denominator)."""

Kind = Literal["rate", "mean", "corpus"]


@dataclass(frozen=True, slots=True)
class Measure:
    """One number that a metric yields, and which interval fits it."""

    name: str
    """Appended to the metric's name with a dot; empty for a metric's only or main number."""
    kind: Kind
    """``rate``: share of samples with statistic 1 rather than 0; ``mean``: mean of one statistic over samples;
    ``corpus``: any other function of sums (BLEU, micro F1, perplexity)."""
    column: int
    """The statistic that a rate or mean averages; -1 for a corpus measure."""
    from_sums: FromSums
    """The aggregate."""
    unit: str
    """``fraction`` (0–1), ``points`` (0–100), ``bits/byte`` …"""
    better: Better
    """Which direction is better."""
    over: int = -1
    """A statistic of zeros and ones: the number is over the samples where it is 1 (such as those whose label is
    positive), and the averaged statistic is 0 elsewhere; -1 for a number over all samples."""
    over_answers: bool = False
    """Whether the model's answers decide which samples it is over (those it selects), and not the data."""

    def aggregate(self, stats_NK: Array) -> float:
        """Return the number for a set of samples; NaN when it has none."""
        sums_K = stats_NK.sum(axis=0)
        return float(self.from_sums(sums_K, np.asarray(float(len(stats_NK)))))


@dataclass(frozen=True, slots=True)
class Gap:
    """How far a measure, or several, lie apart between groups of samples."""

    name: str
    """Appended to the metric's name with a dot."""
    measures: tuple[str, ...]
    """Names of the measures whose gaps it joins."""
    form: Literal["difference", "ratio"] = "difference"
    """``difference``: greatest group − least group, 0 where all are equal; ``ratio``: least ÷ greatest, 1 where all are
    equal."""
    joined: Literal["worst", "mean"] = "worst"
    """Of several measures: the widest gap, or the mean of their gaps."""


def _mean_of(column: int, over: int) -> FromSums:
    def from_sums(sums_XK: Array, n_X: Array) -> Array:
        return ratio(sums_XK[..., column], n_X if over < 0 else sums_XK[..., over])

    return from_sums


def ratio(numerator: Array, denominator: Array) -> Array:
    """Return ``numerator / denominator``, NaN where the denominator is 0; infinite beyond the largest float."""
    quotient = np.full(np.broadcast_shapes(np.shape(numerator), np.shape(denominator)), np.nan)
    with np.errstate(over="ignore"):
        np.divide(numerator, denominator, out=quotient, where=np.asarray(denominator) != 0)
    return quotient


def rate(
    name: str,
    *,
    column: int,
    better: Better = "higher",
    over: int = -1,
    over_answers: bool = False,
) -> Measure:
    """Return a measure: the share of samples whose statistic is 1; every statistic is 0 or 1.

    With ``over`` it is the share among the samples where that statistic is 1; ``column`` is 0 on all others.
    ``over_answers`` says that the model's answers decide which these are.
    """
    from_sums = _mean_of(column, over)
    return Measure(name, "rate", column, from_sums, "fraction", better, over, over_answers)


def mean(name: str, *, column: int, unit: str = "fraction", better: Better = "higher") -> Measure:
    """Return a measure: the mean of one statistic over samples."""
    return Measure(name, "mean", column, _mean_of(column, -1), unit, better)


def corpus(name: str, from_sums: FromSums, *, unit: str, better: Better = "higher") -> Measure:
    """Return a measure that is any function of the sums of statistics."""
    return Measure(name, "corpus", -1, from_sums, unit, better)


class NoOptions(Spec):
    """A metric without options."""


class Metric:
    """Base of every metric; subclasses set the class variables and write ``score``."""

    Options: ClassVar[type[Spec]] = NoOptions
    """Declares the options that a suite file may give; their docstrings are the help."""
    columns: tuple[str, ...] = ()
    """Names of the K statistics, as ``samples.jsonl`` shows them. May be set per instance."""
    measures: tuple[Measure, ...] = ()
    """The numbers it yields. May be set per instance."""
    needs: ClassVar[frozenset[Need]] = frozenset({"text"})
    """What its completions must carry: ``text`` or ``logprobs``."""
    kinds: ClassVar[frozenset[str]] = frozenset({"generate"})
    """The kinds of task it can score."""
    needs_target: bool = True
    """Whether the task must declare a target."""
    advisory: ClassVar[str] = ""
    """Why no blocking rule may rest on its numbers; empty where one may."""
    version: ClassVar[int] = 1
    """Grows when the same answers would score differently."""

    def __init__(self, name: str, options: Any) -> None:  # noqa: ANN401 - an instance of Options
        """Build the metric from checked options; raise ValueError on what the declaration cannot say."""
        self.name = name
        self.options = options

    def on(self, task: SampledTask) -> Metric:
        """Return the metric as it measures one task, whose declaration may decide what it yields; itself by default.

        Raises UsageError where it cannot measure this task.
        """
        return self

    @property
    def judges(self) -> tuple[str, ...]:
        """The judges whose judgements it reads, in a second pass; empty for metrics that read answers alone."""
        return ()

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """The gaps between groups that it yields where a task declares ``groups``: one for each measure by default."""
        return tuple(Gap(f"{m.name}.gap" if m.name else "gap", (m.name,)) for m in self.measures)

    @property
    def signature(self) -> str:
        """All that could change the number: name, version, options, and versions of libraries it rests on."""
        options = {k: _text(v) for k, v in self.options.model_dump(mode="json").items()}
        return signature(self.name, v=self.version, **options, **self.library_versions())

    def library_versions(self) -> dict[str, str]:
        """Return the versions of libraries that compute the number."""
        return {}

    def score(self, sample: Sample, completions: Sequence[Completion]) -> Score | Unscored:
        """Return K statistics for one sample, or why there are none.

        ``completions`` are the answers of one replicate: one for generated text and perplexity, one per choice
        for multiple choice. A wrong answer is a Score; Unscored is for what cannot be graded (no target, a target
        that is itself broken).
        """
        raise NotImplementedError


def _text(value: Any) -> str | float | bool | None:  # noqa: ANN401 - any JSON value
    from evalkit.identity import canonical_json, digest, short

    if isinstance(value, str | int | float | bool) or value is None:
        return value
    return (
        short(digest(value)) if len(canonical_json(value)) > 60 else canonical_json(value).decode()
    )
