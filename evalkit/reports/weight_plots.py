"""Plots of weights as data plus specification: Vega-Lite 5 in plain values, for whatever draws it.

Every number that was measured is in its plot; what has none is counted in the subtitle, with the reason. Titles say
what is advisory, and what is an unvalidated heuristic.

**Source**: Clauset, Shalizi & Newman 2009, SIAM Rev. 51, 661 (spectra as complementary distribution functions, which
need no bins).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Final

import numpy as np
from numpy.typing import NDArray

from evalkit.records.weights import TensorRow
from evalkit.reports.vega import (
    BLUE,
    DARK,
    GREY,
    HEIGHT,
    LIGHT,
    VERMILION,
    WIDTH,
    Axes,
    Marks,
    Point,
    Spec,
    by_depth,
    log_axis,
    module_colour,
    tooltip,
    whole_plot,
)
from evalkit.spectral.tail import TailFit

LINES: Final = (2.0, 6.0)
"""Alphas below the first are called over-trained, above the second under-trained."""
BASE, TUNED = "base", "tuned"
NEAR: Final = 0.16
"""How far base and tuned stand from their block's place, in blocks."""


@dataclass(frozen=True, slots=True)
class Spectrum:
    """One matrix's eigenvalues and the power law fitted to them."""

    name: str
    """The tensor's name."""
    lambda_M: NDArray[np.float64]
    """Its eigenvalues, in any order."""
    fit: TailFit
    """The fit, or why there is none."""


def spectrum_plot(spectra: Sequence[Spectrum]) -> Spec:
    """Return log–log plots of eigenvalues against the share of them that is at least as large, with fit and xmin.

    A power law is a straight line of slope 1 − alpha from xmin on. Eigenvalues of 0 or that are not finite, which have
    no place on a logarithmic axis, are counted in the heading.
    """
    told = "Dots: eigenvalues. Line: the fit, from xmin (dashed) on."
    charts = [_spectrum(spectrum) for spectrum in spectra]
    grid = [{"concat": charts, "columns": 2, "spacing": 30}] if charts else []
    return whole_plot(
        "Eigenvalues and the power law fitted to their tails (advisory)", [told], grid
    )


def _spectrum(spectrum: Spectrum) -> Spec:
    fit, total = spectrum.fit, len(spectrum.lambda_M)
    descending = sorted(spectrum.lambda_M.tolist(), reverse=True)
    points = [
        {"eigenvalue": value, "share": (place + 1) / total}
        for place, value in enumerate(descending)
        if 0 < value < inf
    ]
    x = log_axis("eigenvalue λ of WᵀW", [point["eigenvalue"] for point in points])
    y = log_axis("share of eigenvalues ≥ λ", [1 / max(total, 1), 1.0])
    y["scale"] = {"type": "log", "domain": [0.5 / max(total, 1), 1.0]}
    encoding = {"x": {"field": "eigenvalue", **x}, "y": {"field": "share", **y}}
    dots = {"type": "point", "filled": True, "size": 18, "color": BLUE}
    layers: list[Spec] = [{"data": {"values": points}, "mark": dots, "encoding": encoding}]
    heading = f"no fit: {fit.note or fit.status}"
    if fit.alpha is not None and fit.xmin is not None and fit.xmax is not None:
        heading = (
            f"alpha {fit.alpha:.2f} from xmin {fit.xmin:.3g} on, tail of {fit.tail} eigenvalues"
        )
        slope, top = 1 - fit.alpha, fit.tail / total
        ends = [
            {"eigenvalue": end, "share": top * (end / fit.xmin) ** slope}
            for end in (fit.xmin, fit.xmax)
        ]
        line = {"type": "line", "color": VERMILION, "strokeWidth": 2.5, "clip": True}
        cut = {"type": "rule", "color": GREY, "strokeDash": [4, 3]}
        layers += [
            {"data": {"values": ends[:1]}, "mark": cut, "encoding": {"x": encoding["x"]}},
            {"data": {"values": ends}, "mark": line, "encoding": encoding},
        ]
    left = total - len(points)
    if left:
        heading += f"; {left} of {total} eigenvalues, 0 or not finite, are not drawn"
    title = {"text": spectrum.name, "subtitle": heading}
    return {"title": title, "width": 2 * WIDTH, "height": 1.5 * HEIGHT, "layer": layers}


