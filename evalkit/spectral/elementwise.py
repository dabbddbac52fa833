"""What can be said of a tensor, and of its distance from another, number by number: one pass, in blocks of rows.

Theory. Sums of squares of W, of W₀ and of W − W₀ are all that norm, drift and cosine take: the inner product is
⟨W, W₀⟩ = (‖W‖² + ‖W₀‖² − ‖W − W₀‖²) / 2, which near cosine 1 is also more exact than adding up products, since the
errors of the two norms cancel. A sub-block small enough for the processor's cache is read a few times while it is
there. Its rows are squared and summed by BLAS in float32, runs of 1,024 at a time, and the runs are added in float64.

Errors. A run's sum is off by at most 1,024 · 2⁻²⁴ = 6·10⁻⁵ of itself, in whatever order BLAS adds; with its 16 sums
side by side by at most 4·10⁻⁶, and what was found on whole tensors is 10⁻⁷ (tests). Counts are exact. That a sum is
finite shows that every number in it is, so NaN and infinity cost nothing to look for where there are none. A sub-block
whose float32 sums overflow, or are so small that squares may have underflowed, is measured again in float64.

NaN and infinity are counted and kept out: norms are of the finite numbers, inner product and difference of the places
where both tensors are finite. So a tensor with one NaN still has the numbers of the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from math import fsum, isfinite, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

SUB_BLOCK = 1 << 18
"""Numbers measured at a time: 1 MiB as float32, which stays in the cache from the first look to the last."""
RUN = 1024
"""Squares summed in float32 before float64 takes over."""
LEAST_SQUARE = 2.0**-102
"""Mean square below which float32 may have lost more than 2⁻²⁴ of the sum to underflow (each square at most 2⁻¹²⁶)."""
MOST_UNLIKE = 16.0
"""Ratio of two sums of squares up to which the inner product is taken from their difference."""


@dataclass(frozen=True, slots=True)
class ElementStats:
    """Counts and sums over the numbers of a tensor W, or of several; against its base W₀ where there is one.

    What is None was not measured: there was no base.
    """

    count: int
    """Numbers."""
    rows: int
    """Rows (of several tensors: of all of them together)."""
    columns: int
    """Columns, likewise."""
    nonfinite: int
    """NaN and infinities."""
    zeros: int
    """Zeros of either sign."""
    saturated: int
    """Finite numbers at or beyond the largest finite one of the stored format; 0 where that was not given."""
    max_abs: float
    """Largest absolute finite number; 0 where there is none."""
    sum_squares: float
    """‖W‖² over finite numbers."""
    dead_rows: int
    """Rows of zeros alone."""
    dead_columns: int
    """Columns of zeros alone; in a vector, which is one row, that is every zero."""
    base_nonfinite: int | None = None
    """NaN and infinities in the base."""
    base_sum_squares: float | None = None
    """‖W₀‖² over finite numbers."""
    dot: float | None = None
    """⟨W, W₀⟩ over places where both are finite."""
    delta_sum_squares: float | None = None
    """‖W − W₀‖² over places where both are finite."""
    changed: int | None = None
    """Places whose values differ. Zeros of both signs are equal, and so is NaN to NaN."""
    base_dead_rows: int | None = None
    """Rows of zeros alone in the base."""
    new_dead_rows: int | None = None
    """Rows of zeros alone that the base does not have so."""
    new_dead_columns: int | None = None
    """Columns of zeros alone that the base does not have so."""

    @property
    def norm(self) -> float:
        """‖W‖."""
        return sqrt(self.sum_squares)

    @property
    def zero_share(self) -> float:
        """Share of numbers that are 0; 0 where there are no numbers."""
        return self.zeros / self.count if self.count else 0.0

    @property
    def base_norm(self) -> float | None:
        """‖W₀‖."""
        return None if self.base_sum_squares is None else sqrt(self.base_sum_squares)

    @property
    def drift(self) -> float | None:
        """‖W − W₀‖ / ‖W₀‖; 0 where nothing moved, None where a base of zeros did (or there is none)."""
        if self.delta_sum_squares is None or self.base_sum_squares is None:
            return None
        if self.delta_sum_squares == 0:
            return 0.0
        if self.base_sum_squares == 0:
            return None
        return sqrt(self.delta_sum_squares) / sqrt(self.base_sum_squares)

    @property
    def cosine(self) -> float | None:
        """⟨W, W₀⟩ / (‖W‖ ‖W₀‖), −1 to 1; 0 where one of them is zeros, 1 where both are. None without a base."""
        if self.dot is None or self.base_sum_squares is None:
            return None
        if not self.sum_squares or not self.base_sum_squares:
            return float(self.sum_squares == self.base_sum_squares)
        cosine = self.dot / sqrt(self.sum_squares) / sqrt(self.base_sum_squares)
        return min(1.0, max(-1.0, cosine))

    @property
    def changed_share(self) -> float | None:
        """Share of numbers that differ from the base's; 0 where there are no numbers, None without a base."""
        if self.changed is None:
            return None
        return self.changed / self.count if self.count else 0.0


