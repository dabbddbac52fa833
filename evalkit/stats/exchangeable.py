"""Units whose group labels can be exchanged, or which can be resampled within groups, for one measure or several.

Theory. Samples that stand alone are units of their own, one set of them for each measure. Samples in clusters are
joined into units (``arrangements``), and all measures share one set: a cluster carries its samples of every measure
along. Both exchange and resampling then yield each measure's number for every group and draw, from sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evalkit.stats.arrangements import (
    Kinds,
    drawn_tables,
    every_table,
    exchanged_labels,
    kinds_of,
    random_blocks,
    strata_of,
    sums_by,
)
from evalkit.stats.gaps import Form, spread
from evalkit.stats.intervals import Array, Codes
from evalkit.stats.resampling import FromSums, Weights, resample_weights


@dataclass(frozen=True, slots=True)
class Exchangeable:
    """U units whose labels of G groups are exchanged together, and the measures whose samples they hold."""

    labels_U: Codes
    """Each unit's group, as observed."""
    strata_U: Codes | None
    """None where every unit is one sample."""
    sums: tuple[Array, ...]
    """Of each measure the units' sums (U, K)."""
    sizes: tuple[Array, ...]
    """Of each measure the units' numbers of samples (U)."""
    from_sums: tuple[FromSums, ...]
    """The measures."""
    kinds: Kinds | None
    """None where there are too many, or units are clusters."""

    @property
    def sizes_G(self) -> Codes:
        """Each group's number of units."""
        return np.bincount(self.labels_U)

    def every_gap(self, form: Form) -> tuple[Array, Array] | None:
        """Return each different gap with its probability; None where arrangements are too many."""
        if self.kinds is None:
            return None
        found = every_table(np.bincount(self.kinds.kinds_M), self.sizes_G)
        if found is None:
            return None
        gaps_A = spread(self._of_tables(found[0]), form)
        gaps, place_A = np.unique(gaps_A, return_inverse=True)
        return gaps, np.bincount(place_A, weights=found[1]).astype(np.float64)

    def exchanged(self, draws: int, rng: np.random.Generator) -> list[Array]:
        """Return each measure's values (draws, G), labels exchanged at random."""
        if self.kinds is not None:
            counts_R = np.bincount(self.kinds.kinds_M)
            return [self._of_tables(drawn_tables(counts_R, self.sizes_G, draws, rng))]
        blocks = random_blocks(self.labels_U, rng) if self.strata_U is None else None
        if blocks is not None:
            return self._joined(*blocks).exchanged(draws, rng)
        strata_U = np.zeros_like(self.labels_U) if self.strata_U is None else self.strata_U
        batches = [
            self._of_labels(labels_BU)
            for labels_BU in exchanged_labels(self.labels_U, strata_U, draws, rng)
        ]
        return [np.concatenate(values) for values in zip(*batches, strict=True)]

    def resampled(self, draws: int, rng: np.random.Generator) -> list[Array]:
        """Return each measure's values (draws, G), units resampled within groups."""
        if self.kinds is not None:
            table_RG = np.zeros((len(self.kinds.first_R), len(self.sizes_G)))
            np.add.at(table_RG, (self.kinds.kinds_M, self.labels_U), 1)
            tables = [
                rng.multinomial(int(n), shares_R / n, size=draws)
                for n, shares_R in zip(self.sizes_G, table_RG.T, strict=True)
            ]
            return [self._of_tables(np.stack(tables, axis=-1))]
        weighed = [
            np.concatenate([sums, sizes[:, None]], axis=1)
            for sums, sizes in zip(self.sums, self.sizes, strict=True)
        ]
        groups: list[list[Array]] = []
        for group in range(len(self.sizes_G)):
            members = np.flatnonzero(self.labels_U == group)
            totals = [
                [weights @ columns[members] for columns in weighed]
                for weights in _as_floats(resample_weights(len(members), draws, rng))
            ]
            groups.append([np.concatenate(batches) for batches in zip(*totals, strict=True)])
        stacked = [np.stack(columns, axis=1) for columns in zip(*groups, strict=True)]
        return [
            _values(f, x[..., :-1], x[..., -1])
            for f, x in zip(self.from_sums, stacked, strict=True)
        ]

    def _joined(self, unit_M: Codes, labels_U: Codes, strata_U: Codes) -> Exchangeable:
        """Return the same samples in larger units."""
        count = len(labels_U)
        sums = (sums_by(unit_M, sums_MK, count) for sums_MK in self.sums)
        sizes = (sums_by(unit_M, n_M[:, None], count)[:, 0] for n_M in self.sizes)
        return replace(
            self, labels_U=labels_U, strata_U=strata_U, sums=tuple(sums), sizes=tuple(sizes)
        )

    def _of_tables(self, tables_BRG: Codes) -> Array:
        assert self.kinds is not None, "tables are of kinds"
        stats_RK = self.sums[0][self.kinds.first_R]
        sums_BGK = np.swapaxes(tables_BRG, 1, 2).astype(np.float64) @ stats_RK
        sizes_BG = np.asarray(tables_BRG.sum(axis=1), dtype=np.float64)
        return _values(self.from_sums[0], sums_BGK, sizes_BG)

    def _of_labels(self, labels_BU: Codes) -> list[Array]:
        rows, count = len(labels_BU), len(self.sizes_G)
        flat = (labels_BU + count * np.arange(rows)[:, None]).ravel()

        def totals_BG(values_U: Array) -> Array:
            weights = np.broadcast_to(values_U, labels_BU.shape).ravel()
            summed = np.bincount(flat, weights=weights, minlength=rows * count)
            return summed.reshape(rows, count).astype(np.float64)

        return [
            _values(
                f, np.stack([totals_BG(column) for column in sums.T], axis=-1), totals_BG(sizes)
            )
            for f, sums, sizes in zip(self.from_sums, self.sums, self.sizes, strict=True)
        ]


