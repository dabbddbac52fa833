"""Scorecards in miniature: just what conditions read."""

from __future__ import annotations

from typing import Any

from evalkit.gates.conditions import Decision, Evidence
from evalkit.records.scorecard import (
    Circumstances,
    Comparison,
    Counts,
    Estimate,
    Interval,
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


def comparison(gained: int, lost: int, pairs: int, **changes: Any) -> Comparison:
    """A paired difference of zeros and ones with Bonett and Price's interval, and Tango's for decisions."""
    difference = (gained - lost) / pairs
    intervals = tuple(tango_interval(gained, lost, pairs, level) for level in LEVELS)
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
        "unit": "fraction",
        **changes,
    }
    return Comparison(**fields)


def decide(name: str, evidence: Estimate | Comparison, **options: Any) -> Decision:
    """Ask one condition as a gate does."""
    make = find("condition", name).make
    condition = make(make.Options.model_validate(options))
    if isinstance(evidence, Estimate):
        return condition.decide(Evidence(evidence.name, evidence, None))
    return condition.decide(Evidence(evidence.name, None, evidence))


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
