"""The truth is transformers itself (``generate``, a plain forward pass) and lm-eval's ``HFLM``."""

from __future__ import annotations

import asyncio
import json
import math
import platform
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_checkpoints
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_checkpoints import TEXTS

from evalkit.backends import causal_lm
from evalkit.backends.causal_lm import CausalLM, draw, scored_length, written_length
from evalkit.backends.local_model import LocalModel, load
from evalkit.backends.tokens import scored_jobs
from evalkit.backends.transformers import TransformersArgs, TransformersBackend
from evalkit.errors import Fault, RunError, UsageError
from evalkit.records.exchange import Completion, Decoding, Message, Request, Window

DISJOINT = Window(None, 1, "bos")
GREEDY = Decoding(24, 0.0, 1.0, (), None)
KINDS = ("llama", "llama without bos", "gpt2")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    new = tmp_path_factory.mktemp
    return {
        "llama": tiny_checkpoints.make_llama(new("llama")),
        "llama without bos": tiny_checkpoints.make_llama(new("llama"), bos=False, seed=1),
        "gpt2": tiny_checkpoints.make_gpt2(new("gpt2")),
    }


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, LocalModel]:
    return {kind: _load(folder) for kind, folder in folders.items()}


@pytest.fixture(scope="module")
def truths(folders: dict[str, Path]) -> dict[str, tuple[Any, Any]]:
    """transformers' own tokenizer and model, by kind."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return {
        kind: (
            AutoTokenizer.from_pretrained(folder),
            AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(),
        )
        for kind, folder in folders.items()
    }


def _load(folder: Path, **options: Any) -> LocalModel:
    return load(folder, **{"device": "cpu", "dtype": "float32", "rows": 32, **options})


def _generate(prompt: str, decoding: Decoding = GREEDY, **fields: Any) -> Request:
    return Request(
        f"{prompt}{decoding.seed}", "1", "task", "generate", prompt, decoding=decoding, **fields
    )


def _score(prompt: str, continuation: str) -> Request:
    return Request(
        f"{prompt}|{continuation}", "1", "task", "loglikelihood", prompt, continuation=continuation
    )


def _rolling(text: str, window: Window = DISJOINT) -> Request:
    return Request(text, "1", "task", "rolling", text, window=window)


PROMPTS = list(dict.fromkeys(text[:cut] for text in TEXTS for cut in (1, 9, 30, len(text))))
PAIRS = [(text[:cut], text[cut:]) for text in TEXTS[:4] for cut in (0, 3, 20, 21, 40) if text[cut:]]
LONG = [" ".join(TEXTS) * 3, *TEXTS]


# --- answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_greedy_answer_is_the_one_generate_gives(kind: str, models: Any, truths: Any) -> None:
    tokenizer, model = truths[kind]
    answers = models[kind].answer([_generate(prompt) for prompt in PROMPTS])
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        written = _generated(model, ids)
        truth = tokenizer.decode(written, skip_special_tokens=True)
        assert answer.text == truth
        assert answer.finish_reason == ("stop" if written[-1] == 2 else "length")
        assert (answer.prompt_tokens, answer.completion_tokens) == (ids.shape[1], len(written))
    assert len({answer.text for answer in answers}) > 5, "the model must tell prompts apart"


def _generated(model: Any, ids: Any) -> list[int]:
    with torch.inference_mode():
        whole = model.generate(ids, do_sample=False, max_new_tokens=24, pad_token_id=0)[0]
    return list(whole[ids.shape[1] :].tolist())


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="measured on x86-64")
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_no_number_depends_on_its_batch_to_the_last_bit(
    kind: str, models: Any, monkeypatch: Any
) -> None:
    """A resumed run asks in other batches, and its scorecard is byte-equal."""
    sampled = [Decoding(24, 1.0, 0.9, (), seed) for seed in range(3)]
    requests = [
        *(_generate(prompt) for prompt in PROMPTS),
        *(_generate(prompt, d) for prompt in PROMPTS[:6] for d in sampled),
        *(_generate(LONG[0][:cut]) for cut in (110, 150, 151)),  # padded to more than the others
        *(_score(*pair) for pair in PAIRS),
        *map(_rolling, LONG),
    ]
    whole = _numbers(models[kind], monkeypatch, requests, len(requests))
    assert _numbers(models[kind], monkeypatch, requests[::-1], len(requests)) == whole
    for size in (1, 3, 7):
        assert _numbers(models[kind], monkeypatch, requests, size) == whole


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="measured on x86-64")
def test_nor_does_one_computed_by_several_threads(folders: Any, monkeypatch: Any) -> None:
    """Torch's fused attention splits a single query among threads by where it stands in the batch."""
    requests = [_generate(prompt, Decoding(6, 0.0, 1.0, (), None)) for prompt in PROMPTS[:10]]
    before = torch.get_num_threads()
    try:
        model = _load(folders["llama"], threads=2)
        whole = _numbers(model, monkeypatch, requests, len(requests))
        assert _numbers(model, monkeypatch, requests[::-1], len(requests)) == whole
        assert _numbers(model, monkeypatch, requests, 3) == whole
    finally:
        torch.set_num_threads(before)


