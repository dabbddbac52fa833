"""``gap_at_most``: the gap between groups is no wider than allowed, never decided on the gap as a point.

A gap as a point is above 0 even where all groups are equal, and the more so the more groups there are and the smaller
they are. So the rule reads its interval. It fails where the whole interval lies beyond ``value``, which happens to a
fair model no oftener than the interval's level says. It passes where the whole interval lies within ``tolerate``, the
most that may remain open with the samples there are; without one that is ``value`` itself. Between the two it is
inconclusive. Of a ratio (least ÷ greatest, 1 where all are equal) the ends change places: ``value: 0.8`` fails where
the whole interval lies below 0.8.

Samples without a score, or without the attribute that names their group, count against the rule (``unscored``): they
may make a gap wider, so that what passes without them may stay open, and they never fail it. So does a group that the
data make large enough and that lacks too many scores to be compared: without it nothing passes.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from evalkit.gates.conditions import Condition, Decision, Evidence
from evalkit.gates.unscored import is_unbounded, worst_gap
from evalkit.gates.wording import (
    between,
    figures,
    need_in_words,
    plain,
    samples_needed,
    value_with_interval,
)
from evalkit.records.scorecard import Disparity, Estimate, Interval
from evalkit.records.suite import Spec
from evalkit.records.verdict import Line
from evalkit.registry import register

CHANCE = "if the groups did not differ, chance alone would show"
"""Before the expectation of a gap."""


@register(
    "condition",
    "gap_at_most",
    summary="The gap between groups of people is no wider than a value, shown by its interval.",
    example="{estimate: decide/exact_match.gap@region, require: gap_at_most, value: 0.05, tolerate: 0.1}",
)
class GapAtMost(Condition):
    """A limit to a gap between groups."""

    class Options(Spec):
        """The limit."""

        value: Annotated[float, Field(ge=0)]
        """The widest allowed gap, in the metric's unit: the rule fails where the gap is shown to be wider. Of a ratio
        the least allowed one, such as 0.8."""
        tolerate: Annotated[float, Field(ge=0)] | None = None
        """How wide a gap may remain possible for the rule to pass all the same, with the samples there are; at least
        ``value`` for a difference, at most ``value`` for a ratio. ``value`` where it is left out."""

    @property
    def tolerate(self) -> float:
        """The widest gap that may remain possible."""
        allowed: float = self.options.value
        return allowed if self.options.tolerate is None else float(self.options.tolerate)

    @property
    def required(self) -> str:
        """The limit in words."""
        told = f"gap no wider than {plain(self.options.value)}"
        if self.tolerate == self.options.value:
            return told
        return f"{told}, and none wider than {plain(self.tolerate)} left possible"

    def decide(self, evidence: Evidence) -> Decision:
        """Compare the whole interval with what is allowed, and with what may remain possible."""
        estimate, disparity = evidence.estimate, evidence.disparity
        assert estimate is not None, "the condition reads an estimate"
        if estimate.kind != "gap" or disparity is None:
            return Decision("missing", f"{evidence.name} is no gap between groups")
        if estimate.value is None:
            why = disparity.reason or "there is nothing to compare"
            return Decision("missing", f"{evidence.name} has no value: {why}")
        if estimate.interval is None:
            why = "; ".join(estimate.warnings) or "its spread cannot be estimated"
            told = f"{evidence.name} is {figures(estimate.value)[0]} without an interval ({why})"
            return Decision("inconclusive", f"{told}, so nothing is decided", estimate.value)
        return self._decided(evidence.name, estimate, disparity, estimate.value, estimate.interval)

    def _decided(
        self,
        name: str,
        estimate: Estimate,
        disparity: Disparity,
        value: float,
        interval: Interval,
    ) -> Decision:
        ratio = disparity.form == "ratio"
        allowed, tolerated = float(self.options.value), self.tolerate
        worst, told = worst_gap(estimate, disparity, wider=True)
        shown = value_with_interval(value, interval, allowed, tolerated)
        reason = f"{name}: {between(disparity)}; the {'ratio' if ratio else 'gap'} is {shown}{told}"
        broken = interval.high < allowed if ratio else interval.low > allowed
        within = worst.low >= tolerated if ratio else worst.high <= tolerated
        within = within and not is_unbounded(estimate, disparity)
        less, more = ("above", "below") if ratio else ("below", "above")
        kept, chance = Line(at=tolerated, above=ratio), ""
        if disparity.expected is not None:
            chance = f"; {CHANCE} {figures(disparity.expected)[0]}"
        if broken:
            verdict = f"wholly {more} {plain(allowed)}"
            line = Line(at=allowed, above=ratio)
            return Decision("fail", f"{reason}, {verdict}{chance}", value, interval, lines=(line,))
        if within:
            verdict = f"wholly at or {less} {plain(tolerated)}"
            return Decision("pass", f"{reason}, {verdict}{chance}", value, worst, lines=(kept,))
        alone = interval.low >= tolerated if ratio else interval.high <= tolerated
        verdict = self._why_open(value, interval, estimate.counts.scored, ratio=ratio)
        if alone:
            verdict = f"so that it is not shown to keep to {plain(tolerated)}"
        lines = () if alone or is_unbounded(estimate, disparity) else (kept,)
        return Decision("inconclusive", f"{reason}, {verdict}{chance}", value, worst, lines=lines)

    def _why_open(self, value: float, interval: Interval, n: int, *, ratio: bool) -> str:
        """Return what is not shown, and how many samples would show it at this gap."""
        allowed, tolerated = float(self.options.value), self.tolerate
        too_wide = value < allowed if ratio else value > allowed
        limit, shown = (allowed, "wider than") if too_wide else (tolerated, "no wider than")
        needed = need_in_words(samples_needed(value, interval, limit, n), n)
        return f"so that it is not shown to be {shown} {plain(limit)}: {needed}"
