"""What a run prints."""

from __future__ import annotations

import re

import pytest
from rich.console import Console

from evalkit.records.scorecard import (
    Circumstances,
    Comparison,
    Counts,
    EarlyStop,
    Estimate,
    Interval,
    Provenance,
    Scorecard,
    TaskTally,
)
from evalkit.records.suite import WaiverSpec
from evalkit.records.verdict import FamilyRecord, Outcome, Verdict
from evalkit.reports.terminal import drawing
from evalkit.reports.view import (
    estimate_rows,
    missing_samples,
    number,
    ordered_outcomes,
    run_notes,
    signed,
)


def interval(low, high):
    return Interval(low=low, high=high, level=0.95, method="wilson")


def estimate(model="candidate", better="higher", failed=0, **changes):
    counts = Counts(
        planned=100, completed=100 - failed, failed=failed, scored=100 - failed, unscored=0
    )
    held = {
        "task": "extract",
        "metric": "exact_match",
        "slice": None,
        "kind": "rate",
        "value": 0.9,
        "interval": interval(0.83, 0.94),
        "unit": "fraction",
        "signature": "s",
    }
    return Estimate(model=model, counts=counts, better=better, **(held | changes))


def comparison(low, high, better="higher", **changes):
    return Comparison(
        task="extract",
        metric="exact_match",
        slice=None,
        status="compared",
        difference=(low + high) / 2,
        interval=interval(low, high),
        better=better,
        pairs=100,
        **changes,
    )


def outcome(rule="r", status="pass", severity="block", counts_as=None, **changes):
    return Outcome(
        gate="g",
        rule=rule,
        estimate="extract/exact_match",
        status=status,
        counts_as=counts_as or status,
        severity=severity,
        observed=0.9,
        interval=interval(0.83, 0.94),
        required="≥ 0.8",
        reason="extract/exact_match is 0.900",
        why="Because.",
        **changes,
    )


def card(estimates, comparisons=()):
    return Scorecard(
        provenance=Provenance(
            suite="s",
            suite_version=1,
            suite_digest="d",
            models={},
            datasets={},
            seed=0,
            versions={},
        ),
        estimates=tuple(estimates),
        comparisons=tuple(comparisons),
        tasks=(),
        circumstances=Circumstances(
            started="",
            finished="",
            command=(),
            git_commit=None,
            hardware={},
            host={},
            asked=1,
            reused=0,
            seconds=1.0,
        ),
    )


def verdict(*outcomes, status="fail", **changes):
    return Verdict(
        status=status,
        exit_code=1,
        scorecard="d",
        gates={},
        reason="one rule failed",
        outcomes=outcomes,
        **changes,
    )


def printed(scorecard, decided, width=100):
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    with console.file:
        console.print(drawing(scorecard, decided, width))
    return console.export_text()


@pytest.mark.parametrize("width", [90, 100, 140])
def test_no_number_is_cut_at_the_width_of_a_terminal(width):
    text = printed(
        card([estimate(), estimate("baseline", value=0.85)], [comparison(-0.053, 0.114)]),
        verdict(outcome()),
        width,
    )
    assert "0.900 [0.830, 0.940]" in text
    assert "+0.031 [−0.053, 0.114]" in text or "+0.030 [−0.053, 0.114]" in text
    assert "…" not in text


def test_at_80_columns_the_baselines_value_goes_before_a_number_is_cut():
    long = "json_fields.exact_document"
    held = [estimate(metric=long), estimate("baseline", metric=long, value=0.85)]
    told = comparison(-0.053, 0.114).model_copy(update={"metric": long})
    text = printed(card(held, [told]), verdict(outcome()), 80)
    assert re.search(
        r"exact_document +0.900 \[0.830, 0.940\] +\+0.03. \[−0.053, 0.114\] +100", text
    )
    assert "…" not in text and "baseline" not in text.split("Rules")[0]


def test_a_number_without_an_interval_says_so():
    text = printed(card([estimate(interval=None, kind="corpus")]), verdict(outcome()))
    assert "0.900 (no interval)" in text


def test_the_verdict_stands_last_and_what_failed_stands_first():
    text = printed(card([estimate()]), verdict(outcome("fine"), outcome("broken", "fail")))
    assert text.rstrip().endswith("one rule failed")
    assert text.index("broken") < text.index("fine")
    assert "Because." in text


def each(name, status="fail", **changes):
    """An outcome of a rule that matches many estimates."""
    held = outcome("whole", status, **changes)
    return held.model_copy(update={"estimate": name, "reason": f"{name} is wrong"})


