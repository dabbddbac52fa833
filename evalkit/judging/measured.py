"""What a judge says of labelled items, figure by figure, beside what people say; see ``cards`` for what each means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evalkit.identity import derived_seed
from evalkit.judging.coefficients import agreement, figure, slope, slope_stats
from evalkit.judging.labels import (
    PAIR_CODES,
    LabelledItem,
    categories,
    code_of,
    consensus,
    rating_codes,
)
from evalkit.records.judging import CardFigure, Judgement
from evalkit.records.suite import JudgeSpec
from evalkit.stats.agreement import (
    cohen_kappa,
    coincidence_stats,
    confusion_stats,
    gwet_ac1,
    krippendorff_alpha,
)
from evalkit.stats.intervals import (
    Array,
    clopper_pearson_interval,
    t_interval,
    wilson_interval,
)

FEW_TIES = 30
"""With fewer pairs that people call a tie, the length's slope is taken over all pairs, beside people's label."""


@dataclass(frozen=True, slots=True)
class JudgedItem:
    """A labelled item with what the judge says of it."""

    item: LabelledItem
    """The item."""
    judgements: tuple[Judgement, ...]
    """One per pass; the first is the one that agreement is told by."""


class MeasuredJudge:
    """A judge's codes and people's, with what draws their intervals."""

    def __init__(
        self, spec: JudgeSpec, judged: Sequence[JudgedItem], level: float, seed: int
    ) -> None:
        self.spec, self.judged, self.level, self._seed = spec, judged, level, seed
        self.values = [one.judgements[0].value for one in judged]
        self.read_N = np.array([value is not None for value in self.values], dtype=bool)
        self.codes_N = np.array(
            [-1 if value is None else code_of(spec, value) for value in self.values], dtype=np.intp
        )
        self.people_N = np.array(
            [consensus(spec, list(one.item.ratings.values())) for one in judged], dtype=np.intp
        )

    def _rng(self, name: str) -> np.random.Generator:
        return np.random.default_rng(derived_seed(self._seed, "judge card", name))

    def with_people(self) -> dict[str, CardFigure]:
        """Return how far the judge agrees with people."""
        n, unread = len(self.judged), int((~self.read_N).sum())
        right = int((self.codes_N == self.people_N).sum())
        told = f"{unread:,} without a verdict count as wrong" if unread else ""
        rate = right / n if n else None
        accuracy = CardFigure(
            value=rate, interval=wilson_interval(right, n, self.level), n=n, told=told
        )
        # A verdict that is missing is a category of its own, which no person chooses: it agrees with nobody.
        width = categories(self.spec) + bool(unread)
        codes_N = np.where(self.read_N, self.codes_N, width - 1).astype(np.intp)
        table_NK = confusion_stats(codes_N, self.people_N, width)
        both_NR = np.column_stack([self.codes_N, self.people_N])
        pairs_MK = coincidence_stats(both_NR, categories(self.spec))
        left_out = f"{self._measurement}; without {unread:,} items that have no verdict"
        return {
            "accuracy": accuracy,
            "kappa": agreement(table_NK, cohen_kappa, self.level, self._rng("kappa"), told),
            "ac1": agreement(table_NK, gwet_ac1, self.level, self._rng("ac1"), told),
            "alpha": agreement(
                pairs_MK,
                self._alpha,
                self.level,
                self._rng("alpha"),
                left_out if unread else self._measurement,
            ),
        }

    def people(self) -> dict[str, CardFigure]:
        """Return how far people agree among themselves; nothing where no item has two labels."""
        names, codes_NR = rating_codes([one.item for one in self.judged])
        twice_N = (codes_NR >= 0).sum(axis=1) > 1
        if not twice_N.any():
            return {}
        width = categories(self.spec)
        pairs_MK = coincidence_stats(codes_NR, width)
        if len(names) == 2:
            told = "Cohen's, of two annotators"
            table_MK = confusion_stats(codes_NR[:, 0], codes_NR[:, 1], width)
        else:
            told = f"of any two of {len(names):,} annotators (Fleiss' kappa where all rated all)"
            table_MK = pairs_MK
        rng = self._rng
        return {
            "people_kappa": agreement(table_MK, cohen_kappa, self.level, rng("people kappa"), told),
            "people_alpha": agreement(
                pairs_MK, self._alpha, self.level, rng("people alpha"), self._measurement
            ),
        }

    def orders(self) -> dict[str, CardFigure]:
        """Return what depends on which answer is shown first."""
        read = [one.judgements[0] for one in self.judged if one.judgements[0].value is not None]
        same = sum(judgement.consistent is True for judgement in read)
        first_M = np.array([judgement.first for judgement in read if judgement.first is not None])
        # Both orders of a pair hang together, so a pair counts once, with the mean of its orders.
        differ = len(first_M) > 1 and np.ptp(first_M) > 0
        interval = t_interval(first_M, self.level, (0.0, 1.0)) if differ else None
        return {
            "order_consistency": _share(same, len(read), self.level, "pairs with two verdicts"),
            "first_position": CardFigure(
                value=float(first_M.mean()) if len(first_M) else None,
                interval=interval or wilson_interval(first_M.sum(), len(first_M), self.level),
                n=len(first_M),
                told="share of the decided orders, averaged over pairs",
            ),
        }

    def unread(self) -> CardFigure:
        """Return the share of items without a verdict."""
        n, reasons = (
            len(self.judged),
            Counter(
                one.judgements[0].reason for one in self.judged if one.judgements[0].value is None
            ),
        )
        count = sum(reasons.values())
        told = ", ".join(f"{reason} {times:,}" for reason, times in sorted(reasons.items()))
        interval = clopper_pearson_interval(count, n, self.level)
        return CardFigure(value=count / n if n else None, interval=interval, n=n, told=told)

    def length(self) -> CardFigure:
        """Return what an answer's length is worth to the judge beyond what people see in it.

        Pairs: the slope of the preference on (l₁ − l₂)/(l₁ + l₂) among pairs that people call a tie, or where these
        are few over all pairs, beside people's label. Pointwise: the slope of the judge's score less people's mean, on
        (l − m)/(l + m) with m the median length, beside people's mean: a judge that keeps to the middle of the scale
        differs from people most where they go to its ends, and people go there with length too.
        """
        scale = categories(self.spec) - 1
        pairs = [_lengths(one.item) for one in self.judged]
        lengths_NA = np.array(pairs, dtype=float).reshape(-1, 2)
        values_N = np.array(
            [np.nan if value is None else value for value in self.values], dtype=float
        )
        if self.spec.form == "pointwise":
            means = [float(np.mean(list(one.item.ratings.values()))) for one in self.judged]
            means_N, median = np.array(means, dtype=float) / scale, _median(lengths_NA[:, 0])
            x_N = _apart(lengths_NA[:, 0], np.full(len(lengths_NA), median))
            told = "judge's score less people's on relative length, beside people's"
            return self._slope(x_N, values_N - means_N, means_N, self.read_N, told)
        x_N, people_N = _apart(lengths_NA[:, 0], lengths_NA[:, 1]), self.people_N / scale
        ties_N = self.read_N & (self.people_N == PAIR_CODES["tie"])
        if ties_N.sum() >= FEW_TIES:
            told = "preference on relative length, among pairs that people call a tie"
            return self._slope(x_N, values_N, np.zeros(len(x_N)), ties_N, told)
        told = "preference on relative length, beside people's label: too few of their ties"
        return self._slope(x_N, values_N, people_N, self.read_N, told)

    def _slope(
        self, x_N: Array, y_N: Array, given_N: Array, used_N: np.ndarray, told: str
    ) -> CardFigure:
        stats_MK = slope_stats(x_N[used_N], y_N[used_N], given_N[used_N])
        return figure(stats_MK, slope, self.level, self._rng("length"), told)

    def repeated(self) -> CardFigure:
        """Return the share of items with the same verdict in every pass, among those with any."""
        passes = min((len(one.judgements) for one in self.judged), default=0)
        if passes < 2:
            return CardFigure(value=None, told="each item was asked once")
        same = total = 0
        for one in self.judged:
            codes = [
                None if j.value is None else code_of(self.spec, j.value) for j in one.judgements
            ]
            if any(code is not None for code in codes):
                total += 1
                same += len(set(codes)) == 1
        drawn = self.spec.decoding.temperature > 0 and self.spec.read == "text"
        why = "seeds of their own" if drawn else "greedy: what differs is the engine's noise"
        return _share(same, total, self.level, f"asked {passes} times, {why}")

    def diagnosed(self, least: int) -> dict[str, CardFigure]:
        """Return sensitivity and specificity where codes from ``least`` on pass."""
        good_N, called_N = self.people_N >= least, self.codes_N >= least
        figures = {}
        for name, of_N, right_N in (
            ("sensitivity", good_N & self.read_N, called_N),
            ("specificity", ~good_N & self.read_N, ~called_N),
        ):
            told = f"of items that people call {'good' if name == 'sensitivity' else 'bad'}"
            told += f" (score {'at least' if name == 'sensitivity' else 'below'} "
            told += f"{least + self.spec.scale[0]})"
            figures[name] = _share(int((of_N & right_N).sum()), int(of_N.sum()), self.level, told)
        return figures

    @property
    def _measurement(self) -> str:
        return "nominal" if self.spec.form == "pairwise" else "ordinal"

    def _alpha(self, sums_XK: Array, n_X: Array) -> Array:
        values = range(categories(self.spec))
        nominal = self.spec.form == "pairwise"
        return krippendorff_alpha("nominal" if nominal else "ordinal", values)(sums_XK, n_X)


def _share(count: int, n: int, level: float, told: str) -> CardFigure:
    value = count / n if n else None
    return CardFigure(value=value, interval=wilson_interval(count, n, level), n=n, told=told)


def _lengths(item: LabelledItem) -> tuple[int, int]:
    question = item.question
    return len(question.answers[0]), len(question.others[0]) if question.others else 0


def _median(values_N: Array) -> float:
    return float(np.median(values_N)) if len(values_N) else 0.0


def _apart(ours_N: Array, theirs_N: Array) -> Array:
    """Return (l₁ − l₂)/(l₁ + l₂); 0 where both are empty."""
    both_N = ours_N + theirs_N
    return np.asarray((ours_N - theirs_N) / np.where(both_N > 0, both_N, 1.0))
