"""The flip ledger: which samples got worse and better, in which slices that is no accident, and both answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from evalkit.flips import Flip, FlipLedger, find_rows, shown_samples, with_answers
from evalkit.flips.ledger import SliceFlips
from evalkit.records.scorecard import Comparison
from evalkit.reports.clean import printable, printable_lines
from evalkit.reports.flip_ledger import p_text
from evalkit.reports.page.flipped import run_ledgers
from evalkit.reports.page.sample_texts import ROLES, cut
from evalkit.reports.page.section import Section, fragment
from evalkit.reports.reported import FinishedRun
from evalkit.reports.view import number, signed, span

MOST_SLICES: Final = 30
"""Slices of one ledger that are shown; findings always are."""
MOST_LEDGERS: Final = 100
"""Tasks shown, those that need attention first."""
LONGEST: Final = 1_500
"""Characters of one text."""
MOST_ANSWERS: Final = 3
"""Answers to one sample, where it was asked several times."""


@dataclass(frozen=True, slots=True)
class Text:
    """One text, harmless, cut where it is long."""

    head: str
    """Its beginning, or all of it."""
    left_out: str = ""
    """Characters left out behind the beginning, with their unit; empty where none are."""
    tail: str = ""
    """Its end behind what is left out."""


def section(run: FinishedRun) -> Section | None:
    """Return who changed sides; None where nothing was compared sample by sample."""
    counted = [c for c in run.scorecard.comparisons if c.slice is None and c.worsened is not None]
    if not counted:
        return None
    if not run.has_samples:
        body = fragment(
            "flips.html", parts=[], counted=list(map(_counted, counted)), hidden=0, run=""
        )
        return Section("flips", "Flips", body, told="Who got worse, and who better.")
    found = run_ledgers(run)
    found.sort(key=_attention)
    ledgers = found[:MOST_LEDGERS]
    rows = find_rows(run.rows(), ROLES, shown_samples(ledgers))
    filled = [with_answers(each, rows["candidate"], rows["baseline"]) for each in ledgers]
    worse = sum(ledger.whole.worsened for ledger in found if ledger.binary)
    return Section(
        id="flips",
        title="Flips",
        body=fragment(
            "flips.html",
            parts=[
                {**_part(ledger), "id": f"flips-{number}"} for number, ledger in enumerate(filled)
            ],
            counted=[],
            hidden=len(found) - len(ledgers),
            run=printable(run.path.name),
        ),
        told="Samples that the candidate answers worse or better than the baseline, paired by id.",
        count=f"{worse:,} worse" if worse else "",
        script="samples.js",
        style="samples.css",
    )


def _attention(ledger: FlipLedger) -> tuple[bool, int, int]:
    """Return a ledger's place: flips before movements of means, what is shown worse first, then the most losses."""
    shown = {"worse": 0, "": 1, "better": 2}[ledger.whole.finding]
    return not ledger.binary, shown, -ledger.whole.worsened


def _counted(comparison: Comparison) -> dict[str, str]:
    return {
        "name": printable(comparison.name),
        "pairs": f"{comparison.pairs:,}",
        "worsened": f"{comparison.worsened or 0:,}",
        "improved": f"{comparison.improved or 0:,}",
        "difference": signed(comparison.difference),
    }


def _part(ledger: FlipLedger) -> dict[str, object]:
    """Return what the fragment shows of a ledger."""
    findings = [held for held in ledger.slices if held.finding]
    rest = [held for held in ledger.slices if not held.finding]
    slices = [*findings, *rest][: max(MOST_SLICES, len(findings))]
    lost = [printable(held.slice or "") for held in findings if held.finding == "worse"]
    gained = [printable(held.slice or "") for held in findings if held.finding == "better"]
    return {
        "task": printable(ledger.task),
        "name": printable(ledger.name),
        "binary": ledger.binary,
        "unit": ledger.unit,
        "whole": _slice(ledger.whole),
        "lost": lost,
        "gained": gained,
        "slices": [_slice(held) for held in slices],
        "more_slices": len(ledger.slices) - len(slices),
        "of_slices": len(ledger.slices),
        "worse": [_flip(flip, ledger) for flip in ledger.whole.worse],
        "better": [_flip(flip, ledger) for flip in ledger.whole.better],
    }


def _slice(held: SliceFlips) -> dict[str, object]:
    return {
        "name": printable(held.slice or "all samples"),
        "pairs": held.pairs,
        "unpaired": held.unpaired,
        "worsened": held.worsened,
        "improved": held.improved,
        "difference": signed(held.difference),
        "value": held.difference,
        "span": span(held.interval),
        "p": p_text(held.p_adjusted),
        "p_whole": p_text(held.p_adjusted, "="),
        "p_value": held.p_adjusted,
        "test": held.test,
        "finding": held.finding,
    }


def _flip(flip: Flip, ledger: FlipLedger) -> dict[str, object]:
    theirs, ours = flip.baseline_answers, flip.candidate_answers
    answers = [
        (_text(_at(theirs, n)), _text(_at(ours, n))) for n in range(max(len(theirs), len(ours), 1))
    ]
    return {
        "sample": printable(_short(flip.sample)),
        "from": _score(flip.baseline, ledger),
        "to": _score(flip.candidate, ledger),
        "slices": [printable(f"{name}={_short(value)}") for name, value in flip.slices.items()],
        "excerpt": printable(_end(flip.question)),
        "question": _text(flip.question),
        "targets": [_text(target) for target in flip.targets[:MOST_ANSWERS]],
        "more_targets": max(0, len(flip.targets) - MOST_ANSWERS),
        "answers": answers[:MOST_ANSWERS],
        "more_answers": max(0, len(answers) - MOST_ANSWERS),
    }


def _at(texts: Sequence[str], place: int) -> str:
    return texts[place] if place < len(texts) else ""


def _score(value: float, ledger: FlipLedger) -> str:
    """Return a score in words where it is right or wrong."""
    if not ledger.binary:
        return number(value)
    return "right" if (value > 0) == (ledger.better == "higher") else "wrong"


def _text(text: str) -> Text:
    held = cut(text, LONGEST)
    if isinstance(held, str):
        return Text(printable_lines(held))
    head, left_out, tail = held
    return Text(printable_lines(head), f"{left_out:,} characters", printable_lines(tail))


def _short(text: str, most: int = 120) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def _end(text: str, most: int = 100) -> str:
    """Return the end of a text on one line: of a long prompt that is where the question stands."""
    line = " ".join(text[-4 * most :].split())
    return line if len(line) <= most else f"…{line[-most:]}"
