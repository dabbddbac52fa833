"""A checkpoint's tokenizer without its model, and how scored text becomes token ids.

A scored request becomes *jobs*: token ids of which the last few are scored. Every backend takes its jobs from here, so
that the same suite scores the same tokens on all of them; ids are sent to servers, never text.

**Pairs.** White space at the end of a prompt moves to the continuation; both are encoded together, and what the prompt
alone does not account for is scored. An empty prompt becomes the prefix token: BOS, or EOS where a model has
no BOS.
**BOS.** A prompt begins with BOS where the tokenizer itself puts it there, and never twice. A text for perplexity is
encoded bare; its first token is predicted from the prefix token, once.
**Default window.** ``context length - 2`` tokens: a server reads the last scored token too and insists on writing one
more, so this is the longest window that every backend can read.

**Source.** lm-evaluation-harness 0.4.13: ``TemplateLM._encode_pair`` and ``loglikelihood``, ``HFLM.tok_encode``,
``TemplateAPI.tok_encode`` and ``loglikelihood_rolling``; transformers 5 for what ``tokenizer_config.json`` means.
**Deviation.** lm-eval's own models differ among themselves. ``hf`` encodes with the tokenizer's special tokens: pairs
are equal to ours; its rolling texts get BOS twice (prefix and tokenizer) and BOS itself is scored, unless
``add_bos_token=False`` is given, and then they are equal to ours with the same window. ``local-completions`` encodes
without special tokens: rolling texts are equal to ours (with the same ``max_length``, whole context); pairs are equal
with ``add_bos_token=True`` (or where the tokenizer adds no BOS). What lm-eval truncates on the left is a fault here. A
tokenizer that ends every text with EOS is taken without that EOS, since nothing could follow it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from tokenizers import Tokenizer as Encoder

from evalkit.errors import Fault, RunError
from evalkit.metrics.windows import rolling_windows
from evalkit.records.exchange import Request, Window

UNKNOWN_LENGTH = 2048
"""Tokens per default window where a checkpoint does not tell its context length (lm-eval's value)."""

SERVER_RESERVE = 2
"""Positions a server needs beyond those that predict: it reads the last scored token and writes one more."""

_LENGTH_KEYS = ("n_positions", "max_position_embeddings", "n_ctx", "max_sequence_length")
_NO_LIMIT = 10**9  # tokenizers without a length of their own state about 1e30


class Job(NamedTuple):
    """Token ids to read in one go; log-probabilities of the last ``n_scored`` of them are wanted."""

    ids: tuple[int, ...]
    """Context, then what is scored; at least one token more than is scored."""
    n_scored: int
    """How many tokens at the end are scored."""


@dataclass(frozen=True)
class Tokenizer:
    """A checkpoint's tokenizer and what surrounds it."""

    encoder: Encoder
    """The ``tokenizers`` object; without truncation or padding."""
    bos_id: int | None
    """Beginning of sequence."""
    eos_id: int | None
    """End of sequence."""
    lead: tuple[int, ...]
    """What the tokenizer itself puts before every text: usually BOS or nothing."""
    context_length: int | None
    """Tokens the model can read; None where the checkpoint does not tell."""

    @classmethod
    def of(
        cls,
        encoder: Encoder,
        bos_id: int | None,
        eos_id: int | None,
        context_length: int | None,
        add_bos: bool | None = None,
    ) -> Self:
        """Wrap a ``tokenizers`` object; ``add_bos`` overrules what its post-processor puts first."""
        encoder.no_truncation()
        encoder.no_padding()
        decreed = (bos_id,) if add_bos and bos_id is not None else ()
        lead = _lead(encoder) if add_bos is None else decreed
        return cls(encoder, bos_id, eos_id, lead, context_length)

    @classmethod
    def from_folder(cls, folder: str | Path) -> Self:
        """Read the tokenizer of a checkpoint folder, as transformers would.

        Raises RunError where there is no readable ``tokenizer.json``.
        """
        place = Path(folder)
        path = place / "tokenizer.json"
        if not path.is_file():
            raise RunError(
                f"{place}: there is no tokenizer.json",
                "write one: AutoTokenizer.from_pretrained(folder, use_fast=True).save_pretrained(folder)",
            )
        try:
            encoder = Encoder.from_file(str(path))
        except Exception as error:  # the library raises nothing narrower
            advice = "save the tokenizer again with the installed version of tokenizers"
            raise RunError(f"{path} cannot be read: {error}", advice) from error
        config = _read_json(place / "config.json")
        options = _read_json(place / "tokenizer_config.json")
        named = _read_json(place / "special_tokens_map.json") | options
        return cls.of(
            encoder,
            _special_id(encoder, "bos_token", named, config),
            _special_id(encoder, "eos_token", named, config),
            context_length(config, options),
            _add_bos(options),
        )

    @property
    def prefix_id(self) -> int | None:
        """What the first token of a bare text is predicted from: BOS, else EOS, else nothing."""
        return self.eos_id if self.bos_id is None else self.bos_id

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Return the text's token ids, led by what the tokenizer puts first if ``special``.

        Text that begins with BOS already is not given another. Raises Fault("bad_request") on text that is no valid
        Unicode (half of a surrogate pair).
        """
        try:
            ids: list[int] = self.encoder.encode(text, add_special_tokens=False).ids
        except (TypeError, UnicodeEncodeError) as error:
            raise Fault("bad_request", f"the text cannot be encoded: {error}") from error
        lead = self.lead if special else ()
        return ids if tuple(ids[: len(lead)]) == lead else [*lead, *ids]

    def decode(self, ids: Sequence[int], after: Sequence[int] = ()) -> str:
        """Return the text of token ids without special tokens, as it continues the tokens ``after``.

        Some tokenizers drop a space at the beginning of a text; what follows a prompt is no beginning.
        """
        text: str = self.encoder.decode(list(ids), skip_special_tokens=True)
        anchor = list(after[-4:])
        if anchor:
            head: str = self.encoder.decode(anchor, skip_special_tokens=True)
            whole: str = self.encoder.decode([*anchor, *ids], skip_special_tokens=True)
            if head and whole.startswith(head):
                return whole[len(head) :]
        return text


def likelihood_job(
    tokenizer: Tokenizer, prompt: str, continuation: str
) -> tuple[list[int], list[int]]:
    """Return the ids of the context and of the continuation: the continuation's are those of the whole after as many
    as the context alone has.

    A token that spans the boundary therefore falls to the context's side, as in lm-eval; a delimiter between prompt
    and continuation keeps that from happening.
    The context is never empty. Raises Fault("bad_sample") where the continuation adds no token of its own, or nothing
    could predict its first one.
    """
    context = tokenizer.encode(prompt.rstrip(), special=True) if prompt else []
    scored = tokenizer.encode(prompt + continuation, special=bool(prompt))[len(context) :]
    if not context:
        context, scored = _after_prefix(tokenizer, scored)
    if not scored:
        raise Fault("bad_sample", f"the continuation {continuation!r} adds no token to the prompt")
    return context, scored


def rolling_jobs(
    tokenizer: Tokenizer, text: str, window: Window, context_length: int | None = None
) -> list[Job]:
    """Return the windows over a text as jobs; together they score every token once (see ``metrics.windows``).

    ``context_length`` stands in for the checkpoint's own where the engine allows less. Empty where the text holds
    nothing to score. Raises Fault("bad_sample") where a prefix token is wanted and the model has none.
    """
    ids = tokenizer.encode(text, special=False)
    lead: list[int] = []
    if window.prefix == "bos" and ids:
        lead, ids = _after_prefix(tokenizer, ids)
    length = context_length or tokenizer.context_length or UNKNOWN_LENGTH + SERVER_RESERVE
    windows = rolling_windows(
        len(ids),
        max_length=window.max_length or max(length - SERVER_RESERVE, window.context),
        context=window.context,
        prefix=window.prefix,
    )
    return [
        Job(
            (*(lead if start < 0 else ()), *ids[max(start, 0) : end]),
            end - first,
        )
        for start, first, end in windows
    ]


def scored_jobs(
    tokenizer: Tokenizer,
    request: Request,
    *,
    context_length: int | None = None,
    reserve: int = 0,
) -> list[Job]:
    """Return what a ``loglikelihood`` or ``rolling`` request asks to be scored, in order.

    ``reserve`` is SERVER_RESERVE for servers. Raises Fault("context_length") where a job does not fit, and whatever
    ``likelihood_job`` and ``rolling_jobs`` raise.
    """
    limit = context_length or tokenizer.context_length
    if request.kind == "rolling":
        assert request.window is not None, "a rolling request says how its text is cut"
        jobs = rolling_jobs(tokenizer, request.prompt, request.window, limit)
    else:
        context, scored = likelihood_job(tokenizer, request.prompt, request.continuation)
        jobs = [Job((*context, *scored), len(scored))]
    longest = max((len(job.ids) for job in jobs), default=0) - 1 + reserve
    if limit is not None and longest > limit:
        message = f"{longest} positions are needed, the model's window has {limit}"
        raise Fault("context_length", message)
    return jobs


def context_length(
    config: Mapping[str, Any], tokenizer_config: Mapping[str, Any] | None = None
) -> int | None:
    """Return the tokens a model can read by its ``config.json``, else by its tokenizer's; None where neither tells."""
    for held in (config, config.get("text_config") or {}):
        for key in _LENGTH_KEYS:
            if isinstance(held.get(key), int):
                return int(held[key])
    stated = (tokenizer_config or {}).get("model_max_length")
    return int(stated) if isinstance(stated, int | float) and stated < _NO_LIMIT else None


def _after_prefix(tokenizer: Tokenizer, ids: list[int]) -> tuple[list[int], list[int]]:
    """Return the prefix token and what follows it; a text that begins with it keeps it as its own."""
    prefix = tokenizer.prefix_id
    if prefix is None:
        message = "nothing predicts the first token: the model has neither BOS nor EOS"
        raise Fault("bad_sample", message)
    return [prefix], ids[1:] if ids[:1] == [prefix] else ids


def _lead(encoder: Encoder) -> tuple[int, ...]:
    """Return what the post-processor puts before a text, seen on a text of one letter."""
    bare = encoder.encode("a", add_special_tokens=False).ids
    dressed = encoder.encode("a", add_special_tokens=True).ids
    for place in range(len(dressed) - len(bare) + 1):
        if dressed[place : place + len(bare)] == bare:
            return tuple(dressed[:place])
    return ()


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise RunError(f"{path} cannot be read: {error}", "fetch the checkpoint again") from error
    return content if isinstance(content, dict) else {}


def _special_id(
    encoder: Encoder, name: str, named: Mapping[str, Any], config: Mapping[str, Any]
) -> int | None:
    """Return a special token's id: by the tokenizer's files, else (GPT-2) by the model's; null means none."""
    if name in named:
        token = named[name]
        text = token.get("content") if isinstance(token, dict) else token
        return None if text is None else encoder.token_to_id(str(text))
    for held in (config, config.get("text_config") or {}):
        ids = held.get(f"{name}_id")
        first = ids[0] if isinstance(ids, list) and ids else ids
        if isinstance(first, int):
            return first
    return None


def _add_bos(options: Mapping[str, Any]) -> bool | None:
    """Return whether BOS is put first by decree; None leaves it to ``tokenizer.json``."""
    if "add_bos_token" in options or "add_eos_token" in options:
        return bool(options.get("add_bos_token", False))
    return None
