"""Samples that must not break, and how many may flip."""

from __future__ import annotations

import pytest
from gate_evidence import comparison, decide, interval
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from evalkit.records.scorecard import Comparison
from evalkit.registry import find
from evalkit.stats.intervals import clopper_pearson_interval, wilson_interval

SCORES = {
    "kept": (1.0, 1.0),
    "mended": (1.0, 0.0),
    "never": (0.0, 0.0),
    "broken": (0.0, 1.0),
    "silent": (None, 1.0),
    "silent-too": (None, 0.0),
    "new-right": (1.0, None),
    "new-wrong": (0.0, None),
}
HELD = comparison(1, 1, 4)
NAMES = {"task": "t", "metric": "m", "slice": None}


def keeps(*samples, held=HELD, scores=SCORES, **options):
    return decide("keeps", held, scores, samples=samples, **options)


# --- keeps: named samples ---


@pytest.mark.parametrize(
    ("sample", "status"),
    [
        ("kept", "pass"),
        ("mended", "pass"),
        ("never", "pass"),
        ("broken", "fail"),
        ("silent", "fail"),
        ("silent-too", "fail"),
        ("new-right", "pass"),
        ("new-wrong", "fail"),
    ],
)
def test_a_named_sample_breaks_where_the_candidate_is_worse_or_silent(sample, status):
    assert keeps(sample).status == status


def test_broken_samples_are_named():
    decision = keeps("kept", "broken", "silent", "never")
    assert (decision.status, decision.observed) == ("fail", 2)
    assert decision.reason == (
        "extract/valid breaks 2 of 4 named samples (broken, silent), 1 of them for want of an answer; 0 may break"
    )
    assert keeps("kept").reason == "extract/valid breaks 0 of 1 named sample; 0 may break"


def test_many_broken_samples_are_named_in_part():
    scores = {f"s{i}": (0.0, 1.0) for i in range(9)}
    assert "(s0, s1, s2, s3, s4 and 4 more)" in keeps(*scores, scores=scores).reason


def test_as_many_as_allowed_may_break():
    assert keeps("kept", "broken", "silent", allow=2).status == "pass"
    assert keeps("kept", "broken", "silent", allow=1).status == "fail"


def test_where_lower_is_better_a_higher_score_breaks():
    lower = HELD.model_copy(update={"better": "lower"})
    assert keeps("mended", held=lower).status == "fail"
    assert keeps("broken", held=lower).status == "pass"
    assert keeps("new-wrong", held=lower).status == "pass"


def test_a_score_without_known_ends_cannot_stand_for_a_missing_baseline():
    words = HELD.model_copy(update={"unit": "words"})
    assert keeps("new-right", held=words).status == "fail"


def test_an_unknown_sample_is_missing_and_never_passes():
    decision = keeps("kept", "invoice-18")
    assert decision.status == "missing"
    assert decision.reason == "extract/valid has no sample named invoice-18 in this run"


@pytest.mark.parametrize("scores", [None, {}])
def test_without_scores_at_hand_named_samples_are_missing_with_advice(scores):
    decision = keeps("kept", scores=scores)
    assert decision.status == "missing"
    assert decision.reason.endswith(
        "keep the run's samples.jsonl beside its scorecard, and name a rate or a mean"
    )


# --- keeps: all samples ---


def test_every_sample_of_the_estimate_must_be_kept_where_none_is_named():
    assert decide("keeps", comparison(7, 0, 40)).status == "pass"
    decision = decide("keeps", comparison(7, 1, 40))
    assert decision.status == "fail"
    assert decision.reason == (
        "extract/valid scores worse than the baseline on 1 of 40 samples; 0 may break"
    )
    assert decide("keeps", comparison(7, 1, 40), allow=1).status == "pass"


def test_unpaired_samples_count_as_broken():
    held = comparison(7, 1, 40, missing=2)
    assert decide("keeps", held, allow=3).status == "pass"
    decision = decide("keeps", held, allow=2)
    assert (decision.status, decision.observed) == ("fail", 3)
    assert decision.reason == (
        "extract/valid scores worse than the baseline on 1 of 42 samples, and 2 that could not be paired count as "
        "broken; 2 may break"
    )
    silent = Comparison(status="no pairs", unpaired=3, **NAMES)
    assert decide("keeps", silent).status == "fail"
    assert decide("keeps", Comparison(status="no pairs", **NAMES)).status == "missing"


@pytest.mark.parametrize(
    ("name", "options"),
    [("keeps", {}), ("keeps", {"samples": ["a"]}), ("max_flips", {"value": 0.1})],
)
def test_what_is_measured_differently_is_incomparable(name, options):
    other = Comparison(status="incomparable", reason="the data sets differ", **NAMES)
    decision = decide(name, other, SCORES, **options)
    assert decision.status == "incomparable"
    assert decision.reason == "t/m cannot be compared with the baseline: the data sets differ"


@pytest.mark.parametrize(("name", "options"), [("keeps", {}), ("max_flips", {"count": 3})])
def test_a_measure_of_the_whole_corpus_has_no_samples_to_count(name, options):
    held = comparison(7, 1, 40, improved=None, worsened=None)
    decision = decide(name, held, **options)
    assert decision.status == "missing"
    assert decision.reason.endswith(
        "no scores of single samples to count; name a rate or a mean instead"
    )


# --- max_flips ---


