"""``evalkit judge``: how far a judge may be believed, told by answers that people have labelled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evalkit.cli.options import (
    EXISTING_FILE,
    REQUEST_TIMEOUT,
    answer_store,
    backend,
    backend_arguments,
    option,
)

if TYPE_CHECKING:
    from evalkit.cli.judge_validating import Validating
    from evalkit.records.judging import JudgeCard


@click.group("judge")
def command() -> None:
    """Tell how far a judge may be believed.

    \b
    evalkit judge validate judge.yaml --labels labels.csv
    """


@command.command("validate", short_help="Ask a judge about labelled answers, and write its card.")
@click.argument("judge")
@option(
    "--labels",
    type=EXISTING_FILE,
    required=True,
    metavar="FILE",
    help="JSONL or CSV: question, answer (or answer_a, answer_b) and label: a score, or A, B, tie. Optional: "
    "reference, id, annotator, or one column label:NAME for each annotator.",
)
@option(
    "--repeat",
    type=click.IntRange(min=1, max=20),
    default=2,
    show_default=True,
    help="How often each item is asked.",
)
@option(
    "--canaries",
    type=click.IntRange(min=0, max=1000),
    default=5,
    show_default=True,
    help="Worthless answers of each kind.",
)
@option(
    "--pass-at",
    type=int,
    metavar="SCORE",
    help="The least score that passes (pointwise): adds sensitivity and specificity.",
)
@option(
    "--random-labels",
    is_flag=True,
    help="The items were drawn at random from what the judge will judge; without it the card carries a warning.",
)
@option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="EVALKIT_JUDGE_OUT",
    metavar="FILE",
    help="The card that is written.  [default: NAME-card.json beside the judge's file]",
)
@option(
    "--model",
    metavar="MODEL",
    envvar="EVALKIT_JUDGE_MODEL",
    help="The judge's model, in place of the one its file names: a checkpoint folder, a hub id, a server's URL.",
)
@backend("What answers for the judge; auto takes what its file says.")
@backend_arguments("An argument of the backend, over those in the judge's file.")
@answer_store("The answer store.  [default: reports/answers.sqlite]")
@option(
    "--confidence",
    type=click.FloatRange(min=0.5, max=1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="Level of the intervals.",
)
@option("--seed", type=int, default=0, show_default=True, help="Seed of the resampling.")
@REQUEST_TIMEOUT
@option("--quiet", is_flag=True, help="No progress and no table.")
def validate(judge: str, **flags: Any) -> int:  # noqa: ANN401 - one value per option above
    """Let JUDGE (its file, or SUITE.yaml#NAME) judge labelled answers, and write its card.

    \b
    evalkit judge validate judges/quality.yaml --labels labels.csv --random-labels
    evalkit judge validate suite.yaml#better --labels pairs.jsonl --repeat 3 --out cards/better-card.json

    The card holds, with intervals, how far the judge agrees with people and people with one another, what it owes to
    order and length, how often it gives no verdict or another one when asked again, and how many worthless answers it
    takes for good. It belongs to this judge alone: another model, prompt or scale needs another card.

    A second pass asks the judge again, past what is stored. The same command resumes; what was answered is kept.

    Exits with 0 when the card is written, whatever it says; what a rule demands of it stands in the gate.
    """
    from evalkit.cli.judge_validating import Validating
    from evalkit.cli.progress import Display
    from evalkit.cli.running import terminable

    with Display(quiet=flags["quiet"]) as display, terminable():
        validating = Validating(judge, flags, display)
        card = validating.go()
    _print(card, validating, quiet=flags["quiet"])
    return 0


def _print(card: JudgeCard, done: Validating, *, quiet: bool) -> None:
    from evalkit.cli.terminal import console
    from evalkit.gates.judged import why_unfit
    from evalkit.records.judging import JudgeRecord
    from evalkit.records.suite import JudgeDemands
    from evalkit.reports.judge_card import card_drawing

    spec = done.judge.spec
    record = JudgeRecord(
        judge=spec.judge, form=spec.form, pins=card.pins, model=spec.model, card=card
    )
    unfit = why_unfit(JudgeDemands(), record, spec.form)
    out = console()
    if not quiet:
        out.print(card_drawing(card, spec.form, unfit, out.width))
        asked = f"{done.asked:,} requests asked, {done.reused:,} answered from the store"
        out.print(f"\n{asked}", style="dim")
    out.print(f"card: {done.out}", soft_wrap=True, highlight=False, markup=False)
