"""Whole checkpoints: what is listed, what is skipped and why, what is tied, and that every number is torch's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from evalkit.errors import RunError, UsageError
from evalkit.loaders.weights import open_weights
from evalkit.loaders.weights.layout import TurnedTensor

torch = pytest.importorskip("torch")


def checkpoint(folder, tensors, config=None, name="model.safetensors"):
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / name)
    if config is not None:
        text = config if isinstance(config, str) else json.dumps(config)
        (folder / "config.json").write_text(text)
    return open_weights(folder)


def filled(*shape, dtype=torch.float32):
    numbers = torch.arange(int(np.prod(shape)), dtype=torch.float32)
    return (numbers.reshape(shape) % 97 / 64 - 0.5).to(dtype)


LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": False}
TABLE, HEAD = "model.embed_tokens.weight", "lm_head.weight"


# --- numbers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_every_tensor_is_listed_once_and_equals_what_torch_loads(tmp_path, dtype):
    tensors = {
        TABLE: filled(40, 8), HEAD: filled(40, 8), "model.norm.weight": filled(8), "scale": filled(),
        "model.layers.10.self_attn.q_proj.weight": filled(6, 8), "model.layers.2.self_attn.q_proj.weight": filled(6, 8),
        "vision.conv1.weight": filled(3, 2, 5), "vision.patch_embed.proj.weight": filled(4, 3, 2, 2),
        "vision.cls_token": filled(1, 1, 8), "vision.conv2.weight": filled(1, 3, 5),
    }  # fmt: skip
    tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    source = checkpoint(tmp_path / "m", tensors, LLAMA)
    assert (source.skipped, source.faults, source.tied) == ({}, [], {})
    loaded = load_file(tmp_path / "m" / "model.safetensors")
    assert sorted(tensor.stored for tensor in source.tensors) == sorted(loaded)
    for tensor in source.tensors:
        expected = loaded[tensor.stored].to(torch.float32).numpy()
        found = source.read(tensor)
        assert found.shape == tensor.shape and found.dtype == np.float32
        np.testing.assert_array_equal(found.ravel(), expected.ravel())
    assert {t.name: (t.form, t.shape) for t in source.tensors if t.depth is None} == {
        TABLE: ("embedding", (40, 8)), HEAD: ("head", (40, 8)), "model.norm.weight": ("vector", (8,)),
        "scale": ("scalar", ()), "vision.conv1.weight": ("conv", (3, 2, 5)),
        "vision.patch_embed.proj.weight": ("conv", (4, 3, 2, 2)), "vision.cls_token": ("vector", (8,)),
        "vision.conv2.weight": ("conv", (1, 3, 5)),
    }  # fmt: skip


def test_tensors_come_shard_by_shard_and_layer_2_before_layer_10(tmp_path):
    names = [f"model.layers.{number}.mlp.up_proj.weight" for number in (0, 2, 10)]
    save_file({names[1]: filled(2, 2), names[2]: filled(2, 2)}, tmp_path / "b.safetensors")
    save_file({names[0]: filled(2, 2)}, tmp_path / "c.safetensors")
    source = open_weights(tmp_path)
    assert [tensor.name for tensor in source.tensors] == [names[1], names[2], names[0]]
    assert [tensor.depth for tensor in source.tensors] == [2, 10, 0]


def test_names_of_wrappers_are_canonical_and_the_stored_name_is_kept(tmp_path):
    source = checkpoint(tmp_path / "m", {"module._orig_mod.model.norm.weight": filled(4)})
    (tensor,) = source.tensors
    assert (tensor.name, tensor.stored) == (
        "model.norm.weight",
        "module._orig_mod.model.norm.weight",
    )


def test_two_stored_tensors_of_one_canonical_name_are_a_fault(tmp_path):
    tensors = {"model.norm.weight": filled(4), "module.model.norm.weight": filled(4) + 1}
    source = checkpoint(tmp_path / "m", tensors)
    assert [tensor.stored for tensor in source.tensors] == ["model.norm.weight"]
    assert (
        "model.norm.weight is called model.norm.weight too"
        in source.skipped["module.model.norm.weight"]
    )
    assert [fault.tensor for fault in source.faults] == ["module.model.norm.weight"]


def test_a_turned_layer_is_known_by_its_shape_where_there_is_no_configuration(tmp_path):
    tensors = {"h.0.attn.c_attn.weight": filled(4, 12), "h.0.mlp.c_proj.weight": filled(16, 4)}
    source = checkpoint(tmp_path / "m", tensors)
    shapes = {tensor.name: tensor.shape for tensor in source.tensors}
    assert shapes == {f"h.0.attn.c_attn.weight[{part}]": (4, 4) for part in "qkv"} | {
        "h.0.mlp.c_proj.weight": (4, 16)
    }
    key = next(tensor for tensor in source.tensors if tensor.module == "key")
    np.testing.assert_array_equal(
        source.read(key), tensors["h.0.attn.c_attn.weight"][:, 4:8].T.numpy()
    )


@pytest.mark.parametrize("split", [True, False])
def test_what_the_file_holds_the_other_way_round_says_so_and_nothing_else_does(tmp_path, split):
    block = "model.layers.0.mlp.experts.down_proj"
    names = ["h.0.attn.c_attn.weight", "h.0.attn.c_proj.weight", "h.0.ln_1.weight", "wte.weight"]
    gpt2 = dict(zip(names, (filled(4, 12), filled(4, 4), filled(4), filled(9, 4)), strict=True))
    cases = [
        (gpt2, {"model_type": "gpt2"}, set(names[:2])),
        ({"model.layers.0.mlp.up_proj.weight": filled(8, 8)}, {"model_type": "llama"}, set()),
        ({block: filled(3, 8, 4)}, {"model_type": "llama4_text", "hidden_size": 4}, {block}),
        ({block: filled(3, 4, 8)}, {"model_type": "mixtral", "hidden_size": 4}, set()),
    ]
    for number, (tensors, config, expected) in enumerate(cases):
        place = tmp_path / str(number)
        checkpoint(place, tensors, config)
        source = open_weights(place, split=split)
        turned = [t for t in source.tensors if isinstance(t, TurnedTensor)]
        assert {tensor.stored for tensor in turned} == expected
        assert {t.stored for t in source.tensors if t not in turned} == tensors.keys() - expected
        for tensor in turned:
            if not tensor.part_of:
                stored = tensors[tensor.stored].numpy()
                whole = stored if tensor.expert is None else stored[tensor.expert]
                np.testing.assert_array_equal(source.read(tensor), whole.T)


# --- quantised weights -----------------------------------------------------------------------------------------


def test_a_fused_projection_in_float8_comes_apart_with_its_scales(tmp_path):
    numbers, scales = filled(64, 32).to(torch.float8_e4m3fn), torch.rand(64, 1) + 0.5
    name = "model.layers.0.self_attn.qkv_proj.weight"
    config = {"model_type": "phi3", "num_attention_heads": 4, "num_key_value_heads": 2}
    source = checkpoint(tmp_path / "m", {name: numbers, f"{name}_scale": scales}, config)
    assert [(t.module, t.shape) for t in source.tensors] == [
        ("query", (32, 32)), ("key", (16, 32)), ("value", (16, 32)),
    ]  # fmt: skip
    assert {tensor.dtype for tensor in source.tensors} == {"fp8 e4m3"} and not source.skipped
    found = np.concatenate([source.read(tensor) for tensor in source.tensors])
    np.testing.assert_allclose(found, (numbers.float() * scales).numpy(), rtol=1e-6)


def test_float8_without_its_scale_is_skipped_and_not_mistaken_for_weights(tmp_path):
    name = "model.layers.0.self_attn.q_proj.weight"
    source = checkpoint(tmp_path / "m", {name: filled(8, 8).to(torch.float8_e4m3fn)})
    assert source.tensors == () and "without its scale" in source.skipped[name]


@pytest.mark.parametrize(("hidden", "inner"), [(64, 96), (64, 64), (64, 32)])
def test_experts_of_4_bits_are_those_that_transformers_converts(tmp_path, hidden, inner):
    convert = pytest.importorskip("transformers.integrations.mxfp4").convert_moe_packed_tensors
    draws, name, tensors, expected = np.random.default_rng(5), "model.layers.0.mlp.experts.", {}, {}
    for leaf, rows, columns in (("gate_up_proj", 2 * inner, hidden), ("down_proj", hidden, inner)):
        blocks = torch.from_numpy(
            draws.integers(0, 256, (3, rows, columns // 32, 16), dtype=np.uint8)
        )
        scales = torch.from_numpy(
            draws.integers(120, 130, (3, rows, columns // 32), dtype=np.uint8)
        )
        tensors |= {f"{name}{leaf}_blocks": blocks, f"{name}{leaf}_scales": scales}
        expected[leaf] = convert(blocks, scales, dtype=torch.float32).numpy()  # (expert, in, out)
    config = {"model_type": "gpt_oss", "hidden_size": hidden, "num_local_experts": 3}
    source = checkpoint(tmp_path / "m", tensors, config)
    assert len(source.tensors) == 9 and not source.skipped
    for tensor in source.tensors:
        block = expected["down_proj" if tensor.module == "down" else "gate_up_proj"][
            tensor.expert
        ].T
        own = {"gate": block[::2], "up": block[1::2], "down": block}[tensor.module]
        np.testing.assert_array_equal(source.read(tensor), own)
        np.testing.assert_array_equal(source.read(tensor, 3, 17), own[3:17])


# --- what is left out ------------------------------------------------------------------------------------------


def test_what_is_no_weight_is_skipped_with_its_reason(tmp_path):
    tensors = {
        "model.norm.weight": filled(4), "mlp._extra_state": torch.zeros(0, dtype=torch.uint8),
        "embeddings.position_ids": torch.arange(4)[None], "bn.num_batches_tracked": torch.tensor(3),
        "h.0.attn.bias": torch.ones(1, 1, 4, 4).tril(), "h.0.attn.masked_bias": torch.tensor(-1e4),
        "gpt_neox.layers.0.attention.bias": torch.ones(1, 1, 4, 4, dtype=torch.bool),
        "model.rotary_emb.inv_freq": filled(4), "rotations": torch.ones(2, dtype=torch.complex64),
    }  # fmt: skip
    source = checkpoint(tmp_path / "m", tensors)
    assert [tensor.stored for tensor in source.tensors] == ["model.norm.weight"]
    told = {name: reason.partition(": ") for name, reason in source.skipped.items()}
    assert told.pop("rotations")[0] == "the number format C64 is not read", (
        "weights, but not readable"
    )
    assert {what for what, _, _ in told.values()} == {"no weight"}
    assert {name: why.split(" ")[0] for name, (_, _, why) in told.items()} == {
        "mlp._extra_state": "whole", "embeddings.position_ids": "whole", "bn.num_batches_tracked": "whole",
        "h.0.attn.bias": "a", "h.0.attn.masked_bias": "a", "gpt_neox.layers.0.attention.bias": "whole",
        "model.rotary_emb.inv_freq": "frequencies",
    }  # fmt: skip


def test_a_weight_of_no_numbers_was_lost(tmp_path):
    source = checkpoint(tmp_path / "m", {"model.norm.weight": filled(4), "up.weight": filled(0, 4)})
    assert source.skipped == {"up.weight": "it holds no numbers"}, "no `no weight:` before it"


def test_a_checkpoint_without_weights_is_a_fault(tmp_path):
    for name, tensors in (("empty", {}), ("buffers", {"steps": torch.tensor(3)})):
        source = checkpoint(tmp_path / name, tensors)
        (fault,) = source.faults
        assert fault.check == "integrity.unreadable" and "no weights" in fault.message


def test_a_bias_of_attention_is_no_mask(tmp_path):
    source = checkpoint(
        tmp_path / "m", {"h.0.attn.bias": filled(8), "h.0.self_attn.q_proj.bias": filled(8)}
    )
    assert [tensor.module for tensor in source.tensors] == ["bias", "bias"]


def test_every_tensor_of_a_real_checkpoint_is_read_as_torch_reads_it(root):
    folder = root / "suites" / "quickstart" / "models" / "candidate"
    source = open_weights(folder)
    loaded = load_file(folder / "model.safetensors")
    assert source.vocabulary == source.tensors[0].shape[0] == 512
    assert (
        sorted(tensor.stored for tensor in source.tensors) == sorted(loaded) and not source.skipped
    )
    for tensor in source.tensors:
        expected = loaded[tensor.stored].to(torch.float32).numpy()
        np.testing.assert_array_equal(source.read(tensor), expected)


def test_pickled_weights_are_refused_with_advice(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(
        UsageError, match=r"only pickled ones \(pytorch_model\.bin\).*safe_serialization=True"
    ):
        open_weights(tmp_path)


def test_a_folder_without_weights_or_with_an_adapter_alone_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"holds no weights \(\*\.safetensors, \*\.gguf\)"):
        open_weights(tmp_path)
    save_file({"a.lora_A.weight": filled(2, 2)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(UsageError, match="holds no weights"):
        open_weights(tmp_path)


def test_an_index_whose_shards_are_all_missing_is_a_checkpoint_with_faults(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "x.safetensors"}}')
    source = open_weights(tmp_path)
    assert source.tensors == () and [f.message for f in source.faults] == [
        "x.safetensors is missing, with 1 tensors"
    ]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "config.json cannot be read"),
        ("[]", "config.json holds no JSON object"),
        ("\xff", "config.json cannot be read"),
    ],
)
def test_a_damaged_configuration_is_a_fault_and_the_weights_are_read(tmp_path, config, message):
    (tmp_path / "config.json").write_bytes(config.encode("latin-1"))
    source = checkpoint(tmp_path, {"model.norm.weight": filled(4)})
    assert len(source.tensors) == 1 and source.config == {}
    assert message in source.faults[0].message


def test_a_file_that_may_not_be_read_ends_in_advice(tmp_path):
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(RunError, match="cannot be read"):
        open_weights(tmp_path)


# --- ties ------------------------------------------------------------------------------------------------------


def test_a_tied_head_that_is_not_stored_is_named_and_is_no_tensor(tmp_path):
    source = checkpoint(
        tmp_path / "m", {TABLE: filled(9, 4)}, LLAMA | {"tie_word_embeddings": True}
    )
    assert source.tied == {HEAD: TABLE} and [tensor.name for tensor in source.tensors] == [TABLE]


def test_tied_weights_that_are_both_stored_are_both_readable_and_named(tmp_path):
    tensors = {TABLE: filled(9, 4), HEAD: filled(9, 4) + 1}
    source = checkpoint(tmp_path / "m", tensors, LLAMA | {"tie_word_embeddings": True})
    assert source.tied == {HEAD: TABLE}
    by_name = {tensor.name: source.read(tensor) for tensor in source.tensors}
    np.testing.assert_array_equal(by_name[HEAD], by_name[TABLE] + 1)


@pytest.mark.parametrize("said", [{"tie_word_embeddings": False}, {}])
def test_a_head_of_its_own_is_not_tied(tmp_path, said):
    config = {key: value for key, value in LLAMA.items() if key != "tie_word_embeddings"} | said
    source = checkpoint(tmp_path / "m", {TABLE: filled(9, 4), HEAD: filled(9, 4)}, config)
    assert source.tied == {} and source.faults == []


def test_a_configuration_that_says_nothing_and_stores_no_head_is_tied(tmp_path):
    config = {"architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2"}
    assert checkpoint(tmp_path / "m", {TABLE: filled(9, 4)}, config).tied == {HEAD: TABLE}


def test_a_text_models_own_word_on_ties_counts_in_a_model_of_several(tmp_path):
    config = {
        "architectures": ["GemmaForConditionalGeneration"], "tie_word_embeddings": True,
        "text_config": {"tie_word_embeddings": False},
    }  # fmt: skip
    assert checkpoint(tmp_path / "m", {TABLE: filled(9, 4), HEAD: filled(9, 4)}, config).tied == {}


def test_an_encoder_without_a_head_has_none_that_is_tied(tmp_path):
    config = {"architectures": ["BertModel"], "model_type": "bert", "tie_word_embeddings": True}
    source = checkpoint(tmp_path / "m", {"embeddings.word_embeddings.weight": filled(9, 4)}, config)
    assert (source.tied, source.faults) == ({}, [])


def test_a_classifiers_head_is_no_copy_of_the_embedding(tmp_path):
    config = LLAMA | {
        "architectures": ["LlamaForSequenceClassification"],
        "tie_word_embeddings": True,
    }
    source = checkpoint(tmp_path / "m", {TABLE: filled(9, 4), "score.weight": filled(2, 4)}, config)
    assert source.tied == {}


def test_stacks_that_repeat_a_shared_table_are_tied_to_it(tmp_path):
    names = ["shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", HEAD]
    config = {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "tie_word_embeddings": False,
    }
    source = checkpoint(tmp_path / "m", {name: filled(9, 4) for name in names}, config)
    assert source.tied == dict.fromkeys(names[1:3], "shared.weight")


def test_a_head_that_is_asked_for_and_not_stored_is_a_fault(tmp_path):
    source = checkpoint(tmp_path / "m", {TABLE: filled(9, 4)}, LLAMA)
    assert [fault.message for fault in source.faults] == [
        "config.json says the output head is no copy of the embedding, but no head is stored"
    ]


def test_a_head_in_a_shard_that_is_missing_is_lost_with_the_shard_alone(tmp_path):
    index = {"weight_map": {TABLE: "a.safetensors", HEAD: "b.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    source = checkpoint(tmp_path, {TABLE: filled(9, 4)}, LLAMA, name="a.safetensors")
    assert [fault.message for fault in source.faults] == [
        "b.safetensors is missing, with 1 tensors"
    ]


# --- memory and time -------------------------------------------------------------------------------------------

PASS = """
import re, sys, threading, time
from pathlib import Path
from evalkit.loaders.weights import open_weights

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

