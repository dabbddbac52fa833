"""Every estimate a suite will give, with the number of samples behind it, counted from the data sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from evalkit.estimating import full_name
from evalkit.gates.stopping import why_not_sequential
from evalkit.metrics.base import Measure, Metric
from evalkit.planning.planner import attribute_of
from evalkit.ports import SampleSource
from evalkit.records.scorecard import estimate_name
from evalkit.records.suite import GateSpec, TaskSpec
from evalkit.stats.intervals import Codes, cluster_codes


class Task(Protocol):
    """What is asked of a task with its parts."""

    @property
    def spec(self) -> TaskSpec:
        """What the suite declares."""

    @property
    def source(self) -> SampleSource:
        """Its rows."""

    @property
    def metrics(self) -> Sequence[Metric]:
        """Its metrics."""


@dataclass(frozen=True)
class Target:
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

    @property
    def name(self) -> str:
        """``task/metric[@slice]``, as rules write it."""
        return estimate_name(self.task, self.metric, self.slice)


def targets_of(tasks: Iterable[Task], gates: Sequence[GateSpec]) -> Iterator[Target]:
    """Yield every target of every task: measure by measure, all samples first, then each slice that the data hold.

    The ``gates`` decide whether a task that says so can stop early. Reads each data set once, and not at all where
    neither slices nor clusters are declared and its size is known.
    """
    for task in tasks:
        rows, clusters = _counted(task)
        anytime = task.spec.stop == "early" and not why_not_sequential(
            gates, task.spec, task.metrics
        )
        replicates = getattr(getattr(task.spec, "decoding", None), "replicates", 1)
        for metric in task.metrics:
            for measure in metric.measures:
                for slice_, members_N in rows.items():
                    yield Target(
                        task=task.spec.name,
                        metric=full_name(metric.name, measure.name),
                        slice=slice_,
                        measure=measure,
                        binary=measure.kind == "rate" and replicates == 1,
                        samples=len(members_N),
                        clusters_N=None if clusters is None else clusters[members_N],
                        anytime=anytime,
                    )


def _counted(task: Task) -> tuple[Mapping[str | None, Codes], Codes | None]:
    """Return the positions of all samples (None) and of each slice's, and each sample's cluster."""
    fields, cluster = task.spec.slices, task.spec.cluster
    if not fields and cluster is None and task.source.total is not None:
        return {None: np.arange(task.source.total)}, None
    members: dict[str, list[int]] = {}
    clusters: list[str] = []
    total = 0
    for _, row in task.source.rows():
        for field in fields:
            members.setdefault(f"{field}={attribute_of(row, field)}", []).append(total)
        if cluster is not None:
            clusters.append(attribute_of(row, cluster))
        total += 1
    # The order of the fields, then of the values, is the scorecard's.
    order = {field: place for place, field in enumerate(fields)}
    named = sorted(members, key=lambda name: (order[name.partition("=")[0]], name))
    slices: dict[str | None, Codes] = {None: np.arange(total)}
    slices.update({name: np.asarray(members[name], dtype=np.intp) for name in named})
    return slices, None if cluster is None else cluster_codes(clusters)
