"""The second pass: judges are asked about the answers of the first, and what they say becomes statistics.

Judges come one after another, each over all that it is to judge: the rows of ``samples.jsonl``, task by task, the
candidate's before the baseline's. Requests go through the same collector, executor and answer store as any other, so a
judge's backend opens only where a reply is missing, and a run that was interrupted asks the missing ones alone.
Judgements leave in the order of the rows; a few numbers are kept of each, until every judge has said its own. Then the
metrics that rest on them are scored row by row, as others are in the first pass.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from evalkit.collecting import Collector
from evalkit.judging.asking import Asker, Question, as_row, questions
from evalkit.judging.settling import Row, constant_answers
from evalkit.metrics.base import Metric
from evalkit.planning import PlannedSample
from evalkit.ports import AnswerStore, Backend, Executor, Progress
from evalkit.records.exchange import Completion, Failure, Model, Role
from evalkit.records.judging import Judgement, JudgeRecord
from evalkit.records.scorecard import TaskTally
from evalkit.records.suite import JudgeSpec, SampledTask
from evalkit.scoring import (
    MetricTable,
    TaskScorer,
    as_answer,
    as_judged,
    judged_tables,
    retallied,
)


class SampleRows(Protocol):
    """The rows of a run's ``samples.jsonl``, to be read as often as there are judges."""

    def of(self, role: Role, task: str) -> Iterator[Row]:
        """Yield one model's rows of a task, in the order in which they were scored."""

    def one(self, role: Role, task: str, sample: str) -> Row | None:
        """Return one row by the sample's id; None where that model has none."""

    def count(self, role: Role, task: str) -> int:
        """Return how many rows one model has of a task."""


@dataclass(frozen=True)
class JudgeParts:
    """A judge with what answers for it."""

    spec: JudgeSpec
    """What it is asked, under the name that metrics give it."""
    backend: Backend
    """What answers; opened for nothing yet."""
    model: Model
    """The identity that its replies are kept under."""
    signature: str
    """All that can change a verdict: the digest of its pins and, of pairs, the model that is compared with."""
    record: JudgeRecord
    """What is known of it before it is asked: its card, and what makes it doubtful."""


@dataclass(frozen=True)
class Answered:
    """One task on one model, answered in full, and what judges are to say of it."""

    role: Role
    """The model as the rows name it."""
    spec: SampledTask
    """What the task's suite declares."""
    metrics: tuple[Metric, ...]
    """The metrics that rest on judgements, and only these."""
    dataset: str
    """Digest of the data set."""
    signature: str
    """The task's signature."""
    anytime: bool = False
    """Whether looking at the samples decided how many were asked."""


@dataclass
class Judged:
    """What judging gave."""

    tables: dict[Role, list[MetricTable]] = field(default_factory=dict)
    """Statistics of the metrics that rest on judgements."""
    records: list[JudgeRecord] = field(default_factory=list)
    """The judges, in the suite's order, with what became of their judgements."""
    asked: int = 0
    """Requests sent."""
    reused: int = 0
    """Requests answered from the answer store."""
    _unscored: dict[tuple[Role, str], dict[str, Mapping[str, int]]] = field(default_factory=dict)
    _coverage: dict[tuple[Role, str], float] = field(default_factory=dict)

    def tallied(self, tallies: Iterable[TaskTally]) -> list[TaskTally]:
        """Return what happened in each task, the samples without a judgement counted."""
        return [
            retallied(
                tally,
                {**tally.unscored, **self._unscored[key]},
                self._coverage[key],
            )
            if (key := (tally.model, tally.task)) in self._unscored
            else tally
            for tally in tallies
        ]

    def score(
        self,
        each: Answered,
        rows: Iterable[Row],
        judgements: Mapping[str, Sequence[Judgement]],
        lengths: Sequence[tuple[int, int]],
        signatures: Mapping[str, str],
    ) -> None:
        """Score one task of one model from what its judges said, row by row."""
        scorer = TaskScorer(
            each.spec, each.metrics, each.role, each.dataset, each.signature, anytime=each.anytime
        )
        for place, row in enumerate(rows):
            said = {judge: held[place] for judge, held in judgements.items()}
            scorer.add(*as_judged(row, said, lengths[place] if lengths else (0, 0)))
        key = each.role, each.spec.name
        held = scorer.tally().unscored
        self._unscored[key] = {metric.name: held.get(metric.name, {}) for metric in each.metrics}
        self._coverage[key] = each.spec.min_coverage
        self.tables.setdefault(each.role, []).extend(judged_tables(scorer, signatures))


def judged_metrics(
    metrics: Sequence[Metric], judges: Mapping[str, JudgeSpec], role: Role
) -> tuple[Metric, ...]:
    """Return the metrics that rest on judgements of one model: of pairs they are the candidate's alone."""
    return tuple(
        metric
        for metric in metrics
        if metric.judges
        and (role == "candidate" or all(judges[j].form == "pointwise" for j in metric.judges))
    )


