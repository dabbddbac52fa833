"""What a backtest prints."""

from __future__ import annotations

import io

from rich.console import Console

from evalkit.records.suite import GateSpec
from evalkit.records.verdict import Outcome, Verdict
from evalkit.reports.backtest import Backtest, Backtested, backtest_drawing

RULES = ("decisions-no-worse", "decisions-by-district")
RULE = {"estimate": "decide/exact_match", "require": "at_least", "options": {"value": 0.9}}
GATE = GateSpec.model_validate({"gate": "g", "rules": [{"id": rule, **RULE} for rule in RULES]})


def verdict(status, *rules):
    outcomes = tuple(
        Outcome(
            gate="g",
            rule=rule,
            estimate="decide/exact_match",
            status="fail",
            counts_as="fail",
            severity="block",
            observed=0.5,
            interval=None,
            required="≥ 0.9",
            reason="it is 0.5",
            why="",
        )
        for rule in rules
    )
    return Verdict(
        status=status, exit_code=1, scorecard="d", gates={}, reason="", outcomes=outcomes
    )


def printed(backtest, width):
    console = Console(width=width, file=io.StringIO())
    console.print(backtest_drawing(backtest))
    return console.file.getvalue()


def test_at_80_columns_no_name_is_broken():
    then, now = verdict("inconclusive"), verdict("fail", *RULES)
    run = Backtested("reports/quickstart-b012a9c0a071", "2026-11-21T15:24:04+00:00", then, now)
    text = printed(Backtest((GATE,), (run,)), 80)
    for name in ("2026-11-21 15:24", "inconclusive", "fail ← new", "quickstart-b012a9c0a071"):
        assert name in text
    assert all(rule in text for rule in RULES)
