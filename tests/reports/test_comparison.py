"""What ``evalkit compare`` prints, and what it takes for a difference behind the numbers."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from evalkit.flips import Flip, FlipLedger, SliceFlips
from evalkit.records.scorecard import (
    Circumstances,
    Comparison,
    Counts,
    Estimate,
    Interval,
    ModelRecord,
    Provenance,
    Scorecard,
)
from evalkit.reports.clean import printable
from evalkit.reports.compared_runs import ComparedRuns, Differing, differences, side
from evalkit.reports.comparison import comparison_drawing
from evalkit.reports.flip_ledger import ledger_drawing


def interval(low, high):
    return Interval(low=low, high=high, level=0.95, method="bonett-price")


def estimate(model, value, **changes):
    counts = Counts(planned=400, completed=400, failed=0, scored=400, unscored=0)
    held = {
        "task": "extract",
        "metric": "exact_match",
        "slice": None,
        "interval": interval(value - 0.03, value + 0.03),
        "counts": counts,
        "unit": "fraction",
        "better": "higher",
        "signature": "s",
    }
    return Estimate(model=model, value=value, **(held | changes))


def comparison(**changes):
    held = {
        "task": "extract",
        "metric": "exact_match",
        "slice": None,
        "status": "compared",
        "candidate": 0.84,
        "baseline": 0.9,
        "difference": -0.06,
        "interval": interval(-0.09, -0.03),
        "p_value": 0.00004,
        "test": "mcnemar mid-p",
        "pairs": 400,
    }
    return Comparison(**(held | changes))


def flip(sample="s1", **changes):
    held = {
        "baseline": 1.0,
        "candidate": 0.0,
        "slices": {"region": "eu"},
        "question": "Where is Lyon?",
        "targets": ("France",),
        "baseline_answers": ("France",),
        "candidate_answers": ("Spain",),
    }
    return Flip(sample=sample, **(held | changes))


def part(slice_=None, **changes):
    held = {
        "pairs": 400,
        "unpaired": 0,
        "worsened": 30,
        "improved": 6,
        "difference": -0.06,
        "interval": interval(-0.09, -0.03),
        "p_value": 0.0004,
        "p_adjusted": 0.0008,
        "test": "mcnemar mid-p",
        "finding": "worse",
    }
    return SliceFlips(slice=slice_, **(held | changes))


def ledger(whole=None, slices=(), **changes):
    held = {
        "task": "extract",
        "metric": "exact_match",
        "binary": True,
        "unit": "fraction",
        "better": "higher",
        "threshold": 0.0,
        "level": 0.95,
    }
    return FlipLedger(whole=whole or part(), slices=tuple(slices), **(held | changes))


def card(*, names=None, **changes):
    held = {
        "suite": "orders",
        "suite_version": 1,
        "suite_digest": "a" * 64,
        "models": {"candidate": model("1"), "baseline": model("2")},
        "datasets": {"extract": "d" * 64},
        "seed": 0,
        "versions": {"numpy": "2.1"},
    }
    facts = {
        "started": "",
        "finished": "2026-11-21T14:33:29+00:00",
        "command": (),
        "git_commit": None,
    }
    return Scorecard(
        provenance=Provenance(**(held | changes)),
        estimates=(),
        comparisons=(),
        tasks=(),
        circumstances=Circumstances(
            **facts,
            hardware={"cores": 2},
            host={},
            asked=0,
            reused=0,
            seconds=0.0,
            names=names or {"candidate": "new", "baseline": "old"},
        ),
    )


def model(digit, **engine):
    return ModelRecord(
        digest=digit * 64,
        pinned=True,
        files={"model.safetensors": digit * 64, "config.json": "c" * 64},
        engine={"backend": "vllm", **engine},
    )


def compared(**changes):
    one, two = card(), card()
    held = {
        "baseline": side("reports/one", "candidate", one),
        "candidate": side("reports/two", "candidate", two),
        "differs": (),
        "estimates": (estimate("baseline", 0.9), estimate("candidate", 0.84)),
        "comparisons": (comparison(),),
        "ledgers": (),
    }
    return ComparedRuns(**(held | changes))


def printed(drawing, width):
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(drawing, highlight=False)
    return console.export_text()


def shown(width=140, **changes):
    return printed(comparison_drawing(compared(**changes), width), width)


def shown_ledger(held, width=140):
    return printed(ledger_drawing(held, width), width)


# --- who, what differs, numbers


@pytest.mark.parametrize("width", [80, 100, 140])
def test_no_number_is_cut_at_the_width_of_a_terminal(width):
    long = comparison(metric="json_fields.exact_document", test="approximate randomisation")
    text = shown(width, comparisons=(comparison(), long))
    assert "0.900 [0.870, 0.930]  0.840 [0.810, 0.870]  400" in text
    assert re.search(r"exact_document +−0.060 \[−0.090, −0.030\]  <0.001    400", text)
    assert "approximate randomisation" in text
    assert "…" not in text


def test_two_models_scored_on_different_numbers_of_samples_are_shown_whole():
    few = Counts(planned=100, completed=100, failed=0, scored=100, unscored=0)
    held = (
        estimate("baseline", 0.9, metric="json_fields.exact_document"),
        estimate("candidate", 0.84, metric="json_fields.exact_document", counts=few),
    )
    text = shown(80, estimates=held)
    assert "…" not in text
    assert "400," in text
    assert "100" in text


def test_both_sides_are_named_with_their_run_and_their_role_in_it():
    text = shown()
    assert "baseline   new  the candidate of reports/one, finished 2026-11-21 14:33" in text
    assert "candidate  new  the candidate of reports/two, finished 2026-11-21 14:33" in text


def test_samples_that_could_not_be_paired_are_told_where_there_are_any():
    assert "unpaired" not in shown()
    text = shown(comparisons=(comparison(pairs=380, unpaired=20),))
    assert "unpaired" in text
    assert re.search(r"<0.001 +380 +20", text)


GONE = {
    "status": "incomparable",
    "difference": None,
    "interval": None,
    "p_value": None,
    "test": "",
    "pairs": 0,
}


def test_what_cannot_be_compared_is_told_with_its_reason_and_without_a_number():
    held = comparison(reason="the metric was measured differently", **GONE)
    text = shown(comparisons=(held, comparison(metric="f1")))
    assert "Not compared: extract/exact_match: the metric was measured differently." in text
    assert re.search(r"f1 +−0.060", text)
    assert not re.search(r"exact_match +[−+–]", text)


def test_a_reason_that_holds_for_a_whole_task_is_told_once():
    held = comparison(reason="the data sets differ", **GONE)
    text = shown(comparisons=(held, held.model_copy(update={"metric": "f1"})))
    assert "Not compared: extract, all 2 numbers: the data sets differ." in text
    assert "Differences" not in text


def test_slices_stand_in_the_ledger_and_not_among_the_differences():
    assert "region" not in shown(comparisons=(comparison(), comparison(slice="region=eu")))


def test_equal_runs_are_said_to_differ_in_nothing():
    assert differences(card(), "candidate", card(), "candidate") == ()
    assert "whatever differs below is chance" in shown()


def test_what_differs_is_told_in_the_order_in_which_it_explains_the_numbers():
    old = card(versions={"numpy": "2.1", "scipy": "1.1"})
    new = card(
        suite_version=2,
        suite_digest="b" * 64,
        datasets={"extract": "e" * 64, "sums": "f" * 64},
        models={"candidate": model("3", dtype="bfloat16")},
        versions={"numpy": "2.2", "scipy": "1.1"},
    )
    found = differences(old, "candidate", new, "candidate")
    assert [(held.what, held.baseline, held.candidate) for held in found] == [
        ("suite", "orders version 1, aaaaaaaaaaaa", "orders version 2, bbbbbbbbbbbb"),
        ("data of extract", "dddddddddddd", "eeeeeeeeeeee"),
        ("model", "111111111111", "333333333333"),
        ("file model.safetensors", "111111111111", "333333333333"),
        ("version of numpy", "2.1", "2.2"),
        ("data of sums", "", "ffffffffffff"),
        ("engine dtype", "", "bfloat16"),
    ]


def test_within_one_run_the_models_are_what_differs():
    found = differences(card(), "baseline", card(), "candidate")
    assert [held.what for held in found] == ["model", "file model.safetensors"]


def test_a_model_whose_bytes_are_unknown_is_said_not_to_be_pinned():
    loose = model("1").model_copy(update={"pinned": False})
    (held,) = differences(card(), "candidate", card(models={"candidate": loose}), "candidate")
    assert (held.baseline, held.candidate) == ("111111111111", "111111111111, not pinned")


def test_of_very_many_differences_the_first_are_shown_and_the_rest_counted():
    many = tuple(Differing(what=f"file {i:02}", baseline="a", candidate="b") for i in range(50))
    text = shown(differs=many)
    assert "file 19" in text
    assert "file 20" not in text
    assert "and 30 more" in text


# --- the ledger


def test_a_ledger_begins_with_the_counts_and_what_they_show():
    text = shown_ledger(ledger())
    assert "Flips of extract/exact_match" in text
    assert (
        "Of 400 pairs 30 got worse (right → wrong), 6 got better (wrong → right), 364 stayed."
        in text
    )
    assert "The candidate is worse (p < 0.001, mcnemar mid-p)." in text


def test_a_difference_that_proves_nothing_is_called_what_it_may_be():
    text = shown_ledger(ledger(part(finding="", p_value=0.62)))
    assert "This may be noise (p = 0.620, mcnemar mid-p)." in text


def test_where_lower_is_better_or_scores_are_means_nothing_is_called_right_or_wrong():
    assert "30 got worse (0 → 1)" in shown_ledger(ledger(better="lower"))
    assert "30 got worse, 6 got better" in shown_ledger(ledger(binary=False))
    text = shown_ledger(ledger(binary=False, threshold=0.25))
    assert "30 got worse by more than 0.250" in text


def test_where_nothing_changed_or_nothing_was_paired_that_is_said():
    still = part(worsened=0, improved=0, difference=0.0, finding="", p_value=1.0)
    assert "Of 400 pairs none changed.\n" in shown_ledger(ledger(still)).replace(" \n", "\n")
    little = part(worsened=0, improved=0, difference=-0.01, finding="worse", p_value=0.01)
    text = shown_ledger(ledger(little, binary=False, threshold=0.25))
    assert "none changed by more than 0.250. The candidate is worse (p = 0.010" in text
    assert "No sample was scored for both models." in shown_ledger(ledger(part(pairs=0)))


def test_a_slice_is_called_worse_only_when_it_is_a_finding():
    slices = [
        part("region=eu", p_adjusted=0.002),
        part("region=us", p_adjusted=0.2, finding=""),
        part("region=asia", worsened=0, improved=0, difference=0.0, p_adjusted=1.0, finding=""),
    ]
    lines = shown_ledger(ledger(slices=slices), 80).splitlines()
    ends = {
        name: next(line.split()[-1] for line in lines if name in line)
        for name in ("eu", "us", "asia")
    }
    assert ends == {"eu": "worse", "us": "noise?", "asia": "–"}


def test_of_very_many_slices_those_that_lost_most_are_shown():
    text = shown_ledger(ledger(slices=[part(f"region=r{i:02}") for i in range(40)]))
    assert "region=r11" in text
    assert "region=r12" not in text
    assert "and 28 slices that lost less" in text


def test_a_flip_shows_question_target_and_both_answers():
    text = shown_ledger(ledger(part(worse=(flip(),))))
    assert "Worse (right → wrong), 1 of 30" in text
    for words in ("s1  region=eu", "Where is Lyon?", "target       France", "candidate    Spain"):
        assert words in text


def test_grouped_samples_stand_under_their_slice():
    text = shown_ledger(ledger(slices=[part("region=eu", worsened=1, worse=(flip(),))]))
    assert "Worse (right → wrong) in region=eu, all 1" in text


def test_scores_are_shown_where_they_are_no_flip():
    text = shown_ledger(ledger(part(worse=(flip(baseline=0.91, candidate=0.25),)), binary=False))
    assert "s1  0.910 → 0.250" in text


def test_several_answers_of_a_model_are_numbered_and_counted():
    many = flip(candidate_answers=("a", "b", "", "d", "e"))
    text = shown_ledger(ledger(part(worse=(many,))))
    assert re.search(r"candidate 2  b", text)
    assert re.search(r"candidate 3  \(empty\)", text)
    assert "and 2 more" in text


def test_an_empty_or_lost_answer_is_said_to_be_so():
    text = shown_ledger(ledger(part(worse=(flip(candidate_answers=("",)),))))
    assert "candidate    (empty)" in text
    text = shown_ledger(ledger(part(worse=(flip(candidate_answers=()),))))
    assert "not recorded" in text


def test_of_long_answers_the_part_where_they_differ_is_shown():
    same = "x" * 5000
    long = flip(baseline_answers=(f"{same}LYON{same}",), candidate_answers=(f"{same}NICE{same}",))
    text = shown_ledger(ledger(part(worse=(long,))), 80).replace("\n", "").replace(" ", "")
    assert "xLYONx" in text
    assert "xNICEx" in text
    assert len(text) < 1500


def test_an_answer_that_only_goes_on_is_shown_where_it_does():
    long = flip(baseline_answers=("y" * 3000,), candidate_answers=("y" * 3000 + "TAIL",))
    text = shown_ledger(ledger(part(worse=(long,))), 80)
    assert "TAIL" in text.replace("\n", "").replace(" ", "")


def test_of_a_long_prompt_the_end_is_shown():
    text = shown_ledger(ledger(part(worse=(flip(question="example " * 900 + "Which?"),))), 80)
    assert "Which?" in text
    assert text.count("example") < 60


def test_reasoning_is_left_out_where_an_answer_follows_it():
    thought = flip(candidate_answers=("<think>Paris? no</think> Spain",))
    text = shown_ledger(ledger(part(worse=(thought,))))
    assert "Spain" in text
    assert "Paris?" not in text
    unfinished = flip(candidate_answers=("<think>Paris? no",))
    assert "Paris?" in shown_ledger(ledger(part(worse=(unfinished,))))


HOSTILE = "[bold red]\x1b[31m\x07\x9b2J\u202egnp.exe\r\x00[/]"


def test_what_a_model_wrote_is_neither_markup_nor_control():
    held = flip(
        HOSTILE,
        question=HOSTILE,
        targets=(HOSTILE,),
        baseline_answers=(HOSTILE,),
        candidate_answers=(HOSTILE, HOSTILE),
        slices={"region": HOSTILE},
    )
    whole = part(worse=(held,), better=(held.model_copy(update={"candidate_answers": (HOSTILE,)}),))
    console = Console(
        width=200, file=(file := io.StringIO()), force_terminal=True, color_system=None
    )
    console.print(ledger_drawing(ledger(whole, [part(f"region={HOSTILE}")]), 200), highlight=False)
    text = re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())
    assert not set(text) & set("\x1b\x07\x9b\u202e\r\x00")
    assert text.count("[bold red]\\x1b[31m\\x07\\x9b2J\\u202egnp.exe\\r\\x00[/]") >= 9


@given(st.text())
def test_printable_text_holds_no_control_character(text):
    made = printable(text)
    assert made.isprintable()
    assert text != made or text.isprintable()


# --- gaps between groups of people


def gap(model, value, **changes):
    held = {"metric": "decisions.tpr.gap", "slice": "sex+age", "kind": "gap", "better": "lower"}
    return estimate(model, value, **(held | changes))


def gap_change(**changes):
    held = {"metric": "decisions.tpr.gap", "slice": "sex+age", "better": "lower", "p_value": None}
    return comparison(**(held | {"difference": 0.11, "interval": interval(0.02, 0.2)} | changes))


@pytest.mark.parametrize("width", [80, 100, 140])
def test_a_gap_stands_under_its_task_before_the_field_that_names_its_groups(width):
    text = shown(
        width,
        estimates=(
            estimate("baseline", 0.9),
            gap("baseline", 0.1),
            gap("candidate", 0.21),
            estimate("candidate", 0.84),
            estimate("candidate", 0.5, task="quiz", slice="sex=F"),
        ),
        comparisons=(comparison(), comparison(task="quiz"), gap_change()),
    )
    name = r"decisions\.tpr\.gap@sex\+age +"
    assert re.search(name + r"0\.100 \[0\.070, 0\.130\] +0\.210 \[0\.180, 0\.240\]  400", text)
    assert re.search(name + r"\+0\.110 \[0\.020, 0\.200\] +– +400", text)
    # One heading in either table: what came of the task last stands with what came first.
    assert len(re.findall(r"^ extract ", text, re.MULTILINE)) == 2
    assert "sex=F" not in text


def test_a_gap_that_could_not_be_compared_says_why():
    lost = gap_change(status="incomparable", reason="other groups", difference=None, interval=None)
    text = shown(140, comparisons=(comparison(), lost))
    assert "Not compared: extract/decisions.tpr.gap@sex+age: other groups." in text


def test_a_rate_over_some_samples_is_shown_with_how_many_they_are():
    """Of a true-positive rate those whose label is positive: its interval rests on no others."""
    text = shown(140, estimates=(estimate("baseline", 0.9, n=123), estimate("candidate", 0.84)))
    assert re.search(r"0\.840 \[0\.810, 0\.870\] +123, 400", text)