def _as_floats(batches: Iterator[Weights]) -> Iterator[Array]:
    for batch in batches:
        yield batch.astype(np.float64)


def _values(from_sums: Callable[[Array, Array], Array], sums: Array, sizes: Array) -> Array:
    with np.errstate(all="ignore"):  # a group without samples has no value
        return np.where(sizes > 0, from_sums(sums, sizes), np.nan)


def exchangeable(
    stats: Sequence[Array],
    codes: Sequence[Codes],
    from_sums: Sequence[FromSums],
    clusters: Sequence[Codes | None],
) -> list[Exchangeable]:
    """Return the units of one or more measures: statistics (M, K), groups (M) and clusters (M) of each one's samples.

    Clusters are numbered alike in all measures; measures that are joined all have them or none has.
    """
    named = [found for found in clusters if found is not None]
    together = np.concatenate(named) if named else np.zeros(0, dtype=np.intp)
    if len(np.unique(together)) == len(together):  # none, or each sample is one of its own
        return [
            Exchangeable(
                codes_M, None, (stats_MK,), (np.ones(len(codes_M)),), (f,), kinds_of(stats_MK)
            )
            for stats_MK, codes_M, f in zip(stats, codes, from_sums, strict=True)
        ]
    assert len(named) == len(clusters), "measures that are joined all have clusters or none has"
    groups = 1 + max(int(codes_M.max()) for codes_M in codes)
    unit, labels_U, strata_U = strata_of(together, np.concatenate(codes), groups)
    units, count = (
        np.split(unit, np.cumsum([len(codes_M) for codes_M in codes])[:-1]),
        len(labels_U),
    )
    sums = (sums_by(unit_M, stats_MK, count) for unit_M, stats_MK in zip(units, stats, strict=True))
    sizes = (np.bincount(unit_M, minlength=count).astype(np.float64) for unit_M in units)
    return [Exchangeable(labels_U, strata_U, tuple(sums), tuple(sizes), tuple(from_sums), None)]
