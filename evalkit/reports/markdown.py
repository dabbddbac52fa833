"""The verdict and the scorecard as GitHub-flavoured Markdown: for a pull request, a step's summary, a chat.

What needs attention comes first; what passed is folded. A verdict is a word with a mark, never a colour. Names stand in
code spans and sentences are escaped (``clean``), so that nothing in them becomes a link, a mention, an image or markup.

Every part has room for so many bytes and says how much was left out, so that the whole stays below ``LIMIT``.

**Source**: GitHub Flavored Markdown 0.29; a step's summary holds 1 MiB at most.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, TypeVar

from evalkit.identity import short
from evalkit.records.scorecard import Comparison, Estimate, Scorecard
from evalkit.records.verdict import Outcome, Verdict
from evalkit.registry import register
from evalkit.reports.clean import markdown, markdown_block, markdown_code
from evalkit.reports.reported import FinishedRun
from evalkit.reports.view import (
    EstimateRow,
    command_line,
    diagnostic_p,
    estimate_rows,
    missing_samples,
    number,
    ordered_outcomes,
    run_notes,
    signed,
    span,
    waiver_in_words,
)

T = TypeVar("T")
LIMIT: Final = 1_000_000
"""Bytes that a summary stays below: a step's summary may have 1,048,576."""
ATTENTION, PASSED, NUMBERS, LOST, NOTES = 300_000, 120_000, 300_000, 60_000, 60_000
"""Bytes of the parts whose length is not bounded."""
FOLDED_FROM: Final = 6
"""From so many notes on they are folded."""
SENTENCE: Final = 600
"""Characters of one text."""
COMMAND: Final = 4000
"""Characters of the command line."""
MARKS: Final = {
    "pass": "✅", "fail": "❌", "inconclusive": "❓", "missing": "❓", "incomplete": "⛔", "waived": "🔶",
}  # fmt: skip
"""Beside the words, which say the same."""
_UNDECIDED: Final = "No gate has decided on this run."


@register(
    "reporter",
    "markdown",
    summary="A summary for pull requests and CI steps: the verdict, what needs attention, the numbers.",
    example="evalkit report RUN --format markdown",
)
class MarkdownSummary:
    """The reporter "markdown"."""

    file = "summary.md"

    def render(self, run: FinishedRun) -> str:
        """Return the summary."""
        return markdown_summary(run.scorecard, run.verdict, str(run.path / "report.html"))


def markdown_summary(scorecard: Scorecard, verdict: Verdict | None, report: str) -> str:
    """Return a summary of fewer than ``LIMIT`` bytes; ``report`` is where the whole report lies."""
    parts = [
        *_head(scorecard, verdict),
        *(_outcomes(verdict) if verdict else ()),
        *_scorecard(scorecard),
        *_list("Without a score", list(_lost(scorecard)), LOST),
        *_list("To know", list(_notes(scorecard, verdict)), NOTES, folded_from=FOLDED_FROM),
        *_foot(scorecard, report),
    ]
    text = "\n\n".join(parts) + "\n"
    assert len(text.encode()) < LIMIT, "the parts' rooms add up to more than there is"
    return text


def _head(scorecard: Scorecard, verdict: Verdict | None) -> Iterator[str]:
    held = scorecard.provenance
    suite = f"{markdown_code(held.suite, SENTENCE)} {markdown(str(held.suite_version), SENTENCE)}"
    if verdict is None:
        yield f"## {MARKS['inconclusive']} NO VERDICT: suite {suite}"
        yield _UNDECIDED
    else:
        yield f"## {MARKS[verdict.status]} {verdict.status.upper()}: suite {suite}"
        yield f"{_sentence(verdict.reason, 2 * SENTENCE)} Exit code {verdict.exit_code}."
    names = scorecard.circumstances.names
    models = [
        f"{role} {markdown_code(names.get(role, '') or short(model.digest), SENTENCE)}"
        for role, model in held.models.items()
    ]
    if models:
        yield f"Models: {', '.join(models)}."


