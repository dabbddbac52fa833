"""Decisions: answers that decide nothing first, then confusion matrices, and published counts of COMPAS."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.metrics.decisions import Decisions
from evalkit.records.exchange import Completion, Sample, Score, Unscored
from evalkit.stats.estimate import estimate
from evalkit.stats.intervals import wilson_interval


def build(**options):
    return Decisions("decisions", Decisions.Options(**options))


def grade(answer, label="yes", metric=None):
    sample = Sample("s", 0, {}, () if label is None else (label,), (), {}, None)
    return (metric or build()).score(sample, [Completion("r", answer, "stop")])


def decided(answer, metric=None):
    """The decision, or why there is none."""
    metric = metric or build()
    found = grade(answer, metric.options.positive[0], metric)
    if isinstance(found, Unscored):
        return found.reason
    return bool(found.statistics[0])


def choose(choices, logprobs, target="0", metric=None):
    sample = Sample("s", 0, {}, (target,), tuple(choices), {}, None)
    completions = [Completion("r", "", "stop", logprobs=(each,)) for each in logprobs]
    return (metric or build()).score(sample, completions)


# --- what decides nothing -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        "",
        " \n\t",
        "yes and no",
        "Yes or no?",
        "yes/no",
        "Yes. No.",
        "Yes, or no.",
        "yes? no!",
        "Yes, no the applicant may not.",
        "No, yes it should be granted.",
        "No - but yes, because all is paid",
        "Yes -> no",
        "Yes --> no",
        "not yes",
        "The answer is not yes.",
        "Neither yes nor no.",
        "Maybe yes.",
        "I would say yes.",
        "yesterday",
        "nope",
        "No idea.",
        "No one knows.",
        "no-brainer",
        "yes is what he said",
        "ｙｅｓ",  # full-width letters
        "y\u200bes",  # a zero-width space inside
        "уes",  # a Cyrillic letter
        "<think>Surely yes.",
        "<think>yes</think> It depends.",
        "Answer:",
        "It depends.\nYes.",
        "0.9",
        "yes" * 50_000,
    ],
)
def test_an_answer_that_does_not_open_with_one_side_is_no_decision(answer):
    assert decided(answer) == "no decision"


@pytest.mark.parametrize(
    "answer",
    [
        "I cannot help with that",
        "I'm sorry, but I can't assist with that request.",
        "As an AI language model, I cannot make decisions about individuals.",
        "No, I can't help with that.",
        "No. I'm sorry, but I cannot help with this.",
        "<think>The applicant pays.</think>I must decline to answer.",
    ],
)
def test_a_refusal_is_counted_as_one_and_never_as_the_negative_side(answer):
    assert decided(answer) == "refusal"


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        (None, "no target"),
        ("maybe", "label is neither positive nor negative"),
        ("1", "label is neither positive nor negative"),
        ("", "label is neither positive nor negative"),
        ("yes, mostly", "label is neither positive nor negative"),
    ],
)
def test_a_label_of_no_side_leaves_the_sample_unscored(label, reason):
    assert grade("yes", label) == Unscored(reason, (label or "") if label else "")


def test_a_text_that_stands_on_both_sides_or_is_blank_is_refused():
    with pytest.raises(ValueError, match="'yes' stands under both"):
        build(positive=["yes"], negative=["no", "YES "])
    with pytest.raises(ValueError, match="white space"):
        build(positive=[" "])


# --- what decides ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "positive"),
    [
        ("yes", True),
        (" Yes.\n", True),
        ("**Yes**", True),
        ("**Yes**, since all is paid.", True),
        ("Answer: yes", True),
        ("**Final answer:**\n\n*No*.", False),
        ("The decision is no.", False),
        ("### Decision\nno", False),
        ("> 'No'", False),
        ("- yes", True),
        ("(YES)", True),
        ("Yes — the income suffices.", True),
        ("No because of two defaults", False),
        ("No the income is too low", False),
        ("No, there is no income.", False),
        ("No, we cannot offer this loan.", False),
        ("Yes.\n\nNo further checks are needed.", True),
        ("<think>No? Wait.</think>\nYes", True),
    ],
)
def test_a_decision_is_what_the_first_line_opens_with(answer, positive):
    assert decided(answer) is positive


def test_reasoning_is_part_of_the_answer_only_where_asked_for():
    assert decided("yes, <think>no</think> no", build(reasoning="keep")) is True
    assert decided("yes, <think>no</think> no", build()) is False


def test_sides_have_texts_of_their_own_and_case_counts_where_asked_for():
    metric = build(
        positive=["Approve", "grant loan"], negative=["approve not", "Deny"], ignore_case=False
    )
    read = {
        t: decided(t, metric) for t in ("Approve.", "grant  loan", "approve", "approve not", "Deny")
    }
    assert read == {
        "Approve.": True,
        "grant  loan": True,
        "approve": "no decision",
        "approve not": False,
        "Deny": False,
    }


def test_of_two_texts_that_fit_the_longer_one_counts():
    metric = build(positive=["not guilty"], negative=["not", "guilty"])
    assert decided("Not guilty.", metric) is True
    assert decided("Guilty.", metric) is False


@pytest.mark.parametrize(
    ("answer", "decision"),
    [
        ("7", True),
        ("6.99", False),
        ("Score: 7.0", True),
        ("**8**, since all is paid", True),
        ("yes", True),
        ("7/10", "no decision"),
        ("6 to 8", "no decision"),
        ("6-8", "no decision"),
        ("7 years", "no decision"),
        ("1. Approve", "no decision"),
        ("The loan of $5,000 should be denied.", "no decision"),
        ("seven", "no decision"),
    ],
)
def test_with_a_threshold_the_number_that_the_answer_opens_with_decides(answer, decision):
    assert decided(answer, build(threshold=7)) == decision


def test_per_cent_are_parts_of_one_where_the_threshold_is():
    assert decided("30%", build(threshold=0.5)) is False
    assert decided("30%", build(threshold=25)) is True


def test_with_a_threshold_a_label_may_be_a_number():
    metric = build(threshold=0.5)
    flags = [grade("0.9", label, metric).statistics[1] for label in ("0.5", "0.49", "yes", "no")]
    assert flags == [1, 0, 1, 0]


def test_of_choices_the_likeliest_is_the_decision_and_the_target_names_the_label():
    found = choose(["yes", "no"], [-2.0, -0.5], target="0")
    assert dict(zip(Decisions.columns, found.statistics, strict=True)) == {
        "selected": 0,
        "positive": 1,
        "negative": 0,
        "true_positive": 0,
        "false_positive": 0,
        "false_negative": 1,
        "true_negative": 0,
        "correct": 0,
    }
    assert choose(["yes", "no"], [-0.5, -0.5], target="1").statistics[0] == 1  # of equals the first


def test_choices_fail_closed():
    assert choose(["yes", "no"], [0.0, 0.0]).reason == "no log-probabilities"
    assert choose(["yes", "perhaps"], [-2.0, -1.0]).reason == "no decision"
    assert choose(["yes", "no"], [-2.0, -1.0], target="2").reason == (
        "label is neither positive nor negative"
    )
    assert choose(["yes", "no"], [math.nan, -1.0]).reason == "not log-probabilities"


# --- rates ----------------------------------------------------------------------------------------


def table(pairs):
    """Statistics of (decision, label) pairs."""
    words = {True: "yes", False: "no"}
    scores = [grade(words[bool(decision)], words[bool(label)]) for decision, label in pairs]
    assert all(isinstance(score, Score) for score in scores)
    return np.array([score.statistics for score in scores])


def rates(stats_NK):
    return {m.name: m.aggregate(stats_NK) for m in Decisions.measures}


def share(pairs):
    pairs = list(pairs)
    return sum(pairs) / len(pairs) if pairs else math.nan


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_rates_are_those_of_a_counted_confusion_matrix(pairs):
    wanted = {
        "selection_rate": share(d for d, _ in pairs),
        "tpr": share(d for d, y in pairs if y),
        "fpr": share(d for d, y in pairs if not y),
        "fnr": share(not d for d, y in pairs if y),
        "tnr": share(not d for d, y in pairs if not y),
        "ppv": share(y for d, y in pairs if d),
        "accuracy": share(d == y for d, y in pairs),
    }
    assert rates(table(pairs)) == pytest.approx(wanted, nan_ok=True)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_what_a_rate_averages_is_0_where_the_rate_is_not_over_the_sample(pairs):
    stats_NK = table(pairs)
    for measure in Decisions.measures:
        if measure.over >= 0:
            outside_N = stats_NK[:, measure.over] == 0
            assert not stats_NK[outside_N, measure.column].any()


def test_a_group_without_positive_labels_has_no_true_positive_rate():
    # fairlearn 0.15.0 gives this group a rate of 0, and so an equal opportunity ratio of 0.
    stats_NK = table([(1, 0), (0, 0), (0, 0)])
    tpr = next(m for m in Decisions.measures if m.name == "tpr")
    found = estimate(tpr, stats_NK, level=0.95, binary=True)
    assert (found.value, found.interval, found.n) == (None, None, 0)
    assert found.warnings == ("not estimable: it is over none of the 3 scored samples",)


# --- published ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compas(shared_data):
    """Statistics by race of ProPublica's prediction (score_text is not Low) against recidivism in two years."""
    with (shared_data / "compas" / "compas_min.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    pairs = [(row["score_text"] != "Low", row["two_year_recid"] == "1") for row in rows]
    stats_NK, races = table(pairs), np.array([row["race"] for row in rows])
    return {None: stats_NK} | {str(race): stats_NK[races == race] for race in np.unique(races)}


@pytest.mark.parametrize(
    ("race", "counts", "fpr", "fnr"),
    [
        (None, (2681, 1282, 1216, 2035), 32.35, 37.40),
        ("African-American", (990, 805, 532, 1369), 44.85, 27.99),
        ("Caucasian", (1139, 349, 461, 505), 23.45, 47.72),
    ],
)
def test_counts_and_rates_of_compas_are_those_printed(compas, race, counts, fpr, fnr):
    # Larson et al. 2016, ProPublica, compas-analysis notebook: true negatives, false positives, false negatives, true
    # positives; rates in per cent.
    columns = dict(zip(Decisions.columns, compas[race].sum(axis=0), strict=True))
    names = ("true_negative", "false_positive", "false_negative", "true_positive")
    assert tuple(columns[name] for name in names) == counts
    found = rates(compas[race])
    assert (round(100 * found["fpr"], 2), round(100 * found["fnr"], 2)) == (fpr, fnr)


def gap(name, groups):
    """A gap of the metric, by its definition, from each group's rates."""
    held = next(gap for gap in build().gaps if gap.name == name)
    each = []
    for measure in held.measures:
        values = [rates(stats_NK)[measure] for stats_NK in groups]
        least, greatest = min(values), max(values)
        each.append(greatest - least if held.form == "difference" else least / greatest)
    if held.joined == "mean":
        return sum(each) / len(each)
    return max(each) if held.form == "difference" else min(each)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("equalized_odds_difference", 0.213925),
        ("equalized_odds_mean_difference", 0.205649),
        ("equalized_odds_ratio", 0.522987),
        ("demographic_parity_difference", 0.240200),
        ("demographic_parity_ratio", 0.591638),
        ("equal_opportunity_difference", 0.197373),
        ("equal_opportunity_ratio", 0.725927),
    ],
)
def test_gaps_of_compas_are_those_of_fairlearn(compas, name, wanted):
    # fairlearn 0.15.0, the metric's own function of that name, on the two groups.
    groups = compas["African-American"], compas["Caucasian"]
    assert gap(name, groups) == pytest.approx(wanted, abs=5e-7)


def test_predictive_parity_of_compas_is_near_where_equal_odds_are_far(compas):
    # ProPublica's notebook prints PPV 0.63 and 0.59.
    groups = compas["African-American"], compas["Caucasian"]
    assert [round(rates(stats_NK)["ppv"], 2) for stats_NK in groups] == [0.63, 0.59]
    assert gap("predictive_parity_difference", groups) < 0.05
    assert gap("accuracy_difference", groups) < 0.05


def test_rates_of_compas_have_wilsons_interval_over_those_they_are_over(compas):
    stats_NK = compas["Caucasian"]
    for measure, right, n in ((1, 505, 966), (2, 349, 1488), (5, 505, 854)):
        found = estimate(Decisions.measures[measure], stats_NK, level=0.95, binary=True)
        assert (found.interval, found.n) == (wilson_interval(right, n, 0.95), n)
