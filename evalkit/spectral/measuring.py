"""One tensor in one pass (tier 0): its own numbers, its distance from the base's, and whether it is base + adapter.

Rows come in blocks of some megabytes, so memory is bounded whatever the tensor's size. A dense matrix of up to
``HELD_BYTES`` is put together in memory for its largest eigenvalue, which takes many products with it; a larger one
is read once more for each of them. Vectors and scalars are a column of numbers.

A tensor with NaN or infinity has counts and no norms: what is computed from it would be NaN, and NaN is no number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import RunError
from evalkit.ports import TensorSource
from evalkit.records.weights import Fitted, Form, Tensor
from evalkit.spectral.elementwise import ElementStats, Elementwise
from evalkit.spectral.merging import MergeCheck
from evalkit.spectral.norms import (
    largest_eigenvalue,
    largest_eigenvalue_of_blocks,
    noise_stable_rank,
)
from evalkit.spectral.pairing import Pair

Array = NDArray[np.float32]

BLOCK_NUMBERS = 1 << 21
"""Numbers read at once: 8 MiB of float32."""
HELD_BYTES = 1 << 28
"""A matrix of up to so many bytes of float32 is held in memory for what takes more than one pass."""
DENSE: tuple[Form, ...] = ("matrix", "conv")
"""Forms that have a largest eigenvalue in tier 0; tables get theirs with the spectra."""
LARGEST_FINITE: Mapping[str, float] = {"F16": 65504.0, "F8_E4M3": 448.0, "F8_E5M2": 57344.0}
"""Narrow formats → their largest number."""

NOT_FINITE = Fitted(None, status="degenerate", note="it holds NaN or infinity")
BASE_NOT_FINITE = Fitted(None, status="degenerate", note="the base's tensor holds NaN or infinity")
ZERO = Fitted(None, status="degenerate", note="the tensor is 0")
BASE_ZERO = Fitted(None, status="degenerate", note="the base's tensor is 0")


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one pass over a tensor, and its base's, gave."""

    pair: Pair
    """The tensor and its base's."""
    own: ElementStats | None = None
    """Its own numbers; None where it could not be read."""
    against: ElementStats | None = None
    """The same over the rows that the base has too, with the base's; None where nothing was compared."""
    grown_dead: int = 0
    """Rows of zeros among those that stand for tokens and that the base does not have."""
    merge: MergeCheck | None = None
    """How it differs from base + adapter; None where that was not looked at."""
    measured: Mapping[str, Fitted] = field(default_factory=dict)
    """Measure → its number."""
    unread: str = ""
    """Why it could not be read."""
    base_unread: str = ""
    """Why its base's could not be."""
    held: tuple[Array, Array | None] | None = None
    """The matrix, and its base's, where they were held and are finite; for the spectra, and let go of after them."""


