"""A finished run in the layout of lm-evaluation-harness 0.4.13: what ``results_<time>.json`` holds.

::

    DIR/<model>/results_<time>.json             the numbers
    DIR/<model>/samples_<task>_<time>.jsonl     every sample of a task (``lm_eval_samples``)

What the layout has a place for goes there under lm-eval's names: ``acc,none`` with ``acc_stderr,none``, versions,
directions, shots, counts. What it has none for, intervals foremost, stands under the key ``evalkit``, which its readers
pass over, with the name of each estimate that is *not* in the tables and why.

A standard error is given where a number is the mean of one statistic over samples: s/√n, which for zeros and ones is
sqrt(p(1 − p)/(n − 1)) and is lm-eval's own ``mean_stderr``; where samples share clusters it is the cluster-robust one
(CR1). Everything else is ``N/A``, as lm-eval writes it: an interval is no standard error, and after looking early s/√n
is none either.

**Source**: lm-evaluation-harness 0.4.13, ``result_schema.py``, ``evaluator.py``, ``loggers/evaluation_tracker.py``,
``utils.py``.

**Deviation**: times in file names are those of the run, in UTC, so that a run exported twice gives the same files.
``sample_count`` (lm-eval: groups only) tells each metric's samples, since they differ where samples are unscored.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import isclose
from typing import Any, Final

from evalkit.estimating import full_name
from evalkit.interchange.lm_eval_tasks import declared, shots
from evalkit.metrics.base import Measure
from evalkit.records.exchange import Role
from evalkit.records.scorecard import Estimate, Scorecard
from evalkit.records.suite import SampledTask, SuiteSpec
from evalkit.records.verdict import Verdict
from evalkit.scoring import MetricTable
from evalkit.stats.estimate import real_clusters
from evalkit.stats.intervals import cluster_codes, standard_error

LAYOUT: Final = "0.4.13"
"""The version of lm-eval whose layout this is."""
FILTER: Final = "none"
"""lm-eval's name of the filter that changes nothing."""
NOT_AVAILABLE: Final = "N/A"
"""How lm-eval writes that there is no standard error."""
NAMES: Final[Mapping[str, str]] = {
    "multiple_choice.acc": "acc",
    "multiple_choice.acc_norm": "acc_norm",
    "multiple_choice.acc_bytes": "acc_bytes",
    "perplexity.word": "word_perplexity",
    "perplexity.byte": "byte_perplexity",
    "perplexity.bits_per_byte": "bits_per_byte",
}
"""Our metric → the name under which lm-eval computes the same number; all others keep their own."""
BACKENDS: Final[Mapping[str, str]] = {"transformers": "hf", "openai": "local-completions"}
"""Our backend → lm-eval's name of the like; all others keep their own."""
LONGEST_NAME: Final = 200
"""Characters of a folder's name."""


@dataclass(frozen=True, slots=True)
class Expressed:
    """An estimate that the layout has a place for."""

    name: str
    """lm-eval's name of the metric."""
    estimate: Estimate
    """The number."""
    measure: Measure | None
    """What it is a function of; None where the samples do not give it (as with people's ratings)."""
    table: MetricTable | None
    """The samples' statistics behind it; None likewise."""
    stderr: float | None
    """Its standard error; None where there is none."""


