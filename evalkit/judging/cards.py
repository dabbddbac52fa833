"""From what a judge says of labelled items to the figures of its card, each with its interval and the items behind it.

People's word on an item is what most of them say (``labels.consensus``). An item without a verdict is never dropped
from agreement: in accuracy it is wrong, in kappa and AC1 a category that no person ever chooses. Alpha, the length's
slope, sensitivity and specificity rest on verdicts alone, and say so.

- ``accuracy``, ``kappa`` (Cohen), ``ac1`` (Gwet), ``alpha`` (Krippendorff: ordinal on a scale, nominal for pairs)
  tell how far the judge agrees with people; ``people_kappa``, ``people_alpha`` how far people do among themselves.
- ``order_consistency`` and ``first_position`` tell what a pairwise judge owes to the order.
- ``length_slope`` is what longer answers gain beyond what people see in them.
- ``repeatability`` is the share of items that get the same verdict each time they are asked.
- ``canary_false_positives`` is the share of worthless answers that are taken for good: above the middle of the scale
  (or at what passes), or, shown beside a real answer, not beaten in both orders.
- ``sensitivity`` and ``specificity`` are what ``stats.corrected.rogan_gladen`` needs.

**Source**: Zheng et al. 2023, arXiv 2306.05685 (orders); Dubois et al. 2024, arXiv 2404.04475 (length); Krippendorff
2011; Gwet 2008; Cohen 1960; Wilson 1927; Clopper & Pearson 1934.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evalkit.judging.measured import JudgedItem, MeasuredJudge
from evalkit.judging.reading import NO_ANSWER
from evalkit.records.judging import CardFigure, Judgement
from evalkit.records.suite import JudgeSpec
from evalkit.stats.intervals import clopper_pearson_interval

FEW_LABELS = 100
"""Below this many labelled items a card carries a warning."""


@dataclass(frozen=True, slots=True)
class JudgedCanary:
    """A worthless answer with what the judge says of it."""

    kind: str
    """What it is made of."""
    judgement: Judgement
    """The judge's word."""


def card_figures(
    spec: JudgeSpec,
    judged: Sequence[JudgedItem],
    canaries: Sequence[JudgedCanary],
    *,
    level: float,
    seed: int,
    pass_at: int | None = None,
) -> dict[str, CardFigure]:
    """Return every figure of a judge's card by its name.

    ``pass_at`` is the least score that passes, for a pointwise judge; without it there is no sensitivity. What cannot
    be told is a figure without value, and says why.
    """
    measured = MeasuredJudge(spec, judged, level, seed)
    figures = {**measured.with_people(), **measured.people()}
    if spec.form == "pairwise":
        figures |= measured.orders()
    figures["no_verdict"] = measured.unread()
    figures["length_slope"] = measured.length()
    figures["repeatability"] = measured.repeated()
    figures["canary_false_positives"] = false_positives(spec, canaries, level, pass_at)
    if pass_at is not None and spec.form == "pointwise":
        figures |= measured.diagnosed(pass_at - spec.scale[0])
    return figures


def card_warnings(
    spec: JudgeSpec,
    judged: Sequence[JudgedItem],
    figures: Mapping[str, CardFigure],
    *,
    random: bool,
) -> tuple[str, ...]:
    """Return what the figures do not show, or what follows from them, in words.

    ``random`` is given where the items were drawn at random.
    """
    told = []
    if len(judged) < FEW_LABELS:
        told.append(
            f"only {len(judged):,} labelled items: the intervals are wide, and {FEW_LABELS} are the least to rest on"
        )
    if not random:
        told.append(
            "nobody said that the items were drawn at random from what the judge will judge: if they were chosen, the "
            "figures hold for items like them alone"
        )
    if all(len(one.item.ratings) < 2 for one in judged):
        told.append("each item has one person's label: how far people agree cannot be told")
    if unanswered := sum(one.judgements[0].reason == NO_ANSWER for one in judged):
        told.append(
            f"the judge did not answer {unanswered:,} items: they count as without a verdict"
        )
    slope_ = figures["length_slope"].interval
    if slope_ is not None and not slope_.low <= 0 <= slope_.high:
        which = "longer" if slope_.low > 0 else "shorter"
        advice = ": let rules look at preferred.lc_win_rate" if spec.form == "pairwise" else ""
        told.append(
            f"the judge prefers {which} answers beyond what people see in them (length_slope){advice}"
        )
    return tuple(told)


def false_positives(
    spec: JudgeSpec, canaries: Sequence[JudgedCanary], level: float, pass_at: int | None = None
) -> CardFigure:
    """Return the share of worthless answers that the judge takes for good, by kind in words.

    Those without a verdict are neither; they are counted in words, and are no part of the share.
    """
    good: Counter[str] = Counter()
    read = 0
    for canary in canaries:
        value = canary.judgement.value
        if value is not None:
            read += 1
            good[canary.kind] += _taken_for_good(spec, value, pass_at)
    count, unread = sum(good.values()), len(canaries) - read
    told = [f"{kind} {times:,}" for kind, times in good.items() if times]
    told += [f"{unread:,} without a verdict"] if unread else []
    interval = clopper_pearson_interval(count, read, level)
    value = count / read if read else None
    return CardFigure(value=value, interval=interval, n=read, told=", ".join(told))


def _taken_for_good(spec: JudgeSpec, value: float, pass_at: int | None) -> bool:
    """Tell whether a judgement is good for an answer that is worth nothing.

    Beside a real answer it must lose in both orders: a judge that obeys "answer A is better" contradicts itself when
    the order turns, which makes a tie.
    """
    if spec.form == "pairwise":
        return value >= 0.5
    low, high = spec.scale
    return value >= (pass_at - low) / (high - low) if pass_at is not None else value > 0.5