async def judge(
    answered: Sequence[Answered],
    judges: Sequence[JudgeParts],
    rows: SampleRows,
    executor: Callable[[str], Executor],
    store: AnswerStore,
    write_row: Callable[[dict[str, Any]], None],
    progress: Callable[[str], Progress],
) -> Judged:
    """Ask every judge about what it is to judge, then score what they said.

    ``executor`` and ``progress`` are by the judge's name. ``write_row`` gets one row per judgement. Raises RunError
    when a judge's backend or the disk gives out; what was answered is in the store by then.
    """
    judged = Judged()
    said: dict[tuple[Role, str], dict[str, list[Judgement]]] = {}
    lengths: dict[tuple[Role, str], list[tuple[int, int]]] = {}
    constants = _Constants(rows)
    for parts in judges:
        name = parts.spec.judge
        jobs = [each for each in answered if any(name in m.judges for m in each.metrics)]
        sitting = _Sitting(parts, jobs, rows, constants, write_row, progress(name))
        collector = Collector(sitting.planned(), store, sitting.finish)
        try:
            await collector.run(executor(name), parts.backend)
        finally:
            await parts.backend.close()
        judged.asked += collector.asked
        judged.reused += collector.reused
        judged.records.append(sitting.record())
        for key, judgements in sitting.judgements.items():
            said.setdefault(key, {})[name] = judgements
        lengths |= sitting.lengths
    signatures = {parts.spec.judge: parts.signature for parts in judges}
    for each in answered:
        key = each.role, each.spec.name
        judged.score(each, rows.of(*key), said[key], lengths.get(key, ()), signatures)
    return judged


class _Constants:
    """The answers that a model gives to everything, looked for once per task and model."""

    def __init__(self, rows: SampleRows) -> None:
        self._rows = rows
        self._found: dict[tuple[Role, str], frozenset[bytes]] = {}

    def of(self, role: Role, task: str) -> frozenset[bytes]:
        if (role, task) not in self._found:
            self._found[role, task] = constant_answers(self._rows.of(role, task))
        return self._found[role, task]


class _Sitting:
    """One judge over all that it is to judge; planned rows leave in the order in which they came."""

    def __init__(
        self,
        parts: JudgeParts,
        jobs: Sequence[Answered],
        rows: SampleRows,
        constants: _Constants,
        write_row: Callable[[dict[str, Any]], None],
        view: Progress,
    ) -> None:
        self._parts, self._jobs, self._rows, self._constants = parts, jobs, rows, constants
        self._asker = Asker(parts.spec, parts.model)
        self._pairwise = parts.spec.form == "pairwise"
        self._write_row, self._view = write_row, view
        self._total = sum(rows.count(job.role, job.spec.name) for job in jobs)
        self._waiting: deque[Answered] = deque()
        """The task and model of each planned row that has not left."""
        self._settled: Counter[str] = Counter()
        self._unjudged: Counter[str] = Counter()
        self._seen = self._requests = 0
        self._tokens: list[int | None] = [0, 0]
        places = [(job.role, job.spec.name) for job in jobs]
        self.judgements: dict[tuple[Role, str], list[Judgement]] = {place: [] for place in places}
        """What it said of each row, by model and task."""
        self.lengths: dict[tuple[Role, str], list[tuple[int, int]]] = (
            {place: [] for place in places} if self._pairwise else {}
        )
        """Characters of the candidate's and the baseline's answers, of pairs."""

    def planned(self) -> Iterator[PlannedSample]:
        """Yield what is asked about each row."""
        for job in self._jobs:
            task = job.spec.name
            held = self._rows.of(job.role, task)
            if self._pairwise:
                asked = questions(
                    held,
                    self._parts.spec,
                    self._constants.of(job.role, task),
                    partial(self._rows.one, "baseline", task),
                    self._constants.of("baseline", task),
                )
            else:
                asked = questions(held, self._parts.spec, self._constants.of(job.role, task))
            for question, row in asked:
                self._waiting.append(job)
                yield self._asker.plan(question, row)

    def finish(self, planned: PlannedSample, outcomes: Sequence[Completion | Failure]) -> bool:
        """Note what the judge says of one row; never the last that is wanted."""
        job = self._waiting.popleft()
        question: Question = planned.sample.fields["question"]
        judgement = self._asker.judgement(planned, outcomes)
        written = as_row(question.id, job.spec.name, job.role, self._parts.spec.judge, judgement)
        key = job.role, job.spec.name
        if self._pairwise:
            lengths = _lengths(question)
            self.lengths[key].append(lengths)
            written["lengths"] = list(lengths)
        self._write_row({**written, "replies": [as_answer(outcome) for outcome in outcomes]})
        self.judgements[key].append(replace(judgement, note=""))
        self._count(judgement, planned, outcomes)
        self._view.advance(self._seen, self._total, sum(self._unjudged.values()))
        return False

    def _count(
        self,
        judgement: Judgement,
        planned: PlannedSample,
        outcomes: Sequence[Completion | Failure],
    ) -> None:
        self._seen += 1
        self._requests += len(planned.requests)
        if judgement.settled:
            self._settled[judgement.settled] += 1
        if judgement.value is None:
            self._unjudged[judgement.reason] += 1
        for outcome in outcomes:
            if isinstance(outcome, Completion):
                told = (outcome.prompt_tokens, outcome.completion_tokens)
                self._tokens = [
                    None if held is None or more is None else held + more
                    for held, more in zip(self._tokens, told, strict=True)
                ]

    def record(self) -> JudgeRecord:
        """Return the judge as it was used."""
        name = self._parts.spec.judge
        rests = [
            f"{job.spec.name}/{metric.name}"
            for job in self._jobs
            for metric in job.metrics
            if name in metric.judges
        ]
        return self._parts.record.model_copy(
            update={
                "metrics": tuple(dict.fromkeys(rests)),
                "settled": dict(sorted(self._settled.items())),
                "samples": self._seen,
                "unjudged": dict(sorted(self._unjudged.items())),
                "requests": self._requests,
                "prompt_tokens": self._tokens[0],
                "completion_tokens": self._tokens[1],
            }
        )


def _lengths(question: Question) -> tuple[int, int]:
    """Return the characters of the candidate's answers and of the baseline's, over the replicates that both have."""
    both = min(len(question.answers), len(question.others))
    return (
        sum(map(len, question.answers[:both])),
        sum(map(len, question.others[:both])),
    )
