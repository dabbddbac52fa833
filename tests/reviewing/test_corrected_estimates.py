"""A judge's scores corrected by people's ratings of a uniform draw: published numbers, what is missing, coverage."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from review_worlds import rated, suite, table

from evalkit.gates.evaluate import evaluate
from evalkit.gates.people import CORRECTED as RULES_CORRECTED
from evalkit.gates.people import lacking_ratings, reads_ratings
from evalkit.loaders.gate_fit import check_gates_against_suite
from evalkit.loaders.gates import load_gate
from evalkit.metrics.base import mean
from evalkit.records.judging import JudgeRecord
from evalkit.records.scorecard import Circumstances, Provenance, Scorecard
from evalkit.records.suite import GateSpec, JudgeSpec
from evalkit.reviewing import human_estimates
from evalkit.reviewing.corrected import (
    CORRECTED,
    beside_raw,
    corrected_comparisons,
    corrected_estimates,
)
from evalkit.stats.corrected import judged_mean
from evalkit.stats.discordant import tango_interval
from evalkit.stats.intervals import t_interval
from evalkit.stats.paired import LEVELS

NAME = f"write/{CORRECTED}"
LABELS = [1, 0, 1, 1, 0, 1, 1, 0, 1, 1]
JUDGED = [1, 0, 1, 1, 1, 1, 1, 0, 1, 1]
OTHERS = [1] * 75 + [0] * 25


def judged(scores, **changes):
    """A judge's table from the scores of samples s0, s1 …; None for no judgement."""
    held = {f"s{n}": score for n, score in enumerate(scores) if score is not None}
    missing = [f"s{n}" for n, score in enumerate(scores) if score is None]
    made = table(
        held, metric="judged", kind="mean", missing=missing, clusters=changes.pop("clusters", None)
    )
    return replace(made, measures=(mean("score", column=0),), judges=("quality",), **changes)


def people(labels, model="candidate"):
    """What people said of samples s0, s1 …, from 0 to 1; None for an answer that was drawn and not rated."""
    return [
        rated(n, model) if label is None else rated(n, model, ann=round(1 + 4 * label))
        for n, label in enumerate(labels)
        if label != "not drawn"
    ]


def corrected(labels, scores, **changes):
    (found,) = corrected_estimates(
        people(labels), suite(), {"candidate": [judged(scores, **changes)]}
    )
    return found


def both(labels, scores, **changes):
    """The comparison of two models from (candidate, baseline) labels and scores."""
    ours, theirs = ([pair[side] for pair in labels] for side in (0, 1))
    measured = {
        role: [judged([pair[side] for pair in scores], **changes)]
        for side, role in enumerate(("candidate", "baseline"))
    }
    rows = people(ours) + people(theirs, "baseline")
    return corrected_comparisons(rows, suite(), measured)


def test_the_estimate_is_that_of_a_worked_example():
    """Source: ppi-python 0.2.3, ``ppi_mean_pointestimate`` on these numbers, λ tuned."""
    found = corrected(LABELS, JUDGED + OTHERS)
    assert found.value == pytest.approx(0.66595, abs=5e-6)
    assert (found.name, found.kind, found.unit, found.better) == (
        NAME,
        "mean",
        "fraction",
        "higher",
    )
    assert found.interval.method == "ppi++"
    assert found.interval.low <= 0.4678 and found.interval.high >= 0.8641
    assert (found.counts.planned, found.counts.scored) == (110, 110)
    assert "10 labelled answers; below 100" in found.warnings[0]


def test_labels_on_every_judged_answer_give_peoples_own_mean():
    labels = [n % 5 / 4 for n in range(40)]
    found = corrected(labels, [1.0] * 40)
    own = t_interval(np.array(labels), 0.95)
    assert found.value == pytest.approx(0.5)
    assert (found.interval.low, found.interval.high) == pytest.approx((own.low, own.high))


