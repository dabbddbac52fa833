"""Shows that a server does what it is trusted to do, before its numbers are believed.

*Log-probabilities.* Servers have returned stale buffers, zeros, or values for other tokens than were sent, all with
status 200. So the first token-level request is preceded by a few texts, scored in two orders: the values must be the
same, and must not be constant. The largest difference is kept: it is the server's own noise.

*Adapters.* A server can load a LoRA adapter and never apply it. So a text is scored with and without it: the difference
must exceed what asking twice gives.

**Source.** vLLM issues 42019 (values depend on the order of requests), 16976 (a second BOS); lm-evaluation-harness
issue 2432 (an adapter silently not applied).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from evalkit.errors import Fault, RunError

if TYPE_CHECKING:
    from evalkit.backends.served import ServedModel

TEXTS: Final = (
    "The harbour was quiet until the first boats came back with the morning's catch.",
    'Order 1482: three boxes of blue pens, to be delivered to Lyon on 7 March.\n{"quantity": 3}',
    "If a model is asked the same thing twice, it ought to say the same thing twice.",
)
TOLERANCE: Final = 0.5
"""Nats per token by which a value may move when asked again: half precision moves it by hundredths, a wrong buffer by
whole units."""


async def measure_noise(served: ServedModel, texts: Sequence[Sequence[int]]) -> float:
    """Return the largest difference, in nats, between log-probabilities asked in two orders.

    ``texts`` are token ids, at least two each. Raises RunError where the difference shows that the values are not the
    model's, or where they are all the same number.
    """
    try:
        forward = [await served.score(text) for text in texts]
        backward = [await served.score(text) for text in reversed(texts)][::-1]
    except Fault as fault:
        if fault.kind in ("bad_response", "bad_request", "unsupported"):
            raise RunError(
                f"the server gives no log-probabilities that can be used: {fault.message}",
                "use a server that returns them for prompts (vLLM does), or leave out such tasks",
            ) from fault
        raise
    noise = max(_distance(a, b) for a, b in zip(forward, backward, strict=True))
    values = {value for scored in forward for value in scored}
    if len(values) == 1:
        raise RunError(
            f"the server gives every token the log-probability {values.pop()}",
            "it does not support log-probabilities of prompts; use another server or version",
        )
    if noise > TOLERANCE:
        raise RunError(
            f"the server's log-probabilities depend on the order of requests (by {noise:.2f} nats)",
            "use another version, or switch its prefix cache off (vLLM: --no-enable-prefix-caching)",
        )
    return noise


async def prove_adapter(served: ServedModel, base: str, texts: Sequence[Sequence[int]]) -> float:
    """Return by how many nats the served adapter moves a log-probability of the model ``base``.

    Raises RunError where it moves none by more than asking twice does.
    """
    noise = moved = 0.0
    try:
        for text in texts:
            without = await served.score(text, base)
            noise = max(noise, _distance(without, await served.score(text, base)))
            moved = max(moved, _distance(without, await served.score(text)))
    except Fault as fault:
        raise RunError(f"the adapter could not be checked: {fault.message}") from fault
    if moved <= 2 * noise + 1e-6:
        raise RunError(
            f"the adapter does not change the model: log-probabilities move by {moved:.1e} nats",
            "check that it was trained, and for this very checkpoint",
        )
    return moved


def _distance(one: Sequence[float], other: Sequence[float]) -> float:
    return max(abs(a - b) for a, b in zip(one, other, strict=True))
