"""The difference of two models on the same samples: interval, p-value and test, chosen by the measure's kind.

Theory. Both models answer the same samples, so only pairs that differ carry information; treating the two rates as
independent samples throws most of the precision away. Zeros and ones: Bonett and Price's interval, Tango's for
decisions, McNemar's mid-p (``discordant``). Means: paired t, with CR1 and t(C − 1) under clusters. Corpus measures:
bootstrap and randomisation (``paired_corpus``). Where looking at the samples decided how many there are, rates and
means get the interval and p-value that hold at any look (``betting``), and nothing else gets one.

A rate over some of the samples (``Measure.over``): where both models' statistics mark the same samples, as a label
does, it is the rate on those pairs. Where they differ, as in what each model selected, it is a ratio of sums for each
model, treated as a corpus measure; fewer than 10 of what is resampled under either ratio decide nothing.

**Source**: Miller 2024, arXiv 2411.00640 (paired and clustered differences of evals).

**Deviation**: zeros and ones in clusters, and means of which fewer than 10 pairs differ or all by the same amount, get
t with two pairs added, as Bonett and Price add them: differences of ± the largest difference seen, each a cluster of
its own and weighted by the square root of the mean cluster size m (the largest design effect is m). With m = 1 this is
Bonett–Price. As there, one-sided decisions need more: means out of clusters decide on what it spans together with
Tango's interval of the counts of gained and lost pairs times the largest difference seen. Plain CR1 passes a candidate
at the margin in up to 74 % instead of 5 % of runs when hardly a pair differs: its standard error is then 0. Where no
pair differs at all, unbounded means get the point 0 under the name ``identical``, with a warning; fewer than 10 pairs
or clusters get nothing.

Resampling two ratios of sums passes a candidate at the margin in up to 30 % of runs where fewer than 10 ones or zeros
of either were seen. The interval is then what it spans together with Newcombe's of two independent rates, which is wide
where the models agree; under clusters, or of averaged replicates, nothing is decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

from evalkit.records.scorecard import Interval, JointErrors
from evalkit.stats.discordant import bonett_price_interval, mcnemar_mid_p, tango_interval
from evalkit.stats.estimate import (
    STOPPED,
    Aggregate,
    bounds_of,
    holding,
    in_part,
    real_clusters,
)
from evalkit.stats.intervals import (
    FEW_CLUSTERS,
    FEW_EVENTS,
    FEW_SAMPLES,
    NO_SPREAD,
    Array,
    Bounds,
    Codes,
    t_quantile,
)
from evalkit.stats.joint import joint_errors, mean_covariance
from evalkit.stats.paired_corpus import (
    TEST,
    corpus_difference,
    corpus_values,
    identical_points,
    newcombe_interval,
)
from evalkit.stats.resampling import FEWEST_UNITS, Resampled

LEVELS = (0.80, 0.90, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
"""Two-sided levels of every difference: one-sided tests at .10, .05, .025, .01, .005, .0025, .001 and .0005 read them.

Ascending, and intervals at higher levels hold those at lower ones: a rule's one-sided p-value is at most the least of
these rates at which its limit lies outside, which is what a correction for many rules (Holm) reads. Where too few
resamples lie beyond an interval's end, the highest levels are left out.
"""

TOO_FEW = f"fewer than {FEWEST_UNITS} of what is resampled: too few to decide on"


@dataclass(frozen=True, slots=True)
class Paired:
    """Candidate minus baseline on the same samples."""

    candidate: float
    """Candidate's value."""
    baseline: float
    """Baseline's value."""
    difference: float
    """Candidate − baseline."""
    interval: Interval | None
    """To be shown, at the level asked for; None where it cannot be estimated."""
    intervals: tuple[Interval, ...]
    """For one-sided decisions, one per level in ``LEVELS``; empty where none can be estimated."""
    p_value: float | None
    """Two-sided, of no difference."""
    test: str
    """The test behind the p-value; empty where there is none."""
    warnings: tuple[str, ...]
    """Why the intervals are not to be trusted blindly, in words."""
    gained: int | None = None
    """Pairs on which the candidate's score is higher; None for corpus measures."""
    lost: int | None = None
    """Pairs on which it is lower."""
    errors: JointErrors | None = None
    """Joint errors of the two values; None where they cannot be estimated."""


