"""A card's figures from what a judge says of labelled items, against other programs and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.judging.asking import Question
from evalkit.judging.canaries import KINDS, canaries
from evalkit.judging.cards import JudgedCanary, card_figures, card_warnings
from evalkit.judging.coefficients import slope, slope_stats
from evalkit.judging.labels import LabelledItem
from evalkit.judging.measured import JudgedItem
from evalkit.records.judging import Judgement
from evalkit.records.suite import JudgeSpec

POINTWISE = JudgeSpec(judge="quality", model="m", criteria="c", scale=(1, 5))
PAIRWISE = JudgeSpec(judge="better", model="m", criteria="c", form="pairwise")


def item(n, ratings, lengths=(10, 10), form="pointwise"):
    others = ("y" * lengths[1],) if form == "pairwise" else ()
    question = Question(f"i{n}", f"q{n}", ("x" * lengths[0],), others)
    if isinstance(ratings, int):
        ratings = {"label": ratings}
    return LabelledItem(question, ratings, f"f:{n}")


def scores(codes, people, spec=POINTWISE, again=None):
    """Judged items from codes (None: no verdict) and people's codes or ratings."""
    top = 2 if spec.form == "pairwise" else 4

    def said(code):
        return Judgement(None, "no verdict") if code is None else Judgement(code / top)

    again = codes if again is None else again
    return [
        JudgedItem(item(n, theirs, form=spec.form), (said(ours), said(second)))
        for n, (ours, theirs, second) in enumerate(zip(codes, people, again, strict=True))
    ]


def figures(judged, spec=POINTWISE, canaries=(), **more):
    return card_figures(spec, judged, canaries, level=0.95, seed=1, **more)


def pairs(values, people, lengths, consistent=True, firsts=None):
    firsts = [0.5] * len(values) if firsts is None else firsts
    return [
        JudgedItem(
            item(n, rating, length, "pairwise"),
            (Judgement(value, first=first, consistent=consistent),),
        )
        for n, (value, rating, length, first) in enumerate(
            zip(values, people, lengths, firsts, strict=True)
        )
    ]


def test_kappa_and_accuracy_are_those_of_a_published_table():
    # Cohen's kappa of [[20, 5], [10, 15]] is 0.4 (statsmodels 0.14, cohens_kappa; the textbook example).
    ours = [0] * 25 + [4] * 25
    people = [0] * 20 + [4] * 5 + [0] * 10 + [4] * 15
    held = figures(scores(ours, people))
    assert held["kappa"].value == pytest.approx(0.4)
    assert held["accuracy"].value == 0.7
    # Wilson for 35 of 50 (statsmodels 0.14, proportion_confint): 0.5625 to 0.8090.
    interval = held["accuracy"].interval
    assert (interval.low, interval.high) == pytest.approx((0.5625, 0.8090), abs=5e-5)


def test_no_verdict_is_wrong_and_never_dropped():
    whole = figures(scores([0] * 50 + [4] * 50, [0] * 50 + [4] * 50))
    ours = [None] * 10 + [0] * 40 + [4] * 50
    held = figures(scores(ours, [0] * 50 + [4] * 50))
    assert whole["kappa"].value == 1 and held["accuracy"].value == 0.9
    assert held["kappa"].n == held["accuracy"].n == 100
    # Agreement 0.9, by chance 0.4·0.5 + 0.5·0.5: (0.9 − 0.45)/(1 − 0.45).
    assert held["kappa"].value == pytest.approx(0.45 / 0.55)
    assert held["no_verdict"].value == 0.1 and held["no_verdict"].told == "no verdict 10"
    assert held["alpha"].n == 90 and "without 10" in held["alpha"].told


def test_a_judge_that_agrees_on_everything_has_a_bound_below_one():
    held = figures(scores([0, 4] * 50, [0, 4] * 50))
    # Wilson's upper end for 0 of 100 is z²/(100 + z²) = w; with a share w apart and even marginals kappa is 1 − 2w.
    worst = 1.959964**2 / (100 + 1.959964**2)
    assert held["kappa"].interval.low == pytest.approx(1 - 2 * worst, abs=1e-6)
    assert held["alpha"].interval.low < 1


def test_a_judge_that_says_one_thing_about_all_has_no_kappa():
    held = figures(scores([4] * 50, [4] * 50))
    assert held["kappa"].value is None and held["accuracy"].value == 1


def test_peoples_own_agreement_is_told_where_items_have_two_labels():
    assert "people_kappa" not in figures(scores([0] * 9, [0] * 9))
    # The table above between two people: 20 both 0, 5 and 10 apart, 15 both 4.
    ann, bob = [0] * 25 + [4] * 25, [0] * 20 + [4] * 5 + [0] * 10 + [4] * 15
    people = [{"ann": a, "bob": b} for a, b in zip(ann, bob, strict=True)]
    held = figures(scores([0] * 50, people))
    assert held["people_kappa"].value == pytest.approx(0.4)
    assert held["people_kappa"].n == 50


