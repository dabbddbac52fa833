"""Conditions on the candidate against its baseline: one-sided tests of the paired difference.

A test at alpha reads the two-sided interval of the difference at level 1 − 2·alpha: ``pass`` when all of it is better
than the limit, ``fail`` when all of it is worse, ``inconclusive`` when it straddles.

**Source**: ICH E9 section 3.3.2; Schuirmann 1987, J. Pharmacokinet. Biopharm. 15, 657 (non-inferiority by interval).

**Deviation**: a relative margin is a share of the baseline's value on the same pairs, taken as known; its sampling
error is small beside that of the difference as long as the margin is small.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, WithJsonSchema

from evalkit.gates.conditions import Condition, Decision, Evidence
from evalkit.gates.wording import (
    figures,
    need_in_words,
    percent,
    plain,
    samples_needed,
    value_with_interval,
)
from evalkit.records.scorecard import Comparison, Interval
from evalkit.records.suite import Spec
from evalkit.records.verdict import OutcomeStatus
from evalkit.registry import register
from evalkit.stats.paired import LEVELS

ALPHAS = tuple(round((1 - level) / 2, 6) for level in LEVELS)
"""One-sided error rates for which comparisons hold an interval."""


def _known_alpha(value: float) -> float:
    if value not in ALPHAS:
        raise ValueError(f"alpha must be one of {', '.join(map(plain, ALPHAS))}")
    return value


Alpha = Annotated[
    float, AfterValidator(_known_alpha), WithJsonSchema({"enum": list(ALPHAS), "type": "number"})
]


class _AgainstBaseline(Condition):
    """A one-sided test of the paired difference, candidate − baseline, turned so that more is better."""

    reads = "comparison"

    def limit(self, comparison: Comparison) -> float:
        """Return the least allowed gain (negative: the greatest allowed loss), in the metric's unit."""
        raise NotImplementedError

    def requirement(self, limit: float) -> str:
        """Return what is required, in words that follow the numbers."""
        raise NotImplementedError

    def decide(self, evidence: Evidence) -> Decision:
        """Compare the interval at level 1 − 2·alpha with the limit."""
        comparison = evidence.comparison
        assert comparison is not None, "the condition reads a comparison"
        if comparison.status == "incomparable":
            reason = f"{evidence.name} cannot be compared with the baseline: {comparison.reason}"
            return Decision("incomparable", reason)
        if comparison.difference is None:
            reason = f"{evidence.name} has no difference from the baseline: {comparison.reason}"
            return Decision("missing", reason)
        interval = _interval_at(comparison, 1 - 2 * self.options.alpha)
        if interval is None:
            why = "; ".join(comparison.warnings) or "its spread cannot be estimated"
            shown = figures(comparison.difference)[0]
            reason = f"{evidence.name} differs by {shown} without an interval ({why})"
            return Decision(
                "inconclusive", f"{reason}, so nothing is decided", comparison.difference
            )
        limit = self.limit(comparison)
        worst, best = interval.low, interval.high
        if comparison.better == "lower":
            worst, best = -best, -worst
        status: OutcomeStatus = "inconclusive"
        if worst > limit:
            status = "pass"
        elif best < limit:
            status = "fail"
        reason = self._reason(evidence.name, comparison, interval, limit, status)
        return Decision(status, reason, comparison.difference, interval)

    def _reason(
        self,
        name: str,
        comparison: Comparison,
        interval: Interval,
        limit: float,
        status: OutcomeStatus,
    ) -> str:
        assert comparison.difference is not None, "only a difference is decided on"
        higher = comparison.better == "higher"
        at = limit if higher else -limit
        sides = ""
        if comparison.candidate is not None and comparison.baseline is not None:
            candidate, baseline = figures(comparison.candidate, comparison.baseline)
            sides = f"{candidate} against the baseline's {baseline}, "
        difference = value_with_interval(comparison.difference, interval, at)
        told = f"{name} is {sides}a difference of {difference}; {self.requirement(limit)}, and the interval "
        if status == "inconclusive":
            needed = samples_needed(comparison.difference, interval, at, comparison.pairs)
            told += f"straddles {_short(at)}: {need_in_words(needed, comparison.pairs, 'pairs')}"
        else:
            told += f"is wholly {'above' if (status == 'pass') == higher else 'below'} {_short(at)}"
        if comparison.unpaired:
            total = comparison.pairs + comparison.unpaired
            told += f"; {comparison.unpaired:,} of {total:,} samples could not be paired"
        return told


def _short(value: float) -> str:
    return plain(float(f"{value:.4g}"))


def _interval_at(comparison: Comparison, level: float) -> Interval | None:
    return next((i for i in comparison.intervals if abs(i.level - level) < 1e-9), None)


@register(
    "condition",
    "no_worse_than",
    summary="Non-inferiority: worse than the baseline by less than a margin, shown at one-sided alpha.",
    example="{estimate: extract/exact_match, require: no_worse_than, margin: 0.02, alpha: 0.05}",
)
class NoWorseThan(_AgainstBaseline):
    """Non-inferiority."""

    class Options(Spec):
        """The margin."""

        margin: Annotated[float, Field(gt=0)]
        """How much worse the candidate may be, in the metric's unit, or as a share when ``relative``."""
        relative: bool = False
        """Whether the margin is a share of the baseline's value: 0.02 allows a loss of 2 %."""
        alpha: Alpha = 0.05
        """Chance of passing a candidate that is worse by just the margin."""

    @property
    def required(self) -> str:
        """The margin in words."""
        margin = (
            percent(self.options.margin) if self.options.relative else plain(self.options.margin)
        )
        return f"worse than the baseline by less than {margin} (one-sided α {plain(self.options.alpha)})"

    def limit(self, comparison: Comparison) -> float:
        """The negative margin."""
        scale = abs(comparison.baseline or 0.0) if self.options.relative else 1.0
        return -float(self.options.margin) * scale

    def requirement(self, limit: float) -> str:
        """What may be lost."""
        share = f" ({percent(self.options.margin)} of it)" if self.options.relative else ""
        return f"it may be worse by less than {_short(-limit)}{share}"


@register(
    "condition",
    "better_than",
    summary="Better than the baseline by more than an amount, shown at one-sided alpha.",
    example="{estimate: extract/exact_match, require: better_than, by: 0.01}",
)
class BetterThan(_AgainstBaseline):
    """Superiority."""

    class Options(Spec):
        """The gain."""

        by: Annotated[float, Field(ge=0)] = 0.0
        """How much better the candidate must be at the least, in the metric's unit."""
        alpha: Alpha = 0.05
        """Chance of passing a candidate that is better by just this much."""

    @property
    def required(self) -> str:
        """The gain in words."""
        more = f" by more than {plain(self.options.by)}" if self.options.by else ""
        return f"better than the baseline{more} (one-sided α {plain(self.options.alpha)})"

    def limit(self, comparison: Comparison) -> float:
        """The gain asked for."""
        return float(self.options.by)

    def requirement(self, limit: float) -> str:
        """What must be gained."""
        return f"it must be better by more than {plain(limit)}" if limit else "it must be better"