def paired_difference(
    measure: Aggregate,
    candidate_NK: Array,
    baseline_NK: Array,
    level: float,
    *,
    binary: bool,
    clusters_N: Codes | None = None,
    resampled: Resampled | None = None,
    rng: np.random.Generator | None = None,
    anytime: bool = False,
) -> Paired | None:
    """Return the difference of two models on N paired samples; None where either has no value.

    ``level`` is that of the interval to be shown. ``binary`` says that a rate's statistics are zeros and ones for both.
    A corpus measure needs ``resampled``, both models' statistics side by side under the task's resampler; the swaps of
    its randomisation test are the resampler's, or drawn from ``rng``. ``anytime`` says that looking at the samples
    decided N. So does a rate ``over`` some of the samples need ``resampled`` where these are not the same for both.
    """
    if len(candidate_NK) == 0:
        return None
    if measure.over >= 0:
        over_N = candidate_NK[:, measure.over]
        apart = not np.array_equal(over_N, baseline_NK[:, measure.over])
        if apart or in_part(candidate_NK, measure.over):
            return _over_others(
                measure,
                candidate_NK,
                baseline_NK,
                clusters_N,
                resampled,
                level,
                rng,
                binary=binary,
                anytime=anytime,
            )
        rows_N = over_N > 0
        if not rows_N.any():
            return None
        candidate_NK, baseline_NK = candidate_NK[rows_N], baseline_NK[rows_N]
        clusters_N = None if clusters_N is None else clusters_N[rows_N]
    clusters_N, clusters = real_clusters(clusters_N)
    if measure.kind == "corpus":
        assert resampled is not None, "a corpus measure is resampled"
        differing = int((candidate_NK != baseline_NK).any(axis=1).sum())
        warnings = _warnings(len(candidate_NK), differing, clusters)
        return _corpus(measure, resampled, level, rng, warnings, anytime=anytime)
    candidate_N, baseline_N = candidate_NK[:, measure.column], baseline_NK[:, measure.column]
    bounds = bounds_of(measure.unit, np.concatenate([candidate_N, baseline_N]))
    pairs = _Pairs(candidate_N, baseline_N, clusters_N, clusters, bounds)
    if anytime:
        return _at_any_look(pairs, level)
    return _at_one_look(pairs, level, binary=binary and measure.kind == "rate")


class _Pairs:
    """What differences of rates and means rest on."""

    def __init__(
        self,
        candidate_N: Array,
        baseline_N: Array,
        clusters_N: Codes | None,
        clusters: int | None,
        bounds: Bounds | None,
    ) -> None:
        self.candidate_N, self.baseline_N = candidate_N, baseline_N
        self.clusters_N, self.clusters = clusters_N, clusters
        self.bounds, self.span = bounds, None if bounds is None else bounds[1] - bounds[0]
        self.differences_N = candidate_N - baseline_N
        self.n = len(candidate_N)
        self.gained = int(np.count_nonzero(self.differences_N > 0))
        self.lost = int(np.count_nonzero(self.differences_N < 0))

    def result(
        self,
        made: Sequence[Interval],
        p_value: float | None,
        test: str,
        warnings: tuple[str, ...],
        errors: JointErrors | None,
    ) -> Paired:
        """Return the record; ``made`` is the interval to be shown and those for decisions, or empty."""
        return Paired(
            float(self.candidate_N.mean()),
            float(self.baseline_N.mean()),
            float(self.differences_N.mean()),
            made[0] if made else None,
            tuple(made[1:]),
            p_value,
            test,
            warnings,
            self.gained,
            self.lost,
            errors,
        )


