"""Whether a judge may decide: what a rule on a judged metric demands of the judge's card, and what of it is not met.

The bounds of intervals decide, never points: a figure meets its demand where all of its interval does. So few labels
never pass for want of evidence. The share of the first position is the exception: it is refused where its interval
shows that the judge leans too far, since what leaning costs is already in the consistency of the orders.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from evalkit.gates.wording import figures, percent, plain
from evalkit.identity import short
from evalkit.records.judging import CardFigure, JudgeCard, JudgeRecord
from evalkit.records.scorecard import Interval
from evalkit.records.suite import JudgeDemands

DIAGNOSED: Final = ("judged.passing", "judged.passing.corrected")
"""What a judge's card adds where it says from which score on an answer passes."""
NO_CARD: Final = "no judge card: 'evalkit judge validate' makes one"
NO_RECORD: Final = (
    "judges give this number, and the scorecard does not tell which: nothing vouches for it"
)
GIVEN_BY_JUDGES: Final = ("judged", "preferred")
"""The metrics that only judges give."""
LEAST_LEVEL: Final = 0.95
"""Least confidence of a card's intervals: of less, any judge would have narrow ones."""
MOST_LEVEL: Final = 0.99
"""Greatest confidence of the first position's interval, which is refused by what it shows: wider, it shows nothing."""
FEWEST_CANARIES: Final = 9
"""Worthless answers on which a judge must have given a verdict: as many as there are kinds of them."""
LESS_THAN_PEOPLE: Final = 0.1
"""How far a judge's kappa with people may stay below people's among themselves, where that is less than the demand.

**Source**: Zheng et al. 2023, arXiv 2306.05685, section 4.2: a judge is as good as a person where it agrees with people
as people do.
"""


def why_unfit(
    demands: JudgeDemands, record: JudgeRecord | None, form: Literal["pointwise", "pairwise"]
) -> str:
    """Return, in words, what of its demands a rule does not find in a judge's card; empty where all are met.

    ``record`` is the judge as the run used it, with the card that the run found. Of a card that is missing, of another
    judge, or of an endpoint that may change, nothing else is told.
    """
    if record is None or record.card is None:
        return NO_CARD
    card = record.card
    if card.pins != record.pins:
        return (
            f"the judge card is of another judge ({short(card.pins)}, not {short(record.pins)}): its model, prompt, "
            "criteria, scale, decoding or parser has changed since; 'evalkit judge validate' makes a new one"
        )
    if not card.pinned:
        return (
            "the judge card is of an endpoint whose bytes nobody sees: state what is served, --model-arg revision=… or "
            "'model_args: {revision: …}', and validate the judge again"
        )
    unmet = [*_levels(demands, card, form), *_agreement(demands, card), *_replies(demands, card)]
    if form == "pairwise":
        unmet += _orders(demands, card)
    return "; ".join(unmet)


def reads_card(estimate: str) -> bool:
    """Return whether a rule names a number that is there only by what a judge's card says."""
    return estimate.partition("@")[0].partition("/")[2] in DIAGNOSED


def lacking_pass_at(estimate: str) -> str:
    """Return why nothing is there that a rule names, where a judge's card would have to say what passes; empty else."""
    if not reads_card(estimate):
        return ""
    return (
        f"{estimate} takes a judge card that says from which score on an answer passes: "
        "'evalkit judge validate --pass-at SCORE' makes one"
    )


def _levels(
    demands: JudgeDemands, card: JudgeCard, form: Literal["pointwise", "pairwise"]
) -> Iterator[str]:
    """Yield which of the demanded figures have intervals of too little confidence to decide, or of too much."""
    demanded = {"kappa": demands.kappa, "no_verdict": demands.no_verdict}
    if form == "pairwise":
        demanded["order_consistency"] = demands.order_consistency
        demanded["first_position"] = demands.first_position
    for name, demand in demanded.items():
        interval = _figure(card, name).interval
        if demand is None or interval is None:
            continue
        most = MOST_LEVEL if name == "first_position" else 1.0
        if not LEAST_LEVEL <= interval.level <= most:
            wanted = f"below {percent(LEAST_LEVEL)}"
            if interval.level > most:
                wanted = f"above {percent(most)}, where it shows nothing"
            yield f"the judge card's interval of {name} is of {percent(interval.level)}, {wanted}"


