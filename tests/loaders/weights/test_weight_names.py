"""What names say, against what ``transformers`` builds under these names."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.loaders.weights.names import (
    canonical_name,
    depth_of,
    expert_of,
    form_of,
    module_of,
    natural_key,
)

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize(
    "stored",
    [
        "model.layers.3.mlp.up_proj.weight",
        "base_model.model.model.layers.3.mlp.up_proj.weight",
        "base_model.model.model.layers.3.mlp.up_proj.base_layer.weight",
        "module.model.layers.3.mlp.up_proj.weight",
        "_orig_mod.model.layers.3.mlp.up_proj.weight",
        "module._orig_mod.model.layers.3._orig_mod.mlp.up_proj.weight",
        "module.base_model.model.model.layers.3.mlp.up_proj.weight",
        "_orig_mod.module.model.layers.3.mlp.up_proj.weight",
        "model._fsdp_wrapped_module.layers.3._checkpoint_wrapped_module.mlp.up_proj.weight",
    ],
)
def test_what_wrappers_put_into_a_name_is_removed(stored):
    assert canonical_name(stored) == "model.layers.3.mlp.up_proj.weight"


@pytest.mark.parametrize(
    "name", ["transformer.wte.weight", "bert.pooler.dense.bias", "vision.module.weight"]
)
def test_a_models_own_prefix_stays(name):
    assert canonical_name(name) == name


@pytest.mark.parametrize(
    ("name", "depth"),
    [
        ("model.layers.12.mlp.up_proj.weight", 12),
        ("h.0.attn.c_attn.weight", 0),
        ("bert.encoder.layer.7.output.dense.weight", 7),
        ("decoder.block.5.layer.1.EncDecAttention.q.weight", 5),
        ("model.layers.3.mlp.experts.14.w1.weight", 3),
        ("model.embed_tokens.weight", None),
        ("mlp.experts.3.w1.weight", None),
        ("layer1.0.conv1.weight", None),
        ("lm_head.weight", None),
    ],
)
def test_depth_is_the_number_of_the_block(name, depth):
    assert depth_of(name) == depth


def test_an_experts_number_is_read_from_its_name():
    assert expert_of("model.layers.3.mlp.experts.14.w1.weight") == 14
    assert expert_of("model.layers.3.mlp.shared_experts.w1.weight") is None
    assert expert_of("model.layers.3.mlp.experts.gate_up_proj") is None


@given(st.lists(st.integers(0, 300), unique=True))
def test_names_sort_by_the_numbers_in_them(numbers):
    names = [f"model.layers.{number}.mlp.weight" for number in numbers]
    found = sorted(names, key=natural_key)
    assert found == [f"model.layers.{number}.mlp.weight" for number in sorted(numbers)]


@given(st.lists(st.text("ab.1_2", max_size=6)))
def test_any_names_can_be_sorted(names):
    assert sorted(sorted(names, key=natural_key)) == sorted(names)


# --- what a tensor does ----------------------------------------------------------------------------------------

FAMILIES = {
    "llama": {
        "model.embed_tokens.weight": "embedding", "model.layers.0.self_attn.q_proj.weight": "query",
        "model.layers.0.self_attn.k_proj.weight": "key", "model.layers.0.self_attn.v_proj.weight": "value",
        "model.layers.0.self_attn.o_proj.weight": "output", "model.layers.0.mlp.gate_proj.weight": "gate",
        "model.layers.0.mlp.up_proj.weight": "up", "model.layers.0.mlp.down_proj.weight": "down",
        "model.layers.0.input_layernorm.weight": "norm", "model.norm.weight": "norm", "lm_head.weight": "head",
        "model.layers.0.self_attn.q_proj.bias": "bias", "model.layers.0.self_attn.q_norm.weight": "norm",
    },
    "gpt2": {
        "transformer.wte.weight": "embedding", "wpe.weight": "position", "h.0.ln_1.weight": "norm",
        "h.0.ln_1.bias": "norm", "h.0.attn.c_attn.weight": "qkv", "h.0.attn.c_proj.weight": "output",
        "h.0.mlp.c_fc.weight": "up", "h.0.mlp.c_proj.weight": "down", "h.0.mlp.c_proj.bias": "bias",
        "h.0.crossattention.c_attn.weight": "qkv", "h.0.crossattention.q_attn.weight": "query",
    },
    "gpt_neox": {
        "gpt_neox.embed_in.weight": "embedding", "gpt_neox.layers.0.attention.query_key_value.weight": "qkv",
        "gpt_neox.layers.0.attention.dense.weight": "output", "embed_out.weight": "head",
        "gpt_neox.layers.0.mlp.dense_h_to_4h.weight": "up", "gpt_neox.layers.0.mlp.dense_4h_to_h.weight": "down",
    },
    "falcon": {
        "transformer.word_embeddings.weight": "embedding", "transformer.h.0.self_attention.dense.weight": "output",
        "transformer.h.0.ln_attn.weight": "norm",
    },
    "opt": {
        "model.decoder.embed_positions.weight": "position",
        "model.decoder.layers.0.self_attn.out_proj.weight": "output",
        "model.decoder.layers.0.fc1.weight": "up", "model.decoder.layers.0.fc2.weight": "down",
    },
    "bert": {
        "embeddings.word_embeddings.weight": "embedding", "embeddings.position_embeddings.weight": "position",
        "embeddings.token_type_embeddings.weight": "other", "embeddings.LayerNorm.weight": "norm",
        "encoder.layer.0.attention.self.query.weight": "query", "encoder.layer.0.attention.self.key.weight": "key",
        "encoder.layer.0.attention.self.value.weight": "value",
        "encoder.layer.0.attention.output.dense.weight": "output", "encoder.layer.0.output.LayerNorm.bias": "norm",
        "encoder.layer.0.intermediate.dense.weight": "up", "encoder.layer.0.output.dense.weight": "down",
        "pooler.dense.weight": "pooler", "cls.predictions.decoder.weight": "head", "classifier.weight": "head",
    },
    "t5": {
        "shared.weight": "embedding", "encoder.block.0.layer.0.SelfAttention.q.weight": "query",
        "decoder.block.0.layer.1.EncDecAttention.o.weight": "output",
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": "position",
        "encoder.block.0.layer.1.DenseReluDense.wi_0.weight": "gate",
        "encoder.block.0.layer.1.DenseReluDense.wi_1.weight": "up",
        "encoder.block.0.layer.1.DenseReluDense.wo.weight": "down",
        "encoder.block.0.layer.1.DenseReluDense.wi.weight": "up",
    },
    "modernbert": {
        "model.layers.0.attn.Wqkv.weight": "qkv", "model.layers.0.attn.Wo.weight": "output",
        "model.layers.0.mlp.Wi.weight": "gate_up", "model.layers.0.mlp.Wo.weight": "down",
    },
    "mixtral": {
        "model.layers.0.block_sparse_moe.gate.weight": "router",
        "model.layers.0.block_sparse_moe.experts.1.w1.weight": "gate",
        "model.layers.0.block_sparse_moe.experts.1.w2.weight": "down",
        "model.layers.0.block_sparse_moe.experts.1.w3.weight": "up",
    },
    "gpt_oss": {
        "model.layers.0.mlp.router.weight": "router", "model.layers.0.mlp.experts.gate_up_proj": "gate_up",
        "model.layers.0.mlp.experts.gate_up_proj_bias": "bias", "model.layers.0.self_attn.sinks": "other",
    },
    "deepseek_v3": {
        "model.layers.0.mlp.gate.weight": "router", "model.layers.0.mlp.gate.e_score_correction_bias": "bias",
        "model.layers.0.mlp.shared_experts.gate_proj.weight": "gate",
        "model.layers.0.self_attn.q_b_proj.weight": "query",
        "model.layers.0.self_attn.kv_a_layernorm.weight": "norm",
    },
    "qwen": {
        "transformer.h.0.attn.c_attn.weight": "qkv", "transformer.h.0.mlp.w1.weight": "up",
        "transformer.h.0.mlp.w2.weight": "gate", "transformer.h.0.mlp.c_proj.weight": "down",
    },
    "internlm2": {
        "model.tok_embeddings.weight": "embedding", "model.layers.0.attention.wqkv.weight": "qkv",
        "model.layers.0.attention.wo.weight": "output", "model.layers.0.feed_forward.w2.weight": "down",
        "output.weight": "head",
    },
    "qwen2_vl": {"visual.blocks.0.attn.qkv.weight": "qkv", "visual.blocks.0.attn.proj.weight": "output"},
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_tensor_does_is_read_from_its_name(family):
    expected = FAMILIES[family]
    assert {name: module_of(name, (8, 8), family) for name in expected} == expected


ARCHITECTURES = (
    "Llama Qwen3 Gemma2 Phi3 GPT2 GPTNeoX Falcon Bloom OPT Mixtral Qwen3Moe DeepseekV3 Mpt GPTJ Cohere Olmo2 Bert "
    "Roberta DistilBert T5 Bart ModernBert Electra Mamba ViT"
)
NOT_BLOCKS = re.compile(
    r"token_type|embeddings_project|cls\.predictions|lm_head\.dense|vocab_transform|^head\.|generator_predictions"
    r"|mixer|kv_a_proj"
)
"""Linear layers before, after and beside the blocks, and state-space mixers."""


@pytest.mark.parametrize("name", ARCHITECTURES.split())
def test_forms_and_modules_fit_what_the_library_builds_under_these_names(name):
    config = getattr(transformers, f"{name}Config")()
    for key in ("num_hidden_layers", "n_layer", "num_layers", "n_layers"):
        if hasattr(config, key):
            setattr(config, key, 1)
    kinds = ("CausalLM", "Seq2SeqLM", "MaskedLM", "ImageClassification")
    autos = [getattr(transformers, f"AutoModelFor{kind}") for kind in kinds]
    auto = next(auto for auto in autos if type(config) in auto._model_mapping)
    with torch.device("meta"):
        model = auto.from_config(config)
    owners = dict(model.named_modules())
    seen = set()
    for parameter, numbers in model.named_parameters():
        owner = owners[parameter.rpartition(".")[0]]
        module = module_of(parameter, tuple(numbers.shape), config.model_type)
        form = form_of(parameter, tuple(numbers.shape), module)
        seen.add(module)
        is_table = isinstance(owner, torch.nn.Embedding)
        is_linear = isinstance(owner, (torch.nn.Linear, transformers.pytorch_utils.Conv1D))
        assert (form == "embedding") == is_table, parameter
        if "norm" in type(owner).__name__.lower():
            assert (module, form) == ("norm", "vector"), parameter
        elif isinstance(owner, torch.nn.Conv2d) and numbers.ndim > 1:
            assert form == "conv", parameter
        elif is_linear and numbers.ndim == 2:
            assert form in ("matrix", "head"), parameter
            assert module != "other" or NOT_BLOCKS.search(parameter), parameter
    if name not in ("Mamba", "ViT"):
        assert "embedding" in seen and {"query", "qkv"} & seen and {"up", "gate_up"} & seen
