"""A run's plots of weights: what is drawn of them, as Vega-Lite and as SVG."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from evalkit.cli.weights import OpenedWeights, extra_installed
from evalkit.records.suite import SpectralTask
from evalkit.records.weights import TensorRow
from evalkit.store.runs import RunFolder

if TYPE_CHECKING:
    from evalkit.ports import TensorSource
    from evalkit.reports.weight_plots import Spectrum
    from evalkit.spectral.spectrum import Decomposition

SPECTRA_SHOWN: Final = 6
"""So many matrices get a plot of their eigenvalues, from the least alpha to the greatest."""


def need_plots() -> None:
    """Raise RunError, with the command that mends it, where the library that draws is not installed."""
    with extra_installed():
        import vl_convert  # noqa: F401 - whether it is there


def write_plots(
    folder: RunFolder,
    tuned: Sequence[TensorRow],
    base: Sequence[TensorRow],
    opened: OpenedWeights,
    task: SpectralTask,
    decomposition: Decomposition,
) -> list[str]:
    """Write a plot of everything that was measured into the run's folder; return their names.

    ``tuned`` and ``base`` are what was measured on the model and on its base. Eigenvalues, which no file keeps, are
    computed again for a few matrices of ``opened``. Raises RunError when the disk refuses.
    """
    import vl_convert

    drawn = dict(_plots(tuned, base, opened.source, task, decomposition))
    for name, spec in drawn.items():
        told = json.dumps(spec, indent=1, ensure_ascii=False, allow_nan=False)
        folder.write_plot(f"{name}.vl.json", told.encode("utf-8", "replace"))
        folder.write_plot(f"{name}.svg", vl_convert.vegalite_to_svg(spec).encode())
    return list(drawn)


def _plots(
    tuned: Sequence[TensorRow],
    base: Sequence[TensorRow],
    source: TensorSource,
    task: SpectralTask,
    decomposition: Decomposition,
) -> Iterator[tuple[str, dict[str, Any]]]:
    from evalkit.reports.weight_plots import alpha_plot, drift_plot, importance_plot, spectrum_plot

    if _having(tuned, "drift"):
        yield "drift", drift_plot(tuned)
    if alphas := _having(tuned, "alpha"):
        yield "alpha", alpha_plot(tuned, base)
        shown = _spread([row for row in alphas if row.tensor.form == "matrix"])
        spectra = [_spectrum(row, source, task, decomposition) for row in shown]
        if spectra:
            yield "spectrum", spectrum_plot(spectra)
    if _having(tuned, "importance"):
        yield "importance", importance_plot(tuned)


def _having(rows: Sequence[TensorRow], measure: str) -> list[TensorRow]:
    """Return the tensors that have a number, from the least to the greatest."""

    def value(row: TensorRow) -> float | None:
        held = row.measured.get(measure)
        return None if held is None else held.value

    return sorted(
        (row for row in rows if value(row) is not None), key=lambda row: value(row) or 0.0
    )


def _spread(rows: Sequence[TensorRow]) -> list[TensorRow]:
    """Return a few of many, first and last among them, evenly from between."""
    if len(rows) <= SPECTRA_SHOWN:
        return list(rows)
    step = (len(rows) - 1) / (SPECTRA_SHOWN - 1)
    return [rows[round(place * step)] for place in range(SPECTRA_SHOWN)]


def _spectrum(
    row: TensorRow, source: TensorSource, task: SpectralTask, decomposition: Decomposition
) -> Spectrum:
    from evalkit.reports.weight_plots import Spectrum
    from evalkit.spectral.tail import fit_tail

    W_RC = source.read(row.tensor).reshape(row.tensor.matrix_shape)
    lambda_M = decomposition.eigenvalues(W_RC)
    return Spectrum(row.tensor.name, lambda_M, fit_tail(lambda_M, compatible=task.compatible))
