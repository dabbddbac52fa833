"""The power of rules: real conditions on hypothetical evidence, against closed forms, simulation and plain cases."""

from __future__ import annotations

from dataclasses import dataclass, field
from io import StringIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from scipy import stats
from statsmodels.stats.power import tt_solve_power

from evalkit import registry
from evalkit.errors import UsageError
from evalkit.gates.conditions import Condition, Decision, Evidence, NoOptions
from evalkit.gates.evaluate import condition_of
from evalkit.metrics.base import corpus, mean, rate, ratio
from evalkit.powering import Assumptions, estimands_of, power_of, undecidable
from evalkit.powering.answers import ask_of
from evalkit.powering.hypothetical import outcomes_of
from evalkit.powering.spreads import spread_of
from evalkit.records.scorecard import Comparison, Counts, Estimate
from evalkit.records.suite import GateSpec, GenerateTask, SpectralTask
from evalkit.registry import Part, parts
from evalkit.reports.power import power_drawing
from evalkit.stats.discordant import bonett_price_interval, tango_interval
from evalkit.stats.intervals import wilson_interval
from evalkit.stats.paired import LEVELS, paired_difference


@dataclass
class Rows:
    """A data set in memory that counts how often it was read."""

    held: list[dict[str, Any]]
    total: int | None = None
    digest: str = "0" * 64
    reads: int = 0

    def rows(self):
        self.reads += 1
        for number, row in enumerate(self.held):
            yield f"rows:{number + 1}", row


@dataclass
class Metric:
    """A metric as far as its measures go."""

    name: str
    measures: tuple[Any, ...]
    judges: tuple[str, ...] = ()


@dataclass
class TaskInMemory:
    """A task with its parts."""

    spec: GenerateTask
    source: Rows
    metrics: tuple[Metric, ...] = field(default_factory=tuple)


MEASURES = (
    rate("", column=0),
    rate("missed", column=0, better="lower"),
    mean("f1", column=1),
    mean("words", column=1, unit="words", better="lower"),
    corpus("bleu", lambda sums, n: ratio(sums[..., 0], n), unit="points"),
)


