"""What a judge is asked about the rows of a run: one planned sample per row, ready to be sent like any other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from evalkit.identity import derived_seed
from evalkit.judging.prompts import Prompt
from evalkit.judging.reading import read_pairwise, read_pointwise
from evalkit.judging.settling import Row, question_of, settled, texts_of
from evalkit.planning import PlannedSample
from evalkit.planning.requests import Generation, Likelihood, reason
from evalkit.records.exchange import Completion, Failure, Message, Model, Request, Sample
from evalkit.records.judging import Judgement
from evalkit.records.suite import JudgeSpec

ABSENT = "the model gave no answer"
NO_TEXT = "the answer is no text"
NO_PAIR = "the baseline gave no answer"
NO_REFERENCE = "no target to show as the reference"
EQUAL = "equal answers"
"""Why a pair is a tie without a judge: both orders are one question, which no preference can answer alike."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be judged: a question with its answer, or with the candidate's and the baseline's."""

    id: str
    """The sample's id, or the item's."""
    question: str
    """What was asked."""
    answers: tuple[str, ...]
    """One answer per replicate, without reasoning."""
    others: tuple[str, ...] = ()
    """Pairwise: the baseline's, one per replicate."""
    reference: str = ""
    """The right answer; empty where there is none."""
    settled: tuple[tuple[str, str], ...] = ()
    """Why the answer, and the baseline's, need no judge, replicate by replicate; texts are empty where they do, and all
    is where each of them does."""
    absent: str = ""
    """Why there is nothing to judge; empty where there is."""


def questions(
    rows: Iterable[Row],
    spec: JudgeSpec,
    constants: frozenset[bytes] = frozenset(),
    baseline: Callable[[str], Row | None] | None = None,
    baseline_constants: frozenset[bytes] = frozenset(),
) -> Iterator[tuple[Question, Row]]:
    """Yield what a judge is to look at, row by row of ``samples.jsonl``, with the row.

    A pairwise judge needs ``baseline``, sample id → the baseline's row. ``constants`` are digests of answers that the
    model gives to everything (``settling.constant_answers``).
    """
    for row in rows:
        identifier, texts = str(row["id"]), texts_of(row)
        targets = row.get("targets") or ()
        reference = str(targets[0]) if spec.reference and targets else ""
        absent = (ABSENT if "failed" in row else NO_TEXT) if texts is None else ""
        if spec.reference and not reference:
            absent = absent or NO_REFERENCE
        others: list[str] = []
        if spec.form == "pairwise":
            assert baseline is not None, "a pairwise judge compares with a baseline"
            held = baseline(identifier)
            found = None if held is None else texts_of(held)
            absent = absent or (NO_PAIR if found is None else "")
            others = found or []
        texts = texts or []
        yield (
            Question(
                identifier,
                question_of(row),
                tuple(texts),
                tuple(others),
                reference,
                tuple(
                    (settled(ours, constants), settled(theirs, baseline_constants))
                    if spec.form == "pairwise"
                    else (settled(ours, constants), "")
                    for ours, theirs in zip_longest(texts, others, fillvalue="")
                ),
                absent,
            ),
            row,
        )


