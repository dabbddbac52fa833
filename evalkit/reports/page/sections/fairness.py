"""Groups of people and the gaps between them: what each group got, how wide the gaps are, what chance would show.

The gaps that stand first are those of the terminal's report (``reports.fairness``); all others follow in one table.
Every number is the scorecard's own. Groups' names are values of a field, so untrusted text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from evalkit.records.scorecard import Cell, Comparison, Disparity, Estimate, Scorecard
from evalkit.records.verdict import Outcome, Verdict
from evalkit.reports.clean import printable
from evalkit.reports.fairness import Block, GapRow, blocks, group_name, short_name
from evalkit.reports.fairness_limits import not_shown
from evalkit.reports.flip_ledger import p_text
from evalkit.reports.page.interval_plot import BREAK, Mark, interval_plot
from evalkit.reports.page.section import Plot, Section, fragment
from evalkit.reports.reported import FinishedRun
from evalkit.reports.view import number, ordered_outcomes, signed, span

MOST_GROUPS: Final = 100
"""Groups of a block in its table."""
MOST_MEASURES: Final = 6
"""Measures of a block that are drawn and tabled."""
MOST_ROWS: Final = 500
"""Rows of the table of all gaps."""
LONGEST_LABEL: Final = 20
"""Characters of a group's name beside its plot."""
NONE_AT: Final = {"difference": 0.0, "ratio": 1.0}
"""Form of a gap → its value where groups do not differ."""


@dataclass(frozen=True, slots=True)
class GroupCell:
    """What a table tells of one group under one measure."""

    n: str
    value: str
    interval: str
    baseline: str
    left_out: bool


@dataclass(frozen=True, slots=True)
class GroupLine:
    """One group."""

    name: str
    cells: tuple[GroupCell, ...]
    missing: str
    """Planned samples without a score."""


@dataclass(frozen=True, slots=True)
class GapLine:
    """One gap of one model."""

    name: str
    """The gap's name."""
    where: str
    """Task, metric and field."""
    model: str
    form: str
    observed: str
    interval: str
    expected: str
    corrected: str
    p: str
    p_adjusted: str
    low: str
    high: str
    measure: str
    """Of which measure the ends are, where the gap joins several."""
    rules: tuple[tuple[str, str], ...] = ()
    """(what it counts as, rule) of each rule on it."""


@dataclass(frozen=True, slots=True)
class ChangeLine:
    """How a gap changed from the baseline's."""

    name: str
    difference: str
    interval: str
    pairs: str
    direction: str


@dataclass(frozen=True, slots=True)
class DrawnMeasure:
    """A plot of each group's number."""

    measure: str
    name: str
    plot: str
    alt: str


@dataclass(frozen=True, slots=True)
class BlockPart:
    """One metric of one task between the groups of one field, as its fragment shows it."""

    id: str
    """Beginning of the names of its tables and plots."""
    title: str
    by: str
    paired: bool
    level: str
    """Confidence of the gaps' intervals, in words."""
    measures: tuple[str, ...]
    more_measures: int
    groups: tuple[GroupLine, ...]
    more_groups: int
    gaps: tuple[GapLine, ...]
    more_gaps: int
    changes: tuple[ChangeLine, ...]
    notes: tuple[str, ...]
    """What keeps numbers from being there, or from being trusted blindly."""
    gap_plot: str
    gap_alt: str
    drawn: tuple[DrawnMeasure, ...]


def section(run: FinishedRun) -> Section | None:
    """Return the gaps between groups; None where no task declares groups."""
    scorecard = run.scorecard
    if not scorecard.disparities:
        return None
    verdict = run.verdict
    read = [outcome.estimate for outcome in ordered_outcomes(verdict)] if verdict else []
    shown, _ = blocks(scorecard, read)
    rules = _rules(verdict)
    parts, plots = [], list[Plot]()
    for place, block in enumerate(shown):
        part = _part(block, f"fairness-{place}", rules)
        parts.append(part)
        plots += _plots(block, part)
    every, more = _every_gap(scorecard, rules)
    failed = {o.estimate for o in (verdict.outcomes if verdict else ()) if o.counts_as == "fail"}
    count = sum(d.name in failed for d in scorecard.disparities if d.model == "candidate")
    return Section(
        "fairness",
        "Fairness",
        fragment(
            "fairness.html",
            blocks=parts,
            every=every,
            more=more,
            limits=not_shown(scorecard, shown),
        ),
        told="Groups of people, and the gaps between them.",
        count=f"{count} failed" if count else "",
        plots=tuple(plots),
    )


