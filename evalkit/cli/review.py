"""``evalkit review``: people rate a run's answers, blinded; their ratings become estimates that gates decide on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evalkit.cli.options import EXISTING_FILE, FOLDER, gate_files, option

if TYPE_CHECKING:
    from evalkit.cli.past_runs import PastRun
    from evalkit.records.exchange import Role
    from evalkit.records.review import Draw, DrawnTask, Review
    from evalkit.records.suite import SuiteSpec
    from evalkit.reviewing import TaskAgreement
    from evalkit.scoring import MetricTable

REVIEW = "-review"
"""Behind the name of a run's folder: where its review lies."""
RUNS = option(
    "--runs",
    type=FOLDER,
    default=Path("reports"),
    show_default=True,
    envvar="EVALKIT_OUT",
    help="The folder of runs that a name or an alias is looked up in.",
)


@click.group("review")
def command() -> None:
    """Let people rate a run's answers, blinded, and bring their ratings in.

    \b
    evalkit review export RUN                         draws answers, writes a page on which people rate them
    evalkit review import RUN ann.jsonl bob.jsonl     agreement, conflicts, estimates, verdict

    What is asked of an answer stands in the suite, under a task's 'review'.
    """


@command.command(
    "export", short_help="Draw answers of a run, and write what people need to rate them."
)
@click.argument("run")
@option(
    "--task", "only", multiple=True, metavar="TASK", help="This task alone; may be given again."
)
@option(
    "--n",
    "number",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    envvar="EVALKIT_REVIEW_N",
    help="Samples drawn of each task.",
)
@option(
    "--draw",
    type=click.Choice(["uniform", "flips", "disagreement"]),
    default="uniform",
    show_default=True,
    help="uniform: ratings stand for all samples and become estimates. flips: samples that changed sides; "
    "disagreement: samples whose metrics contradict one another; both are for reading.",
)
@option("--seed", type=int, default=0, show_default=True, help="Seed of draw, order and item ids.")
@option(
    "--out",
    type=FOLDER,
    envvar="EVALKIT_REVIEW_OUT",
    help="The folder that is written.  [default: the run's, with -review behind its name]",
)
@option(
    "--both/--candidate-only",
    default=None,
    help="Show the baseline's answers as well.  [default: where the run has a baseline]",
)
@RUNS
def export(
    run: str,
    only: tuple[str, ...],
    number: int,
    draw: Draw,
    seed: int,
    out: Path | None,
    both: bool | None,
    runs: Path,
) -> int:
    """Draw answers of RUN and write what people need to rate them.

    \b
    review.html    the page: one file, works without a network; give it to annotators
    items.jsonl    the same items for other labelling tools
    items.csv      and for spreadsheets
    review.json    the key: which model gave which answer; annotators must not get it
    """
    from evalkit.cli.past_runs import open_run
    from evalkit.cli.rated_runs import beside
    from evalkit.errors import UsageError
    from evalkit.flips import find_rows
    from evalkit.reports.review_page import review_page
    from evalkit.reviewing import drawn, exported
    from evalkit.store.reviews import KEY, PAGE, write_review

    past = open_run(run, runs)
    suite = _unrated_suite(past)
    roles = _roles(past, both)
    chosen: dict[str, list[str]] = {}
    tasks: list[DrawnTask] = []
    for task, ids in _eligible(past, suite, only, draw):
        chosen[task.task] = drawn(ids, number, draw, seed, task.task)
        tasks.append(task.model_copy(update={"drawn": len(chosen[task.task]), "of": len(ids)}))
    places = [(task, sample) for task, samples in chosen.items() for sample in samples]
    rows = find_rows(past.rows(), roles, places)
    digest = past.scorecard.digest
    made = exported(tasks, chosen, rows, scorecard=digest, draw=draw, seed=seed)
    if not made.items:
        why = "every drawn sample failed" if places else f"the draw {draw!r} finds no sample"
        raise UsageError(f"there is nothing to rate: {why}")
    folder = out or beside(past, REVIEW)
    write_review(folder, made, review_page(made.review, made.items))
    for task in tasks:
        few = " (all there are)" if task.drawn == task.of else ""
        click.echo(f"{task.task}: {task.drawn:,} of {task.of:,} samples drawn{few}")
    failed = sum(not answer.item for answer in made.review.answers)
    click.echo(f"{len(made.items):,} answers to rate, by {' and '.join(roles)}, blinded", nl=False)
    click.echo(f"; {failed:,} more failed and stay counted" if failed else "")
    if draw != "uniform":
        click.echo(f"draw {draw}: for reading; ratings of it become no estimates")
    click.echo(f"for annotators:     {folder / PAGE}")
    click.echo(f"keep from them:     {folder / KEY}")
    elsewhere = f" --review {folder}" if folder != beside(past, REVIEW) else ""
    click.echo(f"when they are done: evalkit review import {past.path} LABELS...{elsewhere}")
    return 0


