"""Ratings as a metric: tables like those of any other, so that intervals, slices and pairs are those written once.

``task/human.pass`` is the share of answers whose rating reaches ``pass_at``; ``task/human.rating`` the mean rating, 0
the worst and 1 the best. Both are over the samples that were drawn: planned are the drawn ones, unscored those not
rated or unresolved. ``task/human.agreement`` is Krippendorff's alpha of the annotators on all items of the task,
whosever answer they show; it stands beside the candidate's numbers and is nothing that models could be compared by.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal

import numpy as np

from evalkit.compare import compare_tables
from evalkit.estimating import ROLES, estimate_tables, full_name
from evalkit.identity import digest, short, signature
from evalkit.metrics.base import mean, rate
from evalkit.records.exchange import Role, Unscored
from evalkit.records.review import RatedAnswer
from evalkit.records.scorecard import Comparison, Counts, Estimate
from evalkit.records.suite import ReviewSpec, SampledTask, SuiteSpec
from evalkit.reviewing.agreement import task_agreement
from evalkit.reviewing.ratings import Resolved, resolved
from evalkit.scoring import MetricTable

HUMAN: Final = "human"
"""The metric that ratings become."""
AGREEMENT: Final = "agreement"
"""How far annotators agree, under the same metric."""
MEASURES: Final = (rate("pass", column=0), mean("rating", column=1))
NAMES: Final = (*(full_name(HUMAN, m.name) for m in MEASURES), full_name(HUMAN, AGREEMENT))
"""What a task with ``review`` yields once it is rated: ``human.pass``, ``human.rating``, ``human.agreement``."""
VERSION: Final = 1
"""Grows when the same ratings would give other numbers."""

Tables = Mapping[Role, Sequence[MetricTable]]


def human_tables(
    rated: Sequence[RatedAnswer], suite: SuiteSpec, measured: Tables
) -> dict[Role, list[MetricTable]]:
    """Return one table per model and rated task, in the suite's order.

    ``measured`` are the run's own tables, which know each sample's slices and cluster.
    """
    tables: dict[Role, list[MetricTable]] = {}
    for role in ROLES:
        for task, spec in _reviewed(suite):
            beside = next((t for t in measured.get(role, ()) if t.task == task.name), None)
            if beside is None:
                continue
            samples = _Samples(beside)
            # A baseline of another run may never have planned a sample that was drawn for the candidate.
            rows = [
                row
                for row in rated
                if (row.model, row.task) == (role, task.name) and row.id in samples.place
            ]
            if rows:
                table = _table(task, spec, rows, rated, beside, samples)
                tables.setdefault(role, []).append(table)
    return tables


def _reviewed(suite: SuiteSpec) -> Iterator[tuple[SampledTask, ReviewSpec]]:
    for task in suite.sampled:
        if task.review is not None:
            yield task, task.review


def _table(
    task: SampledTask,
    spec: ReviewSpec,
    rows: Sequence[RatedAnswer],
    rated: Iterable[RatedAnswer],
    beside: MetricTable,
    samples: _Samples,
) -> MetricTable:
    ordered = sorted(rows, key=lambda row: samples.place[row.id])
    scores = [None if row.failed else resolved(spec, row) for row in ordered]
    scored = [
        (row.id, score)
        for row, score in zip(ordered, scores, strict=True)
        if isinstance(score, Resolved)
    ]
    ids = [sample for sample, _ in scored]
    lacking = [
        row for row, score in zip(ordered, scores, strict=True) if not isinstance(score, Resolved)
    ]
    lacking_ids = [row.id for row in lacking]
    stats_NK = np.array([[s.passed, s.rating] for _, s in scored], dtype=np.float64)
    return MetricTable(
        task=task.name,
        metric=HUMAN,
        signature=_signature(task, spec, rated, beside),
        dataset=beside.dataset,
        measures=MEASURES,
        sample_ids=ids,
        stats_NK=stats_NK.reshape(len(ids), 2),
        binary=True,  # one answer of each sample is shown, however many the task asks for
        clusters=samples.clusters(ids),
        attributes=samples.attributes(ids),
        planned=samples.counted([row.id for row in rows]),
        completed=samples.counted([row.id for row in rows if not row.failed], [r.id for r in rows]),
        missing_ids=lacking_ids,
        missing_clusters=samples.clusters(lacking_ids),
        missing_attributes=samples.attributes(lacking_ids),
        missing_completed=[not row.failed for row in lacking],
        anytime=beside.anytime,
    )


class _Samples:
    """What a run's table knows of the planned samples."""

    def __init__(self, table: MetricTable) -> None:
        ids = [*table.sample_ids, *table.missing_ids]
        self.place = {sample: place for place, sample in enumerate(ids)}
        """Sample → its place in the table."""
        self._clusters = None
        if table.clusters is not None:
            self._clusters = [*table.clusters, *(table.missing_clusters or ())]
        self._attributes = {
            field: [*values, *table.missing_attributes.get(field, ())]
            for field, values in table.attributes.items()
        }

    def clusters(self, ids: Iterable[str]) -> list[str] | None:
        """Return each sample's cluster."""
        if self._clusters is None:
            return None
        return [self._clusters[self.place[sample]] for sample in ids]

    def attributes(self, ids: Sequence[str]) -> dict[str, list[str]]:
        """Return each sample's value of each slice field."""
        return {
            field: [values[self.place[sample]] for sample in ids]
            for field, values in self._attributes.items()
        }

    def counted(
        self, ids: Sequence[str], among: Sequence[str] | None = None
    ) -> dict[str | None, int]:
        """Return how many samples each slice of ``among`` (these, if not given) has."""
        counts: dict[str | None, int] = {None: len(ids)}
        held = self.attributes(ids)
        for field, values in self.attributes(ids if among is None else among).items():
            there = Counter(held[field])
            counts |= {f"{field}={value}": there[value] for value in sorted(set(values))}
        return counts


