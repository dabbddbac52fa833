"""One task of lm-evaluation-harness's results: its numbers, held against what its rows say.

Which numbers are taken over, which are given again and which are left out stands in ``lm_eval_read``.

**Source**: lm-evaluation-harness 0.4.13, ``evaluator_utils.py`` (keys ``metric,filter``, counts), ``api/metrics.py``
(aggregations, and which of them a metric has where its task names none).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from evalkit.errors import Problem, UsageError
from evalkit.identity import digest, short
from evalkit.interchange.foreign import (
    ForeignScore,
    ForeignTask,
    LeftOut,
    Wishes,
    agrees,
    finite,
    refuse_other,
    safe_name,
    setting,
    table,
    unit_of,
)
from evalkit.interchange.lm_eval_rows import (
    Number,
    Recordings,
    Shape,
    read_recordings,
    read_samples,
)
from evalkit.metrics.recorded import Recorded, RecordedKind, RecordedOptions
from evalkit.records.exchange import Score

MEANS: Final = frozenset({"mean", "nanmean"})
"""The aggregations that are means over documents."""
REBUILT: Final[Mapping[str, RecordedKind]] = {
    "perplexity": "perplexity",
    "weighted_perplexity": "weighted_perplexity",
    "bits_per_byte": "bits_per_byte",
}
"""The aggregations that are given again from log-likelihoods."""
OTHERS: Final = frozenset(
    {"median", "bypass", "f1", "matthews_corrcoef", "bleu", "chrf", "chrf++", "ter", "brier_score"}
)
"""The aggregations that are neither."""
DEFAULTS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match"), "mean"),
    "perplexity": "perplexity",
    "word_perplexity": "weighted_perplexity",
    "byte_perplexity": "weighted_perplexity",
    "bits_per_byte": "bits_per_byte",
    "mcc": "matthews_corrcoef",
    **{name: name for name in ("bypass", "f1", "bleu", "chrf", "chrf++", "ter", "brier_score")},
}
"""Metric → its aggregation where the task names none."""
WITHIN_ONE: Final = frozenset(name for name, how in DEFAULTS.items() if how == "mean")
"""Metrics whose values are known to lie between 0 and 1."""
_UNITS: Final = {"word_perplexity": "perplexity/word", "byte_perplexity": "perplexity/byte"}
_KINDS: Final = {
    "generate_until": "generate",
    "loglikelihood_rolling": "perplexity",
    "multiple_choice": "multiple_choice",
}


def stamp(file: Path) -> str:
    """Return the time that stands behind the last ``_`` of a file's name."""
    return file.stem.rpartition("_")[2]


def samples_file(file: Path, task: str) -> Path:
    """Return where the samples of a task lie. Raises UsageError where its name leads elsewhere."""
    name = f"samples_{task}_{stamp(file)}.jsonl"
    if "/" in name or "\\" in name or "\0" in name:
        message = f"{task!r} is no name of a task that lm-eval writes samples of"
        raise UsageError([Problem(str(file), None, "results", message)])
    return file.with_name(name)


def version_of(content: Mapping[str, Any]) -> str:
    """Return the version of lm-eval that wrote the results."""
    return str(content.get("lm_eval_version") or "of unknown version")


@dataclass(frozen=True)
class _Printed:
    """A number as the results have it."""

    number: Number
    value: Any
    aggregation: str
    """As the task names it, or the metric's own; empty where it is a function of the task's."""

    @property
    def told(self) -> str:
        """Metric and filter, as lm-eval writes them."""
        return ",".join(self.number)

    @property
    def shape(self) -> Shape:
        """What its rows hold."""
        if self.aggregation in OTHERS:
            return "other"
        weighted = self.aggregation in {"weighted_perplexity", "bits_per_byte"}
        return "pair" if weighted else "number"


