"""Which samples changed sides: counts against other programs, ranking, noise, and the answers beside them."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from evalkit.compare import compare_tables
from evalkit.flips import (
    find_rows,
    flip_ledger,
    measure_name,
    sample_scores,
    shown_samples,
    with_answers,
)
from evalkit.metrics.base import corpus, mean, rate, ratio
from evalkit.scoring import MetricTable

RIGHT, SCORE, LOSS = (
    rate("", column=0),
    mean("score", column=1),
    mean("loss", column=1, unit="nats", better="lower"),
)
MICRO = corpus("micro", lambda s, n: ratio(s[..., 0], n), unit="fraction")


def table(right, scores=None, *, ids=None, slices=None, missing=(), lost=None, **changes):
    """A table over samples s0, s1 …; ``slices`` holds fields with a value per sample, ``lost`` those of ``missing``."""
    right = np.asarray(right, dtype=float)
    ids = [f"s{i}" for i in range(len(right))] if ids is None else list(ids)
    slices, lost = slices or {}, lost or {}
    planned = Counter({None: len(ids) + len(missing)})
    for name, values in slices.items():
        planned.update(f"{name}={value}" for value in [*values, *lost.get(name, ())])
    fields = {
        "task": "extract",
        "metric": "json",
        "signature": "json|v:1",
        "dataset": "d" * 64,
        "measures": (RIGHT, SCORE, LOSS),
        "binary": True,
        "clusters": None,
        **changes,
    }
    return MetricTable(
        sample_ids=ids,
        stats_NK=np.column_stack([right, right if scores is None else np.asarray(scores)]),
        attributes=slices,
        planned=dict(planned),
        completed=dict(planned),
        missing_ids=list(missing),
        missing_attributes=lost,
        **fields,
    )


def ledger(candidate, baseline, measure=RIGHT, level=0.95, **options):
    tables = {"candidate": [candidate], "baseline": [baseline]}
    found = compare_tables(tables, 0, level)
    return flip_ledger(candidate, baseline, measure, found, level=level, **options)


def random_pair(seed, n=120, **changes):
    rng = np.random.default_rng(seed)
    slices = {
        "region": rng.choice(["eu", "us", "asia"], n).tolist(),
        "plan": rng.choice(["free", "paid"], n).tolist(),
    }
    return [
        table(rng.random(n) < right, rng.random(n).round(1), slices=slices, **changes)
        for right in (0.7, 0.8)
    ]


def samples(flips):
    return [flip.sample for flip in flips]


# --- scores by sample


def test_every_planned_sample_has_a_score_or_none_under_each_model():
    candidate = table([1, 0], ids=["a", "b"], missing=["c"])
    baseline = table([0, 1], ids=["a", "c"], missing=["b", "d"])
    tables = {"candidate": [candidate], "baseline": [baseline]}
    assert sample_scores(tables, "extract/json") == {
        "a": (1.0, 0.0),
        "b": (0.0, None),
        "c": (None, 1.0),
        "d": (None, None),
    }


def test_a_slice_holds_its_samples_whether_they_were_scored_or_not():
    held = table(
        [1, 0],
        [0.5, 0.25],
        slices={"region": ["eu", "us"]},
        missing=["m", "n"],
        lost={"region": ["us", "eu"]},
    )
    found = sample_scores({"candidate": [held]}, "extract/json.score@region=us")
    assert found == {"s1": (0.25, None), "m": (None, None)}


@pytest.mark.parametrize(
    "name",
    [
        "extract/json.micro",
        "extract/json.other",
        "other/json",
        "extract/json@region=mars",
        "extract/json@",
        "extract",
        "",
    ],
)
def test_corpus_measures_and_unknown_names_have_no_scores(name):
    held = table([1], slices={"region": ["eu"]}, measures=(RIGHT, MICRO))
    assert sample_scores({"candidate": [held], "baseline": [held]}, name) is None


@pytest.mark.parametrize("change", [{"dataset": "e" * 64}, {"signature": "json|v:2"}])
def test_scores_measured_differently_are_not_put_side_by_side(change):
    tables = {"candidate": [table([1, 0])], "baseline": [table([1, 1], **change)]}
    assert sample_scores(tables, "extract/json") == {"s0": (1.0, None), "s1": (0.0, None)}


def test_a_run_without_baseline_has_the_candidates_scores():
    assert sample_scores({"candidate": [table([1])]}, "extract/json") == {"s0": (1.0, None)}


def test_every_rate_and_mean_is_found_under_its_name():
    held = table([1, 0], [0.5, 0.5])
    for measure in held.measures:
        found = sample_scores({"candidate": [held]}, measure_name(held, measure))
        assert found is not None
        assert [score for score, _ in found.values()] == held.stats_NK[:, measure.column].tolist()


# --- the ledger


def test_agrestis_approval_ratings_as_a_ledger():
    """Agresti, Categorical Data Analysis, table 10.1: of 1,600 people 794 approve twice, 150 no longer, 86 newly."""
    first = np.repeat([1, 1, 0, 0], [794, 150, 86, 570])
    second = np.repeat([1, 0, 1, 0], [794, 150, 86, 570])
    held = ledger(table(second), table(first)).whole
    assert (held.pairs, held.worsened, held.improved) == (1600, 150, 86)
    assert held.difference == pytest.approx(-0.04)
    exact = mcnemar([[794, 150], [86, 570]], exact=True).pvalue
    assert exact == pytest.approx(3.716e-5, abs=5e-9)
    assert held.p_value == pytest.approx(exact - binom.pmf(86, 236, 0.5))
    assert (
        held.interval is not None
    )  # published: Wald's (-.0587, -.0213); Bonett-Price lies next to it
    assert (held.interval.low, held.interval.high) == pytest.approx((-0.0587, -0.0213), abs=2e-4)
    assert held.finding == "worse"


@pytest.mark.parametrize("seed", range(5))
def test_counts_are_those_of_a_cross_table(seed):
    candidate, baseline = random_pair(seed)
    frame = pandas.DataFrame(
        {
            "slice": candidate.attributes["region"],
            "was": baseline.stats_NK[:, 0] == 1,
            "is": candidate.stats_NK[:, 0] == 1,
        }
    )
    crossed = pandas.crosstab(frame["slice"], [frame["was"], frame["is"]])
    for held in ledger(candidate, baseline, field="region").slices:
        assert held.slice is not None
        row = crossed.loc[held.slice.removeprefix("region=")]
        assert (held.worsened, held.improved) == (row[True, False], row[False, True])
        assert held.pairs == row.sum()


@pytest.mark.parametrize("measure", [RIGHT, SCORE, LOSS])
@pytest.mark.parametrize("changes", [{}, {"clusters": [f"c{i // 4}" for i in range(120)]}])
def test_a_slices_numbers_are_those_of_its_comparison(measure, changes):
    candidate, baseline = random_pair(1, **changes)
    tables = {"candidate": [candidate], "baseline": [baseline]}
    compared = {c.name: c for c in compare_tables(tables, 0, 0.9)}
    found = ledger(candidate, baseline, measure, level=0.9)
    assert len(found.slices) == 5
    for held in (found.whole, *found.slices):
        other = compared[f"{found.name}@{held.slice}" if held.slice else found.name]
        assert (held.worsened, held.improved) == (other.worsened, other.improved)
        for name in ("pairs", "unpaired", "difference", "interval", "p_value", "test"):
            assert getattr(held, name) == getattr(other, name)


def test_p_values_of_slices_are_adjusted_for_their_number():
    candidate, baseline = random_pair(3)
    held = ledger(candidate, baseline).slices
    adjusted = multipletests([h.p_value for h in held], method="fdr_bh")[1]
    assert [h.p_adjusted for h in held] == pytest.approx(adjusted)


def test_one_slice_of_many_that_lost_by_chance_is_no_finding():
    regions = np.repeat([f"r{i:02d}" for i in range(20)], 40).tolist()
    was, now = np.ones(800), np.ones(800)
    now[:6] = 0  # six of the forty samples of r00, and one of each other region in either direction
    now[40::40], was[41::40] = 0, 0
    found = ledger(table(now, slices={"region": regions}), table(was, slices={"region": regions}))
    worst = found.slices[0]
    assert (worst.slice, worst.worsened) == ("region=r00", 6)
    assert worst.p_value is not None
    assert worst.p_value < 0.05
    assert worst.finding == ""


def test_a_slice_that_really_lost_is_a_finding_and_stands_first():
    regions = np.repeat(["a", "b", "c"], 100).tolist()
    now = np.ones(300)
    now[100:130] = 0
    found = ledger(
        table(now, slices={"region": regions}), table(np.ones(300), slices={"region": regions})
    )
    assert [(held.slice, held.finding) for held in found.slices] == [
        ("region=b", "worse"),
        ("region=a", ""),
        ("region=c", ""),
    ]


def test_flips_that_are_equal_in_size_stand_by_slice_the_one_that_lost_most_first():
    regions = ["a", "b", "b", "a", "b", "c"]
    found = ledger(
        table([0, 0, 0, 1, 0, 1], slices={"region": regions}),
        table([1, 1, 1, 0, 1, 0], slices={"region": regions}),
    )
    assert [held.slice for held in found.slices] == ["region=b", "region=a", "region=c"]
    assert samples(found.whole.worse) == ["s1", "s2", "s4", "s0"]
    assert samples(found.whole.better) == ["s5", "s3"]
    assert found.whole.worse[0].slices == {"region": "b"}


def test_samples_of_a_mean_are_ranked_by_how_much_they_changed():
    was, now = [0.9, 0.5, 0.2, 0.4], [0.1, 0.4, 0.9, 0.5]
    found = ledger(table([1] * 4, now), table([1] * 4, was), SCORE).whole
    assert (samples(found.worse), samples(found.better)) == (["s0", "s1"], ["s2", "s3"])
    assert (found.worse[0].baseline, found.worse[0].candidate) == (0.9, 0.1)


def test_where_lower_is_better_a_rise_is_worse():
    found = ledger(table([1] * 2, [0.9, 0.1]), table([1] * 2, [0.5, 0.5]), LOSS).whole
    assert (samples(found.worse), samples(found.better)) == (["s0"], ["s1"])


def test_a_change_no_larger_than_the_threshold_is_none():
    was, now = [0.5, 0.5, 0.5, 0.5], [0.25, 0.24, 0.75, 0.9]
    found = ledger(table([1] * 4, now), table([1] * 4, was), SCORE, threshold=0.25).whole
    assert (samples(found.worse), samples(found.better)) == (["s1"], ["s3"])
    assert (found.worsened, found.improved, found.pairs) == (1, 1, 4)


def test_so_many_are_shown_of_each_direction_and_all_are_counted():
    found = ledger(table([0] * 9), table([1] * 9), most=4).whole
    assert samples(found.worse) == ["s0", "s1", "s2", "s3"]
    assert (found.worsened, found.better) == (9, ())


def test_grouped_by_a_field_each_of_its_values_shows_its_own_samples():
    slices = {"region": ["a", "b", "b", "a"], "plan": ["x", "x", "y", "y"]}
    found = ledger(
        table([0, 0, 0, 1], slices=slices), table([1] * 4, slices=slices), field="region", most=1
    )
    assert [(held.slice, samples(held.worse)) for held in found.slices] == [
        ("region=b", ["s1"]),
        ("region=a", ["s0"]),
    ]
    assert (found.whole.worse, found.whole.worsened) == ((), 3)


def test_samples_scored_for_one_model_alone_are_counted_as_unpaired():
    candidate = table([0, 0], ids=["a", "b"], missing=["c"])
    baseline = table([1, 1], ids=["b", "c"], missing=["a"])
    held = ledger(candidate, baseline).whole
    assert (held.pairs, held.unpaired, held.worsened, samples(held.worse)) == (1, 2, 1, ["b"])


def test_without_pairs_the_ledger_is_empty():
    held = ledger(table([0], ids=["a"]), table([1], ids=["b"])).whole
    assert (held.pairs, held.difference, held.p_value, held.finding) == (0, None, None, "")


def test_averaged_replicates_are_no_flips_between_right_and_wrong():
    one, two = table([0.5, 1.0], binary=False), table([1.0, 1.0], binary=False)
    found = ledger(one, two)
    assert (found.binary, found.whole.worsened) == (False, 1)
    assert ledger(table([1]), table([1])).binary


@given(st.integers(0, 10_000), st.sampled_from([RIGHT, SCORE, LOSS]))
def test_the_order_of_samples_does_not_matter(seed, measure):
    candidate, baseline = random_pair(seed, n=40)
    turned = shuffled(baseline, seed)
    assert ledger(candidate, baseline, measure) == ledger(candidate, turned, measure)
    again = ledger(shuffled(candidate, seed), baseline, measure)
    straight = ledger(candidate, baseline, measure)
    for one, two in zip(straight.slices, again.slices, strict=True):
        assert (one.worsened, one.improved, one.pairs) == (two.worsened, two.improved, two.pairs)


def shuffled(held, seed):
    order = np.random.default_rng(seed).permutation(len(held.sample_ids))
    return dataclasses.replace(
        held,
        sample_ids=[held.sample_ids[i] for i in order],
        stats_NK=held.stats_NK[order],
        attributes={name: [values[i] for i in order] for name, values in held.attributes.items()},
    )


@given(st.integers(0, 10_000), st.sampled_from([RIGHT, SCORE, LOSS]))
def test_models_that_change_places_change_the_signs(seed, measure):
    candidate, baseline = random_pair(seed, n=40)
    there, back = ledger(candidate, baseline, measure), ledger(baseline, candidate, measure)
    assert (there.whole.worsened, there.whole.improved) == (
        back.whole.improved,
        back.whole.worsened,
    )
    assert there.whole.p_value == pytest.approx(back.whole.p_value)
    assert {"worse": "better", "better": "worse", "": ""}[there.whole.finding] == back.whole.finding


@given(st.integers(0, 10_000), st.sampled_from([RIGHT, SCORE, LOSS]))
def test_the_values_of_a_field_add_up_to_the_whole(seed, measure):
    candidate, baseline = random_pair(seed, n=40)
    found = ledger(candidate, baseline, measure)
    for name in ("region", "plan"):
        parts = [held for held in found.slices if (held.slice or "").startswith(f"{name}=")]
        for count in ("pairs", "unpaired", "worsened", "improved"):
            assert sum(getattr(held, count) for held in parts) == getattr(found.whole, count)


@given(st.integers(0, 10_000), st.sampled_from([RIGHT, SCORE, LOSS]))
def test_a_model_against_itself_changes_nothing(seed, measure):
    held, _ = random_pair(seed, n=40)
    found = ledger(held, held, measure)
    for one in (found.whole, *found.slices):
        assert (one.worsened, one.improved, one.finding) == (0, 0, "")


def test_tables_measured_differently_make_no_ledger():
    with pytest.raises(AssertionError, match="measured differently"):
        ledger(table([1]), table([1], signature="json|v:2"))


# --- the answers


def row(sample, model="candidate", **changes):
    return {
        "model": model,
        "task": "extract",
        "id": sample,
        "prompt": f"Ask {sample}",
        "targets": ["yes"],
        "answers": [{"text": f"{model} {sample}", "finish_reason": "stop"}],
        **changes,
    }


def answered(candidate, baseline=None):
    """The one flip of a ledger with these rows' texts."""
    found = ledger(table([0]), table([1]))
    place = ("extract", "s0")
    ours, theirs = ({place: r} if r else {} for r in (candidate, baseline))
    return with_answers(found, ours, theirs).whole.worse[0]


