"""A candidate's own value where samples have no score: the case worst for a floor, or for a ceiling.

Every score that is missing lies at the lower end of its unit for a floor, at the upper for a ceiling: Manski's bounds.
That is for rates, and means of scores with known ends. Where zeros and ones were counted the interval is computed anew
over all planned samples. Elsewhere the end that a rule is passed by is moved by as much as the missing scores could
vary, so that a sample decides no easier for having no score; the other end is multiplied by the coverage.

**Source**: Manski 1990, Am. Econ. Rev. 80, 319 (bounds under missing outcomes).

**Deviation**: which cluster a missing score belongs to is not known here; it is taken to widen the interval as much as
the scored ones do.
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from evalkit.gates.wording import figures
from evalkit.records.scorecard import Estimate, Interval
from evalkit.stats.betting import betting_interval
from evalkit.stats.estimate import UNIT_BOUNDS
from evalkit.stats.intervals import Bounds, normal_quantile, t_quantile, wilson_interval


def worst_case(estimate: Estimate, *, floor: bool) -> tuple[float, Interval, str]:
    """Return value and interval with every sample without a score at the end of the unit worse for a floor or ceiling.

    Words for it come third; they are empty where no sample is without a score, or scores have no ends.
    """
    value, interval, counts = estimate.value, estimate.interval, estimate.counts
    assert value is not None and interval is not None
    missing, bounds = counts.planned - counts.scored, UNIT_BOUNDS.get(estimate.unit)
    if missing == 0 or bounds is None or estimate.kind == "corpus":
        return value, interval, ""
    if not bounds[0] <= value <= bounds[1]:
        return value, interval, ""
    missing_as = bounds[0] if floor else bounds[1]

    def filled(number: float) -> float:
        return number * counts.coverage + missing_as * (1 - counts.coverage)

    worst = filled(value)
    if is_counted(estimate, value, interval):
        again = wilson_interval(round(worst * counts.planned), counts.planned, interval.level)
        assert again is not None, "samples were planned"
    else:
        ends = {"low": filled(interval.low), "high": filled(interval.high)}
        ends["low" if floor else "high"] = _least_end(estimate, worst, bounds, floor=floor)
        again = interval.model_copy(update=ends)
    told = (
        f"{figures(value)[0]} on {counts.scored:,} of {counts.planned:,} samples; with the {missing:,} "
        f"that {'has' if missing == 1 else 'have'} no score counted as {missing_as:g} it is "
    )
    return worst, again, told


def _least_end(estimate: Estimate, worst: float, bounds: Bounds, *, floor: bool) -> float:
    """Return the end of the interval around ``worst`` that a floor, or a ceiling, is passed by.

    What is missing adds q²·c·(1 − c)·d²/(N − 1) to the square of half the width: c is the coverage of N samples, d the
    farther end's distance from the value, so that no way to fill the scores in varies more; q is Student's, or larger
    by as much as the interval is wider than Wilson's (clusters). Of all values with one mean, zeros and ones bet worst.
    """
    value, interval, counts = estimate.value, estimate.interval, estimate.counts
    assert value is not None and interval is not None
    (low, high), n = bounds, counts.planned
    if interval.method == "betting":
        share = (worst - low) / (high - low) * n
        at_high = int(np.floor(share + 1e-9) if floor else np.ceil(share - 1e-9))
        extreme = betting_interval(
            np.repeat(bounds, [n - at_high, at_high]), interval.level, bounds
        )
        return extreme.low if floor else extreme.high
    half = max(value - interval.low, interval.high - value)
    right = (value - low) / (high - low) * counts.scored
    widest = wilson_interval(right, counts.scored, interval.level)
    assert widest is not None, "samples were scored"
    apart = (high - low) * max(
        widest.high - right / counts.scored, right / counts.scored - widest.low
    )
    q = max(
        t_quantile(interval.level, max(counts.scored - 1, 1)),
        normal_quantile(interval.level) * half / apart,
    )
    away, c = max(value - low, high - value), counts.coverage
    reach = sqrt((c * half) ** 2 + q * q * c * (1 - c) * away**2 / (n - 1))
    return max(worst - reach, low) if floor else min(worst + reach, high)


def is_counted(estimate: Estimate, value: float, interval: Interval) -> bool:
    """Return whether the interval is Wilson's over zeros and ones, one per scored sample."""
    if estimate.kind != "rate" or interval.method != "wilson":
        return False
    scored = estimate.counts.scored
    counted = wilson_interval(value * scored, scored, interval.level)
    return counted is not None and abs(counted.low - interval.low) < 1e-9
