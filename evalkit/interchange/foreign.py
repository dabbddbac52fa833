"""What another harness measured, before it becomes a run: tasks, their samples as they stream, and what was left out.

Readers of one harness's files (``lm_eval_read``, ``inspect_read``) give a ``ForeignRun``. Here stands what all of them
share: how names are written, when numbers are a rate, and whether the mean of the samples is the number that the
harness printed. Nothing here knows a file format.

Two runs of one harness are compared where data set and way of measuring are the same: the data set's digest is over the
documents, the signature over harness, versions, prompts, filter and decoding.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from evalkit.errors import Problem, UsageError
from evalkit.identity import canonical_json, digest, short
from evalkit.metrics.recorded import UNITS, RecordedKind
from evalkit.records.exchange import Failure, Score, Unscored
from evalkit.records.scorecard import Better
from evalkit.registry import nearest

Harness = Literal["lm-eval", "inspect"]
TOLERANCE: Final = 1e-6
"""How far the mean of the samples may lie from the printed number, relative to it."""
_LONGEST_NAME: Final = 80
_LONGEST_SETTING: Final = 120
_SECRET: Final = re.compile(r"api_?key|secret|password|auth|^(hf_)?token$", re.IGNORECASE)
_NO_VALUE: Final = "(none)"
"""The slice of documents that lack the field."""


@dataclass(frozen=True)
class ForeignScore:
    """One number that the harness gave to each sample."""

    name: str
    """Its metric's name here."""
    told: str
    """Its name there."""
    kind: RecordedKind
    """How samples are aggregated."""
    better: Better
    """Which direction is better."""
    unit: str
    """Its unit."""
    measured: Mapping[str, str]
    """All that could change the number, as the harness tells it."""


@dataclass(frozen=True)
class ForeignSample:
    """One document as it was asked, answered and scored."""

    id: str
    """Unique in the task."""
    asked: Mapping[str, Any]
    """``prompt`` or ``messages``, and ``choices`` where its targets are their numbers; as rows hold them."""
    targets: tuple[str, ...]
    """What right answers are."""
    answers: Sequence[Mapping[str, Any]]
    """The answers, as rows hold them."""
    scores: Mapping[str, Score | Unscored]
    """Name of a score → what was recorded, or why nothing counts; empty where the sample failed."""
    slices: Mapping[str, str] = field(default_factory=dict)
    """Slice field → value."""
    cluster: str | None = None
    """The document, where it was asked several times."""
    failed: Failure | None = None
    """Why there is no answer."""


@dataclass(frozen=True)
class LeftOut:
    """Something in the harness's results that did not become an estimate, or differs from what it printed."""

    task: str
    """The task's name here."""
    about: Literal["imported.left_out", "imported.differs", "imported.taken"]
    """What became of it: not taken over; taken, yet not as printed; taken on an assumption."""
    message: str
    """What and why, in one sentence."""


@dataclass(frozen=True)
class ForeignTask:
    """One task of the harness's run."""

    name: str
    """Its name here."""
    told: str
    """Its name there."""
    kind: str
    """``generate``, ``multiple_choice`` …"""
    documents: str
    """Where the harness says the documents come from."""
    dataset: str
    """Digest of the documents."""
    scores: tuple[ForeignScore, ...]
    """Its numbers."""
    samples: Callable[[], Iterator[ForeignSample]]
    """Reads the samples, each time anew."""
    slices: tuple[str, ...] = ()
    """Fields by which samples are split."""
    clustered: bool = False
    """Whether documents were asked several times."""
    requests: int = 0
    """Requests the harness sent, where it tells."""
    tokens: tuple[int | None, int | None] = (None, None)
    """Tokens read and written; None where the harness does not tell."""
    notes: tuple[LeftOut, ...] = ()
    """What is not as the harness printed it."""


@dataclass(frozen=True)
class ForeignModel:
    """The model, as far as the harness tells."""

    name: str
    """As it was named there."""
    digest: str
    """Digest of what is known of it, and of the files read where its bytes are not pinned."""
    pinned: bool
    """Whether a hash of its bytes is told."""
    engine: Mapping[str, Any]
    """Everything that can change an answer."""
    files: Mapping[str, str] = field(default_factory=dict)
    """File → SHA-256 of the checkpoint that the user says it is; empty where they do not say."""


@dataclass(frozen=True)
class ForeignRun:
    """What one run of a harness measured on one model."""

    harness: Harness
    """Which harness."""
    version: str
    """Its version."""
    files: tuple[Path, ...]
    """The files that were read, the first of which names the run."""
    identity: str
    """Digest of their bytes."""
    model: ForeignModel
    """The model."""
    tasks: tuple[ForeignTask, ...]
    """Its tasks."""
    started: str
    """UTC, ISO 8601; empty where it is not told."""
    finished: str
    """UTC, ISO 8601; empty where it is not told."""
    seconds: float
    """How long it took; 0 where it is not told."""
    versions: Mapping[str, str]
    """Package → version of what computed the numbers there."""
    git_commit: str | None = None
    """Commit that the harness recorded."""
    notes: tuple[str, ...] = ()
    """How the files were chosen, in words."""


