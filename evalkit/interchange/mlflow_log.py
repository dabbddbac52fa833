"""Logs a finished run to an MLflow server as one MLflow run, found again by the scorecard's digest.

Logging is idempotent: every metric has the run's own time and step 0, parameters never change, tags and files are
replaced. So what a lost connection left undone is done by the same command, and a second time changes nothing but
the verdict, where the gates have decided anew. A registered model version is tagged last, when all else is there.

**Source**: MLflow 3.17, ``MlflowClient``; ``utils/validation.py`` for what one request may hold (1,000 metrics, 100
parameters, 100 tags).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

from evalkit.errors import RunError, UsageError
from evalkit.interchange.mlflow_entries import (
    RUN_TAG,
    SCORECARD_TAG,
    STATE_TAG,
    VERDICT_TAG,
    MlflowEntries,
)
from evalkit.interchange.mlflow_server import environment, in_words, split_secrets

if TYPE_CHECKING:
    from mlflow import MlflowClient

METRICS_AT_ONCE: Final = 1000
TEXTS_AT_ONCE: Final = 100
NAMES_FILE: Final = "evalkit-names.json"
AGAIN: Final = "what was logged stays; the same command completes it"
T = TypeVar("T")


@dataclass(frozen=True, slots=True, repr=False)
class Destination:
    """Where a run is logged."""

    address: str
    """The server's address; may hold a name and a password."""
    experiment: str
    """The experiment's name."""
    version: tuple[str, str] | None
    """Name and version of the registered model that gets the verdict; None for none."""

    @property
    def shown(self) -> str:
        """The address without name and password."""
        return split_secrets(self.address)[0]


@dataclass(frozen=True, slots=True)
class Logged:
    """What was logged, and where."""

    run_id: str
    """MLflow's id of the run."""
    address: str
    """The server, without secrets."""
    experiment: str
    """The experiment."""
    earlier: bool
    """Whether the run was there before and was brought up to date."""
    metrics: int
    """Metrics."""
    artefacts: int
    """Files, the names' file among them."""
    verdict: str
    """The verdict's status."""
    version: tuple[str, str] | None
    """The model version that was tagged."""

    @property
    def in_words(self) -> str:
        """Say it in a sentence or two."""
        how = "was there already and is up to date" if self.earlier else "is logged"
        told = (
            f"run {self.run_id} in experiment {self.experiment!r} at {self.address} {how}: {self.metrics:,} metrics, "
            f"{self.artefacts:,} files, verdict {self.verdict}"
        )
        if self.version is None:
            return told
        name, number = self.version
        return f"{told}\n{name} version {number} is tagged {VERDICT_TAG} = {self.verdict}"


def log_run(entries: MlflowEntries, artefacts: Sequence[Path], destination: Destination) -> Logged:
    """Log a run, or bring the one with the same scorecard up to date.

    Raises UsageError where the address is none or MLflow is not installed, RunError where the server is away, refuses,
    or lacks the model version; its message says what has been logged so far.
    """
    shown, user, password = split_secrets(destination.address)
    if urlsplit(shown).scheme not in {"http", "https"} or not urlsplit(shown).hostname:
        raise UsageError(
            f"--tracking-uri {shown!r} is no address of a server: http://… or https://…"
        )
    with environment(user, password):
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            message = "logging to MLflow needs its client: pip install 'evalkit-gates[mlflow]'"
            raise UsageError(message) from error
        client = MlflowClient(tracking_uri=shown, registry_uri=shown)
        return _Logging(client, entries, destination, password).log(artefacts)


