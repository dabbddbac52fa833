"""How often the limits of gaps between groups are wrong, and which gaps they find: tables by simulation.

    python benchmarks/gap_error_rates.py
    python benchmarks/gap_error_rates.py --runs 4000 --only alarms power

Every run draws samples, and asks what evalkit asks: each group's Wilson interval (CR1 with t under clusters, Tango's of
paired differences), the limits of the gap at 90 % (5 % for either end), and the permutation test with 2,000 draws.

chance    the gap that equal groups show, its expectation by permutation, and the gap with its bias taken off
alarms    equal groups: share of runs with a lower end above 0
power     one group is worse than the others: share of runs with a lower end above 0
ends      unequal groups: share of runs in which the true gap lies below the lower end, and above the upper end
change    a gap grows by exactly 5 points: share of runs in which either end is on the wrong side
"""

from __future__ import annotations

import argparse
import time
from functools import lru_cache
from itertools import groupby, product

import numpy as np

from evalkit.stats.discordant import tango_interval
from evalkit.stats.gaps import Part, gap_change_interval, gap_interval, gap_value
from evalkit.stats.intervals import cluster_interval, wilson_interval
from evalkit.stats.permutation import Grouped, corrected_gap, gap_under_equality, mean_from_sums

LEVEL = 0.90
TAIL = (1 - LEVEL) / 2
RUNS = 2_000
DRAWS = 2_000
SEED = 20_261
DIFFERENCE = {"form": "difference", "joined": "worst"}


def drawing(seed, rates_G, sizes_G):
    """Return a generator of the case's own, so that leaving out a case does not change another."""
    parts = [*(round(1_000 * rate) for rate in rates_G), *(int(n) for n in sizes_G)]
    return np.random.default_rng([seed, *parts])


@lru_cache(maxsize=1_000_000)
def wilson(hits, n, level):
    found = wilson_interval(hits, n, level)
    return found.low, found.high


@lru_cache(maxsize=1_000_000)
def tango(gained, lost, n, level):
    found = tango_interval(gained, lost, n, level)
    return found.low, found.high


def rates(hits_G, sizes_G):
    """Groups of zeros and ones, each with Wilson's interval."""
    groups = list(zip(hits_G.tolist(), sizes_G.tolist(), strict=True))
    return Part(hits_G / sizes_G, lambda level: np.array([wilson(*g, level) for g in groups]))


def samples(hits_G, sizes_G):
    """The zeros and ones themselves."""
    pairs = np.column_stack([hits_G, sizes_G - hits_G]).ravel()
    values_M = np.repeat(np.tile([1.0, 0.0], len(sizes_G)), pairs)
    return Grouped(values_M[:, None], np.repeat(np.arange(len(sizes_G)), sizes_G), mean_from_sums)


def lower_end(part, grouped, rng, draws=DRAWS):
    """Return the lower end; the permutation test is asked only where the limits of pairs are above 0."""
    low, _ = gap_interval([part], LEVEL, p_value=None, **DIFFERENCE)
    if low <= 0:
        return low
    gap = gap_value([part.values_G], **DIFFERENCE)
    null = gap_under_equality([grouped], gap, rng=rng, draws=draws, **DIFFERENCE)
    return gap_interval([part], LEVEL, p_value=null.p_value, **DIFFERENCE)[0]


def share_found(rates_G, sizes_G, runs, seed, draws=DRAWS):
    """Return the share of runs in which the lower end of the gap is above 0."""
    rng = drawing(seed, rates_G, sizes_G)
    sizes_G = np.asarray(sizes_G)
    found = 0
    for _ in range(runs):
        hits_G = rng.binomial(sizes_G, rates_G)
        found += lower_end(rates(hits_G, sizes_G), samples(hits_G, sizes_G), rng, draws) > 0
    return found / runs


