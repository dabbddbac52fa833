"""Where an alpha lies among those of noise: the exponent that pure noise has depends on the matrix's shape.

Theory. A matrix of independent normal entries follows no power law, yet Clauset's rule finds an exponent in it: in the
median 4 at 64 × 64, 12 at 1024 × 1024, 16 at 64 × 4096. Of the noise of the first shape 80 % lies in the band from 2 to
6 that is called well trained, of the second's 3 %. An alpha says something where noise of its shape has others: its
null percentile is the share of noise with a smaller one. Low percentiles are what heavy tails look like.

**Source**: a table of drawn matrices (``null_table.json``, made by ``benchmarks/null_table.py``); Hu et al. 2025, arXiv
2506.06280, on what alpha owes to the shape.

**Deviation**: between the shapes of the table ln(α − 1) is interpolated along the logarithms of the shorter side and of
the ratio of the sides, in which it is nearly straight. All noise counts, also that whose tail is too short for an
exponent to be reported (19 % at 64 × 64, 2 % at 1024 × 1024): these have the highest alphas.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

from evalkit.spectral.tail import Array


@dataclass(frozen=True, slots=True)
class _Table:
    """Percentiles of noise over shapes: S shorter sides, A ratios of the sides, P percentiles."""

    log_size_S: Array
    log_ratio_A: Array
    percent_P: Array
    log_rate_SAP: Array


@cache
def _table() -> _Table:
    content = json.loads(files("evalkit.spectral").joinpath("null_table.json").read_bytes())
    return _Table(
        np.log(content["sizes"]),
        np.log(content["ratios"]),
        np.array(content["percents"], dtype=np.float64),
        np.log(np.array(content["alphas"], dtype=np.float64) - 1),
    )


def null_percentile(alpha: float, rows: int, columns: int) -> float | None:
    """Return the percentage, 0–100, of noise of a shape whose alpha is smaller; None for shapes out of the table.

    0 and 100 say that it lies beyond the table's outermost percentiles, the 0.5th and the 99.5th. The table reaches
    from 64 to 8,192 for the shorter side and to 256 for the ratio of the sides.

    >>> null_percentile(2.5, 1024, 1024), null_percentile(2.5, 32, 32)
    (0.0, None)
    """
    table, shorter = _table(), min(rows, columns)
    if shorter < 1:
        return None
    size, ratio = np.log(shorter), np.log(max(rows, columns) / shorter)
    at_size, at_ratio = _between(size, table.log_size_S), _between(ratio, table.log_ratio_A)
    if at_size is None or at_ratio is None:
        return None
    (s, to_s), (a, to_a) = at_size, at_ratio
    near_AP = (1 - to_s) * table.log_rate_SAP[s] + to_s * table.log_rate_SAP[s + 1]
    log_rate_P = (1 - to_a) * near_AP[a] + to_a * near_AP[a + 1]
    log_rate = np.log(max(alpha - 1, np.finfo(np.float64).tiny))
    return float(np.interp(log_rate, log_rate_P, table.percent_P, left=0.0, right=100.0))


def _between(value: float, points: Array) -> tuple[int, float] | None:
    """Return the place of the point below a value and how far it is to the next, 0–1; None outside of all points."""
    if not points[0] <= value <= points[-1]:
        return None
    place = min(int(np.searchsorted(points, value, side="right")), len(points) - 1) - 1
    return place, float((value - points[place]) / (points[place + 1] - points[place]))
