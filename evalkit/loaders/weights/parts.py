"""How fused tensors come apart: projections stored as one matrix, experts stored as one block, layers stored turned.

Every fused projection is groups of rows, the same in each: queries, keys and values one after the other (one group),
head by head (GPT-NeoX, Bloom), or key head by key head with all queries that share it (Falcon-40B). So a part is
``length`` consecutive rows out of every ``stride``. What no rule fits stays whole.

**Source**: the attention, feed-forward and expert code of ``transformers`` 5.23, model by model; the code that
InternLM2 and ChatGLM ship with their weights.
**Deviation**: fused biases stay whole, and so does a fused projection whose architecture is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from evalkit.records.weights import Module

CONV1D: Final = frozenset({"gpt2", "openai-gpt", "imagegpt", "decision_transformer"})
"""Architectures whose linear layers are stored (in, out)."""
HEAD_BY_HEAD: Final = frozenset({
    "bloom", "chatglm", "deberta", "falcon", "gpt_bigcode", "gpt_neox", "gpt_neox_japanese",
    "minimax", "persimmon",
})  # fmt: skip
"""Architectures that fuse query, key and value of one head after the other's, where each head has its own key."""
KEY_BY_KEY: Final = frozenset({"internlm2", "RefinedWeb"})
"""Architectures that fuse the queries that share a key, that key and its value; Falcon says so in its configuration."""
TURNED_EXPERTS: Final = frozenset({
    "aria", "aria_text", "gpt_oss", "llama4", "llama4_text", "openai_privacy_filter",
    "qwen3_vl_moe", "qwen3_vl_moe_text",
})  # fmt: skip
"""Architectures that store experts (expert, in, out)."""
ALTERNATING: Final = frozenset({"gpt_oss"})
"""Architectures whose gate and up rows alternate."""

_CONV1D_LEAVES = re.compile(r"\.(c_attn|q_attn|c_proj|c_fc)\.weight$")
_TOWERS = {"visual": "vision_config", "vision": "vision_config", "audio": "audio_config"}
_LANGUAGE = ("text_config", "llm_config", "language_config")

