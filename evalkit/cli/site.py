"""Writes a site over many runs: opens them, lets each make its own page, and tells of those that cannot be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from evalkit.reports.site import SiteRun, UnreadRun

RUNS: Final = "runs"
"""The folder of the runs' own pages."""


def write_site(paths: Sequence[Path], out: Path, folder: Path) -> Path:
    """Write a site over runs, whose promotions are those under ``out``, into a folder; return its first page.

    A run that is not finished, or was changed after it was written, is listed with its reason. Raises RunError where
    the disk refuses, and UsageError where no run can be read.
    """
    from evalkit.errors import UsageError
    from evalkit.reports.site import SiteRun, site_pages
    from evalkit.store.aliases import promotions
    from evalkit.store.durable import make_folder, write_bytes

    promoted = promotions(out)
    runs: list[SiteRun] = []
    unread: list[UnreadRun] = []
    make_folder(folder / RUNS)
    for read, page in _read(paths):
        if isinstance(read, SiteRun):
            runs.append(read)
            write_bytes(folder / read.report, page.encode("utf-8", "replace"))
        else:
            unread.append(read)
    if not runs:
        told = "\n".join(f"{one.name}: {one.reason}" for one in unread)
        raise UsageError(f"none of these runs can be read\n{told}")
    for name, content in site_pages(runs, promoted, unread).items():
        write_bytes(folder / name, content.encode("utf-8", "replace"))
    return folder / "index.html"


def _read(paths: Sequence[Path]) -> Iterator[tuple[SiteRun | UnreadRun, str]]:
    """Yield each run once with its own page, one after the other: their samples need not fit into memory together."""
    from evalkit.cli.past_runs import PastRun
    from evalkit.errors import RunError, UsageError
    from evalkit.registry import find
    from evalkit.reports.reported import Reporter
    from evalkit.reports.site import SiteRun, UnreadRun
    from evalkit.reports.site.pages import file_name
    from evalkit.store.runs import read_scorecard

    reporter: Reporter = find("reporter", "html").make()
    names: set[str] = set()
    for path in {path.resolve(): path for path in paths}.values():
        try:
            run = PastRun(path, read_scorecard(path))
            verdict, page = run.verdict, reporter.render(run)
        except (UsageError, RunError) as error:
            yield UnreadRun(str(path), str(error)), ""
            continue
        name = file_name(path.resolve().name)
        while name in names:  # folders of one name in different places
            name = file_name(f"{name}/{len(names)}")
        names.add(name)
        report = f"{RUNS}/{name}.html"
        yield SiteRun(path.resolve().name, run.scorecard, verdict, report), page
