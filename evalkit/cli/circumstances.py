"""When, where and with what a run was made: the facts that provenance records."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evalkit import __version__

SCORING_PACKAGES = (
    "gguf",
    "jsonschema-rs",
    "ml_dtypes",
    "numpy",
    "rapidfuzz",
    "rouge-score",
    "sacrebleu",
    "scipy",
    "tokenizers",
)
"""The packages whose version can change a number."""


def utc_now() -> str:
    """Return the time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Return the versions of evalkit and of every package that computes a number."""
    found = {"evalkit": __version__}
    for package in SCORING_PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_commit(folder: Path) -> str | None:
    """Return the commit a folder is at, with ``+changes`` where files differ; None outside a repository."""
    if shutil.which("git") is None:
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    return (
        f"{commit}+changes"
        if _git(folder, "status", "--porcelain", "--untracked-files=no")
        else commit
    )


def _git(folder: Path, *arguments: str) -> str | None:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else None


def hardware() -> dict[str, Any]:
    """Return processor, usable cores, memory and accelerators, as far as the machine tells."""
    facts: dict[str, Any] = {"processor": _processor(), "cores": len(os.sched_getaffinity(0))}
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        facts["memory_gib"] = round(size / 2**30, 1)
    except (ValueError, OSError):
        pass
    facts["accelerators"] = accelerators()
    return facts


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def accelerators() -> list[str]:
    """Return the names of NVIDIA GPUs that the driver shows; empty without a driver."""
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return (
        [line.strip() for line in done.stdout.splitlines() if line.strip()]
        if done.returncode == 0
        else []
    )


def host() -> dict[str, str]:
    """Return operating system and Python."""
    return {"system": platform.platform(), "python": platform.python_version()}
