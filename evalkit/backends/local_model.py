"""A checkpoint loaded into this process: requests in, completions out.

Text becomes token ids here and ids become text; the numbers are ``causal_lm``'s. Imports torch and transformers: import
it only where a model is about to be loaded.

An answer's text ends before the first stop text and before EOS, and holds no special tokens. It is decoded whole, as it
continues the prompt, so that no character is torn and no leading space lost.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias

import torch
import transformers
from safetensors import SafetensorError, safe_open

from evalkit.backends.causal_lm import Answer, AnyModel, CausalLM
from evalkit.backends.tokens import Job, Tokenizer, context_length, scored_jobs
from evalkit.errors import Fault, RunError
from evalkit.records.exchange import Completion, Request

AnyTokenizer: TypeAlias = Any
"""A tokenizer of transformers."""

SMALL = 20_000_000
"""Weights below which a second thread costs more than it gives: its waiting dominates, on a busy machine by far."""

_UNREADABLE = (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError)
"""What transformers raises on a checkpoint that it cannot load."""


class LocalModel:
    """A loaded checkpoint; not safe for two threads at once."""

    def __init__(
        self, lm: CausalLM, tokenizer: Tokenizer, chat: AnyTokenizer, eos_ids: frozenset[int]
    ) -> None:
        """``chat`` is transformers' tokenizer, which knows the chat template."""
        self._lm = lm
        self._tokenizer = tokenizer
        self._chat = chat
        self._eos_ids = eos_ids

    @property
    def facts(self) -> Mapping[str, Any]:
        """What provenance tells of the running engine."""
        return {
            "context_length": self._tokenizer.context_length,
            "threads": torch.get_num_threads(),
            **self._lm.device,
        }

    def answer(
        self, requests: Sequence[Request], unwanted: Callable[[], bool] = lambda: False
    ) -> list[Completion]:
        """Return one completion per request, in order.

        Every request is checked before any is computed. Raises Fault, and ``causal_lm.Cancelled`` once ``unwanted()``.
        """
        started = perf_counter()
        self._lm.unwanted = unwanted
        answers = {
            place: self._answer_to(request)
            for place, request in enumerate(requests)
            if request.kind == "generate"
        }
        jobs = {
            place: scored_jobs(self._tokenizer, request)
            for place, request in enumerate(requests)
            if request.kind != "generate"
        }
        self._lm.write(list(answers.values()))
        scored = iter(self._lm.score([job for held in jobs.values() for job in held]))
        logprobs = {
            place: tuple(value for _ in held for value in next(scored))
            for place, held in jobs.items()
        }
        latency_s = perf_counter() - started
        return [
            self._written(request, answers[place], latency_s)
            if place in answers
            else _scored(request, jobs[place], logprobs[place], latency_s)
            for place, request in enumerate(requests)
        ]

    def _answer_to(self, request: Request) -> Answer:
        """Return the answer to be written. Raises Fault where the prompt cannot be asked."""
        decoding = request.decoding
        assert decoding is not None, "a generate request says how its answer is drawn"
        prompt = self._prompt(request)
        limit = self._tokenizer.context_length
        if limit is not None and len(prompt) + decoding.max_tokens > limit:
            raise Fault(
                "context_length",
                f"{len(prompt)} tokens and an answer of {decoding.max_tokens} do not fit the window of {limit}",
            )
        stops = tuple(filter(None, decoding.stop))
        if not stops:
            return Answer(prompt, decoding)
        # A token writes at least one byte; a few more, lest a space be lost where the decoder begins.
        span = max(len(stop.encode("utf-8", "replace")) for stop in stops) + 4

        def stopped(ids: Sequence[int]) -> bool:
            tail = self._tokenizer.decode(ids[-span:], after=(*prompt[-4:], *ids[:-span]))
            return any(stop in tail for stop in stops) and any(
                stop in self._text(prompt, ids) for stop in stops
            )

        return Answer(prompt, decoding, stopped)

    def _prompt(self, request: Request) -> list[int]:
        if request.messages is None:
            ids = self._tokenizer.encode(request.prompt, special=True)
        else:
            messages = [{"role": m.role, "content": m.content} for m in request.messages]
            try:
                text = self._chat.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=True
                )
            except Exception as error:  # the template is the checkpoint's own code
                raise Fault("bad_request", f"the chat template refuses: {error}") from error
            # The template itself writes BOS where the model wants one.
            ids = self._tokenizer.encode(text, special=False)
        if not ids:
            prefix = self._tokenizer.prefix_id
            if prefix is None:
                raise Fault("bad_request", "the prompt is empty, and the model has no BOS or EOS")
            ids = [prefix]
        return ids

    def _text(self, prompt: Sequence[int], ids: Sequence[int]) -> str:
        kept = ids[:-1] if ids and ids[-1] in self._eos_ids else ids
        return self._tokenizer.decode(kept, after=prompt)

    def _written(self, request: Request, answer: Answer, latency_s: float) -> Completion:
        assert request.decoding is not None, "checked when it was asked"
        assert answer.finish is not None, "every answer is written to its end"
        text = self._text(answer.prompt, answer.ids)
        ends = [text.find(stop) for stop in request.decoding.stop if stop and stop in text]
        return Completion(
            request.id,
            text[: min(ends)] if ends else text,
            answer.finish,
            None,
            len(answer.prompt),
            len(answer.ids),
            latency_s,
        )


