"""How a text longer than a model's window is cut, so that every token is scored exactly once.

The first window scores as many tokens as fit. Each later one is ``max_length`` tokens wide and
scores the next ``max_length - context + 1`` tokens, the last one what is left; the rest of its width
is context, read again but not scored again. ``context=1`` gives disjoint windows, the cheapest;
``context=max_length`` scores one token per window, the slowest and the lowest perplexity.

**Source** lm-evaluation-harness, ``get_rolling_token_windows`` with ``make_disjoint_window``; the
windows are the same. **Deviation** With ``prefix="none"``, which it does not have, the text's first
token takes the prefix token's place and goes unscored.
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class RollingWindow(NamedTuple):
    """Tokens ``start … first - 1`` are context, ``first … end - 1`` are scored; -1 is the prefix.

    The model reads ``end - 1 - start`` tokens, never more than ``max_length``: the last scored token
    is predicted, not read.
    """

    start: int
    """First token of context, -1 for the prefix token; always below ``first``."""
    first: int
    """First scored token."""
    end: int
    """One past the last scored token."""


def rolling_windows(
    n_tokens: int, *, max_length: int, context: int = 1, prefix: Literal["bos", "none"] = "bos"
) -> list[RollingWindow]:
    """Return the windows over a text of ``n_tokens`` tokens (a prefix token not counted), in order.

    They score tokens 0 … n - 1 once each; 1 … n - 1 without a prefix token. Empty where there is
    nothing to score. Raises ValueError unless ``1 <= context <= max_length``.

    >>> [tuple(window) for window in rolling_windows(9, max_length=4, context=2)]
    [(-1, 0, 4), (2, 4, 7), (4, 7, 9)]
    """
    if not 1 <= context <= max_length:
        raise ValueError(f"context must be from 1 to max_length = {max_length}, not {context}")
    origin = 0 if prefix == "bos" else 1
    n_scored = n_tokens - origin
    windows = []
    done = 0
    while done < n_scored:
        step = max_length if done == 0 else max_length - context + 1
        end = min(done + step, n_scored)
        start = max(end - max_length, 0) - 1
        windows.append(RollingWindow(start + origin, done + origin, end + origin))
        done = end
    return windows
