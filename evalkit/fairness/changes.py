"""How gaps between groups change from baseline to candidate, on the same samples.

A model that answers both groups better may still leave one of them behind. The change of a gap is a comparison of the
gap's name: both models' gaps over the samples that both scored, their difference, and its intervals at the levels that
one-sided rules read. Groups are those of the candidate's samples, large enough on the pairs. Only differences change by
a difference: the change of a ratio is not given.

Two bounds are joined. On the pairs the change is at most that of the candidate's widest pair of groups, and at least
that of the baseline's (``stats.gaps``); where a baseline treats all alike nobody knows its widest pair, and that tells
little. There the candidate's gap minus the baseline's, each at the end of its own interval, tells more. A fifth of the
error is spent on the latter.

Unpaired samples. One that lacks a score, or the attribute that names its group, may stand for anything. With m of them
beside n pairs a group's difference can move by 2·m/(n + m) of the unit's range, and so the change of a gap by what its
two most uncertain groups can move together. The worst case reaches that far and leaves the nearer end where it is, so
that it may leave a rule undecided and never fails one. A group that as planned is large enough and has too few pairs,
of either model, may have been the widest apart: the change then has no interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from evalkit.compare import compare_tables, why_incomparable
from evalkit.estimating import full_name
from evalkit.fairness.cells import Cells
from evalkit.fairness.gaps import METHOD, NAMED, Between
from evalkit.fairness.grouping import Grouping, unscored_table
from evalkit.fairness.names import UNSCORED
from evalkit.fairness.pairs import Change, Pairs
from evalkit.metrics.base import Gap
from evalkit.planning import MISSING
from evalkit.records.exchange import Role
from evalkit.records.scorecard import Bounded, Comparison, Interval
from evalkit.scoring import MetricTable
from evalkit.stats.estimate import STOPPED, UNIT_BOUNDS
from evalkit.stats.gaps import Joined, Part, gap_change_interval, gap_interval
from evalkit.stats.paired import LEVELS
from evalkit.stats.resampling import RESAMPLES, supported_levels


def compare_gaps(
    tables: Mapping[Role, Sequence[MetricTable]], seed: int, level: float
) -> list[Comparison]:
    """Return how each gap of the candidate's changed, and each group's share of answers without a score.

    None when there is no baseline. ``level`` is the suite's confidence.
    """
    if "baseline" not in tables:
        return []
    baselines = {(table.task, table.metric): table for table in tables["baseline"]}
    found: list[Comparison] = []
    for candidate in tables.get("candidate", ()):
        if candidate.groups is None:
            continue
        baseline = baselines.get((candidate.task, candidate.metric))
        if baseline is None or why_incomparable(candidate, baseline):
            found += _incomparable(candidate, why_incomparable(candidate, baseline))
            continue
        unscored, theirs = unscored_table(candidate), unscored_table(baseline)
        rates = compare_tables({"candidate": [unscored], "baseline": [theirs]}, seed, level)
        names = candidate.groups.names
        found += [c for c in rates if c.slice and c.slice.partition("=")[0] in names]
        found += _changes(candidate, baseline, seed, level)
        found += _changes(unscored, theirs, seed, level)
    return found


def _incomparable(candidate: MetricTable, reason: str) -> Iterator[Comparison]:
    """Yield what would be compared, in the same order."""
    told = {"status": "incomparable", "reason": reason}
    unscored = unscored_table(candidate)
    for grouping in Grouping.each(candidate):
        for group, planned in grouping.planned.items():
            if planned:
                yield Comparison(
                    task=candidate.task,
                    metric=full_name(candidate.metric, UNSCORED.name),
                    slice=f"{grouping.field}={group}",
                    status="incomparable",
                    reason=reason,
                    unpaired=planned,
                    unit=UNSCORED.unit,
                    better=UNSCORED.better,
                )
    for table in (candidate, unscored):
        for gap in table.gaps:
            for grouping in Grouping.each(table):
                if gap.form == "difference":
                    planned = sum(grouping.planned.values())
                    empty = _empty(table, Between(gap, grouping, []), planned=planned, pairs=0)
                    yield empty.model_copy(update=told)


def _changes(
    candidate: MetricTable, baseline: MetricTable, seed: int, level: float
) -> Iterator[Comparison]:
    pairs = Pairs.of(candidate, baseline, seed)
    measures = {measure.name: measure for measure in candidate.measures}
    gaps = [gap for gap in candidate.gaps if gap.form == "difference"]
    asked = dict.fromkeys(name for gap in gaps for name in gap.measures)
    groupings = Grouping.each(pairs.candidate.table)
    held = [
        {name: pairs.of_measure(measures[name], grouping, level) for name in asked}
        for grouping in groupings
    ]
    for gap in gaps:
        for grouping, changes in zip(groupings, held, strict=True):
            yield _changed(gap, grouping, [changes[name] for name in gap.measures], pairs, level)


SHARE_APART = 0.2
"""Share of the error of a change that is spent on both gaps' own intervals."""