def _at_one_look(pairs: _Pairs, level: float, *, binary: bool) -> Paired:
    warnings = _warnings(pairs.n, pairs.gained + pairs.lost, pairs.clusters)
    largest = float(np.abs(pairs.differences_N).max()) or pairs.span
    made: tuple[Interval, ...]
    p_value: float | None
    if binary and pairs.clusters_N is None:
        added, counts = largest, (pairs.gained, pairs.lost, pairs.n)
        made = (
            bonett_price_interval(*counts, level),
            *(tango_interval(*counts, held) for held in LEVELS),
        )
        p_value, test = mcnemar_mid_p(pairs.gained, pairs.lost), "mcnemar mid-p"
    elif largest is None:
        added, made, p_value, test = None, (), None, ""
        if (pairs.clusters or pairs.n) >= FEWEST_UNITS:
            made, p_value = identical_points((level, *LEVELS)), 1.0
    else:
        few = binary or pairs.gained + pairs.lost < FEW_EVENTS
        added = largest if few or (pairs.span is not None and not _varies(pairs, largest)) else None
        made, p_value, test = _t(pairs, (level, *LEVELS), largest, added)
        if added is not None and pairs.clusters_N is None:
            made = (*made[:1], *(_with_tango(held, pairs, largest) for held in made[1:]))
    errors = joint_errors(
        pairs.candidate_N, pairs.baseline_N, pairs.clusters_N, largest=added, bounds=pairs.bounds
    )
    return pairs.result(made, p_value, test, warnings, errors)


def _varies(pairs: _Pairs, largest: float) -> bool:
    found = mean_covariance(pairs.differences_N[None], pairs.clusters_N)
    return found is not None and sqrt(found[1][0, 0]) > NO_SPREAD * largest


def _t(
    pairs: _Pairs, levels: Sequence[float], largest: float, added: float | None
) -> tuple[tuple[Interval, ...], float | None, str]:
    added_12 = None if added is None else np.array([[added, -added]])
    found = mean_covariance(pairs.differences_N[None], pairs.clusters_N, added_12)
    if found is None:
        return (), None, ""
    centre, error, df = float(found[0][0]), sqrt(found[1][0, 0]), found[2]
    if error <= NO_SPREAD * largest:
        return (), None, ""
    from scipy.special import stdtr

    p_value = float(2 * stdtr(df, -abs(centre) / error))
    alone = "t" if pairs.clusters_N is None else "cr1-t"
    method = alone if added is None else f"adjusted-{alone}"
    intervals = []
    for level in levels:
        half = t_quantile(level, df) * error
        low, high = centre - half, centre + half
        if pairs.span is not None:
            low, high = max(low, -pairs.span), min(high, pairs.span)
        intervals.append(Interval(low=low, high=high, level=level, method=method))
    test = "paired t" if pairs.clusters_N is None else "clustered paired t"
    return tuple(intervals), p_value, test


def _with_tango(held: Interval, pairs: _Pairs, largest: float) -> Interval:
    """Return what an interval spans together with Tango's of gained and lost pairs, each by the largest difference."""
    counted = tango_interval(pairs.gained, pairs.lost, pairs.n, held.level)
    low, high = largest * counted.low, largest * counted.high
    return _spanning(held, counted.model_copy(update={"low": low, "high": high}))


def _at_any_look(pairs: _Pairs, level: float) -> Paired:
    if pairs.clusters_N is not None or pairs.span is None:
        where = "without known bounds" if pairs.clusters_N is None else "under clusters"
        told = (f"{STOPPED}, and {where} no interval holds then",)
        return pairs.result((), None, "", told, None)
    from evalkit.stats.betting import betting_interval, betting_p

    bounds = -pairs.span, pairs.span
    made = [betting_interval(pairs.differences_N, held, bounds) for held in (level, *LEVELS)]
    same = () if pairs.gained + pairs.lost else (_same_on_all(pairs.n),)
    return pairs.result(made, betting_p(pairs.differences_N, 0.0, bounds), "betting", same, None)


