"""What weights are as they travel: a tensor's description, a low-rank update's, and what was measured on a tensor.

A *tensor* here is the logical one: dequantised, in ``(out, in)`` layout, fused projections split and experts apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

Form = Literal["matrix", "embedding", "head", "conv", "vector", "scalar"]
"""What a tensor is: a dense matrix of a block, a table, the output head, a convolution, or of fewer axes."""

Module = Literal[
    "query", "key", "value", "output", "qkv", "gate", "up", "down", "gate_up", "router",
    "embedding", "position", "head", "pooler", "conv", "norm", "bias", "other",
]  # fmt: skip
"""What a tensor does in the model, whatever its architecture calls it."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of a checkpoint, described without its numbers."""

    name: str
    """Canonical name: prefixes of wrappers removed; ``name[q]`` for a part of a fused tensor, ``name[3]`` an expert."""
    stored: str
    """Name in the file; several tensors share one where a fused tensor was split."""
    shape: tuple[int, ...]
    """Logical shape; matrices are (out, in), convolutions (out, in, k…)."""
    dtype: str
    """How it is stored: ``F32``, ``BF16``, ``F8_E4M3``, ``gptq int4`` …"""
    module: Module
    """What it does."""
    form: Form
    """What it is."""
    depth: int | None
    """Number of its block, from 0; None outside blocks."""
    expert: int | None = None
    """Number of its expert; None where there are none."""
    part_of: str = ""
    """Canonical name of the fused tensor it is a part of; empty where it is whole."""

    @property
    def count(self) -> int:
        """How many numbers it holds."""
        product = 1
        for length in self.shape:
            product *= length
        return product

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """Rows and columns as a matrix: convolutions are (out, in·k…), vectors one row."""
        if len(self.shape) < 2:
            return 1, self.count
        rows = self.shape[0]
        return rows, self.count // rows if rows else 0


NO_WEIGHT: Final = "no weight: "
"""How the reason begins why something stored is skipped that holds no weights at all (a buffer, another file)."""


@dataclass(frozen=True, slots=True)
class StructureFault:
    """Something wrong with a checkpoint's files that can be seen without computing."""

    check: str
    """Name of the check that it fails, such as ``integrity.unreadable``."""
    tensor: str | None
    """The tensor, where it is one's."""
    message: str
    """What is wrong, in one sentence."""


@dataclass(frozen=True, slots=True)
class LowRank:
    """A low-rank update of one tensor, described without its numbers: ΔW = scale · B A."""

    name: str
    """Canonical name of the tensor it updates."""
    rank: int
    """Rows of A."""
    shape: tuple[int, int]
    """(out, in) of ΔW."""
    scale: float
    """lora_alpha / r, or lora_alpha / √r (rsLoRA)."""
    dora: bool = False
    """Whether a magnitude vector rescales the rows of W + ΔW (DoRA)."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A number with an interval from a fit, or none with the reason."""

    value: float | None
    """The number; None where there is none."""
    low: float | None = None
    """Lower end at the suite's confidence; None where the number is exact or has no interval."""
    high: float | None = None
    """Upper end."""
    method: str = "exact"
    """``exact`` for what is computed and not estimated; else how the interval was made."""
    status: Literal["ok", "insufficient", "degenerate", "failed"] = "ok"
    """Why there is no number."""
    note: str = ""
    """The status, or what the reader must know, in words."""


@dataclass(frozen=True, slots=True)
class TensorRow:
    """All that was measured on one tensor."""

    tensor: Tensor
    """Which."""
    measured: Mapping[str, Fitted] = field(default_factory=dict)
    """Measure (``spectral.catalogue``) → its number."""
