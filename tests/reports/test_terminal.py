"""What a run prints."""

from __future__ import annotations

import pytest
from rich.console import Console

from evalkit.records.scorecard import (
    Circumstances,
    Comparison,
    Counts,
    Estimate,
    Interval,
    Provenance,
    Scorecard,
)
from evalkit.records.verdict import Outcome, Verdict
from evalkit.reports.terminal import drawing
from evalkit.reports.view import estimate_rows, missing_samples, number, ordered_outcomes, signed


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


def comparison(low, high, better="higher"):
    return Comparison(
        task="extract",
        metric="exact_match",
        slice=None,
        status="compared",
        difference=(low + high) / 2,
        interval=interval(low, high),
        better=better,
        pairs=100,
    )


def outcome(rule="r", status="pass", severity="block", counts_as=None):
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


def verdict(*outcomes, status="fail"):
    return Verdict(
        status=status,
        exit_code=1,
        scorecard="d",
        gates={},
        reason="one rule failed",
        outcomes=outcomes,
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
    assert "+0.031 [-0.053, 0.114]" in text or "+0.030 [-0.053, 0.114]" in text
    assert "…" not in text


def test_the_verdict_stands_last_and_what_failed_stands_first():
    text = printed(card([estimate()]), verdict(outcome("fine"), outcome("broken", "fail")))
    assert text.rstrip().endswith("one rule failed")
    assert text.index("broken") < text.index("fine")
    assert "Because." in text


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