def _numbers(
    model: LocalModel, monkeypatch: Any, requests: Sequence[Request], size: int
) -> dict[str, Any]:
    """Return each request's answer and every logit it was drawn from, asked in batches of ``size``."""
    asked: dict[int, str] = {}
    seen: dict[str, list[bytes]] = defaultdict(list)
    answers: list[Any] = []
    current: list[Any] = []
    answer_to, write_batch = model._answer_to, model._lm._write_batch
    draw_tokens = causal_lm._Draw.__call__

    def noted(request: Request) -> Any:
        answers.append(answer_to(request))  # kept, so that no other gets its id()
        asked[id(answers[-1])] = request.id
        return answers[-1]

    def writing(batch: Sequence[Any], length: int) -> Any:
        current[:] = batch
        assert {written_length(len(answer.prompt)) for answer in batch} == {length}
        return write_batch(batch, length)

    def drawing(self: Any, logits: Any) -> Any:
        for answer, row in zip(current, logits, strict=True):
            if answer.finish is None:
                seen[asked[id(answer)]].append(row.numpy().tobytes())
        return draw_tokens(self, logits)

    with monkeypatch.context() as patch:
        patch.setattr(model, "_answer_to", noted)
        patch.setattr(model._lm, "_write_batch", writing)
        patch.setattr(causal_lm._Draw, "__call__", drawing)
        found: list[Completion] = []
        for start in range(0, len(requests), size):
            found += model.answer(requests[start : start + size])
    return {i: (content, seen[i]) for i, content in _contents(found).items()}


def _contents(answers: Sequence[Completion]) -> dict[str, Any]:
    return {
        a.request_id: (a.text, a.finish_reason, a.logprobs, a.completion_tokens) for a in answers
    }


def test_a_sampled_answer_follows_its_seed(models: Any) -> None:
    model = models["llama"]
    texts = [
        [
            a.text
            for a in model.answer([_generate("a b", Decoding(12, 1.0, 1.0, (), s)) for s in seeds])
        ]
        for seeds in ((0, 1, 2, 3), (3, 2, 1, 0))
    ]
    assert texts[0] == texts[1][::-1]
    assert len(set(texts[0])) > 1
    assert model.answer([_generate("a b")])[0].text not in texts[0]


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -30.0])
    n = 20_000
    uniform = torch.from_numpy(np.random.default_rng(0).random(n))
    for temperature in (1.0, 0.5):
        drawn = draw(
            logits.expand(n, -1), torch.full((n, 1), temperature), torch.ones(n, 1), uniform
        )
        share = torch.bincount(drawn, minlength=5) / n
        assert torch.allclose(share, torch.softmax(logits / temperature, 0), atol=0.01)


@pytest.mark.parametrize("top_p", [0.05, 0.3, 0.5, 0.9, 0.999])
def test_nucleus_sampling_draws_from_the_tokens_transformers_keeps(top_p: float) -> None:
    from transformers import TopPLogitsWarper

    logits = torch.randn(40, 50, generator=torch.Generator().manual_seed(0)) * 2
    kept = TopPLogitsWarper(top_p)(None, logits) > -math.inf
    seen = torch.zeros_like(kept)
    for uniform in [*torch.linspace(0, 1 - 1e-9, 400, dtype=torch.float64), 1 - 2**-53]:
        drawn = draw(
            logits,
            torch.ones(40, 1),
            torch.full((40, 1), top_p),
            torch.full((40,), float(uniform)).double(),
        )
        seen[torch.arange(40), drawn] = True
    assert not (seen & ~kept).any(), "a token outside the nucleus was drawn"
    likely = torch.softmax(logits, -1) > 1 / 200  # more than a step of the uniform numbers
    assert seen[kept & likely].all(), "a token of the nucleus was never drawn"


def test_text_ends_before_the_first_stop_and_no_more_is_written(models: Any) -> None:
    model = models["llama"]
    for prompt in PROMPTS:
        whole = model.answer([_generate(prompt)])[0]
        for start, length in ((0, 1), (3, 2), (5, 5), (9, 3)):
            stop = whole.text[start : start + length]
            if not stop or "\N{REPLACEMENT CHARACTER}" in stop:
                continue
            stops = ("never seen", stop, "")
            (answer,) = model.answer([_generate(prompt, Decoding(24, 0.0, 1.0, stops, None))])
            assert answer.text == whole.text[: whole.text.index(stop)]
            assert answer.finish_reason == "stop"
            written = len(model._tokenizer.encode(answer.text + stop, special=False))
            assert answer.completion_tokens <= written + 3


def test_every_end_of_sequence_of_the_checkpoint_ends_an_answer(
    folders: Any, truths: Any, tmp_path: Path
) -> None:
    folder = shutil.copytree(folders["llama"], tmp_path / "model")
    prompt, (tokenizer, model) = PROMPTS[2], truths["llama"]
    ids = _generated(model, tokenizer(prompt, return_tensors="pt").input_ids)
    generation = json.loads((folder / "generation_config.json").read_text())
    # A penalty and a temperature stand there too; they must not change the answer.
    generation |= {
        "eos_token_id": [2, ids[5]], "repetition_penalty": 9.0, "do_sample": True, "temperature": 3.0
    }  # fmt: skip
    (folder / "generation_config.json").write_text(json.dumps(generation))
    (answer,) = _load(folder).answer([_generate(prompt)])
    place = ids.index(ids[5])
    assert answer.finish_reason == "stop"
    assert answer.text == tokenizer.decode(ids[:place])
    assert answer.completion_tokens == place + 1


# --- log-probabilities --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_logprobs_are_those_of_a_plain_forward_pass(kind: str, models: Any, truths: Any) -> None:
    model, (_, truth) = models[kind], truths[kind]
    requests = [*(_score(*pair) for pair in PAIRS), *map(_rolling, LONG)]
    for request, answer in zip(requests, model.answer(requests), strict=True):
        expected: list[float] = []
        for job in scored_jobs(model._tokenizer, request):
            ids = torch.tensor(job.ids)
            with torch.inference_mode():
                table = torch.log_softmax(truth(ids[None, :-1]).logits[0].double(), -1)
            each = table.gather(1, ids[1:, None])[:, 0]
            expected += each[len(each) - job.n_scored :].tolist()
        assert answer.logprobs == pytest.approx(expected, abs=2e-4)
        assert answer.text == ""