class MeasuredTask:
    """One task of the results, with what its rows say."""

    def __init__(self, results: Path, content: Mapping[str, Any], told: str, name: str) -> None:
        self._results, self._content, self._told, self._name = results, content, told, name
        self._config: Mapping[str, Any] = content["configs"][told]
        self.file = samples_file(results, told)
        self._printed = list(self._all_printed(content["results"][told]))
        self._filters = list(dict.fromkeys(p.number[1] for p in self._printed))
        if not self._printed:
            message = "the task has no number of the form 'metric,filter': lm-eval 0.4 or newer writes such"
            raise UsageError([Problem(str(results), None, f"results.{told}", message)])
        shapes = {printed.number: printed.shape for printed in self._printed}
        self.recordings: Recordings = read_recordings(self.file, self._filters, shapes)
        self._check_rows()
        self._names = dict(self._named())

    @property
    def names(self) -> list[str]:
        """What its numbers are called here."""
        return list(self._names.values())

    def _named(self) -> Iterator[tuple[Number, str]]:
        taken: set[str] = set()
        for printed in self._printed:
            metric, filter_ = printed.number
            name = safe_name(metric if filter_ == "none" else f"{metric}.{filter_}", taken)
            taken.add(name)
            yield printed.number, name

    def _all_printed(self, entries: Any) -> Iterator[_Printed]:  # noqa: ANN401 - any JSON value
        for key, value in entries.items() if isinstance(entries, dict) else ():
            metric, comma, filter_ = str(key).rpartition(",")
            if comma and not metric.endswith("_stderr"):
                yield _Printed((metric, filter_), value, self._aggregation(metric))

    def _declared(self, metric: str) -> Mapping[str, Any]:
        """Return what the task says of a metric."""
        listed = _tables(self._config.get("metric_list"))
        declared = (m for m in listed if m.get("metric") == metric)
        return next(declared, {})

    def _aggregation(self, metric: str) -> str:
        named = self._declared(metric).get("aggregation")
        if named is None:
            return DEFAULTS.get(metric, "")
        known = isinstance(named, str) and named in {*MEANS, *REBUILT, *OTHERS}
        return str(named) if known else ""

    def _check_rows(self) -> None:
        """Raise UsageError where the rows are not those that the results were made of."""
        held = self.recordings
        planned = table(table(self._content, "n-samples"), self._told).get("effective")
        found = max(held.given.values(), default=0)
        if isinstance(planned, int) and found != planned:
            message = (
                f"lm-eval scored {planned:,} documents, and here are {found:,} with a score: rows are missing or were "
                "added; fetch the file again, or run lm-eval again"
            )
            raise UsageError([Problem(str(self.file), None, "", message)])
        expected = table(self._content, "task_hashes").get(self._told)
        if expected and held.task_hash and expected != held.task_hash:
            message = (
                "the rows are not those that the results were made of: lm-eval's own hash of them, in 'task_hashes', "
                "is another"
            )
            raise UsageError([Problem(str(self.file), None, "", message)])

    def read(self, wishes: Wishes, slices: tuple[str, ...]) -> ForeignTask:
        """Return the task. Raises UsageError where its rows do not give what was printed."""
        scores: list[ForeignScore] = []
        names: dict[Number, str] = {}
        notes: list[LeftOut] = []
        for printed in self._printed:
            asked_for = wishes.leaves_out(self._name, self._names[printed.number])
            if why := "as --without says" if asked_for else self._why_left_out(printed):
                told = f"{self._told}/{printed.told}: {why}"
                notes.append(LeftOut(self._name, "imported.left_out", told))
                continue
            score = self._score(printed, wishes)
            scores.append(score)
            names[printed.number] = score.name
            notes += self._assumed(score, printed)
        if not scores:
            told = "; ".join(note.message for note in notes)
            message = f"nothing of this task can be taken over: {told}"
            raise UsageError([Problem(str(self._results), None, f"results.{self._told}", message)])
        held = self.recordings
        samples = partial(read_samples, self.file, self._filters[0], held, names, slices)
        documents = [self._config.get(key) for key in ("dataset_path", "dataset_name")]
        return ForeignTask(
            name=self._name,
            told=self._told,
            kind=_KINDS.get(str(self._config.get("output_type")), "generate"),
            documents=" ".join(str(part) for part in documents if part),
            dataset=held.dataset,
            scores=tuple(scores),
            samples=samples,
            slices=slices,
            requests=held.requests,
            notes=tuple(notes),
        )

    def _why_left_out(self, printed: _Printed) -> str:
        """Return why a number is not taken over; empty where it is. Raises UsageError where it was changed."""
        shown = f"lm-eval printed {printed.value!r}"
        if printed.aggregation in OTHERS:
            return f"its aggregate ({printed.aggregation}) is no mean of documents; {shown}"
        recorded = self.recordings.scores[printed.number].values()
        rows = [score.statistics for score in recorded if isinstance(score, Score)]
        if not rows:
            return f"no document has a number for it; {shown}"
        whole = len(rows) == self.recordings.given[printed.number]
        computed = self._computed(printed, rows)
        if not isinstance(printed.value, int | float):
            return f"it was printed as {printed.value!r}, not as a number"
        if finite(printed.value) is None:
            if whole:
                raise refuse_other(
                    self._results, self._key(printed), computed, printed.value, len(rows)
                )
            return ""  # one document without a number makes lm-eval's mean NaN; here it is counted
        if agrees(computed, printed.value):
            return ""
        if not printed.aggregation:
            return f"the task aggregates it by a function of its own: {shown}, the mean is {computed!r}"
        raise refuse_other(self._results, self._key(printed), computed, printed.value, len(rows))

    def _key(self, printed: _Printed) -> str:
        return f"results.{self._told}.{printed.told}"

    def _computed(self, printed: _Printed, rows: Sequence[tuple[float, ...]]) -> float:
        """Return the aggregate of the rows that the metric here will give."""
        import numpy as np

        options = RecordedOptions(score="x", kind=REBUILT.get(printed.aggregation, "mean"))
        return Recorded("recorded", options).measures[0].aggregate(np.array(rows))

    def _score(self, printed: _Printed, wishes: Wishes) -> ForeignScore:
        metric, filter_ = printed.number
        name = self._names[printed.number]
        directions = table(table(self._content, "higher_is_better"), self._told)
        recorded = self.recordings.scores[printed.number].values()
        values = (score.statistics[0] for score in recorded if isinstance(score, Score))
        kind = REBUILT.get(printed.aggregation) or wishes.kind(self._name, name, values)
        return ForeignScore(
            name=name,
            told=printed.told,
            kind=kind,
            better=wishes.better(self._name, name, directions.get(metric)),
            unit=_UNITS.get(metric) or unit_of(kind, within_one=metric in WITHIN_ONE),
            measured=self._measured(metric, filter_, printed.aggregation),
        )

    def _measured(self, metric: str, filter_: str, aggregation: str) -> dict[str, str]:
        filters = _tables(self._config.get("filter_list"))
        steps = [f.get("filter") for f in filters if f.get("name") == filter_]
        declared = {
            key: value
            for key, value in self._declared(metric).items()
            if key not in {"metric", "aggregation", "higher_is_better"}
        }
        scoring = self._config.get("process_results")
        parts = {
            "harness": f"lm-eval {version_of(self._content)}",
            "task": self._told,
            "task version": str(table(self._content, "versions").get(self._told)),
            "metric": metric,
            "filter": filter_,
            "filter steps": steps,
            "options": declared,
            "aggregation": aggregation or "mean",
            "scoring": digest(str(scoring)) if scoring else None,
            "shots": str(table(self._content, "n-shot").get(self._told)),
            "prompts": short(self.recordings.prompts),
            "generation": ", ".join(self.recordings.generation),
        }
        return {key: setting(value) for key, value in parts.items() if value}

    def _assumed(self, score: ForeignScore, printed: _Printed) -> Iterator[LeftOut]:
        """Yield what was taken for granted, and where the number here is not the one printed."""
        directions = table(table(self._content, "higher_is_better"), self._told)
        if directions.get(printed.number[0]) is None and score.better == "higher":
            told = f"{self._told}/{printed.told}: lm-eval does not say which direction is better; taken as higher"
            yield LeftOut(self._name, "imported.taken", f"{told} (--lower {score.name})")
        if finite(printed.value) is None:
            told = (
                f"{self._told}/{printed.told}: lm-eval printed {printed.value!r}, since documents have no finite "
                "number; they are counted as ungraded here"
            )
            yield LeftOut(self._name, "imported.differs", told)


def _tables(value: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - any JSON value
    """Return the tables of a list; none where it is no list."""
    return [held for held in value if isinstance(held, dict)] if isinstance(value, list) else []
