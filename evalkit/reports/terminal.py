"""The verdict and the scorecard as tables for a terminal. Returns drawings; only the command line prints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from evalkit.records.scorecard import Estimate, Interval, Scorecard
from evalkit.records.verdict import Outcome, Verdict
from evalkit.reports.view import (
    EstimateRow,
    diagnostic_p,
    estimate_rows,
    flips,
    missing_samples,
    number,
    ordered_outcomes,
    run_notes,
    signed,
    span,
    waiver_in_words,
)
from evalkit.reports.weights_drawing import weights_drawing

STYLES = {
    "pass": "green",
    "fail": "bold red",
    "inconclusive": "yellow",
    "missing": "yellow",
    "incomparable": "yellow",
    "incomplete": "bold red",
    "waived": "magenta",
}
MARKS = {"pass": "✓", "fail": "✗", "inconclusive": "?", "missing": "?", "waived": "~"}

MOST_OUTCOMES = 8
"""So many outcomes with one answer are told of each rule: one on every tensor has thousands."""
MOST_PASSED = 3
"""So many where they passed."""
WIDE = 118
"""From this many columns on, units, flips and the baseline's intervals are shown too; the difference has its interval
anywhere."""

NO_INTERVAL = "(no interval)"
"""Beside a number whose interval cannot be known; the scorecard's ``warnings`` tell why."""


def scorecard_table(scorecard: Scorecard, width: int) -> Table:
    """Return the estimates over all samples, task by task, candidate beside baseline; weights have tables of their own.

    A number is never cut: where there is no room, the baseline's values go (the difference tells them), and names fold.
    """
    wide = width >= WIDE
    table = _scorecard_table(scorecard, wide, baseline=True)
    room = Console(width=10 * WIDE).measure(table).maximum
    return table if wide or room <= width else _scorecard_table(scorecard, wide, baseline=False)


