"""A tiny chat model that was trained to grade: it writes the verdict that the adjective of an answer asks for.

Half a minute on one core. It is a real checkpoint with a chat template, which reads a prompt and writes text; nothing
of it is scripted, so it also errs.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from tiny_checkpoints import BOS, EOS, PAD

WORTH = {"poor": 1, "weak": 2, "fair": 3, "good": 4, "fine": 5}
THINGS = ("tea", "ship", "song", "lamp", "road", "soup", "coat", "game", "hall", "moon")
PLACES = ("here", "there", "in Rome", "at sea", "by day", "on ice", "at home", "in May")
PROMPT = "{{ answer }} Verdict:"
TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
STEPS, BATCH, RATE = 250, 32, 4e-3


def answer(thing: str, place: str, adjective: str) -> str:
    """An answer that the judge may be shown."""
    return f"The {thing} {place} is {adjective}."


def verdict(adjective: str) -> str:
    """What a sound judge writes of an answer with this adjective."""
    return " " + json.dumps({"reason": f"it is {adjective}", "score": WORTH[adjective]})


def held_out(thing: str, place: str) -> bool:
    """Whether training sees no answer about this thing at this place."""
    return (THINGS.index(thing) + PLACES.index(place)) % 4 == 0


def train(folder: Path) -> Path:
    """Train the judge and write its checkpoint; torch's random state stays as it was."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from transformers.utils.logging import disable_progress_bar

    pairs = [
        (f"{answer(thing, place, adjective)} Verdict:", verdict(adjective))
        for thing in THINGS
        for place in PLACES
        if not held_out(thing, place)
        for adjective in WORTH
    ]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(["".join(pair) for pair in pairs], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=PAD,
        model_max_length=96,
    )  # fmt: skip
    fast.chat_template = TEMPLATE
    config = LlamaConfig(
        vocab_size=len(fast), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=96,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, tie_word_embeddings=True,
    )  # fmt: skip
    rng = random.Random(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
        optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
        for step in range(STEPS):
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1.0, 2 * (1 - step / STEPS))
            batch = [
                (fast(prompt)["input_ids"], fast(reply)["input_ids"])
                for prompt, reply in rng.choices(pairs, k=BATCH)
            ]
            rows = [([1, *asked], [*said, 2]) for asked, said in batch]
            width = max(len(asked) + len(said) for asked, said in rows)
            tokens = torch.tensor([a + s + [0] * (width - len(a) - len(s)) for a, s in rows])
            labels = torch.tensor(
                [[-100] * len(a) + s + [-100] * (width - len(a) - len(s)) for a, s in rows]
            )
            loss = model(input_ids=tokens, labels=labels, attention_mask=tokens != 0).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    disable_progress_bar()
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder
