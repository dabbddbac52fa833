"""What a judge's card is pinned to, and what makes a judge doubtful for a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalkit.identity import digest
from evalkit.judging.prompts import prompt_text
from evalkit.judging.reading import VERSION
from evalkit.records.exchange import Model
from evalkit.records.suite import JudgeSpec

SHAPE = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
"""What of a ``config.json`` models of one family and size share, fine-tuned or not."""


def pins(spec: JudgeSpec, model: Model) -> str:
    """Return the digest of all that can change a verdict: model, prompt, what is judged, decoding, parser.

    Neither the judge's name nor where its model lies is part of it.
    """
    declared = spec.model_dump(
        mode="json", exclude={"judge", "version", "model", "backend", "model_args", "prompt"}
    )
    return digest([model.digest, prompt_text(spec), declared, VERSION])


def flags(
    judge: Model,
    models: Mapping[str, Model],
    configs: Mapping[str, Mapping[str, Any]],
) -> tuple[str, ...]:
    """Return what makes a judge doubtful: it judges itself, or a model of its own family.

    ``models`` are those under judgement, by role; ``configs`` their ``config.json`` and the judge's (``judge``), where
    they can be seen. Judges prefer what they would have written themselves.

    **Source**: Panickssery et al. 2024, arXiv 2404.13076; Zheng et al. 2023, arXiv 2306.05685, section 3.3.
    """
    found = []
    for role, model in models.items():
        if model.digest == judge.digest or (model.files and model.files == judge.files):
            found.append(f"the judge is the {role} itself")
        elif _shape(configs.get("judge")) and _shape(configs.get("judge")) == _shape(
            configs.get(role)
        ):
            found.append(f"the judge has the {role}'s architecture: it may be of its family")
    return tuple(found)


def _shape(config: Mapping[str, Any] | None) -> tuple[Any, ...] | None:
    if not config or not config.get("model_type"):
        return None
    return tuple(config.get(name) for name in SHAPE)
