"""Every number of every slice, what is shown worse first."""

from __future__ import annotations

from typing import Final

from evalkit.records.scorecard import Scorecard
from evalkit.reports.page.section import Section, fragment
from evalkit.reports.page.sections.estimates import APART, attention, row_of
from evalkit.reports.reported import FinishedRun
from evalkit.reports.view import EstimateRow, estimate_rows

MOST_ROWS: Final = 500
"""Slices shown; the scorecard has all."""


def section(run: FinishedRun) -> Section | None:
    """Return the numbers of slices; None where the suite has none."""
    every, shown = _sliced(run.scorecard), shown_slices(run.scorecard)
    if not shown:
        return None
    rows = [(row_of(each), *_parts(each)) for each in shown]
    worse = sum(each.direction == "worse" for each in every)
    paired = "baseline" in run.scorecard.provenance.models
    body = fragment(
        "slices.html",
        rows=rows,
        left=len(every) - len(shown),
        paired=paired,
        chance=_by_chance(every) if paired else "",
    )
    return Section(
        "slices",
        "Slices",
        body,
        told="The same numbers on parts of the samples; what is shown worse stands first.",
        count=f"{worse:,} worse" if worse else f"{len(every):,}",
    )


def shown_slices(scorecard: Scorecard) -> list[EstimateRow]:
    """Return the slices that have a row, what needs attention first."""
    return sorted(_sliced(scorecard), key=attention)[:MOST_ROWS]


def _sliced(scorecard: Scorecard) -> list[EstimateRow]:
    rows = estimate_rows(scorecard)
    return [row for row in rows if row.slice is not None and row.told.kind not in APART]


def _parts(row: EstimateRow) -> tuple[str, str]:
    field, _, value = (row.slice or "").partition("=")
    return field, value


def _by_chance(rows: list[EstimateRow]) -> str:
    """Return how many slices would differ though nothing changed, in a sentence; empty where none was compared."""
    levels = [
        row.comparison.interval.level for row in rows if row.comparison and row.comparison.interval
    ]
    if not levels:
        return ""
    expected = sum(1 - level for level in levels)
    return (
        f"Each of these {len(levels):,} intervals stands for itself: were both models equally good everywhere, about "
        f"{max(1, round(expected)):,} would still show a difference. Rules decide; this table only says where to look."
    )
