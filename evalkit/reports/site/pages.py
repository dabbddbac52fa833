"""The pages of a site: one over all runs, and one for each suite with the history of its numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from typing import Any, Final

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from evalkit.identity import short
from evalkit.reports.clean import cut, printable
from evalkit.reports.page.frame import page
from evalkit.reports.page.section import (
    Plot,
    Section,
    anchor,
    breakable,
    environment,
    told_status,
    when,
)
from evalkit.reports.site.history import (
    Promoted,
    Series,
    SiteRun,
    UnreadRun,
    histories,
    ordered,
    promoted_run,
    with_aliases,
)
from evalkit.reports.site.plots import history_plot
from evalkit.reports.view import number, span

INDEX: Final = "index.html"
"""The page over all runs."""
SCRIPT: Final = "../site/site.js"
STYLE: Final = "../site/site.css"
"""Beside this module, as seen from the page's own files."""
FOOT: Final = "Made by evalkit. These pages load nothing from any network."
SENTENCE: Final = 400
"""Characters of a reason or a note."""
OPEN: Final = 12
"""Up to so many runs the table below a plot is open."""
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]+")


def site_pages(
    runs: Sequence[SiteRun], promotions: Sequence[Promoted] = (), unread: Sequence[UnreadRun] = ()
) -> dict[str, str]:
    """Return path → content of every page but the runs' own reports; ``promotions`` are oldest first."""
    held = ordered(with_aliases(runs, promotions))
    suites: dict[str, list[SiteRun]] = {}
    for run in held:
        suites.setdefault(run.suite, []).append(run)
    paths = {suite: f"{file_name(suite)}.html" for suite in sorted(suites)}
    parts = [_runs(held, paths), _suites(suites, paths)]
    if promotions:
        parts.append(_promotions(promotions, held))
    if unread:
        parts.append(_unread(unread))
    pages = {INDEX: page("Scorecards", parts, foot=FOOT)}
    for suite, path in paths.items():
        title = printable(f"Suite {suite}")
        pages[path] = page(title, _suite(suites[suite], paths), foot=FOOT)
    return pages


def file_name(name: str) -> str:
    """Return a name as a plain file name; one that had to be changed also has a digest, so that none collide.

    >>> file_name("orders"), file_name("../a b")
    ('orders', 'a-b-2c2c791a0618')
    """
    plain = _UNSAFE.sub("-", name).strip("-")[:60]
    if plain and plain == name == name.lower() and plain != "index":  # some disks know no case
        return plain
    digest = sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{plain or 'run'}-{digest}"


def _runs(runs: Sequence[SiteRun], paths: dict[str, str]) -> Section:
    newest = list(reversed(runs))
    passed = sum(told_status(run.verdict) == "pass" for run in runs)
    return Section(
        "runs",
        "Runs",
        _fragment("runs.html", runs=newest, paths=paths, numbered=False),
        told="Newest first.",
        count=f"{passed:,} of {len(runs):,} passed",
        style=STYLE,
    )


def _suites(suites: dict[str, list[SiteRun]], paths: dict[str, str]) -> Section:
    rows = [(suite, paths[suite], suites[suite]) for suite in sorted(suites)]
    return Section(
        "suites",
        "Suites",
        _fragment("suites.html", rows=rows),
        told="Each has a page with the history of all its numbers.",
        count=f"{len(rows):,}",
    )


def _promotions(promotions: Sequence[Promoted], runs: Sequence[SiteRun]) -> Section:
    rows = [(each, promoted_run(each, runs)) for each in reversed(promotions)]
    return Section(
        "promotions",
        "Promotions",
        _fragment("promotions.html", rows=rows),
        told="Newest first. An alias means the last run that was promoted under it.",
        count=f"{len(rows):,}",
    )


def _unread(unread: Sequence[UnreadRun]) -> Section:
    return Section(
        "unread",
        "Not read",
        _fragment("unread.html", unread=unread),
        told="These runs are part of no table and no plot above.",
        count=f"{len(unread):,}",
    )


def _suite(runs: Sequence[SiteRun], paths: dict[str, str]) -> list[Section]:
    """Return the sections of one suite, whose runs are oldest first."""
    series = histories(runs)
    blocks = [(each, _plot(each)) for each in series]
    tasks = list(dict.fromkeys(each.newest.task for each in series))
    history = Section(
        "history",
        "History",
        _fragment("history.html", blocks=blocks, tasks=tasks, open=len(runs) <= OPEN),
        told="The candidate's number on all samples, run by run, oldest first, each with its interval. Only numbers "
        "that were measured alike, on the same data, are joined.",
        count=f"{len(series):,}",
        plots=tuple(plot for _, plot in blocks),
        script=SCRIPT,
        style=STYLE,
    )
    table = Section(
        "runs",
        "Runs",
        _fragment("runs.html", runs=list(reversed(runs)), paths=paths, numbered=True),
        told="Newest first.",
        count=f"{len(runs):,}",
    )
    return [table, history]


def _plot(series: Series) -> Plot:
    last = series.newest
    told = (
        "nothing" if last.value is None else f"{number(last.value)} {span(last.interval)}".strip()
    )
    alt = f"{series.name} over {len(series.points):,} runs; the newest is {told}. The table holds every number."
    return Plot(anchor("plot", series.name), history_plot(series), printable(alt))


def _fragment(template: str, **values: Any) -> Markup:  # noqa: ANN401 - whatever the template shows
    """Return a template beside this module filled in; every value is escaped, and holds nothing that hides."""
    return Markup(_environment().get_template(template).render(**values))


@cache
def _environment() -> Environment:
    made = environment().overlay(loader=PackageLoader("evalkit.reports", "site"), finalize=_shown)
    made.filters = made.filters | {  # its own: an overlay shares those of the page
        "breakable": lambda name: breakable(printable(name)),
        "when": when,
        "short": short,
        "told_status": told_status,
        "sentence": lambda text: cut(text, SENTENCE),
        "anchor_of": lambda name, part: anchor(part, name),
    }
    return made


def _shown(value: Any) -> Any:  # noqa: ANN401 - what a template shows
    """Return text as it may stand on a page; markup is the package's own."""
    return printable(value) if type(value) is str else value
