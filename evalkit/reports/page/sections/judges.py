"""Judges: which numbers rest on which, how far each may be believed, and what it was not asked or did not say.

Corrected numbers stand beside the raw ones: by people's ratings of a draw (PPI++), or by what the judge's card says of
its errors (Rogan and Gladen). What a judge replied is untrusted text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from evalkit.errors import UsageError
from evalkit.identity import short
from evalkit.records.judging import JudgeCard, JudgeRecord
from evalkit.records.scorecard import Estimate, Scorecard
from evalkit.records.verdict import Outcome, Verdict
from evalkit.reports.clean import printable
from evalkit.reports.judge_card import TITLES
from evalkit.reports.page.interval_plot import Mark, interval_plot
from evalkit.reports.page.section import Plot, Section, fragment, when
from evalkit.reports.reported import FinishedRun
from evalkit.reports.view import card_in_words, missing_samples, number, span

DRAWN: Final = frozenset(TITLES) - {"length_slope"}
"""Figures of a card on one axis; a slope has another unit."""
METHODS: Final = {
    "ppi++": "corrected by people’s ratings of a draw (PPI++)",
    "rogan-gladen": "corrected by the card’s sensitivity and specificity (Rogan–Gladen)",
}
"""Method of an interval → what was done to the number."""
MOST_SHOWN: Final = 3
"""Doubtful judgements shown of a judge."""
LOOKED_THROUGH: Final = 200_000
"""Judgements that are looked through for them."""
LONGEST: Final = 600
"""Characters shown of a reply."""
UNREAD: Final = (
    "judgements.jsonl is absent or was changed after the run, so no reply is shown; the numbers are those of the "
    "scorecard."
)


@dataclass(frozen=True, slots=True)
class NumberLine:
    """A number that rests on a judge."""

    name: str
    model: str
    value: str
    interval: str
    n: str
    missing: str
    how: str
    """How it was corrected; empty for what the judge itself says."""
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FigureLine:
    """A figure of a card."""

    title: str
    value: str
    interval: str
    n: str
    told: str


@dataclass(frozen=True, slots=True)
class DoubtfulLine:
    """A judgement whose replies contradict one another, or that has no verdict."""

    sample: str
    task: str
    model: str
    why: str
    replies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JudgePart:
    """One judge, as its fragment shows it."""

    id: str
    record: JudgeRecord
    pins: str
    model: str
    card_told: str
    flags: tuple[str, ...]
    unjudged: tuple[tuple[str, str], ...]
    settled: tuple[tuple[str, str], ...]
    numbers: tuple[NumberLine, ...]
    figures: tuple[FigureLine, ...]
    made: str
    labels: str
    warnings: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    doubtful: tuple[DoubtfulLine, ...]
    number_plot: str
    number_alt: str
    card_plot: str
    card_alt: str


def section(run: FinishedRun) -> Section | None:
    """Return the judges of a run; None where nothing was judged."""
    scorecard, verdict = run.scorecard, run.verdict
    if not scorecard.judges:
        return None
    names = [record.judge for record in scorecard.judges]
    doubtful, unread = _doubtful(run, names)
    parts, plots = [], list[Plot]()
    for place, record in enumerate(scorecard.judges):
        given = _given(record, scorecard)
        part = _part(f"judges-{place}", record, given, verdict, doubtful.get(record.judge, ()))
        parts.append(part)
        plots += _plots(part, given)
    flagged = sum(bool(record.flags) for record in scorecard.judges)
    without = sum(record.card is None for record in scorecard.judges)
    told = [f"{len(names)} {'judge' if len(names) == 1 else 'judges'}"]
    told += [f"{without} without a card"] if without else []
    told += [f"{flagged} flagged"] if flagged else []
    return Section(
        "judges",
        "Judges",
        fragment("judges.html", judges=parts, unread=unread),
        told=f"{', '.join(told)}. What judges say is not what people would say.",
        count=told[-1] if len(told) > 1 else "",
        plots=tuple(plots),
    )


def _given(record: JudgeRecord, scorecard: Scorecard) -> list[Estimate]:
    """Return the estimates over all samples that rest on a judge."""
    return [
        estimate
        for estimate in scorecard.estimates
        if estimate.slice is None
        and estimate.kind != "gap"
        and record.gave(estimate.task, estimate.metric)
    ]


def _part(
    id_: str,
    record: JudgeRecord,
    given: Sequence[Estimate],
    verdict: Verdict | None,
    doubtful: Sequence[DoubtfulLine],
) -> JudgePart:
    card = record.card
    figures = tuple(_figures(card)) if card else ()
    values = "; ".join(f"{e.model} {e.name} {number(e.value)} {span(e.interval)}" for e in given)
    told = "; ".join(f"{figure.title} {figure.value} {figure.interval}" for figure in figures)
    drawn = card is not None and any(
        name in DRAWN and figure.value is not None for name, figure in card.figures.items()
    )
    return JudgePart(
        id=id_,
        record=record,
        pins=short(record.pins),
        model=short(record.model),
        card_told=printable(card_in_words(record)),
        flags=tuple(map(printable, record.flags)),
        unjudged=_counted(record.unjudged),
        settled=_counted(record.settled),
        numbers=tuple(map(_number_line, given)),
        figures=figures,
        made=when(card.made) if card else "",
        labels=short(card.labels) if card else "",
        warnings=tuple(map(printable, card.warnings)) if card else (),
        outcomes=tuple(_outcomes(record, verdict)),
        doubtful=tuple(doubtful),
        number_plot=f"{id_}-numbers" if any(e.value is not None for e in given) else "",
        number_alt=f"What judge {record.judge} gave, with intervals: {values}.",
        card_plot=f"{id_}-card" if drawn else "",
        card_alt=f"Card of judge {record.judge}, figures with their intervals: {told}.",
    )


def _counted(counts: Mapping[str, int]) -> tuple[tuple[str, str], ...]:
    return tuple((printable(reason), f"{n:,}") for reason, n in counts.items())


def _number_line(estimate: Estimate) -> NumberLine:
    held = estimate.interval
    return NumberLine(
        name=printable(f"{estimate.task}/{estimate.metric}"),
        model=estimate.model,
        value=number(estimate.value),
        interval=span(held) or "no interval",
        n=f"{estimate.counts.scored:,} of {estimate.counts.planned:,}",
        missing=missing_samples(estimate.counts),
        how=_how(estimate),
        warnings=tuple(map(printable, estimate.warnings)),
    )


def _how(estimate: Estimate) -> str:
    """Return how a number was corrected; empty for what the judge itself says."""
    if not estimate.metric.endswith(".corrected"):
        return ""
    return METHODS.get(estimate.interval.method if estimate.interval else "", "corrected")


def _figures(card: JudgeCard) -> Iterator[FigureLine]:
    known = [name for name in TITLES if name in card.figures]
    for name in [*known, *sorted(set(card.figures) - set(known))]:
        figure = card.figures[name]
        yield FigureLine(
            title=printable(TITLES.get(name, name)),
            value=number(figure.value),
            interval=span(figure.interval) or "no interval",
            n=f"{figure.n:,}",
            told=printable(figure.told),
        )


def _outcomes(record: JudgeRecord, verdict: Verdict | None) -> Iterator[Outcome]:
    """Yield what rules made of the numbers that rest on a judge."""
    for outcome in verdict.outcomes if verdict else ():
        task, _, rest = outcome.estimate.partition("@")[0].partition("/")
        if record.gave(task, rest):
            yield outcome


def _plots(part: JudgePart, given: Sequence[Estimate]) -> Iterator[Plot]:
    if part.number_plot:
        marks = [Mark(e.metric, e.model, e.value, e.interval) for e in given]
        if len({e.task for e in given}) > 1:
            marks = [Mark(f"{e.task}/{e.metric}", e.model, e.value, e.interval) for e in given]
        yield Plot(part.number_plot, interval_plot(marks, "what the judge gives"), part.number_alt)
    card = part.record.card
    if part.card_plot and card is not None:
        marks = [
            Mark(title, "", figure.value, figure.interval)
            for name, title in TITLES.items()
            if name in DRAWN and (figure := card.figures.get(name)) is not None
        ]
        yield Plot(
            part.card_plot, interval_plot(marks, "figure of the judge’s card"), part.card_alt
        )


def _doubtful(run: FinishedRun, judges: Sequence[str]) -> tuple[dict[str, list[DoubtfulLine]], str]:
    """Return judge → a few judgements of samples on which its replies disagree, and why none could be read."""
    found: dict[str, list[DoubtfulLine]] = {judge: [] for judge in judges}
    try:
        for row in islice(run.judgement_rows(), LOOKED_THROUGH):
            held, why = found.get(row["judge"]), _why_doubtful(row)
            if why and held is not None and len(held) < MOST_SHOWN:
                held.append(_doubtful_line(row, why))
                if all(len(lines) == MOST_SHOWN for lines in found.values()):
                    break
    except UsageError:
        return {}, UNREAD
    return found, ""


def _why_doubtful(row: Mapping[str, Any]) -> str:
    if not row.get("replies"):
        return ""
    if row.get("value") is None:
        return str(row.get("reason", "no verdict"))
    return "the two orders got different verdicts" if row.get("consistent") is False else ""


def _doubtful_line(row: Mapping[str, Any], why: str) -> DoubtfulLine:
    replies = (str(reply.get("text", "")) for reply in islice(row["replies"], 4))
    return DoubtfulLine(
        sample=printable(str(row["id"])[:LONGEST]),
        task=printable(str(row["task"])),
        model=str(row["model"]),
        why=printable(why),
        replies=tuple(
            printable(reply[:LONGEST]) + ("…" if len(reply) > LONGEST else "") for reply in replies
        ),
    )
