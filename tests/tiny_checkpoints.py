"""Tiny checkpoints with random weights, made in a second: for tests that need a real one of a known kind."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

from evalkit.loaders.checkpoints import find_checkpoint
from evalkit.records.exchange import Checkpoint

BOS, EOS, PAD = "<|bos|>", "<|eos|>", "<|pad|>"
WINDOW = 128
TEXTS = (
    "The harbour was quiet until the first boats came back with the morning's catch.",
    "Order 1482: three boxes of blue pens, to be delivered to Lyon on 7 March.",
    "Größe: 42 cm – naïve café, 東京 🙂 done.",
    "Question: what is the capital of France?\nAnswer: Paris",
    "a",
)


def make_tokenizer(folder: Path, *, bos: bool, form: str = "bytes", **options: Any) -> None:
    """Write a BPE tokenizer: of bytes, as GPT-2's, or of "words" whose spaces are a letter, as Llama 2's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token=PAD if form == "words" else None))
    special = [PAD, BOS, EOS]
    if form == "bytes":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
        alphabet = []
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS * 2, trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, 1)]
        )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=WINDOW,
        **options,
    ).save_pretrained(folder)


def make_llama(folder: Path, *, bos: bool = True, seed: int = 0, **options: Any) -> Path:
    """Write a Llama whose tokenizer adds BOS or does not; ``options`` override its configuration."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        **{
            "vocab_size": 320,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": WINDOW,
            # Wide enough that the likeliest token is likelier by far more than rounding.
            "initializer_range": 0.4,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "tie_word_embeddings": False,
            **options,
        }
    )
    _save(LlamaForCausalLM, config, folder, seed)
    make_tokenizer(folder, bos=bos)
    return folder


def make_gpt2(folder: Path, seed: int = 0) -> Path:
    """Write a GPT-2: learned positions, no padding token, one special token, no BOS before a text."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=320,
        n_positions=WINDOW,
        n_embd=32,
        n_layer=2,
        n_head=4,
        initializer_range=0.4,
        bos_token_id=2,
        eos_token_id=2,
    )
    _save(GPT2LMHeadModel, config, folder, seed)
    make_tokenizer(folder, bos=False)
    return folder


def _save(kind: Any, config: Any, folder: Path, seed: int) -> None:
    import torch
    from transformers.utils import logging

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = kind(config)
    logging.disable_progress_bar()
    model.save_pretrained(folder)


def find(name: str) -> Checkpoint:
    """Find a checkpoint as the command line does, without remembering digests."""

    def digest_file(path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()

    return partial(find_checkpoint, folder=Path(), digest_file=digest_file)(name)
