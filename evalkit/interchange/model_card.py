"""A finished run as Hugging Face model-card metadata (``model-index``), and as a section of the card's text.

One result per estimate over all samples. The dataset is named by suite and task, and its revision is the digest of its
bytes; a data set of the Hugging Face hub keeps the name it has there, and the git revision that the suite states.
Interval, counts, verdict and scorecard stand in the metric's ``args``: a number is never advertised without them.

A card may show the numbers of a run that did not pass; its text and each number's ``args`` then say so.

**Source**: huggingface/hub-docs, ``modelcard.md`` (the specification of ``model-index``); huggingface_hub 1 and 2,
``repocard_data.py`` (``EvalResult``, ``model_index_to_eval_results``), which reads what is written here.

**Deviation**: ``source`` needs an address, which a local run has none of: what would stand there is in ``args``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from evalkit.identity import short
from evalkit.records.exchange import Role
from evalkit.records.scorecard import Estimate, Scorecard, TaskTally
from evalkit.records.suite import DatasetSpec, SuiteSpec
from evalkit.records.verdict import Verdict

TASK_TYPES: Final[Mapping[str, str]] = {
    "generate": "text-generation",
    "perplexity": "text-generation",
    "counterfactual": "text-generation",
    "multiple_choice": "multiple-choice",
}
"""Kind of task → Hugging Face's task type."""
METRIC_TYPES: Final[Mapping[str, str]] = {
    "exact_match": "exact_match",
    "bleu": "bleu",
    "chrf": "chrf",
    "rouge": "rouge",
    "multiple_choice.acc": "accuracy",
    "decisions.accuracy": "accuracy",
    "perplexity": "perplexity",
}
"""Our metric, or its family → the type under which Hugging Face knows it; all others keep their own."""


@dataclass(frozen=True, slots=True)
class CardResults:
    """What a run says on a model's card."""

    results: tuple[dict[str, Any], ...]
    """The elements of ``model-index[0].results``: one per task, with the task's metrics."""
    left_out: Mapping[str, str]
    """Estimate → why it is no result on the card."""
    section: str
    """The card's text about the run, in Markdown."""


def card_results(
    scorecard: Scorecard, suite: SuiteSpec | None, verdict: Verdict | None, role: Role, note: str
) -> CardResults:
    """Return what the card says of one model of a run; ``note`` is told in the text, empty for nothing."""
    tallies = {tally.task: tally for tally in scorecard.tasks if tally.model == role}
    shown: dict[str, list[Estimate]] = {}
    left_out: dict[str, str] = {}
    for estimate in scorecard.estimates:
        if estimate.model != role:
            continue
        why = _no_result(estimate)
        if why:
            left_out[estimate.name] = why
        else:
            shown.setdefault(estimate.task, []).append(estimate)
    datasets = {task.name: task.dataset for task in suite.sampled} if suite else {}
    results = tuple(
        {
            "task": {"type": _task_type(tallies.get(task)), "name": task},
            "dataset": _dataset(scorecard, task, datasets.get(task)),
            "metrics": [_metric(one, scorecard, verdict, tallies.get(task)) for one in estimates],
        }
        for task, estimates in shown.items()
    )
    section = _section(scorecard, verdict, shown, tallies, left_out, note)
    return CardResults(results, left_out, section)


def reasons_in_words(left_out: Mapping[str, str]) -> str:
    """Say how many estimates are no result on the card, by reason; empty where all are."""
    reasons = Counter(left_out.values())
    return "; ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))


def _no_result(estimate: Estimate) -> str:
    if estimate.kind == "gap":
        return "gaps between groups"
    if estimate.kind == "census":
        return "read from weights"
    if estimate.slice is not None:
        return "by slice"
    return "without a value" if estimate.value is None else ""


def _task_type(tally: TaskTally | None) -> str:
    return TASK_TYPES.get(tally.kind, "text-generation") if tally else "text-generation"


