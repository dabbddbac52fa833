"""How an unchanged model's scores are taken to vary: by plain assumptions, or better as an earlier run has shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import sqrt
from typing import Annotated

from pydantic import Field

from evalkit.gates.conditions import Evidence
from evalkit.gates.wording import plain
from evalkit.powering.estimands import Estimand
from evalkit.records.scorecard import Comparison, Estimate, Interval, estimate_name
from evalkit.records.suite import Spec
from evalkit.stats.estimate import UNIT_BOUNDS
from evalkit.stats.intervals import normal_quantile, t_quantile


class Assumptions(Spec):
    """What is assumed where no earlier run tells."""

    accuracy: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """An unchanged model's value, as a share of the best; for what is better low, 1 minus it."""
    discordance: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of pairs that an unchanged model answers right where the baseline is wrong, or the other way round."""
    sd: Annotated[float | None, Field(gt=0)] = None
    """Standard deviation of one sample's score, in the metric's unit. Left out: √(accuracy·(1 − accuracy)), the most
    that scores between 0 and 1 can have."""
    sd_difference: Annotated[float | None, Field(gt=0)] = None
    """Standard deviation of one pair's difference. Left out: √discordance, the most that differences between −1 and 1
    of so many differing pairs can have."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How one estimate of an unchanged model varies from one draw of samples to another."""

    value: float | None
    """Its value; None where nothing says."""
    sd: float | None
    """√n times its standard error; None where nothing says."""
    discordance: float | None
    """Share of differing pairs, for zeros and ones in pairs that are independent."""
    sd_difference: float | None
    """√n times the standard error of the paired difference; None where nothing says."""
    counted: bool
    """Whether the value is a share of independent zeros and ones, so that it is binomial."""
    value_from: str
    """Where value and ``sd`` come from, in words."""
    pairs_from: str
    """Where the spread of the difference comes from, in words."""


def spread_of(estimand: Estimand, assumed: Assumptions, past: Mapping[str, Evidence]) -> Spread:
    """Return how an estimand varies: as in ``past`` (an earlier run's evidence by name), else as assumed.

    A slice that the earlier run lacks varies as all samples of its task do.
    """
    spread = _assumed(estimand, assumed)
    for name in (estimand.name, estimate_name(estimand.task, estimand.metric, None)):
        held = past.get(name)
        if held is None:
            continue
        where = "the run" if name == estimand.name else "the run's whole task"
        if held.estimate is not None and held.estimate.unit == estimand.measure.unit:
            spread = _as_estimated(spread, held.estimate, where)
        if held.comparison is not None and held.comparison.unit == estimand.measure.unit:
            spread = _as_compared(spread, held.comparison, estimand, where)
        break
    return spread


def _assumed(estimand: Estimand, assumed: Assumptions) -> Spread:
    bounds = UNIT_BOUNDS.get(estimand.measure.unit)
    if bounds is None:
        nothing = f"no assumption fits {estimand.measure.unit}"
        return Spread(
            None, assumed.sd, None, assumed.sd_difference, counted=False, value_from=nothing, pairs_from=nothing
        )  # fmt: skip
    low, span = bounds[0], bounds[1] - bounds[0]
    share = assumed.accuracy if estimand.measure.better == "higher" else 1 - assumed.accuracy
    # What is over some of the samples only varies as over half of them, for want of better knowledge.
    thinned = 2.0 if estimand.measure.over >= 0 else 1.0
    sd = assumed.sd or span * sqrt(thinned * share * (1 - share))
    if (
        low < 0
    ):  # a difference, which an unchanged model is taken not to make; where it is any, it is 1 or −1
        share, sd = 0.5, assumed.sd or sqrt(1 - assumed.accuracy)
    # More pairs cannot go either way than there are wrong, or right, answers to change.
    discordance = min(assumed.discordance, 2 * min(share, 1 - share))
    paired = assumed.sd_difference or span * sqrt(thinned * discordance)
    what = "accuracy" if estimand.measure.kind == "rate" else "value"
    value = low + span * share
    return Spread(
        value=value,
        sd=sd,
        discordance=discordance if estimand.binary else None,
        sd_difference=paired,
        counted=estimand.binary,
        value_from=f"assumed {what} {plain(value)}"
        + ("" if estimand.binary else f", standard deviation {sd:.3g}")
        + (" as over half of the samples" if estimand.measure.over >= 0 else ""),
        pairs_from=f"assumed discordance {discordance:.3g}"
        if estimand.binary
        else f"assumed standard deviation of a difference {paired:.3g}",
    )


def _as_estimated(spread: Spread, estimate: Estimate, where: str) -> Spread:
    interval, scored = estimate.interval, estimate.counts.scored
    if estimate.value is None or interval is None or scored < 2:
        return spread
    if interval.method in ("wilson", "clopper-pearson") and spread.counted:
        told = f"{where}: accuracy {estimate.value:.3g} on {scored:,} samples"
        return replace(spread, value=estimate.value, value_from=told)
    sd = _error(estimate.value, interval, scored) * sqrt(scored)
    if sd <= 0:
        return spread
    return replace(
        spread,
        value=estimate.value,
        sd=sd,
        counted=False,
        value_from=f"{where}: {estimate.value:.3g}, standard deviation {sd:.3g}{_clustered(interval)}",
    )


def _as_compared(spread: Spread, held: Comparison, estimand: Estimand, where: str) -> Spread:
    if held.status != "compared" or held.pairs < 2:
        return spread
    clustered = any("cr1" in interval.method for interval in held.intervals)
    if estimand.binary and not clustered and None not in (held.improved, held.worsened):
        assert held.improved is not None and held.worsened is not None
        differing = held.improved + held.worsened
        # One more of each kind, as Bonett and Price add them: none seen does not mean none to come.
        discordance = (differing + 2) / (held.pairs + 2)
        told = f"{where}: {differing:,} of {held.pairs:,} pairs differed"
        return replace(
            spread, discordance=discordance, sd_difference=sqrt(discordance), pairs_from=told
        )
    sd, clusters = _sd_of_difference(held)
    if sd <= 0:
        return spread
    return replace(
        spread,
        discordance=None,
        sd_difference=sd,
        pairs_from=f"{where}: standard deviation of a difference {sd:.3g}{clusters}",
    )


def _sd_of_difference(held: Comparison) -> tuple[float, str]:
    """Return √n times the standard error of the difference, clusters included; 0 where it cannot be told."""
    shown = held.intervals[0] if held.intervals else held.interval
    clusters = "" if shown is None else _clustered(shown)
    if held.errors is not None:
        joint = held.errors
        variance = joint.candidate**2 + joint.baseline**2 - 2 * joint.covariance
        return sqrt(max(variance, 0.0) * held.pairs), clusters
    if shown is None:
        return 0.0, ""
    assert held.difference is not None, "what was compared has a difference"
    return _error(held.difference, shown, held.pairs) * sqrt(held.pairs), clusters


def _error(value: float, interval: Interval, n: int) -> float:
    """Return the standard error that an interval's longer arm tells; the other may be cut at the unit's end.

    With clusters their number is taken for large, which errs to the safe side.
    """
    arm = max(interval.high - value, value - interval.low)
    df = n - 1 if interval.method.endswith("t") and "cr1" not in interval.method else None
    return arm / (normal_quantile(interval.level) if df is None else t_quantile(interval.level, df))


def _clustered(interval: Interval) -> str:
    return ", clusters included" if "cr1" in interval.method else ""