class _Logging:
    """One run on its way to the server; knows how far it has come."""

    def __init__(
        self,
        client: MlflowClient,
        entries: MlflowEntries,
        destination: Destination,
        password: str | None,
    ) -> None:
        self._client, self._entries, self._to = client, entries, destination
        self._password = password
        self._run_id = ""
        self._reached = ""
        """What has been logged, in words."""
        self._whole = False
        """Whether the run has all that belongs in it."""

    def log(self, artefacts: Sequence[Path]) -> Logged:
        """Log everything, in an order in which whatever is missing can be told."""
        made = self._entries
        try:
            with self._told("nothing was logged"):
                self._check_version()
                experiment = self._experiment()
                earlier = self._find(experiment)
            with self._told(""):
                self._run_id = earlier or self._begin(experiment)
                self._write_texts()
                self._write_metrics()
                self._write_files(artefacts)
                self._end()
                self._tag_version()
        except RunError:
            self._mark_incomplete()
            raise
        return Logged(
            run_id=self._run_id,
            address=self._to.shown,
            experiment=self._to.experiment,
            earlier=bool(earlier),
            metrics=len(made.metrics),
            artefacts=len(artefacts) + 1,
            verdict=made.verdict,
            version=self._to.version,
        )

    def _check_version(self) -> None:
        """Make sure, before anything is logged, that the model version is there."""
        if self._to.version is None:
            return
        from mlflow.exceptions import MlflowException

        name, number = self._to.version
        try:
            self._client.get_model_version(name, number)
        except MlflowException as error:
            if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                raise
            message = (
                f"there is no version {number!r} of a registered model {name!r} at {self._to.shown}"
            )
            raise RunError(message, "register the model first; nothing was logged") from error

    def _experiment(self) -> str:
        """Return the experiment's id, made where there is none."""
        name = self._to.experiment
        found = self._client.get_experiment_by_name(name)
        if found is None:
            return str(self._client.create_experiment(name))
        if found.lifecycle_stage == "deleted":
            message = f"experiment {name!r} at {self._to.shown} was deleted"
            advice = (
                f"restore it ('mlflow experiments restore --experiment-id {found.experiment_id}') or name another; "
                "nothing was logged"
            )
            raise RunError(message, advice)
        return str(found.experiment_id)

    def _find(self, experiment: str) -> str:
        """Return the id of the run that holds this scorecard, the first of several; empty where none does."""
        found = self._client.search_runs(
            [experiment],
            filter_string=f"tags.`{SCORECARD_TAG}` = '{self._entries.scorecard}'",
            order_by=["attributes.start_time ASC"],
            max_results=1,
        )
        return found[0].info.run_id if found else ""

    def _begin(self, experiment: str) -> str:
        run = self._client.create_run(
            experiment,
            start_time=self._entries.started_ms,
            tags={SCORECARD_TAG: self._entries.scorecard, STATE_TAG: "incomplete"},
            run_name=self._entries.run_name,
        )
        return str(run.info.run_id)

    def _write_texts(self) -> None:
        from mlflow.entities import Param, RunTag

        self._reached = "no parameters yet"
        for params in _chunks(
            [Param(*pair) for pair in self._entries.params.items()], TEXTS_AT_ONCE
        ):
            self._client.log_batch(self._run_id, params=params)
        for tags in _chunks([RunTag(*pair) for pair in self._entries.tags.items()], TEXTS_AT_ONCE):
            self._client.log_batch(self._run_id, tags=tags)

    def _write_metrics(self) -> None:
        from mlflow.entities import Metric

        at, metrics = self._entries.finished_ms, self._entries.metrics
        for number, part in enumerate(_chunks(list(metrics.items()), METRICS_AT_ONCE)):
            done = number * METRICS_AT_ONCE
            self._reached = f"parameters, tags, {done:,} of {len(metrics):,} metrics, no files"
            batch = [Metric(name, value, at, 0) for name, value in part]
            self._client.log_batch(self._run_id, metrics=batch)

    def _write_files(self, artefacts: Sequence[Path]) -> None:
        for done, path in enumerate(artefacts):
            self._reached = f"parameters, tags, metrics, {done} of {len(artefacts) + 1} files"
            self._client.log_artifact(self._run_id, str(path))
        self._reached = f"parameters, tags, metrics, {len(artefacts)} of {len(artefacts) + 1} files"
        names = json.dumps(dict(self._entries.names), indent=2, ensure_ascii=True)
        self._client.log_text(self._run_id, names, NAMES_FILE)

    def _end(self) -> None:
        self._reached = "parameters, tags, metrics and files"
        self._client.set_tag(self._run_id, STATE_TAG, "complete")
        self._client.set_terminated(self._run_id, "FINISHED", self._entries.finished_ms)
        self._whole = True

    def _tag_version(self) -> None:
        if self._to.version is None:
            return
        self._reached = "everything but the model version's tags"
        name, number = self._to.version
        for key, value in (
            (SCORECARD_TAG, self._entries.scorecard),
            (RUN_TAG, self._run_id),
            (VERDICT_TAG, self._entries.verdict),
        ):
            self._client.set_model_version_tag(name, number, key, value)

    def _mark_incomplete(self) -> None:
        """Say on the server, if it can be reached, that the run is not whole."""
        if self._run_id and not self._whole:
            with suppress(Exception):  # MLflow's client; the error under way says more
                self._client.set_tag(self._run_id, STATE_TAG, "incomplete")
                self._client.set_terminated(self._run_id, "FAILED")

    @contextmanager
    def _told(self, so_far: str) -> Iterator[None]:
        """Turn whatever MLflow's client raises into a RunError that says how far it came."""
        try:
            yield
        except (RunError, UsageError):
            raise
        except (
            Exception
        ) as error:  # requests, the artefact store's library and MLflow each raise their own
            state = so_far or f"run {self._run_id or '(none)'} holds {self._reached}; {AGAIN}"
            message, advice = in_words(error, self._to.shown, self._password)
            raise RunError(message, f"{advice}; {state}") from None  # the cause may show secrets


def _chunks(items: Sequence[T], size: int) -> Iterator[Any]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