def test_kappa_of_three_people_is_fleiss():
    # Fleiss' kappa by statsmodels 0.14 (inter_rater.fleiss_kappa) of counts [[3,0],[2,1],[1,2],[0,3]] × 5: 1/3.
    rows = [(0, 0, 0), (0, 0, 4), (0, 4, 4), (4, 4, 4)] * 5
    people = [dict(zip("abc", row, strict=True)) for row in rows]
    held = figures(scores([0] * 20, people))
    # Pooled over pairs, p_o = 2/3 and p_e = 1/2.
    assert held["people_kappa"].value == pytest.approx(1 / 3)
    assert "Fleiss" in held["people_kappa"].told


def test_orders_are_counted_by_pairs():
    judged = pairs([1.0] * 8, [2] * 8, [(5, 5)] * 8, True)
    turned = pairs([0.5] * 2, [2] * 2, [(5, 5)] * 2, False, [1.0, 1.0])
    held = figures([*judged, *turned], PAIRWISE)
    assert held["order_consistency"].value == 0.8 and held["order_consistency"].n == 10
    assert held["first_position"].value == pytest.approx((8 * 0.5 + 2) / 10)


def test_a_judge_that_always_prefers_the_first_has_an_interval():
    held = figures(pairs([0.5] * 40, [2] * 40, [(5, 5)] * 40, False, [1.0] * 40), PAIRWISE)
    assert held["first_position"].value == 1 and held["first_position"].interval.low > 0.9
    even = figures(pairs([1.0] * 40, [2] * 40, [(5, 5)] * 40), PAIRWISE)
    assert even["first_position"].interval.low < 0.5 < even["first_position"].interval.high


def test_what_length_is_worth_is_read_off_pairs_that_people_call_a_tie():
    rng = np.random.default_rng(3)
    lengths = [tuple(map(int, rng.integers(10, 200, 2))) for _ in range(300)]
    apart = np.array([(a - b) / (a + b) for a, b in lengths])
    values = [float(a > b) for a, b in lengths]
    people = [1] * 200 + [2] * 100
    held = figures(pairs(values, people, lengths), PAIRWISE)["length_slope"]
    assert held.n == 200 and "call a tie" in held.told
    assert held.value == pytest.approx(np.polyfit(apart[:200], values[:200], 1)[0])
    few = figures(pairs(values[190:], people[190:], lengths[190:]), PAIRWISE)["length_slope"]
    assert few.n == 110 and "beside people's label" in few.told


def test_a_judge_that_keeps_to_the_middle_is_not_taken_for_one_that_dislikes_length():
    rng = np.random.default_rng(8)
    people = rng.integers(0, 5, 300)
    lengths = 50 + 40 * people + rng.integers(0, 30, 300)  # people's best answers are the longest
    middling = np.where(rng.random(300) < 0.4, 2, people) / 4
    judged = [
        JudgedItem(item(n, int(people[n]), (int(lengths[n]), 0)), (Judgement(float(middling[n])),))
        for n in range(300)
    ]
    held = figures(judged)["length_slope"]
    assert held.interval.low < 0 < held.interval.high
    assert np.polyfit(lengths, middling - people / 4, 1)[0] < 0, "the plain difference falls"


def test_canaries_count_by_kind_and_those_unread_are_no_part():
    good, bad, none = Judgement(1.0), Judgement(0.25), Judgement(None, "no verdict")
    said = [("colon", good), ("colon", bad), ("empty", bad), ("empty", none)]
    held = figures([], canaries=[JudgedCanary(*each) for each in said])["canary_false_positives"]
    assert (held.value, held.n) == (1 / 3, 3)
    assert held.told == "colon 1, 1 without a verdict"


def test_a_canary_beside_a_real_answer_must_lose_in_both_orders():
    turned = JudgedCanary("colon", Judgement(0.5, first=1.0, consistent=False))
    beaten = JudgedCanary("colon", Judgement(0.0, first=0.5, consistent=True))
    held = figures([], PAIRWISE, [turned, beaten])["canary_false_positives"]
    assert held.value == 0.5


def test_a_canary_is_good_from_what_passes_on():
    three = [JudgedCanary("colon", Judgement(0.5))]
    assert figures([], canaries=three)["canary_false_positives"].value == 0
    assert figures([], canaries=three, pass_at=3)["canary_false_positives"].value == 1
    assert figures([], canaries=three, pass_at=4)["canary_false_positives"].value == 0


