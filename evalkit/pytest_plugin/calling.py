"""What the fixture ``evalkit_run`` gives: a suite run from a test."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from evalkit.asserting import calling_folder, found
from evalkit.pytest_plugin.runs import runs_of
from evalkit.pytest_plugin.settings import absolute

if TYPE_CHECKING:
    from evalkit.api import Run

MODELS: Final = ("candidate", "baseline")


class EvalkitRun:
    """Runs suites, each once per session for the same arguments; workers of pytest-xdist share their runs."""

    def __init__(self, config: pytest.Config) -> None:
        """Ask for the fixture ``evalkit_run``."""
        self._runs = runs_of(config)
        self._root = config.rootpath

    def __call__(
        self,
        suite: str | PathLike[str],
        *,
        gates: Sequence[str | PathLike[str]] = (),
        **options: Any,  # noqa: ANN401 - one value per flag of evalkit run
    ) -> Run:
        """Return the finished run of a suite, whatever its verdict, as ``evalkit.run`` does.

        ``options`` are those of ``evalkit.run``; what is not said is taken from the session's ``--evalkit-…``. Files
        and models are looked for beside the test's file, then in the root folder. Raises UsageError and RunError.
        """
        __tracebackhide__ = True
        folders = (calling_folder(), self._root)
        said = dict(self._runs.settings.how) | options
        for role in MODELS:
            if said.get(role) is not None:
                said[role] = absolute(fspath(said[role]), *folders)
        if "out" in said:
            said["out"] = self._root / said["out"]
        chosen = tuple(str(found(gate, *folders)) for gate in gates)
        path = Path(found(suite, *folders)).resolve()
        return self._runs.run(path, gates=chosen, **said)