Config = Mapping[str, Any]
"""A checkpoint's ``config.json``, or the part of it that describes one tower."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Which rows of a fused matrix a part has: ``length`` consecutive ones out of every ``stride``."""

    first: int
    """Its first row."""
    length: int
    """Rows of one group."""
    stride: int
    """Rows from group to group."""
    count: int
    """How many rows it has."""

    def runs(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the consecutive rows (begin, end) of the fused matrix that are rows ``start:stop`` of the part.

        >>> list(Rows(first=2, length=2, stride=6, count=4).runs(1, 4))
        [(3, 4), (8, 10)]
        """
        while start < stop:
            group, inside = divmod(start, self.length)
            taken = min(self.length - inside, stop - start)
            begin = self.first + group * self.stride + inside
            yield begin, begin + taken
            start += taken


@dataclass(frozen=True, slots=True)
class Part:
    """One of the projections that are fused in a matrix."""

    label: str
    """``q``, ``k``, ``v``, ``gate``, ``up`` …"""
    module: Module
    """What it does."""
    rows: Rows
    """Which rows it has."""


_MODULES: Final[Mapping[str, Module]] = {
    "q": "query", "k": "key", "v": "value", "z": "other", "gate": "gate", "up": "up",
}  # fmt: skip


def with_known_types(config: Config) -> tuple[Config, list[str]]:
    """Return a configuration without architectures that are no text, its own and its towers', and where these stood.

    >>> with_known_types({"model_type": ["gpt2"], "text_config": {"model_type": "llama"}})
    ({'text_config': {'model_type': 'llama'}}, ['model_type'])
    """
    kept, odd = _without_odd_type(config), []
    if len(kept) < len(config):
        odd.append("model_type")
    for key, tower in kept.items():
        if isinstance(tower, Mapping) and len(_without_odd_type(tower)) < len(tower):
            odd.append(f"{key}.model_type")
    cleaned = {
        key: _without_odd_type(inner) if isinstance(inner, Mapping) else inner
        for key, inner in kept.items()
    }
    return cleaned, odd


def _without_odd_type(config: Config) -> Config:
    """Return a configuration without its ``model_type`` where that is no text."""
    if isinstance(config.get("model_type"), str | None):
        return config
    return {key: said for key, said in config.items() if key != "model_type"}


def scope(config: Config, name: str) -> Config:
    """Return the part of a configuration that describes a tensor's tower; of text models, all of it."""
    for word, key in _TOWERS.items():
        if word in name:
            tower = config.get(key)
            return tower if isinstance(tower, Mapping) else {}
    for key in _LANGUAGE:
        if isinstance(inner := config.get(key), Mapping):
            return {**config, **inner}
    return config


def is_turned(name: str, config: Config) -> bool:
    """Return whether a linear layer's matrix is stored (in, out), as GPT-2's are."""
    return config.get("model_type") in CONV1D and bool(_CONV1D_LEAVES.search(name))


def experts_turned(
    name: str, module: Module, shape: tuple[int, ...], config: Config
) -> bool | None:
    """Return whether a block of experts is stored (expert, in, out), not (expert, out, in); None if it is no block.

    The hidden size tells where it fits one axis alone; the architecture does elsewhere.
    """
    if len(shape) != 3 or module not in ("gate_up", "gate", "up", "down", "query", "output"):
        return None
    keys = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
    if ".experts." not in name and shape[0] not in [config.get(key) for key in keys]:
        return None
    is_hidden = [length == config.get("hidden_size") for length in shape[1:]]
    if is_hidden[0] != is_hidden[1]:
        return is_hidden[0] == (module not in ("down", "output"))
    return config.get("model_type") in TURNED_EXPERTS


def fused_parts(
    name: str, module: Module, shape: tuple[int, int], config: Config
) -> tuple[Part, ...]:
    """Return the projections fused in a matrix of ``shape`` (out, in), in the order of their rows; () if it is none.

    ``config`` is the ``scope`` of its name.
    """
    leaf = name.removesuffix(".weight").rpartition(".")[2]
    kind = config.get("model_type")
    if module == "gate_up" or (kind == "chatglm" and leaf == "dense_h_to_4h"):
        alternate = kind in ALTERNATING and ".experts." in name
        plan = _gate_up(leaf, shape[0], alternate=alternate)
    elif module == "qkv":
        plan = _SPECIAL.get(leaf, _attention)(leaf, shape, config)
    else:
        plan = None
    return _parts(plan, shape[0]) if plan else ()


Plan = tuple[str, tuple[int, ...], int]
"""Labels of the parts, how many rows each has in a group, and how many groups there are."""


def _gate_up(leaf: str, rows: int, *, alternate: bool) -> Plan | None:
    if leaf.startswith("w13"):  # halves in some programs, alternate rows in others
        return None
    return ("gate up", (1, 1), rows // 2) if alternate else ("gate up", (rows // 2,) * 2, 1)


def _attention(leaf: str, shape: tuple[int, int], config: Config) -> Plan | None:
    rows, columns = shape
    kind = config.get("model_type")
    if kind in CONV1D and rows == 2 * columns:
        return "k v", (columns, columns), 1  # attention to another sequence
    if kind == "codegen":  # written for four accelerators, each with its share of the heads
        return "q v k", (rows // 12,) * 3, 4
    heads = _number(config, "num_attention_heads", "n_head", "num_heads", "n_heads")
    keys = _keys(config) or heads
    length, rest = divmod(rows, heads + 2 * keys) if heads else (0, rows)
    is_named = leaf != "query_key_value" or kind in HEAD_BY_HEAD | KEY_BY_KEY
    if rest:  # a tower whose heads the configuration does not state
        return ("q k v", (columns,) * 3, 1) if kind not in HEAD_BY_HEAD and is_named else None
    if kind in KEY_BY_KEY or (kind == "falcon" and config.get("new_decoder_architecture")):
        return "q k v", (heads // keys * length, length, length), keys
    if kind in HEAD_BY_HEAD and keys == heads:
        return "q k v", (length,) * 3, heads
    return ("q k v", (heads * length, keys * length, keys * length), 1) if is_named else None


def _keys(config: Config) -> int:
    """Return how many key heads there are; 0 where the configuration does not say."""
    kind = config.get("model_type")
    if kind in ("falcon", "RefinedWebModel", "gpt_bigcode"):
        shared = not config.get("new_decoder_architecture") and config.get("multi_query", True)
        return 1 if shared else _number(config, "num_kv_heads", "n_head_kv")
    if kind == "chatglm":
        return _number(config, "multi_query_group_num") * bool(config.get("multi_query_attention"))
    inner = config.get("attn_config")
    names = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "kv_n_heads")
    return _number({**inner, **config} if isinstance(inner, Mapping) else config, *names)


def _latent(_leaf: str, _shape: tuple[int, int], config: Config) -> Plan | None:
    """Keys and values out of a latent vector, head by head (DeepSeek)."""
    sizes = (_number(config, "qk_nope_head_dim"), _number(config, "v_head_dim"))
    return "k v", sizes, _number(config, "num_attention_heads")


def _delta_rule(leaf: str, _shape: tuple[int, int], config: Config) -> Plan | None:
    """The input projection of a gated delta rule (Qwen3-Next; Qwen3.5 stores the gate z apart)."""
    key_heads, value_heads = (_number(config, f"linear_num_{x}_heads") for x in ("key", "value"))
    key, value = (_number(config, f"linear_{x}_head_dim") for x in ("key", "value"))
    if leaf == "in_proj_qkv":
        return "q k v", (key_heads * key, key_heads * key, value_heads * value), 1
    shared = value_heads // max(key_heads, 1) * value
    return "q k v z", (key, key, shared, shared), key_heads


_SPECIAL: Final = {
    "kv_b_proj": _latent, "in_proj_qkv": _delta_rule, "in_proj_qkvz": _delta_rule,
}  # fmt: skip


def _number(config: Config, *keys: str) -> int:
    """Return the first of these numbers that a configuration states; 0 where it states none."""
    found = (config.get(key) for key in keys)
    return next((number for number in found if type(number) is int and number > 0), 0)


def _parts(plan: Plan, rows: int) -> tuple[Part, ...]:
    """Return the parts of a plan; () where they do not make up the rows."""
    labels, sizes, groups = plan
    stride = sum(sizes)
    if min(sizes) < 1 or stride * groups != rows:
        return ()
    return tuple(
        Part(label, _MODULES[label], Rows(sum(sizes[:i]), sizes[i], stride, sizes[i] * groups))
        for i, label in enumerate(labels.split())
    )