@dataclass(frozen=True, slots=True)
class LmEvalRun:
    """One model of a run as lm-eval would have written it; samples are added as they are written."""

    scorecard: Scorecard
    """The run."""
    suite: SuiteSpec | None
    """What was measured; None where the run did not keep it."""
    verdict: Verdict | None
    """What the gates answered."""
    role: Role
    """Whose numbers."""
    expressed: Mapping[str, tuple[Expressed, ...]]
    """Task → the numbers that the layout has a place for."""
    left_out: Mapping[str, str]
    """Estimate → why it is not in the tables."""

    @property
    def folder(self) -> str:
        """Name of the model's folder, as lm-eval makes it of the model's name."""
        return sanitised_model(self._model_name)

    @property
    def results_file(self) -> str:
        """Name of the file of results."""
        return f"results_{self._time_id}.json"

    def samples_file(self, task: str) -> str:
        """Return the name of a task's file of samples."""
        return f"samples_{task}_{self._time_id}.jsonl"

    @property
    def left_out_in_words(self) -> str:
        """Say how many estimates have no place in the layout, by reason; empty where all have one."""
        reasons = Counter(self.left_out.values())
        return "; ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))

    def spec(self, task: str) -> SampledTask | None:
        """Return what the suite declares of a task; None where the run did not keep it."""
        tasks = self.suite.sampled if self.suite else ()
        return next((spec for spec in tasks if spec.name == task), None)

    def kind(self, task: str) -> str:
        """Return the kind of task that was run; empty where the run has no tally of it."""
        tallies = (t for t in self.scorecard.tasks if (t.model, t.task) == (self.role, task))
        return next((tally.kind for tally in tallies), "")

    @property
    def _model_name(self) -> str:
        return self.scorecard.circumstances.names.get(self.role, self.role)

    @property
    def _time_id(self) -> str:
        # Six digits of a second always: lm-eval's readers compare these texts to find the latest.
        finished = datetime.fromisoformat(self.scorecard.circumstances.finished)
        return f"{finished:%Y-%m-%dT%H-%M-%S.%f}"

    def results(self, task_hashes: Mapping[str, str]) -> dict[str, Any]:
        """Return what ``results_<time>.json`` holds; ``task_hashes`` are told by the samples of each task."""
        card = self.scorecard
        planned = {t.task: t for t in card.tasks if t.model == self.role}
        tasks = list(self.expressed)
        engine = card.provenance.models[self.role].engine
        began = datetime.fromisoformat(card.circumstances.started)
        backend = str(engine.get("backend", ""))
        return {
            "results": {task: self._task_results(task) for task in tasks},
            "group_subtasks": {task: [] for task in tasks},
            "configs": {task: self._config(task) for task in tasks},
            "versions": dict.fromkeys(tasks, card.provenance.suite_version),
            "n-shot": {task: shots(self.spec(task)) for task in tasks},
            "higher_is_better": {
                task: {one.name: one.estimate.better == "higher" for one in self.expressed[task]}
                for task in tasks
            },
            "n-samples": {
                task: {
                    "original": early.available if (early := tally.early) else tally.planned,
                    "effective": tally.planned - sum(tally.failures.values()),
                }
                for task in tasks
                if (tally := planned.get(task))
            },
            "config": {
                "model": BACKENDS.get(backend, backend),
                "model_args": f"pretrained={self._model_name}",
                "model_dtype": str(engine.get("dtype", "")),
                "model_sha": card.provenance.models[self.role].digest,
                "batch_size": None,
                "batch_sizes": [],
                "device": str(engine.get("device", "")) or None,
                "use_cache": None,
                "limit": None,
                "bootstrap_iters": None,
                "gen_kwargs": None,
                "random_seed": card.provenance.seed,
                "numpy_seed": card.provenance.seed,
                "torch_seed": None,
                "fewshot_seed": card.provenance.seed,
            },
            "git_hash": card.circumstances.git_commit,
            "date": began.timestamp(),
            "pretty_env_info": ", ".join(
                f"{key}: {value}" for key, value in sorted(card.circumstances.host.items())
            ),
            "transformers_version": str(engine.get("transformers", NOT_AVAILABLE)),
            "lm_eval_version": f"{NOT_AVAILABLE} (written by evalkit in the layout of {LAYOUT})",
            "upper_git_hash": None,
            "task_hashes": dict(task_hashes),
            "model_source": BACKENDS.get(backend, backend),
            "model_name": self._model_name,
            "model_name_sanitized": self.folder,
            "system_instruction": None,
            "system_instruction_sha": None,
            "fewshot_as_multiturn": None,
            "chat_template": None,
            "chat_template_sha": None,
            "total_evaluation_time_seconds": str(card.circumstances.seconds),
            "evalkit": self._own(),
        }

    def _task_results(self, task: str) -> dict[str, Any]:
        held = self.expressed[task]
        told: dict[str, Any] = {
            "name": task,
            "alias": task,
            "sample_len": max(one.estimate.counts.planned for one in held),
            "sample_count": {f"{one.name},{FILTER}": _samples(one.estimate) for one in held},
        }
        for one in held:
            told[f"{one.name},{FILTER}"] = one.estimate.value
            told[f"{one.name}_stderr,{FILTER}"] = (
                NOT_AVAILABLE if one.stderr is None else one.stderr
            )
        return told

    def _config(self, task: str) -> dict[str, Any]:
        """Return a task's declaration under lm-eval's keys, with what is measured."""
        run = self.scorecard.provenance
        return declared(task, self.spec(task), self.kind(task)) | {
            "metric_list": [
                {"metric": one.name, "higher_is_better": one.estimate.better == "higher"}
                for one in self.expressed[task]
                if one.table is not None  # readers look every one of them up in every sample
            ],
            "metadata": {
                "version": run.suite_version,
                "suite": run.suite,
                "dataset_sha256": run.datasets.get(task, ""),
            },
        }

    def _own(self) -> dict[str, Any]:
        """Return what lm-eval's layout has no place for."""
        return {
            "scorecard": self.scorecard.digest,
            "model": self.role,
            "verdict": None if self.verdict is None else self.verdict.status,
            "reason": "" if self.verdict is None else self.verdict.reason,
            "estimates": {
                one.estimate.name: {
                    "metric": one.name,
                    "value": one.estimate.value,
                    "interval": one.estimate.interval and one.estimate.interval.model_dump(),
                    "unit": one.estimate.unit,
                    "counts": one.estimate.counts.model_dump(),
                    "n": _samples(one.estimate),
                }
                for held in self.expressed.values()
                for one in held
            },
            "incomplete": [t.task for t in self.scorecard.tasks if not t.complete],
            "left_out": dict(self.left_out),
        }


