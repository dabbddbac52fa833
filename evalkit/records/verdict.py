"""What a gate answered, rule by rule and as a whole."""

from __future__ import annotations

from typing import Literal

from evalkit.records.scorecard import Interval, Record
from evalkit.records.suite import WaiverSpec

OutcomeStatus = Literal["pass", "fail", "inconclusive", "missing", "incomparable"]
CountsAs = Literal["pass", "fail", "inconclusive", "missing", "waived"]
VerdictStatus = Literal["pass", "fail", "inconclusive", "incomplete"]

EXIT_CODES: dict[VerdictStatus, int] = {"pass": 0, "fail": 1, "incomplete": 3, "inconclusive": 4}


class Line(Record):
    """A limit that a whole interval must keep to."""

    at: float
    """Where it is, in the unit of what was observed."""
    above: bool
    """Whether all must lie above it, or below."""

    def room(self, interval: Interval) -> float:
        """Return how much room an interval leaves: negative where it reaches so far beyond the line."""
        return interval.low - self.at if self.above else self.at - interval.high


class Outcome(Record):
    """One rule's answer on one estimate."""

    gate: str
    """The gate's name."""
    rule: str
    """The rule's id."""
    estimate: str
    """``task/metric[@slice]`` it was decided on; the rule's pattern when nothing matched."""
    status: OutcomeStatus
    """What the evidence says."""
    counts_as: CountsAs
    """What it counts as, after the family, the waivers and the rule's ``on_inconclusive`` and ``on_missing``."""
    severity: Literal["block", "warn", "info"]
    """Whether it decides the verdict."""
    observed: float | None
    """The value or difference decided on."""
    interval: Interval | None
    """The interval decided on."""
    required: str
    """What was required, in words: ``≥ 0.95``."""
    reason: str
    """Why the status is what it is, in one sentence a release manager understands."""
    why: str = ""
    """The rule's own reason for being."""
    p_broken: float | None = None
    """Upper bound of the one-sided p-value of "the requirement holds"; null where the condition is no such test."""
    p_adjusted: float | None = None
    """The same after Holm's (blocking rules) or Benjamini and Hochberg's (others) correction over the family."""
    waiver: WaiverSpec | None = None
    """The exception that covers it."""
    lines: tuple[Line, ...] = ()
    """The limits that the interval is held against; empty where none is a number in the interval's unit, or where the
    interval does not tell all that is needed to pass."""

    @property
    def distance(self) -> float | None:
        """How far the interval is from not passing, in the unit of what was observed: the least room to a line.

        0 or more where it passes, else 0 or less: so far it reaches beyond. None without interval or line.
        """
        if self.interval is None:
            return None
        return min((line.room(self.interval) for line in self.lines), default=None)


class FamilyRecord(Record):
    """How one gate combines its rules."""

    gate: str
    """The gate's name."""
    family: str
    """``all_must_hold`` or ``any_regression``."""
    blocking: int
    """Blocking outcomes."""
    told: str
    """What that means for errors and power, in a sentence."""


class Verdict(Record):
    """The answer of all gates together."""

    format: Literal[1] = 1
    """Version of this format."""
    status: VerdictStatus
    """``incomplete``: the run itself could not be completed, so nothing is decided."""
    exit_code: int
    """0 pass, 1 fail, 3 incomplete, 4 inconclusive."""
    scorecard: str
    """Digest of the scorecard decided on."""
    gates: dict[str, str]
    """Gate name → digest of its rules."""
    reason: str
    """The verdict in one sentence."""
    outcomes: tuple[Outcome, ...]
    """One per rule and matching estimate."""
    families: tuple[FamilyRecord, ...] = ()
    """One per gate."""
    notes: tuple[str, ...] = ()
    """What else a reader must know: waivers that matched nothing."""
