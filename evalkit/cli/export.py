"""FROG's importance as files that fine-tuning code can read: a list of layers, or a mask of every matrix.

An unvalidated heuristic, which both files say of themselves or beside themselves (``spectral.importance``).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from evalkit.cli.weights import OpenedWeights
from evalkit.loaders.checkpoints import FoundWeights
from evalkit.records.weights import Tensor, TensorRow
from evalkit.spectral.budget import overflow, redistributed_budget, trainable_budget
from evalkit.spectral.importance import svd_relevance
from evalkit.spectral.selection import Scored, global_selection, layer_list, mask_name
from evalkit.store.documents import document
from evalkit.store.durable import disk_errors, replacing, write_bytes

if TYPE_CHECKING:
    from evalkit.ports import Progress
    from evalkit.spectral.spectrum import Decomposition

LIST: Final = ".json"
MASKS: Final = ".npz"
ENDINGS: Final = (LIST, MASKS)
"""What an export may be, told by the file's ending."""
EXACT_UP_TO: Final = 1024
"""Matrices of up to so many rows, or columns if they are fewer, get all their singular vectors."""
LEADING: Final = 128
"""Singular vectors of larger matrices; what the others add is estimated."""


def export_layers(file: Path, rows: list[TensorRow], share: float) -> None:
    """Write how many weights of each parameter to train, where ``share`` of all matrices' weights is trained.

    The budget is FROG's with what overflows a matrix given to the others; ``as_written`` tells what the published rule
    would have lost. Raises RunError when the disk refuses.
    """
    held = {row.tensor.name: row for row in rows if _importance(row) is not None}
    shares = {name: _importance(row) or 0.0 for name, row in held.items()}
    sizes = {name: row.tensor.count for name, row in held.items()}
    lost = overflow(trainable_budget(shares, sizes, share), sizes)
    counts = redistributed_budget(shares, sizes, share)
    told: dict[str, Any] = layer_list(
        [row.tensor for row in held.values()],
        counts,
        method=f"{share:g} of the weights by share of the Frobenius norms, overflow redistributed",
    )
    told["as_written"] = {"matrices_overfull": lost.matrices, "budget_lost": lost.lost}
    write_bytes(file, document(told))


def export_masks(
    file: Path,
    found: FoundWeights,
    share: float,
    decomposition: Decomposition,
    progress: Progress,
) -> None:
    """Write a boolean mask of each matrix: the ``share`` of all weights with the highest relevance, free of scale.

    One matrix is in memory at a time; each is read and decomposed twice. ``numpy.load`` reads the file, by the
    parameters' names; masks are (out, in). Raises RunError when the disk refuses.
    """
    source = OpenedWeights(found, split=False).source
    tensors = [t for t in source.tensors if t.form in ("matrix", "embedding", "head")]
    by_name: Mapping[str, Tensor] = {mask_name(tensor): tensor for tensor in tensors}
    done = 0

    def scores() -> Iterator[Scored]:
        nonlocal done
        for name, tensor in by_name.items():
            progress.step(f"relevance: {name}")
            W_RC = source.read(tensor).reshape(tensor.matrix_shape)
            done += 1
            if np.isfinite(W_RC).all():
                rank = None if min(W_RC.shape) <= EXACT_UP_TO else LEADING
                yield name, svd_relevance(W_RC, decomposition, rank=rank, scale_free=True)
            progress.advance(done, 2 * len(by_name))

    with replacing(file) as target, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for picked in global_selection(scores, share):
            entry = io.BytesIO()
            np.lib.format.write_array(entry, picked.mask, allow_pickle=False)
            with disk_errors(file):
                archive.writestr(f"{picked.name}.npy", entry.getvalue())


def _importance(row: TensorRow) -> float | None:
    held = row.measured.get("importance")
    return None if held is None else held.value
