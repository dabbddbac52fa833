"""``labelled``: enough answers were rated by people, and those people agree.

A rule on ``task/human.pass`` says what people must think of the answers; this one says what their thinking must rest
on. It reads ``task/human.agreement``: how many of the candidate's drawn answers anybody rated, and Krippendorff's alpha
over all items that at least two annotators rated. Alpha is held against the value by the lower end of its interval,
since few items rated twice tell little; the rule fails where fewer answers are rated, or where the whole interval lies
below.

**Source**: Krippendorff 2004, Content Analysis, section 11.4: alpha at or above .8 for firm, .667 for tentative
conclusions.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from evalkit.gates.conditions import Condition, Decision, Evidence
from evalkit.gates.wording import figures, plain, value_with_interval
from evalkit.records.patterns import expression
from evalkit.records.scorecard import Estimate
from evalkit.records.suite import Spec
from evalkit.records.verdict import Line
from evalkit.registry import register

READS: Final = "human.agreement"
"""The number that ``labelled`` reads, and nothing else."""
METRICS: Final = ("human.pass", "human.rating", READS)
"""What people's ratings become."""
CORRECTED: Final = "judged.score.corrected"
"""What they make of a judge's score: it rests on people, so that a rule on it demands no judge card."""


@register(
    "condition",
    "labelled",
    summary="So many answers were rated by people, who are shown to agree.",
    example="{estimate: summarise/human.agreement, require: labelled, samples: 100, agreement: 0.6}",
)
class Labelled(Condition):
    """A floor under the number of rated answers and under the annotators' agreement."""

    class Options(Spec):
        """What ratings must rest on."""

        samples: Annotated[int, Field(ge=1)] = 100
        """The least number of the candidate's answers that must have a rating."""
        agreement: Annotated[float, Field(ge=-1, le=1)] = 0.6
        """The least Krippendorff alpha, held against the lower end of its interval."""

    @property
    def required(self) -> str:
        """The floors in words."""
        samples, alpha = self.options.samples, plain(self.options.agreement)
        return f"≥ {samples:,} answers rated by people, whose alpha is ≥ {alpha}"

    def decide(self, evidence: Evidence) -> Decision:
        """Count the rated answers, then compare the whole interval of alpha with the floor."""
        estimate = evidence.estimate
        assert estimate is not None, "the condition reads an estimate"
        if estimate.metric != READS:
            return Decision("missing", f"{evidence.name} is no agreement of annotators")
        rated = estimate.counts.scored
        if rated < self.options.samples:
            drawn = estimate.counts.planned
            told = f"{rated:,} of {drawn:,} drawn answers are rated, fewer than {self.options.samples:,}"
            return Decision("fail", f"{evidence.name}: {told}", float(rated))
        return self._agreeing(evidence.name, estimate)

    def _agreeing(self, name: str, estimate: Estimate) -> Decision:
        floor = float(self.options.agreement)
        rated, twice = estimate.counts.scored, estimate.n or 0
        on = f"{rated:,} answers are rated; two annotators or more rated {twice:,} items"
        why = "; ".join(estimate.warnings)
        if estimate.value is None:
            return Decision("inconclusive", f"{name}: {on}, and there is no alpha ({why})")
        if estimate.interval is None:
            (shown,) = figures(estimate.value)
            told = f"{on}; alpha is {shown} without an interval ({why or 'too few are'})"
            return Decision(
                "inconclusive", f"{name}: {told}, so nothing is decided", estimate.value
            )
        interval, lines = estimate.interval, (Line(at=floor, above=True),)
        reason = f"{name}: {on}; alpha is {value_with_interval(estimate.value, interval, floor)}"
        if interval.low >= floor:
            verdict = f"wholly at or above {plain(floor)}"
            return Decision("pass", f"{reason}, {verdict}", estimate.value, interval, lines=lines)
        if interval.high < floor:
            verdict = f"wholly below {plain(floor)}"
            return Decision("fail", f"{reason}, {verdict}", estimate.value, interval, lines=lines)
        verdict = f"so that it is not shown to reach {plain(floor)}: let two annotators rate more"
        return Decision(
            "inconclusive", f"{reason}, {verdict}", estimate.value, interval, lines=lines
        )


def reads_ratings(estimate: str) -> bool:
    """Return whether a rule's pattern can match nothing but people's ratings.

    >>> reads_ratings("extract/human.pass"), reads_ratings("*/human.*@region=eu"), reads_ratings("extract/*")
    (True, True, False)
    """
    metric = estimate.partition("@")[0].partition("/")[2]
    if metric == CORRECTED:
        return True
    if not metric.startswith("human"):
        return False
    return any(expression(metric).fullmatch(name) for name in METRICS)


def lacking_ratings(estimate: str) -> str:
    """Return why nothing is there that a rule's pattern names, where people have not rated it; empty else."""
    if not reads_ratings(estimate):
        return ""
    return (
        f"{estimate} needs people's ratings: 'evalkit review export RUN' draws answers for them, "
        "'evalkit review import RUN LABELS' brings their ratings in"
    )
