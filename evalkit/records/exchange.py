"""What is asked, what came back, and what it scored.

These records are made a million times in a run, inside the process and by our own code, so they are plain
frozen classes without validation; what crosses an edge (a server's reply, a stored answer) is checked there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from evalkit.errors import FaultKind
from evalkit.identity import digest

Role = Literal["candidate", "baseline"]
Need = Literal["text", "chat", "logprobs"]
"""What a request asks of a backend: text from a prompt, text from chat messages, log-probabilities of a text."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model under test, pinned by its bytes where they can be seen."""

    name: str
    """As the user named it; shown, never part of an identity."""
    location: str
    """Folder, hub id, URL or file that the backend opens; never part of an identity."""
    digest: str
    """Digest of the bytes of weights, adapter, tokenizer and chat template and of the engine's numerics; of the
    model id, server version and stated revision where the bytes cannot be seen."""
    pinned: bool
    """Whether ``digest`` covers the weights' bytes or a stated revision; if not, answers serve one run."""
    files: Mapping[str, str] = field(default_factory=dict)
    """File name → SHA-256 of each file the digest covers."""
    engine: Mapping[str, Any] = field(default_factory=dict)
    """Backend, versions and arguments that can change an answer."""
    per_sample: bool = False
    """Whether equal questions of different samples are different requests (recorded answers)."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint folder as it lies on disk, known by its bytes."""

    location: str
    """The folder."""
    files: Mapping[str, str]
    """File name → SHA-256 of every file that can change an answer: weights, adapter, configuration, tokenizer,
    chat template."""
    digest: str
    """Digest of ``files``: equal bytes under equal names give equal digests, wherever the folder lies."""

    def as_model(self, name: str, engine: Mapping[str, Any]) -> Model:
        """Return the model that this checkpoint is on an engine; ``engine`` holds what can change an answer."""
        identity = digest({"checkpoint": self.digest, "engine": dict(engine)})
        return Model(name, self.location, identity, True, self.files, engine)


FindCheckpoint = Callable[[str], Checkpoint]
"""Folder or hub id → the checkpoint there; raises UsageError when there is none."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One item of a task."""

    id: str
    """Unique in the task."""
    index: int
    """0-based position in the data set."""
    fields: Mapping[str, Any]
    """The row as it was read."""
    targets: tuple[str, ...]
    """What right answers are; empty where the task has none."""
    choices: tuple[str, ...]
    """The choices of a multiple-choice task, as they follow the prompt."""
    attributes: Mapping[str, str]
    """Slice field → value."""
    cluster: str | None
    """Name of the cluster it belongs to; None where each sample stands alone."""
    variants: tuple[str, ...] = ()
    """Names of a counterfactual task's variants, in the order in which its completions stand."""


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message."""

    role: str
    """``system``, ``user`` or ``assistant``."""
    content: str
    """What is said."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """How one answer is drawn."""

    max_tokens: int
    """The most tokens the answer may have."""
    temperature: float
    """0 is greedy."""
    top_p: float
    """Nucleus sampling."""
    stop: tuple[str, ...]
    """Texts that end the answer; not part of it."""
    seed: int | None
    """Seed of this very answer; None when greedy."""


@dataclass(frozen=True, slots=True)
class Window:
    """How a long text is cut for perplexity; part of the number's signature."""

    max_length: int | None
    """Tokens per window, the model's context length when None."""
    context: int
    """Least tokens of context before a window's first scored token."""
    prefix: Literal["bos", "none"]
    """What the very first token is predicted from."""


RequestKind = Literal["generate", "loglikelihood", "rolling"]


@dataclass(frozen=True, slots=True)
class Request:
    """One thing asked of a backend.

    ``generate``: write an answer to ``prompt`` or ``messages``. ``loglikelihood``: log-probability of each token of
    ``continuation`` after ``prompt``. ``rolling``: log-probability of every token of ``prompt``, cut by ``window``.
    """

    id: str
    """Digest of the model and of all that is asked; sample and place in the run are no part of it."""
    sample_id: str
    """The sample it was first planned for."""
    task: str
    """The task it was first planned for."""
    kind: RequestKind
    """What is asked."""
    prompt: str
    """Text; empty when ``messages`` are given."""
    messages: tuple[Message, ...] | None = None
    """Chat messages, through the model's chat template."""
    continuation: str = ""
    """What is scored after the prompt (``loglikelihood``)."""
    decoding: Decoding | None = None
    """How the answer is drawn (``generate``)."""
    window: Window | None = None
    """How the text is cut (``rolling``)."""
    replicate: int = 0
    """0-based number of the answer to the same content."""


FinishReason = Literal["stop", "length", "other"]


@dataclass(frozen=True, slots=True)
class Completion:
    """What came back; never changed after it is written."""

    request_id: str
    """The request it answers."""
    text: str
    """The answer; empty for scored text."""
    finish_reason: FinishReason
    """``length`` when the answer was cut off."""
    logprobs: tuple[float, ...] | None = None
    """Natural-log probability of each scored token (``loglikelihood``, ``rolling``)."""
    prompt_tokens: int | None = None
    """Tokens read; None where the backend does not tell."""
    completion_tokens: int | None = None
    """Tokens written; None where the backend does not tell."""
    latency_s: float = 0.0
    """Seconds from asking to answer."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why nothing came back."""

    request_id: str
    """The request that stayed unanswered."""
    kind: FaultKind
    """The class of fault."""
    message: str
    """What the backend said."""
    attempts: int
    """How often it was asked."""


@dataclass(frozen=True, slots=True)
class Score:
    """One metric's statistics on one sample: K finite numbers in the order of the metric's columns."""

    statistics: tuple[float, ...]
    """The numbers that aggregate to the metric."""
    note: str = ""
    """Why the score is what it is, where a reader would ask (the first schema error, say)."""


@dataclass(frozen=True, slots=True)
class Unscored:
    """No statistics, with a reason; counted, never 0."""

    reason: str
    """A short class, such as ``no target`` or ``target is not JSON``; counted by this text."""
    note: str = ""
    """Details for one sample."""
