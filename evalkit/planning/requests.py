"""Requests as forms make them: the one place where request ids are made."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from evalkit.identity import canonical_json
from evalkit.records.exchange import Decoding, Message, Model, Request, RequestKind
from evalkit.records.suite import DecodingSpec


class Asked(NamedTuple):
    """What a form asks about one row."""

    targets: tuple[str, ...]
    """What right answers are."""
    choices: tuple[str, ...]
    """The choices; empty where answers are written."""
    requests: tuple[Request, ...]
    """Replicates in order."""
    per_replicate: int
    """Requests of one replicate."""
    variants: tuple[str, ...] = ()
    """Names of the variants whose answers one replicate holds; empty where there are none."""


def reason(error: Exception) -> str:
    """Return what a template's failure on a row is called in a report."""
    return f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error)


def whole_choices(choices: tuple[str, ...]) -> tuple[str, ...]:
    """Return choices that can be chosen between; raise ValueError on any others."""
    if len(choices) < 2 or "" in choices:
        raise ValueError("a multiple-choice sample needs at least two choices, none empty")
    return choices


def choice_number(target: str, choices: tuple[str, ...]) -> int:
    """Return the 0-based number of the right choice from its text or its number; raise ValueError on any other text."""
    if target in choices:
        return choices.index(target)
    if target.isdecimal() and int(target) < len(choices):
        return int(target)
    raise ValueError(f"target {target!r} is neither a choice nor a choice's number")


class RequestId:
    """Digests of requests that share a model, a kind and a decoding."""

    def __init__(self, model: Model, kind: RequestKind, settings: Mapping[str, Any]) -> None:
        header = {"format": 1, "model": model.digest, "kind": kind, **settings}
        self._header = hashlib.sha256(canonical_json(header))

    def __call__(self, *parts: str) -> str:
        """Return the id of a request with these contents; where one ends is part of it."""
        state = self._header.copy()
        for part in parts:
            raw = part.encode("utf-8", "surrogatepass")
            state.update(len(raw).to_bytes(8, "little"))
            state.update(raw)
        return state.hexdigest()


class Generation:
    """Requests for written answers that one task draws in one way."""

    def __init__(self, task: str, model: Model, spec: DecodingSpec) -> None:
        self._task, self._per_sample = task, model.per_sample
        self._limits = (spec.max_tokens, spec.temperature, spec.top_p, spec.stop)
        settings = {"decoding": spec.model_dump(mode="json", exclude={"seed", "replicates"})}
        self._id = RequestId(model, "generate", settings)

    def request(
        self,
        sample_id: str,
        prompt: str,
        messages: tuple[Message, ...] | None,
        *,
        seed: int | None,
        replicate: int,
    ) -> Request:
        """Return the request for one answer; ``prompt`` is empty where there are ``messages``."""
        if messages is None:
            parts = ["prompt", prompt]
        else:
            parts = ["messages", *(part for m in messages for part in (m.role, m.content))]
        if self._per_sample:
            parts += [self._task, sample_id]
        if seed is not None:
            parts.append(str(seed))
        if self._per_sample:
            parts.append(str(replicate))
        return Request(
            id=self._id(*parts),
            sample_id=sample_id,
            task=self._task,
            kind="generate",
            prompt=prompt,
            messages=messages,
            decoding=Decoding(*self._limits, seed),
            replicate=replicate,
        )


class Likelihood:
    """Requests for the log-likelihood of a continuation."""

    def __init__(self, task: str, model: Model) -> None:
        self._task, self._per_sample = task, model.per_sample
        self._id = RequestId(model, "loglikelihood", {})

    def request(
        self, sample_id: str, prompt: str, continuation: str, *, replicate: int = 0
    ) -> Request:
        """Return the request for one continuation; ``replicate`` tells apart what was recorded for one sample."""
        place = [self._task, sample_id] if self._per_sample else []
        return Request(
            id=self._id(prompt, continuation, *place),
            sample_id=sample_id,
            task=self._task,
            kind="loglikelihood",
            prompt=prompt,
            continuation=continuation,
            replicate=replicate,
        )
