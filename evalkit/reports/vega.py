"""What Vega-Lite plots of tensors have in common: colours, sizes, axes, and small plots by depth.

Tensors of blocks stand at their depth, one small plot for each kind of module, all on the same scales; those outside
blocks (tables, heads, poolers) follow by name. The projections of a block have a colour each and all else is grey;
colour repeats what headings and shapes say, so nothing rests on it.

**Source**: Satyanarayan et al. 2017, IEEE TVCG 23, 341 (Vega-Lite); Okabe & Ito 2008, Color Universal Design: colours
that remain apart under every common colour blindness.

**Deviation**: Okabe and Ito's yellow is left out, being too faint on white, and their black is lighter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Any, Final, Literal

Spec = dict[str, Any]
"""A Vega-Lite specification, or a part of one."""
Point = dict[str, Any]
"""One datum; of a tensor it has ``tensor``, ``module`` and ``depth``."""

SCHEMA: Final = "https://vega.github.io/schema/vega-lite/v5.json"
BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, DARK, GREY, LIGHT = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#333333", "#6B6B6B", "#949494",
)  # fmt: skip
COLOURS: Final = {
    "query": BLUE, "key": ORANGE, "value": GREEN, "qkv": BLUE, "output": VERMILION, "gate": SKY,
    "up": PURPLE, "gate_up": SKY, "down": DARK, "router": GREY, "conv": GREY, "other": GREY,
    "norm": GREY, "bias": GREY, "embedding": GREY, "position": GREY, "pooler": GREY, "head": GREY,
}  # fmt: skip
"""Module → its colour in every plot, in the order in which a block applies them."""
WIDTH: Final = 210
"""Of a small plot."""
HEIGHT: Final = 150
"""Of a small plot."""
COLUMNS: Final = 4
"""Small plots side by side: a block's attention in one row, its feed-forward layers in the next."""
ROW: Final = 24
"""Height of one tensor in a plot by name."""

CONFIG: Final[Spec] = {
    "background": "white",
    "font": "Helvetica, Arial, sans-serif",
    "view": {"stroke": "#CCCCCC"},
    "point": {"opacity": 1},
    "axis": {
        "labelFontSize": 12,
        "titleFontSize": 13,
        "titleFontWeight": "normal",
        "gridColor": "#E6E6E6",
        "labelLimit": 420,
    },
    # A label at the top of an axis that reached beyond it would lift the heading above those beside it.
    "axisY": {"labelFlush": True},
    "legend": {"labelFontSize": 13, "orient": "top", "symbolSize": 90, "symbolStrokeColor": GREY},
    "title": {"fontSize": 13, "subtitleFontSize": 12, "subtitleColor": "#444444", "anchor": "start",
              "frame": "group"},
}  # fmt: skip
"""Fonts and lines of every plot."""
NOTHING: Final[Spec] = {
    "data": {"values": [{}]},
    "mark": {"type": "text", "text": "There is nothing to draw.", "fontSize": 13},
    "width": WIDTH,
    "height": ROW,
}
"""In the place of plots where nothing was measured."""


@dataclass(frozen=True, slots=True)
class Axes:
    """Where one plot has what: by depth the place is across and the value up, by name the other way round."""

    place_on: Literal["x", "y"]
    """Channel of the place."""
    place: Spec
    """Encoding of the place."""
    value: Spec
    """Encoding of values, but for the field."""

    @property
    def value_on(self) -> Literal["x", "y"]:
        """Channel of values."""
        return "y" if self.place_on == "x" else "x"

    def of(self, field: str) -> Spec:
        """Return the encoding of a value."""
        return {self.value_on: {"field": field, **self.value}}


Marks = Callable[[Axes], list[Spec]]
"""Makes the layers of one plot."""