def test_a_uniform_model_gives_every_token_the_same_probability(tmp_path: Path) -> None:
    folder = tiny_checkpoints.make_llama(tmp_path)
    _rewrite(folder, lambda tensors: tensors["lm_head.weight"].zero_())
    answers = _load(folder).answer([*(_score(*pair) for pair in PAIRS), *map(_rolling, LONG)])
    values = [value for answer in answers for value in answer.logprobs or ()]
    assert len(values) > 300
    assert set(values) == {torch.log_softmax(torch.zeros(320), 0)[0].item()}
    assert math.exp(-values[0]) == pytest.approx(320, rel=1e-6), (
        "perplexity is the vocabulary's size"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_and_texts_score_as_lm_evals_hflm_scores_them(
    kind: str, folders: Any, models: Any
) -> None:
    pytest.importorskip("accelerate", reason="lm-eval's HFLM needs accelerate")
    pytest.importorskip("peft", reason="lm-eval's HFLM needs peft")
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    def ask(kind: Any, *args: str) -> Any:
        return Instance(request_type=kind, doc={}, arguments=args, idx=0)

    options = {
        "pretrained": str(folders[kind]),
        "device": "cpu",
        "dtype": "float32",
        "batch_size": 4,
    }
    # One pair of each text: lm-eval takes pairs that join to the same text for one another.
    chosen = [(text[:cut], text[cut:]) for text, cut in zip(TEXTS, (0, 3, 20, 41), strict=False)]
    pairs = [ask("loglikelihood", *pair) for pair in chosen]
    theirs = [value for value, _ in HFLM(**options).loglikelihood(pairs, disable_tqdm=True)]
    ours = models[kind].answer([_score(*pair) for pair in chosen])
    assert [math.fsum(answer.logprobs) for answer in ours] == pytest.approx(theirs, rel=1e-6)

    texts = [ask("loglikelihood_rolling", text) for text in LONG]
    # Our default window leaves a server two positions; BOS is not to be read and scored twice.
    reader = HFLM(**options, max_length=tiny_checkpoints.WINDOW - 2, add_bos_token=False)
    theirs = reader.loglikelihood_rolling(texts, disable_tqdm=True)
    ours = models[kind].answer([_rolling(text) for text in LONG])
    assert [math.fsum(answer.logprobs) for answer in ours] == pytest.approx(theirs, rel=1e-6)


def test_an_impossible_token_is_a_fault_and_no_number(models: Any, monkeypatch: Any) -> None:
    lm = models["llama"]._lm
    forward = lm._forward
    monkeypatch.setattr(lm, "_forward", lambda *args, **kw: forward(*args, **kw).fill_(math.nan))
    with pytest.raises(Fault) as caught:
        models["llama"].answer([_score("a", " b")])
    assert caught.value.kind == "bad_response"


# --- what cannot be asked -----------------------------------------------------------------------


def test_what_does_not_fit_the_window_is_a_fault_before_anything_is_computed(
    models: Any, monkeypatch: Any
) -> None:
    model = models["llama"]
    monkeypatch.setattr(CausalLM, "write", lambda *_: pytest.fail("computed"))
    monkeypatch.setattr(CausalLM, "score", lambda *_: pytest.fail("computed"))
    long = " ".join("abcdefgh" * 40)
    for request in (
        _generate(long),
        _generate("a", Decoding(tiny_checkpoints.WINDOW, 0.0, 1.0, (), None)),
        _score(long, " b"),
        _rolling(long, Window(200, 1, "bos")),
    ):
        with pytest.raises(Fault) as caught:
            model.answer([_generate("a"), request])
        assert caught.value.kind == "context_length"


def test_an_answer_may_fill_the_window_to_its_end(models: Any) -> None:
    for kind in KINDS:
        ids = models[kind]._tokenizer.encode("a b", special=True)
        decoding = Decoding(tiny_checkpoints.WINDOW - len(ids), 1.0, 1.0, (), 0)
        (answer,) = models[kind].answer([_generate("a b", decoding)])
        assert answer.finish_reason in ("stop", "length")


def test_an_empty_prompt_is_answered_from_bos(models: Any) -> None:
    for kind in KINDS:
        (answer,) = models[kind].answer([_generate("")])
        assert answer.prompt_tokens == 1


def test_text_that_is_no_unicode_is_a_bad_request(models: Any) -> None:
    with pytest.raises(Fault) as caught:
        models["llama"].answer([_generate("\ud83d")])
    assert caught.value.kind == "bad_request"


def test_a_batch_too_large_for_the_memory_is_halved(models: Any, monkeypatch: Any) -> None:
    model = models["llama"]
    requests = [*(_generate(prompt) for prompt in PROMPTS), *(_score(*pair) for pair in PAIRS)]
    whole = _contents(model.answer(requests))
    attempts = _limit_memory(model, monkeypatch, rows=3)
    assert _contents(model.answer(requests)) == whole
    assert max(attempts) > 3


def test_a_request_too_large_for_the_memory_is_a_fault(models: Any, monkeypatch: Any) -> None:
    _limit_memory(models["llama"], monkeypatch, rows=0)
    for request in (_generate("a"), _score("a", " b")):
        with pytest.raises(Fault) as caught:
            models["llama"].answer([request])
        assert caught.value.kind == "out_of_memory"


def _limit_memory(model: LocalModel, monkeypatch: Any, rows: int) -> list[int]:
    """Let the model's memory end at so many rows; return the numbers of rows that are tried."""
    lm, attempts = model._lm, []

    def limited(compute: Callable[..., Any]) -> Callable[..., Any]:
        def call(items: Sequence[Any], length: int) -> Any:
            attempts.append(len(items))
            if len(items) > rows:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return compute(items, length)

        return call

    monkeypatch.setattr(lm, "_write_batch", limited(lm._write_batch))
    monkeypatch.setattr(lm, "_score_batch", limited(lm._score_batch))
    return attempts


@given(length=st.integers(1, 5000))
def test_a_padded_length_holds_its_text_and_wastes_little(length: int) -> None:
    assert length <= scored_length(length) < length + 16
    assert length <= written_length(length) <= max(64, 1.5 * length)


# --- chat ---------------------------------------------------------------------------------------

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
    "{% endif %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


def test_messages_go_through_the_chat_template_with_one_bos(folders: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(folders["llama"], tmp_path / "model")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    assert "chat" in _backend(folder).provides
    assert "chat" not in _backend(folders["llama"]).provides
    model = _load(folder)
    chat = _generate("", messages=(Message("user", "a b"),))
    plain = _generate("[user]a b[assistant]")
    asked, same = model.answer([chat, plain])
    assert (asked.text, asked.prompt_tokens) == (same.text, same.prompt_tokens)
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    (bare,) = _load(folder).answer([chat])
    ids = model._tokenizer.encode("a b", special=False)
    assert bare.prompt_tokens == len(ids), "a template without BOS is sent without BOS"
    with pytest.raises(Fault, match="no system") as caught:
        model.answer([_generate("", messages=(Message("system", "a"),))])
    assert caught.value.kind == "bad_request"


# --- checkpoints --------------------------------------------------------------------------------


def _rewrite(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"format": "pt"})


def test_a_checkpoint_that_lacks_weights_is_refused(folders: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(folders["llama"], tmp_path / "model")
    _rewrite(folder, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(RunError, match=r"lacks 1 weights.*up_proj"):
        _load(folder)


def test_a_checkpoint_of_another_shape_is_refused(folders: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(folders["llama"], tmp_path / "model")
    config = json.loads((folder / "config.json").read_text()) | {"intermediate_size": 48}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError):
        _load(folder)


def test_pickled_weights_are_never_read(folders: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(folders["llama"], tmp_path / "model")
    (folder / "model.safetensors").unlink()
    torch.save({"x": torch.zeros(1)}, folder / "pytorch_model.bin")
    with pytest.raises(RunError, match="weights cannot be loaded"):
        _load(folder)


def test_code_beside_a_checkpoint_is_never_run(folders: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(folders["llama"], tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n")
    with pytest.raises(RunError) as caught:
        _load(folder)
    assert "--backend vllm" in caught.value.advice
    assert not (tmp_path / "ran").exists()


def test_weights_torn_in_the_middle_are_a_run_error(folders: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(folders["llama"], tmp_path / "model")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(RunError, match="weights cannot be loaded"):
        _load(folder)


# --- the backend --------------------------------------------------------------------------------


def _backend(folder: Path, **options: Any) -> TransformersBackend:
    args = TransformersArgs(**options)
    return TransformersBackend.from_model(str(folder), args, tiny_checkpoints.find)


def test_identity_is_the_bytes_and_the_numerics_and_nothing_else(
    folders: Any, tmp_path: Path
) -> None:
    moved = shutil.copytree(folders["llama"], tmp_path / "elsewhere")
    known = _backend(folders["llama"]).model.digest
    assert _backend(moved).model.digest == known
    assert _backend(moved, batch_size=4, threads=2).model.digest == known
    others = {
        _backend(moved, dtype="bfloat16").model.digest,
        _backend(moved, max_length=64).model.digest,
        _backend(folders["gpt2"]).model.digest,
    }
    (moved / "chat_template.jinja").write_text(TEMPLATE)
    others.add(_backend(moved).model.digest)
    assert len(others | {known}) == 5


def test_identity_is_known_without_loading_torch(folders: Any) -> None:
    code = (
        "import sys, tiny_checkpoints\n"
        "from evalkit.registry import find\n"
        "kind = find('backend', 'transformers').make\n"
        f"model = kind.from_model({str(folders['llama'])!r}, kind.Args(), tiny_checkpoints.find).model\n"
        "print(model.engine['dtype'], {'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert done.stdout.strip() == "float32 set()"


def test_missing_libraries_are_named_with_the_command_that_installs_them(
    folders: Any, monkeypatch: Any
) -> None:
    from importlib.metadata import PackageNotFoundError

    from evalkit.backends import transformers as module

    def version(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(module, "version", version)
    with pytest.raises(RunError) as caught:
        _backend(folders["llama"])
    assert caught.value.advice == "pip install 'evalkit-gates[transformers]'"


def test_a_device_that_is_not_there_is_a_run_error(folders: Any) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(RunError) as caught:
        asyncio.run(_backend(folders["llama"], device="cuda").open(_Steps()))
    assert "device=cpu" in caught.value.advice


class _Steps:
    def __init__(self) -> None:
        self.said: list[str] = []

    def step(self, text: str) -> None:
        self.said.append(text)

    def advance(self, done: int, total: int | None, failed: int = 0) -> None: ...


def test_loading_says_what_it_does(folders: Any) -> None:
    steps = _Steps()

    async def main() -> None:
        backend = _backend(folders["llama"])
        await backend.open(steps)
        await backend.close()

    asyncio.run(main())
    assert steps.said[0].startswith(f"loading {folders['llama']}")


def test_the_event_loop_stays_free_while_the_model_computes(folders: Any) -> None:
    async def main() -> tuple[int, float]:
        backend = _backend(folders["llama"])
        await backend.open(_Steps())
        work = asyncio.ensure_future(
            backend.answer([_generate("a", Decoding(120, 1.0, 1.0, (), 1))])
        )
        turns, started = 0, time.perf_counter()
        while not work.done():
            await asyncio.sleep(0.001)
            turns += 1
        seconds = time.perf_counter() - started
        await backend.close()
        return turns, seconds

    turns, seconds = asyncio.run(main())
    assert turns > 20, f"{turns} turns in {seconds:.2f} s"


def test_work_that_nobody_waits_for_ends_soon(folders: Any) -> None:
    async def main() -> int:
        backend = _backend(folders["llama"])
        await backend.open(_Steps())
        lm = backend._loaded._lm  # type: ignore[union-attr]
        steps, step = 0, lm._step

        def slow(*args: Any) -> Any:
            nonlocal steps
            steps += 1
            time.sleep(0.02)
            return step(*args)

        lm._step = slow
        endless = _generate("a", Decoding(120, 1.0, 1.0, (), 3))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await backend.answer([endless])
        (answer,) = await backend.answer([_generate("a", Decoding(2, 0.0, 1.0, (), None))])
        assert answer.completion_tokens == 2
        await backend.close()
        return steps

    assert asyncio.run(main()) < 40


# --- adapters -----------------------------------------------------------------------------------


def _make_adapter(folder: Path, base: Path, target: str = "q_proj") -> Path:
    """Write a LoRA adapter of rank 2 on one projection of each layer, in peft's format."""
    from safetensors.torch import save_file

    folder.mkdir()
    generator = torch.Generator().manual_seed(5)
    tensors = {}
    for layer in range(2):
        name = f"base_model.model.model.layers.{layer}.self_attn.{target}"
        tensors[f"{name}.lora_A.weight"] = torch.randn(2, 32, generator=generator)
        tensors[f"{name}.lora_B.weight"] = torch.randn(32, 2, generator=generator)
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4,
        "target_modules": ["q_proj"], "base_model_name_or_path": str(base),
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def test_an_adapters_bytes_belong_to_the_identity(
    folders: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    from evalkit.backends import transformers as module

    monkeypatch.setattr(module, "version", lambda package: "1.0")  # peft need not be installed
    base = folders["llama"]
    adapter = _make_adapter(tmp_path / "adapter", base)
    bare, named, alone = _backend(base), _backend(base, adapter=str(adapter)), _backend(adapter)
    assert named.model.digest != bare.model.digest
    assert alone.model.digest == named.model.digest, "an adapter folder names its own base"
    assert "adapter/adapter_model.safetensors" in named.model.files
    weights = adapter / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert _backend(base, adapter=str(adapter)).model.digest != named.model.digest
    with pytest.raises(UsageError, match="no second one"):
        _backend(adapter, adapter=str(adapter))


def test_an_adapter_answers_as_the_weights_it_amounts_to(folders: Any, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    adapter = _make_adapter(tmp_path / "adapter", folders["llama"])
    merged = shutil.copytree(folders["llama"], tmp_path / "merged")
    from safetensors.torch import load_file

    lora = load_file(adapter / "adapter_model.safetensors")

    def merge(tensors: dict[str, Any]) -> None:
        for layer in range(2):
            name = f"model.layers.{layer}.self_attn.q_proj"
            a, b = (lora[f"base_model.model.{name}.lora_{x}.weight"] for x in "AB")
            tensors[f"{name}.weight"] += 4 / 2 * b @ a

    _rewrite(merged, merge)
    requests = [*map(_rolling, LONG), *(_generate(prompt) for prompt in PROMPTS)]
    adapted = _load(folders["llama"], adapter=adapter).answer(requests)
    for ours, truth in zip(adapted, _load(merged).answer(requests), strict=True):
        assert ours.text == truth.text
        assert (ours.logprobs or ()) == pytest.approx(truth.logprobs or (), abs=1e-3)
    assert adapted[0].logprobs != _load(folders["llama"]).answer(requests[:1])[0].logprobs


def test_an_adapter_whose_weights_find_no_place_is_refused(folders: Any, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    adapter = _make_adapter(tmp_path / "adapter", folders["llama"], target="elsewhere_proj")
    with pytest.raises(RunError, match="find no place"):
        _load(folders["llama"], adapter=adapter)


def test_an_adapter_without_peft_is_a_run_error_with_the_command(
    folders: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    adapter = _make_adapter(tmp_path / "adapter", folders["llama"])
    with pytest.raises(RunError, match="peft") as caught:
        _load(folders["llama"], adapter=adapter)
    assert caught.value.advice == "pip install peft"