@command.command("import", short_help="Bring ratings in: agreement, conflicts, estimates, verdict.")
@click.argument("run")
@click.argument("labels", nargs=-1, required=True, type=EXISTING_FILE)
@option(
    "--review",
    "folder",
    type=FOLDER,
    help="The folder that the export wrote.  [default: the run's, with -review behind its name]",
)
@option(
    "--adjudicated",
    type=EXISTING_FILE,
    metavar="FILE",
    help="Ratings that stand where annotators disagree: conflicts.csv, filled in. Name it each time.",
)
@gate_files("A gate file; may be given again.  [default: those the suite names]")
@RUNS
def import_(
    run: str,
    labels: tuple[Path, ...],
    folder: Path | None,
    adjudicated: Path | None,
    gate: tuple[Path, ...],
    runs: Path,
) -> int:
    """Bring people's ratings of RUN's answers in: LABELS are JSONL or CSV files with item, rating and annotator.

    \b
    evalkit review import orders-3f9a1c2b0d11 ann.jsonl bob.csv
    evalkit review import orders-3f9a1c2b0d11 ann.jsonl bob.csv --adjudicated conflicts.csv --gate gates/people.yaml

    Prints how far annotators agree, writes conflicts.csv, and a new run, RUN-reviewed, with the estimates
    task/human.pass, task/human.rating and task/human.agreement. RUN itself stays as it is.

    Exits with the verdict: 0 passed, 1 failed, 3 the run was incomplete, 4 undecided.
    """
    from evalkit.cli.past_runs import open_run
    from evalkit.cli.rated_runs import beside, deciding_gates, write_rated_run
    from evalkit.cli.terminal import console, print_run
    from evalkit.reports.review_agreement import agreement_drawing
    from evalkit.reviewing import conflicts, merged, task_agreement
    from evalkit.store.reviews import read_items, read_labels, read_review, write_conflicts

    past = open_run(run, runs)
    suite = _unrated_suite(past)
    folder = folder or beside(past, REVIEW)
    review = read_review(folder)
    _need_own(review, past, suite, folder)
    settled = read_labels([adjudicated]) if adjudicated else ()
    rated = merged(review, read_labels(labels), settled)
    estimating = review.draw == "uniform"
    gates = deciding_gates(past, suite, gate) if estimating else ()
    agreements = [
        task_agreement(task.task, task.review, rated, seed=suite.seed, level=suite.confidence)
        for task in review.tasks
    ]
    _refuse_nothing(agreements, labels)
    open_conflicts = list(conflicts(review, rated))
    file = write_conflicts(folder, review, open_conflicts, read_items(folder))
    screen = console()
    screen.print(agreement_drawing(agreements, review, rated, screen.width))
    if open_conflicts:
        many = f"{len(open_conflicts):,} items on which annotators disagree"
        click.echo(f"{many}: fill in 'rating' in {file} and give it with --adjudicated")
    if not estimating:
        click.echo(
            f"samples were drawn by {review.draw}, which are not typical: for reading; no estimate is made of them"
        )
        return 0
    card, verdict, path = write_rated_run(past, suite, rated, gates)
    click.echo()
    print_run(card, verdict, path, quiet=False, reports=path)
    return verdict.exit_code


def _unrated_suite(past: PastRun) -> SuiteSpec:
    """Return the suite of a run that nobody rated. Raises UsageError where it has ratings, or nothing to rate."""
    from evalkit.errors import UsageError

    if past.scorecard.labels:
        raise UsageError(
            f"{past.path} holds people's ratings already: name the run that was reviewed, with all label files"
        )
    suite = past.suite
    if suite is None or not past.has_samples:
        raise UsageError(
            f"{past.path} has no samples.jsonl and suite.json: there is nothing to rate"
        )
    if not any(task.review for task in suite.sampled):
        raise UsageError(
            f"no task of suite {suite.suite!r} declares a 'review': "
            "add one, such as review: {scale: [1, 5], pass_at: 4}, and run the suite again (its answers are kept)"
        )
    return suite


def _roles(past: PastRun, both: bool | None) -> list[Role]:
    from evalkit.errors import UsageError

    has_baseline = bool(past.tables().get("baseline"))
    if both and not has_baseline:
        raise UsageError(f"--both: {past.path} has no baseline")
    return ["candidate", "baseline"] if has_baseline and both is not False else ["candidate"]


def _eligible(
    past: PastRun, suite: SuiteSpec, only: Sequence[str], draw: Draw
) -> list[tuple[DrawnTask, list[str]]]:
    """Return the tasks to review with the samples that are drawn from."""
    from evalkit.errors import UsageError
    from evalkit.records.review import DrawnTask
    from evalkit.registry import nearest
    from evalkit.reviewing import eligible, refuse_unreviewable

    reviewed = {task.name: task for task in suite.sampled if task.review is not None}
    for name in only:
        if name not in reviewed:
            close = nearest(name, reviewed)
            hint = f"did you mean {close!r}?" if close else f"there is {', '.join(reviewed)}"
            raise UsageError(f"--task {name!r}: no task of this name declares a 'review'; {hint}")
    found = []
    for name, task in reviewed.items():
        if only and name not in only:
            continue
        refuse_unreviewable(task)
        ours, theirs = (_tables(past, role, name) for role in ("candidate", "baseline"))
        if not ours:
            raise UsageError(f"{past.path}: the candidate was not asked task {name!r}")
        assert task.review is not None, "the task declares a review"
        drawn = DrawnTask(task=name, review=task.review, drawn=0, of=0)
        found.append((drawn, eligible(draw, ours, theirs)))
    return found


def _tables(past: PastRun, role: Role, task: str) -> list[MetricTable]:
    return [table for table in past.tables().get(role, ()) if table.task == task]


def _need_own(review: Review, past: PastRun, suite: SuiteSpec, folder: Path) -> None:
    from evalkit.errors import UsageError

    if review.scorecard != past.scorecard.digest:
        raise UsageError(f"the review in {folder} was drawn from another run than {past.path}")
    ours = {task.name: task.review for task in suite.sampled}
    changed = [task.task for task in review.tasks if ours.get(task.task) != task.review]
    if changed:
        raise UsageError(
            f"the review in {folder} asks something else about {', '.join(changed)} than the suite"
        )


def _refuse_nothing(agreements: Sequence[TaskAgreement], labels: Sequence[Path]) -> None:
    from evalkit.errors import UsageError

    if not any(agreement.items for agreement in agreements):
        raise UsageError(f"no answer is rated in {', '.join(map(str, labels))}")
