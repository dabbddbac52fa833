"""What a rule on a judged metric demands of the judge's card."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.gates.judged import NO_CARD, why_unfit
from evalkit.records.judging import CardFigure, JudgeCard, JudgeRecord
from evalkit.records.scorecard import Interval
from evalkit.records.suite import JudgeDemands

PINS = "a" * 64


def figure(value, low, high, n=200):
    interval = Interval(low=low, high=high, level=0.95, method="test")
    return CardFigure(value=value, interval=interval, n=n)


def sound():
    return {
        "accuracy": figure(0.9, 0.86, 0.93),
        "kappa": figure(0.8, 0.72, 0.87),
        "order_consistency": figure(0.96, 0.92, 0.98),
        "first_position": figure(0.51, 0.48, 0.54),
        "no_verdict": figure(0.0, 0.0, 0.009, n=400),
        "canary_false_positives": figure(0.0, 0.0, 0.08, n=45),
    }


def record(figures=None, **changes):
    card = JudgeCard(
        **{
            "judge": "j",
            "pins": PINS,
            "pinned": True,
            "labels": "b" * 64,
            "made": "2026-01-01T00:00:00Z",
            "figures": sound() if figures is None else figures,
            **changes,
        }
    )
    return JudgeRecord(judge="j", form="pairwise", pins=PINS, model="m", card=card)


def refused(form="pairwise", demands=None, **figures):
    """Why a card with other figures than a sound one's is refused; None takes a figure out."""
    held = {name: value for name, value in {**sound(), **figures}.items() if value is not None}
    return why_unfit(demands or JudgeDemands(), record(held), form)


def test_a_sound_card_meets_the_default_demands():
    assert refused() == ""


def test_without_a_card_nothing_else_is_told():
    bare = JudgeRecord(judge="j", form="pairwise", pins=PINS, model="m")
    assert why_unfit(JudgeDemands(), None, "pairwise") == NO_CARD
    assert why_unfit(JudgeDemands(), bare, "pairwise") == NO_CARD


def test_a_card_of_another_judge_or_of_an_endpoint_that_may_change_is_refused():
    other = why_unfit(JudgeDemands(), record(pins="c" * 64), "pairwise")
    assert "another judge" in other and "cccccccccccc" in other and "aaaaaaaaaaaa" in other
    assert "revision" in why_unfit(JudgeDemands(), record(pinned=False), "pairwise")


@pytest.mark.parametrize(
    ("figures", "told"),
    [
        ({"kappa": figure(0.65, 0.59, 0.7)}, "may be as low as 0.590, below 0.600"),
        ({"accuracy": figure(0.9, 0.8, 0.95, n=99)}, "99 labelled items, fewer than 100"),
        ({"order_consistency": figure(0.92, 0.89, 0.95)}, "both orders may be as low as 0.890"),
        ({"first_position": figure(0.6, 0.551, 0.64)}, "shown first in a share of 0.551 to 0.640"),
        ({"first_position": figure(0.4, 0.36, 0.449)}, "farther from ½ than 0.05"),
        ({"no_verdict": figure(0.005, 0.001, 0.051, n=400)}, "2 of 400 labelled items"),
        ({"canary_false_positives": figure(1 / 45, 0.0, 0.1, n=45)}, "1 of 45 worthless answers"),
    ],
)
def test_the_bound_decides_and_not_the_point(figures, told):
    assert told in refused(**figures)


@pytest.mark.parametrize(
    ("figures", "form"),
    [
        ({"kappa": figure(0.65, 0.6, 0.7)}, "pairwise"),
        ({"first_position": figure(0.58, 0.55, 0.61)}, "pairwise"),
        ({"order_consistency": None, "first_position": None}, "pointwise"),
    ],
)
def test_what_just_meets_a_demand_or_is_not_demanded_passes(figures, form):
    assert refused(form, **figures) == ""


@pytest.mark.parametrize("name", sorted(sound()))
def test_a_figure_that_was_not_measured_never_passes(name):
    assert refused(**{name: None})
    assert name == "accuracy" or refused(**{name: CardFigure(value=None)})


def test_a_judge_is_not_asked_to_agree_with_people_more_than_people_do():
    kappa = figure(0.55, 0.45, 0.62)
    assert "below 0.600" in refused(kappa=kappa)
    assert refused(kappa=kappa, people_kappa=figure(0.55, 0.5, 0.6)) == ""
    told = refused(kappa=kappa, people_kappa=figure(0.58, 0.5, 0.6))
    assert "below 0.480 (people among themselves: 0.58)" in told
    # People who agree well raise no demand above what the rule says.
    assert refused(people_kappa=figure(0.95, 0.9, 0.97)) == ""


def test_where_people_hardly_agree_a_judge_must_still_beat_chance():
    disagreeing = figure(0.02, -0.1, 0.1)
    told = refused(kappa=figure(0.05, 0.0, 0.2), people_kappa=disagreeing)
    assert "no better than chance" in told
    assert refused(kappa=figure(0.1, 0.01, 0.2), people_kappa=disagreeing) == ""


def test_every_unmet_demand_is_told_at_once():
    told = refused(kappa=figure(0.1, 0.0, 0.2), order_consistency=figure(0.5, 0.4, 0.6))
    assert "kappa" in told and "both orders" in told and "; " in told


def test_demands_of_null_are_not_made():
    none = JudgeDemands(
        kappa=None,
        labels=0,
        order_consistency=None,
        first_position=None,
        no_verdict=None,
        canaries=None,
    )
    assert why_unfit(none, record({}), "pairwise") == ""


@given(st.floats(-1, 1), st.floats(0, 1))
def test_a_higher_bound_of_kappa_never_turns_a_card_away(low, more):
    higher = min(low + more, 1.0)
    if not refused(kappa=figure(1.0, low, 1.0)):
        assert not refused(kappa=figure(1.0, higher, 1.0))


def test_a_card_on_hardly_any_worthless_answers_does_not_vouch_for_a_judge():
    told = refused(canary_false_positives=figure(0.0, 0.0, 0.4, n=8))
    assert "8 worthless answers with a verdict, fewer than 9" in told
    assert refused(canary_false_positives=figure(0.0, 0.0, 0.4, n=9)) == ""


def at_level(figure, level):
    return figure.model_copy(
        update={"interval": figure.interval.model_copy(update={"level": level})}
    )


@pytest.mark.parametrize("name", ["kappa", "no_verdict", "order_consistency", "first_position"])
def test_a_card_whose_intervals_were_made_narrow_does_not_vouch_for_a_judge(name):
    told = refused(**{name: at_level(sound()[name], 0.51)})
    assert f"interval of {name} is of 51 %, below 95 %" in told
    assert refused(**{name: at_level(sound()[name], 0.99)}) == ""


def test_what_is_refused_by_what_it_shows_must_be_able_to_show_it():
    wide = at_level(figure(0.8, 0.5, 1.0), 0.999999)
    assert "first_position" in refused(first_position=wide)
    kappa = at_level(sound()["kappa"], 0.999999)
    assert refused(kappa=kappa) == "", "a wider interval is the harder demand"


def test_a_figure_that_is_not_demanded_may_have_any_level():
    narrow = {name: at_level(sound()[name], 0.51) for name in ("kappa", "no_verdict")}
    assert refused(demands=JudgeDemands(kappa=None, no_verdict=None), **narrow) == ""
