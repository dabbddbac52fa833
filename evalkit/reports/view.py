"""From scorecard and verdict to rows that every report draws: numbers as text, direction as words."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

from evalkit.identity import short
from evalkit.records.judging import JudgeRecord
from evalkit.records.scorecard import (
    Comparison,
    Counts,
    EarlyStop,
    Estimate,
    Interval,
    Scorecard,
)
from evalkit.records.verdict import Outcome, Verdict

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class EstimateRow:
    """One number of the scorecard, candidate and baseline side by side."""

    name: str
    """``task/metric[@slice]``."""
    slice: str | None
    """The slice, None for all samples."""
    candidate: Estimate | None
    """The candidate's estimate."""
    baseline: Estimate | None
    """The baseline's."""
    comparison: Comparison | None
    """Their paired difference."""

    @property
    def told(self) -> Estimate:
        """The candidate's estimate, or the baseline's where it alone is there: task, metric and unit are both's."""
        shown = self.candidate or self.baseline
        assert shown is not None, "a row stands for at least one estimate"
        return shown

    @property
    def of_all_samples(self) -> bool:
        """Whether it is of all samples, and of no slice, group or weight."""
        return self.slice is None and self.told.kind != "census"

    @property
    def direction(self) -> str:
        """``better``, ``worse`` or empty when the interval of the difference contains 0."""
        held = self.comparison
        if held is None or held.interval is None:
            return ""
        if held.interval.low <= 0 <= held.interval.high:
            return ""
        rising = held.interval.low > 0
        return "better" if rising == (held.better == "higher") else "worse"


def number(value: float | None) -> str:
    """Return a number with about four significant digits; a dash for none.

    >>> number(0.98125), number(-3.14159), number(84.739), number(123.456), number(None)
    ('0.981', '−3.142', '84.74', '123.5', '–')
    """
    if value is None:
        return "–"
    magnitude = abs(value)
    minus = "−" if value < 0 else ""  # as in the rules' reasons
    if magnitude >= 10:
        return f"{minus}{magnitude:,.1f}" if magnitude >= 100 else f"{minus}{magnitude:.2f}"
    return f"{minus}{magnitude:.3f}"


def span(interval: Interval | None) -> str:
    """Return an interval as ``[0.962, 0.991]``; empty for none."""
    return "" if interval is None else f"[{number(interval.low)}, {number(interval.high)}]"


def signed(value: float | None) -> str:
    """Return a difference with its sign."""
    if value is None:
        return "–"
    return f"{'+' if value >= 0 else '−'}{number(abs(value))}"


def missing_samples(counts: Counts) -> str:
    """Return what was lost, in words; empty when every planned sample was scored."""
    parts = []
    if counts.failed:
        parts.append(f"{counts.failed} failed")
    if counts.unscored:
        parts.append(f"{counts.unscored} unscored")
    return ", ".join(parts)


def estimate_rows(scorecard: Scorecard) -> list[EstimateRow]:
    """Return one row per task, metric and slice, in the scorecard's order."""
    by_key: dict[Key, dict[str, Estimate]] = {}
    for estimate in scorecard.estimates:
        by_key.setdefault(_key(estimate), {})[estimate.model] = estimate
    compared = {_key(comparison): comparison for comparison in scorecard.comparisons}
    rows = []
    for key, held in by_key.items():
        first = next(iter(held.values()))
        rows.append(
            EstimateRow(
                first.name,
                first.slice,
                held.get("candidate"),
                held.get("baseline"),
                compared.get(key),
            )
        )
    return rows


def _key(item: Estimate | Comparison) -> Key:
    return (item.task, item.metric, item.slice or "")


def ordered_outcomes(verdict: Verdict) -> list[Outcome]:
    """Return the outcomes with what needs attention first: failed, undecided, waived, passed; blocking ones lead."""
    rank = {"fail": 0, "inconclusive": 1, "missing": 1, "waived": 2, "pass": 3}
    weight = {"block": 0, "warn": 1, "info": 2}
    return sorted(verdict.outcomes, key=lambda o: (rank[o.counts_as], weight[o.severity]))


