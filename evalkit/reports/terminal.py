"""The verdict and the scorecard as tables for a terminal. Returns drawings; only the command line prints."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from evalkit.records.scorecard import Scorecard
from evalkit.records.verdict import Outcome, Verdict
from evalkit.reports.view import (
    EstimateRow,
    estimate_rows,
    missing_samples,
    number,
    ordered_outcomes,
    signed,
    span,
)

STYLES = {
    "pass": "green",
    "fail": "bold red",
    "inconclusive": "yellow",
    "missing": "yellow",
    "incomparable": "yellow",
    "incomplete": "bold red",
}
MARKS = {"pass": "✓", "fail": "✗", "inconclusive": "?", "missing": "?", "incomparable": "?"}


def scorecard_table(scorecard: Scorecard, *, slices: bool = False) -> Table:
    """Return the estimates, candidate beside baseline; slices only when asked for."""
    paired = any(e.model == "baseline" for e in scorecard.estimates)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="Scorecard", title_justify="left")
    table.add_column("estimate", no_wrap=True)
    table.add_column("candidate", justify="right", no_wrap=True)
    if paired:
        table.add_column("baseline", justify="right", no_wrap=True)
        table.add_column("difference", justify="right", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    table.add_column("unit", overflow="fold")
    for row in estimate_rows(scorecard):
        if row.slice is not None and not slices:
            continue
        table.add_row(*_estimate_cells(row, paired=paired))
    return table


def _estimate_cells(row: EstimateRow, *, paired: bool) -> list[RenderableType]:
    shown = row.candidate or row.baseline
    assert shown is not None, "a row stands for at least one estimate"
    cells: list[RenderableType] = [Text(row.name), _value(row.candidate)]
    if paired:
        cells += [_value(row.baseline), _difference(row)]
    unit = Text(shown.unit)
    if lost := missing_samples(shown.counts):
        unit.append(f", {lost}", "yellow")
    return [*cells, f"{shown.counts.scored:,}", unit]


def _value(estimate: object) -> Text:
    if estimate is None:
        return Text("–")
    value = number(getattr(estimate, "value", None))
    interval = span(getattr(estimate, "interval", None))
    return Text.assemble(value, " ", (interval, "dim"))


def _difference(row: EstimateRow) -> Text:
    held = row.comparison
    if held is None or held.status != "compared":
        return Text(held.status if held else "–", "yellow")
    style = {"better": "green", "worse": "red", "": ""}[row.direction]
    return Text.assemble((signed(held.difference), style), " ", (span(held.interval), "dim"))


def verdict_table(verdict: Verdict) -> Table:
    """Return one row per outcome, what needs attention first."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="Rules", title_justify="left")
    table.add_column("", no_wrap=True)
    table.add_column("rule", overflow="fold")
    table.add_column("required", overflow="fold", ratio=2)
    table.add_column("what was found", overflow="fold", ratio=5)
    for outcome in ordered_outcomes(verdict):
        table.add_row(*_outcome_cells(outcome))
    return table


def _outcome_cells(outcome: Outcome) -> list[RenderableType]:
    style = STYLES[outcome.counts_as]
    if outcome.severity != "block" and outcome.counts_as != "pass":
        style = "yellow"
    label: str = outcome.status
    if outcome.counts_as != outcome.status:
        label = f"{outcome.counts_as} ({outcome.status})"
    severity = "" if outcome.severity == "block" else f" ({outcome.severity})"
    mark = Text(f"{MARKS[outcome.counts_as]} {label}", style)
    return [mark, Text(f"{outcome.rule}{severity}"), Text(outcome.required), Text(outcome.reason)]


def verdict_line(verdict: Verdict) -> Text:
    """Return the verdict in one sentence."""
    return Text.assemble(
        (f" {verdict.status.upper()} ", f"{STYLES[verdict.status]} reverse"), " ", verdict.reason
    )


def drawing(scorecard: Scorecard, verdict: Verdict) -> RenderableType:
    """Return everything a run prints: numbers, rules, verdict last, where the eye ends."""
    return Group(scorecard_table(scorecard), verdict_table(verdict), verdict_line(verdict))
