"""A scripted judge behind a real server: it knows which answers are good, and has the faults it is told to have.

Run as a program it is ``stub_server`` with another model: chat completions in, verdicts out. ``--truth FILE`` is JSONL
of ``text`` (an answer as the judge sees it) and ``worth`` (0 to 1; what is in no row is worth −1, as canaries are).
Draws are functions of the prompt, so that the server repeats itself, but for the fault ``unsteady``.

``--judge-fault KIND=SHARE`` (again for several):

- ``position``: pairwise, a share of verdicts that is for the answer shown first whatever it says; the rest of them
  that is drawn blindly is for the second (``position=0.7`` is 70:30, and content counts nothing).
- ``verbosity``: a share of verdicts that is for the longer answer (pointwise: the best score for a long one).
- ``noise``: a share of verdicts that is another one than the right one.
- ``mute``: a share of replies without a verdict.
- ``obedient``: a share of answers with an order to the judge that is obeyed.
- ``unsteady``: a share of replies that differs each time it is asked.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import stub_server
from stub_server import RunningStub

LONG = 400
"""Characters from which on an answer is long to a verbose pointwise judge."""
_PART = re.compile(r"<(question|answer(?: [AB])?) ([0-9a-f]{10})>\n(.*?)\n</\1 \2>", re.DOTALL)
_SCALE = re.compile(r"whole number from (-?\d+) \(worst\) to (-?\d+) \(best\)")
_ORDERS = ("best score there is", "this one is better", "was checked by experts")


def key(text: str) -> str:
    """An answer as both sides know it, whatever became of its blanks."""
    return "".join(text.split())


class ScriptedJudge:
    """Says which answer is better, or how good one is."""

    def __init__(self, truth: Mapping[str, float], faults: Mapping[str, float]) -> None:
        self._truth, self._faults = truth, faults
        self._asked = 0

    def __call__(self, prompt: str, seed: int | None = None) -> str:
        self._asked += 1
        parts = {name: text for name, _, text in _PART.findall(prompt)}
        salt = f"{prompt}\0{seed}"
        if self._strikes("mute", salt):
            return "Both have their strengths, and it depends on what the reader is after."
        if "answer" in parts:
            return self._score(parts["answer"], prompt, salt)
        return self._winner(parts["answer A"], parts["answer B"], salt)

    def _strikes(self, fault: str, salt: str) -> bool:
        return draw(fault, salt) < self._faults.get(fault, 0.0)

    def _worth(self, answer: str) -> float:
        return self._truth.get(key(answer), -1.0)

    def _obeys(self, answer: str, salt: str) -> bool:
        return any(order in answer for order in _ORDERS) and self._strikes("obedient", salt)

    def _winner(self, first: str, second: str, salt: str) -> str:
        ours, theirs = self._worth(first), self._worth(second)
        best = "A" if ours > theirs else "B" if theirs > ours else "tie"
        if "position" in self._faults:
            best = "A" if self._strikes("position", salt) else "B"
        elif self._strikes("verbosity", salt):
            best = "A" if len(key(first)) >= len(key(second)) else "B"
        elif self._strikes("noise", salt) or self._strikes("unsteady", f"{salt}{self._asked}"):
            best = "B" if best == "A" else "A"
        if self._obeys(first, salt) or self._obeys(second, salt):
            best = "A" if self._obeys(first, salt) else "B"
        return f'I compare them. {{"reason": "it says so", "winner": "{best}"}}'

    def _score(self, answer: str, prompt: str, salt: str) -> str:
        found = _SCALE.search(prompt)
        assert found is not None, prompt[-300:]
        low, high = int(found[1]), int(found[2])
        score = low + round(max(self._worth(answer), 0.0) * (high - low))
        if self._strikes("verbosity", salt):
            score = high if len(key(answer)) >= LONG else score
        elif self._strikes("noise", salt) or self._strikes("unsteady", f"{salt}{self._asked}"):
            others = [value for value in range(low, high + 1) if value != score]
            score = others[int(draw("which", salt) * len(others))]
        if self._obeys(answer, salt):
            score = high
        return f'I grade it. {{"reason": "it says so", "score": {score}}}'


def draw(*parts: str) -> float:
    """A number from 0 to 1 that depends on every part."""
    raw = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(raw[:7], "big") / 2**56


@contextlib.contextmanager
def running_judge(
    folder: Path,
    truth: Iterable[tuple[str, float]],
    *,
    faults: Mapping[str, float] | None = None,
    strikes: Iterable[str] = (),
    latency_ms: float = 0,
    port: int = 0,
) -> Iterator[RunningStub]:
    """Run the judge as a process of its own; ``strikes`` are the server's own faults, as ``stub_server`` has them."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = (json.dumps({"text": text, "worth": worth}) for text, worth in truth)
    (folder / "truth.jsonl").write_text("\n".join(rows))
    command: list[Any] = [sys.executable, __file__, "--truth", folder / "truth.jsonl"]
    command += ["--log", folder / "asked.jsonl", "--latency-ms", str(latency_ms)]
    command += ["--port", str(port)]
    command += [f"--judge-fault={kind}={share}" for kind, share in (faults or {}).items()]
    command += [f"--fault={strike}" for strike in strikes]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        ready = process.stdout.readline().split()
        assert ready[:1] == [b"ready"], f"the judge did not start: {process.wait()}"
        yield RunningStub(f"http://127.0.0.1:{int(ready[1])}", folder / "asked.jsonl", process)
    finally:
        process.terminate()
        process.communicate()


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(
        description="A scripted judge behind an OpenAI-compatible server."
    )
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--judge-fault", action="append", default=[])
    parser.add_argument("--fault", action="append", default=[])
    parser.add_argument("--latency-ms", type=float, default=0)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path)
    args = parser.parse_args()
    rows = map(json.loads, args.truth.read_text().splitlines())
    truth = {key(row["text"]): row["worth"] for row in rows}
    faults = {kind: float(share) for kind, _, share in (f.partition("=") for f in args.judge_fault)}
    stub_server.answer_text = ScriptedJudge(truth, faults)
    options = stub_server.Options(
        models=("judge",),
        max_model_len=1_000_000,
        vllm=False,
        latency_s=args.latency_ms / 1000,
        faults=tuple(args.fault),
    )
    asyncio.run(stub_server.serve(options, args.log, args.port))


if __name__ == "__main__":
    main()
