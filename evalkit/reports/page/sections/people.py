"""People's ratings: what they come to, what they make of a judge's scores, who rated how many and how far they agree.

Numbers and intervals are the scorecard's. Who rated what it does not hold: that is told where the run has its ratings,
and the agreement of each two annotators is then that of ``evalkit review import``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from evalkit.errors import UsageError
from evalkit.records.review import RatedAnswer
from evalkit.records.scorecard import Comparison, Estimate, Scorecard
from evalkit.records.suite import ReviewSpec, SuiteSpec
from evalkit.reports.clean import printable
from evalkit.reports.page.interval_plot import Mark, interval_plot
from evalkit.reports.page.section import Plot, Section, fragment
from evalkit.reports.reported import FinishedRun
from evalkit.reports.view import missing_samples, number, signed, span
from evalkit.reviewing import AGREEMENT, HUMAN, task_agreement
from evalkit.reviewing.corrected import CORRECTED
from evalkit.stats.agreement import Agreement

ALPHA: Final = f"{HUMAN}.{AGREEMENT}"
MEANINGS: Final = {
    f"{HUMAN}.pass": "share of the drawn answers whose rating passes",
    f"{HUMAN}.rating": "mean rating, 0 the worst and 1 the best",
    ALPHA: "Krippendorff’s alpha of all annotators, over the items that two or more of them rated",
    CORRECTED: "what people would have said of every answer that the judge scored (PPI++)",
    "judged.score": "what the judge says, uncorrected",
}
"""Number → what it is."""
RAW: Final = CORRECTED.removesuffix(".corrected")
MOST_ROWS: Final = 500
"""Numbers told of a task, those over all samples first."""
MOST_ANNOTATORS: Final = 50
"""Annotators, and pairs of them, told of a task."""
UNREAD: Final = (
    "labels.jsonl is absent or was changed after the import, so it is not told who rated how many; the numbers are "
    "those of the scorecard."
)


@dataclass(frozen=True, slots=True)
class NumberLine:
    """A number that rests on people."""

    name: str
    slice: str
    model: str
    value: str
    interval: str
    rated: str
    missing: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChangeLine:
    """Candidate against baseline, by people."""

    name: str
    difference: str
    interval: str
    pairs: str
    direction: str


@dataclass(frozen=True, slots=True)
class AgreementLine:
    """How far annotators agree."""

    who: str
    what: str
    value: str
    interval: str
    items: str


@dataclass(frozen=True, slots=True)
class TaskPart:
    """One rated task, as its fragment shows it."""

    id: str
    task: str
    question: str
    asked: str
    numbers: tuple[NumberLine, ...]
    more_numbers: int
    meanings: tuple[tuple[str, str], ...]
    """(number, what it is)."""
    changes: tuple[ChangeLine, ...]
    annotators: tuple[tuple[str, str], ...]
    """(name, items rated)."""
    more_annotators: int
    items: str
    ratings: str
    agreements: tuple[AgreementLine, ...]
    plot: str
    alt: str


def section(run: FinishedRun) -> Section | None:
    """Return what people's ratings give; None where nobody rated any answer."""
    scorecard = run.scorecard
    tasks = list(dict.fromkeys(e.task for e in scorecard.estimates if _of_people(e.metric)))
    if not scorecard.labels or not tasks:
        return None
    rated, unread = _rated(run)
    parts, plots = [], list[Plot]()
    for place, task in enumerate(tasks):
        part = _part(f"people-{place}", task, scorecard, run.suite, rated)
        parts.append(part)
        shown = _shown(scorecard, task)
        if part.plot:
            marks = [Mark(e.metric, e.model, e.value, e.interval) for e in shown]
            plots.append(Plot(part.plot, interval_plot(marks, "people’s ratings"), part.alt))
    return Section(
        "people",
        "People",
        fragment("people.html", tasks=parts, unread=unread),
        told="What people said of answers drawn with equal chance, blinded to the model.",
        plots=tuple(plots),
    )


def _of_people(metric: str) -> bool:
    return metric.partition(".")[0] == HUMAN or metric == CORRECTED


def _rated(run: FinishedRun) -> tuple[Sequence[RatedAnswer], str]:
    try:
        return run.rated(), ""
    except UsageError:
        return (), UNREAD


def _shown(scorecard: Scorecard, task: str) -> list[Estimate]:
    """Return the numbers over all samples, a judge's raw score before what people make of it."""
    held = [e for e in scorecard.estimates if e.task == task and e.slice is None]
    corrected = any(e.metric == CORRECTED for e in held)
    return [e for e in held if _of_people(e.metric) or (corrected and e.metric == RAW)]


