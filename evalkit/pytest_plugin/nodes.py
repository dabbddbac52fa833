"""Suites as pytest's nodes: ``suite.yaml::gate::rule``, one item per rule.

A rule's item passes where each of its outcomes passes. It fails where one keeps the verdict from a pass, undecided and
missing ones included. Where none does, but one was waived or a warning does not hold, the item is an expected failure:
seen, and no reason to stop. So pytest's exit status is 0 exactly where the verdict is a pass.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from evalkit.asserting import answer, blocks, in_words, lines_of, measured, verdict_in_words
from evalkit.errors import EvalkitError, RunError, UsageError
from evalkit.pytest_plugin.runs import Runs, runs_of, usual_warnings
from evalkit.records.suite import GateSpec
from evalkit.records.verdict import Outcome, Verdict
from evalkit.reports.clean import printable_lines
from evalkit.reports.view import ordered_outcomes, span, waiver_in_words

if TYPE_CHECKING:
    from evalkit.api import Run

NO_GATE = "no-gate"
"""The item of a suite on which nothing decides."""
MOST_PROPERTIES = 8
"""So many of a rule's outcomes stand in the properties of its test case."""
_FLAG = re.compile(
    r"--(?=(?:candidate|baseline|gate|backend|model-arg|out|limit|allow-undecidable)\b)"
)
"""Flags of ``evalkit run`` that pytest has too, by another name."""


class SuiteFile(pytest.File):
    """A suite file."""

    gates: tuple[str, ...] = ()
    """Names of the gates that were collected."""

    @property
    def runs(self) -> Runs:
        """The session's runs."""
        return runs_of(self.config)

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        """Yield a node per gate. Files are read and checked; no model is asked."""
        suite, gates = self._read()
        if self.config.pluginmanager.hasplugin("xdist"):  # which declares the mark
            self.add_marker(pytest.mark.xdist_group(f"evalkit-{suite}"))
        self.gates = tuple(gate.gate for gate in gates)
        for gate in gates:
            yield Gate.from_parent(self, name=gate.gate, gate=gate)
        if not gates:
            yield NoGate.from_parent(self, name=NO_GATE)

    def _read(self) -> tuple[str, tuple[GateSpec, ...]]:
        from evalkit.cli.assemble import load_files
        from evalkit.loaders.gate_fit import refuse_misfits

        try:
            with usual_warnings():
                loaded, gates = load_files(self.path, self.runs.settings.gates)
                refuse_misfits(loaded.spec, gates)
        except UsageError as error:
            raise self.CollectError(self.told(error)) from None
        return loaded.spec.suite, gates

    def decided(self) -> tuple[Run, Verdict]:
        """Return the run and its verdict; the first call runs the suite. Fails the item where there is none."""
        __tracebackhide__ = True
        settings, found = self.runs.settings, None
        try:
            run = self.runs.run(self.path, gates=tuple(map(str, settings.gates)), **settings.how)
            found, wrong = run.verdict, f"the run {run.path} has no verdict"
        except (EvalkitError, OSError) as error:
            wrong = self.told(error)
        if found is None:  # told here, where no exception is being handled that would be shown too
            pytest.fail(wrong, pytrace=False)
        if unknown := sorted({*found.gates} ^ {*self.gates}):
            told = f"the gates that decided are not those that were collected: {', '.join(unknown)}"
            advice = "name gates in the suite or by --evalkit-gate, not by EVALKIT_GATE"
            pytest.fail(f"{told}; {advice}", pytrace=False)
        return run, found

    def told(self, error: EvalkitError | OSError) -> str:
        """Return an error as a person reads it: problems with their lines, advice."""
        if isinstance(error, UsageError) and error.problems:
            return "\n".join(
                printable_lines(
                    str(dataclasses.replace(problem, file=shown(problem.file, self.config)))
                )
                for problem in error.problems
            )
        advice = error.advice if isinstance(error, RunError) else ""
        text = "\n".join(filter(None, [str(error), advice]))
        return printable_lines(_FLAG.sub("--evalkit-", text))


class Gate(pytest.Collector):
    """A gate of a suite."""

    parent: SuiteFile

    def __init__(self, *, gate: GateSpec, **of_pytest: Any) -> None:  # noqa: ANN401 - pytest's own
        super().__init__(**of_pytest)
        self._rules = tuple(rule.id for rule in gate.rules)

    def collect(self) -> Iterator[pytest.Item]:
        """Yield an item per rule, in the file's order."""
        for rule in self._rules:
            yield Rule.from_parent(self, name=rule)


