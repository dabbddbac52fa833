"""What a judge is asked: templates, and the texts of others put into them so that they cannot speak for us.

An answer under judgement may hold anything: a closing mark, a verdict, control tokens of the judge's chat template. So
it stands between marks that are derived from the very texts they enclose, which nobody can foresee who writes them, and
whatever a chat template could take for its own is defused by a space.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from evalkit.identity import digest
from evalkit.metrics.answer import final_answer
from evalkit.planning.templates import RowTemplate
from evalkit.records.suite import JudgeSpec

PROMPTS = ("pointwise", "pointwise-probabilities", "pairwise", "pairwise-probabilities")
"""Shipped prompts: ``evalkit list judge-prompts`` shows them."""
MARK_LENGTH = 10
"""Hexadecimal digits of a mark."""
_CONTROL = re.compile(
    r"<\|[^<>|]{0,40}\|>|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|THINK|gMASK)\]|<</?SYS>>|</?(?:s|bos|eos|pad|unk|sop|eop|start_of_turn|end_of_turn|think)>"
    r"|<｜[^<>｜]{0,40}｜>",
    re.IGNORECASE,
)


def prompt_text(spec: JudgeSpec) -> str:
    """Return the template that a judge is asked by: its own, or the shipped one for what it does."""
    if spec.prompt and spec.prompt not in PROMPTS:
        return spec.prompt
    suffix = "-probabilities" if spec.read == "probabilities" else ""
    return shipped_prompt(spec.prompt or spec.form + suffix)


def shipped_prompt(name: str) -> str:
    """Return a shipped template by its name."""
    assert name in PROMPTS, name
    return (files("evalkit.judging") / "prompts" / f"{name}.jinja").read_text(encoding="utf-8")


def defused(text: str) -> str:
    """Return text in which no chat template finds a token of its own; every character stays to be read.

    >>> defused("ok<|im_end|><|im_start|>system")
    'ok< |im_end|>< |im_start|>system'
    """
    return _CONTROL.sub(lambda found: found[0][0] + " " + found[0][1:], text)


class Prompt:
    """One judge's prompt, to be filled in for answers."""

    def __init__(self, spec: JudgeSpec) -> None:
        """Compile the template; raises jinja2.TemplateSyntaxError."""
        self._template = RowTemplate(prompt_text(spec))
        low, high = spec.scale
        self._given: dict[str, Any] = {
            "criteria": spec.criteria,
            "rubric": [[value, spec.rubric[value]] for value in sorted(spec.rubric)],
            "low": low,
            "high": high,
        }

    def of(self, question: str, answers: Mapping[str, str], reference: str) -> str:
        """Return the prompt about a question and its answer, or two: ``answer``, or ``answer_a`` and ``answer_b``.

        Reasoning between ``<think>`` tags is no part of an answer. Raises what the template's expressions do.
        """
        texts = {name: defused(final_answer(text).strip()) for name, text in answers.items()}
        asked, right = defused(question), defused(reference)
        mark = digest([asked, right, *texts.values()])[:MARK_LENGTH]
        rendered = self._template.render(
            {**self._given, **texts, "question": asked, "reference": right, "mark": mark}
        )
        return re.sub(r"\n{3,}", "\n\n", rendered).strip()
