"""``evalkit run``: the whole job, from a suite file to an exit code."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evalkit.cli.options import (
    CALIBRATION,
    EXISTING_FILE,
    REQUEST_TIMEOUT,
    answer_store,
    backend,
    backend_arguments,
    gate_files,
    limit,
    option,
    out_folder,
    parsed_arguments,
)
from evalkit.cli.running import loop_factory, terminable

if TYPE_CHECKING:
    from evalkit.cli.earlier_baseline import EarlierBaseline
    from evalkit.pipeline import EarlyStopping
    from evalkit.records.exchange import Role
    from evalkit.records.verdict import Verdict
    from evalkit.scoring import MetricTable


@click.command("run")
@click.argument("suite", type=EXISTING_FILE)
@option(
    "--candidate",
    metavar="MODEL",
    help="The model under test: a checkpoint folder, a hub id, a running server's URL, or a .jsonl of answers.",
)
@option(
    "--baseline",
    metavar="MODEL|RUN|ALIAS",
    help="The model it must not fall behind, written the same way, or an earlier run of it (a run's folder, an alias "
    "such as production), which asks nothing; 'none' runs without one.",
)
@gate_files("A gate file, beside those the suite names. May be given again.")
@out_folder("Where the run's folder is written.")
@backend(
    "What answers for checkpoints; auto takes vLLM where a GPU and vLLM are found, else transformers."
)
@backend_arguments(
    "An argument of the backend (see 'evalkit list backends'); candidate.KEY or baseline.KEY for one model alone."
)
@limit("Run only the first N samples of each task: for trying a suite out.")
@option(
    "--allow-undecidable",
    "allow_undecidable",
    is_flag=True,
    help="Run although a blocking rule can never pass or never fail with this many samples (allowed with --limit).",
)
@answer_store("The answer store; runs may share one.  [default: OUT/answers.sqlite]")
@REQUEST_TIMEOUT
@CALIBRATION
@option("--quiet", is_flag=True, help="No progress; the verdict alone.")
def command(suite: Path, out: Path, **flags: Any) -> int:  # noqa: ANN401 - one value per option above
    """Run SUITE on a candidate and a baseline, write a scorecard, and let the gates decide.

    \b
    evalkit run suite.yaml
    evalkit run suite.yaml --candidate ./checkpoint-900 --baseline ./released
    evalkit run suite.yaml --candidate ./checkpoint-900 --baseline production
    evalkit run suite.yaml --candidate http://127.0.0.1:8000 --model-arg revision=2026-11-01
    evalkit run suite.yaml --backend vllm --model-arg max_model_len=4096

    An interrupted run is resumed by the same command: nothing that was answered is asked again.
    """
    from evalkit.cli.progress import Display

    with Display(quiet=flags["quiet"]) as display, terminable():
        run = _Run(suite, out, flags, display)
        code = run.go()
    run.show()
    return code


class _Run:
    """One run: its parts in the order in which they are needed."""

    def __init__(self, suite: Path, out: Path, flags: Mapping[str, Any], display: Any) -> None:  # noqa: ANN401
        self.suite_path, self.out, self.flags, self.display = suite, out, flags, display
        self.earlier: EarlierBaseline | None = None
        """The earlier run that is the baseline; None where a model is, or there is no baseline."""

    def go(self) -> int:
        """Run, score, decide, write; return the exit code."""
        from evalkit.cli.assemble import assemble
        from evalkit.cli.circumstances import utc_now
        from evalkit.cli.scorecards import sealed_scorecard
        from evalkit.executors.local import LocalExecutor
        from evalkit.identity import digest, short
        from evalkit.loaders.file_digests import FileDigests
        from evalkit.pipeline import check_needs, measure
        from evalkit.store.answers import SqliteAnswers
        from evalkit.store.calibrations import read_calibration
        from evalkit.store.durable import make_folder
        from evalkit.store.runs import RunFolder

        started, clock = utc_now(), time.monotonic()
        calibration = self.flags["calibration"]  # read first: a wrong file must not cost a run
        self.noise = None if calibration is None else read_calibration(calibration)
        make_folder(self.out)
        digest_file = FileDigests(self.out / "file-digests.sqlite")
        self.parts = assemble(self.suite_path, self.flags["gate"], self.flags["limit"], digest_file)
        self.backends = self._open_models(digest_file)
        check_needs(self.parts.tasks, self.backends.values())
        self._refuse_undecidable()
        early = self._early()
        loaded: dict[Role, list[MetricTable]] = {}
        if self.earlier:
            loaded["baseline"] = self.earlier.tables()
        models = {role: backend.model for role, backend in self.backends.items()}
        unpinned = not all(model.pinned for model in models.values())
        identity = digest(
            [
                self.parts.suite.model_dump(mode="json"),
                {role: m.digest for role, m in models.items()},
                *([self.earlier.digest] if self.earlier else []),
                # What is asked depends on the gates where they decide when to stop.
                *([gate.model_dump(mode="json") for gate in early.gates] if early else []),
            ]
        )
        store_path = self.flags["store"] or self.out / "answers.sqlite"
        name = f"{self.parts.suite.suite}-{short(identity)}"
        with (
            RunFolder.create(self.out, name, fresh_if_finished=unpinned) as folder,
            SqliteAnswers(store_path) as store,
        ):
            self.folder = folder
            models = {
                role: model
                if model.pinned
                else dataclasses.replace(model, digest=digest([model.digest, folder.salt]))
                for role, model in models.items()
            }
            gc.freeze()  # what has been loaded stays: the collector need not look through it again
            with (
                folder.write_samples() as write_row,
                asyncio.Runner(loop_factory=loop_factory()) as runner,
            ):
                road = measure(
                    self.parts.tasks,
                    self.backends,
                    models,
                    LocalExecutor(self.flags["request_timeout"], self.display.task("model")),
                    store,
                    write_row,
                    lambda role, task: self.display.task(f"{role} {task.name}"),
                    early=early,
                    loaded=loaded,
                )
                self.measured = runner.run(road)
                for row in self.earlier.rows() if self.earlier else ():
                    write_row(row)
            folder.write_suite(self.parts.suite)
            if self.earlier:
                folder.write_baseline(self.earlier.run.scorecard, self.earlier.suite)
            self.scorecard = sealed_scorecard(
                self.parts,
                self.measured,
                models,
                self.backends,
                self.earlier,
                samples=folder.samples_digest,
                started=started,
                seconds=time.monotonic() - clock,
            )
            self.verdict = self._decide()
            folder.write_verdict(self.verdict)
            folder.write_scorecard(self.scorecard)
        return self.verdict.exit_code

    def _open_models(self, digest_file: Any) -> dict[Any, Any]:  # noqa: ANN401
        """Return role → backend, opened for nothing yet; an earlier run as baseline becomes ``earlier``."""
        from evalkit.cli.earlier_baseline import earlier_baseline
        from evalkit.cli.models import arguments_for, open_model
        from evalkit.cli.past_runs import nearest_run
        from evalkit.errors import UsageError
        from evalkit.loaders.checkpoints import find_checkpoint

        given = parsed_arguments(self.flags["model_arg"])
        declared = self.parts.suite.models
        backends = {}
        for role in ("candidate", "baseline"):
            named = self.flags[role]
            model = named or getattr(declared, role)
            if model is None or model == "none":
                continue
            folder = Path.cwd() if named else self.parts.loaded.folder
            if role == "baseline":
                self.earlier = earlier_baseline(model, self.out, folder, self.parts.suite)
                if self.earlier:
                    continue
            try:
                backends[role] = open_model(
                    self.flags["backend"],
                    model,
                    arguments_for(role, given),
                    partial(find_checkpoint, folder=folder, digest_file=digest_file),
                )
            except UsageError as error:
                close = nearest_run(model, self.out) if role == "baseline" else ""
                if error.problems or not close:
                    raise
                raise UsageError(f"{error}; as an earlier run, did you mean {close!r}?") from error
        if "candidate" not in backends:
            raise UsageError(
                "no candidate: name one with --candidate or under 'models:' in the suite"
            )
        return backends

    def _refuse_undecidable(self) -> None:
        """Refuse, before anything is asked, blocking rules that can never pass or never fail on these samples."""
        from evalkit.errors import UsageError
        from evalkit.powering import undecidable

        if self.flags["allow_undecidable"] or self.flags["limit"] is not None:
            return
        told = undecidable(
            self.parts.tasks,
            self.parts.gates,
            self.parts.suite.confidence,
            has_baseline="baseline" in self.backends or self.earlier is not None,
        )
        if told:
            advice = "--allow-undecidable runs all the same; 'evalkit power' tells what each rule can detect"
            raise UsageError("\n".join([*told, advice]))

    def _early(self) -> EarlyStopping | None:
        """Return by what tasks are ended early; None where none says ``stop: early``."""
        from evalkit.pipeline import EarlyStopping

        suite = self.parts.suite
        if all(task.stop == "full" for task in suite.tasks):
            return None
        return EarlyStopping(self.parts.gates, suite.seed, suite.confidence)

    def _decide(self) -> Verdict:
        from evalkit.cli.past_runs import utc_today
        from evalkit.flips import sample_scores
        from evalkit.gates.evaluate import evaluate

        scores = partial(sample_scores, self.measured.tables)
        return evaluate(self.parts.gates, self.scorecard, today=utc_today(), scores=scores)

    def show(self) -> None:
        """Print the verdict and where everything lies."""
        from evalkit.cli.terminal import print_run

        quiet = self.flags["quiet"]
        print_run(
            self.scorecard, self.verdict, self.folder.path, quiet=quiet, calibration=self.noise
        )
