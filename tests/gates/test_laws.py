"""Laws that every condition keeps, on evidence computed from random scores as a run computes it.

Better answers come first: pass, inconclusive, fail. ``missing`` is never reached here: every sample is planned, and at
least one is scored for both models.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.compare import compare_tables
from evalkit.estimating import estimate_tables
from evalkit.gates.conditions import Decision, Evidence
from evalkit.metrics.base import mean, rate
from evalkit.records.verdict import Outcome
from evalkit.registry import find, parts
from evalkit.scoring import MetricTable

BEST_FIRST = ["pass", "inconclusive", "fail"]

Scores = tuple[float | None, ...]


@dataclass(frozen=True)
class Run:
    """Scores of both models on the same planned samples; None where there is none."""

    candidate: Scores
    baseline: Scores
    binary: bool = True
    clusters: int | None = None
    """Consecutive samples in a cluster."""
    order: tuple[int, ...] | None = None
    """The order in which the candidate's samples were read."""


# How each condition is asked at a strictness between 0 and 1, and on which of the two measures.
RULES = {
    "at_least": [
        ("right", lambda s: {"value": s}),
        ("right", lambda s: {"value": s, "exact": True}),
    ],
    "at_most": [
        ("wrong", lambda s: {"value": 1 - s}),
        ("wrong", lambda s: {"value": 1 - s, "exact": True}),
    ],
    "inside": [("right", lambda s: {"low": s / 2 - 0.01, "high": 1.01 - s / 2})],
    "coverage_at_least": [("right", lambda s: {"value": s})],
    "no_worse_than": [
        ("right", lambda s: {"margin": 1.001 - s}),
        ("wrong", lambda s: {"margin": 1.001 - s}),
        ("right", lambda s: {"margin": 1.001 - s, "relative": True}),
    ],
    "better_than": [("right", lambda s: {"by": s}), ("wrong", lambda s: {"by": s})],
    "equivalent": [
        ("right", lambda s: {"margin": 1.001 - s}),
        ("right", lambda s: {"margin": 1.001 - s, "relative": True}),
    ],
    "recovers": [
        ("right", lambda s: {"share": 0.001 + 1.4 * s}),
        ("wrong", lambda s: {"share": 0.001 + 1.4 * s}),
    ],
    "keeps": [
        ("right", lambda s: {"allow": int(20 * (1 - s))}),
        ("wrong", lambda s: {"samples": ["s000", "s001"], "allow": int(1.5 * (1 - s))}),
    ],
    "max_flips": [
        ("right", lambda s: {"value": 0.999 * (1 - s)}),
        ("right", lambda s: {"value": 0.999 * (1 - s), "exact": True}),
        ("right", lambda s: {"count": int(20 * (1 - s)), "of": "both"}),
    ],
}
ASKED = [(name, *asked) for name, rules in RULES.items() for asked in rules]
RELATIVE_TO_ITSELF = {
    "no_worse_than",
    "better_than",
    "equivalent",
    "recovers",
    "keeps",
    "max_flips",
}
BOUNDED = {"no_worse_than", "better_than", "equivalent", "recovers", "keeps"}
"""They read limits over all ways to fill in what is missing. The others do not know its clusters."""
TWO_SIDED = {"inside", "equivalent"}
"""A candidate that is too good comes nearer by failing."""


def table(run: Run, role: str) -> MetricTable:
    scores = run.candidate if role == "candidate" else run.baseline
    order = run.order if role == "candidate" and run.order else range(len(scores))
    scored = [i for i in order if scores[i] is not None]
    missing = [i for i in order if scores[i] is None]
    right_N = np.array([scores[i] for i in scored], dtype=float)
    kind = rate if run.binary else mean
    return MetricTable(
        task="t",
        metric="m",
        signature="m|v:1",
        dataset="d" * 64,
        measures=(kind("right", column=0), kind("wrong", column=1, better="lower")),
        sample_ids=[_id(i) for i in scored],
        stats_NK=np.column_stack([right_N, 1 - right_N]),
        binary=run.binary,
        clusters=_clusters(run, scored),
        attributes={},
        planned={None: len(scores)},
        completed={None: len(scores)},
        missing_ids=[_id(i) for i in missing],
        missing_clusters=_clusters(run, missing),
    )


def _id(i: int) -> str:
    return f"s{i:03d}"


def _clusters(run: Run, places: list[int]) -> list[str] | None:
    return None if run.clusters is None else [f"c{i // run.clusters:03d}" for i in places]


def evidence(run: Run) -> dict[str, Evidence]:
    tables = {role: [table(run, role)] for role in ("candidate", "baseline")}
    estimates = {
        e.name: e for e in estimate_tables(tables, seed=0, level=0.95) if e.model == "candidate"
    }
    comparisons = {c.name: c for c in compare_tables(tables, 0, 0.95)}

    pairs = {_id(i): pair for i, pair in enumerate(zip(run.candidate, run.baseline, strict=True))}
    turned = {
        name: tuple(None if x is None else 1 - x for x in pair) for name, pair in pairs.items()
    }
    return {
        measure: Evidence(
            f"t/m.{measure}",
            estimates[f"t/m.{measure}"],
            comparisons[f"t/m.{measure}"],
            partial(dict, scores),
        )
        for measure, scores in (("right", pairs), ("wrong", turned))
    }


