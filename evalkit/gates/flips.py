"""Conditions on single samples: which may break, and how many may change.

A sample is broken where the candidate scores worse on it than the baseline; where scores are zeros and ones that is a
right answer that became wrong. Two models with equal averages can still trade many samples, which averages never show.

Unpaired samples fail closed in ``keeps``: a sample that must not break and has no answer counts as broken. In
``max_flips`` they count as flips in the worst case: it must pass there too, and what only that case breaks is
undecided.

**Source**: Wilson 1927; Clopper & Pearson 1934 (intervals of the share of flips).
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from evalkit.gates.conditions import Condition, Decision, Evidence, Scores
from evalkit.gates.wording import (
    need_in_words,
    percent,
    plain,
    samples_needed,
    value_with_interval,
)
from evalkit.records.scorecard import Comparison, Interval
from evalkit.records.suite import Spec
from evalkit.records.verdict import Line, OutcomeStatus
from evalkit.registry import register
from evalkit.stats.estimate import UNIT_BOUNDS
from evalkit.stats.intervals import clopper_pearson_interval, wilson_interval

SAMPLES_SHOWN = 5
"""Most sample ids that a reason names."""
INDEPENDENT = ("tango", "bonett-price", "t", "adjusted-t", "identical")
"""Methods of a difference's interval that say its pairs are independent and were looked at once."""


def _cannot_count(name: str, comparison: Comparison) -> Decision | None:
    """Return the answer where pairs cannot be counted; None where they can."""
    if comparison.status == "incomparable":
        reason = f"{name} cannot be compared with the baseline: {comparison.reason}"
        return Decision("incomparable", reason)
    if comparison.pairs and None in (comparison.improved, comparison.worsened):
        reason = f"{name} has no scores of single samples to count; name a rate or a mean instead"
        return Decision("missing", reason)
    return None


def _stopped_early(name: str, comparison: Comparison) -> Decision | None:
    """Return the answer where a task could stop before samples were asked that a count means too; else None."""
    if comparison.interval is None or comparison.interval.method != "betting":
        return None
    reason = (
        f"{name} was measured with leave to stop early, so samples may not have been asked and their number decides "
        "nothing: run with this rule among the gates"
    )
    return Decision("inconclusive", reason)


@register(
    "condition",
    "keeps",
    summary="Named samples, or all of an estimate's, on which the candidate must not score worse than the baseline.",
    example='{estimate: extract/exact_match, require: keeps, samples: ["invoice-17", "invoice-40"]}',
)
class Keeps(Condition):
    """A list of samples that must not break; counted, so there is no third answer unless some were not asked."""

    reads = "comparison"

    class Options(Spec):
        """The samples."""

        samples: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
        """Ids of the samples that must not break; without it, every sample of the estimate or slice."""
        allow: Annotated[int, Field(ge=0)] = 0
        """How many of them may break."""

        @model_validator(mode="after")
        def _unique(self) -> Self:
            held = self.samples or ()
            if twice := sorted({name for name in held if held.count(name) > 1}):
                raise ValueError(f"'samples' names {', '.join(twice)} twice")
            if self.samples and self.allow >= len(self.samples):
                raise ValueError("'allow' must be less than the number of samples")
            return self

    @property
    def required(self) -> str:
        """How many may break, in words."""
        samples, allow = self.options.samples, self.options.allow
        held = "every sample" if samples is None else _number(len(samples), "named sample")
        return f"keeps {held}" + (f", all but {allow:,}" if allow else "")

    def decide(self, evidence: Evidence) -> Decision:
        """Count the broken samples.

        A named sample without a score of the candidate counts as broken. Without one of the baseline's, which may
        have been right, it is kept only where the candidate's is the best there can be.
        """
        comparison = evidence.comparison
        assert comparison is not None, "the condition reads a comparison"
        if self.options.samples is None:
            return self._all(evidence.name, comparison)
        if comparison.status == "incomparable":
            reason = f"{evidence.name} cannot be compared with the baseline: {comparison.reason}"
            return Decision("incomparable", reason)
        scores = evidence.scores() if evidence.scores is not None else None
        if not scores:
            reason = (
                f"{evidence.name} has no scores of single samples at hand, so named ones cannot be looked up: "
                "keep the run's samples.jsonl beside its scorecard, and name a rate or a mean"
            )
            return Decision("missing", reason)
        return self._named(evidence.name, comparison, scores)

    def _all(self, name: str, comparison: Comparison) -> Decision:
        if (undecided := _cannot_count(name, comparison)) is not None:
            return undecided
        if (undecided := _stopped_early(name, comparison)) is not None:
            return undecided
        worse, unpaired = comparison.worsened or 0, comparison.unpaired
        total = comparison.pairs + unpaired
        if not total:
            return Decision("missing", f"{name} has no samples that could be kept")
        told = f"{name} scores worse than the baseline on {worse:,} of {_number(total, 'sample')}"
        if unpaired:
            told += f", and {unpaired:,} that could not be paired {_count_as(unpaired)} broken"
        return self._answer(told, worse + unpaired)

    def _named(self, name: str, comparison: Comparison, scores: Scores) -> Decision:
        wanted: tuple[str, ...] = self.options.samples
        if unknown := [sample for sample in wanted if sample not in scores]:
            return Decision("missing", f"{name} has no sample named {_listed(unknown)} in this run")
        best = _best_score(comparison)
        broken, unscored = [], 0
        for sample in wanted:
            candidate, baseline = scores[sample]
            reference = best if baseline is None else baseline
            unscored += candidate is None
            if candidate is None or reference is None or _worse(comparison, candidate, reference):
                broken.append(sample)
        told = f"{name} breaks {len(broken):,} of {_number(len(wanted), 'named sample')}"
        if broken:
            told += f" ({_listed(broken)})"
        if unscored:
            told += f", {unscored:,} of them for want of an answer"
        return self._answer(told, len(broken))

    def _answer(self, told: str, broken: int) -> Decision:
        status: OutcomeStatus = "pass" if broken <= self.options.allow else "fail"
        return Decision(status, f"{told}; {self.options.allow:,} may break", float(broken))


