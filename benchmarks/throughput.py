"""The same requests to the same server from a bare aiohttp loop, from evalkit and from lm-eval, as ratios.

    python benchmarks/throughput.py --vllm-python .venv-vllm/bin/python --requests 5000
    python benchmarks/throughput.py --stub --requests 5000

Each program runs as a process of its own, started and awaited from outside, so that imports, planning, scoring and
writing count. They take turns, round by round, because machines drift. evalkit then runs once more on its full
answer store. With ``--stub`` the server answers at once and costs nothing: what is left is the harness's own
processor time per sample.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
MODEL = "bench"
MAX_TOKENS = 40
LM_EVAL_TASK = """\
task: bench_orders
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: generate_until
doc_to_text: "Order: {{{{text}}}}\\nJSON:"
doc_to_target: "{{{{target}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: {max_tokens}, do_sample: false, temperature: 0}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""
SUITE = """\
suite: bench
version: 1
tasks:
  - name: extract
    dataset: {{path: {rows}}}
    prompt: "Order: {{{{ text }}}}\\nJSON:"
    target: "{{{{ target }}}}"
    decoding: {{max_tokens: {max_tokens}, temperature: 0, stop: ["\\n"]}}
    metrics: [exact_match, {{json_schema: {{schema: {schema}}}}}, json_fields]
"""


@dataclass(frozen=True)
class Measured:
    """One finished process."""

    wall_s: float
    """From start to exit."""
    cpu_s: float
    """User and system time, children included."""


def timed(command: list[str], **settings) -> Measured:
    """Run a command to its end; raise with its output if it fails (evalkit may exit 4: it has no gate)."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, **settings)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.monotonic() - started
        process.returncode = code = os.waitstatus_to_exitcode(status)
        if code not in (0, 4):
            output.seek(0)
            raise SystemExit(f"{command} exited with {code}:\n{output.read().decode()[-3000:]}")
    return Measured(wall_s, usage.ru_utime + usage.ru_stime)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def server(command: list[str], url: str, env: dict[str, str]):
    """Run a server for as long as the block lasts."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=os.environ | env, start_new_session=True
        )
        try:
            deadline = time.monotonic() + 300
            while True:
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise SystemExit(f"the server did not start:\n{log.read().decode()[-3000:]}")
                try:
                    urllib.request.urlopen(f"{url}/health", timeout=2).close()
                    break
                except OSError:
                    time.sleep(0.5)
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def write_inputs(folder: Path, count: int) -> None:
    """Write distinct order rows, the suite and the lm-eval task."""
    source = ROOT / "suites/quickstart/data/orders.jsonl"
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    draw = random.Random(0)
    with (folder / "rows.jsonl").open("w") as out:
        for number in range(count):
            row = draw.choice(rows)
            text = f"{row['text']} Ref {number}."
            out.write(json.dumps({"id": str(number), "text": text, "target": row["target"]}) + "\n")
    schema = ROOT / "suites/quickstart/schemas/order.json"
    filled = {"rows": folder / "rows.jsonl", "schema": schema, "max_tokens": MAX_TOKENS}
    (folder / "suite.yaml").write_text(SUITE.format(**filled))
    (folder / "tasks").mkdir()
    (folder / "tasks/bench_orders.yaml").write_text(LM_EVAL_TASK.format(**filled))


def programs(folder: Path, url: str, concurrency: int, *, lm_eval: bool) -> dict[str, list[str]]:
    """Return the command of each program."""
    rows = str(folder / "rows.jsonl")
    scripts = Path(sys.executable).parent
    found = {
        "bare loop": [
            sys.executable, str(ROOT / "benchmarks/bare_loop.py"), rows, str(folder / "answers"),
            "--url", url, "--model", MODEL, "--max-tokens", str(MAX_TOKENS), "--concurrency", str(concurrency),
        ],
        "evalkit": [
            str(scripts / "evalkit"), "run", str(folder / "suite.yaml"), "--candidate", url,
            "--model-arg", f"concurrency={concurrency}", "--model-arg", "revision=bench",
            "--out", str(folder / "out"), "--quiet",
        ],
    }  # fmt: skip
    if lm_eval:
        arguments = (
            f"model={MODEL},base_url={url}/v1/completions,num_concurrent={concurrency},"
            f"tokenized_requests=False,tokenizer={ROOT / 'suites/quickstart/models/baseline'}"
        )
        found["lm-eval"] = [
            str(scripts / "lm_eval"), "--model", "local-completions", "--model_args", arguments,
            "--tasks", "bench_orders", "--include_path", str(folder / "tasks"), "--batch_size", "1",
            "--output_path", str(folder / "lm-eval"), "--log_samples",
        ]  # fmt: skip
    return found


def report(name: str, runs: list[Measured], count: int, bare: list[Measured]) -> None:
    """Print one program's figures, and its rate against the bare loop round by round."""
    wall, cpu = (float(np.median([getattr(r, f) for r in runs])) for f in ("wall_s", "cpu_s"))
    ratio = float(np.median([b.wall_s / r.wall_s for b, r in zip(bare, runs, strict=False)]))
    print(
        f"{name:<22} {count / wall:>9,.0f} requests/s  {wall:>7.2f} s wall  {cpu:>7.2f} s processor  "
        f"{1000 * cpu / count:>6.3f} ms processor/request  rate ÷ bare loop: {ratio:.2f}"
    )


def main() -> None:
    """Run every program in turns and print the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=128)
    parser.add_argument("--vllm-python", default=".venv-vllm/bin/python")
    parser.add_argument("--stub", action="store_true", help="a server that answers at once")
    parser.add_argument("--no-lm-eval", action="store_true")
    parser.add_argument("--lm-eval-rounds", type=int, default=1)
    options = parser.parse_args()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    if options.stub:
        command = [
            sys.executable,
            str(ROOT / "tests/stub_server.py"),
            "--port",
            str(port),
            "--model",
            MODEL,
        ]
    else:
        model = ROOT / "suites/quickstart/models/baseline"
        command = [
            options.vllm_python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model),
            "--served-model-name", MODEL, "--host", "127.0.0.1", "--port", str(port), "--max-model-len", "256",
            "--dtype", "float32", "--enforce-eager", "--disable-log-stats",
        ]  # fmt: skip
    quiet = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1",
             "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}  # fmt: skip
    os.environ |= quiet
    with tempfile.TemporaryDirectory() as name, server(command, url, quiet):
        folder = Path(name)
        write_inputs(folder, options.requests)
        commands = programs(folder, url, options.concurrency, lm_eval=not options.no_lm_eval)
        runs: dict[str, list[Measured]] = {program: [] for program in commands}
        timed(commands["bare loop"])  # warms the server
        for round_ in range(options.rounds):
            for program, line in commands.items():
                if program == "lm-eval" and round_ >= options.lm_eval_rounds:
                    continue
                if program == "evalkit":
                    shutil.rmtree(folder / "out", ignore_errors=True)
                runs[program].append(timed(line))
        runs["evalkit, from store"] = [timed(commands["evalkit"]) for _ in range(options.rounds)]
        print(f"{options.requests} requests, {options.concurrency} at once, median of {options.rounds} rounds, "
              f"{len(os.sched_getaffinity(0))} cores shared with the server")  # fmt: skip
        for program, measured in runs.items():
            report(program, measured, options.requests, runs["bare loop"])


if __name__ == "__main__":
    main()
