"""What every command that asks a model needs: an event loop, and an end in good order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio  # the top of the command line imports this module, and help is to be fast


class NothingKept(KeyboardInterrupt):
    """An interrupt of a command that keeps nothing of what it has done, so that it starts over."""


@contextmanager
def keeping_nothing() -> Iterator[None]:
    """Let an interrupt say that nothing was kept."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise NothingKept from error


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end the run as Ctrl-C does: servers stopped, answers kept.

    Python lets the main thread alone say what a signal does; in another one nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGINT)  # asyncio cancels in good order on this one

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's where it is installed (it saves a tenth of the client's processor time), else asyncio's own."""
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return None
    return uvloop.new_event_loop