def _best_score(comparison: Comparison) -> float | None:
    ends = UNIT_BOUNDS.get(comparison.unit)
    return None if ends is None else ends[1 if comparison.better == "higher" else 0]


def _worse(comparison: Comparison, candidate: float, baseline: float) -> bool:
    return candidate < baseline if comparison.better == "higher" else candidate > baseline


def _listed(names: list[str]) -> str:
    more = len(names) - SAMPLES_SHOWN
    return ", ".join(names[:SAMPLES_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _count_as(count: int) -> str:
    return "counts as" if count == 1 else "count as"


@register(
    "condition",
    "max_flips",
    summary="So small a share, or number, of samples changed from the baseline, by default for the worse.",
    example="{estimate: extract/exact_match, require: max_flips, value: 0.02}",
)
class MaxFlips(Condition):
    """A ceiling over the share of samples that changed, or over their number."""

    reads = "comparison"

    class Options(Spec):
        """The ceiling."""

        value: Annotated[float, Field(ge=0, lt=1)] | None = None
        """The greatest allowed share of flips among samples like these, shown at one-sided alpha."""
        count: Annotated[int, Field(ge=0)] | None = None
        """Instead of a share: the greatest allowed number of flips among these very samples."""
        of: Literal["worsened", "both"] = "worsened"
        """Which samples count: those that the candidate scores worse on, or those that score differently at all."""
        alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
        """Chance of passing a candidate whose share of flips is just ``value``."""
        exact: bool = False
        """Whether the share's interval is Clopper and Pearson's, which keeps alpha at every n, and not Wilson's."""

        @model_validator(mode="after")
        def _one_of(self) -> Self:
            if (self.value is None) == (self.count is None):
                raise ValueError("give either 'value', a share, or 'count', a number of samples")
            return self

    @property
    def required(self) -> str:
        """The ceiling in words."""
        changed = "changed" if self.options.of == "both" else "worsened"
        if self.options.count is not None:
            return f"≤ {_number(self.options.count, f'{changed} sample')}"
        share, alpha = percent(self.options.value), plain(self.options.alpha)
        return f"≤ {share} of samples {changed} (one-sided α {alpha})"

    def decide(self, evidence: Evidence) -> Decision:
        """Compare the flips, on the pairs and with every unpaired sample counted as one, with the ceiling."""
        comparison, name = evidence.comparison, evidence.name
        assert comparison is not None, "the condition reads a comparison"
        if (undecided := _cannot_count(name, comparison)) is not None:
            return undecided
        if (undecided := _stopped_early(name, comparison)) is not None:
            return undecided
        if not comparison.pairs:
            return Decision("missing", f"{name} has no pairs: {comparison.reason}")
        flips = comparison.worsened or 0
        if self.options.of == "both":
            flips += comparison.improved or 0
        changed = "differs from" if self.options.of == "both" else "is worse than"
        told = f"{name} {changed} the baseline on {flips:,} of {_number(comparison.pairs, 'pair')}"
        if self.options.count is not None:
            return self._counted(told, flips, comparison.unpaired)
        return self._estimated(told, flips, comparison)

    def _counted(self, told: str, flips: int, unpaired: int) -> Decision:
        allowed = self.options.count
        status: OutcomeStatus = "pass" if flips + unpaired <= allowed else "fail"
        if unpaired:
            told += f"; with the {unpaired:,} unpaired counted as flips on {flips + unpaired:,}"
        return Decision(status, f"{told}; {allowed:,} may be", float(flips))

    def _estimated(self, told: str, flips: int, comparison: Comparison) -> Decision:
        n, unpaired, allowed = comparison.pairs, comparison.unpaired, self.options.value
        method = comparison.interval.method if comparison.interval else ""
        if method not in INDEPENDENT:
            reason = (
                f"{told}; its pairs are clustered or too few, so their share has no interval and nothing is decided: "
                "give a 'count' instead"
            )
            return Decision("inconclusive", reason, flips / n)
        if unpaired:
            flips, n = flips + unpaired, n + unpaired
            told += f"; with the {unpaired:,} unpaired counted as flips on {flips:,} of {n:,}"
        interval, at = self._interval(flips, n), plain(allowed)
        told += f", a share of {value_with_interval(flips / n, interval, allowed)}, "
        status: OutcomeStatus = "inconclusive"
        if interval.high <= allowed:
            status, told = "pass", f"{told}wholly at or below {at}"
        elif interval.low > allowed:
            status, told = "fail", f"{told}wholly above {at}"
        else:
            needed = samples_needed(flips / n, interval, allowed, n)
            told += f"which straddles {at}: {need_in_words(needed, n, 'pairs')}"
        p_broken = _exact_p(flips, n, allowed)
        lines = (Line(at=allowed, above=False),)
        return Decision(status, told, flips / n, interval, p_broken, lines)

    def _interval(self, flips: int, n: int) -> Interval:
        level = 1 - 2 * self.options.alpha
        method = clopper_pearson_interval if self.options.exact else wilson_interval
        found = method(flips, n, level)
        assert found is not None, "there are pairs"
        return found


def _exact_p(flips: int, n: int, share: float) -> float:
    """Return P(X ≥ flips) for X ~ Binomial(n, share)."""
    from scipy.special import bdtrc

    return 1.0 if flips == 0 else float(bdtrc(flips - 1, n, share))
