"""Peak memory of whole runs on recorded answers, for growing numbers of samples: what a sample costs to hold.

    python benchmarks/memory.py 50000 200000

Prints the peak of each run and the slope between them. Samples stream, so the slope is what must be kept for
intervals (ids and statistics), not texts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

TEXT = "The quick brown fox jumps over the lazy dog. " * 20
SUITE = """\
suite: memory
version: 1
tasks:
  - name: copy
    dataset: {path: rows.jsonl}
    prompt: "{{ text }}"
    target: "{{ target }}"
    metrics: [exact_match, squad]
"""


def peak_mib(count: int) -> float:
    """Return the peak resident memory of one run over ``count`` samples of about 1 kB."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "suite.yaml").write_text(SUITE)
        with (
            (folder / "rows.jsonl").open("w") as rows,
            (folder / "answers.jsonl").open("w") as answers,
        ):
            for number in range(count):
                row = {"id": str(number), "text": f"{TEXT}{number}", "target": str(number)}
                rows.write(json.dumps(row) + "\n")
                answers.write(json.dumps({"sample_id": str(number), "text": str(number)}) + "\n")
        command = [sys.executable, "-m", "evalkit", "run", str(folder / "suite.yaml"), "--quiet",
                   "--candidate", str(folder / "answers.jsonl"), "--out", str(folder / "out")]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 4, "nothing decides without a gate"
        return usage.ru_maxrss / 1024


def main() -> None:
    """Measure each size and print the slope."""
    sizes = [int(argument) for argument in sys.argv[1:]] or [50_000, 200_000]
    peaks = [peak_mib(size) for size in sizes]
    for size, peak in zip(sizes, peaks, strict=True):
        print(
            f"{size:>10,} samples of about 1 kB ({size / 1024:>8,.0f} MiB of text): peak {peak:>7,.0f} MiB"
        )
    slope = (peaks[-1] - peaks[0]) * 2**20 / (sizes[-1] - sizes[0])
    print(f"slope: {slope:,.0f} bytes per sample")


if __name__ == "__main__":
    main()
