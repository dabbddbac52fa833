"""The verdict as JUnit XML: what a build server sees is what the exit code says."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_runs import HOSTILE, card, decided_runs, finished_run, hostile, outcome, verdict, waiver

from evalkit.reports.junit import JUnit, junit_xml
from evalkit.reports.view import waiver_in_words

SCHEMA = Path(__file__).with_name("junit.xsd")


@pytest.fixture(scope="module")
def schema():
    import xmlschema

    return xmlschema.XMLSchema(SCHEMA)


def read(text):
    return ET.fromstring(text.encode("utf-8"))


def counts(element):
    return {key: int(element.get(key)) for key in ("tests", "failures", "errors")}


def only_case(outcome_, status="fail"):
    (case,) = read(junit_xml(card(), verdict([outcome_], status))).iter("testcase")
    return case


def element_of(case):
    return next((child.tag for child in case if child.tag != "system-out"), None)


@given(decided_runs())
def test_a_build_is_green_exactly_where_the_exit_code_is_0(decided):
    scorecard, held = decided
    root = read(junit_xml(scorecard, held))
    told = counts(root)
    assert (told["failures"] + told["errors"] == 0) == (held.exit_code == 0)
    assert (told["failures"] > 0) == (held.exit_code == 1)
    for suite in [root, *root.iter("testsuite")]:
        cases = list(suite.iter("testcase"))
        assert counts(suite) == {
            "tests": len(cases),
            "failures": sum(case.find("failure") is not None for case in cases),
            "errors": sum(case.find("error") is not None for case in cases),
        }


@given(decided_runs())
def test_a_case_is_green_only_where_its_outcome_counts_as_a_pass_of_a_complete_run(decided):
    scorecard, held = decided
    passing = {
        f"{o.rule}: {o.estimate}"
        for o in held.outcomes
        if o.counts_as == "pass" and (held.status != "incomplete" or o.severity != "block")
    }
    cases = read(junit_xml(scorecard, held)).iter("testcase")
    assert {case.get("name") for case in cases if element_of(case) is None} == passing


@pytest.mark.parametrize(
    ("counts_as", "severity", "status", "element"),
    [
        ("pass", "block", "pass", None),
        ("pass", "warn", "pass", None),
        ("fail", "block", "fail", "failure"),
        ("fail", "warn", "pass", "skipped"),
        ("fail", "info", "pass", "skipped"),
        ("inconclusive", "block", "inconclusive", "error"),
        ("inconclusive", "warn", "pass", "skipped"),
        ("missing", "block", "inconclusive", "error"),
        ("missing", "info", "pass", "skipped"),
        ("waived", "block", "pass", "skipped"),
        ("pass", "block", "incomplete", "error"),
        ("fail", "block", "incomplete", "error"),
        ("waived", "block", "incomplete", "skipped"),
    ],
)
def test_each_answer_has_its_element(counts_as, severity, status, element):
    evidence = "fail" if counts_as == "waived" else counts_as
    held = verdict([outcome(evidence, counts_as, severity=severity)], status)
    case = next(
        c for c in read(junit_xml(card(), held)).iter("testcase") if c.get("name") != "verdict"
    )
    assert element_of(case) == element


def test_a_case_says_what_was_required_observed_and_why():
    case = only_case(outcome("fail", observed=0.7, why="Orders are shipped by it."))
    assert (case.get("classname"), case.get("name")) == ("release", "exact: extract/exact_match")
    failure = case.find("failure")
    assert failure.get("type") == "fail"
    assert failure.get("message") == "extract/exact_match is 0.900 (required ≥ 0.8)"
    for part in ("required: ≥ 0.8", "0.700 [0.850, 0.950]", "Orders are shipped by it."):
        assert part in failure.text


def test_a_requirement_that_was_not_measured_is_no_failure_of_the_model():
    case = only_case(outcome("missing", reason="nothing is named so"), "inconclusive")
    assert case.find("error").get("type") == "missing"
    case = only_case(outcome("missing", "fail", reason="nothing is named so"))
    assert case.find("failure").get("type") == "missing"


def test_a_waiver_is_told_in_words():
    held = outcome("fail", "waived", waiver=waiver())
    case = only_case(held, "pass")
    assert case.find("skipped").get("message") == waiver_in_words(held)
    assert "Kim" in waiver_in_words(held)


def test_a_rule_that_only_warns_says_so_in_its_case():
    message = only_case(outcome("fail", severity="warn"), "pass").find("skipped").get("message")
    assert message.startswith("a warning, which does not block: fail: ")


@pytest.mark.parametrize(
    ("held", "told"),
    [
        (None, "no gate has decided"),
        (verdict([], "inconclusive", gates={}, reason="no gate was given"), "no gate was given"),
        (verdict([], "incomplete", reason="task x fell short"), "task x fell short"),
        (verdict([outcome()], "incomplete", reason="task x fell short"), "task x fell short"),
    ],
)
def test_a_run_that_decided_nothing_is_an_error(held, told, schema):
    text = junit_xml(card(), held)
    schema.validate(text)
    root = read(text)
    assert counts(root)["errors"] > 0
    case = next(c for c in root.iter("testcase") if c.get("name") == "verdict")
    assert told in case.find("error").get("message")


def test_a_verdict_that_fails_without_an_outcome_saying_so_is_no_green_build():
    """As in a file that somebody changed."""
    root = read(junit_xml(card(), verdict([outcome()], "fail")))
    assert counts(root)["failures"] == 1


def test_a_suite_tells_what_was_decided_on_which_numbers_of_which_models():
    scorecard = card()
    suite = next(read(junit_xml(scorecard, verdict([outcome()], "pass"))).iter("testsuite"))
    held = {p.get("name"): p.get("value") for p in suite.iter("property")}
    assert held["verdict"] == "pass"
    assert held["scorecard"] == scorecard.digest
    assert held["suite"] == "orders 3"
    assert held["candidate"] == "models/new"
    assert held["baseline"] == "models/old"
    assert held["gate"] == "d" * 64


@given(texts=st.tuples(hostile, hostile, hostile, hostile))
def test_whatever_a_text_holds_the_file_is_valid_and_shows_it(schema, texts):
    reason, why, name, slice_ = texts
    held = outcome(
        "fail", reason=reason, why=why, estimate=f"extract/x@{slice_}", gate=name, required=why
    )
    scorecard = card(names={"candidate": name}, suite=slice_)
    text = JUnit().render(finished_run(scorecard, verdict([held], reason=reason, notes=(why,))))
    schema.validate(text)
    text.encode("utf-8")
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\x00-\x08\x0b-\x1f\x7f-\x9f]", text)
    (case,) = read(text).iter("testcase")
    assert element_of(case) == "failure"


@pytest.mark.parametrize("text", HOSTILE)
def test_the_schema_itself_refuses_what_is_no_junit(schema, text):
    """The check above can fail: a name that no JUnit file has, and two answers of one case."""
    import xmlschema

    for wrong in ("<testsuites><case/></testsuites>", "<testsuites tests='x'/>"):
        with pytest.raises(xmlschema.XMLSchemaException):
            schema.validate(wrong)
    assert len(junit_xml(card(), verdict([outcome("fail", reason=text)]))) < 20_000