def _signature(
    task: SampledTask, spec: ReviewSpec, rated: Iterable[RatedAnswer], beside: MetricTable
) -> str:
    """Return all that could change the ratings: what was asked, who rated, and the task as any metric signs it."""
    rows = [row for row in rated if row.task == task.name]
    names = sorted({name for row in rows for name in row.ratings})
    asked = short(digest(spec.beyond_defaults()))
    ours = signature(
        HUMAN,
        v=VERSION,
        asked=asked,
        annotators=short(digest(names)),
        adjudicated=any(row.adjudicated is not None for row in rows),
    )
    return "|".join([ours, *(p for p in beside.signature.split("|") if p.startswith("task:"))])


def human_estimates(
    rated: Sequence[RatedAnswer], suite: SuiteSpec, measured: Tables
) -> list[Estimate]:
    """Return the estimates that ratings give: pass and rating, by slice too, of each model; each task's agreement."""
    tables = human_tables(rated, suite, measured)
    told = {
        (role, table.task): _told(rated, role, table, suite)
        for role, held in tables.items()
        for table in held
    }
    found = [
        estimate.model_copy(
            update={"warnings": (*estimate.warnings, *told[estimate.model, estimate.task])}
        )
        if estimate.slice is None
        else estimate
        for estimate in estimate_tables(tables, suite.seed, suite.confidence)
    ]
    return [*found, *(_agreement(rated, table, suite) for table in tables.get("candidate", ()))]


def human_comparisons(
    rated: Sequence[RatedAnswer], suite: SuiteSpec, measured: Tables
) -> list[Comparison]:
    """Return candidate against baseline, paired by sample; none where one model alone was rated."""
    return compare_tables(human_tables(rated, suite, measured), suite.seed, suite.confidence)


def _spec(suite: SuiteSpec, task: str) -> ReviewSpec:
    return next(spec for each, spec in _reviewed(suite) if each.name == task)


def _told(
    rated: Iterable[RatedAnswer], role: Role, table: MetricTable, suite: SuiteSpec
) -> tuple[str, ...]:
    """Return, in words, why drawn answers have no rating."""
    spec = _spec(suite, table.task)
    rows = [row for row in rated if (row.model, row.task) == (role, table.task) and not row.failed]
    found = (resolved(spec, row) for row in rows)
    reasons = Counter(score.reason for score in found if isinstance(score, Unscored))
    drawn = table.planned[None]
    return tuple(f"{n:,} of {drawn:,} drawn answers: {why}" for why, n in sorted(reasons.items()))


def _agreement(rated: Sequence[RatedAnswer], table: MetricTable, suite: SuiteSpec) -> Estimate:
    """Return how far annotators agree; counted as scored are the candidate's answers that anybody rated."""
    spec = _spec(suite, table.task)
    found = task_agreement(table.task, spec, rated, seed=suite.seed, level=suite.confidence)
    answers = [row for row in rated if (row.model, row.task) == ("candidate", table.task)]
    scored = sum(bool(row.ratings) for row in answers)
    planned, completed = table.planned[None], table.completed[None]
    warnings = []
    if found.alpha.units == 0:
        warnings.append("no item was rated by two annotators")
    elif found.alpha.value is None:
        warnings.append("every rating is the same: agreement beyond chance is not defined")
    elif found.alpha.interval is None:
        warnings.append(
            "too few ratings differ: many resamples have no value, so there is no interval"
        )
    return Estimate(
        model="candidate",
        task=table.task,
        metric=full_name(HUMAN, AGREEMENT),
        slice=None,
        kind="corpus",
        value=found.alpha.value,
        interval=found.alpha.interval,
        counts=Counts(
            planned=planned,
            completed=completed,
            failed=planned - completed,
            scored=scored,
            unscored=completed - scored,
        ),
        n=found.alpha.units,
        unit=f"alpha ({found.measurement})",
        better="higher",
        signature=f"{table.signature}|alpha:{found.measurement}",
        warnings=tuple(warnings),
    )


def labels_by_place(
    rated: Iterable[RatedAnswer],
    suite: SuiteSpec,
    *,
    what: Literal["pass", "rating"] = "rating",
) -> dict[tuple[str, Role, str], float]:
    """Return people's verdict on each rated answer, 0–1, by task, model and sample id.

    Of a uniform draw these are the labels that PPI++ (``stats.corrected.judged_mean``) corrects a judge's scores by.
    ``pass`` gives zeros and ones. Answers not rated or unresolved are left out.
    """
    specs = {task.name: spec for task, spec in _reviewed(suite)}
    found = {}
    for row in rated:
        score = None if row.failed or row.task not in specs else resolved(specs[row.task], row)
        if isinstance(score, Resolved):
            value = score.passed if what == "pass" else score.rating
            found[row.task, row.model, row.id] = value
    return found
