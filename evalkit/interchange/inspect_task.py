"""One task of inspect: a log's scores, held against what inspect printed.

**Source**: inspect_ai 0.3.285, ``_eval/task/results.py`` (how scores are aggregated, NaN left out, epochs reduced).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

from evalkit.errors import Problem, UsageError
from evalkit.identity import digest_bytes, short
from evalkit.interchange.foreign import (
    ForeignSample,
    ForeignScore,
    ForeignTask,
    LeftOut,
    Wishes,
    agrees,
    fingerprint,
    plain_json,
    refuse_other,
    safe_name,
    setting,
    slices_of,
    unit_of,
)
from evalkit.interchange.inspect_values import (
    LONGEST_NOTE,
    Value,
    answer_of,
    as_inspect_counts,
    asked_of,
    content_digest,
    failure_of,
    is_grade,
    parts_of,
    recorded,
)
from evalkit.records.exchange import Failure, Score, Unscored

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalSample

Key = tuple[str, str | None]
"""Scorer, and the key or place within its value; None for a plain value."""

_MEANS: Final = frozenset({"accuracy", "mean"})
_SPREADS: Final = frozenset({"stderr", "bootstrap_stderr", "std", "var"})
"""What inspect says of its numbers' uncertainty; here every number has an interval."""
_NO_SETTING: Final = frozenset(
    {
        *("max_retries", "timeout", "attempt_timeout", "stream_idle_timeout", "max_connections"),
        *("adaptive_connections", "cache", "cache_prompt", "batch", "extra_headers"),
    }
)
"""What of inspect's generation settings cannot change an answer, or must not be shown."""


def version_of(log: EvalLog) -> str:
    """Return the version of inspect that wrote a log."""
    return str(log.eval.packages.get("inspect_ai", "of unknown version"))


