"""The verdict and the scorecard as tables for a terminal. Returns drawings; only the command line prints."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from evalkit.records.scorecard import Estimate, Interval, Scorecard
from evalkit.records.verdict import Outcome, Verdict
from evalkit.reports.clean import harmless, printable
from evalkit.reports.fairness_drawing import fairness_drawing
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
"""So many reasons are told of a rule with one answer on many estimates: one on every tensor has thousands."""
MOST_PASSED = 3
"""So many where they passed."""
_WORDS = re.compile(r"(?<=[._])|(?=@)")
"""Where a name may be broken."""
LONGEST_LINE = 21
"""Characters of a name that stand on one line where there is least room."""
MOST_REASONS = 4
"""So many reasons are told why samples of a task have no score."""
WIDE = 118
"""From this many columns on, units, flips and the baseline's intervals are shown too; the difference has its interval
anywhere."""

NO_INTERVAL = "(no interval)"
"""Beside a number whose interval cannot be known; the scorecard's ``warnings`` tell why."""


def scorecard_table(scorecard: Scorecard, width: int) -> Table:
    """Return the estimates over all samples, task by task, candidate beside baseline; weights have tables of their own.

    A number is never cut: where there is no room, units go, then flips and the baseline's intervals, then the
    baseline's values (the difference tells them), and then names take several lines.
    """
    wide = width >= WIDE
    table = Table()
    for shown in (
        _Shown(flips=wide, units=wide),
        _Shown(flips=wide),
        _Shown(),
        _Shown(baseline=False),
        _Shown(baseline=False, whole_names=False),
    ):
        table = _scorecard_table(scorecard, shown)
        if Console(width=10 * WIDE).measure(table).maximum <= width:
            break
    return table


@dataclass(frozen=True, slots=True)
class _Shown:
    """What a scorecard's table shows."""

    flips: bool = False
    """How many samples changed, and the baseline's intervals."""
    units: bool = False
    """The units, and what was lost."""
    baseline: bool = True
    """The baseline's values."""
    whole_names: bool = True
    """Names on one line."""