@dataclass(frozen=True)
class Wishes:
    """What the user says of numbers that the files do not say."""

    slices: tuple[str, ...] = ()
    """Fields of the documents to split by."""
    lower: tuple[str, ...] = ()
    """Scores, or ``task/score``, that are better when lower."""
    means: tuple[str, ...] = ()
    """Scores, or ``task/score``, that are means though every value is 0 or 1."""
    without: tuple[str, ...] = ()
    """Scores, or ``task/score``, that are left out."""

    def leaves_out(self, task: str, score: str) -> bool:
        """Return whether a score is to be left out."""
        return score in self.without or f"{task}/{score}" in self.without

    def better(self, task: str, score: str, told: bool | None) -> Better:
        """Return the direction of a score: as wished, else as ``told``, else higher."""
        if score in self.lower or f"{task}/{score}" in self.lower:
            return "lower"
        return "lower" if told is False else "higher"

    def kind(self, task: str, score: str, values: Iterable[float]) -> RecordedKind:
        """Return ``rate`` where there are values and each is 0 or 1, and nothing else is wished."""
        if score in self.means or f"{task}/{score}" in self.means:
            return "mean"
        found = set(values)
        return "rate" if found and found <= {0.0, 1.0} else "mean"

    def check(self, scores: Iterable[tuple[str, str]]) -> None:
        """Raise UsageError where something is wished of a score that is not among these, by task and name."""
        known = {name for task, score in scores for name in (score, f"{task}/{score}")}
        wished = (("--lower", self.lower), ("--mean", self.means), ("--without", self.without))
        for flag, names in wished:
            for name in names:
                if name not in known:
                    raise UsageError(f"{flag} {name!r}: {_nearest_of(name, known, 'score')}")


def safe_name(told: str, taken: Collection[str] = ()) -> str:
    """Return a harness's name as our files write names: letters, digits, ``_.-``; with a number if it is taken.

    >>> safe_name("chrf++"), safe_name("leaderboard/math, hard", ["leaderboard_math__hard"])
    ('chrf__', 'leaderboard_math__hard-2')
    """
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", told)[: _LONGEST_NAME - 8]
    if not plain or not plain[0].isascii() or not plain[0].isalnum():
        plain = f"x{plain}"
    name, number = plain, 1
    while name in taken:
        number += 1
        name = f"{plain}-{number}"
    return name


def slices_of(held: Mapping[str, Any], fields: Iterable[str]) -> dict[str, str]:
    """Return a document's values of these fields as text; ``(none)`` where it has none."""
    found = {}
    for name in fields:
        value = held.get(name)
        if value is None or value == "":
            found[name] = _NO_VALUE
        elif isinstance(value, str):
            found[name] = value
        else:
            found[name] = plain_json(value).decode("utf-8", "replace")
    return found


def slice_fields(
    wished: Iterable[str], by_task: Mapping[str, Collection[str]]
) -> dict[str, tuple[str, ...]]:
    """Return which of the wished fields the documents of each task have. Raises UsageError where none has one."""
    wished = tuple(dict.fromkeys(wished))
    known = {name for fields in by_task.values() for name in fields}
    for name in wished:
        if name not in known:
            raise UsageError(f"--slice {name!r}: {_nearest_of(name, known, 'field')}")
    return {
        task: tuple(name for name in wished if name in fields) for task, fields in by_task.items()
    }


def _nearest_of(name: str, known: Collection[str], what: str) -> str:
    close = nearest(name, known)
    hint = f"did you mean {close!r}?" if close else f"known: {', '.join(sorted(known)) or 'none'}"
    return f"there is no {what} of this name; {hint}"


def plain_json(value: Any) -> bytes:  # noqa: ANN401 - whatever a file held
    """Return canonical JSON of a value, numbers that JSON lacks written as their names."""
    try:
        try:
            return canonical_json(value)
        except (TypeError, ValueError):
            return canonical_json(_plain(value))
    except RecursionError:
        raise UsageError("a document or setting is nested too deeply to be read") from None


def _plain(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, Mapping):
        return {str(key): _plain(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(held) for held in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if isinstance(value, str | int | None) else str(value)


def setting(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return a setting as a signature shows it: as text, or its digest where that is long."""
    text = value if isinstance(value, str) else plain_json(value).decode("utf-8", "replace")
    return text if len(text) <= _LONGEST_SETTING else short(digest(text))


def without_secrets(arguments: Any) -> Any:  # noqa: ANN401 - a dictionary, or ``key=value,…``
    """Return a model's arguments without the values of keys and passwords."""
    if isinstance(arguments, Mapping):
        return {key: "…" if _SECRET.search(str(key)) else held for key, held in arguments.items()}
    if isinstance(arguments, str):
        pairs = (pair.partition("=") for pair in arguments.split(","))
        return ",".join(f"{k}{e}{'…' if _SECRET.search(k) else v}" for k, e, v in pairs)
    return arguments


def finite(value: Any) -> float | None:  # noqa: ANN401 - any JSON value
    """Return a number or truth value as a finite float; None for anything else.

    >>> [finite(value) for value in (1, True, "1", float("nan"), 10**400)]
    [1.0, 1.0, None, None, None]
    """
    if not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def table(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return the table under a key; an empty one where there is none."""
    held = content.get(key)
    return held if isinstance(held, Mapping) else {}


def fingerprint(parts: Iterable[tuple[str, str]]) -> str:
    """Return the digest of (document's id, digest of its content) pairs, whatever their order."""
    return digest(sorted(list(part) for part in parts))


def agrees(mean: float, printed: float) -> bool:
    """Return whether a mean of samples is the number that the harness printed."""
    return math.isclose(mean, printed, rel_tol=TOLERANCE, abs_tol=1e-12)


def refuse_other(file: Path, key: str, computed: float, printed: float, n: int) -> UsageError:
    """Return the error for a printed number that the samples do not give."""
    message = (
        f"the file says {printed!r}, and its {n:,} samples give {computed!r}: the two do not belong together, or one "
        "of them was changed; run the harness again, or pass the folder as the harness wrote it"
    )
    return UsageError([Problem(str(file), None, key, message)])


def unit_of(kind: RecordedKind, *, within_one: bool) -> str:
    """Return the unit of a score; ``within_one`` says that its scale is known to be 0 to 1."""
    return "fraction" if kind == "mean" and within_one else UNITS[kind]
