"""Numbers that another program gave: kept as they were, aggregated as they were, missing one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from evalkit.metrics.recorded import Recorded, RecordedOptions
from evalkit.planning import PlannedSample
from evalkit.records.exchange import Sample, Score, Unscored
from evalkit.records.suite import DatasetSpec, GenerateTask, MetricSpec
from evalkit.scoring import ANSWERED, TaskScorer

FINITE = st.floats(min_value=-1e6, max_value=1e6)


def metric(score: str = "acc", **options: object) -> Recorded:
    return Recorded("recorded", RecordedOptions.model_validate({"score": score, **options}))


def sample(**fields: object) -> Sample:
    return Sample("1", 0, fields, (), (), {}, None)


@pytest.mark.parametrize("held", [None, "0.5", "yes", [], [1.0, 2.0], math.nan, math.inf, {}])
def test_what_is_no_finite_number_is_ungraded(held: object) -> None:
    found = metric().score(sample(acc=held), ())
    assert isinstance(found, Unscored)
    assert "recorded" in found.reason


def test_a_field_that_is_not_there_is_ungraded() -> None:
    assert metric().score(sample(other=1.0), ()) == Unscored("nothing was recorded")


def test_a_rate_takes_nothing_but_0_and_1() -> None:
    assert isinstance(metric(kind="rate").score(sample(acc=0.5), ()), Unscored)
    assert metric(kind="rate").score(sample(acc=True), ()) == Score((1.0,))


def test_a_reason_given_by_the_reader_is_kept() -> None:
    why = Unscored("the grader failed", "no verdict")
    assert metric().score(sample(acc=why), ()) is why


@given(st.lists(FINITE, min_size=1))
def test_the_mean_is_the_mean_of_what_was_recorded(values: list[float]) -> None:
    measure = metric().measures[0]
    expected = math.fsum(values) / len(values)
    assert measure.aggregate(np.array(values)[:, None]) == pytest.approx(
        expected, rel=1e-9, abs=1e-6
    )


def test_perplexities_are_those_of_lm_evaluation_harness() -> None:
    """Source: lm-evaluation-harness 0.4.13 itself, api/metrics.py."""
    theirs = pytest.importorskip("lm_eval.api.metrics")
    pairs = [(-40.58, 41), (-12.5, 9), (-63.1, 77)]
    likelihoods = [likelihood for likelihood, _ in pairs]

    def ours(kind: str, rows: object) -> float:
        return metric(kind=kind).measures[0].aggregate(np.array(rows))

    assert ours("weighted_perplexity", pairs) == pytest.approx(
        theirs.weighted_perplexity(pairs), rel=1e-12
    )
    assert ours("bits_per_byte", pairs) == pytest.approx(theirs.bits_per_byte(pairs), rel=1e-12)
    rows = [[likelihood] for likelihood in likelihoods]
    assert ours("perplexity", rows) == pytest.approx(theirs.perplexity(likelihoods), rel=1e-12)


def test_a_perplexity_beyond_the_largest_number_has_no_value() -> None:
    assert math.isnan(metric(kind="perplexity").measures[0].aggregate(np.array([[-1e5]])))


def test_two_scores_of_a_task_are_missing_each_for_itself() -> None:
    specs = [MetricSpec(name="recorded", options={"score": name}) for name in ("first", "second")]
    task = GenerateTask(name="t", dataset=DatasetSpec(path="x"), prompt="p", metrics=tuple(specs))
    scorer = TaskScorer(task, [metric("first"), metric("second")], "candidate", "", "")
    for place, fields in enumerate([{"first": 1, "second": 2}, {"first": 3}, {"second": 4}]):
        one = Sample(str(place), place, fields, (), (), {}, None)
        scorer.add(PlannedSample(one, (), 1), (ANSWERED,))
    first, second = scorer.tables()
    assert (first.metric, list(first.sample_ids)) == ("first", ["0", "1"])
    assert (second.metric, list(second.sample_ids)) == ("second", ["0", "2"])
    counts = first.counts(None, len(first.sample_ids))
    assert (counts.planned, counts.completed, counts.scored, counts.unscored) == (3, 3, 2, 1)


def test_the_signature_tells_how_it_was_measured_and_a_bar_cannot_forge_a_part() -> None:
    told = metric(measured={"harness": "x 1", "filter": "a|kind:rate"}).signature.split("|")
    assert told == [
        "recorded acc",
        "better:higher",
        "filter:a/kind:rate",
        "harness:x 1",
        "kind:mean",
        "v:1",
    ]


@pytest.mark.parametrize(
    "changed", [{"better": "lower"}, {"kind": "rate"}, {"measured": {"harness": "x 2"}}]
)
def test_what_was_measured_otherwise_has_another_signature(changed: dict[str, object]) -> None:
    assert metric(**changed).signature != metric(measured={"harness": "x 1"}).signature


def test_a_rate_in_another_unit_is_refused() -> None:
    with pytest.raises(ValidationError, match="a rate is a fraction"):
        metric(kind="rate", unit="points")


def test_the_direction_is_as_declared() -> None:
    assert metric(better="lower", unit="ms").measures[0].better == "lower"
    assert metric(better="lower", unit="ms").measures[0].unit == "ms"
