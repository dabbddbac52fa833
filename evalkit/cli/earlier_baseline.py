"""A baseline that is an earlier run: its candidate's rows, statistics, weights and tallies, as this run's baseline's.

Nothing is asked for it, and its rows are copied, so that the new run's folder stands alone: what it was compared with
can be read and computed again when the earlier run has gone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from evalkit.cli.past_runs import PastRun, open_baseline
from evalkit.errors import UsageError
from evalkit.records.scorecard import Estimate, Finding, ModelRecord, TaskTally, Unread
from evalkit.records.suite import SuiteSpec
from evalkit.scoring import MetricTable, retallied

if TYPE_CHECKING:
    from evalkit.second_pass import Answered

OfModel = TypeVar("OfModel", Estimate, Finding, TaskTally, Unread)
"""What a scorecard says of one model and task."""


@dataclass(frozen=True)
class EarlierBaseline:
    """An earlier run under the name that the user gave."""

    name: str
    """Alias or folder, as it was written."""
    run: PastRun
    """The run; its candidate is the baseline."""
    tasks: Collection[str]
    """The tasks of the new run; what the earlier run has beside them is left out."""

    @property
    def digest(self) -> str:
        """What the baseline's numbers come from: the digest of the earlier scorecard."""
        return self.run.scorecard.digest

    @property
    def suite(self) -> SuiteSpec:
        """What the earlier run measured."""
        assert self.run.suite is not None, "a run with samples has its suite"
        return self.run.suite

    @property
    def model(self) -> ModelRecord:
        """The model as it was measured then."""
        return self.run.scorecard.provenance.models["candidate"]

    @property
    def engine(self) -> dict[str, Any]:
        """What its engine reported then."""
        return dict(self.run.scorecard.circumstances.engine.get("candidate", {}))

    def tables(self) -> list[MetricTable]:
        """Return the statistics, without those that rest on what judges said then: they are asked again, about both.

        Raises UsageError where the run's samples are absent or were changed.
        """
        return [table for table in self._tables() if not table.judges]

    def _tables(self) -> list[MetricTable]:
        held = self.run.tables().get("candidate", [])
        return [table for table in held if table.task in self.tasks]

    def measured(self, task: str) -> Answered | None:
        """Return one of its tasks for judges to be asked about, yet without their metrics; None where it has none."""
        from evalkit.second_pass import Answered

        of_task = [table for table in self._tables() if table.task == task]
        spec = next((each for each in self.suite.sampled if each.name == task), None)
        if not of_task or spec is None:
            return None
        first = of_task[0]
        signature = first.signature.rpartition("|")[2]  # the task's own, behind the metric's
        return Answered("baseline", spec, (), first.dataset, signature, first.anytime)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of ``samples.jsonl`` as the baseline's."""
        for row in self.run.rows():
            if row["model"] == "candidate" and row["task"] in self.tasks:
                yield {**row, "model": "baseline"}

    def tallies(self) -> list[TaskTally]:
        """Return what happened when it was measured, as the baseline's."""
        return [self._unjudged(tally) for tally in self._lent(self.run.scorecard.tasks)]

    def _unjudged(self, tally: TaskTally) -> TaskTally:
        """Return a tally without what judges left ungraded then."""
        left_out = {t.metric for t in self._tables() if t.judges and t.task == tally.task}
        if not left_out:
            return tally
        coverage = next(t.min_coverage for t in self.suite.sampled if t.name == tally.task)
        kept = {name: why for name, why in tally.unscored.items() if name not in left_out}
        return retallied(tally, kept, coverage)

    def weights_rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of ``weights.jsonl`` as the baseline's. Raises UsageError where they were changed."""
        for row in self.run.weights_rows():
            if row["model"] == "candidate" and row["task"] in self.tasks:
                yield {**row, "model": "baseline"}

    def weighed(self) -> tuple[list[Estimate], list[Finding], list[Unread]]:
        """Return what reading its weights gave, as the baseline's: numbers, findings, what was not measured."""
        held = self.run.scorecard
        census = [estimate for estimate in held.estimates if estimate.kind == "census"]
        return self._lent(census), self._lent(held.findings), self._lent(held.unread)

    def _lent(self, records: Iterable[OfModel]) -> list[OfModel]:
        return [
            record.model_copy(update={"model": "baseline"})
            for record in records
            if record.model == "candidate" and record.task in self.tasks
        ]


def earlier_baseline(
    name: str, out: Path, beside: Path, suite: SuiteSpec
) -> EarlierBaseline | None:
    """Return the earlier run that a baseline's name means; None where it means a model.

    Raises UsageError where the run cannot be read, or has none of the suite's tasks.
    """
    run = open_baseline(name, out, beside)
    if run is None:
        return None
    tasks = {task.name for task in suite.tasks}
    measured = {tally.task for tally in run.scorecard.tasks if tally.model == "candidate"}
    if not tasks & measured:
        raise UsageError(
            f"baseline {name!r}: the run {run.path} has none of this suite's tasks; "
            f"it has {', '.join(sorted(measured)) or 'no task at all'}"
        )
    return EarlierBaseline(name, run, tasks)