def ask(held: dict[str, Evidence], name: str, measure: str, options: dict) -> Decision:
    make = find("condition", name).make
    return make(make.Options.model_validate(options)).decide(held[measure])


def never_better(before: Decision, after: Decision) -> bool:
    return BEST_FIRST.index(after.status) >= BEST_FIRST.index(before.status)


def never_from_fail_to_pass(before: Decision, after: Decision) -> bool:
    return (before.status, after.status) != ("fail", "pass")


STRICTNESS = st.sampled_from([0.0, 0.02, 0.05, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0])
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def runs(draw, *, missing=True, binary=None):
    """A run of 4 to 120 samples; the candidate's scores are the baseline's but for a share that is drawn anew."""
    n = draw(st.integers(4, 120))
    rng = np.random.default_rng(draw(SEEDS))
    binary = draw(st.booleans()) if binary is None else binary
    levels = 1 if binary else 4

    def scores(share):
        return rng.binomial(levels, share, n) / levels

    baseline = scores(draw(st.floats(0, 1)))
    anew = rng.random(n) < draw(st.floats(0, 1))
    candidate = np.where(anew, scores(draw(st.floats(0, 1))), baseline)
    lost = draw(st.sampled_from([0.0, 0.02, 0.2])) if missing else 0.0
    gone_N2 = rng.random((n, 2)) < lost
    gone_N2[draw(st.integers(0, n - 1))] = False  # one pair at least
    return Run(
        *(
            tuple(None if gone else float(x) for x, gone in zip(values, gone_N, strict=True))
            for values, gone_N in ((candidate, gone_N2[:, 0]), (baseline, gone_N2[:, 1]))
        ),
        binary=binary,
        clusters=draw(st.sampled_from([None, None, 3])),
    )


OF_OTHER_EVIDENCE = {"gap_at_most", "labelled"}
"""Conditions on gaps between groups and on people's labels, which have laws of their own."""


def test_every_condition_is_asked():
    built_in = {
        name for name, p in parts("condition").items() if p.make.__module__.startswith("evalkit.")
    }
    assert set(RULES) == built_in - OF_OTHER_EVIDENCE


@settings(max_examples=60)
@given(runs(), STRICTNESS, st.randoms(use_true_random=False))
def test_the_order_of_samples_does_not_matter(run, strictness, random):
    order = list(range(len(run.candidate)))
    random.shuffle(order)
    straight, turned = evidence(run), evidence(replace(run, order=tuple(order)))
    for name, measure, options in ASKED:
        one, other = (ask(held, name, measure, options(strictness)) for held in (straight, turned))
        assert (one.status, one.reason) == (other.status, other.reason), name


@settings(max_examples=80)
@given(runs(missing=False), STRICTNESS)
def test_a_model_against_itself_never_fails(run, strictness):
    same = evidence(replace(run, baseline=run.candidate))
    for name, measure, options in ASKED:
        asked = options(strictness)
        gains = asked.get("by", 0) > 0 or asked.get("share", 0) > 1
        if name in RELATIVE_TO_ITSELF and not gains:
            assert ask(same, name, measure, asked).status != "fail", (name, asked)


@settings(max_examples=80)
@given(runs(binary=True), STRICTNESS, SEEDS)
def test_doubling_a_candidates_failures_never_turns_fail_into_pass(run, strictness, seed):
    wrong = [i for i, x in enumerate(run.candidate) if x == 0]
    right = [i for i, x in enumerate(run.candidate) if x == 1]
    also = set(np.random.default_rng(seed).permutation(right)[: len(wrong)].tolist())
    twice = tuple(0.0 if i in also else x for i, x in enumerate(run.candidate))
    before, after = evidence(run), evidence(replace(run, candidate=twice))
    for name, measure, options in ASKED:
        asked = options(strictness)
        if name not in TWO_SIDED and asked.get("of") != "both":
            once, again = (ask(held, name, measure, asked) for held in (before, after))
            assert never_from_fail_to_pass(once, again), (name, asked)


@settings(max_examples=80)
@given(runs(), STRICTNESS, st.integers(1, 12))
def test_more_samples_without_a_score_never_help(run, strictness, more):
    run, silent = replace(run, clusters=None), (None,) * more
    before = evidence(run)
    for baseline in (silent, (1.0,) * more):
        longer = replace(run, candidate=run.candidate + silent, baseline=run.baseline + baseline)
        after = evidence(longer)
        for name, measure, options in ASKED:
            # Where the baseline is right the candidate cannot be better: that bounds a two-sided rule from one side.
            if baseline is silent or name not in TWO_SIDED:
                asked = options(strictness)
                once, again = (ask(held, name, measure, asked) for held in (before, after))
                assert never_better(once, again), (name, asked)