def test_the_paired_difference_is_peoples_where_the_judge_sees_none():
    """The judge gives both models the same: people's differences of the rated pairs are all there is."""
    labels = [(n % 4 / 4 + 0.25, n % 4 / 4) if n % 3 else (0.5, 0.5) for n in range(60)]
    scores = [(n % 2, n % 2) for n in range(300)]
    (found,) = both(labels, scores)
    apart = np.array([a - b for a, b in labels])
    own = t_interval(apart, 0.95)
    assert found.difference == pytest.approx(apart.mean())
    assert found.candidate - found.baseline == pytest.approx(found.difference)
    assert (found.interval.low, found.interval.high) == pytest.approx((own.low, own.high))
    assert [held.level for held in found.intervals] == list(LEVELS)
    assert (found.pairs, found.unpaired, found.worst) == (300, 0, None)


def test_a_drawn_answer_that_nobody_rated_may_be_the_worst_or_the_best():
    scores = [n % 2 for n in range(400)]
    labels = [n % 2 for n in range(100)]
    labels[::7] = [(n % 4) / 4 for n in range(len(labels[::7]))]
    known, lost = corrected(labels, scores), corrected([*labels[:90], *[None] * 10], scores)
    assert lost.interval.low < known.interval.low - 0.02
    assert lost.interval.high > known.interval.high + 0.02
    assert any("10 drawn answers have no rating" in told for told in lost.warnings)
    pairs, pair_scores = [(label, 0.5) for label in labels], [(score, 0.5) for score in scores]
    (whole,), (half,) = (
        both(pairs, pair_scores),
        both([*pairs[:90], *[(None, 0.5)] * 10], pair_scores),
    )
    assert half.interval.low < whole.interval.low - 0.02
    assert half.interval.high > whole.interval.high + 0.02
    (neither,) = both([*pairs[:90], *[(None, None)] * 10], pair_scores)
    assert neither.interval.low < half.interval.low - 0.02
    assert neither.interval.high > half.interval.high + 0.02


def test_an_answer_without_a_judgement_is_left_out_counted_and_told():
    scores = [n % 2 for n in range(200)]
    labels = [n % 3 / 2 for n in range(100)]
    without = [None, *scores[1:]]
    found = corrected(labels, without)
    rest = corrected(["not drawn", *labels[1:]], without)
    assert found.value == rest.value
    assert (found.counts.planned, found.counts.scored) == (200, 199)
    assert "1 rated answers have no judgement and are left out" in found.warnings
    pairs = [(label, label) for label in labels]
    (held,) = both(pairs, [(None, 1), *[(s, s) for s in scores[1:]]])
    assert (held.pairs, held.unpaired) == (199, 1)
    assert held.worst.difference == pytest.approx(199 / 200 * held.difference - 1 / 200)
    assert held.best.difference == pytest.approx(199 / 200 * held.difference + 1 / 200)
    assert len(held.worst.intervals) == len(LEVELS)


def test_agreement_on_every_label_does_not_prove_agreement_on_the_rest():
    """Of 100 labels none tells judge from people: Tango's interval for 0 of 100 still reaches ±3.7 %."""
    scores = [n % 2 for n in range(20_000)]
    found = corrected(scores[:100], scores)
    reach = tango_interval(0, 0, 100, 0.95).high
    assert found.interval.high - found.value >= reach
    assert found.value - found.interval.low >= reach
    everything = corrected([1] * 100, [1] * 20_000)
    assert everything.value == 1 and everything.interval.low <= 1 - reach


def test_clusters_widen_the_interval():
    rng = np.random.default_rng(1)
    labels = np.repeat(rng.random(20) < 0.5, 5).astype(float)
    scores = [*np.where(rng.random(100) < 0.8, labels, 1 - labels), *(rng.random(400) < 0.5)]
    clusters = {f"s{n}": f"c{n // 5}" for n in range(500)}
    alone, within = (
        corrected(list(labels), scores),
        corrected(list(labels), scores, clusters=clusters),
    )
    assert alone.value == within.value
    assert within.interval.high - within.interval.low > 1.3 * (
        alone.interval.high - alone.interval.low
    )


