"""Printing: the only place that writes results to standard output."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from evalkit.records.calibration import Calibration
from evalkit.records.scorecard import Scorecard
from evalkit.records.verdict import Verdict
from evalkit.reports.calibration import noise_lines
from evalkit.reports.terminal import drawing, verdict_line

PLAIN_WIDTH = 140
"""Columns where standard output is no terminal, so that a CI log keeps its tables whole."""


def console() -> Console:
    """Return a console on standard output, wide enough for tables in a log."""
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=PLAIN_WIDTH)


def print_run(
    scorecard: Scorecard,
    verdict: Verdict,
    folder: Path,
    *,
    quiet: bool,
    calibration: Calibration | None = None,
    plots: Sequence[str] | None = None,
    exported: str = "",
    reports: Path | None,
) -> None:
    """Print numbers, rules and verdict, what the engine's noise says of them, and where the files lie."""
    out = console()
    out.print(verdict_line(verdict) if quiet else drawing(scorecard, verdict, out.width))
    if calibration is not None:
        out.print()
        for line in noise_lines(calibration, scorecard, verdict):
            out.print(line, markup=False, highlight=False)
    facts = scorecard.circumstances
    if not quiet:
        asked = f"{facts.asked:,} requests asked, {facts.reused:,} answered from the store"
        done = asked if scorecard.provenance.datasets else "weights read, nothing asked"
        out.print(f"\nrun: {done}, {facts.seconds:.1f} s", style="dim")
        if plots is not None and not plots:
            nothing = "nothing to draw: plots take --base, --spectra or --importance"
            out.print(f"plots: {nothing}", soft_wrap=True, highlight=False)
        if plots:
            names = ", ".join(f"{name}.svg" for name in plots)
            out.print(f"plots: {folder / 'plots'} ({names})", soft_wrap=True, highlight=False)
        if exported:
            out.print(f"exported: {exported}", soft_wrap=True, highlight=False, markup=False)
    page = reports / "report.html" if reports else None
    if not quiet and page and page.is_file():
        out.print(f"report: {page}", soft_wrap=True, highlight=False, markup=False)
    out.print(f"scorecard: {folder / 'scorecard.json'}", soft_wrap=True, highlight=False)
