"""The samples that a page embeds: chosen, read, scored and packed, with what its script needs to read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from evalkit.estimating import full_name
from evalkit.flips import shown_samples
from evalkit.flips.answers import Place, Row
from evalkit.records.exchange import Role
from evalkit.reports.page.flipped import run_ledgers
from evalkit.reports.page.sample_states import (
    STATES,
    TaskStates,
    preferred,
    task_states,
)
from evalkit.reports.page.sample_texts import (
    LONGEST_NAME,
    MOST_PACKED,
    MOST_SAMPLES,
    ROLES,
    KeptTexts,
    Packed,
    as_json,
    cut,
    packed,
    unscored_reason,
)
from evalkit.reports.reported import FinishedRun
from evalkit.scoring import MetricTable

MOST_EXAMPLES: Final = 3
"""Ids told beside a reason."""
_DECIMALS: Final = 6
"""Of a score: enough to read."""

Reason = tuple[Role, str, str, str]
"""Model, task, metric (empty for a failure of the whole sample) and why."""
Scored = Mapping[Place, Sequence[tuple[float | None, float | None]]]
"""Sample → the candidate's and the baseline's score under each of its task's rates and means."""


@dataclass(frozen=True)
class EmbeddedSamples:
    """What of a run's samples a page holds, and how much that is."""

    tasks: Sequence[TaskStates]
    """What became of every sample, embedded or not."""
    packed: Packed
    """The texts."""
    index: Mapping[str, Any]
    """What the script needs to read them: tasks, their measures, the states' names, how many there are."""
    examples: Mapping[Reason, Sequence[str]]
    """Ids of the first samples that failed or were not graded, by reason."""

    @property
    def planned(self) -> int:
        """Samples of the run, those of both models counted once."""
        return sum(len(task.ids) for task in self.tasks)


def embedded_samples(run: FinishedRun, most_packed: int = MOST_PACKED) -> EmbeddedSamples:
    """Return the samples that a page holds, in ``most_packed`` characters.

    Rows are read once. Raises UsageError where the samples were changed after the run.
    """
    tasks = task_states(run)
    pinned = shown_samples(run_ledgers(run))
    kept = KeptTexts(preferred(tasks, pinned, MOST_SAMPLES))
    examples: dict[Reason, list[str]] = {}
    for row in run.rows():
        kept.add(row)
        for reason in _reasons(row):
            held = examples.setdefault(reason, [])
            if len(held) < MOST_EXAMPLES:
                held.append(row["id"])
    held_places = {place for place, _ in kept}
    names = {task.task: _measures(run, task) for task in tasks}
    scores = _scores(run, names, held_places)
    texts = packed(_lines(kept, tasks, scores), most_packed)
    index = {
        "tasks": [task.task for task in tasks],
        "measures": [names[task.task] for task in tasks],
        "states": STATES,
        "embedded": len(texts.places),
        "planned": sum(len(task.ids) for task in tasks),
    }
    return EmbeddedSamples(tasks, texts, index, examples)


def _reasons(row: Row) -> Iterator[Reason]:
    """Yield why a row has no scores."""
    if "failed" in row:
        yield row["model"], row["task"], "", row["failed"]["kind"]
        return
    for metric, held in row["scores"].items():
        if reason := unscored_reason(held):
            yield row["model"], row["task"], metric, reason


def _tables(run: FinishedRun, task: str) -> Iterator[tuple[int, MetricTable]]:
    """Yield each model's tables of a task, with the model's place."""
    for place, role in enumerate(ROLES):
        yield from ((place, t) for t in run.all_tables().get(role, ()) if t.task == task)


def _measures(run: FinishedRun, task: TaskStates) -> list[str]:
    """Return the rates and means of a task, by which a sample alone has a score."""
    return list(
        dict.fromkeys(
            full_name(table.metric, measure.name)
            for _, table in _tables(run, task.task)
            for measure in table.measures
            if measure.kind != "corpus"
        )
    )


def _scores(run: FinishedRun, names: Mapping[str, Sequence[str]], held: set[Place]) -> Scored:
    found: dict[Place, list[list[float | None]]] = {
        place: [[None, None] for _ in names[place[0]]] for place in held
    }
    for task, known in names.items():
        for model, table in _tables(run, task):
            columns = [
                (known.index(full_name(table.metric, measure.name)), measure)
                for measure in table.measures
                if measure.kind != "corpus"
            ]
            for row, sample in enumerate(table.sample_ids if columns else ()):
                if (scores := found.get((task, sample))) is not None:
                    stats_K = table.stats_NK[row].tolist()
                    for place, measure in columns:
                        if measure.over < 0 or stats_K[measure.over]:
                            scores[place][model] = round(stats_K[measure.column], _DECIMALS)
    return {place: [(ours, theirs) for ours, theirs in each] for place, each in found.items()}


def _lines(
    kept: KeptTexts, tasks: Sequence[TaskStates], scores: Scored
) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yield each sample as the script reads it.

    ``t`` task, ``i`` id, ``s`` states, ``d`` change, ``x`` scores; as ``row_texts`` makes them ``c`` what was asked and
    ``w`` what each model answered, the candidate first.
    """
    numbers = {task.task: number for number, task in enumerate(tasks)}
    rows = [{name: row for row, name in enumerate(task.ids)} for task in tasks]
    for place, texts in kept:
        number = numbers[place[0]]
        row, states = rows[number][place[1]], tasks[number]
        line = {
            "t": number,
            "i": orjson.Fragment(as_json(cut(place[1], LONGEST_NAME))),
            "s": [int(states.states[r][row]) if r in states.states else 0 for r in ROLES],
            "d": int(states.change_N[row]),
            "x": scores[place],
            "c": orjson.Fragment(texts.asked),
            "w": [orjson.Fragment(texts.own.get(role, b"null")) for role in ROLES],
        }
        yield place, line