def blocks(
    source: TensorSource, tensor: Tensor, start: int = 0, stop: int | None = None
) -> Iterator[tuple[int, Array]]:
    """Yield (first row, rows) of a tensor as a matrix, in order; vectors are a column. Raises RunError."""
    rows, columns = _as_matrix(tensor)
    step = max(1, BLOCK_NUMBERS // max(columns, 1))
    stop = rows if stop is None else stop
    for begin in range(start, stop, step):
        end = min(begin + step, stop)
        yield begin, source.read(tensor, begin, end).reshape(end - begin, columns)


def _as_matrix(tensor: Tensor) -> tuple[int, int]:
    return tensor.matrix_shape if len(tensor.shape) > 1 else (tensor.count, 1)


def measure(
    pair: Pair,
    source: TensorSource,
    base: TensorSource | None,
    merged: Callable[[int, int], Array] | None = None,
    check: MergeCheck | None = None,
) -> Measurement:
    """Return tier 0 of one tensor. ``merged`` reads rows of base + adapter, for ``check`` to look at.

    What cannot be read is said in words: the tensor's own failure in ``unread``, the base's in ``base_unread``, after
    which the tensor is measured alone.
    """
    if base is not None and pair.compared:
        try:
            return _Pass(pair, source, base, merged, check).measurement()
        except _BaseFailed as failed:
            return _alone(pair, source, base_unread=str(failed))
        except RunError as error:
            return Measurement(pair, unread=str(error))
    return _alone(pair, source)


def _alone(pair: Pair, source: TensorSource, base_unread: str = "") -> Measurement:
    """Return a tensor's own numbers; where the base has one of its name, why the two are not compared."""
    try:
        found = _Pass(pair, source, None, None, None).measurement()
    except RunError as error:
        return Measurement(pair, unread=str(error))
    if pair.base is None:
        return found
    if base_unread:
        return uncompared(found, base_unread)
    return _without_distance(found, "the base's has another shape")


def uncompared(found: Measurement, why: str) -> Measurement:
    """Return a tensor's own numbers with the reason why the base's could not be read."""
    return replace(_without_distance(found, why), base_unread=why)


def _without_distance(found: Measurement, why: str) -> Measurement:
    names = ["drift", "cosine", "changed", "norm_change"]
    names += ["spectral_change"] if found.pair.tensor.form in DENSE else []
    none = Fitted(None, status="failed", note=why)
    return replace(found, measured={**found.measured, **dict.fromkeys(names, none)})


class _BaseFailed(Exception):
    """The base's tensor could not be read."""


class _Pass:
    """One pass over a tensor."""

    def __init__(
        self,
        pair: Pair,
        source: TensorSource,
        base: TensorSource | None,
        merged: Callable[[int, int], Array] | None,
        check: MergeCheck | None,
    ) -> None:
        tensor = pair.tensor
        self.pair, self.source, self.base = pair, source, base
        self.merged, self.check = merged, check
        self.rows, self.columns = _as_matrix(tensor)
        self.dense = tensor.form in DENSE and not (base is not None and pair.resized)
        self.own = Elementwise(
            self.columns,
            largest_finite=LARGEST_FINITE.get(tensor.dtype),
            with_base=base is not None and not pair.resized,
        )
        self.against = self.own
        if base is not None and pair.resized:
            self.against = Elementwise(self.columns, with_base=True)
        self.grown_dead = 0
        held = self.dense and 4 * tensor.count <= HELD_BYTES
        self.held_RC = np.empty((self.rows, self.columns), np.float32) if held else None
        self.base_RC = np.empty_like(self.held_RC) if held and base is not None else None

    def measurement(self) -> Measurement:
        """Read everything once, then measure."""
        self._common()
        if self.base is not None and self.pair.resized:
            self._grown()
        own = self.own.stats()
        against = None if self.base is None else self.against.stats()
        measured = _own_numbers(own, matrix=len(self.pair.tensor.shape) > 1)
        if against is not None:
            measured |= _numbers_against(against)
        held = None
        if self.dense:
            measured |= self._scales(own, against)
            if self.held_RC is not None and not own.nonfinite:
                comparable = against is not None and not against.base_nonfinite
                held = self.held_RC, self.base_RC if comparable else None
        return Measurement(
            self.pair, own, against, self.grown_dead, self.check, measured, held=held
        )

    def _common(self) -> None:
        tensor, base = self.pair.tensor, self.base
        stop = self.rows if base is None or not self.pair.resized else self.pair.rows
        for start, block_RC in blocks(self.source, tensor, stop=stop):
            end = start + len(block_RC)
            if self.held_RC is not None:
                self.held_RC[start:end] = block_RC
            if base is None:
                self.own.add(block_RC)
                continue
            base_RC = self._base_rows(start, end)
            if self.base_RC is not None:
                self.base_RC[start:end] = base_RC
            self.against.add(block_RC, base_RC)
            if self.against is not self.own:
                self.own.add(block_RC)
            if self.check is not None and self.merged is not None:
                self._held_against_merged(start, block_RC, base_RC)

    def _grown(self) -> None:
        tokens = self.source.vocabulary or 0
        for start, block_RC in blocks(self.source, self.pair.tensor, self.pair.rows, self.rows):
            self.own.add(block_RC)
            of_tokens_RC = block_RC[: max(tokens - start, 0)]
            self.grown_dead += int(np.count_nonzero(~of_tokens_RC.any(axis=1)))

    def _held_against_merged(self, start: int, block_RC: Array, base_RC: Array) -> None:
        assert self.check is not None and self.merged is not None, "there is an adapter"
        try:
            merged_RC = self.merged(start, start + len(block_RC)).reshape(block_RC.shape)
        except RunError:  # what cannot be read of the adapter is said of the adapter
            self.check = None
            return
        self.check.add(start, block_RC, base_RC, merged_RC)

    def _base_rows(self, start: int, stop: int) -> Array:
        assert self.base is not None and self.pair.base is not None, "there is a base"
        try:
            return self.base.read(self.pair.base, start, stop).reshape(stop - start, self.columns)
        except RunError as error:
            raise _BaseFailed(str(error)) from error

    def _scales(self, own: ElementStats, against: ElementStats | None) -> dict[str, Fitted]:
        """Return what follows from the largest eigenvalue of WᵀW, and of the base's."""
        names = ("log_spectral_norm", "stable_rank", "stable_rank_ratio", "spectral_change")
        if own.nonfinite or not own.sum_squares:
            none = NOT_FINITE if own.nonfinite else ZERO
            return dict.fromkeys(names if against is not None else names[:3], none)
        largest = self._largest(self.source, self.pair.tensor, self.held_RC)
        rank = own.sum_squares / largest
        found = {
            "log_spectral_norm": Fitted(math.log10(largest)),
            "stable_rank": Fitted(rank),
            "stable_rank_ratio": Fitted(rank / noise_stable_rank(self.rows, self.columns)),
        }
        if against is None:
            return found
        if against.base_nonfinite or not against.base_sum_squares:
            none = BASE_NOT_FINITE if against.base_nonfinite else BASE_ZERO
            return {**found, "spectral_change": none}
        assert self.base is not None and self.pair.base is not None, "there is a base"
        same = not against.changed and not self.pair.resized
        of_base = largest if same else self._largest(self.base, self.pair.base, self.base_RC)
        return {**found, "spectral_change": Fitted(math.log10(largest / of_base))}

    def _largest(self, source: TensorSource, tensor: Tensor, held_RC: Array | None) -> float:
        if held_RC is not None:
            return largest_eigenvalue(held_RC)
        return largest_eigenvalue_of_blocks(
            lambda: (block_RC for _, block_RC in blocks(source, tensor)), (self.rows, self.columns)
        )


def _own_numbers(stats: ElementStats, *, matrix: bool) -> dict[str, Fitted]:
    names = ("norm", "max_abs", "log_norm") if matrix else ("norm", "max_abs")
    found = {"zeros": Fitted(stats.zero_share)}
    if stats.nonfinite:
        return found | dict.fromkeys(names, NOT_FINITE)
    found |= {"norm": Fitted(stats.norm), "max_abs": Fitted(stats.max_abs)}
    if matrix:
        found["log_norm"] = Fitted(math.log10(stats.sum_squares)) if stats.sum_squares else ZERO
    return found


def _numbers_against(stats: ElementStats) -> dict[str, Fitted]:
    """Return the distance from the base. Two tensors of zeros are equal; zeros have no direction, and a cosine of 0."""
    assert stats.base_sum_squares is not None and stats.changed_share is not None, "there is a base"
    names = ("drift", "cosine", "norm_change")
    if stats.nonfinite or stats.base_nonfinite:
        none = NOT_FINITE if stats.nonfinite else BASE_NOT_FINITE
        return dict.fromkeys((*names, "changed"), none)
    found = {"changed": Fitted(stats.changed_share)}
    if stats.drift is None:
        return found | dict.fromkeys(names, BASE_ZERO)
    found["drift"] = Fitted(stats.drift)
    if not stats.base_sum_squares:
        both = "the tensor and the base's are 0"
        return found | {"cosine": Fitted(1.0, note=both), "norm_change": Fitted(0.0, note=both)}
    if not stats.sum_squares or stats.cosine is None:
        return found | {"cosine": Fitted(0.0, note=ZERO.note), "norm_change": ZERO}
    change = math.log10(stats.sum_squares / stats.base_sum_squares)
    return found | {"cosine": Fitted(stats.cosine), "norm_change": Fitted(change)}
