"""The history of one number as a Vega-Lite plot: points with intervals, lines between what was measured alike.

A point's shape is its run's verdict. A solid upright line with a name is a promotion; a broken one says that from here
on the number was measured in another way. Colours are the page's own, and nothing rests on them.
"""

from __future__ import annotations

from typing import Final

from evalkit.reports.clean import printable
from evalkit.reports.page.section import MARKS, told_status, when
from evalkit.reports.site.history import Measured, Series
from evalkit.reports.vega import SCHEMA, Point, Spec
from evalkit.reports.view import number, span

HEIGHT: Final = 190
"""Of a plot."""
SHAPES: Final = {
    "pass": "circle",
    "fail": "cross",
    "inconclusive": "triangle-up",
    "incomplete": "square",
    "none": "diamond",
}
"""Verdict → shape of its point."""


def history_plot(series: Series) -> Spec:
    """Return the plot of a number; across stands time, or the runs in their order where times coincide."""
    points = [_point(each) for each in series.points if each.estimate.value is not None]
    times = [point["finished"] for point in points]
    by_time = len(set(times)) == len(times) > 1 and all("T" in time for time in times)
    across: Spec = {
        "field": "finished",
        "type": "temporal",
        "title": None,
        "scale": {"type": "utc"},
    }
    if not by_time:
        across = {"field": "number", "type": "ordinal", "title": "run, by its number in the table"}
        across["axis"] = {"labelAngle": 0, "labelOverlap": True}
    scale = {"zero": False, "domain": _domain(points)}
    up = {"type": "quantitative", "title": printable(series.newest.unit), "scale": scale}
    return {
        "$schema": SCHEMA,
        "width": "container",
        "height": HEIGHT,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "data": {"values": points},
        "encoding": {"x": across},
        "layer": [*_rules(points), *_numbers(points, up)],
    }


def _domain(points: list[Point]) -> list[float]:
    """Return the ends of the upright axis, with room around what is drawn; one number alone has room too."""
    low = min((point["low"] for point in points), default=0.0)
    high = max((point["high"] for point in points), default=1.0)
    room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return [low - room, high + room]


def _numbers(points: list[Point], up: Spec) -> list[Spec]:
    """Return intervals, lines and points."""
    accent = "var(--accent)"
    statuses = [status for status in SHAPES if any(point["status"] == status for point in points)]
    shape = {
        "field": "verdict",
        "type": "nominal",
        "title": "verdict",
        "scale": {
            "domain": [MARKS[status][1] for status in statuses],
            "range": [SHAPES[status] for status in statuses],
        },
    }
    tips = ("run", "when", "told", "verdict", "promoted", "broken")
    titles = ("run", "finished", "value", "verdict", "promoted as", "not joined")
    return [
        {
            "mark": {"type": "rule", "strokeWidth": 2, "color": accent, "opacity": 0.55},
            "encoding": {"y": {"field": "low", **up}, "y2": {"field": "high"}},
        },
        {
            "mark": {"type": "line", "strokeWidth": 1.5, "color": accent},
            "encoding": {
                "y": {"field": "value", **up},
                "detail": {"field": "part", "type": "nominal"},
            },
        },
        {
            "mark": {"type": "point", "filled": True, "size": 80, "color": accent},
            "encoding": {
                "y": {"field": "value", **up},
                "shape": shape,
                "tooltip": [
                    {"field": field, "type": "nominal", "title": title}
                    for field, title in zip(tips, titles, strict=True)
                ],
            },
        },
    ]


def _rules(points: list[Point]) -> list[Spec]:
    """Return upright lines where a run was promoted, with the alias, and where the measurement changed."""
    made: list[Spec] = []
    promoted = [point for point in points if point["promoted"]]
    if promoted:
        layer: list[Spec] = [
            {"mark": {"type": "rule", "color": "var(--good)", "strokeWidth": 1.5}},
            {
                "mark": {
                    "type": "text", "angle": 270, "align": "right", "baseline": "top", "dx": -3,
                    "dy": 4, "color": "var(--good)", "fontSize": 11, "limit": HEIGHT,
                },
                "encoding": {"text": {"field": "promoted", "type": "nominal"}, "y": {"value": 0}},
            },
        ]  # fmt: skip
        made.append({"data": {"values": promoted}, "layer": layer})
    broken = [point for point in points if point["broken"]]
    if broken:
        mark = {"type": "rule", "color": "var(--warn)", "strokeDash": [4, 4], "strokeWidth": 1.5}
        # Before the point, where a promotion of the same run does not hide it.
        made.append({"data": {"values": broken}, "mark": mark | {"xOffset": -6}})
    return made


def _point(measured: Measured) -> Point:
    run, estimate = measured.run, measured.estimate
    status = told_status(run.verdict)
    held = estimate.interval
    return {
        "number": measured.number,
        "finished": printable(run.finished),
        "when": printable(when(run.finished)),
        "run": printable(run.name),
        "value": estimate.value,
        "low": held.low if held else estimate.value,
        "high": held.high if held else estimate.value,
        "told": f"{number(estimate.value)} {span(held) or '(no interval)'}",
        "part": measured.part,
        "status": status,
        "verdict": MARKS[status][1],
        "promoted": printable(", ".join(run.promoted)),
        "broken": measured.broken,
    }
