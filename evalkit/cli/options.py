"""Options that several commands share, each with its environment variable."""

from __future__ import annotations

import os
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


_KEY_MARKS = ("-----BEGIN", "LS0tLS1CRUdJTi", "MC4CAQAwBQYDK2Vw")
"""In PEM, in base64 of PEM, in an Ed25519 key's base64 without its frame."""
_IS_KEY = "this is a key, not a file's name; EVALKIT_SIGN_KEY takes the private one itself"


class KeyFile(click.Path):
    """The name of a key's file; where it is the key itself, no message repeats it."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:  # noqa: ANN401 - click's own signature
        """Return the path. Fails where there is no such file."""
        if any(mark in str(value) for mark in _KEY_MARKS):
            self.fail(_IS_KEY, param, ctx)
        return super().convert(value, param, ctx)


class KeyCommand(click.Command):
    """A command that takes keys by their files' names; a key itself is refused before its dashes read as an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Return the arguments that are left over. Raises UsageError, which repeats none, where one is a key."""
        if any(mark in argument for argument in args for mark in _KEY_MARKS):
            raise click.UsageError(_IS_KEY, ctx)
        return super().parse_args(ctx, args)


KEY_FILE = KeyFile(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


def out_folder(told: str) -> Callable[[F], F]:
    """Return the option ``--out``: the folder of runs."""
    return option("--out", type=FOLDER, default=Path("reports"), show_default=True, help=told)


def json_file(told: str = "Write everything as JSON too.") -> Callable[[F], F]:
    """Return the option ``--json``: a file for what is printed."""
    file = click.Path(dir_okay=False, path_type=Path)
    return option("--json", "json_file", type=file, metavar="FILE", help=told)


def gate_files(told: str) -> Callable[[F], F]:
    """Return the option ``--gate``: gate files beside those that are named elsewhere."""
    return option("--gate", multiple=True, type=EXISTING_FILE, metavar="GATES", help=told)


def backend(told: str) -> Callable[[F], F]:
    """Return the option ``--backend``."""
    known = click.Choice(["auto", "transformers", "vllm", "openai", "replay"])
    return option("--backend", type=known, default="auto", show_default=True, help=told)


def backend_arguments(told: str) -> Callable[[F], F]:
    """Return the option ``--model-arg``, for ``parsed_arguments``."""
    return option("--model-arg", multiple=True, metavar="KEY=VALUE", help=told)


def limit(told: str) -> Callable[[F], F]:
    """Return the option ``--limit``: only the first samples of each task."""
    return option("--limit", type=click.IntRange(min=1), help=told)


def answer_store(told: str) -> Callable[[F], F]:
    """Return the option ``--store``."""
    return option("--store", type=click.Path(dir_okay=False, path_type=Path), help=told)


REQUEST_TIMEOUT = option(
    "--request-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=600.0,
    show_default=True,
    help="Seconds one request may take.",
)
"""For commands that ask a model."""
DEVICE = option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Where the spectra of weights are computed.",
)
"""For commands that read weights."""
CALIBRATION = option(
    "--calibration",
    type=EXISTING_FILE,
    metavar="FILE",
    help="What 'evalkit calibrate' wrote: say beside each difference what is the engine's noise.",
)
"""For commands that show differences."""


def report_formats(told: str) -> Callable[[F], F]:
    """Return the option ``--report``: reports by name, beside those that are always written."""
    help_ = f"{told} ('evalkit list reporters' names them). May be given again."
    return option("--report", multiple=True, metavar="NAME", help=help_)


def check_writable(file: Path | None, flag: str) -> None:
    """Raise UsageError, before anything is computed, where a file that is written last has no folder to lie in."""
    if file is None:
        return
    folder = file.absolute().parent
    if not folder.is_dir():
        raise click.UsageError(f"{flag} {file}: there is no folder {str(folder)!r}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise click.UsageError(f"{flag} {file}: nothing may be written into {str(folder)!r}")


def parsed_arguments(pairs: tuple[str, ...]) -> dict[str, str]:
    """Return ``key=value`` pairs as a dictionary; a pair without ``=`` is a usage error."""
    parsed = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise click.UsageError(f"--model-arg {pair!r} is not of the form key=value")
        parsed[key] = value
    return parsed
