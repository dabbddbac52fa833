"""The verdict and every number as JSON Lines: each line stands alone, in a fixed order."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from report_runs import card, comparison, estimate, finished_run, hostile, outcome, verdict

from evalkit.records.scorecard import Comparison, Estimate
from evalkit.records.verdict import Outcome
from evalkit.reports.json_lines import JsonLines

SHARED = [
    "record", "format", "scorecard", "suite", "suite_version", "candidate_name", "finished",
]  # fmt: skip


def lines(scorecard, held):
    text = JsonLines().render(finished_run(scorecard, held))
    assert text.endswith("\n")
    return [json.loads(line) for line in text[:-1].split("\n")]


def test_the_verdict_comes_first_and_everything_follows_in_its_order():
    scorecard = card([estimate(), estimate(model="baseline")], [comparison()])
    made = lines(scorecard, verdict([outcome(), outcome("fail", rule="second")]))
    assert [line["record"] for line in made] == [
        "verdict", "outcome", "outcome", "estimate", "estimate", "comparison",
    ]  # fmt: skip
    assert (made[0]["status"], made[0]["exit_code"]) == ("fail", 1)
    assert [line["rule"] for line in made[1:3]] == ["exact", "second"]


def test_every_line_says_what_it_is_about():
    scorecard = card([estimate()], [comparison()])
    for line in lines(scorecard, verdict([outcome()], "pass")):
        assert list(line)[:7] == SHARED
        assert line["scorecard"] == scorecard.digest
        assert line["suite"] == "orders"
        assert line["suite_version"] == 3
        assert line["candidate_name"] == "models/new"


def test_a_line_gives_back_the_record_it_was_made_from():
    held, number, difference = outcome("fail"), estimate(), comparison()
    _, one, two, three = lines(card([number], [difference]), verdict([held]))
    for line, kind, record in (
        (one, Outcome, held), (two, Estimate, number), (three, Comparison, difference),
    ):  # fmt: skip
        own = {key: value for key, value in line.items() if key not in (*SHARED, "name")}
        assert kind.model_validate(own) == record
        assert line["name"] == "extract/exact_match"


def test_a_run_without_a_verdict_says_so_and_passes_nothing():
    first, *_ = lines(card([estimate()]), None)
    assert first["record"] == "verdict"
    assert first["status"] is None
    assert first["exit_code"] is None


@given(st.tuples(hostile, hostile))
def test_a_line_stays_one_line_of_ascii_and_keeps_every_character(texts):
    reason, name = texts
    text = JsonLines().render(
        finished_run(card([estimate(task=name)], suite=name), verdict([outcome(reason=reason)]))
    )
    assert text.isascii()
    assert all(line.isprintable() for line in text[:-1].split("\n"))
    assert [json.loads(line)["record"] for line in text.splitlines()] == [
        "verdict", "outcome", "estimate",
    ]  # fmt: skip
    assert json.loads(text.splitlines()[1])["reason"] == reason
