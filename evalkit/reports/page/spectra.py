"""Eigenvalue spectra with their fits, from the plots in a run's folder: its numbers, drawn anew.

The folder's plots are files that no digest of the scorecard covers. So nothing of their drawing is taken over: neither
marks nor expressions nor addresses, but numbers, and these only of matrices whose fitted line has the very exponent
that ``weights.jsonl`` holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, log
from typing import Any, Final

from evalkit.records.weights import TensorRow
from evalkit.reports.clean import printable
from evalkit.reports.page.weight_rows import number_of
from evalkit.reports.vega import BLUE, GREY, HEIGHT, VERMILION, WIDTH, Spec, log_axis, whole_plot
from evalkit.reports.weights import compact

MOST_CHARTS: Final = 8
"""Matrices drawn."""
MOST_DOTS: Final = 400
"""Eigenvalues drawn of a matrix: the greatest half of them, and evenly spaced others."""
NEAR: Final = 1e-6
"""How far the line's exponent may be from the measured one, relative to it."""
COLUMNS: Final = 2
Dot = dict[str, float]


@dataclass(frozen=True, slots=True)
class Spectrum:
    """One matrix's eigenvalues and fitted line."""

    name: str
    """The tensor."""
    dots: tuple[Dot, ...]
    """``eigenvalue`` and ``share`` of eigenvalues at least as large, descending."""
    line: tuple[Dot, Dot]
    """Both ends of the fit."""
    heading: str
    """What was fitted, by ``weights.jsonl``."""


def spectra(
    spec: Mapping[str, Any] | None, rows: Sequence[TensorRow]
) -> tuple[list[Spectrum], int]:
    """Return the spectra of these tensors, and how many charts of the file were left out since they do not fit them."""
    if spec is None:
        return [], 0
    measured = {row.tensor.name: row for row in rows}
    found, strange = [], 0
    for chart in _charts(spec)[:MOST_CHARTS]:
        held = _spectrum(chart, measured)
        if held is None:
            strange += 1
        else:
            found.append(held)
    return found, strange


def _charts(spec: Mapping[str, Any]) -> list[Any]:
    grids = spec.get("vconcat")
    if not isinstance(grids, list):
        return []
    held = [grid.get("concat") for grid in grids if isinstance(grid, dict)]
    return [chart for charts in held if isinstance(charts, list) for chart in charts]


def _spectrum(chart: Any, measured: Mapping[str, TensorRow]) -> Spectrum | None:  # noqa: ANN401 - any JSON
    try:
        name = printable(chart["title"]["text"])
        dots, _, ends = (layer["data"]["values"] for layer in chart["layer"])
        shown, line = _dots(dots), _dots(ends)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    row = measured.get(name)
    alpha = None if row is None else number_of(row, "alpha")
    if row is None or alpha is None or len(line) != 2 or not shown:
        return None
    (start, end), steep = line, 0.0
    if start["eigenvalue"] != end["eigenvalue"]:
        steep = log(end["share"] / start["share"]) / log(end["eigenvalue"] / start["eigenvalue"])
    if abs(1 - steep - alpha) > NEAR * alpha:
        return None
    drawn = _fewer(sorted(shown, key=lambda dot: -dot["eigenvalue"]))
    some = (
        f"; {len(drawn):,} of {len(shown):,} eigenvalues drawn" if len(drawn) < len(shown) else ""
    )
    return Spectrum(name, tuple(drawn), (start, end), _heading(row) + some)


def _dots(values: Sequence[Mapping[str, Any]]) -> list[Dot]:
    """Return points of a logarithmic plot; raises what a value that is none raises."""
    found = [{key: float(value[key]) for key in ("eigenvalue", "share")} for value in values]
    if not all(isfinite(n) and n > 0 for dot in found for n in dot.values()):
        raise ValueError("no place on a logarithmic axis")
    return found


def _heading(row: TensorRow) -> str:
    held, tail = row.measured["alpha"], number_of(row, "alpha_tail")
    told = f"alpha {compact(held.value)}"
    if held.low is not None and held.high is not None:
        told += f" [{compact(held.low)}, {compact(held.high)}]"
    return told + (f", tail of {tail:,.0f} eigenvalues" if tail is not None else "")


def _fewer(dots: Sequence[Dot]) -> list[Dot]:
    if len(dots) > MOST_DOTS:
        top = MOST_DOTS // 2
        step = (len(dots) - top - 1) / (MOST_DOTS - top - 1)
        rest = [dots[top + round(place * step)] for place in range(MOST_DOTS - top)]
        dots = [*dots[:top], *rest]
    return [{key: float(f"{value:.6g}") for key, value in dot.items()} for dot in dots]


def spectra_plot(held: Sequence[Spectrum]) -> Spec:
    """Return log–log plots of eigenvalues against the share of them that is at least as large, with their fits."""
    charts = [_chart(spectrum) for spectrum in held]
    told = "Dots: eigenvalues. Line: the power law fitted to the tail, from xmin (dashed) on."
    title = "Eigenvalues and the power law fitted to their tails (advisory)"
    return whole_plot(title, [told], [{"concat": charts, "columns": COLUMNS, "spacing": 30}])


def _chart(spectrum: Spectrum) -> Spec:
    every = [*spectrum.dots, *spectrum.line]
    x = log_axis("eigenvalue λ of WᵀW", [dot["eigenvalue"] for dot in every])
    y = log_axis("share of eigenvalues ≥ λ", [min(dot["share"] for dot in every), 1.0])
    encoding = {"x": {"field": "eigenvalue", **x}, "y": {"field": "share", **y}}
    dots = {"type": "point", "filled": True, "size": 18, "color": BLUE}
    cut = {"type": "rule", "color": GREY, "strokeDash": [4, 3]}
    line = {"type": "line", "color": VERMILION, "strokeWidth": 2.5, "clip": True}
    return {
        "title": {"text": spectrum.name, "subtitle": spectrum.heading, "limit": 370},
        "width": 2 * WIDTH,
        "height": 1.5 * HEIGHT,
        "layer": [
            {"data": {"values": list(spectrum.dots)}, "mark": dots, "encoding": encoding},
            {"data": {"values": [spectrum.line[0]]}, "mark": cut, "encoding": {"x": encoding["x"]}},
            {"data": {"values": list(spectrum.line)}, "mark": line, "encoding": encoding},
        ],
    }
