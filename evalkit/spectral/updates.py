"""An adapter's low-rank updates: their size and rank from the factors alone, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from evalkit.errors import RunError
from evalkit.ports import AdapterSource
from evalkit.records.weights import Fitted, LowRank, Tensor
from evalkit.spectral.low_rank import update_measures, update_singular_values


@dataclass(frozen=True, slots=True)
class Update:
    """One low-rank update, measured."""

    described: LowRank
    """Which."""
    measured: Mapping[str, Fitted] = field(default_factory=dict)
    """Measure → its number."""
    faults: tuple[str, ...] = ()
    """What is wrong with it, in words that follow its name."""


def measure_update(
    adapter: AdapterSource, update: LowRank, tensor: Tensor | None, base_norm: float | None
) -> Update:
    """Return one update, measured; ``tensor`` is what it updates, None where the model has none of its name.

    ``base_norm`` is ‖W₀‖ of it, None where it is not known.
    """
    faults = []
    if tensor is None:
        faults.append("updates a tensor that the model does not have")
    elif tensor.matrix_shape != update.shape:
        faults.append(f"is of shape {_shape(update.shape)}, the tensor {_shape(tensor.shape)}")
    try:
        A_rC, B_Rr, magnitudes_R = adapter.factors(update)
    except RunError as error:
        return Update(update, faults=(*faults, f"cannot be read: {error}"))
    finite = all(
        bool(np.isfinite(factor).all())
        for factor in (A_rC, B_Rr, magnitudes_R)
        if factor is not None
    )
    if not finite:
        faults.append("holds NaN or infinity")
    elif not A_rC.any() or not B_Rr.any() or not update.scale:
        zero = "B" if not B_Rr.any() else "A" if not A_rC.any() else "the scale"
        faults.append(f"is 0, for {zero} is: training never arrived")
    measured = update_measures(update_singular_values(A_rC, B_Rr, update.scale), base_norm)
    return Update(update, {"update_rank": Fitted(float(update.rank)), **measured}, tuple(faults))


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "a single number"
