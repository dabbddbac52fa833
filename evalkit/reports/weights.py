"""What weights told, from the scorecard alone, as rows and sentences that every report draws.

Drift, integrity and scale lead: they are facts. Alpha and its kin follow under the word advisory. Thousands of tensors
are summed up by module, and named only where they stand out; the scorecard and ``weights.jsonl`` have each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import floor, log10
from typing import Final

from evalkit.records.exchange import Role
from evalkit.records.scorecard import ALL_TENSORS, Comparison, Estimate, Finding, Scorecard
from evalkit.spectral.catalogue import (
    CHECKS,
    INTEGRITY,
    MEASURES,
    MODULE,
    TENSOR,
    Measured,
    Summary,
)

FINDINGS_SHOWN: Final = 5
"""So many findings of one check are told in full."""
WORST_SHOWN: Final = 5
"""So many tensors are named of those that moved most."""
REASONS_SHOWN: Final = 5
"""So many reasons are told why tensors were not measured."""
AGAINST_BASE: Final = "integrity.missing"
"""A check that is always made where there is a base model, and never without."""
NAMES_SHOWN: Final = 3
"""So many tensors are named that were not measured for one reason."""
NOT_MEASURED: Final = (
    "drift and scale were not measured, and what may be missing was not looked for"
)
"""What is not known without a base model."""
OF_BASE: Final = "the base's: "
"""How the reason begins why a tensor was measured, and not held against the base's."""
NONE: Final = "–"
"""Stands where there is no number."""
TOKENIZERS: Final = frozenset(
    {
        "tokenizer.json",
        "vocab.json",
        "tokenizer.model",
        "spiece.model",
        "sentencepiece.bpe.model",
        "vocab.txt",
    }
)
"""Files in which tokens are counted."""
OF_MODULE: Final = f"{MODULE}="
OF_TENSOR: Final = f"{TENSOR}="
CHECK_NAMES: Final = frozenset(check.name for check in CHECKS)

SECTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "From the base model": ("base", "adapter"),
    "The weights themselves": ("weights",),
    "Spectra, advisory: published evidence does not carry a decision on them alone": (
        "spectra",
        "spectra+base",
    ),
}
"""Title → what its measures need, in the order in which they matter."""

Key = tuple[str, str | None]
"""Metric and slice."""


@dataclass(frozen=True, slots=True)
class MeasureRow:
    """One measure over the whole model."""

    measure: Measured
    """Which."""
    candidate: str
    """Its number with interval, its other summaries, and on how many tensors, if not on all: ``0.021, max 0.034``."""
    baseline: str
    """The baseline's."""
    difference: str
    """Candidate − baseline of the first summary, named as in the others: ``max −0.009``."""


@dataclass(frozen=True, slots=True)
class ModuleRow:
    """The tensors that do the same in the model."""

    name: str
    """``query``, ``up`` …; ``all`` for every tensor."""
    tensors: int
    """How many."""
    cells: Mapping[str, str]
    """Measure → number as text; a dash where there is none."""


@dataclass(frozen=True, slots=True)
class CheckRow:
    """A check that found something in one model."""

    model: Role
    """Whose weights."""
    check: str
    """Its name."""
    meaning: str
    """What it looks for."""
    fault: bool
    """Whether what it finds is a fault, whatever the way of training."""
    advisory: bool
    """Whether it is a mere hint."""
    told: tuple[str, ...]
    """The first findings, one sentence each."""
    more: int
    """How many there are beside them."""