def _scorecard_table(scorecard: Scorecard, show: _Shown) -> Table:
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
        if show.baseline:
            table.add_column("baseline", justify="right", no_wrap=True)
        table.add_column("difference", justify="right", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    if show.flips and paired:
        table.add_column("flips", justify="right", no_wrap=True)
    if show.units:
        table.add_column("unit", overflow="fold")
    task = None
    for row in (row for row in estimate_rows(scorecard) if row.of_all_samples):
        shown = row.told
        if shown.task != task:
            task = shown.task
            table.add_row(Text(task, "bold"))
        table.add_row(*_estimate_cells(row, shown, show, paired=paired))
    return table


def _estimate_cells(row: EstimateRow, shown: Estimate, show: _Shown, *, paired: bool) -> list[Text]:
    name = shown.metric if show.whole_names else in_lines(shown.metric)
    cells = [Text(f"  {name}"), _value(row.candidate)]
    if paired:
        cells += [_value(row.baseline, interval=show.flips)] if show.baseline else []
        cells.append(_difference(row))
    lost = missing_samples(shown.counts)
    cells.append(Text(f"{rests_on(shown):,}", "yellow" if lost else ""))
    if show.flips and paired:
        cells.append(Text(flips(row.comparison), "dim"))
    if show.units:
        alone = row.comparison.unpaired if row.comparison else 0
        notes = [lost, f"{alone:,} unpaired" if alone else ""]
        told = "".join(f", {note}" for note in notes if note)
        cells.append(Text.assemble(shown.unit, (told, "yellow")))
    return cells


def in_lines(name: str) -> str:
    r"""Return a long name on several lines, broken between its words.

    >>> in_lines("counterfactual_accuracy.difference.female")
    'counterfactual_\n    accuracy.difference.\n    female'
    >>> in_lines("decisions.equal_opportunity_difference@sex")
    'decisions.equal_\n    opportunity_\n    difference@sex'
    """
    lines = [""]
    for part in _WORDS.split(name):
        if lines[-1] and len(lines[-1]) + len(part) > LONGEST_LINE:
            lines.append("")
        lines[-1] += part
    return "\n    ".join(lines)


def rests_on(estimate: Estimate) -> int:
    """Return how many samples a number is over: of a true-positive rate those whose label is positive."""
    return estimate.counts.scored if estimate.n is None else estimate.n


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


def _lost(scorecard: Scorecard) -> Iterator[str]:
    """Yield what of a task has no score and why, model by model; a judge's and a reader's own reasons included."""
    for tally in scorecard.tasks:
        whose = f"{tally.task} of the {tally.model}"
        if tally.failures:
            yield f"{whose}: {_reasons(tally.failures, tally.planned, 'failed')}"
        alike: dict[str, list[str]] = {}
        for metric, reasons in tally.unscored.items():
            if reasons:
                told = _reasons(reasons, tally.planned, "without a score")
                alike.setdefault(told, []).append(metric)
        for told, metrics in alike.items():
            yield f"{whose}, {', '.join(metrics)}: {told}"


def _reasons(counts: Mapping[str, int], planned: int, what: str) -> str:
    """Return how many of the planned samples were lost, and how many for each reason, the most first."""
    ordered = sorted(counts.items(), key=lambda held: -held[1])
    told = ", ".join(f"{n:,} {printable(reason)}" for reason, n in ordered[:MOST_REASONS])
    more = "" if len(ordered) <= MOST_REASONS else ", …"
    return f"{sum(counts.values()):,} of {planned:,} samples {what} ({told}{more})"


def outcome_list(verdict: Verdict) -> Table:
    """Return every rule with its answers and their reasons, what needs attention first.

    A rule that gave one answer on several estimates is told once, with its reason for being, and has a line for each.
    """
    table = Table.grid(padding=(0, 2))
    table.title, table.title_justify = "Rules", "left"
    table.add_column(no_wrap=True)
    table.add_column()
    alike: dict[tuple[str, ...], list[Outcome]] = {}
    for outcome in ordered_outcomes(verdict):
        rule = outcome.gate, outcome.rule, outcome.severity, outcome.required, outcome.why
        alike.setdefault((*rule, outcome.counts_as), []).append(outcome)
    for outcomes in alike.values():
        table.add_row(_answer(outcomes[0]), Group(*_told(outcomes)))
    return table


def _told(outcomes: Sequence[Outcome]) -> Iterator[RenderableType]:
    """Yield a rule, the reasons of its answers, all of which count alike, why it is there, and who waived it."""
    first = outcomes[0]
    passed = first.counts_as == "pass"
    style = "dim" if passed else ""
    severity = "" if first.severity == "block" else f" ({first.severity})"
    yield Text.assemble((first.rule, "bold"), f"{severity}: {first.required}")
    why = "" if passed else first.why
    if len(outcomes) == 1:
        yield Text(" ".join(filter(None, (_reason(first), why))), style)
    else:
        most = MOST_PASSED if passed else MOST_OUTCOMES
        reasons = [_reason(outcome) for outcome in outcomes[:most]]
        if (more := len(outcomes) - most) > 0:
            reasons.append(f"{more:,} more; verdict.json has each")
        for reason in reasons:
            yield _item(Text(reason, style))
        if why:
            yield Text(why, style)
    for waiver in dict.fromkeys(waiver_in_words(outcome) for outcome in outcomes):
        if waiver:
            yield Text(_sentence(waiver), STYLES["waived"])


def _item(told: Text) -> Table:
    """Return one entry of a list, whose further lines stand under its first."""
    grid = Table.grid(padding=(0, 1))
    grid.add_row("·", told)
    return grid


def _answer(outcome: Outcome) -> Text:
    style = STYLES[outcome.counts_as]
    if outcome.severity != "block" and outcome.counts_as not in ("pass", "waived"):
        style = "yellow"
    return Text(f"{MARKS[outcome.counts_as]} {outcome.counts_as}", style)


def _reason(outcome: Outcome) -> str:
    counted = "" if outcome.counts_as == outcome.status else f" ({outcome.status})"
    adjusted = diagnostic_p(outcome) and f"; {diagnostic_p(outcome)}"
    return printable(f"{outcome.reason}{counted}{adjusted}.")


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
    scorecard, verdict = harmless(scorecard), harmless(verdict)
    noted = [*_noted(_lost(scorecard), "yellow"), *_noted(run_notes(scorecard), "dim")]
    decided = [*_families(verdict), *_noted(verdict.notes, "yellow")]
    weights = weights_drawing(scorecard, width)
    sampled = any(estimate.kind != "census" for estimate in scorecard.estimates)
    table: list[RenderableType] = [scorecard_table(scorecard, width), ""]
    return Group(
        *weights,
        *(table if sampled or not weights else ()),
        *fairness_drawing(scorecard, verdict, width),
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
