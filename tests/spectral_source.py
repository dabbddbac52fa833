"""A checkpoint and an adapter in memory: TensorSource and AdapterSource over plain arrays, for tests."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import RunError
from evalkit.records.weights import Form, LowRank, Module, StructureFault, Tensor

Array = NDArray[np.float32]

MODULES: Mapping[str, Module] = {
    "bias": "bias", "embed_tokens": "embedding", "lm_head": "head", "q_proj": "query", "k_proj": "key",
    "v_proj": "value", "o_proj": "output", "gate_proj": "gate", "up_proj": "up", "down_proj": "down", "norm": "norm",
}  # fmt: skip
FORMS: Mapping[Module, Form] = {"embedding": "embedding", "head": "head"}


def described(name: str, shape: tuple[int, ...], dtype: str = "F32") -> Tensor:
    """A tensor as a loader describes it, by the words in its name."""
    module = next((kind for word, kind in MODULES.items() if word in name), "other")
    by_axes: Form = "matrix" if len(shape) == 2 else "conv" if len(shape) > 2 else "vector"
    depth = re.search(r"layers\.(\d+)\.", name)
    expert = re.search(r"experts\.(\d+)\.", name)
    return Tensor(
        name=name,
        stored=name,
        shape=shape,
        dtype=dtype,
        module=module,
        form=FORMS.get(module, by_axes),
        depth=int(depth[1]) if depth else None,
        expert=int(expert[1]) if expert else None,
    )


@dataclass
class MemorySource:
    """Weights in memory; ``broken`` tensors are described and cannot be read."""

    weights: Mapping[str, Array]
    dtypes: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    vocabulary: int | None = None
    tied: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    faults: Sequence[StructureFault] = ()
    broken: frozenset[str] = frozenset()
    name: str = "memory"
    most_read: int = 0
    """Numbers in the largest block that was asked for."""

    @property
    def tensors(self) -> Sequence[Tensor]:
        return [
            described(name, array.shape, self.dtypes.get(name, "F32"))
            for name, array in self.weights.items()
        ]

    def read(self, tensor: Tensor, start: int = 0, stop: int | None = None) -> Array:
        if tensor.stored in self.broken:
            raise RunError(f"{tensor.stored} cannot be read", "copy it again")
        array = self.weights[tensor.stored]
        block = array[start:stop] if array.ndim else array
        self.most_read = max(self.most_read, block.size)
        return np.ascontiguousarray(block, dtype=np.float32)


@dataclass
class MemoryAdapter:
    """A LoRA adapter in memory: canonical name → (A, B)."""

    pairs: Mapping[str, tuple[Array, Array]]
    scale: float = 1.0
    magnitudes: Mapping[str, Array] = field(default_factory=dict)
    whole: MemorySource = field(default_factory=lambda: MemorySource({}))
    skipped: Mapping[str, str] = field(default_factory=dict)
    name: str = "adapter"
    base: str = ""

    @property
    def updates(self) -> Sequence[LowRank]:
        return [
            LowRank(name, len(a), (len(b), a.shape[1]), self.scale, name in self.magnitudes)
            for name, (a, b) in self.pairs.items()
        ]

    def factors(self, update: LowRank) -> tuple[Array, Array, Array | None]:
        return *self.pairs[update.name], self.magnitudes.get(update.name)


@dataclass
class Told:
    """A Progress that keeps what it was told."""

    steps: list[str] = field(default_factory=list)
    done: list[tuple[int, int | None]] = field(default_factory=list)

    def step(self, text: str) -> None:
        self.steps.append(text)

    def advance(self, done: int, total: int | None, failed: int = 0) -> None:
        self.done.append((done, total))


def small_model(seed: int = 0, blocks: int = 4, width: int = 64) -> dict[str, Array]:
    """A language model in miniature: an embedding, and blocks of seven matrices and two gains each."""
    rng = np.random.default_rng(seed)
    wide = 2 * width

    def drawn(*shape: int) -> Array:
        return (0.05 * rng.standard_normal(shape)).astype(np.float32)

    weights = {"model.embed_tokens.weight": drawn(2 * wide, width)}
    for block in range(blocks):
        here = f"model.layers.{block}."
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            weights[f"{here}self_attn.{name}.weight"] = drawn(width, width)
        weights[f"{here}mlp.gate_proj.weight"] = drawn(wide, width)
        weights[f"{here}mlp.up_proj.weight"] = drawn(wide, width)
        weights[f"{here}mlp.down_proj.weight"] = drawn(width, wide)
        weights[f"{here}input_layernorm.weight"] = 1 + drawn(width)
        weights[f"{here}post_attention_layernorm.weight"] = 1 + drawn(width)
    return weights


def tuned(weights: Mapping[str, Array], by: float = 0.01, seed: int = 1) -> dict[str, Array]:
    """The same model after a gentle training: every number moved by ``by`` of its tensor's root mean square."""
    rng = np.random.default_rng(seed)
    return {
        name: (w + by * np.sqrt((w**2).mean()) * rng.standard_normal(w.shape)).astype(np.float32)
        for name, w in weights.items()
    }
