"""What numbers about groups of people do not show, in sentences chosen by what is there.

**Source**: Kleinberg, Mullainathan & Raghavan 2016, arXiv 1609.05807, and Chouldechova 2017, Big Data 5, 153 (scores
that are calibrated in groups with different base rates cannot have equal error rates).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from evalkit.records.scorecard import Cell, Scorecard
from evalkit.reports.fairness import Block, group_name, short_name
from evalkit.reports.view import number
from evalkit.stats.intervals import wilson_interval

MOST_SAID: Final = 4
"""Sentences on what the numbers do not show."""
LEVEL: Final = 0.95
"""Base rates are said to differ where their intervals at this level do not meet."""
UNLABELLED: Final = frozenset({"selection_rate", "unscored"})
"""Measures that do not ask what the right answer is."""
US_CENTRED: Final = frozenset({"bbq", "crows_pairs", "winogender"})
"""Metrics of published sets in American English."""


def base_rates(cells: Mapping[str, Mapping[str, Cell]], metric: str) -> dict[str, tuple[int, int]]:
    """Return group → (samples whose label is positive, labelled samples); empty where that is not told.

    A true-positive rate is over the former, a false-positive rate over the others. Groups that are too small for either
    rate are left out.
    """
    positive, negative = (
        cells.get(f"{metric}.{one}", cells.get(f"{metric}.{other}", {}))
        for one, other in (("tpr", "fnr"), ("fpr", "tnr"))
    )
    return {
        group: (cell.n, cell.n + negative[group].n)
        for group, cell in positive.items()
        if group in negative and not cell.left_out and not negative[group].left_out
    }


def not_shown(scorecard: Scorecard, shown: Sequence[Block]) -> list[str]:
    """Return what the numbers do not show: two to four sentences, chosen by what is there."""
    said = [
        *_impossible(shown),
        *_stand_ins(scorecard),
        *_too_small(shown),
        *_not_ruled_out(shown),
        *_labels(shown),
        "A gap does not say where it comes from: the model, the labels, or what the groups were asked.",
        "Groups are values of a field of these samples: elsewhere people, languages and uses may fare otherwise.",
    ]
    return said[:MOST_SAID]


def _impossible(shown: Sequence[Block]) -> Iterator[str]:
    for block in shown:
        rates = base_rates(block.cells("candidate"), block.metric)
        if len(rates) < 2:
            continue
        ordered = sorted(rates, key=lambda group: rates[group][0] / rates[group][1])
        ends = ordered[0], ordered[-1]
        low, high = (wilson_interval(*rates[group], LEVEL) for group in ends)
        if low is None or high is None or low.high >= high.low:
            continue
        told = ", ".join(f"{group_name(g)} {number(rates[g][0] / rates[g][1])}" for g in ends)
        yield (
            f"Base rates differ in {block.task} ({told} of the labels are positive): then no score short of perfect is "
            "both calibrated in every group and has equal error rates (Kleinberg et al. 2016; Chouldechova 2017)."
        )
        return


def _stand_ins(scorecard: Scorecard) -> Iterator[str]:
    if any(tally.kind == "counterfactual" for tally in scorecard.tasks):
        yield (
            "Names and words that stand for groups come from somewhere: what holds for them need not hold for people."
        )
    if any(e.metric.partition(".")[0] in US_CENTRED for e in scorecard.estimates):
        yield "Published sets in English are about the United States: their numbers do not transfer elsewhere."


def _too_small(shown: Sequence[Block]) -> Iterator[str]:
    small = {(b.by, group) for b in shown for groups in b.left_out().values() for group in groups}
    if small:
        groups = "1 group is" if len(small) == 1 else f"{len(small)} groups are"
        yield f"Groups that are too small say nothing: {groups} missing from a gap above, however they fare."


def _not_ruled_out(shown: Sequence[Block]) -> Iterator[str]:
    for block in shown:
        for row in block.rows:
            held = row.candidate_estimate
            if held is None or held.interval is None:
                continue
            if row.shown.form == "difference" and held.interval.low <= 0:
                yield (
                    "A gap that is not shown is not refuted: where an interval begins at 0, one as wide "
                    "as its other end may be there."
                )
                return


def _labels(shown: Sequence[Block]) -> Iterator[str]:
    read = {short_name(m, block.metric) for block in shown for m in block.cells("candidate")}
    if read - UNLABELLED:
        yield "Labels may themselves be biased: to agree with them equally often is then not fair."
