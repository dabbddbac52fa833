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


def regions(ids):
    return ["eu" if i % 2 == 0 else "us" for i in ids]


def table(ids, stats, *, missing=(), cluster=None, **changes):
    """A table over samples ``s<number>``; even numbers lie in ``region=eu``, odd ones in ``region=us``.

    ``missing`` are planned but have no score; ``cluster`` names the cluster of a number.
    """
    ids, missing = list(ids), list(missing)
    all_regions = regions(ids + missing)
    planned = {None: len(all_regions)}
    planned |= {f"region={r}": all_regions.count(r) for r in sorted(set(all_regions))}
    fields = {
        "task": "extract",
        "metric": "json",
        "signature": "json|v:1|task:abc",
        "dataset": "d" * 64,
        "measures": MEASURES,
        "binary": True,
        "clusters": None if cluster is None else [cluster(i) for i in ids],
        "missing_clusters": None if cluster is None else [cluster(i) for i in missing],
        **changes,
    }
    return MetricTable(
        sample_ids=[f"s{i:04d}" for i in ids],
        stats_NK=np.asarray(stats, dtype=float),
        attributes={"region": regions(ids)},
        missing_ids=[f"s{i:04d}" for i in missing],
        missing_attributes={"region": regions(missing)},
        planned=planned,
        completed=planned,
        **fields,
    )


def fives(number):
    return f"c{number // 5}"


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
    assert compared(table(shuffled, one[shuffled]), table(range(60), two)) == straight