def share_refuted(rates_G, sizes_G, runs, seed, draws=DRAWS):
    """Return the share of runs in which the permutation test alone refutes that groups are equal."""
    rng = drawing(seed, rates_G, sizes_G)
    sizes_G = np.asarray(sizes_G)
    found = 0
    for _ in range(runs):
        hits_G = rng.binomial(sizes_G, rates_G)
        gap = float(np.ptp(hits_G / sizes_G))
        null = gap_under_equality(
            [samples(hits_G, sizes_G)], gap, rng=rng, draws=draws, **DIFFERENCE
        )
        found += null.p_value <= TAIL
    return found / runs


def by_chance(rates_G, sizes_G, runs, seed):
    """Return mean and 95th percentile of the gap, and means of its expectation and of the corrected gap."""
    rng = drawing(seed, rates_G, sizes_G)
    sizes_G = np.asarray(sizes_G)
    gaps, expected, corrected = [], [], []
    for run in range(runs):
        hits_G = rng.binomial(sizes_G, rates_G)
        gaps.append(float(np.ptp(hits_G / sizes_G)))
        if run < runs // 10:
            grouped = [samples(hits_G, sizes_G)]
            null = gap_under_equality(grouped, gaps[-1], rng=rng, draws=500, **DIFFERENCE)
            expected.append(null.expected)
            corrected.append(corrected_gap(grouped, gaps[-1], rng=rng, draws=500, **DIFFERENCE))
    return np.mean(gaps), np.percentile(gaps, 95), np.mean(expected), np.mean(corrected)


def clustered(clusters_G, per_cluster_G, rate, correlation, kind, rng):
    """Draw equal groups in clusters: ``whole`` clusters of one group, or ``mixed`` ones that hold every group.

    A cluster's rate is beta-distributed with the intra-cluster correlation given; in half of the mixed clusters each
    group has a rate of its own (its samples still go together).
    """
    shape = rate * (1 - correlation) / correlation, (1 - rate) * (1 - correlation) / correlation
    values, codes, names, start = [], [], [], 0
    common = rng.beta(*shape, clusters_G[0])
    shared = rng.random(clusters_G[0]) < 0.5
    for group, (clusters, size) in enumerate(zip(clusters_G, per_cluster_G, strict=True)):
        own = rng.beta(*shape, clusters)
        chance = np.where(shared, common, own) if kind == "mixed" else own
        values.append((rng.random((clusters, size)) < chance[:, None]).ravel().astype(float))
        names.append(np.repeat(np.arange(clusters), size) + start)
        codes.append(np.full(clusters * size, group))
        start += clusters if kind == "whole" else 0

    def limits(level):
        found = [
            cluster_interval(v, c - c[0], level, (0.0, 1.0))
            for v, c in zip(values, names, strict=True)
        ]
        return np.array([[i.low, i.high] for i in found])

    stats_M1 = np.concatenate(values)[:, None]
    grouped = Grouped(stats_M1, np.concatenate(codes), mean_from_sums, np.concatenate(names))
    return Part(np.array([v.mean() for v in values]), limits), grouped


def share_found_clustered(
    clusters_G, per_cluster_G, rate, correlation, kind, runs, seed, draws=500
):
    """Return the share of runs in which the lower end of the gap of equal groups is above 0."""
    rng = drawing(seed, [rate, correlation], [*clusters_G, *per_cluster_G])
    found = 0
    for _ in range(runs):
        part, grouped = clustered(clusters_G, per_cluster_G, rate, correlation, kind, rng)
        found += lower_end(part, grouped, rng, draws) > 0
    return found / runs


def wrong_ends(rates_G, sizes_G, runs, seed):
    """Return the shares of runs with the true gap below the lower end and above the upper end, and their mean width."""
    rng = drawing(seed, rates_G, sizes_G)
    sizes_G, true = np.asarray(sizes_G), float(np.ptp(rates_G))
    ends = []
    for _ in range(runs):
        part = rates(rng.binomial(sizes_G, rates_G), sizes_G)
        ends.append(gap_interval([part], LEVEL, p_value=None, **DIFFERENCE))
    low, high = np.array(ends).T
    return np.mean(low > true + 1e-9), np.mean(high < true - 1e-9), np.mean(high - low)


