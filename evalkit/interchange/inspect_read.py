"""Logs of inspect (``.eval`` and ``.json``), read by inspect_ai's own library.

A log is one task on one model. Each scorer gives a number per sample, or several where its value is a dictionary or a
list. Values become numbers by inspect's own convention (``value_to_float``): C, yes and true are 1, P is ½, I, N, no
and false are 0, numbers are themselves. **Deviation**: a text that is none of these is 0 there, with a warning in its
log; here it is ungraded, with the reason.

A sample that was asked in several epochs is one sample for each, ``id#epoch``, and all of them are a cluster. Samples
that ended in an error, or that the log lacks, are counted as failed. Where inspect printed an accuracy or a mean, the
samples must give it.

**Source**: inspect_ai 0.3.285, ``scorer/_metric.py``, ``_eval/task/results.py``, ``log/_log.py``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from evalkit.errors import Problem, RunError, UsageError
from evalkit.identity import digest, digest_bytes
from evalkit.interchange.foreign import (
    ForeignModel,
    ForeignRun,
    Wishes,
    plain_json,
    safe_name,
    slice_fields,
    without_secrets,
)
from evalkit.interchange.inspect_task import MeasuredLog, version_of
from evalkit.interchange.inspect_values import LONGEST_NOTE

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog

INSTALL: Final = "pip install 'evalkit-gates[inspect]'"
_UNREAD: Final = {"events", "store", "messages", "timelines", "events_data", "error_retries"}
"""Parts of a sample that are not needed."""


def read_inspect(path: Path, wishes: Wishes) -> ForeignRun:
    """Return the run in a log, or in a folder of logs of one model: of each task the newest.

    Raises UsageError where there is no log, several models, a log that is not finished or damaged, and where its
    samples do not give what it printed; RunError where inspect_ai is not installed.
    """
    files, notes = find_logs(path)
    logs = [(file, _log(file)) for file in files]
    newest, told = _newest(path, logs)
    tasks: dict[str, MeasuredLog] = {}
    for file, log in newest:
        name = safe_name(log.eval.task_display_name or log.eval.task, tasks)
        tasks[name] = MeasuredLog(file, log, name)
    slices = slice_fields(wishes.slices, {name: task.fields for name, task in tasks.items()})
    read = tuple(task.read(wishes, slices[name]) for name, task in tasks.items())
    wishes.check((name, score) for name, task in tasks.items() for score in task.names.values())
    first = newest[0][1]
    identity = digest([digest_bytes(file.read_bytes()) for file, _ in newest])
    stats = [log.stats for _, log in newest]
    started = min(str(s.started_at) for s in stats)
    finished = max(str(s.completed_at) for s in stats)
    return ForeignRun(
        harness="inspect",
        version=version_of(first),
        files=tuple(file for file, _ in newest),
        identity=identity,
        model=_model(first, identity),
        tasks=read,
        started=started,
        finished=finished,
        seconds=_seconds(started, finished),
        versions={"inspect_ai": version_of(first)},
        git_commit=first.eval.revision.commit if first.eval.revision else None,
        notes=(*notes, *told),
    )


def find_logs(path: Path) -> tuple[list[Path], tuple[str, ...]]:
    """Return the logs that a path means. Raises UsageError where there is none."""
    if not path.is_dir():
        if not path.is_file():
            raise UsageError([Problem(str(path), None, "", "there is no such file")])
        return [path], ()
    found = sorted(path.glob("*.eval")) or sorted(path.rglob("*.eval"))
    if not found:
        message = "no .eval log of inspect lies here; pass a .json log by its own name"
        raise UsageError([Problem(str(path), None, "", message)])
    return found, ()


Logs = list[tuple[Path, "EvalLog"]]


def _newest(path: Path, logs: Logs) -> tuple[Logs, tuple[str, ...]]:
    """Return the newest log of each task. Raises UsageError where models differ."""
    models = {plain_json([log.eval.model, log.eval.model_args]): log.eval.model for _, log in logs}
    if len(models) > 1:
        files = ", ".join(file.name for file, _ in logs[:5]) + (", …" if len(logs) > 5 else "")
        message = f"logs of several models lie here ({', '.join(sorted(models.values())[:5])}); pass one of: {files}"
        raise UsageError([Problem(str(path), None, "", message)])
    newest: dict[str, tuple[Path, EvalLog]] = {}
    for file, log in sorted(logs, key=lambda held: (str(held[1].eval.created), held[0].name)):
        newest[log.eval.task] = (file, log)
    if len(newest) == len(logs):
        return list(newest.values()), ()
    chosen = ", ".join(file.name for file, _ in newest.values())
    return list(newest.values()), (
        f"of {len(logs)} logs the newest of each task was taken: {chosen}",
    )


def _log(file: Path) -> EvalLog:
    """Return a finished log. Raises UsageError where it cannot be read or is not finished."""
    try:
        from inspect_ai.log import read_eval_log
    except ImportError as error:
        raise RunError(
            f"reading {file} needs inspect_ai, which is not installed", INSTALL
        ) from error

    def wrong(message: str, key: str = "") -> UsageError:
        return UsageError([Problem(str(file), None, key, message)])

    try:
        log = read_eval_log(str(file), resolve_attachments="core", exclude_fields=_UNREAD)
    except Exception as error:  # an untrusted file, and another program's reader
        reason = str(error).partition("\n")[0][:LONGEST_NOTE]
        raise wrong(
            f"inspect_ai cannot read this log ({type(error).__name__}: {reason})"
        ) from error
    if log.status != "success":
        why = f": {log.error.message.strip()[:LONGEST_NOTE]}" if log.error else ""
        again = "finish it with 'inspect eval-retry', then import what that writes"
        raise wrong(
            f"the log is not that of a finished run, its status is {log.status!r}{why}; {again}",
            "status",
        )
    if log.invalidated:
        raise wrong("somebody marked samples of this log as invalid; run them again", "invalidated")
    if not log.samples:
        raise wrong("the log holds no samples: run inspect without --no-log-samples", "samples")
    if log.results is None or not any(sample.scores for sample in log.samples):
        raise wrong("no sample has a score: 'inspect score' gives them one", "samples")
    return log


def _model(log: EvalLog, identity: str) -> ForeignModel:
    """Return the model; pinned where a commit of the hub is told."""
    arguments = log.eval.model_args
    revision = str(arguments.get("revision") or "")
    engine = {
        "harness": f"inspect {version_of(log)}",
        "model": log.eval.model,
        "arguments": without_secrets(arguments),
        **({"base_url": log.eval.model_base_url} if log.eval.model_base_url else {}),
    }
    of_hub = not arguments.get("model_path")
    pinned = of_hub and re.fullmatch(r"[0-9a-f]{40}", revision) is not None
    known = digest_bytes(plain_json([engine, None if pinned else identity]))
    name = str(arguments.get("model_path") or log.eval.model)
    return ForeignModel(name=name, digest=known, pinned=pinned, engine=engine)


def _seconds(started: str, finished: str) -> float:
    from datetime import datetime

    try:
        return (datetime.fromisoformat(finished) - datetime.fromisoformat(started)).total_seconds()
    except ValueError:
        return 0.0
