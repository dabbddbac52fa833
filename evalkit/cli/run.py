"""``evalkit run``: the whole job, from a suite file to an exit code."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import click

from evalkit.cli.options import EXISTING_FILE, FOLDER, option, parsed_arguments


@click.command("run")
@click.argument("suite", type=EXISTING_FILE)
@option(
    "--candidate",
    metavar="MODEL",
    help="The model under test: a checkpoint folder, a hub id, a running server's URL, or a .jsonl of answers.",
)
@option(
    "--baseline",
    metavar="MODEL",
    help="The model it must not fall behind, written the same way; 'none' runs without one.",
)
@option(
    "--gate",
    "gate",
    multiple=True,
    type=EXISTING_FILE,
    metavar="GATES",
    help="A gate file, beside those the suite names. May be given again.",
)
@option(
    "--out",
    type=FOLDER,
    default=Path("reports"),
    show_default=True,
    help="Where the run's folder is written.",
)
@option(
    "--backend",
    type=click.Choice(["auto", "transformers", "vllm", "openai", "replay"]),
    default="auto",
    show_default=True,
    help="What answers for checkpoints; auto takes vLLM where a GPU and vLLM are found, else transformers.",
)
@option(
    "--model-arg",
    "model_arg",
    multiple=True,
    metavar="KEY=VALUE",
    help="An argument of the backend (see 'evalkit list backends'); candidate.KEY or baseline.KEY for one model alone.",
)
@option(
    "--limit",
    type=click.IntRange(min=1),
    help="Run only the first N samples of each task: for trying a suite out.",
)
@option(
    "--store",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The answer store; runs may share one.  [default: OUT/answers.sqlite]",
)
@option(
    "--request-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=600.0,
    show_default=True,
    help="Seconds one request may take.",
)
@option("--quiet", is_flag=True, help="No progress; the verdict alone.")
def command(suite: Path, out: Path, **flags: Any) -> int:  # noqa: ANN401 - one value per option above
    """Run SUITE on a candidate and a baseline, write a scorecard, and let the gates decide.

    \b
    evalkit run suite.yaml
    evalkit run suite.yaml --candidate ./checkpoint-900 --baseline ./released
    evalkit run suite.yaml --candidate http://127.0.0.1:8000 --model-arg revision=2026-11-01
    evalkit run suite.yaml --backend vllm --model-arg max_model_len=4096

    An interrupted run is resumed by the same command: nothing that was answered is asked again.
    """
    from evalkit.cli.progress import Display

    with Display(quiet=flags["quiet"]) as display, _terminable():
        run = _Run(suite, out, flags, display)
        code = run.go()
    run.show()
    return code


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the run as Ctrl-C does: servers stopped, answers kept."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGINT)  # asyncio cancels in good order on this one

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's where it is installed (it saves a tenth of the client's processor time), else asyncio's own."""
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return None
    return uvloop.new_event_loop


class _Run:
    """One run: its parts in the order in which they are needed."""

    def __init__(self, suite: Path, out: Path, flags: Mapping[str, Any], display: Any) -> None:  # noqa: ANN401
        self.suite_path, self.out, self.flags, self.display = suite, out, flags, display

    def go(self) -> int:
        """Run, score, decide, write; return the exit code."""
        from evalkit.cli.assemble import assemble
        from evalkit.cli.circumstances import utc_now
        from evalkit.executors.local import LocalExecutor
        from evalkit.gates.evaluate import evaluate
        from evalkit.identity import digest, short
        from evalkit.loaders.file_digests import FileDigests
        from evalkit.pipeline import check_needs, measure
        from evalkit.store.answers import SqliteAnswers
        from evalkit.store.runs import RunFolder

        self.started, clock = utc_now(), time.monotonic()
        self.out.mkdir(parents=True, exist_ok=True)
        digest_file = FileDigests(self.out / "file-digests.sqlite")
        self.parts = assemble(self.suite_path, self.flags["gate"], self.flags["limit"], digest_file)
        self.backends = self._open_models(digest_file)
        check_needs(self.parts.tasks, self.backends.values())
        models = {role: backend.model for role, backend in self.backends.items()}
        unpinned = not all(model.pinned for model in models.values())
        identity = digest(
            [
                self.parts.suite.model_dump(mode="json"),
                {role: m.digest for role, m in models.items()},
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
                asyncio.Runner(loop_factory=_loop_factory()) as runner,
            ):
                road = measure(
                    self.parts.tasks,
                    self.backends,
                    models,
                    LocalExecutor(self.flags["request_timeout"], self.display.task("model")),
                    store,
                    write_row,
                    lambda role, task: self.display.task(f"{role} {task.name}"),
                )
                self.measured = runner.run(road)
            self.seconds = time.monotonic() - clock
            self.scorecard = self._scorecard(models)
            self.verdict = evaluate(self.parts.gates, self.scorecard)
            folder.write_verdict(self.verdict)
            folder.write_scorecard(self.scorecard)
        return self.verdict.exit_code

    def _open_models(self, digest_file: Any) -> dict[Any, Any]:  # noqa: ANN401
        from evalkit.cli.models import arguments_for, open_model
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
            backends[role] = open_model(
                self.flags["backend"],
                model,
                arguments_for(role, given),
                partial(find_checkpoint, folder=folder, digest_file=digest_file),
            )
        if "candidate" not in backends:
            raise UsageError(
                "no candidate: name one with --candidate or under 'models:' in the suite"
            )
        return backends

    def _scorecard(self, models: Mapping[Any, Any]) -> Any:  # noqa: ANN401
        from evalkit.cli import circumstances as facts
        from evalkit.compare import compare_tables
        from evalkit.estimating import estimate_tables
        from evalkit.identity import digest
        from evalkit.records.scorecard import Circumstances, ModelRecord, Provenance, Scorecard

        suite, measured = self.parts.suite, self.measured
        return Scorecard(
            provenance=Provenance(
                suite=suite.suite,
                suite_version=suite.version,
                suite_digest=digest(suite.model_dump(mode="json")),
                models={
                    role: ModelRecord(
                        digest=m.digest,
                        pinned=m.pinned,
                        files=dict(m.files),
                        engine=dict(m.engine),
                    )
                    for role, m in models.items()
                },
                datasets={task.spec.name: task.source.digest for task in self.parts.tasks},
                seed=suite.seed,
                versions=facts.versions(),
            ),
            estimates=tuple(estimate_tables(measured.tables, suite.seed, suite.confidence)),
            comparisons=tuple(compare_tables(measured.tables, suite.seed, suite.confidence)),
            tasks=tuple(measured.tallies),
            circumstances=Circumstances(
                started=self.started,
                finished=facts.utc_now(),
                command=tuple(sys.argv),
                git_commit=facts.git_commit(self.parts.loaded.folder),
                hardware=facts.hardware(),
                host=facts.host(),
                asked=measured.asked,
                reused=measured.reused,
                seconds=round(self.seconds, 3),
                names={role: m.name for role, m in models.items()},
                locations={role: m.location for role, m in models.items()},
                engine={role: dict(backend.engine()) for role, backend in self.backends.items()},
            ),
        ).sealed()

    def show(self) -> None:
        """Print the verdict and where everything lies."""
        from evalkit.cli.terminal import print_run

        print_run(self.scorecard, self.verdict, self.folder.path, quiet=self.flags["quiet"])
