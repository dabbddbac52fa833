"""Gaps between groups: what is estimated, what is left out, and what moves no number."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from group_tables import GAP, MISSING, table, two_groups
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import fisher_exact

from evalkit.fairness import estimate_gaps
from evalkit.gates.conditions import Evidence
from evalkit.metrics.base import Gap, corpus, mean, rate, ratio
from evalkit.records.suite import GroupsSpec
from evalkit.registry import find
from evalkit.stats.intervals import wilson_interval

TPR = rate("tpr", column=1, over=0)


def gaps(*tables, role="candidate", level=0.95):
    return estimate_gaps({role: tables}, seed=3, level=level)


def gap(held, name="t/m.gap@sex"):
    found = gaps(held)
    (estimate,) = (e for e in found.estimates if e.name == name)
    (disparity,) = (d for d in found.disparities if d.name == name)
    return estimate, disparity


def numbers(estimate, disparity):
    """All that a verdict can read, and what stands beside it."""
    told = disparity.model_dump(exclude={"cells"})
    return estimate.value, estimate.interval, estimate.counts, told


def test_a_gap_is_the_greatest_groups_number_minus_the_least_with_both_groups_told():
    estimate, disparity = gap(two_groups(200, 300, 100, 240))
    assert (estimate.kind, estimate.slice, estimate.better) == ("gap", "sex", "lower")
    assert estimate.value == pytest.approx(0.8 - 0.5)
    assert estimate.interval.low < 0.3 < estimate.interval.high
    assert estimate.interval.low > 0.2
    assert (disparity.low, disparity.high, disparity.measure) == ("F", "M", "m")
    assert disparity.expected < 0.1
    assert disparity.p_value < 1e-6
    women, men = disparity.cells
    assert (women.group, women.n, women.value) == ("F", 200, 0.5)
    assert men.interval == wilson_interval(240, 300, 0.95)


def test_a_table_without_groups_has_no_gap():
    assert gaps(dataclasses.replace(two_groups(50, 50, 9, 30), groups=None)) == gaps()


def test_groups_of_five_change_nothing_but_are_shown():
    held = two_groups(200, 300, 100, 240)
    values, stats = held.attributes["sex"], held.stats_NK[:, 0].tolist()
    small = [f"g{n}" for n in range(6) for _ in range(5)]
    more = table({"sex": [*small, *values]}, [*([0.0] * 30), *stats])
    before, after = gap(held), gap(more)
    assert numbers(*before) == numbers(*after)
    told = {cell.group: cell.left_out for cell in after[1].cells}
    assert told["g0"] == "only 5 samples, fewer than 20"
    assert "groups left out: g0: only 5 samples, fewer than 20" in after[0].warnings[0]
    assert after[0].warnings[0].endswith("and 1 more")


def test_one_group_alone_has_no_gap_and_no_gap_is_not_0():
    estimate, disparity = gap(two_groups(200, 19, 100, 9))
    assert estimate.value is None
    assert disparity.value is None
    assert disparity.reason == (
        "only the group F has enough samples for the metric, and a gap takes two "
        "(M: only 19 samples, fewer than 20)"
    )
    assert estimate.warnings[0] == disparity.reason
    assert gap(two_groups(200, 20, 100, 9))[0].value == pytest.approx(0.05)


def test_a_group_without_a_positive_label_has_no_true_positive_rate_rather_than_0():
    # fairlearn 0.15.0 gives such a group a true-positive rate of 0, and so a ratio of 0.
    label = [1.0] * 40 + [0.0] * 10 + [1.0] * 40 + [0.0] * 40
    hits = [1.0] * 30 + [0.0] * 20 + [1.0] * 20 + [0.0] * 60
    held = table(
        {"sex": ["A"] * 50 + ["B"] * 40 + ["C"] * 40},
        np.column_stack([label, hits]),
        measures=(TPR,),
        gaps=(Gap("opportunity", ("tpr",)), Gap("opportunity_ratio", ("tpr",), "ratio")),
    )
    estimate, disparity = gap(held, "t/m.opportunity@sex")
    assert estimate.value == pytest.approx(0.75 - 0.5)
    without = next(cell for cell in disparity.cells if cell.group == "C")
    assert (without.n, without.value) == (0, None)
    assert without.left_out == "no sample whose label is positive"
    assert estimate.counts.planned == 90
    assert gap(held, "t/m.opportunity_ratio@sex")[0].value == pytest.approx(0.5 / 0.75)


def test_samples_that_lack_the_attribute_count_as_planned_and_not_as_scored():
    held = table({"sex": ["F"] * 40 + ["M"] * 40 + [MISSING] * 80}, [1.0, 0.0] * 80)
    estimate, _ = gap(held)
    counts = estimate.counts
    assert (counts.planned, counts.completed, counts.scored) == (160, 160, 80)
    assert counts.coverage == 0.5
    assert "80 samples lack sex" in estimate.warnings[0]


def test_another_field_or_metric_moves_no_number_of_a_gap():
    rng = np.random.default_rng(5)
    sexes, ages = (rng.choice(list(names), 300).tolist() for names in ("FMX", "yo"))
    right = (rng.random(300) < 0.7).astype(float)
    alone = table({"sex": sexes}, right)
    beside = table(
        {"sex": sexes, "age": ages},
        np.column_stack([right, 1 - right]),
        by=("age", "sex"),
        measures=(rate("wrong", column=1), rate("", column=0)),
        gaps=(Gap("wrong.gap", ("wrong",)), *GAP),
    )
    other = dataclasses.replace(alone, metric="z")
    (before, at_first), (after, then) = gap(alone), gap(beside)
    assert (before.value, before.interval) == (after.value, after.interval)
    chance = {"expected", "corrected", "p_value"}
    assert at_first.model_dump(include=chance) == then.model_dump(include=chance)
    found = gaps(other, alone)
    assert before in found.estimates
    assert at_first in found.disparities


def test_p_values_are_adjusted_for_the_fields_by_which_a_task_is_compared():
    rng = np.random.default_rng(6)
    sexes, ages = (rng.choice(list(names), 400).tolist() for names in ("FM", "yo"))
    right = (rng.random(400) < np.where(np.array(sexes) == "F", 0.7, 0.8)).astype(float)
    found = gaps(table({"sex": sexes, "age": ages}, right, by=("sex", "age"))).disparities
    by = {d.by: d for d in found if d.metric == "m.gap"}
    low, high = sorted(by.values(), key=lambda d: d.p_value)
    assert low.p_adjusted == pytest.approx(min(1.0, 2 * low.p_value))
    assert high.p_adjusted == pytest.approx(max(high.p_value, low.p_adjusted))


def test_refusing_one_group_is_itself_a_gap():
    held = table(
        {"sex": ["F"] * 30 + ["M"] * 50},
        [1.0] * 80,
        missing={"sex": ["F"] * 20},
    )
    found = gaps(held)
    rates = {e.slice: e for e in found.estimates if e.metric == "m.unscored" and e.kind == "rate"}
    assert rates.keys() == {"sex=F", "sex=M"}
    assert (rates["sex=F"].value, rates["sex=M"].value) == (0.4, 0.0)
    assert rates["sex=F"].better == "lower"
    estimate, disparity = gap(held, "t/m.unscored.gap@sex")
    assert estimate.value == 0.4
    assert estimate.interval.low > 0.1
    assert (disparity.high, disparity.p_value < 0.001) == ("F", True)
    assert gap(held)[0].counts.unscored == 20
    assert next(c.missing for c in gap(held)[1].cells if c.group == "F") == 20


def test_a_sample_that_failed_is_no_answer_without_a_score():
    held = table(
        {"sex": ["F"] * 30 + ["M"] * 50},
        [1.0] * 80,
        missing={"sex": ["F"] * 20},
        answered=False,
    )
    estimate, _ = gap(held, "t/m.unscored.gap@sex")
    assert estimate.value == 0.0
    assert (estimate.counts.failed, estimate.counts.unscored) == (20, 0)


def test_where_samples_decide_how_many_there_are_a_gap_has_no_interval_and_says_why():
    estimate, disparity = gap(dataclasses.replace(two_groups(90, 90, 40, 80), anytime=True))
    assert estimate.value == pytest.approx(4 / 9)
    assert estimate.interval is None
    assert any("no interval holds then" in told for told in estimate.warnings)
    assert disparity.p_value is None


def test_the_ratio_of_a_gap_has_no_gap_at_1_and_a_small_one_is_worse():
    held = dataclasses.replace(two_groups(200, 300, 100, 240), gaps=(Gap("ratio", ("",), "ratio"),))
    estimate, disparity = gap(held, "t/m.ratio@sex")
    assert estimate.value == pytest.approx(0.5 / 0.8)
    assert 0 < estimate.interval.low < 0.625 < estimate.interval.high < 1
    assert (estimate.better, disparity.form) == ("higher", "ratio")


def test_clusters_replicates_means_and_corpus_measures_have_gaps_too():
    rng = np.random.default_rng(8)
    n = 240
    sexes = ["F", "M"] * (n // 2)
    words = rng.integers(1, 9, n).astype(float)
    shares = rng.integers(0, 5, n) / 4
    held = table(
        {"sex": sexes},
        np.column_stack([shares, words]),
        binary=False,
        clusters=[f"c{i // 4}" for i in range(n)],
        measures=(
            rate("", column=0),
            mean("words", column=1, unit="words"),
            corpus("per_word", lambda s, n: ratio(s[..., 0], s[..., 1]), unit="fraction"),
        ),
        gaps=tuple(
            Gap(f"{name}.gap" if name else "gap", (name,)) for name in ("", "words", "per_word")
        ),
    )
    for name in ("m.gap", "m.words.gap", "m.per_word.gap"):
        estimate, disparity = gap(held, f"t/{name}@sex")
        assert estimate.interval is not None, name
        assert estimate.interval.low <= estimate.value <= estimate.interval.high
        assert 0 < disparity.p_value <= 1
        assert disparity.expected > 0


@pytest.mark.parametrize("name", ["[bold]x[/bold]", "🦊", "a=b", "a+b", "x@y", "*", "<b>"])
def test_a_groups_name_may_be_any_text(name):
    estimate, disparity = gap(table({"sex": [name] * 50 + ["M"] * 50}, [0.0] * 50 + [1.0] * 50))
    assert estimate.value == 1.0
    assert disparity.low == name


def test_a_ratio_of_negative_numbers_is_refused_in_words():
    held = table(
        {"sex": ["F"] * 30 + ["M"] * 30},
        [-1.0] * 30 + [2.0] * 15 + [1.0] * 15,
        measures=(mean("", column=0, unit="points"),),
        gaps=(Gap("ratio", ("",), "ratio"),),
    )
    estimate, disparity = gap(held, "t/m.ratio@sex")
    assert estimate.value is None
    assert disparity.reason == "a ratio takes numbers that are not negative"


@given(st.lists(st.tuples(st.sampled_from("ABCD"), st.booleans()), max_size=60), st.integers(2, 9))
def test_a_gap_is_0_or_more_within_its_interval_and_its_counts_add_up(drawn, least):
    held = table(
        {"sex": [group for group, _ in drawn]},
        np.array([[float(right)] for _, right in drawn]).reshape(-1, 1),
    )
    held = dataclasses.replace(held, groups=GroupsSpec(by=("sex",), min_size=least))
    estimate, disparity = gap(held)
    kept = [cell for cell in disparity.cells if not cell.left_out]
    assert estimate.counts.planned == sum(cell.n for cell in kept)
    if len(kept) < 2:
        assert estimate.value is None
        return
    values = [cell.value for cell in kept]
    assert estimate.value == pytest.approx(max(values) - min(values))
    assert 0 <= estimate.interval.low <= estimate.value <= estimate.interval.high <= 1


# --- groups that are large enough and were not measured -----------------------------------------


def decided(held, name="t/m.gap@sex", require="gap_at_most", **options):
    """What a rule answers on a gap."""
    estimate, disparity = gap(held, name)
    make = find("condition", require).make
    evidence = Evidence(estimate.name, estimate, None, None, disparity)
    return make(make.Options.model_validate(options)).decide(evidence)


def fair(answered_of_x, *, answered=True):
    """Three groups of 400, all answered alike, but of X so many only."""
    sexes = ["F"] * 400 + ["M"] * 400 + ["X"] * answered_of_x
    missing = {"sex": ["X"] * (400 - answered_of_x)}
    return table(
        {"sex": sexes}, ([1.0, 0.0] * 600)[: len(sexes)], missing=missing, answered=answered
    )


@pytest.mark.parametrize("require", ["gap_at_most", "at_most"])
@pytest.mark.parametrize("answered", [True, False])
@pytest.mark.parametrize("of_x", [0, 19])
def test_a_group_that_is_left_out_because_its_samples_have_no_score_lets_no_rule_pass(
    of_x, answered, require
):
    assert decided(fair(400), require=require, value=0.2).status == "pass"
    found = decided(fair(of_x, answered=answered), require=require, value=0.2)
    assert found.status == "inconclusive"
    assert f"; {400 - of_x} without a score) is large enough and was not measured" in found.reason
    assert "so that it is not shown to keep to 0.2" in found.reason


def test_a_group_that_is_not_measured_still_lets_a_rule_fail():
    sexes = ["F"] * 400 + ["M"] * 400
    held = table({"sex": sexes}, [1.0] * 400 + [0.0] * 400, missing={"sex": ["X"] * 400})
    assert decided(held, value=0.2).status == "fail"


def test_a_group_that_is_small_as_planned_leaves_no_rule_open():
    sexes = ["F"] * 400 + ["M"] * 400 + ["X"] * 10
    held = table({"sex": sexes}, [1.0, 0.0] * 405, missing={"sex": ["X"] * 9})
    assert decided(held, value=0.2).status == "pass"
    held = table({"sex": sexes}, [1.0, 0.0] * 405, missing={"sex": ["X"] * 10})
    assert decided(held, value=0.2).status == "inconclusive"


def test_of_a_ratio_a_group_that_is_not_measured_lets_no_rule_pass_either():
    held = dataclasses.replace(fair(0), gaps=(Gap("ratio", ("",), "ratio"),))
    whole = dataclasses.replace(fair(400), gaps=(Gap("ratio", ("",), "ratio"),))
    for require in ("gap_at_most", "at_least"):
        assert decided(whole, "t/m.ratio@sex", require, value=0.6).status == "pass"
        assert decided(held, "t/m.ratio@sex", require, value=0.6).status == "inconclusive"


def test_a_mean_without_known_ends_passes_no_rule_where_a_group_is_not_measured():
    words = (mean("", column=0, unit="words"),)
    whole, short = (dataclasses.replace(fair(n), measures=words) for n in (400, 0))
    for require in ("gap_at_most", "at_most"):
        assert decided(whole, require=require, value=0.5).status == "pass"
        found = decided(short, require=require, value=0.5)
        assert found.status == "inconclusive"
        assert "was not measured" in found.reason


def test_the_two_groups_that_lack_most_are_those_that_could_lie_farthest_apart():
    sexes = ["F"] * 100 + ["M"] * 80 + ["X"] * 90
    held = table({"sex": sexes}, [1.0, 0.0] * 135, missing={"sex": ["M"] * 20 + ["X"] * 10})
    high = gap(held)[0].interval.high
    assert decided(held, value=0.1).interval.high == pytest.approx(high + 20 / 100 + 10 / 100)


def test_a_group_of_whom_nobody_is_selected_passes_no_rule_on_predictive_parity():
    # The model decides whom it selects: that it selects too few of a group is no reason to pass it.
    metric = find("metric", "decisions").make
    made = metric("m", metric.Options())
    yes, no = [1, 1, 0, 1, 0, 0, 0, 1], [0, 1, 0, 0, 0, 1, 0, 0]
    held = table(
        {"sex": ["F"] * 400 + ["M"] * 400 + ["X"] * 400},
        [yes] * 800 + [no] * 400,
        measures=made.measures,
        gaps=made.gaps,
    )
    found = decided(held, "t/m.predictive_parity_difference@sex", value=0.2)
    assert found.status == "inconclusive"
    assert "no sample that was selected" in found.reason


def test_samples_whose_label_is_not_known_may_be_what_a_group_lacks():
    # Ten positive labels of X and twelve samples without a score: with them it might be large enough.
    label = [1.0] * 80 + [1.0] * 10 + [0.0] * 50
    held = table(
        {"sex": ["F"] * 40 + ["M"] * 40 + ["X"] * 60},
        np.column_stack([label, label]),
        measures=(TPR,),
        gaps=(Gap("opportunity", ("tpr",)),),
        missing={"sex": ["X"] * 12},
    )
    assert decided(held, "t/m.opportunity@sex", value=0.3).status == "inconclusive"
    assert (
        decided(
            dataclasses.replace(
                held,
                missing_ids=(),
                missing_attributes={"sex": []},
                missing_completed=(),
                planned={None: 140, "sex=F": 40, "sex=M": 40, "sex=X": 60},
                completed={None: 140, "sex=F": 40, "sex=M": 40, "sex=X": 60},
            ),
            "t/m.opportunity@sex",
            value=0.3,
        ).status
        == "pass"
    )


def test_no_record_of_a_gap_holds_a_number_that_is_none():
    # One sample of each of many groups has a value: hardly an arrangement gives every group one.
    groups, size = 24, 20
    stats = np.zeros((groups * size, 2))
    stats[::size] = np.column_stack([np.arange(groups) + 1.0, np.full(groups, 2.0)])
    held = table(
        {"sex": [f"g{n}" for n in range(groups) for _ in range(size)]},
        stats,
        measures=(corpus("", lambda s, n: ratio(s[..., 0], s[..., 1]), unit="words"),),
    )
    _, disparity = gap(held)
    assert disparity.value == pytest.approx(23 / 2)
    assert disparity.expected is None
    assert disparity.p_value == 1
    type(disparity).model_validate(disparity.model_dump())


def test_a_group_in_one_cluster_has_no_interval_and_so_the_gap_has_none_and_passes_no_rule():
    held = two_groups(60, 60, 30, 30, clusters=["one"] * 60 + [f"c{n // 2}" for n in range(60)])
    estimate, _ = gap(held)
    assert (estimate.value, estimate.interval) == (0, None)
    assert estimate.warnings[-1] == "the group F has no interval, so that the gap has none"
    assert decided(held, value=1).status == "inconclusive"


def test_of_two_measures_the_one_whose_groups_lie_farthest_apart_names_them():
    # True-positive rates .8 and .6, false-positive rates .5 and .2: ratios .75 and .4.
    def decisions(tp, fp):
        outcomes = [(1, 0)] * tp + [(0, 0)] * (100 - tp) + [(0, 1)] * fp + [(0, 0)] * (100 - fp)
        return [[n < 100, n >= 100, *flags] for n, flags in enumerate(outcomes)]

    measures = (rate("tpr", column=2, over=0), rate("fpr", column=3, over=1))
    odds = (Gap("worst", ("tpr", "fpr")), Gap("ratio", ("tpr", "fpr"), "ratio"))
    held = table(
        {"sex": ["F"] * 200 + ["M"] * 200},
        decisions(80, 20) + decisions(60, 50),
        measures=measures,
        gaps=odds,
    )
    for name, value in (("worst", 0.3), ("ratio", 0.4)):
        estimate, disparity = gap(held, f"t/m.{name}@sex")
        assert estimate.value == pytest.approx(value)
        assert (disparity.measure, disparity.low, disparity.high) == ("m.fpr", "F", "M")


def test_a_lower_end_is_above_no_gap_only_where_the_permutation_test_refutes_equality():
    # 1 of 20 against 7 of 20: by square-and-add alone the lower end would be .0095; Fisher's p is .0436.
    estimate, disparity = gap(two_groups(20, 20, 1, 7))
    assert disparity.p_value == pytest.approx(fisher_exact([[1, 19], [7, 13]]).pvalue)
    assert disparity.p_value > 0.025
    assert estimate.interval.low == 0
    estimate, disparity = gap(two_groups(20, 20, 1, 8))
    assert disparity.p_value < 0.025
    assert estimate.interval.low > 0


def test_what_chance_shows_of_a_ratio_of_parts_is_that_of_the_ratio():
    # Half of the replicates select each sample: the share of right ones is what it is where all select it.
    right = np.array([1.0, 0.0, 1.0, 1.0, 0.0] * 20)
    sexes = {"sex": ["F", "M"] * 50}
    ppv = {"measures": (rate("ppv", column=1, over=0),), "gaps": (Gap("gap", ("ppv",)),)}
    whole, parts = (
        gap(table(sexes, np.column_stack([s * np.ones(100), s * right]), binary=b, **ppv))[1]
        for s, b in ((1.0, True), (0.5, False))
    )
    assert parts.value == pytest.approx(whole.value)
    assert parts.expected == pytest.approx(whole.expected)
    assert parts.p_value == pytest.approx(whole.p_value)


def test_only_groups_that_the_data_make_large_enough_are_told_as_not_measured():
    sexes = ["F"] * 40 + ["M"] * 40 + ["small"] * 5
    held = table({"sex": sexes}, [1.0, 0.0] * 42 + [1.0], missing={"sex": ["X"] * 30})
    told = gap(held)[0].warnings
    assert told[1] == "large enough and not measured: X; no rule passes on the gap without"
