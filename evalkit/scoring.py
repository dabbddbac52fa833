"""From completions to statistics: one table per metric, kept as the answers come in.

The tables are all that estimates, comparisons and resampling need; the texts themselves go to ``samples.jsonl``
and are let go. Memory is K floats per sample and metric.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

import numpy as np

from evalkit.errors import Problem, UsageError
from evalkit.metrics.base import Array, Gap, Measure, Metric
from evalkit.planning import PlannedSample, needs_of, replicates_of
from evalkit.records.exchange import (
    Completion,
    Failure,
    Request,
    Role,
    Sample,
    Score,
    Unscored,
)
from evalkit.records.judging import Judgement
from evalkit.records.scorecard import Counts, EarlyStop, TaskTally
from evalkit.records.suite import GroupsSpec, SampledTask

MAX_SLICE_VALUES = 200
"""A field with more values than this is no slice but an identifier."""


@dataclass(frozen=True)
class MetricTable:
    """One metric's statistics on one task and model."""

    task: str
    """The task's name."""
    metric: str
    """The metric's name as declared."""
    signature: str
    """The metric's signature and the task's: tables with different ones are never compared."""
    dataset: str
    """Digest of the data set."""
    measures: tuple[Measure, ...]
    """What the statistics aggregate to."""
    sample_ids: Sequence[str]
    """Ids of the N scored samples, in the order in which they were scored."""
    stats_NK: Array
    """Their statistics, replicates averaged per sample."""
    binary: bool
    """Whether one replicate was scored, so that rates are over zeros and ones."""
    clusters: Sequence[str] | None
    """Cluster of each scored sample; None where the task declares none."""
    attributes: Mapping[str, Sequence[str]]
    """Slice field → value of each scored sample."""
    planned: Mapping[str | None, int]
    """Slice (``field=value``, None for all) → planned samples."""
    completed: Mapping[str | None, int]
    """Slice → samples every request of which was answered."""
    missing_ids: Sequence[str] = ()
    """Ids of the planned samples that have no score, in the same order."""
    missing_clusters: Sequence[str] | None = None
    """Their clusters."""
    missing_attributes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Slice field → value of each of them."""
    missing_completed: Sequence[bool] = ()
    """Whether each of them was answered, so that only the score is lacking; empty where none is known to be."""
    anytime: bool = False
    """Whether looking at the samples decided how many were asked (``stop: early``): intervals must hold at any look."""
    groups: GroupsSpec | None = None
    """Which attributes name groups of people; None where none does."""
    gaps: tuple[Gap, ...] = ()
    """The gaps between groups that the metric yields; empty without groups."""
    judges: tuple[str, ...] = ()
    """The judges whose judgements it rests on; empty where answers alone were scored."""

    def counts(self, slice_: str | None, scored: int) -> Counts:
        """Return what became of a slice's planned samples."""
        planned, completed = self.planned[slice_], self.completed[slice_]
        return Counts(
            planned=planned,
            completed=completed,
            failed=planned - completed,
            scored=scored,
            unscored=completed - scored,
        )


