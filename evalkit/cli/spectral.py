"""``evalkit spectral``: what a checkpoint's weights tell, without data."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from evalkit.cli.options import DEVICE, check_writable, gate_files, json_file, option, out_folder
from evalkit.cli.running import keeping_nothing, terminable

if TYPE_CHECKING:
    from evalkit.loaders.checkpoints import DigestFile, FoundWeights
    from evalkit.records.exchange import Model, Role
    from evalkit.records.suite import GateSpec, SpectralTask, SuiteSpec
    from evalkit.records.weights import TensorRow
    from evalkit.spectral.spectrum import Decomposition
    from evalkit.store.runs import RunFolder

NAME: Final = "weights"
"""The name of the suite and of its only task."""


@click.command("spectral")
@click.argument("model")
@option(
    "--base",
    metavar="MODEL",
    help="What MODEL was fine-tuned from: drift, scale and what is missing are told against it.",
)
@option(
    "--adapter",
    metavar="DIR",
    help="The LoRA adapter that was merged into MODEL: checks that MODEL = base + adapter. Takes --base.",
)
@option(
    "--spectra",
    is_flag=True,
    help="Also eigenvalues: alpha and its kin, intruder dimensions, rotation (advisory; minutes for 7 B weights).",
)
@option("--importance", is_flag=True, help="Also FROG's importance (an unvalidated heuristic).")
@option("--traps", is_flag=True, help="Also correlation traps. Takes --spectra.")
@option(
    "--draws",
    type=click.IntRange(min=0, max=10_000),
    help="Refits behind each alpha's interval and goodness of fit; 0 for none. Takes --spectra.  [default: 100]",
)
@option(
    "--compatible",
    is_flag=True,
    help="Spectra by WeightWatcher 0.7.7's conventions, to compare with its tables. Takes --spectra.",
)
@option(
    "--frozen",
    multiple=True,
    metavar="PATTERN",
    help="Tensors that training must not have changed; * matches any text. May be given again. Takes --base.",
)
@option(
    "--trained",
    multiple=True,
    metavar="PATTERN",
    help="Tensors that training must have changed. May be given again. Takes --base.",
)
@gate_files(
    "A gate file that decides, instead of the built-in gate (integrity blocks, scale and drift warn). Repeatable."
)
@DEVICE
@out_folder("Where the run's folder is written.")
@option("--plots", is_flag=True, help="Also draw: RUN/plots/, as Vega-Lite JSON and SVG.")
@option(
    "--export",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write what to train by importance: a list of layers (.json), or a mask of every matrix (.npz, laid out as "
    "its parameter; FILE.json beside it says what has none). Takes --importance.",
)
@option(
    "--share",
    type=click.FloatRange(min=0, max=1, min_open=True),
    help="With --export: the share of the weights to train.  [default: 0.1]",
)
@json_file("Write verdict and scorecard as JSON too.")
@option("--quiet", is_flag=True, help="No progress; the verdict alone.")
def command(model: str, out: Path, **flags: Any) -> int:  # noqa: ANN401 - one value per option above
    """Tell what the weights of MODEL say: a checkpoint's folder, an adapter's, or a hub id. Needs no data.

    \b
    evalkit spectral ./checkpoint-900 --base ./released
    evalkit spectral ./checkpoint-900 --base ./released --spectra --plots
    evalkit spectral ./merged --base ./released --adapter ./lora
    evalkit spectral ./lora                               base + adapter, held against the base
    evalkit spectral ./checkpoint-900 --base ./released --gate gates/weights-full.yaml
    evalkit spectral ./checkpoint-900 --importance --export layers.json --share 0.05

    One pass over the files finds what is broken (cut off, NaN, zeroed, missing, of another shape), and, with --base,
    how far each tensor moved and whether its scale did. Power-law alpha and its kin come with --spectra: they advise,
    since published evidence does not carry a decision on them. The base is measured with them too, beside MODEL.

    The run's folder holds every number: scorecard.json, and weights.jsonl with all that was measured on each tensor.
    Exits with the gate's verdict: 0 passed, 1 failed (a damaged checkpoint fails), 4 undecided. A suite has the same
    checks as a task of kind spectral, before anything is asked (see 'evalkit run').
    """
    from evalkit.cli.progress import Display

    _refuse_idle(flags)
    with Display(quiet=flags["quiet"]) as display, terminable(), keeping_nothing():
        run = _Spectral(model, out, flags, display)
        code = run.go()
    run.show()
    return code


def _refuse_idle(flags: Mapping[str, Any]) -> None:
    """Refuse options that would change nothing without another one."""
    for flag, needed in (
        ("traps", "spectra"),
        ("draws", "spectra"),
        ("compatible", "spectra"),
        ("adapter", "base"),
        ("export", "importance"),
        ("share", "export"),
    ):
        if flags[flag] not in (None, False) and not flags[needed]:
            raise click.UsageError(f"--{flag} takes --{needed}: it changes nothing by itself")
    if flags["compatible"] and flags["device"] != "cpu":
        raise click.UsageError(
            "--compatible computes as WeightWatcher does, on the processor: leave out --device"
        )
    if flags["export"] is not None:
        from evalkit.cli.layer_masks import ENDINGS, LIST, MASKS

        if flags["export"].suffix not in ENDINGS:
            raise click.UsageError(
                f"--export {flags['export']}: name a {LIST} (a list of layers) or an {MASKS} (masks)"
            )


class _Spectral:
    """One reading of a model's weights: a suite with a single task, run as any other."""

    def __init__(self, model: str, out: Path, flags: Mapping[str, Any], display: Any) -> None:  # noqa: ANN401
        self.model, self.out, self.flags, self.display = model, out, flags, display
        self.plots: list[str] | None = None
        self.exported = ""

    def go(self) -> int:
        """Read, decide, write; return the exit code."""
        from evalkit.cli.assemble import Assembly, load_gates
        from evalkit.cli.circumstances import utc_now
        from evalkit.cli.past_runs import PastRun, utc_today
        from evalkit.cli.plots import need_plots
        from evalkit.cli.reporting import write_reports
        from evalkit.cli.scorecards import sealed_scorecard
        from evalkit.cli.weights import weigh_models
        from evalkit.gates.census import default_gate
        from evalkit.gates.evaluate import evaluate
        from evalkit.identity import digest, short
        from evalkit.loaders.file_digests import FileDigests
        from evalkit.loaders.suites import LoadedSuite
        from evalkit.pipeline import Measured
        from evalkit.records.suite import ModelsSpec, SuiteSpec
        from evalkit.store.durable import make_folder
        from evalkit.store.runs import RunFolder

        started, clock, here = utc_now(), time.monotonic(), Path.cwd()
        self.task = self._task()
        if self.flags["plots"]:
            need_plots()
        gates = load_gates(self.flags["gate"])  # read first: a wrong file must not cost a reading
        beside_it = self.flags["base"] if self.task.spectra else None
        models = ModelsSpec(candidate=self.model, baseline=beside_it)
        suite = SuiteSpec(suite=NAME, version=1, models=models, tasks=(self.task,))
        self._refuse(suite, gates)
        make_folder(self.out)
        digest_file = FileDigests(self.out / "file-digests.sqlite")
        against = self._find(here, digest_file)
        known = [held.digest for held in (self.found["candidate"], *against) if held]
        name = f"{NAME}-{short(digest([suite.model_dump(mode='json'), *known]))}"
        # Read before the folder is begun: what ends here leaves a finished run of the same name as it is.
        self.weighed = weigh_models(
            suite,
            self.found,
            here,
            digest_file,
            self.flags["device"],
            lambda role, task: self.display.task(f"{role} {task}", "weights"),
        )
        with RunFolder.create(self.out, name) as folder:
            self.folder = folder.path
            folder.write_weights(self.weighed.rows())
            with folder.write_samples():
                pass
            folder.write_suite(suite)
            self.scorecard = sealed_scorecard(
                Assembly(LoadedSuite(suite, Path(self.model), here), suite, gates, ()),
                Measured(),
                {role: _as_model(held) for role, held in self.found.items()},
                {},
                None,
                self.weighed,
                samples=folder.samples_digest,
                weights=folder.weights_digest,
                started=started,
                seconds=time.monotonic() - clock,
            )
            deciding = gates or (default_gate(self.task, has_base=against[0] is not None),)
            self.verdict = evaluate(deciding, self.scorecard, today=utc_today())
            if self.flags["plots"]:
                self._write_plots(folder)
            folder.write_verdict(self.verdict)
            write_reports(PastRun(folder.path, self.scorecard), folder.path)
            folder.write_scorecard(self.scorecard)
        self._write_beside()
        return self.verdict.exit_code

    def _find(
        self, here: Path, digest_file: DigestFile
    ) -> tuple[FoundWeights | None, FoundWeights | None]:
        """Find the weights; return what they are held against: base and merged adapter."""
        from evalkit.cli.weights import beside
        from evalkit.errors import UsageError
        from evalkit.loaders.checkpoints import find_weights

        base = self.flags["base"]
        put_on = base and find_weights(base, folder=here, digest_file=digest_file)
        found = find_weights(self.model, folder=here, digest_file=digest_file, put_on=put_on)
        self.found: dict[Role, FoundWeights] = {"candidate": found}
        if put_on and self.task.spectra:
            self.found["baseline"] = put_on
        against = beside(self.task, "candidate", found, self.found, here, digest_file)
        if against[0] is None and (self.task.frozen or self.task.trained):
            raise UsageError("--frozen and --trained take --base: what changed is told against it")
        return against

    def _task(self) -> SpectralTask:
        """Return the task that the command line declares.

        With spectra the base model is weighed as well, as the baseline: how alpha changed is told from both.
        """
        from evalkit.records.suite import SpectralTask

        keys = (
            "adapter",
            "frozen",
            "trained",
            "spectra",
            "importance",
            "traps",
            "compatible",
        )
        said = {key: self.flags[key] for key in keys}
        said["base"] = None if self.flags["spectra"] else self.flags["base"]
        if self.flags["draws"] is not None:
            said["draws"] = self.flags["draws"]
        return SpectralTask(kind="spectral", name=NAME, **said)

    def _refuse(self, suite: SuiteSpec, gates: Sequence[GateSpec]) -> None:
        """Refuse, before anything is read, what could only fail afterwards."""
        from evalkit.errors import UsageError
        from evalkit.loaders.gate_fit import check_gates_against_suite

        if problems := check_gates_against_suite(suite, gates):
            raise UsageError(problems)
        self._decomposition()  # a device that cannot be used is refused here
        check_writable(self.flags["json_file"], "--json")
        check_writable(self.flags["export"], "--export")

    def _decomposition(self) -> Decomposition:
        """Return what computes the eigenvalues."""
        from evalkit.cli.weights import decomposition_for

        return decomposition_for(self.task, self.flags["device"])

    def _rows(self, role: Role) -> list[TensorRow]:
        return [row for held, _, row in self.weighed.tensors if held == role]

    def _write_plots(self, folder: RunFolder) -> None:
        from evalkit.cli.plots import write_plots
        from evalkit.cli.weights import OpenedWeights

        opened = OpenedWeights(self.found["candidate"], split=not self.task.compatible)
        rows, base = self._rows("candidate"), self._rows("baseline")
        self.plots = write_plots(folder, rows, base, opened, self.task, self._decomposition())

    def _write_beside(self) -> None:
        """Write what was asked for elsewhere than in the run's folder: export and JSON."""
        from evalkit.cli.layer_masks import LIST, export_layers, export_masks
        from evalkit.store.durable import write_bytes

        rows = self._rows("candidate")
        if self.flags["export"] is not None:
            file, share = self.flags["export"], self.flags["share"] or 0.1
            if file.suffix == LIST:
                export_layers(file, rows, share)
                self.exported = str(file)
            else:
                masks = export_masks(
                    file,
                    self.found["candidate"],
                    share,
                    self._decomposition(),
                    self.display.task("export", "matrices"),
                )
                self.exported = f"{file}: {masks.in_words}"
        if self.flags["json_file"] is not None:
            both = {"verdict": self.verdict, "scorecard": self.scorecard}
            told = {key: record.model_dump(mode="json") for key, record in both.items()}
            write_bytes(self.flags["json_file"], json.dumps(told, indent=2).encode() + b"\n")

    def show(self) -> None:
        """Print the verdict and where everything lies."""
        from evalkit.cli.terminal import print_run

        quiet = self.flags["quiet"]
        print_run(
            self.scorecard,
            self.verdict,
            self.folder,
            quiet=quiet,
            plots=self.plots,
            exported=self.exported,
            reports=self.folder,
        )


def _as_model(found: FoundWeights) -> Model:
    """Return weights as a model of provenance: no engine has anything to do with them."""
    from evalkit.records.exchange import Model

    location = str(found.adapter or found.folder)
    return Model(found.name, location, found.digest, pinned=True, files=found.files)
