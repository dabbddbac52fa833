"""A judge's replies → its judgement.

What is read is the last verdict of a reply: judges that think aloud name several, and an answer under judgement may
have slipped one in before. First the last JSON object that has the key; without any, the last written form
(``Score: 4``, ``[[A]]``). A verdict that is not on the scale is none: it is never clipped.

Pairwise judges are asked in both orders. Where both prefer the same answer, that is the verdict; where they differ, a
tie: what turns with the order is no preference.

**Source**: Zheng et al. 2023, arXiv 2306.05685 (both orders; ``[[A]]``); Liu et al. 2023, arXiv 2303.16634 (expectation
over the scale's probabilities).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from math import exp
from typing import Any, Final, Literal

from evalkit.metrics.answer import final_answer
from evalkit.records.exchange import Completion, Failure
from evalkit.records.judging import Judgement
from evalkit.records.suite import JudgeSpec

VERSION: Final = 1
"""Grows when the same replies would be read differently; part of a card's pins."""
NO_ANSWER: Final = "the judge did not answer"
NO_VERDICT: Final = "no verdict"
NOTE_LENGTH: Final = 200
"""Characters kept of a judge's reason."""
SAME_TOKEN: Final = 0.1
"""Log-probabilities nearer than this are one token's, as far as an engine's noise goes."""
_SCORE = re.compile(
    r"(?:\b(?:score|rating|grade)\b[^\w-]{0,6}|\[\[\s*)(-?\d+(?:\.\d+)?)", re.IGNORECASE
)
_WINNER = re.compile(
    r"(?:\b(?:winner|verdict|better answer is|better is|choice)\b\W{0,6}(?:answer\s+)?|\[\[\s*)(a|b|c|tie)\b",
    re.IGNORECASE,
)
Winner = Literal["A", "B", "tie"]


def read_pointwise(spec: JudgeSpec, outcomes: Sequence[Completion | Failure]) -> Judgement:
    """Return what one reply says of one answer; of likelihoods, one outcome per value of the scale, their mean."""
    if any(isinstance(outcome, Failure) for outcome in outcomes):
        return Judgement(None, NO_ANSWER)
    completions = [outcome for outcome in outcomes if isinstance(outcome, Completion)]
    low, high = spec.scale
    if spec.read == "probabilities":
        values = range(low, high + 1)
        shares = _shares(completions, [str(value) for value in values])
        mean = sum(share * value for share, value in zip(shares, values, strict=True))
        return Judgement((mean - low) / (high - low))
    score, note = score_of(completions[0].text, low, high)
    if score is None:
        return Judgement(None, NO_VERDICT, note=note)
    return Judgement((score - low) / (high - low), note=note)


def read_pairwise(spec: JudgeSpec, outcomes: Sequence[Completion | Failure]) -> Judgement:
    """Return what the replies in both orders say: first those with the candidate's answer as A, then as B.

    Of likelihoods each order has two outcomes, for A and B.
    """
    if any(isinstance(outcome, Failure) for outcome in outcomes):
        return Judgement(None, NO_ANSWER)
    completions = [outcome for outcome in outcomes if isinstance(outcome, Completion)]
    half = len(completions) // 2
    winners, notes = [], []
    for replies in (completions[:half], completions[half:]):
        winner, note = _winner(spec, replies)
        winners.append(winner)
        notes.append(note)
    note = notes[0] or notes[1]
    forwards, backwards = winners
    if forwards is None or backwards is None:
        return Judgement(None, NO_VERDICT, note=note)
    decided = [winner for winner in (forwards, backwards) if winner != "tie"]
    first = sum(winner == "A" for winner in decided) / len(decided) if decided else None
    consistent = forwards == {"A": "B", "B": "A", "tie": "tie"}[backwards]
    value = {"A": 1.0, "B": 0.0, "tie": 0.5}[forwards] if consistent else 0.5
    return Judgement(value, first=first, consistent=consistent, note=note)


