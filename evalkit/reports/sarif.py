"""What did not pass as SARIF 2.1.0, for code scanning and whatever else collects findings.

A rule of a gate is a reporting descriptor (``gate/rule``), and each outcome that is no plain pass is a result of kind
``fail``: the requirement was not shown to hold. ``level`` is the rule's severity: ``error`` where it blocks,
``warning`` where it warns, ``note`` where it informs or where what is undecided passes by the rule's own word. A waived
outcome is suppressed, with the waiver as its justification. What the evidence says (``fail``, ``inconclusive``,
``missing``, ``incomparable``) is in the result's properties and in its message.

A run that is incomplete or has no verdict is an invocation that was not successful, and says why in a notification.

**Source**: SARIF 2.1.0 (OASIS Standard, 27 March 2020), sections 3.13, 3.14, 3.18-3.20, 3.27, 3.35, 3.49 and 3.58.

**Deviation**: SARIF has the kind ``open`` for what could not be decided, but obliges its level to be ``none``
(3.27.10), which viewers hide. A blocking rule that could not be decided blocks, so it is shown like one that failed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from evalkit import __version__
from evalkit.identity import digest
from evalkit.records.scorecard import Scorecard
from evalkit.records.verdict import Outcome, Verdict
from evalkit.registry import register
from evalkit.reports.clean import cut, printable
from evalkit.reports.junit import NO_VERDICT
from evalkit.reports.reported import FinishedRun
from evalkit.reports.view import ordered_outcomes, waiver_in_words

SCHEMA: Final = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
LEVELS: Final = {"block": "error", "warn": "warning", "info": "note"}
MOST_RESULTS: Final = 5000
"""More are not shown by code scanning; what is left out is counted."""
Part = dict[str, Any]


@register(
    "reporter",
    "sarif",
    summary="SARIF 2.1.0 for code scanning: one result per outcome that is no plain pass.",
    example="evalkit report RUN --format sarif",
)
class Sarif:
    """The reporter "sarif"."""

    file = "outcomes.sarif"

    def render(self, run: FinishedRun) -> str:
        """Return the log as JSON in ASCII."""
        return json.dumps(sarif_log(run.scorecard, run.verdict), indent=1, allow_nan=False) + "\n"


def sarif_log(scorecard: Scorecard, verdict: Verdict | None) -> Part:
    """Return a log of one run."""
    outcomes = ordered_outcomes(verdict) if verdict else []
    rules = _rules(outcomes)
    places = {rule["id"]: place for place, rule in enumerate(rules)}
    told = [outcome for outcome in outcomes if not _plain_pass(outcome)]
    driver = {"name": "evalkit", "version": __version__, "rules": rules}
    run = {
        "tool": {"driver": driver},
        "invocations": [_invocation(scorecard, verdict, len(told) - MOST_RESULTS)],
        "originalUriBaseIds": {"RUN": {"description": {"text": "The run's folder."}}},
        "results": [_result(outcome, places) for outcome in told[:MOST_RESULTS]],
        "properties": _properties(scorecard, verdict),
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _plain_pass(outcome: Outcome) -> bool:
    return outcome.counts_as == "pass" and outcome.status == "pass"


def _rule_id(outcome: Outcome) -> str:
    return _text(f"{outcome.gate}/{outcome.rule}")


def _rules(outcomes: list[Outcome]) -> list[Part]:
    """Return each rule once, in the order of its gate and name."""
    held: dict[str, Part] = {}
    for outcome in outcomes:
        name = _rule_id(outcome)
        rule: Part = {
            "id": name,
            "shortDescription": _message(f"{outcome.rule}: {outcome.required}"),
            "defaultConfiguration": {"level": LEVELS[outcome.severity]},
        }
        if outcome.why:
            rule["fullDescription"] = _message(outcome.why)
        held.setdefault(name, rule)
    return [held[name] for name in sorted(held)]


def _result(outcome: Outcome, places: Mapping[str, int]) -> Part:
    name = _rule_id(outcome)
    passing = outcome.counts_as == "pass"
    result = {
        "ruleId": name,
        "ruleIndex": places[name],
        "kind": "fail",
        "level": "note" if passing else LEVELS[outcome.severity],
        "message": _message(_told(outcome)),
        "locations": [_location(outcome)],
        # Stays the same from run to run, so that a viewer knows what is new.
        "partialFingerprints": {"outcome/v1": digest([name, outcome.estimate])},
        "properties": {
            "status": outcome.status,
            "countsAs": outcome.counts_as,
            "severity": outcome.severity,
            "estimate": _text(outcome.estimate),
            "required": _text(outcome.required),
            "observed": outcome.observed,
            "interval": outcome.interval
            and [outcome.interval.low, outcome.interval.high, outcome.interval.level],
        },
    }
    if outcome.counts_as == "waived":
        why = _text(waiver_in_words(outcome) or "waived")
        result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": why}]
    return result


def _told(outcome: Outcome) -> str:
    counted = ""
    if outcome.counts_as not in (outcome.status, "waived"):
        counted = f", counts as {outcome.counts_as}"
    return f"{outcome.status}{counted}: {outcome.reason} (required {outcome.required})"


def _location(outcome: Outcome) -> Part:
    """Return where a finding lies: in the verdict, and by name in the scorecard."""
    return {
        "physicalLocation": {"artifactLocation": {"uri": "verdict.json", "uriBaseId": "RUN"}},
        "logicalLocations": [{"fullyQualifiedName": _text(outcome.estimate), "kind": "estimate"}],
    }


def _invocation(scorecard: Scorecard, verdict: Verdict | None, left_out: int) -> Part:
    decided = verdict is not None and verdict.status != "incomplete"
    made: Part = {"executionSuccessful": decided}
    if verdict is not None:
        made["exitCode"] = verdict.exit_code
    told = [*_why_undecided(verdict)]
    if left_out > 0:
        told.append(f"{left_out:,} more outcomes did not pass; verdict.json has each")
    if told:
        made["toolExecutionNotifications"] = [
            {"level": "error", "message": _message(text)} for text in told
        ]
    return made


def _why_undecided(verdict: Verdict | None) -> Iterator[str]:
    if verdict is None:
        yield NO_VERDICT
    elif verdict.status == "incomplete" or not verdict.outcomes:
        yield verdict.reason


def _properties(scorecard: Scorecard, verdict: Verdict | None) -> Part:
    held = scorecard.provenance
    return {
        "verdict": verdict.status if verdict else None,
        "reason": _text(verdict.reason) if verdict else None,
        "scorecard": scorecard.digest,
        "suite": _text(f"{held.suite} {held.suite_version}"),
        "models": {
            role: _text(scorecard.circumstances.names.get(role, "")) for role in held.models
        },
        "started": _text(scorecard.circumstances.started),
        "finished": _text(scorecard.circumstances.finished),
    }


def _message(text: str) -> Part:
    return {"text": _text(text)}


def _text(text: str) -> str:
    """Return a text in which a viewer sees no link: a message may hold ``[words](place)`` (3.11.6)."""
    return printable(cut(text)).replace("](", "] (")
