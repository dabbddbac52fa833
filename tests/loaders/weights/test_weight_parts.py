"""Whether split projections are what a model computes with: tiny models of ``transformers`` are saved, read and run.

The truth is the model: its queries, keys and values as they reach attention (one token, so that rotary positions turn
nothing), and the outputs of its feed-forward layers and experts, computed again from the matrices that were read.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.loaders.weights import open_weights
from evalkit.loaders.weights.parts import (
    Rows,
    experts_turned,
    fused_parts,
    scope,
    with_known_types,
)

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")
transformers = pytest.importorskip("transformers")

TOKENS = {"vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GPT = TOKENS | {"n_embd": 32, "n_layer": 1, "n_head": 4, "n_positions": 32}
HEADS = TOKENS | {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4,
    "max_position_embeddings": 32,
}  # fmt: skip
SHARED = HEADS | {"num_key_value_heads": 2}


@pytest.fixture
def saved(tmp_path):
    """Return a function from a configuration to a model of it without biases, and its weights as they are read back."""

    def save(name, *, split=True, original=True, **options):
        torch.manual_seed(1)
        config = getattr(transformers, f"{name}Config")(**options)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            for parameter, numbers in model.named_parameters():
                numbers.zero_() if parameter.endswith("bias") else numbers.normal_(std=0.2)
        model.save_pretrained(tmp_path / "model", save_original_format=original)
        source = open_weights(tmp_path / "model", split=split)
        assert not source.faults
        return model, source

    return save


def matrix(source, ending):
    found = [tensor for tensor in source.tensors if tensor.name.endswith(ending)]
    assert len(found) == 1, (ending, [tensor.name for tensor in source.tensors])
    return source.read(found[0])


def close(found, expected):
    np.testing.assert_allclose(found, np.asarray(expected).reshape(-1), rtol=2e-4, atol=2e-5)


def module_called(model, ending):
    return next(module for name, module in model.named_modules() if name.endswith(ending))


def input_of(model, ending):
    """Return what reaches a module when the model reads one token."""
    inputs = []
    hook = module_called(model, ending).register_forward_pre_hook(
        lambda _, args: inputs.append(args[0])
    )
    with torch.no_grad():
        model(input_ids=torch.tensor([[5]]))
    hook.remove()
    return inputs[0].reshape(-1).numpy()


def results_of(model, method):
    """Return what a method of the model's attention gives when the model reads one token."""
    module = next(module for module in model.modules() if hasattr(module, method))
    plain, results = getattr(module, method), []
    setattr(module, method, lambda *args: results.append(plain(*args)) or results[-1])
    with torch.no_grad():
        model(input_ids=torch.tensor([[5]]))
    return results[0]


def states_of(model, **more):
    """Return queries, keys and values as they reach attention when the model reads one token, (1, heads, 1, length)."""
    seen = []

    def watch(module, query, key, value, *args, **kwargs):
        seen.append((query, key, value))
        repeated = value.repeat_interleave(query.shape[1] // value.shape[1], dim=1)
        return repeated.transpose(1, 2), None

    transformers.AttentionInterface.register("watch", watch)
    model.set_attn_implementation("watch")
    with torch.no_grad():
        model(input_ids=torch.tensor([[5]]), **more)
    return seen[-1]


# --- attention -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "fused"),
    [
        ("GPT2", GPT, "c_attn"),
        ("GPTBigCode", GPT | {"multi_query": True}, "c_attn"),
        ("GPTBigCode", GPT | {"multi_query": False}, "c_attn"),
        ("GPTNeoX", HEADS, "query_key_value"),
        ("Persimmon", HEADS | {"qk_layernorm": False}, "query_key_value"),
        ("Phi3", SHARED, "qkv_proj"),
    ],
)
def test_split_queries_keys_and_values_are_those_that_reach_attention(saved, name, options, fused):
    model, source = saved(name, **options)
    vector = input_of(model, fused)
    for label, state in zip("qkv", states_of(model), strict=True):
        close(matrix(source, f".{fused}.weight[{label}]") @ vector, state)


