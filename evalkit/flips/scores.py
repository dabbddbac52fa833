"""Scores by sample: what the candidate and the baseline each got for every planned sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from evalkit.estimating import full_name
from evalkit.metrics.base import Measure
from evalkit.records.exchange import Role
from evalkit.records.scorecard import estimate_name
from evalkit.scoring import MetricTable

Scores = Mapping[str, tuple[float | None, float | None]]
"""Sample id → the candidate's and the baseline's score; None where that model has none."""


def sample_scores(tables: Mapping[Role, Sequence[MetricTable]], name: str) -> Scores | None:
    """Return the scores of every planned sample under ``task/metric[.measure][@field=value]``.

    A sample's score is the statistic that the rate or mean averages. A baseline that was measured differently (another
    data set or signature) has no scores that can be put beside the candidate's: all of its are None. Returns None for
    corpus measures, of which a sample alone has none, and for names that the tables do not hold.
    """
    candidate = _found(tables.get("candidate", ()), name)
    baseline = _found(tables.get("baseline", ()), name)
    first = candidate or baseline
    if first is None or first[1].kind == "corpus":
        return None
    if candidate and baseline and not same_definition(candidate[0], baseline[0]):
        baseline = None
    ours, theirs = _scores(candidate), _scores(baseline)
    return {sample: (ours.get(sample), theirs.get(sample)) for sample in ours | theirs}


def measure_name(table: MetricTable, measure: Measure) -> str:
    """Return ``task/metric[.measure]``."""
    return estimate_name(table.task, full_name(table.metric, measure.name), None)


_Named = tuple[MetricTable, Measure, str | None]
"""A table, one of its measures and one of its slices."""


def _found(tables: Sequence[MetricTable], name: str) -> _Named | None:
    for table in tables:
        for measure in table.measures:
            whole = measure_name(table, measure)
            if name == whole:
                return table, measure, None
            slice_ = name.removeprefix(f"{whole}@")
            if slice_ != name and slice_ in table.planned:
                return table, measure, slice_
    return None


def same_definition(one: MetricTable, two: MetricTable) -> bool:
    """Return whether two tables measure the same on the same data set, so that they may be compared."""
    return (one.dataset, one.signature) == (two.dataset, two.signature)


def _scores(named: _Named | None) -> dict[str, float | None]:
    if named is None:
        return {}
    table, measure, slice_ = named
    scored = zip(table.sample_ids, table.stats_NK[:, measure.column].tolist(), strict=True)
    scores: dict[str, float | None] = dict(scored)
    scores.update(dict.fromkeys(table.missing_ids))
    if slice_ is None:
        return scores
    return {sample: scores[sample] for sample in _members(table, slice_)}


def _members(table: MetricTable, slice_: str) -> Iterator[str]:
    """Yield the planned samples of a slice, those with a score first."""
    field, _, value = slice_.partition("=")
    for ids, attributes in (
        (table.sample_ids, table.attributes),
        (table.missing_ids, table.missing_attributes),
    ):
        values = attributes[field] if ids else ()
        yield from (sample for sample, held in zip(ids, values, strict=True) if held == value)
