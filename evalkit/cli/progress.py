"""Progress of long work: a live line on a terminal, plain lines elsewhere (a CI log)."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

PLAIN_EVERY_S = 10.0
REDRAW_EVERY_S = 0.1


class Display:
    """Shows what a run is doing, on standard error, so that standard output stays clean."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet)
        self.quiet = quiet
        self._live: Progress | None = None
        if self.console.is_terminal and not quiet:
            self._live = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(compact=True),
                TextColumn("{task.fields[note]}"),
                console=self.console,
            )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def task(self, title: str, unit: str = "samples") -> TaskView:
        """Return the view of one task's progress; ``unit`` is what is counted."""
        return TaskView(self, title, self._live, unit)

    def say(self, text: str) -> None:
        """Print one line above the progress."""
        self.console.print(Text(text))


class TaskView:
    """One line of progress: a task on a model."""

    def __init__(
        self, display: Display, title: str, live: Progress | None, unit: str = "samples"
    ) -> None:
        self._display, self._title, self._live, self._unit = display, title, live, unit
        self._id: TaskID | None = None
        self._first: tuple[float, int] | None = None
        self._shown = 0.0
        self._step = ""

    def step(self, text: str) -> None:
        """Say what is being done now."""
        now = time.monotonic()
        if self._live is not None:
            self._live.update(self._line(None), note=text)
        elif (what := text.partition(":")[0]) != self._step or now - self._shown >= PLAIN_EVERY_S:
            self._step, self._shown = what, now
            self._print(text)

    def advance(self, done: int, total: int | None, failed: int = 0) -> None:
        """Show how many samples are done; drawn at most ten times a second, and always at the end."""
        now = time.monotonic()
        if self._first is None:  # the first answers waited for the model to load: they tell no rate
            self._first = (now, done)
            self._shown = max(self._shown, now)
        every = REDRAW_EVERY_S if self._live is not None else PLAIN_EVERY_S
        if done != total and now - self._shown < every:
            return
        self._shown = now
        started, before = self._first
        seconds = now - started
        rate = (done - before) / seconds if seconds >= 0.5 else 0.0
        speed = f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s" if rate else ""
        failures = f"{failed} failed" if failed else ""
        if self._live is not None:
            self._live.update(
                self._line(total), completed=done, total=total, rate=speed, note=failures
            )
            return
        of = f"/{total:,}" if total else ""
        left = f"{_duration((total - done) / rate)} left" if rate and total and done < total else ""
        facts = [f"{done:,}{of} {self._unit}", speed, left, failures]
        self._print(", ".join(filter(None, facts)))

    def _print(self, text: str) -> None:
        if not self._display.quiet:
            print(f"{self._title}: {text}", file=sys.stderr, flush=True)

    def _line(self, total: int | None) -> TaskID:
        assert self._live is not None, "a line is drawn on a terminal only"
        if self._id is None:
            self._id = self._live.add_task(self._title, total=total, rate="", note="")
        return self._id


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