class WeightsView:
    """What one task told of the weights."""

    def __init__(self, scorecard: Scorecard, task: str) -> None:
        """``task`` read weights in this run, or was to read them."""
        self._scorecard, self.task = scorecard, task
        self._held: dict[Role, dict[Key, Estimate]] = {"candidate": {}, "baseline": {}}
        for estimate in scorecard.estimates:
            if estimate.task == task:
                self._held[estimate.model][estimate.metric, estimate.slice] = estimate

    @cached_property
    def _compared(self) -> dict[Key, Comparison]:
        return {
            (held.metric, held.slice): held
            for held in self._scorecard.comparisons
            if held.task == self.task and held.status == "compared"
        }

    @property
    def measured(self) -> bool:
        """Whether the candidate's weights were read."""
        return bool(self._held["candidate"])

    @property
    def has_base(self) -> bool:
        """Whether the candidate was held against a base model."""
        return (AGAINST_BASE, None) in self._held["candidate"]

    @property
    def has_tensors(self) -> bool:
        """Whether any of the candidate's tensors was described."""
        return ("norm", None) in self._held["candidate"]

    @property
    def has_alpha(self) -> bool:
        """Whether spectra were computed."""
        return ("alpha", None) in self._held["candidate"]

    def title(self) -> str:
        """Return what was read, in a sentence."""
        if not self.measured:
            return "the candidate's weights were not read"
        held = self._held["candidate"].get(("norm", None))
        tensors = "no tensor could be measured"
        if held is not None:
            counts = held.counts
            of = "" if counts.scored == counts.planned else f"{counts.scored:,} of "
            tensors = f"{of}{counts.planned:,} tensors measured"
        return tensors + (f", {self._against_base()}" if self.has_base else "")

    def _against_base(self) -> str:
        """Return on how many of the tensors that may have a counterpart in the base the two were compared."""
        ours = self._held["candidate"]
        held = ours.get(("changed", None)) or ours.get(("drift", None))
        if held is None or not held.counts.scored:
            return "none of them could be held against the base model"
        counts = held.counts
        if counts.scored < counts.planned:
            return f"{counts.scored:,} of {counts.planned:,} held against the base model"
        return "held against the base model"

    def why_no_base(self) -> str:
        """Return why nothing was held against a base model, and what to do, where there was none."""
        if self._scorecard.baseline_run:
            why = "The baseline is an earlier run, whose weights are not opened"
            return f"{why}, so {NOT_MEASURED}: name `base:` in the suite."
        return f"No base model was at hand, so {NOT_MEASURED}: name one (`--base`, in a suite `base:`)."

    def not_there(self) -> list[str]:
        """Return which files are not there by which the candidate's weights are checked."""
        model = self._scorecard.provenance.models.get("candidate")
        files = {file.removeprefix("base/") for file in model.files} if model else set()
        if not self.measured or not any(file.endswith(".safetensors") for file in files):
            return []  # another format's files hold both
        told = []
        if "config.json" not in files:
            told.append("no config.json: nothing was checked against a configuration")
        if not files & TOKENIZERS:
            told.append("no tokenizer: embeddings were not checked against its tokens")
        return told

    def checks(self) -> list[CheckRow]:
        """Return the checks that found something: the candidate's first, faults before hints."""
        found: dict[tuple[Role, str], list[Finding]] = {}
        for finding in self._scorecard.findings:
            if finding.task == self.task:
                found.setdefault((finding.model, finding.check), []).append(finding)
        rows = []
        for role in self._held:
            for check in sorted(CHECKS, key=lambda check: check.advisory):
                held = found.get((role, check.name), [])
                if held:
                    told = tuple(map(_sentence, held[:FINDINGS_SHOWN]))
                    more = len(held) - len(told)
                    fault = check.name.startswith(f"{INTEGRITY}.")
                    rows.append(
                        CheckRow(role, check.name, check.meaning, fault, check.advisory, told, more)
                    )
        return rows

    def quiet_checks(self, *, complete: bool) -> list[str]:
        """Return the candidate's checks that found nothing: those that saw all they are about, or the others."""
        made = {check.name: self._held["candidate"].get((check.name, None)) for check in CHECKS}
        return [
            name
            for name, held in made.items()
            if held and held.value == 0 and (held.counts.scored == held.counts.planned) == complete
        ]

    def modules(self, measures: Sequence[str]) -> list[ModuleRow]:
        """Return the candidate's tensors by what they do, all together first."""
        ours = self._held["candidate"]
        sizes: dict[str, int] = {}
        for (metric, s), held in ours.items():
            if s is not None and s.startswith(OF_MODULE) and metric not in CHECK_NAMES:
                sizes[s] = max(sizes.get(s, 0), held.counts.planned)
        every = sum(sizes.values()) if sizes else ours["norm", None].counts.planned
        return [
            ModuleRow(
                "all" if slice_ is None else slice_.removeprefix(OF_MODULE),
                size,
                {name: _number(ours.get((name, slice_))) for name in measures},
            )
            for slice_, size in ((None, every), *sizes.items())
        ]

    def modules_title(self) -> str:
        """Return the heading of the table by module, with how many tensors it is about where it is not all."""
        every = self._held["candidate"]["norm", None].counts.planned
        told = self.modules(())[0].tensors
        some = f", {told:,} of {every:,}: the others have none of these numbers"
        return "Tensors by module" + (some if told < every else "")

    def worst(self) -> list[str]:
        """Return the candidate's tensors that moved most, with how far, the worst first."""
        ours = self._held["candidate"]
        return [
            f"{name}: drift {compact(value)}, cosine {_number(ours.get(('cosine', OF_TENSOR + name)))}"
            for value, name in self._largest("drift")
        ]

    def important(self) -> list[str]:
        """Return the candidate's tensors with the largest share of the matrices' norms."""
        return [f"{name}: {compact(value)}" for value, name in self._largest("importance")]

    def _largest(self, measure: str) -> list[tuple[float, str]]:
        """Return the candidate's tensors with the greatest values of a measure, the greatest first; no zeros."""
        held = [
            (held.value, s.removeprefix(OF_TENSOR))
            for (metric, s), held in self._held["candidate"].items()
            if metric == measure and s is not None and s.startswith(OF_TENSOR) and held.value
        ]
        return sorted(held, reverse=True)[:WORST_SHOWN]

    def measures(self, needs: Sequence[str]) -> list[MeasureRow]:
        """Return the numbers over the whole model of the measures that need one of ``needs``."""
        rows = []
        for measure in MEASURES:
            held = [self._held[role].get((measure.name, None)) for role in self._held]
            if measure.needs in needs and any(held):
                compared = self._compared.get((measure.name, None))
                rows.append(
                    MeasureRow(
                        measure,
                        self._summaries("candidate", measure),
                        self._summaries("baseline", measure),
                        NONE
                        if compared is None
                        else _word(measure.summaries[0])
                        + compact(compared.difference, signed=True),
                    )
                )
        return rows

    def _summaries(self, role: Role, measure: Measured) -> str:
        held = self._held[role]
        whole = held.get((measure.name, None))
        if whole is None:
            return NONE
        numbers = (
            _word(summary) + _number(held.get((name, None)))
            for summary, name in zip(measure.summaries, measure.names, strict=True)
        )
        scored, planned = whole.counts.scored, whole.counts.planned
        some = f" ({scored:,} of {planned:,} tensors)" if scored < planned else ""
        return ", ".join(numbers) + some

    def unread(self) -> list[str]:
        """Return what was not measured, one sentence for each model and reason.

        What is damaged is a finding, and told as such.
        """
        damaged = {(found.model, found.tensor) for found in self._scorecard.findings}
        reasons: dict[tuple[Role, str], list[str]] = {}
        for held in self._scorecard.unread:
            if held.task == self.task and (held.model, held.tensor) not in damaged:
                reasons.setdefault((held.model, held.reason), []).append(held.tensor)
        told = [_unread(model, reason, names) for (model, reason), names in reasons.items()]
        more = sum(map(len, list(reasons.values())[REASONS_SHOWN:]))
        rest = [f"Not measured for other reasons: {more:,}; scorecard.json has each"]
        return told[:REASONS_SHOWN] + (rest if more else [])