def test_too_few_labels_give_no_interval_and_one_no_value():
    assert corrected([1], [1, 0, 1]).value is None
    few = corrected([1, 0, 1], [1, 0, 1] * 9)
    assert few.value is not None and few.interval is None
    assert any("too few for an interval" in told for told in few.warnings)
    (none,) = both([(1, 0)], [(1, 0)] * 9)
    assert none.status == "no pairs" and none.difference is None


def test_samples_that_decided_how_many_there_are_leave_no_interval():
    found = corrected(LABELS, JUDGED + OTHERS, anytime=True)
    assert found.value is not None and found.interval is None
    (held,) = both([(n % 2, 1) for n in range(20)], [(1, 1)] * 90, anytime=True)
    assert held.intervals == () and held.interval is None


def test_a_model_that_nobody_rated_is_not_corrected_nor_compared():
    measured = {"candidate": [judged(JUDGED + OTHERS)], "baseline": [judged(JUDGED + OTHERS)]}
    assert {e.model for e in corrected_estimates(people(LABELS), suite(), measured)} == {
        "candidate"
    }
    assert corrected_comparisons(people(LABELS), suite(), measured) == []
    assert corrected_estimates(people(LABELS), suite(), {"candidate": [table({"s0": 1})]}) == []


def test_judges_that_were_not_the_same_for_both_models_are_not_compared():
    measured = {
        "candidate": [judged([1] * 40)],
        "baseline": [judged([1] * 40, signature="judged|v:2|task:abc")],
    }
    rows = people([1] * 20) + people([0] * 20, "baseline")
    (held,) = corrected_comparisons(rows, suite(), measured)
    assert held.status == "incomparable" and "measured differently" in held.reason


RAW = {"name": "judged", "options": {"judge": "quality"}}
JUDGE = JudgeRecord(
    judge="quality", form="pointwise", pins="p", model="m", metrics=("write/judged",)
)


def scorecard(labels, scores, judges=(JUDGE,)):
    """A run with the raw score, the corrected one and people's own."""
    from evalkit.estimating import estimate_tables

    measured = {"candidate": [judged(scores)]}
    rows = people(labels)
    held = list(estimate_tables(measured, 0, 0.95))
    held = beside_raw(held, corrected_estimates(rows, suite(), measured))
    return Scorecard(
        provenance=Provenance(
            suite="s", suite_version=1, suite_digest="", models={}, datasets={}, seed=0, versions={}
        ),
        estimates=(*held, *human_estimates(rows, suite(), measured)),
        comparisons=(),
        judges=judges,
        tasks=(),
        circumstances=Circumstances(
            started="", finished="", command=(), git_commit=None, hardware={}, host={},
            asked=0, reused=0, seconds=0,
        ),
    )  # fmt: skip


def gate(estimate, require="at_least", **options):
    rule = {"id": "good", "estimate": estimate, "require": require, "options": options}
    return GateSpec.model_validate({"gate": "people", "rules": [rule]})


def answer(card, estimate, value):
    (outcome,) = evaluate([gate(estimate, value=value)], card).outcomes
    return outcome.status, outcome.reason


def test_a_rule_on_the_corrected_score_needs_no_judge_card_and_one_on_the_raw_score_does():
    """The judge calls everything good; people call half of it bad."""
    card = scorecard([n % 2 for n in range(100)], [1.0] * 1000)
    assert answer(card, "write/judged.score", 0.8)[0] == "inconclusive"
    status, reason = answer(card, NAME, 0.8)
    assert status == "fail" and "0.500" in reason
    assert answer(card, NAME, 0.3)[0] == "pass"


