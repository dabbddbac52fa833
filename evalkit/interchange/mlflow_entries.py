"""A finished run as MLflow keeps one: parameters, metrics and tags, under names that MLflow takes.

- **Parameters** are what the scorecard's digest covers and so never change: suite, version, digests, seed.
- **Metrics**: each estimate's value under its own name, with ``.low``, ``.high`` and ``.n``; the baseline's behind
  ``baseline/``, differences behind ``difference/``. MLflow's names hold letters, digits, space and ``/ . - _``: what
  else a name holds becomes ``_``, and names that fall together get a number. ``evalkit-names.json`` tells each
  name's estimate.
- **Tags** are what may change: verdict, exit code, who was measured under which name.

**Source**: MLflow 3.17, ``utils/validation.py`` (names: 250 characters, no path that resolves to another; texts of
parameters 6,000 characters, of tags 8,000; older servers 500 and 5,000, which are kept to here).
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from evalkit.identity import short
from evalkit.records.scorecard import Comparison, Estimate, Scorecard
from evalkit.records.verdict import Verdict

NAME_LENGTH: Final = 250
"""Characters of a metric's, parameter's or tag's name."""
PARAM_LENGTH: Final = 500
"""Characters of a parameter's text that every server takes."""
TAG_LENGTH: Final = 5000
"""Characters of a tag's text that every server takes."""
SCORECARD_TAG: Final = "evalkit.scorecard"
"""The tag by which a run is found again."""
STATE_TAG: Final = "evalkit.state"
"""``complete`` once everything is logged, ``incomplete`` before."""
VERDICT_TAG: Final = "evalkit.verdict"
RUN_TAG: Final = "evalkit.run"


@dataclass(frozen=True, slots=True)
class MlflowEntries:
    """What is logged of a run."""

    run_name: str
    """The MLflow run's name."""
    scorecard: str
    """Digest of the scorecard: one MLflow run holds it."""
    started_ms: int
    """When the run began, in milliseconds since 1970 UTC."""
    finished_ms: int
    """When it ended; the time of every metric, so that logging again writes the same."""
    params: Mapping[str, str]
    """What never changes."""
    metrics: Mapping[str, float]
    """MLflow's name → number."""
    tags: Mapping[str, str]
    """What may change."""
    names: Mapping[str, str]
    """MLflow's name of a metric → what it is, where the name had to change: the name as evalkit writes it."""
    left_out: Mapping[str, str]
    """Estimate or comparison → why it has no metric."""

    @property
    def verdict(self) -> str:
        """The verdict's status; ``none`` where no gate decided."""
        return self.tags[VERDICT_TAG]

    @property
    def left_out_in_words(self) -> str:
        """Say how many numbers have no metric, by reason; empty where all have."""
        reasons = Counter(self.left_out.values())
        return "; ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))


def mlflow_entries(scorecard: Scorecard, verdict: Verdict | None) -> MlflowEntries:
    """Return what is logged of a run."""
    metrics: dict[str, float] = {}
    names: dict[str, str] = {}
    left_out: dict[str, str] = {}
    taken: set[str] = set()
    for estimate in scorecard.estimates:
        whole = f"baseline/{estimate.name}" if estimate.model == "baseline" else estimate.name
        if estimate.value is None:
            left_out[whole] = "estimates without a value"
            continue
        _log(metrics, names, taken, whole, _of_estimate(estimate))
    for comparison in scorecard.comparisons:
        whole = f"difference/{_name(comparison)}"
        if comparison.difference is None:
            left_out[whole] = "differences that could not be taken"
            continue
        _log(metrics, names, taken, whole, _of_comparison(comparison))
    when = scorecard.circumstances
    return MlflowEntries(
        run_name=f"{scorecard.provenance.suite} {short(scorecard.digest)}",
        scorecard=scorecard.digest,
        started_ms=_milliseconds(when.started),
        finished_ms=_milliseconds(when.finished),
        params=_params(scorecard),
        metrics=metrics,
        tags=_tags(scorecard, verdict),
        names=names,
        left_out=left_out,
    )


