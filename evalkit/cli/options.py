"""Options that several commands share, each with its environment variable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class Option(click.Option):
    """An option that is also read from ``EVALKIT_<ITS NAME>`` and says so in the help."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - click's own signature
        kwargs.setdefault("show_envvar", True)
        super().__init__(*args, **kwargs)
        if self.envvar is None:
            flag = max(self.opts, key=len)  # --repetitions rather than -k
            self.envvar = f"EVALKIT_{flag.lstrip('-').replace('-', '_').upper()}"


def option(*names: str, **settings: Any) -> Callable[[F], F]:  # noqa: ANN401 - click's own settings
    """Return click's option decorator with the environment variable added."""
    return click.option(*names, cls=Option, **settings)


EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


CALIBRATION = option(
    "--calibration",
    type=EXISTING_FILE,
    metavar="FILE",
    help="What 'evalkit calibrate' wrote: say beside each difference what is the engine's noise.",
)
"""For commands that show differences."""


def parsed_arguments(pairs: tuple[str, ...]) -> dict[str, str]:
    """Return ``key=value`` pairs as a dictionary; a pair without ``=`` is a usage error."""
    parsed = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise click.UsageError(f"--model-arg {pair!r} is not of the form key=value")
        parsed[key] = value
    return parsed