def merged(parts: Iterable[ElementStats]) -> ElementStats:
    """Return the stats of all numbers together, in whatever order; all parts must have a base, or none."""
    held = list(parts)
    values: dict[str, Any] = {}
    for field in fields(ElementStats):
        column = [getattr(part, field.name) for part in held]
        absent = column.count(None)
        assert absent in {0, len(column)}, "all parts have a base, or none"
        if absent or (not held and field.default is None):
            values[field.name] = None
        elif field.name == "max_abs":
            values[field.name] = max(column, default=0.0)
        else:
            values[field.name] = fsum(column) if "float" in str(field.type) else sum(column)
    return ElementStats(**values)


class _Side:
    """Sums and dead rows of one of the two tensors."""

    def __init__(self) -> None:
        self.sum_squares, self.nonfinite, self.dead_rows = 0.0, 0, 0

    def add(self, part_RC: Array) -> tuple[float | None, Flags]:
        """Add a sub-block; return its sum of squares where float32 was enough, else None, and which rows are dead."""
        squares_R = _row_products(part_RC, part_RC)
        dead_R = squares_R == 0
        if dead_R.any():  # or their squares underflowed
            dead_R = ~part_RC.any(axis=1)
            self.dead_rows += int(np.count_nonzero(dead_R))
        total = float(squares_R.sum())
        if _sound(total, part_RC):
            self.sum_squares += total
            return total, dead_R
        finite_RC = np.isfinite(part_RC)
        self.nonfinite += part_RC.size - int(np.count_nonzero(finite_RC))
        kept = part_RC[finite_RC].astype(np.float64)
        self.sum_squares += float(kept @ kept)
        return None, dead_R


