"""What people would have said of all samples, from a judge's scores on all and their own ratings of a few.

A task that is judged (``judged.score``) and was rated on a uniform draw gets a further number beside the judge's own:
``judged.score.corrected``, an estimate of ``human.rating`` over every sample that was judged, by PPI++
(``stats.corrected``). Of candidate against baseline the paired differences are corrected: people's on samples whose
both answers they rated, the judge's on all pairs. The judge's bias may differ between the two models; it is taken off.

What is missing. An answer without a judgement has nothing to be corrected: it is no part of the number, rated or not,
stays counted as unscored, and rules take it at its worst as they do for any metric. A drawn answer that nobody rated,
or that annotators are tied on, is taken at both ends of the scale and the interval spans what comes of either, since
what people leave out is not left out at random. Samples settled without the judge have its score and count like others.

What is assumed. Each sample had the same chance to be drawn. Under clusters the standard error is CR1 over clusters,
labelled ones and others together, on t(labelled clusters − 1), and never less than without. Where a task asks for
several answers one of them, drawn at random, was rated, and the judge's score is the mean over all: that costs
precision and nothing else. Where looking at the samples decided how many there are no interval is given.

**Source**: Angelopoulos et al. 2023, arXiv 2311.01453 (PPI++); ``labelled_mean`` for its intervals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Final, TypeVar

import numpy as np

from evalkit.compare import why_incomparable
from evalkit.estimating import ROLES, full_name
from evalkit.records.exchange import Role
from evalkit.records.review import RatedAnswer
from evalkit.records.scorecard import Bounded, Comparison, Estimate, Interval
from evalkit.records.suite import SuiteSpec
from evalkit.reviewing.labelled_mean import LabelledMean
from evalkit.reviewing.tables import Tables, human_tables
from evalkit.scoring import MetricTable
from evalkit.stats.estimate import STOPPED, real_clusters
from evalkit.stats.intervals import Codes, cluster_codes
from evalkit.stats.paired import LEVELS
from evalkit.stats.resampling import FEWEST_UNITS

JUDGED: Final = "judged"
"""The metric that is corrected."""
RAW: Final = "score"
"""Its measure."""
CORRECTED: Final = full_name(JUDGED, f"{RAW}.corrected")
"""What becomes of it: ``judged.score.corrected``."""
ENOUGH_LABELS: Final = 100
"""Fewer labels are told of."""
RATING: Final = 1
"""The column of people's rating, 0–1, in their table."""
VERSION: Final = 1
"""Grows when the same labels and judgements would give other numbers."""

Number = TypeVar("Number", Estimate, Comparison)


def corrected_estimates(
    rated: Sequence[RatedAnswer], suite: SuiteSpec, measured: Tables
) -> list[Estimate]:
    """Return the judge's mean score of each judged and rated task and model, corrected by people's ratings.

    ``rated`` are ratings of a uniform draw, ``measured`` the run's own tables. Without two labelled and judged answers
    there is no value, with fewer than 10 no interval.
    """
    human = _by_task(human_tables(rated, suite, measured))
    return [
        _estimate(role, table, human[role, table.task], suite.confidence)
        for role in ROLES
        for table in measured.get(role, ())
        if _column(table) is not None and (role, table.task) in human
    ]


def corrected_comparisons(
    rated: Sequence[RatedAnswer], suite: SuiteSpec, measured: Tables
) -> list[Comparison]:
    """Return candidate against baseline, corrected; none of tasks that only one model was judged and rated on."""
    human = _by_task(human_tables(rated, suite, measured))
    theirs = {t.task: t for t in measured.get("baseline", ()) if _column(t) is not None}
    return [
        _comparison(table, theirs[table.task], human, suite.confidence)
        for table in measured.get("candidate", ())
        if _column(table) is not None
        and table.task in theirs
        and all((role, table.task) in human for role in ROLES)
    ]


