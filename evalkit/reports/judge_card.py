"""A judge's card as a terminal shows it: figures with their intervals, then what they mean for a gate."""

from __future__ import annotations

from typing import Final, Literal

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from evalkit.identity import short
from evalkit.records.judging import CardFigure, JudgeCard
from evalkit.reports.terminal import WIDE
from evalkit.reports.view import number, span

TITLES: Final = {
    "accuracy": "same verdict as people",
    "kappa": "Cohen's kappa with people",
    "ac1": "Gwet's AC1 with people",
    "alpha": "Krippendorff's alpha with people",
    "people_kappa": "kappa, people among themselves",
    "people_alpha": "alpha, people among themselves",
    "sensitivity": "good answers called good",
    "specificity": "bad answers called bad",
    "order_consistency": "both orders agree",
    "first_position": "prefers the answer shown first",
    "no_verdict": "no verdict",
    "length_slope": "what length is worth",
    "repeatability": "same verdict when asked again",
    "canary_false_positives": "worthless answers taken for good",
}
"""What figures are called, in the order in which they are shown."""


def card_drawing(
    card: JudgeCard, form: Literal["pointwise", "pairwise"], unfit: str, width: int
) -> RenderableType:
    """Return a card as a table, its warnings, and what a rule's own demands would say; names are no markup.

    ``unfit`` is why a rule with the demands that hold by default would not take the judge's word; empty where it would.
    """
    wide = width >= WIDE
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title=Text(f"Judge {card.judge} ({form}, {short(card.pins)})"),
        title_justify="left",
    )
    table.add_column("figure", overflow="fold")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    if wide:
        table.add_column("", overflow="fold")
    known = [name for name in TITLES if name in card.figures]
    for name in [*known, *sorted(set(card.figures) - set(known))]:
        cells = _row(name, card.figures[name])
        table.add_row(*(cells if wide else cells[:3]))
    notes = Text("", "dim")
    if not wide:  # which worthless answers it took is what one mends the prompt by
        lines = [f"{TITLES.get(n, n)}: {f.told}" for n, f in card.figures.items() if f.told]
        notes.append("\n".join([*lines, ""]))
    warnings = [Text(f"warning: {warning}", "yellow") for warning in card.warnings]
    if unfit:
        fit = Text("A rule with default demands stays inconclusive on this judge: ")
        fit.append(unfit + ".")
    else:
        fit = Text("A rule with default demands takes this judge's word.")
    return Group(table, *([notes] if notes else []), *warnings, fit)


def _row(name: str, figure: CardFigure) -> tuple[Text, Text, Text, Text]:
    value = Text(number(figure.value))
    if figure.value is not None:
        value = Text.assemble(value, " ", (span(figure.interval) or "(no interval)", "dim"))
    return Text(TITLES.get(name, name)), value, Text(f"{figure.n:,}"), Text(figure.told, "dim")