def lm_eval_run(
    scorecard: Scorecard,
    suite: SuiteSpec | None,
    verdict: Verdict | None,
    role: Role,
    tables: Iterable[MetricTable],
) -> LmEvalRun:
    """Return one model's numbers in lm-eval's terms.

    ``tables`` are those that the numbers of ``role`` were computed from; without them no number has a standard error.
    Estimates of slices, of gaps and of weights, and those without a value, have no place: they are ``left_out``.
    """
    behind = {
        (table.task, full_name(table.metric, measure.name)): (table, measure)
        for table in tables
        for measure in table.measures
    }
    expressed: dict[str, list[Expressed]] = {}
    left_out: dict[str, str] = {}
    mine = [estimate for estimate in scorecard.estimates if estimate.model == role]
    taken = Counter((e.task, NAMES.get(e.metric, e.metric)) for e in mine if e.slice is None)
    for estimate in mine:
        name = NAMES.get(estimate.metric, estimate.metric)
        if taken[estimate.task, name] > 1:  # another metric of the task already has lm-eval's name
            name = estimate.metric
        why = _no_place(estimate, name)
        if why:
            left_out[estimate.name] = why
            continue
        table, measure = behind.get((estimate.task, estimate.metric), (None, None))
        stderr = None if table is None or measure is None else _stderr(estimate, table, measure)
        made = Expressed(name, estimate, measure, table, stderr)
        expressed.setdefault(estimate.task, []).append(made)
    return LmEvalRun(
        scorecard=scorecard,
        suite=suite,
        verdict=verdict,
        role=role,
        expressed={task: tuple(held) for task, held in expressed.items()},
        left_out=left_out,
    )


def sanitised_model(name: str) -> str:
    r"""Return a model's name as lm-eval makes a folder's name of it, never one that leads elsewhere.

    >>> sanitised_model("EleutherAI/pythia-14m"), sanitised_model("..")
    ('EleutherAI__pythia-14m', 'model__..')
    """
    made = re.sub(r"[\"<>:/|\\?*\[\]]+", "__", name)
    made = "".join(c if c.isprintable() else "_" for c in made)[:LONGEST_NAME].strip()
    return f"model__{made}" if made.strip(".") == "" else made


def _no_place(estimate: Estimate, name: str) -> str:
    """Return why lm-eval's tables have no place for an estimate; empty where they have one."""
    if estimate.kind == "gap":
        return "gaps between groups"
    if estimate.kind == "census":
        return "read from weights"
    if estimate.slice is not None:
        return "by slice"
    if estimate.value is None:
        return "without a value"
    if "," in name or name.endswith("_stderr"):
        return "with a name that lm-eval would read as something else"
    return ""


def _samples(estimate: Estimate) -> int:
    return estimate.counts.scored if estimate.n is None else estimate.n


def _stderr(estimate: Estimate, table: MetricTable, measure: Measure) -> float | None:
    """Return the standard error of a mean of one statistic over all scored samples; None for anything else."""
    if measure.kind == "corpus" or measure.over >= 0 or table.anytime or estimate.value is None:
        return None
    values_N = table.stats_NK[:, measure.column]
    if not len(values_N) or not isclose(values_N.mean(), estimate.value, abs_tol=1e-12):
        return None  # the estimate is more than this mean, such as one corrected by people's labels
    clusters = None if table.clusters is None else cluster_codes(table.clusters)
    found = standard_error(values_N, real_clusters(clusters)[0])
    return None if found is None else found[0]
