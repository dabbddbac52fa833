"""What the options and the ini file say, with every path made absolute.

What stands on the command line is relative to the folder that pytest was started in, as anywhere; what stands in the
ini file to the folder of that file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

OUT: Final = "reports"
"""The folder of runs, in the root folder."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How suites are run where a call does not say otherwise."""

    out: Path
    """The folder of runs."""
    gates: tuple[Path, ...]
    """Gate files beside those that suites name."""
    how: Mapping[str, Any]
    """Options of ``evalkit.run`` by name; those that nobody set are absent."""


def settings_of(config: pytest.Config) -> Settings:
    """Return what the session was told. Raises pytest.UsageError on a gate file that is not there."""
    here, home = config.invocation_params.dir, _home(config)
    told = {
        name: given_or_written(config, name, here, home)
        for name in ("candidate", "baseline", "backend")
    }
    how = told | {
        "limit": config.getoption("evalkit_limit"),
        "allow_undecidable": config.getoption("evalkit_allow_undecidable"),
        "model_args": _arguments(config),
    }
    out, written = config.getoption("evalkit_out"), config.getini("evalkit_out")
    gates = [here / name for name in config.getoption("evalkit_gate")]
    gates += config.getini("evalkit_gates")
    for gate in gates:
        if not gate.is_file():
            raise pytest.UsageError(f"evalkit: there is no gate file {gate}")
    return Settings(
        out=here / out if out else home / (written or OUT),
        gates=tuple(dict.fromkeys(gates)),
        how={key: value for key, value in how.items() if value},
    )


def given_or_written(config: pytest.Config, name: str, here: Path, home: Path) -> str | None:
    """Return an option of the command line, else of the ini file; None where neither has it."""
    given, written = config.getoption(f"evalkit_{name}"), config.getini(f"evalkit_{name}")
    if name == "backend":
        return given or written or None
    return absolute(given, here) if given else absolute(written, home) if written else None


def absolute(name: str, *folders: Path) -> str:
    """Return the path of a model or a run in the first of ``folders`` that has it; any other name as it is.

    A hub id, an alias and a URL are no paths; neither is a name that no folder has, which evalkit then tells.
    """
    if "://" in name:
        return name
    paths = (folder / Path(name).expanduser() for folder in folders)
    return next((str(path) for path in paths if _exists(path)), name)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that no file system takes
        return False


def _home(config: pytest.Config) -> Path:
    return config.rootpath if config.inipath is None else config.inipath.parent


def _arguments(config: pytest.Config) -> dict[str, str]:
    """Return the backend's arguments; the command line goes before the ini file."""
    written: Iterable[str] = config.getini("evalkit_model_args")
    given: Iterable[str] = config.getoption("evalkit_model_arg")
    arguments = {}
    for pair in (*written, *given):
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise pytest.UsageError(f"evalkit: the model's argument {pair!r} is no KEY=VALUE")
        arguments[key] = value
    return arguments