def _rules(verdict: Verdict | None) -> dict[str, tuple[tuple[str, str], ...]]:
    """Return estimate → (what it counts as, rule) of each rule on it."""
    found: dict[str, list[Outcome]] = {}
    for outcome in verdict.outcomes if verdict else ():
        found.setdefault(outcome.estimate, []).append(outcome)
    return {name: tuple((o.counts_as, o.rule) for o in held) for name, held in found.items()}


def _part(block: Block, plot: str, rules: dict[str, tuple[tuple[str, str], ...]]) -> BlockPart:
    measures, (groups, names) = block.measures, _groups(block)
    title = printable(f"{block.task}/{block.metric}")
    gaps = [line for row in block.rows for line in _gap_lines(block, row, rules)]
    by = printable(block.by)
    ends = "; ".join(
        f"{line.name} {line.observed} {line.interval}" for line in gaps if line.model == "candidate"
    )
    return BlockPart(
        id=plot,
        title=title,
        by=by,
        paired=block.paired,
        level=_level(block),
        measures=tuple(short_name(m, block.metric) for m in measures[:MOST_MEASURES]),
        more_measures=max(0, len(measures) - MOST_MEASURES),
        groups=tuple(groups),
        more_groups=names - len(groups),
        gaps=tuple(gaps),
        more_gaps=block.more,
        changes=tuple(_change(row.name, row.change) for row in block.rows if row.change),
        notes=tuple(_notes(block)),
        gap_plot=f"{plot}-gaps" if any(e for e, _ in _estimates(block)) else "",
        gap_alt=f"Gaps of {title} by {by}, with their intervals: {ends}.",
        drawn=tuple(
            DrawnMeasure(
                measure,
                short_name(measure, block.metric),
                f"{plot}-groups-{number_}",
                f"{short_name(measure, block.metric)} of {title} for each {by}, with its interval; the table has "
                "every number.",
            )
            for number_, measure in enumerate(measures[:MOST_MEASURES])
        ),
    )


def _notes(block: Block) -> Iterator[str]:
    for reason, groups in block.left_out().items():
        yield f"† No part of a gap, {printable(reason)}: {_some(groups)}."
    if lost := block.without_score():
        told = _some([f"{group_name(group)} {n:,}" for group, n in lost.items()], named=True)
        yield f"Samples without a score: {told}. Each may stand for anything."
    for told in (*block.not_estimable(), *block.not_compared(), *block.warnings()):
        yield f"{told}."


def _some(groups: Sequence[str], *, named: bool = False) -> str:
    told = list(groups) if named else [group_name(group) for group in groups]
    more = len(told) - 10
    return ", ".join(told[:10]) + (f" and {more:,} more" if more > 0 else "")


def _groups(block: Block) -> tuple[list[GroupLine], int]:
    """Return the groups in the order of the scorecard, those at the ends of gaps first where they are too many."""
    ours, theirs = block.cells("candidate"), block.cells("baseline")
    held = [*ours.values(), *theirs.values()]
    names = list(dict.fromkeys(group for cells in held for group in cells))
    kept = set(names)
    if len(names) > MOST_GROUPS:
        first = [*block.groups()[0], *names]
        kept = set(list(dict.fromkeys(first))[:MOST_GROUPS])
    lost = block.without_score()
    lines = [
        GroupLine(
            group_name(name),
            tuple(
                _cell(ours.get(m, {}).get(name), theirs.get(m, {}).get(name))
                for m in block.measures[:MOST_MEASURES]
            ),
            f"{lost.get(name, 0):,}",
        )
        for name in names
        if name in kept
    ]
    return lines, len(names)


def _cell(cell: Cell | None, baseline: Cell | None) -> GroupCell:
    theirs = number(baseline.value if baseline else None)
    if cell is None:
        return GroupCell("0", "–", "", theirs, left_out=False)
    return GroupCell(
        f"{cell.n:,}", number(cell.value), span(cell.interval), theirs, bool(cell.left_out)
    )


def _gap_lines(
    block: Block, row: GapRow, rules: dict[str, tuple[tuple[str, str], ...]]
) -> Iterator[GapLine]:
    held = ((row.candidate, row.candidate_estimate), (row.baseline, row.baseline_estimate))
    for disparity, estimate in held:
        if disparity is not None:
            yield _gap_line(
                disparity, estimate, block.metric, rules.get(disparity.name, ()), row.name
            )


