"""The bootstrap for measures that are functions of sums: one matrix of weights serves a whole task.

Theory. A corpus measure is f(sums of per-sample statistics). A resample draws U units (samples, or whole clusters)
with replacement; it is a row of counts w, and its sums are ``w @ sums``, so B resamples of any number of metrics are
one matrix product. All measures that use one ``Resampler`` see the same resamples, so their joint distribution holds.
Intervals are BCa: percentiles of the B values, moved for bias (the share of values below the estimate) and skewness
(the jackknife's acceleration).

Sizes. Above ``MAX_UNITS`` units, samples (or clusters) are first put into that many random groups of equal size, and
the groups are resampled. A sum over n independent samples and a sum over G groups of n/G have the same variance and
third cumulant, so interval and acceleration keep their meaning, while weights take 2·B·G bytes whatever n is: 40 MB
at most. Estimating the spread from 10,000 groups adds 0.7 % to its error, where B = 2,000 resamples already leave 1.6
%. B = 2,000 puts 5 values outside each end of a 99.5 % interval; wider ones would rest on fewer and are not given for
decisions (``supported_levels``).

**Source**: Efron 1987, JASA 82, 171 (BCa); Efron & Tibshirani 1993, chapter 14; Koehn 2004, EMNLP (sums of sentence
statistics); Field & Welsh 2007, JRSS B 69, 369 (whole clusters).

**Deviation**: values equal to the estimate count half below it, as in SciPy: measures of few samples take few values.
A slice is resampled by the task's weights, so its size varies between resamples, as in a new sample of the task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from evalkit.records.scorecard import Interval
from evalkit.stats.intervals import Array, Codes

FromSums = Callable[[Array, Array], Array]
"""``(sums_XK, n_X) → value_X``; NaN where a set of samples has no value."""
Weights = NDArray[np.int16]
Swaps = NDArray[np.uint8]

RESAMPLES = 2_000
"""B, the resamples behind an interval."""
MAX_UNITS = 10_000
"""Most units that are resampled one by one."""
DRAWN_CELLS = 65_536
"""Cells of a weight matrix that are drawn at a time."""
PRODUCT_CELLS = 4_000_000
"""Cells that are turned into floats and multiplied at a time (32 MB). Many small products would be slower: each one
starts the linear algebra library's threads."""
FEWEST_OUTSIDE = 5
"""Least number of resamples beyond each end of an interval that decides."""
FEWEST_UNITS = 10
"""Least number of units whose resamples decide. However many are drawn, none lies beyond the most extreme unit: a rule
at 5 % passes a ratio of sums at the margin in 24 % of runs over 2 units, 21 % over 3, 10 % over 5 and 6 % over 10."""
FEWEST_DEFINED = 0.9
"""Least share of resamples that must have a value for an interval to be given."""


