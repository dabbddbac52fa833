"""Checks of how far weights went: from the base's scale and direction, from what the others moved, from noise.

Thresholds. *Unrelated*: a cosine below 1/√2 says that less of the tensor is the base's than is not. Healthy trainings
keep 0.97 and more, wrecked ones of a 22 M encoder 0.885; re-initialised, swapped and shuffled matrices have 0.12 and
less. But a table whose rows share a direction stays alike when its rows are shifted by one (0.59 in the quickstart's
model, where 0.5 would miss it). Biases are left out of it and of scale: they may start near 0, where any training turns
and stretches them. *Intruders*: the quickstart's candidate, trained heavily, has up to 2 in matrices that are hardly
more than noise. The baseline trained for 20 steps has none at a rate of 1e-3, 3 in one matrix at 3e-3, up to 9 and 3 or
more in 12 of 28 at 6e-3, where its loss on held-out orders is 0.60 instead of 0.43; mean alpha improves there from 3.58
to 3.09. *Noise*: a stable rank above 0.9 of that of noise where the base's is below 0.8.

**Source**: the study of this project (a 22 M sentence encoder, and the quickstart's language models): fault matrix
in ``tests/spectral/test_fault_matrix.py``; Shuttleworth et al. 2024, arXiv 2410.21228 (intruder dimensions);
Martin, Peng & Mahoney 2021, Nature Communications 12, 4122 (alpha's lines 2 and 6, scale collapse).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, Literal

from evalkit.records.patterns import expression
from evalkit.records.weights import Tensor
from evalkit.spectral.evidence import Found, Seen
from evalkit.spectral.layers import beyond, drift_outliers, is_dense_block, scale_collapse
from evalkit.spectral.measuring import Measurement

UNRELATED: Final = math.sqrt(0.5)
"""Cosine below which a tensor does not resemble the base's."""
INTRUDERS: Final = 3.0
"""Intruders among the 10 leading directions of a matrix from which on it is a finding."""
NOISE: Final = 0.9
"""Ratio of stable ranks, the matrix's and noise's, above which it is noise."""
NO_NOISE: Final = 0.8
"""Ratio above which the base's was near to noise already."""
OVER_TRAINED: Final = 2.0
"""Alpha below which a matrix is said to be over-trained."""
UNDER_TRAINED: Final = 6.0
"""Alpha above which a matrix is said to be under-trained."""


def collapse(seen: Seen) -> Iterator[Found]:
    """Norms that moved while the other tensors' did not."""
    held = {m.pair.tensor.name: m.pair.tensor for m in seen.shared}
    risen = {name: math.inf for name, *_ in _risen(seen) if not _is_bias(held[name])}
    by_norm = scale_collapse(_changes(seen, "norm_change")) | risen
    by_spectrum = scale_collapse(_changes(seen, "spectral_change"))
    for name in dict.fromkeys([*by_norm, *by_spectrum]):
        told = [
            f"{what} changed by {_times(found[name])} as against the other tensors"
            for what, found in (("‖W‖²", by_norm), ("the largest eigenvalue", by_spectrum))
            if name in found
        ]
        deviation = by_norm.get(name, by_spectrum.get(name, 0.0))
        yield Found(name, "; ".join(told), deviation if math.isfinite(deviation) else None)


def _changes(seen: Seen, measure: str) -> dict[str, float]:
    """Return a measure by tensor, biases left out; a tensor that became 0 changed by −∞."""
    changes = {}
    for held in seen.shared:
        tensor, number = held.pair.tensor, held.measured.get(measure)
        if _is_bias(tensor) or number is None or held.against is None:
            continue
        if number.value is not None:
            changes[tensor.name] = number.value
        elif held.against.sum_squares == 0 and not held.against.nonfinite:
            changes[tensor.name] = -math.inf
    return changes


def _risen(seen: Seen) -> Iterator[tuple[str, float, float]]:
    """Yield tensors of zeros in the base that outgrew all others: name, root mean square, the others' largest.

    A distance over 0 is no number. What starts at 0 (biases, gates) stays below the largest of the others in training.
    """
    zeros = {
        m.pair.tensor.name: math.sqrt(m.against.sum_squares / m.against.count)
        for m in seen.shared
        if m.against is not None and m.against.base_sum_squares == 0 and m.against.count
        if not m.against.base_nonfinite and not m.against.nonfinite
    }
    others = [
        math.sqrt(m.own.sum_squares / m.own.count)
        for m in seen.measurements
        if m.own is not None and m.own.count and m.pair.tensor.name not in zeros
    ]
    largest = max(others, default=math.inf)
    for name, size in zeros.items():
        if size > largest:
            yield name, size, largest


def _is_bias(tensor: Tensor) -> bool:
    """Return whether a tensor is added, also where it is a norm's, so that it may start at 0."""
    return tensor.module == "bias" or tensor.name.endswith("bias")


def _times(change: float) -> str:
    return f"a factor of {10**change:.3g}"


