"""Every number over all samples, candidate beside baseline, as intervals and as a table.

Numbers of weights and gaps between groups have parts of their own; numbers of slices too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from evalkit.records.scorecard import Estimate, Scorecard
from evalkit.reports.page.section import Plot, Section, anchor, fragment
from evalkit.reports.reported import FinishedRun
from evalkit.reports.vega import BLUE, GREY, SCHEMA, Spec
from evalkit.reports.view import EstimateRow, estimate_rows, missing_samples, number, span

APART: Final = ("census", "gap")
"""Kinds of numbers that other parts of the page show."""
MOST_ROWS: Final = 500
"""Rows of the table; what moved stands first where there are more."""
MOST_PLOTS: Final = 24
"""Plots, one for each task, unit and direction."""
MOST_DRAWN: Final = 40
"""Numbers in one plot."""
COLOURS: Final = {"candidate": BLUE, "baseline": GREY}
"""Model → its colour in plots."""
SHAPES: Final = {"candidate": "diamond", "baseline": "circle"}
"""Model → its shape in plots."""
STEP: Final = 36
"""Height of one number with both models, in pixels."""
LABEL: Final = 24
"""Characters of a name on one line beside a plot."""


@dataclass(frozen=True, slots=True)
class Row:
    """One number as the table shows it."""

    held: EstimateRow
    """Candidate, baseline, difference."""
    id: str
    """Its row."""
    any: Estimate
    """The candidate's estimate, or the baseline's where there is no other."""
    n: int
    """Samples it is over."""
    lost: str
    """What was lost of them, in words."""
    p: str
    """The p-value of no difference."""
    made: tuple[str, ...]
    """How the intervals were made."""
    warnings: tuple[str, ...]
    """Why they are not to be trusted blindly."""
    shown: str
    """``better``, ``worse``, ``same``; empty where nothing was compared."""


def section(run: FinishedRun) -> Section | None:
    """Return the numbers over all samples; None where there are none."""
    scorecard = run.scorecard
    held = over_all(scorecard)
    if not held:
        return None
    rows = [row_of(each) for each in held]
    plots = list(_plots(rows))
    paired = "baseline" in scorecard.provenance.models
    left = sum(_shown_nowhere_else(each) for each in estimate_rows(scorecard)) - len(held)
    levels = {each.interval.level for each in scorecard.estimates if each.interval}
    level = f"{100 * max(levels):.4g} % intervals. " if levels else ""
    body = fragment("estimates.html", rows=rows, plots=plots, paired=paired, left=left)
    told = f"{level}Candidate and baseline answered the same samples." if paired else level.strip()
    return Section(
        "estimates", "Numbers", body, told=told, count=f"{len(held) + left:,}", plots=tuple(plots)
    )


def over_all(scorecard: Scorecard) -> list[EstimateRow]:
    """Return the rows over all samples that this part of the page shows."""
    rows = [row for row in estimate_rows(scorecard) if _shown_nowhere_else(row)]
    if len(rows) <= MOST_ROWS:
        return rows
    return sorted(rows, key=attention)[:MOST_ROWS]


def _shown_nowhere_else(row: EstimateRow) -> bool:
    return row.slice is None and row.told.kind not in APART


def attention(row: EstimateRow) -> tuple[int, float]:
    """Return the place of a row among others: shown worse first, then better, then the rest; far before near."""
    compared = row.comparison
    far = abs(compared.difference) if compared and compared.difference is not None else -1.0
    return {"worse": 0, "better": 1, "": 2}[row.direction], -far


def row_of(held: EstimateRow) -> Row:
    """Return a row of the table."""
    shown, compared = held.told, held.comparison
    paired = compared is not None and compared.status == "compared"
    both = [each for each in (held.candidate, held.baseline) if each is not None]
    warnings = [*dict.fromkeys(w for each in (*both, compared) if each for w in each.warnings)]
    if compared and compared.reason:
        warnings.append(compared.reason)
    lost = [missing_samples(shown.counts)]
    if compared and compared.unpaired:
        lost.append(f"{compared.unpaired:,} unpaired")
    return Row(
        held,
        anchor("estimate", held.name),
        shown,
        shown.counts.scored if shown.n is None else shown.n,
        ", ".join(filter(None, lost)),
        p_in_words(compared.p_value) if compared else "",
        tuple(_made(both, compared.test if compared and paired else "")),
        tuple(warnings),
        (held.direction or "same") if paired and compared and compared.interval else "",
    )


def p_in_words(p: float | None) -> str:
    """Return a p-value with two significant digits.

    >>> p_in_words(0.0312), p_in_words(2e-9), p_in_words(1.0), p_in_words(None)
    ('0.031', '< 0.0001', '1', '–')
    """
    if p is None:
        return "–"
    return "< 0.0001" if p < 0.0001 else f"{p:.2g}"


def _made(estimates: Iterable[Estimate], test: str) -> Iterator[str]:
    """Yield the methods of the intervals, the candidate's first, and of the p-value."""
    yield from dict.fromkeys(each.interval.method for each in estimates if each.interval)
    if test:
        yield test


