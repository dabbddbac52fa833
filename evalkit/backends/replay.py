"""The ``replay`` backend: answers that anyone recorded, so that old outputs are scored without a model.

A file holds one JSON object per line; a folder holds one such file per task, ``<task>.jsonl``::

    {"sample_id": "17", "text": "Paris"}                                     an answer
    {"sample_id": "17", "text": "Lyon", "replicate": 1, "task": "capitals"}  the second answer, of one task only
    {"sample_id": "18", "choice": "blue", "logprobs": [-0.2, -1.3]}          a choice, by its text
    {"sample_id": "19", "logprobs": [-2.3, -0.7, -1.1]}                      a text whose perplexity is measured

``id`` may stand for ``sample_id``; ``finish_reason`` (``stop``, ``length``, ``other``) may be given; other keys are
passed over. Log-probabilities are natural logarithms, one per token. White space around a choice does not count. A
record without a task answers for every task; one with the task's name comes first.

Only the places of the records are kept in memory, about 140 bytes for each.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator

from evalkit.errors import Fault, Problem, RunError, UsageError
from evalkit.identity import canonical_json, digest
from evalkit.ports import Progress
from evalkit.records.exchange import Completion, FindCheckpoint, Model, Need, Request
from evalkit.records.suite import Spec
from evalkit.registry import register

FORMAT: Final = 1
"""Version of what a recorded answer means."""
_PROBLEMS: Final = 20
"""Most mistakes of a file that are told at once."""

_FILE_BITS: Final = 48
"""A place is one number, which takes less memory than two: the file's number above these bits, the offset in them."""


