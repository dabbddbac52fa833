"""A calibration as tables and sentences, and the note that it adds to a comparison."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from evalkit.records.calibration import Calibration, NoiseFloor, RuleAlarms, VerdictAlarms
from evalkit.records.scorecard import Comparison, Provenance, Scorecard
from evalkit.records.verdict import Verdict
from evalkit.reports.terminal import WIDE
from evalkit.reports.view import number


def noise_note(calibration: Calibration, comparison: Comparison) -> str:
    """Return what the engine's noise floor says about a difference, in a sentence; empty where it says nothing.

    The calibration must fit the run, see ``why_unfit``.
    """
    floor = next((each for each in calibration.estimates if each.name == comparison.name), None)
    if floor is None or floor.range is None or comparison.difference is None:
        return ""
    asked = f"asked {calibration.repetitions} times"
    if floor.range == 0:
        return f"the baseline against itself does not differ on this metric ({asked})"
    told = f"the baseline against itself differs by up to {_small(floor.range)} on this metric ({asked}): "
    if abs(comparison.difference) <= floor.range:
        return f"{told}this difference is no larger than the engine's noise"
    return f"{told}a difference below that is the engine's"


def noise_lines(calibration: Calibration, scorecard: Scorecard, verdict: Verdict) -> Iterator[str]:
    """Yield what the engine's noise says about each difference that a rule was decided on."""
    if why := why_unfit(calibration, scorecard.provenance):
        yield f"The calibration says nothing about this run: {why}."
        return
    decided = {outcome.estimate for outcome in verdict.outcomes}
    for comparison in scorecard.comparisons:
        if comparison.name in decided and (note := noise_note(calibration, comparison)):
            yield f"{comparison.name}: {note}."


def why_unfit(calibration: Calibration, provenance: Provenance) -> str:
    """Return why a calibration says nothing about a run with this provenance; empty where it does."""
    theirs = provenance.models.get("baseline")
    if theirs is None:
        return "the run has no baseline"
    if theirs.digest != calibration.provenance.models["baseline"].digest:
        return "the calibration is of another model or engine than the run's baseline"
    for task, dataset in provenance.datasets.items():
        if calibration.provenance.datasets.get(task, dataset) != dataset:
            return f"the calibration saw other data on task {task!r}"
    return ""


def calibration_drawing(calibration: Calibration, width: int) -> RenderableType:
    """Return everything a calibration prints: tables first, what they mean last."""
    wide = width >= WIDE
    parts: list[RenderableType] = [_floors(calibration, wide=wide), _answers(calibration)]
    if calibration.rules:
        parts.append(_rules(calibration, wide=wide))
    return Group(*parts, "", *(Text(sentence) for sentence in sentences(calibration)))


def sentences(calibration: Calibration) -> Iterator[str]:
    """Yield what a calibration means, for a release manager."""
    count = calibration.repetitions
    model = calibration.circumstances.names.get("baseline", "the model")
    differing = [task.differing for task in calibration.answers if task.differing is not None]
    if not differing:
        yield f"No sample of {model} was answered twice: nothing can be said about its engine."
    elif not any(differing):
        yield (
            f"{model} gave the same answers in all {count} repetitions: here its engine is deterministic and its "
            "noise floor is 0."
        )
    else:
        moved = [floor for floor in calibration.estimates if floor.range]
        widest = max((floor.discordance or 0.0 for floor in moved), default=0.0)
        yield (
            f"Asked again, {model} answers up to {max(differing):.2%} of a task's samples differently; {len(moved)} of "
            f"{len(calibration.estimates)} estimates move, and up to {widest:.2%} of the samples of one change their "
            "score."
        )
    yield (
        "Every repetition had the same samples, prompts and, where answers are drawn, the same seeds: what differs is "
        "the engine's. Other samples would add the spread that the intervals show."
    )
    if calibration.incomplete:
        which = ", ".join(map(str, calibration.incomplete))
        yield f"Too few samples were scored in repetition {which}: what rests on it is no ground for a decision."
    if calibration.verdicts is not None:
        yield from _alarm_sentences(calibration, calibration.verdicts, noisy=any(differing))


