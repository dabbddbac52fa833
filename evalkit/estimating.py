"""From tables to estimates: every measure of every metric, over all samples and over each slice.

The samples of a task are resampled once: all its corpus measures, and all its slices, see the same resamples, so
that statements about several of them hold together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from evalkit.identity import derived_seed
from evalkit.records.exchange import Role
from evalkit.records.scorecard import Estimate
from evalkit.scoring import MetricTable
from evalkit.stats.estimate import estimate
from evalkit.stats.intervals import Codes, cluster_codes
from evalkit.stats.resampling import Resampled, Resampler

ROLES: Sequence[Role] = ("candidate", "baseline")


def full_name(metric: str, measure: str) -> str:
    """Return ``metric.measure``, or the metric's name for its main number."""
    return f"{metric}.{measure}" if measure else metric


def estimate_tables(
    tables: Mapping[Role, Sequence[MetricTable]], seed: int, level: float
) -> Iterator[Estimate]:
    """Yield the estimates of each table in order: measure by measure, all samples first, then each slice.

    Intervals depend on ``seed`` (where they are resampled), task and samples, and on no other metric.
    """
    for role in ROLES:
        resamplers: dict[tuple[str, ...], Resampler] = {}
        for table in tables.get(role, ()):
            clusters_N = None if table.clusters is None else cluster_codes(table.clusters)
            key = (table.task, *table.sample_ids)
            if key not in resamplers:
                rng = np.random.default_rng(derived_seed(seed, table.task))
                resamplers[key] = Resampler(table.sample_ids, rng, clusters_N)
            yield from _estimates_of(table, role, level, clusters_N, resamplers[key])


def _estimates_of(
    table: MetricTable, role: Role, level: float, clusters_N: Codes | None, resampler: Resampler
) -> Iterator[Estimate]:
    found_rows = slice_rows(len(table.sample_ids), table.attributes)
    members = {slice_: found_rows.get(slice_, np.arange(0)) for slice_ in table.planned}
    stats = {slice_: table.stats_NK[rows] for slice_, rows in members.items()}
    sets = [(stats[slice_], rows) for slice_, rows in members.items()]
    resampled = dict(zip(members, Resampled.each(resampler, sets), strict=True))
    for measure in table.measures:
        for slice_, rows in members.items():
            stats_NK = stats[slice_]
            found = estimate(
                measure,
                stats_NK,
                level=level,
                binary=table.binary,
                clusters_N=None if clusters_N is None else clusters_N[rows],
                resampled=resampled[slice_],
                anytime=table.anytime,
            )
            yield Estimate(
                model=role,
                task=table.task,
                metric=full_name(table.metric, measure.name),
                slice=slice_,
                # Which samples without a score it would be over is not known: ``n`` tells rules that they may be any.
                kind="corpus" if measure.over >= 0 else measure.kind,
                value=found.value,
                interval=found.interval,
                counts=table.counts(slice_, len(stats_NK)),
                n=found.n,
                unit=measure.unit,
                better=measure.better,
                signature=table.signature,
                warnings=found.warnings,
            )


def slice_rows(n: int, attributes: Mapping[str, Sequence[str]]) -> dict[str | None, Codes]:
    """Return the rows of each slice (``field=value``), ascending, and all ``n`` rows under None.

    ``attributes`` holds the value of each row, by field.
    """
    found: dict[str | None, Codes] = {None: np.arange(n)}
    for name, values in attributes.items():
        codes: dict[str, int] = {}
        code_N = np.array([codes.setdefault(value, len(codes)) for value in values], dtype=np.intp)
        order_N = np.argsort(code_N, kind="stable")
        parts = np.split(order_N, np.cumsum(np.bincount(code_N))[:-1]) if n else []
        found |= {f"{name}={value}": rows for value, rows in zip(codes, parts, strict=True)}
    return found
