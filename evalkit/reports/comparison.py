"""Two runs side by side for a terminal. Returns drawings; only the command line prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from evalkit.records.scorecard import Comparison, Estimate
from evalkit.reports.clean import printable
from evalkit.reports.compared_runs import ComparedRuns, Side
from evalkit.reports.flip_ledger import ledger_drawing, p_text
from evalkit.reports.terminal import WIDE, in_lines, rests_on
from evalkit.reports.view import number, signed, span

MOST_DIFFERING = 20
"""Lines of what differs; ``--json`` has them all."""


def comparison_drawing(compared: ComparedRuns, width: int) -> RenderableType:
    """Return everything that a comparison prints: who, what differs, numbers, differences, flips."""
    return Group(*_parts(compared, width))


def _parts(compared: ComparedRuns, width: int) -> Iterator[RenderableType]:
    yield _sides(compared)
    yield _differing(compared)
    yield _fitting(partial(_estimates, compared), width)
    yield from _differences(compared.comparisons, width)
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


def _fitting(draw: Callable[[Callable[[str], str]], Table], width: int) -> Table:
    """Return the table with names on one line; on several where there is no room."""
    table = draw(str)
    room = Console(width=10 * WIDE).measure(table).maximum
    return table if room <= width else draw(in_lines)


def _estimates(compared: ComparedRuns, named: Callable[[str], str]) -> Table:
    table = _table("Estimates, each on all the samples its model was scored on")
    table.add_column("task, metric", overflow="fold")
    table.add_column("baseline", justify="right", no_wrap=True)
    table.add_column("candidate", justify="right", no_wrap=True)
    table.add_column("n", justify="right")  # two numbers stand below each other where room is short
    by_name: dict[tuple[str, str], dict[str, Estimate]] = {}
    for estimate in filter(_shown, compared.estimates):
        by_name.setdefault(_place(estimate), {})[estimate.model] = estimate
    for task, metric in _headed(table, by_name):
        held = by_name[task, metric]
        sizes = dict.fromkeys(f"{rests_on(e):,}" for e in _both(held))
        table.add_row(
            Text(f"  {named(printable(metric))}"),
            *(_value(held.get(role)) for role in ("baseline", "candidate")),
            Text(", ".join(sizes)),
        )
    return table


def _shown(item: Estimate | Comparison) -> bool:
    """Whether a number is over all samples, or a gap between groups of them; those of one slice are in the file."""
    return item.slice is None or "=" not in item.slice


def _place(item: Estimate | Comparison) -> tuple[str, str]:
    """Return the task, and the metric as rules write it: a gap stands before the field that names its groups."""
    return item.task, item.name.removeprefix(f"{item.task}/")


def _both(held: dict[str, Estimate]) -> Iterator[Estimate]:
    return (held[role] for role in ("baseline", "candidate") if role in held)


def _value(estimate: Estimate | None) -> Text:
    if estimate is None:
        return Text("–")
    return Text.assemble(number(estimate.value), " ", (span(estimate.interval), "dim"))


def _differences(comparisons: Sequence[Comparison], width: int) -> Iterator[RenderableType]:
    """Yield the table of what was compared; nothing where nothing was."""
    wide = width >= WIDE
    held = {_place(c): c for c in comparisons if _shown(c) and c.status == "compared"}
    if not held:
        return
    yield _fitting(partial(_difference_table, held, wide=wide), width)
    tests = dict.fromkeys(c.test for c in held.values() if c.test and c.p_value is not None)
    if tests and not wide:
        which = "; a wider terminal tells which" if len(tests) > 1 else ""
        yield Text(f"p by {', '.join(tests)}{which}.", "dim")


def _difference_table(
    held: Mapping[tuple[str, str], Comparison], named: Callable[[str], str], *, wide: bool
) -> Table:
    lost = any(c.unpaired for c in held.values())
    table = _table("Differences, candidate − baseline, paired by sample")
    table.add_column("task, metric", overflow="fold")
    for name in ("difference", "p", "pairs", *(["unpaired"] if lost else ())):
        table.add_column(name, justify="right", no_wrap=True)
    if wide:
        table.add_column("test")
    for name in _headed(table, held):
        cells = [Text(f"  {named(printable(name[1]))}"), *_difference_cells(held[name])]
        if lost:
            cells.append(Text(f"{held[name].unpaired:,}", "yellow"))
        table.add_row(*cells, *([Text(held[name].test, "dim")] if wide else ()))
    return table


def _difference_cells(held: Comparison) -> list[Text]:
    style = {"better": "green", "worse": "red", "": ""}[_direction(held)]
    return [
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
    whole = list(filter(_shown, comparisons))
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
    """Yield each task and metric, a task's in their order after one another, under a row with its name."""
    by_task: dict[str, list[str]] = {}
    for task, metric in names:
        by_task.setdefault(task, []).append(metric)
    for task, metrics in by_task.items():
        table.add_row(Text(task, "bold"))
        for metric in metrics:
            yield task, metric


def _table(title: str) -> Table:
    return Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title=title,
        title_justify="left",
    )
