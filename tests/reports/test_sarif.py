"""What did not pass as SARIF 2.1.0, held to what the standard obliges (sections in brackets)."""

from __future__ import annotations

import json
import re

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_runs import card, decided_runs, finished_run, hostile, outcome, verdict, waiver

from evalkit import __version__
from evalkit.reports.sarif import MOST_RESULTS, Sarif, sarif_log

MESSAGE = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}}
LEVEL = {"enum": ["none", "note", "warning", "error"]}
RULE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["id"],  # 3.49.3
    "properties": {
        "id": {"type": "string"},
        "shortDescription": MESSAGE,  # 3.49.9
        "fullDescription": MESSAGE,  # 3.49.10
        "defaultConfiguration": {"properties": {"level": LEVEL}},  # 3.49.14, 3.50.3
    },
}
LOCATION = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "physicalLocation": {  # 3.29: an address or an artifact
            "required": ["artifactLocation"],
            "properties": {"artifactLocation": {"required": ["uri"]}},
        },
        "logicalLocations": {  # 3.33
            "type": "array",
            "items": {"properties": {"fullyQualifiedName": {"type": "string"}}},
        },
    },
}
RESULT = {
    "type": "object",
    "additionalProperties": False,
    "required": ["message"],  # 3.27.11
    "properties": {
        "ruleId": {"type": "string"},
        "ruleIndex": {"type": "integer", "minimum": 0},  # 3.27.6
        "kind": {"const": "fail"},  # 3.27.9
        "level": {"enum": ["note", "warning", "error"]},  # 3.27.10: a kind "fail" has one
        "message": MESSAGE,
        "locations": {"type": "array", "items": LOCATION},  # 3.27.12
        "partialFingerprints": {"additionalProperties": {"type": "string"}},  # 3.27.17
        "suppressions": {  # 3.27.23, 3.35
            "type": "array",
            "items": {
                "required": ["kind"],
                "additionalProperties": False,
                "properties": {
                    "kind": {"enum": ["inSource", "external"]},
                    "status": {"enum": ["accepted", "underReview", "rejected"]},
                    "justification": {"type": "string"},
                },
            },
        },
        "properties": {"type": "object"},
    },
}
INVOCATION = {
    "required": ["executionSuccessful"],  # 3.20.14
    "additionalProperties": False,
    "properties": {
        "executionSuccessful": {"type": "boolean"},
        "exitCode": {"type": "integer"},
        "toolExecutionNotifications": {  # 3.20.21, 3.58.5
            "type": "array",
            "items": {"required": ["message"], "properties": {"message": MESSAGE, "level": LEVEL}},
        },
    },
}
LOG = {
    "type": "object",
    "additionalProperties": False,
    "required": ["version", "runs"],  # 3.13.2, 3.13.4
    "properties": {
        "$schema": {"type": "string", "format": "uri"},  # 3.13.3
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "items": {
                "required": ["tool"],  # 3.14.6
                "additionalProperties": False,
                "properties": {
                    "tool": {
                        "required": ["driver"],  # 3.18.2
                        "properties": {
                            "driver": {
                                "required": ["name"],  # 3.19.8
                                "properties": {
                                    "rules": {  # 3.19.23
                                        "type": "array", "items": RULE, "uniqueItems": True,
                                    },
                                },
                            }
                        },
                    },
                    "invocations": {"type": "array", "items": INVOCATION},
                    "originalUriBaseIds": {"type": "object"},  # 3.14.14
                    "results": {"type": "array", "items": RESULT},
                    "properties": {"type": "object"},
                },
            },
        },
    },
}  # fmt: skip
"""What the standard obliges of the parts that evalkit writes, and no part that it does not have."""


def checked(scorecard, held):
    log = json.loads(Sarif().render(finished_run(scorecard, held)))
    jsonschema.Draft7Validator(LOG).validate(log)
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules)  # 3.49.3
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]  # 3.27.6
    return run


@given(decided_runs())
def test_whatever_the_gates_answer_the_log_is_legal_and_holds_all_that_is_no_plain_pass(decided):
    scorecard, held = decided
    run = checked(scorecard, held)
    told = [o for o in held.outcomes if (o.status, o.counts_as) != ("pass", "pass")]
    assert len(run["results"]) == len(told)
    errors = [r for r in run["results"] if r["level"] == "error" and "suppressions" not in r]
    (invocation,) = run["invocations"]
    undecided = bool(errors) or bool(invocation.get("toolExecutionNotifications"))
    assert undecided == (held.exit_code != 0)


@pytest.mark.parametrize(
    ("severity", "level"), [("block", "error"), ("warn", "warning"), ("info", "note")]
)
def test_the_level_is_the_rules_severity(severity, level):
    (result,) = checked(card(), verdict([outcome("fail", severity=severity)]))["results"]
    assert result["level"] == level
    assert result["ruleId"] == "release/exact"


def test_what_passes_by_the_rules_own_word_is_a_note():
    (result,) = checked(card(), verdict([outcome("inconclusive", "pass")], "pass"))["results"]
    assert result["level"] == "note"
    assert result["message"]["text"].startswith("inconclusive, counts as pass: ")


def test_a_waived_outcome_is_suppressed_with_the_waiver_as_justification():
    held = outcome("fail", "waived", waiver=waiver())
    (result,) = checked(card(), verdict([held], "pass"))["results"]
    (suppression,) = result["suppressions"]
    assert suppression["justification"].startswith("Waived by Kim until 2026-12-31")


@pytest.mark.parametrize(
    "held", [None, verdict([outcome()], "incomplete", reason="a task fell short")]
)
def test_a_run_that_decided_nothing_was_not_successful(held):
    (invocation,) = checked(card(), held)["invocations"]
    assert invocation["executionSuccessful"] is False
    assert invocation["toolExecutionNotifications"][0]["level"] == "error"


def test_the_same_finding_keeps_its_fingerprint_and_another_has_another():
    def prints(*outcomes):
        return [
            r["partialFingerprints"]["outcome/v1"]
            for r in checked(card(), verdict(outcomes))["results"]
        ]

    one = outcome("fail", observed=0.5)
    assert prints(one) == prints(outcome("fail", observed=0.6, reason="other"))
    assert prints(one) != prints(outcome("fail", estimate="extract/f1"))


def test_more_findings_than_are_shown_are_counted():
    outcomes = [outcome("fail", estimate=f"t/m{n}") for n in range(MOST_RESULTS + 7)]
    run = checked(card(), verdict(outcomes))
    assert len(run["results"]) == MOST_RESULTS
    (note,) = run["invocations"][0]["toolExecutionNotifications"]
    assert note["message"]["text"].startswith("7 more outcomes")


def test_the_tool_is_named_with_its_version():
    driver = sarif_log(card(), None)["runs"][0]["tool"]["driver"]
    assert (driver["name"], driver["version"]) == ("evalkit", __version__)


@given(st.tuples(hostile, hostile))
def test_no_text_becomes_a_link_or_hides_something(texts):
    """3.11.6: a plain message may hold links as ``[words](place)``."""
    reason, name = texts
    held = outcome("fail", reason=reason, why=name, estimate=name, rule=name, required=reason)
    text = Sarif().render(finished_run(card(suite=name), verdict([held], reason=reason)))
    assert text.isascii()
    for found in _strings(json.loads(text)):
        assert found.isprintable()
        assert not re.search(r"\]\(", found)
    checked(card(suite=name), verdict([held], reason=reason))


def _strings(value):
    if isinstance(value, dict):
        for each in value.values():
            yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)
    elif isinstance(value, str):
        yield value
