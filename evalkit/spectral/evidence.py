"""What checks read, what they give, and how many tensors they could look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evalkit.ports import AdapterSource, TensorSource
from evalkit.records.exchange import Role
from evalkit.records.suite import SpectralTask
from evalkit.records.weights import NO_WEIGHT
from evalkit.spectral.layers import is_dense_block
from evalkit.spectral.measuring import Measurement
from evalkit.spectral.updates import Update


@dataclass(frozen=True, slots=True)
class Found:
    """One finding."""

    tensor: str | None
    """The tensor; None for the model as a whole."""
    message: str
    """What was found, in one sentence with its numbers."""
    value: float | None = None
    """The number behind it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything that checks read."""

    task: SpectralTask
    """What the suite declares."""
    role: Role
    """Whose weights."""
    source: TensorSource
    """The weights."""
    base: TensorSource | None
    """The base model's."""
    adapter: AdapterSource | None
    """The adapter."""
    measurements: Sequence[Measurement]
    """One for each tensor of the source, tied copies included."""
    updates: Sequence[Update]
    """One for each update of the adapter."""
    merged: bool
    """Whether the weights were held against base + adapter."""

    @property
    def shared(self) -> list[Measurement]:
        """The tensors that the base has too, whatever their shape, or may have where it could not be read."""
        return [m for m in self.measurements if m.pair.base is not None or m.base_unread]

    @property
    def lost(self) -> list[str]:
        """Stored weights, or files of them, that could not be described."""
        return lost(self.source)


def lost(source: TensorSource) -> list[str]:
    """Return what a source holds and cannot show: skipped weights by their stored names, faults by their messages."""
    skipped = [name for name, reason in source.skipped.items() if not reason.startswith(NO_WEIGHT)]
    faults = [f.tensor or f.message for f in source.faults if f.check == "integrity.unreadable"]
    return list(dict.fromkeys([*skipped, *faults]))


Scope = tuple[int, int]
"""Tensors that a check is about, and those of them that it could not look at."""


def by_description(seen: Seen) -> Scope:
    """Every tensor, by what the files say of it."""
    return len(seen.measurements) + len(seen.lost), 0


def by_numbers(seen: Seen) -> Scope:
    """Every tensor, by its numbers."""
    missed = len(seen.lost) + sum(bool(m.unread) for m in seen.measurements)
    return len(seen.measurements) + len(seen.lost), missed


def by_base(seen: Seen) -> Scope:
    """Every tensor, by what the files say of it and of the base's; what either side has lost may be any of them."""
    assert seen.base is not None, "the check needs a base"
    unseen = len({*seen.lost, *lost(seen.base)})
    return len(seen.measurements) + unseen, unseen


def by_comparison(seen: Seen) -> Scope:
    """Every tensor that the base has too, by the distance of the two."""
    missed = sum(
        m.against is None or bool(m.against.nonfinite or m.against.base_nonfinite)
        for m in seen.shared
    )
    return len(seen.shared) + len(seen.lost), missed + len(seen.lost)


def by_spectrum(seen: Seen) -> Scope:
    """Every dense matrix of a block that spectra are made of."""
    concerned = [m for m in seen.measurements if is_dense_block(m.pair.tensor)]
    alphas = [m.measured.get("alpha") for m in concerned]
    missed = sum(alpha is None or alpha.status in ("failed", "degenerate") for alpha in alphas)
    return len(concerned) + len(seen.lost), missed + len(seen.lost)


def by_directions(seen: Seen) -> Scope:
    """Every dense matrix that the base has too, by its leading directions."""
    concerned = [m for m in seen.shared if m.pair.tensor.form == "matrix"]
    found = [m.measured.get("intruders") for m in concerned]
    missed = sum(number is None or number.value is None for number in found)
    return len(concerned) + len(seen.lost), missed + len(seen.lost)


def by_rank(seen: Seen) -> Scope:
    """Every dense matrix, by its stable rank, which one with NaN or infinity does not have."""
    concerned = [m for m in seen.measurements if m.pair.tensor.form == "matrix"]
    missed = sum(m.own is None or bool(m.own.nonfinite) for m in concerned)
    return len(concerned) + len(seen.lost), missed + len(seen.lost)


def by_update(seen: Seen) -> Scope:
    """Every update of the adapter."""
    return len(seen.updates), 0


def by_merge(seen: Seen) -> Scope:
    """Every tensor that is held against base + adapter."""
    missed = sum(m.merge is None for m in seen.shared)
    return len(seen.shared) + len(seen.lost), missed + len(seen.lost)


def by_tie(seen: Seen) -> Scope:
    """Every pair of names that share their numbers."""
    return len(seen.source.tied), 0


def dense(measurements: Sequence[Measurement]) -> Iterator[Measurement]:
    """Yield the tensors that are tables, matrices or kernels: what zeros do not belong in."""
    return (m for m in measurements if m.pair.tensor.form not in ("vector", "scalar"))
