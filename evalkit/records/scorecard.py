"""The scorecard: the contract between running, gating, reporting and signing. Versioned JSON.

``Scorecard.digest`` covers everything but ``circumstances``: two runs with the same inputs have equal digests.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field, model_validator

from evalkit.identity import digest
from evalkit.records.interval import Interval, Record
from evalkit.records.judging import JudgeRecord

__all__ = [
    "ALL_TENSORS",
    "FORMAT",
    "Better",
    "Bounded",
    "Cell",
    "Circumstances",
    "Comparison",
    "Counts",
    "Disparity",
    "EarlyStop",
    "Estimate",
    "Finding",
    "Interval",
    "JointErrors",
    "ModelRecord",
    "Provenance",
    "Record",
    "Scorecard",
    "TaskTally",
    "Unread",
    "estimate_name",
]

FORMAT: Final = 1
"""Version of the scorecard format; grows when a reader of the old one would misread the new one."""


class Counts(Record):
    """What became of the planned samples."""

    planned: int
    """Samples in the task (or slice)."""
    completed: int
    """Samples every request of which was answered."""
    failed: int
    """Samples with a request that was not."""
    scored: int
    """Completed samples that gave statistics."""
    unscored: int
    """Completed samples that could not be graded."""

    @model_validator(mode="after")
    def _adds_up(self) -> Counts:
        if self.planned != self.completed + self.failed:
            raise ValueError("planned must equal completed + failed")
        if self.completed != self.scored + self.unscored:
            raise ValueError("completed must equal scored + unscored")
        return self

    @property
    def coverage(self) -> float:
        """Scored ÷ planned; 0 for an empty task."""
        return self.scored / self.planned if self.planned else 0.0


Better = Literal["higher", "lower"]


class Estimate(Record):
    """An aggregate with its interval and counts: no bare number exists anywhere."""

    model: Literal["candidate", "baseline"]
    """Whose number it is."""
    task: str
    """The task's name."""
    metric: str
    """``metric`` or ``metric.measure``."""
    slice: str | None
    """``field=value``, or null for all samples; of a gap the field alone, such as ``sex`` or ``sex+age``."""
    kind: Literal["rate", "mean", "corpus", "census", "gap"] = "mean"
    """What the number is: a share of samples, a mean over samples, another function of them all, a ``census`` (read
    from the weights in full, so that nothing was sampled) or a ``gap`` between groups. Decides how samples without a
    score are bounded."""
    value: float | None
    """The number; null when nothing could be scored."""
    interval: Interval | None
    """Null when nothing could be scored, or one sample was."""
    counts: Counts
    """What it rests on."""
    n: int | None = None
    """Samples the number is over, where that is not all scored ones."""
    unit: str
    """``fraction``, ``points``, ``bits/byte`` …"""
    better: Better
    """Which direction is better."""
    signature: str
    """All that could change the number; numbers with different signatures are never compared."""
    warnings: tuple[str, ...] = ()
    """Why the interval is not to be trusted blindly, in words."""

    @property
    def name(self) -> str:
        """``task/metric[@slice]``, as rules write it."""
        return estimate_name(self.task, self.metric, self.slice)


class Cell(Record):
    """One group's number behind a gap."""

    measure: str
    """``metric.measure`` whose number it is."""
    group: str
    """The group: the field's value."""
    n: int
    """Samples that the number is over: of a true-positive rate those whose label is positive."""
    value: float | None
    """The number; null where ``n`` is 0."""
    interval: Interval | None
    """Of this group alone, at the suite's confidence."""
    missing: int = 0
    """Planned samples of the group without a score: each may stand for anything."""
    left_out: str = ""
    """Why it is no part of the gap, in words; empty where it is."""
    unmeasured: bool = False
    """Whether it is left out though as planned it is large enough: samples lack a score, or what the model answered
    leaves too few that the number is over. With it the gap may be any."""


class Disparity(Record):
    """What stands behind the estimate of a gap: the groups, and what chance alone would show."""

    model: Literal["candidate", "baseline"]
    """Whose answers."""
    task: str
    """The task's name."""
    metric: str
    """The gap's name, as its estimate has it."""
    by: str
    """The field that names the groups; the estimate's slice."""
    form: Literal["difference", "ratio"]
    """``difference``: greatest − least; ``ratio``: least ÷ greatest."""
    value: float | None
    """The gap as it was observed; null where it cannot be estimated."""
    expected: float | None = None
    """Mean gap of these samples if groups made no difference, by permutation."""
    corrected: float | None = None
    """The gap less the upward bias that a bootstrap finds, never beyond no gap. Where groups differ by far more than
    chance that is nearly all of the bias. Where they are equal it is 41 % of it only, so that a fair model too shows a
    corrected gap above 0."""
    p_value: float | None = None
    """Of no difference between groups, by permutation."""
    p_adjusted: float | None = None
    """The same by Holm over the fields by which the task is compared."""
    exact: bool = False
    """Whether every arrangement was counted rather than drawn."""
    low: str | None = None
    """The group with the least value, of the measure whose gap is widest."""
    high: str | None = None
    """The group with the greatest value of the same measure."""
    measure: str | None = None
    """That measure."""
    cells: tuple[Cell, ...] = ()
    """Every group's number, by measure and group."""
    reason: str = ""
    """Why it cannot be estimated, in words."""

    @property
    def name(self) -> str:
        """``task/metric@by``, as rules write it."""
        return estimate_name(self.task, self.metric, self.by)


