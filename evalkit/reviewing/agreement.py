"""How far annotators agree on one task: alpha for all of them, kappa for each two, with intervals.

A unit is an item that at least two of them rated, whosever answer it shows: agreement is a property of annotators and
question, and a model whose answers are nearly all good would leave little to agree about beyond chance. Ratings on a
scale are ordinal, labels nominal. Resampled are samples, since two answers to one question are hard together.

Where annotators agree on every unit, resampling shows no spread. The lower end is then the coefficient that would be
seen if as many samples as Wilson's interval for 0 of M allows were rated by the worst and the best rating.

**Source**: Krippendorff 2011; Cohen 1960 (``stats.agreement``); Wilson 1927.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from evalkit.identity import derived_seed
from evalkit.records.review import RatedAnswer
from evalkit.records.suite import ReviewSpec
from evalkit.stats.agreement import (
    Agreement,
    Measurement,
    cohen_kappa,
    coincidence_stats,
    confusion_stats,
    estimated,
    krippendorff_alpha,
    observed_agreement,
    or_worst,
)
from evalkit.stats.intervals import Array, Codes, cluster_codes
from evalkit.stats.resampling import FromSums


@dataclass(frozen=True)
class PairAgreement:
    """Two annotators."""

    annotators: tuple[str, str]
    """Their names, sorted."""
    kappa: Agreement
    """Cohen's kappa over the items that both rated."""
    same: Agreement
    """Share of these items that both rated alike."""


@dataclass(frozen=True)
class TaskAgreement:
    """All annotators of one task."""

    task: str
    """The task's name."""
    measurement: Measurement
    """How ratings are read."""
    items: int
    """Items with at least one rating."""
    annotators: tuple[str, ...]
    """Who rated, sorted."""
    alpha: Agreement
    """Krippendorff's alpha."""
    same: Agreement
    """Share of the pairs of ratings of one item that are alike."""
    pairs: tuple[PairAgreement, ...]
    """Each two annotators who share an item."""


def task_agreement(
    task: str, spec: ReviewSpec, rated: Iterable[RatedAnswer], *, seed: int, level: float
) -> TaskAgreement:
    """Return how far annotators agree on these answers, each item once whosever answer it shows."""
    items = {row.item: row for row in rated if row.task == task and row.ratings}
    names = sorted({name for row in items.values() for name in row.ratings})
    ordered = [items[item] for item in sorted(items)]
    codes_NR = rating_codes(ordered, names, spec)
    categories = len(spec.ratings)
    sample_N = cluster_codes([row.id for row in ordered])

    def of(name: str, stats_MK: Array, from_sums: FromSums, sample_M: Codes) -> Agreement:
        rng = np.random.default_rng(derived_seed(seed, "agreement", task, name))
        sums_UK = np.zeros((int(sample_M.max(initial=-1)) + 1, stats_MK.shape[1]))
        np.add.at(sums_UK, sample_M, stats_MK)
        sums_UK = sums_UK[np.bincount(sample_M, minlength=len(sums_UK)) > 0]
        found = replace(estimated(sums_UK, from_sums, level, rng), units=len(stats_MK))
        return or_worst(found, sums_UK, from_sums, level)

    pairs = []
    for one, two in combinations(range(len(names)), 2):
        first_N, second_N = codes_NR[:, one], codes_NR[:, two]
        stats_MK = confusion_stats(first_N, second_N, categories)
        if len(stats_MK):
            sample_M = sample_N[(first_N >= 0) & (second_N >= 0)]
            both = (names[one], names[two])
            kappa = of("\n".join(("kappa", *both)), stats_MK, cohen_kappa, sample_M)
            same = of("\n".join(("same", *both)), stats_MK, observed_agreement, sample_M)
            pairs.append(PairAgreement(both, kappa, same))
    stats_MK = coincidence_stats(codes_NR, categories)
    sample_M = sample_N[(codes_NR >= 0).sum(axis=1) > 1]
    return TaskAgreement(
        task=task,
        measurement=measurement_of(spec),
        items=len(items),
        annotators=tuple(names),
        alpha=of("alpha", stats_MK, alpha_of(spec), sample_M),
        same=of("alike", stats_MK, observed_agreement, sample_M),
        pairs=tuple(pairs),
    )


def rating_codes(rows: Sequence[RatedAnswer], names: Sequence[str], spec: ReviewSpec) -> Codes:
    """Return (N, R): each annotator's rating of each answer by its place among the ratings, −1 for none."""
    codes_NR = np.full((len(rows), len(names)), -1, dtype=np.intp)
    for n, row in enumerate(rows):
        for r, name in enumerate(names):
            if name in row.ratings:
                codes_NR[n, r] = spec.ratings.index(row.ratings[name])
    return codes_NR


def measurement_of(spec: ReviewSpec) -> Measurement:
    """Return how ratings are read: scales are ordinal, labels nominal."""
    return "nominal" if spec.labels is not None else "ordinal"


def alpha_of(spec: ReviewSpec) -> FromSums:
    """Return Krippendorff's alpha for these ratings."""
    return krippendorff_alpha(measurement_of(spec), range(len(spec.ratings)))