def test_a_rule_that_matches_many_estimates_is_told_once_with_a_line_for_each():
    text = printed(card([estimate()]), verdict(*(each(f"w/check{n}") for n in range(4))), 80)
    lines = [line.strip() for line in text[text.index("Rules") :].splitlines()]
    assert lines[1:7] == [
        "✗ fail  whole: ≥ 0.8",
        *(f"· w/check{n} is wrong." for n in range(4)),
        "Because.",
    ]


def test_the_same_rule_with_another_answer_is_told_apart():
    held = [each("w/a"), each("w/b", "pass"), each("w/c", counts_as="waived", waiver=WAIVER)]
    text = printed(card([estimate()]), verdict(*held), 80)
    heads = [line.split()[1] for line in text.splitlines() if "whole: ≥ 0.8" in line]
    assert heads == ["fail", "waived", "pass"]
    assert text.count("Because.") == 2, "what passed needs no reason for being"


def test_one_waiver_for_several_outcomes_is_told_once():
    waived = [each(f"w/{n}", counts_as="waived", waiver=WAIVER) for n in range(3)]
    text = flat(printed(card([estimate()]), verdict(*waived), 140))
    assert text.count("Waived by Ada Lovelace") == 1
    assert "w/2 is wrong (fail)." in text


def test_of_a_rule_with_thousands_of_answers_a_few_are_told_and_the_others_counted():
    many = [each(f"w/{n}") for n in range(1000)]
    text = flat(printed(card([estimate()]), verdict(*many), 140))
    assert "· w/7 is wrong. · 992 more; verdict.json has each Because." in text


def test_what_an_undecided_outcome_counts_as_is_told_beside_what_it_is():
    text = printed(card([estimate()]), verdict(outcome(status="inconclusive", counts_as="fail")))
    assert "✗ fail" in text
    assert "(inconclusive)" in text


def test_lost_samples_are_told_beside_the_number():
    assert "7 failed" in printed(card([estimate(failed=7)]), verdict(outcome()), 140)
    assert missing_samples(estimate(failed=7).counts) == "7 failed"
    assert missing_samples(estimate().counts) == ""


@pytest.mark.parametrize(
    ("low", "high", "better", "direction"),
    [
        (0.01, 0.1, "higher", "better"),
        (0.01, 0.1, "lower", "worse"),
        (-0.1, -0.01, "higher", "worse"),
        (-0.1, -0.01, "lower", "better"),
        (-0.1, 0.1, "higher", ""),
    ],
)
def test_a_difference_is_better_or_worse_only_when_its_interval_excludes_zero(
    low, high, better, direction
):
    (row,) = estimate_rows(card([estimate(better=better)], [comparison(low, high, better)]))
    assert row.direction == direction


def test_blocking_failures_come_before_warnings_and_passes():
    order = ordered_outcomes(
        verdict(
            outcome("d"),
            outcome("c", "inconclusive"),
            outcome("b", "fail", "warn"),
            outcome("a", "fail"),
        )
    )
    assert [o.rule for o in order] == ["a", "b", "c", "d"]


def test_numbers_keep_their_sign_and_nothing_is_a_dash():
    assert (signed(-0.0421), signed(0.5), signed(None), number(None)) == (
        "−0.042",
        "+0.500",
        "–",
        "–",
    )


@pytest.mark.parametrize("width", [80, 140])
def test_a_rate_over_some_samples_is_shown_with_how_many_they_are(width):
    """Of a true-positive rate those whose label is positive: its interval rests on no others."""
    assert " 123" in printed(card([estimate(n=123)]), verdict(outcome()), width)
    assert " 123" not in printed(card([estimate()]), verdict(outcome()), width)


LONG = "counterfactual_accuracy.difference.female"


@pytest.mark.parametrize("width", [80, 90, 100, 120, 140])
def test_long_names_cost_columns_and_never_a_number(width):
    text = printed(
        card(
            [
                estimate(metric=LONG, value=-0.008, interval=interval(-0.025, -0.011)),
                estimate("baseline", metric=LONG, value=-0.117, interval=interval(-0.175, -0.058)),
            ],
            [comparison(-0.047, -0.018).model_copy(update={"metric": LONG})],
        ),
        verdict(outcome()),
        width,
    )
    assert "−0.008 [−0.025, −0.011]" in text
    assert "[−0.047, −0.018]" in text
    assert " 100" in text
    assert max(map(len, text.splitlines())) <= width
    # On one line, or broken between its words.
    broken = r"counterfactual_ .*\n +accuracy\.difference\. .*\n +female "
    assert LONG in text or re.search(broken, text)