def task(n, *, per_cluster=0, slices=(), **declared):
    rows = [
        {"id": str(i), "group": "ab"[i % 4 == 0], "who": str(i // max(per_cluster, 1))}
        for i in range(n)
    ]
    spec = GenerateTask(
        name="extract",
        dataset={"path": "rows.jsonl"},
        prompt="{{ id }}",
        metrics=[{"name": "em"}],
        slices=slices,
        cluster="who" if per_cluster else None,
        **declared,
    )
    return TaskInMemory(spec, Rows(rows), (Metric("em", MEASURES),))


def gate(*rules, **declared):
    full = [{"id": f"rule-{n}", **rule} for n, rule in enumerate(rules)]
    for rule in full:
        rule["options"] = {k: rule.pop(k) for k in list(rule) if k in OPTIONS}
    return GateSpec(gate="ship", rules=full, **declared)


OPTIONS = ("value", "margin", "alpha", "by", "low", "high", "samples", "relative", "share")
NO_WORSE = {"estimate": "extract/em", "require": "no_worse_than", "margin": 0.05}


def told(tasks, gates, past=None, power=0.8, weighed=(), **assumed):
    estimands = list(estimands_of(tasks, gates))
    assumptions = Assumptions(**assumed)
    return power_of(
        gates, estimands, assumptions, past or {}, power=power, level=0.95, weighed=weighed
    )


def one(n, rule, past=None, **assumed):
    (row,) = told([task(n)], [gate(rule)], past, **assumed).rules
    return row


# What is counted before anything is run


def test_every_measure_is_expanded_over_the_slices_that_the_data_hold():
    held = task(8, slices=("group",))
    names = {t.name: t.samples for t in estimands_of([held], [])}
    assert names["extract/em"] == 8
    assert names["extract/em.f1@group=a"] == 6
    assert names["extract/em@group=b"] == 2
    assert held.source.reads == 1


def test_a_data_set_of_known_size_without_slices_is_not_read():
    held = task(8)
    held.source.total = 8
    assert {t.samples for t in estimands_of([held], [])} == {8}
    assert held.source.reads == 0


def test_a_sample_without_the_field_is_in_the_slice_of_the_missing():
    held = task(3, slices=("group",))
    del held.source.held[0]["group"]
    assert "extract/em@group=(missing)" in {t.name for t in estimands_of([held], [])}


# Power against closed forms and simulation


@pytest.mark.parametrize(("n", "k"), [(50, 49), (200, 190)])
def test_the_chance_of_at_least_is_the_binomial_tail_of_the_counts_whose_wilson_limit_keeps_it(
    n, k
):
    floor = wilson_interval(k, n, 0.95).low - 1e-9  # k right answers are the least that pass
    row = one(n, {"estimate": "extract/em", "require": "at_least", "value": floor}, accuracy=0.96)
    assert row.passes_unchanged == pytest.approx(stats.binom(n, 0.96).sf(k - 1), abs=1e-3)


def test_the_least_true_rate_that_passes_has_just_the_wanted_power():
    n, k = 200, 190
    floor = wilson_interval(k, n, 0.95).low - 1e-9
    row = one(n, {"estimate": "extract/em", "require": "at_least", "value": floor})
    assert row.passes.high is None
    assert stats.binom(n, row.passes.low).sf(k - 1) == pytest.approx(0.8, abs=5e-3)


def test_the_chance_that_equal_models_pass_non_inferiority_is_that_of_simulated_pairs():
    n, margin, discordance = 300, 0.05, 0.1
    row = one(n, NO_WORSE, discordance=discordance)
    rng = np.random.default_rng(7)
    draws = rng.multinomial(n, [discordance / 2, discordance / 2, 1 - discordance], size=20_000)
    kinds, counts = np.unique(draws[:, :2], axis=0, return_counts=True)
    passed = [tango_interval(int(g), int(l), n, 0.9).low > -margin for g, l in kinds]  # noqa: E741
    simulated = float(np.average(passed, weights=counts))
    assert row.passes_unchanged == pytest.approx(simulated, abs=4 * np.sqrt(0.25 / 20_000))


@pytest.mark.parametrize("margin", [0.03, 0.05])
def test_the_pairs_needed_are_about_those_of_the_closed_form(margin):
    closed = 6.1826 * 0.1 / margin**2
    row = one(200, {**NO_WORSE, "margin": margin}, discordance=0.1)
    assert closed * 0.97 < row.needed < closed * 1.15  # a score test asks for a few more


def test_a_mean_needs_the_pairs_that_statsmodels_finds_for_students_t():
    rule = {**NO_WORSE, "estimate": "extract/em.f1"}
    row = one(100, rule, sd_difference=0.3)
    exact = tt_solve_power(0.05 / 0.3, alpha=0.05, power=0.8, alternative="larger")
    assert row.needed == pytest.approx(exact, rel=0.03)


def test_the_effects_seen_are_the_margin_and_the_detectable_distance():
    n, sd = 400, 0.3
    row = one(n, {**NO_WORSE, "estimate": "extract/em.f1"}, sd_difference=sd)
    reach = (stats.t(n - 1).ppf(0.95) + stats.norm.ppf(0.8)) * sd / np.sqrt(n)
    assert row.passes.low == pytest.approx(-0.05 + reach, abs=1e-3)
    assert row.fails_below == pytest.approx(-0.05 - reach, abs=1e-3)


def test_where_lower_is_better_effects_are_still_candidate_minus_baseline():
    row = one(120, {**NO_WORSE, "estimate": "extract/em.missed"})
    higher = one(120, NO_WORSE)
    assert row.unchanged == 0
    assert row.passes.high == pytest.approx(-higher.passes.low)
    assert row.fails_above == pytest.approx(-higher.fails_below)
    assert row.passes_unchanged == pytest.approx(higher.passes_unchanged)


def test_equivalence_passes_between_two_differences_and_fails_outside():
    row = one(500, {**NO_WORSE, "require": "equivalent"}, discordance=0.04)
    assert row.passes.low == pytest.approx(-row.passes.high, abs=2e-3)
    assert row.fails_below < -0.05 < row.passes.low
    assert row.passes.high < 0.05 < row.fails_above


@settings(max_examples=10, deadline=None)
@given(st.integers(40, 300), st.floats(0.02, 0.2), st.floats(0.01, 0.1), st.floats(-0.1, 0.1))
def test_a_wider_margin_never_lowers_the_chance_of_passing(n, discordance, margin, effect):
    estimand = next(iter(estimands_of([task(n)], [])))
    spread = spread_of(estimand, Assumptions(discordance=discordance), {})

    def passes(margin: float) -> float:
        (rule,) = gate({**NO_WORSE, "margin": margin}).rules
        ask = ask_of(rule, condition_of(rule), None)
        held = outcomes_of(estimand, spread, n, ask, "comparison", 0.95)
        return held.chances(effect).get("pass", 0.0)

    assert passes(margin) <= passes(1.5 * margin) + 2e-3


def test_an_undecided_rule_that_counts_as_failed_fails_an_unchanged_candidate():
    held = {"estimate": "extract/em", "require": "at_least", "value": 0.88}
    lenient, strict = one(100, held), one(100, {**held, "on_inconclusive": "fail"})
    assert lenient.passes_unchanged == pytest.approx(strict.passes_unchanged)
    assert strict.fails_unchanged == pytest.approx(1 - strict.passes_unchanged)


def test_a_candidate_that_does_not_meet_a_floor_needs_no_number_of_samples():
    row = one(100, {"estimate": "extract/em", "require": "at_least", "value": 0.95})
    assert row.needed is None


# What an earlier run tells


def test_discordance_comes_from_the_earlier_runs_pairs():
    improved, worsened, pairs = 6, 6, 300
    intervals = tuple(tango_interval(improved, worsened, pairs, level) for level in LEVELS)
    past = Comparison(
        task="extract", metric="em", slice=None, status="compared", candidate=0.9, baseline=0.9,
        difference=0.0, interval=bonett_price_interval(improved, worsened, pairs, 0.95),
        intervals=intervals, pairs=pairs, improved=improved, worsened=worsened, unit="fraction",
    )  # fmt: skip
    seen = one(300, NO_WORSE, {"extract/em": Evidence("extract/em", None, past)})
    assumed = one(300, NO_WORSE, discordance=(12 + 2) / (300 + 2))
    assert seen.passes_unchanged == pytest.approx(assumed.passes_unchanged)
    assert "12 of 300 pairs differed" in seen.basis


def test_clusters_of_an_earlier_run_lower_the_power():
    rng = np.random.default_rng(3)
    clusters_N = np.repeat(np.arange(30), 10)
    shift_N = np.repeat(rng.choice([-1.0, 0.0, 0.0, 0.0, 1.0], 30), 10)
    baseline_N = np.where(shift_N > 0, 0.0, 1.0)
    candidate_N = baseline_N + shift_N
    found = paired_difference(
        MEASURES[0], candidate_N[:, None], baseline_N[:, None], 0.95, binary=True,
        clusters_N=clusters_N,
    )  # fmt: skip
    past = Comparison(
        task="extract", metric="em", slice=None, status="compared", candidate=found.candidate,
        baseline=found.baseline, difference=found.difference, intervals=found.intervals,
        pairs=300, improved=found.gained, worsened=found.lost, errors=found.errors,
        unit="fraction",
    )  # fmt: skip
    held, rules = task(300, per_cluster=10), gate({**NO_WORSE, "margin": 0.1})
    (clustered,) = told([held], [rules], {"extract/em": Evidence("extract/em", None, past)}).rules
    share = (found.gained + found.lost) / 300
    (independent,) = told([held], [rules], discordance=share).rules
    assert clustered.passes_unchanged < independent.passes_unchanged
    assert clustered.basis.endswith("clusters included")
    assert any("share clusters" in note for note in independent.notes)
    assert not clustered.notes


def test_a_slice_that_the_earlier_run_lacks_varies_as_its_whole_task():
    found = wilson_interval(240, 300, 0.95)
    counts = Counts(planned=300, completed=300, failed=0, scored=300, unscored=0)
    past = Estimate(
        model="candidate", task="extract", metric="em", slice=None, kind="rate", value=0.8,
        interval=found, counts=counts, unit="fraction", better="higher", signature="em",
    )  # fmt: skip
    rule = {"estimate": "extract/em@group=a", "require": "at_least", "value": 0.7}
    report = told(
        [task(200, slices=("group",))],
        [gate(rule)],
        {"extract/em": Evidence("extract/em", past, None)},
    )
    assert report.rules[0].unchanged == 0.8
    assert "whole task" in report.rules[0].basis


# What cannot be told is never taken for fine


def test_a_unit_without_known_ends_is_unknown_without_an_earlier_run():
    row = one(100, {**NO_WORSE, "estimate": "extract/em.words"})
    assert row.passes_unchanged is None
    assert "words" in row.unknown
    report = told([task(100)], [gate({**NO_WORSE, "estimate": "extract/em.words"})])
    assert report.gates[0].unknown == 1


def test_a_rule_on_single_samples_is_unknown():
    row = one(100, {"estimate": "extract/em", "require": "keeps", "samples": ["7"]})
    assert "single samples" in row.unknown


WEIGHED = (SpectralTask(kind="spectral", name="weights"),)
"""A task that reads weights: nothing of it is sampled."""


@pytest.mark.parametrize(
    "estimate", ["weights/drift.max", "weights/integrity.*", "weights/drift@tensor=*"]
)
def test_a_rule_on_weights_is_no_question_of_power_and_never_refused(estimate):
    rule = {"estimate": estimate, "require": "at_most", "value": 0}
    assert undecidable([task(5)], [gate(rule)], 0.95, weighed=WEIGHED) == []
    report = told([task(50)], [gate(rule, NO_WORSE)], weighed=WEIGHED)
    weights, sampled = report.rules
    assert "read in full" in weights.unknown and not weights.cannot_pass
    assert sampled.passes_unchanged is not None
    assert (report.gates[0].blocking, report.gates[0].unknown) == (2, 1)


@pytest.mark.parametrize("estimate", ["weights/drfit", "weights/alpha", "weigths/drift"])
def test_a_rule_on_weights_that_are_not_measured_can_never_pass(estimate):
    rule = {"estimate": estimate, "require": "at_most", "value": 0}
    (sentence,) = undecidable([task(50)], [gate(rule)], 0.95, weighed=WEIGHED)
    assert "can never pass" in sentence and estimate in sentence
    (row,) = told([task(50)], [gate(rule)], weighed=WEIGHED).rules
    assert row.cannot_pass


def test_a_rule_on_weights_and_answers_alike_is_asked_about_the_answers():
    rule = {"estimate": "*/*", "require": "at_most", "value": 0.5}
    rows = told([task(50)], [gate(rule)], weighed=WEIGHED).rules
    assert rows[0].unknown and any(row.estimate == "extract/em" for row in rows[1:])


class Breaks(Condition):
    """A plug-in with a mistake."""

    Options = NoOptions
    required = "nothing"

    def decide(self, evidence: Evidence) -> Decision:
        raise ZeroDivisionError


def test_a_condition_that_breaks_is_unknown_and_no_ground_to_refuse(monkeypatch):
    known = {**parts("condition"), "breaks": Part("condition", "breaks", "", "", Breaks)}
    monkeypatch.setitem(registry._parts, "condition", known)
    rule = {"estimate": "extract/em", "require": "breaks"}
    assert "ZeroDivisionError" in one(50, rule).unknown
    assert undecidable([task(50)], [gate(rule)], 0.95) == []


def test_before_a_run_only_data_sets_that_a_blocking_rule_names_are_read():
    named, other, warned = (task(12) for _ in range(3))
    other.spec = other.spec.model_copy(update={"name": "other"})
    warned.spec = warned.spec.model_copy(update={"name": "warned"})
    held = gate(NO_WORSE, {**NO_WORSE, "estimate": "warned/em", "severity": "warn"})
    undecidable([named, other, warned], [held], 0.95)
    assert [t.source.reads for t in (named, other, warned)] == [1, 0, 0]


def test_a_family_is_counted_once_however_many_rules_it_has(monkeypatch):
    asked = 0

    class Counts(Breaks):
        def decide(self, evidence):
            nonlocal asked
            asked += 1
            return Decision("pass", "so be it", p_broken=0.0)

    known = {**parts("condition"), "counts": Part("condition", "counts", "", "", Counts)}
    monkeypatch.setitem(registry._parts, "condition", known)

    def asked_for(rules):
        nonlocal asked
        asked = 0
        rule = {"estimate": "extract/em", "require": "counts"}
        undecidable([task(20)], [gate(*[rule] * rules, family="any_regression")], 0.95)
        return asked

    assert asked_for(6) == 6 * asked_for(1)


def test_a_slice_that_is_an_identifier_is_refused_before_the_run():
    held = [task(201, slices=("id",))]
    with pytest.raises(UsageError, match="201 values"):
        undecidable(held, [gate(NO_WORSE)], 0.95)


def test_a_pattern_that_the_data_do_not_hold_can_never_pass():
    rule = {**NO_WORSE, "estimate": "extract/em@group=zoo"}
    report = told([task(20, slices=("group",))], [gate(rule)])
    assert "group=zoo" in report.rules[0].cannot_pass
    assert report.gates[0].if_independent == 0


# Whole gates


def test_a_gates_chance_is_the_product_of_its_blocking_rules_and_frechets_bound():
    rules = [NO_WORSE, {**NO_WORSE, "margin": 0.06}, {**NO_WORSE, "severity": "warn"}]
    report = told([task(120)], [gate(*rules)])
    first, second, _ = (row.passes_unchanged for row in report.rules)
    (whole,) = report.gates
    assert whole.blocking == 2
    assert whole.if_independent == pytest.approx(first * second)
    assert whole.at_least == pytest.approx(max(0, first + second - 1))


def test_an_unchanged_candidate_passes_any_regression_with_one_minus_alpha_at_least():
    rules = [
        NO_WORSE,
        {**NO_WORSE, "margin": 0.01},
        {"estimate": "extract/em.f1", "require": "no_worse_than", "margin": 1e-4},
    ]
    report = told([task(300)], [gate(*rules, family="any_regression", alpha=0.05)])
    assert report.gates[0].if_independent >= 0.95
    assert all(row.passes_unchanged >= 0.98 for row in report.rules)
    assert report.rules[0].fails_below < -0.05


# What can never pass or never fail


def test_too_few_samples_to_show_even_equal_answers_are_refused_with_what_is_needed():
    (sentence,) = undecidable([task(12)], [gate({**NO_WORSE, "margin": 0.01})], 0.95)
    assert sentence.startswith(
        "rule rule-0 on extract/em can never pass an equal candidate: with 12 samples"
    )
    # Tango's lower limit with no discordant pair is −z²/(n + z²), z² = 2.7055.
    assert "about 268 samples" in sentence or "about 269 samples" in sentence
    assert "a margin of 0.19" in sentence


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 300), st.sampled_from([0.01, 0.02, 0.05, 0.1, 0.2]))
def test_non_inferiority_is_refused_just_where_equal_answers_do_not_pass(n, margin):
    refused = undecidable([task(n)], [gate({**NO_WORSE, "margin": margin})], 0.95)
    assert bool(refused) == (tango_interval(0, 0, n, 0.9).low <= -margin)


