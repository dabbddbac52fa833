"""How a gap changes from baseline to candidate, on the same samples."""

from __future__ import annotations

import dataclasses
from math import hypot

import numpy as np
import pytest
from group_tables import GAP, MISSING, table, two_groups

from evalkit.fairness import compare_gaps
from evalkit.metrics.base import Gap, corpus, rate, ratio
from evalkit.stats.discordant import bonett_price_interval
from evalkit.stats.paired import LEVELS


def changes(candidate, baseline):
    found = compare_gaps({"candidate": [candidate], "baseline": [baseline]}, seed=3, level=0.95)
    return {comparison.name: comparison for comparison in found}


def change(candidate, baseline, name="t/m.gap@sex"):
    return changes(candidate, baseline)[name]


def without(held, ids):
    """The table in which these samples were answered and have no score."""
    scored = [n for n, name in enumerate(held.sample_ids) if name not in ids]
    missing = [n for n, name in enumerate(held.sample_ids) if name in ids]
    return dataclasses.replace(
        held,
        sample_ids=[held.sample_ids[n] for n in scored],
        stats_NK=held.stats_NK[scored],
        attributes={f: [v[n] for n in scored] for f, v in held.attributes.items()},
        missing_ids=[held.sample_ids[n] for n in missing],
        missing_attributes={f: [v[n] for n in missing] for f, v in held.attributes.items()},
        missing_completed=[True] * len(missing),
    )


def test_a_model_against_itself_has_no_change():
    held = two_groups(200, 300, 100, 240)
    found = change(held, held)
    assert (found.status, found.difference, found.pairs, found.unpaired) == ("compared", 0, 500, 0)
    assert found.candidate == found.baseline == pytest.approx(0.3)
    assert found.interval.low < 0 < found.interval.high
    assert tuple(held.level for held in found.intervals) == LEVELS
    assert found.better == "lower"
    assert (found.worst, found.best) == (None, None)


def test_an_interval_spends_its_error_on_the_pairs_on_telling_the_widest_and_on_both_gaps():
    # A fifth goes to both gaps' own intervals, a tenth of the rest to telling which groups lie farthest apart; what
    # remains is Bonett and Price's interval of each group's difference, joined by square-and-add.
    held = two_groups(200, 300, 160, 240)
    level = 1 - 0.05 * 0.8 * 0.9
    ends = [bonett_price_interval(0, 0, n, level).high for n in (200, 300)]
    found = change(held, held)
    assert found.interval.high == pytest.approx(hypot(*ends))
    assert found.interval.low == pytest.approx(-hypot(*ends))


def test_a_gap_that_opens_is_told_with_an_interval_that_grows_with_its_level():
    found = change(two_groups(400, 400, 200, 340), two_groups(400, 400, 320, 320))
    assert found.baseline == 0
    assert found.difference == pytest.approx(0.35)
    assert found.interval.low > 0.15
    for narrow, wide in zip(found.intervals, found.intervals[1:], strict=False):
        assert wide.low <= narrow.low < 0.35 < narrow.high <= wide.high


def test_both_groups_may_gain_while_the_gap_opens():
    found = change(two_groups(400, 400, 210, 390), two_groups(400, 400, 200, 200))
    assert found.difference == pytest.approx(0.45)
    assert found.interval.low > 0.25


def test_a_ratio_has_no_change_by_a_difference():
    held = dataclasses.replace(two_groups(90, 90, 40, 70), gaps=(Gap("ratio", ("",), "ratio"),))
    assert "t/m.ratio@sex" not in changes(held, held)


def test_groups_must_be_large_enough_on_the_samples_that_both_scored():
    held = two_groups(30, 90, 20, 50)
    found = change(held, without(held, {f"s{n}" for n in range(11)}))
    assert (found.status, found.difference) == ("no pairs", None)
    assert found.reason == (
        "on the samples scored for both, only the group M has enough samples for the metric, and a gap takes two "
        "(F: only 19 samples, fewer than 20)"
    )


