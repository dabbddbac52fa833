"""What a model against itself gave: the engine's noise floor and a gate's false alarms. Versioned JSON.

``Calibration.digest`` covers everything but ``circumstances``, as a scorecard's does.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from evalkit.identity import digest
from evalkit.records.scorecard import (
    Better,
    Circumstances,
    Interval,
    Provenance,
    Record,
    estimate_name,
)

FORMAT: Final = 1
"""Version of the calibration format; grows when a reader of the old one would misread the new one."""


class NoiseFloor(Record):
    """How far one estimate moves when nothing changes but the time."""

    task: str
    """The task's name."""
    metric: str
    """``metric`` or ``metric.measure``."""
    slice: str | None
    """``field=value``, or null for all samples."""
    kind: Literal["rate", "mean", "corpus"]
    """A share of samples, a mean over samples, or another function of them all."""
    unit: str
    """``fraction``, ``points`` …"""
    better: Better
    """Which direction is better."""
    signature: str
    """All that could change the number, as in the scorecard."""
    samples: int
    """Samples with a score in at least one repetition."""
    values: tuple[float | None, ...]
    """The estimate in each repetition; null where nothing could be scored."""
    value: float | None
    """Mean of ``values``."""
    sd: float | None
    """Standard deviation of ``values`` (n − 1): the engine's noise. Null below two values."""
    range: float | None
    """Largest of ``values`` − smallest: the largest difference of the model from itself."""
    discordance: float | None
    """Mean over all pairs of repetitions of the share of samples whose scores differ: a rate's flip rate. Null for
    corpus measures, where a sample alone has no score."""
    difference_sd: float | None
    """Standard deviation over samples of the difference between two repetitions (root mean square over all pairs).
    Null for corpus measures."""
    score_sd: float | None
    """Standard deviation of the score over samples (root mean square over repetitions). Null for corpus measures."""

    @property
    def name(self) -> str:
        """``task/metric[@slice]``, as rules write it."""
        return estimate_name(self.task, self.metric, self.slice)


class AnswerNoise(Record):
    """How often a task's answers were not the same when asked again."""

    task: str
    """The task's name."""
    samples: int
    """Samples answered in at least two repetitions."""
    differing: float | None
    """Mean over all pairs of repetitions of the share of samples whose answers are not identical."""
    unstable: float | None
    """Share of samples whose answers are not identical in all repetitions."""


class RuleAlarms(Record):
    """What one rule answered on the unchanged model."""

    gate: str
    """The gate's name."""
    rule: str
    """The rule's id."""
    required: str
    """What it requires, in words."""
    severity: Literal["block", "warn", "info"]
    """Whether it decides the verdict."""
    passed: int
    """Pairs on which everything it matches counts as passed (or is waived)."""
    failed: int
    """Pairs on which anything it matches counts as failed."""
    undecided: int
    """The other pairs: inconclusive or missing."""


class VerdictAlarms(Record):
    """What all gates together answered on the unchanged model."""

    passed: int
    """Ordered pairs of repetitions with the verdict pass."""
    failed: int
    """Ordered pairs with the verdict fail: false alarms."""
    inconclusive: int
    """Ordered pairs without a decision."""
    incomplete: int
    """Ordered pairs of which a repetition fell short of its coverage."""
    interval: Interval | None
    """Of the false-alarm rate, for as many independent pairs as K repetitions hold at least, K/2."""
    flips: float | None
    """How often a new repetition as the candidate, against the same baseline, changes the verdict; null below three
    repetitions."""


class Calibration(Record):
    """A model against itself K times (A/A)."""

    format: Literal[1] = FORMAT
    """Version of this format."""
    digest: str = ""
    """Digest of everything but ``circumstances``."""
    provenance: Provenance
    """Enough to run it again; its one model stands as ``baseline``."""
    confidence: float
    """Level of the intervals."""
    repetitions: int
    """K, how often every request was asked."""
    incomplete: tuple[int, ...] = ()
    """Repetitions (from 1) in which a task fell short of its ``min_coverage``."""
    estimates: tuple[NoiseFloor, ...]
    """One per estimate, in the scorecard's order."""
    answers: tuple[AnswerNoise, ...]
    """One per task."""
    gates: dict[str, str] = Field(default_factory=dict)
    """Gate name → digest of its rules."""
    rules: tuple[RuleAlarms, ...] = ()
    """One per rule of every gate."""
    verdicts: VerdictAlarms | None = None
    """Null without gates."""
    circumstances: Circumstances
    """When, where and how long."""

    @property
    def pairs(self) -> int:
        """K·(K − 1), the ordered pairs of repetitions: one as the candidate, another as the baseline."""
        return self.repetitions * (self.repetitions - 1)

    def computed_digest(self) -> str:
        """Return the digest that this content has."""
        return digest(self.beyond_defaults(exclude=("digest", "circumstances")))

    def sealed(self) -> Calibration:
        """Return the calibration with its digest filled in."""
        return self.model_copy(update={"digest": self.computed_digest()})
