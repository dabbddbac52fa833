"""A candidate's own value where samples have no score: the case worst for a floor, or for a ceiling.

Every score that is missing lies at the lower end of its unit for a floor, at the upper for a ceiling: Manski's bounds.
That is for rates, and means of scores with known ends. Where zeros and ones were counted the interval is computed anew
over all planned samples. A rate over some of the samples (those whose label is positive) may be over each that has no
score, whose label was not kept; such samples can keep it from passing and never fail it. A gap between groups is moved
by what its groups could move (``worst_gap``). Elsewhere the end that a rule is passed by is moved by as much as the
missing scores could vary, so that a sample decides no easier for having no score; the other end is multiplied by the
coverage.

**Source**: Manski 1990, Am. Econ. Rev. 80, 319 (bounds under missing outcomes).

**Deviation**: which cluster a missing score belongs to is not known here; it is taken to widen the interval as much as
the scored ones do.
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from evalkit.gates.wording import figures
from evalkit.records.scorecard import Counts, Disparity, Estimate, Interval
from evalkit.stats.betting import betting_interval
from evalkit.stats.estimate import UNIT_BOUNDS
from evalkit.stats.intervals import Bounds, normal_quantile, t_quantile, wilson_interval

NAMED = 3
"""Most groups that a reason names."""


def worst_case(
    estimate: Estimate, disparity: Disparity | None = None, *, floor: bool
) -> tuple[float, Interval, str]:
    """Return value and interval with every sample without a score at the end of the unit worse for a floor or ceiling.

    Words for it come third; they are empty where no sample is without a score, or scores have no ends. ``disparity`` is
    what stands behind a gap between groups.
    """
    value, interval, counts = estimate.value, estimate.interval, estimate.counts
    assert value is not None and interval is not None
    if estimate.kind == "gap":
        return value, *_worst_gap_for(estimate, disparity, floor=floor)
    missing, bounds = counts.planned - counts.scored, UNIT_BOUNDS.get(estimate.unit)
    if missing and estimate.kind == "corpus" and estimate.n and not _is_resampled(interval):
        return _over_some(estimate, estimate.n, floor=floor)
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


def _is_resampled(interval: Interval) -> bool:
    return interval.method in ("bca", "percentile")


def _over_some(estimate: Estimate, n: int, *, floor: bool) -> tuple[float, Interval, str]:
    """Return the worst case of a rate over ``n`` of the samples: it is over all those without a score as well.

    Whether it is nobody knows, so the end that a rule fails by stays where it is.
    """
    value, interval, counts = estimate.value, estimate.interval, estimate.counts
    assert value is not None and interval is not None
    missing = counts.planned - counts.scored
    held = Counts(planned=n + missing, completed=n + missing, failed=0, scored=n, unscored=missing)
    filled = estimate.model_copy(update={"kind": "rate", "counts": held, "n": None})
    worst, again, _ = worst_case(filled, floor=floor)
    end = "high" if floor else "low"
    told = (
        f"{figures(value)[0]} on {n:,} samples; with the {missing:,} that {'has' if missing == 1 else 'have'} no score "
        f"counted as {0 if floor else 1}, should it be over {'it' if missing == 1 else 'them'} too, it is "
    )
    return worst, again.model_copy(update={end: getattr(interval, end)}), told


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


def worst_gap(estimate: Estimate, disparity: Disparity, *, wider: bool) -> tuple[Interval, str]:
    """Return a gap's interval with the samples that lack a score or a group where they make it ``wider``, or narrower.

    With m of them beside n samples a group's number moves by m/(n + m) of the unit's range at most, and a gap by what
    its two most uncertain groups move together. Samples whose group is not known may belong to any. Only the end that
    they move outward is moved. A group that is large enough and was not measured at all can make it any gap that is
    ``wider``. Words come second; empty where no sample lacks anything.
    """
    interval, counts, bounds = estimate.interval, estimate.counts, UNIT_BOUNDS.get(estimate.unit)
    assert interval is not None
    if wider and (open_ := unmeasured(disparity)):
        # Without known ends nothing bounds it: a rule asks ``is_unbounded``.
        if disparity.form == "ratio":
            interval = interval.model_copy(update={"low": 0.0})
        elif bounds is not None:
            interval = interval.model_copy(update={"high": bounds[1] - bounds[0]})
        return interval, open_
    missing = counts.planned - counts.scored
    if missing == 0:
        return interval, ""
    lack = "lacks" if missing == 1 else "lack"
    told = f"; {missing:,} of {counts.planned:,} samples {lack} a score or a group"
    if bounds is None:
        return interval, f"{told} and {'is' if missing == 1 else 'are'} left out"
    first, second = _shares(disparity, missing)
    span, greatest = bounds[1] - bounds[0], _greatest(disparity)
    if disparity.form == "difference" and wider:
        end, worst = "high", min(interval.high + (first + second) * span, span)
    elif disparity.form == "difference":
        end, worst = "low", max(interval.low - (first + second) * span, 0.0)
    elif wider:
        end, worst = "low", max((interval.low * greatest - first) / (greatest + first), 0.0)
    else:
        end, worst = "high", 1.0
        if greatest > first:
            worst = min((interval.high * greatest + first) / (greatest - first), 1.0)
    reach = f"with {'it' if missing == 1 else 'them'} it could reach {figures(worst)[0]}"
    return interval.model_copy(update={end: worst}), f"{told}: {reach}"


def unmeasured(disparity: Disparity) -> str:
    """Return which groups are large enough and are no part of a gap all the same, in words; empty where none is."""
    found = {cell.group: cell for cell in disparity.cells if cell.unmeasured}
    if not found:
        return ""
    named = [
        f"{disparity.by}={group} ({cell.left_out}; {cell.missing:,} without a score)"
        for group, cell in [*found.items()][:NAMED]
    ]
    more = [f"{len(found) - NAMED} more"] if len(found) > NAMED else []
    one = len(found) == 1
    return (
        f"; {', '.join([*named, *more])} {'is' if one else 'are'} large enough and {'was' if one else 'were'} not "
        f"measured: with {'it' if one else 'them'} the gap could be any"
    )


def is_unbounded(estimate: Estimate, disparity: Disparity) -> bool:
    """Return whether a group was not measured and nothing bounds what the gap would be with it."""
    return estimate.unit not in UNIT_BOUNDS and bool(unmeasured(disparity))


def _worst_gap_for(
    estimate: Estimate, disparity: Disparity | None, *, floor: bool
) -> tuple[Interval, str]:
    assert estimate.interval is not None
    if disparity is None:
        return estimate.interval, ""
    return worst_gap(estimate, disparity, wider=floor == (disparity.form == "ratio"))


def _shares(disparity: Disparity, missing: int) -> tuple[float, float]:
    """Return by how much of the range the two most uncertain groups of any measure may move, the greater first."""
    kept = [cell for cell in disparity.cells if not cell.left_out]
    of_groups = sum({cell.group: cell.missing for cell in kept}.values())
    nowhere = max(missing - of_groups, 0)
    shares = []
    for measure in {cell.measure for cell in kept}:
        lacking = [(c.missing + nowhere, c.n) for c in kept if c.measure == measure]
        shares.append(sorted((m / (m + n) for m, n in lacking if m + n), reverse=True)[:2])
    first, second = max(shares, key=sum, default=[0.0, 0.0])
    return first, second


def _greatest(disparity: Disparity) -> float:
    """Return the least of the measures' greatest numbers: the smaller it is, the more a ratio moves."""
    of_measure: dict[str, float] = {}
    for cell in disparity.cells:
        if not cell.left_out and cell.value is not None:
            held = of_measure.get(cell.measure, cell.value)
            of_measure[cell.measure] = max(held, cell.value)
    return min(of_measure.values(), default=0.0)


def is_counted(estimate: Estimate, value: float, interval: Interval) -> bool:
    """Return whether the interval is Wilson's over zeros and ones, one per scored sample."""
    if estimate.kind != "rate" or interval.method != "wilson":
        return False
    scored = estimate.counts.scored
    counted = wilson_interval(value * scored, scored, interval.level)
    return counted is not None and abs(counted.low - interval.low) < 1e-9
