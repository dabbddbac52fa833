"""The weights of a run's models: found, opened, and weighed by every task that reads weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from evalkit.errors import RunError
from evalkit.estimating import ROLES
from evalkit.loaders.checkpoints import DigestFile, FoundWeights, find_adapter, find_weights
from evalkit.records.scorecard import (
    ALL_TENSORS,
    Estimate,
    Finding,
    ModelRecord,
    Scorecard,
    TaskTally,
    Unread,
)
from evalkit.records.suite import GateSpec, SpectralTask, SuiteSpec
from evalkit.records.verdict import Verdict
from evalkit.records.weights import Fitted, TensorRow

if TYPE_CHECKING:
    from evalkit.ports import AdapterSource, Backend, Progress, TensorSource
    from evalkit.records.exchange import Role
    from evalkit.spectral.spectrum import Decomposition

EXTRA: Final = "pip install 'evalkit-gates[spectral]'"
_OF_EXTRA: Final = frozenset({"ml_dtypes", "gguf", "vl_convert"})
_WITHOUT_WEIGHTS: Final[Mapping[str, str]] = {
    "openai": "a running server shows no weights",
    "replay": "recorded answers have no weights",
}
"""Backend → why the models that it answers for cannot be weighed."""

Found = FoundWeights | str
"""A model's weights, or why it has none."""


@dataclass
class WeighedModels:
    """What the tasks that read weights gave, on every model."""

    estimates: list[Estimate] = field(default_factory=list)
    """Every number, the candidate's first."""
    findings: list[Finding] = field(default_factory=list)
    """What checks found."""
    unread: list[Unread] = field(default_factory=list)
    """What was not measured."""
    tallies: list[TaskTally] = field(default_factory=list)
    """What happened in each task."""
    tensors: list[tuple[Role, str, TensorRow]] = field(default_factory=list)
    """(model, task, all that was measured on one tensor)."""
    beside: dict[str, FoundWeights] = field(default_factory=dict)
    """``task/base`` and ``task/adapter`` → what the models were held against."""

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of ``weights.jsonl``."""
        return (weights_row(role, task, row) for role, task, row in self.tensors)

    def records(self) -> dict[str, ModelRecord]:
        """Return provenance's records of what the models were held against."""
        return {
            name: ModelRecord(digest=found.digest, pinned=True, files=dict(found.files), engine={})
            for name, found in self.beside.items()
        }


def weights_of(
    backend: Backend, name: str, adapter: str | None, folder: Path, digest_file: DigestFile
) -> Found:
    """Return the weights behind a backend's model, as the user named it; ``adapter`` is put on it where there is one.

    Raises UsageError where they are not to be found.
    """
    why_not = _WITHOUT_WEIGHTS.get(str(backend.model.engine.get("backend", "")))
    if why_not:
        return why_not
    found = find_weights(name, folder=folder, digest_file=digest_file)
    if adapter is None:
        return found
    put_on = find_adapter(adapter, folder=folder, digest_file=digest_file)
    files = {f"base/{file}": sha256 for file, sha256 in found.files.items()}
    return dataclasses.replace(found, adapter=put_on.folder, files={**files, **put_on.files})


def decomposition_for(task: SpectralTask, device: str) -> Decomposition:
    """Return what computes a task's eigenvalues; what WeightWatcher's conventions ask for, the processor computes.

    Raises RunError where the device cannot be used.
    """
    from evalkit.spectral.spectrum import NumpyDecomposition

    if task.compatible:
        return NumpyDecomposition("float64", exact=True)
    if device == "cpu":
        return NumpyDecomposition()
    from evalkit.backends.torch_decomposition import TorchDecomposition

    try:
        return TorchDecomposition(device)
    except ImportError as error:
        raise RunError(
            f"--device {device} needs torch, which is not installed",
            "pip install 'evalkit-gates[transformers]', or leave --device out",
        ) from error


def weigh_models(
    suite: SuiteSpec,
    models: Mapping[Role, Found],
    folder: Path,
    digest_file: DigestFile,
    device: str,
    progress: Callable[[Role, str], Progress],
) -> WeighedModels:
    """Weigh every model by every task of the suite that reads weights.

    ``folder`` is what the tasks' paths are relative to. The base model is the task's, else for the candidate the
    baseline, else for an adapter the model it is put on; the baseline is held against the task's base alone. Raises
    UsageError where a base or an adapter is not to be found, RunError where the libraries for it are not installed.
    """
    weighed = WeighedModels()
    for role in sorted(models, key=ROLES.index):
        for task in suite.spectral:
            found = models[role]
            if isinstance(found, str):
                nothing = Unread(model=role, task=task.name, tensor=ALL_TENSORS, reason=found)
                weighed.unread.append(nothing)
                continue
            base, adapter = beside(task, role, found, models, folder, digest_file)
            named = {"base": base if task.base is not None else None, "adapter": adapter}
            weighed.beside |= {f"{task.name}/{what}": held for what, held in named.items() if held}
            with extra_installed():
                _weigh(weighed, suite, task, role, found, base, adapter, device, progress)
    return weighed


