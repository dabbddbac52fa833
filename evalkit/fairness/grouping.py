"""Which samples of a table belong to which group of people, and which are left out of a gap and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evalkit.fairness.names import UNSCORED, UNSCORED_GAP
from evalkit.metrics.base import Measure
from evalkit.planning import MISSING
from evalkit.records.scorecard import Counts
from evalkit.scoring import MetricTable
from evalkit.stats.intervals import Array, Codes


@dataclass(frozen=True)
class Grouping:
    """The groups that one field makes of a table's samples."""

    field: str
    """The field, or ``a+b`` for an intersection."""
    min_size: int
    """A group in which a number rests on fewer samples is no part of a gap."""
    rows: Mapping[str, Codes]
    """Group → rows of its scored samples, ascending; the groups in the order of their names."""
    planned: Mapping[str, int]
    """Group → planned samples; samples that lack the attribute under ``MISSING``."""
    completed: Mapping[str, int]
    """Group → samples every request of which was answered, likewise."""

    @classmethod
    def each(cls, table: MetricTable) -> list[Grouping]:
        """Return one for each field that names groups; none where the table's task declares none."""
        return [_grouping(table, field) for field in (table.groups.names if table.groups else ())]

    def counts(self, kept: Sequence[str]) -> Counts:
        """Return what became of the samples that a gap between ``kept`` groups is about.

        Planned are those of the groups that are large enough, and those whose attribute is missing, since they may
        belong to any of them; these count as not scored. Groups too small to compare are no part of it.
        """
        planned = sum(self.planned[group] for group in kept) + self.planned[MISSING]
        completed = sum(self.completed[group] for group in kept) + self.completed[MISSING]
        scored = sum(len(self.rows[group]) for group in kept)
        return Counts(
            planned=planned,
            completed=completed,
            failed=planned - completed,
            scored=scored,
            unscored=completed - scored,
        )

    def missing(self, group: str) -> int:
        """Return how many of a group's planned samples have no score."""
        return self.planned[group] - len(self.rows[group])


def _grouping(table: MetricTable, field: str) -> Grouping:
    assert table.groups is not None, "the table's task declares groups"
    values_N = np.asarray(table.attributes[field], dtype=object)
    named = {*table.attributes[field], *table.missing_attributes.get(field, ())} - {MISSING}

    def count(counted: Mapping[str | None, int]) -> dict[str, int]:
        return {group: counted.get(f"{field}={group}", 0) for group in (*sorted(named), MISSING)}

    return Grouping(
        field=field,
        min_size=table.groups.min_size,
        rows={group: np.flatnonzero(values_N == group) for group in sorted(named)},
        planned=count(table.planned),
        completed=count(table.completed),
    )


def counted_rows(measure: Measure, stats_NK: Array) -> Codes:
    """Return the rows of the samples that a measure is over: all, or those whose ``over`` statistic is not 0."""
    if measure.over < 0:
        return np.arange(len(stats_NK))
    return np.flatnonzero(stats_NK[:, measure.over] > 0)


def unscored_table(table: MetricTable) -> MetricTable:
    """Return a table of the answered samples, with the statistic 1 where the metric gave no score."""
    answered = [n for n, done in enumerate(table.missing_completed) if done]
    others = [n for n, done in enumerate(table.missing_completed) if not done]

    def joined(scored: Sequence[str], missing: Sequence[str]) -> list[str]:
        return [*scored, *(missing[n] for n in answered)]

    stats_N1 = np.zeros((len(table.sample_ids) + len(answered), 1))
    stats_N1[len(table.sample_ids) :] = 1.0
    missing_clusters = table.missing_clusters or ()
    return replace(
        table,
        measures=(UNSCORED,),
        gaps=(UNSCORED_GAP,),
        stats_NK=stats_N1,
        binary=True,
        sample_ids=joined(table.sample_ids, table.missing_ids),
        clusters=None if table.clusters is None else joined(table.clusters, missing_clusters),
        attributes={
            name: joined(values, table.missing_attributes.get(name, ()))
            for name, values in table.attributes.items()
        },
        missing_ids=[table.missing_ids[n] for n in others],
        missing_clusters=None
        if table.missing_clusters is None
        else [missing_clusters[n] for n in others],
        missing_attributes={
            name: [values[n] for n in others] for name, values in table.missing_attributes.items()
        },
        missing_completed=[False] * len(others),
    )
