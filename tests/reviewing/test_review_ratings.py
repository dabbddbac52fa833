"""From label files to one rating per answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from review_worlds import LABELS, SCALE, label, rated, review

from evalkit.errors import UsageError
from evalkit.records.exchange import Unscored
from evalkit.reviewing import conflicts, merged
from evalkit.reviewing.ratings import Resolved, resolved

BOTH = ("candidate", "baseline")


def problems(*labels, spec=SCALE, adjudicated=()):
    with pytest.raises(UsageError) as raised:
        merged(review({"i0": BOTH, "i1": BOTH}, spec), labels, adjudicated)
    return [str(problem) for problem in raised.value.problems]


def test_every_problem_is_told_at_once_with_its_file_and_line():
    told = problems(
        label("i0", 9, line=1),
        label("i9", 3, line=2),
        label("i0", 3, line=3, review="other"),
        label("i0", 3, None, line=4),
        label("i0", 3, line=5),
        label("i0", 4, file="bob.csv", line=6),
    )
    assert [t.split(": ")[0] for t in told] == [
        "ann.jsonl:1", "ann.jsonl:2", "ann.jsonl:3", "ann.jsonl:4", "bob.csv:6"
    ]  # fmt: skip
    assert "allowed: 1, 2, 3, 4, 5" in told[0]
    assert "no item 'i9'" in told[1]
    assert "'other'" in told[2]
    assert "who rated" in told[3]
    assert "ann rated item i0 4 here and 3 in ann.jsonl:5" in told[4]


@pytest.mark.parametrize("rating", [True, 3.5, "3.5", [3], {"rating": 3}, "three", -1, 6])
def test_what_is_not_on_the_scale_is_refused(rating):
    assert "is no rating" in problems(label("i0", rating))[0]


@pytest.mark.parametrize("rating", [3, 3.0, "3", " 3 ", "3.0"])
def test_a_spreadsheets_way_of_writing_a_number_is_read(rating):
    rows = merged(review({"i0": ("candidate",)}), [label("i0", rating)])
    assert rows[0].ratings == {"ann": 3}


def test_a_label_of_another_spelling_is_refused_with_the_nearest():
    (told,) = problems(label("i0", "goood"), spec=LABELS)
    assert "did you mean 'good'?" in told


@pytest.mark.parametrize("name", ["\x1b[2J", "ann\nbob", 7, "", None])
def test_an_annotator_has_a_name_that_a_terminal_can_show(name):
    assert problems(label("i0", 3, name))[0].startswith("ann.jsonl:1: annotator: ")


def test_an_empty_rating_is_no_rating():
    rows = merged(review({"i0": ("candidate",)}), [label("i0", ""), label("i0", None)])
    assert rows[0].ratings == {}


def test_the_same_rating_twice_is_one_rating():
    rows = merged(review({"i0": ("candidate",)}), [label("i0", 3), label("i0", 3, line=2)])
    assert rows[0].ratings == {"ann": 3}


def test_an_item_of_both_models_rates_both():
    rows = merged(review({"i0": BOTH}), [label("i0", 3, comment=" so so ")])
    assert {row.model: (row.ratings, row.comments) for row in rows} == dict.fromkeys(
        BOTH, ({"ann": 3}, {"ann": "so so"})
    )


def test_a_drawn_answer_that_nobody_rated_is_still_a_row():
    rows = merged(review({"i0": ("candidate",), "i1": ("candidate",)}), [label("i0", 3)])
    assert [(row.id, row.ratings) for row in rows] == [("s0", {"ann": 3}), ("s1", {})]


def test_nothing_rated_has_no_score():
    assert resolved(SCALE, rated(0)) == Unscored("not rated")


def test_on_a_scale_the_mean_of_the_annotators_stands():
    assert resolved(SCALE, rated(0, ann=3, bob=5)) == Resolved(1.0, 0.75)
    assert resolved(SCALE, rated(0, ann=3, bob=4)) == Resolved(0.0, 0.625)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=9))
def test_the_mean_passes_exactly_when_it_reaches_pass_at(ratings):
    found = resolved(SCALE, rated(0, **{f"a{n}": r for n, r in enumerate(ratings)}))
    assert isinstance(found, Resolved)
    assert found.passed == (sum(ratings) >= 4 * len(ratings))
    assert found.rating == pytest.approx((sum(ratings) / len(ratings) - 1) / 4)


def test_among_labels_the_majority_stands():
    assert resolved(LABELS, rated(0, a="good", b="good", c="bad")) == Resolved(1.0, 1.0)


@pytest.mark.parametrize("ratings", [("good", "bad"), ("good", "fair", "bad"), ("good", "fair")])
def test_labels_without_a_majority_are_unresolved_never_a_zero(ratings):
    row = rated(0, **{f"a{n}": r for n, r in enumerate(ratings)})
    assert resolved(LABELS, row) == Unscored("annotators are tied")


def found_conflicts(held, labels, adjudicated=()):
    return [c.answer.item for c in conflicts(held, merged(held, labels, adjudicated))]


def test_a_conflict_is_a_disagreement_about_passing():
    held = review({"i0": BOTH, "i1": BOTH, "i2": ("candidate",)})
    labels = [label(i, r, a) for i, a, r in [
        ("i0", "ann", 3), ("i0", "bob", 4), ("i1", "ann", 1), ("i1", "bob", 3), ("i2", "ann", 5)
    ]]  # fmt: skip
    assert found_conflicts(held, labels) == ["i0"], "1 and 3 both do not pass"


def test_labels_without_a_majority_are_a_conflict_although_both_pass():
    held = review({"i0": ("candidate",)}, LABELS)
    labels = [label("i0", "good", "ann"), label("i0", "fair", "bob")]
    assert found_conflicts(held, labels) == ["i0"]


def test_an_adjudicated_rating_stands_in_the_place_of_the_others_and_ends_the_conflict():
    held = review({"i0": ("candidate",)})
    labels = [label("i0", 1, "ann"), label("i0", 5, "bob")]
    settled = [label("i0", 4, None, file="conflicts.csv")]
    (row,) = merged(held, labels, settled)
    assert resolved(SCALE, row) == Resolved(1.0, 0.75)
    assert row.ratings == {"ann": 1, "bob": 5}, "what annotators said is kept"
    assert found_conflicts(held, labels, settled) == []


def test_what_annotators_agree_about_cannot_be_adjudicated_away():
    labels = [label("i0", 1, "ann"), label("i0", 1, "bob", line=2)]
    (told,) = problems(*labels, adjudicated=[label("i0", 5, "boss", file="c.csv", line=7)])
    assert told.startswith("c.csv:7") and "no conflict" in told


def test_what_a_file_says_at_length_is_told_in_a_line():
    long = "x" * 1_000_000
    for wrong in (label(long, 3), label("i0", long), label("i0", 3, long)):
        (told,) = problems(wrong)
        assert len(told) < 200
    (told,) = problems(label("i0", 3, review=long))
    assert len(told) < 200
    (row,) = merged(review({"i0": ("candidate",)}), [label("i0", 3, "n" * 80)])
    assert row.ratings == {"n" * 80: 3}
