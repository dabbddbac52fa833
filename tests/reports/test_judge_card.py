"""A judge's card on a terminal: what it says is there at any width."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from evalkit.records.judging import CardFigure, JudgeCard
from evalkit.reports.judge_card import card_drawing

CARD = JudgeCard(
    judge="quality",
    pins="0" * 64,
    pinned=True,
    labels="1" * 64,
    made="2026-01-01T00:00:00Z",
    figures={
        "accuracy": CardFigure(value=0.9, n=100),
        "canary_false_positives": CardFigure(value=0.1, n=45, told="empty 1, constant 3"),
    },
    warnings=("few [bold]labels[/bold]",),
)


@pytest.mark.parametrize("width", [60, 80, 118, 140])
def test_which_worthless_answers_it_took_is_told_at_any_width(width):
    console = Console(width=width, file=io.StringIO())
    console.print(card_drawing(CARD, "pointwise", "it rests on nothing", width))
    lines = console.file.getvalue().splitlines()
    said = " ".join(" ".join(lines).split())
    assert "empty 1, constant 3" in said
    assert "few [bold]labels[/bold]" in said and "it rests on nothing." in said
    assert max(map(len, lines)) <= width


def test_figures_without_a_remark_leave_no_gap():
    plain = CARD.model_copy(update={"figures": {"accuracy": CardFigure(value=0.9, n=100)}})
    console = Console(width=80, file=io.StringIO())
    console.print(card_drawing(plain, "pointwise", "", 80))
    assert "same verdict as people: " not in console.file.getvalue()
    assert "takes this judge's word." in console.file.getvalue()
