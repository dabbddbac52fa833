"""What stands behind the numbers, and the command that makes them again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from evalkit.records.scorecard import Circumstances
from evalkit.reports.page.section import Section, fragment, models, when
from evalkit.reports.reported import FinishedRun
from evalkit.reports.view import command_line


def section(run: FinishedRun) -> Section | None:
    """Return digests, versions, models and data sets, and how to run it again."""
    scorecard, verdict = run.scorecard, run.verdict
    provenance, circumstances = scorecard.provenance, scorecard.circumstances
    digests = {
        "scorecard": scorecard.digest,
        "suite": provenance.suite_digest,
        **({f"gate {name}": held for name, held in verdict.gates.items()} if verdict else {}),
        "samples.jsonl": scorecard.samples,
        "weights.jsonl": scorecard.weights,
        "judgements.jsonl": scorecard.judgements,
        "labels.jsonl": scorecard.labels,
        "the baseline's scorecard": scorecard.baseline_run,
    }
    body = fragment(
        "provenance.html",
        facts=list(_facts(run)),
        command=command_line(run.scorecard),
        run=shlex.quote(str(run.path)),
        digests={name: held for name, held in digests.items() if held},
        models=[
            {
                "role": role,
                "name": circumstances.names.get(role, ""),
                "location": circumstances.locations.get(role, ""),
                "record": record,
                "engine": in_words(record.engine),
                "other": in_words(circumstances.engine.get(role) or {}),
            }
            for role, record in models(run)
        ],
        datasets=provenance.datasets,
        versions=provenance.versions,
        host=list(_host(circumstances)),
    )
    return Section(
        "provenance",
        "Provenance",
        body,
        told="Enough to make every number again, and to see whether it is the same.",
    )


def _facts(run: FinishedRun) -> Iterator[tuple[str, str]]:
    provenance, circumstances = run.scorecard.provenance, run.scorecard.circumstances
    yield "suite", f"{provenance.suite}, version {provenance.suite_version}"
    yield "seed", str(provenance.seed)
    commit = circumstances.git_commit or "none: the suite lay in no repository"
    changed = commit.endswith("+changes")
    yield (
        "commit",
        commit.replace("+changes", ", with changes that were not committed") if changed else commit,
    )
    yield "started", when(circumstances.started)
    yield "finished", when(circumstances.finished)


def _host(circumstances: Circumstances) -> Iterator[tuple[str, str]]:
    """Yield what the run ran on, which changes no number that is pinned."""
    for name, value in {**circumstances.hardware, **circumstances.host}.items():
        told = in_words({"": value}) if value not in ([], {}, "", None) else "none"
        yield name.replace("_", " "), told


def in_words(held: Mapping[str, Any]) -> str:
    """Return settings in one line.

    >>> in_words({"backend": "vllm", "dtype": "float16", "gpus": ["A", "B"]})
    'backend vllm, dtype float16, gpus A + B'
    """
    told = []
    for name, value in held.items():
        shown = " + ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        told.append(f"{name} {shown}".strip())
    return ", ".join(told)
