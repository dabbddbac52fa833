"""``evalkit import``: another harness's results as a finished run, to be gated, compared, signed and promoted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from evalkit.cli.options import gate_files, option, out_folder

if TYPE_CHECKING:
    from evalkit.cli.earlier_baseline import EarlierBaseline
    from evalkit.cli.past_runs import PastRun
    from evalkit.interchange.foreign import ForeignRun, Wishes


@click.command("import")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@option(
    "--from",
    "harness",
    type=click.Choice(["lm-eval", "inspect"]),
    help="Which harness wrote it.  [default: told by the files]",
)
@option(
    "--baseline",
    metavar="PATH|RUN|ALIAS",
    help="What the model must not fall behind: another result of the same harness (which becomes a run of its own), "
    "or a run or alias.",
)
@option(
    "--model",
    metavar="MODEL",
    help="The checkpoint that was measured: its files' digests go into the run, so that it can be signed and verified. "
    "You answer for it: the harness does not tell what bytes it read.",
)
@option(
    "--slice",
    "slices",
    multiple=True,
    envvar="EVALKIT_SLICE",
    metavar="FIELD",
    help="Split the samples by this field of the documents (lm-eval: doc; inspect: metadata). May be given again.",
)
@option(
    "--lower",
    multiple=True,
    metavar="[TASK/]SCORE",
    help="This score is better when lower. May be given again.  [default: as the harness says, else higher]",
)
@option(
    "--mean",
    "means",
    multiple=True,
    metavar="[TASK/]SCORE",
    help="This score is a mean though every value is 0 or 1, as when another model's are not. May be given again.",
)
@option(
    "--without",
    multiple=True,
    metavar="[TASK/]SCORE",
    help="Leave this score out, as one that few samples have. May be given again.",
)
@gate_files("Decide on the run by these rules, and write its verdict. May be given again.")
@out_folder("The folder in which the run is written.")
def command(
    path: Path,
    harness: str | None,
    baseline: str | None,
    model: str | None,
    slices: tuple[str, ...],
    lower: tuple[str, ...],
    means: tuple[str, ...],
    without: tuple[str, ...],
    gate: tuple[Path, ...],
    out: Path,
) -> int:
    """Read what lm-evaluation-harness or inspect measured at PATH and write it as a finished run.

    \b
    evalkit import lm-eval-output/my__model --baseline production
    evalkit import logs/2026-01-31_quiz.eval --slice subject --gate gates/release.yaml

    PATH is a folder that lm_eval wrote with --output_path and --log_samples, its results_<time>.json, or a log of
    inspect (.eval, .json), or a folder of them. Every number is computed again from the samples, with an interval, and
    must be what the harness printed; what cannot be computed from samples is left out, and told. The run is like any
    other: 'evalkit gate', 'compare', 'promote' and 'report' take it. suites/INTERCHANGE.md tells what becomes of what.

    Exits with 0 when the run is written, with --gate with the verdict; 2 where the files are damaged, incomplete or
    contradict themselves.
    """
    from evalkit.cli.assemble import load_gates
    from evalkit.cli.imported_runs import write_imported
    from evalkit.cli.past_runs import decide_again
    from evalkit.cli.reporting import write_reports
    from evalkit.cli.terminal import print_run
    from evalkit.interchange.foreign import Wishes
    from evalkit.store.runs import write_verdict

    specs = load_gates(gate) if gate else ()
    wishes = Wishes(slices, lower, means, without)
    run = _read(path, harness, wishes)
    if model:
        run = _of_checkpoint(run, model)
    earlier = _baseline(baseline, harness, wishes, run, out) if baseline else None
    past = write_imported(earlier[0] if earlier else run, out, earlier[1] if earlier else None)
    if not specs:
        write_reports(past, past.path)
        _show(past)
        return 0
    verdict = decide_again(specs, past)
    write_verdict(past.path, verdict)
    write_reports(past.decided(verdict), past.path)
    print_run(past.scorecard, verdict, past.path, quiet=False, reports=past.path)
    return verdict.exit_code


def _read(path: Path, harness: str | None, wishes: Wishes) -> ForeignRun:
    """Return what was measured. Raises UsageError where it is not told whose files these are."""
    harness = harness or harness_of(path)
    if harness == "inspect":
        from evalkit.interchange.inspect_read import read_inspect

        return read_inspect(path, wishes)
    from evalkit.interchange.lm_eval_read import read_lm_eval

    return read_lm_eval(path, wishes)


def _of_checkpoint(run: ForeignRun, name: str) -> ForeignRun:
    """Return the run with the digests of the checkpoint that the user says was measured.

    Raises UsageError where there is none.
    """
    from dataclasses import replace

    from evalkit.identity import digest
    from evalkit.interchange.foreign import plain_json
    from evalkit.loaders.checkpoints import find_checkpoint
    from evalkit.loaders.file_digests import FileDigests

    found = find_checkpoint(name, folder=Path.cwd(), digest_file=FileDigests(None))
    engine = {**run.model.engine, "files": "as the user said when it was imported"}
    known = digest({"checkpoint": found.digest, "engine": plain_json(engine).decode()})
    model = replace(
        run.model, name=name, digest=known, pinned=True, engine=engine, files=found.files
    )
    return replace(run, model=model)


def harness_of(path: Path) -> str:
    """Return the harness that wrote a file or folder. Raises UsageError where none or both may have."""
    from evalkit.errors import Problem, UsageError

    if path.is_dir():
        lm_eval = next(path.rglob("results_*.json"), None) or next(
            path.rglob("samples_*.jsonl"), None
        )
        inspect = next(path.rglob("*.eval"), None)
        if lm_eval and inspect:
            message = "files of lm-eval and of inspect lie here: say which with --from"
            raise UsageError([Problem(str(path), None, "", message)])
        if lm_eval or inspect:
            return "inspect" if inspect else "lm-eval"
        message = "neither results_<time>.json of lm-eval nor an .eval log of inspect lies here"
        raise UsageError([Problem(str(path), None, "", message)])
    if path.suffix == ".eval":
        return "inspect"
    if path.suffix == ".jsonl":
        return "lm-eval"
    with path.open("rb") as file:
        head = file.read(4096)
    # inspect's log begins with its version, its status and the eval; lm-eval's results with 'results'.
    return "inspect" if b'"status"' in head and b'"eval"' in head else "lm-eval"


def _baseline(
    name: str, harness: str | None, wishes: Wishes, run: ForeignRun, out: Path
) -> tuple[ForeignRun, EarlierBaseline]:
    """Return the run as it is held against the baseline, and the baseline, which is written where it is foreign too."""
    from evalkit.cli.earlier_baseline import EarlierBaseline
    from evalkit.cli.imported_runs import write_imported
    from evalkit.cli.past_runs import find_run, open_run
    from evalkit.errors import UsageError
    from evalkit.interchange.foreign_suite import with_common_kinds

    found = None if Path(name).suffix == ".json" else find_run(name, out, models=True)
    if found is None and not Path(name).exists():
        found = open_run(name, out)  # which tells what there is
    if found is None:
        theirs = _read(Path(name), harness, wishes)
        run, theirs = with_common_kinds(run, theirs), with_common_kinds(theirs, run)
        found = write_imported(theirs, out)
    tasks = {task.name for task in run.tasks}
    measured = {tally.task for tally in found.scorecard.tasks if tally.model == "candidate"}
    if not tasks & measured:
        raise UsageError(
            f"baseline {name!r} has none of these tasks ({', '.join(sorted(tasks))}); it has "
            f"{', '.join(sorted(measured)) or 'no task at all'}"
        )
    return run, EarlierBaseline(name, found, tasks)


def _show(past: PastRun) -> None:
    """Print the numbers, what is not as the harness printed it, and what can be done with the run."""
    from evalkit.cli.terminal import console
    from evalkit.reports.clean import printable
    from evalkit.reports.terminal import scorecard_table

    screen = console()
    screen.print(scorecard_table(past.scorecard, screen.width))
    screen.print()
    for line in _notes(past):
        screen.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)
    host = past.scorecard.circumstances.host["measured by"]
    screen.print(
        f"as {printable(host)} scored it; run: {past.path}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    told = f"decide on it: evalkit gate {past.path} GATES.yaml"
    screen.print(told, style="dim", markup=False, highlight=False, soft_wrap=True)


def _notes(past: PastRun) -> list[str]:
    """Return what of the harness's results is not here as it was printed, and what has no score, in lines."""
    from evalkit.reports.clean import printable

    card = past.scorecard
    words = {
        "imported.left_out": "left out",
        "imported.differs": "differs",
        "imported.taken": "note",
    }
    lines = [
        f"{words[found.check]}: {printable(found.message)}"
        for found in card.findings
        if found.model == "candidate" and found.check in words
    ]
    for tally in (tally for tally in card.tasks if tally.model == "candidate"):
        for kind, count in tally.failures.items():
            lines.append(
                f"failed: {count:,} of {tally.planned:,} samples of {tally.task} ({printable(kind)})"
            )
        for metric, reasons in tally.unscored.items():
            told = ", ".join(f"{n:,} {printable(reason)}" for reason, n in reasons.items())
            lines.append(f"ungraded: {tally.task}/{metric}: {told}")
        if not tally.complete:
            lines.append(
                f"incomplete: too few samples of {tally.task} have a score: no gate passes it "
                "(--without SCORE leaves a score out)"
            )
    return lines
