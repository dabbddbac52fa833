r"""The verdict and every number as JSON Lines, for log pipelines: each line stands alone.

The first line is the verdict, then come the outcomes, the estimates and the comparisons in their own order. Every line
begins with the same keys:

==================  =====================================================================
``record``          ``verdict``, ``outcome``, ``estimate`` or ``comparison``
``format``          1: version of this format
``scorecard``       digest of the scorecard that the line is about
``suite``           the suite's name
``suite_version``   the suite's version
``candidate_name``  the candidate as the user named it
``finished``        when the run ended: UTC, ISO 8601
==================  =====================================================================

Behind them stand the fields of the record as in ``verdict.json`` and ``scorecard.json``; an outcome, an estimate and a
comparison also have ``name``, the ``task/metric[@slice]`` that rules write. A run on which no gate has decided has a
verdict whose ``status`` and ``exit_code`` are null.

Everything is ASCII: whatever a text holds, a line is one line, and no terminal that shows it is moved.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from evalkit.records.scorecard import Scorecard
from evalkit.records.verdict import Verdict
from evalkit.registry import register
from evalkit.reports.reported import FinishedRun

Line = dict[str, Any]


@register(
    "reporter",
    "jsonl",
    summary="JSON Lines for log pipelines: the verdict, every outcome, estimate and comparison.",
    example="evalkit report RUN --format jsonl",
)
class JsonLines:
    """The reporter "jsonl"."""

    file = "outcomes.jsonl"

    def render(self, run: FinishedRun) -> str:
        """Return the lines, each ended by a line feed."""
        lines = outcome_lines(run.scorecard, run.verdict)
        return "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)


def outcome_lines(scorecard: Scorecard, verdict: Verdict | None) -> Iterator[Line]:
    """Yield the lines as values."""
    held = scorecard.provenance
    shared = {
        "format": 1,
        "scorecard": scorecard.digest,
        "suite": held.suite,
        "suite_version": held.suite_version,
        "candidate_name": scorecard.circumstances.names.get("candidate", ""),
        "finished": scorecard.circumstances.finished,
    }
    yield {"record": "verdict"} | shared | _verdict(verdict)
    for outcome in verdict.outcomes if verdict else ():
        told = outcome.model_dump(mode="json")
        yield {"record": "outcome"} | shared | {"name": outcome.estimate} | told
    for estimate in scorecard.estimates:
        told = estimate.model_dump(mode="json")
        yield {"record": "estimate"} | shared | {"name": estimate.name} | told
    for comparison in scorecard.comparisons:
        told = comparison.model_dump(mode="json")
        yield {"record": "comparison"} | shared | {"name": comparison.name} | told


def _verdict(verdict: Verdict | None) -> Line:
    if verdict is None:
        return {"status": None, "exit_code": None, "reason": "no gate has decided on this run"}
    return verdict.model_dump(mode="json", exclude={"outcomes", "format", "scorecard"})
