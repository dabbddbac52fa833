"""What all estimates of one model's weights have in common, and how a number becomes an estimate of kind ``census``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from evalkit.identity import signature
from evalkit.records.exchange import Role
from evalkit.records.scorecard import Better, Counts, Estimate, Interval
from evalkit.records.suite import SpectralTask
from evalkit.records.weights import Fitted
from evalkit.spectral.catalogue import Measured, Needs
from evalkit.spectral.checks import Checked

VERSION = 1
"""Version of the measures; grows when one of them changes its number."""
RESTING_ON_BASE: Final[tuple[Needs, ...]] = ("base", "spectra+base", "adapter")
"""Measures that need one of these are another number for another base."""
OF_WEIGHTS_ALONE: Final = (
    "integrity.unreadable", "integrity.nonfinite", "integrity.saturated", "integrity.vocabulary",
    "shape.over_trained", "shape.under_trained",
)  # fmt: skip
"""Checks that find the same whatever the base; others at least excuse what the base has too."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What all estimates of a task on a model have in common."""

    task: SpectralTask
    """What the suite declares."""
    role: Role
    """Whose weights."""
    level: float
    """The suite's confidence."""
    has: frozenset[Needs]
    """What was at hand; measures that need more have no estimate."""
    base: str
    """Identity of the base model; empty without one."""
    decomposition: str
    """Name of what computed the spectra."""
    lost: int
    """Stored tensors, or files of them, that could not be described or read."""

    def of_measure(self, measure: Measured) -> str:
        """Return the signature of a measure: all that could change its number."""
        return self._signature(measure.name, measure.needs, measure.needs in RESTING_ON_BASE)

    def of_check(self, checked: Checked) -> Estimate:
        """Return the number of a check's findings."""
        check, planned, missed = checked.check, checked.planned, checked.missed
        counts = Counts(
            planned=planned,
            completed=planned - missed,
            failed=missed,
            scored=planned - missed,
            unscored=0,
        )
        return self.estimate(
            check.name,
            None,
            Fitted(float(len(checked.findings))),
            counts,
            unit="findings",
            better="lower",
            signed=self._signature(check.name, check.needs, check.name not in OF_WEIGHTS_ALONE),
        )

    def _signature(self, name: str, needs: str, on_base: bool) -> str:
        parts: dict[str, str | float | bool | None] = {"version": VERSION}
        if on_base:
            parts["base"] = self.base
        if needs.startswith("spectra"):
            parts |= {
                "by": self.decomposition,
                "compatible": self.task.compatible,
                "draws": self.task.draws,
            }
        return signature(name, **parts)

    def estimate(
        self,
        metric: str,
        slice_: str | None,
        found: Fitted,
        counts: Counts,
        *,
        unit: str,
        better: Better,
        signed: str,
        warnings: tuple[str, ...] = (),
    ) -> Estimate:
        """Return an estimate of kind ``census``; a number that was not fitted has a point for an interval."""
        low, high = found.low, found.high
        if found.value is not None and found.method == "exact":
            low = high = found.value
        interval = None
        if found.value is not None and low is not None and high is not None:
            interval = Interval(low=low, high=high, level=self.level, method=found.method)
        return Estimate(
            model=self.role,
            task=self.task.name,
            metric=metric,
            slice=slice_,
            kind="census",
            value=found.value,
            interval=interval,
            counts=counts,
            unit=unit,
            better=better,
            signature=signed,
            warnings=warnings,
        )
