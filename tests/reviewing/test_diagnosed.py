"""The share of good answers behind a judge's share, by what its card knows of its errors."""

from __future__ import annotations

import numpy as np
import pytest

from evalkit.gates.judged import DIAGNOSED as RULES_DIAGNOSED
from evalkit.metrics.base import mean
from evalkit.records.judging import CardFigure, JudgeCard, JudgeRecord
from evalkit.records.suite import JudgeSpec, SuiteSpec
from evalkit.reviewing.diagnosed import diagnosed_estimates
from evalkit.scoring import MetricTable

SUITE = SuiteSpec.model_validate(
    {
        "suite": "s",
        "version": 1,
        "judges": {"q": JudgeSpec(judge="q", model="m", criteria="?", scale=(1, 5))},
        "tasks": [
            {
                "kind": "generate",
                "name": "t",
                "dataset": {"path": "x.jsonl"},
                "prompt": "?",
                "metrics": [{"name": "refusals"}],
            }
        ],
    }
)


def table(scores, judges=("q",), planned=None, **more):
    n = len(scores)
    made = {None: planned or n}
    return MetricTable(
        "t", "judged", "sig", "data", (mean("score", column=0),), [str(k) for k in range(n)],
        np.asarray(scores, dtype=float)[:, None], True, None, {}, made, made, judges=judges, **more,
    )  # fmt: skip


def record(sensitivity=0.9, specificity=0.85, n=100, pass_at: int | None = 4, pins="p"):
    figures = {
        "sensitivity": CardFigure(value=sensitivity, n=n),
        "specificity": CardFigure(value=specificity, n=n),
    }
    card = JudgeCard(
        judge="q",
        pins=pins,
        pinned=True,
        labels="l" * 64,
        made="",
        figures=figures,
        pass_at=pass_at,
    )
    return JudgeRecord(judge="q", form="pointwise", pins="p", model="m", card=card)


def found(scores, judge, **more):
    made = diagnosed_estimates({"candidate": [table(scores, **more)]}, [judge], SUITE)
    return {estimate.metric: estimate for estimate in made}


SCORES = [0.75] * 350 + [1.0] * 350 + [0.5] * 300


def test_the_worked_example_of_the_method_comes_out_of_scores_and_card():
    """Source: Lee et al. 2025 (arXiv 2511.21140): p .70, q0 .85, q1 .90, n 1000, m 100 + 100."""
    shares = found(SCORES, record())
    assert shares["judged.passing"].value == pytest.approx(0.7)
    corrected = shares["judged.passing.corrected"]
    assert corrected.value == pytest.approx(0.7333, abs=5e-5)
    assert corrected.interval is not None
    held = corrected.interval.low, corrected.interval.high
    assert held == pytest.approx((0.6644, 0.8163), abs=5e-5)
    assert "taken to err on these answers" in corrected.warnings[0]


@pytest.mark.parametrize("judge", [record(pass_at=None), record(pins="other")])
def test_a_card_that_says_nothing_of_what_passes_or_is_of_another_judge_adds_nothing(judge):
    assert found(SCORES, judge) == {}


def test_a_jury_has_no_such_share():
    assert found(SCORES, record(), judges=("q", "r")) == {}


@pytest.mark.parametrize(
    ("judge", "why"),
    [
        (record(n=9), "fewer than 10 labels"),
        (record(sensitivity=0.4, specificity=0.5), "no better than chance"),
    ],
)
def test_where_the_judge_tells_nothing_there_is_no_number(judge, why):
    corrected = found(SCORES, judge)["judged.passing.corrected"]
    assert (corrected.value, corrected.interval) == (None, None)
    assert why in corrected.warnings[0]


def test_clusters_and_early_stops_have_no_interval():
    corrected = found(SCORES, record(), anytime=True)["judged.passing.corrected"]
    assert corrected.interval is None


def test_samples_without_a_judgement_stay_counted():
    counts = found(SCORES, record(), planned=1100)["judged.passing.corrected"].counts
    assert (counts.planned, counts.scored, counts.unscored) == (1100, 1000, 100)


def test_rules_know_the_shares_by_the_names_that_they_have():
    assert {*RULES_DIAGNOSED} == {*found(SCORES, record())}
