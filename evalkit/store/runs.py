"""Run folders: where one run's results lie, written so that a kill at any moment never leaves a mixture of two runs.

::

    OUT/<name>/
        .lock            held while a run writes here; free again as soon as its process ends, however it ends
        run.json         written first: when it was started, by which command, and its salt
        suite.json       what was measured, as the suite file declares it
        weights.jsonl    every tensor with what was measured on it; only where a task reads weights
        samples.jsonl    every sample with its answer and scores
        judgements.jsonl every judgement with the replies behind it; only where judges score
        plots/           what was drawn of weights, where plots were asked for
        attestations/    what people signed of it
        verdict.json     what the gates answered
        report.html, junit.xml, summary.md
                         the same for people and CI systems; others where they were asked for
        scorecard.json   written last: a folder with a scorecard is a finished run, one without is incomplete

        baseline-suite.json, baseline-scorecard.json
                         where the baseline's rows come from another run: that run's own files

A finished folder stands alone: from ``samples.jsonl`` and ``judgements.jsonl``, whose digests are in the scorecard, and
``suite.json`` every number of a task that asks the model can be computed again; ``weights.jsonl`` is held by its digest
likewise.

Every file appears whole or not at all: it is written beside its place, made durable, then renamed. What an earlier
run left is removed before a new one begins, the verdict first.

The *salt* serves models whose bytes cannot be seen. It goes into the identity of their answers, so that these serve
one run alone; it stays the same while the run is incomplete, so that the same command resumes.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import secrets
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

import orjson

from evalkit.errors import Problem, RunError, UsageError
from evalkit.identity import digest
from evalkit.records.scorecard import Scorecard
from evalkit.records.suite import SuiteSpec
from evalkit.records.verdict import Verdict
from evalkit.store.documents import checked, document, read_json
from evalkit.store.durable import disk_error, disk_errors, make_folder, replacing, write_bytes

SCORECARD: Final = "scorecard.json"
VERDICT: Final = "verdict.json"
SAMPLES: Final = "samples.jsonl"
JUDGEMENTS: Final = "judgements.jsonl"
WEIGHTS: Final = "weights.jsonl"
SUITE: Final = "suite.json"
PLOTS: Final = "plots"
ATTESTATIONS: Final = "attestations"
"""What was signed; ``store.attestations``."""
PLOT: Final = ".vl.json"
"""How the name of a plot's specification ends."""
_RUN: Final = "run.json"
BASELINE: Final = "baseline-"
"""Before the names of the files that a baseline's run lends."""
_RESULTS: Final = (
    VERDICT,
    SCORECARD,
    "report.html",
    "junit.xml",
    "summary.md",
    "outcomes.jsonl",
    "outcomes.sarif",
    JUDGEMENTS,
    SAMPLES,
    WEIGHTS,
    SUITE,
    BASELINE + SCORECARD,
    BASELINE + SUITE,
)
"""What a run leaves, in the order in which it is removed: without a scorecard the rest is known to be incomplete."""


