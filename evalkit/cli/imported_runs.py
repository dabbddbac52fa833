"""From what another harness measured to a finished run of ours: rows, tables, estimates, a sealed scorecard.

The numbers are computed from the samples by evalkit's own statistics; what is another harness's is told as such: it is
part of every signature, of the model's engine and of the provenance's versions.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.cli import circumstances as facts
from evalkit.cli.earlier_baseline import EarlierBaseline
from evalkit.cli.past_runs import PastRun
from evalkit.compare import compare_tables
from evalkit.estimating import estimate_tables
from evalkit.identity import digest, short
from evalkit.interchange.foreign import ForeignRun, ForeignSample, ForeignTask
from evalkit.interchange.foreign_suite import suite_of
from evalkit.loaders.suite_metrics import build_metric
from evalkit.planning import PlannedSample
from evalkit.records.exchange import Role, Sample
from evalkit.records.scorecard import (
    Circumstances,
    Finding,
    ModelRecord,
    Provenance,
    Scorecard,
    TaskTally,
)
from evalkit.records.suite import SampledTask, SuiteSpec
from evalkit.scoring import ANSWERED, MetricTable, TaskScorer
from evalkit.store.runs import RunFolder

_ROLES: Sequence[Role] = ("candidate", "baseline")


def write_imported(run: ForeignRun, out: Path, baseline: EarlierBaseline | None = None) -> PastRun:
    """Write what a harness measured as a finished run under ``out``, and return it.

    The folder's name holds a digest of the files, of how they were read, of model and baseline, so that the same import
    replaces itself. Raises UsageError where a slice field has too many values, RunError where the disk refuses.
    """
    suite = suite_of(run)
    against = baseline.digest if baseline else ""
    identity = digest([run.identity, suite.beyond_defaults(), run.model.digest, against])
    with RunFolder.create(out, f"{suite.suite}-{short(identity)}") as folder:
        scorers = []
        with folder.write_samples() as write:
            for task, spec in zip(run.tasks, suite.sampled, strict=True):
                scorer = _scorer(task, spec)
                finishes: Counter[str] = Counter()
                for index, sample in enumerate(task.samples()):
                    finishes.update(
                        str(a["finish_reason"]) for a in sample.answers if "finish_reason" in a
                    )
                    write(_row(scorer, sample, index))
                scorers.append((scorer, _tally(task, scorer, finishes)))
            for row in baseline.rows() if baseline else ():
                write(row)
        folder.write_suite(suite)
        if baseline:
            folder.write_baseline(baseline.run.scorecard, baseline.suite)
        tables: dict[Role, list[MetricTable]] = {
            "candidate": [table for scorer, _ in scorers for table in scorer.tables()]
        }
        if baseline:
            tables["baseline"] = baseline.tables()
        tallies = [tally for _, tally in scorers]
        scorecard = _scorecard(run, suite, tables, tallies, baseline, folder.samples_digest)
        folder.write_scorecard(scorecard)
        return PastRun(folder.path, scorecard)


def _scorer(task: ForeignTask, spec: SampledTask) -> TaskScorer:
    metrics = [build_metric(metric, spec) for metric in spec.metrics]
    return TaskScorer(spec, metrics, "candidate", task.dataset, "imported")


def _row(scorer: TaskScorer, foreign: ForeignSample, index: int) -> dict[str, Any]:
    """Score a sample by what was recorded and return its row, with what was asked and answered."""
    sample = Sample(
        id=foreign.id,
        index=index,
        fields=foreign.scores,
        targets=foreign.targets,
        choices=(),
        attributes=foreign.slices,
        cluster=foreign.cluster,
    )
    outcome = foreign.failed or ANSWERED
    row = scorer.add(PlannedSample(sample, (), 1), (outcome,))
    head: dict[str, Any] = {
        key: row.pop(key) for key in ("model", "task", "id", "slices", "cluster") if key in row
    }
    if foreign.answers:
        row["answers"] = [dict(answer) for answer in foreign.answers]
    return {**head, **foreign.asked, **row}


def _tally(task: ForeignTask, scorer: TaskScorer, finishes: Mapping[str, int]) -> TaskTally:
    """Return what happened, with what the harness tells of it instead of what happened here."""
    told = finishes if {*finishes} != {"other"} else {}  # lm-eval tells of none
    return scorer.tally().model_copy(
        update={
            "kind": task.kind,
            "requests": task.requests,
            "finish_reasons": dict(sorted(told.items())),
            "prompt_tokens": task.tokens[0],
            "completion_tokens": task.tokens[1],
        }
    )


def _scorecard(
    run: ForeignRun,
    suite: SuiteSpec,
    tables: Mapping[Role, Sequence[MetricTable]],
    tallies: Sequence[TaskTally],
    baseline: EarlierBaseline | None,
    samples: str,
) -> Scorecard:
    records = {
        "candidate": ModelRecord(
            digest=run.model.digest,
            pinned=run.model.pinned,
            files=dict(run.model.files),
            engine=dict(run.model.engine),
        )
    }
    names, locations = {"candidate": run.model.name}, {"candidate": run.model.name}
    findings = list(_findings(run))
    tallies = list(tallies)
    if baseline:
        records["baseline"] = baseline.model
        names["baseline"], locations["baseline"] = baseline.name, str(baseline.run.path)
        tallies += baseline.tallies()
        findings += baseline.weighed()[1]
    order = _Order(suite)
    return Scorecard(
        provenance=Provenance(
            suite=suite.suite,
            suite_version=suite.version,
            suite_digest=digest(suite.beyond_defaults()),
            models=records,
            datasets={task.name: task.dataset for task in run.tasks},
            seed=suite.seed,
            versions={**facts.versions(), **run.versions},
        ),
        estimates=tuple(sorted(estimate_tables(tables, suite.seed, suite.confidence), key=order)),
        comparisons=tuple(sorted(compare_tables(tables, suite.seed, suite.confidence), key=order)),
        samples=samples,
        findings=tuple(sorted(findings, key=order)),
        baseline_run=baseline.digest if baseline else "",
        tasks=tuple(sorted(tallies, key=order)),
        circumstances=Circumstances(
            started=run.started or facts.utc_now(),
            finished=run.finished or run.started or facts.utc_now(),
            command=tuple(sys.argv),
            git_commit=run.git_commit,
            hardware={},
            host={"measured by": f"{run.harness} {run.version}"},
            asked=0,
            reused=0,
            seconds=round(run.seconds, 3),
            names=names,
            locations=locations,
            engine={"candidate": {"imported from": [file.name for file in run.files]}},
        ),
    ).sealed()


def _findings(run: ForeignRun) -> Iterator[Finding]:
    """Yield what of the harness's results is not here as it was printed."""
    for note in (note for task in run.tasks for note in task.notes):
        yield Finding(
            model="candidate", task=note.task, check=note.about, tensor=None, message=note.message
        )
    for message in run.notes:
        yield Finding(
            model="candidate",
            task=run.tasks[0].name,
            check="imported.taken",
            tensor=None,
            message=message,
        )


class _Order:
    """The scorecard's order: by model, then by the suite's tasks."""

    def __init__(self, suite: SuiteSpec) -> None:
        self._tasks = {task.name: place for place, task in enumerate(suite.tasks)}

    def __call__(self, record: Any) -> tuple[int, int]:  # noqa: ANN401 - whatever says its task, and mostly its model
        """Return the place of a record."""
        return _ROLES.index(getattr(record, "model", _ROLES[0])), self._tasks[record.task]
