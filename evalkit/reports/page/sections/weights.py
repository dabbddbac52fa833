"""What the weights themselves tell: findings first, then plots by depth, modules, whole-model numbers and tensors.

Findings and numbers are those of the terminal's report (``reports.weights``), the plots those of
``reports.weight_plots`` on the rows of ``weights.jsonl``. Names of tensors are untrusted text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from evalkit.errors import UsageError
from evalkit.records.exchange import Role
from evalkit.records.scorecard import Scorecard
from evalkit.records.weights import TensorRow
from evalkit.reports.clean import printable
from evalkit.reports.page.section import Plot, Section, fragment
from evalkit.reports.page.spectra import spectra, spectra_plot
from evalkit.reports.page.weight_rows import Rows, drawable, number_of, parted, tensor_rows
from evalkit.reports.reported import FinishedRun
from evalkit.reports.vega import Spec
from evalkit.reports.weight_plots import alpha_plot, drift_plot, importance_plot
from evalkit.reports.weights import (
    NONE,
    SECTIONS,
    CheckRow,
    MeasureRow,
    ModuleRow,
    WeightsView,
    compact,
    quiet_in_words,
    weights_views,
)

MOST_TENSORS: Final = 500
"""Rows of the table of tensors."""
SPECTRUM: Final = "spectrum"
"""Name of the plot in the run's folder that eigenvalues are read from."""
UNREAD: Final = (
    "weights.jsonl is absent or was changed after the run, so there are no plots and no table of tensors; the numbers "
    "are those of the scorecard."
)
OF_SPECTRA: Final = (
    "Some matrices, from the least alpha to the greatest. The dots come from plots/spectrum.vl.json, which the "
    "scorecard's digest does not cover; the exponents are those of weights.jsonl."
)
COLUMNS: Final[Mapping[str, str]] = {
    "drift": "Drift",
    "cosine": "Cosine",
    "norm_change": "Scale change (log10 ‖W‖²)",
    "alpha": "Alpha (advisory)",
    "importance": "Importance (unvalidated)",
}
"""Measure → its column in the tables by module and by tensor."""
SUMMED: Final = ("drift", "cosine", "norm_change", "stable_rank_ratio", "alpha")
"""Measures of the table by module."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A plot with what is to be said of it."""

    plot: Plot
    title: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TensorLine:
    """One tensor."""

    name: str
    module: str
    depth: str
    shape: str
    cells: tuple[tuple[str, str], ...]
    """(value to sort by, text) of each column."""
    checks: tuple[str, ...]
    """The checks that found something in it."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Whole-model numbers of one kind."""

    title: str
    rows: tuple[MeasureRow, ...]
    paired: bool


@dataclass(frozen=True, slots=True)
class TaskPart:
    """One task that reads weights, as its fragment shows it."""

    id: str
    view: WeightsView
    title: str
    checks: tuple[CheckRow, ...]
    quiet: tuple[str, ...]
    """Checks that found nothing, having seen all."""
    part_quiet: tuple[str, ...]
    """Checks that found nothing in what could be measured."""
    missing: tuple[str, ...]
    """What was not measured, and why."""
    drawn: tuple[Drawn, ...]
    modules_title: str
    modules: tuple[ModuleRow, ...]
    module_columns: tuple[str, ...]
    worst: tuple[str, ...]
    important: tuple[str, ...]
    numbers: tuple[Numbers, ...]
    columns: tuple[str, ...]
    tensors: tuple[TensorLine, ...]
    more_tensors: int


def section(run: FinishedRun) -> Section | None:
    """Return what was read of weights; None where no task reads any."""
    scorecard = run.scorecard
    views = weights_views(scorecard)
    if not views:
        return None
    rows, unread = _rows(run)
    spectrum = _spectrum(run)
    parts = [
        _part(f"weights-{place}", view, rows.get(view.task, {}), spectrum, scorecard)
        for place, view in enumerate(views)
    ]
    faults = sum(
        len(check.told) + check.more
        for part in parts
        for check in part.checks
        if check.fault and check.model == "candidate"
    )
    return Section(
        "weights",
        "Weights",
        fragment("weights.html", tasks=parts, unread=unread, not_run=scorecard.not_run),
        told="Read from the checkpoint's files, without asking the model anything.",
        count=f"{faults:,} {'fault' if faults == 1 else 'faults'}" if faults else "",
        plots=tuple(drawn.plot for part in parts for drawn in part.drawn),
    )


def _rows(run: FinishedRun) -> tuple[Rows, str]:
    try:
        return tensor_rows(run.weights_rows()), ""
    except UsageError:
        return {}, UNREAD


def _spectrum(run: FinishedRun) -> Mapping[str, Any] | None:
    try:
        held = run.plots().get(SPECTRUM)
    except UsageError:  # a damaged file draws nothing
        return None
    return held if isinstance(held, dict) else None