def beside(
    task: SpectralTask,
    role: Role,
    found: FoundWeights,
    models: Mapping[Role, Found],
    folder: Path,
    digest_file: DigestFile,
) -> tuple[FoundWeights | None, FoundWeights | None]:
    """Return what a model is held against: the base model and the adapter that was merged into it."""
    adapter = None
    if task.adapter is not None and role == "candidate":
        adapter = find_adapter(task.adapter, folder=folder, digest_file=digest_file)
    if task.base is not None:
        return find_weights(task.base, folder=folder, digest_file=digest_file), adapter
    baseline = models.get("baseline")
    if role == "candidate" and isinstance(baseline, FoundWeights):
        return baseline, adapter
    if found.adapter is not None:
        held = {f: sha for f, sha in found.files.items() if f.startswith("base/")}
        files = {file.removeprefix("base/"): sha for file, sha in held.items()}
        return FoundWeights(found.name, found.folder, None, files), adapter
    return None, adapter


def _weigh(
    weighed: WeighedModels,
    suite: SuiteSpec,
    task: SpectralTask,
    role: Role,
    found: FoundWeights,
    base: FoundWeights | None,
    adapter: FoundWeights | None,
    device: str,
    progress: Callable[[Role, str], Progress],
) -> None:
    """Weigh one model by one task, and add what that gave."""
    from evalkit.loaders.weights import adapted, open_adapter
    from evalkit.loaders.weights.fitted import fitted
    from evalkit.spectral.weigh import weigh

    split = not task.compatible
    own = OpenedWeights(found, split=split)
    against = None if base is None else OpenedWeights(base, split=split)
    put_on, merged = own.adapter, None
    if adapter is not None:
        assert adapter.adapter is not None, "an adapter's folder"
        put_on = open_adapter(adapter.adapter)
        if against is not None:
            put_on = fitted(against.source, put_on)
            merged = adapted(against.source, put_on)
    result = weigh(
        task,
        role,
        own.source,
        None if against is None else against.source,
        put_on,
        level=suite.confidence,
        seed=suite.seed,
        decomposition=decomposition_for(task, device),
        progress=progress(role, task.name),
        base_digest="" if base is None else base.digest,
        merged=merged,
    )
    weighed.estimates += result.estimates
    weighed.findings += result.findings
    weighed.unread += result.unread
    weighed.tallies.append(result.tally)
    weighed.tensors += ((role, task.name, row) for row in result.rows)


class OpenedWeights:
    """Weights, opened when they are asked for; ``split`` tells fused projections apart."""

    def __init__(self, found: FoundWeights, *, split: bool = True) -> None:
        self._found, self._split = found, split

    @cached_property
    def _plain(self) -> TensorSource:
        """The weights without the adapter."""
        from evalkit.loaders.weights import open_weights

        return open_weights(self._found.folder, split=self._split)

    @cached_property
    def adapter(self) -> AdapterSource | None:
        """The adapter, in terms of the weights' tensors; None where the model is a whole checkpoint."""
        from evalkit.loaders.weights import open_adapter
        from evalkit.loaders.weights.fitted import fitted

        found = self._found.adapter
        return None if found is None else fitted(self._plain, open_adapter(found))

    @cached_property
    def source(self) -> TensorSource:
        """The weights, with the adapter on them."""
        from evalkit.loaders.weights import adapted

        return self._plain if self.adapter is None else adapted(self._plain, self.adapter)


@contextmanager
def extra_installed() -> Iterator[None]:
    """Turn the lack of a library of the extra ``spectral`` into a RunError that says how to install it."""
    try:
        yield
    except ImportError as error:
        if error.name not in _OF_EXTRA:
            raise
        raise RunError(f"these weights need {error.name}, which is not installed", EXTRA) from error


def weights_row(role: Role, task: str, row: TensorRow) -> dict[str, Any]:
    """Return a tensor's row of ``weights.jsonl``: every number with its interval, or the reason why there is none."""
    tensor = row.tensor
    placed = {"expert": tensor.expert, "part_of": tensor.part_of}
    return {
        "model": role,
        "task": task,
        "tensor": tensor.name,
        "stored": tensor.stored,
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "module": tensor.module,
        "form": tensor.form,
        "depth": tensor.depth,
        **{key: value for key, value in placed.items() if value not in (None, "")},
        "measured": {name: _number(fitted) for name, fitted in row.measured.items()},
    }


def _number(fitted: Fitted) -> dict[str, Any]:
    """Return a number with whatever of it is not the default."""
    held = {"value": fitted.value}
    for entry in dataclasses.fields(Fitted):
        value = getattr(fitted, entry.name)
        if entry.name != "value" and value != entry.default:
            held[entry.name] = value
    return held


def failed_on_weights(
    gates: Sequence[GateSpec], verdict: Verdict, scorecard: Scorecard, suite: SuiteSpec
) -> bool:
    """Return whether a blocking rule has failed by what weights alone tell, so that no answer could mend it.

    ``verdict`` is that of ``gates`` on ``scorecard``, which holds nothing but weights. What a family decides together
    with comparisons yet to come (``any_regression``) does not count, nor what is missing because it was not asked yet.
    """
    held = {estimate.name for estimate in scorecard.estimates}
    tasks = {task.name for task in suite.spectral}
    together = {gate.gate for gate in gates if gate.family == "any_regression"}
    return any(
        outcome.severity == "block"
        and outcome.counts_as == "fail"
        and not (outcome.gate in together and outcome.p_broken is not None)
        and (outcome.estimate in held or outcome.estimate.partition("/")[0] in tasks)
        for outcome in verdict.outcomes
    )
