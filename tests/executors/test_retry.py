"""The retry table, over every kind of fault there is."""

from __future__ import annotations

import itertools
import re
from typing import get_args

import numpy as np
import pytest

from evalkit.errors import Fault, FaultKind
from evalkit.executors import retry
from evalkit.executors.retry import ACTIONS, RETRY_AFTER_CAP_S, wait_s

KINDS: tuple[FaultKind, ...] = get_args(FaultKind)
RETRIED = [kind for kind in KINDS if ACTIONS[kind].attempts > 1]

# What each kind means is said beside it in evalkit.errors; this is what follows from the meaning.
PASSING = {
    "timeout",
    "connection",
    "overloaded",
    "server_error",
    "bad_response",
    "out_of_memory",
}
HOPELESS = {"bad_request", "context_length", "unsupported", "no_answer", "bad_sample"}
FATAL = {"unauthorised", "server_lost"}


class _Edge:
    """An rng that draws one end of its range."""

    def __init__(self, drawn: float) -> None:
        self._drawn = drawn

    def random(self) -> float:
        return self._drawn


LEAST, MOST = _Edge(0.0), _Edge(1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_fault_has_exactly_one_action(kind):
    expected = {
        kind in PASSING: "retry",
        kind in HOPELESS: "give up",
        kind in FATAL: "end",
    }[True]
    action = ACTIONS[kind]
    found = "end" if action.ends_run else "give up" if action.attempts == 1 else "retry"
    assert found == expected


def test_the_table_has_no_row_for_a_kind_that_does_not_exist():
    assert set(ACTIONS) == set(KINDS) == PASSING | HOPELESS | FATAL


@pytest.mark.parametrize("kind", KINDS)
def test_the_printed_table_says_what_the_code_does(kind):
    row = re.search(rf"^{kind} +(\S+) +(?:([\d.]+)–([\d.]+) s|–) ", retry.__doc__, re.MULTILINE)
    assert row is not None, f"no row for {kind}"
    asked, base, cap = row.groups()
    action = ACTIONS[kind]
    assert (0 if asked == "–" else int(asked)) == action.attempts
    assert float(base or 0) == action.base_s
    assert float(cap or 0) == action.cap_s


@pytest.mark.parametrize("kind", RETRIED)
def test_the_longest_wait_doubles_with_every_repetition_up_to_the_cap(kind):
    action = ACTIONS[kind]
    longest = [wait_s(Fault(kind, ""), met, MOST) for met in range(1, 20)]
    assert longest[0] == action.base_s
    for earlier, later in itertools.pairwise(longest):
        assert later == min(2 * earlier, action.cap_s)
    assert longest[-1] == action.cap_s


@pytest.mark.parametrize("kind", RETRIED)
def test_the_shortest_wait_is_none_at_all(kind):
    assert wait_s(Fault(kind, ""), 5, LEAST) == 0


def test_waits_are_spread_evenly_over_their_range():
    rng = np.random.default_rng(0)
    waits = np.array([wait_s(Fault("connection", ""), 4, rng) for _ in range(4000)])
    # Uniform on 0–4: the share of each quarter of the range has standard error 0.007.
    shares = np.histogram(waits, bins=4, range=(0, 4))[0] / waits.size
    assert shares == pytest.approx([0.25] * 4, abs=0.03)


@pytest.mark.parametrize("kind", RETRIED)
def test_the_server_is_never_asked_before_its_retry_after(kind):
    assert wait_s(Fault(kind, "", retry_after_s=7.0), 1, LEAST) == 7.0
    assert wait_s(Fault(kind, "", retry_after_s=7.0), 1, MOST) == 7.0 + ACTIONS[kind].base_s


@pytest.mark.parametrize("asked", [RETRY_AFTER_CAP_S + 1, 1e9, float("inf")])
def test_a_server_that_asks_for_an_hour_is_not_obeyed_to_the_letter(asked):
    assert wait_s(Fault("overloaded", "", retry_after_s=asked), 1, LEAST) == RETRY_AFTER_CAP_S


@pytest.mark.parametrize("asked", [None, 0.0, -5.0, float("nan"), float("-inf")])
def test_a_retry_after_that_means_nothing_is_ignored(asked):
    assert wait_s(Fault("overloaded", "", retry_after_s=asked), 1, LEAST) == 0


@pytest.mark.parametrize("kind", sorted(HOPELESS | FATAL))
def test_what_is_never_asked_again_never_waits(kind):
    assert wait_s(Fault(kind, ""), 1, MOST) == 0


def test_the_same_seed_gives_the_same_waits():
    draws = [
        [wait_s(Fault("overloaded", ""), met, np.random.default_rng(3)) for met in (1, 2, 3)]
        for _ in range(2)
    ]
    assert draws[0] == draws[1]
