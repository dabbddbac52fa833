"""What fine-tuning code is handed: masks in the layout of the model's own parameters, and a word on what has none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_checkpoints
from commands import command
from safetensors.numpy import load_file, save_file

from evalkit.cli.layer_masks import Masks

SQUARE = "transformer.h.0.attn.c_proj.weight"
"""A linear layer of GPT-2, stored (in, out), whose shape does not tell."""
BROKEN = "transformer.h.1.mlp.c_fc.weight"
KERNEL = "vision.conv1.weight"
PLANTED = (3, 17)
"""Where a large weight is stored: (in, out)."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a GPT-2 that has one large weight, NaN in one matrix, and a convolution."""
    folder = tmp_path_factory.mktemp("export")
    tiny_checkpoints.make_gpt2(folder / "gpt2")
    file = folder / "gpt2" / "model.safetensors"
    tensors = {name: held.copy() for name, held in load_file(file).items()}
    tensors[SQUARE][PLANTED] = 1000
    tensors[BROKEN][5, 6] = np.nan
    tensors[KERNEL] = np.ones((3, 2, 5), np.float32)
    save_file(tensors, file, metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def exported(place):
    """What the command wrote for 1 % of the weights: the masks, and the file beside them."""
    out = export(place, "masks.npz", "--share", "0.01")
    assert "exported: masks.npz: 9 matrices have a mask, 2" in out and "it holds NaN" in out
    masks = np.load(place / "masks.npz")
    told = json.loads((place / "masks.npz.json").read_text())
    return {name: masks[name] for name in masks.files}, told


def export(place, file, *options):
    code, out, err = command(
        "spectral", "gpt2", "--importance", "--export", file, *options, cwd=place
    )
    assert code == 1, f"the NaN fails the checkpoint, which is exported all the same: {err}"
    return out


def test_each_mask_has_the_shape_of_its_parameter_in_the_models_class(place, exported):
    from transformers import AutoModelForCausalLM

    masks, told = exported
    model = AutoModelForCausalLM.from_pretrained(place / "gpt2")
    shapes = {name: tuple(held.shape) for name, held in model.named_parameters()}
    assert len(masks) == 9, "tables of tokens and positions, and four matrices a block but one"
    assert {name: mask.shape for name, mask in masks.items()} == {
        name: shapes[name] for name in masks
    }
    assert {name: tuple(held["shape"]) for name, held in told["masks"].items()} == {
        name: mask.shape for name, mask in masks.items()
    }


def test_a_large_weight_is_picked_where_it_is_stored_and_not_in_the_transposes_place(exported):
    masks, _ = exported
    assert masks[SQUARE][PLANTED] and not masks[SQUARE][PLANTED[::-1]]


def test_masks_are_what_numpys_svd_of_the_stored_matrices_picks(place, exported):
    """S = Σ σ |u| |v|ᵀ over its mean, by another decomposition; ties and rounding may move a weight or two."""
    masks, told = exported
    stored = load_file(place / "gpt2" / "model.safetensors")
    scores = {}
    for name in masks:
        U, singular, Vt = np.linalg.svd(stored[name].astype(np.float64), full_matrices=False)
        S = np.abs(U) * singular @ np.abs(Vt)
        scores[name] = S / S.mean()
    every = np.concatenate([S.ravel() for S in scores.values()])
    wanted = round(0.01 * len(every))
    assert wanted == sum(int(mask.sum()) for mask in masks.values())
    assert {name: held["chosen"] for name, held in told["masks"].items()} == {
        name: int(mask.sum()) for name, mask in masks.items()
    }
    threshold = np.partition(every, -wanted)[-wanted]
    differ = sum(int(((scores[n] >= threshold) != mask).sum()) for n, mask in masks.items())
    assert differ <= 4


def test_what_has_no_mask_is_listed_with_its_reason(place, exported):
    masks, told = exported
    stored = load_file(place / "gpt2" / "model.safetensors")
    assert set(told["skipped"]) | set(masks) == set(stored), "nothing stored is in neither"
    assert not set(told["skipped"]) & set(masks)
    assert told["skipped"][BROKEN] == "it holds NaN or infinity"
    assert told["skipped"][KERNEL] == "a convolution, which is no matrix"
    assert "one axis" in told["skipped"]["transformer.ln_f.bias"]
    assert "unvalidated" in told["heuristic"]


def test_the_list_of_layers_states_each_masks_shape_as_it_is_stored(place):
    export(place, "layers.json")
    layers = json.loads((place / "layers.json").read_text())["layers"]
    masks = {name: shape for layer in layers for name, shape in layer["masks"].items()}
    stored = load_file(place / "gpt2" / "model.safetensors")
    assert "transformer.h.0.mlp.c_fc.weight" in masks and KERNEL not in masks
    assert masks == {name: list(stored[name].shape) for name in masks}


def test_why_tensors_have_no_mask_is_one_sentence_however_many_reasons_there_are():
    listed = Path("m.npz.json")
    few = Masks(1, {"a": "one axis", "b": "one axis", "c": "NaN"}, listed)
    assert few.in_words == (
        "1 matrix has a mask, 3 tensors have none (2: one axis; 1: NaN); m.npz.json lists each"
    )
    assert Masks(4, {}, listed).in_words == "4 matrices have a mask; m.npz.json lists each"
    many = Masks(4, {str(n): f"reason {n}" for n in range(9)}, listed)
    assert "; 5 more reasons)" in many.in_words
