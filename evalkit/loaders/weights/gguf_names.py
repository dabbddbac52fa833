"""What llama.cpp's names and layouts mean: names as the hub's checkpoints have them, and what its converter changed.

The converter renames every tensor, stacks experts, and for some architectures changes numbers: query and key rows of
each head are paired for another form of rotary positions (Llama and its kin), norms get 1 added (Gemma). Here both are
taken back, so that a GGUF file can be laid beside the checkpoint it was made from. Architectures whose rules are not
known here keep llama.cpp's names and numbers.

**Source**: llama.cpp ``conversion/*.py`` (``LlamaModel.permute``, ``norm_shift``) and ``gguf`` 0.19
``tensor_mapping.py``; transformers 5.23 ``modeling_gguf_pytorch_utils.py``.
"""

from __future__ import annotations

import re
from typing import Final

from evalkit.records.weights import Module

DECODERS: Final = frozenset({
    "llama", "smollm3", "granite", "olmo", "olmo2", "qwen2", "qwen3", "qwen2moe", "qwen3moe",
    "gemma", "gemma2", "gemma3", "phi3",
})  # fmt: skip
"""Architectures named as Llama's checkpoints are."""
PAIRED: Final = frozenset({"llama", "smollm3", "granite", "olmo"})
"""Architectures whose query and key rows are paired for rotary positions."""
SHIFTED_NORMS: Final = frozenset({"gemma", "gemma2", "gemma3"})
"""Architectures whose norms' weights have 1 added."""
COMPUTED: Final = re.compile(r"^rope_(freqs|factors_\w+)\.weight$")
"""Tensors computed from the configuration."""

_BLOCK: Final = re.compile(r"blk\.(\d+)\.(.+)\.(weight|bias)$")
_MODULES: Final[dict[str, Module]] = {
    "token_embd": "embedding", "position_embd": "position", "output": "head", "output_norm": "norm",
    "attn_q": "query", "attn_k": "key", "attn_v": "value", "attn_qkv": "qkv", "attn_output": "output",
    "ffn_gate": "gate", "ffn_up": "up", "ffn_down": "down", "ffn_gate_inp": "router", "ffn_gate_inp_shexp": "router",
    "ffn_gate_exps": "gate", "ffn_up_exps": "up", "ffn_down_exps": "down",
    "ffn_gate_shexp": "gate", "ffn_up_shexp": "up", "ffn_down_shexp": "down",
}  # fmt: skip
_OUTSIDE: Final = {
    "token_embd": "model.embed_tokens", "output": "lm_head", "output_norm": "model.norm",
}  # fmt: skip
_INSIDE: Final = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "ffn_gate_inp": "mlp.gate", "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
    "ffn_gate_shexp": "mlp.shared_expert.gate_proj", "ffn_up_shexp": "mlp.shared_expert.up_proj",
    "ffn_down_shexp": "mlp.shared_expert.down_proj",
}  # fmt: skip
_FOUR_NORMS: Final = {
    "post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}  # fmt: skip
_OWN: Final[dict[str, dict[str, str]]] = {
    "gemma2": _FOUR_NORMS,
    "gemma3": _FOUR_NORMS,
    "olmo2": _FOUR_NORMS,
    "phi3": {"attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"},
    "llama": {"ffn_gate_inp": "block_sparse_moe.gate"},
}
_EXPERTS: Final = {
    "ffn_gate_exps": "gate_proj",
    "ffn_up_exps": "up_proj",
    "ffn_down_exps": "down_proj",
}
_MIXTRAL: Final = {"ffn_gate_exps": "w1", "ffn_up_exps": "w3", "ffn_down_exps": "w2"}
_GPT2: Final = {
    "token_embd": "transformer.wte", "position_embd": "transformer.wpe", "output_norm": "transformer.ln_f",
    "output": "lm_head", "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj", "attn_norm": "ln_1",
    "ffn_norm": "ln_2", "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj",
}  # fmt: skip


def hub_name(stored: str, architecture: str, expert: int | None = None) -> str:
    """Return a tensor's name as the hub's checkpoints have it; llama.cpp's own where it is not known here.

    >>> hub_name("blk.3.attn_q.weight", "qwen3"), hub_name("blk.0.ffn_up_exps.weight", "llama", 7)
    ('model.layers.3.self_attn.q_proj.weight', 'model.layers.0.block_sparse_moe.experts.7.w3.weight')
    """
    block, leaf, ending = _parsed(stored)
    unknown = stored if expert is None else f"{stored}[{expert}]"
    if architecture == "gpt2":
        path = _GPT2.get(leaf)
        prefix = "" if block is None else f"transformer.h.{block}."
    elif architecture not in DECODERS:
        return unknown
    elif block is None:
        path, prefix = _OUTSIDE.get(leaf), ""
    else:
        prefix = f"model.layers.{block}."
        path = ({**_INSIDE, **_OWN.get(architecture, {})}).get(leaf)
        if leaf in _EXPERTS and expert is not None:
            path = f"mlp.experts.{expert}.{_EXPERTS[leaf]}"
            if architecture == "llama":
                path = f"block_sparse_moe.experts.{expert}.{_MIXTRAL[leaf]}"
    return unknown if path is None else f"{prefix}{path}.{ending}"


def gguf_module(stored: str) -> Module:
    """Return what a tensor does in the model, by llama.cpp's name.

    >>> gguf_module("blk.3.ffn_gate_inp.weight"), gguf_module("blk.3.attn_q_norm.weight"), gguf_module("x.weight")
    ('router', 'norm', 'other')
    """
    _, leaf, ending = _parsed(stored)
    if leaf.endswith("norm"):
        return "norm"
    return "bias" if ending == "bias" else _MODULES.get(leaf, "other")


def gguf_depth(stored: str) -> int | None:
    """Return the number of a tensor's block; None outside blocks."""
    return _parsed(stored)[0]


def paired_heads(stored: str, architecture: str) -> str:
    """Return the metadata's key for the heads in which a tensor's rows are paired; empty where they are not.

    >>> paired_heads("blk.0.attn_k.bias", "llama"), paired_heads("blk.0.attn_k.weight", "qwen3")
    ('attention.head_count_kv', '')
    """
    if architecture not in PAIRED:
        return ""
    keys = {"attn_q": "attention.head_count", "attn_k": "attention.head_count_kv"}
    return keys.get(_parsed(stored)[1], "")


def holds_experts(stored: str) -> bool:
    """Return whether a tensor is a stack of experts."""
    return _parsed(stored)[1].endswith("_exps") and stored.endswith(".weight")


def _parsed(stored: str) -> tuple[int | None, str, str]:
    """Return a name's block, what the tensor is, and ``weight`` or ``bias``."""
    if inside := _BLOCK.match(stored):
        return int(inside[1]), inside[2], inside[3]
    leaf, _, ending = stored.rpartition(".")
    return None, leaf, ending
