"""Finished runs in miniature, and what hostile text may hold."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hypothesis import strategies as st

from evalkit.gates.evaluate import evaluate
from evalkit.records.scorecard import (
    Circumstances,
    Comparison,
    Counts,
    Estimate,
    Interval,
    ModelRecord,
    Provenance,
    Scorecard,
    TaskTally,
)
from evalkit.records.suite import GateSpec, WaiverSpec
from evalkit.records.verdict import EXIT_CODES, Outcome, Verdict

TODAY = date(2026, 3, 1)
HOSTILE = [
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "]]> <![CDATA[ <!-- & &amp; &#0;",
    "nul \0 bell \a escape \x1b[31m\x1b]8;;http://example.invalid\a delete \x7f c1 \x9b31m",
    "\u202eright to left\u2066 \u2069 end \u200b\u200d\ufeff \u00ad",
    "lone \ud800 and \udfff, \ufffe \uffff, \u2028 \u2029 \x85",
    "a | b `c` ``d`` \\| \\` \n# heading\n\n- list\r\n> quote\t1. one",
    "@someone and @org/team, #12 GH-7, mail a@example.invalid, mailto:a@example.invalid",
    "![x](http://example.invalid/x.png) [link](http://example.invalid) <http://example.invalid>",
    "http://example.invalid https://example.invalid www.example.invalid ftp://example.invalid",
    "**bold** _it_ ~~gone~~ $x^2$ [^1] [x]: http://example.invalid {{7*7}} ${7*7}",
    "# heading",
    "- item",
    "1. one",
    "```\nfence\n```",
    "<details open><summary>x</summary>",
    '=HYPERLINK("http://example.invalid")',
    "x" * 5_000_000,
    "",
]
"""Texts that act somewhere if they are let."""
hostile = st.one_of(
    st.sampled_from([text for text in HOSTILE if len(text) < 1000]),
    st.text(max_size=60),
    st.text(alphabet="<>&|`*_[]()!@#$~\\\n \x00\x1b\ud800\u202ehttps:/.wmail-+=1", max_size=40),
    st.lists(st.sampled_from(HOSTILE[:9]), min_size=2, max_size=3).map("".join),
)


def interval(low: float, high: float) -> Interval:
    return Interval(low=low, high=high, level=0.95, method="wilson")


def estimate(value: float | None = 0.9, **changes: Any) -> Estimate:
    half = 0.05
    held: dict[str, Any] = {
        "model": "candidate",
        "task": "extract",
        "metric": "exact_match",
        "slice": None,
        "kind": "rate",
        "value": value,
        "interval": None if value is None else interval(value - half, value + half),
        "counts": Counts(planned=100, completed=100, failed=0, scored=100, unscored=0),
        "unit": "fraction",
        "better": "higher",
        "signature": "exact_match|v:1",
    }
    return Estimate(**(held | changes))


def comparison(**changes: Any) -> Comparison:
    held: dict[str, Any] = {
        "task": "extract",
        "metric": "exact_match",
        "slice": None,
        "status": "compared",
        "candidate": 0.9,
        "baseline": 0.8,
        "difference": 0.1,
        "interval": interval(0.05, 0.15),
        "pairs": 100,
    }
    return Comparison(**(held | changes))


def outcome(status: str = "pass", counts_as: str | None = None, **changes: Any) -> Outcome:
    held: dict[str, Any] = {
        "gate": "release",
        "rule": "exact",
        "estimate": "extract/exact_match",
        "status": status,
        "counts_as": counts_as or status,
        "severity": "block",
        "observed": 0.9,
        "interval": interval(0.85, 0.95),
        "required": "≥ 0.8",
        "reason": "extract/exact_match is 0.900",
    }
    return Outcome(**(held | changes))


def verdict(outcomes: Sequence[Outcome], status: Any = "fail", **changes: Any) -> Verdict:
    held: dict[str, Any] = {
        "status": status,
        "exit_code": EXIT_CODES[status],
        "scorecard": "c" * 64,
        "gates": {"release": "d" * 64},
        "reason": "one rule failed",
        "outcomes": tuple(outcomes),
    }
    return Verdict(**(held | changes))


def waiver(reason: str = "known, and fixed in the next release", **changes: Any) -> WaiverSpec:
    held: dict[str, Any] = {"rule": "exact", "owner": "Kim", "expires": "2026-12-31"}
    return WaiverSpec(reason=reason, **(held | changes))


def card(
    estimates: Sequence[Estimate] = (),
    comparisons: Sequence[Comparison] = (),
    *,
    suite: str = "orders",
    finished: str = "2026-03-01T09:30:00+00:00",
    names: dict[str, str] | None = None,
    tasks: Sequence[TaskTally] = (),
    dataset: str = "e" * 64,
    command: Sequence[str] = ("evalkit", "run", "suite.yaml"),
    **changes: Any,
) -> Scorecard:
    names = {"candidate": "models/new", "baseline": "models/old"} if names is None else names
    models = {
        role: ModelRecord(digest=str(n) * 64, pinned=True, files={}, engine={})
        for n, role in enumerate(names)
    }
    held: dict[str, Any] = {
        "provenance": Provenance(
            suite=suite,
            suite_version=3,
            suite_digest="f" * 64,
            models=models,
            datasets={"extract": dataset},
            seed=0,
            versions={"evalkit": "0.1.0"},
        ),
        "estimates": tuple(estimates),
        "comparisons": tuple(comparisons),
        "tasks": tuple(tasks),
        "circumstances": Circumstances(
            started="2026-03-01T09:00:00+00:00",
            finished=finished,
            command=tuple(command),
            git_commit=None,
            hardware={},
            host={},
            asked=1,
            reused=0,
            seconds=1800.25,
            names=names,
        ),
    }
    return Scorecard(**(held | changes)).sealed()


def finished_run(
    scorecard: Scorecard, verdict: Verdict | None, path: str = "reports/orders-1"
) -> Any:
    """What a reporter that reads no samples asks of a run."""
    return SimpleNamespace(
        path=Path(path),
        scorecard=scorecard,
        verdict=verdict,
        suite=None,
        has_samples=False,
        rows=lambda: iter(()),
        weights_rows=lambda: iter(()),
        judgement_rows=lambda: iter(()),
        all_tables=dict,
        plots=dict,
    )


@st.composite
def decided_runs(draw: Any) -> tuple[Scorecard, Verdict]:
    """Runs on which the real gates decided: any mixture of answers, severities, exceptions and shortfalls."""
    rules, waivers = [], []
    for n in range(draw(st.integers(0, 5))):
        task = draw(st.sampled_from(["extract/exact_match", "extract/f1", "extract/absent"]))
        rules.append(
            {
                "id": f"rule-{n}",
                "estimate": task,
                "require": "at_least",
                "severity": draw(st.sampled_from(["block", "warn", "info"])),
                "on_inconclusive": draw(st.sampled_from(["inconclusive", "fail", "pass"])),
                "on_missing": draw(st.sampled_from(["missing", "fail"])),
                "options": {"value": draw(st.sampled_from([0.2, 0.5, 0.8]))},
            }
        )
        if draw(st.booleans()):
            waivers.append(waiver(rule=f"rule-{n}"))
    gates = (
        [GateSpec.model_validate({"gate": "release", "rules": rules, "waivers": waivers})]
        if rules
        else []
    )
    values = st.sampled_from([0.1, 0.5, 0.52, 0.95])
    estimates = [estimate(draw(values)), estimate(draw(values), metric="f1")]
    tally = TaskTally(
        model="candidate",
        task="extract",
        kind="generate",
        dataset="e" * 64,
        planned=100,
        requests=100,
        complete=draw(st.booleans()) or draw(st.booleans()),
    )
    scorecard = card(estimates, tasks=[tally])
    return scorecard, evaluate(gates, scorecard, today=TODAY)
