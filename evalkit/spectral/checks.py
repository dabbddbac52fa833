"""From measurements to findings: which checks could be made, on how many tensors, and what each found, in words.

A check that could not be made (no base, no tokenizer, no adapter …) has no result, so that a rule on it is missing
and never passes. One that was made has a result even where it found nothing; tensors that it could not look at are
counted, and keep a rule on it from passing too. What each check looks for is said in ``catalogue``, how in
``integrity`` and ``departures``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from evalkit.spectral import departures, integrity
from evalkit.spectral.catalogue import CHECKS, Check
from evalkit.spectral.evidence import (
    Found,
    Scope,
    Seen,
    by_base,
    by_comparison,
    by_description,
    by_directions,
    by_merge,
    by_numbers,
    by_rank,
    by_spectrum,
    by_tie,
    by_update,
)

Look = Callable[[Seen], Iterator[Found]]
"""What looks for one kind of finding."""

LOOKS: Final[Mapping[str, tuple[Look, Callable[[Seen], Scope]]]] = {
    "integrity.unreadable": (integrity.unreadable, by_description),
    "integrity.nonfinite": (integrity.nonfinite, by_numbers),
    "integrity.zero": (integrity.zero, by_numbers),
    "integrity.dead": (integrity.dead, by_numbers),
    "integrity.saturated": (integrity.saturated, by_numbers),
    "integrity.vocabulary": (integrity.vocabulary, by_description),
    "integrity.tied": (integrity.tied, by_tie),
    "integrity.missing": (integrity.missing, by_base),
    "integrity.extra": (integrity.extra, by_base),
    "integrity.shape": (integrity.shape, by_base),
    "integrity.dtype": (integrity.dtype, by_base),
    "integrity.frozen": (integrity.frozen, by_comparison),
    "integrity.untrained": (integrity.untrained, by_comparison),
    "integrity.adapter": (integrity.adapter, by_update),
    "integrity.merge": (integrity.merge, by_merge),
    "scale.collapse": (departures.collapse, by_comparison),
    "drift.unrelated": (departures.unrelated, by_comparison),
    "drift.outlier": (departures.outlier, by_comparison),
    "drift.unchanged": (departures.unchanged, by_comparison),
    "drift.spectrum": (departures.intruding, by_directions),
    "shape.over_trained": (departures.over_trained, by_spectrum),
    "shape.under_trained": (departures.under_trained, by_spectrum),
    "shape.noise": (departures.noise, by_rank),
}
"""Check → what looks, and at how many tensors."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check that was made gave."""

    check: Check
    """Which."""
    findings: tuple[Found, ...]
    """What it found; empty where all is well."""
    planned: int
    """Tensors that it is about."""
    missed: int
    """Those of them that it could not look at."""


def run_checks(seen: Seen) -> list[Checked]:
    """Return the result of every check that could be made, in the catalogue's order."""
    made = []
    for check in CHECKS:
        if _possible(check, seen):
            look, scope = LOOKS[check.name]
            made.append(Checked(check, tuple(look(seen)), *scope(seen)))
    return made


def _possible(check: Check, seen: Seen) -> bool:
    """Return whether all that a check takes is at hand. A baseline need not have been trained at all."""
    base, training = seen.base is not None, seen.role == "candidate"
    return {
        "weights": True,
        "tokens": any(number is not None for number in integrity.tokens(seen.source)),
        "base": base,
        "changes": base and training,
        "frozen": base and training and bool(seen.task.frozen),
        "trained": base and training and bool(seen.task.trained),
        "adapter": seen.adapter is not None,
        "merge": seen.merged,
        "spectra": seen.task.spectra,
        "spectra+base": seen.task.spectra and base,
        "importance": seen.task.importance,
    }[check.needs]