def _part(
    id_: str,
    task: str,
    scorecard: Scorecard,
    suite: SuiteSpec | None,
    rated: Sequence[RatedAnswer],
) -> TaskPart:
    shown = _shown(scorecard, task)
    sliced = [
        e
        for e in scorecard.estimates
        if e.task == task and e.slice is not None and e.kind != "gap" and _of_people(e.metric)
    ]
    specs = {each.name: each.review for each in suite.sampled} if suite else {}
    spec = specs.get(task)
    items = {row.item: row for row in rated if row.task == task and row.ratings and row.item}
    by = Counter(name for row in items.values() for name in row.ratings)
    values = "; ".join(f"{e.model} {e.metric} {number(e.value)} {span(e.interval)}" for e in shown)
    return TaskPart(
        id=id_,
        task=task,
        question=printable(spec.question) if spec else "",
        asked=_asked(spec) if spec else "",
        numbers=tuple(map(_line, [*shown, *sliced][:MOST_ROWS])),
        more_numbers=max(0, len(shown) + len(sliced) - MOST_ROWS),
        meanings=tuple(
            (name, told) for name, told in MEANINGS.items() if any(e.metric == name for e in shown)
        ),
        changes=tuple(_changes(scorecard, task)),
        annotators=tuple((printable(name), f"{n:,}") for name, n in sorted(by.items()))[
            :MOST_ANNOTATORS
        ],
        more_annotators=max(0, len(by) - MOST_ANNOTATORS),
        items=f"{len(items):,}",
        ratings=f"{sum(by.values()):,}",
        agreements=tuple(_agreements(task, spec, suite, rated)) if items else (),
        plot=f"{id_}-numbers" if any(e.value is not None for e in shown) else "",
        alt=f"What people said of {task}, with intervals: {values}.",
    )


def _asked(spec: ReviewSpec) -> str:
    return printable(f"{', '.join(map(str, spec.ratings))}; passes from {spec.pass_at} on")


def _line(estimate: Estimate) -> NumberLine:
    return NumberLine(
        name=f"{estimate.task}/{estimate.metric}",
        slice=printable(estimate.slice) if estimate.slice is not None else "all samples",
        model=estimate.model if estimate.metric != ALPHA else "both",
        value=number(estimate.value),
        interval=span(estimate.interval) or "no interval",
        rated=(
            f"{estimate.n or 0:,} items"
            if estimate.metric == ALPHA
            else f"{estimate.counts.scored:,} of {estimate.counts.planned:,}"
        ),
        missing="" if estimate.metric == ALPHA else missing_samples(estimate.counts),
        warnings=tuple(map(printable, estimate.warnings)),
    )


def _changes(scorecard: Scorecard, task: str) -> Iterator[ChangeLine]:
    for held in scorecard.comparisons:
        if held.task == task and held.slice is None and _of_people(held.metric):
            yield _change(held)


def _change(held: Comparison) -> ChangeLine:
    name = f"{held.task}/{held.metric}"
    if held.status != "compared":
        return ChangeLine(name, held.status, printable(held.reason), f"{held.pairs:,}", "")
    interval, word = held.interval, "same"
    if interval is not None and not interval.low <= 0 <= interval.high:
        word = "better" if (interval.low > 0) == (held.better == "higher") else "worse"
    told = span(interval) or "no interval"
    return ChangeLine(name, signed(held.difference), told, f"{held.pairs:,}", word)


def _agreements(
    task: str, spec: ReviewSpec | None, suite: SuiteSpec | None, rated: Sequence[RatedAnswer]
) -> Iterator[AgreementLine]:
    if spec is None or suite is None:
        return
    held = task_agreement(task, spec, rated, seed=suite.seed, level=suite.confidence)
    yield _agreement("all", f"Krippendorff’s alpha ({held.measurement})", held.alpha)
    yield _agreement("all", "pairs of ratings alike", held.same)
    for pair in held.pairs[:MOST_ANNOTATORS]:
        who = printable(" and ".join(pair.annotators))
        yield _agreement(who, "Cohen’s kappa", pair.kappa)
        yield _agreement(who, "rated alike", pair.same)


def _agreement(who: str, what: str, found: Agreement) -> AgreementLine:
    interval = span(found.interval) or "no interval"
    return AgreementLine(who, what, number(found.value), interval, f"{found.units:,}")
