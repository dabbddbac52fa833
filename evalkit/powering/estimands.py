"""Every estimate a suite will give, with the number of samples behind it, counted from the data sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from evalkit.estimating import full_name
from evalkit.fairness import gap_names, group_names
from evalkit.gates.stopping import why_not_sequential
from evalkit.metrics.base import Measure, Metric
from evalkit.planning import attribute_of, attributes_of, replicates_of
from evalkit.ports import SampleSource
from evalkit.records.scorecard import estimate_name
from evalkit.records.suite import GateSpec, SampledTask
from evalkit.scoring import refuse_identifier
from evalkit.stats.intervals import Codes, cluster_codes


class Task(Protocol):
    """What is asked of a task with its parts."""

    @property
    def spec(self) -> SampledTask:
        """What the suite declares."""

    @property
    def source(self) -> SampleSource:
        """Its rows."""

    @property
    def metrics(self) -> Sequence[Metric]:
        """Its metrics."""


@dataclass(frozen=True)
class Estimand:
    """One estimate that a suite will give."""

    task: str
    """The task's name."""
    metric: str
    """``metric`` or ``metric.measure``."""
    slice: str | None
    """``field=value``, or None for all samples."""
    measure: Measure
    """What is measured."""
    binary: bool
    """Whether each sample's score is 0 or 1: a rate over single answers."""
    samples: int
    """How many samples it will rest on if all are scored."""
    clusters_N: Codes | None
    """Each sample's cluster; None where the task declares none."""
    anytime: bool
    """Whether the task may stop early, so that its intervals must hold at any look."""
    of_groups: tuple[str, ...] = ()
    """Names of what groups of people add to its metric: gaps, and shares of answers without a score. Held by one
    estimand of each metric."""

    @property
    def name(self) -> str:
        """``task/metric[@slice]``, as rules write it."""
        return estimate_name(self.task, self.metric, self.slice)


def estimands_of(
    tasks: Iterable[Task], gates: Sequence[GateSpec], *, has_baseline: bool = True
) -> Iterator[Estimand]:
    """Yield every estimand of every task: measure by measure, all samples first, then each slice that the data hold.

    The ``gates`` decide whether a task that says so can stop early. Reads each data set once, and not at all where
    neither slices, groups nor clusters are declared and its size is known. Raises UsageError on a slice that is an
    identifier.
    """
    for task in tasks:
        rows, clusters = _counted(task)
        anytime = task.spec.stop == "early" and not why_not_sequential(
            gates, task.spec, task.metrics, has_baseline=has_baseline
        )
        for metric in task.metrics:
            beside = tuple(_of_groups(task.spec, metric, rows))
            for place, measure in enumerate(metric.measures):
                for slice_, members_N in rows.items():
                    yield Estimand(
                        task=task.spec.name,
                        metric=full_name(metric.name, measure.name),
                        slice=slice_,
                        # How many samples it is over is known when they are read: it is planned as a function of sums.
                        measure=replace(measure, kind="corpus") if measure.over >= 0 else measure,
                        binary=(
                            measure.kind == "rate"
                            and measure.over < 0
                            and replicates_of(task.spec) == 1
                        ),
                        samples=len(members_N),
                        clusters_N=None if clusters is None else clusters[members_N],
                        anytime=anytime,
                        of_groups=beside if place == 0 and slice_ is None else (),
                    )


def _of_groups(task: SampledTask, metric: Metric, slices: Iterable[str | None]) -> Iterator[str]:
    """Yield the names of what groups of people add to a metric of a task."""
    fields = task.groups.names if task.groups else ()
    for name in gap_names(task, [metric]):
        yield from (f"{name}@{field}" for field in fields)
    groups = [slice_ for slice_ in slices if slice_ and slice_.partition("=")[0] in fields]
    for name in group_names(task, [metric]):
        yield from (f"{name}@{group}" for group in groups)


def _counted(task: Task) -> tuple[Mapping[str | None, Codes], Codes | None]:
    """Return the positions of all samples (None) and of each slice's, and each sample's cluster."""
    fields, cluster = task.spec.split_by, task.spec.cluster
    if not fields and cluster is None and task.source.total is not None:
        return {None: np.arange(task.source.total)}, None
    members: dict[str, dict[str, list[int]]] = {field: {} for field in fields}
    clusters: list[str] = []
    total = 0
    for _, row in task.source.rows():
        for field, value in attributes_of(row, task.spec).items():
            members[field].setdefault(value, []).append(total)
        if cluster is not None:
            clusters.append(attribute_of(row, cluster))
        total += 1
    slices: dict[str | None, Codes] = {None: np.arange(total)}
    # The order of the fields, then of the values, is the scorecard's.
    for field, values in members.items():
        refuse_identifier(task.spec, field, len(values))
        for value in sorted(values):
            slices[f"{field}={value}"] = np.asarray(values[value], dtype=np.intp)
    return slices, None if cluster is None else cluster_codes(clusters)
