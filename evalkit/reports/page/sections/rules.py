"""Every rule's answers, what needs attention first, and how far each is from its line.

The distance is an outcome's own (``Outcome.distance``): from the interval's deciding end to the line that the whole
interval must keep to, in the unit of what was observed, negative where the end lies beyond. In a plot every line stands
at 0 and what keeps to it on the right, whichever direction the rule asks for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from evalkit.records.scorecard import Estimate
from evalkit.records.verdict import Outcome, Verdict
from evalkit.reports.page.section import MARKS, Plot, Section, anchor, fragment, precise
from evalkit.reports.page.sections.estimates import over_all
from evalkit.reports.page.sections.slices import shown_slices
from evalkit.reports.reported import FinishedRun
from evalkit.reports.vega import BLUE, ORANGE, PURPLE, SCHEMA, VERMILION, Spec
from evalkit.reports.view import diagnostic_p, number, ordered_outcomes, span, waiver_in_words

MOST_OF_A_RULE: Final = 8
"""Outcomes of one rule that count alike and are shown one by one: one on every tensor has thousands."""
MOST_ROWS: Final = 400
"""Outcomes shown of all rules together."""
MOST_DRAWN: Final = 30
"""Outcomes drawn against their lines, of one unit."""

STEP: Final = 36
"""Height of one outcome, in pixels."""
DRAWN: Final = {
    "failed": (VERMILION, "cross"),
    "undecided": (ORANGE, "triangle-up"),
    "waived": (PURPLE, "square"),
    "passed": (BLUE, "circle"),
}
"""Answer → its colour and shape in plots."""


@dataclass(frozen=True, slots=True)
class Row:
    """One outcome as the table shows it."""

    outcome: Outcome
    """The outcome."""
    id: str
    """Its row."""
    where: str
    """The place of the number that it was decided on; empty where the page has none."""
    unit: str
    """The number's unit."""
    observed: str
    """What was observed; a count as one."""
    interval: str
    """Its interval; empty for what was counted."""
    distance: float | None
    """From the deciding end of the interval to the line."""
    shown: str
    """The distance in words."""
    waiver: str
    """Who waived it, in words."""
    p: str
    """Its adjusted p-value, in words."""


def section(run: FinishedRun) -> Section | None:
    """Return every rule's answers; None where no rule was asked."""
    verdict = run.verdict
    if verdict is None or not verdict.outcomes:
        return None
    rows = list(_rows(run, verdict))
    failed, undecided = _count(verdict, "fail"), _count(verdict, "inconclusive", "missing")
    told = [f"{failed:,} failed"] * bool(failed) + [f"{undecided:,} undecided"] * bool(undecided)
    plots = list(_plots(rows))
    body = fragment(
        "rules.html",
        rows=rows,
        plots=plots,
        folded=list(_folded(verdict)),
        families=verdict.families,
        statuses=[
            (kind, MARKS[kind][1]) for kind in dict.fromkeys(row.outcome.counts_as for row in rows)
        ],
        gates=len(verdict.gates) > 1,
        lined=any(row.distance is not None for row in rows),
    )
    return Section(
        "rules",
        "Rules",
        body,
        told="Each rule on each number that it names; what needs attention stands first.",
        count=", ".join(told) or f"{len(verdict.outcomes):,} passed",
        plots=tuple(plots),
    )


def target(outcome: Outcome) -> str:
    """Return the id of an outcome's row."""
    return anchor("outcome", f"{outcome.gate} {outcome.rule} {outcome.estimate}")


def shown_outcomes(verdict: Verdict) -> list[Outcome]:
    """Return the outcomes that have a row: of each rule the first few that count alike."""
    held: Counter[tuple[str, str, str]] = Counter()
    shown = []
    for outcome in ordered_outcomes(verdict):
        alike = outcome.gate, outcome.rule, outcome.counts_as
        held[alike] += 1
        if held[alike] <= MOST_OF_A_RULE:
            shown.append(outcome)
    return shown[:MOST_ROWS]


def _folded(verdict: Verdict) -> Iterator[tuple[str, str, int]]:
    """Yield rule, word and number of the outcomes that have no row."""
    rows = Counter((o.rule, MARKS[o.counts_as][1]) for o in shown_outcomes(verdict))
    every = Counter((o.rule, MARKS[o.counts_as][1]) for o in ordered_outcomes(verdict))
    for (rule, word), count in every.items():
        if more := count - rows[rule, word]:
            yield rule, word, more


def _count(verdict: Verdict, *kinds: str) -> int:
    return sum(outcome.counts_as in kinds for outcome in verdict.outcomes)