@settings(max_examples=80)
@given(runs(), STRICTNESS, SEEDS)
def test_a_score_that_is_lost_never_makes_a_rule_pass(run, strictness, seed):
    rng = np.random.default_rng(seed)
    pairs = [
        i
        for i, pair in enumerate(zip(run.candidate, run.baseline, strict=True))
        if None not in pair
    ]
    gone = set(rng.permutation(pairs)[: rng.integers(0, len(pairs))].tolist())
    fewer = tuple(None if i in gone else x for i, x in enumerate(run.candidate))
    before, after = evidence(run), evidence(replace(run, candidate=fewer))
    for name, measure, options in ASKED:
        asked = options(strictness)
        once, again = (ask(held, name, measure, asked) for held in (before, after))
        if name in BOUNDED or run.clusters is None:
            assert once.status == "pass" or again.status != "pass", (name, asked)
        assert never_from_fail_to_pass(once, again), (name, asked)


@settings(max_examples=80)
@given(runs(), STRICTNESS, STRICTNESS)
def test_a_stricter_value_never_turns_fail_into_pass(run, one, other):
    loose, strict = sorted((one, other))
    held = evidence(run)
    for name, measure, options in ASKED:
        before, after = (ask(held, name, measure, options(s)) for s in (loose, strict))
        assert never_better(before, after), (name, loose, strict)


@settings(max_examples=60)
@given(runs(), STRICTNESS, st.sampled_from([0.1, 0.05, 0.025, 0.01]))
def test_a_smaller_alpha_never_turns_fail_into_pass(run, strictness, alpha):
    held = evidence(run)
    for name, measure, options in ASKED:
        if "alpha" in find("condition", name).make.Options.model_fields and (
            "count" not in options(0)
        ):
            asked = options(strictness)
            loose, strict = (
                ask(held, name, measure, {**asked, "alpha": a}) for a in (alpha, alpha / 10)
            )
            if strict.status != "inconclusive":
                assert strict.status == loose.status, (name, asked)


def test_a_baseline_that_is_hardly_known_breaks_no_relative_limit():
    # With two samples unpaired, the baseline may be near 0 at fine levels, where any loss at all is too much.
    baseline = (None, 0.25, 0.0, 0.0, 0.75, 0.75, 0.5, 0.75, 0.5, 0.75)
    candidate = (None, 0.25, 0.0, 0.0, 0.75, 0.75, None, 0.75, 0.5, 0.75)
    held = evidence(Run(candidate, baseline, binary=False))
    for alpha in (0.1, 0.01, 0.001):
        asked = {"margin": 1.001, "relative": True, "alpha": alpha}
        decision = ask(held, "no_worse_than", "right", asked)
        assert (decision.status, decision.p_broken) == ("inconclusive", 1.0)


@settings(max_examples=80)
@given(runs(), STRICTNESS)
def test_the_distance_to_the_line_says_what_the_answer_says(run, strictness):
    held, told = evidence(run), set()
    for name, measure, options in ASKED:
        decision = ask(held, name, measure, options(strictness))
        distance = decided(decision).distance
        if distance is not None:
            told.add(name)
            assert (distance >= 0) == (decision.status == "pass") or distance == 0, name
    assert told <= RULES.keys() - {"keeps", "coverage_at_least"}


@pytest.mark.parametrize(
    ("name", "measure", "options", "line"),
    [
        ("at_least", "right", {"value": 0.5}, 0.5),
        ("at_most", "wrong", {"value": 0.4}, 0.4),
        ("no_worse_than", "right", {"margin": 0.02}, -0.02),
        ("no_worse_than", "wrong", {"margin": 0.02}, 0.02),
        ("better_than", "right", {"by": 0.01}, 0.01),
        ("max_flips", "right", {"value": 0.1}, 0.1),
    ],
)
def test_the_distance_is_from_the_deciding_end_of_the_interval_to_the_line(
    name, measure, options, line
):
    rng = np.random.default_rng(0)
    baseline = rng.binomial(1, 0.8, 200).astype(float)
    candidate = np.where(rng.random(200) < 0.05, 0.0, baseline)
    outcome = decided(ask(evidence(Run(tuple(candidate), tuple(baseline))), name, measure, options))
    ends = {outcome.interval.low - line, line - outcome.interval.high}
    assert [held.at for held in outcome.lines] == [line]
    assert outcome.distance in ends


def decided(decision):
    """The outcome of a rule with this decision."""
    return Outcome(
        gate="g", rule="r", estimate="t/m", status=decision.status, counts_as="pass", severity="block",
        observed=decision.observed, interval=decision.interval, required="", reason="", lines=decision.lines,
    )  # fmt: skip


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_reason_is_one_sentence_that_names_the_estimate(name):
    rng = np.random.default_rng(0)
    baseline = rng.binomial(1, 0.8, 200).astype(float)
    candidate = np.where(rng.random(200) < 0.05, 0.0, baseline)
    held = evidence(Run(tuple(candidate), tuple(baseline)))
    for asked_name, measure, options in ASKED:
        if asked_name == name:
            for strictness in (0.0, 0.5, 0.97, 1.0):
                reason = ask(held, name, measure, options(strictness)).reason
                assert reason.startswith(f"t/m.{measure} ")
                assert "\n" not in reason
                assert not reason.endswith(".")