@pytest.mark.parametrize("n", [5, 20, 70, 80])
def test_a_floor_is_refused_just_where_all_right_does_not_reach_it(n):
    refused = undecidable(
        [task(n)], [gate({"estimate": "extract/em", "require": "at_least", "value": 0.95})], 0.95
    )
    assert bool(refused) == (wilson_interval(n, n, 0.95).low < 0.95)
    if refused:
        assert "about 73 samples" in refused[0] or "about 74 samples" in refused[0]


def test_a_floor_that_all_wrong_does_not_break_can_never_fail():
    rule = {"estimate": "extract/em", "require": "at_least", "value": 0.05}
    (sentence,) = undecidable([task(12)], [gate(rule)], 0.95)
    assert "can never fail" in sentence


def test_better_than_is_not_refused_because_an_unchanged_candidate_is_not_better():
    rule = {"estimate": "extract/em", "require": "better_than"}
    assert undecidable([task(40)], [gate(rule)], 0.95) == []


def test_better_than_is_refused_where_not_even_all_improved_passes():
    rule = {"estimate": "extract/em", "require": "better_than", "by": 0.9}
    (sentence,) = undecidable([task(4)], [gate(rule)], 0.95)
    assert "not even the most favourable outcome" in sentence


@pytest.mark.parametrize("name", ["em", "em.f1", "em.words", "em.bleu", "em.missed"])
@pytest.mark.parametrize("per_cluster", [0, 4])
def test_with_samples_enough_nothing_is_refused(name, per_cluster):
    margin = 2.0 if name == "em.bleu" else 0.03
    rules = [{**NO_WORSE, "estimate": f"extract/{name}", "margin": margin}]
    assert undecidable([task(1200, per_cluster=per_cluster)], [gate(*rules)], 0.95) == []