def _dataset(scorecard: Scorecard, task: str, spec: DatasetSpec | None) -> dict[str, Any]:
    sha256 = scorecard.provenance.datasets.get(task, "")
    run = scorecard.provenance
    if spec is not None and spec.name is not None:
        told: dict[str, Any] = {"name": spec.name, "type": spec.name}
        if spec.config:
            told["config"] = spec.config
        told["split"] = spec.split
        if spec.revision:
            told["revision"] = spec.revision
        return told | {"args": {"sha256": sha256}}
    return {
        "name": f"{run.suite} {run.suite_version}: {task}",
        "type": f"{run.suite}.{task}",
        "revision": sha256,
    }


def _metric(
    estimate: Estimate, scorecard: Scorecard, verdict: Verdict | None, tally: TaskTally | None
) -> dict[str, Any]:
    family = estimate.metric.partition(".")[0]
    interval = estimate.interval
    return {
        "type": METRIC_TYPES.get(estimate.metric, METRIC_TYPES.get(family, estimate.metric)),
        "value": estimate.value,
        "name": estimate.metric,
        "args": {
            "evalkit": scorecard.provenance.versions.get("evalkit", "unknown"),
            "suite": scorecard.provenance.suite,
            "scorecard": scorecard.digest,
            "verdict": "none" if verdict is None else verdict.status,
            "unit": estimate.unit,
            "better": estimate.better,
            "n": estimate.counts.scored if estimate.n is None else estimate.n,
            "planned": estimate.counts.planned,
            "complete": tally is None or tally.complete,
            **(
                {}
                if interval is None
                else {
                    "low": interval.low,
                    "high": interval.high,
                    "level": interval.level,
                    "interval": interval.method,
                }
            ),
        },
        "verified": False,
    }


def _section(
    scorecard: Scorecard,
    verdict: Verdict | None,
    shown: Mapping[str, Sequence[Estimate]],
    tallies: Mapping[str, TaskTally],
    left_out: Mapping[str, str],
    note: str,
) -> str:
    run = scorecard.provenance
    lines = [f"## Evaluation: {escaped(run.suite)} {escaped(str(run.suite_version))}", ""]
    if verdict is None:
        lines.append("**No gate has decided on these numbers.**")
    else:
        lines.append(f"**Verdict: {verdict.status}.** {escaped(verdict.reason)}")
    short_ = [task for task, tally in tallies.items() if task in shown and not tally.complete]
    if short_:
        tasks = ", ".join(map(escaped, short_))
        lines += ["", f"Fewer samples were scored than the suite demands: {tasks}."]
    if note:
        lines += ["", escaped(note)]
    lines += ["", "| Task | Metric | Value | Interval | Samples |", "|---|---|---|---|---|"]
    for task, estimates in shown.items():
        lines += [_line(task, estimate) for estimate in estimates]
    if left_out:
        lines += ["", f"Not in this table: {reasons_in_words(left_out)}."]
    version = run.versions.get("evalkit", "unknown")
    lines += [
        "",
        f"Measured by evalkit {escaped(version)}; scorecard `{short(scorecard.digest)}`, model "
        f"`{_model(scorecard, shown)}`.",
    ]
    return "\n".join(lines)


def _model(scorecard: Scorecard, shown: Mapping[str, Sequence[Estimate]]) -> str:
    roles = {one.model for estimates in shown.values() for one in estimates} or {"candidate"}
    return short(scorecard.provenance.models[min(roles)].digest)


def _line(task: str, estimate: Estimate) -> str:
    interval, value = estimate.interval, estimate.value
    between = (
        f"{interval.low:.4g} to {interval.high:.4g} ({interval.level:.4g})" if interval else "none"
    )
    n = estimate.counts.scored if estimate.n is None else estimate.n
    cells = (task, estimate.metric, f"{value:.4g} {estimate.unit}", between, f"{n:,}")
    return f"| {' | '.join(map(escaped, cells))} |"


def escaped(text: str) -> str:
    """Return a text as one line of Markdown that shows it as it is: no markup, no HTML, no table cell's end.

    >>> escaped("a|b <i>*c*")
    'a\\\\|b &lt;i&gt;\\\\*c\\\\*'
    """
    line = "".join(c if c.isprintable() else " " for c in text)
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]#|~!$])", r"\\\1", line)
