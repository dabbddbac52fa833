"""Two runs side by side for a terminal. Returns drawings; only the command line prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from evalkit.records.scorecard import Comparison, Estimate
from evalkit.reports.compared_runs import ComparedRuns, Side
from evalkit.reports.flip_ledger import ledger_drawing, p_text, printable
from evalkit.reports.terminal import WIDE
from evalkit.reports.view import number, signed, span

MOST_DIFFERING = 20
"""Lines of what differs; ``--json`` has them all."""


def comparison_drawing(compared: ComparedRuns, width: int) -> RenderableType:
    """Return everything that a comparison prints: who, what differs, numbers, differences, flips."""
    return Group(*_parts(compared, width))


def _parts(compared: ComparedRuns, width: int) -> Iterator[RenderableType]:
    yield _sides(compared)
    yield _differing(compared)
    yield _estimates(compared)
    yield from _differences(compared.comparisons, wide=width >= WIDE)
    yield from _not_compared(compared.comparisons)
    for ledger in compared.ledgers:
        yield ledger_drawing(ledger, width)


def _sides(compared: ComparedRuns) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    for label, held in (("baseline", compared.baseline), ("candidate", compared.candidate)):
        grid.add_row(Text(label, "bold"), _side(held))
    return grid


def _side(held: Side) -> Text:
    model = printable(held.model) or "a model without a name"
    run = (
        f"the {held.role} of {printable(held.run)}, finished {held.finished[:16].replace('T', ' ')}"
    )
    return Text.assemble(model, (f"  {run}", "dim"))


def _differing(compared: ComparedRuns) -> RenderableType:
    if not compared.differs:
        return Text(
            "\nThe same suite, data, model, engine, versions and hardware: whatever differs below is chance.\n"
        )
    table = _table("What differs")
    table.add_column("")
    table.add_column("baseline", overflow="fold")
    table.add_column("candidate", overflow="fold")
    for held in compared.differs[:MOST_DIFFERING]:
        table.add_row(
            *(Text(printable(text) or "–") for text in (held.what, held.baseline, held.candidate))
        )
    more = len(compared.differs) - MOST_DIFFERING
    if more > 0:
        table.add_row(Text(f"and {more} more", "dim"))
    return table


def _estimates(compared: ComparedRuns) -> RenderableType:
    table = _table("Estimates, each on all the samples its model was scored on")
    table.add_column("task, metric", no_wrap=True)
    table.add_column("baseline", justify="right", no_wrap=True)
    table.add_column("candidate", justify="right", no_wrap=True)
    table.add_column("n", justify="right")  # two numbers stand below each other where room is short
    by_name: dict[tuple[str, str], dict[str, Estimate]] = {}
    for estimate in compared.estimates:
        if estimate.slice is None:
            by_name.setdefault((estimate.task, estimate.metric), {})[estimate.model] = estimate
    for task, metric in _headed(table, by_name):
        held = by_name[task, metric]
        sizes = dict.fromkeys(f"{e.counts.scored:,}" for e in _both(held))
        table.add_row(
            Text(f"  {metric}"),
            *(_value(held.get(role)) for role in ("baseline", "candidate")),
            Text(", ".join(sizes)),
        )
    return table


def _both(held: dict[str, Estimate]) -> Iterator[Estimate]:
    return (held[role] for role in ("baseline", "candidate") if role in held)


def _value(estimate: Estimate | None) -> Text:
    if estimate is None:
        return Text("–")
    return Text.assemble(number(estimate.value), " ", (span(estimate.interval), "dim"))


def _differences(comparisons: Sequence[Comparison], *, wide: bool) -> Iterator[RenderableType]:
    """Yield the table of what was compared; nothing where nothing was."""
    held = {
        (c.task, c.metric): c for c in comparisons if c.slice is None and c.status == "compared"
    }
    if not held:
        return
    lost = any(c.unpaired for c in held.values())
    table = _table("Differences, candidate − baseline, paired by sample")
    table.add_column("task, metric", no_wrap=True)
    for name in ("difference", "p", "pairs", *(["unpaired"] if lost else ())):
        table.add_column(name, justify="right", no_wrap=True)
    if wide:
        table.add_column("test")
    for name in _headed(table, held):
        cells = _difference_cells(held[name])
        if lost:
            cells.append(Text(f"{held[name].unpaired:,}", "yellow"))
        table.add_row(*cells, *([Text(held[name].test, "dim")] if wide else ()))
    yield table
    tests = dict.fromkeys(c.test for c in held.values() if c.test)
    if tests and not wide:
        which = "; a wider terminal tells which" if len(tests) > 1 else ""
        yield Text(f"p by {', '.join(tests)}{which}.", "dim")


def _difference_cells(held: Comparison) -> list[Text]:
    style = {"better": "green", "worse": "red", "": ""}[_direction(held)]
    return [
        Text(f"  {held.metric}"),
        Text.assemble((signed(held.difference), style), " ", (span(held.interval), "dim")),
        Text(p_text(held.p_value)),
        Text(f"{held.pairs:,}"),
    ]


def _direction(held: Comparison) -> str:
    if held.interval is None or held.interval.low <= 0 <= held.interval.high:
        return ""
    return "better" if (held.interval.low > 0) == (held.better == "higher") else "worse"


def _not_compared(comparisons: Sequence[Comparison]) -> Iterator[Text]:
    """Yield each reason why something could not be compared, once, with what it holds for."""
    whole = [held for held in comparisons if held.slice is None]
    numbers = Counter(held.task for held in whole)
    reasons: dict[tuple[str, str], list[str]] = {}
    for held in whole:
        if held.status != "compared":
            reasons.setdefault((held.task, held.reason), []).append(held.name)
    for (task, reason), names in reasons.items():
        every = len(names) == numbers[task] > 1
        told = f"{task}, all {len(names)} numbers" if every else ", ".join(names)
        yield Text.assemble(("Not compared: ", "yellow"), f"{told}: {reason}.")


def _headed(table: Table, names: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield each task and metric; a task's first is preceded by a row with its name."""
    last = None
    for task, metric in names:
        if task != last:
            last = task
            table.add_row(Text(task, "bold"))
        yield task, metric


def _table(title: str) -> Table:
    return Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title=title,
        title_justify="left",
    )
