"""Answers that need no judge: an empty one is the worst there is, and so is one that is given to every question.

Judges reward both: a constant text wins against real answers on a well-known benchmark, and a bare colon is called
right. Such answers are settled before a judge sees them.

**Source**: Zheng et al. 2024, arXiv 2410.07137 (null models); Zhao et al. 2025, arXiv 2507.08794 (one-token attacks).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from evalkit.metrics.answer import final_answer

EMPTY: Final = "empty answer"
CONSTANT: Final = "constant answer"
FEWEST: Final = 20
"""Least number of answers of a model to a task among which one may be called constant."""

Row = Mapping[str, Any]
"""One row of ``samples.jsonl``."""


def texts_of(row: Row) -> list[str] | None:
    """Return a row's answers without their reasoning; None where the model gave none, or gives no text."""
    if "failed" in row:
        return None
    texts = [answer.get("text") for answer in row["answers"]]
    return (
        None if None in texts or not texts else [final_answer(str(text)).strip() for text in texts]
    )


def question_of(row: Row) -> str:
    """Return what a row asked: its prompt, or its messages one below the other."""
    if "messages" in row:
        return "\n\n".join(f"{m['role']}: {m['content']}" for m in row["messages"])
    return str(row.get("prompt", ""))


def constant_answers(rows: Iterable[Row]) -> frozenset[bytes]:
    """Return digests of answers that more than half of a model's samples of one task share, of at least ``FEWEST``.

    Questions that are themselves alike do not count as many; and where most targets are the same, so may answers be.
    """
    answers: Counter[bytes] = Counter()
    targets: Counter[str] = Counter()
    questions = set()
    for row in rows:
        for text in (texts_of(row) or ())[:1]:
            question = digest_of(question_of(row))
            if question in questions:
                continue
            questions.add(question)
            answers[digest_of(text)] += 1
            targets[str(row.get("targets"))] += 1
    if len(questions) < FEWEST:
        return frozenset()
    (_, commonest), *_ = targets.most_common(1)
    if commonest > len(questions) / 2 and len(targets) > 1:
        return frozenset()
    return frozenset(answer for answer, n in answers.items() if n > len(questions) / 2)


def settled(text: str, constants: frozenset[bytes]) -> str:
    """Return why an answer needs no judge; empty where it does."""
    if not any(each.isprintable() and not each.isspace() for each in text):
        return EMPTY  # zero-width and control characters are nothing that anybody could read
    return CONSTANT if digest_of(text) in constants else ""


def digest_of(text: str) -> bytes:
    """Return 16 bytes that tell texts apart."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]
