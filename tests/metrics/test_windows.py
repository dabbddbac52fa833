"""Windows over long texts are the ones that lm-evaluation-harness cuts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.metrics.windows import rolling_windows


@pytest.fixture(scope="module")
def harness():
    return pytest.importorskip("lm_eval.utils", reason="the lm-eval extra is not installed")


@st.composite
def window_cases(draw):
    max_length = draw(st.integers(1, 40))
    return draw(st.integers(0, 300)), max_length, draw(st.integers(1, max_length))


# Known answers of lm-evaluation-harness, tests/test_utils.py: tokens, max_seq_len, context_len → number of windows, and
# each window as (first context token, first scored token, end); -1 is the prefix token.
KNOWN = [
    (34, 10, 1, 4, [(-1, 0, 10), (9, 10, 20), (19, 20, 30), (23, 30, 34)]),
    (34, 10, 8, 9, [(-1, 0, 10), (2, 10, 13), (5, 13, 16), (8, 16, 19)]),
    (34, 10, 10, 25, [(-1, 0, 10), (0, 10, 11), (1, 11, 12), (2, 12, 13)]),
    (30, 10, 10, 21, [(-1, 0, 10), (0, 10, 11), (1, 11, 12)]),
    (30, 10, 1, 3, [(-1, 0, 10), (9, 10, 20), (19, 20, 30)]),
    (9, 2, 1, 5, [(-1, 0, 2), (1, 2, 4), (3, 4, 6), (5, 6, 8), (6, 8, 9)]),
    (0, 2, 1, 0, []),
]


@pytest.mark.parametrize(("n", "max_length", "context", "count", "first_ones"), KNOWN)
def test_windows_are_those_published(n, max_length, context, count, first_ones):
    windows = rolling_windows(n, max_length=max_length, context=context)
    assert len(windows) == count
    assert [tuple(w) for w in windows[: len(first_ones)]] == first_ones
    assert sum(w.end - w.first for w in windows) == n


@given(window_cases())
def test_windows_are_those_of_the_harness_for_any_size(harness, case):
    n, max_length, context = case
    prefix = -1
    expected = [
        harness.make_disjoint_window(pair)
        for pair in harness.get_rolling_token_windows(list(range(n)), prefix, max_length, context)
    ]
    windows = rolling_windows(n, max_length=max_length, context=context)
    assert [
        (list(range(w.start, w.first)), list(range(w.first, w.end))) for w in windows
    ] == expected


@given(window_cases())
def test_every_token_is_scored_once_with_enough_context_and_no_window_overflows(case):
    n, max_length, context = case
    windows = rolling_windows(n, max_length=max_length, context=context)
    assert [t for w in windows for t in range(w.first, w.end)] == list(range(n))
    for w in windows:
        assert w.start < w.first < w.end
        assert w.end - 1 - w.start <= max_length
    assert all(w.first - w.start >= context for w in windows[1:])


@given(window_cases())
def test_without_a_prefix_the_first_token_takes_its_place(case):
    n, max_length, context = case
    bare = rolling_windows(n + 1, max_length=max_length, context=context, prefix="none")
    led = rolling_windows(n, max_length=max_length, context=context)
    assert [(w.start + 1, w.first + 1, w.end + 1) for w in led] == bare
    assert rolling_windows(0, max_length=max_length, context=context, prefix="none") == []


@pytest.mark.parametrize(("max_length", "context"), [(10, 0), (10, 11), (0, 1)])
def test_a_context_that_does_not_fit_is_refused(max_length, context):
    with pytest.raises(ValueError, match="context"):
        rolling_windows(5, max_length=max_length, context=context)
