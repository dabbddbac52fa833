"""Candidate against baseline: what is paired, what is refused, and that names, not order, decide."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.compare import compare_tables, why_incomparable
from evalkit.gates.conditions import Evidence
from evalkit.metrics.base import corpus, mean, rate, ratio
from evalkit.registry import find
from evalkit.scoring import MetricTable
from evalkit.stats.discordant import bonett_price_interval, tango_interval
from evalkit.stats.paired import LEVELS

MEASURES = (
    rate("valid", column=0),
    mean("score", column=1),
    corpus("micro", lambda s, n: ratio(s[..., 1], s[..., 2]), unit="fraction"),
)


def table(ids, stats, *, planned=None, **changes):
    """A table over samples ``s<number>``; even numbers lie in ``region=eu``, odd ones in ``region=us``."""
    ids = list(ids)
    regions = ["eu" if i % 2 == 0 else "us" for i in ids]
    whole = {None: len(ids), "region=eu": regions.count("eu"), "region=us": regions.count("us")}
    planned = planned or whole
    fields = {
        "task": "extract",
        "metric": "json",
        "signature": "json|v:1|task:abc",
        "dataset": "d" * 64,
        "measures": MEASURES,
        "binary": True,
        "clusters": None,
        **changes,
    }
    return MetricTable(
        sample_ids=[f"s{i:04d}" for i in ids],
        stats_NK=np.asarray(stats, dtype=float),
        attributes={"region": regions},
        planned=planned,
        completed=planned,
        **fields,
    )


def answers(seed, n=60, right=0.8):
    rng = np.random.default_rng(seed)
    hits = rng.binomial(10, right, n).astype(float)
    return np.column_stack([rng.random(n) < right, hits / 10, np.full(n, 10.0)])


def compared(candidate, baseline, seed=0, level=0.95):
    found = compare_tables({"candidate": [candidate], "baseline": [baseline]}, seed, level)
    return {(c.metric, c.slice): c for c in found}


def test_every_measure_and_slice_is_compared_in_order():
    found = compare_tables(
        {"candidate": [table(range(60), answers(1))], "baseline": [table(range(60), answers(2))]},
        0,
        0.95,
    )
    names = [c.name for c in found]
    assert names == [
        f"extract/json.{measure}{slice_}"
        for measure in ("valid", "score", "micro")
        for slice_ in ("", "@region=eu", "@region=us")
    ]
    assert {c.status for c in found} == {"compared"}
    assert {c.test for c in found} == {"mcnemar mid-p", "paired t", "approximate randomisation"}


def test_samples_are_paired_by_id_whatever_the_order():
    one, two = answers(1), answers(2)
    shuffled = np.random.default_rng(0).permutation(60)
    straight = compared(table(range(60), one), table(range(60), two))
    turned = compared(table(range(60), one), table(shuffled, two[shuffled]))
    assert straight == turned
    both = compared(table(shuffled, one[shuffled]), table(range(60), two))
    for key, comparison in straight.items():
        again = both[key]
        assert again.difference == pytest.approx(comparison.difference)
        assert again.interval is not None
        assert comparison.interval is not None
        assert again.interval.low == pytest.approx(comparison.interval.low)


def test_only_samples_scored_for_both_are_compared_and_the_rest_is_counted():
    planned = {None: 60, "region=eu": 30, "region=us": 30}
    one, two = answers(1), answers(2)
    found = compared(
        table(range(50), one[:50], planned=planned), table(range(5, 60), two[5:], planned=planned)
    )
    whole, eu = found["json.valid", None], found["json.valid", "region=eu"]
    assert (whole.pairs, whole.unpaired) == (45, 15)
    assert (eu.pairs, eu.unpaired) == (22, 8)
    assert whole.candidate == pytest.approx(one[5:50, 0].mean())
    assert whole.baseline == pytest.approx(two[5:50, 0].mean())


def test_a_difference_is_candidate_minus_baseline_with_an_interval_at_every_level():
    one, two = answers(1), answers(2)
    found = compared(table(range(60), one), table(range(60), two), level=0.97)["json.valid", None]
    gained, lost = int(((one - two)[:, 0] > 0).sum()), int(((one - two)[:, 0] < 0).sum())
    assert found.difference == pytest.approx((gained - lost) / 60)
    assert found.interval == bonett_price_interval(gained, lost, 60, 0.97)
    assert found.intervals == tuple(tango_interval(gained, lost, 60, level) for level in LEVELS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"dataset": "e" * 64},
            "the data sets differ: candidate eeeeeeeeeeee, baseline dddddddddddd",
        ),
        (
            {"signature": "json|v:2|task:abc"},
            "the metric was measured differently: candidate v:2, baseline v:1",
        ),
        (
            {"signature": "json|extra:yes|v:1|task:abc"},
            "the metric was measured differently: candidate extra:yes, baseline without these",
        ),
    ],
)
def test_what_was_measured_differently_is_never_compared(change, words):
    candidate, baseline = table(range(60), answers(1), **change), table(range(60), answers(1))
    assert why_incomparable(candidate, baseline) == words
    for comparison in compared(candidate, baseline).values():
        assert (comparison.status, comparison.reason) == ("incomparable", words)
        assert (comparison.difference, comparison.interval, comparison.pairs) == (None, None, 0)


def test_a_metric_the_baseline_lacks_is_incomparable():
    found = compare_tables({"candidate": [table(range(60), answers(1))], "baseline": []}, 0, 0.95)
    assert {c.status for c in found} == {"incomparable"}
    assert found[0].reason == "the baseline has no metric 'json' on task 'extract'"


def test_without_a_baseline_there_is_nothing_to_compare():
    assert compare_tables({"candidate": [table(range(60), answers(1))]}, 0, 0.95) == []


def test_without_common_samples_there_are_no_pairs():
    found = compared(table(range(10), answers(1, 10)), table(range(10, 20), answers(2, 10)))
    for comparison in found.values():
        assert (comparison.status, comparison.pairs) == ("no pairs", 0)
        assert comparison.unpaired == 10 or comparison.slice is not None
        assert comparison.reason.endswith("was scored for both models")


def test_a_value_that_is_undefined_on_the_pairs_is_no_comparison():
    empty = np.zeros((20, 3))
    found = compared(table(range(20), empty), table(range(20), empty))
    assert found["json.valid", None].status == "compared"
    assert found["json.micro", None].status == "no pairs"
    assert found["json.micro", None].reason == (
        "a model has no value on the 20 samples scored for both"
    )


def test_clusters_widen_the_interval():
    shift = np.repeat(np.random.default_rng(3).normal(0, 0.3, 12), 5)
    one = answers(1)
    one[:, 1] += shift
    two, names = answers(2), [f"c{i // 5}" for i in range(60)]
    alone = compared(table(range(60), one), table(range(60), two))["json.score", None]
    together = compared(
        table(range(60), one, clusters=names), table(range(60), two, clusters=names)
    )["json.score", None]
    assert alone.interval is not None
    assert together.interval is not None
    assert together.interval.method == "cr1-t"
    assert together.interval.high - together.interval.low > alone.interval.high - alone.interval.low
    assert any("only 12 clusters" in warning for warning in together.warnings)


def test_averaged_replicates_are_compared_by_t():
    one, two = answers(1), answers(2)
    one[:, 0], two[:, 0] = one[:, 1], two[:, 1]
    found = compared(table(range(60), one, binary=False), table(range(60), two, binary=False))
    assert found["json.valid", None].test == "paired t"


def test_the_same_seed_gives_the_same_comparisons_and_another_moves_only_what_is_resampled():
    pair = table(range(60), answers(1)), table(range(60), answers(2))
    assert compared(*pair) == compared(*pair)
    first, second = compared(*pair, seed=0), compared(*pair, seed=1)
    assert first["json.valid", None] == second["json.valid", None]
    assert first["json.micro", None] != second["json.micro", None]


def test_another_metric_moves_no_interval():
    one, two = table(range(60), answers(1)), table(range(60), answers(2))
    more = [dataclasses.replace(t, metric="more", sample_ids=t.sample_ids) for t in (one, two)]
    fewer = [
        dataclasses.replace(
            table(range(40), answers(5, 40)),
            metric="fewer",
            planned=one.planned,
            completed=one.planned,
        )
    ] * 2
    alone = compare_tables({"candidate": [one], "baseline": [two]}, 0, 0.95)
    among = compare_tables(
        {"candidate": [fewer[0], more[0], one], "baseline": [fewer[1], more[1], two]}, 0, 0.95
    )
    assert [c for c in among if c.metric.startswith("json")] == alone


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 60), st.booleans(), st.floats(0.001, 0.2))
def test_a_model_against_itself_never_fails_a_rule(seed, n, clustered, margin):
    clusters = [f"c{i // 4}" for i in range(n)] if clustered else None
    same = table(range(n), answers(seed, n), clusters=clusters)
    make = find("condition", "no_worse_than").make
    condition = make(make.Options(margin=margin))
    for comparison in compared(same, same).values():
        if comparison.status != "compared":
            continue
        assert comparison.difference == 0
        assert comparison.p_value in (1.0, None)
        assert condition.decide(Evidence(comparison.name, None, comparison)).status != "fail"