class Rule(pytest.Item):
    """A rule of a gate."""

    parent: Gate
    _run: Run
    _verdict: Verdict

    def setup(self) -> None:
        """Run the suite, unless another item has done so. What keeps it from deciding is an error of each item."""
        __tracebackhide__ = True
        suite = self.parent.parent
        self._run, self._verdict = run, verdict = suite.decided()
        told = verdict_in_words(verdict)
        self.user_properties += [("evalkit_run", str(run.path)), ("evalkit_verdict", told)]
        if verdict.status == "incomplete":
            pytest.fail("\n".join([told, *self._places()]), pytrace=False)

    def runtest(self) -> None:
        """Say what the verdict says of this rule."""
        __tracebackhide__ = True
        gate = self.parent.name
        outcomes = [
            o for o in ordered_outcomes(self._verdict) if (o.gate, o.rule) == (gate, self.name)
        ]
        self.user_properties += properties_of(outcomes)
        ends = answer(outcomes)
        against = [outcome for outcome in outcomes if blocks(outcome)]
        lines = list(lines_of(against or outcomes)) or ["the verdict says nothing about this rule"]
        if ends == "failed":
            told = f"verdict: {verdict_in_words(self._verdict)}"
            pytest.fail("\n".join([*lines, told, *self._places()]), pytrace=False)
        self.add_report_section("call", "evalkit", "\n".join([*lines, *self._places()]))
        if ends == "xfailed":
            pytest.xfail(tolerated_in_words(o for o in outcomes if o.counts_as != "pass"))

    def _places(self) -> Iterator[str]:
        folder = self._run.path
        page = folder / "report.html"
        yield f"report: {shown(page if page.exists() else folder, self.config)}"

    def reportinfo(self) -> tuple[Path, None, str]:
        """Return the file and the title of a failure."""
        return self.path, None, f"{self.parent.name}::{self.name}"


class NoGate(pytest.Item):
    """Stands for a suite on which nothing decides, which fails: what was not decided has not passed."""

    def runtest(self) -> None:
        """Fail, and say what to add; no model is asked."""
        __tracebackhide__ = True
        pytest.fail(
            "no gate decides on this suite, so no model was asked; "
            "add 'gates: [FILE]' to it, or give --evalkit-gate FILE",
            pytrace=False,
        )

    def reportinfo(self) -> tuple[Path, None, str]:
        """Return the file and the title of the failure."""
        return self.path, None, self.name


def shown(path: str | Path, config: pytest.Config) -> str:
    """Return a path as it is seen from where pytest was started."""
    try:
        return str(Path(path).relative_to(config.invocation_params.dir))
    except ValueError:
        return str(path)


def tolerated_in_words(outcomes: Iterable[Outcome]) -> str:
    """Return in one line why outcomes that do not pass do not block: who waived them, or that the rule only warns."""
    told = []
    for outcome in outcomes:
        waiver = waiver_in_words(outcome)
        severity = "a warning" if outcome.severity == "warn" else "for information"
        told.append(f"{waiver or f'{severity}, does not block'} ({in_words(outcome)})")
    more = f"; {len(told) - 1:,} more" if len(told) > 1 else ""
    return printable_lines(told[0]).replace("\n", " ") + more


def properties_of(outcomes: Iterable[Outcome]) -> Iterator[tuple[str, object]]:
    """Yield what a test case says of its outcomes, each beginning with ``evalkit_estimate``; the worst are first.

    Numbers are as the verdict has them; an interval is ``[low, high]`` as people read it.
    """
    held = list(outcomes)
    one = measured(held[0]) if len(held) == 1 else f"{len(held):,} estimates"
    yield "evalkit_told", one
    for outcome in held[:MOST_PROPERTIES]:
        yield "evalkit_estimate", printable_lines(outcome.estimate)
        yield "evalkit_status", outcome.counts_as
        if outcome.observed is not None:
            yield "evalkit_observed", outcome.observed
        if outcome.interval is not None:
            yield "evalkit_interval", span(outcome.interval)
        yield "evalkit_required", printable_lines(outcome.required)
