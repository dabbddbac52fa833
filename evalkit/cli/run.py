"""``evalkit run``: the whole job, from a suite file to an exit code."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evalkit.cli.options import (
    CALIBRATION,
    DEVICE,
    EXISTING_FILE,
    REQUEST_TIMEOUT,
    answer_store,
    backend,
    backend_arguments,
    gate_files,
    limit,
    option,
    out_folder,
    report_formats,
)
from evalkit.cli.running import loop_factory, terminable

if TYPE_CHECKING:
    from evalkit.cli.past_runs import PastRun
    from evalkit.cli.weights import WeighedModels
    from evalkit.pipeline import EarlyStopping, Measured
    from evalkit.ports import AnswerStore
    from evalkit.records.exchange import Role
    from evalkit.records.scorecard import Scorecard
    from evalkit.records.verdict import Verdict
    from evalkit.scoring import MetricTable
    from evalkit.second_pass import Judged
    from evalkit.store.runs import RunFolder


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
@option(
    "--keep-going",
    "keep_going",
    is_flag=True,
    help="Ask the models although a blocking rule on their weights has failed.",
)
@DEVICE
@answer_store("The answer store; runs may share one.  [default: OUT/answers.sqlite]")
@REQUEST_TIMEOUT
@CALIBRATION
@option(
    "--judge",
    multiple=True,
    metavar="NAME=MODEL",
    help="The model of one of the suite's judges, in place of the one it names; the judge's model_args go with it (of "
    "a server its revision, which says what is served). May be given again.",
)
@option(
    "--judge-card",
    "judge_card",
    multiple=True,
    type=EXISTING_FILE,
    metavar="FILE",
    help="What 'evalkit judge validate' wrote of a judge, beside those found with the judges' files: rules on its "
    "numbers decide only by a card. May be given again.",
)
@report_formats(
    "A report to write into the run's folder beside report.html, junit.xml and summary.md"
)
@option("--quiet", is_flag=True, help="No progress; the verdict alone.")
def command(suite: Path, out: Path, **flags: Any) -> int:  # noqa: ANN401 - one value per option above
    """Run SUITE on a candidate and a baseline, write a scorecard, and let the gates decide.

    \b
    evalkit run suite.yaml
    evalkit run suite.yaml --candidate ./checkpoint-900 --baseline ./released
    evalkit run suite.yaml --candidate ./checkpoint-900 --baseline production
    evalkit run suite.yaml --candidate http://127.0.0.1:8000 --model-arg revision=2026-11-01
    evalkit run suite.yaml --backend vllm --model-arg max_model_len=4096
    evalkit run suite.yaml --judge quality=http://127.0.0.1:9000 --judge-card quality-card.json

    Tasks of kind spectral read the weights first. Where a blocking rule on them fails, nothing is asked: the run ends
    there, with exit code 1; --keep-going asks all the same.

    Where the suite has judges, they are asked once all models have answered and are closed.

    An interrupted run is resumed by the same command: nothing that was answered is asked again.
    """
    from evalkit.cli.reporting import tell_ci

    done = complete(suite, out, flags, sys.argv)
    done.show()
    tell_ci(done.past)
    return done.verdict.exit_code


def complete(suite: Path, out: Path, flags: Mapping[str, Any], words: Sequence[str]) -> Run:
    """Run a suite to its end and return the run; ``words`` are the command that it records.

    ``flags`` are the command's parameters by name. Raises UsageError and RunError as the command tells them.
    """
    from evalkit.cli.progress import Display

    with Display(quiet=flags["quiet"]) as display, terminable():
        run = Run(suite, out, flags, display, words)
        try:
            run.go()
        finally:
            gc.unfreeze()
    return run


class Run:
    """One run: its parts in the order in which they are needed."""

    def __init__(
        self,
        suite: Path,
        out: Path,
        flags: Mapping[str, Any],
        display: Any,  # noqa: ANN401 - whatever shows progress
        words: Sequence[str],
    ) -> None:
        self.suite_path, self.out, self.flags, self.display = suite, out, flags, display
        self.words = tuple(words)
        self.folder: RunFolder | None = None
        self.past: PastRun
        """The finished run."""
        self.loaded: dict[Role, list[MetricTable]] = {}
        """The tables of an earlier run that is the baseline."""
        self.judged: Judged | None = None
        """What judges said; None where nothing is judged."""

    def go(self) -> None:
        """Run, score, decide, write."""
        from evalkit.cli.judges import bench
        from evalkit.cli.past_runs import PastRun
        from evalkit.cli.reporting import write_reports
        from evalkit.identity import digest, short
        from evalkit.pipeline import Measured
        from evalkit.store.answers import SqliteAnswers
        from evalkit.store.runs import RunFolder

        self._open()
        self.models = {role: backend.model for role, backend in self.backends.items()}
        judging = [judge.backend.model for judge in self.judges]
        unpinned = not all(model.pinned for model in (*self.models.values(), *judging))
        store_path = self.flags["store"] or self.out / "answers.sqlite"
        # Read before the folder is begun: what ends here leaves a finished run of the same name as it is.
        self.weighed = self._weigh()
        stopped = self._weights_fail()
        name = f"{self.parts.suite.suite}-{short(self._identity(stopped=stopped))}"
        with (
            RunFolder.create(
                self.out, name, fresh_if_finished=unpinned, command=self.words
            ) as folder,
            SqliteAnswers(store_path) as store,
        ):
            self.folder = folder
            self.models = {
                role: model
                if model.pinned
                else dataclasses.replace(model, digest=digest([model.digest, folder.salt]))
                for role, model in self.models.items()
            }
            self._write_weights(folder)
            self.bench = bench(self.judges, self.backends, self.models, self.earlier)
            measured = Measured() if stopped else self._measure(store, folder)
            if stopped:
                with folder.write_samples():
                    pass
            folder.write_suite(self.parts.suite)
            if self.earlier:
                folder.write_baseline(self.earlier.run.scorecard, self.earlier.suite)
            self.scorecard = self._sealed(measured)
            self.verdict = self._judged(self.scorecard, measured)
            folder.write_verdict(self.verdict)
            self.past = PastRun(folder.path, self.scorecard, measured.tables)
            write_reports(self.past, folder.path, self.flags["report"])
            folder.write_scorecard(self.scorecard)

    def _open(self) -> None:
        """Read every file and find every model; refuse what could only fail later."""
        from evalkit.cli.assemble import assemble
        from evalkit.cli.circumstances import utc_now
        from evalkit.cli.reporting import need_reporters
        from evalkit.cli.weights import decomposition_for
        from evalkit.loaders.file_digests import FileDigests
        from evalkit.store.calibrations import read_calibration
        from evalkit.store.durable import make_folder

        self.started, self.clock = utc_now(), time.monotonic()
        calibration = self.flags["calibration"]  # read first: a wrong file must not cost a run
        self.noise = None if calibration is None else read_calibration(calibration)
        make_folder(self.out)
        self.digest_file = FileDigests(self.out / "file-digests.sqlite")
        self.parts = assemble(
            self.suite_path, self.flags["gate"], self.flags["limit"], self.digest_file
        )
        need_reporters(self.flags["report"])
        for task in self.parts.suite.spectral:  # refused first: a device must not cost a run either
            decomposition_for(task, self.flags["device"])
        self._open_models()
        self._refuse_undecidable()
        self.early = self._early()
        if self.earlier:
            self.loaded["baseline"] = self.earlier.tables()

    def _open_models(self) -> None:
        """Find the models and the judges, and refuse what they cannot be asked."""
        from evalkit.cli.judges import open_judges
        from evalkit.cli.run_models import open_models
        from evalkit.pipeline import check_needs

        self.opened = open_models(self.parts, self.flags, self.out, self.digest_file)
        self.backends, self.earlier = self.opened.backends, self.opened.earlier
        check_needs(self.parts.tasks, self.backends.values())
        self.judges = open_judges(
            self.parts,
            self.flags["judge"],
            self.flags["judge_card"],
            self.digest_file,
            has_baseline="baseline" in self.backends or self.earlier is not None,
        )

    def _identity(self, *, stopped: bool) -> str:
        """Return the digest of all that can change what is measured: the run's folder is named by it.

        A run that its weights stopped is another than the complete one, whose place it must not take.
        """
        from evalkit.identity import digest

        # What is asked depends on the gates where they decide when to stop.
        stopping = self.early.gates if self.early else ()
        return digest(
            [
                self.parts.suite.beyond_defaults(),
                {role: model.digest for role, model in self.models.items()},
                *([self.earlier.digest] if self.earlier else []),
                *(gate.beyond_defaults() for gate in stopping),
                *({judge.spec.judge: judge.pins} for judge in self.judges),
                *(["stopped"] if stopped else []),
            ]
        )

    def _weigh(self) -> WeighedModels:
        """Read the weights by every task that does, before anything is asked."""
        from evalkit.cli.weights import weigh_models

        return weigh_models(
            self.parts.suite,
            self.opened.weights,
            self.parts.loaded.folder,
            self.digest_file,
            self.flags["device"],
            lambda role, task: self.display.task(f"{role} {task}", "weights"),
        )

    def _write_weights(self, folder: RunFolder) -> None:
        """Write what reading the weights gave."""
        if self.parts.suite.spectral:
            lent = self.earlier.weights_rows() if self.earlier else ()
            folder.write_weights(chain(self.weighed.rows(), lent))

    def _weights_fail(self) -> bool:
        """Return whether the run ends here: a blocking rule has failed on the weights, and nobody said to go on.

        Where it goes on, the checkpoints must be whole.
        """
        from evalkit.cli.weights import failed_on_weights
        from evalkit.pipeline import Measured

        suite = self.parts.suite
        if suite.spectral and suite.sampled and not self.flags["keep_going"]:
            told = self._sealed(Measured())
            if failed_on_weights(self.parts.gates, self._judged(told, Measured()), told, suite):
                if self.earlier:  # of what was not asked, nothing is compared either
                    weighed = {task.name for task in suite.spectral}
                    self.earlier = dataclasses.replace(self.earlier, tasks=weighed)
                return True
        if suite.sampled:
            self.opened.check_whole()
        return False

    def _measure(self, store: AnswerStore, folder: RunFolder) -> Measured:
        """Ask the models all that is not answered yet, and score it."""
        from evalkit.executors.local import LocalExecutor
        from evalkit.pipeline import measure

        gc.freeze()  # what has been loaded stays: the collector need not look through it again
        with (
            folder.write_samples() as write_row,
            asyncio.Runner(loop_factory=loop_factory()) as runner,
        ):
            road = measure(
                self.parts.tasks,
                self.backends,
                self.models,
                LocalExecutor(self.flags["request_timeout"], self.display.task("model")),
                store,
                write_row,
                lambda role, task: self.display.task(f"{role} {task.name}"),
                early=self.early,
                loaded=self.loaded,
            )
            measured = runner.run(road)
            for row in self.earlier.rows() if self.earlier else ():
                write_row(row)
        if self.judges:
            self._ask_judges(store, folder, measured)
        return measured

    def _ask_judges(self, store: AnswerStore, folder: RunFolder, measured: Measured) -> None:
        """Ask the judges about all that was answered, and add what they said to what was measured."""
        from evalkit.cli.judges import answered, second_pass
        from evalkit.estimating import ROLES
        from evalkit.executors.local import LocalExecutor

        roles = [role for role in ROLES if role in self.backends]
        views = {
            judge.spec.judge: self.display.task(f"judge {judge.spec.judge}")
            for judge in self.judges
        }
        self.judged = second_pass(
            self.bench,
            answered(self.parts, roles, self.earlier),
            folder,
            store,
            lambda name: LocalExecutor(self.flags["request_timeout"], views[name]),
            lambda name: views[name],
            loop_factory(),
        )
        for role, tables in self.judged.tables.items():
            measured.tables.setdefault(role, []).extend(tables)
        measured.asked += self.judged.asked
        measured.reused += self.judged.reused

    def _sealed(self, measured: Measured) -> Scorecard:
        from evalkit.cli.scorecards import sealed_scorecard

        return sealed_scorecard(
            self.parts,
            measured,
            self.models,
            self.backends,
            self.earlier,
            self.weighed,
            seats=self.bench if self.judged else None,
            judged=self.judged,
            judgements=self.folder.judgements_digest if self.folder else "",
            samples=self.folder.samples_digest if self.folder else "",
            weights=self.folder.weights_digest if self.folder else "",
            started=self.started,
            seconds=time.monotonic() - self.clock,
            command=self.words,
        )

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
            weighed=self.parts.suite.spectral,
        )
        if told:
            advice = "--allow-undecidable runs all the same; 'evalkit power' tells what each rule can detect"
            raise UsageError("\n".join([*told, advice]))

    def _early(self) -> EarlyStopping | None:
        """Return by what tasks are ended early; None where none says ``stop: early``."""
        from evalkit.pipeline import EarlyStopping

        suite = self.parts.suite
        if all(task.stop == "full" for task in suite.sampled):
            return None
        return EarlyStopping(self.parts.gates, suite.seed, suite.confidence)

    def _judged(self, scorecard: Scorecard, measured: Measured) -> Verdict:
        from evalkit.cli.past_runs import utc_today
        from evalkit.flips import sample_scores
        from evalkit.gates.evaluate import evaluate

        scores = partial(sample_scores, measured.tables)
        return evaluate(self.parts.gates, scorecard, today=utc_today(), scores=scores)

    def show(self) -> None:
        """Print the verdict and where everything lies."""
        from evalkit.cli.terminal import print_run

        assert self.folder is not None, "the run has ended"
        quiet = self.flags["quiet"]
        print_run(
            self.scorecard,
            self.verdict,
            self.folder.path,
            quiet=quiet,
            calibration=self.noise,
            reports=self.folder.path,
        )
