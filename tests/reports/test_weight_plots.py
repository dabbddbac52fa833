"""Plots of weights: every datum is drawn, once, without a warning of the library that draws them."""

from __future__ import annotations

import json
import math
import re
from typing import get_args
from xml.etree import ElementTree as Xml

import numpy as np
import pytest

from evalkit.records.weights import Fitted, Module, Tensor, TensorRow
from evalkit.reports.vega import COLOURS
from evalkit.reports.weight_plots import (
    Spectrum,
    alpha_plot,
    drift_plot,
    importance_plot,
    spectrum_plot,
)
from evalkit.spectral.tail import TailFit, fit_tail

vl_convert = pytest.importorskip("vl_convert", reason="plots are drawn by vl-convert-python")

OKABE_ITO = {
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
}  # fmt: skip
"""The palette as its authors publish it."""


def row(name, module, depth, count=4, **measured):
    tensor = Tensor(name, name, (count, 4), "BF16", module, "matrix", depth)
    found = {m: v if isinstance(v, Fitted) else Fitted(v) for m, v in measured.items()}
    return TensorRow(tensor, found)


def model(blocks=4, shift=0.0):
    """A model with a value of everything in each block, two gaps, and a table outside blocks."""
    rows = []
    for depth in range(blocks):
        for place, module in enumerate(("query", "value", "up", "norm")):
            alpha = 2.5 + depth / 3 + place / 7 + shift
            rows.append(
                row(
                    f"model.layers.{depth}.{module}.weight",
                    module,
                    depth,
                    count=8 << place,
                    alpha=Fitted(alpha, 0.7, alpha + 4, "bootstrap"),
                    drift=0.01 * (1 + place + depth) if module != "norm" else 0.0,
                    importance=(1 + place) / 40 / blocks,
                )
            )
    rows.append(
        row(
            "model.embed_tokens.weight",
            "embedding",
            None,
            99,
            alpha=1.5,
            drift=0.2,
            importance=0.75,
        )
    )
    gap = Fitted(None, status="insufficient", note="too few eigenvalues")
    rows.append(row("model.layers.0.router.weight", "router", 0, alpha=gap, drift=math.inf))
    return rows


def drawn(spec, capfd):
    """Return the SVG, after it was drawn without a warning and with the schema's own version."""
    json.dumps(spec, allow_nan=False)
    svg = vl_convert.vegalite_to_svg(spec, vl_version="5.21", show_warnings=True)
    told = capfd.readouterr()
    assert "WARN" not in told.out + told.err
    return svg


def marks(svg, kind):
    return len(re.findall(f'aria-roledescription="{kind}"', svg))


def data(spec):
    """Return every datum anywhere in a specification."""
    if isinstance(spec, dict):
        here = spec.get("data", {}).get("values", []) if isinstance(spec.get("data"), dict) else []
        return [*here, *(d for key, part in spec.items() if key != "data" for d in data(part))]
    return [d for part in spec for d in data(part)] if isinstance(spec, list) else []


def test_alphas_of_both_models_are_drawn_with_intervals_and_lines(capfd):
    tuned, base = model(), model(shift=0.5)
    spec = alpha_plot(tuned, base)
    svg = drawn(spec, capfd)
    points = [point for point in data(spec) if "alpha" in point]
    for name, rows in (("tuned", tuned), ("base", base)):
        expected = {r.tensor.name: r.measured["alpha"].value for r in rows}
        found = {p["tensor"]: p["alpha"] for p in points if p["model"] == name}
        assert found == {n: value for n, value in expected.items() if value is not None}
    assert marks(svg, "point") == len(points) == 34
    panels = 5  # four modules, and what lies outside blocks
    assert marks(svg, "rule mark") == 34 + 2 * panels
    assert {line["line"] for line in data(spec) if "line" in line} == {2.0, 6.0}
    assert "base against tuned (advisory)" in spec["title"]["text"]
    assert (
        "1 of 18 matrices of the tuned model have no alpha: 1 insufficient (too few eigenvalues)."
        in spec["title"]["subtitle"]
    )
    assert (
        "1 of 18 matrices of the base model have no alpha: 1 insufficient (too few eigenvalues)."
        in spec["title"]["subtitle"]
    )


