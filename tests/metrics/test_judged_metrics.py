"""Numbers from judgements: no verdict is no number, a jury's vote, and length taken off preferences."""

from __future__ import annotations

import numpy as np
import pytest

from evalkit.metrics.judged import Judged, JudgedOptions, Preferred
from evalkit.records.exchange import Sample, Unscored
from evalkit.records.judging import Judgement


def sample(lengths=(0, 0), **judgements):
    return Sample("s", 0, {"judgements": judgements, "lengths": lengths}, (), (), {}, None)


def metric(make, judge="q", **options):
    return make("metric", JudgedOptions.model_validate({"judge": judge, **options}))


def values(made, *samples):
    stats = np.array([made.score(each, ()).statistics for each in samples])
    return {measure.name: measure.aggregate(stats) for measure in made.measures}


def test_no_verdict_is_unscored_and_says_why():
    assert metric(Judged).score(sample(q=Judgement(None, "no verdict")), ()) == Unscored(
        "no verdict"
    )
    assert metric(Judged).score(sample(), ()) == Unscored("not judged")
    jury = metric(Judged, ["q", "r"])
    found = jury.score(sample(q=Judgement(1.0), r=Judgement(None, "no verdict")), ())
    assert found == Unscored("no verdict (r)")


def test_a_jury_says_its_mean_or_what_most_say():
    held = sample(a=Judgement(1.0), b=Judgement(0.75), c=Judgement(0.0))
    assert values(metric(Judged, ["a", "b", "c"]), held)["score"] == pytest.approx(1.75 / 3)
    vote = values(metric(Judged, ["a", "b", "c"], combine="vote"), held)
    assert vote["score"] == 1.0
    assert (vote["agree"], vote["spread"], vote["score.c"]) == (0.0, 1.0, 0.0)
    split = sample(a=Judgement(1.0), b=Judgement(0.0))
    assert values(metric(Judged, ["a", "b"], combine="vote"), split)["score"] == 0.5


def test_a_jury_lists_each_judge_once():
    with pytest.raises(ValueError, match="each judge once"):
        JudgedOptions.model_validate({"judge": ["a", "a"]})


def test_wins_ties_and_what_the_order_decided_are_told_apart():
    found = values(
        metric(Preferred),
        sample(q=Judgement(1.0, first=0.5, consistent=True)),
        sample(q=Judgement(0.5, first=1.0, consistent=False)),
        sample(q=Judgement(0.5, consistent=True)),
        sample(q=Judgement(0.0, first=0.5, consistent=True)),
    )
    assert found["win_rate"] == 0.5
    assert found["tie"] == 0.5
    assert found["consistent"] == 0.75
    assert found["first"] == pytest.approx(2 / 3)


def test_preferences_that_only_follow_length_leave_no_win_rate_beyond_a_half():
    """By construction: the longer answer wins in proportion to its length, and the candidate's are longer."""
    rng = np.random.default_rng(4)
    samples = []
    for _ in range(4_000):
        ours, theirs = int(rng.integers(100, 400)), int(rng.integers(50, 300))
        apart = (ours - theirs) / (ours + theirs)
        won = float(rng.random() < 0.5 + 0.5 * apart)
        samples.append(sample(lengths=(ours, theirs), q=Judgement(won, consistent=True)))
    found = values(metric(Preferred), *samples)
    assert found["win_rate"] > 0.56
    assert found["lc_win_rate"] == pytest.approx(0.5, abs=0.03)


def test_length_control_is_the_intercept_of_numpys_least_squares():
    """Source: numpy.polyfit of degree 1."""
    rng = np.random.default_rng(5)
    lengths = rng.integers(1, 500, size=(60, 2))
    wins = rng.choice([0.0, 0.5, 1.0], size=60)
    apart = (lengths[:, 0] - lengths[:, 1]) / lengths.sum(axis=1)
    expected = np.polyfit(apart, wins, 1)[1]
    held = [
        sample(lengths=tuple(map(int, pair)), q=Judgement(win, consistent=True))
        for pair, win in zip(lengths, wins, strict=True)
    ]
    assert values(metric(Preferred), *held)["lc_win_rate"] == pytest.approx(expected, rel=1e-9)
