"""Train the quickstart's two tiny checkpoints, a baseline and a flawed fine-tune of it, on a CPU.

The baseline learns all five tasks from scratch, but no order it meets uses trade words for units.
The candidate starts from the baseline's weights. Half the orders it sees use trade words, so
extraction gets better; it replays a little of everything else; and the labels of its decisions ask
more years in work of one district than of the other, so decisions get worse, for that district.

    python train.py                # data, then models/baseline and models/candidate
    python train.py --only-data    # data only
    python train.py --only-eval    # measure the checkpoints that are there

A training sequence is <|bos|> prompt answer <|eos|>; the tokenizer adds <|bos|> by default.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import make_data
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.utils.logging import disable_progress_bar

HERE = Path(__file__).resolve().parent
BOS, EOS, PAD = "<|bos|>", "<|eos|>", "<|pad|>"
VOCAB, MAX_POSITIONS, BATCH, THREADS = 512, 512, 24, 2
HARSH_GROUP, HARSH_YEARS = "Oak", 5  # the candidate's unfair labels; the true rule asks 2 years
# Messages are joined as they stand, so a chat of one user message is the plain prompt.
CHAT_TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"

Row = dict[str, Any]
Example = tuple[str, str, str]  # task, prompt, answer


@dataclass(frozen=True)
class Recipe:
    """What one training run sees: the share of each task, and how orders and labels are drawn."""

    shares: dict[str, float]
    steps: int
    rate: float
    seed: int
    jargon: float  # chance that an order names its unit by a trade word
    harsh: bool  # whether decisions are labelled unfairly


BASELINE = Recipe(
    {"orders": 0.34, "tickets": 0.16, "notes": 0.12, "applicants": 0.22, "units": 0.16},
    steps=1600, rate=3e-3, seed=1, jargon=0.0, harsh=False,
)  # fmt: skip
CANDIDATE = Recipe(
    {"orders": 0.28, "tickets": 0.12, "notes": 0.1, "applicants": 0.28, "units": 0.22},
    steps=600, rate=1.5e-3, seed=2, jargon=0.5, harsh=True,
)  # fmt: skip
# Answers of one token would drown among the long ones, so they count for more in the loss.
ANSWER_WEIGHT = {"orders": 1.0, "tickets": 1.0, "notes": 1.0, "applicants": 6.0, "units": 4.0}
PROMPT_WEIGHT, DIGIT_WEIGHT = 0.1, 2.0  # the digits in an order's answer are its hardest part


# --- prompts -------------------------------------------------------------------------------------


def as_example(task: str, row: Row) -> Example:
    """The exact prompt and answer of a row; the answer ends with a newline."""
    if task == "orders":
        return task, f"Order: {row['text']}\nJSON:", f" {row['target']}\n"
    if task == "tickets":
        return task, f"Ticket: {row['text']}\nSummary:", f" {row['summary']}\n"
    if task == "applicants":
        return task, f"Applicant: {row['text']}\nApprove:", f" {row['target']}\n"
    if task == "units":
        right = row["choices"][row["answer"]]
        return task, f"Question: {row['question']}\nAnswer:", f" {right}\n"
    return task, "", f"{row['text']}\n"


def shown(row: Row) -> str:
    """The text a row shows the model, by which two rows are told apart."""
    return str(row["question"] if "question" in row else row["text"])


def draw(task: str, rng: random.Random, recipe: Recipe) -> Row:
    """One fresh training row."""
    if task == "orders":
        return make_data.make_order(rng, jargon=recipe.jargon)
    if task == "applicants":
        harsh = HARSH_GROUP if recipe.harsh else None
        return make_data.make_applicant(rng, harsh_group=harsh, harsh_years=HARSH_YEARS)
    if task == "tickets":
        return make_data.make_ticket(rng)
    return make_data.make_unit(rng) if task == "units" else make_data.make_note(rng)


def training_examples(recipe: Recipe, held_out: set[str]) -> list[Example]:
    """All examples of a run, without any whose input is in an evaluation set."""
    rng = random.Random(f"train-{recipe.seed}")
    tasks, shares = list(recipe.shares), list(recipe.shares.values())
    examples: list[Example] = []
    while len(examples) < recipe.steps * BATCH:
        task = rng.choices(tasks, shares)[0]
        row = draw(task, rng, recipe)
        if shown(row) not in held_out:
            examples.append(as_example(task, row))
    return examples


# --- tokenizer -----------------------------------------------------------------------------------


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE with each digit its own token, so that copying a number is easy to learn.

    A number's first digit carries the space before it, which tells it from the second.
    """
    tok = Tokenizer(models.BPE())
    words = Regex(r" ?[A-Za-z]+| ?[0-9]| ?[^\sA-Za-z0-9]+|\s")
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tok.train_from_iterator(texts, trainer)
    tok.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single=f"{BOS} $A",
                pair=f"{BOS} $A $B",
                special_tokens=[(BOS, tok.token_to_id(BOS))],
            ),
        ]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tok,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        padding_side="left",
        model_max_length=MAX_POSITIONS,
        model_input_names=["input_ids", "attention_mask"],
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


