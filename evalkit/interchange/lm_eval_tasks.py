"""A task's declaration under lm-evaluation-harness's keys: what was asked, and how answers were drawn.

Templates stay as the suite has them; both are Jinja2.

**Source**: lm-evaluation-harness 0.4.13, ``api/task.py`` (``TaskConfig``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from evalkit.records.suite import (
    CounterfactualTask,
    GenerateTask,
    MultipleChoiceTask,
    PerplexityTask,
    SampledTask,
)

RECORDED: Final = "recorded"
"""The metric of tasks whose numbers another harness gave."""
OUTPUT_TYPES: Final[Mapping[str, str]] = {
    "generate": "generate_until",
    "multiple_choice": "multiple_choice",
    "perplexity": "loglikelihood_rolling",
    "counterfactual": "generate_until",
}
"""Kind of task → lm-eval's ``output_type``."""


def declared(task: str, spec: SampledTask | None, kind: str) -> dict[str, Any]:
    """Return what a suite declares of a task that was run as ``kind``; of one that the run did not keep, its name."""
    told: dict[str, Any] = {"task": task}
    if spec is not None:
        told |= {
            "dataset_path": spec.dataset.name or spec.dataset.path,
            "dataset_name": spec.dataset.config,
            "test_split": spec.dataset.split if spec.dataset.name else None,
            "description": "",
            "output_type": output_type(spec, kind),
            **_asked(spec),
        }
    return told | {"num_fewshot": shots(spec)}


def output_type(spec: SampledTask, kind: str) -> str:
    """Return lm-eval's ``output_type`` of a task that was run as ``kind``, whatever it is declared as."""
    if isinstance(spec, CounterfactualTask) and spec.choices is not None:
        return "multiple_choice"
    return OUTPUT_TYPES.get(kind, OUTPUT_TYPES[spec.kind])


def is_recorded(spec: SampledTask) -> bool:
    """Return whether another harness ran the task, so that the suite declares its numbers alone."""
    return any(metric.name == RECORDED for metric in spec.metrics)


def generation_arguments(spec: SampledTask) -> dict[str, Any] | None:
    """Return how answers were drawn under lm-eval's keys; None where the model wrote nothing.

    Of a run that another harness made that is not known: it is empty.
    """
    if is_recorded(spec):
        return {}
    if not isinstance(spec, GenerateTask | CounterfactualTask):
        return None
    decoding = spec.decoding
    return {
        "until": list(decoding.stop),
        "max_gen_toks": decoding.max_tokens,
        "do_sample": decoding.temperature > 0,
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
    }


def _asked(spec: SampledTask) -> dict[str, Any]:
    """Return templates, and how answers are drawn, under lm-eval's keys."""
    if isinstance(spec, PerplexityTask):
        return {"doc_to_text": "", "doc_to_target": spec.text, "repeats": 1}
    messages = None if isinstance(spec, MultipleChoiceTask) else spec.messages
    asked = spec.prompt if messages is None else [m.model_dump() for m in messages]
    told: dict[str, Any] = {
        "doc_to_text": asked,
        "doc_to_target": spec.target,
        "repeats": 1,
    }
    if isinstance(spec, MultipleChoiceTask):
        choices: str | Sequence[str] = spec.choices
        return told | {
            "doc_to_choice": choices if isinstance(choices, str) else list(choices),
            "target_delimiter": spec.delimiter,
        }
    repeats = spec.repeats if isinstance(spec, CounterfactualTask) else spec.decoding.replicates
    return told | {"generation_kwargs": generation_arguments(spec), "repeats": repeats}


def shots(spec: SampledTask | None) -> int:
    """Return how many worked examples stand before each prompt."""
    fewshot = getattr(spec, "fewshot", None)
    return 0 if fewshot is None else int(fewshot.count)
