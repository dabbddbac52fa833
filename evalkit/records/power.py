"""What rules and gates can decide, as records."""

from __future__ import annotations

from typing import Literal

from evalkit.records.scorecard import Record
from evalkit.records.suite import Severity


class Range(Record):
    """True effects between two ends; an end that is null is open."""

    low: float | None
    """Least."""
    high: float | None
    """Greatest."""


class RulePower(Record):
    """What one rule can decide on one estimate."""

    gate: str
    """The gate's name."""
    rule: str
    """The rule's id."""
    estimate: str
    """``task/metric[@slice]``; the rule's pattern when nothing matches it."""
    severity: Severity
    """Whether it decides the verdict."""
    required: str
    """What is required, in words."""
    reads: Literal["estimate", "comparison"]
    """Whether effects are true values, or true differences, candidate − baseline."""
    samples: int
    """Samples, or pairs, that it will rest on."""
    unchanged: float | None = None
    """An unchanged candidate's true value, or 0 for a difference."""
    passes_unchanged: float | None = None
    """Chance that an unchanged candidate passes; null where it cannot be told."""
    fails_unchanged: float | None = None
    """Chance that an unchanged candidate fails."""
    passes: Range | None = None
    """True effects that pass with the wanted power; null where none does."""
    fails_below: float | None = None
    """A true effect from which downward it fails with the wanted power; null where none does."""
    fails_above: float | None = None
    """A true effect from which upward it fails with the wanted power; null where none does."""
    needed: int | None = None
    """Samples from which an unchanged candidate passes with the wanted power; null where a million are too few."""
    cannot_pass: str = ""
    """Why it cannot pass with these samples, in words that follow its name; empty when it can."""
    cannot_fail: str = ""
    """Why it can never fail with these samples, likewise."""
    unknown: str = ""
    """Why its chances cannot be told; never empty where they are null."""
    basis: str = ""
    """What the chances rest on."""
    notes: tuple[str, ...] = ()
    """What else a reader must know."""


class GatePower(Record):
    """What a gate's blocking rules can decide together."""

    gate: str
    """The gate's name."""
    family: str
    """``all_must_hold`` or ``any_regression``."""
    blocking: int
    """Blocking outcomes."""
    unknown: int
    """Blocking outcomes whose chances cannot be told; they are left out of both chances."""
    if_independent: float
    """Chance that an unchanged candidate passes all that are told, if they were independent."""
    at_least: float
    """Fréchet's lower bound of that chance, however they depend on one another."""


class PowerReport(Record):
    """The power of all gates."""

    format: Literal[1] = 1
    """Version of this format."""
    power: float
    """The chance wanted of an effect to be seen."""
    rules: tuple[RulePower, ...]
    """One per rule and estimate."""
    gates: tuple[GatePower, ...]
    """One per gate."""
