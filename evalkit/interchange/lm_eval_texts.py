"""The texts of a row of lm-evaluation-harness's samples: what was asked, what is right, what came back.

**Source**: lm-evaluation-harness 0.4.13, ``api/task.py`` (what each kind of task asks and gets back: a text and its
settings, a text and each continuation, a text alone).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.interchange.foreign import plain_json


def calls_of(row: Mapping[str, Any]) -> list[list[Any]]:
    """Return the arguments of each request."""
    held = row.get("arguments")
    calls = (
        list(held.values()) if isinstance(held, dict) else held if isinstance(held, list) else []
    )
    return [
        list(call.values())
        if isinstance(call, dict)
        else call
        if isinstance(call, list)
        else [call]
        for call in calls
    ]


Texts = tuple[dict[str, Any], tuple[str, ...], list[dict[str, Any]]]
"""What was asked, what is right, what came back; as rows hold them."""


def texts_of(row: Mapping[str, Any]) -> Texts:
    """Return the texts of a row."""
    calls = calls_of(row)
    target = row.get("target")
    targets = tuple(map(str, target)) if isinstance(target, list) else (str(target),)
    if not calls:
        return {"prompt": ""}, targets, _written(row)
    asked = _asked(calls[0][0] if calls[0] else "")
    if not all(calls) or isinstance(calls[0][-1], dict):  # settings: the model wrote an answer
        return asked, targets, _written(row)
    likelihoods = [_likelihood(answer) for answer in _listed(row.get("filtered_resps"))]
    if len(likelihoods) != len(calls) or None in likelihoods:
        return asked, targets, _written(row)
    rolling = len(calls) == 1 and len(calls[0]) == 1  # a text, and its own likelihood
    if rolling:
        return asked, (), [{"logprob": likelihoods[0]}]
    return _of_choices(calls, asked, targets, likelihoods)


def _of_choices(
    calls: Sequence[Sequence[Any]],
    asked: dict[str, Any],
    targets: tuple[str, ...],
    likelihoods: Sequence[float | None],
) -> Texts:
    """Return likelihoods beside what they are of; as numbered choices where the targets name them."""
    continuations = [str(call[-1]) for call in calls]
    plain = [text.strip() for text in continuations]
    same = len(set(plain)) < len(plain)  # one continuation after several contexts
    shown = [str(call[0]) for call in calls] if same else continuations
    numbers = [str(n) for n in range(len(calls))]
    named = [
        t if t in numbers else numbers[plain.index(t.strip())] if t.strip() in plain else ""
        for t in targets
    ]
    finite = [x for x in likelihoods if x is not None and math.isfinite(x)]
    if same or not all(named) or len(finite) < len(calls) or len(calls) < 2:
        texts = [f"{s} ({x:.2f})" for s, x in zip(shown, likelihoods, strict=True)]
        return asked, targets, [_answer(text) for text in texts]
    answers = [{"logprob": x} for x in finite]
    return {**asked, "choices": continuations}, tuple(named), answers


def _written(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what the model wrote, before any filter."""
    answers = []
    for request in _listed(row.get("resps")):
        answers += [_answer(str(text)) for text in _listed(request)]
    return answers


def _answer(text: str) -> dict[str, Any]:
    return {"text": text, "finish_reason": "other"}


def _asked(prompt: Any) -> dict[str, Any]:  # noqa: ANN401 - a text, or lm-eval's JSON of chat messages
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str):
        try:
            messages = json.loads(prompt[0])
            return {
                "messages": [
                    {"role": str(m["role"]), "content": _text(m["content"])} for m in messages
                ]
            }
        except (ValueError, TypeError, KeyError, RecursionError):
            prompt = prompt[0]
    return {"prompt": _text(prompt)}


def _text(value: Any) -> str:  # noqa: ANN401 - any JSON value
    return value if isinstance(value, str) else plain_json(value).decode("utf-8", "replace")


def _listed(value: Any) -> list[Any]:  # noqa: ANN401 - any JSON value
    return value if isinstance(value, list) else [] if value is None else [value]


def _likelihood(answer: Any) -> float | None:  # noqa: ANN401 - any JSON value
    """Return the log-likelihood that ``[number, is greedy]``, or a number alone, stands for; None for other answers."""
    if isinstance(answer, list) and len(answer) == 2 and str(answer[1]) in {"True", "False"}:
        answer = answer[0]
    try:
        return float(answer)
    except (TypeError, ValueError):
        return None
