"""Rules on what people will say: known before anybody has rated, refused where they do not fit."""

from __future__ import annotations

import pytest
from review_worlds import suite

from evalkit.loaders.gate_fit import check_gates_against_suite, refuse_misfits
from evalkit.powering import undecidable
from evalkit.records.suite import GateSpec


def gate(estimate, require="at_least", **options):
    rule = {"id": "people", "estimate": estimate, "require": require, "options": options}
    return GateSpec.model_validate({"gate": "people", "rules": [rule]})


RATED = suite(slices=["part"])
UNRATED = RATED.model_copy(
    update={"tasks": (RATED.sampled[0].model_copy(update={"review": None}),)}
)


@pytest.mark.parametrize(
    "estimate",
    ["write/human.pass", "write/human.rating", "write/human.*", "write/human.pass@part=odd"],
)
def test_a_task_with_a_review_has_the_numbers_that_people_will_give(estimate):
    assert not check_gates_against_suite(RATED, [gate(estimate, value=0.5)])
    assert check_gates_against_suite(UNRATED, [gate(estimate, value=0.5)])


def test_agreement_has_no_slices():
    assert check_gates_against_suite(RATED, [gate("write/human.agreement@part=odd", value=0.5)])


def test_labelled_fits_agreement_alone():
    refuse_misfits(RATED, [gate("write/human.agreement", "labelled")])
    for estimate in ("write/human.pass", "write/*"):
        (problem,) = check_gates_against_suite(RATED, [gate(estimate, "labelled")])
        assert "labelled reads how far annotators agree" in str(problem)
        assert "write/human.agreement" in problem.allowed


def test_a_run_is_not_refused_because_people_rate_after_it():
    assert undecidable([], [gate("write/human.pass", value=0.5)], 0.95) == []
    (told,) = undecidable([], [gate("write/exact_match", value=0.5)], 0.95)
    assert "can never pass" in told