def test_why_samples_have_no_score_is_told_with_how_many_they_are():
    reasons = {"label is neither positive nor negative": 30, "refusal \x1b[31m": 2}
    lost = stopped(100, None).model_copy(
        update={
            "early": None,
            "failures": {"timeout": 3},
            "unscored": {"decisions": reasons, "calibration": reasons, "exact_match": {}},
        }
    )
    held = card([estimate()]).model_copy(update={"tasks": (lost,)})
    text = " ".join(printed(held, verdict(outcome()), 100).split())
    assert "extract of the candidate: 3 of 100 samples failed (3 timeout)." in text
    assert (
        "extract of the candidate, decisions, calibration: 32 of 100 samples without a score "
        "(30 label is neither positive nor negative, 2 refusal \\x1b[31m)."
    ) in text
    assert "exact_match: " not in text


WAIVER = WaiverSpec(rule="r", owner="Ada Lovelace", reason="It ships in 4.2", expires="2026-12-31")


def flat(text):
    """What is printed, whatever the lines are."""
    return " ".join(text.split())


@pytest.mark.parametrize("width", [80, 140])
def test_a_waived_outcome_shows_owner_reason_day_and_the_numbers_it_is_about(width):
    waived = outcome("broken", "fail", counts_as="waived", waiver=WAIVER)
    text = flat(printed(card([estimate()]), verdict(outcome("fine"), waived, status="pass"), width))
    assert "~ waived broken: ≥ 0.8 extract/exact_match is 0.900 (fail). Because." in text
    assert "Waived by Ada Lovelace until 2026-12-31: It ships in 4.2." in text
    assert text.index("broken") < text.index("fine")
    one = waived.model_copy(update={"waiver": WAIVER.model_copy(update={"slice": "region=eu"})})
    assert "Waived for region=eu by Ada" in flat(printed(card([estimate()]), verdict(one), width))


def test_each_gates_family_and_every_note_stand_above_the_verdict():
    told = FamilyRecord(gate="ship", family="any_regression", blocking=3, told="any of 3 blocks")
    text = printed(
        card([estimate()]),
        verdict(outcome(), families=(told,), notes=("the waiver matched nothing",)),
    )
    lines = [line.strip() for line in text.splitlines()]
    assert lines[-5:] == [
        "",
        "ship (any regression): any of 3 blocks.",
        "the waiver matched nothing.",
        "",
        "FAIL  one rule failed",
    ]


def test_the_adjusted_p_of_what_does_not_block_is_marked_as_information():
    diagnostic = outcome(severity="warn", p_broken=0.01, p_adjusted=0.0214)
    text = flat(printed(card([estimate()]), verdict(diagnostic, outcome(p_adjusted=0.5)), 140))
    assert "0.900; p of a regression 0.021 (Benjamini–Hochberg, for information)." in text
    assert "0.5 " not in text


def test_flips_and_unpaired_samples_stand_beside_the_difference_where_there_is_room():
    pair = [estimate(), estimate("baseline")]
    held = [comparison(-0.1, 0.1, improved=1200, worsened=8, unpaired=3)]
    wide = printed(card(pair, held), verdict(outcome()), 140)
    assert "+1,200 −8" in wide
    assert "fraction, 3 unpaired" in wide
    assert "+1,200" not in printed(card(pair, held), verdict(outcome()), 80)
    assert "flips" not in printed(card([estimate()]), verdict(outcome()), 140)


def stopped(drawn, tokens_saved, model="candidate"):
    early = EarlyStop(
        available=2000,
        drawn=drawn,
        seed=1,
        looks=9,
        decided=drawn < 2000,
        tokens_saved=tokens_saved,
    )
    return TaskTally(
        model=model,
        task="extract",
        kind="generate",
        dataset="d",
        planned=drawn,
        requests=drawn,
        early=early,
    )


@pytest.mark.parametrize(
    ("tallies", "told"),
    [
        (
            [stopped(410, 94_321), stopped(410, 95_000, "baseline")],
            "extract: stopped after 410 of 2,000 samples, about 190,000 tokens saved",
        ),
        ([stopped(410, None)], "extract: stopped after 410 of 2,000 samples"),
        ([stopped(1990, 7)], "extract: stopped after 1,990 of 2,000 samples, about 7 tokens saved"),
        (
            [stopped(2000, 0)],
            "extract: all 2,000 samples were asked, as not every rule on it was decided before",
        ),
    ],
)
def test_an_early_stop_tells_what_it_saved(tallies, told):
    held = card([estimate()]).model_copy(update={"tasks": tuple(tallies)})
    assert run_notes(held) == [told]
    assert told in flat(printed(held, verdict(outcome()), 140))


def test_a_baseline_from_an_earlier_run_is_named():
    held = card([estimate()]).model_copy(update={"baseline_run": "3f9a1c2b0d11" + "0" * 52})
    assert run_notes(held) == ["The baseline's answers come from run 3f9a1c2b0d11"]
    assert run_notes(card([estimate()])) == []