class Bounded(Record):
    """The difference over all planned samples, each score that is missing put at one end of its range."""

    difference: float
    """Candidate − baseline, in the metric's unit."""
    intervals: tuple[Interval, ...]
    """At the levels that one-sided rules read."""


class JointErrors(Record):
    """How far both values on the pairs would move together in another sample."""

    candidate: float
    """Standard error of the candidate's value."""
    baseline: float
    """Standard error of the baseline's value."""
    covariance: float
    """Covariance of the two values."""
    df: int | None
    """Degrees of freedom of Student's t; null where the errors come from resampling."""


class Comparison(Record):
    """Candidate minus baseline on the same samples, paired by id."""

    task: str
    """The task's name."""
    metric: str
    """``metric`` or ``metric.measure``."""
    slice: str | None
    """``field=value``, or null for all samples."""
    status: Literal["compared", "incomparable", "no pairs"]
    """``incomparable`` when signatures or data sets differ."""
    reason: str = ""
    """Why it could not be compared."""
    candidate: float | None = None
    """Candidate's value on the pairs."""
    baseline: float | None = None
    """Baseline's value on the pairs."""
    difference: float | None = None
    """Candidate − baseline, in the metric's unit."""
    interval: Interval | None = None
    """Of the difference, at the suite's confidence."""
    intervals: tuple[Interval, ...] = ()
    """Of the difference, at the levels that one-sided rules read; by the method that keeps their error rates."""
    p_value: float | None = None
    """Two-sided, of no difference."""
    test: str = ""
    """``mcnemar mid-p``, ``paired t``, ``paired bootstrap`` …"""
    pairs: int = 0
    """Samples scored for both."""
    unpaired: int = 0
    """Planned samples that were not scored for both."""
    improved: int | None = None
    """Pairs on which the candidate scores better; null where a sample alone has no score (corpus measures)."""
    worsened: int | None = None
    """Pairs on which the candidate scores worse."""
    worst: Bounded | None = None
    """The case worst for the candidate where samples are unpaired; null where none is, or scores have no known ends."""
    best: Bounded | None = None
    """The case best for the candidate, likewise."""
    errors: JointErrors | None = None
    """For statements about the ratio of the two values; null where they cannot be estimated."""
    unit: str = ""
    """The metric's unit."""
    better: Better = "higher"
    """Which direction is better."""
    warnings: tuple[str, ...] = ()
    """Why the interval is not to be trusted blindly, in words."""

    @property
    def name(self) -> str:
        """``task/metric[@slice]``, as rules write it."""
        return estimate_name(self.task, self.metric, self.slice)


def estimate_name(task: str, metric: str, slice_: str | None) -> str:
    """Return ``task/metric`` or ``task/metric@slice``."""
    return f"{task}/{metric}" if slice_ is None else f"{task}/{metric}@{slice_}"


class EarlyStop(Record):
    """How a task with ``stop: early`` ended."""

    available: int
    """Samples of the data set."""
    drawn: int
    """Samples that were asked, in the drawn order, until every rule on the task was decided."""
    seed: int
    """Seed of the order."""
    looks: int
    """How often the rules were looked at."""
    decided: bool
    """Whether every rule was decided; if not, all samples were asked."""
    tokens_saved: int | None = None
    """Tokens not spent, at the mean of the samples asked; null where the backend tells none."""


class TaskTally(Record):
    """What happened while one task ran on one model."""

    model: Literal["candidate", "baseline"]
    """Which model."""
    task: str
    """The task's name."""
    kind: str
    """``generate``, ``multiple_choice``, ``perplexity`` …"""
    dataset: str
    """Digest of the data set's bytes."""
    planned: int
    """Samples."""
    requests: int
    """Requests these samples need."""
    failures: dict[str, int] = Field(default_factory=dict)
    """Samples that failed, by class of fault."""
    unscored: dict[str, dict[str, int]] = Field(default_factory=dict)
    """Metric → reason → samples that could not be graded."""
    finish_reasons: dict[str, int] = Field(default_factory=dict)
    """Generated answers by how they ended."""
    prompt_tokens: int | None = None
    """Tokens read; null where the backend does not tell."""
    completion_tokens: int | None = None
    """Tokens written; null where the backend does not tell."""
    complete: bool = True
    """Whether coverage reached the task's ``min_coverage``."""
    early: EarlyStop | None = None
    """How the task ended where the suite says ``stop: early``."""
    in_full: str = ""
    """Why a task with ``stop: early`` ran in full all the same."""