def beside_raw(held: Sequence[Number], made: Sequence[Number]) -> list[Number]:
    """Return numbers with each corrected one behind the raw one that it corrects, its slices included."""
    found = list(held)
    for each in made:
        at = [
            place
            for place, raw in enumerate(found)
            if raw.metric == full_name(JUDGED, RAW) and _whose(raw) == _whose(each)
        ]
        found.insert(at[-1] + 1 if at else len(found), each)
    return found


def _whose(number: Estimate | Comparison) -> tuple[str, str]:
    return number.task, number.model if isinstance(number, Estimate) else ""


def _by_task(tables: Mapping[Role, Sequence[MetricTable]]) -> dict[tuple[Role, str], MetricTable]:
    return {(role, table.task): table for role, held in tables.items() for table in held}


def _column(table: MetricTable) -> int | None:
    """Return where a table holds a judge's score; None where it holds none that could be corrected."""
    names = {measure.name: measure.column for measure in table.measures}
    # A jury's judge of that name would give another number under the name of the corrected one.
    if table.metric != JUDGED or not table.judges or f"{RAW}.corrected" in names:
        return None
    return names.get(RAW)


def _scores(table: MetricTable, column: int) -> dict[str, float]:
    return dict(zip(table.sample_ids, table.stats_NK[:, column].tolist(), strict=True))


def _clusters(table: MetricTable, ids: Sequence[str]) -> Codes | None:
    if table.clusters is None:
        return None
    held = dict(zip(table.sample_ids, table.clusters, strict=True))
    return real_clusters(cluster_codes([held[sample] for sample in ids]))[0] if ids else None


def _labelled(
    ids: Sequence[str],
    judged: Mapping[str, float],
    labels: Mapping[str, float],
    rated: Set[str],
    drawn: Set[str],
    clusters_J: Codes | None,
) -> LabelledMean:
    """Return one model's judged samples; ``rated`` are those whose labels count, ``drawn`` those that people saw."""
    known = [(labels[s], labels[s]) if s in labels else (0.0, 1.0) for s in ids]
    open_ = [s in drawn and s not in rated for s in ids]
    nothing = (np.nan, np.nan)
    return LabelledMean(
        judged_J=np.array([judged[s] for s in ids]),
        labels_J=np.array([labels[s] if s in rated else np.nan for s in ids]),
        ends_J2=np.array(
            [ends if lacks else nothing for ends, lacks in zip(known, open_, strict=True)]
        ).reshape(-1, 2),
        clusters_J=clusters_J,
        bounds=(0.0, 1.0),
    )


def _drawn(human: MetricTable) -> set[str]:
    return {*human.sample_ids, *human.missing_ids}


def _estimate(role: Role, table: MetricTable, human: MetricTable, level: float) -> Estimate:
    column = _column(table)
    assert column is not None, "the table is a judge's"
    judged, labels = _scores(table, column), _scores(human, RATING)
    ids = list(judged)
    sample = _labelled(ids, judged, labels, labels.keys(), _drawn(human), _clusters(table, ids))
    found = sample.mean(level)
    unjudged = len(labels.keys() - judged.keys())
    return Estimate(
        model=role,
        task=table.task,
        metric=CORRECTED,
        slice=None,
        kind="mean",
        value=None if found is None else min(max(found.value, 0.0), 1.0),
        interval=None if table.anytime else sample.interval(level),
        counts=table.counts(None, len(ids)),
        unit="fraction",
        better="higher",
        signature=f"{CORRECTED}|v:{VERSION}|{table.signature}|{human.signature}",
        warnings=tuple(_told(sample, unjudged, "answers", anytime=table.anytime)),
    )


