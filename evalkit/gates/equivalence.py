"""Conditions that bound the candidate's difference on both sides, or its share of the baseline.

**equivalent** is two one-sided tests (TOST): the interval at level 1 − 2·alpha must lie wholly inside (−margin,
margin). It fails where the interval lies wholly outside, on either side.

**recovers** asks whether the candidate keeps a share x of the baseline: candidate ≥ x·baseline where higher is better,
candidate ≤ baseline/x where lower is. That is a limit of (x − 1), or (1/x − 1), times the baseline under the
difference, tested by Fieller's method with the error of both values. The interval shown is the one that is tested,
1 + difference/baseline: its spread is taken at the limit, where Fieller's interval of the ratio ends exactly when the
answer turns.

**Source**: Schuirmann 1987, J. Pharmacokinet. Biopharm. 15, 657; Lakens 2017, Soc. Psychol. Personal. Sci. 8, 355
(TOST); Fieller 1954, JRSS B 16, 175.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from evalkit.gates.against_baseline import (
    AgainstBaseline,
    Alpha,
    margin_in_words,
)
from evalkit.gates.one_sided import Limit, Side, shown_positive
from evalkit.gates.wording import figures, percent, plain, short
from evalkit.records.scorecard import Better, Comparison
from evalkit.records.suite import Spec
from evalkit.registry import register


@register(
    "condition",
    "equivalent",
    summary="Equivalence: neither better nor worse than the baseline by a margin, shown by two one-sided tests.",
    example="{estimate: decide/approved, require: equivalent, margin: 0.03}",
)
class Equivalent(AgainstBaseline):
    """Equivalence by two one-sided tests."""

    class Options(Spec):
        """The margin."""

        margin: Annotated[float, Field(gt=0)]
        """How much the candidate may differ either way, in the metric's unit, or as a share when ``relative``."""
        relative: bool = False
        """Whether the margin is a share of the baseline's value: 0.02 allows 2 % either way."""
        alpha: Alpha = 0.05
        """Chance of passing a candidate that differs by just the margin."""

    @property
    def required(self) -> str:
        """The margin in words."""
        options = self.options
        margin = margin_in_words(options.margin, options.alpha, relative=options.relative)
        return f"different from the baseline by less than {margin}"

    def limits(self, better: Better) -> tuple[Limit, ...]:
        """The margin on both sides."""
        margin, relative = float(self.options.margin), self.options.relative
        return Limit(-margin, True, relative), Limit(margin, False, relative)

    def requirement(self, sides: Sequence[Side]) -> str:
        """How much it may differ."""
        share = f" ({percent(self.options.margin)} of it)" if self.options.relative else ""
        return f"it may differ by less than {short(min(abs(s.limit) for s in sides))} either way{share}"


@register(
    "condition",
    "recovers",
    summary="The candidate keeps at least a share of the baseline's value, shown at one-sided alpha.",
    example="{estimate: summarise/rouge_l, require: recovers, share: 0.98}",
)
class Recovers(AgainstBaseline):
    """A floor under candidate ÷ baseline, or a ceiling over it where lower is better."""

    effect = "ratio"

    class Options(Spec):
        """The share."""

        share: Annotated[float, Field(gt=0, le=1.5)]
        """The least share of the baseline's value to keep, 0.98 for 98 %; where lower is better, the candidate may be
        the baseline's value divided by it at the most."""
        alpha: Alpha = 0.05
        """Chance of passing a candidate that keeps just this share."""

    @property
    def required(self) -> str:
        """The share in words."""
        share, alpha = percent(self.options.share), plain(self.options.alpha)
        return f"recovers {share} of the baseline (one-sided α {alpha})"

    def limits(self, better: Better) -> tuple[Limit, ...]:
        """What the difference must keep to, as a share of the baseline."""
        share = float(self.options.share)
        if better == "higher":
            return (Limit(share - 1, True, relative=True),)
        return (Limit(1 / share - 1, False, relative=True),)

    def requirement(self, sides: Sequence[Side]) -> str:
        """The ratio allowed."""
        (side,) = sides
        return f"it must be {'above' if side.above else 'below'} {short(side.limit)}"

    def untestable(self, comparison: Comparison, level: float) -> str:
        """Return why nothing can be tested; a baseline that may be 0 has no share."""
        why = super().untestable(comparison, level)
        if not why and not shown_positive(comparison, level):
            return (
                f"and the baseline's value, {figures(comparison.baseline or 0.0)[0]}, is not shown to be above 0, "
                "so there is no share of it"
            )
        return why

    def side(self, comparison: Comparison, limit: Limit, level: float, *, bounded: bool) -> Side:
        """Return the test of the ratio that is the same as that of the difference."""
        of_difference = super().side(comparison, limit, level, bounded=bounded)

        def ratio(difference: float) -> float:
            return 1 + difference / of_difference.baseline

        held = of_difference.interval
        ends = {"low": ratio(held.low), "high": ratio(held.high)}
        return replace(
            of_difference,
            value=ratio(of_difference.value),
            interval=held.model_copy(update=ends),
            limit=ratio(of_difference.limit),
            broken_at=None if of_difference.broken_at is None else ratio(of_difference.broken_at),
        )
