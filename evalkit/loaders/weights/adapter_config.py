"""What ``adapter_config.json`` says: which kind of adapter it is, and the scale of each module's update.

An adapter is refused where its update is not scale · B A of the base's own tensors: other methods, other rules within
LoRA, and starts that move the base's weights before training.

**Source**: peft 0.21 ``tuners/lora/config.py``, ``tuners/lora/model.py`` (``_create_and_replace``), ``utils/other.py``
(``get_pattern_key``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from evalkit.errors import UsageError
from evalkit.loaders.files import json_object

CONFIG: Final = "adapter_config.json"
OTHER_RULES: Final = {
    "use_qalora": "QA-LoRA", "use_bdlora": "block-diagonal LoRA", "alora_invocation_tokens": "activated LoRA",
    "arrow_config": "Arrow", "kasa_config": "KaSA", "monteclora_config": "MonteCLoRA",
    "layer_replication": "layer replication",
}  # fmt: skip
"""Settings under which the update is not scale · B A, or not of the base's tensors."""
MOVED_BASES: Final = ("pissa", "olora", "corda", "lora_ga", "loftq")
"""Ways to start training that change the base's weights, so that the update is none of the base itself."""
SWITCHES: Final = ("use_rslora", "use_dora", "fan_in_fan_out")
"""Settings that are true or false; peft takes the text "false" for true."""


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """A LoRA adapter's configuration."""

    base: str
    """The base model as it is named; empty where it is not."""
    dora: bool
    """Whether magnitudes rescale the weights."""
    rank: int
    """Rank of modules that no pattern names."""
    alpha: float
    """Alpha of modules that no pattern names."""
    ranks: Mapping[str, int]
    """Pattern of the end of a module's name → rank."""
    alphas: Mapping[str, float]
    """Pattern of the end of a module's name → alpha."""
    stabilised: bool
    """Whether alpha is divided by the root of the rank (rsLoRA)."""
    parameters: tuple[str, ...]
    """Parameters that are updated one by one (``target_parameters``)."""

    def rank_of(self, module: str) -> int:
        """Return the rank that a module's update is said to have."""
        return int(_matching(self.ranks, module, self.rank))

    def scale_of(self, module: str) -> float:
        """Return what B A is multiplied with.

        >>> AdapterConfig("", False, 4, 8.0, {}, {"down_proj": 2.0}, True, ()).scale_of("layers.0.down_proj")
        1.0
        """
        alpha, rank = _matching(self.alphas, module, self.alpha), self.rank_of(module)
        return alpha / (math.sqrt(rank) if self.stabilised else rank)

    def updates_parameters(self, module: str) -> bool:
        """Return whether a module's update is of parameters named one by one, such as stacked experts."""
        owners = {name.rpartition(".")[0] for name in self.parameters}
        return any(f".{module}".endswith(f".{owner}") for owner in owners)


def read_adapter_config(folder: Path) -> AdapterConfig:
    """Return the configuration of the LoRA adapter in a folder.

    Raises UsageError where there is none, where it makes no sense, or where the adapter is of a kind that is not read;
    RunError where the file cannot be read.
    """
    said = _json(folder)
    _refuse_other_kinds(folder, said)
    ranks, alphas = (
        dict(found) if isinstance(found, Mapping) else {}
        for found in (said.get("rank_pattern"), said.get("alpha_pattern"))
    )
    if not all(type(rank) is int and rank > 0 for rank in (said.get("r"), *ranks.values())):
        raise UsageError(f"{str(folder)!r}: {CONFIG} states no whole number above 0 as r")
    if not all(map(_is_number, (said.get("lora_alpha"), *alphas.values()))):
        raise UsageError(f"{str(folder)!r}: {CONFIG} states no number as lora_alpha")
    try:
        for pattern in (*ranks, *alphas):
            re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{str(folder)!r}: {CONFIG}: pattern {pattern!r}: {error}") from error
    for switch in SWITCHES:
        if not isinstance(said.get(switch), bool | None):
            raise UsageError(f"{str(folder)!r}: {CONFIG} states neither true nor false as {switch}")
    named = said.get("target_parameters")
    return AdapterConfig(
        base=str(said.get("base_model_name_or_path") or ""),
        dora=bool(said.get("use_dora")),
        rank=said["r"],
        alpha=said["lora_alpha"],
        ranks=ranks,
        alphas=alphas,
        stabilised=bool(said.get("use_rslora")),
        parameters=tuple(map(str, named)) if isinstance(named, list) else (),
    )


def _refuse_other_kinds(folder: Path, said: Mapping[str, Any]) -> None:
    kind = str(said.get("peft_type", "")).upper()
    if kind != "LORA":
        what = f"a {kind} adapter" if kind else "an adapter of no stated kind (peft_type)"
        raise UsageError(f"{str(folder)!r} is {what}; LoRA adapters are read, with rsLoRA and DoRA")
    for setting, name in OTHER_RULES.items():
        if said.get(setting):
            raise UsageError(
                f"{str(folder)!r} is an adapter with {name} ({setting}), which is not read"
            )
    start = str(said.get("init_lora_weights", "")).lower()
    if start.startswith(MOVED_BASES):
        raise UsageError(
            f"{str(folder)!r} was started by {start}, which moves the base's weights: its update is none of the base "
            "itself; save it with path_initial_model_for_weight_conversion, or merge it"
        )


def _json(folder: Path) -> Mapping[str, Any]:
    path = folder / CONFIG
    if not path.exists():
        raise UsageError(f"{str(folder)!r} holds no {CONFIG}: it is no adapter's folder")
    return json_object(path)


def _matching(patterns: Mapping[str, float], module: str, default: float) -> float:
    """Return the value of the first pattern that a module's name ends in; the default where none does."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def _is_number(found: object) -> bool:
    if isinstance(found, bool) or not isinstance(found, int | float):
        return False
    try:
        return math.isfinite(found)
    except OverflowError:  # a whole number beyond float64
        return False
