"""Conditions on the candidate's own value: floors, ceilings, coverage.

``pass`` when the whole interval keeps the limit, ``fail`` when none of it does, ``inconclusive`` when it straddles.

Samples without a score (failed, ungradable) are never forgotten: where scores have known ends they count against the
rule, at the lower end for a floor, at the upper for a ceiling (``unscored``). Other measures have no worst case; what
is missing is said in the reason, as it is of a ratio of what averaged replicates make of it in part.

A rule that is ``exact`` reads Clopper and Pearson's interval, for safety: with no failure among 300 samples it
reaches 1.2 %. It exists for zeros and ones of independent samples alone; elsewhere the rule is undecided.

A ``gap`` between groups of people is decided by its interval, which is made so that equal groups keep to a ceiling;
``gap_at_most`` (``gaps``) says it in two limits. Samples without a score or a group can move only its farther end.

A ``census`` (weights, read in full) has no sample to grow: its interval is a point, or what a fit leaves open, and no
number of samples would decide. Tensors that were not measured may hold anything, so such a rule can fail and not pass.

**Source**: Clopper & Pearson 1934.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import Field, model_validator

from evalkit.gates.conditions import Condition, Decision, Evidence
from evalkit.gates.unscored import is_counted, is_unbounded, unmeasured, worst_case
from evalkit.gates.wording import (
    between,
    figures,
    need_in_words,
    plain,
    samples_needed,
    value_with_interval,
)
from evalkit.records.scorecard import Estimate
from evalkit.records.suite import Spec
from evalkit.records.verdict import Line, OutcomeStatus
from evalkit.registry import register
from evalkit.stats.intervals import clopper_pearson_interval
from evalkit.stats.resampling import FEWEST_UNITS

Ends = tuple[float | None, float | None]
"""Least and greatest allowed value; None where there is no limit."""


class _Limits(Condition):
    """A condition that sets limits to the candidate's own value."""

    @property
    def exact(self) -> bool:
        """Whether the interval is to be Clopper and Pearson's."""
        return getattr(self.options, "exact", False)

    @property
    def ends(self) -> Ends:
        """The limits."""
        raise NotImplementedError

    @property
    def required(self) -> str:
        """The limits in words."""
        signs = zip("≥≤", self.ends, strict=True)
        return " and ".join(f"{sign} {plain(end)}" for sign, end in signs if end is not None)

    def decide(self, evidence: Evidence) -> Decision:
        """Compare the whole interval with each limit, in the case that is worse for it; the worse answer counts."""
        estimate = evidence.estimate
        assert estimate is not None, "the condition reads an estimate"
        if estimate.value is None:
            return Decision("missing", f"{evidence.name} has no value: {_nothing_scored(estimate)}")
        if why := self._why_open(evidence.name, estimate, estimate.value):
            return Decision("inconclusive", why, estimate.value)
        if estimate.kind == "census":
            return _of_census(evidence.name, estimate, estimate.value, self.ends)
        low, high = self.ends
        cases = [
            _limited(evidence, estimate, end, floor=floor, exact=self.exact)
            for end, floor in ((low, True), (high, False))
            if end is not None
        ]
        for status in ("fail", "inconclusive"):
            if found := [case for case in cases if case.status == status]:
                return found[0]
        # Where samples lack a score each limit has an interval of its own: one outcome shows the first.
        lines = [
            line for case in cases if case.interval == cases[0].interval for line in case.lines
        ]
        reason = "; ".join(case.reason for case in cases)
        return replace(cases[0], reason=reason, lines=tuple(lines))

    def _why_open(self, name: str, estimate: Estimate, value: float) -> str:
        """Return why nothing can be decided, whatever the limit; empty where something can."""
        interval = estimate.interval
        if interval is None:
            why = "; ".join(estimate.warnings) or "its spread cannot be estimated"
            return (
                f"{name} is {figures(value)[0]} without an interval ({why}), so nothing is decided"
            )
        resampled = estimate.kind == "corpus" and estimate.n is None
        if resampled and estimate.counts.scored < FEWEST_UNITS:
            shown = value_with_interval(value, interval)
            return f"{name} is {shown}, but resamples of fewer than {FEWEST_UNITS} samples decide nothing"
        point = estimate.kind == "census" and interval.low == interval.high
        if self.exact and not point and not is_counted(estimate, value, interval):
            return (
                f"{name} is {figures(value)[0]}, but not a rate over zeros and ones of "
                "independent samples, so it has no exact interval and nothing is decided"
            )
        return ""