class TaskScorer:
    """Scores the samples of one task on one model, in the order in which they come.

    ``anytime`` says that what is scored decides how many samples will come.
    """

    def __init__(
        self,
        task: SampledTask,
        metrics: Sequence[Metric],
        role: Role,
        dataset: str,
        signature: str,
        *,
        anytime: bool = False,
    ) -> None:
        self._task, self._metrics, self._role = task, tuple(metrics), role
        self._anytime = anytime
        self._dataset, self._signature = dataset, signature
        self._sample_ids: list[str] = []
        self._clusters: list[str] = []
        self._attributes: dict[str, list[str]] = {name: [] for name in task.split_by}
        self._done = array("b")
        self._scored: dict[str, array[int]] = {m.name: array("q") for m in self._metrics}
        self._stats: dict[str, array[float]] = {m.name: array("d") for m in self._metrics}
        self._failures: Counter[str] = Counter()
        self._unscored: dict[str, Counter[str]] = {m.name: Counter() for m in self._metrics}
        self._finish: Counter[str] = Counter()
        self._tokens: dict[str, int | None] = {"prompt": 0, "completion": 0}
        self._requests = 0
        self.failed = 0

    @property
    def seen(self) -> int:
        """How many samples have been scored or counted as failed."""
        return len(self._sample_ids)

    @property
    def tokens(self) -> int | None:
        """Tokens read and written so far; None where the backend does not tell."""
        read, written = self._tokens["prompt"], self._tokens["completion"]
        return None if read is None or written is None else read + written

    def add(
        self, planned: PlannedSample, outcomes: Sequence[Completion | Failure]
    ) -> dict[str, Any]:
        """Score one sample and return its row for ``samples.jsonl``."""
        sample = planned.sample
        position = len(self._sample_ids)
        self._sample_ids.append(sample.id)
        if sample.cluster is not None:
            self._clusters.append(sample.cluster)
        for name, held in self._attributes.items():
            held.append(sample.attributes[name])
        self._requests += len(planned.requests)
        completions = [o for o in outcomes if isinstance(o, Completion)]
        for completion in completions:
            self._tally(completion)
        failure = _failure(planned, outcomes)
        row = self._row(planned, outcomes)
        self._done.append(failure is None)
        if failure is not None:
            self.failed += 1
            self._failures[failure["kind"]] += 1
            return {**row, "failed": failure}
        scores: dict[str, Any] = {}
        for metric in self._metrics:
            result = _score(metric, planned, completions)
            if isinstance(result, Unscored):
                self._unscored[metric.name][result.reason] += 1
                scores[metric.name] = {"unscored": result.reason}
            else:
                self._scored[metric.name].append(position)
                self._stats[metric.name].extend(result.statistics)
                scores[metric.name] = dict(zip(metric.columns, result.statistics, strict=True))
            if result.note:
                scores[metric.name]["note"] = result.note
        return {**row, "scores": scores}

    def _tally(self, completion: Completion) -> None:
        if needs_of(self._task) != {"logprobs"}:
            self._finish[completion.finish_reason] += 1
        for key, tokens in (
            ("prompt", completion.prompt_tokens),
            ("completion", completion.completion_tokens),
        ):
            held = self._tokens[key]
            self._tokens[key] = None if held is None or tokens is None else held + tokens

    def _row(
        self, planned: PlannedSample, outcomes: Sequence[Completion | Failure]
    ) -> dict[str, Any]:
        sample = planned.sample
        row: dict[str, Any] = {"model": self._role, "task": self._task.name, "id": sample.id}
        if sample.attributes:
            row["slices"] = dict(sample.attributes)
        if sample.cluster is not None:
            row["cluster"] = sample.cluster
        if planned.requests:
            row |= _asked(planned.requests[0])
        if sample.choices:
            row["choices"] = list(sample.choices)
        if self._task.kind != "perplexity":
            row["targets"] = list(sample.targets)
        row["answers"] = [as_answer(outcome) for outcome in outcomes]
        if sample.variants and planned.requests:
            row |= _by_variant(planned, row["answers"])
        return row

    def tally(self, early: EarlyStop | None = None, in_full: str = "") -> TaskTally:
        """Return what happened so far.

        ``early`` tells how the task ended where it could stop early, ``in_full`` why it could not although asked to.
        """
        planned = self.seen
        worst = min([sum(self._done), *(len(self._scored[m.name]) for m in self._metrics)])
        return TaskTally(
            model=self._role,
            task=self._task.name,
            kind=self._task.kind,
            dataset=self._dataset,
            planned=planned,
            requests=self._requests,
            failures=dict(sorted(self._failures.items())),
            unscored={m: dict(sorted(c.items())) for m, c in sorted(self._unscored.items()) if c},
            finish_reasons=dict(sorted(self._finish.items())),
            prompt_tokens=self._tokens["prompt"],
            completion_tokens=self._tokens["completion"],
            complete=planned > 0 and worst >= self._task.min_coverage * planned,
            early=early,
            in_full=in_full,
        )

    def tables(self) -> list[MetricTable]:
        """Return one table per metric over the samples so far."""
        planned, completed = self._slice_counts()
        tables = []
        for metric in self._metrics:
            positions = np.frombuffer(self._scored[metric.name], dtype=np.int64)
            stats = np.frombuffer(self._stats[metric.name], dtype=np.float64)
            missing = np.setdiff1d(np.arange(self.seen), positions, assume_unique=True)
            tables.append(
                MetricTable(
                    task=self._task.name,
                    metric=metric.name,
                    signature=f"{metric.signature}|{self._signature}",
                    dataset=self._dataset,
                    measures=metric.measures,
                    sample_ids=[self._sample_ids[i] for i in positions],
                    # A copy: the scorer's own array cannot grow while a table looks into it.
                    stats_NK=stats.reshape(len(positions), len(metric.columns)).copy(),
                    binary=replicates_of(self._task) == 1,
                    clusters=[self._clusters[i] for i in positions] if self._task.cluster else None,
                    attributes={
                        name: [values[i] for i in positions]
                        for name, values in self._attributes.items()
                    },
                    planned=planned,
                    completed=completed,
                    missing_ids=[self._sample_ids[i] for i in missing],
                    missing_clusters=[self._clusters[i] for i in missing]
                    if self._task.cluster
                    else None,
                    missing_attributes={
                        name: [values[i] for i in missing]
                        for name, values in self._attributes.items()
                    },
                    missing_completed=[bool(self._done[i]) for i in missing],
                    anytime=self._anytime,
                    groups=self._task.groups,
                    gaps=metric.gaps if self._task.groups else (),
                    judges=metric.judges,
                )
            )
        return tables

    def _slice_counts(self) -> tuple[dict[str | None, int], dict[str | None, int]]:
        planned: dict[str | None, int] = {None: self.seen}
        completed: dict[str | None, int] = {None: sum(self._done)}
        for name, values in self._attributes.items():
            names = Counter(values)
            refuse_identifier(self._task, name, len(names))
            done = Counter(value for value, ok in zip(values, self._done, strict=True) if ok)
            for value in sorted(names):
                planned[f"{name}={value}"] = names[value]
                completed[f"{name}={value}"] = done[value]
        return planned, completed


