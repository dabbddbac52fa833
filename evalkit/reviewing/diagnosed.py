"""The share of good answers behind a judge's own share, where people's labels come from other answers than these.

A judge card made with a least score that passes tells how much of what people call good the judge passes
(sensitivity), and how much of what they call bad it does not (specificity). From them the share θ of good answers
behind the judge's share p is (p + specificity − 1)/(specificity + sensitivity − 1): ``judged.passing.corrected``
beside ``judged.passing``. It takes for granted that both are the same for these answers as for the card's; labels on
these answers themselves (``corrected``) need not assume that.

**Source**: Rogan & Gladen 1978 and Lee et al. 2025 (``stats.corrected``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from evalkit.estimating import ROLES, full_name
from evalkit.identity import short
from evalkit.records.exchange import Role
from evalkit.records.judging import JudgeRecord
from evalkit.records.scorecard import Estimate
from evalkit.records.suite import SuiteSpec
from evalkit.scoring import MetricTable
from evalkit.stats.corrected import rogan_gladen
from evalkit.stats.estimate import STOPPED, real_clusters
from evalkit.stats.intervals import cluster_codes, wilson_interval

JUDGED: Final = "judged"
"""The metric that is diagnosed."""
PASSING: Final = full_name(JUDGED, "passing")
"""Share of answers whose score passes, as the judge sees it."""
DIAGNOSED: Final = full_name(JUDGED, "passing.corrected")
"""The same as people would see it."""
FEWEST: Final = 10
"""Fewer labels of a kind tell no sensitivity, or specificity."""


def diagnosed_estimates(
    tables: Mapping[Role, Sequence[MetricTable]],
    judges: Sequence[JudgeRecord],
    suite: SuiteSpec,
) -> list[Estimate]:
    """Return both shares of each task and model that one judge with such a card has scored; none for juries."""
    known = {judge.judge: judge for judge in judges}
    return [
        estimate
        for role in ROLES
        for table in tables.get(role, ())
        if table.metric == JUDGED and len(table.judges) == 1
        for estimate in _of(table, role, known.get(table.judges[0]), suite)
    ]


def _of(
    table: MetricTable, role: Role, judge: JudgeRecord | None, suite: SuiteSpec
) -> Iterator[Estimate]:
    card = None if judge is None else judge.card
    if judge is None or card is None or card.pass_at is None or card.pins != judge.pins:
        return
    low, high = suite.judges[judge.judge].scale
    sensitivity, specificity = (card.figures.get(n) for n in ("sensitivity", "specificity"))
    n, level = len(table.sample_ids), suite.confidence
    passed = int((table.stats_NK[:, 0] >= (card.pass_at - low) / (high - low) - 1e-9).sum())
    raw = Estimate(
        model=role,
        task=table.task,
        metric=PASSING,
        slice=None,
        kind="mean",
        value=passed / n if n else None,
        interval=wilson_interval(passed, n, level),
        counts=table.counts(None, n),
        unit="fraction",
        better="higher",
        signature=f"{table.signature}|pass_at:{card.pass_at}",
    )
    _, clusters = real_clusters(cluster_codes(table.clusters)) if table.clusters else (None, None)
    why = ""
    if clusters is not None:
        why = (
            "samples in clusters: no interval of a share through a judge's errors is known to hold"
        )
    elif table.anytime:
        why = f"{STOPPED}: no interval of a share through a judge's errors holds then"
    if why:
        raw = raw.model_copy(update={"interval": None, "warnings": (why,)})
    yield raw
    found = None
    if sensitivity is None or specificity is None or min(sensitivity.n, specificity.n) < FEWEST:
        why = f"the judge card rests on fewer than {FEWEST} labels of good, or of bad, answers"
    elif n and sensitivity.value is not None and specificity.value is not None:
        found = rogan_gladen(
            passed / n,
            specificity.value,
            sensitivity.value,
            n=n,
            bad_labels=specificity.n,
            good_labels=sensitivity.n,
            level=level,
        )
        if found is None:
            why = "the judge tells good answers from bad ones no better than chance"
    kept = found is not None and not why
    yield raw.model_copy(
        update={
            "metric": DIAGNOSED,
            "value": found.value if found else None,
            "interval": found.interval if found and kept else None,
            "signature": f"{raw.signature}|labels:{short(card.labels)}",
            "warnings": (why,) if why else (_ASSUMED,),
        }
    )


_ASSUMED: Final = "the judge is taken to err on these answers as it does on the card's"
