"""The page of a run in a real browser, and the quickstart's run to open in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evalkit.cli.past_runs import PastRun, open_run

SUITE = "suites/quickstart/suite.yaml"
OPTIONS = ("--backend", "transformers", "--quiet")
WIDTHS = {"desktop": (1280, 900), "phone": (360, 740)}
"""Screens that a page must fit."""


def quickstart(root: Path, out: Path) -> PastRun:
    """The quickstart as a user runs it; its gates block the candidate."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("EVALKIT_")}
    done = subprocess.run(
        [sys.executable, "-m", "evalkit", "run", SUITE, *OPTIONS, "--out", str(out)],
        cwd=root,
        env=kept | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr + done.stdout
    (folder,) = (path.parent for path in out.glob("*/scorecard.json"))
    return open_run(folder, out)


@contextmanager
def opened(
    browser: Any, file: Path, screen: str = "desktop", scheme: str = "light", **context: Any
) -> Iterator[tuple[Any, list[str]]]:
    """The page in a tab, and all that it says on the console or asks for beyond its own file."""
    width, height = WIDTHS[screen]
    held = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, **context
    )
    tab, told = held.new_page(), []
    tab.on("console", lambda message: told.append(message.text))
    tab.on("pageerror", lambda error: told.append(str(error)))
    tab.on("request", lambda r: told.append(r.url) if r.url != file.as_uri() else None)
    tab.goto(file.as_uri())
    tab.wait_for_selector("html[data-ready]")
    yield tab, told
    held.close()


def draw_all(tab: Any) -> None:
    """Scroll past every plot and wait until it is drawn."""
    for figure in tab.query_selector_all("figure.plot"):
        figure.scroll_into_view_if_needed()
    # A selector, since the page's policy lets nobody evaluate text, not even the test.
    waiting = "figure.plot:not([data-drawn]), figure.plot[data-drawn=begun]"
    tab.wait_for_selector(f"html:not(:has({waiting}))")


def shown_rows(tab: Any, table: str) -> list[str]:
    """The rows of a table that are to be seen, in their order, as text."""
    rows: list[str] = tab.eval_on_selector_all(
        f'table[data-name="{table}"] tbody tr',
        "rows => rows.filter(row => row.offsetParent).map(row => row.innerText)",
    )
    return rows