class Asker:
    """Turns questions into requests to one judge, and what comes back into judgements."""

    def __init__(self, spec: JudgeSpec, model: Model, *, repeat: int = 0) -> None:
        """``repeat`` numbers independent passes over the same questions; sampled replies differ between them."""
        self.spec = spec
        self._prompt, self._repeat = Prompt(spec), repeat
        self._generation = Generation(spec.judge, model, spec.decoding)
        self._likelihood = Likelihood(spec.judge, model)

    def plan(self, question: Question, row: Row | None = None) -> PlannedSample:
        """Return the requests about one question; none where it is settled, absent or cannot be put into the prompt."""
        requests: tuple[Request, ...] = ()
        absent = question.absent
        if not absent:
            try:
                requests = tuple(self._requests(question))
            except Exception as error:  # the template may be the user's code
                absent = f"the judge's prompt cannot be rendered: {reason(error)}"
        held: Row = row or {}
        sample = Sample(
            id=question.id,
            index=0,
            fields={"question": question, "absent": absent},
            targets=tuple(map(str, held.get("targets") or ())),
            choices=(),
            attributes=held.get("slices", {}),
            cluster=held.get("cluster"),
        )
        return PlannedSample(sample, requests, len(requests))

    def judgement(
        self, planned: PlannedSample, outcomes: Sequence[Completion | Failure]
    ) -> Judgement:
        """Return what the judge says of a planned question: over replicates the mean, none where one has none."""
        question: Question = planned.sample.fields["question"]
        if absent := planned.sample.fields["absent"]:
            return Judgement(None, absent)
        found = [self._settled(question, place) for place in range(self._replicates(question))]
        width = len(outcomes) // max(sum(each is None for each in found), 1)
        read = read_pairwise if self.spec.form == "pairwise" else read_pointwise
        starts = iter(range(0, len(outcomes), width or 1))
        shown = (*question.answers, *question.others)  # none of them may speak for the judge
        return _mean(
            [
                read(self.spec, outcomes[(start := next(starts)) : start + width], shown)
                if each is None
                else each
                for each in found
            ]
        )

    def _settled(self, question: Question, replicate: int) -> Judgement | None:
        """Return what is to be said of one replicate without asking; None where the judge must say it."""
        ours, theirs = question.settled[replicate] if question.settled else ("", "")
        if self.spec.form == "pointwise":
            return Judgement(0.0, settled=ours) if ours else None
        if ours or theirs:
            value = (bool(theirs) - bool(ours)) / 2 + 0.5
            return Judgement(value, settled=ours or f"{theirs} of the baseline")
        if question.answers[replicate] == question.others[replicate]:
            return Judgement(0.5, settled=EQUAL)
        return None

    def _replicates(self, question: Question) -> int:
        if self.spec.form == "pairwise":
            return min(len(question.answers), len(question.others))
        return len(question.answers)

    def _requests(self, question: Question) -> Iterator[Request]:
        for replicate in range(self._replicates(question)):
            if self._settled(question, replicate) is not None:
                continue
            ours = question.answers[replicate]
            if self.spec.form == "pointwise":
                shown = [{"answer": ours}]
            else:
                theirs = question.others[replicate]
                shown = [
                    {"answer_a": ours, "answer_b": theirs},
                    {"answer_a": theirs, "answer_b": ours},
                ]
            for order, answers in enumerate(shown):
                prompt = self._prompt.of(question.question, answers, question.reference)
                yield from self._asked(question.id, prompt, replicate * len(shown) + order)

    def _asked(self, identifier: str, prompt: str, number: int) -> Iterator[Request]:
        if self.spec.read == "probabilities":
            for continuation in self._continuations():
                yield self._likelihood.request(identifier, prompt, continuation, replicate=number)
            return
        decoding = self.spec.decoding
        seed = None
        if decoding.temperature > 0:
            seed = derived_seed(decoding.seed, identifier, number, self._repeat)
        messages = (Message("user", prompt),) if self.spec.chat else None
        yield self._generation.request(
            identifier, "" if messages else prompt, messages, seed=seed, replicate=number
        )

    def _continuations(self) -> list[str]:
        low, high = self.spec.scale
        if self.spec.form == "pairwise":
            return [" A", " B"]
        return [f" {value}" for value in range(low, high + 1)]


def _mean(judgements: Sequence[Judgement]) -> Judgement:
    """Return the mean of one sample's judgements; the first one's reason where any has no value."""
    if len(judgements) == 1:
        return judgements[0]
    for judgement in judgements:
        if judgement.value is None:
            return judgement
    values = [judgement.value for judgement in judgements if judgement.value is not None]
    firsts = [judgement.first for judgement in judgements if judgement.first is not None]
    orders = [judgement.consistent for judgement in judgements if judgement.consistent is not None]
    reasons = [judgement.settled for judgement in judgements]
    return Judgement(
        sum(values) / len(values),
        settled=reasons[0] if all(reasons) else "",
        first=sum(firsts) / len(firsts) if firsts else None,
        consistent=all(orders) if orders else None,
        note=judgements[0].note,
    )


def as_row(sample: str, task: str, role: str, judge: str, judgement: Judgement) -> dict[str, Any]:
    """Return a judgement as ``judgements.jsonl`` holds it."""
    held = {"model": role, "task": task, "id": sample, "judge": judge, "value": judgement.value}
    for name in ("reason", "settled", "first", "consistent", "note"):
        value = getattr(judgement, name)
        if value not in ("", None):
            held[name] = value
    return held


def from_row(row: Row) -> Judgement:
    """Return the judgement that a row of ``judgements.jsonl`` holds."""
    return Judgement(
        row["value"],
        row.get("reason", ""),
        row.get("settled", ""),
        row.get("first"),
        row.get("consistent"),
        row.get("note", ""),
    )
