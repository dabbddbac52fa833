"""Tables of decisions about people, as scoring makes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evalkit.metrics.base import Gap, Measure, rate
from evalkit.planning import MISSING
from evalkit.records.suite import GroupsSpec
from evalkit.scoring import MetricTable

RIGHT: tuple[Measure, ...] = (rate("", column=0),)
GAP: tuple[Gap, ...] = (Gap("gap", ("",)),)


def table(
    groups: Mapping[str, Sequence[str]],
    stats: Any,
    *,
    by: Sequence[str | tuple[str, ...]] = ("sex",),
    min_size: int = 20,
    missing: Mapping[str, Sequence[str]] | None = None,
    answered: bool = True,
    **changes: Any,
) -> MetricTable:
    """A table of scored samples, and of ``missing`` ones, by field; those were ``answered`` and have no score."""
    stats = np.asarray(stats, dtype=float)
    stats = stats[:, None] if stats.ndim == 1 else stats
    missing = missing or {field: [] for field in groups}
    n, lacking = len(stats), len(next(iter(missing.values())))
    planned: dict[str | None, int] = {None: n + lacking}
    completed: dict[str | None, int] = {None: n + lacking * answered}
    for field, values in groups.items():
        named = Counter(values)
        absent = Counter(missing[field])
        for value in sorted(named | absent):
            planned[f"{field}={value}"] = named[value] + absent[value]
            completed[f"{field}={value}"] = named[value] + absent[value] * answered
    held: dict[str, Any] = {
        "task": "t",
        "metric": "m",
        "signature": "m|v:1",
        "dataset": "d",
        "measures": RIGHT,
        "sample_ids": [f"s{i}" for i in range(n)],
        "stats_NK": stats,
        "binary": True,
        "clusters": None,
        "attributes": {field: list(values) for field, values in groups.items()},
        "planned": planned,
        "completed": completed,
        "missing_ids": [f"x{i}" for i in range(lacking)],
        "missing_attributes": {field: list(values) for field, values in missing.items()},
        "missing_completed": [answered] * lacking,
        "groups": GroupsSpec(by=tuple(by), min_size=min_size),
        "gaps": GAP,
    }
    return MetricTable(**{**held, **changes})


def two_groups(f: int, m: int, right_f: int, right_m: int, **changes: Any) -> MetricTable:
    """``f`` women of whom ``right_f`` are answered right, and ``m`` men likewise."""
    stats = [1.0] * right_f + [0.0] * (f - right_f) + [1.0] * right_m + [0.0] * (m - right_m)
    return table({"sex": ["F"] * f + ["M"] * m}, stats, **changes)


__all__ = ["GAP", "MISSING", "RIGHT", "table", "two_groups"]