def test_an_interval_that_reaches_below_1_is_drawn_from_1_and_told_in_full(capfd):
    spec = alpha_plot([row("q", "query", 0, alpha=Fitted(1.5, -0.5, 40.0, "asymptotic"))])
    (point,) = [point for point in data(spec) if "alpha" in point]
    assert (point["from"], point["low"], point["to"]) == (1.0, -0.5, 40.0)
    assert marks(drawn(spec, capfd), "point") == 1
    assert "base" not in spec["title"]["text"]


def test_a_model_alone_has_no_gap_between_base_and_tuned():
    alone = [point["place"] for point in data(alpha_plot(model())) if "alpha" in point]
    beside = [p["place"] for p in data(alpha_plot(model(), model())) if p.get("model") == "tuned"]
    assert alone[:2] == [0, 1]
    assert beside[:2] == [pytest.approx(0.16), pytest.approx(1.16)]


def test_each_tensors_drift_is_drawn_and_what_stood_still_has_its_own_mark(capfd):
    spec = drift_plot(model())
    svg = drawn(spec, capfd)
    points = data(spec)
    assert {p["tensor"]: p["drift"] for p in points} == {
        r.tensor.name: r.measured["drift"].value for r in model() if r.tensor.module != "router"
    }
    assert marks(svg, "point") == len(points) == 17
    still = [point for point in points if point["is"] == "unchanged"]
    assert {point["module"] for point in still} == {"norm"}
    assert all(0 < point["shown"] < 0.01 for point in still)
    assert "1 of 18 tensors have no drift: 1 not finite." in spec["title"]["subtitle"]


def test_each_matrixs_importance_is_drawn_as_share_and_per_weight(capfd):
    rows = model()
    spec = importance_plot(rows)
    svg = drawn(spec, capfd)
    shares = [p for p in data(spec) if "importance" in p and "per weight" not in p]
    dense = [p for p in data(spec) if "tensor" in p and "per weight" in p]
    assert {p["tensor"]: p["importance"] for p in shares} == {
        r.tensor.name: r.measured["importance"].value for r in rows if "importance" in r.measured
    }
    assert marks(svg, "bar") == len(shares) + len(dense) == 34
    weights = sum(p["weights"] for p in dense)
    assert sum(p["per weight"] * p["weights"] for p in dense) / weights == pytest.approx(1)
    assert "unvalidated heuristic" in spec["title"]["text"]


def test_several_matrices_of_a_module_in_one_block_are_stacked(capfd):
    """Three experts: a share each, one share per weight for them together."""
    rows = [row(f"experts.{n}.up", "up", 0, count=10, importance=0.1) for n in range(3)]
    rows.append(row("q", "query", 0, count=10, importance=0.7))
    spec = importance_plot(rows)
    assert marks(drawn(spec, capfd), "bar") == 4 + 2
    dense = {
        p["module"]: p["per weight"] for p in data(spec) if "tensor" in p and "per weight" in p
    }
    assert dense == {"up": pytest.approx(0.3 / 0.75), "query": pytest.approx(0.7 / 0.25)}


