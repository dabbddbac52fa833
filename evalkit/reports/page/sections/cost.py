"""What the run cost: requests, tokens, time, and what early stops saved."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from evalkit.records.judging import JudgeRecord
from evalkit.records.scorecard import TaskTally
from evalkit.reports.page.section import Section, fragment
from evalkit.reports.reported import FinishedRun


@dataclass(frozen=True, slots=True)
class Row:
    """What one task asked of one model."""

    task: str
    """The task, or the judge."""
    model: str
    """The candidate, the baseline or a judge's role."""
    samples: int
    """Samples asked."""
    requests: int
    """Requests that they need."""
    prompt: int | None
    """Tokens read; None where the backend does not tell."""
    completion: int | None
    """Tokens written; None likewise."""
    skipped: int
    """Samples that an early stop saved."""
    saved: int | None
    """Tokens that it saved, about; None where there was none or the backend does not tell."""


def section(run: FinishedRun) -> Section | None:
    """Return what the run cost."""
    scorecard, circumstances = run.scorecard, run.scorecard.circumstances
    rows = [_of_task(tally) for tally in scorecard.tasks if tally.requests or tally.planned]
    rows += [_of_judge(judge) for judge in scorecard.judges]
    asked = [row for row in rows if row.requests]
    body = fragment(
        "cost.html",
        rows=asked,
        stops=any(row.skipped for row in asked),
        prompt=_sum(row.prompt for row in asked),
        completion=_sum(row.completion for row in asked),
        requests=sum(row.requests for row in asked),
        skipped=sum(row.skipped for row in asked),
        saved=_sum(row.saved for row in asked),
        seconds=circumstances.seconds,
        duration=duration(circumstances.seconds),
        asked=circumstances.asked,
        reused=circumstances.reused,
        untold=any(row.prompt is None for row in asked),
    )
    return Section("cost", "Cost", body, count=duration(circumstances.seconds))


def duration(seconds: float) -> str:
    """Return a time as people say it.

    >>> duration(48.211), duration(190.0), duration(7322.0)
    ('48 s', '3 min 10 s', '2 h 2 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s" if whole >= 10 else f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def _of_task(tally: TaskTally) -> Row:
    early = tally.early
    return Row(
        tally.task,
        tally.model,
        tally.planned,
        tally.requests,
        tally.prompt_tokens,
        tally.completion_tokens,
        early.available - early.drawn if early else 0,
        early.tokens_saved if early else None,
    )


def _of_judge(judge: JudgeRecord) -> Row:
    return Row(
        judge.judge,
        "judge",
        judge.samples,
        judge.requests,
        judge.prompt_tokens,
        judge.completion_tokens,
        0,
        None,
    )


def _sum(values: Iterable[int | None]) -> int | None:
    """Return the sum of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