def by_depth(
    points: Sequence[Point], marks: Marks, value: Spec, value_by_name: Spec | None = None
) -> list[Spec]:
    """Return small plots by depth, one for each module, and one by name of what lies outside blocks.

    Points are placed in depth by their field ``place``. ``value`` is the encoding of values but for the field, with a
    ``scale``; by name it may be another.
    """
    inside = [point for point in points if point["depth"] is not None]
    outside = [point for point in points if point["depth"] is None]
    charts: list[Spec] = []
    if inside:
        place = _depth_axis([point["depth"] for point in inside], value)
        bare = value | {"title": None, "axis": {**value.get("axis", {}), "labels": False}}
        modules = [module for module in COLOURS if any(p["module"] == module for p in inside)]
        plots = [
            {
                "title": module,
                "data": {"values": [point for point in inside if point["module"] == module]},
                "width": WIDTH,
                "height": HEIGHT,
                "layer": marks(Axes("x", place, bare if column % COLUMNS else value)),
            }
            for column, module in enumerate(modules)
        ]
        charts.append({"concat": plots, "columns": COLUMNS, "spacing": 18})
    if outside:
        names = list(dict.fromkeys(point["tensor"] for point in outside))
        place = {"field": "tensor", "type": "nominal", "title": None, "sort": names}
        charts.append(
            {
                "title": "outside blocks",
                "data": {"values": outside},
                "width": 2.5 * WIDTH,
                "height": ROW * len(names),
                "layer": marks(Axes("y", place, value_by_name or value)),
            }
        )
    return charts


def _depth_axis(depths: Sequence[int], value: Spec) -> Spec:
    """Return the encoding of blocks: bands for bars, whose values begin at 0, and points along a line for others."""
    first, last = min(depths), max(depths)
    place: Spec = {"field": "place", "title": "depth (block)"}
    if value["scale"].get("type") == "log":
        scale = {"domain": [first - 0.5, last + 0.5], "nice": False}
        axis = {"tickMinStep": 1, "format": "d", "grid": False}
        return place | {"type": "quantitative", "scale": scale, "axis": axis}
    blocks = list(range(first, last + 1))
    step = next(step for step in (1, 2, 5, 10, 20, len(blocks)) if len(blocks) <= 12 * step)
    axis = {"labelAngle": 0, "values": blocks[::step]}
    return place | {"type": "ordinal", "scale": {"domain": blocks}, "axis": axis}


def log_axis(title: str, values: Sequence[float]) -> Spec:
    """Return the encoding of positive values on a logarithmic axis that is labelled at powers of ten."""
    low, high = floor(log10(min(values, default=1.0))), ceil(log10(max(values, default=1.0)))
    low -= low == high  # one power of ten is no axis
    step = ceil((high - low) / 6)
    short = "datum.value >= 0.001 && datum.value <= 1000 ? '~g' : '~e'"
    axis = {
        "values": [10.0**power for power in range(low, high + 1, step)],
        "labelExpr": f"format(datum.value, {short})",
    }
    scale = {"type": "log", "domain": [10.0**low, 10.0**high]}
    return {"type": "quantitative", "title": title, "scale": scale, "axis": axis}


def module_colour(points: Sequence[Point]) -> Spec:
    """Return the encoding of modules; headings name them, so there is no legend."""
    used = {point["module"] for point in points}
    shown = {module: colour for module, colour in COLOURS.items() if module in used}
    scale = {"domain": list(shown), "range": list(shown.values())}
    return {"field": "module", "type": "nominal", "scale": scale, "legend": None}


def tooltip(*fields: str) -> list[Spec]:
    """Return the encoding of what is told where a reader points at a mark."""
    words = ("tensor", "model", "module")
    return [{"field": f, "type": "nominal" if f in words else "quantitative"} for f in fields]


def whole_plot(title: str, told: Sequence[str], charts: Sequence[Spec]) -> Spec:
    """Return charts one under the other as a whole specification; ``told`` are the lines under its title."""
    heading = {"text": title, "subtitle": list(told), "fontSize": 16, "subtitleFontSize": 12.5}
    return {
        "$schema": SCHEMA,
        "title": heading | {"subtitlePadding": 6, "offset": 16, "frame": "bounds"},
        "config": CONFIG,
        "spacing": 24,
        "vconcat": list(charts) or [NOTHING],
    }
