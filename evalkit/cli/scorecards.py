"""From what was measured to a sealed scorecard: the numbers, and all that stands behind them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.cli import circumstances as facts
from evalkit.cli.assemble import Assembly
from evalkit.cli.earlier_baseline import EarlierBaseline
from evalkit.cli.weights import WeighedModels
from evalkit.compare import compare_tables
from evalkit.estimating import ROLES, estimate_tables
from evalkit.identity import digest
from evalkit.pipeline import Measured
from evalkit.ports import Backend
from evalkit.records.exchange import Model, Role
from evalkit.records.scorecard import (
    Circumstances,
    Comparison,
    Estimate,
    ModelRecord,
    Provenance,
    Scorecard,
)
from evalkit.records.suite import SuiteSpec
from evalkit.spectral.compare import compare_weights


def sealed_scorecard(
    parts: Assembly,
    measured: Measured,
    models: Mapping[Role, Model],
    backends: Mapping[Role, Backend],
    earlier: EarlierBaseline | None,
    weighed: WeighedModels,
    *,
    samples: str,
    weights: str,
    started: str,
    seconds: float,
) -> Scorecard:
    """Return the scorecard of a run that ends now.

    ``models`` and ``backends`` are those that were measured in it, ``earlier`` is the baseline where it was not.
    ``weighed`` is what reading weights gave. ``samples`` and ``weights`` are the digests of ``samples.jsonl`` and
    ``weights.jsonl``; ``started`` is UTC in ISO 8601.
    """
    suite = parts.suite
    records: dict[str, ModelRecord] = {role: _record(model) for role, model in models.items()}
    names: dict[str, str] = {role: model.name for role, model in models.items()}
    locations: dict[str, str] = {role: model.location for role, model in models.items()}
    engine = {role: dict(backend.engine()) for role, backend in backends.items()}
    records |= weighed.records()
    locations |= {name: str(found.folder) for name, found in weighed.beside.items()}
    names |= {name: found.name for name, found in weighed.beside.items()}
    tallies = [*weighed.tallies, *measured.tallies]
    estimates = [
        *weighed.estimates,
        *estimate_tables(measured.tables, suite.seed, suite.confidence),
    ]
    findings, unread = list(weighed.findings), list(weighed.unread)
    if earlier:
        records["baseline"], engine["baseline"] = earlier.model, earlier.engine
        names["baseline"], locations["baseline"] = earlier.name, str(earlier.run.path)
        tallies += earlier.tallies()
        lent, found, not_read = earlier.weighed()
        estimates, findings, unread = estimates + lent, findings + found, unread + not_read
    order = _Order(suite)
    return Scorecard(
        provenance=Provenance(
            suite=suite.suite,
            suite_version=suite.version,
            suite_digest=digest(suite.model_dump(mode="json")),
            models={**records},
            datasets={task.spec.name: task.source.digest for task in parts.tasks},
            seed=suite.seed,
            versions=facts.versions(),
        ),
        estimates=tuple(sorted(estimates, key=order)),
        comparisons=tuple(sorted(_comparisons(estimates, measured, suite), key=order)),
        samples=samples,
        findings=tuple(sorted(findings, key=order)),
        unread=tuple(sorted(unread, key=order)),
        weights=weights,
        baseline_run=earlier.digest if earlier else "",
        tasks=tuple(sorted(tallies, key=order)),
        circumstances=Circumstances(
            started=started,
            finished=facts.utc_now(),
            command=tuple(sys.argv),
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
    return [*weights, *compare_tables(measured.tables, suite.seed, suite.confidence)]


def _record(model: Model) -> ModelRecord:
    return ModelRecord(
        digest=model.digest,
        pinned=model.pinned,
        files=dict(model.files),
        engine=dict(model.engine),
    )
