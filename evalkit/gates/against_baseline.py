"""Conditions on the candidate against its baseline: one-sided tests of the paired difference.

A rule at alpha is ``pass`` when all of the difference's interval at level 1 − 2·alpha lies on the good side of the
limit, ``fail`` when all of it lies on the bad side, ``inconclusive`` when it straddles (``one_sided``).

Where samples are unpaired and scores have known ends, the rule is also asked with each missing score at the end that is
worse for it, and the worse answer counts, so that answers which are not given never help. A model against itself
therefore fails no rule as long as its answers are scored.

**Source**: ICH E9 section 3.3.2; Schuirmann 1987, J. Pharmacokinet. Biopharm. 15, 657 (non-inferiority by interval).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, WithJsonSchema

from evalkit.gates.conditions import Condition, Decision, Evidence
from evalkit.gates.one_sided import (
    Limit,
    Side,
    hull,
    is_bounded,
    tested,
    why_untestable,
    worst_of,
)
from evalkit.gates.wording import (
    figures,
    need_in_words,
    percent,
    plain,
    samples_needed,
    short,
    value_with_interval,
)
from evalkit.records.scorecard import Better, Comparison
from evalkit.records.suite import Spec
from evalkit.records.verdict import Line, OutcomeStatus
from evalkit.registry import register
from evalkit.stats.paired import LEVELS

ALPHAS = tuple(round((1 - level) / 2, 6) for level in LEVELS)
"""One-sided error rates for which comparisons hold an interval."""
CENSUS = "census"
"""Test of comparisons of weights, which are read in full: no number of samples would decide."""


def _known_alpha(value: float) -> float:
    if value not in ALPHAS:
        raise ValueError(f"alpha must be one of {', '.join(map(plain, ALPHAS))}")
    return value


Alpha = Annotated[
    float, AfterValidator(_known_alpha), WithJsonSchema({"enum": list(ALPHAS), "type": "number"})
]


class AgainstBaseline(Condition):
    """One or two one-sided tests of the paired difference; subclasses name the limits and say them in words."""

    reads = "comparison"
    effect: ClassVar[str] = "difference"
    """What the number decided on is called."""

    def limits(self, better: Better) -> tuple[Limit, ...]:
        """Return what candidate − baseline must keep to."""
        raise NotImplementedError

    def requirement(self, sides: Sequence[Side]) -> str:
        """Return what is required, in words that follow the numbers."""
        raise NotImplementedError

    def untestable(self, comparison: Comparison, level: float) -> str:
        """Return why nothing can be tested at this level; empty when it can."""
        return why_untestable(comparison, self.limits(comparison.better), level)

    def side(self, comparison: Comparison, limit: Limit, level: float, *, bounded: bool) -> Side:
        """Return the test of one limit on the pairs, or with missing scores where they are worst for it."""
        return tested(comparison, limit, level, bounded=bounded)

    def decide(self, evidence: Evidence) -> Decision:
        """Compare the interval at level 1 − 2·alpha with each limit, on the pairs and in the worst case."""
        comparison = evidence.comparison
        assert comparison is not None, "the condition reads a comparison"
        if comparison.status == "incomparable":
            reason = f"{evidence.name} cannot be compared with the baseline: {comparison.reason}"
            return Decision("incomparable", reason)
        if comparison.difference is None:
            reason = f"{evidence.name} has no difference from the baseline: {comparison.reason}"
            return Decision("missing", reason)
        level = 1 - 2 * self.options.alpha
        if why := self.untestable(comparison, level):
            reason = f"{evidence.name} differs by {figures(comparison.difference)[0]} {why}, so nothing is decided"
            return Decision("inconclusive", reason, comparison.difference, p_broken=1.0)
        sides = on_pairs = self._sides(comparison, level)
        if is_bounded(comparison):
            at_worst = self._sides(comparison, level, bounded=True)
            if worst_of(on_pairs) == "pass" or worst_of([*on_pairs, *at_worst]) != worst_of(
                on_pairs
            ):
                sides = at_worst
        status: OutcomeStatus = worst_of(sides)
        reason = self._reason(evidence.name, comparison, on_pairs, sides, status)
        span = hull(sides)
        lines = tuple(Line(at=side.limit, above=side.above) for side in sides)
        if any(
            line.room(span) != line.room(side.interval)
            for line, side in zip(lines, sides, strict=True)
        ):
            lines = ()  # each limit has an interval of its own, and one outcome shows what they span
        p_broken = self._p_broken(comparison)
        return Decision(status, reason, sides[0].value, span, p_broken, lines)

    def _sides(
        self, comparison: Comparison, level: float, *, bounded: bool = False
    ) -> tuple[Side, ...]:
        return tuple(
            self.side(comparison, limit, level, bounded=bounded)
            for limit in self.limits(comparison.better)
        )

    def _p_broken(self, comparison: Comparison) -> float:
        """Return the least alpha at which a limit is shown broken, for each of the limits; 1 where none is."""
        limits = len(self.limits(comparison.better))
        cases = (False, True) if is_bounded(comparison) else (False,)
        broken = [
            limits * (1 - interval.level) / 2
            for interval in comparison.intervals
            if not self.untestable(comparison, interval.level)
            and any(
                worst_of(self._sides(comparison, interval.level, bounded=bounded)) == "fail"
                for bounded in cases
            )
        ]
        return min((round(p, 6) for p in broken), default=1.0)

    def _reason(
        self,
        name: str,
        comparison: Comparison,
        on_pairs: Sequence[Side],
        sides: Sequence[Side],
        status: OutcomeStatus,
    ) -> str:
        told = f"{name} is "
        if comparison.candidate is not None and comparison.baseline is not None:
            candidate, baseline = figures(comparison.candidate, comparison.baseline)
            told += f"{candidate} against the baseline's {baseline}, "
        limits = [side.limit for side in on_pairs]
        shown = value_with_interval(on_pairs[0].value, hull(on_pairs), *limits)
        told += f"a {self.effect} of {shown}; "
        unpaired, total = comparison.unpaired, comparison.pairs + comparison.unpaired
        if sides is not on_pairs:
            told += f"{unpaired:,} of {total:,} samples are unpaired; {self._at_worst(sides)}; "
        told += f"{self.requirement(sides)}, and the interval {_where(sides, status)}"
        if status != "pass" and sides is not on_pairs:
            alone = "would pass" if worst_of(on_pairs) == "pass" else "leaves it open"
            return f"{told}, while that of the pairs alone {alone}"
        if status == "inconclusive" and comparison.test == CENSUS:
            return f"{told}: the fits behind it leave it open"
        if status == "inconclusive":
            open_ = (side for side in sides if side.status == "inconclusive")
            needed = max(
                samples_needed(side.value, side.interval, side.limit, comparison.pairs)
                for side in open_
            )
            told += f": {need_in_words(needed, comparison.pairs, 'pairs')}"
        if unpaired and sides is on_pairs:
            told += f"; {unpaired:,} of {total:,} samples could not be paired"
        return told

    def _at_worst(self, sides: Sequence[Side]) -> str:
        span, limits = hull(sides), [side.limit for side in sides]
        if len(sides) == 1:
            (side,) = sides
            shown = value_with_interval(side.value, span, side.limit)
            end = "low" if side.above else "high"
            return f"counted against the candidate, the {self.effect} could be as {end} as {shown}"
        low, high = figures(*sorted(side.value for side in sides))
        ends = figures(span.low, span.high, *limits)
        return (
            f"counted either way, the {self.effect} could be from {low} to {high} "
            f"({percent(span.level)} interval {ends[0]} to {ends[1]})"
        )


def _where(sides: Sequence[Side], status: OutcomeStatus) -> str:
    """Return where the interval lies, by the sides that give the answer."""
    if status == "pass" and len(sides) > 1:
        return f"is wholly between {' and '.join(short(side.limit) for side in sides)}"
    shown = [s for s in sides if s.status == status] or [s for s in sides if s.status != "pass"]
    limits = " and ".join(short(side.limit) for side in shown)
    if shown[0].status == "inconclusive":
        return f"straddles {limits}"
    above = shown[0].above == (shown[0].status == "pass")
    return f"is wholly {'above' if above else 'below'} {limits}"


def margin_in_words(margin: float, alpha: float, *, relative: bool) -> str:
    """Return ``0.02 (one-sided α 0.05)``, or the margin as a share: ``2 % (one-sided α 0.05)``."""
    return f"{percent(margin) if relative else plain(margin)} (one-sided α {plain(alpha)})"


@register(
    "condition",
    "no_worse_than",
    summary="Non-inferiority: worse than the baseline by less than a margin, shown at one-sided alpha.",
    example="{estimate: extract/exact_match, require: no_worse_than, margin: 0.02, alpha: 0.05}",
)
class NoWorseThan(AgainstBaseline):
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
        options = self.options
        margin = margin_in_words(options.margin, options.alpha, relative=options.relative)
        return f"worse than the baseline by less than {margin}"

    def limits(self, better: Better) -> tuple[Limit, ...]:
        """The loss, on the side where it lies."""
        higher, margin = better == "higher", float(self.options.margin)
        return (Limit(-margin if higher else margin, higher, self.options.relative),)

    def requirement(self, sides: Sequence[Side]) -> str:
        """What may be lost."""
        share = f" ({percent(self.options.margin)} of it)" if self.options.relative else ""
        return f"it may be worse by less than {short(abs(sides[0].limit))}{share}"


@register(
    "condition",
    "better_than",
    summary="Better than the baseline by more than an amount, shown at one-sided alpha.",
    example="{estimate: extract/exact_match, require: better_than, by: 0.01}",
)
class BetterThan(AgainstBaseline):
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

    def limits(self, better: Better) -> tuple[Limit, ...]:
        """The gain asked for, on the side where it lies."""
        higher, gain = better == "higher", float(self.options.by)
        return (Limit(gain if higher else -gain, higher),)

    def requirement(self, sides: Sequence[Side]) -> str:
        """What must be gained."""
        by = self.options.by
        return f"it must be better by more than {plain(by)}" if by else "it must be better"
