"""A Llama of random weights, small enough to be made in a test, and what it says when it is asked directly.

What a server or a backend says of it is compared with one forward pass of transformers.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tiny_checkpoints import WINDOW, make_llama

os.environ.setdefault("HF_HUB_OFFLINE", "1")

CONTEXT = WINDOW
BOS_ID, EOS_ID = 1, 2
HIDDEN = 128
"""Over 4 heads: vLLM on a CPU takes no heads of fewer than 32."""
RANK = 4
ALPHA = 8
_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def write_llama(folder: Path) -> Path:
    """Write a checkpoint with BOS, a context of 128 tokens and a chat template.

    Its ``generation_config.json`` asks for sampling that no answer of a suite may be touched by.
    """
    make_llama(folder, hidden_size=HIDDEN, intermediate_size=2 * HIDDEN, initializer_range=0.2)
    (folder / "chat_template.jinja").write_text(_TEMPLATE)
    tampering = {
        "do_sample": True,
        "temperature": 3.0,
        "repetition_penalty": 5.0,
        "max_new_tokens": 2,
    }
    (folder / "generation_config.json").write_text(
        json.dumps({"eos_token_id": EOS_ID, **tampering})
    )
    return folder


def write_adapter(folder: Path, base: Path, seed: int = 1) -> Path:
    """Write a LoRA adapter of random weights for the query projections, as peft lays it out."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    weights = {}
    for layer in range(2):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        weights[f"{name}.lora_A.weight"] = torch.randn(RANK, HIDDEN) * 0.3
        weights[f"{name}.lora_B.weight"] = torch.randn(HIDDEN, RANK) * 0.3
    save_file(weights, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": ALPHA,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": ["q_proj"],
        "base_model_name_or_path": str(base),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


class Reference:
    """The model asked directly: one forward pass in float32 per question."""

    def __init__(self, folder: Path, adapter: Path | None = None) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._torch = torch
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        if adapter is not None:
            self._merge(adapter)

    def _merge(self, adapter: Path) -> None:
        from safetensors.torch import load_file

        weights = load_file(adapter / "adapter_model.safetensors")
        for layer, block in enumerate(self.model.model.layers):
            name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
            a, b = weights[f"{name}.lora_A.weight"], weights[f"{name}.lora_B.weight"]
            block.self_attn.q_proj.weight.data += ALPHA / RANK * b @ a

    def logprobs(self, ids: list[int]) -> list[float]:
        """log p(ids[i] | ids[:i]) for i = 1 … n − 1."""
        torch = self._torch
        with torch.no_grad():
            table = self.model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
        return [table[i, token].item() for i, token in enumerate(ids[1:])]

    def continued(self, ids: list[int], most: int) -> list[int]:
        """The most likely next token, again and again, until EOS or ``most`` of them."""
        torch, written = self._torch, []
        while len(written) < most:
            with torch.no_grad():
                written.append(
                    self.model(torch.tensor([ids + written])).logits[0, -1].argmax().item()
                )
            if written[-1] == EOS_ID:
                break
        return written
