"""What is done about each kind of fault: a pure table, and how long to wait before asking again.

==============  =====  ==========  ========================================================
fault           asked  back-off    why
==============  =====  ==========  ========================================================
timeout         2      1–8 s       once more: the server may have been busy with others
connection      8      0.5–16 s    servers restart; several in a row and the backend is lost
overloaded      12     1–60 s      the server asks for patience: all new work waits with it
server_error    4      0.5–8 s     often passes
bad_response    3      0.5–8 s     a broken answer may be whole the next time
out_of_memory   2      1–8 s       may fit once its neighbours are done
bad_request     1      –           the same request would be refused again
context_length  1      –           the same prompt will not become shorter
unsupported     1      –           the backend will not learn it
no_answer       1      –           a file does not change while it is read
bad_sample      1      –           nothing can be asked
unauthorised    –      –           ends the run: no request will be answered
server_lost     –      –           ends the run: nobody is there to answer
==============  =====  ==========  ========================================================

*asked*: how often a request may meet this fault before it is given up and counted as a Failure. *back-off*: before
the n-th repetition, a wait drawn evenly from 0 to min(cap, base·2ⁿ⁻¹) seconds ("full jitter"), so that requests
that failed together do not come back together. A Retry-After is added in full, up to ``RETRY_AFTER_CAP_S``.

**Source**: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015; RFC 9110, section 10.2.3
(Retry-After).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from evalkit.errors import Fault, FaultKind

RETRY_AFTER_CAP_S: Final = 120.0
"""The longest Retry-After that is honoured; a server that asks for an hour is asked again after this."""


@dataclass(frozen=True, slots=True)
class Action:
    """What one kind of fault leads to."""

    attempts: int
    """How often a request may meet this fault; 1: it is given up at once, 0: the run ends."""
    base_s: float = 0.0
    """Upper end of the first wait."""
    cap_s: float = 0.0
    """Upper end of any wait."""
    pauses_all: bool = False
    """Whether new work waits too."""
    silent: bool = False
    """Whether the fault leaves open that nobody is there: it is no sign of life."""

    @property
    def ends_run(self) -> bool:
        """Whether asking anything else is pointless."""
        return self.attempts == 0


_GIVE_UP = Action(attempts=1)
_END_RUN = Action(attempts=0)

ACTIONS: Final[Mapping[FaultKind, Action]] = {
    "timeout": Action(attempts=2, base_s=1.0, cap_s=8.0, silent=True),
    "connection": Action(attempts=8, base_s=0.5, cap_s=16.0, silent=True),
    "overloaded": Action(attempts=12, base_s=1.0, cap_s=60.0, pauses_all=True),
    "server_error": Action(attempts=4, base_s=0.5, cap_s=8.0),
    "bad_response": Action(attempts=3, base_s=0.5, cap_s=8.0),
    "out_of_memory": Action(attempts=2, base_s=1.0, cap_s=8.0),
    "bad_request": _GIVE_UP,
    "context_length": _GIVE_UP,
    "unsupported": _GIVE_UP,
    "no_answer": _GIVE_UP,
    "bad_sample": _GIVE_UP,
    "unauthorised": _END_RUN,
    "server_lost": _END_RUN,
}


def wait_s(fault: Fault, met: int, rng: np.random.Generator) -> float:
    """Return the seconds to wait before asking again, drawn evenly from 0 to min(cap, base·2^(met−1)).

    ``met``, at least 1, is how often the request has met this kind of fault. The server's Retry-After, up to
    ``RETRY_AFTER_CAP_S``, is added. A kind that is never retried waits 0 s.
    """
    action = ACTIONS[fault.kind]
    jitter_s = rng.random() * min(action.cap_s, action.base_s * 2.0 ** (met - 1))
    asked_s = fault.retry_after_s or 0.0
    # A server may send anything: NaN and negative numbers fail the comparison.
    return jitter_s + (min(asked_s, RETRY_AFTER_CAP_S) if asked_s > 0 else 0.0)
