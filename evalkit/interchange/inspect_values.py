"""One sample of inspect's log: its values as numbers, its texts as rows hold them.

**Source**: inspect_ai 0.3.285, ``scorer/_metric.py`` (``value_to_float``), ``log/_log.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from evalkit.identity import digest_bytes
from evalkit.interchange.foreign import finite, plain_json
from evalkit.records.exchange import Failure, FinishReason, Score, Unscored

if TYPE_CHECKING:
    from inspect_ai.log import EvalSample

LETTERS: Final[Mapping[str, float]] = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
"""inspect's grades: correct, partial, incorrect, no answer."""
WORDS: Final[Mapping[str, float]] = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
"""Whatever their case."""
LONGEST_NOTE: Final = 300
"""Characters of a message that are kept."""


def to_number(value: Any) -> float | None:  # noqa: ANN401 - any value of a score
    """Return a score's value as inspect's ``value_to_float`` does; None where that finds no number.

    >>> [to_number(value) for value in ("C", "P", "No", True, "0.25", "maybe")]
    [1.0, 0.5, 0.0, 1.0, 0.25, None]
    """
    if isinstance(value, int | float):
        return finite(value) if isinstance(value, int) else value
    if not isinstance(value, str):
        return None
    if value in LETTERS:
        return LETTERS[value]
    if value.lower() in WORDS:
        return WORDS[value.lower()]
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def is_grade(value: Any) -> bool:  # noqa: ANN401 - any value of a score
    """Return whether a value is one of inspect's grades, which lie between 0 and 1."""
    if isinstance(value, str):
        return value in LETTERS or value.lower() in WORDS
    return isinstance(value, bool)


@dataclass(frozen=True)
class Value:
    """What one scorer gave to one sample, or one key of it."""

    sample: EvalSample
    raw: Any
    recorded: Score | Unscored


def parts_of(value: Any) -> Iterator[tuple[str | None, Any]]:  # noqa: ANN401 - any value of a score
    """Yield the keys, or places, of a value with what they hold; None for a plain value."""
    if isinstance(value, Mapping):
        yield from ((str(key), held) for key, held in value.items())
    elif isinstance(value, list | tuple):
        yield from ((str(place), held) for place, held in enumerate(value))
    else:
        yield None, value


def recorded(score: Any, raw: Any) -> Score | Unscored:  # noqa: ANN401 - inspect's Score
    """Return what a scorer gave, as a score or as the reason why it is none; ``raw`` is the value, or a part of it."""
    number = to_number(raw)
    note = " – ".join(str(text) for text in (score.answer, score.explanation) if text)[
        :LONGEST_NOTE
    ]
    if number is None:
        return Unscored("the value is no number", f"{raw!r} {note}"[:LONGEST_NOTE])
    if not math.isfinite(number):
        return Unscored(
            str(score.reason)[:60] if score.reason else "inspect left it ungraded", note
        )
    return Score((number,), note)


def as_inspect_counts(raw: Any) -> float:  # noqa: ANN401 - any value of a score
    """Return the number that inspect's aggregates count: 0 for what is none."""
    number = to_number(raw)
    return 0.0 if number is None else number


def failure_of(sample: EvalSample) -> Failure | None:
    """Return why a sample does not count; None where it does."""
    if sample.error is not None:
        return Failure("", "no_answer", str(sample.error.message)[:LONGEST_NOTE], 1)
    if sample.invalidation is not None:
        return Failure("", "no_answer", "somebody marked the sample as invalid", 1)
    return None


def content_digest(sample: EvalSample) -> str:
    """Return the digest of what a sample asks and what is right."""
    asked = asked_of(sample)
    return digest_bytes(plain_json([asked, sample.choices, sample.target]))


def asked_of(sample: EvalSample) -> dict[str, Any]:
    """Return what was asked as rows hold it, choices lettered behind it."""
    choices = "".join(
        f"\n{chr(65 + place)}) {text}" for place, text in enumerate(sample.choices or ())
    )
    if isinstance(sample.input, str):
        return {"prompt": sample.input + choices}
    messages = [{"role": m.role, "content": m.text} for m in sample.input]
    if messages:
        messages[-1]["content"] += choices
    return {"messages": messages}


_ENDINGS: Final[Mapping[str, FinishReason]] = {
    "stop": "stop",
    "max_tokens": "length",
    "model_length": "length",
}


def answer_of(sample: EvalSample) -> dict[str, Any]:
    """Return the last answer as rows hold it."""
    if sample.error is not None:
        return {"failed": "no_answer"}
    choices = sample.output.choices
    ending = _ENDINGS.get(choices[0].stop_reason, "other") if choices else "other"
    return {"text": sample.output.completion, "finish_reason": ending}