def test_only_blocking_rules_that_are_not_waived_are_refused():
    strict = {**NO_WORSE, "margin": 0.01}
    held = gate(strict, {**strict, "severity": "warn"}, waivers=[
        {"rule": "rule-0", "owner": "quality", "reason": "pilot", "expires": "2099-01-01"}
    ])  # fmt: skip
    assert undecidable([task(12)], [held], 0.95) == []


def test_a_waiver_of_one_slice_leaves_the_others_refused():
    strict = {**NO_WORSE, "estimate": "extract/em@group=*", "margin": 0.01}
    waiver = {
        "rule": "rule-0",
        "slice": "group=a",
        "owner": "quality",
        "reason": "pilot",
        "expires": "2099-01-01",
    }
    (sentence,) = undecidable([task(12, slices=("group",))], [gate(strict, waivers=[waiver])], 0.95)
    assert "@group=b" in sentence


def test_a_rule_that_counts_undecided_as_passed_is_not_said_never_to_pass_but_never_to_fail():
    rule = {**NO_WORSE, "margin": 0.9, "on_inconclusive": "pass"}
    (sentence,) = undecidable([task(4)], [gate(rule)], 0.95)
    assert "can never fail" in sentence


def test_a_task_that_may_stop_early_is_asked_with_the_intervals_that_hold_at_any_look():
    rule = {"estimate": "extract/em", "require": "at_least", "value": 0.8}
    (early,) = told([task(200, stop="early")], [gate(rule)]).rules
    (full,) = told([task(200)], [gate(rule)]).rules
    assert early.passes_unchanged < full.passes_unchanged
    assert early.needed > full.needed
    assert "stop early" in " ".join(early.notes)


