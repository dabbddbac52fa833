"""What a task with ``groups`` gives by name, known before anything is run, so that rules can be checked.

A number of one group is ``task/metric[.measure]@field=value``, as of a slice; a gap between groups is
``task/metric.<gap>@field``, with the field alone behind the ``@`` (``sex``, or ``sex+age`` for an intersection).
"""

from __future__ import annotations

from collections.abc import Sequence

from evalkit.estimating import full_name
from evalkit.metrics.base import Gap, Measure, Metric, rate
from evalkit.records.patterns import expression
from evalkit.records.scorecard import estimate_name
from evalkit.records.suite import SampledTask
from evalkit.scoring import MetricTable

UNSCORED: Measure = rate("unscored", column=0, better="lower")
"""The share of answered samples without a score: who is refused an answer that can be graded is itself a finding."""
UNSCORED_GAP = Gap("unscored.gap", (UNSCORED.name,))
"""Its gap, which every metric has."""


def group_names(task: SampledTask, metrics: Sequence[Metric]) -> dict[str, Measure]:
    """Return the numbers that a task gives of each group alone, by ``task/metric.measure`` without a slice."""
    if task.groups is None:
        return {}
    return {
        estimate_name(task.name, full_name(metric.name, UNSCORED.name), None): UNSCORED
        for metric in metrics
    }


def gap_names(task: SampledTask, metrics: Sequence[Metric]) -> dict[str, Gap]:
    """Return the gaps that a task gives, by ``task/metric.gap`` without the field."""
    if task.groups is None:
        return {}
    return {
        estimate_name(task.name, full_name(metric.name, gap.name), None): gap
        for metric in metrics
        for gap in (*metric.gaps, UNSCORED_GAP)
    }


def gap_metrics(table: MetricTable) -> list[str]:
    """Return ``task/metric.gap`` of each gap that a table's task gives, and its share of answers without a score."""
    if table.groups is None:
        return []
    names = [UNSCORED.name, *(gap.name for gap in (*table.gaps, UNSCORED_GAP))]
    return [estimate_name(table.task, full_name(table.metric, name), None) for name in names]


def may_match_gap(slice_pattern: str, field: str) -> bool:
    """Return whether what a pattern says behind the ``@`` matches a gap by this field.

    >>> [may_match_gap(pattern, "sex") for pattern in ("sex", "*", "s*", "sex=*", "sex=F")]
    [True, True, True, False, False]
    """
    return expression(slice_pattern).fullmatch(field) is not None
