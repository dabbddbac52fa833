"""Numbers with their intervals, one under the other, candidate beside baseline, as Vega-Lite for the page.

The width is that of the page, so that a phone shows it too. Texts are data, and no part of an expression.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Final

from evalkit.records.interval import Interval
from evalkit.reports.vega import BLUE, GREY, LIGHT, SCHEMA, Spec

CANDIDATE, BASELINE = "candidate", "baseline"
LINE: Final = 22
"""Height that a number takes, and a line of its label at least."""
LONGEST: Final = 22
"""Characters of a line of a label: a phone has room for no more beside the drawing."""
LINES: Final = 2
"""Lines of a label; the rest is cut."""
BREAK: Final = "\n"
"""Between the lines of a label."""
_WORDS: Final = re.compile(r"[^\s_./]+[\s_./]?|[\s_./]")


@dataclass(frozen=True, slots=True)
class Mark:
    """One number."""

    label: str
    """What it is the number of."""
    model: str
    """``candidate`` or ``baseline``; empty where there is but one of each."""
    value: float | None
    """The number; without one nothing is drawn."""
    interval: Interval | None
    """Its interval."""
    expected: float | None = None
    """What chance alone would show, drawn as an upright tick."""


def interval_plot(
    marks: Sequence[Mark], title: str, *, zero: bool = False, line: float | None = None
) -> Spec:
    """Return points with their intervals along one axis with this title.

    ``zero`` makes the axis begin at 0, ``line`` is a value to draw a dashed line at.
    """
    drawn = [mark for mark in marks if mark.value is not None and isfinite(mark.value)]
    paired = {mark.model for mark in drawn} >= {CANDIDATE, BASELINE}
    labels = list(dict.fromkeys(_broken(mark.label) for mark in drawn))
    step = LINE * max(2 if paired else 1, *(1 + label.count(BREAK) for label in labels), 1)
    value: Spec = {"type": "quantitative", "title": title, "scale": {"zero": zero}}
    value["axis"] = {"tickCount": 6}
    place: Spec = {"field": "label", "type": "nominal", "title": None, "sort": labels}
    place["axis"] = {"labelExpr": f"split(datum.value, {json.dumps(BREAK)})", "labelLimit": 0}
    where: Spec = {"y": place}
    if paired:
        where["yOffset"] = {"field": "model", "type": "nominal", "sort": [CANDIDATE, BASELINE]}
    legend: Spec | None = {"title": None, "orient": "top"} if paired else None
    of_model = {"field": "model", "type": "nominal", "legend": legend}
    colour = of_model | {"scale": {"domain": [CANDIDATE, BASELINE], "range": [BLUE, LIGHT]}}
    shape = of_model | {"scale": {"domain": [CANDIDATE, BASELINE], "range": ["diamond", "circle"]}}
    told = [{"field": name, "type": "nominal"} for name in ("label", "model", "value", "interval")]
    bar = {**where, "x": {"field": "low", **value}, "x2": {"field": "high"}, "color": colour}
    point = {**where, "x": {"field": "value", **value}, "color": colour, "shape": shape}
    layers: list[Spec] = [
        {"mark": {"type": "rule", "strokeWidth": 2}, "encoding": bar},
        {
            "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
            "encoding": point | {"tooltip": told},
        },
    ]
    if line is not None:
        dashed = {"type": "rule", "color": GREY, "strokeDash": [4, 3]}
        at = {"x": {"field": "line", **value}}
        layers.insert(0, {"data": {"values": [{"line": line}]}, "mark": dashed, "encoding": at})
    if any(mark.expected is not None for mark in drawn):
        tick = {"type": "tick", "color": GREY, "thickness": 2, "size": 14}
        layers.append({"mark": tick, "encoding": {**where, "x": {"field": "expected", **value}}})
    for layer in layers:  # the figure around them says what they show
        layer["mark"] |= {"aria": False}
    return {
        "$schema": SCHEMA,
        "data": {"values": [_datum(mark) for mark in drawn]},
        "width": "container",
        "autosize": {"type": "fit-x", "contains": "padding"},
        "height": step * max(len(labels), 1),
        "layer": layers,
    }


def _broken(label: str) -> str:
    """Return a label in lines that are short enough; a line break in it is kept.

    >>> _broken("equalized_odds_mean_difference").split(BREAK), _broken("x" * 60)[-4:]
    (['equalized_odds_mean_', 'difference'], 'xxx…')
    """
    lines: list[str] = []
    for given in label.split(BREAK):
        line = ""
        for word in _WORDS.findall(given):
            if line and len(line) + len(word.rstrip()) > LONGEST:
                lines.append(line.rstrip())
                line = ""
            line += word
        lines.append(line.rstrip())
    shown = lines[:LINES]
    if len(lines) > LINES:
        shown[-1] += "…"
    return BREAK.join(each if len(each) <= LONGEST else f"{each[: LONGEST - 1]}…" for each in shown)


def _datum(mark: Mark) -> Spec:
    held = mark.interval
    low, high = (mark.value, mark.value) if held is None else (held.low, held.high)
    datum: Spec = {
        "label": _broken(mark.label),
        "model": mark.model or CANDIDATE,
        "value": mark.value,
    }
    datum |= {"low": low, "high": high, "expected": mark.expected}
    return datum | {"interval": "none" if held is None else f"{low:.4g} to {high:.4g}"}