def _scorecard_table(scorecard: Scorecard, wide: bool, *, baseline: bool) -> Table:
    paired = any(e.model == "baseline" for e in scorecard.estimates if e.kind != "census")
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        padding=(0, 1, 0, 0),
        title="Scorecard",
        title_justify="left",
    )
    table.add_column("task, metric", overflow="fold")
    table.add_column("candidate", justify="right", no_wrap=True)
    if paired:
        if baseline:
            table.add_column("baseline", justify="right", no_wrap=True)
        table.add_column("difference", justify="right", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    if wide:
        if paired:
            table.add_column("flips", justify="right", no_wrap=True)
        table.add_column("unit", overflow="fold")
    task = None
    for row in estimate_rows(scorecard):
        shown = row.candidate or row.baseline
        assert shown is not None, "a row stands for at least one estimate"
        if row.slice is not None or shown.kind == "census":
            continue
        if shown.task != task:
            task = shown.task
            table.add_row(Text(task, "bold"))
        cells = _estimate_cells(row, shown, paired=paired, wide=wide)
        if paired and not baseline:
            del cells[2]
        table.add_row(*cells)
    return table


def _estimate_cells(row: EstimateRow, shown: Estimate, *, paired: bool, wide: bool) -> list[Text]:
    cells = [Text(f"  {shown.metric}"), _value(row.candidate)]
    if paired:
        cells += [_value(row.baseline, interval=wide), _difference(row)]
    lost = missing_samples(shown.counts)
    cells.append(Text(f"{shown.counts.scored:,}", "yellow" if lost else ""))
    if wide:
        if paired:
            cells.append(Text(flips(row.comparison), "dim"))
        alone = row.comparison.unpaired if row.comparison else 0
        notes = [lost, f"{alone:,} unpaired" if alone else ""]
        told = "".join(f", {note}" for note in notes if note)
        cells.append(Text.assemble(shown.unit, (told, "yellow")))
    return cells


def _value(estimate: Estimate | None, *, interval: bool = True) -> Text:
    if estimate is None:
        return Text("–")
    if not interval:
        return Text(number(estimate.value))
    return _with_interval(Text(number(estimate.value)), estimate.interval)


def _with_interval(value: Text, interval: Interval | None) -> Text:
    """Return a number with its interval; one that has none says so."""
    return Text.assemble(value, " ", (span(interval) or NO_INTERVAL, "dim"))


def _difference(row: EstimateRow) -> Text:
    held = row.comparison
    if held is None or held.status != "compared":
        return Text(held.status if held else "–", "yellow")
    style = {"better": "green", "worse": "red", "": ""}[row.direction]
    return _with_interval(Text(signed(held.difference), style), held.interval)


def outcome_list(verdict: Verdict) -> Table:
    """Return every outcome with its rule and its reason, what needs attention first."""
    table = Table.grid(padding=(0, 2))
    table.title, table.title_justify = "Rules", "left"
    table.add_column(no_wrap=True)
    table.add_column()
    alike: dict[tuple[str, str, str], list[Outcome]] = {}
    for outcome in ordered_outcomes(verdict):
        alike.setdefault((outcome.gate, outcome.rule, outcome.counts_as), []).append(outcome)
    for outcomes in alike.values():
        most = MOST_PASSED if outcomes[0].counts_as == "pass" else MOST_OUTCOMES
        for outcome in outcomes[:most]:
            severity = "" if outcome.severity == "block" else f" ({outcome.severity})"
            told = Text.assemble(
                (outcome.rule, "bold"), f"{severity}: {outcome.required}\n", _reason(outcome)
            )
            table.add_row(_answer(outcome), told)
        if (more := len(outcomes) - most) > 0:
            told = Text.assemble(
                (outcomes[0].rule, "bold"), f": {more:,} more; verdict.json has each"
            )
            table.add_row(_answer(outcomes[0]), told)
    return table


def _answer(outcome: Outcome) -> Text:
    style = STYLES[outcome.counts_as]
    if outcome.severity != "block" and outcome.counts_as not in ("pass", "waived"):
        style = "yellow"
    return Text(f"{MARKS[outcome.counts_as]} {outcome.counts_as}", style)


def _reason(outcome: Outcome) -> Text:
    counted = "" if outcome.counts_as == outcome.status else f" ({outcome.status})"
    adjusted = diagnostic_p(outcome) and f"; {diagnostic_p(outcome)}"
    why = f" {outcome.why}" if outcome.why and outcome.counts_as != "pass" else ""
    told = Text(
        f"{outcome.reason}{counted}{adjusted}.{why}", "dim" if outcome.counts_as == "pass" else ""
    )
    if outcome.waiver is not None:
        told.append(f"\n{_sentence(waiver_in_words(outcome))}", STYLES["waived"])
    return told


def _families(verdict: Verdict) -> Iterator[Text]:
    for family in verdict.families:
        name = family.family.replace("_", " ")
        yield Text.assemble((family.gate, "bold"), f" ({name}): {_sentence(family.told)}")


def _noted(notes: Iterable[str], style: str) -> Iterator[Text]:
    return (Text(_sentence(note), style) for note in notes)


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def verdict_line(verdict: Verdict) -> Text:
    """Return the verdict in one sentence."""
    return Text.assemble(
        (f" {verdict.status.upper()} ", f"{STYLES[verdict.status]} reverse"), " ", verdict.reason
    )


def drawing(scorecard: Scorecard, verdict: Verdict, width: int) -> RenderableType:
    """Return everything a run prints: numbers, rules, verdict last, where the eye ends."""
    noted = list(_noted(run_notes(scorecard), "dim"))
    decided = [*_families(verdict), *_noted(verdict.notes, "yellow")]
    weights = weights_drawing(scorecard, width)
    sampled = any(estimate.kind != "census" for estimate in scorecard.estimates)
    table: list[RenderableType] = [scorecard_table(scorecard, width), ""]
    return Group(
        *weights,
        *(table if sampled or not weights else ()),
        *_apart(noted),
        outcome_list(verdict),
        "",
        *_apart(decided),
        verdict_line(verdict),
    )


def _apart(lines: Sequence[Text]) -> Iterator[Text]:
    """Yield lines with an empty one behind them; nothing for none."""
    yield from lines
    if lines:
        yield Text()
