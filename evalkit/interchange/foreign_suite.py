"""The suite that stands for what another harness measured, and what two of its runs must have in common."""

from __future__ import annotations

from dataclasses import replace

from evalkit.interchange.foreign import ForeignRun, ForeignScore, ForeignTask, safe_name
from evalkit.records.suite import DatasetSpec, GenerateTask, MetricSpec, SuiteSpec


def suite_of(run: ForeignRun) -> SuiteSpec:
    """Return the suite that stands for what the harness measured."""
    whole = len(run.tasks) > 1
    named = run.harness if whole else safe_name(f"{run.harness}-{run.tasks[0].name}")
    return SuiteSpec(
        suite=named,
        version=1,
        description=f"As {run.harness} {run.version} scored it.",
        tasks=tuple(_task_spec(task, run.harness) for task in run.tasks),
    )


def _task_spec(task: ForeignTask, harness: str) -> GenerateTask:
    return GenerateTask(
        name=task.name,
        dataset=DatasetSpec(name=f"{harness}: {task.documents or task.told}"),
        prompt=f"As {harness} asked it; the samples hold every prompt.",
        slices=task.slices,
        cluster="document" if task.clustered else None,
        metrics=tuple(
            MetricSpec(
                name="recorded",
                options={
                    "score": score.name,
                    "kind": score.kind,
                    "better": score.better,
                    "unit": score.unit,
                    "measured": dict(score.measured),
                },
            )
            for score in task.scores
        ),
    )


def with_common_kinds(run: ForeignRun, other: ForeignRun) -> ForeignRun:
    """Return a run whose rates are means where the other run has means: one model's values may all be 0 or 1."""
    means = {
        (task.name, score.name): score
        for task in other.tasks
        for score in task.scores
        if score.kind == "mean"
    }

    def as_there(task: str, score: ForeignScore) -> ForeignScore:
        there = means.get((task, score.name))
        if there is None or score.kind != "rate":
            return score
        return replace(score, kind="mean", unit=there.unit)

    tasks = tuple(
        replace(task, scores=tuple(as_there(task.name, score) for score in task.scores))
        for task in run.tasks
    )
    return replace(run, tasks=tasks)