def test_unpaired_samples_reach_as_far_as_they_could_move_the_change():
    held = two_groups(100, 100, 50, 80)
    found = change(held, without(held, {"s0", "s1", "s2", "s3"}))
    assert (found.pairs, found.unpaired) == (196, 4)
    # 4 of 100 women may have moved from 0 to 1 or back: by 2·4/100 of the range.
    top = found.intervals[-1]
    assert found.worst.intervals[-1].high == pytest.approx(top.high + 0.08)
    assert found.worst.intervals[-1].low == top.low
    assert found.best.intervals[-1].low == pytest.approx(top.low - 0.08)


def test_samples_without_a_group_may_belong_to_any():
    sexes = ["F"] * 95 + ["M"] * 95 + [MISSING] * 5
    held = table({"sex": sexes}, [1.0, 0.0] * 95 + [0.0] * 5)
    found = change(held, held)
    assert (found.pairs, found.unpaired) == (190, 5)
    assert found.worst.intervals[0].high == pytest.approx(found.intervals[0].high + 2 * 2 * 5 / 100)


def test_what_was_measured_differently_is_not_compared():
    held = two_groups(90, 90, 40, 70)
    found = changes(held, dataclasses.replace(held, signature="m|v:2"))
    assert {c.status for c in found.values()} == {"incomparable"}
    assert list(found) == list(changes(held, held))
    assert "measured differently" in found["t/m.gap@sex"].reason
    (none,) = compare_gaps({"candidate": [held], "baseline": []}, 3, 0.95)[:1]
    assert none.reason == "the baseline has no metric 'm' on task 't'"


def test_without_a_baseline_nothing_is_compared():
    assert compare_gaps({"candidate": [two_groups(90, 90, 40, 70)]}, 3, 0.95) == []


def test_a_baseline_whose_suite_declared_no_groups_is_put_into_the_candidates():
    held = two_groups(90, 90, 40, 70)
    bare = dataclasses.replace(held, groups=None, gaps=(), attributes={}, missing_attributes={})
    assert change(held, bare) == change(held, held)


def test_shares_of_answers_without_a_score_are_compared_group_by_group():
    held = two_groups(90, 90, 40, 70)
    found = changes(without(held, {f"s{n}" for n in range(30)}), held)
    of_women = found["t/m.unscored@sex=F"]
    assert of_women.difference == pytest.approx(1 / 3)
    assert of_women.better == "lower"
    opened = found["t/m.unscored.gap@sex"]
    assert opened.difference == pytest.approx(1 / 3)
    assert opened.interval.low > 0.05