def _comparison(
    candidate: MetricTable,
    baseline: MetricTable,
    human: Mapping[tuple[Role, str], MetricTable],
    level: float,
) -> Comparison:
    rated: dict[Role, MetricTable] = {role: human[role, candidate.task] for role in ROLES}
    planned = candidate.planned[None]
    empty = Comparison(
        task=candidate.task,
        metric=CORRECTED,
        slice=None,
        status="incomparable",
        reason=why_incomparable(candidate, baseline)
        or why_incomparable(rated["candidate"], rated["baseline"]),
        unpaired=planned,
        unit="fraction",
        better="higher",
    )
    if empty.reason:
        return empty
    columns = _column(candidate), _column(baseline)
    assert columns[0] is not None and columns[1] is not None, "both tables are a judge's"
    judged = _scores(candidate, columns[0]), _scores(baseline, columns[1])
    labels = _scores(rated["candidate"], RATING), _scores(rated["baseline"], RATING)
    ids = [sample for sample in judged[0] if sample in judged[1]]
    both = labels[0].keys() & labels[1].keys()
    drawn = _drawn(rated["candidate"]) | _drawn(rated["baseline"])
    clusters_J = _clusters(candidate, ids)
    ours, theirs = (
        _labelled(ids, said, told, both, drawn, clusters_J)
        for said, told in zip(judged, labels, strict=True)
    )
    apart = LabelledMean(
        ours.judged_J - theirs.judged_J,
        ours.labels_J - theirs.labels_J,
        ours.ends_J2 - theirs.ends_J2[:, ::-1],
        clusters_J,
        (-1.0, 1.0),
    )
    pairs, found = len(ids), apart.mean(level)
    counted = empty.model_copy(update={"pairs": pairs, "unpaired": planned - pairs})
    if found is None:
        why = f"people rated both answers of {apart.rated:,} of {pairs:,} judged pairs, too few to correct by"
        return counted.model_copy(update={"status": "no pairs", "reason": why})
    # By one weight, so that the two values lie apart by just the difference.
    values = [each.mean(level, found.weight) for each in (ours, theirs)]
    anytime = candidate.anytime or baseline.anytime
    made = [] if anytime else list(_at_levels(apart))
    difference = min(max(found.value, -1.0), 1.0)
    return counted.model_copy(
        update={
            "status": "compared",
            "candidate": values[0] and values[0].value,
            "baseline": values[1] and values[1].value,
            "difference": difference,
            "interval": None if anytime else apart.interval(level),
            "intervals": tuple(made),
            **_extremes(difference, made, pairs, planned),
            "warnings": tuple(_told(apart, len(both - set(ids)), "pairs", anytime=anytime)),
        }
    )


def _at_levels(sample: LabelledMean) -> Iterator[Interval]:
    for level in LEVELS:
        if (held := sample.interval(level)) is not None:
            yield held


def _extremes(
    difference: float, made: Sequence[Interval], pairs: int, planned: int
) -> dict[str, Bounded]:
    """Return the cases worst and best for the candidate: each sample that is no judged pair differs by −1, or 1."""
    if pairs == planned:
        return {}
    share = pairs / planned

    def at(end: float) -> Bounded:
        moved = [
            held.model_copy(
                update={
                    "low": share * held.low + (1 - share) * end,
                    "high": share * held.high + (1 - share) * end,
                }
            )
            for held in made
        ]
        return Bounded(
            difference=share * difference + (1 - share) * end,
            intervals=tuple(moved),
        )

    return {"worst": at(-1.0), "best": at(1.0)}


def _told(sample: LabelledMean, unjudged: int, what: str, *, anytime: bool) -> Iterator[str]:
    """Yield why a corrected number is not to be trusted blindly."""
    labels = sample.rated
    if anytime:
        yield f"{STOPPED}, and for a corrected score no interval holds then"
    elif labels < FEWEST_UNITS:
        yield f"people rated {labels:,} of {len(sample.judged_J):,} judged {what}: too few for an interval"
    elif labels < ENOUGH_LABELS:
        yield f"rests on {labels:,} labelled {what}; below {ENOUGH_LABELS} the interval is rough"
    if sample.unrated:
        yield (
            f"{sample.unrated:,} drawn {what} have no rating: the interval holds whatever they would have got"
        )
    if unjudged:
        yield f"{unjudged:,} rated {what} have no judgement and are left out"
