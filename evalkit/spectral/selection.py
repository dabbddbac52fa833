"""The weights with the highest scores over all matrices together, in bounded memory; what fine-tuning code can read
of it.

Theory. Which scores are the top X % of billions is known when their distribution is. Non-negative float32 numbers are
ordered as their bit patterns are, so the upper bits are bins of equal relative width. The first pass counts scores by
bin; the bin that the X % end in is the threshold; the second pass picks all scores in the bins above it, and from the
threshold's own bin as many as are still wanted, those first that come first. One matrix is in memory at a time.

A matrix's importance is then what was picked of it (over all that was picked, and over its size), which replaces the
share of norms. With FROG's S as score this is an unvalidated heuristic: see ``importance`` for what was measured,
above all that without ``scale_free`` the scale of the matrices decides.

**Source**: IEEE 754-2019, section 3.4 (the encoding's order).

**Deviation**: scores in the threshold's bin count as equal: they differ by less than 2⁻¹⁴ of their size, which is
what float32 leaves of singular vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from evalkit.records.weights import Form, Tensor

Scored = tuple[str, NDArray[np.floating]]
Scores = Callable[[], Iterable[Scored]]
"""Gives each matrix's name and non-negative scores, one matrix after another; the same each time it is called."""

BITS_DROPPED: Final = 9
"""Lower bits of a float32 that bins do not see: 2²² bins, 32 MiB of counts, 2⁻¹⁴ wide."""
AT_ONCE: Final = 1 << 20
"""Scores that are looked at together."""

HEURISTIC: Final = (
    "FROG's importance is an unvalidated heuristic: no test is known that training the weights it picks is better than "
    "training others"
)
"""What every export says of itself."""

MASKED: Final[tuple[Form, ...]] = ("matrix", "embedding", "head")
"""Forms of tensors that have a relevance for each weight, and so may have a mask."""


@dataclass(frozen=True, slots=True, eq=False)
class Picked:
    """What was picked of one matrix."""

    name: str
    """The matrix."""
    shape: tuple[int, ...]
    """Its shape, (rows, columns)."""
    count: int
    """How many of its weights were picked."""
    packed: NDArray[np.uint8]
    """One bit for each weight in row-major order, most significant bit first: ``numpy.packbits`` of the mask."""

    @property
    def mask(self) -> NDArray[np.bool_]:
        """True where the weight was picked."""
        bits = np.unpackbits(self.packed, count=int(np.prod(self.shape)))
        return bits.reshape(self.shape).astype(np.bool_)


def global_selection(scores: Scores, share: float) -> Iterator[Picked]:
    """Yield what the round(``share`` · T) highest of all T scores are, matrix by matrix; counts sum to that exactly.

    ``scores`` is called twice, and nothing is read before the first is asked for. ``share`` lies in 0–1. Raises
    ValueError where scores are negative, NaN or differ between the two calls.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"a share of all weights lies between 0 and 1, not at {share}")
    bins = np.zeros(1 << (32 - BITS_DROPPED - 1), dtype=np.int64)
    for name, scores_RC in scores():
        for bins_N in _bins(name, scores_RC):
            np.add.at(bins, bins_N, 1)
    used = np.flatnonzero(bins)[::-1]
    above = np.cumsum(bins[used])  # scores in each of these bins or above
    wanted = round(share * int(bins.sum()))
    place = int(np.searchsorted(above, wanted))
    threshold = used[place] if len(used) else 0
    at_threshold = wanted - (int(above[place - 1]) if place else 0)
    for name, scores_RC in scores():
        mask_N = np.empty(scores_RC.size, dtype=np.bool_)
        start = 0
        for bins_N in _bins(name, scores_RC):
            picked_N = bins_N > threshold
            ties = np.flatnonzero(bins_N == threshold)[:at_threshold]
            picked_N[ties] = True
            at_threshold -= len(ties)
            mask_N[start : start + len(picked_N)] = picked_N
            start += len(picked_N)
        count = int(np.count_nonzero(mask_N))
        wanted -= count
        yield Picked(name, scores_RC.shape, count, np.packbits(mask_N))
    if wanted:
        raise ValueError("scores differ between the two passes")


def _bins(name: str, scores_RC: NDArray[np.floating]) -> Iterator[NDArray[np.uint32]]:
    """Yield the scores' bins, in row-major order, some at a time."""
    flat_N = scores_RC.reshape(-1)
    for start in range(0, len(flat_N), AT_ONCE):
        some_N = flat_N[start : start + AT_ONCE].astype(np.float32) + np.float32(0)  # no −0
        if not (some_N >= 0).all():
            raise ValueError(f"scores of {name} are negative or NaN")
        yield some_N.view(np.uint32) >> np.uint32(BITS_DROPPED)


