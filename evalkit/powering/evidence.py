"""Evidence that a run might give: estimates and comparisons of samples that all have a score."""

from __future__ import annotations

from dataclasses import replace

from evalkit.gates.conditions import Evidence
from evalkit.powering.estimands import Estimand
from evalkit.records.scorecard import Comparison, Counts, Estimate, Interval, JointErrors
from evalkit.stats.estimate import estimate
from evalkit.stats.intervals import Array, Codes
from evalkit.stats.paired import paired_difference


class NeedsSamples(Exception):
    """Raised where a condition asks for single samples' scores, which no count of outcomes tells."""


def _no_samples() -> dict[str, tuple[float | None, float | None]]:
    raise NeedsSamples


def estimated(
    estimand: Estimand, values_N: Array, level: float, clusters_N: Codes | None = None
) -> Evidence:
    """Return the estimate that a run would give of these scores of a rate or mean."""
    found = estimate(
        replace(estimand.measure, column=0),
        values_N[:, None],
        level=level,
        binary=estimand.binary,
        clusters_N=clusters_N,
        anytime=estimand.anytime,
    )
    return estimated_as(estimand, found.value, found.interval, len(values_N))


def estimated_as(
    estimand: Estimand, value: float | None, interval: Interval | None, scored: int | None = None
) -> Evidence:
    """Return the estimate with this value and interval; without a value no sample was scored."""
    n = estimand.samples if scored is None else scored
    unscored = n if value is None else 0
    counts = Counts(planned=n, completed=n, failed=0, scored=n - unscored, unscored=unscored)
    held = Estimate(
        model="candidate",
        task=estimand.task,
        metric=estimand.metric,
        slice=estimand.slice,
        kind=estimand.measure.kind,
        value=value,
        interval=interval,
        counts=counts,
        unit=estimand.measure.unit,
        better=estimand.measure.better,
        signature="hypothetical",
    )
    return Evidence(estimand.name, held, None, _no_samples)


def compared(
    estimand: Estimand,
    candidate_N: Array,
    baseline_N: Array,
    level: float,
    clusters_N: Codes | None = None,
) -> Evidence:
    """Return the comparison that a run would give of these paired scores of a rate or mean."""
    found = paired_difference(
        replace(estimand.measure, column=0),
        candidate_N[:, None],
        baseline_N[:, None],
        level,
        binary=estimand.binary,
        clusters_N=clusters_N,
        anytime=estimand.anytime,
    )
    assert found is not None, "there are pairs"
    changes = (found.gained, found.lost)
    improved, worsened = changes if estimand.measure.better == "higher" else changes[::-1]
    held = _comparison(estimand, len(candidate_N)).model_copy(
        update={
            "candidate": found.candidate,
            "baseline": found.baseline,
            "difference": found.difference,
            "interval": found.interval,
            "intervals": found.intervals,
            "p_value": found.p_value,
            "test": found.test,
            "improved": improved,
            "worsened": worsened,
            "errors": found.errors,
            "warnings": found.warnings,
        }
    )
    return Evidence(estimand.name, None, held, _no_samples)


def compared_as(
    estimand: Estimand,
    baseline: float,
    difference: float,
    intervals: tuple[Interval, ...],
    errors: JointErrors | None,
    pairs: int | None = None,
    changed: tuple[int, int] | None = None,
) -> Evidence:
    """Return the comparison with this difference and these intervals for decisions.

    ``changed`` is how many pairs improved and worsened, None where nothing tells.
    """
    improved, worsened = changed or (None, None)
    held = _comparison(estimand, estimand.samples if pairs is None else pairs).model_copy(
        update={
            "candidate": baseline + difference,
            "baseline": baseline,
            "difference": difference,
            "interval": intervals[0] if intervals else None,
            "intervals": intervals,
            "improved": improved,
            "worsened": worsened,
            "errors": errors,
        }
    )
    return Evidence(estimand.name, None, held, _no_samples)


def _comparison(estimand: Estimand, pairs: int) -> Comparison:
    return Comparison(
        task=estimand.task,
        metric=estimand.metric,
        slice=estimand.slice,
        status="compared",
        pairs=pairs,
        unit=estimand.measure.unit,
        better=estimand.measure.better,
    )