def _alarm_sentences(
    calibration: Calibration, held: VerdictAlarms, *, noisy: bool
) -> Iterator[str]:
    pairs, count = calibration.pairs, calibration.repetitions
    told = f"The unchanged model against itself: {held.passed} of {pairs} pairs of repetitions pass"
    for times, word in (
        (held.failed, "fail"),
        (held.inconclusive, "are inconclusive"),
        (held.incomplete, "are incomplete"),
    ):
        told += f", {times} {word}" if times else ""
    if noisy and held.interval is not None:
        told += (
            f". The false-alarm rate lies in [{held.interval.low:.1%}, {held.interval.high:.1%}] "
            f"({held.interval.level:.0%}): the pairs share {count} repetitions and count as {count / 2:g} "
            "independent ones at least"
        )
    yield f"{told}."
    if held.flips is not None:
        yield f"Asking the candidate again changes the verdict in {held.flips:.1%} of cases."
    for rule in calibration.rules:
        if rule.failed == pairs:
            yield (
                f"Rule {rule.rule} counts as failed on every pair: on these samples the unchanged model is not shown "
                "to meet it, whatever the noise."
            )


def _floors(calibration: Calibration, *, wide: bool) -> Table:
    table = _table(f"Noise floor, {calibration.repetitions} repetitions")
    table.add_column("task, metric", no_wrap=True)
    for heading in ("mean", "SD", "range", "scores that differ", "n"):
        table.add_column(heading, justify="right", no_wrap=True)
    if wide:
        table.add_column("unit", overflow="fold")
    task = None
    for floor in calibration.estimates:
        if floor.slice is not None:
            continue
        if floor.task != task:
            task = floor.task
            table.add_row(Text(task, "bold"))
        cells = _floor_cells(floor)
        table.add_row(*(cells if wide else cells[:-1]))
    return table


def _floor_cells(floor: NoiseFloor) -> list[Text]:
    style = "yellow" if floor.range else ""
    return [
        Text(f"  {floor.metric}"),
        Text(number(floor.value)),
        Text(_small(floor.sd), style),
        Text(_small(floor.range), style),
        Text("–" if floor.discordance is None else f"{floor.discordance:.2%}", style),
        Text(f"{floor.samples:,}"),
        Text(floor.unit),
    ]


def _answers(calibration: Calibration) -> Table:
    table = _table("Answers that are not identical")
    table.add_column("task", no_wrap=True)
    for heading in ("between two repetitions", "among all", "n"):
        table.add_column(heading, justify="right")
    for task in calibration.answers:
        shares = ["–" if x is None else f"{x:.2%}" for x in (task.differing, task.unstable)]
        table.add_row(Text(task.task), *map(Text, shares), Text(f"{task.samples:,}"))
    return table


def _rules(calibration: Calibration, *, wide: bool) -> Table:
    table = _table(f"Rules on the unchanged model, {calibration.pairs} ordered pairs")
    table.add_column("gate, rule", no_wrap=True)
    if wide:
        table.add_column("required", overflow="fold")
    for heading in ("passed", "failed", "undecided"):
        table.add_column(heading, justify="right")
    gate = None
    for rule in calibration.rules:
        if rule.gate != gate:
            gate = rule.gate
            table.add_row(Text(gate, "bold"))
        name, required, *counts = _rule_cells(rule)
        table.add_row(name, *([required] if wide else []), *counts)
    return table


def _rule_cells(rule: RuleAlarms) -> list[Text]:
    severity = "" if rule.severity == "block" else f" ({rule.severity})"
    return [
        Text(f"  {rule.rule}{severity}"),
        Text(rule.required),
        Text(f"{rule.passed}"),
        Text(f"{rule.failed}", "bold red" if rule.failed else ""),
        Text(f"{rule.undecided}", "yellow" if rule.undecided else ""),
    ]


def _table(title: str) -> Table:
    return Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title=title,
        title_justify="left",
    )


def _small(value: float | None) -> str:
    """Return a spread with two significant digits: ``0.0042``, ``0``; a dash for none."""
    if value is None:
        return "–"
    return f"{value:.2g}" if value else "0"