def _changed(
    gap: Gap, grouping: Grouping, changes: Sequence[Change], pairs: Pairs, level: float
) -> Comparison:
    """Return the comparison of one gap by one field."""
    table = pairs.candidate.table
    ours = Between(gap, grouping, [change.candidate for change in changes])
    theirs = Between(gap, grouping, [change.baseline for change in changes])
    counts = grouping.counts(ours.kept)
    empty = _empty(table, ours, planned=counts.planned, pairs=counts.scored)
    if why := ours.why_not:
        return empty.model_copy(update={"reason": f"on the samples scored for both, {why}"})
    candidate, baseline = ours.value(), theirs.value()
    intervals, why = _intervals(gap, changes, level, anytime=table.anytime)
    if lacking := _unmeasured(grouping, changes):
        intervals, why = [], lacking
    found = empty.model_copy(
        update={
            "status": "compared",
            "reason": "",
            "candidate": candidate,
            "baseline": baseline,
            "difference": candidate - baseline,
            "interval": intervals[0] if intervals else None,
            "intervals": tuple(intervals[1:]),
            "warnings": (*([why] if why else []), *ours.warnings()),
        }
    )
    bounds = UNIT_BOUNDS.get(ours.unit)
    corpus = any(change.candidate.measure.kind == "corpus" for change in changes)
    if not counts.planned > counts.scored or bounds is None or corpus:
        return found
    span = bounds[1] - bounds[0]
    reach = [_reach(change.candidate, grouping) for change in changes]
    moved = 2 * span * (max(reach) if gap.joined == "worst" else float(np.mean(reach)))
    return found.model_copy(
        update={
            "worst": _bounded(found, 0.0, moved, span),
            "best": _bounded(found, -moved, 0.0, span),
        }
    )


def _unmeasured(grouping: Grouping, changes: Sequence[Change]) -> str:
    """Return which groups are large enough and not in the change of a gap, and why; empty where none is."""
    found = {
        cell.group: cell.left_out
        for change in changes
        for cells in (change.baseline, change.candidate)
        for cell in cells.cells
        if cell.unmeasured
    }
    if not found:
        return ""
    named = "; ".join(f"{grouping.field}={group} is large enough" for group in [*found][:NAMED])
    why = "; ".join(dict.fromkeys(found.values()))
    return f"{named}, and was not measured on the samples scored for both ({why}): no change can be told without"


def _intervals(
    gap: Gap, changes: Sequence[Change], level: float, *, anytime: bool
) -> tuple[list[Interval], str]:
    """Return the interval to be shown and those for decisions, or why there is none."""
    if anytime:
        return [], f"{STOPPED}, and for a gap between groups no interval holds then"
    for change in changes:
        ends_G2 = change.paired.limits(level)
        named = [
            g
            for g, ends in zip(change.candidate.kept, ends_G2, strict=True)
            if np.isnan(ends).any()
        ]
        named += change.candidate.without_interval(level) + change.baseline.without_interval(level)
        if named:
            return [], f"the group {named[0]} has no interval, so that the change has none"
    candidate = [change.candidate.part for change in changes]
    baseline = [change.baseline.part for change in changes]
    paired = [change.paired for change in changes]
    resampled = any(change.resampled for change in changes)
    levels = supported_levels(LEVELS, RESAMPLES) if resampled else LEVELS
    made = []
    for asked in (level, *levels):
        low, high = _ends(candidate, baseline, paired, asked, joined=gap.joined)
        if not np.isfinite([low, high]).all():
            return [], "a group has no interval, so that the change has none"
        made.append(Interval(low=low, high=high, level=asked, method=METHOD))
    return made, ""


def _ends(
    candidate: Sequence[Part],
    baseline: Sequence[Part],
    paired: Sequence[Part],
    level: float,
    *,
    joined: Joined,
) -> tuple[float, float]:
    """Return the ends of a change by the pairs, and by both gaps' own intervals where these tell more."""
    tail = (1 - level) / 2
    on_pairs = 1 - 2 * tail * (1 - SHARE_APART)
    low, high = gap_change_interval(candidate, baseline, paired, on_pairs, joined=joined)
    (least, greatest), (below, above) = (
        gap_interval(parts, 1 - tail * SHARE_APART, form="difference", joined=joined, p_value=None)
        for parts in (candidate, baseline)
    )
    return max(low, least - above), min(high, greatest - below)


def _reach(cells: Cells, grouping: Grouping) -> float:
    """Return the share of its range by which a gap may move for samples that are not paired."""
    lacking = grouping.planned[MISSING]
    shares = []
    for group in cells.kept:
        missing = grouping.missing(group) + lacking
        shares.append(missing / (len(cells.rows[group]) + missing))
    return sum(sorted(shares)[-2:])


def _bounded(found: Comparison, below: float, above: float, span: float) -> Bounded:
    """Return a case whose difference and intervals reach so much farther, within what a change can be."""
    assert found.difference is not None, "the gap was compared"

    def within(number: float) -> float:
        return min(max(number, -span), span)

    return Bounded(
        difference=within(found.difference + below + above),
        intervals=tuple(
            held.model_copy(
                update={"low": within(held.low + below), "high": within(held.high + above)}
            )
            for held in found.intervals
        ),
    )


def _empty(table: MetricTable, between: Between, *, planned: int, pairs: int) -> Comparison:
    measures = {measure.name: measure for measure in table.measures}
    return Comparison(
        task=table.task,
        metric=full_name(table.metric, between.gap.name),
        slice=between.grouping.field,
        status="no pairs",
        pairs=pairs,
        unpaired=planned - pairs,
        unit=measures[between.gap.measures[0]].unit,
        better=between.better,
    )