def waiver_in_words(outcome: Outcome) -> str:
    """Return who waived an outcome, until when and why; empty where nobody did."""
    waiver = outcome.waiver
    if waiver is None:
        return ""
    what = f" for {waiver.slice}" if waiver.slice else ""
    return f"Waived{what} by {waiver.owner} until {waiver.expires}: {waiver.reason}"


def diagnostic_p(outcome: Outcome) -> str:
    """Return the adjusted p-value of an outcome that does not block, in words; the reasons of those that do tell it."""
    if outcome.p_adjusted is None or outcome.severity == "block":
        return ""
    return f"p of a regression {outcome.p_adjusted:.2g} (Benjamini–Hochberg, for information)"


def flips(comparison: Comparison | None) -> str:
    """Return how many pairs got better and how many worse; empty where samples alone have no score.

    >>> flips(Comparison(task="t", metric="m", slice=None, status="compared", improved=1200, worsened=8))
    '+1,200 −8'
    """
    if comparison is None or comparison.improved is None or comparison.worsened is None:
        return ""
    return f"+{comparison.improved:,} −{comparison.worsened:,}"


def run_notes(scorecard: Scorecard) -> list[str]:
    """Return what a reader must know of how the numbers came about: an earlier baseline, judges, early stops."""
    notes = []
    command = scorecard.circumstances.command
    if any(word == "--limit" or word.startswith("--limit=") for word in command):
        notes.append("Made with --limit: only the first samples of each task were asked")
    if scorecard.baseline_run:
        notes.append(f"The baseline's answers come from run {short(scorecard.baseline_run)}")
    notes += [
        f.message
        for f in scorecard.findings
        if f.model == "candidate" and f.check.startswith("imported.")
    ]
    in_full = [f"{t.task} could not stop early: {t.in_full}" for t in scorecard.tasks if t.in_full]
    return notes + list(_judges(scorecard)) + list(_early_stops(scorecard)) + in_full


def command_line(scorecard: Scorecard) -> str:
    """Return the command that made a run as a shell takes it, wherever the program lay; empty where none is known."""
    words = scorecard.circumstances.command
    return shlex.join([PurePath(words[0]).name, *words[1:]]) if words else ""


def card_in_words(judge: JudgeRecord) -> str:
    """Return what a judge's card says of its agreement with people; ``no card``, and why, where there is none."""
    if judge.card is None:
        return f"no card: {judge.why_no_card}" if judge.why_no_card else "no card"
    kappa = judge.card.figures.get("kappa")
    if kappa is None or kappa.value is None:
        return "card: kappa unknown"
    return " ".join(filter(None, ("card: kappa", number(kappa.value), span(kappa.interval))))


def _judges(scorecard: Scorecard) -> Iterator[str]:
    """Yield which numbers rest on which judge, how far it may be believed, and what it was not asked or did not say."""
    for judge in scorecard.judges:
        told = [f"{', '.join(judge.metrics)}: by judge {judge.judge} ({card_in_words(judge)})"]
        told += judge.flags
        told += [f"{n:,} {reason}" for reason, n in judge.unjudged.items()]
        told += [f"{n:,} settled without it ({reason})" for reason, n in judge.settled.items()]
        yield "; ".join(told)


def _early_stops(scorecard: Scorecard) -> Iterator[str]:
    """Yield a sentence for each task with ``stop: early``: both models were asked the same samples."""
    by_task: dict[str, list[EarlyStop]] = {}
    for tally in scorecard.tasks:
        if tally.early is not None:
            by_task.setdefault(tally.task, []).append(tally.early)
    for task, stops in by_task.items():
        drawn, available = (max(getattr(s, key) for s in stops) for key in ("drawn", "available"))
        if drawn == available:
            yield f"{task}: all {available:,} samples were asked, as not every rule on it was decided before"
            continue
        saved = [stop.tokens_saved for stop in stops if stop.tokens_saved is not None]
        told = f", about {_rounded(sum(saved)):,} tokens saved" if saved else ""
        yield f"{task}: stopped after {drawn:,} of {available:,} samples{told}"


def _rounded(count: int) -> int:
    """Return a count with two significant digits."""
    return round(count, min(0, 2 - len(str(count))))
