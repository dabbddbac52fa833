"""The models of a run: what answers for each role, its weights where the suite reads them, or the earlier run it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalkit.cli.assemble import Assembly
from evalkit.cli.earlier_baseline import EarlierBaseline, earlier_baseline
from evalkit.cli.models import arguments_for, backend_name, open_model
from evalkit.cli.options import parsed_arguments
from evalkit.cli.past_runs import nearest_run
from evalkit.cli.weights import Found, weights_of
from evalkit.errors import UsageError
from evalkit.loaders.checkpoints import DigestFile, check_whole, find_checkpoint
from evalkit.ports import Backend
from evalkit.records.exchange import Checkpoint, Role


@dataclass
class RunModels:
    """Candidate and baseline, opened for nothing yet."""

    backends: dict[Role, Backend] = field(default_factory=dict)
    """What answers for each model."""
    earlier: EarlierBaseline | None = None
    """The earlier run that is the baseline; None where a model is, or there is no baseline."""
    weights: dict[Role, Found] = field(default_factory=dict)
    """The models' weights; empty where the suite reads none."""
    found: list[Checkpoint] = field(default_factory=list)
    """The checkpoints behind them; where the suite reads weights they may be damaged."""

    def check_whole(self) -> None:
        """Raise UsageError where a checkpoint is damaged, so that it cannot answer."""
        for checkpoint in self.found:
            check_whole(Path(checkpoint.location))


def open_models(
    parts: Assembly, flags: Mapping[str, Any], out: Path, digest_file: DigestFile
) -> RunModels:
    """Return the models that the command line names, else the suite. Raises UsageError.

    Where the suite reads weights a damaged checkpoint is found too: its weights will tell what is wrong with it.
    """
    given, declared = parsed_arguments(flags["model_arg"]), parts.suite.models
    models = RunModels()
    roles: tuple[Role, ...] = ("candidate", "baseline")
    for role in roles:
        named = flags[role]
        model = named or getattr(declared, role)
        if model is None or model == "none":
            continue
        folder = Path.cwd() if named else parts.loaded.folder
        if role == "baseline":
            models.earlier = earlier_baseline(model, out, folder, parts.suite)
            if models.earlier:
                continue
        try:
            _open(
                models, role, model, folder, arguments_for(role, given), flags, parts, digest_file
            )
        except UsageError as error:
            close = nearest_run(model, out) if role == "baseline" else ""
            if error.problems or not close:
                raise
            raise UsageError(f"{error}; as an earlier run, did you mean {close!r}?") from error
    if "candidate" not in models.backends:
        raise UsageError("no candidate: name one with --candidate or under 'models:' in the suite")
    return models


def _open(
    models: RunModels,
    role: Role,
    model: str,
    folder: Path,
    arguments: Mapping[str, str],
    flags: Mapping[str, Any],
    parts: Assembly,
    digest_file: DigestFile,
) -> None:
    weighed = bool(parts.suite.spectral)
    if backend_name(flags["backend"], model) == "replay":
        model = _recorded(model, folder)

    def find(name: str) -> Checkpoint:
        found = find_checkpoint(name, folder=folder, digest_file=digest_file, whole=not weighed)
        models.found.append(found)
        return found

    backend = open_model(flags["backend"], model, arguments, find)
    models.backends[role] = backend
    if weighed:
        adapter = arguments.get("adapter")
        models.weights[role] = weights_of(backend, model, adapter, folder, digest_file)


def _recorded(model: str, folder: Path) -> str:
    """Return where recorded answers lie: beside the suite that names them, wherever the command is run."""
    beside = folder / model
    return str(beside) if beside.exists() and beside.resolve() != Path(model).resolve() else model