class Recorded(BaseModel):
    """One recorded answer."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, strict=True)

    sample_id: Annotated[str | int, Field(validation_alias=AliasChoices("sample_id", "id"))]
    """The sample it answers."""
    task: str | None = None
    """The task of that sample; every task when None."""
    replicate: Annotated[int, Field(ge=0)] = 0
    """0-based number of the answer."""
    choice: str | None = None
    """The choice that was scored."""
    text: str = ""
    """The answer; empty for scored text."""
    logprobs: tuple[Annotated[float, Field(le=0)], ...] | None = None
    """Natural-log probability of each scored token."""
    finish_reason: Literal["stop", "length", "other"] = "stop"
    """How the answer ended."""

    @model_validator(mode="after")
    def _says_something(self) -> Recorded:
        if "text" not in self.model_fields_set and self.logprobs is None:
            raise ValueError("a recorded answer needs 'text' or 'logprobs'")
        if self.choice is not None and self.logprobs is None:
            raise ValueError("a recorded choice needs 'logprobs'")
        return self


class ReplayArgs(Spec):
    """The ``replay`` backend has no options."""


@register(
    "backend",
    "replay",
    summary="Answers recorded earlier (JSONL); needs no model.",
    example="--candidate answers.jsonl",
)
class ReplayBackend:
    """Answers from recorded files."""

    Args: ClassVar[type[Spec]] = ReplayArgs

    def __init__(self, model: Model, paths: Sequence[Path]) -> None:
        """``paths`` are the files, ``model.files`` their digests."""
        self._model = model
        self._paths = tuple(paths)
        self._by_task = Path(model.location).is_dir()
        self._files: list[BufferedReader] = []
        self._places: dict[bytes, int] = {}

    @classmethod
    def from_model(cls, name: str, args: Any, find_checkpoint: FindCheckpoint) -> Self:  # noqa: ANN401
        """Return a backend for a file or folder of recorded answers. Raises UsageError where there is none."""
        place = Path(name).expanduser()
        paths = sorted(place.glob("*.jsonl")) if place.is_dir() else [place]
        if not paths or not all(path.is_file() for path in paths):
            what = "holds no .jsonl file" if place.is_dir() else "is not there"
            raise UsageError(f"recorded answers: {name} {what}")
        files = {path.name: _sha256(path) for path in paths}
        engine = {"backend": "replay", "format": FORMAT}
        # A folder's names are tasks; a file's name says nothing.
        content: Any = files if place.is_dir() else list(files.values())
        identity = digest({"answers": content, "engine": engine})
        model = Model(name, str(place.absolute()), identity, True, files, engine, per_sample=True)
        return cls(model, paths)

    @property
    def model(self) -> Model:
        """The recorded answers, known by their bytes."""
        return self._model

    @property
    def provides(self) -> frozenset[Need]:
        """Everything; what was not recorded is a fault of the one sample."""
        return frozenset({"text", "chat", "logprobs"})

    @property
    def batch_size(self) -> int:
        """Enough to make a call worth it."""
        return 64

    @property
    def concurrency(self) -> int:
        """One: a disk gains nothing from more."""
        return 1

    async def open(self, progress: Progress) -> None:
        """Find every record. Raises UsageError with each malformed or repeated one, RunError on a changed file."""
        if self._files:
            return
        progress.step(f"reading {self._model.name}")
        await asyncio.to_thread(self._index)

    def _index(self) -> None:
        problems: list[Problem] = []
        files = [path.open("rb") for path in self._paths]
        try:
            for number, (path, file) in enumerate(zip(self._paths, files, strict=True)):
                sha = hashlib.sha256()
                for line, offset, content in _lines(file):
                    sha.update(content)
                    if not content.strip():
                        continue
                    try:
                        self._note(path, content, number << _FILE_BITS | offset)
                    except ValueError as error:
                        problems.append(_problem(path, line, error))
                    if len(problems) >= _PROBLEMS:
                        raise UsageError(problems)
                if sha.hexdigest() != self._model.files[path.name]:
                    raise RunError(f"{path} was changed while it was read", "run again")
            if problems:
                raise UsageError(problems)
        except BaseException:
            self._places.clear()
            for file in files:
                file.close()
            raise
        self._files = files

    def _note(self, path: Path, content: bytes, place: int) -> None:
        """Remember where an answer lies; raises ValueError on a malformed or repeated one."""
        key = self._key_of(path, content)
        if key in self._places:
            number, offset = divmod(self._places[key], 1 << _FILE_BITS)
            line = self._paths[number].read_bytes()[:offset].count(b"\n") + 1
            raise ValueError(f"the same answer is on line {line} of {self._paths[number].name}")
        self._places[key] = place

    def _key_of(self, path: Path, content: bytes) -> bytes:
        record = Recorded.model_validate_json(content)
        task = record.task
        if self._by_task:
            if task not in (None, path.stem):
                raise ValueError(f"the record is of task {task!r}, the file of {path.stem!r}")
            task = path.stem
        return _key(task, str(record.sample_id), record.replicate, record.choice)

    async def answer(self, requests: Sequence[Request]) -> Sequence[Completion]:
        """Return one completion per request; Fault("no_answer") where one was not recorded."""
        assert self._files, "a backend is opened before it is asked"
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Completion:
        scored = request.kind != "generate"
        choice = request.continuation if request.kind == "loglikelihood" else None
        for task in (request.task, None):
            place = self._places.get(_key(task, request.sample_id, request.replicate, choice))
            if place is not None:
                break
        else:
            what = "" if choice is None else f" for the choice {choice.strip()!r}"
            message = f"no answer{what} is recorded for sample {request.sample_id!r}"
            raise Fault("no_answer", message)
        number, offset = divmod(place, 1 << _FILE_BITS)
        self._files[number].seek(offset)
        record = Recorded.model_validate_json(self._files[number].readline())
        if scored and record.logprobs is None:
            message = f"sample {request.sample_id!r} is recorded without log-probabilities"
            raise Fault("no_answer", message)
        if not scored and "text" not in record.model_fields_set:
            raise Fault("no_answer", f"sample {request.sample_id!r} is recorded without text")
        return Completion(
            request.id,
            "" if scored else record.text,
            "stop" if scored else record.finish_reason,
            record.logprobs,
        )

    async def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()
        self._files = []
        self._places = {}

    def engine(self) -> Mapping[str, Any]:
        """Return how many answers were found."""
        return {"recorded": len(self._places)}


def _key(task: str | None, sample_id: str, replicate: int, choice: str | None) -> bytes:
    """Return 16 bytes that stand for one answer; a digest takes less memory than the names."""
    named = [task, sample_id, replicate, None if choice is None else choice.strip()]
    return hashlib.blake2b(canonical_json(named), digest_size=16).digest()


def _lines(file: BufferedReader) -> Iterator[tuple[int, int, bytes]]:
    offset = 0
    for number, content in enumerate(file, start=1):
        yield number, offset, content
        offset += len(content)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _problem(path: Path, line: int, error: ValueError) -> Problem:
    if not isinstance(error, ValidationError):
        return Problem(str(path), line, "", str(error))
    first = error.errors(include_url=False)[0]
    return Problem(str(path), line, str(first["loc"][0]) if first["loc"] else "", first["msg"])
