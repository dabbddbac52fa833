"""What is seen only across tensors: one that changed while the others did not, and alpha's course along depth.

Theory. Fine-tuning moves the tensors of a model by like amounts, so the others are the yardstick for one: no absolute
line fits full fine-tuning, LoRA and quantisation alike. Median and median absolute deviation (MAD) are used since
they do not move when up to half of the tensors are at fault, and a floor below which nothing is flagged, since a MAD
near 0 (most tensors frozen) would make every trained tensor an outlier.

*Scale collapse*: the scale of some tensors changes dramatically while that of the others changes very little.
*Correlation flow*: alpha against depth; small and steady is said to be good. Neither is part of WeightWatcher's
package.

**Source**: Martin, Peng & Mahoney 2021, Nature Communications 12, 4122 (both ideas, without a number); Theil 1950 and
Sen 1968, JASA 63, 1379 (slope and its interval).

**Deviation**: the paper gives neither a threshold nor a formula. Here a log10 ratio deviates by more than max(0.1, 5
MAD) from the median: in the study behind it, healthy fine-tunes of a 22 M model stay at or below 0.002 and single
faults begin at 0.14. Whether alpha's course along depth tells anything about quality was not shown (in that study the
mean alpha of the ruined model was the best), so slope and roughness are advisory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from evalkit.records.weights import Fitted, Tensor
from evalkit.stats.intervals import normal_quantile

SCALE_FLOOR: Final = 0.1
"""A log10 ratio of norms this near to the median is never a collapse (a factor of 1.12 in ‖W‖)."""
DRIFT_FLOOR: Final = 0.1
"""A drift that exceeds its peers' median by no more than this is never an outlier."""
DEVIATIONS: Final = 5.0
"""From so many median absolute deviations on, a tensor stands out."""
FEWEST_PEERS: Final = 4
"""With fewer tensors there is no telling which of them stands out."""
FEWEST_BLOCKS: Final = 3
"""With fewer blocks there is no course along depth."""
FEWEST_IN_TAIL: Final = 20
"""With fewer eigenvalues in its tail, an alpha is no ground for a warning."""


def scale_collapse(changes: Mapping[str, float]) -> dict[str, float]:
    """Return the tensors whose norm changed while the others' did not → deviation of their change from the median.

    ``changes`` are d = log10 of ‖W‖² over ‖W₀‖² (or of the largest eigenvalues) by tensor. Flagged is |d − median| >
    max(0.1, 5 MAD). −∞ (a tensor that became 0) and +∞ (one that was) are flagged and are no part of the yardstick;
    NaN was not measured and is left out. Empty where fewer than four changes are finite.

    >>> scale_collapse({"q": 0.75, "k": 0.0, "v": 0.0, "o": -0.125, "up": 0.0})
    {'q': 0.75, 'o': -0.125}
    """
    yardstick = [change for change in changes.values() if math.isfinite(change)]
    if len(yardstick) < FEWEST_PEERS:
        return {}
    median, mad = _median_and_mad(yardstick)
    allowed = max(SCALE_FLOOR, DEVIATIONS * mad)
    deviations = {name: change - median for name, change in changes.items()}
    return {name: found for name, found in deviations.items() if abs(found) > allowed}


def drift_outliers(drifts: Mapping[str, float], modules: Mapping[str, str]) -> dict[str, float]:
    """Return the tensors that moved far more than their peers → drift less the peers' median.

    ``drifts`` are ‖W − W₀‖ / ‖W₀‖ by tensor, ``modules`` what each is. Peers are the tensors of the same module that
    moved at all: frozen ones say nothing about how far training moves a tensor. Where fewer than four of the module
    moved, peers are all that moved; where fewer than four moved in all, every tensor, so that the median is mostly 0.
    Flagged is drift − median > max(0.1, 5 MAD). +∞ (the base's tensor is 0) is flagged and is nobody's peer; NaN was
    not measured and is left out. Empty where fewer than four drifts are finite.

    >>> drifts = {"q0": 0.0, "q1": 0.125, "q2": 0.125, "q3": 0.125, "q4": 1.5}
    >>> drift_outliers(drifts, dict.fromkeys(drifts, "query"))
    {'q4': 1.375}
    """
    every = [name for name, drift in drifts.items() if math.isfinite(drift)]
    if len(every) < FEWEST_PEERS:
        return {}
    moved = [name for name in every if drifts[name] > 0]
    excess: dict[str, float] = {}
    for module in dict.fromkeys(modules.values()):
        mates = [name for name in moved if modules[name] == module]
        peers = next((group for group in (mates, moved) if len(group) >= FEWEST_PEERS), every)
        median, mad = _median_and_mad([drifts[name] for name in peers])
        allowed = max(DRIFT_FLOOR, DEVIATIONS * mad)
        excess |= {
            name: drift - median
            for name, drift in drifts.items()
            if modules[name] == module and drift - median > allowed
        }
    return {name: excess[name] for name in drifts if name in excess}