def legal_name(name: str) -> str:
    """Return a name as MLflow takes it: at most 250 of its characters, and no path that resolves to another.

    >>> legal_name("extract/f1@region=north"), legal_name("a/../b")
    ('extract/f1_region_north', 'a/__/b')
    """
    made = re.sub(r"[^A-Za-z0-9_/.\- ]", "_", name)[:NAME_LENGTH]
    parts = [part if part.strip(".") else "_" * max(1, len(part)) for part in made.split("/")]
    made = "/".join(parts)
    assert posixpath.normpath(made) == made, made
    return made


def _log(
    metrics: dict[str, float],
    names: dict[str, str],
    taken: set[str],
    whole: str,
    parts: Mapping[str, float],
) -> None:
    """Add a number and what stands beside it, under one legal name that no other has.

    Some servers' databases take upper and lower case for the same, so ``taken`` holds names in lower case.
    """
    longest = max(map(len, parts))
    base = legal_name(whole)[: NAME_LENGTH - longest - 6].rstrip("./ ") or "_"
    name, number = base, 1
    while any(f"{name}{part}".lower() in taken for part in parts):
        number += 1
        name = f"{base}_{number}"
    for part, value in parts.items():
        metrics[f"{name}{part}"] = value
        taken.add(f"{name}{part}".lower())
        if f"{name}{part}" != f"{whole}{part}":
            names[f"{name}{part}"] = f"{whole}{part}"


def _of_estimate(estimate: Estimate) -> dict[str, float]:
    assert estimate.value is not None, "it has a value"
    n = estimate.counts.scored if estimate.n is None else estimate.n
    made = {"": estimate.value, ".n": float(n)}
    if estimate.interval is not None:
        made |= {".low": estimate.interval.low, ".high": estimate.interval.high}
    return made


def _of_comparison(comparison: Comparison) -> dict[str, float]:
    assert comparison.difference is not None, "it has a difference"
    made = {"": comparison.difference, ".n": float(comparison.pairs)}
    if comparison.interval is not None:
        made |= {".low": comparison.interval.low, ".high": comparison.interval.high}
    if comparison.p_value is not None:
        made[".p"] = comparison.p_value
    return made


def _name(comparison: Comparison) -> str:
    whole = f"{comparison.task}/{comparison.metric}"
    return whole if comparison.slice is None else f"{whole}@{comparison.slice}"


def _params(scorecard: Scorecard) -> dict[str, str]:
    run = scorecard.provenance
    told: list[tuple[str, str]] = [
        ("suite", run.suite),
        ("suite.version", str(run.suite_version)),
        ("suite.digest", run.suite_digest),
        ("seed", str(run.seed)),
        *((f"model.{role}", model.digest) for role, model in sorted(run.models.items())),
        *(
            (f"model.{role}.backend", str(model.engine.get("backend", "")))
            for role, model in sorted(run.models.items())
        ),
        *((f"data.{task}", sha256) for task, sha256 in sorted(run.datasets.items())),
        *((f"judge.{judge.judge}", judge.pins) for judge in scorecard.judges),
    ]
    return {legal_name(key): value[:PARAM_LENGTH] for key, value in told if value}


def _tags(scorecard: Scorecard, verdict: Verdict | None) -> dict[str, str]:
    when = scorecard.circumstances
    told = {
        SCORECARD_TAG: scorecard.digest,
        VERDICT_TAG: "none" if verdict is None else verdict.status,
        "evalkit.exit_code": "none" if verdict is None else str(verdict.exit_code),
        "evalkit.reason": "no gate has decided" if verdict is None else verdict.reason,
        "evalkit.version": scorecard.provenance.versions.get("evalkit", "unknown"),
        "evalkit.incomplete": ", ".join(t.task for t in scorecard.tasks if not t.complete),
        "evalkit.git_commit": when.git_commit or "",
        **{f"evalkit.{role}": name for role, name in sorted(when.names.items())},
        "evalkit.gates": ", ".join(
            f"{gate} {short(digest)}"
            for gate, digest in sorted((verdict.gates if verdict else {}).items())
        ),
    }
    return {legal_name(key): _cut(value) for key, value in told.items()}


def _cut(text: str) -> str:
    return text if len(text) <= TAG_LENGTH else f"{text[: TAG_LENGTH - 1]}…"


def _milliseconds(time: str) -> int:
    return round(datetime.fromisoformat(time).timestamp() * 1000)
