"""FROG's importance as files that fine-tuning code can read: a list of layers, or a mask of every matrix.

An unvalidated heuristic, which both files say of themselves or beside themselves (``spectral.importance``).
"""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from evalkit.cli.weights import OpenedWeights
from evalkit.errors import RunError
from evalkit.loaders.checkpoints import FoundWeights
from evalkit.loaders.weights.layout import TurnedTensor
from evalkit.records.weights import NO_WEIGHT, Form, Tensor, TensorRow
from evalkit.spectral.budget import overflow, redistributed_budget, trainable_budget
from evalkit.spectral.importance import svd_relevance
from evalkit.spectral.selection import (
    HEURISTIC,
    MASKED,
    Scored,
    global_selection,
    layer_list,
    mask_name,
)
from evalkit.store.documents import document
from evalkit.store.durable import disk_errors, replacing, write_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evalkit.ports import Progress, TensorSource
    from evalkit.spectral.spectrum import Decomposition

LIST: Final = ".json"
MASKS: Final = ".npz"
ENDINGS: Final = (LIST, MASKS)
"""What an export may be, told by the file's ending."""
EXACT_UP_TO: Final = 1024
"""Matrices of up to so many rows, or columns if they are fewer, get all their singular vectors."""
LEADING: Final = 128
"""Singular vectors of larger matrices; what the others add is estimated."""
REASONS: Final = 4
"""So many reasons are told in a sentence why tensors have no mask; the file beside the masks has each."""


NOT_MASKED: Final[Mapping[Form, str]] = {
    "conv": "a convolution, which is no matrix",
    "vector": "it has one axis, and no singular vectors",
    "scalar": "it is a single number",
}
"""Why a tensor of such a form has no relevance, and so no mask."""


@dataclass(frozen=True, slots=True)
class Masks:
    """What an export of masks gave."""

    matrices: int
    """Parameters, and experts in one block, that have a mask."""
    skipped: Mapping[str, str]
    """Stored name → why it has none; nothing that the files hold is in neither."""
    listed: Path
    """The file beside the masks that lists both."""

    @property
    def in_words(self) -> str:
        """How many have a mask, why the others have none, and where each is listed, in one sentence."""
        reasons = Counter(self.skipped.values())
        told = "; ".join(f"{count:,}: {why}" for why, count in reasons.most_common(REASONS))
        if (more := len(reasons) - REASONS) > 0:
            told += f"; {more:,} more reasons"
        masked = f"{self.matrices:,} matri{'x has' if self.matrices == 1 else 'ces have'} a mask"
        if reasons:
            masked += f", {len(self.skipped):,} tensors have none ({told})"
        return f"{masked}; {self.listed} lists each"


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
        turned={name for name, row in held.items() if isinstance(row.tensor, TurnedTensor)},
    )
    told["as_written"] = {"matrices_overfull": lost.matrices, "budget_lost": lost.lost}
    write_bytes(file, document(told))


def export_masks(
    file: Path,
    found: FoundWeights,
    share: float,
    decomposition: Decomposition,
    progress: Progress,
) -> Masks:
    """Write a boolean mask of each matrix: the ``share`` of all weights with the highest relevance, free of scale.

    One matrix is in memory at a time; each is read and decomposed twice. ``numpy.load`` reads the file, by the
    parameters' names; a mask is laid out as its parameter is stored: of GPT-2's linear layers (in, out), of most others
    (out, in). What has no mask is listed with the reason in ``FILE.json`` beside it, and in what is returned. Raises
    RunError when the disk refuses.
    """
    source = OpenedWeights(found, split=False).source
    masked, skipped = _to_be_masked(source)
    by_name: Mapping[str, Tensor] = {mask_name(tensor): tensor for tensor in masked}
    done = 0

    def scores() -> Iterator[Scored]:
        nonlocal done
        for name, tensor in by_name.items():
            progress.step(f"relevance: {name}")
            if name not in skipped:
                W_RC = _matrix(source, tensor)
                if isinstance(W_RC, str):
                    skipped[name] = W_RC
                else:
                    rank = None if min(W_RC.shape) <= EXACT_UP_TO else LEADING
                    yield name, svd_relevance(W_RC, decomposition, rank=rank, scale_free=True)
            done += 1
            progress.advance(done, 2 * len(by_name))

    layers: dict[str, dict[str, Any]] = {}
    with replacing(file) as target, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for picked in global_selection(scores, share):
            tensor = by_name[picked.name]
            mask = picked.mask.T if isinstance(tensor, TurnedTensor) else picked.mask
            layers[picked.name] = {"shape": list(mask.shape), "chosen": picked.count}
            entry = io.BytesIO()
            np.lib.format.write_array(entry, np.ascontiguousarray(mask), allow_pickle=False)
            with disk_errors(file):
                archive.writestr(f"{picked.name}.npy", entry.getvalue())
    told = {
        "heuristic": HEURISTIC,
        "method": f"{share:g} of the weights by relevance Σ σ |u| |v|ᵀ over its mean in each matrix",
        "masks": layers,
        "skipped": dict(sorted(skipped.items())),
    }
    listed = file.with_name(f"{file.name}{LIST}")
    write_bytes(listed, document(told))
    return Masks(len(layers), skipped, listed)


def _to_be_masked(source: TensorSource) -> tuple[list[Tensor], dict[str, str]]:
    """Return the tensors that have a relevance, and why the other stored weights have none."""
    skipped = {
        name: reason for name, reason in source.skipped.items() if not reason.startswith(NO_WEIGHT)
    }
    skipped |= {fault.tensor: fault.message for fault in source.faults if fault.tensor}
    masked = []
    for tensor in source.tensors:
        if tensor.form not in MASKED:
            skipped[tensor.stored] = NOT_MASKED[tensor.form]
        elif tensor.name in source.tied:
            skipped[tensor.stored] = f"it is tied to {source.tied[tensor.name]}, which has the mask"
        else:
            masked.append(tensor)
    return masked, skipped


def _matrix(source: TensorSource, tensor: Tensor) -> NDArray[np.float32] | str:
    """Return a tensor as a matrix of finite numbers, or why it is none."""
    try:
        W_RC = source.read(tensor).reshape(tensor.matrix_shape)
    except RunError as error:
        return str(error)
    return W_RC if np.isfinite(W_RC).all() else "it holds NaN or infinity"


def _importance(row: TensorRow) -> float | None:
    held = row.measured.get("importance")
    return None if held is None else held.value