def test_only_the_samples_shown_are_looked_for():
    found = ledger(table([0, 1, 0, 0]), table([1, 1, 1, 0]), most=1)
    assert shown_samples([found]) == {("extract", "s0")}


def test_rows_are_read_once_and_no_further_than_the_last_one_wanted():
    read = []

    def rows():
        for model in ("candidate", "baseline"):
            for i in range(4):
                read.append((model, i))
                yield row(f"s{i}", model)

    found = find_rows(rows(), ("candidate", "baseline"), [("extract", "s1")])
    assert found["baseline"] == {("extract", "s1"): row("s1", "baseline")}
    assert found["candidate"] == {("extract", "s1"): row("s1")}
    assert read[-1] == ("baseline", 1)


def test_where_nothing_is_wanted_nothing_is_read():
    def rows():
        raise AssertionError("nobody asked")
        yield

    assert find_rows(rows(), ("candidate",), []) == {"candidate": {}}


def test_rows_of_other_tasks_and_models_are_passed_over():
    rows = [row("s0", "baseline"), row("s0", task="other"), row("s0")]
    assert find_rows(rows, ("candidate",), [("extract", "s0")]) == {
        "candidate": {("extract", "s0"): row("s0")}
    }


def test_a_flip_tells_what_was_asked_and_what_both_answered():
    flip = answered(row("s0"), row("s0", "baseline"))
    assert (flip.question, flip.targets) == ("Ask s0", ("yes",))
    assert flip.baseline_answers == ("baseline s0",)
    assert flip.candidate_answers == ("candidate s0",)


def test_of_a_chat_the_last_message_is_the_question():
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    assert answered(row("s0", messages=chat)).question == "Why?"


def test_choices_stand_in_the_order_of_their_likelihood_and_the_target_by_its_text():
    answers = [{"logprob": -2.5, "tokens": 1}, {"logprob": -0.5, "tokens": 1}]
    flip = answered(row("s0", choices=["cat", "dog"], targets=["0"], answers=answers))
    assert (flip.candidate_answers, flip.targets) == (("dog -0.50, cat -2.50",), ("cat",))


def test_a_text_without_answer_shows_its_likelihood():
    flip = answered(row("s0", answers=[{"logprob": -31.37, "tokens": 93}]))
    assert flip.candidate_answers == ("-31.37",)


def test_a_model_whose_row_is_gone_has_no_answers():
    assert answered(None, row("s0", "baseline")).candidate_answers == ()
    assert answered(None, row("s0", "baseline")).question == "Ask s0"


def test_half_a_character_is_written_as_an_escape():
    flip = answered(row("s0", answers=[{"text": "a\ud83d"}]))
    assert flip.candidate_answers == ("a\\ud83d",)
    assert flip.model_dump_json()
