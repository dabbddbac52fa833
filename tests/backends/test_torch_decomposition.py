"""What is torch's own: devices that are not there, batches, precision. Its numbers are tested with all others'."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evalkit.backends import torch_decomposition as module
from evalkit.backends.torch_decomposition import TorchDecomposition
from evalkit.errors import RunError


def noise(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("device", ["cuda:99", "cuda", "abacus", "meta", ""])
def test_a_device_that_is_not_there_is_refused_with_advice(device):
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(RunError, match="torch cannot use the device") as refused:
        TorchDecomposition(device)
    assert "--device" in refused.value.advice


def test_more_matrices_than_go_at_once_give_the_same(monkeypatch):
    matrices = [noise((12, 9), seed) for seed in range(7)]
    at_once = TorchDecomposition("cpu", "float64").eigenvalues_of_many(matrices)
    monkeypatch.setattr(module, "BATCH_NUMBERS", 2 * 12 * 9)
    in_parts = TorchDecomposition("cpu", "float64").eigenvalues_of_many(matrices)
    assert np.array(at_once) == pytest.approx(np.array(in_parts), rel=1e-12)


def test_products_are_in_full_precision_and_the_users_setting_comes_back(monkeypatch):
    seen = []
    decompose = torch.linalg.eigvalsh

    def watched(gram):
        seen.append((torch.get_float32_matmul_precision(), gram.dtype))
        return decompose(gram)

    monkeypatch.setattr(torch.linalg, "eigvalsh", watched)
    torch.set_float32_matmul_precision("medium")
    try:
        TorchDecomposition("cpu").eigenvalues(noise((4, 3)))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert seen == [("highest", torch.float32)]


def test_a_matrix_too_large_for_the_device_ends_in_advice(monkeypatch):
    def full(gram):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.linalg, "eigvalsh", full)
    with pytest.raises(RunError, match="does not fit the memory of cpu"):
        TorchDecomposition("cpu").eigenvalues(noise((4, 3)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_on_cuda_a_large_matrix_agrees_with_lapack_in_float64():
    W_RC = noise((1536, 1100))
    truth = np.linalg.svd(W_RC.astype(np.float64), compute_uv=False)[::-1] ** 2
    for dtype in ("float32", "float64"):
        found = TorchDecomposition("cuda", dtype)
        within = found.resolution(1100) * truth[-1]
        assert found.eigenvalues(W_RC) == pytest.approx(truth, rel=0, abs=within)
