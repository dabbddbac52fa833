"""What became of every sample: right, wrong, failed, unscored, flipped; and which of them a page should hold first.

A page of bounded size cannot hold every text. What a reader looks for comes first: samples that got worse, that failed,
that could not be graded, that are wrong, that got better, then all others. Of each task and class the first few come
before all the rest, so that no class hides another; within one, samples follow the golden ratio's sequence, so that
wherever a page ends its samples are spread evenly over the data set.

**Source**: the golden ratio's sequence {k φ} as one of low discrepancy: Kuipers & Niederreiter 1974, Uniform
Distribution of Sequences, chapter 2, section 3.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from evalkit.flips import measure_name, same_definition
from evalkit.flips.answers import Place
from evalkit.metrics.base import Array, Measure
from evalkit.records.exchange import Role
from evalkit.reports.reported import FinishedRun
from evalkit.scoring import MetricTable

RIGHT, WRONG, PARTLY, MEASURED, FAILED, UNSCORED = (1 << bit for bit in range(6))
"""What became of one sample on one model, as bits: a sample may be right by one metric and ungraded by another. None of
them: the model was not asked."""
STATES: Final = ("right", "wrong", "partly", "measured", "failed", "unscored")
"""The bits' names, lowest first."""
CLASSES: Final = ("worse", "failed", "unscored", "wrong", "better", "other")
"""Why a sample is shown, what is shown first in front."""
FIRST: Final = 20
"""Samples of each task and class that come before all the rest."""
_GOLDEN: Final = (5**0.5 - 1) / 2

Bits = NDArray[np.uint8]
Ranked = tuple[MetricTable, Measure]
"""A table and the one of its measures that says right and wrong."""


@dataclass(frozen=True)
class TaskStates:
    """What became of the N samples of one task."""

    task: str
    """Its name."""
    by: str
    """The rate that tells right from wrong, ``metric[.measure]``; empty where the task has none."""
    ids: Sequence[str]
    """Ids of the planned samples."""
    states: Mapping[Role, Bits]
    """Model → bits of each sample."""
    change_N: NDArray[np.int8]
    """−1 where the candidate is worse by the rate, +1 where it is better."""

    def count(self, role: Role, bit: int) -> int:
        """Return how many of a model's samples are in a state."""
        held = self.states.get(role)
        return 0 if held is None else int(np.count_nonzero(held & bit))

    @property
    def class_N(self) -> NDArray[np.intp]:
        """Why each sample is shown: its place in ``CLASSES``."""
        either_N = np.zeros(len(self.ids), dtype=np.uint8)
        for held in self.states.values():
            either_N |= held
        ours_N = self.states.get("candidate", either_N)
        found = (
            self.change_N < 0,
            either_N & FAILED > 0,
            either_N & UNSCORED > 0,
            ours_N & (WRONG | PARTLY) > 0,
            self.change_N > 0,
        )
        return np.select(found, range(len(found)), len(found)).astype(np.intp)


def task_states(run: FinishedRun) -> list[TaskStates]:
    """Return what became of every sample, task by task. Raises UsageError where samples were changed after the run."""
    tables = run.all_tables()
    planned = {(tally.model, tally.task): tally.planned for tally in run.scorecard.tasks}
    made = []
    for task in dict.fromkeys(tally.task for tally in run.scorecard.tasks):
        held: dict[Role, list[MetricTable]] = {}
        for role in ("candidate", "baseline"):
            # People rate some of a task's samples; the others are not ungraded for that.
            whole = [
                table
                for table in tables.get(role, ())
                if table.task == task and table.planned[None] == planned.get((role, task))
            ]
            if whole:
                held[role] = whole
        if held:
            made.append(_states(task, held))
    return made


