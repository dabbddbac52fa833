"""What ``--evalkit`` adds to a session: suite files are collected, words stand beside results, verdicts at the end."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from evalkit.pytest_plugin.nodes import SuiteFile, shown
from evalkit.pytest_plugin.runs import runs_of

_SUITE: Final = re.compile(rb"""^(?:\xef\xbb\xbf)?(?:\{\s*)?["']?suite["']?[ \t]*:""", re.MULTILINE)
"""A top-level key ``suite``, by which a suite is told from a gate and from data without reading YAML."""


class Suites:
    """Hooks of a session with ``--evalkit``."""

    def __init__(self, config: pytest.Config) -> None:
        """Read the options: what is wrong with them ends the session before anything is collected."""
        runs_of(config)
        self._verdicts: dict[str, tuple[str, str]] = {}

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> SuiteFile | None:
        """Collect a YAML file that declares a suite."""
        if file_path.suffix in (".yaml", ".yml") and is_suite(file_path):
            return SuiteFile.from_parent(parent, path=file_path)
        return None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the verdict of a suite, also where a worker tells it."""
        told = {key: str(value) for key, value in report.user_properties}
        if "evalkit_verdict" in told:
            suite = report.nodeid.partition("::")[0]
            self._verdicts[suite] = told["evalkit_verdict"], told["evalkit_run"]

    def pytest_report_teststatus(
        self, report: pytest.TestReport, config: pytest.Config
    ) -> tuple[str, str, str] | None:
        """Say with ``-v`` what was observed and required; of a failure its own section does."""
        if config.get_verbosity() < 1 or report.when != "call" or report.failed:
            return None
        told = dict(report.user_properties).get("evalkit_told")
        if told is None:
            return None
        if hasattr(report, "wasxfail"):
            return "xfailed", "x", f"XFAIL ({told})"
        return "passed", ".", f"PASSED ({told})"

    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter, config: pytest.Config
    ) -> None:
        """Tell each suite's verdict and where its run lies."""
        if not self._verdicts:
            return
        terminalreporter.section("evalkit")
        for suite, (verdict, run) in self._verdicts.items():
            terminalreporter.write_line(f"{suite}: {verdict}")
            terminalreporter.write_line(f"    {shown(Path(run), config)}")


def is_suite(path: Path) -> bool:
    """Return whether a file has the key ``suite`` at its top, which neither gates nor data have.

    One that cannot be read may be a suite: reading it then tells why not.
    """
    try:
        return _SUITE.search(path.read_bytes()) is not None
    except OSError:
        return True
