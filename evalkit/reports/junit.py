"""The verdict as JUnit XML, for whatever shows test results: Jenkins, GitLab, GitHub's actions, IDEs.

One ``testsuite`` per gate, one ``testcase`` per outcome: its ``classname`` is the gate, its ``name`` the rule and the
estimate, so that the same question has the same name in every build. What a case is:

=======================================  =======================  ============================
the outcome counts as                    of a blocking rule       of a rule that warns or informs
=======================================  =======================  ============================
``pass``                                 passed                   passed
``fail``: the requirement does not hold  ``failure``              ``skipped``
``inconclusive``, ``missing``: it could  ``error``                ``skipped``
not be decided
``waived``                               ``skipped``, with the    ``skipped``, with the waiver
                                         waiver
anything, in an incomplete run           ``error`` (waived ones   as above
                                         ``skipped``)
=======================================  =======================  ============================

So a case is green only where the evidence shows that the requirement holds, or the rule itself lets what is undecided
pass (then the case says so). What does not block is skipped rather than green: every viewer shows skipped cases apart,
and none of them lets a build fail by one. ``type`` is what the evidence says: ``fail``, ``inconclusive``, ``missing``,
``incomparable``, ``incomplete``; a rule with ``on_missing: fail`` gives a ``failure`` of type ``missing``.

A run that is incomplete, has no verdict or whose gates decided nothing has a case named ``verdict`` of its own, which
is an ``error``. With it a build is green (no failure, no error) exactly where the exit code is 0.

**Source**: the schema of Jenkins's xUnit plug-in, junit-10.xsd, which the files of Maven Surefire, Ant and pytest
(``junit_family=xunit2``) follow too.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from evalkit.records.scorecard import Scorecard
from evalkit.records.verdict import Outcome, Verdict
from evalkit.registry import register
from evalkit.reports.clean import xml_line, xml_text
from evalkit.reports.reported import FinishedRun
from evalkit.reports.view import number, span, waiver_in_words

NO_VERDICT = "no gate has decided on this run; decide with: evalkit gate RUN GATES"
"""Why a run without a verdict is an error."""
_WEIGHT = {"warn": "a warning, which does not block", "info": "for information, does not block"}


@dataclass(frozen=True, slots=True)
class _Case:
    """One ``testcase``."""

    gate: str
    name: str
    element: Literal["failure", "error", "skipped"] | None
    """None: passed."""
    type: str
    message: str
    """In one line, why it is not passed."""
    told: str
    """Everything about it, in lines."""


@register(
    "reporter",
    "junit",
    summary="JUnit XML: one test case per rule and estimate; failures apart from errors and skipped.",
    example="evalkit report RUN --format junit",
)
class JUnit:
    """The reporter "junit"."""

    file = "junit.xml"

    def render(self, run: FinishedRun) -> str:
        """Return the verdict as XML."""
        return junit_xml(run.scorecard, run.verdict)


def junit_xml(scorecard: Scorecard, verdict: Verdict | None) -> str:
    """Return a verdict as one ``testsuites`` document, declared as UTF-8 and without a lone surrogate."""
    cases = list(_cases(verdict))
    gates = list(verdict.gates) if verdict else []
    names = dict.fromkeys([*gates, *(case.gate for case in cases)])
    root = ET.Element("testsuites", {"name": "evalkit", **_counts(cases)})
    root.set("time", f"{scorecard.circumstances.seconds:.3f}")
    for name in names:
        root.append(_suite(name, [case for case in cases if case.gate == name], scorecard, verdict))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _counts(cases: Iterable[_Case]) -> dict[str, str]:
    held = [case.element for case in cases]
    return {
        "tests": str(len(held)),
        "failures": str(held.count("failure")),
        "errors": str(held.count("error")),
    }


def _suite(
    name: str, cases: list[_Case], scorecard: Scorecard, verdict: Verdict | None
) -> ET.Element:
    skipped = sum(case.element == "skipped" for case in cases)
    suite = ET.Element(
        "testsuite", {"name": xml_line(name), **_counts(cases), "skipped": str(skipped)}
    )
    if scorecard.circumstances.finished:
        suite.set("timestamp", xml_line(scorecard.circumstances.finished))
    properties = ET.SubElement(suite, "properties")
    for key, value in _properties(name, scorecard, verdict):
        ET.SubElement(properties, "property", {"name": xml_line(key), "value": xml_line(value)})
    suite.extend(map(_testcase, cases))
    return suite


def _properties(
    gate: str, scorecard: Scorecard, verdict: Verdict | None
) -> Iterator[tuple[str, str]]:
    """Yield what was decided, by which rules, on which numbers of which models."""
    yield "verdict", verdict.status if verdict else "none"
    if verdict is not None:
        yield "exit_code", str(verdict.exit_code)
        yield "reason", verdict.reason
        if gate in verdict.gates:
            yield "gate", verdict.gates[gate]
        for family in verdict.families:
            if family.gate == gate:
                yield "family", f"{family.family}: {family.told}"
        for note in verdict.notes:
            yield "note", note
    held = scorecard.provenance
    yield "scorecard", scorecard.digest
    yield "suite", f"{held.suite} {held.suite_version}"
    yield "suite_digest", held.suite_digest
    for role, model in held.models.items():
        yield role, scorecard.circumstances.names.get(role, "")
        yield f"{role}_digest", model.digest


def _testcase(case: _Case) -> ET.Element:
    made = ET.Element("testcase", {"classname": xml_line(case.gate), "name": xml_line(case.name)})
    if case.element is None:
        ET.SubElement(made, "system-out").text = xml_text(case.told)
    else:
        why = ET.SubElement(
            made, case.element, {"type": case.type, "message": xml_line(case.message)}
        )
        why.text = xml_text(case.told)
    return made


def _cases(verdict: Verdict | None) -> Iterator[_Case]:
    """Yield the outcomes as cases, behind one for what no outcome tells."""
    if verdict is None:
        yield _Case("evalkit", "verdict", "error", "missing", NO_VERDICT, NO_VERDICT)
        return
    outcomes = [_case(outcome, verdict.status) for outcome in verdict.outcomes]
    told = any(case.element in ("failure", "error") for case in outcomes)
    if verdict.status == "incomplete" or (verdict.status != "pass" and not told):
        element: Literal["failure", "error"] = "failure" if verdict.status == "fail" else "error"
        yield _Case("evalkit", "verdict", element, verdict.status, verdict.reason, verdict.reason)
    yield from outcomes


def _case(outcome: Outcome, verdict: str) -> _Case:
    element = _element(outcome, incomplete=verdict == "incomplete")
    kind: str = "waived" if outcome.counts_as == "waived" else outcome.status
    if element == "error" and verdict == "incomplete":
        kind = "incomplete"
    return _Case(
        gate=outcome.gate,
        name=f"{outcome.rule}: {outcome.estimate}",
        element=element,
        type=kind,
        message=_message(outcome, element, kind),
        told="\n".join(_lines(outcome)),
    )


def _element(
    outcome: Outcome, *, incomplete: bool
) -> Literal["failure", "error", "skipped"] | None:
    if outcome.counts_as == "waived":
        return "skipped"
    if outcome.severity != "block":
        return None if outcome.counts_as == "pass" else "skipped"
    if incomplete:
        return "error"
    if outcome.counts_as == "pass":
        return None
    return "failure" if outcome.counts_as == "fail" else "error"


def _message(outcome: Outcome, element: str | None, kind: str) -> str:
    if outcome.counts_as == "waived":
        return waiver_in_words(outcome) or "waived"
    decided = f"{outcome.reason} (required {outcome.required})"
    if kind == "incomplete":
        return f"the run is incomplete, so that this decides nothing: {decided}"
    if element == "skipped":
        return f"{_WEIGHT[outcome.severity]}: {outcome.status}: {decided}"
    return decided


def _lines(outcome: Outcome) -> Iterator[str]:
    """Yield everything an outcome says, the shortest first: what is cut is the end."""
    yield f"status: {outcome.status}"
    if outcome.counts_as != outcome.status:
        yield f"counts as: {outcome.counts_as}"
    yield f"severity: {outcome.severity}"
    yield f"required: {outcome.required}"
    level = f" ({outcome.interval.level:.0%})" if outcome.interval else ""
    yield f"observed: {' '.join(filter(None, (number(outcome.observed), span(outcome.interval))))}{level}"
    if outcome.p_adjusted is not None:
        yield f"adjusted p-value: {outcome.p_adjusted:.3g}"
    if outcome.waiver is not None:
        yield waiver_in_words(outcome)
    if outcome.why:
        yield f"why the rule is there: {outcome.why}"
    yield f"reason: {outcome.reason}"
