"""``evalkit calibrate``: a model against itself, before its numbers decide anything."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import click

from evalkit.cli.options import (
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


@click.command("calibrate")
@click.argument("suite", type=EXISTING_FILE, required=False)
@option(
    "--model",
    metavar="MODEL",
    help="The model to ask, written as in 'evalkit run'.  [default: the suite's baseline, else its candidate]",
)
@gate_files(
    "A gate file whose false alarms are counted, beside those the suite names. May be given again."
)
@option(
    "-k",
    "--repetitions",
    type=click.IntRange(min=2),
    default=5,
    show_default=True,
    help="How often everything is asked.",
)
@out_folder("The calibration is written to OUT/calibrations/.")
@backend("What answers for checkpoints, as in 'evalkit run'.")
@backend_arguments("An argument of the backend (see 'evalkit list backends').")
@limit("Ask only the first N samples of each task.")
@answer_store(
    "The answer store; a fresh one measures anew what another one holds.  [default: OUT/answers.sqlite]"
)
@REQUEST_TIMEOUT
@option("--quiet", is_flag=True, help="No progress; what it means alone.")
@option("--show", type=EXISTING_FILE, metavar="FILE", help="Print a calibration and ask nothing.")
def command(suite: Path | None, show: Path | None, **flags: Any) -> int:  # noqa: ANN401 - one value per option above
    """Ask one model everything in SUITE several times over (A/A) and tell what differs.

    \b
    evalkit calibrate suite.yaml -k 10
    evalkit calibrate suite.yaml --model ./released --gate gates/strict.yaml
    evalkit calibrate --show reports/calibrations/orders-3f9a1c2b0d11.json

    Shows the engine's noise floor per estimate, how many answers and scores differ, and how often the gates fail a
    model that has not changed. The engine is started anew for each repetition, as a run starts it for each model.
    Interrupted, it is resumed by the same command; more repetitions ask only for those that are missing.
    Tasks that read weights are left out: read again, weights are the same.
    """
    if (suite is None) == (show is None):
        raise click.UsageError("give a SUITE to measure, or --show FILE to print what was measured")
    if show is not None:
        from evalkit.store.calibrations import read_calibration

        return _print(read_calibration(show), show, quiet=flags["quiet"])
    assert suite is not None, "checked above"
    from evalkit.cli.progress import Display
    from evalkit.cli.running import terminable

    with Display(quiet=flags["quiet"]) as display, terminable():
        calibration, file = _Calibrating(suite, flags, display).go()
    return _print(calibration, file, quiet=flags["quiet"])


def _print(calibration: Any, file: Path, *, quiet: bool) -> int:  # noqa: ANN401
    from evalkit.cli.terminal import console
    from evalkit.reports.calibration import calibration_drawing, sentences

    out = console()
    if quiet:
        for sentence in sentences(calibration):
            out.print(sentence, markup=False, highlight=False)
    else:
        out.print(calibration_drawing(calibration, out.width))
    out.print(f"\ncalibration: {file}", soft_wrap=True, highlight=False, markup=False)
    return 3 if calibration.incomplete else 0


class _Calibrating:
    """One calibration: its parts in the order in which they are needed."""

    def __init__(self, suite: Path, flags: Mapping[str, Any], display: Any) -> None:  # noqa: ANN401
        self.suite_path, self.flags, self.display = suite, flags, display
        self.out: Path = flags["out"]
        self.asked = self.reused = 0

    def go(self) -> tuple[Any, Path]:
        """Ask everything K times, judge and write; return the calibration and its file."""
        from evalkit.calibrating import calibrate
        from evalkit.cli.assemble import assemble
        from evalkit.cli.circumstances import utc_now
        from evalkit.cli.past_runs import utc_today
        from evalkit.gates.waivers import check_dates
        from evalkit.identity import digest
        from evalkit.loaders.file_digests import FileDigests
        from evalkit.pipeline import check_needs
        from evalkit.store.answers import SqliteAnswers
        from evalkit.store.calibrations import kept_salt, write_calibration
        from evalkit.store.durable import make_folder

        self.started, self.clock = utc_now(), time.monotonic()
        make_folder(self.out)
        digest_file = FileDigests(self.out / "file-digests.sqlite")
        self.parts = assemble(self.suite_path, self.flags["gate"], self.flags["limit"], digest_file)
        self._leave_weights_out()
        self._leave_judges_out()
        today = utc_today()
        check_dates(self.parts.gates, today)
        # Every sample is asked: where a task stops early is itself a decision, and would differ between repetitions.
        self.tasks = [
            dataclasses.replace(task, spec=task.spec.model_copy(update={"stop": "full"}))
            for task in self.parts.tasks
        ]
        self.backend = self._open_model(digest_file)
        self.model, suite = self.backend.model, self.parts.suite
        check_needs(self.tasks, [self.backend])
        with ExitStack() as held:
            store = held.enter_context(
                SqliteAnswers(self.flags["store"] or self.out / "answers.sqlite")
            )
            salt = ""
            if not self.model.pinned:
                identity = digest([suite.beyond_defaults(), self.model.digest])
                salt = held.enter_context(kept_salt(self.out, identity))
            repetitions = []
            for number in range(self.flags["repetitions"]):
                if number:
                    self.backend = self._open_model(digest_file)
                repetitions.append(self._repetition(number, salt, store))
            calibration = calibrate(
                repetitions,
                self.parts.gates,
                self._provenance(),
                self._circumstances(),
                suite.confidence,
                today,
            )
            return calibration, write_calibration(self.out, calibration)

    def _leave_weights_out(self) -> None:
        """Leave tasks that read weights out, and the rules on them: read again, weights are the same to the last bit.

        Raises UsageError where nothing is left to ask.
        """
        from evalkit.errors import UsageError
        from evalkit.gates.census import without_census
        from evalkit.gates.stopping import measures_under

        spectral = self.parts.suite.spectral
        if not spectral:
            return
        why = "weights are the same however often they are read"
        names = ", ".join(task.name for task in spectral)
        if not self.parts.tasks:
            raise UsageError(f"nothing to calibrate: the suite asks nothing, and {why} ({names})")

        def asked(rule: Any) -> bool:  # noqa: ANN401
            tasks = self.parts.tasks
            return any(measures_under(rule, task.spec, task.metrics) for task in tasks)

        gates = (without_census(gate, spectral, asked) for gate in self.parts.gates)
        self.parts = dataclasses.replace(self.parts, gates=tuple(filter(None, gates)))
        self.display.say(f"left out: {names}, and the rules on it: {why}")

    def _leave_judges_out(self) -> None:
        """Leave metrics that judges give out, and the rules on them: what repeats here is the model, and no judge.

        Raises UsageError where nothing is left to measure.
        """
        from evalkit.errors import UsageError
        from evalkit.gates.stopping import measures_under

        named = [f"{t.spec.name}/{m.name}" for t in self.parts.tasks for m in t.metrics if m.judges]
        if not named:
            return
        names = ", ".join(named)
        why = "the model is asked again here, and no judge; 'evalkit judge validate --repeat' repeats a judge"
        kept = tuple(
            dataclasses.replace(task, metrics=tuple(m for m in task.metrics if not m.judges))
            for task in self.parts.tasks
        )
        if not any(task.metrics for task in kept):
            raise UsageError(f"nothing to calibrate: judges alone give {names}, and {why}")

        def by_judges_alone(rule: Any) -> bool:  # noqa: ANN401
            of_all, of_kept = (
                any(measures_under(rule, task.spec, task.metrics) for task in tasks)
                for tasks in (self.parts.tasks, kept)
            )
            return of_all and not of_kept

        gates = (
            gate.model_copy(
                update={
                    "rules": rules,
                    "waivers": tuple(w for w in gate.waivers if w.rule in {r.id for r in rules}),
                }
            )
            for gate in self.parts.gates
            if (rules := tuple(rule for rule in gate.rules if not by_judges_alone(rule)))
        )
        asked = (
            new
            for new, old in zip(kept, self.parts.tasks, strict=True)
            if not old.judged or new.metrics
        )
        self.parts = dataclasses.replace(self.parts, tasks=tuple(asked), gates=tuple(gates))
        self.display.say(f"left out: {names}, and the rules on it: {why}")

    def _open_model(self, digest_file: Any) -> Any:  # noqa: ANN401
        """Return a backend for the model, not yet opened."""
        from evalkit.cli.models import arguments_for, open_model
        from evalkit.errors import UsageError
        from evalkit.loaders.checkpoints import find_checkpoint

        named, declared = self.flags["model"], self.parts.suite.models
        name = named or declared.baseline or declared.candidate
        if name is None:
            raise UsageError("no model: name one with --model or under 'models:' in the suite")
        role = "baseline" if named or declared.baseline else "candidate"
        folder = Path.cwd() if named else self.parts.loaded.folder
        return open_model(
            self.flags["backend"],
            name,
            arguments_for(role, parsed_arguments(self.flags["model_arg"])),
            partial(find_checkpoint, folder=folder, digest_file=digest_file),
        )

    def _repetition(self, number: int, salt: str, store: Any) -> Any:  # noqa: ANN401
        """Run the suite once, its answers kept under an identity of this repetition alone."""
        from evalkit.calibrating import AnswerPrints, Repetition, repetition_digest
        from evalkit.cli.running import loop_factory
        from evalkit.errors import RunError
        from evalkit.executors.local import LocalExecutor
        from evalkit.pipeline import measure

        if self.backend.model.digest != self.model.digest:
            message = f"{self.model.name} became another model between two repetitions"
            raise RunError(message, "calibrate again when it stays the same")
        identity = repetition_digest(self.model.digest, number, salt)
        prints = AnswerPrints()

        def titled(what: str) -> Any:  # noqa: ANN401
            return self.display.task(f"{number + 1}/{self.flags['repetitions']} {what}")

        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            measured = runner.run(
                measure(
                    self.tasks,
                    {"baseline": self.backend},
                    {"baseline": dataclasses.replace(self.model, digest=identity)},
                    LocalExecutor(self.flags["request_timeout"], titled("model")),
                    store,
                    prints,
                    lambda role, task: titled(task.name),
                )
            )
        self.asked += measured.asked
        self.reused += measured.reused
        return Repetition(measured.tables["baseline"], measured.tallies, prints.of_task)

    def _provenance(self) -> Any:  # noqa: ANN401
        from evalkit.cli.circumstances import versions
        from evalkit.identity import digest
        from evalkit.records.scorecard import ModelRecord, Provenance

        suite, model = self.parts.suite, self.model
        return Provenance(
            suite=suite.suite,
            suite_version=suite.version,
            suite_digest=digest(suite.beyond_defaults()),
            models={
                "baseline": ModelRecord(
                    digest=model.digest,
                    pinned=model.pinned,
                    files=dict(model.files),
                    engine=dict(model.engine),
                )
            },
            datasets={task.spec.name: task.source.digest for task in self.tasks},
            seed=suite.seed,
            versions=versions(),
        )

    def _circumstances(self) -> Any:  # noqa: ANN401
        from evalkit.cli import circumstances as facts
        from evalkit.records.scorecard import Circumstances

        return Circumstances(
            started=self.started,
            finished=facts.utc_now(),
            command=tuple(sys.argv),
            git_commit=facts.git_commit(self.parts.loaded.folder),
            hardware=facts.hardware(),
            host=facts.host(),
            asked=self.asked,
            reused=self.reused,
            seconds=round(time.monotonic() - self.clock, 3),
            names={"baseline": self.model.name},
            locations={"baseline": self.model.location},
            engine={"baseline": dict(self.backend.engine())},
        )