ANSWERED = Completion("", "", "stop")
"""Stands for the answers of a completed sample where they are not needed any more."""


def as_judged(
    row: Mapping[str, Any], judgements: Mapping[str, Judgement], lengths: tuple[int, int] = (0, 0)
) -> tuple[PlannedSample, tuple[Completion, ...]]:
    """Return a row of ``samples.jsonl`` as ``TaskScorer`` takes it for metrics that judges give.

    ``judgements`` are by judge, ``lengths`` the characters of the candidate's answers and of the baseline's. A sample
    that failed stays failed.
    """
    sample = Sample(
        id=row["id"],
        index=0,
        fields={"judgements": judgements, "lengths": lengths},
        targets=(),
        choices=(),
        attributes=row.get("slices", {}),
        cluster=row.get("cluster"),
    )
    return PlannedSample(sample, (), 1, "it failed" if "failed" in row else ""), (ANSWERED,)


def judged_tables(scorer: TaskScorer, judges: Mapping[str, str]) -> list[MetricTable]:
    """Return the tables of metrics that judges give; ``judges`` are their signatures, which go into the tables'."""
    tables = []
    for table in scorer.tables():
        metric, _, task = table.signature.rpartition("|")
        by = "|".join(f"judge:{judges[judge]}" for judge in table.judges)
        tables.append(replace(table, signature=f"{metric}|{by}|{task}"))
    return tables


def retallied(
    tally: TaskTally, unscored: Mapping[str, Mapping[str, int]], min_coverage: float
) -> TaskTally:
    """Return a tally with other counts of ungraded samples: by metric, by reason."""
    lost = max((sum(reasons.values()) for reasons in unscored.values()), default=0)
    scored = tally.planned - sum(tally.failures.values()) - lost
    told = {metric: dict(sorted(unscored[metric].items())) for metric in sorted(unscored)}
    complete = tally.planned > 0 and scored >= min_coverage * tally.planned
    kept = {metric: reasons for metric, reasons in told.items() if reasons}
    return tally.model_copy(update={"unscored": kept, "complete": complete})


def refuse_identifier(task: SampledTask, field: str, values: int) -> None:
    """Raise UsageError where a task is split by a field with so many values that it is no slice, and no group."""
    if values > MAX_SLICE_VALUES:
        key = f"slices.{field}" if field in task.slices else "groups.by"
        found = f"the field {field!r} has {values:,} values"
        allowed = f"at most {MAX_SLICE_VALUES}; is it an identifier?"
        raise UsageError([Problem(task.name, None, key, found, allowed)])


def _failure(
    planned: PlannedSample, outcomes: Sequence[Completion | Failure]
) -> dict[str, Any] | None:
    if planned.problem:
        return {"kind": "bad_sample", "message": planned.problem}
    failure = next((o for o in outcomes if isinstance(o, Failure)), None)
    if failure is None:
        return None
    return {"kind": failure.kind, "message": failure.message, "attempts": failure.attempts}


def _by_variant(planned: PlannedSample, answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what was asked about each variant of a sample, and the answers with the variant's name."""
    names = planned.sample.variants
    width = len(planned.requests) // len(names)
    return {
        "variants": {name: _asked(planned.requests[k * width]) for k, name in enumerate(names)},
        "answers": [{"variant": names[k // width], **answer} for k, answer in enumerate(answers)],
    }


def _asked(request: Request) -> dict[str, Any]:
    if request.messages is None:
        return {"prompt": request.prompt}
    return {"messages": [{"role": m.role, "content": m.content} for m in request.messages]}


def as_answer(outcome: Completion | Failure) -> dict[str, Any]:
    """Return what came back for one request as a row holds it."""
    if isinstance(outcome, Failure):
        return {"failed": outcome.kind}
    if outcome.logprobs is None:
        return {"text": outcome.text, "finish_reason": outcome.finish_reason}
    return {"logprob": sum(outcome.logprobs), "tokens": len(outcome.logprobs)}


def _score(
    metric: Metric, planned: PlannedSample, completions: Sequence[Completion]
) -> Score | Unscored:
    """Score each replicate and average the statistics; one ungradable replicate makes the sample unscored."""
    width = planned.per_replicate
    scores = []
    for start in range(0, len(completions), width):
        try:
            result = metric.score(planned.sample, completions[start : start + width])
        except Exception as error:  # a metric may be a plug-in's code
            return Unscored("the metric failed", f"{type(error).__name__}: {error}")
        if isinstance(result, Unscored):
            return result
        if len(result.statistics) != len(metric.columns) or not all(
            map(isfinite, result.statistics)
        ):
            return Unscored("the metric gave no finite statistics", str(result.statistics))
        scores.append(result)
    if len(scores) == 1:
        return scores[0]
    columns = zip(*(s.statistics for s in scores), strict=True)
    means = tuple(sum(column) / len(scores) for column in columns)
    if not all(map(isfinite, means)):  # of numbers near the largest there are
        return Unscored("the metric gave no finite statistics", str(means))
    return Score(means, scores[0].note)
