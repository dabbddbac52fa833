"""What a report may tell, and what a reporter is.

A reporter turns a finished run into one text: a page, an XML file, a summary. It asks for no more of the run than it
shows: samples are read only by who tells of samples. Reporters are registered in the group "reporter", built-ins too::

    @register("reporter", "one-line", summary="The verdict alone.", example="--format one-line")
    class OneLine:
        file = "verdict.txt"

        def render(self, run):
            return "undecided" if run.verdict is None else run.verdict.reason
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from evalkit.records.exchange import Role
from evalkit.records.review import RatedAnswer
from evalkit.records.scorecard import Scorecard
from evalkit.records.suite import SuiteSpec
from evalkit.records.verdict import Verdict
from evalkit.scoring import MetricTable


class FinishedRun(Protocol):
    """A finished run. What its folder holds is read when it is asked for.

    Reading raises UsageError where a file is absent or was changed after the run.
    """

    path: Path
    """Its folder: for telling where things lie, not for reading."""
    scorecard: Scorecard
    """Every number."""

    @property
    def suite(self) -> SuiteSpec | None:
        """What was measured; None where the run did not keep it."""

    @property
    def verdict(self) -> Verdict | None:
        """What the gates answered; None where nothing was decided."""

    @property
    def has_samples(self) -> bool:
        """Whether the samples are there."""

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of ``samples.jsonl``, model by model in the order in which they were scored."""

    def weights_rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of ``weights.jsonl``; none where no task read weights."""

    def judgement_rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of ``judgements.jsonl``; none where nothing was judged."""

    def rated(self) -> Sequence[RatedAnswer]:
        """Return every drawn answer with people's ratings; none where nobody rated any."""

    def all_tables(self) -> Mapping[Role, list[MetricTable]]:
        """Return the statistics of every sample, those of people's ratings behind the others."""

    def plots(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the plots in the run's folder by name, as Vega-Lite; none where nothing was drawn."""


class Reporter(Protocol):
    """Turns a finished run into one text."""

    file: ClassVar[str]
    """Name of the file in the run's folder."""

    def render(self, run: FinishedRun) -> str:
        """Return the report. What a model wrote in it is harmless wherever the file is opened."""