def test_a_rule_counts_samples_without_a_judgement_at_their_worst():
    labels = [float(n % 5 > 0) for n in range(100)]
    whole = scorecard(labels, [1.0] * 1000)
    assert answer(whole, NAME, 0.7)[0] == "pass"
    partly = scorecard(labels, [*[1.0] * 700, *[None] * 300])
    assert answer(partly, NAME, 0.7)[0] == "fail"


def test_a_jurys_judge_that_is_called_corrected_passes_nothing_without_a_card():
    named = JUDGE.model_copy(update={"judge": "corrected"})
    card = scorecard([n % 2 for n in range(100)], [1.0] * 1000, judges=(named,))
    assert answer(card, NAME, 0.3)[0] == "inconclusive"
    taken = replace(
        judged([1.0] * 40), measures=(mean("score", column=0), mean("score.corrected", column=0))
    )
    assert corrected_estimates(people([1] * 20), suite(), {"candidate": [taken]}) == []


def test_the_corrected_number_follows_the_raw_one_and_its_slices():
    card = scorecard([n % 2 for n in range(100)], [1.0] * 200)
    raw = [e for e in card.estimates if e.metric == "judged.score"]
    (own,) = (e for e in card.estimates if e.metric == CORRECTED)
    other = raw[0].model_copy(update={"metric": "words"})
    theirs = [e.model_copy(update={"model": "baseline"}) for e in raw]
    names = [(e.model, e.name) for e in beside_raw([*raw, other, *theirs], [own])]
    assert names == [
        ("candidate", "write/judged.score"),
        ("candidate", "write/judged.score@part=even"),
        ("candidate", "write/judged.score@part=odd"),
        ("candidate", NAME),
        ("candidate", "write/words"),
        *[("baseline", e.name) for e in raw],
    ]


def test_both_values_of_a_comparison_lie_apart_by_its_difference():
    rng = np.random.default_rng(3)
    pairs = rng.integers(0, 5, (400, 2)) / 4
    told = np.clip(pairs + np.array([0.25, 0]), 0, 1)
    (found,) = both(pairs[:100].tolist(), told.tolist())
    assert found.candidate - found.baseline == pytest.approx(found.difference, abs=1e-12)
    assert found.difference == pytest.approx((pairs[:, 0] - pairs[:, 1]).mean(), abs=0.05)


def test_gates_know_the_name_where_a_task_is_judged_and_rated_and_nowhere_else():
    assert RULES_CORRECTED == CORRECTED
    judge = JudgeSpec(judge="quality", model="m", criteria="c", scale=(1, 5))
    made = suite(metrics=[RAW]).model_copy(update={"judges": {"quality": judge}})
    unrated = suite(None, metrics=[RAW])
    assert check_gates_against_suite(made, [gate(NAME, value=0.5)]) == []
    assert check_gates_against_suite(unrated, [gate(NAME, value=0.5)])
    assert check_gates_against_suite(suite(), [gate(NAME, value=0.5)])
    assert reads_ratings(NAME) and not reads_ratings("write/judged.score")
    assert "evalkit review export" in lacking_ratings(NAME)


def test_the_rules_on_the_page_load(root, tmp_path):
    page = (root / "gates/JUDGES.md").read_text()
    (rules,) = re.findall(r"```yaml\n(rules:\n.*?)```", page, re.DOTALL)
    (tmp_path / "gate.yaml").write_text(f"gate: people\n{rules}")
    loaded = load_gate(tmp_path / "gate.yaml").rules
    assert {rule.estimate for rule in loaded} == {f"reply/{CORRECTED}"}


def draws(rng, n, bias):
    """People's ratings in steps of a quarter, and a judge that adds ``bias`` to them and noise."""
    worth = np.clip(rng.normal(0.55, 0.25, n), 0, 1)
    labels = np.round(4 * worth) / 4
    scores = np.round(4 * np.clip(worth + bias + rng.normal(0, 0.15, n), 0, 1)) / 4
    return labels, scores


