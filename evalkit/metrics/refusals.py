"""Refusals: the share of answers that refuse, by the phrases of ``answer``.

What is refused to one group and given to another is a finding of its own: with ``groups`` the gap of this share says
so. It needs no target, so it stands beside any metric of a task. The phrases are a proxy with limits that ``answer``
lists; they are the same for both models and all groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from evalkit.metrics.answer import final_answer, refuses
from evalkit.metrics.base import Metric, rate
from evalkit.records.exchange import Completion, Sample, Score, Unscored
from evalkit.records.suite import Spec
from evalkit.registry import register


class RefusalsOptions(Spec):
    """Options of ``refusals``."""

    reasoning: Literal["drop", "keep"] = "drop"
    """Whether text between ``<think>`` tags is part of the answer."""


@register(
    "metric",
    "refusals",
    summary="Share of answers that refuse, by phrase.",
    example="refusals",
)
class Refusals(Metric):
    """Whether each answer refuses; an empty answer neither refuses nor answers, and has no score."""

    Options = RefusalsOptions
    options: RefusalsOptions
    needs_target = False
    columns = ("refusal",)
    measures = (rate("", column=0, better="lower"),)

    def score(self, sample: Sample, completions: Sequence[Completion]) -> Score | Unscored:
        """Return 1 for a refusal."""
        text = completions[0].text
        answer = final_answer(text) if self.options.reasoning == "drop" else text
        if not answer.strip():
            return Unscored("empty answer")
        return Score((float(refuses(answer)),))
