"""A run's samples as lm-evaluation-harness 0.4.13 writes them: rows of ``samples_<task>_<time>.jsonl``.

One row per sample, with the request, the answer and the sample's score under the metric's name:

- a rate or mean: the statistic that is averaged, so that the mean over the rows is the number in the results;
- a rate over some samples (a true-positive rate): the same on those, null on the others;
- a perplexity: [log-likelihood, words or bytes], as lm-eval has it;
- any other function of all samples (BLEU, micro F1): the list of the sample's statistics; lm-eval keeps the texts.

A sample that failed, and one that could not be graded, keeps its row: the score is null, and ``evalkit`` says why. So
nothing is dropped, and no failure is a 0.

**Source**: lm-evaluation-harness 0.4.13, ``evaluator.py`` (``logged_samples``), ``loggers/evaluation_tracker.py``
(``save_results_samples``: numbers of log-likelihood requests are texts).

**Deviation**: whether an answer is what greedy decoding would give is not known here: where lm-eval says ``True`` or
``False`` stands ``None``. ``doc`` is what the run kept of the row: id, prompt, choices, targets, slices. Of a
counterfactual task with choices those of the first variant stand for all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from evalkit.interchange.lm_eval_tasks import (
    generation_arguments,
    is_recorded,
    output_type,
)
from evalkit.interchange.lm_eval_write import FILTER, Expressed, LmEvalRun
from evalkit.records.suite import MultipleChoiceTask, SampledTask
from evalkit.stats.estimate import in_part

PERPLEXITIES: Final[Mapping[str, int]] = {
    "perplexity.token": 1,
    "perplexity.word": 2,
    "perplexity.byte": 3,
    "perplexity.bits_per_byte": 3,
}
"""Our metric → the statistic that its log-likelihood is divided by."""

Value = float | list[float] | None
"""A sample's score; None where it has none."""