def test_eigenvalues_stand_over_the_share_at_least_as_large_and_the_fit_is_a_line_of_its_slope(
    capfd,
):
    lambda_M = np.sort(np.random.default_rng(1).pareto(1.5, 300) + 1)
    fit = fit_tail(lambda_M)
    spec = spectrum_plot([Spectrum("q", lambda_M, fit)])
    assert marks(drawn(spec, capfd), "point") == 300
    dots, cut, line = (
        layer["data"]["values"] for layer in spec["vconcat"][0]["concat"][0]["layer"]
    )
    assert [dot["eigenvalue"] for dot in dots] == sorted(lambda_M, reverse=True)
    for dot in dots[::50]:
        assert dot["share"] == pytest.approx(np.mean(lambda_M >= dot["eigenvalue"]))
    (start, end), (at,) = line, cut
    assert (start["eigenvalue"], at["eigenvalue"]) == (fit.xmin, fit.xmin)
    assert start["share"] == pytest.approx(np.mean(lambda_M >= fit.xmin))
    slope = math.log(end["share"] / start["share"]) / math.log(
        end["eigenvalue"] / start["eigenvalue"]
    )
    assert slope == pytest.approx(1 - fit.alpha)


def test_a_spectrum_without_a_fit_says_why_and_counts_what_cannot_be_drawn(capfd):
    lambda_M = np.array([0.0, 0.0, math.nan, 0.5, 2.0])
    failed = TailFit(status="insufficient", note="5 eigenvalues; a fit needs 50")
    spec = spectrum_plot([Spectrum("a & <b>", lambda_M, failed)])
    svg = drawn(spec, capfd)
    assert marks(svg, "point") == 2
    assert "no fit: 5 eigenvalues; a fit needs 50" in svg
    assert "3 of 5 eigenvalues, 0 or not finite, are not drawn" in svg
    assert "<b>" not in svg  # names are text


@pytest.mark.parametrize("plot", [spectrum_plot, alpha_plot, drift_plot, importance_plot])
def test_nothing_measured_is_said(plot, capfd):
    assert "There is nothing to draw." in drawn(plot([]), capfd)


@pytest.mark.parametrize("plot", [alpha_plot, drift_plot, importance_plot])
def test_one_tensor_alone_can_be_drawn(plot, capfd):
    for depth in (None, 7):
        only = row("w", "other", depth, alpha=3.0, drift=1.0, importance=1.0)
        svg = drawn(plot([only]), capfd)
        assert marks(svg, "point") + marks(svg, "bar") == (2 if plot is importance_plot else 1)


def heights(svg, texts):
    """Return how far down each text stands, nested groups' translations summed."""
    found = {}

    def walk(element, above):
        moved = re.match(r"translate\([^,]+,([^)]+)\)", element.get("transform", ""))
        here = above + (float(moved[1]) if moved else 0.0)
        if element.text in texts:
            found[element.text] = here
        for child in element:
            walk(child, here)

    walk(Xml.fromstring(svg), 0.0)
    return found


@pytest.mark.parametrize("plot", [drift_plot, importance_plot])
def test_headings_of_one_row_stand_at_one_height(plot, capfd):
    """Where the first alone has labels, one at the very top of its axis must not lift its heading."""
    rows = [
        row(f"layers.{depth}.{module}", module, depth, drift=0.5, importance=0.5)
        for depth in range(2)
        for module in ("query", "key", "value", "output")
    ]
    found = heights(drawn(plot(rows), capfd), {"query", "key", "value", "output"})
    assert len(found) == 4
    assert max(found.values()) - min(found.values()) < 0.01


def test_what_is_no_projection_of_a_block_is_grey_and_no_two_projections_look_alike():
    projections = ("query", "key", "value", "output", "gate", "up", "down")
    assert len({COLOURS[module] for module in projections}) == len(projections)
    fused = {"qkv", "gate_up"}
    others = {COLOURS[module] for module in COLOURS.keys() - {*projections} - fused}
    assert len(others) == 1 and not others & {COLOURS[module] for module in projections}


def test_every_kind_of_module_has_a_place_and_a_colour_of_the_palette():
    assert set(COLOURS) == set(get_args(Module))
    greys = {colour for colour in COLOURS.values() if len(set(re.findall("..", colour[1:]))) == 1}
    assert set(COLOURS.values()) - greys < OKABE_ITO
