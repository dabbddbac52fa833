"""``evalkit doctor``: what this machine has, what is missing, and the command that mends it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

Status = Literal["ok", "missing", "problem"]
LOW_DISK_GIB = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    what: str
    """What was looked at."""
    status: Status
    """``missing`` is an optional part that is not there; ``problem`` stops work."""
    found: str
    """What was found."""
    mend: str = ""
    """The command that mends it."""


@click.command("doctor")
def command() -> int:
    """Tell what this machine has and what is missing, with the command that mends it.

    Exits with 0 when the embedded default (the transformers backend) can run, 3 when something stops it.
    """
    from rich.table import Table
    from rich.text import Text

    from evalkit.cli.terminal import console

    findings = examine()
    table = Table(box=None, pad_edge=False, show_header=False)
    styles = {"ok": "green", "missing": "yellow", "problem": "bold red"}
    for finding in findings:
        cell = Text(finding.found)
        if finding.mend:
            cell.append(f"\n→ {finding.mend}", "cyan")
        table.add_row(
            Text(finding.status, styles[finding.status]), Text(finding.what, "bold"), cell
        )
    console().print(table)
    return 3 if any(finding.status == "problem" for finding in findings) else 0


def examine() -> list[Finding]:
    """Return every finding, the ones that stop work among them."""
    return [
        _python(),
        _package("torch", "transformers", required=True),
        _package("transformers", "transformers", required=True),
        _gpu(),
        _vllm(),
        _package("lm-eval", "lm-eval"),
        _package("pyarrow", "parquet"),
        _package("datasets", "datasets"),
        _package("ml_dtypes", "spectral"),
        _package("gguf", "spectral"),
        _package("vl-convert-python", "spectral"),
        _disk(Path.cwd()),
    ]


def _python() -> Finding:
    return Finding("Python", "ok", f"{platform.python_version()} at {sys.executable}")


def _package(name: str, extra: str, *, required: bool = False) -> Finding:
    try:
        return Finding(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        status: Status = "problem" if required else "missing"
        return Finding(name, status, "not installed", f"pip install 'evalkit-gates[{extra}]'")


def _gpu() -> Finding:
    from evalkit.cli.circumstances import accelerators

    found = accelerators()
    if not found:
        return Finding("GPU", "missing", "no NVIDIA driver answers; models run on the processor")
    return Finding("GPU", "ok", "; ".join(found))


def _vllm() -> Finding:
    from evalkit.backends.vllm_command import find_installation
    from evalkit.errors import RunError

    try:
        found = find_installation(None)
    except RunError as error:
        return Finding("vLLM", "missing", str(error), error.advice)
    return Finding("vLLM", "ok", f"{found.version} at {found.python}")


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free / 2**30
    if not os.access(folder, os.W_OK):
        return Finding(
            "disk", "problem", f"{folder} cannot be written to", "choose another folder with --out"
        )
    if free < LOW_DISK_GIB:
        return Finding(
            "disk",
            "problem",
            f"{free:.1f} GiB free in {folder}",
            "free some, or choose another --out",
        )
    return Finding("disk", "ok", f"{free:.0f} GiB free in {folder}")