def unrelated(seen: Seen) -> Iterator[Found]:
    """Tensors that do not resemble the base's."""
    for held in seen.shared:
        cosine = held.measured.get("cosine")
        if _is_bias(held.pair.tensor) or cosine is None or cosine.value is None:
            continue
        if cosine.value < UNRELATED:
            told = f"its cosine with the base's is {cosine.value:.3f}"
            yield Found(held.pair.tensor.name, told, cosine.value)


def outlier(seen: Seen) -> Iterator[Found]:
    """Tensors that moved far more than the others."""
    drifts = {
        held.pair.tensor.name: drift.value
        for held in seen.shared
        if (drift := held.measured.get("drift")) is not None and drift.value is not None
    }
    modules = {m.pair.tensor.name: m.pair.tensor.module for m in seen.shared}
    for name, more in drift_outliers(drifts, modules).items():
        told = f"it moved by {drifts[name]:.3g} of its norm, {more:.3g} more than the median of its like"
        yield Found(name, told, drifts[name])
    for name, size, largest in _risen(seen):
        told = f"the base's is 0; its root mean square is {size:.3g}, that of all others at most {largest:.3g}"
        yield Found(name, told)


def unchanged(seen: Seen) -> Iterator[Found]:
    """Weights that are the base's, bit by bit, unless what the base lacks is all that was to be trained.

    A new head on a frozen backbone changes no tensor of the base. That this was the plan nobody can read from the files
    (an export that lost the training and gained a buffer looks alike), so it has to be declared: where every tensor
    that the base has is ``frozen`` and there is something that it lacks, nothing is found.
    """
    shared = seen.shared
    compared = [m.against for m in shared if m.against is not None]
    if not compared or len(compared) < len(shared) or any(stats.changed for stats in compared):
        return
    count = sum(stats.count for stats in compared)
    beyond = [*_lacking_in_base(seen)]
    if not beyond:
        yield Found(None, f"all {count:,} numbers are the base's: training never arrived")
        return
    frozen = [expression(pattern) for pattern in seen.task.frozen]
    if all(any(one.fullmatch(m.pair.tensor.name) for one in frozen) for m in shared):
        return
    more = f" and {len(beyond) - 1:,} more" if len(beyond) > 1 else ""
    yield Found(
        None,
        f"all {count:,} numbers of tensors that the base has are the base's: training reached at most what the base "
        f"lacks ({beyond[0]}{more}); if that was the plan, declare the others frozen",
    )


def _lacking_in_base(seen: Seen) -> Iterator[str]:
    """Yield tensors that the base does not have, and tables with more rows than the base's."""
    for held in seen.measurements:
        tensor, base = held.pair.tensor, held.pair.base
        if base is None and not held.base_unread:
            yield tensor.name
        elif base is not None and held.pair.resized and tensor.shape[0] > base.shape[0]:
            yield f"new rows of {tensor.name}"


def intruding(seen: Seen) -> Iterator[Found]:
    """Matrices with several intruder dimensions."""
    for held in seen.shared:
        number = held.measured.get("intruders")
        if number is not None and number.value is not None and number.value >= INTRUDERS:
            told = (
                f"{number.value:g} of its 10 leading directions are unlike every one of the base's"
            )
            yield Found(held.pair.tensor.name, told, number.value)


def over_trained(seen: Seen) -> Iterator[Found]:
    """Alpha below 2 for sure."""
    return _alpha_beyond(seen, OVER_TRAINED, "below")


def under_trained(seen: Seen) -> Iterator[Found]:
    """Alpha above 6 for sure."""
    return _alpha_beyond(seen, UNDER_TRAINED, "above")


def _alpha_beyond(seen: Seen, line: float, side: Literal["below", "above"]) -> Iterator[Found]:
    for held in seen.measurements:
        alpha, tail = held.measured.get("alpha"), held.measured.get("alpha_tail")
        if alpha is None or tail is None or not is_dense_block(held.pair.tensor):
            continue
        if beyond(alpha, tail.value, line, side):
            ends = f"interval {alpha.low:.2f} to {alpha.high:.2f}, {tail.value:g} eigenvalues in the tail"
            yield Found(held.pair.tensor.name, f"alpha is {alpha.value:.2f} ({ends})", alpha.value)


def noise(seen: Seen) -> Iterator[Found]:
    """Matrices whose stable rank is that of noise, and whose base's is not."""
    for held in seen.measurements:
        ratio = held.measured.get("stable_rank_ratio")
        if held.pair.tensor.form != "matrix" or ratio is None or ratio.value is None:
            continue
        was = _ratio_of_base(held, ratio.value)
        news = seen.base is None if was is None else was < NO_NOISE
        if ratio.value > NOISE and news:
            told = f"its stable rank is {ratio.value:.2f} of that of noise"
            before = "" if was is None else f", and the base's {was:.2f}"
            yield Found(held.pair.tensor.name, told + before, ratio.value)


def _ratio_of_base(held: Measurement, ratio: float) -> float | None:
    """Return the base's ratio: the tensor's, less the change of ‖W‖² and plus that of the largest eigenvalue."""
    norm, spectral = held.measured.get("norm_change"), held.measured.get("spectral_change")
    if norm is None or spectral is None or norm.value is None or spectral.value is None:
        return None
    return float(ratio * 10 ** (spectral.value - norm.value))
