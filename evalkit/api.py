"""The command line from Python: run a suite, open a finished run, decide on it, take its numbers as data frames.

    import evalkit

    run = evalkit.run("suite.yaml", candidate="./checkpoint-900", baseline="production")
    print(run.verdict.status, run.verdict.reason)
    run.estimates.query("slice.isna()")[["task", "metric", "value", "low", "high"]]

``run`` takes what ``evalkit run`` takes: each flag by its name with ``_`` for ``-``. What the command line tells as an
error is raised as ``evalkit.errors.UsageError`` or ``RunError``; a verdict that is no pass is no error.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from evalkit import frames
from evalkit.errors import UsageError
from evalkit.records.scorecard import Scorecard
from evalkit.records.suite import SuiteSpec
from evalkit.records.verdict import Verdict
from evalkit.registry import nearest

if TYPE_CHECKING:
    from pandas import DataFrame

    from evalkit.cli.past_runs import PastRun

Place = str | PathLike[str]
"""A path, a model's name or an alias."""
T = TypeVar("T")
NAMES: Final[Mapping[str, str]] = {"gates": "gate", "model_args": "model_arg"}
"""What reads better in Python → the command's parameter."""


class Run:
    """A finished run. Its files are read when they are asked for; frames are made once.

    Reading raises UsageError where a file is absent or was changed after the run.
    """

    def __init__(self, past: PastRun) -> None:
        """Use ``run`` or ``load``."""
        self._past = past

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self._past.path

    @property
    def scorecard(self) -> Scorecard:
        """Every number with what stands behind it."""
        return self._past.scorecard

    @property
    def verdict(self) -> Verdict | None:
        """What the run's gates answered; None where it has none."""
        return self._past.verdict

    @property
    def suite(self) -> SuiteSpec | None:
        """What was measured."""
        return self._past.suite

    def decide(self, *gates: Place) -> Verdict:
        """Return what other gates answer on this run, as ``evalkit gate`` does; nothing is written.

        Raises UsageError where a gate file is wrong or a rule does not fit the run.
        """
        from evalkit.cli.assemble import load_gates
        from evalkit.cli.past_runs import decide_again

        if not gates:
            raise UsageError("name a gate file: run.decide('gates/release.yaml')")
        return decide_again(load_gates([Path(gate) for gate in gates]), self._past)

    @cached_property
    def estimates(self) -> DataFrame:
        """One row per estimate (``frames.ESTIMATES``)."""
        return frames.estimates_frame(self.scorecard.estimates)

    @cached_property
    def comparisons(self) -> DataFrame:
        """One row per difference, candidate − baseline (``frames.COMPARISONS``)."""
        return frames.comparisons_frame(self.scorecard.comparisons)

    @cached_property
    def outcomes(self) -> DataFrame:
        """One row per rule and estimate of the verdict (``frames.OUTCOMES``)."""
        return frames.outcomes_frame(self.verdict)

    @cached_property
    def samples(self) -> DataFrame:
        """One row per model, task and sample, with answers and statistics (``frames.samples_frame``)."""
        return frames.samples_frame(self._past.rows() if self.scorecard.samples else ())

    @cached_property
    def layers(self) -> DataFrame:
        """One row per model and tensor (``frames.layers_frame``); none where no task read weights."""
        return frames.layers_frame(self._past.weights_rows())

    def __repr__(self) -> str:
        status = "undecided" if self.verdict is None else self.verdict.status
        return f"<evalkit run {str(self.path)!r}: {status}>"


def run(
    suite: Place,
    *,
    candidate: Place | None = None,
    baseline: Place | None = None,
    gates: Sequence[Place] = (),
    out: Place = "reports",
    quiet: bool = True,
    **options: Any,  # noqa: ANN401 - one value per flag of the command
) -> Run:
    """Run a suite as ``evalkit run`` does; return the finished run, whatever its verdict.

    ``options`` are the command's other flags by name: ``backend="vllm"``, ``limit=100``, ``keep_going=True``,
    ``model_args={"candidate.dtype": "float32"}``, ``judge={"quality": "http://127.0.0.1:9000"}``. With ``quiet=False``
    progress goes to standard error. Flags that are not given are read from ``EVALKIT_…``, as on the command line.

    Works where an event loop is running already, as in a notebook: the run then has a thread of its own. Raises
    UsageError where a file or an option is wrong, RunError where the run could not be completed; interrupted, the same
    call resumes.
    """
    from evalkit.cli.run import complete

    given = {"candidate": candidate, "baseline": baseline, "gates": gates, "out": out}
    words = ["run", *_words(given | options), *(["--quiet"] if quiet else []), "--", fspath(suite)]
    flags = _parsed(words[1:])
    told = ("evalkit", *(word for word in words if word != "--"))
    work = functools.partial(complete, flags.pop("suite"), flags.pop("out"), flags, told)
    return Run(_beside_a_loop(work).past)


def load(run: Place, *, out: Place = "reports") -> Run:
    """Open a finished run by its folder, its ``scorecard.json``, its name under ``out`` or an alias.

    Raises UsageError where there is none, or it is not finished, or was changed.
    """
    from evalkit.cli.past_runs import open_run

    return Run(open_run(fspath(run), Path(out)))


def _parsed(words: Sequence[str]) -> dict[str, Any]:
    """Return the command's parameters, checked as the command line checks them."""
    from evalkit.cli.run import command

    try:
        with command.make_context("evalkit run", list(words)) as context:
            return dict(context.params)
    except click.ClickException as error:
        raise UsageError(error.format_message()) from error


def _words(options: Mapping[str, Any]) -> Iterator[str]:
    """Yield options as the command line writes them. Raises UsageError on one that the command does not know."""
    from evalkit.cli.run import command

    flags = {held.name: held for held in command.params if isinstance(held, click.Option)}
    for key, value in options.items():
        flag = flags.get(NAMES.get(key, key))
        if flag is None:
            known = sorted({*flags, *NAMES} - {*NAMES.values()} - {None})
            close = nearest(key, known)
            hint = f"did you mean {close!r}?" if close else f"known: {', '.join(known)}"
            raise UsageError(f"evalkit.run has no option {key!r}; {hint}")
        yield from _flag(max(flag.opts, key=len), flag, value)


def _flag(written: str, flag: click.Option, value: Any) -> Iterator[str]:  # noqa: ANN401
    if flag.is_flag:
        if value:
            yield written
        return
    if isinstance(value, Mapping):
        value = [f"{key}={held}" for key, held in value.items()]
    elif value is None:
        value = []
    elif not (flag.multiple and isinstance(value, Sequence) and not isinstance(value, str)):
        value = [value]
    for held in value:
        # One word: a value that begins with '-' is no flag.
        yield f"{written}={fspath(held) if isinstance(held, PathLike) else held}"


def _beside_a_loop(work: Callable[[], T]) -> T:
    """Do work that runs an event loop; in a thread of its own where this one has a running loop already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()
