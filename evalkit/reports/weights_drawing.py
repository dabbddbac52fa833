"""What weights told, drawn for a terminal. Returns drawings; only the command line prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from evalkit.records.scorecard import Scorecard
from evalkit.reports.weights import (
    NONE,
    SECTIONS,
    CheckRow,
    WeightsView,
    quiet_in_words,
    weights_views,
)

WIDE: Final = 118
"""From this many columns on, measures are explained, and modules have every column."""
COLUMNS: Final[Mapping[str, str]] = {
    "drift": "drift",
    "cosine": "cosine",
    "norm_change": "scale change\nmedian log10 ‖W‖²",
    "stable_rank_ratio": "stable rank over\nnoise's, max",
    "alpha": "alpha (advisory)\nmean [interval]",
}
"""Measure → heading of its column in the table by module."""
IMPORTANT: Final = (
    "Largest shares of the matrices' norms (FROG's importance, an unvalidated heuristic)"
)
NARROW: Final = ("drift", "cosine", "norm_change", "alpha")


def weights_drawing(scorecard: Scorecard, width: int) -> list[RenderableType]:
    """Return what each task that reads weights told; nothing where there is none."""
    drawn = [Group(*_of_task(view, width)) for view in weights_views(scorecard)]
    if scorecard.not_run:
        told = (
            f"Stopped before anything was asked, because the weights fail: {', '.join(scorecard.not_run)} did not run; "
            "--keep-going runs all the same."
        )
        return [*drawn, Text(told, "bold yellow"), Text()]
    return list(drawn)


def _of_task(view: WeightsView, width: int) -> Iterator[RenderableType]:
    yield Text.assemble(("Weights", "italic"), ", task ", (view.task, "bold"), f": {view.title()}")
    yield Text()
    for row in view.checks():
        yield from _check(row)
    for complete, said, style in (
        (True, "✓ nothing found by ", "green"),
        (False, "? nothing found in what could be measured by ", "yellow"),
    ):
        if quiet := view.quiet_checks(complete=complete):
            yield Text.assemble((said, style), ("; ".join(quiet_in_words(quiet)) + ".", "dim"))
    for told in view.unread():
        yield Text(f"? {_ended(told)}", "yellow")
    for told in view.not_there():
        yield Text(f"? {told}.", "yellow")
    if view.measured and not view.has_base:
        yield Text(view.why_no_base(), "yellow")
    if view.has_tensors:
        yield Text(f"\n{view.modules_title()}", "italic")
        yield _modules(view, width)
        yield Text()
        for title, lines in (("Moved most", view.worst()), (IMPORTANT, view.important())):
            if lines:
                yield Text(title, "italic")
                yield from (Padding(Text(line), (0, 0, 0, 2), expand=False) for line in lines)
                yield Text()
        yield from _numbers(view, width)


def _check(row: CheckRow) -> Iterator[RenderableType]:
    """Yield a check with its findings in sentences."""
    mark, style = ("✗", "bold red") if row.fault else ("!", "yellow")
    whose = "" if row.model == "candidate" else " in the baseline"
    hint = ", advisory" if row.advisory else ""
    count = len(row.told) + row.more
    yield Text.assemble(
        (f"{mark} {row.check}", style), f"{whose}: {count:,} found ({row.meaning}{hint})"
    )
    yield from (Padding(Text(_ended(told)), (0, 0, 0, 4), expand=False) for told in row.told)
    if row.more:
        yield Text(f"    and {row.more:,} more", "dim")


def _modules(view: WeightsView, width: int) -> RenderableType:
    """Return the tensors by what they do in the model."""
    shown = [name for name in COLUMNS if width >= WIDE or name in NARROW]
    if not view.has_base:
        shown = ["stable_rank_ratio", "alpha"]
    if not view.has_alpha:
        shown.remove("alpha")
    table = _table()
    table.add_column("module", no_wrap=True)
    table.add_column("tensors", justify="right", no_wrap=True)
    for name in shown:
        table.add_column(Text(COLUMNS[name]), justify="right", no_wrap=True)
    for row in view.modules(shown):
        style = "bold" if row.name == "all" else ""
        table.add_row(
            Text(row.name, style), Text(f"{row.tensors:,}"), *map(Text, row.cells.values())
        )
    return table


def _numbers(view: WeightsView, width: int) -> Iterator[RenderableType]:
    """Yield the numbers over the whole model, section by section."""
    for title, needs in SECTIONS.items():
        rows = view.measures(needs)
        if not rows:
            continue
        paired = any(row.baseline != NONE for row in rows)
        table = _table()
        table.add_column("measure", no_wrap=True)
        table.add_column("candidate", overflow="fold")
        if paired:
            table.add_column("baseline", overflow="fold")
            table.add_column("difference", justify="right", no_wrap=True)
        if width >= WIDE:
            table.add_column("what it is")
        for row in rows:
            cells = [row.measure.name, row.candidate]
            cells += [row.baseline, row.difference] if paired else []
            cells += [row.measure.meaning] if width >= WIDE else []
            *numbers, last = map(Text, cells)
            if width >= WIDE:
                last.stylize("dim")
            table.add_row(*numbers, last)
        yield Text(title, "italic")
        yield table
        yield Text()


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))


def _ended(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