def _corpus(
    measure: Aggregate,
    resampled: Resampled,
    level: float,
    rng: np.random.Generator | None,
    warnings: tuple[str, ...],
    *,
    anytime: bool,
    units: int | None = None,
) -> Paired | None:
    if anytime:
        values = corpus_values(measure, resampled.sums)
        told = (f"{STOPPED}, and for a corpus measure no interval holds then",)
        return values and Paired(*values, values[0] - values[1], None, (), None, "", told)
    found = corpus_difference(measure, resampled, level, LEVELS, rng, units=units)
    if found is None:
        return None
    if found.interval is not None and not found.intervals:
        warnings += (TOO_FEW,)
    return Paired(
        found.candidate,
        found.baseline,
        found.candidate - found.baseline,
        found.interval,
        found.intervals,
        found.p_value,
        "" if found.p_value is None else TEST,
        warnings,
        errors=found.errors,
    )


def _over_others(
    measure: Aggregate,
    candidate_NK: Array,
    baseline_NK: Array,
    clusters_N: Codes | None,
    resampled: Resampled | None,
    level: float,
    rng: np.random.Generator | None,
    *,
    binary: bool,
    anytime: bool,
) -> Paired | None:
    """Return the difference of rates that are over other samples for one model than for the other."""
    assert resampled is not None, "a rate over other samples for each model is resampled"
    read = [measure.column, measure.over]
    rows_N = (candidate_NK[:, measure.over] > 0) | (baseline_NK[:, measure.over] > 0)
    differing = int((candidate_NK[:, read] != baseline_NK[:, read]).any(axis=1).sum())
    clusters = real_clusters(None if clusters_N is None else clusters_N[rows_N])[1]
    warnings = _warnings(int(rows_N.sum()), differing, clusters)
    width, sums = candidate_NK.shape[1], resampled.sums
    units = min(holding(sums, place + measure.over) for place in (0, width))
    found = _corpus(measure, resampled, level, rng, warnings, anytime=anytime, units=units)
    fewest = min(
        min(
            holding(sums, place + measure.column),
            holding(sums, place + measure.over, but_not=place + measure.column),
        )
        for place in (0, width)
    )
    if found is None or not found.intervals or fewest >= FEW_EVENTS:
        return found
    if clusters is not None or not binary:
        return replace(found, intervals=(), errors=None, warnings=(*found.warnings, TOO_FEW))
    ours, theirs = (
        (float(each_NK[:, measure.column].sum()), float(each_NK[:, measure.over].sum()))
        for each_NK in (candidate_NK, baseline_NK)
    )
    assert found.interval is not None, "what decides is shown"
    made = [
        _spanning(held, newcombe_interval(*ours, *theirs, held.level))
        for held in (found.interval, *found.intervals)
    ]
    return replace(found, interval=made[0], intervals=tuple(made[1:]), errors=None)


def _spanning(held: Interval, other: Interval) -> Interval:
    return held.model_copy(
        update={"low": min(held.low, other.low), "high": max(held.high, other.high)}
    )


def _same_on_all(n: int) -> str:
    return f"candidate and baseline score the same on all {n:,} pairs"


def _warnings(n: int, differing: int, clusters: int | None) -> tuple[str, ...]:
    found = []
    if n < FEW_SAMPLES:
        found.append(
            f"only {n:,} pair{'s' if n > 1 else ''}; below {FEW_SAMPLES} the interval is rough"
        )
    if differing == 0:
        found.append(_same_on_all(n))
    elif differing < FEW_EVENTS:
        found.append(
            f"only {differing} of {n:,} pairs differ; with fewer than {FEW_EVENTS} the interval is approximate"
        )
    if clusters is not None and clusters < 2:
        found.append(f"all {n:,} pairs belong to one cluster: no interval can be given")
    elif clusters is not None and clusters < FEW_CLUSTERS:
        found.append(
            f"only {clusters} clusters; below {FEW_CLUSTERS} the interval is somewhat too narrow"
        )
    return tuple(found)
