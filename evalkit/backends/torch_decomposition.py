"""Eigenvalues and singular vectors of weights by torch, for ``--device cuda``.

By way of WᵀW as in ``spectral.decomposition``, with all of it in one arithmetic: float32, or float64 where that is
asked for. Never less: half precision, in which WeightWatcher hands weights to a GPU, has three digits, and its squares
of weights below 2⁻¹² are 0. TF32, in which a GPU may multiply float32, has no more digits and is off meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import numpy as np

from evalkit.errors import RunError
from evalkit.spectral.decomposition import (
    Eigenvalues,
    Weights,
    prepared,
    without_rounding,
)

if TYPE_CHECKING:
    from torch import Tensor

    from evalkit.spectral.banded import Matrix

BATCH_NUMBERS = 1 << 28
"""Weights that are decomposed at once: 1 GiB of float32."""


class TorchDecomposition:
    """Eigenvalues by torch on one device."""

    def __init__(self, device: str, dtype: Literal["float32", "float64"] = "float32") -> None:
        """``device`` is torch's name of it: ``cuda``, ``cuda:1``, ``cpu``. Raises RunError where it cannot be used."""
        import torch

        try:
            self._device = torch.device(device)
            torch.zeros(1, device=self._device).cpu()
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            told = str(error).strip().splitlines()[0]
            raise RunError(
                f"torch cannot use the device {device!r}: {told}", "leave --device out, or give cpu"
            ) from error
        self._dtype = getattr(torch, dtype)
        self._precision = dtype

    @property
    def name(self) -> str:
        """``torch-cuda-float32`` and the like."""
        return f"torch-{self._device.type}-{self._precision}"

    def resolution(self, size: int) -> float:
        """Return the share of the largest eigenvalue that may be rounding.

        Libraries differ: the one for processors lost 52 ε of the largest at 2,048 columns in float32.
        """
        return max(size / 8, 8.0) * float(np.finfo(self._precision).eps)

    def eigenvalues(self, W_RC: Weights) -> Eigenvalues:
        """Return the eigenvalues of WᵀW, ascending and ≥ 0."""
        return self.eigenvalues_of_many([W_RC])[0]

    def eigenvalues_of_many(self, matrices: Sequence[Weights]) -> list[Eigenvalues]:
        """Return the same of each; those of one shape in batches."""
        import torch

        found: dict[int, Eigenvalues] = {}
        for places in _batches(matrices):
            held = [prepared(matrices[place], self._precision) for place in places]
            with self._at_work():
                tall_BNM = self._tall(np.stack([scaled_RC for scaled_RC, _ in held]))
                lambda_BM = torch.linalg.eigvalsh(tall_BNM.mT @ tall_BNM).double().cpu().numpy()
            for place, lambda_M, (_, factor) in zip(places, lambda_BM, held, strict=True):
                found[place] = self._resolved(lambda_M) * factor
        return [found[place] for place in range(len(matrices))]

    def svd(self, W_RC: Weights, k: int | None = None) -> tuple[Matrix, Matrix, Matrix]:
        """Return the first k singular triplets, descending."""
        import torch

        scaled_RC, factor = prepared(W_RC, self._precision)
        with self._at_work():
            tall_NM = self._tall(scaled_RC)
            lambda_M, short_MM = torch.linalg.eigh(tall_NM.mT @ tall_NM)
            lambda_K = self._resolved(lambda_M.double().cpu().numpy())[::-1][:k].copy()
            resolved_K = torch.from_numpy(lambda_K > 0).to(self._device)
            short_MK = short_MM.flip(1)[:, :k]
            long_NK = torch.nn.functional.normalize(tall_NM @ short_MK * resolved_K, dim=0)
            short, long = short_MK.cpu().numpy(), long_NK.cpu().numpy()
        U_RK, V_CK = (long, short) if W_RC.shape[0] == max(W_RC.shape) else (short, long)
        return U_RK, np.sqrt(lambda_K * factor), V_CK

    def _resolved(self, lambda_M: Eigenvalues) -> Eigenvalues:
        return without_rounding(lambda_M, self.resolution(len(lambda_M)))

    def _tall(self, W_RC: Weights) -> Tensor:
        """Return a matrix, or a batch of them, on the device, with the longer side first."""
        import torch

        on_device = torch.from_numpy(np.ascontiguousarray(W_RC)).to(self._device, self._dtype)
        return on_device if W_RC.shape[-2] >= W_RC.shape[-1] else on_device.mT

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Keep every product in full precision, and tell a lack of memory."""
        import torch

        usual = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise RunError(
                f"a matrix does not fit the memory of {self._device}", "leave --device out"
            ) from error
        finally:
            torch.set_float32_matmul_precision(usual)


def _batches(matrices: Sequence[Weights]) -> Iterator[list[int]]:
    """Yield the places of matrices of one shape, as many as are decomposed at once."""
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for place, W_RC in enumerate(matrices):
        by_shape.setdefault(W_RC.shape, []).append(place)
    for places in by_shape.values():
        step = max(1, BATCH_NUMBERS // max(matrices[places[0]].size, 1))
        for start in range(0, len(places), step):
            yield places[start : start + step]
