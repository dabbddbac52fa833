"""A model against itself (A/A): the engine's noise floor, and how often a gate blocks a model that has not changed.

Theory. Every request is asked K times with everything the same: samples, prompts, decoding, and the seeds of drawn
answers. What then differs between repetitions comes from the engine (batching, kernels, a server started anew), so the
spread of an estimate over them is a floor: a difference below it says nothing about the model. For the gates every
ordered pair of repetitions is a run in small, one as the candidate, the other as the baseline; a fail there is a false
alarm. These are the alarms that the engine alone raises on these samples. How often *other* samples would raise one is
what a rule's alpha bounds, and no repetition can show it.

The K·(K − 1) pairs share K repetitions, so they are not so many independent trials. A share over pairs is a
U-statistic of order two: its variance is at most 2/K of a single pair's. Its interval is therefore Wilson's over K/2
trials, which is as many disjoint pairs as there are.

**Source**: Hoeffding 1948, Ann. Math. Stat. 19, 293, theorem 5.2 (variance of a U-statistic).
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from itertools import combinations
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from evalkit.compare import compare_tables
from evalkit.estimating import estimate_tables, slice_rows
from evalkit.fairness import compare_gaps, estimate_gaps
from evalkit.flips import sample_scores
from evalkit.gates.evaluate import evaluate
from evalkit.identity import canonical_json, digest, digest_bytes
from evalkit.records.calibration import (
    AnswerNoise,
    Calibration,
    NoiseFloor,
    RuleAlarms,
    VerdictAlarms,
)
from evalkit.records.exchange import Role
from evalkit.records.scorecard import (
    Circumstances,
    Disparity,
    Estimate,
    Provenance,
    Scorecard,
    TaskTally,
)
from evalkit.records.suite import GateSpec
from evalkit.records.verdict import Outcome, Verdict, VerdictStatus
from evalkit.scoring import MetricTable
from evalkit.stats.intervals import Array, wilson_interval

Prints = Mapping[str, "array[int]"]
"""Task → 64 bits of each sample's answers, in data order; 0 where a request failed."""
Pair = tuple[int, int]
"""Which repetition stands as the candidate, and which as the baseline."""
AnyOfModel = TypeVar("AnyOfModel", Disparity, Estimate, TaskTally)


def repetition_digest(model: str, number: int, salt: str = "") -> str:
    """Return the identity that a model's answers are kept under in one repetition.

    Another number asks anew, the same number resumes. ``salt`` is given where the model's bytes cannot be seen.
    """
    return digest([model, "calibration", number, salt])


class AnswerPrints:
    """Takes the rows of ``samples.jsonl`` and keeps 64 bits of each sample's answers, so that texts can be let go."""

    def __init__(self) -> None:
        self.of_task: dict[str, array[int]] = {}
        """See ``Prints``."""

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Keep a row's print."""
        answers = row["answers"]
        seen = 0
        if answers and not any("failed" in answer for answer in answers):
            said = [answer.get("text", answer.get("logprob")) for answer in answers]
            seen = int(digest_bytes(canonical_json(said))[:16], 16) or 1
        self.of_task.setdefault(row["task"], array("Q")).append(seen)


@dataclass(frozen=True)
class Repetition:
    """What running the whole suite once gave."""

    tables: Sequence[MetricTable]
    """Statistics per task and metric."""
    tallies: Sequence[TaskTally]
    """What happened in each task."""
    prints: Prints = field(default_factory=dict)
    """What was answered."""