def _gap_line(
    disparity: Disparity,
    estimate: Estimate | None,
    metric: str,
    rules: tuple[tuple[str, str], ...],
    name: str,
) -> GapLine:
    known = disparity.value is not None
    several = len({cell.measure for cell in disparity.cells}) > 1
    of = short_name(disparity.measure, metric) if several and disparity.measure else ""
    equal = disparity.low is not None and disparity.low == disparity.high
    low, high = (
        "all are equal" if equal else "–" if group is None else group_name(group)
        for group in (disparity.low, disparity.high)
    )
    return GapLine(
        name=printable(name),
        where=printable(f"{disparity.task}/{metric} by {disparity.by}"),
        model=disparity.model,
        form=disparity.form,
        observed=number(disparity.value) if known else "not estimable",
        interval=(span(estimate.interval) or "no interval") if known and estimate else "",
        expected=number(disparity.expected),
        corrected=number(disparity.corrected),
        p=p_text(disparity.p_value),
        p_adjusted=p_text(disparity.p_adjusted),
        low=low,
        high=high,
        measure=of,
        rules=rules if disparity.model == "candidate" else (),
    )


def _change(name: str, change: Comparison) -> ChangeLine:
    if change.status != "compared":
        return ChangeLine(name, change.status, "", f"{change.pairs:,}", "")
    held, word = change.interval, "same"
    if held is not None and not held.low <= 0 <= held.high:
        rising = held.low > 0
        word = "worse" if rising == (change.better == "lower") else "better"
    interval = span(held) or "no interval"
    return ChangeLine(name, signed(change.difference), interval, f"{change.pairs:,}", word)


def _level(block: Block) -> str:
    held = (e.interval.level for e, _ in _estimates(block) if e.interval is not None)
    level = next(held, None)
    return "" if level is None else f"{100 * level:.4g} %"


def _estimates(block: Block) -> list[tuple[Estimate, GapRow]]:
    return [
        (estimate, row)
        for row in block.rows
        for estimate in (row.candidate_estimate, row.baseline_estimate)
        if estimate is not None and estimate.value is not None
    ]


def _plots(block: Block, part: BlockPart) -> Iterator[Plot]:
    if part.gap_plot:
        marks = [
            Mark(
                printable(row.name),
                estimate.model,
                estimate.value,
                estimate.interval,
                _expected(row, estimate.model),
            )
            for estimate, row in _estimates(block)
        ]
        forms = {row.shown.form for row in block.rows}
        at = NONE_AT[forms.pop()] if len(forms) == 1 else None
        yield Plot(
            part.gap_plot,
            interval_plot(marks, "gap between groups", zero=True, line=at),
            part.gap_alt,
        )
    for drawn in part.drawn:
        yield Plot(
            drawn.plot, interval_plot(_group_marks(block, drawn.measure), drawn.name), drawn.alt
        )


def _expected(row: GapRow, model: str) -> float | None:
    held = row.candidate if model == "candidate" else row.baseline
    return None if held is None else held.expected


def _group_marks(block: Block, measure: str) -> list[Mark]:
    """Return the marks of one measure, of the groups that the terminal shows too."""
    ours, theirs = (block.cells(model).get(measure, {}) for model in ("candidate", "baseline"))
    marks = []
    for group in block.groups()[0]:
        shown = ours.get(group) or theirs.get(group)
        if shown is None:
            continue
        name = group_name(group)
        short = name if len(name) <= LONGEST_LABEL else f"{name[: LONGEST_LABEL - 1]}…"
        label = f"{short}{BREAK}n = {shown.n:,}{' †' if shown.left_out else ''}"
        for model, cell in (("candidate", ours.get(group)), ("baseline", theirs.get(group))):
            if cell is not None:
                marks.append(Mark(label, model, cell.value, cell.interval))
    return marks


def _every_gap(
    scorecard: Scorecard, rules: dict[str, tuple[tuple[str, str], ...]]
) -> tuple[list[GapLine], int]:
    """Return every gap of every task, and how many are not among them."""
    estimates = {(e.model, e.name): e for e in scorecard.estimates if e.kind == "gap"}
    held = scorecard.disparities[:MOST_ROWS]
    lines = []
    for disparity in held:
        metric = disparity.metric.partition(".")[0]
        estimate = estimates.get((disparity.model, disparity.name))
        name = short_name(disparity.metric, metric)
        lines.append(_gap_line(disparity, estimate, metric, rules.get(disparity.name, ()), name))
    return lines, len(scorecard.disparities) - len(held)
