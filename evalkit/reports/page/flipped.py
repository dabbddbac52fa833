"""Who changed sides in a run: the ledgers that its page shows, one for each task.

A task's ledger is that of its first rate; where it has none, of its first mean, whose samples do not flip but move.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from evalkit.estimating import full_name
from evalkit.flips import FlipLedger, flip_ledger
from evalkit.metrics.base import Measure
from evalkit.records.scorecard import Comparison
from evalkit.reports.reported import FinishedRun
from evalkit.scoring import MetricTable

MOST_SHOWN: Final = 160
"""Samples that a page shows with their answers, of all tasks and both directions."""
MOST_EACH: Final = 10
"""Samples of one task and direction."""


def run_ledgers(run: FinishedRun) -> list[FlipLedger]:
    """Return one ledger for each task whose candidate was compared with the baseline sample by sample.

    Raises UsageError where the samples were changed after the run.
    """
    comparisons = run.scorecard.comparisons
    whole = {(held.task, held.metric): held for held in comparisons if held.slice is None}
    tables = run.all_tables()
    theirs = {(table.task, table.metric): table for table in tables.get("baseline", ())}
    asked = list(_measures(tables.get("candidate", ()), whole))
    most = max(1, min(MOST_EACH, MOST_SHOWN // (2 * len(asked) or 1)))
    return [
        flip_ledger(
            table,
            theirs[table.task, table.metric],
            measure,
            comparisons,
            level=0.95 if run.suite is None else run.suite.confidence,
            most=most,
        )
        for table, measure in asked
        if (table.task, table.metric) in theirs
    ]


def _measures(
    tables: Iterable[MetricTable],
    whole: Mapping[tuple[str, str], Comparison],
) -> Iterator[tuple[MetricTable, Measure]]:
    """Yield each task's first rate that was compared, else its first mean."""
    found: dict[str, tuple[MetricTable, Measure]] = {}
    for table in tables:
        for measure in table.measures:
            held = whole.get((table.task, full_name(table.metric, measure.name)))
            if measure.kind == "corpus" or held is None or held.status != "compared":
                continue
            before = found.get(table.task)
            if before is None or (before[1].kind != "rate" and measure.kind == "rate"):
                found[table.task] = table, measure
    yield from found.values()
