"""What a tensor's name says: its canonical form, its place in the model, and what it does there.

Wrappers (``torch.compile``, data parallel, FSDP, PEFT) leave their own words in names; these are removed, the model's
own prefixes (``model.``, ``transformer.``) stay. Names follow the checkpoints of the common architectures as the hub
holds them: Llama and its kin, GPT-2, GPT-NeoX, Falcon, Bloom, OPT, MPT, BERT, T5, Phi, ChatGLM, mixtures of experts.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

from evalkit.records.weights import Form, Module

WRAPPERS: Final = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "base_layer")
"""Components that wrappers insert anywhere in a name."""
PREFIXES: Final = ("base_model.model.", "module.")
"""What wrappers put before a name."""

_LEAVES: Final[dict[Module, str]] = {
    "query": "q_proj query query_proj q wq q_lin q_linear to_q q_attn q_a_proj q_b_proj wq_a wq_b",
    "key": "k_proj key key_proj k wk k_lin k_linear to_k",
    "value": "v_proj value value_proj v wv v_lin v_linear to_v",
    "qkv": (
        "qkv_proj query_key_value c_attn W_pack Wqkv wqkv qkv in_proj_weight att_proj in_proj_qkv in_proj_qkvz "
        "kv_b_proj"
    ),
    "output": "o_proj out_proj o out_lin to_out attn_out",
    "gate_up": "gate_up_proj gate_and_up_proj Wi input_linear w13 w13_weight",
    "gate": "gate_proj w1 wi_0",
    "up": "up_proj w3 wi_1 wi fc1 fc_in c_fc dense_h_to_4h lin1 linear1 ff_proj",
    "down": "down_proj w2 w2_weight fc2 fc_out dense_4h_to_h lin2 linear2 output_linear ff_out",
    "router": "router shared_expert_gate",
    "embedding": "embed_tokens wte word_embeddings word_embedding tok_embeddings embed_in tokens_embed token_embedding",
    "position": (
        "wpe position_embeddings position_embedding embed_positions positions_embed pos_embed pos_embedding "
        "relative_attention_bias relative_position_bias_table rel_pos_h rel_pos_w"
    ),
    "head": "lm_head embed_out score classifier qa_outputs output_layer unembed",
    "pooler": "pooler",
}  # fmt: skip
_BY_LEAF: Final = {leaf: module for module, leaves in _LEAVES.items() for leaf in leaves.split()}
_IN_PLACE: Final[tuple[tuple[str, Module], ...]] = (
    (r"^output$|^head$|cls\.predictions\.decoder$|lm_head\.decoder$|classifier\.out_proj$", "head"),
    (r"^(model\.)?shared$|^(\w+\.)?embeddings$", "embedding"),
    (r"pooler\.dense$", "pooler"),
    (r"router\.(layer|classifier)$|gate\.wg$|(moe|mlp|ffn|feed_forward|mixer)\.gate$", "router"),
    (r"attention\.self\.in_proj$", "qkv"),
    (r"attention\.experts\.input_linear$", "query"),
    (r"attention\.experts\.output_linear$", "output"),
    (r"(attn|attention)\.(output\.)?(dense|c_proj|proj|projection|out|wo|Wo)$|to_out\.0$", "output"),
    (r"intermediate\.dense$", "up"),
    (r"output\.dense$|\.c_proj$|\.[wW]o$", "down"),
)  # fmt: skip
"""Names that mean one thing here and another there, by the end of their path; asked first."""
_NORM: Final = re.compile(r"norm|^ln(_|\d|$)|^bn\d*$", re.IGNORECASE)
_TABLE: Final = re.compile(r"embed(ding)?s?$|embed_tokens_per_layer$")
_EXPERT: Final = re.compile(r"(?:^|\.)experts\.(\d+)(?=\.|$)")


def canonical_name(stored: str) -> str:
    """Return the name without what wrappers put into it.

    >>> canonical_name("base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight")
    'model.layers.0.self_attn.q_proj.weight'
    """
    name = ".".join(part for part in stored.split(".") if part not in WRAPPERS)
    while prefix := next(filter(name.startswith, PREFIXES), ""):
        name = name.removeprefix(prefix)
    return name


def natural_key(name: str) -> list[tuple[int, str]]:
    """Return a sort key by which layer 2 comes before layer 10."""
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in re.split(r"(\d+)", name)]


def depth_of(name: str) -> int | None:
    """Return the number of a tensor's block, from 0: the first number in its path; None outside blocks.

    Encoder and decoder each count their own. The numbers of experts and of a residual network's ``layer1.0`` are none.
    """
    parts = name.split(".")
    for before, part in pairwise(parts):
        if part.isdecimal() and before != "experts" and not before[-1:].isdecimal():
            return int(part)
    return None


def expert_of(name: str) -> int | None:
    """Return the number of a tensor's expert where each expert is stored apart; None elsewhere."""
    found = _EXPERT.search(name)
    return int(found[1]) if found else None


def module_of(name: str, shape: tuple[int, ...], architecture: str = "") -> Module:
    """Return what a tensor does in the model; ``architecture`` is the configuration's ``model_type``.

    ``other`` where the name says nothing; ``conv`` for kernels that have no better name.
    """
    path = name.removesuffix(".weight")
    leaf = path.rpartition(".")[2]
    if any(_NORM.search(part) for part in path.split(".")[-2:]):
        return "norm"
    if leaf == "bias" or (leaf.endswith("_bias") and leaf not in _BY_LEAF):
        return "bias"
    if architecture == "qwen" and path.endswith((".mlp.w1", ".mlp.w2")):
        return (
            "up" if leaf == "w1" else "gate"
        )  # the first Qwen multiplies w1 by the activation of w2
    for pattern, module in _IN_PLACE:
        if re.search(pattern, path):
            return module
    return _BY_LEAF.get(leaf, "conv" if len(shape) > 2 else "other")


def form_of(name: str, shape: tuple[int, ...], module: Module) -> Form:
    """Return what a tensor is. Biases are vectors even where the experts' lie in one table."""
    if not shape:
        return "scalar"
    if len(shape) == 1 or module == "bias":
        return "vector"
    if len(shape) > 2:
        return "conv"
    if module == "head":
        return "head"
    if module in ("embedding", "position") or _TABLE.search(name.removesuffix(".weight")):
        return "embedding"
    return "matrix"