def test_many_pairs_are_taken_as_normal_without_a_jump(monkeypatch):
    counted = one(3000, {**NO_WORSE, "margin": 0.015})
    monkeypatch.setattr("evalkit.powering.rules.MOST_COUNTED", 100)
    normal = one(3000, {**NO_WORSE, "margin": 0.015})
    assert normal.passes_unchanged == pytest.approx(counted.passes_unchanged, abs=0.02)
    assert normal.needed == pytest.approx(counted.needed, rel=0.05)


@pytest.mark.parametrize("name", ["em", "em.missed", "em.f1", "em.bleu"])
@pytest.mark.parametrize(
    "rule",
    [
        {"require": "no_worse_than", "margin": 0.05, "relative": True},
        {"require": "recovers", "share": 0.95},
        {"require": "better_than"},
        {"require": "max_flips", "value": 0.1},
        {"require": "keeps"},
        {"require": "at_least", "value": 0.8},
        {"require": "inside", "low": 0.8, "high": 0.97},
        {"require": "coverage_at_least", "value": 0.9},
    ],
)
def test_no_built_in_condition_is_refused_where_there_are_samples_enough(name, rule):
    refused = undecidable([task(400)], [gate({"estimate": f"extract/{name}", **rule})], 0.95)
    counts_changes = rule["require"] in ("max_flips", "keeps")
    assert bool(refused) == (
        counts_changes and name == "em.bleu"
    )  # a corpus has no samples to count


