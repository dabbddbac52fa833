"""A judge's replies → its judgement.

What is read is the last verdict of a reply: judges that think aloud name several, and an answer under judgement may
have slipped one in before. First the last JSON object that has the key; without any, the last written form
(``Score: 4``, ``[[A]]``). What a reply repeats of an answer, word for word, is the answer's and not the judge's. A
verdict that is not on the scale is none: it is never clipped.

Pairwise judges are asked in both orders. Where both prefer the same answer, that is the verdict; where they differ, a
tie: what turns with the order is no preference.

**Source**: Zheng et al. 2023, arXiv 2306.05685 (both orders; ``[[A]]``); Liu et al. 2023, arXiv 2303.16634 (expectation
over the scale's probabilities).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from math import exp, isfinite
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
    r"(?:\b(?:score|rating|grade)\b(?:\s*\([^()]{0,24}\))?[^\w-]{0,6}|\[\[\s*)"
    r"(-?\d+(?:\.\d+)?)(?!\d|\.\d|\s*[-–—]\s*\d)",
    re.IGNORECASE,
)
"""``Score: 4``, ``Score (1-5): 4``, ``[[4]]``; a scale, ``1-5``, is no score."""
_WINNER = re.compile(
    r"(?:\b(?i:winner|verdict|better answer is|better is|choice)\b\W{0,6}(?i:answer\s+)?"
    r"(?:(?i:an?\s+)?(?P<tie>(?i:tie))\b|(?P<letter>[ABC])\b(?!\s+(?!is\b|because\b|as\b|since\b)[a-z]))"
    r"|\[\[\s*(?P<marked>(?i:[abc]|tie))\b)"
)
"""``Winner: A``, ``Verdict: a tie``, ``[[B]]``; an ``a`` that begins a word's group is no answer's name."""
_OPENED = re.compile(r"\{\s*\"")
"""How an object of JSON begins that has a key."""
_BRACE = re.compile(r"[{}]")
Winner = Literal["A", "B", "tie"]


def read_pointwise(
    spec: JudgeSpec, outcomes: Sequence[Completion | Failure], answers: Sequence[str] = ()
) -> Judgement:
    """Return what one reply says of one answer; of likelihoods, one outcome per value of the scale, their mean.

    ``answers`` are the texts under judgement: what a reply repeats of them is no verdict.
    """
    if any(isinstance(outcome, Failure) for outcome in outcomes):
        return Judgement(None, NO_ANSWER)
    completions = [outcome for outcome in outcomes if isinstance(outcome, Completion)]
    low, high = spec.scale
    if spec.read == "probabilities":
        values = range(low, high + 1)
        shares = _shares(completions, [str(value) for value in values])
        if shares is None:
            return Judgement(None, NO_VERDICT)
        mean = sum(share * value for share, value in zip(shares, values, strict=True))
        return Judgement((mean - low) / (high - low))
    score, note = score_of(completions[0].text, low, high, answers)
    if score is None:
        return Judgement(None, NO_VERDICT, note=note)
    return Judgement((score - low) / (high - low), note=note)


def read_pairwise(
    spec: JudgeSpec, outcomes: Sequence[Completion | Failure], answers: Sequence[str] = ()
) -> Judgement:
    """Return what the replies in both orders say: first those with the candidate's answer as A, then as B.

    Of likelihoods each order has two outcomes, for A and B. ``answers`` are the texts under judgement.
    """
    if any(isinstance(outcome, Failure) for outcome in outcomes):
        return Judgement(None, NO_ANSWER)
    completions = [outcome for outcome in outcomes if isinstance(outcome, Completion)]
    half = len(completions) // 2
    winners, notes = [], []
    for replies in (completions[:half], completions[half:]):
        winner, note = _winner(spec, replies, answers)
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


def score_of(
    reply: str, low: int, high: int, answers: Sequence[str] = ()
) -> tuple[int | None, str]:
    """Return the score that a reply ends on, and the reason it gives; None where there is none on the scale.

    >>> score_of('At first I thought {"score": 2}, but: {"reason": "right", "score": 5}', 1, 5)
    (5, 'right')
    >>> score_of("Score: 7 out of 5", 1, 5)
    (None, '')
    """
    found, note = _verdict(reply, "score", _SCORE, answers)
    return _whole(found, low, high), note


def winner_of(reply: str, answers: Sequence[str] = ()) -> tuple[Winner | None, str]:
    """Return which answer a reply ends on, and the reason it gives; None where it names none.

    >>> winner_of('[[A]]? No: {"reason": "shorter", "winner": "B"}')
    ('B', 'shorter')
    """
    found, note = _verdict(reply, "winner", _WINNER, answers)
    return _named(found), note


def _verdict(
    reply: str, key: str, written: re.Pattern[str], answers: Sequence[str]
) -> tuple[Any, str]:
    """Return what a reply ends on, as it was written, and the reason beside it; None where it ends on nothing.

    Objects first, then written forms, but none that stands in an answer as it does in the reply: a judge that repeats
    an answer has not judged it. An object that cannot be read, since its reason holds quotes, may have in it what an
    answer says: objects within it are not read, and written forms only where no doubt is left whose they are.
    """
    text = final_answer(reply)
    repeated = [_bare(answer) for answer in answers]

    def own(said: str) -> bool:
        bare = _bare(said)
        return not any(bare in answer for answer in repeated)

    objects, broken = _objects(text)
    held = [each for each, said in objects if key in each and own(said)]
    if held:
        return held[-1][key], _note(held[-1])
    spans = [(start, end) for start, end in broken if f'"{key}"' in text[start:end]]
    start, end = spans[-1] if spans else (0, len(text))
    matches = list(written.finditer(text, start, end))
    if spans and not _beyond_doubt(text, start, end, matches):
        return None, ""
    found = [_group(match) for match in matches if own(match[0])]
    return (found[-1], "") if found else (None, "")


def _group(match: re.Match[str]) -> str:
    return next(str(group) for group in match.groups() if group)


def _beyond_doubt(text: str, start: int, end: int, matches: Sequence[re.Match[str]]) -> bool:
    """Tell whether written forms within an object that cannot be read are its own, and say one thing.

    One that has no end was cut off: its own is then what it begins with, and nothing else.
    """
    if len({_group(match).lower() for match in matches}) > 1:
        return False
    places = [match.start() for match in matches]
    if text.count("{", start, end) > text.count("}", start, end):
        return all(text[start:place].strip(' \n\t"') == "{" for place in places)
    return all(text.count("{", start, p) - text.count("}", start, p) == 1 for p in places)


def _bare(text: str) -> str:
    """Return text without white space, some of which ``prompts.defused`` adds, and without capitals."""
    return "".join(text.split()).lower()


def _winner(
    spec: JudgeSpec, replies: Sequence[Completion], answers: Sequence[str]
) -> tuple[Winner | None, str]:
    if spec.read == "text":
        return winner_of(replies[0].text, answers)
    shares = _shares(replies, ("A", "B"))
    if shares is None:
        return None, ""
    for_a, for_b = shares
    return ("tie" if for_a == for_b else "A" if for_a > for_b else "B"), ""


def _shares(completions: Sequence[Completion], texts: Sequence[str]) -> list[float] | None:
    """Return the probabilities of continuations, given that it is one of them; None where they are no probabilities.

    Where tokens are digits, ``1`` is how ``10`` begins, and its probability holds that of ``10``: that is taken off.
    """
    if not all(completion.logprobs for completion in completions):
        return None  # nothing was told of one of them, which is not the same as certainty
    sums = [sum(completion.logprobs or ()) for completion in completions]
    greatest = max(sums)
    if not all(each <= greatest for each in sums) or not isfinite(greatest):
        return None
    weights = [exp(each - greatest) for each in sums]
    for n, (text, completion) in enumerate(zip(texts, completions, strict=True)):
        longer = (
            weights[m]
            for m, other in enumerate(texts)
            if other != text and other.startswith(text) and _begins(completion, completions[m])
        )
        weights[n] = max(weights[n] - sum(longer), 0.0)
    total = sum(weights)
    return [weight / total for weight in weights] if total > 0 else None


def _begins(one: Completion, other: Completion) -> bool:
    """Tell whether one continuation's tokens are how another's begin, by their log-probabilities."""
    ours, theirs = one.logprobs or (), other.logprobs or ()
    same = (abs(a - b) < SAME_TOKEN for a, b in zip(ours, theirs, strict=False))
    return 0 < len(ours) < len(theirs) and all(same)


def _objects(text: str) -> tuple[list[tuple[dict[str, Any], str]], list[tuple[int, int]]]:
    """Return the outermost JSON objects of a text, each with its source, and where objects lie that cannot be read.

    One that cannot be read ends where its braces do, whatever is quoted; else it reaches to the text's end.
    """
    decoder, place = json.JSONDecoder(), text.find("{")
    found: list[tuple[dict[str, Any], str]] = []
    broken: list[tuple[int, int]] = []
    while place >= 0:
        try:
            held, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            end = place + 1
            if _OPENED.match(text, place):
                end = _closed(text, place)
                broken.append((place, end))
        else:
            found.append((held, text[place:end]))
        place = text.find("{", end)
    return found, broken


def _closed(text: str, start: int) -> int:
    """Return where the braces opened at ``start`` are closed; the text's end where they are not."""
    depth = 0
    for brace in _BRACE.finditer(text, start):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.end()
    return len(text)


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
