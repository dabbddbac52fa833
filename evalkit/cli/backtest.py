"""``evalkit backtest``: what gates would have decided on past runs, before they are turned on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evalkit.cli.options import EXISTING_FILE, json_file, option, out_folder

if TYPE_CHECKING:
    from evalkit.cli.past_runs import PastRun


@click.command("backtest")
@click.argument("gates", type=EXISTING_FILE)
@click.argument("runs", nargs=-1, required=True)
@option(
    "--gate",
    "more",
    multiple=True,
    type=EXISTING_FILE,
    metavar="GATES",
    help="Another gate file that decides with the first. May be given again.",
)
@out_folder("The folder of runs that names and aliases are looked up in.")
@json_file()
def command(
    gates: Path, runs: tuple[str, ...], more: tuple[Path, ...], out: Path, json_file: Path | None
) -> int:
    """Show what GATES would have decided on past RUNS, oldest first, beside the verdicts they had.

    RUNS are runs' folders, their names under OUT, aliases, or folders that hold many runs.

    \b
    evalkit backtest gates/strict.yaml reports/
    evalkit backtest gates/strict.yaml production reports/orders-3f9a1c2b0d11 --json backtest.json

    A run in such a folder that cannot be read is shown and counted. Exits with 0 whatever the gates answer.
    """
    from evalkit.cli.assemble import load_gates
    from evalkit.cli.past_runs import decide_again, open_run
    from evalkit.cli.terminal import console
    from evalkit.errors import RunError, UsageError
    from evalkit.reports.backtest import Backtest, Backtested, Unread, backtest_drawing
    from evalkit.store.durable import write_bytes

    specs = load_gates((gates, *more))
    done: list[Backtested] = []
    unread: list[Unread] = []
    for path, opened in _opened(runs, out):
        try:
            run = opened or open_run(path, out)
            started, now = run.scorecard.circumstances.started, decide_again(specs, run)
            done.append(Backtested(str(run.path), started, run.verdict, now))
        except (UsageError, RunError) as error:
            unread.append(Unread(str(path), str(error)))
    if not done:
        told = "\n".join(f"{one.run}: {one.reason}" for one in unread)
        raise UsageError(f"none of these runs can be read\n{told}")
    backtest = Backtest(specs, sorted(done, key=lambda run: (run.started, run.run)), unread)
    if json_file is not None:
        document = json.dumps(backtest.document(), indent=2, ensure_ascii=False) + "\n"
        write_bytes(json_file, document.encode("utf-8", "replace"))
    console().print(backtest_drawing(backtest))
    return 0


def _opened(names: Iterable[str], out: Path) -> Iterator[tuple[Path, PastRun | None]]:
    """Yield each run once: what was named, which must be there, opened; what lies in a folder by its place alone."""
    from evalkit.cli.past_runs import open_run, runs_under
    from evalkit.errors import UsageError
    from evalkit.store.runs import is_run

    seen: set[Path] = set()
    for name in names:
        folder = Path(name)
        if folder.is_dir() and not is_run(folder):
            found: list[tuple[Path, PastRun | None]] = [(path, None) for path in runs_under(folder)]
            if not found:
                raise UsageError(f"{folder} is no run and holds none")
        else:
            run = open_run(name, out)
            found = [(run.path, run)]
        for path, opened in found:
            if path.resolve() not in seen:
                seen.add(path.resolve())
                yield path, opened
