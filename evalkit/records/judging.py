"""Judges: models used as graders, what they say of an answer, and the card that tells how far to believe them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from pydantic import Field

from evalkit.records.interval import Interval, Record
from evalkit.records.suite import Name

CARD_FORMAT: Final = 1
"""Version of the card's format."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a judge says of one sample."""

    value: float | None
    """Pointwise: 0 (least of the scale) to 1; pairwise: 1 the candidate is better, 0 the baseline, ½ a tie. None where
    there is no verdict."""
    reason: str = ""
    """Why there is none, in words: ``no verdict``, ``the judge did not answer`` …"""
    settled: str = ""
    """Why no judge was asked: ``empty answer``, ``constant answer``; empty where one was."""
    first: float | None = None
    """Pairwise: share of the orders in which the answer shown first was preferred; None where none decided."""
    consistent: bool | None = None
    """Pairwise: whether both orders gave the same verdict; None for other judges."""
    note: str = ""
    """What the judge gave as its reason, cut to a line."""


class CardFigure(Record):
    """One figure of a card with its interval."""

    value: float | None
    """The figure; null where it cannot be told."""
    interval: Interval | None = None
    """Its interval."""
    n: int = 0
    """Items it rests on."""
    told: str = ""
    """What is to be known of it, in words."""


class JudgeCard(Record):
    """How far a judge agrees with people, and by what it is led astray; pinned to the judge by ``pins``."""

    format: Literal[1] = CARD_FORMAT
    """Version of this format."""
    judge: Name
    """The judge's name."""
    pins: str
    """Digest of all that can change a verdict: model bytes (or endpoint and revision), prompt, decoding, parser."""
    pinned: bool
    """Whether the model's bytes or a stated revision are part of ``pins``."""
    labels: str
    """SHA-256 of the labels file."""
    made: str
    """UTC, ISO 8601."""
    pass_at: int | None = None
    """The least score that passes, by which sensitivity and specificity were told; null where none was said."""
    figures: dict[str, CardFigure]
    """``accuracy``, ``kappa``, ``ac1``, ``alpha``, ``people_kappa``, ``order_consistency``, ``first_position``,
    ``no_verdict``, ``length_slope``, ``repeatability``, ``canary_false_positives`` …"""
    warnings: tuple[str, ...] = ()
    """What the figures do not show, in words."""


class JudgeRecord(Record):
    """A judge as it was used in a run."""

    judge: str
    """Its name."""
    form: Literal["pointwise", "pairwise"]
    """What it compares."""
    pins: str
    """Digest of all that can change a verdict."""
    model: str
    """Identity of its model, as its replies are kept under it; how it was named is a circumstance."""
    metrics: tuple[str, ...] = ()
    """``task/metric`` of the numbers that rest on it."""
    card: JudgeCard | None = None
    """The card that the run found for exactly these pins; null where there is none."""
    why_no_card: str = ""
    """What was found in place of a card, in words; empty where nothing was."""
    flags: tuple[str, ...] = ()
    """What makes its verdicts doubtful in this run: it is the candidate itself, or of its family."""
    settled: dict[str, int] = Field(default_factory=dict)
    """Samples settled without it, by reason."""
    samples: int = 0
    """Samples it was to judge; of pairs, the candidate's."""
    unjudged: dict[str, int] = Field(default_factory=dict)
    """Samples without a judgement, by reason."""
    requests: int = 0
    """Requests these samples need."""
    prompt_tokens: int | None = None
    """Tokens read; null where the backend does not tell."""
    completion_tokens: int | None = None
    """Tokens written; null where the backend does not tell."""

    def gave(self, task: str, metric: str) -> bool:
        """Return whether a number rests on it: ``metric`` is that of an estimate, with its measure."""
        name = f"{task}/{metric}"
        return any(name == held or name.startswith(f"{held}.") for held in self.metrics)
