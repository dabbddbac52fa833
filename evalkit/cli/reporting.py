"""Reports of a finished run: which are written, where, and what is told to the CI system around."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from evalkit.errors import EvalkitError
from evalkit.registry import find, load_plugins
from evalkit.store.durable import write_bytes

if TYPE_CHECKING:
    from evalkit.reports.reported import FinishedRun

ALWAYS: Final = ("html", "junit", "markdown")
"""The reports of every run."""


def write_reports(
    run: FinishedRun,
    folder: Path,
    more: Iterable[str] = (),
    *,
    only: Iterable[str] | None = None,
) -> list[Path]:
    """Write a run's reports into ``folder``, those of ``ALWAYS`` and ``more``, or ``only`` some; return their files.

    A reporter that fails is told on standard error and costs nothing else: no run is lost to how it is shown. Raises
    UsageError on a name that no reporter has, and where a file of the run was changed; RunError when the disk refuses.
    """
    written = []
    names = dict.fromkeys((*ALWAYS, *more) if only is None else only)
    for name, reporter in {name: find("reporter", name).make() for name in names}.items():
        try:
            text = reporter.render(run)
        except EvalkitError:  # the run's own files: no report tells what was changed
            raise
        except Exception as error:  # a plug-in's own code may raise anything
            told = f"{reporter.file} was not written, its reporter {name!r} failed: {type(error).__name__}: {error}"
            click.echo(click.style(f"evalkit: {told}", fg="red"), err=True)
            click.echo(f"the run is whole; 'evalkit report {run.path}' tries again", err=True)
            (folder / reporter.file).unlink(missing_ok=True)
            continue
        write_text(folder / reporter.file, text)
        written.append(folder / reporter.file)
    return written


def need_reporters(names: Iterable[str], runs: Iterable[FinishedRun] = ()) -> None:
    """Raise UsageError, before anything is written, on a name that no reporter has, those of the runs' plug-ins too."""
    for run in runs if names else ():
        load_plugins(run.suite.plugins if run.suite else ())
    for name in names:
        find("reporter", name)


def write_text(path: Path, text: str) -> None:
    """Write a report as UTF-8; a lone surrogate in it becomes a question mark."""
    write_bytes(path, text.encode("utf-8", "replace"))


def tell_ci(run: FinishedRun, environment: Mapping[str, str] = os.environ) -> None:
    """Append the summary to the page of the CI job, where there is one (``GITHUB_STEP_SUMMARY``)."""
    if environment.get("GITHUB_STEP_SUMMARY"):
        from evalkit.cli.step_summary import append_step_summary

        append_step_summary(find("reporter", "markdown").make().render(run), environment)