def _outcomes(verdict: Verdict) -> Iterator[str]:
    ordered = ordered_outcomes(verdict)
    passed = [outcome for outcome in ordered if outcome.counts_as == "pass"]
    others = [outcome for outcome in ordered if outcome.counts_as != "pass"]
    if others:
        yield "### What needs attention"
        yield _table(_COLUMNS, ":--|:--|:--|:--|:--", others, _row, ATTENTION, "verdict.json")
    if passed:
        table = _table(_COLUMNS, ":--|:--|:--|:--|:--", passed, _row, PASSED, "verdict.json")
        counted = f"{len(passed):,} {'outcome' if len(passed) == 1 else 'outcomes'} passed"
        yield f"<details>\n<summary>{counted}</summary>\n\n{table}\n\n</details>"


_COLUMNS: Final = ("Answer", "Rule", "Required", "Observed", "Why")


def _row(outcome: Outcome) -> tuple[str, ...]:
    severity = "" if outcome.severity == "block" else f", {outcome.severity} only"
    answer = f"{MARKS[outcome.counts_as]} {outcome.counts_as}{severity}"
    if outcome.status != outcome.counts_as:
        answer += f" ({outcome.status})"
    rule = f"{markdown_code(outcome.rule, SENTENCE)}<br>{markdown_code(outcome.estimate, SENTENCE)}"
    observed = " ".join(filter(None, (number(outcome.observed), span(outcome.interval))))
    told = [outcome.reason, diagnostic_p(outcome), waiver_in_words(outcome)]
    if outcome.counts_as != "pass":
        told.append(outcome.why)
    why = " ".join(_sentence(each) for each in told if each)
    return answer, rule, markdown(outcome.required, SENTENCE), observed, why


def _scorecard(scorecard: Scorecard) -> Iterator[str]:
    rows = [row for row in estimate_rows(scorecard) if row.of_all_samples]
    if not rows:
        return
    paired = any(row.baseline or row.comparison for row in rows)
    columns = ["Task, metric", "Candidate", *(("Baseline", "Difference") if paired else ()), "n"]
    ruler = "|".join([":--", *["--:"] * (len(columns) - 1)])
    yield "### Scorecard"
    yield _table(
        columns, ruler, rows, partial(_number_cells, paired=paired), NUMBERS, "scorecard.json"
    )
    others = len(scorecard.estimates) - sum(
        (row.candidate is not None) + (row.baseline is not None) for row in rows
    )
    if others:
        yield f"{others:,} more estimates, of slices, groups and weights, are in the report."


def _number_cells(row: EstimateRow, *, paired: bool) -> list[str]:
    shown, held = row.told, row.comparison
    cells = [markdown_code(row.name, SENTENCE), _value(row.candidate)]
    if paired:
        compared = held is not None and held.status == "compared"
        difference: str = held.status if held else "–"
        if held is not None and compared:
            difference = f"{signed(held.difference)} {span(held.interval) or '(no interval)'}"
            difference += f" {row.direction}" if row.direction else ""
        cells += [_value(row.baseline), difference]
    lost = missing_samples(shown.counts)
    rests = shown.counts.scored if shown.n is None else shown.n
    return [*cells, f"{rests:,}{f' ({lost})' if lost else ''}"]