def resample_weights(units: int, resamples: int, rng: np.random.Generator) -> Iterator[Weights]:
    """Yield rows of the weight matrix in batches: how often each unit is drawn in each resample.

    Every row sums to ``units``. The rows do not depend on the size of the batches.
    """
    rows = max(1, DRAWN_CELLS // max(units, 1))
    for start in range(0, resamples, rows):
        drawn = rng.integers(units, size=(min(rows, resamples - start), units), dtype=np.int32)
        counts = np.empty(drawn.shape, dtype=np.int16)
        for row, places in enumerate(drawn):  # row by row, the counters stay in the cache
            counts[row] = np.bincount(places, minlength=units)
        yield counts


def supported_levels(levels: Sequence[float], resamples: int) -> tuple[float, ...]:
    """Return the levels whose intervals leave at least ``FEWEST_OUTSIDE`` resamples beyond each end.

    >>> supported_levels((0.95, 0.995, 0.998), 2_000)
    (0.95, 0.995)
    """
    return tuple(
        level for level in levels if round((1 - level) / 2 * resamples, 6) >= FEWEST_OUTSIDE
    )


def bootstrap_sums(weights_BU: NDArray[np.integer], sums_UK: Array) -> Array:
    """Return ``weights_BU @ sums_UK`` without turning more than a batch of weights into floats at once."""
    rows = max(1, PRODUCT_CELLS // max(weights_BU.shape[1], 1))
    out_BK = np.empty((len(weights_BU), sums_UK.shape[1]))
    for start in range(0, len(weights_BU), rows):
        batch = slice(start, start + rows)
        np.matmul(weights_BU[batch].astype(np.float64), sums_UK, out=out_BK[batch])
    return out_BK


@dataclass(frozen=True, slots=True)
class UnitSums:
    """Statistics summed within each unit that holds any of the samples at hand."""

    units_U: Codes
    """The units' columns in the weight matrix."""
    sums_UK: Array
    """Sums of the statistics."""
    n_U: Array
    """Samples."""

    def total(self, from_sums: FromSums) -> float:
        """Return the measure over all samples."""
        return float(from_sums(self.sums_UK.sum(axis=0), np.asarray(self.n_U.sum())))

    def jackknife(self, from_sums: FromSums) -> Array:
        """Return the measure without each unit in turn."""
        return from_sums(self.sums_UK.sum(axis=0) - self.sums_UK, self.n_U.sum() - self.n_U)


class Resampler:
    """The resampling matrices of one set of samples, each drawn when it is first used.

    Samples are taken in the order of their ids, so that the order of rows does not matter.
    """

    def __init__(
        self,
        ids: Sequence[str],
        rng: np.random.Generator,
        clusters_N: Codes | None = None,
        *,
        resamples: int = RESAMPLES,
        max_units: int = MAX_UNITS,
    ) -> None:
        """Prepare to draw from ``rng``; ``clusters_N`` (from ``cluster_codes``) are resampled as wholes."""
        self._ids, self._rng, self._clusters_N = ids, rng, clusters_N
        (self._swaps_rng,) = rng.spawn(1)
        self.resamples, self._max_units = resamples, max_units

    @cached_property
    def _drawn(self) -> tuple[Codes, Weights]:
        """Unit of each sample, and the weights; both from one stream, so drawn together."""
        if self._clusters_N is None:
            unit_N = np.empty(len(self._ids), dtype=np.intp)
            unit_N[np.argsort(np.asarray(self._ids), kind="stable")] = np.arange(len(self._ids))
        else:
            unit_N = self._clusters_N
        units = int(unit_N.max(initial=-1)) + 1
        if units > self._max_units:
            unit_N = (self._rng.permutation(units) % self._max_units)[unit_N]
            units = self._max_units
        batches = list(resample_weights(units, self.resamples, self._rng)) if units else []
        empty = np.zeros((self.resamples, 0), dtype=np.int16)
        return unit_N, np.concatenate(batches) if batches else empty

    @property
    def weights_BU(self) -> Weights:
        """How often each unit is drawn in each resample."""
        return self._drawn[1]

    @cached_property
    def swaps_BU(self) -> Swaps:
        """Whether two models' answers change places in each round of a randomisation test: a coin for each unit."""
        units = self.weights_BU.shape[1]
        tossed = self._swaps_rng.bytes(self.resamples * (-(-units // 8)))
        bits = np.frombuffer(tossed, dtype=np.uint8).reshape(self.resamples, -1)
        return np.unpackbits(bits, axis=1, count=units)

    def unit_sums(self, stats_MK: Array, rows_M: Codes | slice | None = None) -> UnitSums:
        """Return the statistics of M samples summed within units; ``rows_M`` are their positions among the ids."""
        unit_M = self._drawn[0] if rows_M is None else self._drawn[0][rows_M]
        n_U = np.bincount(unit_M).astype(np.float64)
        units_U = np.flatnonzero(n_U)
        sums_UK = np.empty((len(units_U), stats_MK.shape[1]))
        for column in range(stats_MK.shape[1]):
            sums_UK[:, column] = np.bincount(unit_M, weights=stats_MK[:, column])[units_U]
        return UnitSums(units_U, sums_UK, n_U[units_U])

    def resample(self, sums: UnitSums) -> tuple[Array, Array]:
        """Return the sums of statistics (B, K) and the number of samples (B) in each resample."""
        return self.resample_each([sums])[0]

    def resample_each(self, sets: Sequence[UnitSums]) -> list[tuple[Array, Array]]:
        """Return ``resample`` of many sets of samples, reading the weights but once."""
        columns = [(held.units_U, np.column_stack([held.sums_UK, held.n_U])) for held in sets]
        return [(both[:, :-1], both[:, -1]) for both in _products(self.weights_BU, columns)]

    def swap_each(self, sets: Sequence[UnitSums]) -> list[Array]:
        """Return what swapping moves to the first model: sums (B, K/2) of second − first over the swapped units.

        Each set holds two models' statistics side by side.
        """
        columns = []
        for held in sets:
            half = held.sums_UK.shape[1] // 2
            columns.append((held.units_U, held.sums_UK[:, half:] - held.sums_UK[:, :half]))
        return _products(self.swaps_BU, columns)


def _products(
    matrix_BU: NDArray[np.integer], columns: Sequence[tuple[Codes, Array]]
) -> list[Array]:
    """Return ``matrix_BU[:, units] @ columns`` for each set of units, many sets in one product."""
    units = matrix_BU.shape[1]
    made: list[Array] = []
    while len(made) < len(columns):
        taken: list[tuple[Codes, Array]] = []
        width = 0
        for held in columns[len(made) :]:
            if taken and (width + held[1].shape[1]) * units > PRODUCT_CELLS:
                break
            taken.append(held)
            width += held[1].shape[1]
        present_V = np.unique(np.concatenate([units_U for units_U, _ in taken]))
        ends = np.cumsum([values_UK.shape[1] for _, values_UK in taken])
        joined = np.zeros((len(present_V), width))
        for (units_U, values_UK), end in zip(taken, ends, strict=True):
            places_U = np.searchsorted(present_V, units_U)
            joined[places_U, end - values_UK.shape[1] : end] = values_UK
        read = matrix_BU if len(present_V) == units else matrix_BU[:, present_V]
        made += np.split(bootstrap_sums(read, joined), ends[:-1], axis=1)
    return made


class Resampled:
    """What all corpus measures of one set of samples rest on, computed when the first of them asks."""

    def __init__(
        self, resampler: Resampler, stats_MK: Array, rows_M: Codes | slice | None = None
    ) -> None:
        """Take the statistics of M samples at ``rows_M`` among the resampler's ids (None: all, in its order)."""
        self._together, self._place = _Together(resampler, [(stats_MK, rows_M)]), 0

    @classmethod
    def each(
        cls, resampler: Resampler, sets: Sequence[tuple[Array, Codes | slice | None]]
    ) -> list[Resampled]:
        """Return one for each set of statistics and rows; what one of them computes is computed for all at once."""
        together = _Together(resampler, sets)
        return [_Member(together, place) for place in range(len(sets))]

    @property
    def sums(self) -> UnitSums:
        """The statistics summed within units."""
        return self._together.sums[self._place]

    @property
    def drawn(self) -> tuple[Array, Array]:
        """Sums of statistics (B, K) and number of samples (B) in each resample."""
        return self._together.drawn[self._place]

    @property
    def swapped(self) -> Array:
        """What swapping two models' answers moves to the first model's sums (B, K/2)."""
        return self._together.swapped[self._place]


class _Member(Resampled):
    """One of many sets of samples under one resampler."""

    def __init__(self, together: _Together, place: int) -> None:
        self._together, self._place = together, place


class _Together:
    """Sets of samples under one resampler."""

    def __init__(
        self, resampler: Resampler, sets: Sequence[tuple[Array, Codes | slice | None]]
    ) -> None:
        self._resampler, self._sets = resampler, sets

    @cached_property
    def sums(self) -> list[UnitSums]:
        return [self._resampler.unit_sums(stats_MK, rows_M) for stats_MK, rows_M in self._sets]

    @cached_property
    def drawn(self) -> list[tuple[Array, Array]]:
        return self._resampler.resample_each(self.sums)

    @cached_property
    def swapped(self) -> list[Array]:
        return self._resampler.swap_each(self.sums)


def bootstrap_intervals(
    values_B: Array, estimate: float, jackknife_U: Array, levels: Sequence[float]
) -> tuple[Interval, ...]:
    """Return one interval per level: BCa, or percentile where BCa degenerates (the method's name says which).

    Empty when more than a tenth of the resamples have no value, or when all have the same: no spread is seen.
    """
    defined_B = values_B[np.isfinite(values_B)]
    if len(defined_B) < max(2, FEWEST_DEFINED * len(values_B)) or not shows_spread(defined_B):
        return ()
    bias, skew = _bias(defined_B, estimate), acceleration(jackknife_U)
    intervals = []
    for level in levels:
        tails = np.array([(1 - level) / 2, (1 + level) / 2])
        moved = _bca_tails(tails, bias, skew)
        low, high = np.quantile(defined_B, tails if moved is None else moved)
        method = "percentile" if moved is None else "bca"
        intervals.append(Interval(low=float(low), high=float(high), level=level, method=method))
    return tuple(intervals)


def shows_spread(values_B: Array) -> bool:
    """Return whether values differ by more than rounding."""
    return bool(np.ptp(values_B) > 1e-12 * np.abs(values_B).max())


def acceleration(jackknife_U: Array) -> float:
    """Return Σd³ / (6·(Σd²)^1.5) for d = mean − jackknife values; NaN where any is undefined or all are equal."""
    d_U = jackknife_U.mean() - jackknife_U
    spread = float(d_U @ d_U)
    if not spread > 0:
        return float("nan")
    return float((d_U**3).sum() / (6 * spread**1.5))


def _bias(values_B: Array, estimate: float) -> float:
    # Half of the ties count as below; ties within rounding are ties.
    tolerance = 1e-12 * max(abs(estimate), float(np.abs(values_B).max()))
    below = np.mean(values_B < estimate - tolerance)
    not_above = np.mean(values_B <= estimate + tolerance)
    from scipy.special import ndtri

    return float(ndtri((below + not_above) / 2))


def _bca_tails(tails: Array, bias: float, skew: float) -> Array | None:
    if not np.isfinite([bias, skew]).all():
        return None
    from scipy.special import ndtr, ndtri

    shifted = bias + ndtri(tails)
    stretch = 1 - skew * shifted
    if (stretch <= 0).any():
        return None
    moved: Array = ndtr(bias + shifted / stretch)
    return moved