def weights_views(scorecard: Scorecard) -> list[WeightsView]:
    """Return a view of each task that reads weights, in the scorecard's order."""
    return [WeightsView(scorecard, task) for task in scorecard.weighed]


def compact(value: float | None, *, signed: bool = False, figures: int = 3) -> str:
    """Return a number with three significant digits, or so many, however small; a dash for none.

    >>> compact(0.000312), compact(0.98765), compact(12345.6), compact(0.0), compact(-2e-9), compact(None)
    ('0.000312', '0.988', '12,346', '0', '−2e-09', '–')
    >>> compact(0.5, signed=True), compact(0.999987, figures=5)
    ('+0.5', '0.99999')
    """
    if value is None:
        return NONE
    sign = "−" if value < 0 else "+" if signed and value > 0 else ""
    size = abs(value)
    if size == 0 or size >= 1e15:
        return f"{sign}{size:g}"
    if size < 1e-5:
        return f"{sign}{size:.2g}"
    digits = max(0, figures - 1 - floor(log10(size)))
    text = f"{size:,.{digits}f}"
    return sign + (text.rstrip("0").rstrip(".") if "." in text else text)


def _word(summary: Summary) -> str:
    """Return a summary's name, to stand before its number; nothing for the measure itself."""
    return "" if summary == "pooled" else f"{summary} "


def _number(held: Estimate | None) -> str:
    """Return a number, with its interval where it was fitted."""
    if held is None:
        return NONE
    interval = held.interval
    if interval is None or interval.low == interval.high:
        return compact(held.value, figures=5 if held.unit == "cosine" else 3)
    return f"{compact(held.value)} [{compact(interval.low)}, {compact(interval.high)}]"


def _sentence(finding: Finding) -> str:
    return finding.message if finding.tensor is None else f"{finding.tensor}: {finding.message}"


def _unread(model: Role, reason: str, names: Sequence[str]) -> str:
    if names == [ALL_TENSORS]:
        return f"The {model}'s weights were not read: {reason}"
    shown = ", ".join(names[:NAMES_SHOWN])
    more = len(names) - NAMES_SHOWN
    told = f"Not measured in the {model}, {reason}"
    if reason.startswith(OF_BASE):
        whose = "" if model == "candidate" else f" by the {model}"
        told = f"Not held against the base model{whose} ({reason.removeprefix(OF_BASE)})"
    return f"{told}: {shown}" + (f" and {more:,} more" if more > 0 else "")


def quiet_in_words(names: Sequence[str]) -> Iterator[str]:
    """Yield which checks found nothing, by family: ``integrity: nonfinite, zero``."""
    families: dict[str, list[str]] = {}
    for name in names:
        family, _, rest = name.partition(".")
        families.setdefault(family, []).append(rest)
    for family, held in families.items():
        yield f"{family}: {', '.join(held)}"
