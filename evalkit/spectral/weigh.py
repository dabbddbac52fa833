"""The flow: every tensor of a checkpoint measured once, in the order of the files, then checks, then estimates.

Integrity comes first and nothing here ends in a crash: a tensor that cannot be read is a finding and is counted,
one with NaN has counts and no norms, one without a counterpart in the base is measured alone. Memory holds one
tensor, and its base's, in blocks of rows (``measuring``); with ``spectra`` a whole matrix, its base's, and small
ones that wait for a batch. Only what was computed is a number; whatever was not says why.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import RunError
from evalkit.ports import AdapterSource, Progress, TensorSource
from evalkit.records.exchange import Role
from evalkit.records.scorecard import Estimate, Finding, TaskTally, Unread
from evalkit.records.suite import SpectralTask
from evalkit.records.weights import Fitted, Tensor, TensorRow
from evalkit.spectral.catalogue import Needs
from evalkit.spectral.checks import Checked, run_checks
from evalkit.spectral.estimates import measure_estimates
from evalkit.spectral.evidence import Seen, by_numbers, lost
from evalkit.spectral.importance import frobenius_shares
from evalkit.spectral.measuring import (
    HELD_BYTES,
    NOT_FINITE,
    ZERO,
    Measurement,
    blocks,
    measure,
    uncompared,
)
from evalkit.spectral.merging import Merging
from evalkit.spectral.norms import GramSum, largest_eigenvalue
from evalkit.spectral.pairing import TABLES, find, pair_up
from evalkit.spectral.room import Room
from evalkit.spectral.spectra import Spectra
from evalkit.spectral.spectrum import Decomposition
from evalkit.spectral.terms import Terms
from evalkit.spectral.updates import Update, measure_update

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Weighed:
    """What weighing one model gave."""

    rows: tuple[TensorRow, ...]
    """Every tensor that was measured, in the order of the files."""
    findings: tuple[Finding, ...]
    """What checks found, check by check."""
    unread: tuple[Unread, ...]
    """What was not measured, and why."""
    estimates: tuple[Estimate, ...]
    """The scorecard's numbers."""
    tally: TaskTally
    """How many tensors there were."""


def weigh(
    task: SpectralTask,
    role: Role,
    source: TensorSource,
    base: TensorSource | None,
    adapter: AdapterSource | None,
    *,
    level: float,
    seed: int,
    decomposition: Decomposition,
    progress: Progress,
    base_digest: str = "",
    merged: TensorSource | None = None,
) -> Weighed:
    """Return what one model's weights tell.

    ``base_digest`` is the identity of the base model, part of the signature of every number that rests on it;
    ``merged`` is base + adapter, against which the weights are held where an adapter was merged into them. ``level``
    is the suite's confidence, for fitted numbers; ``seed`` that of everything drawn.
    """
    spectra = Spectra(task, decomposition, level=level, seed=seed) if task.spectra else None
    measurements = list(_pass(source, base, Merging(merged, adapter), spectra, progress))
    if spectra is not None:
        spectra.finish()
        measurements = [_with_scales(m, spectra.largest) for m in measurements]
        measurements = [_joined(m, spectra.measured.get(m.pair.tensor.name)) for m in measurements]
    updates = list(_updates(adapter, base or source, measurements))
    by_name = {update.described.name: update.measured for update in updates}
    measurements = [_joined(m, by_name.get(m.pair.tensor.name)) for m in measurements]
    if task.importance:
        measurements = list(_with_shares(measurements))
    seen = Seen(task, role, source, base, adapter, measurements, updates, merged is not None)
    terms = Terms(
        task=task,
        role=role,
        level=level,
        has=_has(task, base, adapter),
        base=base_digest,
        decomposition=decomposition.name,
        lost=len(seen.lost),
    )
    checked = run_checks(seen)
    counted = [m for m in measurements if m.pair.tensor.name not in source.tied]
    estimates = [*map(terms.of_check, checked), *measure_estimates(terms, counted)]
    unread = tuple(_unread(seen))
    return Weighed(
        rows=tuple(TensorRow(m.pair.tensor, m.measured) for m in measurements if not m.unread),
        findings=tuple(_findings(task, role, checked)),
        unread=unread,
        estimates=tuple(estimates),
        tally=_tally(seen, base_digest),
    )


def _pass(
    source: TensorSource,
    base: TensorSource | None,
    merging: Merging,
    spectra: Spectra | None,
    progress: Progress,
) -> Iterator[Measurement]:
    """Yield tier 0 of every tensor, in order; matrices are handed over to ``spectra`` as they come."""
    pairs = pair_up(source, base)
    base_lost = [] if base is None else lost(base)
    room = Room()
    done, total = 0, sum(pair.tensor.count for pair in pairs)
    for pair in pairs:
        progress.step(f"weighing: {pair.tensor.name}")
        rows, check = merging.rows(pair.tensor), merging.check(pair.tensor)
        exact_to = None if spectra is None else spectra.resolution(pair.tensor)
        found = measure(pair, source, base, room, rows, check, spectrum=exact_to)
        if base_lost and pair.base is None and not found.unread:
            found = uncompared(found, f"it may be in what could not be read: {base_lost[0]}")
        if spectra is not None:
            found = _with_spectrum(found, source, base, spectra)
        yield replace(found, held=None)
        done += pair.tensor.count
        progress.advance(done, total)


