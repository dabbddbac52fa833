"""Weights of a checkpoint, read as a stream of tensors: safetensors and GGUF files, and LoRA adapters.

Nothing pickled is ever opened.
"""

from __future__ import annotations

from pathlib import Path

from evalkit.errors import UsageError
from evalkit.ports import AdapterSource, TensorSource

__all__ = ["adapted", "open_adapter", "open_weights"]


def open_weights(folder: Path, *, split: bool = True) -> TensorSource:
    """Return the weights in a folder; with ``split=False`` fused projections stay whole.

    Safetensors files count where there are any, else GGUF. Raises UsageError where there is neither, with advice where
    there are pickled weights; RunError where a file cannot be opened.
    """
    from evalkit.loaders.checkpoints import instead_of_weights

    if any(not path.name.startswith("adapter_") for path in folder.glob("*.safetensors")) or any(
        folder.glob("*.safetensors.index.json")
    ):
        from evalkit.loaders.weights.checkpoint import CheckpointWeights

        return CheckpointWeights(folder, split=split)
    if any(folder.glob("*.gguf")):
        from evalkit.loaders.weights.gguf_file import GgufWeights

        return GgufWeights(folder, split=split)
    raise UsageError(
        f"{str(folder)!r} holds no weights (*.safetensors, *.gguf){instead_of_weights(folder)}"
    )


def open_adapter(folder: Path) -> AdapterSource:
    """Return the LoRA adapter in a folder; see ``adapters.open_adapter``."""
    from evalkit.loaders.weights.adapters import open_adapter as opened

    return opened(folder)


def adapted(base: TensorSource, adapter: AdapterSource) -> TensorSource:
    """Return the base model with the adapter's updates in it; see ``adapters.adapted``."""
    from evalkit.loaders.weights.adapters import adapted as merged

    return merged(base, adapter)
