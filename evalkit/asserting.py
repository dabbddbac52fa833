"""``assert_gate``: a gate in a test; and a rule's outcomes in words, for whoever shows them beside tests."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from evalkit.errors import UsageError
from evalkit.records.verdict import Outcome, Verdict
from evalkit.reports.clean import cut, printable
from evalkit.reports.view import number, ordered_outcomes, span, waiver_in_words

if TYPE_CHECKING:
    from evalkit.api import Run

MOST_OUTCOMES: Final = 8
"""So many estimates are told of a rule that matches many; verdict.json has each."""
LONGEST: Final = 500
"""Characters of one reason: it may quote what a model or a file says."""
SHOWN_AS: Final = {
    "pass": "passed",
    "fail": "failed",
    "inconclusive": "undecided",
    "missing": "missing",
    "waived": "waived",
}
"""What an outcome counts as, as a word beside tests."""


def assert_gate(run: Run, *gates: str | PathLike[str]) -> Verdict:
    """Return the verdict of gates on a finished run where it is a pass; else raise AssertionError.

    ``gates`` are files, relative to the folder of the file that calls or to the current folder; they decide as
    ``evalkit gate`` does. Without any, the verdict that the run was given is taken. The error's text is the verdict and
    a line for each rule that blocks. Raises UsageError where a gate file is wrong or does not fit the run.
    """
    __tracebackhide__ = True
    folders = (calling_folder(), Path.cwd())
    verdict = run.decide(*(found(gate, *folders) for gate in gates)) if gates else run.verdict
    if verdict is None:
        advice = "name one: assert_gate(run, 'gates/release.yaml')"
        raise AssertionError(f"no gate has decided on this run; {advice}")
    if verdict.status != "pass":
        raise AssertionError("\n".join([*_refusal(verdict), f"run: {run.path}"]))
    return verdict


def calling_folder(above: int = 2) -> Path:
    """Return the folder of the file whose code calls, so many frames above this function."""
    return Path(sys._getframe(above).f_code.co_filename).parent


def found(name: str | PathLike[str], *folders: Path) -> Path:
    """Return the file or folder of this name in the first of ``folders`` that has it.

    Raises UsageError, with every folder that was looked in, where none has.
    """
    for folder in folders:
        if (path := folder / Path(name).expanduser()).exists():
            return path
    looked = " or ".join(dict.fromkeys(str(folder) for folder in folders))
    raise UsageError(f"{str(name)!r} is not there, in {looked}")


def blocks(outcome: Outcome) -> bool:
    """Return whether an outcome keeps the verdict from a pass."""
    return outcome.severity == "block" and outcome.counts_as not in ("pass", "waived")


def answer(outcomes: Iterable[Outcome]) -> Literal["passed", "failed", "xfailed"]:
    """Return how a test of a rule ends that has these outcomes.

    It fails where one keeps the verdict from a pass, and where there is none. Where none does, but one was waived or
    belongs to a rule that only warns and does not hold, it is an expected failure.
    """
    held = list(outcomes)
    if not held or any(map(blocks, held)):
        return "failed"
    return "passed" if all(outcome.counts_as == "pass" for outcome in held) else "xfailed"


def in_words(outcome: Outcome) -> str:
    """Return an outcome in one line: what it counts as, on which estimate, and why."""
    about = "" if outcome.estimate in outcome.reason else f"{outcome.estimate}: "
    return f"{SHOWN_AS[outcome.counts_as]}: {printable(cut(about + outcome.reason, LONGEST))}"


def measured(outcome: Outcome) -> str:
    """Return what was observed and what was required: ``observed 0.912 [0.887, 0.934], required ≥ 0.95``."""
    seen = "nothing observed"
    if outcome.observed is not None:
        seen = f"observed {number(outcome.observed)} {span(outcome.interval)}".strip()
    return f"{seen}, required {printable(outcome.required)}"


def lines_of(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yield a rule's outcomes in lines, at most ``MOST_OUTCOMES`` of them, then the rule's reason for being."""
    for outcome in outcomes[:MOST_OUTCOMES]:
        yield in_words(outcome)
        yield f"  {measured(outcome)}"
        if outcome.waiver:
            yield f"  {printable(waiver_in_words(outcome))}"
    if (more := len(outcomes) - MOST_OUTCOMES) > 0:
        yield f"{more:,} more; verdict.json has each"
    if outcomes and outcomes[0].why:
        yield f"why: {printable(outcomes[0].why)}"


def verdict_in_words(verdict: Verdict) -> str:
    """Return the verdict in one line: ``FAIL: 2 of 11 blocking outcomes failed: …``."""
    return f"{verdict.status.upper()}: {printable(cut(verdict.reason, LONGEST))}"


def _refusal(verdict: Verdict) -> Iterator[str]:
    yield verdict_in_words(verdict)
    rules: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in filter(blocks, ordered_outcomes(verdict)):
        rules.setdefault((outcome.gate, outcome.rule), []).append(outcome)
    for (gate, rule), outcomes in rules.items():
        more = f" (and {len(outcomes) - 1:,} more of this rule)" if len(outcomes) > 1 else ""
        yield f"{gate}::{rule}: {in_words(outcomes[0])} ({measured(outcomes[0])}){more}"
