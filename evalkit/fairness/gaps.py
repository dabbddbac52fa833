"""Gaps between groups: each with its interval, what chance alone would show, and the groups behind it.

A gap is an estimate of kind ``gap`` named ``task/metric.gap@field``, and a ``Disparity`` of the same name holds what
stands behind it. Everything drawn comes from the suite's seed, the task, the gap's name and the field, so that another
metric, field or model moves no number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evalkit.estimating import ROLES, estimate_tables, full_name
from evalkit.fairness.cells import Cells, Estimator, cells_of
from evalkit.fairness.grouping import Grouping, unscored_table
from evalkit.identity import derived_seed
from evalkit.metrics.base import Gap
from evalkit.planning import MISSING
from evalkit.records.exchange import Role
from evalkit.records.scorecard import Better, Disparity, Estimate, Interval
from evalkit.scoring import MetricTable
from evalkit.stats.estimate import STOPPED
from evalkit.stats.gaps import gap_interval, gap_value
from evalkit.stats.multiple import holm
from evalkit.stats.permutation import corrected_gap, gap_under_equality

METHOD = "square-and-add"
"""The interval of a gap, and of its change."""
NAMED = 5
"""Most groups that a warning names."""


@dataclass(frozen=True)
class Gaps:
    """What the groups of a run's tasks show."""

    estimates: tuple[Estimate, ...] = ()
    """The gaps, and each group's share of answers without a score."""
    disparities: tuple[Disparity, ...] = ()
    """What stands behind each gap."""


def estimate_gaps(tables: Mapping[Role, Sequence[MetricTable]], seed: int, level: float) -> Gaps:
    """Return the gaps of each table whose task declares groups: metric by metric, field by field.

    ``level`` is that of the intervals. Nothing for tables of tasks without groups.
    """
    estimates: list[Estimate] = []
    disparities: list[Disparity] = []
    for role in ROLES:
        for table in tables.get(role, ()):
            if table.groups is None:
                continue
            unscored = unscored_table(table)
            estimates += _rates_of_groups(unscored, role, seed, level)
            for each in (table, unscored):
                found = list(_gaps_of(each, role, seed, level))
                estimates += [gap for gap, _ in found]
                disparities += _adjusted([disparity for _, disparity in found])
    return Gaps(tuple(estimates), tuple(disparities))


def _rates_of_groups(
    unscored: MetricTable, role: Role, seed: int, level: float
) -> Iterator[Estimate]:
    """Yield each group's share of answers without a score."""
    assert unscored.groups is not None, "the table's task declares groups"
    for estimate in estimate_tables({role: [unscored]}, seed, level):
        if estimate.slice and estimate.slice.partition("=")[0] in unscored.groups.names:
            yield estimate


def _gaps_of(
    table: MetricTable, role: Role, seed: int, level: float
) -> Iterator[tuple[Estimate, Disparity]]:
    estimator = Estimator(table, seed)
    measures = {measure.name: measure for measure in table.measures}
    asked = [name for gap in table.gaps for name in gap.measures]
    groupings = Grouping.each(table)
    held = [
        {
            name: cells_of(estimator, measures[name], grouping, level)
            for name in dict.fromkeys(asked)
        }
        for grouping in groupings
    ]
    for gap in table.gaps:
        for grouping, cells in zip(groupings, held, strict=True):
            between = Between(gap, grouping, [cells[name] for name in gap.measures])
            yield _measured(between, estimator, role, seed, level)


@dataclass(frozen=True)
class Between:
    """One gap between the groups of one field."""

    gap: Gap
    """Which gap."""
    grouping: Grouping
    """The groups."""
    parts: Sequence[Cells]
    """Its measures over them, at least one."""

    @property
    def kept(self) -> list[str]:
        """The groups that are part of it, in the order of their names."""
        return sorted({group for cells in self.parts for group in cells.kept})

    @property
    def better(self) -> Better:
        """A difference should be small, a ratio large."""
        return "lower" if self.gap.form == "difference" else "higher"

    @property
    def unit(self) -> str:
        """The measures' unit; of a ratio a fraction."""
        return self.parts[0].measure.unit if self.gap.form == "difference" else "fraction"

    @property
    def why_not(self) -> str:
        """Why there is no such gap, in words; empty where there is."""
        for cells in self.parts:
            if len(cells.kept) < 2:
                named = cells.measure.name or "the metric"
                groups = "no group has" if not cells.kept else f"only the group {cells.kept[0]} has"
                told = "; ".join(self.left_out([cells]))
                return f"{groups} enough samples for {named}, and a gap takes two" + (
                    f" ({told})" if told else ""
                )
            if self.gap.form == "ratio" and (cells.values_G < 0).any():
                return "a ratio takes numbers that are not negative"
        return ""

    @property
    def widest(self) -> Cells:
        """The measure whose groups lie farthest apart."""

        def width(cells: Cells) -> float:
            value = gap_value([cells.values_G], form=self.gap.form, joined=self.gap.joined)
            return value if self.gap.form == "difference" else -value

        return max(self.parts, key=width)

    def value(self) -> float:
        """Return the gap as it was observed."""
        values = [cells.values_G for cells in self.parts]
        return gap_value(values, form=self.gap.form, joined=self.gap.joined)

    def left_out(self, parts: Iterable[Cells] | None = None) -> Iterator[str]:
        """Yield the groups that are no part of it, each with why."""
        several = len(self.parts) > 1
        found = [
            f"{cell.group}{f' in {cells.measure.name}' if several else ''}: {cell.left_out}"
            for cells in (self.parts if parts is None else parts)
            for cell in cells.cells
            if cell.left_out
        ]
        yield from found[:NAMED]
        if len(found) > NAMED:
            yield f"and {len(found) - NAMED} more"

    def warnings(self) -> Iterator[str]:
        """Yield what is left out, in words."""
        if told := "; ".join(self.left_out()):
            yield f"groups left out: {told}"
        open_ = sorted({c.group for cells in self.parts for c in cells.cells if c.unmeasured})
        if open_:
            more = f" and {len(open_) - NAMED} more" if len(open_) > NAMED else ""
            yield (
                f"large enough and not measured: {', '.join(open_[:NAMED])}{more}; no rule passes on the gap without"
            )
        lacking = self.grouping.planned[MISSING]
        if lacking:
            lack = "sample lacks" if lacking == 1 else "samples lack"
            yield f"{lacking:,} {lack} {self.grouping.field}: they are in no group and count as not scored"