class MeasuredLog:
    """One log, with what its samples say."""

    def __init__(self, file: Path, log: EvalLog, name: str) -> None:
        self._file, self._log, self._name = file, log, name
        self._samples: Sequence[EvalSample] = log.samples or ()
        self._epochs = max(log.eval.config.epochs or 1, *(s.epoch for s in self._samples))
        self.fields = {key for sample in self._samples for key in sample.metadata}
        self._refuse_repeated()
        self._values: dict[Key, dict[str, Value]] = {}
        for sample in self._samples:
            for scorer, score in (sample.scores or {}).items():
                for key, raw in parts_of(score.value):
                    held = self._values.setdefault((scorer, key), {})
                    held[self._id(sample)] = Value(sample, raw, recorded(score, raw))
        self._spread_unscored()
        self.names: dict[Key, str] = {}
        """What its numbers are called here."""
        for scorer, key in self._values:
            told = scorer if key is None else f"{scorer}.{key}"
            self.names[scorer, key] = safe_name(told, self.names.values())

    def _id(self, sample: EvalSample) -> str:
        return f"{sample.id}#{sample.epoch}" if self._epochs > 1 else str(sample.id)

    def _refuse_repeated(self) -> None:
        seen: set[str] = set()
        for sample in self._samples:
            if self._id(sample) in seen:
                message = f"sample {sample.id!r} of epoch {sample.epoch} is in the log twice"
                raise UsageError(
                    [Problem(str(self._file), None, "samples", message[:LONGEST_NOTE])]
                )
            seen.add(self._id(sample))

    def _spread_unscored(self) -> None:
        """Let a sample that a scorer left ungraded as a whole be ungraded under each key it gives to others."""
        for (scorer, key), held in list(self._values.items()):
            keys = [other for other in self._values if other[0] == scorer and other[1] is not None]
            if (
                key is None
                and keys
                and all(isinstance(v.recorded, Unscored) for v in held.values())
            ):
                for other in keys:
                    self._values[other] = {**held, **self._values[other]}
                del self._values[scorer, key]

    def read(self, wishes: Wishes, slices: tuple[str, ...]) -> ForeignTask:
        """Return the task. Raises UsageError where its samples do not give what was printed."""
        left = {key for key, name in self.names.items() if wishes.leaves_out(self._name, name)}
        names = {key: name for key, name in self.names.items() if key not in left}
        if not names:
            message = "nothing of this log is left to be taken over"
            raise UsageError([Problem(str(self._file), None, "", message)])
        scores = tuple(self._score(key, name, wishes) for key, name in names.items())
        usage = self._log.stats.model_usage.get(self._log.eval.model)
        dataset = self._log.eval.dataset
        return ForeignTask(
            name=self._name,
            told=self._log.eval.task,
            kind="generate",
            documents=str(dataset.name or self._log.eval.task),
            dataset=fingerprint((self._id(s), content_digest(s)) for s in self._samples),
            scores=scores,
            samples=lambda: self._all(names, slices),
            slices=slices,
            clustered=self._epochs > 1,
            tokens=(usage.input_tokens, usage.output_tokens) if usage else (None, None),
            notes=(*self._checked(), *self._wished(left), *self._assumed(scores), *self._edited()),
        )

    def _score(self, key: Key, name: str, wishes: Wishes) -> ForeignScore:
        held = self._values[key].values()
        values = [v.recorded.statistics[0] for v in held if isinstance(v.recorded, Score)]
        graded = all(is_grade(v.raw) for v in held)
        kind = wishes.kind(self._name, name, values)
        return ForeignScore(
            name=name,
            told=".".join(filter(None, key)),
            kind=kind,
            better=wishes.better(self._name, name, None),
            unit=unit_of(kind, within_one=graded),
            measured=self._measured(key),
        )

    def _measured(self, key: Key) -> dict[str, str]:
        spec, plan = self._log.eval, self._log.plan
        options = [scorer.options for scorer in spec.scorers or () if scorer.name == key[0]]
        settings = {**_set(plan.config), **_set(spec.model_generate_config)}
        steps = [[step.solver, step.params] for step in plan.steps]
        parts = {
            "harness": f"inspect {version_of(self._log)}",
            "task": spec.task,
            "task version": str(spec.task_version),
            "scorer": key[0],
            "key": key[1] or "",
            "options": options if any(options) else "",
            "generation": settings,
            "solvers": short(digest_bytes(plain_json(steps))),
            "epochs": str(self._epochs),
        }
        return {name: setting(value) for name, value in parts.items() if value}

    def _all(self, names: Mapping[Key, str], slices: Sequence[str]) -> Iterator[ForeignSample]:
        """Yield the samples of the log, and one that failed for each that it should hold and does not."""
        for sample in self._samples:
            yield ForeignSample(
                id=self._id(sample),
                asked=asked_of(sample),
                targets=(sample.target,)
                if isinstance(sample.target, str)
                else tuple(sample.target),
                answers=[answer_of(sample)],
                scores={name: self._recorded(key, sample) for key, name in names.items()},
                slices=slices_of(sample.metadata, slices),
                cluster=str(sample.id) if self._epochs > 1 else None,
                failed=failure_of(sample),
            )
        for document, epoch in self._lacking():
            missing = Failure("", "no_answer", "the log holds no such sample", 0)
            yield ForeignSample(
                id=f"{document}#{epoch}" if self._epochs > 1 else str(document),
                asked={"prompt": ""},
                targets=(),
                answers=(),
                scores={},
                slices=slices_of({}, slices),
                cluster=str(document) if self._epochs > 1 else None,
                failed=missing,
            )

    def _recorded(self, key: Key, sample: EvalSample) -> Score | Unscored:
        held = self._values[key].get(self._id(sample))
        return held.recorded if held else Unscored("inspect gave no such score")

    def _lacking(self) -> list[tuple[str | int, int]]:
        """Return which samples were planned and are not in the log, by the data set's list of ids."""
        planned = self._log.eval.dataset.sample_ids
        total = self._log.results.total_samples if self._log.results else 0
        if planned is None:
            if total > len(self._samples):
                message = f"{total:,} samples were planned, the log holds {len(self._samples):,} and does not say which"
                raise UsageError([Problem(str(self._file), None, "samples", message)])
            return []
        there = {(str(sample.id), sample.epoch) for sample in self._samples}
        epochs = range(1, self._epochs + 1)
        return [(i, epoch) for i in planned for epoch in epochs if (str(i), epoch) not in there]

    def _wished(self, left: Iterable[Key]) -> Iterator[LeftOut]:
        for key in left:
            told = f"{self.names[key]}: as --without says"
            yield LeftOut(self._name, "imported.left_out", told)

    def _checked(self) -> Iterator[LeftOut]:
        """Yield what of inspect's results is not taken over.

        Raises UsageError where a mean is not that of the samples.
        """
        assert self._log.results is not None, "a log without results was refused"
        for printed in self._log.results.scores:
            plain = (printed.scorer, None)
            key = plain if plain in self._values else (printed.scorer, printed.name)
            for metric, found in printed.metrics.items():
                base = found.name.rpartition("/")[2]
                told = f"{printed.name}/{metric}"
                if found.group is None and base in _SPREADS:
                    continue
                values = self._values.get(key, {}).values()
                if found.group is not None or base not in _MEANS or found.params or not values:
                    why = f"is no plain mean over samples; inspect printed {found.value!r}"
                    yield LeftOut(self._name, "imported.left_out", f"{told}: {why}")
                    continue
                if self._epochs > 1 and printed.reducer not in (None, "mean"):
                    reduced = f"is over samples whose epochs were reduced by {printed.reducer!r}"
                    why = f"{reduced}; inspect printed {found.value!r}"
                    yield LeftOut(self._name, "imported.left_out", f"{told}: {why}")
                    continue
                yield from self._same(told, self.names[key], found.value, list(values))

    def _same(
        self, told: str, name: str, printed: float, values: Sequence[Value]
    ) -> Iterator[LeftOut]:
        """Yield where our number is not the one printed, for a reason that the log tells; refuse any other."""
        counted = [(v.sample, as_inspect_counts(v.raw)) for v in values]
        counted = [(sample, number) for sample, number in counted if not math.isnan(number)]
        if not counted:
            return
        by_document: dict[str, list[float]] = {}
        for sample, number in counted:
            by_document.setdefault(str(sample.id), []).append(number)
        reduced = fmean(map(fmean, by_document.values()))
        whole = fmean(number for _, number in counted)
        if not agrees(reduced, printed) and not agrees(whole, printed):
            raise refuse_other(self._file, f"results.scores.{told}", reduced, printed, len(counted))
        ours = [
            v.recorded.statistics[0]
            for v in values
            if isinstance(v.recorded, Score) and failure_of(v.sample) is None
        ]
        if not ours or not agrees(fmean(ours), printed):
            shown = repr(fmean(ours)) if ours else "no number"
            why = "samples that failed, values that are no number, or epochs that are missing count otherwise there"
            yield LeftOut(
                self._name,
                "imported.differs",
                f"{told}: inspect printed {printed!r}, here {name} is {shown}: {why}",
            )

    def _assumed(self, scores: Iterable[ForeignScore]) -> Iterator[LeftOut]:
        higher = [score.name for score in scores if score.better == "higher"]
        if higher:
            told = (
                "inspect does not say which direction is better; taken as higher: "
                f"{', '.join(higher)} (else --lower SCORE)"
            )
            yield LeftOut(self._name, "imported.taken", told)

    def _edited(self) -> Iterator[LeftOut]:
        edited = sum(
            len(s.history) > 1 for sample in self._samples for s in (sample.scores or {}).values()
        )
        if edited:
            told = f"{edited:,} scores were edited after the run; taken as they are now"
            yield LeftOut(self._name, "imported.taken", told)


def _set(config: Any) -> dict[str, Any]:  # noqa: ANN401 - inspect's GenerateConfig
    """Return the settings that were made and can change an answer."""
    held: dict[str, Any] = config.model_dump(mode="json", exclude_none=True)
    return {key: value for key, value in held.items() if key not in _NO_SETTING}