def _agreement(demands: JudgeDemands, card: JudgeCard) -> Iterator[str]:
    """Yield what is missing of the judge's agreement with people."""
    labels = _figure(card, "accuracy").n
    if labels < demands.labels:
        yield f"the judge card rests on {labels:,} labelled items, fewer than {demands.labels:,}"
    if demands.kappa is None:
        return
    kappa, people = _figure(card, "kappa"), _figure(card, "people_kappa").value
    least, among = demands.kappa, ""
    if people is not None and people - LESS_THAN_PEOPLE < least:
        # A judge is not asked to agree with people more than they do; it must beat chance all the same.
        least = max(round(people - LESS_THAN_PEOPLE, 12), 0.0)
        among = f" (people among themselves: {plain(round(people, 3))})"
    if kappa.value is None or kappa.interval is None:
        yield "the judge card does not tell its kappa with people"
    elif kappa.interval.low < least:
        shown = _bound("low", kappa.interval, least)
        yield f"the judge's kappa with people {shown}{among}"
    elif kappa.interval.low <= 0 <= least:
        yield f"the judge's kappa with people may be as low as 0, no better than chance{among}"


def _replies(demands: JudgeDemands, card: JudgeCard) -> Iterator[str]:
    """Yield what is wrong with the judge's replies, whatever it is asked."""
    unread = _figure(card, "no_verdict")
    if demands.no_verdict is not None:
        if unread.interval is None:
            yield "the judge card does not tell how many replies have no verdict"
        elif unread.interval.high > demands.no_verdict:
            shown = _bound("high", unread.interval, demands.no_verdict)
            count = round((unread.value or 0.0) * unread.n)
            yield (
                f"the judge's share of items without a verdict {shown}: {count:,} of {unread.n:,} labelled items"
            )
    fooled = _figure(card, "canary_false_positives")
    if demands.canaries is not None:
        count = round((fooled.value or 0.0) * fooled.n)
        if fooled.value is None or not fooled.n:
            yield "the judge card does not tell what the judge says of worthless answers"
        elif fooled.n < FEWEST_CANARIES:
            yield (
                f"the judge card tells of {fooled.n:,} worthless answers with a verdict, fewer than {FEWEST_CANARIES}"
            )
        elif count > demands.canaries:
            yield (
                f"the judge takes {count:,} of {fooled.n:,} worthless answers for good, more than {demands.canaries:,}"
            )


def _orders(demands: JudgeDemands, card: JudgeCard) -> Iterator[str]:
    """Yield in what a pairwise judge depends on which answer it sees first."""
    consistent, least = _figure(card, "order_consistency").interval, demands.order_consistency
    if least is not None:
        if consistent is None:
            yield "the judge card does not tell how often both orders agree"
        elif consistent.low < least:
            yield f"the judge's agreement of both orders {_bound('low', consistent, least)}"
    first, most = _figure(card, "first_position").interval, demands.first_position
    if most is not None:
        if first is None:
            yield "the judge card does not tell how often the answer shown first is preferred"
        elif first.low > 0.5 + most or first.high < 0.5 - most:
            low, high = figures(first.low, first.high)
            yield (
                f"the judge prefers the answer shown first in a share of {low} to {high} of the orders, farther from "
                f"½ than {plain(most)}"
            )


def _figure(card: JudgeCard, name: str) -> CardFigure:
    return card.figures.get(name, CardFigure(value=None))


def _bound(end: Literal["low", "high"], interval: Interval, threshold: float) -> str:
    held = interval.low if end == "low" else interval.high
    shown, wanted = figures(held, threshold)
    reach = "may be as low as" if end == "low" else "may be as high as"
    relation = "below" if end == "low" else "above"
    return f"{reach} {shown}, {relation} {wanted}"
