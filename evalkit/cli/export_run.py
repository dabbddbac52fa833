"""``evalkit export``: a finished run in the forms that other tools read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evalkit.cli.options import FOLDER, check_writable, option, out_folder

if TYPE_CHECKING:
    from evalkit.cli.past_runs import PastRun
    from evalkit.interchange.lm_eval_write import LmEvalRun
    from evalkit.records.exchange import Role

RUNS = out_folder("The folder of runs that a name or an alias is looked up in.")
MODEL = option(
    "--model",
    "role",
    type=click.Choice(["candidate", "baseline"]),
    default="candidate",
    show_default=True,
    envvar="EVALKIT_EXPORT_MODEL",
    help="Whose numbers.",
)
CARD = "README.md"
"""A model card's name in a checkpoint's folder."""
LINE_ENDS = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}
"""Ends of lines that JSON leaves as they are → their escapes."""


@click.group("export")
def command() -> None:
    """Write a finished run in the form of another tool.

    \b
    evalkit export lm-eval production ./results        lm-evaluation-harness's results and samples
    evalkit export model-card production ./checkpoint  Hugging Face metadata and text in its README.md
    evalkit export mlflow production --tracking-uri http://mlflow:5000 --experiment orders

    The run is a run's folder, its scorecard.json, its name under OUT, or an alias.
    """


@command.command("lm-eval", short_help="Results and samples in lm-evaluation-harness's layout.")
@click.argument("run")
@click.argument("folder", type=FOLDER)
@MODEL
@option(
    "--results-only",
    is_flag=True,
    help="Write no samples, and no standard errors, which are computed from them.",
)
@RUNS
def lm_eval(run: str, folder: Path, role: Role, out: Path, *, results_only: bool) -> int:
    """Write RUN into FOLDER as lm-evaluation-harness 0.4.13 lays out its output.

    \b
    evalkit export lm-eval reports/orders-3f9a1c2b0d11 ./results
    evalkit export lm-eval production ./results --model baseline

    Standard errors are given of means over samples; everything else has N/A. Intervals, and what lm-eval's tables have
    no place for, stand under the key 'evalkit' of the results.
    """
    from evalkit.cli.past_runs import open_run
    from evalkit.interchange.lm_eval_write import lm_eval_run
    from evalkit.store.documents import document
    from evalkit.store.durable import make_folder, write_bytes

    past = _with_model(open_run(run, out), role)
    tables = [] if results_only else past.tables().get(role, [])
    made = lm_eval_run(past.scorecard, past.suite, past.verdict, role, tables)
    if not made.expressed:
        raise click.UsageError(
            f"{past.path}: no number of the {role} has a place in lm-eval's tables"
        )
    place = folder / made.folder
    make_folder(place)
    hashes = {} if results_only else _write_samples(made, past, place)
    file = place / made.results_file
    write_bytes(file, document(made.results(hashes)))  # last: results without samples are no export
    click.echo(str(file))
    _tell_left_out("no place in lm-eval's tables", made.left_out_in_words)
    return 0


def _write_samples(made: LmEvalRun, past: PastRun, place: Path) -> dict[str, str]:
    """Write every task's samples, streaming; return each task's hash. A file appears whole or not at all."""
    from evalkit.interchange.lm_eval_samples import TaskSamples, numbered
    from evalkit.store.durable import disk_errors, replacing

    tasks = {
        task: TaskSamples(made, task)
        for task in made.expressed
        if any(one.table is not None for one in made.expressed[task])
    }
    with ExitStack() as stack:
        paths = {task: place / made.samples_file(task) for task in tasks}
        files = {task: stack.enter_context(replacing(path)) for task, path in paths.items()}
        for task, number, row in numbered(past.rows(), made.role):
            if task in tasks:
                line = json_line(tasks[task].row(number, row))
                with disk_errors(paths[task]):
                    files[task].write(line)
    return {task: samples.task_hash for task, samples in tasks.items()}


def json_line(row: Mapping[str, Any]) -> bytes:
    """Return a row as one line of JSON in UTF-8, also for readers who end lines at U+2028 as Unicode does."""
    import json

    text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    try:
        return f"{text.translate(LINE_ENDS)}\n".encode()
    except UnicodeEncodeError:  # a lone surrogate in a model's answer: escape it
        return json.dumps(row, allow_nan=False).encode() + b"\n"


@command.command("model-card", short_help="Hugging Face model-index metadata and a text.")
@click.argument("run")
@click.argument("card", required=False, type=click.Path(path_type=Path))
@MODEL
@option("--name", metavar="NAME", help="The model's name, where the card has none yet.")
@option("--overwrite", is_flag=True, help="Replace other tools' results for the same metrics.")
@option(
    "--anyway",
    is_flag=True,
    envvar="EVALKIT_EXPORT_ANYWAY",
    help="Write although the files beside the card are not those measured; the card says so.",
)
@RUNS
def model_card(
    run: str,
    card: Path | None,
    role: Role,
    name: str | None,
    out: Path,
    *,
    overwrite: bool,
    anyway: bool,
) -> int:
    """Put RUN's results into CARD: a checkpoint's folder, whose README.md it is, or a Markdown file.

    \b
    evalkit export model-card reports/orders-3f9a1c2b0d11 ./checkpoint-900
    evalkit export model-card production                   prints a new card

    What else the card says stays byte for byte; results that this suite put there before are replaced. The card's text
    tells the verdict, whatever it is. Nothing is sent anywhere.
    """
    from evalkit.cli.export_card import held_against, model_name, text_of
    from evalkit.cli.past_runs import open_run
    from evalkit.interchange.model_card import card_results, reasons_in_words
    from evalkit.interchange.model_card_text import card_text
    from evalkit.store.durable import write_bytes

    past = _with_model(open_run(run, out), role)
    file = card / CARD if card is not None and card.is_dir() else card
    check_writable(file, "CARD")
    measured = past.scorecard.provenance.models[role]
    note, told = (
        ("", "") if file is None else held_against(file.absolute().parent, measured, anyway=anyway)
    )
    results = card_results(past.scorecard, past.suite, past.verdict, role, note)
    if not results.results:
        raise click.UsageError(f"{past.path}: no number of the {role} has a place on a model card")
    made = card_text(
        "" if file is None else text_of(file),
        results,
        suite=past.scorecard.provenance.suite,
        model_name=name or model_name(past, role, file),
        overwrite=overwrite,
        file="the card" if file is None else str(file),
    )
    if file is None:
        click.echo(made.text, nl=False)
    else:
        write_bytes(file, made.text.encode("utf-8"))
        count = sum(len(result["metrics"]) for result in results.results)
        click.echo(
            f"{file}: {count:,} results, {made.replaced:,} of an earlier run replaced, {made.overwritten:,} of other "
            f"tools overwritten, {made.kept:,} others kept"
        )
        if told:
            click.echo(told, err=True)
    _tell_left_out("no result on the card", reasons_in_words(results.left_out))
    return 0


def _with_model(past: PastRun, role: Role) -> PastRun:
    """Return the run. Raises UsageError where it has no such model."""
    if role not in past.scorecard.provenance.models:
        raise click.UsageError(f"{past.path} has no {role}")
    return past


def _tell_left_out(what: str, reasons: str) -> None:
    if reasons:
        click.echo(f"{what}: {reasons}; the scorecard holds them", err=True)


@command.command("mlflow", short_help="One MLflow run: metrics, artefacts, the verdict as a tag.")
@click.argument("run")
@option(
    "--tracking-uri",
    required=True,
    metavar="URL",
    envvar=["EVALKIT_TRACKING_URI", "MLFLOW_TRACKING_URI"],
    show_envvar=True,
    help="The MLflow server. Name and password in it are used, never shown or stored.",
)
@option(
    "--experiment",
    required=True,
    metavar="NAME",
    envvar=["EVALKIT_EXPERIMENT", "MLFLOW_EXPERIMENT_NAME"],
    help="The experiment, made where there is none.",
)
@option("--model-name", metavar="NAME", help="A registered model; its version gets the verdict.")
@option("--model-version", metavar="N", help="The version of --model-name.")
@option("--samples", is_flag=True, help="Also upload every prompt and answer.")
@RUNS
def mlflow(
    run: str,
    tracking_uri: str,
    experiment: str,
    model_name: str | None,
    model_version: str | None,
    out: Path,
    *,
    samples: bool,
) -> int:
    """Log RUN to an MLflow server as one MLflow run; logging it again brings that one up to date.

    \b
    evalkit export mlflow production --tracking-uri http://mlflow:5000 --experiment orders
    evalkit export mlflow production --tracking-uri http://mlflow:5000 --experiment orders \\
        --model-name orders --model-version 7     the verdict becomes a tag of this version

    Name and password, or a token, are better given as MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or
    MLFLOW_TRACKING_TOKEN.
    """
    from evalkit.cli.past_runs import open_run
    from evalkit.interchange.mlflow_entries import mlflow_entries
    from evalkit.interchange.mlflow_log import Destination, log_run

    if (model_name is None) != (model_version is None):
        raise click.UsageError("--model-name and --model-version belong together")
    past = open_run(run, out)
    made = mlflow_entries(past.scorecard, past.verdict)
    version = None if model_name is None or model_version is None else (model_name, model_version)
    logged = log_run(
        made, _artefacts(past, samples), Destination(tracking_uri, experiment, version)
    )
    click.echo(logged.in_words)
    _tell_left_out("not logged", made.left_out_in_words)
    return 0


def _artefacts(past: PastRun, samples: bool) -> list[Path]:
    """Return the files that are uploaded: those of the run that are there. Samples are checked before they go."""
    from evalkit.store.runs import JUDGEMENTS, SAMPLES, SCORECARD, SUITE, VERDICT, WEIGHTS

    names: Iterable[str] = (SCORECARD, VERDICT, SUITE, "report.html", "junit.xml", "summary.md")
    if samples:
        next(past.rows(), None)  # raises where they are absent or were changed after the run
        next(past.judgement_rows(), None)
        next(past.weights_rows(), None)
        names = (*names, SAMPLES, JUDGEMENTS, WEIGHTS)
    return [past.path / name for name in names if (past.path / name).is_file()]