class Finding(Record):
    """Something a check of the weights found, or that was not taken over of another harness's run, in words."""

    model: Literal["candidate", "baseline"]
    """Whose weights."""
    task: str
    """The task's name."""
    check: str
    """The check that fired, such as ``integrity.nonfinite``; ``task/check`` is the number of its findings."""
    tensor: str | None
    """The tensor; null for the model as a whole."""
    message: str
    """What was found, in one sentence with its numbers."""
    value: float | None = None
    """The number behind it, where there is one."""


ALL_TENSORS: Final = "*"
"""Stands for the tensors of a model that has none to be read."""


class Unread(Record):
    """A stored tensor that was not measured, and why."""

    model: Literal["candidate", "baseline"]
    """Whose weights."""
    task: str
    """The task's name."""
    tensor: str
    """Its stored name."""
    reason: str
    """Why."""


class ModelRecord(Record):
    """A model as it was measured, wherever it lay and whatever it was called."""

    digest: str
    """Identity of its answers."""
    pinned: bool
    """Whether the digest covers the weights' bytes or a stated revision."""
    files: dict[str, str]
    """File → SHA-256."""
    engine: dict[str, Any]
    """Backend, versions and arguments that can change an answer."""


class Provenance(Record):
    """Enough to run it again."""

    suite: str
    """Suite name."""
    suite_version: int | str
    """Suite version."""
    suite_digest: str
    """Digest of what the suite file says."""
    models: dict[str, ModelRecord]
    """Role → model."""
    datasets: dict[str, str]
    """Task → digest of the data set's bytes."""
    seed: int
    """Seed of everything drawn."""
    versions: dict[str, str]
    """Package → version of what computed the numbers."""


class Circumstances(Record):
    """What may differ between two runs that give the same numbers; no part of the digest."""

    started: str
    """UTC, ISO 8601."""
    finished: str
    """UTC, ISO 8601."""
    command: tuple[str, ...]
    """The command line."""
    git_commit: str | None
    """Commit of the suite's repository; with ``+changes`` where files differ."""
    hardware: dict[str, Any]
    """Processor, cores, memory, accelerators."""
    host: dict[str, str]
    """Operating system, Python."""
    asked: int
    """Requests sent in this run."""
    reused: int
    """Requests answered from the answer store."""
    seconds: float
    """Wall time."""
    names: dict[str, str] = Field(default_factory=dict)
    """Role → the model as the user named it."""
    locations: dict[str, str] = Field(default_factory=dict)
    """Role → where the model lay."""
    engine: dict[str, Any] = Field(default_factory=dict)
    """Role → engine arguments and reported versions that cannot change an answer (port, concurrency)."""


class Scorecard(Record):
    """Every estimate of a run, with all that stands behind it."""

    format: Literal[1] = FORMAT
    """Version of this format."""
    digest: str = ""
    """Digest of everything but ``circumstances``."""
    provenance: Provenance
    """Enough to run it again."""
    estimates: tuple[Estimate, ...]
    """Sorted by model, task, metric, slice."""
    comparisons: tuple[Comparison, ...]
    """Candidate against baseline."""
    samples: str = ""
    """SHA-256 of ``samples.jsonl``, from which every number here can be computed again."""
    disparities: tuple[Disparity, ...] = ()
    """What stands behind each gap between groups."""
    findings: tuple[Finding, ...] = ()
    """What checks of the weights found."""
    unread: tuple[Unread, ...] = ()
    """What of the weights was not measured."""
    weights: str = ""
    """SHA-256 of ``weights.jsonl``, every number measured on each tensor; empty where no task reads weights."""
    baseline_run: str = ""
    """Digest of the scorecard that the baseline's answers come from; empty where they were measured in this run."""
    labels: str = ""
    """SHA-256 of ``labels.jsonl``, people's ratings of drawn answers; empty where nobody rated any."""
    judgements: str = ""
    """SHA-256 of ``judgements.jsonl``, every judgement with the replies behind it; empty where nothing was judged."""
    judges: tuple[JudgeRecord, ...] = ()
    """The judges, as they were used."""
    tasks: tuple[TaskTally, ...]
    """What happened while each task ran."""
    circumstances: Circumstances
    """When, where and how long."""

    @property
    def weighed(self) -> tuple[str, ...]:
        """The tasks that read weights, or were to read them, in the scorecard's order."""
        read = (estimate.task for estimate in self.estimates if estimate.kind == "census")
        return tuple(dict.fromkeys([*read, *(unread.task for unread in self.unread)]))

    @property
    def not_run(self) -> tuple[str, ...]:
        """The tasks that the candidate was not asked, since a blocking rule on its weights had failed before."""
        if not self.weighed:
            return ()
        run = {tally.task for tally in self.tasks if tally.model == "candidate"}
        return tuple(task for task in self.provenance.datasets if task not in run)

    def computed_digest(self) -> str:
        """Return the digest that this content has."""
        return digest(self.beyond_defaults(exclude=("digest", "circumstances")))

    def sealed(self) -> Scorecard:
        """Return the scorecard with its digest filled in."""
        return self.model_copy(update={"digest": self.computed_digest()})
