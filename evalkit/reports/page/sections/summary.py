"""The verdict in one sentence, why, and what changes how it is to be read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from evalkit.records.scorecard import Scorecard
from evalkit.records.verdict import Outcome, Verdict
from evalkit.reports.page.section import MARKS, Section, fragment, models, told_status
from evalkit.reports.page.sections.rules import shown_outcomes, target
from evalkit.reports.reported import FinishedRun
from evalkit.reports.view import estimate_rows, ordered_outcomes, run_notes, waiver_in_words

MOST_REASONS: Final = 8
"""Outcomes that are told one by one."""
COUNTED: Final = ("fail", "inconclusive", "waived", "pass")
"""What blocking outcomes are counted by, what needs attention first; what is missing is undecided."""
CONSEQUENCE: Final = {
    "pass": "The gates let this candidate pass.",
    "fail": "The gates block this candidate.",
    "inconclusive": "Not all that is required was shown, and what is not shown does not pass.",
    "incomplete": "Too little was measured to decide anything, for the candidate or against it.",
    "none": "No gate was asked. These are measurements; nothing here says that the candidate may ship.",
}
"""Status of the verdict → what it means for a release."""


def section(run: FinishedRun) -> Section | None:
    """Return the verdict."""
    verdict, kind = run.verdict, told_status(run.verdict)
    told = ordered_outcomes(verdict) if verdict else []
    open_ = [outcome for outcome in told if outcome.counts_as not in ("pass", "waived")]
    blocking = [outcome for outcome in open_ if outcome.severity == "block"]
    body = fragment(
        "summary.html",
        kind=kind,
        mark=MARKS[kind][0],
        word=MARKS[kind][1],
        reason=sentence(verdict.reason[:1].upper() + verdict.reason[1:]) if verdict else "",
        consequence=CONSEQUENCE[kind],
        counts=list(_counts(verdict)) if verdict and kind != "none" else [],
        reasons=_linked(blocking[:MOST_REASONS], verdict),
        more=max(0, len(blocking) - MOST_REASONS),
        asides=_linked(
            [each for each in open_ if each.severity != "block"][:MOST_REASONS], verdict
        ),
        waived=[(o, sentence(waiver_in_words(o)), target(o)) for o in told if o.waiver][
            :MOST_REASONS
        ],
        warnings=[sentence(each) for each in _warnings(run)],
        moved=_moved(run.scorecard),
    )
    return Section("summary", "Verdict", body)


def sentence(text: str) -> str:
    """Return text that ends as a sentence does; it may begin with a name, which no capital may change."""
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _counts(verdict: Verdict) -> Iterator[tuple[str, str, int]]:
    """Yield status, word and number of the blocking outcomes that count so."""
    blocking = [outcome.counts_as for outcome in verdict.outcomes if outcome.severity == "block"]
    for kind in COUNTED:
        also = "missing" if kind == "inconclusive" else kind
        yield kind, MARKS[kind][1], sum(each in (kind, also) for each in blocking)


def _linked(outcomes: list[Outcome], verdict: Verdict | None) -> list[tuple[Outcome, str, str]]:
    """Return outcomes with their reasons as sentences and the ids of their rows, where they have one."""
    shown = {target(outcome) for outcome in shown_outcomes(verdict)} if verdict else set()
    return [(o, sentence(o.reason), target(o) if target(o) in shown else "rules") for o in outcomes]


def _moved(scorecard: Scorecard) -> dict[str, int]:
    """Return how many numbers over all samples moved in which direction; empty where nothing was compared."""
    rows = [
        row
        for row in estimate_rows(scorecard)
        if row.slice is None
        and row.comparison is not None
        and row.comparison.status == "compared"
        and row.comparison.test != "census"
    ]
    if not rows:
        return {}
    found = [row.direction for row in rows]
    return {"worse": found.count("worse"), "better": found.count("better"), "same": found.count("")}


def _warnings(run: FinishedRun) -> Iterator[str]:
    """Yield what changes how the verdict is to be read, what may mislead most first."""
    scorecard = run.scorecard
    yield from _lost(scorecard)
    for role, model in models(run):
        if not model.pinned:
            yield (
                f"The {role} is not pinned: its digest covers neither its weights' bytes nor a stated revision, so "
                "another model may have answered under the same name"
            )
    apart = sum(
        each.status == "incomparable" and each.task not in scorecard.weighed
        for each in scorecard.comparisons
    )
    if apart:
        numbers = "number" if apart == 1 else "numbers"
        yield f"{apart:,} {numbers} cannot be compared with the baseline's: made in another way"
    if "baseline" not in scorecard.provenance.models:
        yield "There is no baseline: no number says whether the candidate is better or worse than what it replaces"
    if scorecard.not_run:
        yield f"Not run, because the weights failed a blocking rule before: {', '.join(scorecard.not_run)}"
    if run.verdict:
        yield from run.verdict.notes
    yield from run_notes(scorecard)


def _lost(scorecard: Scorecard) -> Iterator[str]:
    """Yield which tasks lack samples, and how many."""
    for tally in scorecard.tasks:
        failed = sum(tally.failures.values())
        ungraded = max((sum(reasons.values()) for reasons in tally.unscored.values()), default=0)
        lost = [f"{failed:,} failed"] * bool(failed) + [f"{ungraded:,} could not be graded"] * bool(
            ungraded
        )
        if lost or not tally.complete:
            what = " and ".join(lost) or "not all were scored"
            short = "" if tally.complete else "; too few are left for the suite's min_coverage"
            yield f"{tally.task} of the {tally.model}: of {tally.planned:,} samples {what}{short}"
