"""Which tensors of a checkpoint share their numbers by its configuration, and whether an output head is lacking.

**Source**: ``transformers`` 5.23, ``_tied_weights_keys`` of its models; older configurations leave the key out where
it has the architecture's default, so a checkpoint that says nothing and stores no head is taken as tied.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.records.weights import Tensor

_LANGUAGE_MODEL = re.compile(r"LMHead|CausalLM|ConditionalGeneration|MaskedLM|DoubleHeads")
_OUTPUT = re.compile(r"(^|\.)(lm_head|embed_out|output_layer|decoder|unembed|output)\.weight$")
_STACKS = re.compile(r"(^|\.)(encoder|decoder)\.embed_tokens\.weight$")
_HEAD_OF = {"gpt_neox": "embed_out.weight", "bert": "cls.predictions.decoder.weight"}


def tied_names(tensors: Sequence[Tensor], config: Mapping[str, Any]) -> dict[str, str]:
    """Return name of a tensor that is not stored, or stored twice → the name it shares its numbers with."""
    tables = [tensor for tensor in tensors if tensor.module == "embedding"]
    shared = next((t for t in tables if t.name.endswith("shared.weight")), None)
    tied = {} if shared is None else {
        t.name: shared.name for t in tables if _STACKS.search(t.name)
    }  # fmt: skip
    table = shared or next(iter(tables), None)
    heads = _output_heads(tensors)
    says = _says_tied(config)
    if table is None or says is False or (says is None and heads):
        return tied
    if heads:
        return tied | {head.name: table.name for head in heads}
    if _is_language_model(config):
        name = _HEAD_OF.get(str(config.get("model_type")), "lm_head.weight")
        tied[name] = table.name
    return tied


def head_missing(tensors: Sequence[Tensor], config: Mapping[str, Any]) -> str:
    """Return what is wrong where the configuration asks for a head of its own and none is stored; or nothing."""
    has_head = any(tensor.module == "head" for tensor in tensors)
    if has_head or not tensors or _says_tied(config) is not False or not _is_language_model(config):
        return ""
    return "config.json says the output head is no copy of the embedding, but no head is stored"


def _output_heads(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [t for t in tensors if t.form == "head" and _OUTPUT.search(t.name)]


def _says_tied(config: Mapping[str, Any]) -> bool | None:
    inner = config.get("text_config")
    for place in (inner if isinstance(inner, Mapping) else {}, config):
        if isinstance(said := place.get("tie_word_embeddings"), bool):
            return said
    return None


def _is_language_model(config: Mapping[str, Any]) -> bool:
    named = config.get("architectures")
    return bool(
        _LANGUAGE_MODEL.search(" ".join(map(str, named if isinstance(named, list) else ())))
    )