def _states(task: str, held: Mapping[Role, Sequence[MetricTable]]) -> TaskStates:
    ids = dict.fromkeys(
        name
        for tables in held.values()
        for part in (tables[0].sample_ids, tables[0].missing_ids)
        for name in part
    )
    place = {name: row for row, name in enumerate(ids)}
    rates = {role: rate for role, tables in held.items() if (rate := first_rate(tables))}
    states = {role: _bits(place, tables, rates.get(role)) for role, tables in held.items()}
    change_N = np.zeros(len(place), dtype=np.int8)
    ours, theirs = rates.get("candidate"), rates.get("baseline")
    if ours and theirs and same_definition(ours[0], theirs[0]):
        gain_N = _scores(place, ours) - _scores(place, theirs)
        sign = 1 if ours[1].better == "higher" else -1
        change_N = np.nan_to_num(np.sign(gain_N) * sign).astype(np.int8)
    named = ours or theirs
    by = measure_name(*named).removeprefix(f"{task}/") if named else ""
    return TaskStates(task, by, list(place), states, change_N)


def first_rate(tables: Sequence[MetricTable]) -> Ranked | None:
    """Return the first rate of a task: what says that a sample is right or wrong."""
    return next(((t, m) for t in tables for m in t.measures if m.kind == "rate"), None)


def _rows(place: Mapping[str, int], ids: Sequence[str]) -> NDArray[np.intp]:
    return np.fromiter((place[name] for name in ids), dtype=np.intp, count=len(ids))


def _scores(place: Mapping[str, int], rate: Ranked) -> Array:
    table, measure = rate
    scores_N = np.full(len(place), np.nan)
    scores_N[_rows(place, table.sample_ids)] = table.stats_NK[:, measure.column]
    return scores_N


def _bits(place: Mapping[str, int], tables: Sequence[MetricTable], rate: Ranked | None) -> Bits:
    bits_N = np.zeros(len(place), dtype=np.uint8)
    for table in tables:
        if rate is None or table is not rate[0]:
            bits_N[_rows(place, table.sample_ids)] |= 0 if rate else MEASURED
        else:
            bits_N[_rows(place, table.sample_ids)] |= _graded(*rate)
        answered = [*table.missing_completed, *[False] * len(table.missing_ids)]
        for name, completed in zip(table.missing_ids, answered, strict=False):
            bits_N[place[name]] |= UNSCORED if completed else FAILED
    return bits_N


def _graded(table: MetricTable, measure: Measure) -> Bits:
    """Return right, wrong or partly of each scored sample; ``measured`` where the rate is not over it."""
    score_N = table.stats_NK[:, measure.column]
    best, worst = (1.0, 0.0) if measure.better == "higher" else (0.0, 1.0)
    graded_N = np.select([score_N == best, score_N == worst], [RIGHT, WRONG], PARTLY)
    if measure.over >= 0:
        graded_N = np.where(table.stats_NK[:, measure.over] > 0, graded_N, MEASURED)
    return graded_N.astype(np.uint8)


def preferred(
    tasks: Sequence[TaskStates], pinned: Collection[Place], most: int
) -> dict[Place, int]:
    """Return the ``most`` samples that a page should hold, each with its rank: 0 is held before all others.

    ``pinned`` are those that the page tells of elsewhere; they come first.
    """
    keys: list[NDArray[np.float64]] = []
    for number, states in enumerate(tasks):
        class_N = states.class_N
        keys.append(
            np.stack(
                [
                    np.full(len(class_N), number),
                    np.arange(len(class_N)),
                    _spread(class_N),
                    class_N,
                    [(states.task, name) not in pinned for name in states.ids],
                ]
            ).astype(np.float64)
        )
    if not keys:
        return {}
    task_N, row_N, turn_N, class_N, unpinned_N = np.concatenate(keys, axis=1)
    # The last key decides first.
    order = np.lexsort((row_N, task_N, turn_N, class_N, turn_N >= FIRST, unpinned_N))[:most]
    return {
        (tasks[int(task_N[at])].task, tasks[int(task_N[at])].ids[int(row_N[at])]): rank
        for rank, at in enumerate(order.tolist())
    }


def _spread(class_N: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return each sample's turn among those of its class, such that the first of any number are spread evenly."""
    turn_N = np.zeros(len(class_N), dtype=np.intp)
    for rows_M in _members(class_N):
        order = np.argsort(np.arange(len(rows_M)) * _GOLDEN % 1, kind="stable")
        turn_N[rows_M[order]] = np.arange(len(rows_M))
    return turn_N


def _members(class_N: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    for each in range(len(CLASSES)):
        yield np.flatnonzero(class_N == each)