def _median_and_mad(values: Sequence[float]) -> tuple[float, float]:
    """Return median and median absolute deviation."""
    values_N = np.array(values)
    median = float(np.median(values_N))
    return median, float(np.median(np.abs(values_N - median)))


def alpha_by_depth(alphas: Iterable[tuple[int | None, float | None]]) -> dict[int, float]:
    """Return the median alpha of each block, by depth, from (depth, alpha) of its matrices.

    What lies outside blocks, and matrices whose fit has no value, are left out.

    >>> alpha_by_depth([(1, 3.0), (0, 2.0), (0, 6.0), (0, 4.0), (None, 9.0), (1, None)])
    {0: 4.0, 1: 3.0}
    """
    blocks: dict[int, list[float]] = {}
    for depth, alpha in alphas:
        if depth is not None and alpha is not None:
            blocks.setdefault(depth, []).append(alpha)
    return {depth: float(np.median(blocks[depth])) for depth in sorted(blocks)}


def correlation_flow(alphas: Mapping[int, float], level: float = 0.95) -> tuple[Fitted, Fitted]:
    """Return slope and roughness of alpha along depth: ``alphas`` holds one alpha for each depth. Advisory.

    The slope, in alpha per block, is Theil and Sen's: the median over all pairs of blocks, which a single wild block
    does not move; its interval at ``level`` is Sen's, from the normal law of Kendall's S. With fewer than five blocks
    even the widest such interval, from the least to the greatest slope, holds less often than 95 %. The roughness is
    the median |step| of alpha from one block to the next that was measured; it has no interval. Fewer than three
    blocks have neither.
    """
    if len(alphas) < FEWEST_BLOCKS:
        few = Fitted(
            None,
            status="insufficient",
            note=f"alpha at {len(alphas)} depths; {FEWEST_BLOCKS} are needed",
        )
        return few, few
    depths_N = np.array(sorted(alphas), dtype=np.float64)
    alphas_N = np.array([alphas[depth] for depth in sorted(alphas)])
    first, second = np.triu_indices(len(depths_N), k=1)
    slopes = np.sort((alphas_N[second] - alphas_N[first]) / (depths_N[second] - depths_N[first]))
    low, high = _sen_interval(slopes, len(depths_N), level)
    slope = Fitted(float(np.median(slopes)), low, high, method="theil-sen")
    steps = np.abs(np.diff(alphas_N))
    return slope, Fitted(float(np.median(steps)), method="median step")


def _sen_interval(sorted_slopes: NDArray[np.float64], n: int, level: float) -> tuple[float, float]:
    """Return the two order statistics that bound Sen's interval: C = z·√(n(n − 1)(2n + 5)/18) around the middle."""
    pairs = len(sorted_slopes)
    half = normal_quantile(level) * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    lower = max(round((pairs - half) / 2) - 1, 0)
    upper = min(round((pairs + half) / 2), pairs - 1)
    return float(sorted_slopes[lower]), float(sorted_slopes[upper])


def beyond(
    fitted: Fitted, tail: float | None, line: float, side: Literal["below", "above"]
) -> bool:
    """Return whether an alpha lies beyond ``line`` for sure: its whole interval does, and its tail holds ≥ 20
    eigenvalues.

    Without value, interval or tail the answer is no. A warning also wants a dense matrix of a block
    (``is_dense_block``): alphas of tables, heads and convolutions have lines of their own, which nobody knows.

    >>> beyond(Fitted(8.4, 3.5, 13.3), 30, 6.0, "above"), beyond(Fitted(7.8, 6.5, 9.1), 30, 6.0, "above")
    (False, True)
    """
    if fitted.value is None or fitted.low is None or fitted.high is None or tail is None:
        return False
    return tail >= FEWEST_IN_TAIL and (fitted.high < line if side == "below" else fitted.low > line)


def is_dense_block(tensor: Tensor) -> bool:
    """Return whether a tensor is a dense matrix of a block: no table, head, pooler or convolution."""
    return tensor.form == "matrix" and tensor.depth is not None
