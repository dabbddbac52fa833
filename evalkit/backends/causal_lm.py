"""A causal language model on its device: answers and log-probabilities for batches of token ids.

Imports torch: import it only where a model is about to be loaded.

**A row's numbers do not depend on its batch.** Floating-point kernels choose their order of addition by the shapes they
are given, so a row computed with other mates can differ in its last bits, and a resumed run would not be byte-equal.
Therefore a row is padded to a length that follows from its own request alone, and only rows of equal padded length
share a batch. On the CPU, no matrix product has fewer than ``LEAST`` rows (fewer take other kernels: logits are taken
at that many places, and a batch that writes is filled to that many rows), and one token at a time is read with plain
("eager") attention (torch's fused kernel splits a single query among threads by where it stands in the batch).
Measured with torch 2.13 on x86-64 in float32: equal to the bit. On CUDA, numbers can differ in their last bits with
the batch, as they do on servers.

**Drawing.** A sampled token is the inverse of the cumulative distribution at a uniform number from the request's own
generator, so that a request's answer depends on its seed and not on its mates. Nucleus sampling keeps the smallest set
of most likely tokens with probability ``top_p`` or more (Holtzman et al. 2020).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor

from evalkit.backends.tokens import Job
from evalkit.errors import Fault
from evalkit.records.exchange import Decoding, FinishReason

LEAST: Final = 16
"""Least rows of a matrix product on the CPU."""
_LOGITS: Final = 2**28
"""Most logits one forward pass may give (1 GiB in float32)."""
_CHUNK: Final = 2**24
"""Most logits turned into float32 log-probabilities at once."""

T = TypeVar("T")
AnyModel: TypeAlias = Any
"""A model of transformers: there are as many types as architectures."""
Stopped = Callable[[Sequence[int]], bool]
"""Whether an answer's token ids so far end it."""


class Cancelled(Exception):
    """Nobody waits for the answers any more."""


@dataclass
class Answer:
    """One answer while it is written, and when it is."""

    prompt: Sequence[int]
    """What it follows; at least one token."""
    decoding: Decoding
    """How it is drawn."""
    stopped: Stopped | None = None
    """Whether the text so far ends it; None where only EOS does."""
    ids: list[int] = field(default_factory=list)
    """The tokens written, an EOS at the end included."""
    finish: FinishReason | None = None
    """How it ended; None while it is written."""