def truth():
    return float(draws(np.random.default_rng(0), 2_000_000, 0)[0].mean())


@pytest.mark.slow
@pytest.mark.parametrize(("column", "labels"), [(0, 50), (1, 100), (2, 200)])
def test_corrected_numbers_cover_what_people_would_say_of_a_judge_that_favours_the_candidate(
    root, column, labels
):
    """500 draws of 1,000 pairs; the judge adds 0.12 to the candidate and takes 0.06 off the baseline.

    Nominal 0.95; at least 0.93 of the intervals must hold the truth, which is that both are worth the same. The page on
    judges tells the shares.
    """
    rng, worth = np.random.default_rng(21), truth()
    held, raw = np.zeros(3), np.zeros(3)
    for _ in range(500):
        sides = {"candidate": draws(rng, 1000, 0.12), "baseline": draws(rng, 1000, -0.06)}
        measured = {role: [judged(list(scores))] for role, (_, scores) in sides.items()}
        rows = [row for role, (y, _) in sides.items() for row in people(list(y[:labels]), role)]
        ours, theirs = corrected_estimates(rows, suite(), measured)
        (apart,) = corrected_comparisons(rows, suite(), measured)
        aims = ((ours, worth), (theirs, worth), (apart, 0.0))
        held += [each.interval.low <= aim <= each.interval.high for each, aim in aims]
        judged_only = [sides["candidate"][1], sides["baseline"][1]]
        judged_only.append(judged_only[0] - judged_only[1])
        spans = [t_interval(scores, 0.95) for scores in judged_only]
        raw += [s.low <= aim <= s.high for s, (_, aim) in zip(spans, aims, strict=True)]
    assert (held / 500 >= 0.93).all(), held / 500
    assert (raw / 500 < 0.2).all(), raw / 500
    page = (root / "gates/JUDGES.md").read_text()
    told = re.findall(
        r"^\| .* \| 0 % \| ([\d.]+) % \| ([\d.]+) % \| ([\d.]+) % \|$", page, re.MULTILINE
    )
    assert [float(row[column]) for row in told] == pytest.approx(100 * held / 500, abs=1)


@pytest.mark.slow
def test_corrected_numbers_cover_under_clusters():
    """25 labelled clusters of 4 among 250, ratings alike within a cluster; 500 draws."""
    rng = np.random.default_rng(12)
    clusters = {f"s{n}": f"c{n // 4}" for n in range(1000)}
    held = alone = 0
    for _ in range(500):
        share = rng.random(250)
        y = (rng.random((250, 4)) < (0.15 + 0.7 * (share > 0.5))[:, None]).astype(float).ravel()
        f = np.where(rng.random(1000) < 0.8, y, 1.0)
        for made in (clusters, None):
            found = corrected(list(y[:100]), list(f), clusters=made)
            hit = found.interval.low <= 0.5 <= found.interval.high
            held, alone = (held + hit, alone) if made else (held, alone + hit)
    assert held / 500 >= 0.93, held / 500
    assert alone < held


@pytest.mark.slow
def test_a_judge_that_calls_everything_good_is_not_believed_because_few_labels_say_otherwise():
    """People call 97 % good, the judge all; 500 draws of 100 labels. PPI++ by its formula covers in 80 %."""
    rng = np.random.default_rng(6)
    held = plain = 0
    for _ in range(500):
        y = (rng.random(1000) < 0.97).astype(float)
        found = corrected(list(y[:100]), [1.0] * 1000)
        formula = judged_mean(y[:100], np.ones(100), np.ones(900), 0.95)
        held += found.interval.low <= 0.97 <= found.interval.high
        plain += formula.interval.low <= 0.97 <= formula.interval.high
    assert held / 500 >= 0.95
    assert plain / 500 == pytest.approx(0.8, abs=0.02)
