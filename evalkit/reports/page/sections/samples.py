"""Samples: what failed and why, what became of the others, and their texts to search through.

A page holds the texts of thousands of samples, not of all: what is not embedded is counted, task by task, and lies in
the run's ``samples.jsonl``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from evalkit.records.exchange import Role
from evalkit.records.scorecard import TaskTally
from evalkit.reports.clean import cut, printable
from evalkit.reports.page.embedded_samples import EmbeddedSamples, Reason, embedded_samples
from evalkit.reports.page.sample_states import (
    FAILED,
    MEASURED,
    PARTLY,
    RIGHT,
    UNSCORED,
    WRONG,
    TaskStates,
)
from evalkit.reports.page.sample_texts import ROLES
from evalkit.reports.page.section import Section, fragment
from evalkit.reports.reported import FinishedRun

MOST_ROWS: Final = 500
"""Rows of a table."""
INDEX: Final = "samples-index"
"""Element with what the script needs beside the texts."""
PACKED: Final = "samples-packed"
"""Element with the texts."""


def section(run: FinishedRun) -> Section | None:
    """Return what became of the samples; None where the run asked nothing."""
    tallies = [tally for tally in run.scorecard.tasks if tally.planned]
    if not tallies:
        return None
    held = embedded_samples(run) if run.has_samples else None
    reasons = list(_lost(tallies, held.examples if held else {}))
    failed = sum(sum(tally.failures.values()) for tally in tallies)
    standing = _standing(held) if held else [_tally(tally) for tally in tallies]
    body = fragment(
        "samples.html",
        reasons=reasons[:MOST_ROWS],
        more_reasons=max(0, len(reasons) - MOST_ROWS),
        standing=standing[:MOST_ROWS],
        more_standing=max(0, len(standing) - MOST_ROWS),
        browsable=held is not None,
        embedded=len(held.packed.places) if held else 0,
        planned=held.planned if held else 0,
        tasks=[(n, printable(task.task)) for n, task in enumerate(held.tasks)] if held else [],
        both=any("baseline" in task.states for task in held.tasks) if held else False,
    )
    return Section(
        id="samples",
        title="Samples",
        body=body,
        told="What failed or could not be graded and why, and the samples themselves.",
        count=f"{failed:,} failed" if failed else "",
        data={INDEX: held.index, PACKED: held.packed.text} if held else {},
        script="samples.js" if held else "",
        style="samples.css",
    )


def _lost(
    tallies: Sequence[TaskTally], examples: Mapping[Reason, Sequence[str]]
) -> Iterator[dict[str, Any]]:
    """Yield why samples have no score, those of the candidate first, the most frequent reason of each task first."""
    for tally in sorted(tallies, key=lambda tally: ROLES.index(tally.model)):
        found = [("", reason, count) for reason, count in tally.failures.items()]
        for metric, reasons in tally.unscored.items():
            found += [(metric, reason, count) for reason, count in reasons.items()]
        for metric, reason, count in sorted(found, key=lambda each: -each[2]):
            ids = examples.get((tally.model, tally.task, metric, reason), ())
            yield {
                "model": tally.model,
                "task": printable(tally.task),
                "metric": printable(metric),
                "reason": printable(cut(reason, 200)),
                "count": count,
                "planned": tally.planned,
                "examples": [printable(cut(name, 60)) for name in ids],
            }


def _tally(tally: TaskTally) -> dict[str, Any]:
    return {
        "model": tally.model,
        "task": printable(tally.task),
        "planned": tally.planned,
        "failed": sum(tally.failures.values()),
        "unscored": max((sum(each.values()) for each in tally.unscored.values()), default=0),
    }


def _standing(held: EmbeddedSamples) -> list[dict[str, Any]]:
    """Return one row for each task and model: how many samples are in each state, and how many are embedded."""
    shown = Counter(task for task, _ in held.packed.places)
    return [
        _row(task, role, shown[task.task])
        for task in held.tasks
        for role in ROLES
        if role in task.states
    ]


def _row(task: TaskStates, role: Role, embedded: int) -> dict[str, Any]:
    states = {
        name: task.count(role, bit)
        for name, bit in {
            "right": RIGHT,
            "wrong": WRONG,
            "partly": PARTLY,
            "measured": MEASURED,
            "failed": FAILED,
            "unscored": UNSCORED,
        }.items()
    }
    candidate = role == "candidate"
    return {
        "task": printable(task.task),
        "model": role,
        "by": printable(task.by),
        "planned": int((task.states[role] > 0).sum()),
        "embedded": embedded,
        "worse": int((task.change_N < 0).sum()) if candidate else None,
        "better": int((task.change_N > 0).sum()) if candidate else None,
        **states,
    }
