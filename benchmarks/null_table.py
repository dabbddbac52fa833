"""Makes the table of alpha in noise that `evalkit spectral` holds a layer's alpha against.

    python benchmarks/null_table.py
    python benchmarks/null_table.py --most 1024 --draws 100 --out table.json

For each shape, matrices of independent standard normal entries are drawn, the power law of their eigenvalues is fitted
by Clauset's rule, and percentiles of the exponents are kept. Eigenvalues of a real Wishart matrix need no matrix: those
of W Wᵀ with W M × N are distributed as those of B Bᵀ with B bidiagonal, independent χ_N, χ_(N−1) … χ_(N−M+1) on the
diagonal and χ_(M−1) … χ_1 below it (Dumitriu & Edelman 2002, J. Math. Phys. 43, 5830, β = 1). That is a tridiagonal
eigenproblem, M² operations instead of M² N: 0.3 s instead of 10 s at M = 4096, and as quick for a vocabulary.

Each shape has a seed of its own, so that the table does not change where the grid does. The whole takes an hour on one
core.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

SIZES = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
"""Lengths of the shorter side."""
RATIOS = (1, 1.5, 2, 4, 8, 16, 32, 64, 128, 256)
"""Longer side over shorter side."""
PERCENTS = (0.5, 1, 2.5, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 97.5, 99, 99.5)
DRAWS = 1_000
SEED = 20_251
SHIPPED = Path(__file__).resolve().parent.parent / "evalkit" / "spectral" / "null_table.json"


def noise_eigenvalues(m, n, rng):
    """Return the eigenvalues of W Wᵀ for an m × n matrix of independent standard normal entries (m ≤ n), ascending."""
    from scipy.linalg import eigvalsh_tridiagonal

    diagonal = np.sqrt(rng.chisquare(n - np.arange(m)))
    below = np.sqrt(rng.chisquare(m - np.arange(1, m)))
    square = diagonal**2
    square[1:] += below**2
    return eigvalsh_tridiagonal(square, below * diagonal[:-1], lapack_driver="sterf")


def alphas_of_noise(m, n, draws, seed=SEED):
    """Return the exponents of ``draws`` matrices of noise."""
    from evalkit.spectral.tail import nearest_tail

    rng = np.random.default_rng([seed, m, n])
    found = [nearest_tail(np.log(noise_eigenvalues(m, n, rng))) for _ in range(draws)]
    return np.array([1 + tail.rate for tail in found])


def draws_for(m, draws):
    """Return how many matrices are drawn: above 1024 fewer, since their time goes with m²."""
    return draws * 1024 // max(m, 1024)


def percentiles(draws, shape):
    alphas = alphas_of_noise(*shape, draws_for(shape[0], draws))
    print(f"{shape[0]} × {shape[1]}: median {np.median(alphas):.2f}", file=sys.stderr, flush=True)
    return [float(f"{value:.4g}") for value in np.percentile(alphas, PERCENTS)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--most", type=int, default=max(SIZES), help="largest shorter side")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=SHIPPED)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    sizes = [size for size in SIZES if size <= options.most]
    shapes = [(size, round(size * ratio)) for size in reversed(sizes) for ratio in RATIOS]
    with ProcessPoolExecutor(options.processes) as pool:
        found = dict(
            zip(shapes, pool.map(partial(percentiles, options.draws), shapes), strict=True)
        )
    table = {
        "what": "percentiles of alpha (Clauset's rule) of matrices of independent normal entries",
        "by": "benchmarks/null_table.py",
        "seed": SEED,
        "draws": [draws_for(size, options.draws) for size in sizes],
        "sizes": sizes,
        "ratios": list(RATIOS),
        "percents": list(PERCENTS),
        "alphas": [[found[size, round(size * ratio)] for ratio in RATIOS] for size in sizes],
    }
    lines = json.dumps(table, indent=None, separators=(", ", ": "))
    options.out.write_text(lines.replace(", [[", ",\n[[").replace("], [", "],\n[") + "\n")


if __name__ == "__main__":
    main()