def scored_length(length: int) -> int:
    """Return the least multiple of 16 that holds ``length`` tokens: reading costs by the token."""
    return -(-length // 16) * 16


def written_length(length: int) -> int:
    """Return the least of 64, 96, 128, 192, 256 … that holds ``length`` tokens: writing costs by the batch."""
    power = 64
    while power < length:
        power *= 2
    return power * 3 // 4 if power > 64 and length <= power * 3 // 4 else power


class CausalLM:
    """A model with token ids in and numbers out; not safe for two threads at once."""

    def __init__(
        self,
        model: AnyModel,
        *,
        eos_ids: frozenset[int],
        rows: int,
        context_length: int | None,
    ) -> None:
        """``rows``: most rows of a batch. ``eos_ids``: every token that ends an answer."""
        self._model = model
        self._device: torch.device = next(model.parameters()).device
        self._eos_ids = eos_ids
        self._rows = rows
        self._fill = min(rows, LEAST) if self._device.type == "cpu" else 1
        self._context_length = context_length
        self._vocabulary = int(model.config.get_text_config().vocab_size)
        self._takes = frozenset(inspect.signature(model.forward).parameters)
        self._switches = model.config._attn_implementation == "sdpa" and self._fill > 1
        self.unwanted: Callable[[], bool] = lambda: False
        """Asked now and then: whether nobody waits for the work under way, which then ends with Cancelled."""

    @property
    def device(self) -> dict[str, str]:
        """What computes, by name."""
        if self._device.type == "cuda":
            return {"device": torch.cuda.get_device_name(self._device)}
        return {"device": self._device.type}

    # --- log-probabilities -----------------------------------------------------------------------

    def score(self, jobs: Sequence[Job]) -> list[tuple[float, ...]]:
        """Return the natural-log probability of each scored token of each job, in order.

        Raises Fault("out_of_memory") where a job does not fit alone, Fault("bad_response") on a probability that is
        no number or 0.
        """
        lengths = [self._within(scored_length(len(job.ids) - 1)) for job in jobs]

        def rows(length: int) -> int:
            return max(1, min(self._rows, _LOGITS // (length * self._vocabulary)))

        return self._in_batches(jobs, lengths, rows, self._score_batch)

    def _score_batch(self, jobs: Sequence[Job], length: int) -> list[tuple[float, ...]]:
        # Padding stands on the right, where causal attention never looks: no mask is needed.
        read = [job.ids[:-1] for job in jobs]
        ids = self._tensor([(*row, *[0] * (length - len(row))) for row in read])
        first = min(len(job.ids) - 1 - job.n_scored for job in jobs)
        first = max(0, min(first, length - LEAST))
        last = max(first + min(LEAST, length), *map(len, read))
        with torch.inference_mode():
            logits = self._forward(ids, keep=torch.arange(first, last, device=self._device))
            scored = []
            for row, job in enumerate(jobs):
                end = len(job.ids) - 1 - first
                wanted = self._tensor(job.ids[-job.n_scored :])
                scored.append(_picked(logits[row, end - job.n_scored : end], wanted))
            values = [row.cpu().tolist() for row in scored]
        if not all(np.isfinite(row).all() for row in values):
            raise Fault("bad_response", "the model gives a token no finite log-probability")
        return [tuple(row) for row in values]

    # --- answers ---------------------------------------------------------------------------------

    def write(self, answers: Sequence[Answer]) -> None:
        """Write every answer to its end. Raises Fault("out_of_memory") where one does not fit alone."""
        lengths = [
            self._within(written_length(len(answer.prompt)), answer.decoding.max_tokens)
            for answer in answers
        ]
        self._in_batches(answers, lengths, lambda _: self._rows, self._write_batch)

    def _write_batch(self, answers: Sequence[Answer], length: int) -> list[None]:
        # Padding stands on the left, so that all rows go on at the same place.
        rows = [answer.prompt for answer in answers]
        ids = self._tensor([(*[0] * (length - len(row)), *row) for row in rows])
        mask = self._tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
        # Filled rows repeat the first one and are never looked at.
        filled = self._tensor([*range(len(rows)), *[0] * (self._fill - len(rows))])
        draw_tokens = _Draw([answer.decoding for answer in answers])
        for answer in answers:
            answer.ids.clear()
            answer.finish = None
        cache: Any = None
        with torch.inference_mode():
            while True:
                first = cache is None
                step = self._step(ids, mask, cache)
                cache = step.past_key_values
                if cache is None:
                    raise Fault("unsupported", "this architecture has no key-value cache; use vLLM")
                chosen = draw_tokens(step.logits[: len(answers), -1].float())
                for answer, token in zip(answers, chosen, strict=True):
                    self._extend(answer, token)
                if all(answer.finish for answer in answers):
                    return [None] * len(answers)
                if first and len(filled) > len(rows):
                    cache.batch_select_indices(filled)
                    mask = mask[filled]
                ids = self._tensor(chosen)[filled][:, None]
                mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)

    def _extend(self, answer: Answer, token: int) -> None:
        if answer.finish is not None:
            return
        answer.ids.append(token)
        if token in self._eos_ids or (answer.stopped is not None and answer.stopped(answer.ids)):
            answer.finish = "stop"
        elif len(answer.ids) >= answer.decoding.max_tokens:
            answer.finish = "length"

    def _step(self, ids: Tensor, mask: Tensor, cache: Any) -> Any:  # noqa: ANN401 - transformers' own types
        """Read ``ids`` after what the cache holds."""
        self._go_on()
        self._attend("sdpa" if cache is None else "eager")
        options: dict[str, Any] = {"logits_to_keep": LEAST, "use_cache": True}
        # Padding is no place in the text.
        options["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        return self._model(
            input_ids=ids, attention_mask=mask, past_key_values=cache, **self._taken(options)
        )

    def _attend(self, implementation: str) -> None:
        """Switch the attention kernel on the CPU; a model that was not loaded with sdpa keeps its own."""
        if self._switches and self._model.config._attn_implementation != implementation:
            self._model.set_attn_implementation(implementation)
            self._switches = self._model.config._attn_implementation == implementation

    def _go_on(self) -> None:
        if self.unwanted():
            raise Cancelled

    # --- batches ---------------------------------------------------------------------------------

    def _in_batches(
        self,
        items: Sequence[T],
        lengths: Sequence[int],
        rows: Callable[[int], int],
        compute: Callable[[Sequence[T], int], list[Any]],
    ) -> list[Any]:
        """Return ``compute`` of every item, in order, called on items of equal padded length."""
        results: dict[int, Any] = {}
        for length in sorted(set(lengths)):
            places = [place for place, held in enumerate(lengths) if held == length]
            for batch in _cut(places, rows(length)):
                computed = self._halving([items[place] for place in batch], length, compute)
                results.update(zip(batch, computed, strict=True))
        return [results[place] for place in range(len(items))]

    def _halving(
        self, items: list[T], length: int, compute: Callable[[Sequence[T], int], list[Any]]
    ) -> list[Any]:
        """Return ``compute(items)``, in halves where the device has not the memory."""
        self._go_on()
        try:
            return compute(items, length)
        except torch.OutOfMemoryError as error:
            if len(items) == 1:
                message = f"the device has not the memory for {length} tokens"
                raise Fault("out_of_memory", message) from error
        # Outside the handler, whose traceback still holds the tensors.
        torch.cuda.empty_cache()
        half = len(items) // 2
        return self._halving(items[:half], length, compute) + self._halving(
            items[half:], length, compute
        )

    def _within(self, padded: int, room: int = 0) -> int:
        """Return a padded length that leaves room in the model's window: some models know no further position."""
        return padded if self._context_length is None else min(padded, self._context_length - room)

    def _tensor(self, values: Any) -> Tensor:  # noqa: ANN401 - any nested sequence of integers
        return torch.tensor(values, dtype=torch.long, device=self._device)

    def _taken(self, options: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in options.items() if name in self._takes}

    def _forward(self, ids: Tensor, keep: Tensor) -> Tensor:
        """Return the logits at the places ``keep`` of right-padded rows."""
        self._go_on()
        self._attend("sdpa")
        options = self._taken({"logits_to_keep": keep, "use_cache": False})
        logits: Tensor = self._model(input_ids=ids, **options).logits
        return logits if "logits_to_keep" in options else logits[:, keep]


class _Draw:
    """Chooses each row's next token."""

    def __init__(self, decodings: Sequence[Decoding]) -> None:
        self._sampled = [row for row, d in enumerate(decodings) if d.temperature > 0]
        drawn = [decodings[row] for row in self._sampled]
        assert all(d.seed is not None for d in drawn), "a sampled answer has a seed"
        self._rngs = [np.random.default_rng(d.seed) for d in drawn]
        options = torch.tensor([(d.temperature, d.top_p) for d in drawn], dtype=torch.float64)
        self._temperature, self._top_p = options.reshape(-1, 2, 1).unbind(1)

    def __call__(self, logits: Tensor) -> list[int]:
        """Return one token per row of ``logits``; a row that has ended still draws its uniform number."""
        chosen: list[int] = logits.argmax(dim=-1).tolist()
        if self._sampled:
            uniform = torch.tensor([rng.random() for rng in self._rngs], dtype=torch.float64)
            device = logits.device
            drawn = draw(
                logits[self._sampled],
                self._temperature.to(device),
                self._top_p.to(device),
                uniform.to(device),
            )
            for row, token in zip(self._sampled, drawn.tolist(), strict=True):
                chosen[row] = token
        return chosen


def draw(logits: Tensor, temperature: Tensor, top_p: Tensor, uniform: Tensor) -> Tensor:
    """Return per row the token at ``uniform`` (0–1) of the cumulative distribution, most likely tokens first.

    ``logits`` [rows, vocabulary]; ``temperature``, ``top_p`` [rows, 1]; ``uniform`` [rows].
    """
    shifted = logits.double() - logits.max(dim=-1, keepdim=True).values.double()
    ordered, order = torch.softmax(shifted / temperature, dim=-1).sort(
        dim=-1, descending=True, stable=True
    )
    total = ordered.cumsum(dim=-1)
    kept = torch.where(total - ordered < top_p, ordered, 0.0)
    kept[:, 0] = ordered[:, 0]
    cumulative = kept.cumsum(dim=-1)
    target = uniform[:, None] * cumulative[:, -1:]
    place = torch.searchsorted(cumulative, target, right=True)
    # Rounding may put a target at the very end: the last kept token, never one that was cut off.
    place = torch.minimum(place, (kept > 0).sum(dim=-1, keepdim=True) - 1)
    return order.gather(1, place)[:, 0]


def _picked(logits: Tensor, wanted: Tensor) -> Tensor:
    """Return log softmax(logits)[wanted] in float32, a bounded number of positions at a time."""
    step = max(1, _CHUNK // logits.shape[-1])
    parts = [
        torch.log_softmax(logits[start : start + step].float(), dim=-1)
        .gather(1, wanted[start : start + step, None])
        .squeeze(1)
        for start in range(0, len(wanted), step)
    ]
    return torch.cat(parts)


def _cut(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
