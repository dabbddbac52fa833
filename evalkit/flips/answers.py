"""What was asked and answered: the texts of the samples that a ledger shows, out of one reading of a run's rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from evalkit.flips.ledger import Flip, FlipLedger, SliceFlips
from evalkit.records.exchange import Role

Row = Mapping[str, Any]
"""A row of ``samples.jsonl``."""
Place = tuple[str, str]
"""Task and sample id."""


def shown_samples(ledgers: Iterable[FlipLedger]) -> set[Place]:
    """Return the samples that these ledgers show."""
    return {
        (ledger.task, flip.sample)
        for ledger in ledgers
        for held in (ledger.whole, *ledger.slices)
        for flip in (*held.worse, *held.better)
    }


def find_rows(
    rows: Iterable[Row], roles: Iterable[Role], places: Iterable[Place]
) -> dict[Role, dict[Place, Row]]:
    """Return each role's rows at these places, reading ``rows`` once and no further than the last of them."""
    found: dict[Role, dict[Place, Row]] = {role: {} for role in roles}
    wanted = set(places)
    missing = len(wanted) * len(found)
    if not missing:
        return found
    for row in rows:
        place = row["task"], row["id"]
        if row["model"] in found and place in wanted:
            found[row["model"]][place] = row
            missing -= 1
            if not missing:
                break
    return found


def with_answers(
    ledger: FlipLedger, candidate: Mapping[Place, Row], baseline: Mapping[Place, Row]
) -> FlipLedger:
    """Return the ledger with what was asked and answered, from each model's rows."""

    def answered(flip: Flip) -> Flip:
        place = ledger.task, flip.sample
        ours, theirs = candidate.get(place, {}), baseline.get(place, {})
        texts = {
            "question": _question(ours or theirs),
            "targets": _targets(ours or theirs),
            "candidate_answers": _answers(ours),
            "baseline_answers": _answers(theirs),
        }
        return flip.model_copy(update=texts)

    def filled(held: SliceFlips) -> SliceFlips:
        worse, better = tuple(map(answered, held.worse)), tuple(map(answered, held.better))
        return held.model_copy(update={"worse": worse, "better": better})

    slices = tuple(map(filled, ledger.slices))
    return ledger.model_copy(update={"whole": filled(ledger.whole), "slices": slices})


def _question(row: Row) -> str:
    messages = row.get("messages")
    return _encodable(messages[-1]["content"] if messages else row.get("prompt") or "")


def _targets(row: Row) -> tuple[str, ...]:
    """Return the targets, those of a multiple-choice task as the text of their choice."""
    choices, targets = row.get("choices", ()), row.get("targets", ())
    return tuple(_encodable(choices[int(t)] if choices else t) for t in targets)


def _answers(row: Row) -> tuple[str, ...]:
    """Return one text per answer; of the choices of a multiple-choice task one text, the likeliest first."""
    answers, choices = row.get("answers", ()), row.get("choices", ())
    if choices and len(answers) == len(choices):
        ranked = sorted(zip(answers, choices, strict=True), key=lambda a: -a[0].get("logprob", 0.0))
        return (", ".join(f"{_encodable(choice)} {_answer(answer)}" for answer, choice in ranked),)
    return tuple(map(_answer, answers))


def _answer(answer: Row) -> str:
    if "variant" in answer:  # of a counterfactual task: whose answer it is
        plain = {key: value for key, value in answer.items() if key != "variant"}
        return f"{answer['variant']}: {_answer(plain)}"
    if "text" in answer:
        return _encodable(answer["text"])
    return f"{answer['logprob']:.2f}" if "logprob" in answer else f"failed: {answer['failed']}"


def _encodable(text: str) -> str:
    """Return the text with lone surrogates, which no file or terminal takes, written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()