def _value(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    return f"{number(estimate.value)} {span(estimate.interval) or '(no interval)'}"


def _lost(scorecard: Scorecard) -> Iterator[str]:
    for tally in scorecard.tasks:
        whose = f"{markdown_code(tally.task, SENTENCE)} of the {tally.model}"
        short_of = "" if tally.complete else ", fewer scored than the task needs"
        for reason, count in tally.failures.items():
            told = markdown(reason, SENTENCE)
            yield f"{whose}: {count:,} of {tally.planned:,} samples failed: {told}{short_of}"
        for metric, reasons in tally.unscored.items():
            for reason, count in reasons.items():
                told = markdown(reason, SENTENCE)
                name = markdown_code(metric, SENTENCE)
                yield f"{whose}, {name}: {count:,} of {tally.planned:,} without a score: {told}"
    if scorecard.unread:
        yield f"{len(scorecard.unread):,} stored tensors were not measured; the report says why"


def _notes(scorecard: Scorecard, verdict: Verdict | None) -> Iterator[str]:
    for note in verdict.notes if verdict else ():
        yield _sentence(note)
    for note in run_notes(scorecard):
        yield _sentence(note)
    warned: dict[str, list[str]] = {}
    numbers: list[Estimate | Comparison] = [*scorecard.estimates, *scorecard.comparisons]
    for each in numbers:
        for warning in each.warnings if each.slice is None else ():
            warned.setdefault(warning, []).append(each.name)
    for warning, names in warned.items():
        unique = list(dict.fromkeys(names))
        more = f" and {len(unique) - 3:,} more" if len(unique) > 3 else ""
        shown = ", ".join(markdown_code(name, SENTENCE) for name in unique[:3])
        yield f"{shown}{more}: {_sentence(warning)}"
    for finding in scorecard.findings:
        name = markdown_code(f"{finding.task}/{finding.check}", SENTENCE)
        yield f"{name} ({finding.model}): {_sentence(finding.message)}"


def _foot(scorecard: Scorecard, report: str) -> Iterator[str]:
    held = scorecard.provenance
    when = scorecard.circumstances
    yield f"The whole report: {markdown_code(report, SENTENCE)}"
    models = ", ".join(f"{role} {short(model.digest)}" for role, model in held.models.items())
    told = [
        f"scorecard {short(scorecard.digest)}",
        f"suite {short(held.suite_digest)}",
        models,
        f"seed {held.seed}",
        f"evalkit {markdown(held.versions.get('evalkit', '?'), SENTENCE)}",
        f"finished {markdown(when.finished, SENTENCE)}",
        f"commit {markdown_code(when.git_commit, SENTENCE)}" if when.git_commit else "",
    ]
    yield f"<sub>{'; '.join(filter(None, told))}</sub>"
    if command := command_line(scorecard):
        yield "To run it again:"
        yield markdown_block(command.replace("\n", "⏎ "), "sh", COMMAND)


def _table(
    columns: Sequence[str],
    ruler: str,
    rows: Sequence[T],
    cells: Callable[[T], Sequence[str]],
    room: int,
    where: str,
) -> str:
    """Return a table of as many rows as there is room for, and below it how many are left out."""
    head = [f"| {' | '.join(columns)} |", f"|{ruler}|"]
    kept, left = _within(rows, lambda row: f"| {' | '.join(cells(row))} |", room)
    table = "\n".join([*head, *kept])
    return table if not left else f"{table}\n\n{left:,} more rows; {where} has each."


def _list(
    title: str, items: Sequence[str], room: int, *, folded_from: int = sys.maxsize
) -> Iterator[str]:
    """Yield a heading and a list of as many items as there is room for; nothing for none."""
    if not items:
        return
    kept, left = _within(items, lambda item: f"- {item}", room)
    more = [f"- {left:,} more; scorecard.json has each."] if left else []
    told = "\n".join([*kept, *more])
    yield f"### {title}"
    if len(items) >= folded_from:
        told = f"<details>\n<summary>{len(items):,} notes</summary>\n\n{told}\n\n</details>"
    yield told


def _within(items: Sequence[T], line: Callable[[T], str], room: int) -> tuple[list[str], int]:
    """Return the first items' lines that have room together, and how many items have none."""
    kept: list[str] = []
    for item in items:
        made = line(item)
        room -= len(made.encode()) + 1
        if room < 0:
            break
        kept.append(made)
    return kept, len(items) - len(kept)


def _sentence(text: str, longest: int = SENTENCE) -> str:
    shown = markdown(text, longest)
    return shown if shown.endswith((".", "!", "?")) else f"{shown}."