@pytest.mark.parametrize(
    ("name", "options", "method"),
    [
        ("Bloom", GPT | {"hidden_size": 32}, "_reshape"),
        ("Falcon", HEADS | {"new_decoder_architecture": True, "num_kv_heads": 2}, "_split_heads"),
        ("Falcon", HEADS | {"multi_query": True, "new_decoder_architecture": False}, "_split_heads"),
        ("Falcon", HEADS | {"multi_query": False, "new_decoder_architecture": False}, "_split_heads"),
    ],
)  # fmt: skip
def test_split_queries_keys_and_values_are_those_of_the_models_own_split(
    saved, name, options, method
):
    model, source = saved(name, **options)
    vector = input_of(model, "query_key_value")
    for label, state in zip("qkv", results_of(model, method), strict=True):
        found = matrix(source, f".query_key_value.weight[{label}]") @ vector
        heads = state.reshape(4 if state.numel() == 32 else -1, 8)
        # Falcon repeats a key for all queries that share it
        close(found, heads[:: 32 // found.size] if found.size < state.numel() else heads)


def test_codegens_four_shares_come_apart_in_its_own_order(saved):
    model, source = saved("CodeGen", **GPT, rotary_dim=4)
    attention = module_called(model, ".attn")
    seen = []
    plain = attention._attn
    attention._attn = lambda query, key, value, *rest: (
        seen.append((query, key, value)) or plain(query, key, value, *rest)
    )
    vector = input_of(model, "qkv_proj")
    for label, state in zip("qkv", seen[0], strict=True):
        close(matrix(source, f".qkv_proj.weight[{label}]") @ vector, state)


def test_deepseeks_latent_vector_becomes_keys_and_values_head_by_head(saved):
    latent = {
        "q_lora_rank": None, "kv_lora_rank": 16, "qk_nope_head_dim": 6, "qk_rope_head_dim": 4, "v_head_dim": 5,
        "first_k_dense_replace": 1,
    }  # fmt: skip
    model, source = saved("DeepseekV3", **HEADS | {"num_key_value_heads": 4}, **latent)
    vector = input_of(model, "kv_b_proj")
    _, key, value = states_of(model)
    close(matrix(source, ".kv_b_proj.weight[k]") @ vector, key[..., :6])
    close(matrix(source, ".kv_b_proj.weight[v]") @ vector, value[..., :5])


def test_qwen3_nexts_delta_rule_comes_apart_key_head_by_key_head(saved):
    rule = {
        "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 6, "linear_value_head_dim": 5,
        "layer_types": ["linear_attention", "full_attention"], "num_hidden_layers": 2, "head_dim": 8,
        "num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
    }  # fmt: skip
    model, source = saved("Qwen3Next", **SHARED | rule)
    vector = input_of(model, "in_proj_qkvz")
    found = results_of(model, "fix_query_key_value_ordering")
    for label, state in zip("qkvz", found, strict=False):
        close(matrix(source, f".in_proj_qkvz.weight[{label}]") @ vector, state)


def test_keys_and_values_of_attention_to_another_sequence_come_apart(saved):
    model, source = saved("GPT2", **GPT, add_cross_attention=True)
    other = torch.randn(1, 1, 32)
    _, key, value = states_of(model, encoder_hidden_states=other)
    for label, state in zip("kv", (key, value), strict=True):
        found = (
            matrix(source, f".crossattention.c_attn.weight[{label}]") @ other.reshape(-1).numpy()
        )
        close(found, state)


# --- feed-forward layers and experts ---------------------------------------------------------------------------

EXPERTS = {"num_local_experts": 3, "num_experts_per_tok": 1}


def test_split_gate_and_up_give_the_output_of_the_models_feed_forward_layer(saved):
    model, source = saved("Phi3", **SHARED)
    mlp, vector = module_called(model, ".mlp"), torch.randn(32)
    gate, up = (matrix(source, f".gate_up_proj.weight[{part}]") for part in ("gate", "up"))
    between = torch.nn.functional.silu(torch.from_numpy(gate) @ vector).numpy() * (
        up @ vector.numpy()
    )
    close(matrix(source, ".down_proj.weight") @ between, mlp(vector).detach())


def swiglu(gate, up):
    return torch.nn.functional.silu(gate) * up


def clipped_swiglu(gate, up):  # GPT-OSS: within its limits of 7
    return (up + 1) * gate * torch.sigmoid(gate * 1.702)


def one_experts_output(model, number, vector):
    experts = module_called(model, ".experts")
    with torch.no_grad():
        if hasattr(experts, "expert_dim"):  # Llama 4 gives each expert its own vectors
            return experts(vector.repeat(3, 1))[number]
        return experts(vector[None], torch.tensor([[number]]), torch.ones(1, 1))


MOE = SHARED | EXPERTS | {"head_dim": 8}
MIXTURES = {
    "each expert apart": ("Mixtral", MOE, True),
    "each expert apart, other names": ("Qwen3Moe", MOE | {"num_experts": 3, "moe_intermediate_size": 16}, True),
    "a block of experts": ("Mixtral", MOE, False),
    "a block of narrow experts": ("Qwen3Moe", MOE | {"num_experts": 3, "moe_intermediate_size": 16}, False),
    "a block whose gate and up are square": ("Mixtral", MOE | {"intermediate_size": 16}, False),
    "a block whose down is square": ("Mixtral", MOE | {"intermediate_size": 32}, False),
    "a block under older names": ("GraniteMoe", MOE, True),
    "a turned block of alternating rows": ("GptOss", MOE, True),
    "a turned block whose gate and up are square": ("GptOss", MOE | {"intermediate_size": 16}, True),
    "a turned block whose down is square": ("GptOss", MOE | {"intermediate_size": 32}, True),
    "a turned block of halves": ("Llama4Text", MOE | {"interleave_moe_layer_step": 1}, True),
}  # fmt: skip


@pytest.mark.parametrize("storage", MIXTURES)
def test_each_expert_that_is_read_computes_what_the_models_expert_does(saved, storage):
    name, options, original = MIXTURES[storage]
    model, source = saved(name, original=original, **options)
    act = clipped_swiglu if name == "GptOss" else swiglu
    for number in range(3):
        own = {t.module: t for t in source.tensors if t.expert == number}
        assert sorted(own) == ["down", "gate", "up"]
        gate, up, down = (torch.from_numpy(source.read(own[m])) for m in ("gate", "up", "down"))
        vector = torch.randn(32)
        output = one_experts_output(model, number, vector)
        close(down @ act(gate @ vector, up @ vector), output.detach())


def test_every_row_of_alternating_ones_is_read_however_they_are_asked_for(saved):
    _, source = saved("GptOss", **MOE | {"intermediate_size": 600})
    tensor = next(t for t in source.tensors if t.name.endswith("gate_up_proj[1][up]"))
    whole = source.read(tensor)
    parts = [source.read(tensor, 0, 1), source.read(tensor, 1, 280), source.read(tensor, 280)]
    assert whole.shape == (600, 32) and np.array_equal(np.concatenate(parts), whole)


# --- what stays whole ------------------------------------------------------------------------------------------


def test_without_splitting_fused_matrices_stay_whole_and_turned_ones_are_turned(saved):
    model, source = saved("GPT2", **GPT, split=False)
    assert not [tensor for tensor in source.tensors if tensor.part_of]
    stored = module_called(model, ".c_attn").weight.detach().numpy()
    assert np.array_equal(matrix(source, ".c_attn.weight"), stored.T)


def test_parts_together_are_the_whole_matrix(saved):
    _, parts = saved("Bloom", **GPT | {"hidden_size": 32})
    _, whole = saved("Bloom", **GPT | {"hidden_size": 32}, split=False)
    found = [parts.read(t) for t in parts.tensors if t.part_of.endswith("query_key_value.weight")]
    assert len(found) == 3
    everything = np.sort(np.concatenate(found), axis=0)
    assert np.array_equal(everything, np.sort(matrix(whole, "query_key_value.weight"), axis=0))


def labels(name, module, shape, **config):
    return [part.label for part in fused_parts(name, module, shape, config)]


@pytest.mark.parametrize(
    ("name", "shape", "config"),
    [
        ("a.query_key_value.weight", (96, 32), {"model_type": "unheard_of", "num_attention_heads": 4}),
        ("a.query_key_value.weight", (96, 32), {}),
        ("a.query_key_value.weight", (96, 32), {"model_type": "bloom"}),
        ("a.qkv_proj.weight", (95, 32), {"num_attention_heads": 4}),
        ("a.kv_b_proj.weight", (44, 16), {"num_attention_heads": 4}),
        ("a.in_proj_qkvz.weight", (44, 16), {}),
        ("a.in_proj_qkv.weight", (44, 16), {"linear_num_key_heads": 2}),
    ],
)  # fmt: skip
def test_a_fused_projection_that_no_rule_fits_stays_whole(name, shape, config):
    assert labels(name, "qkv", shape, **config) == []


def test_a_gate_and_up_that_is_no_pair_or_in_no_known_order_stays_whole():
    assert labels("a.gate_up_proj.weight", "gate_up", (7, 4)) == []
    assert labels("a.experts.w13_weight", "gate_up", (8, 4)) == []


@pytest.mark.parametrize("leaf", ["W_pack", "Wqkv", "qkv", "qkv_proj", "in_proj_weight"])
def test_thirds_are_taken_where_no_heads_are_stated(leaf):
    assert labels(f"blocks.0.attn.{leaf}", "qkv", (96, 32)) == ["q", "k", "v"]


def test_heads_of_a_model_of_several_towers_are_those_of_the_tensors_own_tower():
    text = {"num_attention_heads": 4, "num_key_value_heads": 2}
    config = {"model_type": "both", "text_config": text, "vision_config": {"num_heads": 2}}
    text_name, vision_name = (
        "model.layers.0.self_attn.qkv_proj.weight",
        "visual.blocks.0.attn.qkv.weight",
    )
    parts = fused_parts(text_name, "qkv", (64, 32), scope(config, text_name))
    assert [part.rows.count for part in parts] == [32, 16, 16]
    parts = fused_parts(vision_name, "qkv", (96, 32), scope(config, vision_name))
    assert [part.rows.count for part in parts] == [32, 32, 32]
    assert scope({"text_config": text}, vision_name) == {}


def test_an_architecture_that_is_no_text_is_a_fault_and_the_rest_is_read(tmp_path):
    name = "model.layers.0.self_attn.qkv_proj.weight"
    safetensors.save_file({name: torch.ones(96, 32)}, tmp_path / "model.safetensors")
    odd = {"model_type": ["llama"], "text_config": {"model_type": {}, "num_attention_heads": 4}}
    (tmp_path / "config.json").write_text(json.dumps(odd))
    source = open_weights(tmp_path)
    assert [fault.message for fault in source.faults] == [
        "config.json: model_type is no text",
        "config.json: text_config.model_type is no text",
    ]
    assert [tensor.shape for tensor in source.tensors] == [(32, 32)] * 3


@pytest.mark.parametrize("config", [{}, {"model_type": None}, {"text_config": {"a": 1}}])
def test_a_configuration_without_an_architecture_is_left_alone(config):
    assert with_known_types(config) == (config, [])


# --- architectures whose code comes with their weights ---------------------------------------------------------


def rows_of(parts, label):
    rows = next(part.rows for part in parts if part.label == label)
    return [row for begin, end in rows.runs(0, rows.count) for row in range(begin, end)]


def test_internlm2_fuses_key_by_key():
    """Its code: rearrange(qkv, "b q (h gs d) -> b q h gs d", gs=2 + groups); queries are [..., :groups, :]."""
    grid = np.arange(64).reshape(2, 4, 8)  # 2 keys, each with 2 queries, of length 8
    config = {"model_type": "internlm2", "num_attention_heads": 4, "num_key_value_heads": 2}
    parts = fused_parts("model.layers.0.attention.wqkv.weight", "qkv", (64, 32), config)
    assert rows_of(parts, "q") == grid[:, :2].ravel().tolist()
    assert rows_of(parts, "k") == grid[:, -2].ravel().tolist()
    assert rows_of(parts, "v") == grid[:, -1].ravel().tolist()


def test_chatglm_fuses_in_one_group_where_keys_are_shared_and_head_by_head_where_not():
    """Its code: split([heads * d, groups * d, groups * d]) with multi_query_attention, else view(heads, 3 * d)."""
    name = "transformer.encoder.layers.0.self_attention.query_key_value.weight"
    config = {"model_type": "chatglm", "num_attention_heads": 4, "kv_channels": 8}
    shared = config | {"multi_query_attention": True, "multi_query_group_num": 2}
    parts = fused_parts(name, "qkv", (64, 32), shared)
    assert [rows_of(parts, label) for label in "qkv"] == [
        list(range(32)), list(range(32, 48)), list(range(48, 64)),
    ]  # fmt: skip
    grid = np.arange(96).reshape(4, 3, 8)
    apart = config | {"multi_query_attention": False, "multi_query_group_num": 2}
    parts = fused_parts(name, "qkv", (96, 32), apart)
    assert [rows_of(parts, label) for label in "qkv"] == [
        grid[:, i].ravel().tolist() for i in range(3)
    ]
    halves = fused_parts(
        "transformer.encoder.layers.0.mlp.dense_h_to_4h.weight", "up", (6, 4), config
    )
    assert [rows_of(halves, label) for label in ("gate", "up")] == [[0, 1, 2], [3, 4, 5]]


# --- rows and blocks -------------------------------------------------------------------------------------------


@given(st.data())
def test_runs_are_the_rows_that_an_array_of_groups_would_give(data):
    groups, length, before, after = (data.draw(st.integers(low, 6)) for low in (1, 1, 0, 0))
    stride = before + length + after
    expected = (
        np.arange(groups * stride).reshape(groups, stride)[:, before : before + length].ravel()
    )
    rows = Rows(before, length, stride, groups * length)
    start = data.draw(st.integers(0, rows.count))
    stop = data.draw(st.integers(start, rows.count))
    found = [row for begin, end in rows.runs(start, stop) for row in range(begin, end)]
    assert found == expected[start:stop].tolist()


def test_a_kernel_of_three_axes_is_no_block_of_experts():
    assert (
        experts_turned("encoder.layers.0.fc1.weight", "up", (64, 32, 3), {"num_experts": 8}) is None
    )
    assert experts_turned("encoder.conv1.weight", "conv", (8, 32, 3), {"num_experts": 8}) is None