def alpha_plot(tuned: Sequence[TensorRow], base: Sequence[TensorRow] = ()) -> Spec:
    """Return alpha with its interval by depth, the tuned model's beside the base's, with lines at 2 and 6."""
    points: list[Point] = []
    for model, rows, aside in ((BASE, base, -NEAR), (TUNED, tuned, NEAR)):
        for point in _points(rows, "alpha"):
            low, high = (point[end if end in point else "alpha"] for end in ("low", "high"))
            place = None if point["depth"] is None else point["depth"] + (aside if base else 0)
            # Below 1 nothing is a density, and a logarithmic axis has no place for 0.
            interval = {"from": max(low, 1.0), "to": max(high, 1.0)}
            points.append(point | interval | {"model": model, "place": place})
    by_model: Spec = {"field": "model", "type": "nominal", "title": None, "legend": None}
    shape = by_model | {"scale": {"domain": [BASE, TUNED], "range": ["circle", "diamond"]}}
    of_base = "datum.model === 'base'"
    colour = module_colour(points) | {"condition": {"test": of_base, "value": LIGHT}}
    filled = module_colour(points) | {"condition": {"test": of_base, "value": "white"}}

    def marks(axes: Axes) -> list[Spec]:
        place: Spec = {axes.place_on: axes.place}
        if axes.place_on == "y" and base:
            place["yOffset"] = {"field": "model", "type": "nominal", "sort": [BASE, TUNED]}
        dashed = {"type": "rule", "color": DARK, "strokeDash": [5, 4]}
        lines = {"values": [{"line": line} for line in LINES]}
        bar = {**place, **axes.of("from"), f"{axes.value_on}2": {"field": "to"}, "color": colour}
        point = {**place, **axes.of("alpha"), "shape": shape}
        point |= {"stroke": colour, "fill": filled}
        point["tooltip"] = tooltip("model", "tensor", "alpha", "low", "high")
        return [
            {"data": lines, "mark": dashed, "encoding": axes.of("line")},
            {"mark": {"type": "rule", "strokeWidth": 1.5}, "encoding": bar},
            {"mark": {"type": "point", "size": 45, "strokeWidth": 1.5}, "encoding": point},
        ]

    ends = [end for point in points for end in (point["from"], point["to"], point["alpha"])]
    value = log_axis("alpha", [1.0, 8.0, *ends]) | {
        "axis": {"values": [1, 2, 4, 6, 10, 20, 40, 100]}
    }
    value["scale"] = {"type": "log", "domain": [1.0, 1.1 * max([8.0, *ends])]}
    told = [
        *(["Circles: base. Diamonds: tuned."] if base else []),
        "Dashed: 2 (alphas below are called over-trained) and 6 (above: under-trained). Bars: intervals of each alpha.",
        "Advisory: alpha is not validated as a criterion to pass or fail a model.",
        *_missing(tuned, "alpha", "matrices of the tuned model" if base else "matrices"),
        *_missing(base, "alpha", "matrices of the base model"),
    ]
    title = "Power-law exponent alpha by depth" + (", base against tuned" if base else "")
    return whole_plot(f"{title} (advisory)", told, by_depth(points, marks, value))


def drift_plot(rows: Sequence[TensorRow]) -> Spec:
    """Return how far each tensor moved from the base's, ‖W − W₀‖ / ‖W₀‖, by depth on a logarithmic axis.

    What did not move at all is drawn as a triangle under the least drift there is.
    """
    points = _points(rows, "drift")
    least = min((point["drift"] for point in points if point["drift"] > 0), default=1.0)
    for point in points:
        moved = point["drift"] > 0
        point |= {"place": point["depth"], "shown": point["drift"] if moved else least / 2}
        point["is"] = "moved" if moved else "unchanged"
    shapes = {"domain": ["moved", "unchanged"], "range": ["circle", "triangle-down"]}
    still = any(point["drift"] == 0 for point in points)
    shape = {"field": "is", "type": "nominal", "title": None, "scale": shapes}
    shape["legend"] = {} if still else None
    common = {"shape": shape, "color": module_colour(points), "tooltip": tooltip("tensor", "drift")}

    def marks(axes: Axes) -> list[Spec]:
        encoding = {axes.place_on: axes.place, **axes.of("shown"), **common}
        return [{"mark": {"type": "point", "filled": True, "size": 55}, "encoding": encoding}]

    told = [
        "The norm of what training added to a tensor over the norm of the base's.",
        "In a study of a small encoder, healthy fine-tunes moved no matrix by more than 0.034, bad ones by 0.1 on",
        "average, and single faults by 1. Other models and methods have other bands.",
        *_missing(rows, "drift", "tensors"),
    ]
    value = log_axis("drift: ‖ΔW‖ / ‖W‖", [point["shown"] for point in points])
    return whole_plot("Drift from the base model by tensor", told, by_depth(points, marks, value))


