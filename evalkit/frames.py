"""A run's records as pandas frames: one row per number, per sample and model, per tensor and model.

Columns are the records' fields by their names; an interval is ``low``, ``high``, ``level`` and ``method``, counts are
columns of their own. What there is none of is missing (None, NaN), never 0. Rows stand in the scorecard's order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from evalkit.errors import RunError
from evalkit.records.scorecard import Comparison, Estimate, Interval
from evalkit.records.verdict import Outcome, Verdict

if TYPE_CHECKING:
    from pandas import DataFrame

ESTIMATES: Final = (
    "model", "task", "metric", "slice", "kind", "value", "low", "high", "level", "method", "n", "planned", "completed",
    "failed", "scored", "unscored", "unit", "better", "signature", "warnings",
)  # fmt: skip
COMPARISONS: Final = (
    "task", "metric", "slice", "status", "reason", "candidate", "baseline", "difference", "low", "high", "level",
    "method", "p_value", "test", "pairs", "unpaired", "improved", "worsened", "unit", "better", "warnings",
)  # fmt: skip
OUTCOMES: Final = (
    "gate", "rule", "estimate", "status", "counts_as", "severity", "observed", "low", "high", "level", "method",
    "required", "reason", "why", "p_broken", "p_adjusted", "waived_by", "waived_until",
)  # fmt: skip
SAMPLES: Final = ("model", "task", "id", "cluster", "prompt", "targets", "answers", "failed")
"""Before a column for each slice field and for each statistic of each metric."""
LAYERS: Final = (
    "model", "task", "tensor", "stored", "module", "form", "depth", "shape", "dtype",
)  # fmt: skip
"""Before the columns of each measure."""


def estimates_frame(estimates: Iterable[Estimate]) -> DataFrame:
    """Return one row per estimate, with the columns ``ESTIMATES``."""
    rows = [
        _plain(one, "interval", "counts")
        | _interval(one.interval)
        | one.counts.model_dump()
        | {"n": one.counts.scored if one.n is None else one.n}
        for one in estimates
    ]
    return _frame(rows, ESTIMATES)


def comparisons_frame(comparisons: Iterable[Comparison]) -> DataFrame:
    """Return one row per difference, candidate − baseline, with the columns ``COMPARISONS``."""
    rows = [_plain(one, "interval") | _interval(one.interval) for one in comparisons]
    return _frame(rows, COMPARISONS)


def outcomes_frame(verdict: Verdict | None) -> DataFrame:
    """Return one row per rule and estimate it was decided on, with the columns ``OUTCOMES``; none without a verdict."""
    return _frame([_outcome(one) for one in verdict.outcomes] if verdict else [], OUTCOMES)


def samples_frame(rows: Iterable[Mapping[str, Any]]) -> DataFrame:
    """Return one row per model, task and sample.

    ``prompt`` is what was asked (the last message of a chat), ``answers`` are all replicates' texts (of a choice that
    was weighed rather than written its log-probability), ``failed`` is why there is none. A slice field is the column
    ``slice.FIELD``, a statistic ``METRIC.STATISTIC``; why a metric gave none is ``METRIC.unscored``.
    """
    found = [_sample(row) for row in rows]
    more = dict.fromkeys(key for row in found for key in row if key not in SAMPLES)
    return _frame(found, (*SAMPLES, *sorted(more, key=lambda key: not key.startswith("slice."))))


def layers_frame(rows: Iterable[Mapping[str, Any]]) -> DataFrame:
    """Return one row per model and tensor: each measure's value, its interval, and why it has none.

    A measure is the column of its name; ``MEASURE.low``, ``.high``, ``.status`` and ``.note`` stand where any tensor
    has them.
    """
    found = [_layer(row) for row in rows]
    more = dict.fromkeys(key for row in found for key in row if key not in LAYERS)
    return _frame(found, (*LAYERS, *more))


def _sample(row: Mapping[str, Any]) -> dict[str, Any]:
    messages = row.get("messages")
    made: dict[str, Any] = {key: row.get(key) for key in ("model", "task", "id", "cluster")}
    made["prompt"] = messages[-1]["content"] if messages else row.get("prompt")
    made["targets"] = list(row.get("targets", ()))
    made["answers"] = [
        answer.get("text", answer.get("logprob", answer.get("failed")))
        for answer in row.get("answers", ())
    ]
    made["failed"] = row.get("failed")
    made |= {f"slice.{field}": value for field, value in row.get("slices", {}).items()}
    for metric, scores in row.get("scores", {}).items():
        made |= {f"{metric}.{statistic}": value for statistic, value in scores.items()}
    return made


def _layer(row: Mapping[str, Any]) -> dict[str, Any]:
    made = {key: row.get(key) for key in LAYERS}
    for measure, fitted in row.get("measured", {}).items():
        made[measure] = fitted.get("value")
        made |= {f"{measure}.{key}": held for key, held in fitted.items() if key != "value"}
    return made


def _outcome(outcome: Outcome) -> dict[str, Any]:
    waiver = outcome.waiver
    waived = {
        "waived_by": waiver.owner if waiver else None,
        "waived_until": waiver.expires if waiver else None,
    }
    return _plain(outcome, "interval", "waiver") | _interval(outcome.interval) | waived


def _plain(record: Estimate | Comparison | Outcome, *apart: str) -> dict[str, Any]:
    return {key: value for key, value in record if key not in apart}


def _interval(interval: Interval | None) -> dict[str, Any]:
    keys = ("low", "high", "level", "method")
    return {key: None if interval is None else getattr(interval, key) for key in keys}


def _frame(rows: list[dict[str, Any]], columns: Iterable[str]) -> DataFrame:
    try:
        import pandas as pd
    except ImportError as error:
        message = "data frames need pandas, which is not installed"
        raise RunError(message, "pip install 'evalkit-gates[frames]'") from error
    return pd.DataFrame(rows, columns=list(columns))