class TaskSamples:
    """Turns the rows of one task into lm-eval's, in their order, and hashes them as lm-eval does."""

    def __init__(self, run: LmEvalRun, task: str) -> None:
        """``run`` must have its suite, and the tables that its numbers were computed from."""
        spec = run.spec(task)
        assert spec is not None, "a run with samples has its suite"
        self._spec: SampledTask = spec
        self._output_type = output_type(spec, run.kind(task))
        self._generation = generation_arguments(spec)
        # What another harness recorded are whole continuations.
        between = "" if is_recorded(spec) else " "
        self._between = spec.delimiter if isinstance(spec, MultipleChoiceTask) else between
        held = [one for one in run.expressed[task] if one.table is not None]
        tables = {id(one.table): one.table for one in held if one.table is not None}
        places = {
            key: {sample: place for place, sample in enumerate(table.sample_ids)}
            for key, table in tables.items()
        }
        self._values = [(one.name, _values(one, places[id(one.table)])) for one in held]
        self._hash = hashlib.sha256()

    @property
    def task_hash(self) -> str:
        """SHA-256 over the hashes of the rows so far."""
        return self._hash.hexdigest()

    def row(self, number: int, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row of ``samples.jsonl`` as lm-eval writes it; ``number`` is the sample's place in the data."""
        doc = _document(row)
        arguments = self._arguments(row)
        responses, filtered = self._responses(row, len(arguments))
        target = _target(row, self._output_type)
        scores = {name: values(row["id"]) for name, values in self._values}
        hashes = {
            "doc_hash": _hash(json.dumps(doc, indent=2, ensure_ascii=False)),
            "prompt_hash": _hash(arguments[0][0] if arguments else ""),
            "target_hash": _hash(target),
        }
        self._hash.update("".join(hashes.values()).encode())
        return {
            "doc_id": number,
            "doc": doc,
            "target": target,
            "arguments": {
                f"gen_args_{i}": {f"arg_{j}": part for j, part in enumerate(parts)}
                for i, parts in enumerate(arguments)
            },
            "resps": responses,
            "filtered_resps": filtered,
            "filter": FILTER,
            "metrics": [name for name, score in scores.items() if score is not None],
            **hashes,
            **scores,
            "evalkit": {
                "id": row["id"],
                "cluster": row.get("cluster"),
                "failed": row.get("failed", {}).get("kind"),
                "unscored": json.dumps(
                    {
                        metric: held["unscored"]
                        for metric, held in row.get("scores", {}).items()
                        if isinstance(held.get("unscored"), str)
                    },
                    ensure_ascii=False,
                ),
            },
        }

    def _arguments(self, row: Mapping[str, Any]) -> list[list[Any]]:
        """Return each request's arguments in lm-eval's order."""
        asked = list(row["variants"].values()) if "variants" in row else [row]
        prompts = [_prompt(one) for one in asked]
        if self._output_type == "loglikelihood_rolling":
            return [[prompt] for prompt in prompts]
        if self._output_type == "multiple_choice":
            between = self._between
            choices = row.get("choices", [])
            return [[prompt, f"{between}{choice}"] for prompt in prompts for choice in choices]
        return [[prompt, self._generation] for prompt in prompts]

    def _responses(
        self, row: Mapping[str, Any], requests: int
    ) -> tuple[list[list[Any]], list[Any]]:
        """Return every answer by request and repeat, and by request what was scored; null for one that failed."""
        if self._output_type == "multiple_choice":
            pairs = [[_number(answer), "None"] for answer in row.get("answers", [])]
            return [[pair] for pair in pairs], list(pairs)
        if self._output_type == "loglikelihood_rolling":
            numbers = [_number(answer) for answer in row.get("answers", [])]
            return [[number] for number in numbers], list(numbers)
        texts = [answer.get("text") for answer in row.get("answers", [])]
        each = max(1, len(texts) // max(1, requests))
        by_request = [texts[start : start + each] for start in range(0, len(texts), each)]
        return by_request, [said[0] if each == 1 else said for said in by_request]


def numbered(
    rows: Iterable[Mapping[str, Any]], role: str
) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    """Yield task, number and row of each sample of one model; the same sample has the same number for both models.

    Numbers count from 0 in each task, in the order in which the run's rows first name a sample.
    """
    places: dict[str, dict[str, int]] = {}
    for row in rows:
        of_task = places.setdefault(row["task"], {})
        number = of_task.setdefault(row["id"], len(of_task))
        if row["model"] == role:
            yield row["task"], number, row


def _values(one: Expressed, places: Mapping[str, int]) -> Callable[[str], Value]:
    """Return the function that gives a sample's score; ``places`` are the rows of its table."""
    table, measure = one.table, one.measure
    assert table is not None, "it has a table"
    assert measure is not None, "a table's numbers have their measures"
    stats_NK = table.stats_NK
    width = PERPLEXITIES.get(one.estimate.metric)
    partly = measure.over >= 0 and in_part(stats_NK, measure.over)

    def value(sample: str) -> Value:
        place = places.get(sample)
        if place is None:
            return None
        stats_K = stats_NK[place]
        if width is not None and measure.kind == "corpus":
            return [float(stats_K[0]), float(stats_K[width])]
        if measure.kind == "corpus":
            return [float(each) for each in stats_K]
        if partly:
            return [float(stats_K[measure.column]), float(stats_K[measure.over])]
        if measure.over >= 0 and not stats_K[measure.over]:
            return None
        return float(stats_K[measure.column])

    return value


def _document(row: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("id", "prompt", "messages", "variants", "choices", "targets", "slices")
    return {key: row[key] for key in kept if key in row}


def _prompt(asked: Mapping[str, Any]) -> str:
    if "messages" in asked:
        return json.dumps(asked["messages"], ensure_ascii=False)
    return str(asked.get("prompt", ""))


def _target(row: Mapping[str, Any], output: str) -> str:
    targets = row.get("targets", [])
    if output == "loglikelihood_rolling":
        return str(row.get("prompt", ""))
    return str(targets[0] if len(targets) == 1 else targets)


def _number(answer: Mapping[str, Any]) -> str | None:
    return str(answer["logprob"]) if "logprob" in answer else None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
