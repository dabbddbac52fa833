"""What a condition is: a pure function of evidence with three answers, and the options that a rule gives it.

A condition is a class registered with ``@register("condition", name, …)``, constructed with an instance of its
``Options``::

    @register("condition", "at_most_words", summary="No more words than so many.", example="…")
    class AtMostWords(Condition):
        class Options(Spec):
            words: float

        @property
        def required(self):
            return f"≤ {self.options.words:g} words"

        def decide(self, evidence):
            ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from evalkit.records.scorecard import Comparison, Disparity, Estimate, Interval
from evalkit.records.suite import Spec
from evalkit.records.verdict import Line, OutcomeStatus

Scores = Mapping[str, tuple[float | None, float | None]]
"""Sample id → the candidate's and the baseline's score; None where that model has none."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a scorecard holds under one name."""

    name: str
    """``task/metric[@slice]``."""
    estimate: Estimate | None
    """The candidate's estimate."""
    comparison: Comparison | None
    """Candidate against baseline; None where the run has no baseline."""
    scores: Callable[[], Scores] | None = None
    """Every planned sample's scores, read when a condition asks; None where the run's samples are not at hand or a
    sample alone has no score (corpus measures)."""
    disparity: Disparity | None = None
    """What stands behind the estimate of a gap between groups; None for other numbers."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A condition's answer."""

    status: OutcomeStatus
    """What the evidence says."""
    reason: str
    """Why, in one sentence a release manager understands, numbers included."""
    observed: float | None = None
    """The value or difference decided on."""
    interval: Interval | None = None
    """The interval decided on."""
    p_broken: float | None = None
    """Upper bound of the one-sided p-value of "the requirement holds"; None where the condition is no such test."""
    lines: tuple[Line, ...] = ()
    """The limits that the interval is held against, where it alone decides."""


class NoOptions(Spec):
    """A condition without options."""


class Condition:
    """Base of every condition; subclasses declare ``Options`` and write ``required`` and ``decide``."""

    Options: ClassVar[type[Spec]] = NoOptions
    """The keys a rule gives beside its own; their docstrings are the help."""
    reads: ClassVar[Literal["estimate", "comparison"]] = "estimate"
    """What it decides on. Where a rule's name matches nothing of this kind the rule is ``missing``."""

    def __init__(self, options: Any) -> None:  # noqa: ANN401 - an instance of Options
        """Build the condition from checked options."""
        self.options = options

    @property
    def required(self) -> str:
        """What is required, in words: ``≥ 0.95``."""
        raise NotImplementedError

    def decide(self, evidence: Evidence) -> Decision:
        """Return the answer; a pure function of the evidence, which holds what ``reads`` names."""
        raise NotImplementedError
