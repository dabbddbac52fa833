"""Ways in which groups' labels could have fallen on samples: counted where they are few, drawn where they are many.

Theory. If groups make no difference, any exchange of labels between samples was as likely as the one seen. Where the M
samples are of R kinds only (zeros and ones: R = 2), all that an arrangement shows is the table of how many samples of
each kind each group has; its margins are fixed, so its cells are multivariate hypergeometric. Tables are drawn without
touching the samples, and counted one by one where there are few. Everything else exchanges the labels themselves.

Labels move within strata. A cluster that answers for one group only is one unit, and such units exchange their labels
among themselves: clusters, not samples, were assigned to groups. A cluster that answers for several groups is a stratum
of its own, whose units are its cells (the samples of one group): its cells exchange labels, so that what the cluster
has in common stays where it is, and what the samples of one cell have in common as well.

Many samples are first put into blocks of equal size, at random within each group. Sums over blocks are exchangeable
where samples are, and there are fewer of them.

**Source**: Good 2005, Permutation, Parametric and Bootstrap Tests of Hypotheses, chapters 3 and 6 (exchangeable units,
strata); Winkler et al. 2015, NeuroImage 123, 253 (exchange of whole blocks and within blocks); Agresti 1992, Statist.
Sci. 7, 131 (tables with fixed margins).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from evalkit.stats.intervals import Array, Codes

MOST_KINDS = 16
"""With more kinds of samples, labels are exchanged rather than tables drawn."""
MOST_TABLES = 50_000
"""Most tables that are counted one by one."""
MANY_UNITS = 4_000
"""Above this, samples that stand alone are put into random blocks of equal size within their groups."""
FEWEST_BLOCKS = 50
"""Least number of blocks of each group."""
EXCHANGED_CELLS = 1_000_000
"""Labels that are exchanged at a time (8 MB)."""


@dataclass(frozen=True, slots=True)
class Kinds:
    """M units of R kinds; units of a kind have the same statistics."""

    first_R: Codes
    """A unit of each kind."""
    kinds_M: Codes
    """Each unit's kind."""


def kinds_of(stats_MK: Array, most: int = MOST_KINDS) -> Kinds | None:
    """Return the kinds of M ≥ 1 units; None where there are more than ``most``."""
    kinds_M = np.zeros(len(stats_MK), dtype=np.intp)
    for values_M in stats_MK.T:
        distinct = np.unique(values_M)
        if len(distinct) > most:
            return None
        finer_M: Codes = kinds_M * len(distinct) + np.searchsorted(distinct, values_M)
        present = np.bincount(finer_M) > 0
        if np.count_nonzero(present) > most:
            return None
        kinds_M = (np.cumsum(present) - 1)[finer_M]
    first_R = np.full(int(kinds_M.max()) + 1, -1, dtype=np.intp)
    first_R[kinds_M[::-1]] = np.arange(len(kinds_M))[::-1]
    return Kinds(first_R, kinds_M)


def drawn_tables(counts_R: Codes, sizes_G: Codes, draws: int, rng: np.random.Generator) -> Codes:
    """Return tables (draws, R, G) of how many samples of each kind each group has, all labels exchanged at random."""
    left_BG = np.tile(sizes_G, (draws, 1))
    tables_BRG = np.zeros((draws, len(counts_R), len(sizes_G)), dtype=np.intp)
    last = int(np.argmax(counts_R))  # what is left over; the rarer a kind, the faster it is drawn
    for kind in [r for r in range(len(counts_R)) if r != last]:
        wanted_B = np.full(draws, counts_R[kind])
        for group in range(len(sizes_G) - 1):
            others_B = left_BG[:, group + 1 :].sum(axis=1)
            drawn_B = rng.hypergeometric(left_BG[:, group], others_B, wanted_B)
            tables_BRG[:, kind, group] = drawn_B
            wanted_B = wanted_B - drawn_B
        tables_BRG[:, kind, -1] = wanted_B
        left_BG -= tables_BRG[:, kind]
    tables_BRG[:, last] = left_BG
    return tables_BRG


def every_table(counts_R: Codes, sizes_G: Codes) -> tuple[Codes, Array] | None:
    """Return every table (A, R, G) of one or two kinds with its probability (A); None for more kinds or many tables.

    The probability of x₁ … x_G samples of the first kind is Π C(n_g, x_g) / C(M, Σ x_g).
    """
    if len(counts_R) == 1:
        return sizes_G[None, None, :].astype(np.intp), np.ones(1)
    wanted = int(counts_R[0])
    if (
        len(counts_R) > 2
        or prod(min(int(n), wanted) + 1 for n in np.sort(sizes_G)[:-1]) > MOST_TABLES
    ):
        return None
    from scipy.special import gammaln

    order_G = np.argsort(sizes_G, kind="stable")  # the largest group takes what is left
    found_AG = np.zeros((1, 0), dtype=np.intp)
    for n in sizes_G[order_G][:-1]:
        steps = np.arange(min(int(n), wanted) + 1)
        rows = np.repeat(found_AG, len(steps), axis=0)
        found_AG = np.column_stack([rows, np.tile(steps, len(found_AG))])
        found_AG = found_AG[found_AG.sum(axis=1) <= wanted]
    rest_A = wanted - found_AG.sum(axis=1)
    sorted_AG = np.column_stack([found_AG, rest_A])[rest_A <= sizes_G[order_G][-1]]
    first_AG = np.empty_like(sorted_AG)
    first_AG[:, order_G] = sorted_AG

    def log_choose(n: Array | Codes | int, k: Array | Codes | int) -> Array:
        return np.asarray(
            gammaln(np.add(n, 1)) - gammaln(np.add(k, 1)) - gammaln(np.subtract(n, k) + 1)
        )

    log_A = log_choose(sizes_G, first_AG).sum(axis=1) - log_choose(int(sizes_G.sum()), wanted)
    odds_A = np.exp(log_A)
    return np.stack([first_AG, sizes_G - first_AG], axis=1), odds_A / odds_A.sum()


