"""``evalkit compare``: two finished runs side by side, with every sample that changed sides."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evalkit.cli.options import json_file, option, out_folder

if TYPE_CHECKING:
    from evalkit.cli.past_runs import PastRun
    from evalkit.flips import FlipLedger
    from evalkit.metrics.base import Measure
    from evalkit.records.exchange import Role
    from evalkit.records.scorecard import Comparison, Estimate
    from evalkit.reports.compared_runs import ComparedRuns
    from evalkit.scoring import MetricTable


@click.command("compare")
@click.argument("old")
@click.argument("new", required=False)
@option(
    "--metric",
    "metric",
    multiple=True,
    metavar="TASK/METRIC",
    help="Show this number alone, and which samples changed under it. May be given again.  [default: every number; "
    "the samples of each task's first rate]",
)
@option(
    "--flips",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="How many samples to show of those that got worse, and of those that got better.",
)
@option(
    "--slice",
    "field",
    envvar="EVALKIT_SLICE",
    metavar="FIELD",
    help="Group the samples by this slice field, so many of each value.",
)
@option(
    "--threshold",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="For means: a sample whose score moved by no more than this did not change.",
)
@json_file(
    "Write everything, every slice and the whole of both answers included, to this file too."
)
@out_folder("Where runs and aliases lie.")
def command(
    old: str,
    new: str | None,
    metric: tuple[str, ...],
    flips: int,
    field: str | None,
    threshold: float,
    json_file: Path | None,
    out: Path,
) -> int:
    """Compare the candidate of run NEW with the candidate of run OLD, sample by sample.

    \b
    evalkit compare production reports/orders-3f9a1c2b0d11
    evalkit compare orders-3f9a1c2b0d11                     its candidate with its own baseline
    evalkit compare OLD NEW --metric extract/exact_match --flips 20 --slice region

    A run is a folder, its scorecard.json or an alias (see 'evalkit promote'). OLD is the baseline, NEW the candidate.
    Printed are who they are and what differs behind the numbers (suite, data, model bytes, engine, versions); every
    estimate with its interval; every difference, paired by sample id, with interval and p-value; then the flips: how
    many samples got worse and better, in which slices, and what both models answered. Numbers measured differently
    are not compared, and the reason is told. Corpus measures such as BLEU have no flips: a sample alone has none.

    Exits with 0 whatever was found (gates decide, not this command); 2 when there is nothing to compare.
    """
    from evalkit.cli.past_runs import open_run
    from evalkit.cli.terminal import console
    from evalkit.reports.comparison import comparison_drawing
    from evalkit.store.durable import write_bytes

    metric = tuple(name.partition("@")[0] for name in metric)  # a gap is shown as metric@field
    first = open_run(old, out)
    if new is None:
        baseline, candidate = _Side(first, "baseline"), _Side(first, "candidate")
    else:
        baseline, candidate = _Side(first, "candidate"), _Side(open_run(new, out), "candidate")
    compared = _compared(baseline, candidate, _Wishes(metric, flips, field, threshold))
    screen = console()
    screen.print(comparison_drawing(compared, screen.width), highlight=False)
    for hint in _hints(candidate.tables, metric):
        screen.print(f"\n{hint}", style="dim", markup=False, highlight=False)
    if json_file is not None:
        write_bytes(json_file, compared.model_dump_json(indent=2).encode() + b"\n")
        screen.print(f"everything: {json_file}", soft_wrap=True, markup=False, highlight=False)
    return 0


@dataclass(frozen=True)
class _Side:
    """One model of one run."""

    run: PastRun
    role: Role

    @property
    def tables(self) -> list[MetricTable]:
        """Its statistics; none where the run has no such model."""
        return list(self.run.all_tables().get(self.role, ()))

    def weights_as(self, role: Role) -> list[Estimate]:
        """Return what its weights told, under the role it has in the comparison."""
        return [estimate for estimate in self.estimates_as(role) if estimate.kind == "census"]

    def estimates_as(self, role: Role) -> Iterator[Estimate]:
        """Yield its estimates under the role it has in the comparison."""
        for estimate in self.run.scorecard.estimates:
            if estimate.model == self.role:
                yield estimate.model_copy(update={"model": role})


@dataclass(frozen=True)
class _Wishes:
    """What the command line asks for."""

    metrics: tuple[str, ...]
    flips: int
    field: str | None
    threshold: float

    def hold(self, item: Estimate | Comparison) -> bool:
        """Whether a number is to be shown."""
        return not self.metrics or f"{item.task}/{item.metric}" in self.metrics


def _compared(baseline: _Side, candidate: _Side, wishes: _Wishes) -> ComparedRuns:
    """Return both sides with what differs, numbers and flips. Raises UsageError on wishes that cannot be fulfilled."""
    from evalkit.cli.scorecards import comparable
    from evalkit.compare import compare_tables
    from evalkit.fairness import compare_gaps, gap_metrics
    from evalkit.flips import measure_name
    from evalkit.reports.compared_runs import ComparedRuns, differences, side
    from evalkit.spectral.compare import compare_weights

    theirs, ours = baseline.tables, candidate.tables
    weights, their_weights = candidate.weights_as("candidate"), baseline.weights_as("baseline")
    _need_common_task(baseline, candidate)
    known = [measure_name(t, m) for t in ours for m in t.measures]
    known += dict.fromkeys(f"{held.task}/{held.metric}" for held in weights)
    known += dict.fromkeys(name for table in ours for name in gap_metrics(table))
    _need_known("--metric", wishes.metrics, known)
    _need_known("--slice", filter(None, [wishes.field]), {f for t in ours for f in t.attributes})
    suite = candidate.run.suite
    assert suite is not None, "a run with tables has its suite"
    asked = [
        t
        for t in ours
        if not wishes.metrics
        or {*(measure_name(t, m) for m in t.measures), *gap_metrics(t)} & {*wishes.metrics}
    ]
    paired: dict[Role, list[MetricTable]] = {"candidate": asked, "baseline": theirs}
    if baseline.run is candidate.run:
        paired = comparable(paired, suite)
    comparisons = [
        *compare_weights(
            list(filter(wishes.hold, weights)) if their_weights else [], their_weights
        ),
        *compare_tables(paired, suite.seed, suite.confidence),
        *compare_gaps(paired, suite.seed, suite.confidence),
    ]
    estimates = [*baseline.estimates_as("baseline"), *candidate.estimates_as("candidate")]
    old, new = baseline.run.scorecard, candidate.run.scorecard
    return ComparedRuns(
        baseline=side(str(baseline.run.path), baseline.role, old),
        candidate=side(str(candidate.run.path), candidate.role, new),
        differs=differences(old, baseline.role, new, candidate.role),
        estimates=tuple(filter(wishes.hold, estimates)),
        comparisons=tuple(filter(wishes.hold, comparisons)),
        ledgers=_ledgers(baseline, candidate, comparisons, wishes, suite.confidence),
    )


def _need_common_task(baseline: _Side, candidate: _Side) -> None:
    from evalkit.errors import UsageError

    theirs, ours = (
        dict.fromkeys(
            [*(t.task for t in side.tables), *(e.task for e in side.weights_as(side.role))]
        )
        for side in (baseline, candidate)
    )
    if not theirs and baseline.run is candidate.run:
        raise UsageError(
            f"{baseline.run.path} has no baseline of its own: give a second run to compare it with"
        )
    if not theirs.keys() & ours.keys():
        raise UsageError(
            f"nothing to compare, the runs have no task in common: {baseline.run.path} measured "
            f"{', '.join(theirs) or 'nothing'}; {candidate.run.path} measured {', '.join(ours) or 'nothing'}"
        )


def _need_known(flag: str, asked: Iterable[str], known: Collection[str]) -> None:
    from evalkit.errors import UsageError
    from evalkit.registry import nearest

    for name in asked:
        if name not in known:
            close = nearest(name, known)
            among = f"known: {', '.join(sorted(known)) or 'none'}"
            hint = f"did you mean {close!r}?" if close else among
            raise UsageError(f"{flag} {name!r}: the runs have none of this name; {hint}")


def _ledgers(
    baseline: _Side,
    candidate: _Side,
    comparisons: Sequence[Comparison],
    wishes: _Wishes,
    level: float,
) -> tuple[FlipLedger, ...]:
    """Return the ledgers asked for, with the answers to the samples that they show."""
    from evalkit.flips import (
        find_rows,
        flip_ledger,
        same_definition,
        shown_samples,
        with_answers,
    )

    held = {(table.task, table.metric): table for table in baseline.tables}
    ledgers = [
        flip_ledger(
            table,
            held[table.task, table.metric],
            measure,
            comparisons,
            level=level,
            threshold=wishes.threshold,
            most=wishes.flips,
            field=wishes.field if wishes.field in table.attributes else None,
        )
        for table, measure in _measures(candidate.tables, wishes.metrics)
        if (table.task, table.metric) in held
        and same_definition(table, held[table.task, table.metric])
    ]
    places = shown_samples(ledgers)
    if baseline.run is candidate.run:
        rows = find_rows(candidate.run.rows(), (baseline.role, candidate.role), places)
        theirs, ours = rows[baseline.role], rows[candidate.role]
    else:
        theirs, ours = (
            find_rows(side.run.rows(), [side.role], places)[side.role]
            for side in (baseline, candidate)
        )
    return tuple(with_answers(ledger, ours, theirs) for ledger in ledgers)


def _measures(
    tables: Sequence[MetricTable], metrics: Collection[str]
) -> Iterator[tuple[MetricTable, Measure]]:
    """Yield the measures whose samples are shown: those asked for, else the first rate of each task."""
    from evalkit.flips import measure_name

    seen = set()
    for table in tables:
        for measure in table.measures:
            if metrics and measure.kind != "corpus" and measure_name(table, measure) in metrics:
                yield table, measure
            elif not metrics and measure.kind == "rate" and table.task not in seen:
                seen.add(table.task)
                yield table, measure


def _hints(tables: Sequence[MetricTable], metrics: Collection[str]) -> Iterator[str]:
    """Yield why samples are not shown: nothing was asked for and the task has no rate, or it was a corpus measure."""
    from evalkit.flips import measure_name

    told = {table.task for table in tables for m in table.measures if m.kind == "rate"}
    for table in tables:
        for measure in table.measures:
            name = measure_name(table, measure)
            if name in metrics and measure.kind == "corpus":
                yield f"{name} is a number of all samples together: a sample alone has none that could change"
            if not metrics and measure.kind == "mean" and table.task not in told:
                told.add(table.task)
                yield f"{table.task} has no rate; --metric {name} shows whose score changed"