def _limited(
    evidence: Evidence, estimate: Estimate, limit: float, *, floor: bool, exact: bool
) -> Decision:
    """Answer for one limit, with samples that have no score counted against it."""
    value, interval, told = worst_case(estimate, evidence.disparity, floor=floor)
    if exact:
        n = estimate.counts.planned
        found = clopper_pearson_interval(round(value * n), n, interval.level)
        assert found is not None, "samples were planned"
        interval = found
    shown, at = value_with_interval(value, interval, limit), plain(limit)
    kept = interval.low >= limit if floor else interval.high <= limit
    broken = interval.high < limit if floor else interval.low > limit
    status: OutcomeStatus
    gap = evidence.disparity
    # Of a gap the limit to how wide it is may be open, whatever its interval says.
    lacking = "" if gap is None or floor != (gap.form == "ratio") else unmeasured(gap)
    if kept and not (gap and lacking and is_unbounded(estimate, gap)):
        status, verdict = "pass", f"wholly at or {'above' if floor else 'below'} {at}"
    elif broken:
        status, verdict = "fail", f"wholly {'below' if floor else 'above'} {at}"
    elif lacking:
        status, verdict = "inconclusive", f"so that it is not shown to keep to {at}"
    else:
        n = estimate.counts.planned if told else estimate.counts.scored
        needed = samples_needed(value, interval, limit, estimate.n or n)
        if estimate.n:  # of so many more samples it will be over the same share
            needed *= estimate.counts.scored / estimate.n
        corrected = (
            interval.method == "ppi++"
        )  # its width is that of people's labels, not of samples
        wanted = "let people rate more answers" if corrected else need_in_words(needed, n)
        status, verdict = "inconclusive", f"which straddles {at}: {wanted}"
    if evidence.disparity is not None:  # of a gap, the groups are told too
        behind = between(evidence.disparity)
        reason = f"{evidence.name} is {shown}{told}, {verdict}; {behind}"
    else:
        reason = f"{evidence.name} is {told}{shown}, {verdict}{_left_out(estimate, told)}"
    open_ = lacking and status == "inconclusive"
    lines = () if open_ else (Line(at=limit, above=floor),)
    return Decision(status, reason, value, interval, lines=lines)


def _of_census(name: str, estimate: Estimate, value: float, ends: Ends) -> Decision:
    """Answer on a number read from the weights in full, for all limits together."""
    interval, (low, high) = estimate.interval, ends
    assert interval is not None, "nothing is decided without"
    limits = [end for end in ends if end is not None]
    counted = all(number.is_integer() for number in (value, *limits))
    shown = plain(value) if counted else figures(value, *limits)[0]
    if interval.low < interval.high:
        shown = value_with_interval(value, interval, *limits)
    told = f"{name} is {shown}"
    sides = ((low, True), (high, False))
    lines = tuple(Line(at=end, above=above) for end, above in sides if end is not None)
    for broken, end, word in (
        (low is not None and interval.high < low, low, "below"),
        (high is not None and interval.low > high, high, "above"),
    ):
        if broken and end is not None:
            return Decision("fail", f"{told}, {word} {plain(end)}", value, interval, lines=lines)
    kept = [f"at or above {plain(low)}"] if low is not None else []
    kept += [f"at or below {plain(high)}"] if high is not None else []
    said = " and ".join(kept)
    if (low is not None and interval.low < low) or (high is not None and interval.high > high):
        said = f"and the fit behind it leaves open whether it is {said}"
        return Decision("inconclusive", f"{told}, {said}", value, interval, lines=lines)
    counts = estimate.counts
    if missing := counts.planned - counts.scored:
        were = "was" if missing == 1 else "were"
        unknown = f"but {missing:,} of {counts.planned:,} tensors {were} not measured, so nothing is shown"
        return Decision("inconclusive", f"{told}, {said}, {unknown}", value, interval)
    return Decision("pass", f"{told}, {said}", value, interval, lines=lines)


