"""Tier 1: the spectra of a model's matrices, as they come out of tier 0.

Small matrices wait for one another, since many are decomposed side by side much faster than one by one; they wait for
``WAITING_BYTES`` at most. A table too large to hold comes as WᵀW, summed from its blocks. Each matrix's random numbers
are its own, seeded by its name, so that what else is in the model does not move its intervals.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evalkit.identity import derived_seed
from evalkit.records.suite import SpectralTask
from evalkit.records.weights import Fitted, Tensor
from evalkit.spectral.alpha import alpha_measures
from evalkit.spectral.catalogue import MEASURES
from evalkit.spectral.rotation import turned
from evalkit.spectral.spectrum import Decomposition, correlation_traps, spectral_measures

Array = NDArray[np.float32]
Floats = NDArray[np.float64]
Shape = tuple[int, int]

WAITING_BYTES = 1 << 25
"""Matrices that wait for others take no more than this; one that takes more does not wait."""
WAITING_SIDE = 1024
"""Matrices whose smaller side is this long gain nothing by waiting."""
IN_ONE_PASS = frozenset(measure.name for measure in MEASURES if measure.needs == "weights")
"""Measures of spectra that the first pass gives as well."""
GRAM_RESOLUTION = 8 * float(np.finfo(np.float32).eps)
"""Share of the largest eigenvalue that may be rounding, where WᵀW was summed in float32."""


class Spectra:
    """Decomposes matrices, many at once where that helps, and measures their spectra."""

    def __init__(
        self, task: SpectralTask, decomposition: Decomposition, *, level: float, seed: int
    ) -> None:
        self._task, self._decomposition = task, decomposition
        self._level, self._seed = level, seed
        self._waiting: dict[str, Array] = {}
        self._bytes = 0
        self.measured: dict[str, dict[str, Fitted]] = {}
        """Tensor → measure → its number, of the matrices decomposed so far."""
        self.largest: dict[str, float] = {}
        """Tensor → the largest eigenvalue of WᵀW, likewise."""

    def names(self, *, against: bool) -> list[str]:
        """Return the measures that ``add`` gives a matrix, with or without a base's to compare it with."""
        wanted = ("spectra", "spectra+base") if against else ("spectra",)
        left_out = ("flow_slope", "flow_roughness", *(() if self._task.traps else ("traps",)))
        return [m.name for m in MEASURES if m.needs in wanted and m.name not in left_out]

    def resolution(self, tensor: Tensor) -> float:
        """Return the share of a tensor's largest eigenvalue that may be rounding."""
        return self._decomposition.resolution(min(tensor.matrix_shape))

    def add(self, name: str, W_RC: Array, base_RC: Array | None) -> None:
        """Take a finite matrix, and the base's where there is one to compare it with."""
        self.measured[name] = {}
        if self._task.traps:
            traps = correlation_traps(W_RC, self._decomposition, self._rng(name, "traps"))
            self.measured[name]["traps"] = Fitted(float(traps))
        if base_RC is not None:
            self.measured[name] |= turned(W_RC, base_RC, self._decomposition)
        if min(W_RC.shape) >= WAITING_SIDE or W_RC.nbytes > WAITING_BYTES:
            self._decompose({name: W_RC})
            return
        self._waiting[name] = W_RC.copy()  # its room is used again
        self._bytes += W_RC.nbytes
        if self._bytes > WAITING_BYTES:
            self.finish()

    def add_gram(self, name: str, gram_CC: Floats, shape: Shape) -> None:
        """Take WᵀW of a tall matrix that is too large to hold; its entries cannot be shuffled."""
        found_C = np.linalg.eigvalsh(gram_CC)
        floor = GRAM_RESOLUTION * found_C.max(initial=0.0)
        lambda_C: Floats = np.where(found_C > floor, found_C, 0.0)
        self.measured[name] = self._of(name, lambda_C, shape, GRAM_RESOLUTION)
        if self._task.traps:
            too_large = Fitted(None, status="insufficient", note="too large to be shuffled")
            self.measured[name]["traps"] = too_large

    def finish(self) -> None:
        """Decompose what still waits."""
        self._decompose(self._waiting)
        self._waiting, self._bytes = {}, 0

    def _decompose(self, matrices: dict[str, Array]) -> None:
        spectra = self._decomposition.eigenvalues_of_many(list(matrices.values()))
        for (name, W_RC), lambda_M in zip(matrices.items(), spectra, strict=True):
            shape = W_RC.shape
            self.largest[name] = float(lambda_M[-1])
            resolution = self._decomposition.resolution(min(shape))
            self.measured[name] |= self._of(name, lambda_M, (shape[0], shape[1]), resolution)

    def _of(
        self, name: str, lambda_M: Floats, shape: Shape, resolution: float
    ) -> dict[str, Fitted]:
        task = self._task
        found = spectral_measures(
            lambda_M, shape, compatible=task.compatible, resolution=resolution
        )
        # The first pass has measured norms of the same tensors whether spectra are asked for or not; only
        # WeightWatcher's conventions take them of everything that has a spectrum.
        kept = {n: v for n, v in found.items() if task.compatible or n not in IN_ONE_PASS}
        return {
            **kept,
            **alpha_measures(
                lambda_M,
                shape,
                level=self._level,
                draws=task.draws,
                rng=self._rng(name, "refits"),
                compatible=task.compatible,
            ),
        }

    def _rng(self, name: str, purpose: str) -> np.random.Generator:
        return np.random.default_rng(derived_seed(self._seed, self._task.name, name, purpose))