def test_changes_of_samples_that_are_no_zeros_and_ones_cannot_be_told():
    row = one(100, {"estimate": "extract/em.f1", "require": "max_flips", "value": 0.1})
    assert row.passes_unchanged is None
    assert "counts the samples that changed" in row.unknown


def test_at_80_columns_every_rule_has_its_chance_in_one_line():
    report = told([task(120)], [gate(NO_WORSE, {**NO_WORSE, "estimate": "extract/em.words"})])
    out = Console(width=80, file=StringIO())
    out.print(power_drawing(report, 80))
    lines = out.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    (first,) = (line for line in lines if line.strip().startswith("extract/em "))
    assert f"{100 * report.rules[0].passes_unchanged:.0f} %" in first
    assert any("extract/em.words" in line and "?" in line for line in lines)


def drawn(report, width=400):
    out = Console(width=width, file=StringIO())
    out.print(power_drawing(report, width))
    return out.file.getvalue()


ON_WEIGHTS = {"estimate": "weights/drift", "require": "at_most", "value": 0.1}


def test_rules_on_weights_are_named_once_under_the_table_and_not_called_unknown():
    text = drawn(told([task(50)], [gate(ON_WEIGHTS, NO_WORSE)], weighed=WEIGHED))
    assert (
        "Weights are read in full, and no number of samples matters to rule-0 (weights/drift)."
        in text
    )
    assert text.count("weights/drift") == text.count("rule-0") == 1
    assert "cannot be told" not in text and "?" not in text
    gates = text.splitlines()[-1]
    assert "passes 1 blocking outcome on samples with" in gates
    assert gates.endswith("1 blocking rule reads weights, which leaves nothing to chance.")


