"""A number that another program gave to each sample: nothing is graded here, what was recorded is aggregated.

The statistics of a sample are what another harness wrote down for it. A ``rate`` is the share of ones where every
recorded value is 0 or 1, a ``mean`` the mean of any numbers. Three aggregates of log-likelihoods can be given again
exactly from what is recorded per text: with the log-likelihood lₙ (nats) and the weight wₙ (its words or bytes),

- ``perplexity``: exp(−Σ lₙ / N),
- ``weighted_perplexity``: exp(−Σ lₙ / Σ wₙ),
- ``bits_per_byte``: −Σ lₙ / (Σ wₙ · ln 2).

A task has one such metric for each number that was recorded, named as ``score`` says, so that a sample without one
number keeps the others.

**Source** of the aggregates: lm-evaluation-harness 0.4.13, ``api/metrics.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from evalkit.metrics.base import Array, Measure, Metric, corpus, mean, rate, ratio
from evalkit.records.exchange import Completion, Sample, Score, Unscored
from evalkit.records.scorecard import Better
from evalkit.records.suite import Name, Spec
from evalkit.registry import register

RecordedKind = Literal["rate", "mean", "perplexity", "weighted_perplexity", "bits_per_byte"]
"""How recorded numbers are aggregated."""

UNITS: Mapping[RecordedKind, str] = {
    "rate": "fraction",
    "mean": "score",
    "perplexity": "perplexity/sample",
    "weighted_perplexity": "perplexity/unit",
    "bits_per_byte": "bits/byte",
}
"""Kind → unit where none is given."""


class RecordedOptions(Spec):
    """What is known of a number that was recorded elsewhere."""

    score: Name
    """Its name; the metric is called so, and reads the sample's field of this name."""
    kind: RecordedKind = "mean"
    """How samples are aggregated; ``rate`` where every recorded value is 0 or 1."""
    better: Better = "higher"
    """Which direction is better."""
    unit: Annotated[str, Field(max_length=40)] = ""
    """The unit; ``fraction`` (0–1) and ``points`` (0–100) tell the ends of the scale, which bound intervals."""
    measured: dict[str, str] = Field(default_factory=dict)
    """By which program and how it was measured; numbers for which this differs are never compared."""

    @model_validator(mode="after")
    def _unit_fits(self) -> RecordedOptions:
        if self.kind == "rate" and self.unit not in {"", "fraction"}:
            raise ValueError("a rate is a fraction: leave 'unit' out")
        return self


def _perplexity(sums_XK: Array, n_X: Array) -> Array:
    return _exp_of(-ratio(sums_XK[..., 0], n_X))


def _weighted_perplexity(sums_XK: Array, n_X: Array) -> Array:
    return _exp_of(-ratio(sums_XK[..., 0], sums_XK[..., 1]))


def _bits_per_byte(sums_XK: Array, n_X: Array) -> Array:
    return -ratio(sums_XK[..., 0], sums_XK[..., 1]) / math.log(2)


def _exp_of(value_X: Array) -> Array:
    """Return e to the power of each value; NaN beyond the largest double."""
    with np.errstate(over="ignore"):
        exp_X = np.exp(value_X)
    return np.where(np.isinf(exp_X), np.nan, exp_X)


@register(
    "metric",
    "recorded",
    summary="A number that another program gave to each sample, such as an imported harness's.",
    example="recorded: {score: acc, kind: rate}",
)
class Recorded(Metric):
    """Statistics are what the sample's field of the score's name holds: a number, or log-likelihood and weight."""

    Options = RecordedOptions
    options: RecordedOptions
    needs = frozenset()
    kinds: ClassVar[frozenset[str]] = frozenset({"generate", "multiple_choice", "perplexity"})
    needs_target = False

    def __init__(self, name: str, options: Any) -> None:  # noqa: ANN401 - an instance of Options
        """Build the metric; it bears its score's name."""
        super().__init__(options.score, options)
        weighted = options.kind in {"weighted_perplexity", "bits_per_byte"}
        self.columns = ("log_likelihood", "weight") if weighted else ("value",)
        self.measures = (_measure(options),)

    @property
    def signature(self) -> str:
        """Score, kind and direction, and all that is known of how it was measured."""
        options = self.options
        held = {"better": options.better, "kind": options.kind, "v": str(self.version)}
        parts = sorted({**options.measured, **held}.items())
        # A bar separates parts, so it cannot be within one.
        told = [f"{key}:{value}".replace("|", "/") for key, value in parts]
        return "|".join([f"recorded {options.score}", *told])

    def score(self, sample: Sample, completions: Sequence[Completion]) -> Score | Unscored:
        """Return what was recorded for the sample; a field that holds a Score or Unscored is given as it is."""
        held = sample.fields.get(self.options.score)
        if isinstance(held, Score | Unscored):
            return held
        if held is None:
            return Unscored("nothing was recorded")
        numbers = tuple(held) if isinstance(held, list | tuple) else (held,)
        if len(numbers) != len(self.columns) or not all(map(_is_number, numbers)):
            return Unscored("what was recorded is no finite number", repr(held)[:200])
        if self.options.kind == "rate" and numbers[0] not in (0, 1):
            return Unscored("what was recorded is neither 0 nor 1", repr(held)[:200])
        return Score(tuple(map(float, numbers)))


def _is_number(value: object) -> bool:
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # an integer beyond the largest float
        return False


def _measure(options: RecordedOptions) -> Measure:
    unit = options.unit or UNITS[options.kind]
    if options.kind == "rate":
        return rate("", column=0, better=options.better)
    if options.kind == "mean":
        return mean("", column=0, unit=unit, better=options.better)
    from_sums = {
        "perplexity": _perplexity,
        "weighted_perplexity": _weighted_perplexity,
        "bits_per_byte": _bits_per_byte,
    }[options.kind]
    return corpus("", from_sums, unit=unit, better=options.better)
