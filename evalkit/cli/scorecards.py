"""From what was measured to a sealed scorecard: the numbers, and all that stands behind them."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from evalkit.cli import circumstances as facts
from evalkit.cli.assemble import Assembly
from evalkit.cli.earlier_baseline import EarlierBaseline
from evalkit.compare import compare_tables
from evalkit.estimating import estimate_tables
from evalkit.identity import digest
from evalkit.pipeline import Measured
from evalkit.ports import Backend
from evalkit.records.exchange import Model, Role
from evalkit.records.scorecard import Circumstances, ModelRecord, Provenance, Scorecard


def sealed_scorecard(
    parts: Assembly,
    measured: Measured,
    models: Mapping[Role, Model],
    backends: Mapping[Role, Backend],
    earlier: EarlierBaseline | None,
    *,
    samples: str,
    started: str,
    seconds: float,
) -> Scorecard:
    """Return the scorecard of a run that ends now.

    ``models`` and ``backends`` are those that were measured in it, ``earlier`` is the baseline where it was not.
    ``samples`` is the digest of ``samples.jsonl``; ``started`` is UTC in ISO 8601.
    """
    suite = parts.suite
    records = {role: _record(model) for role, model in models.items()}
    names = {role: model.name for role, model in models.items()}
    locations = {role: model.location for role, model in models.items()}
    engine = {role: dict(backend.engine()) for role, backend in backends.items()}
    tallies = list(measured.tallies)
    if earlier:
        records["baseline"], engine["baseline"] = earlier.model, earlier.engine
        names["baseline"], locations["baseline"] = earlier.name, str(earlier.run.path)
        tallies += earlier.tallies()
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
        estimates=tuple(estimate_tables(measured.tables, suite.seed, suite.confidence)),
        comparisons=tuple(compare_tables(measured.tables, suite.seed, suite.confidence)),
        samples=samples,
        baseline_run=earlier.digest if earlier else "",
        tasks=tuple(tallies),
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


def _record(model: Model) -> ModelRecord:
    return ModelRecord(
        digest=model.digest,
        pinned=model.pinned,
        files=dict(model.files),
        engine=dict(model.engine),
    )
