"""Runs of lm-evaluation-harness, read from the files that ``--output_path … --log_samples`` leaves.

A ``results_<time>.json`` says what was measured and what came out, the ``samples_<task>_<time>.jsonl`` beside it say so
document by document. Taken over are the documents' numbers; the printed ones are held against them:

- aggregated by the mean: a rate or a mean here, and the mean of the documents must be what was printed;
- perplexities and bits per byte: given again exactly from the log-likelihoods;
- anything else (BLEU, F1, the median, a function of the task's own whose value is no mean): left out, and told.

**Source**: lm-evaluation-harness 0.4.13, ``evaluator.py``, ``evaluator_utils.py``, ``api/metrics.py``,
``loggers/evaluation_tracker.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from evalkit.errors import Problem, RunError, UsageError
from evalkit.identity import digest, digest_bytes
from evalkit.interchange.foreign import (
    ForeignModel,
    ForeignRun,
    Wishes,
    plain_json,
    safe_name,
    slice_fields,
    table,
    without_secrets,
)
from evalkit.interchange.lm_eval_task import MeasuredTask, samples_file, stamp, version_of


def read_lm_eval(path: Path, wishes: Wishes) -> ForeignRun:
    """Return the run in a results file, or the newest in a folder.

    Raises UsageError where there is none or several models, where samples are missing or damaged, and where they do not
    give the printed numbers; RunError where a file cannot be read.
    """
    file, notes = find_results(path)
    content = _results(file)
    by_name: dict[str, MeasuredTask] = {}
    for told in _tasks(file, content):
        name = safe_name(told, by_name)
        by_name[name] = MeasuredTask(file, content, told, name)
    fields = {name: task.recordings.fields for name, task in by_name.items()}
    slices = slice_fields(wishes.slices, fields)
    tasks = tuple(task.read(wishes, slices[name]) for name, task in by_name.items())
    wishes.check((name, score) for name, task in by_name.items() for score in task.names)
    files = (file, *(task.file for task in by_name.values()))
    identity = digest([content[""], *sorted(t.recordings.sha256 for t in by_name.values())])
    started, seconds = (
        _number(content.get("date")),
        _number(content.get("total_evaluation_time_seconds")),
    )
    return ForeignRun(
        harness="lm-eval",
        version=version_of(content),
        files=files,
        identity=identity,
        model=_model(content, identity),
        tasks=tasks,
        started=_utc(started),
        finished=_utc(started + (seconds or 0) if started else None),
        seconds=seconds or 0.0,
        versions=_versions(content),
        git_commit=content["git_hash"] if isinstance(content.get("git_hash"), str) else None,
        notes=(*notes, *_groups(content)),
    )


def find_results(path: Path) -> tuple[Path, tuple[str, ...]]:
    """Return the results file that a path means, and how it was chosen where there were several.

    Raises UsageError where there is none, or several models have one.
    """

    def wrong(message: str) -> UsageError:
        return UsageError([Problem(str(path), None, "", message)])

    if path.suffix == ".jsonl":
        raise wrong(
            "these are lm-eval's samples: pass the results_<time>.json beside them, or the folder"
        )
    if not path.is_dir():
        return path, ()
    found = sorted(path.rglob("results_*.json"), key=stamp)
    if not found:
        raise wrong("no results_<time>.json of lm-eval lies here: pass what --output_path named")
    folders = sorted({str(file.parent) for file in found})
    if len(folders) > 1:
        several = ", ".join(folders[:5]) + (", …" if len(folders) > 5 else "")
        raise wrong(f"results of several models lie here; pass one of: {several}")
    if len(found) == 1:
        return found[0], ()
    chosen = f"of {len(found)} results in {folders[0]} the newest was taken, {found[-1].name}"
    return found[-1], (chosen,)


def _results(file: Path) -> dict[str, Any]:
    """Return a results file, with the digest of its bytes under the empty key."""
    from json import loads

    def wrong(message: str) -> UsageError:
        return UsageError([Problem(str(file), None, "", message)])

    try:
        held = file.read_bytes()
    except FileNotFoundError:
        raise wrong("there is no such file") from None
    except OSError as error:
        raise RunError(
            f"{file} cannot be read: {error.strerror}", "check its permissions"
        ) from error
    try:
        content = orjson.loads(held)
    except orjson.JSONDecodeError:
        try:
            content = loads(held)  # NaN and Infinity, which Python writes as well
        except (ValueError, RecursionError) as error:
            raise wrong(f"not JSON: {error}") from error
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), dict) for key in ("results", "configs")
    ):
        raise wrong("these are no results of lm-eval 0.4: it has no 'results' and 'configs'")
    return {**content, "": digest_bytes(held)}


def _tasks(file: Path, content: Mapping[str, Any]) -> list[str]:
    """Return the tasks of the results, all of which have samples. Raises UsageError where one has none."""
    tasks = [name for name in content["results"] if isinstance(content["configs"].get(name), dict)]
    lacking = [name for name in tasks if not samples_file(file, name).is_file()]
    if not tasks:
        raise UsageError([Problem(str(file), None, "results", "there is no task in these results")])
    if lacking:
        message = (
            f"the samples of {', '.join(lacking[:5])}{', …' if len(lacking) > 5 else ''} are not beside the results "
            f"({samples_file(file, lacking[0]).name}): aggregates alone have no intervals and cannot be compared; "
            "run lm_eval again with --log_samples, and keep its files together"
        )
        raise UsageError([Problem(str(file), None, "results", message)])
    return tasks


def _groups(content: Mapping[str, Any]) -> Iterator[str]:
    groups = [name for name in content["results"] if name not in content["configs"]]
    if groups:
        shown = ", ".join(groups[:5]) + (", …" if len(groups) > 5 else "")
        yield f"{shown}: a group's number is made of its tasks' numbers; its tasks are taken over one by one"


def _versions(content: Mapping[str, Any]) -> dict[str, str]:
    """Return the packages that computed the numbers there."""
    found = {"lm-eval": version_of(content)}
    if transformers := content.get("transformers_version"):
        found["transformers"] = str(transformers)
    return found


def _model(content: Mapping[str, Any], identity: str) -> ForeignModel:
    """Return the model; pinned where a commit of the hub is told for it and for all that lies upon it."""
    config = table(content, "config")
    arguments = config.get("model_args")
    engine = {
        "harness": f"lm-eval {version_of(content)}",
        "backend": config.get("model"),
        "arguments": without_secrets(arguments),
        **{
            key: config.get(key)
            for key in ("model_dtype", "model_revision", "model_sha", "peft_sha", "delta_sha")
        },
        **{
            key: content.get(key)
            for key in ("chat_template_sha", "system_instruction_sha", "max_length")
        },
    }
    engine = {key: value for key, value in engine.items() if value not in (None, "")}
    text = plain_json(arguments).decode("utf-8", "replace")
    upon = [part for part in ("peft", "delta") if part in text]
    pinned = bool(config.get("model_sha")) and all(config.get(f"{part}_sha") for part in upon)
    known = digest_bytes(plain_json([engine, None if pinned else identity]))
    name = content.get("model_name") or config.get("model") or "a model that is not named"
    return ForeignModel(name=str(name), digest=known, pinned=pinned, engine=engine)


def _number(value: Any) -> float | None:  # noqa: ANN401 - any JSON value
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _utc(seconds: float | None) -> str:
    """Return seconds since 1970 as UTC in ISO 8601; empty where they are not told."""
    if seconds is None or not 0 < seconds < 1e11:
        return ""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=int(seconds))).isoformat()