def calibrate(
    repetitions: Sequence[Repetition],
    gates: Sequence[GateSpec],
    provenance: Provenance,
    circumstances: Circumstances,
    level: float,
    today: date | None = None,
) -> Calibration:
    """Return what K ≥ 2 repetitions say about engine and gates, at confidence ``level``.

    All repetitions hold the same tasks, metrics and samples in the same order. ``today`` is the day by which waivers
    are judged (UTC). Raises UsageError as ``evaluate`` does.
    """
    assert len(repetitions) > 1, "a model is compared with itself"
    seed = provenance.seed
    estimates = [
        list(estimate_tables({"baseline": each.tables}, seed, level)) for each in repetitions
    ]
    verdicts: dict[Pair, Verdict] = {}
    if gates:
        gaps = [estimate_gaps({"baseline": each.tables}, seed, level) for each in repetitions]
        for i, j in _ordered_pairs(len(repetitions)):
            tables: dict[Role, Sequence[MetricTable]] = {
                "candidate": repetitions[i].tables,
                "baseline": repetitions[j].tables,
            }
            scorecard = Scorecard(
                digest=f"repetition {i} against {j}",
                provenance=provenance,
                estimates=(
                    *_as_candidate([*estimates[i], *gaps[i].estimates]),
                    *estimates[j],
                    *gaps[j].estimates,
                ),
                comparisons=(
                    *compare_tables(tables, seed, level),
                    *compare_gaps(tables, seed, level),
                ),
                disparities=(*_as_candidate(gaps[i].disparities), *gaps[j].disparities),
                tasks=(*_as_candidate(repetitions[i].tallies), *repetitions[j].tallies),
                circumstances=circumstances,
            )
            scores = partial(sample_scores, tables)
            verdicts[i, j] = evaluate(gates, scorecard, today=today, scores=scores)
    return Calibration(
        provenance=provenance,
        confidence=level,
        repetitions=len(repetitions),
        incomplete=tuple(
            number
            for number, each in enumerate(repetitions, 1)
            if not all(tally.complete for tally in each.tallies)
        ),
        estimates=tuple(noise_floors(repetitions, estimates)),
        answers=tuple(answer_noise([each.prints for each in repetitions])),
        gates=next(iter(verdicts.values())).gates if verdicts else {},
        rules=tuple(rule_alarms(list(verdicts.values()))),
        verdicts=verdict_alarms({pair: v.status for pair, v in verdicts.items()}, level),
        circumstances=circumstances,
    ).sealed()


def _ordered_pairs(count: int) -> Iterator[Pair]:
    return ((i, j) for j in range(count) for i in range(count) if i != j)


def _as_candidate(records: Sequence[AnyOfModel]) -> Iterator[AnyOfModel]:
    return (record.model_copy(update={"model": "candidate"}) for record in records)


def noise_floors(
    repetitions: Sequence[Repetition], estimates: Sequence[Sequence[Estimate]]
) -> Iterator[NoiseFloor]:
    """Yield the noise floor of each estimate; ``estimates`` are those of each repetition, in one order."""
    of_each = iter(zip(*estimates, strict=True))
    for tables in zip(*(each.tables for each in repetitions), strict=True):
        places, count = _places(tables)
        members = [slice_rows(len(table.sample_ids), table.attributes) for table in tables]
        for measure in tables[0].measures:
            scores_RN = np.full((len(tables), count), np.nan)
            for scores_N, table, rows in zip(scores_RN, tables, places, strict=True):
                if measure.kind != "corpus":
                    scores_N[rows] = table.stats_NK[:, measure.column]
            for slice_ in tables[0].planned:
                inside_N = np.zeros(count, dtype=bool)
                for rows, of_slice in zip(places, members, strict=True):
                    inside_N[rows[of_slice.get(slice_, np.arange(0))]] = True
                held = next(of_each)
                assert held[0].slice == slice_, "estimates come measure by measure, slice by slice"
                yield _noise_floor(held, scores_RN[:, inside_N])


def _places(tables: Sequence[MetricTable]) -> tuple[list[NDArray[np.intp]], int]:
    """Return where each table's scored samples lie among those that any of them scored, and how many these are."""
    place_of: dict[str, int] = {}
    for table in tables:
        for name in table.sample_ids:
            place_of.setdefault(name, len(place_of))
    places = [np.array([place_of[n] for n in t.sample_ids], dtype=np.intp) for t in tables]
    return places, len(place_of)