def test_rates_over_what_each_model_selected_and_corpus_measures_change_too():
    rng = np.random.default_rng(4)
    n = 300
    sexes = ["F", "M"] * (n // 2)
    label = rng.random(n) < 0.5

    def selected(noise):
        chosen = label ^ (rng.random(n) < noise)
        return np.column_stack([chosen, chosen & label, rng.integers(1, 9, n)]).astype(float)

    measures = (
        rate("ppv", column=1, over=0),
        corpus("per_word", lambda s, n: ratio(s[..., 0], s[..., 2]), unit="fraction"),
    )
    names = (Gap("ppv.gap", ("ppv",)), Gap("per_word.gap", ("per_word",)))
    held = {"measures": measures, "gaps": names}
    ours, theirs = (table({"sex": sexes}, selected(noise), **held) for noise in (0.1, 0.3))
    found = changes(ours, theirs)
    for name in ("t/m.ppv.gap@sex", "t/m.per_word.gap@sex"):
        one = found[name]
        assert one.interval.low < one.difference < one.interval.high, name


def test_where_samples_decide_how_many_there_are_a_change_has_no_interval():
    held = dataclasses.replace(two_groups(90, 90, 40, 70), anytime=True)
    found = change(held, held)
    assert (found.interval, found.intervals) == (None, ())
    assert "no interval holds then" in found.warnings[0]


def test_a_change_covers_the_true_one_as_often_as_its_level_says():
    # Four groups; the candidate loses 10 points in one of them, the baseline treats all alike: the true change is .10.
    rng = np.random.default_rng(11)
    sexes = [name for name in "ABCD" for _ in range(150)]
    worse = np.array([0.7 if name == "A" else 0.8 for name in sexes])
    covered = 0
    for _ in range(30):
        common = rng.random(len(sexes))
        theirs = (common < 0.8).astype(float)
        ours = np.where(rng.random(len(sexes)) < 0.3, rng.random(len(sexes)), common) < worse
        held = [table({"sex": sexes}, stats, gaps=GAP) for stats in (ours.astype(float), theirs)]
        interval = change(*held).interval
        covered += interval.low <= 0.1 <= interval.high
    assert covered >= 25  # of 30 at 95 %: fewer happens once in 300 if it holds


def test_adding_groups_of_five_changes_no_comparison():
    sexes = ["F"] * 100 + ["M"] * 100
    rng = np.random.default_rng(2)
    ours, theirs = rng.integers(0, 2, (2, 200)).astype(float)
    small = [f"g{n}" for n in range(4) for _ in range(5)]
    before = change(table({"sex": sexes}, ours), table({"sex": sexes}, theirs))
    after = change(
        table({"sex": [*small, *sexes]}, [*([0.0] * 20), *ours]),
        table({"sex": [*small, *sexes]}, [*([1.0] * 20), *theirs]),
    )
    told = {"warnings": ()}
    assert before.model_copy(update=told) == after.model_copy(update=told)
    assert after.warnings[0].startswith("groups left out: g0: only 5 samples")


def three_groups(right=30, n=60):
    """Three groups of ``n``, each with so many right answers."""
    stats = ([1.0] * right + [0.0] * (n - right)) * 3
    return table({"sex": [group for group in "FMX" for _ in range(n)]}, stats)


def test_a_group_of_which_too_few_samples_were_scored_for_both_leaves_the_change_open():
    held = three_groups()
    short = without(held, {f"s{n}" for n in range(120, 170)})  # 50 of the 60 of X
    whole = {f"s{n}" for n in range(120, 180)}
    for one in (change(short, held), change(held, short), change(held, without(held, whole))):
        assert one.status == "compared"
        assert (one.interval, one.intervals) == (None, ())
        assert "sex=X is large enough" in one.warnings[0]


def test_a_group_that_the_baseline_leaves_out_is_told_and_leaves_the_change_open():
    # Of X the baseline selects ten: its share of right ones is then not known well enough to compare.
    def selecting(of_x):
        chosen = np.array([1.0] * 120 + [1.0] * of_x + [0.0] * (60 - of_x))
        return table(
            {"sex": [group for group in "FMX" for _ in range(60)]},
            np.column_stack([chosen, chosen * np.tile([1.0, 0.0], 90)]),
            measures=(rate("ppv", column=1, over=0, over_answers=True),),
            gaps=(Gap("ppv.gap", ("ppv",)),),
        )

    found = change(selecting(40), selecting(10), "t/m.ppv.gap@sex")
    assert found.intervals == ()
    assert "sex=X is large enough" in found.warnings[0]
    assert "only 10 samples, fewer than 20" in found.warnings[0]
    assert change(selecting(40), selecting(40), "t/m.ppv.gap@sex").intervals


def test_where_the_baselines_samples_decided_how_many_there_are_a_change_has_no_interval_either():
    held = two_groups(90, 90, 40, 70)
    found = change(held, dataclasses.replace(held, anytime=True))
    assert (found.interval, found.intervals) == (None, ())


def test_a_baseline_of_averaged_replicates_is_not_counted_as_zeros_and_ones():
    ours = two_groups(90, 90, 40, 70)
    averaged = dataclasses.replace(ours, stats_NK=ours.stats_NK / 2 + 0.25, binary=False)
    found = change(ours, averaged)
    assert found.interval == change(dataclasses.replace(ours, binary=False), averaged).interval
