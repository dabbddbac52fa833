"""The pytest plug-in: a suite's rules as tests (``pytest suites/ --evalkit``), and the fixture ``evalkit_run``.

pytest loads this module in every project of an environment in which evalkit is installed. So it imports nothing but
pytest itself, and does nothing unless ``--evalkit`` is given or a test asks for the fixture.

What the items answer, and how runs are shared: ``gates/PYTEST.md``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from evalkit.pytest_plugin.calling import EvalkitRun


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, whose names all begin with ``--evalkit``, and those of the ini file."""
    group = parser.getgroup("evalkit", "evalkit: suites and gates as tests")
    group.addoption(
        "--evalkit",
        action="store_true",
        dest="evalkit",
        help="Collect suite files (YAML with a 'suite:'): one test per rule of their gates. A suite runs once.",
    )
    group.addoption(
        "--evalkit-candidate", metavar="MODEL", help="The model under test, as in 'evalkit run'."
    )
    group.addoption(
        "--evalkit-baseline",
        metavar="MODEL|RUN|ALIAS",
        help="The model or the run it must not fall behind; 'none' runs without one.",
    )
    group.addoption(
        "--evalkit-gate",
        action="append",
        default=[],
        metavar="GATES",
        help="A gate file, beside those that the suites name. May be given again.",
    )
    group.addoption(
        "--evalkit-backend", metavar="NAME", help="What answers for checkpoints: see 'evalkit run'."
    )
    group.addoption(
        "--evalkit-model-arg",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="An argument of the backend. May be given again.",
    )
    group.addoption(
        "--evalkit-out",
        metavar="FOLDER",
        help="Where runs are written.  [default: reports in the root folder]",
    )
    group.addoption(
        "--evalkit-limit",
        type=int,
        metavar="N",
        help="Run only the first N samples of each task: for trying a suite out.",
    )
    group.addoption(
        "--evalkit-allow-undecidable",
        action="store_true",
        help="Run although a blocking rule can never pass or never fail with this many samples.",
    )
    for name in ("candidate", "baseline", "backend", "out"):
        parser.addini(f"evalkit_{name}", f"Stands for --evalkit-{name} where it is not given.")
    parser.addini("evalkit_gates", "Gate files for every suite, one per line.", type="paths")
    parser.addini("evalkit_model_args", "KEY=VALUE, one per line.", type="linelist")


def pytest_configure(config: pytest.Config) -> None:
    """Collect suites where that is asked for; else change nothing."""
    if config.getoption("evalkit"):
        from evalkit.pytest_plugin.session import Suites

        config.pluginmanager.register(Suites(config), "evalkit-suites")


@pytest.fixture(scope="session")
def evalkit_run(pytestconfig: pytest.Config) -> EvalkitRun:
    """Run a suite, once per session for the same arguments: evalkit_run("suite.yaml", candidate=…) → evalkit.Run.

    Takes what ``evalkit.run`` takes. What a call does not say is taken from the options ``--evalkit-…``. Paths are
    relative to the folder of the test's file, else to the root folder.
    """
    from evalkit.pytest_plugin.runs import usual_warnings

    with usual_warnings():
        from evalkit.pytest_plugin.calling import EvalkitRun

    return EvalkitRun(pytestconfig)