def score_of(reply: str, low: int, high: int) -> tuple[int | None, str]:
    """Return the score that a reply ends on, and the reason it gives; None where there is none on the scale.

    >>> score_of('At first I thought {"score": 2}, but: {"reason": "right", "score": 5}', 1, 5)
    (5, 'right')
    >>> score_of("Score: 7 out of 5", 1, 5)
    (None, '')
    """
    text = final_answer(reply)
    held = _last_object(text, "score")
    if held is not None:
        return _whole(held["score"], low, high), _note(held)
    found = _SCORE.findall(text)
    return (_whole(found[-1], low, high) if found else None), ""


def winner_of(reply: str) -> tuple[Winner | None, str]:
    """Return which answer a reply ends on, and the reason it gives; None where it names none.

    >>> winner_of('[[A]]? No: {"reason": "shorter", "winner": "B"}')
    ('B', 'shorter')
    """
    text = final_answer(reply)
    held = _last_object(text, "winner")
    if held is not None:
        return _named(held["winner"]), _note(held)
    found = _WINNER.findall(text)
    return (_named(found[-1]) if found else None), ""


def _winner(spec: JudgeSpec, replies: Sequence[Completion]) -> tuple[Winner | None, str]:
    if spec.read == "text":
        return winner_of(replies[0].text)
    for_a, for_b = _shares(replies, ("A", "B"))
    return ("tie" if for_a == for_b else "A" if for_a > for_b else "B"), ""


def _shares(completions: Sequence[Completion], texts: Sequence[str]) -> list[float]:
    """Return the probabilities of continuations, given that it is one of them.

    Where tokens are digits, ``1`` is how ``10`` begins, and its probability holds that of ``10``: that is taken off.
    """
    sums = [sum(completion.logprobs or ()) for completion in completions]
    greatest = max(sums)
    weights = [exp(each - greatest) for each in sums]
    for n, (text, completion) in enumerate(zip(texts, completions, strict=True)):
        longer = (
            weights[m]
            for m, other in enumerate(texts)
            if other != text and other.startswith(text) and _begins(completion, completions[m])
        )
        weights[n] = max(weights[n] - sum(longer), 0.0)
    return [weight / sum(weights) for weight in weights]


def _begins(one: Completion, other: Completion) -> bool:
    """Tell whether one continuation's tokens are how another's begin, by their log-probabilities."""
    ours, theirs = one.logprobs or (), other.logprobs or ()
    same = (abs(a - b) < SAME_TOKEN for a, b in zip(ours, theirs, strict=False))
    return 0 < len(ours) < len(theirs) and all(same)


def _last_object(text: str, key: str) -> dict[str, Any] | None:
    """Return the last JSON object in a text that has a key; the outer one where one holds another."""
    last = None
    for held in _objects(text):
        if key in held:
            last = held
    return last


def _objects(text: str) -> Iterator[dict[str, Any]]:
    decoder, place = json.JSONDecoder(), text.find("{")
    while place >= 0:
        try:
            held, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            end = place + 1
        else:
            if isinstance(held, dict):
                yield held
        place = text.find("{", end)


def _whole(found: Any, low: int, high: int) -> int | None:  # noqa: ANN401 - whatever a judge wrote
    """Return a whole number on the scale; None for anything else."""
    if isinstance(found, bool) or not isinstance(found, int | float | str):
        return None
    try:
        number = float(found)
    except (ValueError, OverflowError):  # no number, or a whole one beyond any float
        return None
    return int(number) if number.is_integer() and low <= number <= high else None


def _named(found: Any) -> Winner | None:  # noqa: ANN401 - whatever a judge wrote
    if not isinstance(found, str):
        return None
    names: dict[str, Winner] = {"a": "A", "b": "B", "tie": "tie", "c": "tie"}
    return names.get(found.strip().lower().removeprefix("answer").strip())


def _note(held: dict[str, Any]) -> str:
    said = held.get("reason")
    return " ".join(said.split())[:NOTE_LENGTH] if isinstance(said, str) else ""