def _left_out(estimate: Estimate, told: str) -> str:
    missing = estimate.counts.planned - estimate.counts.scored
    if told or not missing:
        return ""
    return f"; {missing:,} of {estimate.counts.planned:,} samples have no score and are left out"


def _nothing_scored(estimate: Estimate) -> str:
    counts = estimate.counts
    if estimate.kind == "gap":
        return "; ".join(estimate.warnings) or "there are no two groups to compare"
    if estimate.kind == "census":
        why = "; ".join(estimate.warnings)
        return f"it was measured on none of {counts.planned:,} tensors" + (why and f" ({why})")
    if counts.planned == 0:
        return "there are no samples"
    if estimate.n == 0:
        return "; ".join(estimate.warnings)
    if counts.scored:
        return f"it is undefined on the {counts.scored:,} scored samples"
    return f"of {counts.planned:,} samples {counts.failed:,} failed and {counts.unscored:,} could not be graded"


@register(
    "condition",
    "at_least",
    summary="The whole interval lies at or above a value.",
    example="{estimate: extract/json_schema.valid, require: at_least, value: 0.95}",
)
class AtLeast(_Limits):
    """A floor."""

    class Options(Spec):
        """The floor."""

        value: float
        """The least allowed value, in the metric's unit."""
        exact: bool = False
        """For safety: Clopper and Pearson's interval, which never covers less than its level. Rates only."""

    @property
    def ends(self) -> Ends:
        """Only a floor."""
        return self.options.value, None


@register(
    "condition",
    "at_most",
    summary="The whole interval lies at or below a value.",
    example="{estimate: fluency/perplexity.bits_per_byte, require: at_most, value: 1.2}",
)
class AtMost(_Limits):
    """A ceiling."""

    class Options(Spec):
        """The ceiling."""

        value: float
        """The greatest allowed value, in the metric's unit."""
        exact: bool = False
        """For safety: Clopper and Pearson's interval, which never covers less than its level. Rates only."""

    @property
    def ends(self) -> Ends:
        """Only a ceiling."""
        return None, self.options.value


@register(
    "condition",
    "inside",
    summary="The whole interval lies between two values.",
    example="{estimate: decide/approved, require: inside, low: 0.4, high: 0.6}",
)
class Inside(_Limits):
    """A floor and a ceiling."""

    class Options(Spec):
        """The limits."""

        low: float
        """The least allowed value, in the metric's unit."""
        high: float
        """The greatest allowed value."""

        @model_validator(mode="after")
        def _ordered(self) -> Inside.Options:
            if self.low >= self.high:
                raise ValueError("'low' must be less than 'high'")
            return self

    @property
    def ends(self) -> Ends:
        """Floor and ceiling."""
        return self.options.low, self.options.high


@register(
    "condition",
    "coverage_at_least",
    summary="So large a share of the planned samples was scored.",
    example="{estimate: extract/json_fields.f1, require: coverage_at_least, value: 0.99}",
)
class CoverageAtLeast(Condition):
    """A floor under scored ÷ planned, which is counted, not estimated: there is no third answer."""

    class Options(Spec):
        """The floor."""

        value: Annotated[float, Field(ge=0, le=1)]
        """The least share of planned samples that must be scored, 0–1."""

    @property
    def required(self) -> str:
        """The floor in words."""
        return f"coverage ≥ {plain(self.options.value)}"

    def decide(self, evidence: Evidence) -> Decision:
        """Compare the coverage with the floor."""
        assert evidence.estimate is not None, "the condition reads an estimate"
        counts = evidence.estimate.counts
        status: OutcomeStatus = "pass" if counts.coverage >= self.options.value else "fail"
        shown = figures(counts.coverage, self.options.value)[0]
        census = evidence.estimate.kind == "census"
        known, of = ("measured", "tensors") if census else ("scored", "samples")
        return Decision(
            status,
            f"{evidence.name} is {known} on {counts.scored:,} of {counts.planned:,} {of}: coverage {shown}, "
            f"{'not below' if status == 'pass' else 'below'} {plain(self.options.value)}",
            counts.coverage,
        )