def test_every_kind_of_canary_is_made_and_holds_the_question():
    made = list(canaries([item(n, 0).question for n in range(3)], 5, per_kind=2))
    assert [kind for kind, _ in made] == [kind for kind in KINDS for _ in range(2)]
    assert len({question.id for _, question in made}) == len(made)
    assert {question.question for _, question in made} == {"q0", "q1", "q2"}
    assert all("x" * 10 not in question.answers[0] for _, question in made)
    orders = {kind: question.answers[0] for kind, question in made}
    assert '"score": 5' in orders["injected score"] and "Score: 5" in orders["injected verdict"]
    assert list(canaries([], 5)) == []


def test_the_same_verdict_twice_is_counted_among_items_with_any():
    held = figures(scores([0, 4, None, None], [0] * 4, again=[0, 0, None, 0]))["repeatability"]
    assert (held.value, held.n) == (1 / 3, 3)
    once = [JudgedItem(item(0, 0), (Judgement(0.0),))]
    assert figures(once)["repeatability"].value is None


def test_warnings_say_what_the_figures_do_not():
    judged = scores([0] * 99, [0] * 99)
    told = " ".join(card_warnings(POINTWISE, judged, figures(judged), random=False))
    assert "only 99" in told and "at random" in told and "one person's label" in told
    twice = scores([0] * 100, [{"a": 0, "b": 0}] * 100)
    assert card_warnings(POINTWISE, twice, figures(twice), random=True) == ()


def test_a_judge_that_likes_length_is_warned_of():
    lengths = [(10 + n, 60) for n in range(100)]
    values = [float(a > b) for a, b in lengths]
    for said, word in ((values, "longer"), ([1 - value for value in values], "shorter")):
        judged = pairs(said, [1] * 100, lengths)
        (told,) = (
            w
            for w in card_warnings(PAIRWISE, judged, figures(judged, PAIRWISE), random=True)
            if "length" in w
        )
        assert f"prefers {word} answers" in told and "lc_win_rate" in told


def test_nothing_judged_gives_figures_without_values():
    for spec in (POINTWISE, PAIRWISE):
        assert all(f.value is None for f in figures([], spec).values())


@given(
    st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1)), min_size=8, max_size=40)
)
def test_the_slope_is_that_of_least_squares(rows):
    x, y, z = np.array(rows).T
    design = np.column_stack([np.ones(len(x)), x, z])
    if np.linalg.cond(design) > 1e3:
        return
    expected = np.linalg.lstsq(design, y, rcond=None)[0][1]
    found = float(slope(slope_stats(x, y, z).sum(axis=0), np.asarray(float(len(x)))))
    assert found == pytest.approx(expected, abs=1e-6)


codes = st.lists(
    st.tuples(st.integers(0, 4) | st.none(), st.integers(0, 4)), min_size=5, max_size=25
)


@settings(max_examples=25)
@given(codes, st.randoms())
def test_the_order_of_items_does_not_move_a_value(rows, random):
    turned = random.sample(rows, len(rows))
    one, two = (figures(scores(*zip(*each, strict=True))) for each in (rows, turned))
    for name, held in one.items():
        assert held.value == pytest.approx(two[name].value), name


def covered(name, truth, draw, sets=200):
    """How many of many cards have the truth in a figure's interval."""
    return sum(
        (held := figures(draw(np.random.default_rng(seed)), spec)[name].interval).low
        <= truth
        <= held.high
        for seed in range(sets)
        for spec in [PAIRWISE if name in ("first_position", "length_slope") else POINTWISE]
    )


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say():
    # 200 cards of 150 items: 95 % give 190 on average, and fewer than 180 in 1 of 400 simulations (binomial).
    def noisy(rng):
        people = rng.integers(0, 5, 150)
        wrong = rng.random(150) < 0.2
        ours = np.where(wrong, (people + rng.integers(1, 5, 150)) % 5, people)
        return scores(ours.tolist(), people.tolist())

    # Agreement 0.8, by chance 1/5 as both marginals are even: (0.8 − 0.2)/0.8.
    assert covered("kappa", 0.75, noisy) >= 180

    def biased(rng):
        first = rng.random((150, 2)) < 0.7
        return pairs([0.5] * 150, [1] * 150, [(5, 5)] * 150, True, first.mean(axis=1).tolist())

    assert covered("first_position", 0.7, biased) >= 180

    def verbose(rng):
        lengths = rng.integers(10, 500, (150, 2))
        apart = (lengths[:, 0] - lengths[:, 1]) / lengths.sum(axis=1)
        values = (rng.random(150) < 0.5 + 0.4 * apart).astype(float)
        return pairs(values.tolist(), [1] * 150, [tuple(map(int, row)) for row in lengths])

    assert covered("length_slope", 0.4, verbose) >= 180