class RunFolder:
    """A run's folder, held by this process until ``close``; a context manager that closes itself."""

    def __init__(self, path: Path, lock: IO[str], command: Sequence[str]) -> None:
        """Begin a run in a folder whose lock is held; use ``create``."""
        self.path = path
        """The folder."""
        self.samples_digest = ""
        """SHA-256 of ``samples.jsonl``, once it is written."""
        self.weights_digest = ""
        """SHA-256 of ``weights.jsonl``, once it is written; empty where no task reads weights."""
        self.judgements_digest = ""
        """SHA-256 of ``judgements.jsonl``, once it is written; empty where nothing is judged."""
        self._lock = lock
        self.salt = self._kept_salt() or secrets.token_hex(16)
        """Random, and the same again when an incomplete run is resumed."""
        state = {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": list(command),
            "salt": self.salt,
        }
        write_bytes(path / _RUN, document(state))
        with disk_errors(path):
            for name in _RESULTS:
                (path / name).unlink(missing_ok=True)
            for name in (ATTESTATIONS, PLOTS):
                if (path / name).is_dir():
                    shutil.rmtree(path / name)

    @classmethod
    def create(
        cls,
        out: Path,
        name: str,
        *,
        fresh_if_finished: bool = False,
        command: Sequence[str] | None = None,
    ) -> RunFolder:
        """Return ``out/name``, locked, with nothing in it of an earlier run but the salt of an incomplete one.

        A finished run there is replaced; with ``fresh_if_finished`` it is kept, and the new run goes to the first of
        ``name-2``, ``name-3`` … that holds none. ``command`` is this process's command line if not given. Raises
        RunError when another process writes there or the disk refuses.
        """
        for number in itertools.count(1):
            path = out / (name if number == 1 else f"{name}-{number}")
            lock = _locked(path)
            try:
                if not (fresh_if_finished and (path / SCORECARD).exists()):
                    return cls(path, lock, sys.argv if command is None else command)
            except BaseException:
                lock.close()
                raise
            lock.close()
        raise AssertionError("there is always another number")

    def _kept_salt(self) -> str | None:
        """Return the salt of the incomplete run in this folder; None where there is none."""
        file = self.path / _RUN
        if (self.path / SCORECARD).exists() or not file.exists():
            return None
        try:
            with disk_errors(file):
                salt = json.loads(file.read_bytes())["salt"]
            if isinstance(salt, str) and salt:
                return salt
        except (ValueError, KeyError, TypeError):
            pass
        raise RunError(f"{file} is damaged", "remove the folder; the run then starts anew")

    @contextmanager
    def write_samples(self) -> Iterator[Callable[[Mapping[str, Any]], None]]:
        """Yield a function that appends one row to ``samples.jsonl``, which appears when the block ends well.

        Rows keep the order of their keys; numbers are the shortest that read back the same.
        """
        sha256 = hashlib.sha256()
        with replacing(self.path / SAMPLES) as file:
            yield _row_writer(self.path / SAMPLES, file, sha256.update)
        self.samples_digest = sha256.hexdigest()

    @contextmanager
    def write_judgements(self) -> Iterator[Callable[[Mapping[str, Any]], None]]:
        """Yield a function that appends one row to ``judgements.jsonl``, as ``write_samples`` does."""
        sha256 = hashlib.sha256()
        with replacing(self.path / JUDGEMENTS) as file:
            yield _row_writer(self.path / JUDGEMENTS, file, sha256.update)
        self.judgements_digest = sha256.hexdigest()

    def write_weights(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write ``weights.jsonl``, as ``samples.jsonl`` is written."""
        sha256 = hashlib.sha256()
        with replacing(self.path / WEIGHTS) as file:
            write = _row_writer(self.path / WEIGHTS, file, sha256.update)
            for row in rows:
                write(row)
        self.weights_digest = sha256.hexdigest()

    def write_suite(self, suite: SuiteSpec) -> None:
        """Write ``suite.json``."""
        write_bytes(self.path / SUITE, document(suite.model_dump(mode="json")))

    def write_baseline(self, scorecard: Scorecard, suite: SuiteSpec) -> None:
        """Write what another run says of the baseline's rows, so that this folder stands alone."""
        write_bytes(self.path / f"{BASELINE}{SUITE}", document(suite.model_dump(mode="json")))
        card = document(scorecard.model_dump(mode="json"))
        write_bytes(self.path / f"{BASELINE}{SCORECARD}", card)

    def write_verdict(self, verdict: Verdict) -> None:
        """Write ``verdict.json``."""
        write_verdict(self.path, verdict)

    def write_scorecard(self, scorecard: Scorecard) -> None:
        """Write ``scorecard.json``, last of all: from now on the run is finished. The scorecard must be sealed."""
        assert scorecard.digest == scorecard.computed_digest(), "the scorecard is not sealed"
        write_bytes(self.path / SCORECARD, document(scorecard.model_dump(mode="json")))

    def write_text(self, name: str, text: str) -> None:
        """Write a report as UTF-8 under a plain file name."""
        write_bytes(_inside(self.path, name), text.encode("utf-8", "replace"))

    def write_plot(self, name: str, content: bytes) -> None:
        """Write a plot under a plain file name into the folder's ``plots/``."""
        make_folder(self.path / PLOTS)
        write_bytes(_inside(self.path / PLOTS, name), content)

    def close(self) -> None:
        """Let others write here."""
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def write_verdict(folder: Path, verdict: Verdict) -> None:
    """Write ``verdict.json`` into a run's folder. Raises RunError when the disk refuses."""
    write_bytes(folder / VERDICT, document(verdict.model_dump(mode="json")))


def read_scorecard(path: Path) -> Scorecard:
    """Return the scorecard in a run's folder or file.

    Raises UsageError when there is none, when it is no scorecard, or when it was changed after it was written.
    """
    file = path / SCORECARD if path.is_dir() else path
    scorecard = checked(file, _content(file), Scorecard)
    if scorecard.digest != scorecard.computed_digest():
        message = (
            "the scorecard was changed after it was written; put it back, or run the suite again"
        )
        raise UsageError([Problem(str(file), None, "digest", message)])
    return scorecard


def is_run(folder: Path) -> bool:
    """Tell whether a run was begun in this folder."""
    return (folder / _RUN).is_file() or (folder / SCORECARD).is_file()


def read_suite(path: Path, scorecard: Scorecard) -> SuiteSpec:
    """Return the suite that ``scorecard`` was measured by, from a run's folder or file.

    Raises UsageError when it is not there or was changed after it was written.
    """
    file = path / SUITE if path.is_dir() else path
    suite = checked(file, _content(file), SuiteSpec)
    if digest(suite.beyond_defaults()) != scorecard.provenance.suite_digest:
        message = "this is not the suite of the scorecard: it was changed after it was written"
        raise UsageError([Problem(str(file), None, "", message)])
    return suite


def read_lent_baseline(folder: Path, scorecard: Scorecard) -> tuple[Scorecard, SuiteSpec] | None:
    """Return scorecard and suite of the run that the baseline's rows come from; None where they were measured here.

    Raises UsageError when they are not there or were changed after they were written.
    """
    if not scorecard.baseline_run:
        return None
    file = folder / f"{BASELINE}{SCORECARD}"
    lent = read_scorecard(file)
    if lent.digest != scorecard.baseline_run:
        message = "this is not the scorecard of the run that lent the baseline"
        raise UsageError([Problem(str(file), None, "digest", message)])
    return lent, read_suite(folder / f"{BASELINE}{SUITE}", lent)


def read_verdict(path: Path) -> Verdict:
    """Return the verdict in a run's folder or file. Raises UsageError when there is none or it is no verdict."""
    file = path / VERDICT if path.is_dir() else path
    return checked(file, _content(file), Verdict)


def read_plots(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the plots in a run's folder by name, as Vega-Lite; none where nothing was drawn."""
    found = sorted((folder / PLOTS).glob(f"*{PLOT}"))
    return {file.name.removesuffix(PLOT): _content(file) for file in found}


def _content(file: Path) -> Any:  # noqa: ANN401 - any JSON value
    return read_json(file, _why_absent(file.parent))


def _why_absent(folder: Path) -> str:
    if (folder / SCORECARD).exists():
        return "there is no such file: the run did not write it, or somebody removed it"
    if (folder / _RUN).exists():
        return "there is no such file yet: the run is not finished; its command resumes it"
    return "there is no such file: this is no run's folder"


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    assert path.resolve().parent == folder.resolve(), f"{name!r} is no plain file name"
    return path


def _row_writer(
    path: Path, file: IO[bytes], told: Callable[[bytes], None]
) -> Callable[[Mapping[str, Any]], None]:
    """Return a function that appends one row to a file, and tells its bytes."""

    def write(row: Mapping[str, Any]) -> None:
        line = _line(row)
        told(line)
        try:
            file.write(line)
        except OSError as error:
            raise disk_error(path, error) from error

    return write


def _line(row: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:  # a lone surrogate in a model's answer: escape it
        return json.dumps(row, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _locked(path: Path) -> IO[str]:
    """Return the folder's lock file, made and held; the lock ends with the file or the process."""
    with disk_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / ".lock").open("a+", encoding="ascii")
    if sys.platform == "win32":
        return lock
    import fcntl

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        advice = "wait for it to end, or write elsewhere with --out"
        raise RunError(f"another evalkit run is writing {path}", advice) from None
    except OSError as error:
        lock.close()
        raise disk_error(path, error) from error
    return lock
