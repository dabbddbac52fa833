"""From scorecard and verdict to rows that every report draws: numbers as text, direction as words."""

from __future__ import annotations

from dataclasses import dataclass

from evalkit.records.scorecard import Comparison, Counts, Estimate, Interval, Scorecard
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

    >>> number(0.98125), number(3.14159), number(84.739), number(123.456), number(None)
    ('0.981', '3.142', '84.74', '123.5', '–')
    """
    if value is None:
        return "–"
    magnitude = abs(value)
    if magnitude >= 10:
        return f"{value:,.1f}" if magnitude >= 100 else f"{value:.2f}"
    return f"{value:.3f}"


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
    """Return the outcomes with what needs attention first: failed, undecided, passed; blocking before the rest."""
    rank = {"fail": 0, "inconclusive": 1, "missing": 1, "pass": 2}
    weight = {"block": 0, "warn": 1, "info": 2}
    return sorted(verdict.outcomes, key=lambda o: (rank[o.counts_as], weight[o.severity]))
