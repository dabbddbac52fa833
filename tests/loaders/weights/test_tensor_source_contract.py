"""The laws of ``ports.TensorSource``, over every implementation of it and each kind of storage."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from evalkit.loaders.weights import adapted, open_adapter, open_weights
from evalkit.records.weights import StructureFault, Tensor

HIDDEN = 32


def numbers(*shape):
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def llama(folder, **more):
    tensors = {
        "model.embed_tokens.weight": numbers(40, HIDDEN), "model.norm.weight": numbers(HIDDEN),
        "model.layers.0.self_attn.q_proj.weight": numbers(HIDDEN, HIDDEN), "model.logit_scale": numbers(),
    }  # fmt: skip
    write(
        folder, tensors | more, {"architectures": ["LlamaForCausalLM"], "tie_word_embeddings": True}
    )


def write(folder, tensors, config):
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))


def plain(folder):
    llama(folder)
    return open_weights(folder)


def both_stored(folder):
    llama(folder, **{"lm_head.weight": numbers(40, HIDDEN)})
    return open_weights(folder)


def turned(folder):
    tensors = {
        "h.0.attn.c_attn.weight": numbers(HIDDEN, 3 * HIDDEN),
        "h.0.mlp.c_fc.weight": numbers(HIDDEN, 50),
    }
    write(folder, tensors, {"model_type": "gpt2", "n_head": 4})
    return open_weights(folder)


def interleaved(folder):
    tensors = {"h.0.self_attention.query_key_value.weight": numbers(3 * HIDDEN, HIDDEN)}
    write(folder, tensors, {"model_type": "bloom", "n_head": 4})
    return open_weights(folder)


def experts(folder):
    name = "model.layers.0.mlp.experts."
    tensors = {
        f"{name}gate_up_proj": numbers(3, HIDDEN, 48),
        f"{name}down_proj": numbers(3, 24, HIDDEN),
    }
    write(folder, tensors, {"model_type": "gpt_oss", "hidden_size": HIDDEN})
    return open_weights(folder)


def quantised(folder):
    name = "model.layers.0.self_attn.q_proj.weight"
    stored = np.random.default_rng(0).integers(-127, 128, (HIDDEN, HIDDEN), dtype=np.int8)
    llama(folder, **{name: stored, f"{name}_scale": np.abs(numbers(HIDDEN, 1))})
    return open_weights(folder)


def nothing_whole(folder):
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"\0" * 9)
    return open_weights(folder)


def gguf_model(folder):
    gguf = pytest.importorskip("gguf")
    folder.mkdir()
    writer = gguf.GGUFWriter(folder / "model.gguf", "llama")
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_head_count(4)
    for name, shape in {
        "token_embd.weight": (40, HIDDEN), "blk.0.attn_q.weight": (HIDDEN, HIDDEN), "output_norm.weight": (HIDDEN,),
        "blk.0.ffn_down_exps.weight": (3, HIDDEN, HIDDEN),
    }.items():  # fmt: skip
        writer.add_tensor(name, numbers(*shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return open_weights(folder)


def with_adapter(folder):
    llama(folder)
    adapter = folder / "adapter"
    adapter.mkdir()
    name = "base_model.model.model.layers.0.self_attn.q_proj."
    save_file(
        {f"{name}lora_A.weight": numbers(4, HIDDEN), f"{name}lora_B.weight": numbers(HIDDEN, 4)},
        adapter / "adapter_model.safetensors",
    )
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    return adapted(open_weights(folder), open_adapter(adapter))


SOURCES = {
    make.__name__: make
    for make in (
        plain, both_stored, turned, interleaved, experts, quantised, nothing_whole, gguf_model, with_adapter,
    )
}  # fmt: skip


@pytest.fixture(scope="module", params=SOURCES)
def source(request, tmp_path_factory):
    return SOURCES[request.param](tmp_path_factory.mktemp("source") / "model")


def test_what_a_source_says_of_itself_has_the_right_kinds(source):
    assert source.name and isinstance(source.name, str)
    assert isinstance(source.config, Mapping) and isinstance(source.tied, Mapping)
    assert source.vocabulary is None or source.vocabulary > 0
    assert all(isinstance(fault, StructureFault) and fault.message for fault in source.faults)
    assert all(name and reason for name, reason in source.skipped.items())
    assert all(isinstance(tensor, Tensor) for tensor in source.tensors)


def test_names_are_unique_and_nothing_is_both_read_and_skipped(source):
    names = [tensor.name for tensor in source.tensors]
    assert len(names) == len(set(names))
    assert not {tensor.stored for tensor in source.tensors} & set(source.skipped)
    assert names or source.faults


def test_tied_names_lead_to_tensors_that_can_be_read(source):
    names = {tensor.name for tensor in source.tensors}
    assert set(source.tied.values()) <= names
    assert not any(name == other for name, other in source.tied.items())


def test_parts_of_one_tensor_have_its_columns_and_one_stored_name(source):
    parts = {}
    for tensor in source.tensors:
        if tensor.part_of:
            parts.setdefault(tensor.part_of, []).append(tensor)
    for own in parts.values():
        assert len(own) > 1
        assert len({(part.stored, part.shape[1:], part.dtype) for part in own}) == 1


def test_a_tensor_is_read_as_float32_of_its_shape_and_the_same_each_time(source):
    for tensor in source.tensors:
        found = source.read(tensor)
        assert (
            found.shape == tensor.shape and found.dtype == np.float32 and found.flags.c_contiguous
        )
        again = source.read(tensor)
        assert np.array_equal(found, again)
        again[...] = 7.0
        assert np.array_equal(source.read(tensor), found), "what was read belongs to the reader"


@given(data=st.data())
def test_rows_are_those_of_the_whole_tensor_wherever_a_block_begins_and_ends(source, data):
    if not source.tensors:
        return
    tensor = data.draw(st.sampled_from([t for t in source.tensors if t.shape]))
    rows = tensor.shape[0]
    start = data.draw(st.integers(0, rows))
    stop = data.draw(st.integers(start, rows + 2))
    block = source.read(tensor, start, stop)
    assert block.shape == (min(stop, rows) - start, *tensor.shape[1:])
    np.testing.assert_allclose(block, source.read(tensor)[start:stop], rtol=1e-5, atol=1e-6)
    assert block.dtype == np.float32 and block.flags.c_contiguous
