"""From the log-probabilities of tokens to the log-likelihood of a text, or why they are no measurement.

Fails closed. Zeros throughout, which servers send when they hold no log-probabilities and which would read as a
perplexity of 1, are no measurement; nor are NaN, infinities and values above 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from evalkit.records.exchange import Completion, Unscored

TIE = 1e-6
"""Nats; two texts nearer than this are tied."""
ROUNDING = 1e-3
"""How far above 0 a log-probability may lie through rounding alone (bfloat16 included)."""

IMPOSSIBLE = -9999.0
"""Nats; what servers send for -inf, which JSON cannot hold (vLLM's completions API)."""

NO_LOGPROBS = "no log-probabilities"


def log_likelihoods(completions: Sequence[Completion]) -> list[float] | Unscored:
    """Return Σ ln p (nats, exactly rounded) of each completion, or why these are no measurement."""
    totals = []
    for completion in completions:
        logprobs = completion.logprobs
        if logprobs is None:
            return Unscored(NO_LOGPROBS)
        if not logprobs:
            return Unscored("no scored token")
        if min(logprobs) <= IMPOSSIBLE:
            return Unscored("a token has probability 0")
        if not max(logprobs) <= ROUNDING or math.isnan(total := math.fsum(logprobs)):
            return Unscored("not log-probabilities", "a value is NaN or above 0")
        totals.append(total)
    return totals if any(totals) else Unscored(NO_LOGPROBS, "every one is 0")