def _rows(run: FinishedRun, verdict: Verdict) -> Iterator[Row]:
    scorecard = run.scorecard
    estimates = {each.name: each for each in scorecard.estimates if each.model == "candidate"}
    listed = {row.name for row in (*over_all(scorecard), *shown_slices(scorecard))}
    for outcome in shown_outcomes(verdict):
        estimate = estimates.get(outcome.estimate)
        distance = outcome.distance
        yield Row(
            outcome,
            target(outcome),
            _where(outcome.estimate, estimate, listed),
            "" if estimate is None else estimate.unit,
            *_observed(outcome),
            distance,
            "–" if distance is None else precise(distance),
            waiver_in_words(outcome),
            diagnostic_p(outcome) or _adjusted(outcome),
        )


def _observed(outcome: Outcome) -> tuple[str, str]:
    """Return what was observed and its interval, where it is more than a count."""
    observed, interval = outcome.observed, outcome.interval
    counted = interval is None or interval.low == interval.high
    if observed is not None and counted and observed.is_integer():
        return f"{observed:,.0f}".replace("-", "−"), ""
    return number(observed), "" if counted else span(interval)


def _where(name: str, estimate: Estimate | None, listed: set[str]) -> str:
    if name in listed:
        return anchor("estimate", name)
    kind = "" if estimate is None else estimate.kind
    return {"gap": "fairness", "census": "weights"}.get(kind, "")


def _adjusted(outcome: Outcome) -> str:
    if outcome.p_adjusted is None:
        return ""
    return f"p of a regression {outcome.p_adjusted:.2g}, adjusted over the family"


def _plots(rows: list[Row]) -> Iterator[Plot]:
    """Yield the outcomes of each unit against their lines."""
    several = Counter(row.outcome.rule for row in rows)
    by_unit: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        point = _point(row, alone=several[row.outcome.rule] == 1)
        if point is not None:
            by_unit.setdefault(row.unit, []).append(point)
    for n, (unit, points) in enumerate(by_unit.items()):
        drawn = points[:MOST_DRAWN]
        told = "; ".join(f"{p['rule']} on {p['on']} {p['answer']}, {p['distance']}" for p in drawn)
        yield Plot(f"lines-{n}", _lines_plot(unit, drawn), f"Room to the line in {unit}. {told}.")


def _point(row: Row, *, alone: bool) -> dict[str, Any] | None:
    """Return an outcome with its interval seen from its line; None for counts, which have no width to see."""
    interval, observed = row.outcome.interval, row.outcome.observed
    if (
        interval is None
        or observed is None
        or interval.low == interval.high
        or not row.outcome.lines
    ):
        return None
    line = min(row.outcome.lines, key=lambda each: each.room(interval))
    sign = 1 if line.above else -1
    low, high = sorted(sign * (end - line.at) for end in (interval.low, interval.high))
    return {
        "rule": row.outcome.rule,
        "on": row.outcome.estimate,
        "row": row.outcome.rule
        if alone
        else f"{row.outcome.rule}\n{row.outcome.estimate.partition('/')[2]}",
        "answer": MARKS[row.outcome.counts_as][1],
        "low": low,
        "high": high,
        "at": sign * (observed - line.at),
        "distance": row.shown,
        "required": row.outcome.required,
    }


def _lines_plot(unit: str, points: list[dict[str, Any]]) -> Spec:
    answers = [answer for answer in DRAWN if any(point["answer"] == answer for point in points)]
    answer = {"field": "answer", "type": "nominal", "title": None}
    colour = answer | {"scale": {"domain": answers, "range": [DRAWN[each][0] for each in answers]}}
    shape = answer | {"scale": {"domain": answers, "range": [DRAWN[each][1] for each in answers]}}
    place = {
        "field": "row",
        "type": "nominal",
        "title": None,
        "sort": [point["row"] for point in points],
        "axis": {
            "labelExpr": "split(datum.label, '\\n')",
            "labelLimit": 200,
            "labelPadding": 8,
            "ticks": False,
            "domain": False,
        },
    }
    across = {"type": "quantitative", "title": unit, "axis": {"tickCount": 6}}
    tip = [
        {"field": "rule", "title": "rule"},
        {"field": "on", "title": "on"},
        {"field": "required", "title": "required"},
        {"field": "distance", "title": f"to the line ({unit})"},
    ]
    return {
        "$schema": SCHEMA,
        "width": "container",
        "height": STEP * len(points),
        "autosize": {"type": "fit-x", "contains": "padding"},
        "data": {"values": points},
        "layer": [
            {
                "data": {"values": [{}]},
                "mark": {"type": "rule", "strokeWidth": 1.5, "color": "var(--text)"},
                "encoding": {"x": {"datum": 0}},
            },
            {
                "mark": {"type": "rule", "strokeWidth": 2.5},
                "encoding": {
                    "y": place,
                    "x": {"field": "low", **across},
                    "x2": {"field": "high"},
                    "color": colour,
                },
            },
            {
                "mark": {"type": "point", "filled": True, "size": 90},
                "encoding": {
                    "y": place,
                    "x": {"field": "at", **across},
                    "color": colour,
                    "shape": shape,
                    "tooltip": tip,
                },
            },
        ],
    }