def _scored(
    request: Request, jobs: Sequence[Job], logprobs: tuple[float, ...], latency_s: float
) -> Completion:
    read = sum(len(job.ids) for job in jobs)
    return Completion(request.id, "", "stop", logprobs, read, 0, latency_s)


def load(
    folder: Path,
    *,
    device: str,
    dtype: str,
    rows: int,
    max_length: int | None = None,
    adapter: Path | None = None,
    threads: int | None = None,
) -> LocalModel:
    """Load a checkpoint from its folder. Raises RunError, with advice, where that cannot be done.

    ``rows``: most rows of a batch. Call it on the thread that will ask: torch counts threads for each.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise RunError("torch sees no CUDA device", "run on the CPU: --model-arg device=cpu")
    with _quiet():
        chat, tokenizer = _tokenizer(folder, max_length)
        model = _model(folder, dtype)
        if adapter is not None:
            model = _with_adapter(model, adapter)
        try:
            model = model.to(device).eval()
        except torch.OutOfMemoryError as error:
            advice = "use a smaller number format (--model-arg dtype=bfloat16) or a larger GPU"
            raise RunError(f"{folder} does not fit into the GPU's memory", advice) from error
    if threads is not None or (device == "cpu" and model.num_parameters() < SMALL):
        torch.set_num_threads(threads or 1)
    ends = model.generation_config.eos_token_id if model.generation_config else None
    eos_ids = {*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_id} - {None}
    lm = CausalLM(
        model, eos_ids=frozenset(eos_ids), rows=rows, context_length=tokenizer.context_length
    )
    return LocalModel(lm, tokenizer, chat, frozenset(eos_ids))


def _tokenizer(folder: Path, max_length: int | None) -> tuple[AnyTokenizer, Tokenizer]:
    """Return transformers' tokenizer and ours around the same ``tokenizers`` object."""
    try:
        chat = transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        config = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except _UNREADABLE as error:
        raise _unreadable(folder, "tokenizer or configuration", error) from error
    if not chat.is_fast:
        raise RunError(
            f"{folder}: the tokenizer has no fast form (tokenizer.json)",
            "convert it: AutoTokenizer.from_pretrained(folder, use_fast=True).save_pretrained(folder)",
        )
    own = context_length(config.to_dict(), {"model_max_length": chat.model_max_length})
    known = [length for length in (own, max_length) if length is not None]
    length = min(known, default=None)
    encoder = chat.backend_tokenizer
    return chat, Tokenizer.of(encoder, chat.bos_token_id, chat.eos_token_id, length)


def _model(folder: Path, dtype: str) -> AnyModel:
    try:
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except _UNREADABLE as error:
        raise _unreadable(folder, "weights", error) from error
    model, found = loaded
    absent = sorted({*found["missing_keys"], *map(str, found["mismatched_keys"])})
    if absent:
        listed = ", ".join(absent[:3]) + (" …" if len(absent) > 3 else "")
        raise RunError(
            f"{folder} lacks {len(absent)} weights of the model that its config.json tells: {listed}",
            "save or fetch the checkpoint again; with random weights it would answer nonsense",
        )
    return model


def _with_adapter(model: AnyModel, adapter: Path) -> AnyModel:
    """Return the model with a LoRA adapter on it. Raises RunError where a weight of the adapter finds no place."""
    try:
        from peft import PeftModel, get_peft_model_state_dict
    except ImportError as error:
        raise RunError("an adapter needs peft, not installed", "pip install peft") from error
    try:
        with warnings.catch_warnings():
            # peft 0.21 asks transformers 5 for an attribute by its old name.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            # What finds no place is refused below, by name.
            warnings.filterwarnings("ignore", "Found missing adapter keys", UserWarning)
            adapted = PeftModel.from_pretrained(model, str(adapter), is_trainable=False)
        with safe_open(adapter / "adapter_model.safetensors", "pt") as file:
            stored = set(file.keys())
    except _UNREADABLE as error:
        raise _unreadable(adapter, "adapter", error) from error
    unused = sorted(stored - set(get_peft_model_state_dict(adapted)))
    if unused:
        raise RunError(
            f"{adapter}: {len(unused)} of {len(stored)} adapter weights find no place in the model: {unused[0]} …",
            "use the adapter on the checkpoint that it was trained for",
        )
    if adapted.active_peft_config.is_prompt_learning:
        advice = "merge it into the checkpoint, or use an adapter that changes weights (LoRA)"
        raise RunError(f"{adapter} changes prompts, not weights", advice)
    # The model itself, its layers changed in place: peft's wrapper hides which arguments it takes.
    return adapted.get_base_model()


def _unreadable(folder: Path, what: str, error: BaseException) -> RunError:
    reason = (str(error).strip() or repr(error)).splitlines()[0]
    advice = "check that it loads with transformers' AutoModelForCausalLM; vLLM may know it: --backend vllm"
    return RunError(f"{folder}: the {what} cannot be loaded: {reason}", advice)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' own progress bars and remarks; what matters of them is checked here."""
    log: Any = transformers.utils.logging  # untyped
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()