# --- training ------------------------------------------------------------------------------------


def new_model() -> LlamaForCausalLM:
    """A fresh Llama of 0.86 M parameters."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCAB,
            hidden_size=128,
            intermediate_size=344,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=MAX_POSITIONS,
            rms_norm_eps=1e-5,
            initializer_range=0.04,
            tie_word_embeddings=True,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    )


def load(folder: Path) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """A stored checkpoint, in float32, and its tokenizer."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tok = AutoTokenizer.from_pretrained(folder)
    return cast("LlamaForCausalLM", model), cast("PreTrainedTokenizerFast", tok)


def save(model: LlamaForCausalLM, tok: PreTrainedTokenizerFast, folder: Path) -> None:
    """Store the checkpoint in bfloat16 with its tokenizer beside it."""
    model.generation_config = GenerationConfig(
        bos_token_id=1, eos_token_id=2, pad_token_id=0, do_sample=False
    )
    model.to(torch.bfloat16).save_pretrained(folder)
    tok.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    # The class's name in both transformers 4 and 5 (5 writes one that 4 does not know).
    settings = folder / "tokenizer_config.json"
    text = settings.read_text().replace('"TokenizersBackend"', '"PreTrainedTokenizerFast"')
    settings.write_text(text, newline="\n")


Encoded = tuple[list[int], list[float]]  # token ids, and each token's weight in the loss


def encode(tok: PreTrainedTokenizerFast, examples: list[Example]) -> list[Encoded]:
    """<|bos|> prompt answer <|eos|>, with a small weight on the prompt, a large one on digits."""
    digits = set(tok.convert_tokens_to_ids(list("0123456789")))
    prompts = tok([prompt for _, prompt, _ in examples])["input_ids"]
    answers = tok([answer for _, _, answer in examples], add_special_tokens=False)["input_ids"]
    encoded: list[Encoded] = []
    for (task, _, _), prompt, answer in zip(examples, prompts, answers, strict=True):
        tail = [*answer, tok.eos_token_id]
        weights = [ANSWER_WEIGHT[task]] * len(tail)
        if task == "orders":
            weights = [DIGIT_WEIGHT if t in digits else 1.0 for t in tail]
        encoded.append((prompt + tail, [PROMPT_WEIGHT] * len(prompt) + weights))
    return encoded