def test_only_samples_scored_for_both_are_compared_and_the_rest_is_counted():
    one, two = answers(1), answers(2)
    found = compared(
        table(range(50), one[:50], missing=range(50, 60)),
        table(range(5, 60), two[5:], missing=range(5)),
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


def test_pairs_on_which_the_candidate_does_better_are_counted_in_the_measures_direction():
    one, two = answers(1), answers(2)
    one[:, 2] = two[:, 2] = 10
    measures = (*MEASURES, mean("cost", column=1, unit="tokens", better="lower"))
    found = compared(
        table(range(60), one, measures=measures), table(range(60), two, measures=measures)
    )
    up, down = int((one[:, 1] > two[:, 1]).sum()), int((one[:, 1] < two[:, 1]).sum())
    score, cost, micro = (found[f"json.{name}", None] for name in ("score", "cost", "micro"))
    assert (score.improved, score.worsened) == (up, down)
    assert (cost.improved, cost.worsened) == (down, up)
    assert (micro.improved, micro.worsened) == (None, None)


def test_joint_errors_come_with_every_comparison():
    one, two = answers(1), answers(2)
    found = compared(table(range(60), one), table(range(60), two))
    errors = found["json.score", "region=us"].errors
    assert errors is not None
    covariance = np.cov(one[1::2, 1], two[1::2, 1]) / 30
    assert errors.candidate == pytest.approx(np.sqrt(covariance[0, 0]))
    assert errors.covariance == pytest.approx(covariance[0, 1])
    assert {None if c.errors is None else c.errors.df for c in found.values()} == {59, 29, None}


# --- samples without a score ---


def test_unpaired_samples_are_bounded_over_all_planned_ones_in_every_slice():
    one, two = answers(1), answers(2)
    found = compared(
        table(range(50), one[:50], missing=range(50, 60)),
        table(range(5, 60), two[5:], missing=range(5)),
    )
    ours, theirs = one[:, 0].copy(), two[:, 0].copy()
    ours[50:], theirs[:5] = 0, 1
    for slice_, rows in ((None, np.arange(60)), ("region=eu", np.arange(0, 60, 2))):
        worst = found["json.valid", slice_].worst
        differences = (ours - theirs)[rows]
        assert worst is not None
        assert worst.difference == pytest.approx(differences.mean())
        gained, lost = int((differences > 0).sum()), int((differences < 0).sum())
        assert worst.intervals == tuple(
            tango_interval(gained, lost, len(rows), level) for level in LEVELS
        )
        best = found["json.valid", slice_].best
        assert best is not None
        assert best.difference > found["json.valid", slice_].difference > worst.difference


def test_where_lower_is_better_the_worst_case_is_the_highest():
    measures = (mean("wrong", column=0, better="lower"),)
    one, two = answers(1)[:, :1], answers(2)[:, :1]
    found = compared(
        table(range(50), one[:50], missing=range(50, 60), measures=measures),
        table(range(60), two, measures=measures),
    )["json.wrong", None]
    assert found.worst is not None
    assert found.best is not None
    filled = np.r_[one[:50, 0], np.ones(10)]
    assert found.worst.difference == pytest.approx(filled.mean() - two.mean())
    assert found.best.difference < found.worst.difference


def test_nothing_is_bounded_where_all_is_paired_or_scores_have_no_known_ends():
    one, two = answers(1), answers(2)
    measures = (*MEASURES, mean("words", column=2, unit="words"))
    whole = compared(table(range(60), one), table(range(60), two))
    assert all(c.worst is c.best is None for c in whole.values())
    holes = compared(
        table(range(50), one[:50], missing=range(50, 60), measures=measures),
        table(range(60), two, measures=measures),
    )
    bounded = {key: c.worst is not None for key, c in holes.items()}
    assert {metric for (metric, _), known in bounded.items() if known} == {
        "json.valid",
        "json.score",
    }


def test_without_a_pair_the_bounds_still_stand():
    found = compared(
        table(range(10), answers(1, 10), missing=range(10, 20)),
        table(range(10, 20), answers(2, 10), missing=range(10)),
    )["json.valid", None]
    assert (found.status, found.pairs, found.unpaired) == ("no pairs", 0, 20)
    assert found.worst is not None
    assert found.best is not None
    right, theirs = answers(1, 10)[:, 0].mean(), answers(2, 10)[:, 0].mean()
    assert found.worst.difference == pytest.approx((right - 1) / 2 + (0 - theirs) / 2)
    assert found.best.difference == pytest.approx(right / 2 + (1 - theirs) / 2)


def test_where_no_model_scored_anything_the_difference_can_be_anything():
    nothing = table([], np.zeros((0, 3)), missing=range(20))
    found = compared(nothing, nothing)
    worst = found["json.valid", None].worst
    assert worst is not None
    assert worst.difference == -1
    assert found["json.micro", None].worst is None


def without_score(held, number):
    """The table in which a sample's score is missing."""
    name = f"s{number:04d}"
    row = list(held.sample_ids).index(name)
    kept = [i for i in range(len(held.sample_ids)) if i != row]
    missing = [int(i[1:]) for i in (*held.missing_ids, name)]
    return table(
        [int(held.sample_ids[i][1:]) for i in kept],
        held.stats_NK[kept],
        missing=missing,
        cluster=None if held.clusters is None else fives,
        measures=held.measures,
    )


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_more_unscored_samples_never_help(data):
    n, seed = data.draw(st.integers(2, 40)), data.draw(st.integers(0, 1000))
    better = data.draw(st.sampled_from(["higher", "lower"]))
    measures = (rate("valid", column=0, better=better), mean("score", column=1, better=better))
    cluster = data.draw(st.sampled_from([None, fives]))
    tables = {
        "candidate": table(range(n), answers(seed, n), measures=measures, cluster=cluster),
        "baseline": table(range(n), answers(seed + 1, n), measures=measures, cluster=cluster),
    }
    before = compared(tables["candidate"], tables["baseline"])
    for _ in range(2):
        role = data.draw(st.sampled_from(["candidate", "baseline"]))
        lost = data.draw(st.sampled_from(tables[role].sample_ids))
        tables[role] = without_score(tables[role], int(lost[1:]))
        after = compared(tables["candidate"], tables["baseline"])
        for key, now in after.items():
            for case in ("worst", "best"):
                was, less = getattr(before[key], case) or before[key], getattr(now, case) or now
                side = 1 if (case == "worst") == (better == "higher") else -1
                assert side * less.difference <= side * was.difference + 1e-9
                assert len(less.intervals) == len(was.intervals)
                for one, other in zip(was.intervals, less.intervals, strict=True):
                    assert side * other.low <= side * one.low + 1e-9
                    assert side * other.high <= side * one.high + 1e-9
        before = after


# --- rates over some of the samples ---

OVER = (rate("tpr", column=1, over=0), rate("ppv", column=1, over=2))


def outcomes(seed, n=60):
    """Label, true positive, selected: the labels are those of the data, whatever the seed."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 3 > 0
    selected = rng.random(n) < np.where(label, 0.8, 0.3)
    return np.column_stack([label, label & selected, selected]).astype(float)


def test_a_rate_over_labels_is_compared_on_the_pairs_with_that_label():
    one, two = outcomes(1), outcomes(2)
    found = compared(table(range(60), one, measures=OVER), table(range(60), two, measures=OVER))
    for slice_, rows in ((None, np.arange(60)), ("region=us", np.arange(1, 60, 2))):
        labelled = rows[one[rows, 0] == 1]
        differences = (one - two)[labelled, 1]
        gained, lost = int((differences > 0).sum()), int((differences < 0).sum())
        made = found["json.tpr", slice_]
        assert made.difference == pytest.approx(differences.mean())
        assert made.interval == bonett_price_interval(gained, lost, len(labelled), 0.95)
        assert (made.test, made.pairs) == ("mcnemar mid-p", len(rows))


def test_a_rate_over_what_each_model_selected_is_compared_by_resampling():
    one, two = outcomes(1), outcomes(2)
    found = compared(table(range(60), one, measures=OVER), table(range(60), two, measures=OVER))
    ppv = found["json.ppv", None]
    values = [each[:, 1].sum() / each[:, 2].sum() for each in (one, two)]
    assert (ppv.candidate, ppv.baseline) == pytest.approx(values)
    assert (ppv.test, ppv.interval is None) == ("approximate randomisation", False)


def test_changed_pairs_of_a_rate_over_some_are_no_share_of_all_pairs_and_so_not_told():
    one, two = outcomes(1), outcomes(2)
    found = compared(table(range(60), one, measures=OVER), table(range(60), two, measures=OVER))
    make = find("condition", "max_flips").make
    for made in found.values():
        assert (made.improved, made.worsened) == (None, None)
        decision = make(make.Options(value=0.5)).decide(Evidence(made.name, None, made))
        assert decision.status == "missing"


def test_a_rate_over_labels_that_no_pair_has_is_no_comparison():
    one, two = outcomes(1), outcomes(2)
    found = compared(
        table(range(0, 60, 3), one[::3], measures=OVER),
        table(range(0, 60, 3), two[::3], measures=OVER),
    )["json.tpr", None]
    assert (found.status, found.difference) == ("no pairs", None)
    assert "no value on the 20 samples" in found.reason


def test_a_missing_answer_counts_in_the_worst_case_of_a_rate_over_labels_where_its_label_may_be_one():
    one, two = outcomes(1), outcomes(2)
    # 0 to 29: the candidate has no score and the baseline tells the label. 57 to 59: nobody has, nor a label.
    found = compared(
        table(range(30, 57), one[30:57], missing=[*range(30), 57, 58, 59], measures=OVER),
        table(range(57), two[:57], missing=[57, 58, 59], measures=OVER),
    )
    tpr, ppv = found["json.tpr", None], found["json.ppv", None]
    asked = [i for i in range(57) if one[i, 0]]
    ours = [one[i, 1] if i >= 30 else 0 for i in asked] + [0] * 3
    theirs = [two[i, 1] for i in asked] + [1] * 3
    assert tpr.worst is not None
    assert tpr.worst.difference == pytest.approx(np.mean(ours) - np.mean(theirs))
    assert (tpr.pairs, tpr.unpaired) == (27, 33)
    assert ppv.worst is ppv.best is None


def test_answers_missing_where_the_label_is_known_to_be_another_leave_no_worst_case():
    one, two = outcomes(1), outcomes(2)
    kept = [i for i in range(60) if i % 3]
    found = compared(
        table(kept, one[kept], missing=range(0, 60, 3), measures=OVER),
        table(range(60), two, measures=OVER),
    )["json.tpr", None]
    assert (found.unpaired, found.worst) == (20, None)
    assert found.status == "compared"


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_more_unscored_samples_never_help_a_rate_over_labels(data):
    n, seed = data.draw(st.integers(4, 40)), data.draw(st.integers(0, 1000))
    measures, cluster = OVER[:1], data.draw(st.sampled_from([None, fives]))
    tables = {
        "candidate": table(range(n), outcomes(seed, n), measures=measures, cluster=cluster),
        "baseline": table(range(n), outcomes(seed + 1, n), measures=measures, cluster=cluster),
    }
    before = compared(tables["candidate"], tables["baseline"])["json.tpr", None]
    for _ in range(3):
        role = data.draw(st.sampled_from(["candidate", "baseline"]))
        lost = data.draw(st.sampled_from(tables[role].sample_ids))
        tables[role] = without_score(tables[role], int(lost[1:]))
        now = compared(tables["candidate"], tables["baseline"])["json.tpr", None]
        was, less = before.worst or before, now.worst or now
        if was.difference is None or less.difference is None:
            continue
        assert less.difference <= was.difference + 1e-9
        for one, other in zip(was.intervals, less.intervals, strict=True):
            assert other.low <= one.low + 1e-9
            assert other.high <= one.high + 1e-9
        before = now


# --- samples whose number was decided by looking at them ---


@pytest.mark.parametrize("early", ["candidate", "baseline"])
def test_when_looking_decided_the_number_of_samples_intervals_hold_at_any_look(early):
    one = table(range(60), answers(1), anytime=early == "candidate")
    two = table(range(60), answers(2), anytime=early == "baseline")
    found = compared(one, two)
    for slice_ in (None, "region=eu"):
        valid, score, micro = (found[f"json.{m}", slice_] for m in ("valid", "score", "micro"))
        assert {valid.test, score.test} == {"betting"}
        assert {i.method for i in (*valid.intervals, *score.intervals)} == {"betting"}
        assert (micro.interval, micro.intervals, micro.p_value) == (None, (), None)
        assert "for a corpus measure no interval holds" in micro.warnings[0]


def test_what_the_baseline_scored_beyond_an_early_stop_is_no_part_of_it():
    one, two = answers(1), answers(2)
    early = {"anytime": True}
    stopped = table(range(30), one[:30], **early)
    found = compared(stopped, table(range(60), two, **early))
    assert found == compared(stopped, table(range(30), two[:30], **early))
    assert (found["json.valid", None].pairs, found["json.valid", None].unpaired) == (30, 0)
    assert found["json.valid", None].worst is None


def test_missing_scores_are_bounded_at_any_look_too():
    one, two = answers(1), answers(2)
    found = compared(
        table(range(50), one[:50], missing=range(50, 60), anytime=True),
        table(range(60), two, anytime=True),
    )
    worst = found["json.valid", None].worst
    assert worst is not None
    assert {i.method for i in worst.intervals} == {"betting"}
    assert found["json.micro", None].worst is None


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
    two = answers(2)
    alone = compared(table(range(60), one), table(range(60), two))["json.score", None]
    together = compared(table(range(60), one, cluster=fives), table(range(60), two, cluster=fives))[
        "json.score", None
    ]
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
    fewer = [table(range(40), answers(5, 40), missing=range(40, 60), metric="fewer")] * 2
    alone = compare_tables({"candidate": [one], "baseline": [two]}, 0, 0.95)
    among = compare_tables(
        {"candidate": [fewer[0], more[0], one], "baseline": [fewer[1], more[1], two]}, 0, 0.95
    )
    assert [c for c in among if c.metric.startswith("json")] == alone


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 60), st.booleans(), st.floats(0.001, 0.2))
def test_a_model_against_itself_never_fails_a_rule(seed, n, clustered, margin):
    same = table(range(n), answers(seed, n), cluster=fives if clustered else None)
    make = find("condition", "no_worse_than").make
    condition = make(make.Options(margin=margin))
    for comparison in compared(same, same).values():
        if comparison.status != "compared":
            continue
        assert comparison.difference == 0
        assert comparison.p_value in (1.0, None)
        assert condition.decide(Evidence(comparison.name, None, comparison)).status != "fail"
