"""From tables to estimates."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from evalkit.estimating import estimate_tables
from evalkit.metrics.base import corpus, mean, rate, ratio
from evalkit.scoring import MetricTable
from evalkit.stats.intervals import wilson_interval

RNG = np.random.default_rng(7)
N = 60
RIGHT = (RNG.random(N) < 0.8).astype(float)
WORDS = RNG.integers(1, 9, N).astype(float)
REGIONS = ["north" if i % 3 else "south" for i in range(N)]


def table(name="m", stats=None, measures=None, **changes):
    held = MetricTable(
        task="t",
        metric=name,
        signature="m|v:1",
        dataset="d",
        measures=measures or (rate("", column=0),),
        sample_ids=[f"s{i}" for i in range(N)],
        stats_NK=RIGHT[:, None] if stats is None else stats,
        binary=True,
        clusters=None,
        attributes={"region": REGIONS},
        planned={None: N + 2, "region=north": 41, "region=south": 21},
        completed={None: N + 1, "region=north": 41, "region=south": 20},
    )
    return dataclasses.replace(held, **changes)


def estimates(*tables):
    return list(estimate_tables({"candidate": tables}, seed=0, level=0.95))


def test_a_rate_has_wilsons_interval_over_all_and_in_each_slice():
    found = {e.slice: e for e in estimates(table())}
    assert found[None].interval == wilson_interval(RIGHT.sum(), N, 0.95)
    south = RIGHT[[r == "south" for r in REGIONS]]
    assert found["region=south"].value == south.mean()
    assert found["region=south"].interval == wilson_interval(south.sum(), len(south), 0.95)


def test_counts_tell_what_was_planned_failed_and_not_graded():
    counts = estimates(table())[0].counts
    assert (counts.planned, counts.completed, counts.failed) == (N + 2, N + 1, 1)
    assert (counts.scored, counts.unscored) == (N, 1)


def test_another_metric_does_not_move_an_interval():
    per_word = corpus("", lambda s, n: ratio(s[..., 0], s[..., 1]), unit="right/word")
    stats = np.column_stack([RIGHT, WORDS])
    alone = estimates(table("c", stats, (per_word,)))
    beside = estimates(table(), table("c", stats, (per_word,)), table("z"))
    assert alone == [e for e in beside if e.metric == "c"]


def test_the_order_of_samples_does_not_matter():
    per_word = corpus("", lambda s, n: ratio(s[..., 0], s[..., 1]), unit="right/word")
    stats = np.column_stack([RIGHT, WORDS])
    held = table("c", stats, (per_word, mean("words", column=1, unit="words")))
    order = np.random.default_rng(1).permutation(N)
    mixed = dataclasses.replace(
        held,
        sample_ids=[held.sample_ids[i] for i in order],
        stats_NK=stats[order],
        attributes={"region": [REGIONS[i] for i in order]},
    )
    for one, other in zip(estimates(held), estimates(mixed), strict=True):
        assert one.value == pytest.approx(other.value, abs=1e-12)
        assert one.interval.low == pytest.approx(other.interval.low, abs=1e-12)
        assert one.interval.high == pytest.approx(other.interval.high, abs=1e-12)


def test_clusters_widen_the_interval_where_samples_repeat():
    single = estimates(table())[0].interval
    doubled = table(
        stats=np.repeat(RIGHT, 2)[:, None],
        sample_ids=[f"s{i}" for i in range(2 * N)],
        attributes={"region": [r for r in REGIONS for _ in range(2)]},
        clusters=[f"c{i // 2}" for i in range(2 * N)],
        planned={None: 2 * N},
        completed={None: 2 * N},
    )
    clustered = estimates(doubled)[0].interval
    naive = estimates(dataclasses.replace(doubled, clusters=None))[0].interval
    assert clustered.method == "cr1-t"
    assert clustered.high - clustered.low > 1.3 * (naive.high - naive.low)
    assert clustered.high - clustered.low == pytest.approx(single.high - single.low, rel=0.1)


def test_nothing_scored_is_no_number():
    empty = table(
        stats=np.zeros((0, 1)),
        sample_ids=[],
        attributes={"region": []},
        completed={None: 0, "region=north": 0, "region=south": 0},
    )
    assert {(e.value, e.interval) for e in estimates(empty)} == {(None, None)}


def test_a_table_whose_samples_were_looked_at_has_intervals_that_hold_at_any_look():
    for found in estimates(table(anytime=True)):
        assert found.interval.method == "betting"


def test_a_rate_over_some_samples_tells_their_number_and_has_no_worst_case():
    label = (np.arange(N) % 3 > 0).astype(float)
    measures = (rate("tpr", column=0, over=1), rate("all", column=1))
    stats = np.column_stack([label * RIGHT, label])
    tpr, south = (
        e
        for e in estimates(table(stats=stats, measures=measures))
        if e.metric == "m.tpr" and e.slice in (None, "region=south")
    )
    assert (tpr.kind, tpr.n, tpr.counts.scored) == ("corpus", 40, N)
    assert tpr.interval == wilson_interval((label * RIGHT).sum(), 40, 0.95)
    rows = np.array([r == "south" for r in REGIONS])
    assert south.n == (label[rows] == 1).sum() == 0
    assert (south.value, south.interval) == (None, None)
    assert south.warnings == ("not estimable: it is over none of the 20 scored samples",)
    whole = estimates(table(stats=stats, measures=measures))[-1]
    assert (whole.kind, whole.n) == ("rate", None)