def _measured(
    between: Between, estimator: Estimator, role: Role, seed: int, level: float
) -> tuple[Estimate, Disparity]:
    """Return a gap and what stands behind it."""
    gap, table, field = between.gap, estimator.table, between.grouping.field
    metric = full_name(table.metric, gap.name)
    warnings = list(between.warnings())
    disparity = Disparity(
        model=role,
        task=table.task,
        metric=metric,
        by=field,
        form=gap.form,
        value=None,
        cells=tuple(cell for cells in between.parts for cell in cells.cells),
        reason=between.why_not,
    )
    interval: Interval | None = None
    if not disparity.reason:
        low, high = between.widest.ends
        measure = full_name(table.metric, between.widest.measure.name)
        named = {"low": low, "high": high, "measure": measure}
        disparity = disparity.model_copy(update={"value": between.value(), **named})
        if table.anytime:
            warnings.append(f"{STOPPED}, and for a gap between groups no interval holds then")
        else:
            disparity = _beside_chance(disparity, between, estimator, seed)
            interval, why = _interval(between, level, disparity.p_value)
            warnings += [why] if why else []
    estimate = Estimate(
        model=role,
        task=table.task,
        metric=metric,
        slice=field,
        kind="gap",
        value=disparity.value,
        interval=interval,
        counts=between.grouping.counts(between.kept),
        unit=between.unit,
        better=between.better,
        signature=f"{table.signature}|gap:{gap.form},{gap.joined}|min_size:{between.grouping.min_size}",
        warnings=(*([disparity.reason] if disparity.reason else []), *warnings),
    )
    return estimate, disparity


def _interval(between: Between, level: float, p_value: float | None) -> tuple[Interval | None, str]:
    """Return the gap's interval, or why there is none."""
    for cells in between.parts:
        if unknown := cells.without_interval(level):
            return None, f"the group {unknown[0]} has no interval, so that the gap has none"
    low, high = gap_interval(
        [cells.part for cells in between.parts],
        level,
        form=between.gap.form,
        joined=between.gap.joined,
        p_value=p_value,
    )
    if not np.isfinite([low, high]).all():
        return None, "a group has no interval, so that the gap has none"
    return Interval(low=low, high=high, level=level, method=METHOD), ""


def _beside_chance(
    disparity: Disparity, between: Between, estimator: Estimator, seed: int
) -> Disparity:
    """Return a gap's record with its expectation and p-value if groups made no difference, and its correction."""
    assert disparity.value is not None, "the gap has a value"
    gap = between.gap
    names = (disparity.task, "gaps", disparity.metric, disparity.by)
    samples = [cells.grouped(estimator) for cells in between.parts]
    null = gap_under_equality(
        samples,
        disparity.value,
        form=gap.form,
        joined=gap.joined,
        rng=np.random.default_rng(derived_seed(seed, *names, "equality")),
    )
    corrected = corrected_gap(
        samples,
        disparity.value,
        form=gap.form,
        joined=gap.joined,
        rng=np.random.default_rng(derived_seed(seed, *names, "bias")),
    )
    return disparity.model_copy(
        update={
            "expected": null.expected if np.isfinite(null.expected) else None,
            "p_value": null.p_value,
            "exact": null.exact,
            "corrected": corrected,
        }
    )


def _adjusted(disparities: Sequence[Disparity]) -> list[Disparity]:
    """Return a table's disparities with each gap's p-values adjusted for the fields by which it is compared."""
    found = list(disparities)
    for metric in dict.fromkeys(each.metric for each in disparities):
        tested = {
            n: each.p_value
            for n, each in enumerate(disparities)
            if each.metric == metric and each.p_value is not None
        }
        for n, p in zip(tested, holm([*tested.values()]), strict=True):
            found[n] = found[n].model_copy(update={"p_adjusted": p})
    return found
