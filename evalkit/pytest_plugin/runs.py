"""Runs of a session: each asked once, also where several workers of pytest-xdist want the same.

Workers are processes. Whoever comes first takes a lock beside the runs, runs the suite and writes down where the run
lies; the others wait for the lock and read the finished run. What was written down counts for its session alone, known
by xdist's ``testrunuid``. A worker that dies lets the lock go with it, and the next one resumes: what was answered is
in the answer store.
"""

from __future__ import annotations

import hashlib
import json
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import pytest

from evalkit.errors import EvalkitError, RunError, UsageError
from evalkit.pytest_plugin.settings import Settings, settings_of

if TYPE_CHECKING:
    from evalkit.api import Run

SHARED: Final = ".pytest-evalkit"
"""The folder, in that of runs, in which workers tell each other what is done."""
_QUIET: Final = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


class Runs:
    """The runs of one session."""

    def __init__(self, config: pytest.Config) -> None:
        """Use ``runs_of``."""
        self.settings: Settings = settings_of(config)
        worker: Mapping[str, Any] | None = getattr(config, "workerinput", None)
        self._session: str | None = None if worker is None else worker["testrunuid"]
        self._done: dict[str, Run | EvalkitError | OSError] = {}

    def run(self, suite: Path, **options: Any) -> Run:  # noqa: ANN401 - one value per flag of evalkit run
        """Return the run of a suite with these options of ``evalkit.run``; the first call runs it.

        Raises UsageError and RunError as ``evalkit.run`` does, and the same again at the next call: nothing is asked
        twice. An interrupt is not kept: whoever asks again resumes.
        """
        __tracebackhide__ = True
        options = {key: value for key, value in options.items() if value not in (None, (), {})}
        options.setdefault("out", self.settings.out)
        key = _key(suite, options)
        if key not in self._done:
            try:
                self._done[key] = self._first(suite, options, key)
            except (EvalkitError, OSError) as error:
                if advice := getattr(error, "advice", ""):
                    error.add_note(advice)
                self._done[key] = error
        done = self._done[key]
        if isinstance(done, Exception):
            raise done.with_traceback(None) from None
        return done

    def _first(self, suite: Path, options: Mapping[str, Any], key: str) -> Run:
        if self._session is None:
            return _run(suite, options)
        place = Path(options["out"]) / SHARED
        with locked(place / f"{key}.lock"):
            file = place / f"{key}.json"
            told = _told(file, self._session)
            if told is None:
                told = _attempt(suite, options) | {"session": self._session}
                _write(file, told)
        return _opened(told)


_KEY: Final = pytest.StashKey[Runs]()


def runs_of(config: pytest.Config) -> Runs:
    """Return the session's runs."""
    if _KEY not in config.stash:
        config.stash[_KEY] = Runs(config)
    return config.stash[_KEY]


def _key(suite: Path, options: Mapping[str, Any]) -> str:
    """Return what tells a run from another: a digest of its arguments."""
    said = json.dumps([str(suite), options], sort_keys=True, default=str)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _run(suite: Path, options: Mapping[str, Any]) -> Run:
    from evalkit import api

    with usual_warnings():
        return api.run(suite, **options)


@contextmanager
def usual_warnings() -> Iterator[None]:
    """Let warnings be what they are outside of tests.

    A project may make errors of warnings, in its own code. Those of a model's libraries must not end a run; they stand
    in pytest's summary.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        for kind in _QUIET:  # as Python itself has it
            warnings.simplefilter("ignore", kind)
        yield


def _attempt(suite: Path, options: Mapping[str, Any]) -> dict[str, str]:
    """Return where the run lies, or why there is none."""
    try:
        return {"run": str(_run(suite, options).path.absolute())}
    except UsageError as error:
        return {"usage": str(error)}
    except (RunError, OSError) as error:
        return {"error": str(error), "advice": getattr(error, "advice", "")}


def _opened(told: Mapping[str, str]) -> Run:
    from evalkit import api

    if "usage" in told:
        raise UsageError(told["usage"])
    if "error" in told:
        raise RunError(told["error"], told["advice"])
    return api.load(told["run"])


def _told(file: Path, session: str) -> dict[str, str] | None:
    """Return what another worker of this session wrote down; None where it is another session's or there is nothing."""
    try:
        told = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    ours = isinstance(told, dict) and told.get("session") == session
    return cast("dict[str, str]", told) if ours else None


def _write(file: Path, told: Mapping[str, str]) -> None:
    from evalkit.store.durable import write_bytes

    write_bytes(file, json.dumps(told).encode())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file, made where it is not there; wait while another process holds it."""
    from evalkit.store.durable import disk_errors, make_folder

    make_folder(path.parent)
    if sys.platform == "win32":
        raise RunError("workers of pytest-xdist cannot share a run on Windows", "leave -n away")
    import fcntl

    with disk_errors(path):
        lock = path.open("a")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