def wrong_changes(baseline_G, lost_G, gained_G, sizes_G, runs, seed):
    """Return the true change of a gap, and the shares of runs with it below the lower and above the upper end.

    Of each group's samples ``gained`` are right only for the candidate and ``lost`` only for the baseline.
    """
    rng = drawing(seed, baseline_G, sizes_G)
    baseline_G, lost_G, gained_G = (
        np.broadcast_to(np.asarray(x, float), (len(sizes_G),))
        for x in (baseline_G, lost_G, gained_G)
    )
    sizes_G = np.asarray(sizes_G)
    cells = np.stack([baseline_G - lost_G, lost_G, gained_G, 1 - baseline_G - gained_G], axis=-1)
    true = float(np.ptp(baseline_G - lost_G + gained_G) - np.ptp(baseline_G))
    ends = []
    for _ in range(runs):
        both, lost, gained, _neither = rng.multinomial(sizes_G, cells).T
        counts = list(zip(gained.tolist(), lost.tolist(), sizes_G.tolist(), strict=True))
        change = Part(
            (gained - lost) / sizes_G,
            lambda level, counts=counts: np.array([tango(*c, level) for c in counts]),
        )
        models = [rates(both + gained, sizes_G)], [rates(both + lost, sizes_G)]
        ends.append(gap_change_interval(*models, [change], LEVEL, joined="worst"))
    low, high = np.array(ends).T
    return true, np.mean(low > true + 1e-9), np.mean(high < true - 1e-9), np.mean(high)


def worse(groups, rate, by):
    """Return rates that are all alike but the first, which is lower."""
    return np.array([rate - by] + [rate] * (groups - 1))


def listed(numbers):
    """Return numbers in words, equal neighbours together: ``7 × 0.8, 0.6``."""
    runs = [(x, len(list(found))) for x, found in groupby(numbers)]
    return ", ".join(f"{x}" if count == 1 else f"{count} × {x}" for x, count in runs)