@pytest.mark.parametrize(
    ("exact", "upper"),
    # Newcombe 1998, Stat. Med. 17, 857: 15 of 148 at 95 %.
    [(False, 0.1605), (True, 0.1617)],
)
def test_a_share_of_flips_turns_at_the_published_limit(exact, upper):
    held = comparison(30, 15, 148)
    for nudge, status in ((1e-4, "pass"), (-1e-4, "inconclusive")):
        decision = decide("max_flips", held, value=upper + nudge, alpha=0.025, exact=exact)
        assert decision.status == status
    method = clopper_pearson_interval if exact else wilson_interval
    assert decision.interval == method(15, 148, 0.95)


def test_flips_are_told_in_one_sentence():
    assert decide("max_flips", comparison(9, 2, 1000), value=0.01).reason == (
        "extract/valid is worse than the baseline on 2 of 1,000 pairs, a share of 0.002 (90 % interval 0.001 to "
        "0.006), wholly at or below 0.01"
    )
    assert decide("max_flips", comparison(9, 40, 1000), value=0.01).reason.endswith(
        "wholly above 0.01"
    )
    assert decide("max_flips", comparison(9, 2, 300), value=0.01).reason.endswith(
        "which straddles 0.01: at this value it needs about 2,410 pairs; you have 300"
    )
    assert decide("max_flips", comparison(9, 2, 300), value=0.01, of="both").reason.startswith(
        "extract/valid differs from the baseline on 11 of 300 pairs"
    )


def test_both_directions_count_where_the_rule_says_so():
    held = comparison(40, 0, 1000)
    assert decide("max_flips", held, value=0.02).status == "pass"
    assert decide("max_flips", held, value=0.02, of="both").status == "fail"
    assert decide("max_flips", held, count=39, of="both").status == "fail"


def test_unpaired_samples_are_flips():
    held = comparison(9, 2, 988, missing=12)
    decision = decide("max_flips", held, value=0.01)
    assert decision.status == "inconclusive"
    assert decision.interval == wilson_interval(14, 1000, 0.9)
    assert decision.reason == (
        "extract/valid is worse than the baseline on 2 of 988 pairs; with the 12 unpaired counted as flips on 14 of "
        "1,000, a share of 0.014 (90 % interval 0.009 to 0.022), which straddles 0.01: at this value it needs about "
        "1,670 pairs; you have 1,000"
    )
    assert decide("max_flips", held, value=0.03).status == "pass"
    most = comparison(0, 0, 200, missing=200)
    assert decide("max_flips", most, value=0.05).status == "fail"


@pytest.mark.parametrize(("count", "status"), [(1, "fail"), (4, "fail"), (5, "pass")])
def test_a_number_of_flips_is_counted(count, status):
    decision = decide("max_flips", comparison(9, 2, 40, missing=3), count=count)
    assert (decision.status, decision.observed, decision.interval) == (status, 2, None)
    assert decision.reason == (
        "extract/valid is worse than the baseline on 2 of 40 pairs; with the 3 unpaired counted as flips on 5; "
        f"{count} may be"
    )


def test_samples_that_may_not_have_been_asked_cannot_be_counted():
    early = comparison(0, 0, 30, interval=interval(-0.1, 0.1, method="betting"))
    assert decide("keeps", early).status == "inconclusive"
    for options in ({"count": 0}, {"value": 0.5}):
        assert decide("max_flips", early, **options).status == "inconclusive"
    assert decide("keeps", comparison(0, 0, 30)).status == "pass"


@pytest.mark.parametrize("method", ["cr1-t", "adjusted-cr1-t", None])
def test_a_share_of_dependent_pairs_has_no_interval(method):
    shown = interval(-0.1, 0.1, method=method) if method else None
    held = comparison(9, 2, 1000, interval=shown)
    decision = decide("max_flips", held, value=0.01)
    assert decision.status == "inconclusive"
    assert decision.reason.endswith("nothing is decided: give a 'count' instead")
    assert decide("max_flips", held, count=2).status == "pass"


def test_the_p_value_of_too_many_flips_is_the_binomials():
    decision = decide("max_flips", comparison(9, 40, 1000), value=0.03)
    theirs = stats.binomtest(40, 1000, 0.03, alternative="greater").pvalue
    assert decision.p_broken == pytest.approx(theirs)
    assert decide("max_flips", comparison(9, 0, 1000), value=0.03).p_broken == 1.0


@given(st.integers(0, 40), st.integers(0, 20), st.floats(0.001, 0.5), st.booleans())
def test_an_unscored_sample_never_helps(lost, missing, value, exact):
    order = ["fail", "inconclusive", "pass"]
    statuses = [
        decide("max_flips", comparison(0, lost, 100, missing=m), value=value, exact=exact).status
        for m in (missing, missing + 1)
    ]
    assert order.index(statuses[1]) <= order.index(statuses[0])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("keeps", {"samples": []}),
        ("keeps", {"samples": ["a", "a"]}),
        ("keeps", {"samples": ["a"], "allow": 1}),
        ("keeps", {"allow": -1}),
        ("max_flips", {}),
        ("max_flips", {"value": 0.1, "count": 3}),
        ("max_flips", {"value": 3}),
        ("max_flips", {"value": 0.1, "of": "better"}),
    ],
)
def test_wrong_options_are_refused(name, options):
    with pytest.raises(ValidationError):
        find("condition", name).make.Options.model_validate(options)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("keeps", {}, "keeps every sample"),
        ("keeps", {"samples": ("a", "b"), "allow": 1}, "keeps 2 named samples, all but 1"),
        ("max_flips", {"value": 0.02}, "≤ 2 % of samples worsened (one-sided α 0.05)"),
        ("max_flips", {"count": 1, "of": "both"}, "≤ 1 changed sample"),
    ],
)
def test_what_is_required_is_said_in_words(name, options, words):
    make = find("condition", name).make
    assert make(make.Options(**options)).required == words