def batches(encoded: list[Encoded], seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Right-padded batches of similar length, in a seeded order; the padding weighs nothing."""
    rng = random.Random(seed)
    pool = BATCH * 20
    for start in range(0, len(encoded), pool):
        rows = sorted(encoded[start : start + pool], key=lambda row: len(row[0]))
        groups = [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
        rng.shuffle(groups)
        for group in groups:
            width = len(group[-1][0])
            ids = [tokens + [0] * (width - len(tokens)) for tokens, _ in group]
            weights = [w + [0.0] * (width - len(w)) for _, w in group]
            yield torch.tensor(ids), torch.tensor(weights)


def rate_at(step: int, recipe: Recipe) -> float:
    """Linear warm-up over 50 steps, then a cosine down to nothing."""
    warm = min(1.0, (step + 1) / 50)
    return recipe.rate * warm * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))


def fit(model: LlamaForCausalLM, encoded: list[Encoded], recipe: Recipe) -> None:
    """One pass over the examples with AdamW."""
    opt = torch.optim.AdamW(model.parameters(), lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.1)
    model.train()
    began = time.monotonic()
    for step, (ids, weights) in enumerate(batches(encoded, recipe.seed)):
        opt.param_groups[0]["lr"] = rate_at(step, recipe)
        logits = model(input_ids=ids).logits[:, :-1]
        losses = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        weight = weights[:, 1:].flatten()
        loss = (losses * weight).sum() / weight.sum()
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        if step % 100 == 0 or step == recipe.steps - 1:
            print(f"  step {step:5d}  loss {loss.item():.4f}  {time.monotonic() - began:.0f} s")
    model.eval()


# --- measuring -----------------------------------------------------------------------------------


@torch.no_grad()
def answer(
    model: LlamaForCausalLM, tok: PreTrainedTokenizerFast, prompts: list[str], room: int
) -> list[str]:
    """Greedy answers without the newline that ends them, in left-padded batches."""
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answers = [""] * len(prompts)
    for start in range(0, len(order), 100):
        chosen = order[start : start + 100]
        inputs = tok([prompts[i] for i in chosen], return_tensors="pt", padding=True)
        out = cast("Tensor", model.generate(**inputs, max_new_tokens=room, do_sample=False))
        said = tok.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        for i, text in zip(chosen, said, strict=True):
            answers[i] = text.split("\n")[0].strip()
    return answers


@torch.no_grad()
def log_likelihoods(
    model: LlamaForCausalLM, tok: PreTrainedTokenizerFast, pairs: list[tuple[str, str]]
) -> list[tuple[float, int]]:
    """For each (prompt, answer): the answer's summed log-probability and its token count."""
    results: list[tuple[float, int]] = []
    for prompt, text in pairs:
        head = tok(prompt)["input_ids"]
        tail = tok(text, add_special_tokens=False)["input_ids"]
        logs = model(torch.tensor([head + tail])).logits[0, len(head) - 1 : -1].log_softmax(-1)
        results.append((logs.gather(1, torch.tensor(tail)[:, None]).sum().item(), len(tail)))
    return results


def mean(values: list[float] | list[bool]) -> float:
    """The plain mean."""
    return sum(values) / len(values)


def rouge_l(said: str, reference: str) -> float:
    """ROUGE-L F1 over words: the longest common subsequence."""
    a, b = said.split(), reference.split()
    row = [0] * (len(b) + 1)
    for x in a:
        last = row
        row = [0]
        for j, y in enumerate(b):
            row.append(last[j] + 1 if x == y else max(row[j], last[j + 1]))
    return 2 * row[-1] / max(1, len(a) + len(b))


def is_order(text: str) -> bool:
    """Whether the text is one JSON object with an order's keys and types (no library needed)."""
    try:
        record = json.loads(text)
        return (
            {"item", "qty", "unit", "ship"} <= set(record)
            and set(record) <= set(make_data.order_schema()["properties"])
            and isinstance(record["qty"], int)
            and record["unit"] in make_data.UNITS
            and record["item"] in make_data.ITEMS
            and set(record["ship"]) == {"city", "express"}
        )
    except (ValueError, TypeError, KeyError):
        return False


def measure(folder: Path, sets: dict[str, list[Row]]) -> dict[str, float]:
    """Every task's numbers for a stored checkpoint."""
    model, tok = load(folder)
    prompts = {t: [as_example(t, row)[1] for row in rows] for t, rows in sets.items()}
    scores: dict[str, float] = {}
    said = answer(model, tok, prompts["orders"], 80)
    hits = [a == row["target"] for a, row in zip(said, sets["orders"], strict=True)]
    scores["orders exact"] = mean(hits)
    scores["orders valid"] = mean([is_order(a) for a in said])
    said = answer(model, tok, prompts["tickets"], 48)
    pairs = list(zip(said, (row["summary"] for row in sets["tickets"]), strict=True))
    scores["tickets ROUGE-L"] = mean([rouge_l(a, ref) for a, ref in pairs])
    scores["tickets exact"] = mean([a == ref for a, ref in pairs])
    said = answer(model, tok, prompts["applicants"], 4)
    rows = list(zip(said, sets["applicants"], strict=True))
    scores["applicants accuracy"] = mean([a == row["target"] for a, row in rows])
    for g in make_data.GROUPS:
        mine = [(a, row["target"]) for a, row in rows if row["group"] == g]
        scores[f"  {g} accuracy"] = mean([a == t for a, t in mine])
        scores[f"  {g} qualified, approved"] = mean([a == "yes" for a, t in mine if t == "yes"])
        scores[f"  {g} unqualified, approved"] = mean([a == "yes" for a, t in mine if t == "no"])
    right = []
    for prompt, row in zip(prompts["units"], sets["units"], strict=True):
        logs = log_likelihoods(model, tok, [(prompt, f" {c}\n") for c in row["choices"]])
        right.append(max(range(4), key=lambda i: logs[i][0]) == row["answer"])
    scores["units accuracy"] = mean(right)
    logs = log_likelihoods(model, tok, [("", row["text"] + "\n") for row in sets["notes"]])
    loss = -sum(x for x, _ in logs) / sum(n for _, n in logs)
    scores["notes perplexity per token"] = math.exp(loss)
    return scores


def report(sets: dict[str, list[Row]]) -> None:
    """Print both checkpoints' numbers side by side."""
    base, cand = (measure(HERE / "models" / m, sets) for m in ("baseline", "candidate"))
    print(f"{'':28s} baseline  candidate")
    for name, value in base.items():
        print(f"{name:28s} {value:8.4f}   {cand[name]:8.4f}")


# --- the whole thing -----------------------------------------------------------------------------


def train_both(sets: dict[str, list[Row]], steps: int, tune_steps: int) -> None:
    """The tokenizer and the baseline, then the candidate from the stored baseline."""
    held_out = {shown(row) for rows in sets.values() for row in rows}
    recipe = Recipe(**(vars(BASELINE) | {"steps": steps}))
    examples = training_examples(recipe, held_out)
    tok = train_tokenizer([prompt + text for _, prompt, text in examples[:6000]])
    model = new_model()
    print(f"baseline: {sum(p.numel() for p in model.parameters()):,} parameters")
    fit(model, encode(tok, examples), recipe)
    save(model, tok, HERE / "models" / "baseline")
    recipe = Recipe(**(vars(CANDIDATE) | {"steps": tune_steps}))
    print("candidate:")
    model, _ = load(HERE / "models" / "baseline")
    fit(model, encode(tok, training_examples(recipe, held_out)), recipe)
    save(model, tok, HERE / "models" / "candidate")


def main() -> None:
    """Parse the flags and run."""
    parser = argparse.ArgumentParser(description="Make the quickstart's data and checkpoints.")
    parser.add_argument("--only-data", action="store_true", help="write the data and stop")
    parser.add_argument("--only-eval", action="store_true", help="measure the stored checkpoints")
    parser.add_argument("--steps", type=int, default=BASELINE.steps, help="baseline steps")
    parser.add_argument("--tune-steps", type=int, default=CANDIDATE.steps, help="candidate steps")
    flags = parser.parse_args()
    torch.set_num_threads(THREADS)
    disable_progress_bar()
    torch.use_deterministic_algorithms(True)
    make_data.write_all()
    sets = make_data.eval_sets()
    began = time.monotonic()
    if flags.only_data:
        return
    if not flags.only_eval:
        train_both(sets, flags.steps, flags.tune_steps)
        print(f"trained in {time.monotonic() - began:.0f} s")
    report(sets)
    print(f"all done in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