def test_where_every_rule_reads_weights_there_is_no_table_and_no_chance():
    text = drawn(told([], [gate(ON_WEIGHTS)], weighed=WEIGHED))
    assert "n needed" not in text and "%" not in text
    assert text.splitlines()[-1].startswith("Gate ship: 1 blocking rule reads weights")


def test_a_rule_that_cannot_be_told_lowers_the_gates_chance_also_beside_weights():
    count = {"estimate": "extract/em.f1", "require": "max_flips", "value": 0.1}
    text = drawn(told([task(100)], [gate(ON_WEIGHTS, NO_WORSE, count)], weighed=WEIGHED))
    assert "1 more cannot be told and may lower that. 1 blocking rule reads weights" in text


def test_rules_that_cannot_be_told_for_one_reason_are_named_in_one_sentence():
    count = {"estimate": "extract/em.f1", "require": "max_flips", "value": 0.1}
    report = told([task(100)], [gate(count, count, count, NO_WORSE)])
    twice = [*report.rules, report.rules[0].model_copy(update={"estimate": "extract/em.f1@s=a"})]
    text = drawn(report.model_copy(update={"rules": tuple(twice)}))
    assert text.count("cannot be told: ") == 1
    assert "? rule-0 (2 estimates), rule-1, rule-2 cannot be told: " in text


def test_without_a_baseline_rules_that_compare_with_it_are_not_refused():
    held = gate(NO_WORSE)
    assert undecidable([task(12)], [held], 0.95)
    assert undecidable([task(12)], [held], 0.95, has_baseline=False) == []