def mask_name(tensor: Tensor) -> str:
    """Return what a mask is called: the parameter's name in the checkpoint's file, with ``[n]`` for expert n of a
    block.

    Raises ValueError for a part of a fused parameter, whose rows may lie scattered in it: for masks, weights are to
    be opened with fused matrices whole.
    """
    if tensor.part_of:
        raise ValueError(f"{tensor.name} is a part of {tensor.stored}: it has no mask of its own")
    return tensor.stored + (f"[{tensor.expert}]" if tensor.name.endswith("]") else "")


def layer_list(
    tensors: Iterable[Tensor],
    counts: Mapping[str, int],
    *,
    method: str,
    turned: Collection[str] = (),
) -> dict[str, Any]:
    """Return how many weights of each parameter to train, as plain values for JSON.

    ``counts`` are by ``Tensor.name``, from a budget or from what was picked; ``method`` says from which. ``turned``
    names the tensors that are stored (in, out), such as those of GPT-2's linear layers. Parts of a fused parameter, and
    experts in one block, are summed under the name that the checkpoint's file has for it: its name in
    ``model.named_parameters()``, where the model's class does not rename it. Raises ValueError for counts without a
    tensor.

    Keys: ``heuristic`` (a caveat), ``method``, ``weights`` and ``chosen`` (totals), and ``layers``, one for each
    parameter in the order of ``tensors``: ``parameter``, ``depth`` (or null), ``modules``, ``weights``, ``chosen``,
    ``importance`` (its share of all that was chosen), ``density`` (chosen over weights) and ``masks``, name → shape of
    each of its masks, in the layout that it is stored in.
    """
    members: dict[str, list[Tensor]] = {}
    unknown = set(counts)
    for tensor in tensors:
        if tensor.name in counts:
            members.setdefault(tensor.stored, []).append(tensor)
            unknown.discard(tensor.name)
    if unknown:
        raise ValueError(f"counts without a tensor: {', '.join(sorted(unknown))}")
    total = sum(counts.values())
    layers = [_layer(parameter, held, counts, total, turned) for parameter, held in members.items()]
    weights = sum(layer["weights"] for layer in layers)
    return {
        "heuristic": HEURISTIC,
        "method": method,
        "weights": weights,
        "chosen": total,
        "layers": layers,
    }


def _layer(
    parameter: str,
    held: Sequence[Tensor],
    counts: Mapping[str, int],
    total: int,
    turned: Collection[str],
) -> dict[str, Any]:
    weights, chosen = sum(t.count for t in held), sum(counts[t.name] for t in held)
    return {
        "parameter": parameter,
        "depth": held[0].depth,
        "modules": sorted({t.module for t in held}),
        "weights": weights,
        "chosen": chosen,
        "importance": chosen / max(total, 1),
        "density": chosen / max(weights, 1),
        "masks": {
            mask_name(t): list(t.matrix_shape[::-1] if t.name in turned else t.matrix_shape)
            for t in held
            if t.form in MASKED and not t.part_of
        },
    }