def importance_plot(rows: Sequence[TensorRow]) -> Spec:
    """Return FROG's importance by depth: each matrix's share of the norms, and its share per weight.

    The share per weight is relative to that of all matrices together. Where a module has several matrices in a block,
    their shares are stacked, and the share per weight is that of them together.
    """
    points = _points(rows, "importance")
    groups: dict[tuple[str, int | str], list[Point]] = {}
    for point in points:
        point["place"] = point["depth"]
        where = point["tensor"] if point["depth"] is None else point["depth"]
        groups.setdefault((point["module"], where), []).append(point)
    all_of_it, weights = _total(points, "importance"), _total(points, "weights")
    grouped = []
    for members in groups.values():
        together = {
            "importance": _total(members, "importance"),
            "weights": _total(members, "weights"),
        }
        ratio = together["importance"] * weights / (together["weights"] * all_of_it or 1.0)
        grouped.append(members[0] | together | {"per weight": ratio})
    colour = module_colour(points)

    def bars(field: str, *, line: float | None = None) -> Marks:
        def marks(axes: Axes) -> list[Spec]:
            side = "width" if axes.place_on == "x" else "height"
            encoding = {axes.place_on: axes.place, **axes.of(field), "color": colour}
            encoding["tooltip"] = tooltip("tensor", "module", "importance", "weights", field)
            layers: list[Spec] = [
                {"mark": {"type": "bar", side: {"band": 0.8}}, "encoding": encoding}
            ]
            if line is not None:
                dashed = {"type": "rule", "color": GREY, "strokeDash": [4, 3]}
                at = {"values": [{field: line}]}
                layers.append({"data": at, "mark": dashed, "encoding": axes.of(field)})
            return layers

        return marks

    def axis(title: str, field: str, form: str) -> tuple[Spec, Spec]:
        """Return the values' encodings by depth and by name."""
        value: Spec = {"type": "quantitative", "title": title}
        value["axis"] = {"tickCount": 4, "format": form}
        inside = [point[field] for point in grouped if point["depth"] is not None]
        return value | {"scale": {"domain": [0, max(inside, default=1.0)], "nice": True}}, value

    share, share_by_name = axis("share of ‖W‖", "importance", ".2~%")
    dense, dense_by_name = axis("share per weight", "per weight", "~g")
    charts = [
        *by_depth(points, bars("importance"), share, share_by_name),
        *by_depth(grouped, bars("per weight", line=1.0), dense, dense_by_name),
    ]
    told = [
        "Unvalidated heuristic: no test is known that training important layers is better than training others.",
        "Share: Frobenius norm of a matrix over the sum of all norms. Per weight, it favours small matrices.",
        "Share per weight: 1 (dashed) is the average of all matrices.",
        *_missing(rows, "importance", "matrices"),
    ]
    return whole_plot("Importance of layers by FROG (an unvalidated heuristic)", told, charts)


def _points(rows: Iterable[TensorRow], measure: str) -> list[Point]:
    """Return a datum for each tensor with a number: what it is, and the number with its interval where it has one."""
    points = []
    for row in rows:
        found = row.measured.get(measure)
        if found is None or found.value is None or not isfinite(found.value):
            continue
        tensor = row.tensor
        point: Point = {"tensor": tensor.name, "module": tensor.module, "depth": tensor.depth}
        point |= {"weights": tensor.count, measure: found.value}
        if found.low is not None and found.high is not None and isfinite(found.high - found.low):
            point |= {"low": found.low, "high": found.high}
        points.append(point)
    return points


def _total(points: Iterable[Point], field: str) -> float:
    return float(sum(point[field] for point in points))


def _missing(rows: Iterable[TensorRow], measure: str, kind: str) -> list[str]:
    """Return in words how many tensors have no number, and why, with an example's reason; nothing where all have."""
    held = [row.measured[measure] for row in rows if measure in row.measured]
    without = [found for found in held if found.value is None or not isfinite(found.value)]
    if not without:
        return []
    statuses = Counter("not finite" if f.value is not None else f.status for f in without)
    why = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))
    note = next((found.note for found in without if found.note), "")
    example = f" ({'for one, ' if len(without) > 1 else ''}{note})" if note else ""
    return [f"{len(without)} of {len(held)} {kind} have no {measure}: {why}{example}."]
