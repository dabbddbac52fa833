"""What people's ratings rest on, as a terminal shows it: who rated how many, and how far they agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from evalkit.records.review import RatedAnswer, Review
from evalkit.reports.view import number, span
from evalkit.reviewing import TaskAgreement
from evalkit.stats.agreement import Agreement


def agreement_drawing(
    agreements: Sequence[TaskAgreement],
    review: Review,
    rated: Sequence[RatedAnswer],
    width: int,
) -> RenderableType:
    """Return, task by task, how many items each annotator rated and how far they agree; names are no markup."""
    shown = Counter(answer.task for answer in review.answers if answer.item)
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        padding=(0, 1, 0, 0),
        title="Annotators",
        title_justify="left",
    )
    table.add_column("task, annotators", overflow="fold")
    table.add_column("agreement", overflow="fold")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("items", justify="right", no_wrap=True)
    lines: list[RenderableType] = []
    for held in agreements:
        by = _rated_by(held.task, rated)
        who = ", ".join(f"{name} {count:,}" for name, count in sorted(by.items())) or "nobody"
        told = f"{held.task}: {held.items:,} of {shown[held.task]:,} items rated ({who})"
        lines.append(Text(told))
        alpha = f"Krippendorff's alpha ({held.measurement})"
        table.add_row(Text(held.task, "bold"))
        table.add_row(*_row("all", alpha, held.alpha))
        table.add_row(*_row("", "pairs of ratings alike", held.same))
        for pair in held.pairs:
            names = " and ".join(pair.annotators)
            table.add_row(*_row(names, "Cohen's kappa", pair.kappa))
            table.add_row(*_row("", "rated alike", pair.same))
    return Group(*lines, Text(), table)


def _row(who: str, what: str, found: Agreement) -> tuple[Text, Text, Text, Text]:
    value = Text(number(found.value))
    if found.value is not None:
        value = Text.assemble(value, " ", (span(found.interval) or "(no interval)", "dim"))
    return Text(f"  {who}"), Text(what), value, Text(f"{found.units:,}")


def _rated_by(task: str, rated: Sequence[RatedAnswer]) -> Counter[str]:
    items = {row.item: row for row in rated if row.task == task and row.item}
    return Counter(name for row in items.values() for name in row.ratings)
