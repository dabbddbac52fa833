"""Every number of a suite, run by run: which points may be joined by a line, and which runs were promoted.

Two runs' numbers are joined only where they were measured alike: the same signature on data of the same bytes. Where
one of them changed, or a run between them has no such number, the line is broken and the point behind the break says
why. Nothing is drawn across what was not measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

from evalkit.records.scorecard import Estimate, Scorecard
from evalkit.records.verdict import Verdict, VerdictStatus


class Promoted(Protocol):
    """One run named as a baseline, as the history of aliases has it."""

    @property
    def time(self) -> str:
        """When: UTC, ISO 8601."""

    @property
    def alias(self) -> str:
        """The name it was given."""

    @property
    def run(self) -> str:
        """The run's folder, relative to the folder of runs."""

    @property
    def scorecard(self) -> str:
        """Digest of the run's scorecard."""

    @property
    def status(self) -> VerdictStatus | None:
        """What its gates had answered."""

    @property
    def anyway(self) -> bool:
        """Whether it had not passed."""

    @property
    def by(self) -> str:
        """Who promoted it."""

    @property
    def note(self) -> str:
        """Why."""


@dataclass(frozen=True, slots=True)
class SiteRun:
    """What a site tells of one run."""

    name: str
    """Its folder's name."""
    scorecard: Scorecard
    """Its numbers."""
    verdict: Verdict | None
    """What the gates answered; None where nothing was decided."""
    report: str = ""
    """Where its own page lies, relative to the site; empty where it has none."""
    aliases: tuple[str, ...] = ()
    """The aliases that mean it now."""
    promoted: tuple[str, ...] = ()
    """Every alias it was ever given, each once."""

    @property
    def suite(self) -> str:
        """The suite's name."""
        return self.scorecard.provenance.suite

    @property
    def finished(self) -> str:
        """When it ended: UTC, ISO 8601."""
        return self.scorecard.circumstances.finished


@dataclass(frozen=True, slots=True)
class UnreadRun:
    """A run that could not be read."""

    name: str
    """Where it lies."""
    reason: str
    """Why."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One run's number."""

    number: int
    """Place of the run among the suite's, from 1."""
    run: SiteRun
    """The run."""
    estimate: Estimate
    """The candidate's number."""
    part: int
    """Points of one part were measured alike and are joined."""
    broken: str
    """Why it is not joined with the number before it; empty where it is, and for the first."""


@dataclass(frozen=True, slots=True)
class Series:
    """One number over a suite's runs, oldest first."""

    name: str
    """``task/metric``."""
    points: tuple[Measured, ...]
    """The runs that have it; at least one."""

    @property
    def newest(self) -> Estimate:
        """The last run's number."""
        return self.points[-1].estimate


def ordered(runs: Iterable[SiteRun]) -> list[SiteRun]:
    """Return runs by the time at which they ended, then by name."""
    return sorted(runs, key=lambda run: (run.finished, run.name))


def with_aliases(runs: Sequence[SiteRun], promotions: Sequence[Promoted]) -> list[SiteRun]:
    """Return the runs with the aliases that they carry now and ever carried; ``promotions`` are oldest first."""
    now = {promotion.alias: promotion for promotion in promotions}
    made = []
    for run in runs:
        ever = dict.fromkeys(p.alias for p in promotions if promoted_run(p, runs) is run)
        held = [alias for alias, last in sorted(now.items()) if promoted_run(last, runs) is run]
        made.append(
            SiteRun(run.name, run.scorecard, run.verdict, run.report, tuple(held), tuple(ever))
        )
    return made


def promoted_run(promotion: Promoted, runs: Sequence[SiteRun]) -> SiteRun | None:
    """Return the run that was promoted: by its scorecard, and by its folder where several have the same numbers."""
    alike = [run for run in runs if run.scorecard.digest == promotion.scorecard]
    name = PurePosixPath(promotion.run).name
    return next((run for run in alike if run.name == name), alike[0] if alike else None)


def histories(runs: Sequence[SiteRun]) -> list[Series]:
    """Return every number of all samples of a suite's runs, which are in their order, task by task.

    Tasks and metrics stand in the order of the newest run; what it has not follows.
    """
    numbers = [_numbers(run) for run in runs]
    names = dict.fromkeys(name for held in reversed(numbers) for name in held)
    return [Series(name, tuple(_points(name, runs, numbers))) for name in names]


def _numbers(run: SiteRun) -> dict[str, Estimate]:
    return {
        estimate.name: estimate
        for estimate in run.scorecard.estimates
        if estimate.model == "candidate" and estimate.slice is None
    }


def _points(
    name: str, runs: Sequence[SiteRun], numbers: Sequence[Mapping[str, Estimate]]
) -> Iterator[Measured]:
    part, before, absent = 0, None, 0
    for place, (run, held) in enumerate(zip(runs, numbers, strict=True), start=1):
        estimate = held.get(name)
        if estimate is None or estimate.value is None:
            absent += 1
            if estimate is not None:  # its row says that nothing could be scored
                yield Measured(place, run, estimate, part, "nothing could be scored")
            continue
        broken = "" if before is None else _why_broken(before, (run, estimate), absent)
        part += bool(broken)
        yield Measured(place, run, estimate, part, broken)
        before, absent = (run, estimate), 0


def _why_broken(
    before: tuple[SiteRun, Estimate], now: tuple[SiteRun, Estimate], absent: int
) -> str:
    reasons = []
    if before[1].signature != now[1].signature:
        reasons.append("it was measured in another way (another signature)")
    if _dataset(*before) != _dataset(*now):
        reasons.append("the data changed")
    if absent:
        reasons.append(f"{absent:,} {'run' if absent == 1 else 'runs'} before it lack this number")
    return "; ".join(reasons)


def _dataset(run: SiteRun, estimate: Estimate) -> str:
    return run.scorecard.provenance.datasets.get(estimate.task, "")