def exchanged_labels(
    labels_U: Codes, strata_U: Codes, draws: int, rng: np.random.Generator
) -> Iterator[Codes]:
    """Yield labels (rows, U) exchanged at random within strata, batch by batch; strata must not fall along U.

    Where more strata than the first have several units, each label gets a random number of 32 bits and is sorted by it
    within its own.
    """
    assert labels_U.max(initial=0) < 1 << 10 and strata_U.max(initial=0) < 1 << 21
    assert (np.diff(strata_U) >= 0).all(), "units of a stratum stand together"
    first = int(np.searchsorted(strata_U, strata_U[0], side="right"))
    only_first = bool((np.diff(strata_U[first:]) > 0).all())
    fixed_U = (strata_U.astype(np.uint64) << np.uint64(42)) | labels_U.astype(np.uint64)
    rows = max(1, EXCHANGED_CELLS // len(labels_U))
    for start in range(0, draws, rows):
        shape = (min(rows, draws - start), len(labels_U))
        if only_first:
            labels_BU = np.tile(labels_U.astype(np.int16), (shape[0], 1))
            rng.permuted(labels_BU[:, :first], axis=1, out=labels_BU[:, :first])
            yield labels_BU.astype(np.intp)
            continue
        keys = rng.integers(1 << 32, size=shape, dtype=np.uint32).astype(np.uint64)
        keys <<= np.uint64(10)
        keys |= fixed_U
        keys.sort(axis=1)
        yield (keys & np.uint64(1023)).astype(np.intp)


def random_blocks(labels_M: Codes, rng: np.random.Generator) -> tuple[Codes, Codes, Codes] | None:
    """Return blocks of equal size, drawn within groups: each sample's block, each block's group and its stratum (U).

    Stratum 0 holds the blocks; what a group has left over is a block of a stratum of its own, which cannot move. None
    where there are too few samples for blocks to be worth while, or a group would have few of them.
    """
    sizes_G = np.bincount(labels_M)
    size = min(-(-len(labels_M) // MANY_UNITS), int(sizes_G.min()) // FEWEST_BLOCKS)
    if size < 2:
        return None
    shuffled_M = rng.permutation(len(labels_M))
    order_M = shuffled_M[np.argsort(labels_M[shuffled_M], kind="stable")]
    starts_G = np.cumsum(sizes_G) - sizes_G
    group_M = labels_M[order_M]
    place_M = (np.arange(len(labels_M)) - starts_G[group_M]) // size
    blocks_G = sizes_G // size
    first_G = np.cumsum(blocks_G) - blocks_G
    total = int(blocks_G.sum())
    block_M = np.empty(len(labels_M), dtype=np.intp)
    block_M[order_M] = np.where(
        place_M < blocks_G[group_M], first_G[group_M] + place_M, total + group_M
    )
    groups = np.arange(len(sizes_G))
    labels_U = np.concatenate([np.repeat(groups, blocks_G), groups])
    return block_M, labels_U, np.concatenate([np.zeros(total, dtype=np.intp), groups + 1])


def strata_of(clusters_M: Codes, codes_M: Codes, groups: int) -> tuple[Codes, Codes, Codes]:
    """Return the units of M samples in clusters: each sample's unit, each unit's group (U) and its stratum (U, rising).

    A unit is the samples that a cluster has of a group. Stratum 0 holds the clusters of one group only.
    """
    cells, unit_M = np.unique(clusters_M.astype(np.int64) * groups + codes_M, return_inverse=True)
    cluster_U = cells // groups
    _, position_U, count = np.unique(cluster_U, return_inverse=True, return_counts=True)
    mixed_C = count > 1
    stratum_U = np.where(mixed_C, np.cumsum(mixed_C), 0)[position_U]
    order_U = np.argsort(stratum_U, kind="stable")
    place_U = np.empty(len(order_U), dtype=np.intp)
    place_U[order_U] = np.arange(len(order_U))
    label_U = (cells % groups)[order_U].astype(np.intp)
    return place_U[unit_M], label_U, stratum_U[order_U].astype(np.intp)


def sums_by(codes_M: Sequence[int] | Codes, stats_MK: Array, count: int) -> Array:
    """Return the sums of statistics (count, K) of the samples of each code."""
    return np.stack(
        [np.bincount(codes_M, weights=values, minlength=count) for values in stats_MK.T], axis=-1
    )