class Elementwise:
    """Adds up a tensor's numbers, and its base's beside them, as blocks of rows come in.

    >>> import numpy as np
    >>> held = Elementwise(2, with_base=True)
    >>> held.add(np.array([[3, 0], [0, 4]], np.float32), np.array([[3, 0], [0, 2]], np.float32))
    >>> stats = held.stats()
    >>> stats.norm, stats.zeros, round(stats.drift, 3), stats.changed
    (5.0, 2, 0.555, 1)
    """

    def __init__(
        self, columns: int, *, largest_finite: float | None = None, with_base: bool = False
    ) -> None:
        """Begin a tensor of so many columns.

        ``largest_finite`` is the end of the stored format's range, where saturation is to be counted; ``with_base``
        says that every block comes with the base's.
        """
        self._columns = columns
        self._largest_finite = largest_finite
        self._own = _Side()
        self._base = _Side() if with_base else None
        self._rows = self._zeros = self._saturated = self._changed = self._new_dead_rows = 0
        self._max_abs = self._dot = self._delta = 0.0
        self._open_C = np.ones(columns, bool)  # columns without anything but zeros so far
        self._base_open_C = np.ones(columns, bool)  # exact as long as one of the above is open

    def add(self, block_RC: Array, base_RC: Array | None = None) -> None:
        """Take the next rows, and the base's same rows where there is a base; float32, of any number, also none."""
        assert block_RC.ndim == 2, "a block is rows and columns"
        assert block_RC.shape[1] == self._columns, "a block has the tensor's columns"
        assert (base_RC is None) == (self._base is None), (
            "a block comes with its base's, or never does"
        )
        assert base_RC is None or base_RC.shape == block_RC.shape, "both are the same rows"
        step = max(1, SUB_BLOCK // max(1, self._columns))
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            for start in range(0, len(block_RC) if self._columns else 0, step):
                part_RC = block_RC[start : start + step]
                total, dead_R = self._own.add(part_RC)
                self._count(part_RC, finite=total is not None)
                if base_RC is not None:
                    self._compare(part_RC, base_RC[start : start + step], total, dead_R)
        self._rows += len(block_RC)

    def stats(self) -> ElementStats:
        """Return what was found in all rows so far."""
        own, base = self._own, self._base
        alone = ElementStats(
            count=self._rows * self._columns,
            rows=self._rows,
            columns=self._columns,
            nonfinite=own.nonfinite,
            zeros=self._zeros,
            saturated=self._saturated,
            max_abs=self._max_abs,
            sum_squares=own.sum_squares,
            dead_rows=own.dead_rows,
            dead_columns=self._dead(self._open_C),
        )
        if base is None:
            return alone
        return replace(
            alone,
            base_nonfinite=base.nonfinite,
            base_sum_squares=base.sum_squares,
            dot=self._dot,
            delta_sum_squares=self._delta,
            changed=self._changed,
            base_dead_rows=base.dead_rows,
            new_dead_rows=self._new_dead_rows,
            new_dead_columns=self._dead(self._open_C & ~self._base_open_C),
        )

    def _dead(self, columns_C: Flags) -> int:
        return int(np.count_nonzero(columns_C)) if self._rows else 0

    def _count(self, part_RC: Array, *, finite: bool) -> None:
        """Count zeros and saturation, look for the largest number, close columns."""
        zero_RC = part_RC == 0
        zeros = int(np.count_nonzero(zero_RC))
        self._zeros += zeros
        if self._open_C.any():
            if zeros < len(part_RC):  # too few for a column of them
                self._open_C[:] = False
            else:
                self._open_C &= zero_RC.all(axis=0)
        if not finite:
            part_RC = part_RC[np.isfinite(part_RC)]
        largest = max(float(part_RC.max(initial=0)), -float(part_RC.min(initial=0)))
        self._max_abs = max(self._max_abs, largest)
        if self._largest_finite is not None and largest >= self._largest_finite:
            self._saturated += int(np.count_nonzero(np.abs(part_RC) >= self._largest_finite))

    def _compare(self, part_RC: Array, base_RC: Array, total: float | None, dead_R: Flags) -> None:
        """Add a sub-block's difference from the base's; ``total`` is its sum of squares, None where float32 fails."""
        assert self._base is not None, "there is a base"
        base_total, base_dead_R = self._base.add(base_RC)
        self._new_dead_rows += int(np.count_nonzero(dead_R & ~base_dead_R))
        if self._open_C.any():
            self._base_open_C &= ~base_RC.any(axis=0)
        delta_RC = part_RC - base_RC
        delta = float(_row_products(delta_RC, delta_RC).sum())
        if total is None or base_total is None or not _sound(delta, delta_RC):
            self._compare_closely(part_RC, base_RC)
            return
        self._changed += int(np.count_nonzero(delta_RC != 0))  # a difference never underflows to 0
        self._delta += delta
        if max(total, base_total) <= MOST_UNLIKE * min(total, base_total):
            self._dot += (total + base_total - delta) / 2
        else:
            self._dot += float(_row_products(part_RC, base_RC).sum())

    def _compare_closely(self, part_RC: Array, base_RC: Array) -> None:
        """Do the same in float64, over places where both are finite."""
        both_RC = np.isfinite(part_RC) & np.isfinite(base_RC)
        own, base = part_RC[both_RC].astype(np.float64), base_RC[both_RC].astype(np.float64)
        self._dot += float(own @ base)
        own -= base
        self._delta += float(own @ own)
        same_RC = (part_RC == base_RC) | (np.isnan(part_RC) & np.isnan(base_RC))
        self._changed += part_RC.size - int(np.count_nonzero(same_RC))


def _row_products(left_RC: Array, right_RC: Array) -> Floats:
    """Return each row's inner product: runs in float32 by BLAS, added in float64."""
    rows, columns = left_RC.shape
    runs = columns // RUN
    whole, products_R = runs * RUN, np.zeros(rows)
    if runs:
        left_RKN = left_RC[:, :whole].reshape(rows, runs, RUN)
        right_RKN = right_RC[:, :whole].reshape(rows, runs, RUN)
        products_R += _inner(left_RKN, right_RKN).sum(axis=1, dtype=np.float64)
    if whole < columns:
        products_R += _inner(left_RC[:, whole:], right_RC[:, whole:])
    return products_R


def _inner(left: Array, right: Array) -> Array:
    """Return inner products along the last axis; a product of matrices of one row and one column is BLAS's dot."""
    products: Array = np.matmul(left[..., None, :], right[..., :, None])[..., 0, 0]
    return products


def _sound(total: float, part_RC: Array) -> bool:
    """Whether a sum of squares in float32 neither overflowed, nor met NaN or infinity, nor lost much to underflow."""
    return isfinite(total) and (total >= LEAST_SQUARE * part_RC.size or not part_RC.any())
