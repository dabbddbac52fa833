"""The seams: what the core needs from the edges, as narrow as it can be.

Each port has one contract test that runs over every implementation.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

from evalkit.records.exchange import Completion, Failure, FindCheckpoint, Model, Need, Request
from evalkit.records.suite import Spec
from evalkit.records.weights import LowRank, StructureFault, Tensor


class Progress(Protocol):
    """Where long work tells how far it is."""

    def step(self, text: str) -> None:
        """Say what is being done now (``starting the server: 12 s``)."""

    def advance(self, done: int, total: int | None, failed: int = 0) -> None:
        """Tell how many of the current task's samples are done, out of how many where that is known."""


class Backend(Protocol):
    """Whatever answers requests.

    A backend knows its model's identity before it is opened, so that a fully cached run never opens one. Each
    backend class is registered in the group "backend", declares its ``--model-arg`` options as ``Args`` (a
    ``records.suite.Spec``) and is built by ``from_model(name, args, find_checkpoint)``.
    """

    Args: ClassVar[type[Spec]]
    """The options it takes; their docstrings are the help."""

    @classmethod
    def from_model(cls, name: str, args: Any, find_checkpoint: FindCheckpoint) -> Self:  # noqa: ANN401
        """Return a backend for a model by name (folder, hub id, URL, file); opens and loads nothing."""

    @property
    def model(self) -> Model:
        """The model it answers for."""

    @property
    def provides(self) -> frozenset[Need]:
        """What it can be asked."""

    @property
    def batch_size(self) -> int:
        """Most requests for one ``answer`` call: 1 for servers, which batch by themselves."""

    @property
    def concurrency(self) -> int:
        """Most ``answer`` calls under way at once."""

    async def open(self, progress: Progress) -> None:
        """Load or connect. Raises RunError with advice. Opening twice is opening once."""

    async def answer(self, requests: Sequence[Request]) -> Sequence[Completion]:
        """Return one completion per request, in order; raise Fault if the batch was not answered.

        Time-outs and retries are the executor's; ``answer`` tries once. A Fault of kind ``server_lost`` or
        ``unauthorised`` ends the run.
        """

    async def close(self) -> None:
        """Let go of everything, also after a failed ``open``; closing twice is closing once."""

    def engine(self) -> Mapping[str, Any]:
        """Return what the running engine reports of itself (versions, port, device); for provenance."""


class Executor(Protocol):
    """Whoever sends many requests well."""

    async def run(
        self,
        backend: Backend,
        requests: AsyncIterator[Request | None],
        deliver: Callable[[Completion | Failure], None],
    ) -> None:
        """Send every request; call ``deliver`` once for each, as it ends, in any order.

        Pulls from ``requests`` only what it can send soon, so that memory stays bounded. None among them says that
        the source will wait for deliveries before it gives more: send what has been pulled. Opens the backend at the
        first request, never without one. ``deliver`` runs on the event loop's thread. Returns when all are delivered.
        Raises BackendLost when the backend is gone, after delivering what was answered.
        """


class AnswerStore(Protocol):
    """Answers by request id, durable against ``kill -9`` from the moment ``flush`` returns."""

    def get(self, ids: Sequence[str]) -> dict[str, Completion]:
        """Return the stored completions among ``ids``."""

    def put(self, completion: Completion) -> None:
        """Store a completion; storing it again changes nothing. Never stores failures."""

    def flush(self) -> None:
        """Make everything put so far durable. Raises RunError when the disk is full."""


class SampleSource(Protocol):
    """The rows of a data set, streamed."""

    @property
    def digest(self) -> str:
        """Digest of the data set's bytes (and of what selects rows from them)."""

    @property
    def total(self) -> int | None:
        """How many rows, where that is known without reading them all."""

    def rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield (place, row) in order; ``place`` is ``file:line`` for messages. Can be called again.

        Raises UsageError on a malformed file.
        """


class TensorSource(Protocol):
    """A checkpoint's weights, described at once and read tensor by tensor."""

    @property
    def name(self) -> str:
        """Where they lie, as the user named it."""

    @property
    def config(self) -> Mapping[str, Any]:
        """The checkpoint's ``config.json``; empty where there is none."""

    @property
    def vocabulary(self) -> int | None:
        """How many embedding rows the tokenizer needs: its highest token number + 1; None without a tokenizer."""

    @property
    def tensors(self) -> Sequence[Tensor]:
        """Every tensor that can be read, file by file, naturally sorted within each."""

    @property
    def tied(self) -> Mapping[str, str]:
        """Name of a tensor → the name it shares its numbers with; where both are stored, both are tensors."""

    @property
    def skipped(self) -> Mapping[str, str]:
        """Stored name → why it is not among ``tensors``; nothing stored is in neither."""

    @property
    def faults(self) -> Sequence[StructureFault]:
        """What is wrong with the files: cut off, shards missing, tensors the index promises and no file holds."""

    def read(self, tensor: Tensor, start: int = 0, stop: int | None = None) -> Array:
        """Return rows ``start:stop`` (of the first axis) as float32, C-contiguous, dequantised.

        Reads no more of the file than these rows need, where the storage allows. Raises RunError where the bytes
        cannot be read.
        """


class AdapterSource(Protocol):
    """A LoRA adapter's updates."""

    @property
    def name(self) -> str:
        """Where it lies, as the user named it."""

    @property
    def base(self) -> str:
        """The base model as ``adapter_config.json`` names it; empty where it names none."""

    @property
    def updates(self) -> Sequence[LowRank]:
        """Every low-rank update."""

    @property
    def whole(self) -> TensorSource:
        """Tensors that the adapter replaces altogether (``modules_to_save``, trained biases)."""

    @property
    def skipped(self) -> Mapping[str, str]:
        """Stored name → why it is in neither."""

    def factors(self, update: LowRank) -> tuple[Array, Array, Array | None]:
        """Return A (r, in), B (out, r) and DoRA's magnitudes (out,), of an embedding (in,), or None; float32.

        Raises RunError.
        """
