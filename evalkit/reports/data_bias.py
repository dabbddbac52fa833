"""What data sets hold, drawn for a terminal: groups, their labels, and what a reader of a gap should know."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from evalkit.fairness.data_bias import DataReport, GroupCounts, LabelGap
from evalkit.reports.clean import printable
from evalkit.reports.fairness import group_name
from evalkit.reports.flip_ledger import p_text
from evalkit.reports.view import number

MOST_GROUPS = 20
"""Groups shown of one field; the rest is counted."""
MOST_LABELS = 4
"""Labels that have a column; of more, those that depend most on the group."""
MOST_COUNTED = 8
"""Labels whose rows the first line counts."""


def data_lines(report: DataReport) -> Iterator[RenderableType]:
    """Yield the parts of one task's report, from top to bottom."""
    counted = [f"{printable(label)} {n:,}" for label, n in report.labels.items()]
    more = ["…"] if len(counted) > MOST_COUNTED else []
    labels = ", ".join([*counted[:MOST_COUNTED], *more])
    title = f"{report.task}: {report.rows:,} rows" + (f" ({labels})" if labels else "")
    yield Text(title, style="bold")
    if not report.groups:
        yield Text(
            "  no groups declared: 'groups: {by: [field]}' on the task compares them", style="dim"
        )
    for found in report.groups:
        yield _table(found)
        if (rest := len(found.label_gaps) - len(_shown(found))) > 1:
            yield Text(
                f"  and {rest} more labels, which depend less on {printable(found.by)}", "dim"
            )
    for finding in report.findings:
        yield Text(f"  ! {printable(finding)}", style="yellow")
    if not report.findings:
        yield Text("  nothing found that would make a gap of its own", style="dim")
    yield Text("")


def _shown(found: GroupCounts) -> list[LabelGap]:
    """Return the labels that have a column, in their order: of two one, since the other's share is what is left."""
    gaps = list(found.label_gaps)
    if len(gaps) == 2:
        return gaps[1:]
    most = sorted(gaps, key=lambda gap: gap.p_value)[:MOST_LABELS]
    return [gap for gap in gaps if gap in most]


def _table(found: GroupCounts) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column(Text(printable(found.by)), overflow="fold")
    table.add_column("rows", justify="right", no_wrap=True)
    shown = _shown(found)
    for gap in shown:
        table.add_column(Text(f"label {group_name(gap.label)}"), justify="right", overflow="fold")
    for group, n in list(found.rows.items())[:MOST_GROUPS]:
        cells = [
            f"{100 * gap.shares[group]:.1f} %" if group in gap.shares else "too few"
            for gap in shown
        ]
        table.add_row(Text(group_name(group)), f"{n:,}", *cells)
    if (more := len(found.rows) - MOST_GROUPS) > 0:
        table.add_row(Text(f"and {more} more", style="dim"), "", *("" for _ in shown))
    if found.missing:
        table.add_row(Text("(missing)", style="dim"), f"{found.missing:,}", *("" for _ in shown))
    if shown:
        table.add_section()
        table.add_row(Text("gap"), "", *(number(gap.gap) for gap in shown))
        table.add_row(Text("by chance", "dim"), "", *(number(gap.expected) for gap in shown))
        table.add_row(Text("Holm p", "dim"), "", *(p_text(gap.p_value) for gap in shown))
    return table
