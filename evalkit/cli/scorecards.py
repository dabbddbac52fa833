"""From what was measured to a sealed scorecard: the numbers, and all that stands behind them."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.cli import circumstances as facts
from evalkit.cli.assemble import Assembly
from evalkit.cli.earlier_baseline import EarlierBaseline
from evalkit.cli.judges import Bench, role_of
from evalkit.cli.weights import WeighedModels
from evalkit.compare import compare_tables
from evalkit.estimating import ROLES, estimate_tables
from evalkit.fairness import compare_gaps, estimate_gaps
from evalkit.identity import digest
from evalkit.pipeline import Measured
from evalkit.ports import Backend
from evalkit.records.exchange import Model, Role
from evalkit.records.judging import JudgeRecord
from evalkit.records.scorecard import (
    Circumstances,
    Comparison,
    Estimate,
    ModelRecord,
    Provenance,
    Scorecard,
)
from evalkit.records.suite import SuiteSpec
from evalkit.reviewing.diagnosed import diagnosed_estimates
from evalkit.scoring import MetricTable
from evalkit.second_pass import Judged
from evalkit.spectral.compare import compare_weights


def sealed_scorecard(
    parts: Assembly,
    measured: Measured,
    models: Mapping[Role, Model],
    backends: Mapping[Role, Backend],
    earlier: EarlierBaseline | None,
    weighed: WeighedModels,
    *,
    seats: Bench | None = None,
    judged: Judged | None = None,
    judgements: str = "",
    samples: str,
    weights: str,
    started: str,
    seconds: float,
    command: Sequence[str] = (),
) -> Scorecard:
    """Return the scorecard of a run that ends now.

    ``models`` and ``backends`` are those that were measured in it, ``earlier`` is the baseline where it was not.
    ``weighed`` is what reading weights gave. ``seats`` are the judges, ``judged`` is what they said, whose tables are
    among those ``measured``.
    ``judgements``, ``samples`` and ``weights`` are the digests of the files of that name; ``started`` is UTC in ISO
    8601; ``command`` is this process's command line if not given.
    """
    suite = parts.suite
    records: dict[str, ModelRecord] = {role: _record(model) for role, model in models.items()}
    names: dict[str, str] = {role: model.name for role, model in models.items()}
    locations: dict[str, str] = {role: model.location for role, model in models.items()}
    engine: dict[str, Any] = {role: dict(backend.engine()) for role, backend in backends.items()}
    records |= weighed.records()
    locations |= {name: str(found.folder) for name, found in weighed.beside.items()}
    names |= {name: found.name for name, found in weighed.beside.items()}
    tallies = [*weighed.tallies, *measured.tallies]
    gaps = estimate_gaps(measured.tables, suite.seed, suite.confidence)
    estimates = [
        *weighed.estimates,
        *estimate_tables(measured.tables, suite.seed, suite.confidence),
        *gaps.estimates,
    ]
    findings, unread = list(weighed.findings), list(weighed.unread)
    if earlier:
        records["baseline"], engine["baseline"] = earlier.model, earlier.engine
        names["baseline"], locations["baseline"] = earlier.name, str(earlier.run.path)
        tallies += earlier.tallies()
        lent, found, not_read = earlier.weighed()
        estimates, findings, unread = estimates + lent, findings + found, unread + not_read
    judges: Sequence[JudgeRecord] = ()
    if judged:
        judges, tallies = judged.records, judged.tallied(tallies)
        for opened in seats.judges if seats else ():
            called, model = role_of(opened.spec.judge), opened.backend.model
            own = next(record for record in judges if record.judge == opened.spec.judge)
            records[called] = _record(dataclasses.replace(model, digest=own.model))
            names[called], locations[called] = model.name, model.location
            engine[called] = dict(opened.backend.engine())
        estimates += diagnosed_estimates(measured.tables, judges, suite)
        estimates = [with_doubts(estimate, judges) for estimate in estimates]
    order = _Order(suite)
    return Scorecard(
        provenance=Provenance(
            suite=suite.suite,
            suite_version=suite.version,
            suite_digest=digest(suite.beyond_defaults()),
            models={**records},
            datasets={task.spec.name: task.source.digest for task in parts.tasks},
            seed=suite.seed,
            versions=facts.versions(),
        ),
        estimates=tuple(sorted(estimates, key=order)),
        comparisons=tuple(sorted(_comparisons(estimates, measured, suite), key=order)),
        samples=samples,
        disparities=tuple(sorted(gaps.disparities, key=order)),
        findings=tuple(sorted(findings, key=order)),
        unread=tuple(sorted(unread, key=order)),
        weights=weights,
        judgements=judgements,
        judges=tuple(judges),
        baseline_run=earlier.digest if earlier else "",
        tasks=tuple(sorted(tallies, key=order)),
        circumstances=Circumstances(
            started=started,
            finished=facts.utc_now(),
            command=tuple(command or sys.argv),
            git_commit=facts.git_commit(parts.loaded.folder),
            hardware=facts.hardware(),
            host=facts.host(),
            asked=measured.asked,
            reused=measured.reused,
            seconds=round(seconds, 3),
            names={**names},
            locations={**locations},
            engine={**engine},
        ),
    ).sealed()


class _Order:
    """The scorecard's order: by model, then by the suite's tasks; within a task things stay as they were found."""

    def __init__(self, suite: SuiteSpec) -> None:
        self._tasks = {task.name: place for place, task in enumerate(suite.tasks)}

    def __call__(self, record: Any) -> tuple[int, int]:  # noqa: ANN401 - whatever says its task, and mostly its model
        """Return the place of a record."""
        return ROLES.index(getattr(record, "model", ROLES[0])), self._tasks[record.task]


def _comparisons(
    estimates: Sequence[Estimate], measured: Measured, suite: SuiteSpec
) -> list[Comparison]:
    """Return candidate against baseline: weights as they are, answers sample by sample."""
    census = {
        role: [e for e in estimates if e.kind == "census" and e.model == role] for role in ROLES
    }
    weights = compare_weights(census["candidate"], census["baseline"]) if census["baseline"] else []
    tables = comparable(measured.tables, suite)
    return [
        *weights,
        *compare_tables(tables, suite.seed, suite.confidence),
        *compare_gaps(tables, suite.seed, suite.confidence),
    ]


def comparable(
    tables: Mapping[Role, Sequence[MetricTable]], suite: SuiteSpec
) -> dict[Role, list[MetricTable]]:
    """Return the tables without those of pairs, which are a comparison with the baseline themselves."""
    pairs = {name for name, judge in suite.judges.items() if judge.form == "pairwise"}
    return {
        role: [table for table in held if not pairs & {*table.judges}]
        for role, held in tables.items()
    }


def with_doubts(estimate: Estimate, judges: Sequence[JudgeRecord]) -> Estimate:
    """Return an estimate with what makes the judges doubtful that it rests on."""
    doubts = tuple(
        f"judge {judge.judge}: {doubt}"
        for judge in judges
        if judge.gave(estimate.task, estimate.metric)
        for doubt in judge.flags
    )
    if not doubts:
        return estimate
    return estimate.model_copy(update={"warnings": (*estimate.warnings, *doubts)})


def _record(model: Model) -> ModelRecord:
    return ModelRecord(
        digest=model.digest,
        pinned=model.pinned,
        files=dict(model.files),
        engine=dict(model.engine),
    )
