"""The mean of what people would say of all samples, some of which they rated and all of which a judge scored.

PPI++ (``stats.corrected``) with three things that its formula leaves out. What was drawn and not rated is taken at both
of its ends, and the interval spans what comes of either. Under clusters the standard error is CR1 over clusters,
labelled samples and others together, on t(labelled clusters − 1), and never less than without. Few labels hide what the
judge gets wrong (below).

**Source**: Angelopoulos et al. 2023, arXiv 2311.01453 (PPI++); Cameron & Miller 2015, J. Hum. Resour. 50, 317 (CR1);
Tango 1998, Stat. Med. 17, 891; Zou & Donner 2008, Stat. Med. 27, 1693 (distances of two intervals squared and added).

**Deviation**: where fewer than 10 labels tell the judge from people, or vary at all, the estimated error is next to 0
though some per cent of the others may differ: a judge that calls everything good, where people call 97 % so, would be
covered in 80 % instead of 95 % of draws of 100 labels. The distance to the end of Tango's interval of how many labels
lie above and below the rest, times the farthest such label (1 where there is none), is squared and added to half the
width.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Final

import numpy as np

from evalkit.records.scorecard import Interval
from evalkit.stats.corrected import Corrected, judged_mean
from evalkit.stats.discordant import tango_interval
from evalkit.stats.intervals import FEW_EVENTS, Array, Codes, t_quantile
from evalkit.stats.resampling import FEWEST_UNITS

METHOD: Final = "ppi++"
"""The method of its intervals."""


@dataclass(frozen=True)
class LabelledMean:
    """J judged samples of one model, or pairs of two, and what people say of some of them."""

    judged_J: Array
    """The judge's score, or difference, of each."""
    labels_J: Array
    """People's; NaN where it is not known."""
    ends_J2: Array
    """Least and greatest that people may have said of what was drawn and not rated; NaN for all others."""
    clusters_J: Codes | None
    """The cluster of each."""
    bounds: tuple[float, float]
    """Between which all of it lies."""

    @property
    def rated(self) -> int:
        """How many have a label."""
        return int(np.count_nonzero(~np.isnan(self.labels_J)))

    @property
    def unrated(self) -> int:
        """How many were drawn and have none."""
        return int(np.count_nonzero(~np.isnan(self.ends_J2[:, 0])))

    def taken_as(self, end: int) -> LabelledMean:
        """Return this with what was not rated at one end: 0 the least, 1 the greatest."""
        filled_J = np.where(np.isnan(self.labels_J), self.ends_J2[:, end], self.labels_J)
        ends_J2 = np.full_like(self.ends_J2, np.nan)
        return LabelledMean(self.judged_J, filled_J, ends_J2, self.clusters_J, self.bounds)

    def mean(self, level: float, weight: float | None = None) -> Corrected | None:
        """Return what people would have said of all; None with fewer than 2 labels."""
        rated_J = ~np.isnan(self.labels_J)
        ours, others = self.judged_J[rated_J], self.judged_J[~rated_J]
        if not len(others):  # people have rated them all: nothing is left for the judge to tell
            others, weight = ours, 0.0
        return judged_mean(self.labels_J[rated_J], ours, others, level, weight=weight)

    def interval(self, level: float) -> Interval | None:
        """Return the interval around the mean, whatever those say who did not; None where it cannot be told."""
        cases = [self, self.taken_as(0), self.taken_as(1)] if self.unrated else [self]
        found = [case.own_interval(level) for case in cases]
        if any(each is None for each in found):
            return None
        held = [each for each in found if each is not None]
        least, greatest = self.bounds
        low, high = min(each.low for each in held), max(each.high for each in held)
        return Interval(
            low=min(max(low, least), greatest),
            high=max(min(high, greatest), least),
            level=level,
            method=METHOD,
        )

    def own_interval(self, level: float) -> Interval | None:
        """Return the interval of those that were rated."""
        found = self.mean(level)
        if found is None or self.rated < FEWEST_UNITS:
            return None
        error, df, design = found.error, self.rated - 1, 1.0
        if self.clusters_J is not None:
            clustered = self._clustered(found)
            if clustered is None:
                return None
            error, df = max(error, clustered[0]), clustered[1]
            design = sqrt(self.rated / (df + 1))
        half = t_quantile(level, df) * error
        below, above = self._unseen(found.weight, level)
        return Interval(
            low=found.value - sqrt(half**2 + (design * below) ** 2),
            high=found.value + sqrt(half**2 + (design * above) ** 2),
            level=level,
            method=METHOD,
        )

    def _clustered(self, found: Corrected) -> tuple[float, int] | None:
        """Return the CR1 standard error and its degrees of freedom; None for fewer than two labelled clusters."""
        assert self.clusters_J is not None, "there are clusters"
        rated_J = ~np.isnan(self.labels_J)
        groups = len(np.unique(self.clusters_J[rated_J]))
        if groups < 2:
            return None
        moved_J = np.zeros(len(self.judged_J))
        rest_N = self.labels_J[rated_J] - found.weight * self.judged_J[rated_J]
        moved_J[rated_J] = (rest_N - rest_N.mean()) / len(rest_N)
        others_M = found.weight * self.judged_J[~rated_J]
        if len(others_M):
            moved_J[~rated_J] = (others_M - others_M.mean()) / len(others_M)
        sums_C = np.bincount(self.clusters_J, weights=moved_J)
        return sqrt(groups / (groups - 1) * float(sums_C @ sums_C)), groups - 1

    def _unseen(self, weight: float, level: float) -> tuple[float, float]:
        """Return how far below and above the mean may lie by what too few labels show; 0 where they show enough."""
        rated_J = ~np.isnan(self.labels_J)
        labels_N, judged_N = self.labels_J[rated_J], self.judged_J[rated_J]
        below, above = 0.0, 0.0
        for apart_N in (labels_N - judged_N, labels_N - weight * judged_N):
            values, counts = np.unique(np.round(apart_N, 12), return_counts=True)
            off_N = apart_N - values[int(counts.argmax())]
            gained, lost = int((off_N > 1e-9).sum()), int((off_N < -1e-9).sum())
            if gained + lost >= FEW_EVENTS:
                continue
            largest = float(np.abs(off_N).max()) if gained + lost else 1.0
            held = tango_interval(gained, lost, len(off_N), level)
            centre = float(off_N.mean())
            below = max(below, centre - largest * held.low)
            above = max(above, largest * held.high - centre)
        return below, above
