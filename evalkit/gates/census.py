"""What a task that reads weights will give, by name, so that rules can be checked before any weight is read.

Weights are read in full, so these numbers are a census: nothing is drawn, no number of samples decides anything. A
measure's first summary is ``task/measure``, the others ``task/measure.summary``; what the scorecard holds for single
tensors is ``task/measure@tensor=…``, and its summaries are given by module and by depth as well. ``task/check`` counts
findings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from evalkit.gates.evaluate import matching, may_match_slice
from evalkit.records.scorecard import estimate_name
from evalkit.records.suite import GateSpec, RuleSpec, SpectralTask
from evalkit.spectral.catalogue import CHECKS, DEPTH, INTEGRITY, MEASURES, MODULE, TENSOR

Fields = Mapping[str, Sequence[str]]
"""``task/metric[.measure]`` → the fields that it is sliced by."""


def census_fields(task: SpectralTask) -> dict[str, Sequence[str]]:
    """Return every name that a task's numbers may have with the fields they are sliced by.

    What takes a base model or an adapter is among them: only the run knows whether there is one.
    """
    return {name: fields for name, fields, lacking in _named(task) if not lacking}


def census_lacking(task: SpectralTask) -> dict[str, str]:
    """Return every name that the task would give if it said more, with what it would have to say."""
    return {name: lacking for name, _, lacking in _named(task) if lacking}


def reads_census(rule: RuleSpec, tasks: Iterable[SpectralTask]) -> bool:
    """Return whether a rule may match a number of these tasks."""
    pattern, at, slice_pattern = rule.estimate.partition("@")
    return any(
        not at or any(may_match_slice(slice_pattern, field) for field in fields[name])
        for fields in map(census_fields, tasks)
        for name in matching(pattern, fields)
    )


def without_census(
    gate: GateSpec, tasks: Sequence[SpectralTask], asked: Callable[[RuleSpec], bool]
) -> GateSpec | None:
    """Return a gate without the rules on numbers of these tasks alone, and their waivers; None where no rule is left.

    ``asked`` tells whether a rule reads a number of other tasks.
    """
    rules = tuple(rule for rule in gate.rules if asked(rule) or not reads_census(rule, tasks))
    if not rules:
        return None
    kept = {rule.id for rule in rules}
    waivers = tuple(waiver for waiver in gate.waivers if waiver.rule in kept)
    return gate.model_copy(update={"rules": rules, "waivers": waivers})


def _named(task: SpectralTask) -> Iterator[tuple[str, Sequence[str], str]]:
    """Yield every name of the catalogue, the fields it is sliced by, and what the task lacks for it."""
    lacking = {
        "spectra": "" if task.spectra else "spectra: true",
        "spectra+base": "" if task.spectra else "spectra: true",
        "importance": "" if task.importance else "importance: true",
        "frozen": "" if task.frozen else "frozen: [a pattern of tensors]",
        "trained": "" if task.trained else "trained: [a pattern of tensors]",
        "merge": "" if task.adapter is not None else "adapter: the merged adapter",
    }
    for measure in MEASURES:
        told = lacking.get(measure.needs, "")
        if measure.name == "traps" and not told and not task.traps:
            told = "traps: true"
        for name in measure.names:
            groups = (MODULE, DEPTH) if measure.per_tensor else ()
            alone = (TENSOR,) if measure.per_tensor and name == measure.name else ()
            yield estimate_name(task.name, name, None), (*groups, *alone), told
    for check in CHECKS:
        yield estimate_name(task.name, check.name, None), (), lacking.get(check.needs, "")


def default_gate(task: SpectralTask, *, has_base: bool) -> GateSpec:
    """Return the gate that decides on weights where nobody names one.

    Whatever integrity check was made must have found nothing, which blocks. Where there is a base model, all must have
    been held against it, which blocks too; scale and drift warn. Alpha and its kin are shown and decide nothing.
    """
    rules = [
        RuleSpec(
            id="integrity",
            estimate=f"{task.name}/{INTEGRITY}.*",
            require="at_most",
            options={"value": 0},
            why="A fault in files or numbers is a fault, whatever the model answers.",
        )
    ]
    if has_base:
        # A share is never above 1, so this fails on nothing; what was not compared leaves it undecided.
        for name, value in (("integrity.missing", 0), ("integrity.shape", 0), ("changed", 1)):
            rules.append(
                RuleSpec(
                    id=f"compared-{name.rpartition('.')[2]}",
                    estimate=f"{task.name}/{name}",
                    require="at_most",
                    options={"value": value},
                    why="Of what was not held against the base model nothing is known.",
                )
            )
    for check in CHECKS:
        spectral = check.needs.startswith("spectra") and not task.spectra
        if has_base and check.name.startswith(("scale.", "drift.")) and not spectral:
            rules.append(
                RuleSpec(
                    id=check.name.replace(".", "-"),
                    estimate=f"{task.name}/{check.name}",
                    require="at_most",
                    severity="warn",
                    options={"value": 0},
                )
            )
    return GateSpec(
        gate="weights",
        description="Weights must be whole; what moved far from the base model is told.",
        rules=tuple(rules),
    )