def _part(
    id_: str,
    view: WeightsView,
    rows: Mapping[Role, Sequence[TensorRow]],
    spectrum: Mapping[str, Any] | None,
    scorecard: Scorecard,
) -> TaskPart:
    tuned, base = rows.get("candidate", ()), rows.get("baseline", ())
    summed = [name for name in SUMMED if view.has_base or name in {"stable_rank_ratio", "alpha"}]
    summed = [name for name in summed if name != "alpha" or view.has_alpha]
    checks = _checks_by_tensor(scorecard, view.task)
    columns = [name for name in COLUMNS if any(name in row.measured for row in tuned)]
    lines = _tensors(tuned, columns, checks)
    missing = [*view.unread(), *view.not_there()]
    if view.measured and not view.has_base:
        missing.append(view.why_no_base())
    return TaskPart(
        id=id_,
        view=view,
        title=view.title(),
        checks=tuple(view.checks()),
        quiet=tuple(quiet_in_words(view.quiet_checks(complete=True))),
        part_quiet=tuple(quiet_in_words(view.quiet_checks(complete=False))),
        missing=tuple(printable(told.removesuffix(".")) for told in missing),
        drawn=tuple(_drawn(id_, view, tuned, base, spectrum)),
        modules_title=view.modules_title() if view.has_tensors else "",
        modules=tuple(view.modules(summed)) if view.has_tensors else (),
        module_columns=tuple(summed),
        worst=tuple(map(printable, view.worst())),
        important=tuple(map(printable, view.important())),
        numbers=tuple(_numbers(view)),
        columns=tuple(COLUMNS[name] for name in columns),
        tensors=tuple(lines[:MOST_TENSORS]),
        more_tensors=max(0, len(lines) - MOST_TENSORS),
    )


def _numbers(view: WeightsView) -> Iterator[Numbers]:
    for title, needs in SECTIONS.items():
        if rows := view.measures(needs):
            yield Numbers(title, tuple(rows), any(row.baseline != NONE for row in rows))


def _checks_by_tensor(scorecard: Scorecard, task: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for finding in scorecard.findings:
        if finding.task == task and finding.model == "candidate" and finding.tensor is not None:
            found.setdefault(printable(finding.tensor), []).append(finding.check)
    return found


def _tensors(
    rows: Sequence[TensorRow], columns: Sequence[str], checks: Mapping[str, Sequence[str]]
) -> list[TensorLine]:
    """Return the candidate's tensors, those first in which checks found something, then what moved most."""
    ordered = sorted(
        rows,
        key=lambda row: (row.tensor.name not in checks, -(number_of(row, "drift") or 0.0)),
    )
    lines = [
        TensorLine(
            row.tensor.name,
            row.tensor.module,
            NONE if row.tensor.depth is None else str(row.tensor.depth),
            " × ".join(map(str, row.tensor.shape)),
            tuple(_cell(row, name) for name in columns),
            tuple(dict.fromkeys(checks.get(row.tensor.name, ()))),
        )
        for row in ordered
    ]
    measured = {row.tensor.name for row in rows}
    unmeasured = [
        TensorLine(name, "", "", "", (("", NONE),) * len(columns), tuple(dict.fromkeys(found)))
        for name, found in checks.items()
        if name not in measured
    ]
    return unmeasured + lines


def _cell(row: TensorRow, measure: str) -> tuple[str, str]:
    held = row.measured.get(measure)
    if held is None or held.value is None:
        return "", NONE
    told = compact(held.value, figures=5 if measure == "cosine" else 3)
    if held.low is not None and held.high is not None and held.low != held.high:
        told += f" [{compact(held.low)}, {compact(held.high)}]"
    return str(held.value), told


def _drawn(
    id_: str,
    view: WeightsView,
    tuned: Sequence[TensorRow],
    base: Sequence[TensorRow],
    spectrum: Mapping[str, Any] | None,
) -> Iterator[Drawn]:
    def drawn(name: str, alt: str, spec: Spec, *notes: str) -> Drawn:
        title, told, bare = parted(spec)
        notes = (*told, *filter(None, notes))
        return Drawn(Plot(f"{id_}-{name}", bare, alt), title, tuple(map(printable, notes)))

    if _any(tuned, "importance"):
        held, told = drawable(tuned, "importance", "sum")
        alt = f"Bars: share of each matrix in the norms. The largest: {_listed(view.important())}."
        yield drawn("importance", alt, importance_plot(held), told)
    if _any(tuned, "alpha"):
        held, told = drawable(tuned, "alpha", "median")
        beside, _ = drawable(base, "alpha", "median")
        whole = next(
            (row for row in view.measures(("spectra",)) if row.measure.name == "alpha"), None
        )
        theirs = f"; the base: {whole.baseline}" if whole and whole.baseline != NONE else ""
        alt = f"Alpha of each matrix by depth. All: {whole.candidate if whole else NONE}{theirs}."
        note = "Base is the baseline, tuned the candidate." if base else ""
        yield drawn("alpha", alt, alpha_plot(held, beside), note, told)
    if _any(tuned, "drift"):
        held, told = drawable(tuned, "drift", "greatest")
        alt = f"How far each tensor moved from the base's, by depth. Most: {_listed(view.worst())}."
        yield drawn("drift", alt, drift_plot(held), told)
    charts, strange = spectra(spectrum, tuned)
    if charts:
        fits = _listed([f"{chart.name} {chart.heading}" for chart in charts])
        alt = f"Eigenvalues of some matrices with the fitted power law: {fits}."
        left = (
            f"{strange} more in plots/ do not fit weights.jsonl and are left out."
            if strange
            else ""
        )
        yield drawn("spectrum", alt, spectra_plot(charts), OF_SPECTRA, left)


def _any(rows: Sequence[TensorRow], measure: str) -> bool:
    return any(number_of(row, measure) is not None for row in rows)


_listed: Callable[[Sequence[str]], str] = "; ".join