def _noise_floor(held: Sequence[Estimate], scores_RN: Array) -> NoiseFloor:
    first = held[0]
    values = tuple(estimate.value for estimate in held)
    known = np.array([value for value in values if value is not None])
    spread = float(np.ptp(known)) if len(known) > 1 else None
    by_sample = first.kind != "corpus"
    apart = [one - other for one, other in combinations(scores_RN, 2)] if by_sample else []
    apart = [each_N[np.isfinite(each_N)] for each_N in apart]
    return NoiseFloor(
        task=first.task,
        metric=first.metric,
        slice=first.slice,
        kind=first.kind,
        unit=first.unit,
        better=first.better,
        signature=first.signature,
        samples=scores_RN.shape[1],
        values=values,
        value=float(known.mean()) if len(known) else None,
        # Equal values have no spread; their mean may be off by rounding.
        sd=(float(known.std(ddof=1)) if spread else 0.0) if spread is not None else None,
        range=spread,
        discordance=_mean([float((each_N != 0).mean()) for each_N in apart if len(each_N)]),
        difference_sd=_root_mean_square(apart),
        score_sd=_root_mean_square([row[np.isfinite(row)] for row in scores_RN] * by_sample),
    )


def _mean(numbers: Sequence[float]) -> float | None:
    return float(np.mean(numbers)) if numbers else None


def _root_mean_square(samples: Sequence[Array]) -> float | None:
    """Return the root of the mean variance (n − 1) of sets of numbers; None where no set has two."""
    mean = _mean([float(each.var(ddof=1)) for each in samples if len(each) > 1])
    return None if mean is None else float(np.sqrt(mean))


def answer_noise(prints: Sequence[Prints]) -> Iterator[AnswerNoise]:
    """Yield per task how often a sample's answers differ between repetitions."""
    for task in prints[0]:
        prints_RN = np.array([each[task] for each in prints], dtype=np.uint64)
        shares = []
        for one_N, other_N in combinations(prints_RN, 2):
            both_N = (one_N > 0) & (other_N > 0)
            if both_N.any():
                shares.append(float((one_N != other_N)[both_N].mean()))
        asked_RN = prints_RN[:, (prints_RN > 0).sum(axis=0) > 1]
        highest_N = asked_RN.max(axis=0, initial=0)
        differs_N = ((asked_RN > 0) & (asked_RN != highest_N)).any(axis=0)
        yield AnswerNoise(
            task=task,
            samples=asked_RN.shape[1],
            differing=_mean(shares),
            unstable=_mean(differs_N.tolist()),
        )


def rule_alarms(verdicts: Sequence[Verdict]) -> Iterator[RuleAlarms]:
    """Yield what each rule answered: failed where anything it matches failed, passed where everything passed."""
    firsts: dict[tuple[str, str], Outcome] = {}
    answers: dict[tuple[str, str], Counter[str]] = {}
    for verdict in verdicts:
        of_rule: dict[tuple[str, str], set[str]] = {}
        for outcome in verdict.outcomes:
            key = outcome.gate, outcome.rule
            firsts.setdefault(key, outcome)
            of_rule.setdefault(key, set()).add(outcome.counts_as)
        for key, counted in of_rule.items():
            passed = "passed" if counted <= {"pass", "waived"} else "undecided"
            answers.setdefault(key, Counter())["failed" if "fail" in counted else passed] += 1
    for key, first in firsts.items():
        yield RuleAlarms(
            gate=first.gate,
            rule=first.rule,
            required=first.required,
            severity=first.severity,
            passed=answers[key]["passed"],
            failed=answers[key]["failed"],
            undecided=answers[key]["undecided"],
        )


def verdict_alarms(statuses: Mapping[Pair, VerdictStatus], level: float) -> VerdictAlarms | None:
    """Return how the verdicts of all ordered pairs fell out; None without any.

    ``flips``: for each baseline j, the share of pairs of candidates i ≠ i′ (neither is j) with different verdicts; the
    mean over j.
    """
    if not statuses:
        return None
    count = 1 + max(i for i, _ in statuses)
    counted = Counter(statuses.values())
    flips = [
        float(np.mean([one != other for one, other in combinations(against, 2)]))
        for j in range(count)
        if len(against := [statuses[i, j] for i in range(count) if i != j]) > 1
    ]
    share = counted["fail"] / len(statuses)
    return VerdictAlarms(
        passed=counted["pass"],
        failed=counted["fail"],
        inconclusive=counted["inconclusive"],
        incomplete=counted["incomplete"],
        interval=wilson_interval(share * count / 2, count / 2, level),
        flips=_mean(flips),
    )
