"""WeightWatcher and powerlaw, run in the environment that has them: they pin nothing and want other versions."""

from __future__ import annotations

import json
import os
import subprocess

import numpy as np
import pytest

PYTHON = "EVALKIT_WEIGHTWATCHER_PYTHON"


def ask_peer(program, spectra, folder):
    """Run a program that sees ``spectra`` and leaves ``answers``; return these. Skips where there is no environment."""
    python = os.environ.get(PYTHON)
    if not python:
        pytest.skip(f"{PYTHON} names no Python with WeightWatcher and powerlaw")
    np.savez(folder / "spectra.npz", **{f"{place:05d}": each for place, each in enumerate(spectra)})
    (folder / "program.py").write_text(
        "import json, sys, numpy as np\n"
        "stored = np.load('spectra.npz')\n"
        "spectra = [stored[name] for name in sorted(stored.files)]\n"
        f"{program}\n"
        "json.dump(answers, open('answers.json', 'w'))\n"
    )
    done = subprocess.run(
        [python, "program.py"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    return json.loads((folder / "answers.json").read_text())
