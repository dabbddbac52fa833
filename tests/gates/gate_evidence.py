"""Scorecards in miniature: just what conditions read."""

from __future__ import annotations

from math import sqrt
from typing import Any

from evalkit.gates.conditions import Decision, Evidence, Scores
from evalkit.records.scorecard import (
    Bounded,
    Circumstances,
    Comparison,
    Counts,
    Estimate,
    Interval,
    JointErrors,
    Provenance,
    Scorecard,
    TaskTally,
)
from evalkit.registry import find
from evalkit.stats.discordant import bonett_price_interval, tango_interval
from evalkit.stats.intervals import wilson_interval
from evalkit.stats.paired import LEVELS


def counts(planned: int, scored: int | None = None, failed: int = 0) -> Counts:
    scored = planned - failed if scored is None else scored
    completed = planned - failed
    return Counts(
        planned=planned,
        completed=completed,
        failed=failed,
        scored=scored,
        unscored=completed - scored,
    )


def rate(right: int, scored: int, planned: int | None = None, **changes: Any) -> Estimate:
    """A share of right answers with Wilson's interval."""
    held = counts(planned or scored, scored)
    return estimate(
        right / scored, wilson_interval(right, scored, 0.95), held, kind="rate", **changes
    )


def estimate(
    value: float | None, interval: Interval | None, held: Counts, **changes: Any
) -> Estimate:
    fields: dict[str, Any] = {
        "model": "candidate",
        "task": "extract",
        "metric": "valid",
        "slice": None,
        "unit": "fraction",
        "better": "higher",
        "signature": "valid|v:1",
        **changes,
    }
    return Estimate(value=value, interval=interval, counts=held, **fields)


def interval(low: float, high: float, level: float = 0.95, method: str = "t") -> Interval:
    return Interval(low=low, high=high, level=level, method=method)


def comparison(
    gained: int, lost: int, pairs: int, *, missing: int = 0, **changes: Any
) -> Comparison:
    """A paired difference of zeros and ones with Bonett and Price's interval, and Tango's for decisions.

    ``missing`` samples have a score of neither model, and are bounded.
    """
    difference = (gained - lost) / pairs
    intervals = tuple(tango_interval(gained, lost, pairs, level) for level in LEVELS)
    if missing:
        changes["unpaired"] = missing
        changes["worst"] = bounded(gained, lost + missing, pairs + missing)
        changes["best"] = bounded(gained + missing, lost, pairs + missing)
    fields: dict[str, Any] = {
        "task": "extract",
        "metric": "valid",
        "slice": None,
        "status": "compared",
        "candidate": 0.8 + difference,
        "baseline": 0.8,
        "difference": difference,
        "interval": bonett_price_interval(gained, lost, pairs, 0.95),
        "intervals": intervals,
        "pairs": pairs,
        "improved": gained,
        "worsened": lost,
        "errors": errors(gained, lost, pairs, 0.8),
        "unit": "fraction",
        **changes,
    }
    return Comparison(**fields)


def bounded(gained: int, lost: int, planned: int) -> Bounded:
    """The difference with every missing score put at one end."""
    return Bounded(
        difference=(gained - lost) / planned,
        intervals=tuple(tango_interval(gained, lost, planned, level) for level in LEVELS),
    )


def errors(gained: int, lost: int, pairs: int, baseline: float) -> JointErrors:
    """The multinomial's errors of two rates on the same samples."""
    candidate = baseline + (gained - lost) / pairs
    both = baseline - lost / pairs
    return JointErrors(
        candidate=sqrt(max(candidate * (1 - candidate), 0.0) / pairs),
        baseline=sqrt(baseline * (1 - baseline) / pairs),
        covariance=(both - candidate * baseline) / pairs,
        df=None,
    )


def decide(
    name: str, evidence: Estimate | Comparison, scores: Scores | None = None, **options: Any
) -> Decision:
    """Ask one condition as a gate does."""
    make = find("condition", name).make
    condition = make(make.Options.model_validate(options))
    if isinstance(evidence, Estimate):
        return condition.decide(Evidence(evidence.name, evidence, None))
    read = None if scores is None else lambda: scores
    return condition.decide(Evidence(evidence.name, None, evidence, read))


def scorecard(*held: Estimate | Comparison, tasks: tuple[TaskTally, ...] = ()) -> Scorecard:
    return Scorecard(
        provenance=Provenance(
            suite="orders",
            suite_version=1,
            suite_digest="0" * 64,
            models={},
            datasets={},
            seed=0,
            versions={},
        ),
        estimates=tuple(e for e in held if isinstance(e, Estimate)),
        comparisons=tuple(c for c in held if isinstance(c, Comparison)),
        tasks=tasks,
        circumstances=Circumstances(
            started="2026-01-01T00:00:00Z",
            finished="2026-01-01T00:00:01Z",
            command=("evalkit",),
            git_commit=None,
            hardware={},
            host={},
            asked=0,
            reused=0,
            seconds=1.0,
        ),
    ).sealed()


def tally(task: str = "extract", *, complete: bool = True, **changes: Any) -> TaskTally:
    fields: dict[str, Any] = {
        "model": "candidate",
        "task": task,
        "kind": "generate",
        "dataset": "0" * 64,
        "planned": 300,
        "requests": 300,
        **changes,
    }
    return TaskTally(complete=complete, **fields)