peak, done = 0, threading.Event()
def watch():
    global peak
    while not done.wait(0.005):
        peak = max(peak, anonymous())
watcher = threading.Thread(target=watch)
watcher.start()
numbers = 0
source = open_weights(Path(sys.argv[1]))
assert not source.faults and not source.skipped
for tensor in source.tensors:
    rows = max((1 << 20) // (tensor.count // tensor.shape[0]), 1)
    for start in range(0, tensor.shape[0], rows):
        block = source.read(tensor, start, start + rows)
        numbers += block.size
        assert block[0, 0] == 0.5 and block[-1, -1] == 0.5
done.set(); watcher.join()
print(numbers, peak)
"""


def big_checkpoint(folder, size_bytes):
    """Write shards of one block each, every number 0.5 in bfloat16, without holding one in memory."""
    rows, columns = 16384, 8192
    layers = size_bytes // (rows * columns * 2)
    index = {}
    for layer in range(layers):
        name, shard = (
            f"model.layers.{layer}.mlp.up_proj.weight",
            f"model-{layer + 1:05}-of-{layers:05}.safetensors",
        )
        entry = {"dtype": "BF16", "shape": [rows, columns], "data_offsets": [0, rows * columns * 2]}
        header = json.dumps({name: entry}).encode()
        with (folder / shard).open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            for _ in range(rows * columns * 2 >> 20):
                file.write(b"\x00\x3f" * (1 << 19))
        index[name] = shard
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return layers * rows * columns


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted by Linux")
def test_a_pass_over_four_gigabytes_stays_below_one_of_anonymous_memory(tmp_path):
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    if free < 10e9:
        pytest.skip("less than 10 GB are free")
    numbers = big_checkpoint(tmp_path, 4 << 30)
    try:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(PASS), str(tmp_path)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    finally:
        for file in tmp_path.iterdir():
            file.unlink()
    read, peak = map(int, done.stdout.split())
    assert read == numbers == 2 << 30
    assert peak < 1 << 30, f"{peak / 1e6:.0f} MB"