def _plots(rows: Iterable[Row]) -> Iterator[Plot]:
    """Yield one plot for each task, unit and direction: each has a scale of its own."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.any.task, row.any.unit, row.any.better), []).append(row)
    for n, ((task, unit, better), held) in enumerate(islice(groups.items(), MOST_PLOTS)):
        points = [point for row in held[:MOST_DRAWN] for point in _points(row)]
        if points:
            more = (
                f", {len(held) - MOST_DRAWN:,} more in the table" if len(held) > MOST_DRAWN else ""
            )
            yield Plot(
                f"estimates-{n}",
                _intervals_plot(f"{task}{more}", f"{unit}, {better} is better", points),
                _alt(task, unit, points),
            )


def _points(row: Row) -> Iterator[dict[str, Any]]:
    for model, estimate in (("candidate", row.held.candidate), ("baseline", row.held.baseline)):
        if estimate is None or estimate.value is None:
            continue
        interval = estimate.interval
        yield {
            "metric": in_lines(estimate.metric),
            "name": estimate.metric,
            "model": model,
            "value": estimate.value,
            "low": interval.low if interval else None,
            "high": interval.high if interval else None,
            "told": f"{number(estimate.value)} {span(interval) or '(no interval)'}",
            "better": f"{estimate.better} is better",
        }


def in_lines(name: str) -> str:
    r"""Return a name on as many lines as a plot's margin needs.

    >>> in_lines("counterfactual_accuracy.difference.female")
    'counterfactual_accuracy.\ndifference.female'
    """
    lines = [""]
    for part in name.replace(".", ".\0").split("\0"):
        if lines[-1] and len(lines[-1]) + len(part) > LABEL:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _alt(task: str, unit: str, points: Iterable[dict[str, Any]]) -> str:
    told = "; ".join(f"{p['name']}, {p['model']}: {p['told']}" for p in points)
    return f"Intervals of {task} in {unit}. {told}."


def _intervals_plot(task: str, unit: str, points: list[dict[str, Any]]) -> Spec:
    """Return values with their intervals: a filled diamond for the candidate, a circle for the baseline below it."""
    domain = [m for m in COLOURS if any(point["model"] == m for point in points)]
    colour = {
        "field": "model",
        "type": "nominal",
        "title": None,
        "scale": {"domain": domain, "range": [COLOURS[m] for m in domain]},
    }
    shape = colour | {"scale": {"domain": domain, "range": [SHAPES[m] for m in domain]}}
    metrics = list(dict.fromkeys(point["metric"] for point in points))
    place = {
        "field": "metric",
        "type": "nominal",
        "title": None,
        "sort": metrics,
        "scale": {"paddingInner": 0.3, "paddingOuter": 0.2},
        "axis": {
            "labelExpr": "split(datum.label, '\\n')",
            "labelLimit": 220,
            "minExtent": 150,
            "labelPadding": 8,
            "ticks": False,
            "domain": False,
        },
    }
    across = {"type": "quantitative", "title": unit, "scale": {"zero": False}}
    tip = [
        {"field": "name", "title": "metric"},
        {"field": "model", "title": "model"},
        {"field": "told", "title": unit},
        {"field": "better", "title": "read it"},
    ]
    return {
        "$schema": SCHEMA,
        "title": task,
        "width": "container",
        "height": STEP * len(metrics),
        "autosize": {"type": "fit-x", "contains": "padding"},
        "data": {"values": points},
        "encoding": {"y": place, "yOffset": {"field": "model", "sort": domain}, "color": colour},
        "layer": [
            {
                "mark": {"type": "rule", "strokeWidth": 2.2},
                "encoding": {"x": {"field": "low", **across}, "x2": {"field": "high"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 75},
                "encoding": {"x": {"field": "value", **across}, "shape": shape, "tooltip": tip},
            },
        ],
    }
