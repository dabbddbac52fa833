"""What a run prints of weights: facts first, thousands of tensors summed up, nothing left out unsaid."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console
from test_terminal import card as sampled_card
from test_terminal import estimate as sampled_estimate
from test_terminal import outcome

from evalkit.records.scorecard import (
    Comparison,
    Counts,
    Estimate,
    Finding,
    Interval,
    TaskTally,
    Unread,
)
from evalkit.records.verdict import Verdict
from evalkit.reports.terminal import drawing
from evalkit.reports.weights import FINDINGS_SHOWN, WeightsView, compact, weights_views

TASK = "weights"
VERDICT = Verdict(
    status="pass", exit_code=0, scorecard="d", gates={}, reason="every one passed", outcomes=()
)


def number(metric, value, slice_=None, *, model="candidate", planned=10, scored=None, ends=None):
    scored = planned if scored is None else scored
    low, high = ends or (value, value)
    return Estimate(
        model=model,
        task=TASK,
        metric=metric,
        slice=slice_,
        kind="census",
        value=value,
        interval=None
        if value is None
        else Interval(low=low, high=high, level=0.95, method="exact" if low == high else "fit"),
        counts=Counts(
            planned=planned,
            completed=planned,
            failed=0,
            scored=scored,
            unscored=planned - scored,
        ),
        unit="cosine" if metric.startswith("cosine") else "fraction",
        better="lower",
        signature="s",
    )


def finding(
    tensor, check="integrity.nonfinite", message="3 of 64 numbers are NaN", model="candidate"
):
    return Finding(model=model, task=TASK, check=check, tensor=tensor, message=message)


def card(*estimates, findings=(), unread=(), **said):
    held = sampled_card(list(estimates))
    return held.model_copy(update={"findings": tuple(findings), "unread": tuple(unread), **said})


def drawn(scorecard, verdict=VERDICT, width=120):
    console = Console(width=width, file=StringIO())
    console.print(drawing(scorecard, verdict, width))
    return console.file.getvalue()


WHOLE = (
    number("norm", 12.0, planned=40),
    number("drift", 0.021),
    number("drift.max", 0.2),
    number("drift.median", 0.02),
    number("cosine", 0.999987),
    number("integrity.missing", 0),
    number("integrity.nonfinite", 0),
    number("drift", 0.03, "module=query"),
    number("drift", 0.2, "tensor=model.layers.7.q_proj.weight"),
    number("drift", 0.01, "tensor=model.layers.8.q_proj.weight"),
    number("alpha", 3.9, ends=(2.7, 5.4)),
)


def test_drift_and_checks_lead_and_alpha_is_called_advisory():
    text = drawn(card(*WHOLE))
    assert "40 tensors measured, held against the base model" in text
    assert "✓ nothing found by integrity: nonfinite, missing" in text
    assert "alpha (advisory)" in text
    header = next(line for line in text.splitlines() if "mean [interval]" in line)
    assert header.index("drift") < header.index("mean [interval]")
    assert text.index("From the base model") < text.index("Spectra, advisory")
    assert "3.9 [2.7, 5.4]" in text
    assert "0.99999" in text, "a cosine keeps its nines"


@pytest.mark.parametrize(
    ("scored", "told"),
    [
        (10, "tensors measured, held against the base model"),
        (4, "tensors measured, 4 of 10 held against the base model"),
        (0, "tensors measured, none of them could be held against the base model"),
    ],
)
def test_the_title_says_how_many_tensors_could_be_held_against_the_base(scored, told):
    changed = number("changed", 0.9 if scored else None, scored=scored)
    text = drawn(card(number("norm", 12.0), number("integrity.missing", 0), changed))
    assert told in text


def test_what_could_not_be_held_against_the_base_is_not_said_to_be_unmeasured():
    held = card(*WHOLE, unread=[unread("t", "the base's: it is cut off")])
    assert "? Not held against the base model (it is cut off): t." in drawn(held)


def test_the_tensor_that_moved_most_is_named_first():
    moved = WeightsView(card(*WHOLE), TASK).worst()
    assert [line.split(":")[0] for line in moved] == [
        "model.layers.7.q_proj.weight",
        "model.layers.8.q_proj.weight",
    ]


def test_thousands_of_tensors_take_no_more_lines_than_a_few():
    many = [number("drift", 0.01, f"tensor=model.layers.{n}.w") for n in range(3000)]
    found = [finding(f"model.layers.{n}.w") for n in range(3000)]
    outcomes = tuple(
        outcome().model_copy(update={"estimate": f"weights/drift@tensor={n}"}) for n in range(3000)
    )
    verdict = VERDICT.model_copy(update={"outcomes": outcomes})
    text = drawn(card(*WHOLE, *many, findings=found), verdict)
    assert text.count("\n") < 80
    assert "3,000 found" in text and f"and {3000 - FINDINGS_SHOWN:,} more" in text
    assert "more; verdict.json has each" in text


def test_every_finding_is_told_with_its_tensor_and_its_numbers():
    text = drawn(card(*WHOLE, findings=[finding("a.weight"), finding(None, message="all of it")]))
    assert "✗ integrity.nonfinite: 2 found (NaN or infinity)" in text
    assert "a.weight: 3 of 64 numbers are NaN." in text and "    all of it." in text


def test_a_finding_in_the_baseline_is_said_to_be_there():
    text = drawn(card(*WHOLE, findings=[finding("a.weight", model="baseline")]))
    assert "integrity.nonfinite in the baseline: 1 found" in text


@pytest.mark.parametrize(
    ("check", "mark"), [("integrity.zero", "✗"), ("drift.outlier", "!"), ("shape.noise", "!")]
)
def test_a_fault_is_marked_as_one_and_a_hint_is_not(check, mark):
    assert f"{mark} {check}" in drawn(card(*WHOLE, findings=[finding("a", check)]))


def test_a_check_that_could_not_look_at_all_is_not_said_to_have_found_nothing():
    text = drawn(card(*WHOLE, number("integrity.zero", 0, scored=9)))
    assert "✓ nothing found by integrity: nonfinite, missing" in text
    assert "? nothing found in what could be measured by integrity: zero" in text


def unread(tensor, reason="an unknown format"):
    return Unread(model="candidate", task=TASK, tensor=tensor, reason=reason)


def test_a_number_that_not_every_tensor_gave_says_how_many_did():
    hill = [number(name, 2.0, planned=29, scored=23) for name in ("hill", "hill.median")]
    text = drawn(card(*WHOLE, *hill), width=200)
    assert "mean 2, median 2 (23 of 29 tensors)" in " ".join(text.split())


def test_what_was_not_measured_is_told_once_for_each_reason():
    text = drawn(card(*WHOLE, unread=[unread(f"t{n}") for n in range(9)]))
    assert "Not measured in the candidate, an unknown format: t0, t1, t2 and 6 more." in text


def test_reasons_beyond_a_few_are_counted():
    held = [unread(f"t{n}", f"reason {n}") for n in range(20)]
    told = WeightsView(card(*WHOLE, unread=held), TASK).unread()
    assert len(told) < 8 and "15" in told[-1]


def test_what_is_damaged_is_told_as_a_finding_and_not_again():
    held = card(
        *WHOLE,
        unread=[unread("t", "cut off")],
        findings=[finding("t", "integrity.unreadable", "cut off")],
    )
    assert drawn(held).count("cut off") == 1 + drawn(held).count("files cut off")


def test_a_model_without_weights_is_said_to_have_none():
    """No number is there, so that every rule on weights is missing."""
    held = card(unread=[unread("*", "a running server shows no weights")])
    assert [view.measured for view in weights_views(held)] == [False]
    text = drawn(held)
    assert "The candidate's weights were not read: a running server shows no weights." in text


def test_without_a_base_model_nobody_may_think_that_nothing_moved():
    text = drawn(card(number("norm", 12.0), number("integrity.zero", 0)))
    assert "No base model was at hand, so drift and scale were not measured" in text


def test_where_the_baseline_is_an_earlier_run_it_is_said_why_that_is_no_base():
    text = drawn(card(number("norm", 12.0), baseline_run="1" * 64))
    assert "an earlier run, whose weights are not opened" in text and "name `base:`" in text


def test_the_first_row_counts_what_the_rows_below_it_have_together():
    ratio = [
        number("stable_rank_ratio", 0.5, slice_, planned=planned)
        for slice_, planned in ((None, 28), ("module=query", 20), ("module=up", 8))
    ]
    held = card(number("norm", 12.0, planned=38), *ratio)
    assert [row.tensors for row in WeightsView(held, TASK).modules(())] == [28, 20, 8]
    assert "Tensors by module, 28 of 38: the others" in drawn(held)
    assert "Tensors by module, " not in drawn(card(number("norm", 12.0, planned=38)))


def test_a_difference_says_which_summary_it_is_of():
    pair = [
        number("stable_rank_ratio", v, model=m) for m, v in (("candidate", 0.5), ("baseline", 0.6))
    ]
    difference = Comparison(
        task=TASK, metric="stable_rank_ratio", slice=None, status="compared", candidate=0.5,
        baseline=0.6, difference=-0.1, pairs=10, better="lower",
    )  # fmt: skip
    assert "max −0.1" in drawn(card(number("norm", 12.0), *pair, comparisons=(difference,)))


def test_weights_do_not_crowd_the_table_of_what_was_sampled():
    text = drawn(card(*WHOLE, sampled_estimate()))
    table = text[text.index("Scorecard") :]
    assert "exact_match" in table and "norm" not in table


def test_a_run_that_ended_with_its_weights_names_the_tasks_that_did_not_run():
    held = card(*WHOLE)
    stopped = held.provenance.model_copy(update={"datasets": {"extract": "1", "decide": "2"}})
    text = drawn(held.model_copy(update={"provenance": stopped, "tasks": ()}), width=200)
    assert "Stopped before anything was asked" in text and "extract, decide did not run" in text
    assert "--keep-going" in text
    ran = [tally("extract"), tally("decide")]
    assert "did not run" not in drawn(
        held.model_copy(update={"provenance": stopped, "tasks": tuple(ran)})
    )


def test_a_task_that_did_not_run_is_not_laid_to_weights_that_nobody_read():
    held = card(sampled_estimate())
    lacking = held.provenance.model_copy(update={"datasets": {"extract": "1"}})
    without = held.model_copy(update={"provenance": lacking, "tasks": ()})
    assert "because the weights fail" not in drawn(without, width=200)
    assert "because the weights fail" in drawn(
        without.model_copy(update={"unread": (unread("*"),)}), width=200
    )


def tally(task):
    return TaskTally(
        model="candidate", task=task, kind="generate", dataset="", planned=1, requests=1
    )


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160])
def test_no_line_is_wider_than_the_terminal(width):
    long = "model.layers.31.a_very_long_name_of_a_module_that_somebody_made.experts.127.weight"
    held = card(
        *WHOLE,
        number("drift", 0.3, f"tensor={long}"),
        *(number(name, 1.5) for name in ("log_norm", "stable_rank", "spectral_change")),
        findings=[finding(long)],
        unread=[unread(long)],
    )
    lines = drawn(held, width=width).splitlines()
    assert max(map(len, lines)) <= width
    assert long in drawn(held, width=160)


def test_numbers_are_told_to_three_digits_however_small():
    assert [compact(x) for x in (1e-12, 0.00012345, 0.5, 1234.5, float("1e20"))] == [
        "1e-12",
        "0.000123",
        "0.5",
        "1,234",
        "1e+20",
    ]