def table(title, head, rows):
    print(f"\n{title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        cells = (f"{x:.3f}" if isinstance(x, float) else str(x) for x in row)
        print(f"| {' | '.join(cells)} |", flush=True)


def chance(runs, seed):
    def row(groups, n, rate):
        return (
            groups,
            n,
            f"{rate:.0%}",
            *map(float, by_chance([rate] * groups, [n] * groups, runs, seed)),
        )

    cases = [
        (2, 200, 0.8),
        (4, 133, 0.8),
        (8, 50, 0.8),
        (8, 200, 0.8),
        (8, 1000, 0.8),
        (12, 50, 0.8),
    ]
    table(
        "The gap that equal groups show",
        (
            "groups",
            "samples each",
            "rate",
            "mean gap",
            "95th percentile",
            "expected by permutation",
            "corrected",
        ),
        (row(*case) for case in cases),
    )


def alarms(runs, seed):
    levels = (0.05, 0.2, 0.5, 0.8, 0.95)
    table(
        f"Equal groups, share of {runs:,} runs with a lower end above 0 (at most {TAIL:.3f}), by the groups' rate",
        ("groups", "samples each", *(f"{rate:.0%}" for rate in levels)),
        (
            (
                groups,
                n,
                *(share_found([rate] * groups, [n] * groups, runs, seed) for rate in levels),
            )
            for groups, n in product((2, 4, 8, 12), (20, 50, 200, 1000))
        ),
    )
    sizes = [
        (20, 1000),
        (1000, 50, 50),
        (20, 20, 500, 500),
        (20, 40, 80, 160, 320, 640, 1000, 1000),
    ]
    table(
        "The same with unequal sizes",
        ("sizes", *(f"{rate:.0%}" for rate in levels)),
        ((listed(n), *(share_found([r] * len(n), n, runs, seed) for r in levels)) for n in sizes),
    )
    cases = [
        ("whole", (20, 20), (10, 10)),
        ("whole", (10,) * 4, (10,) * 4),
        ("whole", (10,) * 8, (5,) * 8),
        ("whole", (8, 40), (50, 5)),
        ("whole", (8, 40), (5, 50)),
        ("whole", (5, 5, 40, 40), (20, 20, 2, 2)),
        ("whole", (5, 5, 40, 40), (2, 2, 20, 20)),
        ("mixed", (20, 20), (5, 5)),
        ("mixed", (15,) * 4, (3,) * 4),
    ]
    table(
        f"The same in clusters (intra-cluster correlation .3), {max(runs // 2, 1):,} runs, by rate",
        ("clusters", "of each group", "samples in each", "50%", "80%"),
        (
            (
                kind,
                listed(c),
                listed(m),
                *(
                    share_found_clustered(c, m, rate, 0.3, kind, max(runs // 2, 1), seed)
                    for rate in (0.5, 0.8)
                ),
            )
            for kind, c, m in cases
        ),
    )


def power(runs, seed):
    gaps = (0.05, 0.10, 0.20, 0.30)
    table(
        f"One group is worse, all others at 80 %: share of {runs // 2:,} runs with a lower end above 0, by how much",
        ("groups", "samples each", *(f"{gap * 100:.0f} points" for gap in gaps)),
        (
            (
                groups,
                n,
                *(
                    share_found(worse(groups, 0.8, by), [n] * groups, runs // 2, seed)
                    for by in gaps
                ),
            )
            for groups, n in product((2, 4, 8, 12), (50, 100, 200, 500, 1000))
        ),
    )
    eight = [50] * 8
    table(
        f"Eight groups of 50, the permutation test alone, {runs:,} runs",
        ("rates", "share refuted"),
        (
            ("all 80 %", share_refuted([0.8] * 8, eight, runs, seed)),
            ("one 55 %, the others 80 %", share_refuted(worse(8, 0.8, 0.25), eight, runs, seed)),
        ),
    )


def ends(runs, seed):
    cases = [
        ((0.6, 0.8), (20, 20)),
        ((0.6, 0.8), (50, 50)),
        ((0.6, 0.8), (1000, 1000)),
        ((0.95, 0.8), (20, 1000)),
        ((0.95, 0.8), (1000, 20)),
        ((0.05, 0.3), (20, 500)),
        ((0.99, 0.9, 0.95, 0.97), (50, 500, 20, 100)),
        ((0.8, 0.8, 0.8, 0.6), (200,) * 4),
        ((0.8,) * 7 + (0.6,), (50,) * 8),
        (tuple(np.linspace(0.5, 0.9, 12).round(2).tolist()), (100,) * 12),
    ]
    table(
        f"Unequal groups: share of {runs:,} runs with the true gap outside (at most {TAIL:.3f} beyond either end)",
        ("rates", "sizes", "below the lower end", "above the upper end", "mean width"),
        (
            (
                listed(p),
                listed(n),
                *map(float, wrong_ends(p, n, runs, seed)),
            )
            for p, n in cases
        ),
    )


def change(runs, seed):
    table(
        f"A gap grows by exactly 5 points (one group loses them): share of {runs:,} runs with that outside",
        (
            "baseline",
            "samples each",
            "answers that flip besides",
            "below the lower end",
            "above the upper end",
            "mean upper end",
        ),
        (
            (listed(p), n, f"{2 * flips:.1%}", *map(float, found[1:]))
            for p, n, flips in product(
                ((0.8, 0.8), (0.6, 0.8), (0.8,) * 4, (0.6, 0.8, 0.8, 0.8), (0.8,) * 8),
                (50, 200, 1000),
                (0.0, 0.005, 0.05),
            )
            for found in [
                wrong_changes(p, worse(len(p), flips, -0.05), flips, [n] * len(p), runs, seed)
            ]
        ),
    )


TABLES = {"chance": chance, "alarms": alarms, "power": power, "ends": ends, "change": change}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", nargs="+", choices=list(TABLES), default=list(TABLES))
    options = parser.parse_args()
    for name in options.only:
        started = time.perf_counter()
        TABLES[name](options.runs, options.seed)
        print(f"\n(seed {options.seed}, {time.perf_counter() - started:.0f} s)")


if __name__ == "__main__":
    main()