def _has(
    task: SpectralTask, base: TensorSource | None, adapter: AdapterSource | None
) -> frozenset[Needs]:
    at_hand: dict[Needs, bool] = {
        "weights": True,
        "base": base is not None,
        "adapter": adapter is not None,
        "spectra": task.spectra,
        "spectra+base": task.spectra and base is not None,
        "importance": task.importance,
    }
    return frozenset(need for need, held in at_hand.items() if held)


def _with_spectrum(
    found: Measurement, source: TensorSource, base: TensorSource | None, spectra: Spectra
) -> Measurement:
    """Hand a matrix over to be decomposed; one of zeros or with NaN has no spectrum, and says so."""
    tensor = found.pair.tensor
    if found.own is None or len(tensor.shape) < 2:
        return found
    comparable = tensor.form == "matrix" and found.against is not None and not found.pair.resized
    if found.own.nonfinite or not found.own.sum_squares:
        none = NOT_FINITE if found.own.nonfinite else ZERO
        return _joined(found, dict.fromkeys(spectra.names(against=comparable), none))
    rows, columns = tensor.matrix_shape
    try:
        if 4 * tensor.count > HELD_BYTES and tensor.form in TABLES and columns <= rows:
            gram = GramSum(columns)
            for _, block_RC in blocks(source, tensor):
                gram.add(block_RC)
            spectra.add_gram(tensor.name, gram.gram(), (rows, columns))
            return found
        W_RC, base_RC = found.held or (_whole(source, tensor), None)
        if comparable and base_RC is None and base is not None and found.pair.base is not None:
            base_RC = _whole(base, found.pair.base)
    except RunError as error:
        none = Fitted(None, status="failed", note=str(error))
        if found.scales is not None and found.held is not None:
            found = _with_scales(found, {tensor.name: largest_eigenvalue(found.held[0])})
        return _joined(found, dict.fromkeys(spectra.names(against=comparable), none))
    spectra.add(tensor.name, W_RC, base_RC if comparable else None)
    return found


def _with_scales(found: Measurement, largest: Mapping[str, float]) -> Measurement:
    """Return a measurement with what it left to the spectrum."""
    if found.scales is None:
        return found
    return replace(_joined(found, found.scales(largest[found.pair.tensor.name])), scales=None)


def _whole(source: TensorSource, tensor: Tensor) -> Array:
    W_RC = np.empty(tensor.matrix_shape, np.float32)
    for start, block_RC in blocks(source, tensor):
        W_RC[start : start + len(block_RC)] = block_RC
    return W_RC


def _joined(found: Measurement, more: Mapping[str, Fitted] | None) -> Measurement:
    """Return a measurement with more numbers; one that is not finite is none."""
    if not more:
        return found
    sound = {
        name: fitted
        if _is_number(fitted)
        else Fitted(None, status="failed", note="it is not finite")
        for name, fitted in more.items()
    }
    return replace(found, measured={**found.measured, **sound})


def _is_number(fitted: Fitted) -> bool:
    return all(end is None or math.isfinite(end) for end in (fitted.value, fitted.low, fitted.high))


def _updates(
    adapter: AdapterSource | None, model: TensorSource, measurements: Sequence[Measurement]
) -> Iterator[Update]:
    if adapter is None:
        return
    tensors = {tensor.name: tensor for tensor in model.tensors}
    norms = {m.pair.tensor.name: m.against.base_norm for m in measurements if m.against is not None}
    for update in adapter.updates:
        tensor = find(tensors, update.name, model.tied)
        yield measure_update(adapter, update, tensor, norms.get(update.name))


def _with_shares(measurements: Sequence[Measurement]) -> Iterator[Measurement]:
    """Yield the measurements with FROG's importance; matrices and tables of finite numbers share it."""
    norms = {
        m.pair.tensor.name: m.own.norm
        for m in measurements
        if m.own is not None and len(m.pair.tensor.shape) > 1 and not m.own.nonfinite
    }
    shares = frobenius_shares(norms)
    for held in measurements:
        share = shares.get(held.pair.tensor.name)
        if share is not None:
            yield _joined(held, {"importance": Fitted(share)})
        elif held.own is not None and len(held.pair.tensor.shape) > 1:
            yield _joined(held, {"importance": NOT_FINITE})
        else:
            yield held


def _findings(task: SpectralTask, role: Role, checked: Sequence[Checked]) -> Iterator[Finding]:
    for made in checked:
        for found in made.findings:
            yield Finding(
                model=role,
                task=task.name,
                check=made.check.name,
                tensor=found.tensor,
                message=found.message,
                value=found.value,
            )


def _unread(seen: Seen) -> Iterator[Unread]:
    """Yield everything stored that was not measured, or not compared, with the reason."""
    told = dict(seen.source.skipped)
    told |= {fault.tensor: fault.message for fault in seen.source.faults if fault.tensor}
    for held in seen.measurements:
        if why := held.unread or (held.base_unread and f"the base's: {held.base_unread}"):
            told[held.pair.tensor.stored] = why
    if seen.base is not None:
        for name in lost(seen.base):
            reason = seen.base.skipped.get(name, "it cannot be read")
            told.setdefault(name, f"the base's: {reason}")
    for name, reason in told.items():
        yield Unread(model=seen.role, task=seen.task.name, tensor=name, reason=reason)


def _tally(seen: Seen, base_digest: str) -> TaskTally:
    planned, missed = by_numbers(seen)
    return TaskTally(
        model=seen.role,
        task=seen.task.name,
        kind=seen.task.kind,
        dataset=base_digest,
        planned=planned,
        requests=0,
        failures={"unreadable": missed} if missed else {},
    )
