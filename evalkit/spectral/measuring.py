"""One tensor in one pass (tier 0): its own numbers, its distance from the base's, and whether it is base + adapter.

Rows come in blocks of some megabytes, so memory is bounded whatever the tensor's size. A dense matrix of up to
``HELD_BYTES`` is put together in memory for its largest eigenvalue, which takes many products with it; a larger one
is read once more for each of them. Where a spectrum follows that is as exact, its last eigenvalue is that, and tables
are held for it too. Vectors and scalars are a column of numbers.

A tensor with NaN or infinity has counts and no norms: what is computed from it would be NaN, and NaN is no number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import RunError
from evalkit.ports import TensorSource
from evalkit.records.weights import Fitted, Form, Tensor
from evalkit.spectral.elementwise import ElementStats, Elementwise
from evalkit.spectral.merging import MergeCheck
from evalkit.spectral.norms import (
    TOLERANCE,
    largest_eigenvalue,
    largest_eigenvalue_of_blocks,
)
from evalkit.spectral.pairing import Pair
from evalkit.spectral.room import Room
from evalkit.spectral.scales import SCALES, scales_of

Array = NDArray[np.float32]

BLOCK_NUMBERS = 1 << 19
"""Numbers read at once: 2 MiB of float32, which stay in the cache until they are measured."""
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
    scales: Callable[[float], dict[str, Fitted]] | None = None
    """Gives ``SCALES`` from the largest eigenvalue, where that is left to the spectrum; else ``measured`` has them."""
    held: tuple[Array, Array | None] | None = None
    """The matrix, and its base's, where they were held and are finite; for the spectra, and lost with the next pass."""


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
    room: Room,
    merged: Callable[[int, int], Array] | None = None,
    check: MergeCheck | None = None,
    *,
    spectrum: float | None = None,
) -> Measurement:
    """Return tier 0 of one tensor. ``merged`` reads rows of base + adapter, for ``check`` to look at.

    ``spectrum``: the share of the largest eigenvalue that may be rounding in the spectrum that follows; None where none
    does. Where that is no more than is granted to the largest eigenvalue here, it is left to the spectrum.

    What cannot be read is said in words: the tensor's own failure in ``unread``, the base's in ``base_unread``, after
    which the tensor is measured alone.
    """
    if base is not None and pair.compared:
        try:
            return _Pass(pair, source, base, room, merged, check, spectrum).measurement()
        except _BaseFailed as failed:
            return _alone(pair, source, room, spectrum, base_unread=str(failed))
        except RunError as error:
            return Measurement(pair, unread=str(error))
    return _alone(pair, source, room, spectrum)


def _alone(
    pair: Pair, source: TensorSource, room: Room, spectrum: float | None, base_unread: str = ""
) -> Measurement:
    """Return a tensor's own numbers; where the base has one of its name, why the two are not compared."""
    try:
        found = _Pass(pair, source, None, room, None, None, spectrum).measurement()
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
        room: Room,
        merged: Callable[[int, int], Array] | None,
        check: MergeCheck | None,
        spectrum: float | None,
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
        follows = spectrum is not None and len(tensor.shape) > 1 and self.against is self.own
        wanted = self.dense or follows
        held = wanted and 4 * tensor.count <= HELD_BYTES
        self.held_RC = room.own(self.rows, self.columns) if held else None
        beside = held and self.dense and base is not None
        self.base_RC = room.base(self.rows, self.columns) if beside else None
        self.left_open = held and spectrum is not None and spectrum <= TOLERANCE

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
        held = scales = None
        if self.dense and (none := _no_scale(own)) is not None:
            measured |= dict.fromkeys(SCALES if against is not None else SCALES[:3], none)
        elif self.dense:
            of_base = self._of_base(against)
            scales = partial(scales_of, own.sum_squares, (self.rows, self.columns), of_base)
            if not self.left_open:
                measured |= scales(self._largest(self.source, self.pair.tensor, self.held_RC))
        if self.held_RC is not None and not own.nonfinite:
            comparable = against is not None and not against.base_nonfinite
            held = self.held_RC, self.base_RC if comparable else None
        return Measurement(
            self.pair,
            own,
            against,
            self.grown_dead,
            self.check,
            measured,
            scales=scales if self.left_open else None,
            held=held,
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

    def _of_base(self, against: ElementStats | None) -> float | Fitted | None:
        """Return the base's largest eigenvalue, or the change where none is needed for it; None without a base."""
        if against is None:
            return None
        if against.base_nonfinite or not against.base_sum_squares:
            return BASE_NOT_FINITE if against.base_nonfinite else BASE_ZERO
        if not against.changed:
            return Fitted(0.0)
        assert self.base is not None and self.pair.base is not None, "there is a base"
        return self._largest(self.base, self.pair.base, self.base_RC)

    def _largest(self, source: TensorSource, tensor: Tensor, held_RC: Array | None) -> float:
        if held_RC is not None:
            return largest_eigenvalue(held_RC)
        return largest_eigenvalue_of_blocks(
            lambda: (block_RC for _, block_RC in blocks(source, tensor)), (self.rows, self.columns)
        )


def _no_scale(own: ElementStats) -> Fitted | None:
    if own.nonfinite:
        return NOT_FINITE
    return None if own.sum_squares else ZERO


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
