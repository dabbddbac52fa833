"""The HTML scorecard of runs of 1,000, 10,000 and 100,000 samples: seconds, memory, size, and time to open in Chromium.

    python benchmarks/report.py
    python benchmarks/report.py --samples 1000 10000 --rounds 5

The runs are made by ``evalkit run`` on recorded answers of two models: prompts of about 300 characters, answers of
about 100, words drawn by Zipf's law, a tenth of the answers wrong, a few missing. The page is rendered from the
finished run's folder in a process of its own, in which the tables are read back from the samples first: a run that has
just ended has them already. It is opened from its file: "loaded" is the browser's own ``loadEventEnd``; "verdict
painted" is its first paint with content, which is the page's top; "samples" is from scrolling to the samples until the
first of them can be opened.

The peer, where it is installed, is inspect-ai's log viewer, which teams put in the same place: two logs of the same
samples, and ``inspect view bundle`` makes a folder of them that a web server must serve. Its bundle holds every sample,
where the page holds those that fit and counts the rest; it has no rules, no intervals and no comparison.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SUITE = """\
suite: bench
version: 1
tasks:
{tasks}"""
TASK = """\
  - name: {name}
    dataset: {{path: {name}.jsonl}}
    prompt: "{{{{ text }}}}"
    target: "{{{{ target }}}}"
    slices: [region, product]
    min_coverage: 0.9
    metrics: [exact_match, squad]
"""
GATE = """\
gate: bench
rules:
  - {id: level, estimate: answer/exact_match, require: at_least, value: 0.8}
  - {id: no-worse, estimate: "*/exact_match", require: no_worse_than, margin: 0.02}
"""
TASKS = ("answer", "extract", "route")
MODELS = ("candidate", "baseline")
WRONG = {"candidate": 0.10, "baseline": 0.11}
MIB = 2**20


@dataclass(frozen=True)
class Item:
    """One sample with what both models said."""

    task: str
    id: str
    text: str
    target: str
    said: dict[str, str | None]


def items(count: int) -> Iterator[Item]:
    """Yield samples of about 300 + 100 characters."""
    draw = random.Random(0)
    letters = "etaoinshrdlcumwfgypbvk"
    words = ["".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(8_000)]
    weights = [1 / rank for rank in range(1, len(words) + 1)]

    def text(size: int) -> str:
        return " ".join(draw.choices(words, weights, k=size))

    for number in range(count):
        target = text(16)
        said: dict[str, str | None] = {}
        for model in MODELS:
            kind = draw.random()
            wrong = " ".join([*target.split()[: draw.randint(4, 15)], text(draw.randint(1, 4))])
            said[model] = None if kind < 0.003 else wrong if kind < WRONG[model] else target
        yield Item(TASKS[number % 3], f"item-{number:06}", text(46), target, said)


def make_run(folder: Path, count: int) -> Path:
    """Return the folder of a finished run, made by the command line."""
    regions, products = ("north", "south", "east", "west"), [f"p{n}" for n in range(12)]
    files = {task: (folder / f"{task}.jsonl").open("w") for task in TASKS}
    answers = {model: (folder / f"{model}.jsonl").open("w") for model in MODELS}
    for number, item in enumerate(items(count)):
        row = {"id": item.id, "text": item.text, "target": item.target}
        row |= {"region": regions[number % 4], "product": products[number % 7 + number % 5]}
        files[item.task].write(json.dumps(row) + "\n")
        for model in MODELS:
            if item.said[model] is not None:
                said = {"sample_id": item.id, "text": item.said[model]}
                answers[model].write(json.dumps(said) + "\n")
    for file in (*files.values(), *answers.values()):
        file.close()
    tasks = "".join(TASK.format(name=name) for name in TASKS)
    (folder / "suite.yaml").write_text(SUITE.format(tasks=tasks))
    (folder / "gate.yaml").write_text(GATE)
    command = [
        sys.executable, "-m", "evalkit", "run", "suite.yaml", "--backend", "replay", "--candidate", "candidate.jsonl",
        "--baseline", "baseline.jsonl", "--gate", "gate.yaml", "--out", "out", "--quiet",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1, 4):
        raise SystemExit(f"{command} exited with {done.returncode}:\n{done.stderr[-3000:]}")
    (card,) = (folder / "out").glob("*/scorecard.json")
    return card.parent


def render(run: str, page: str) -> None:
    """Render a page in this process and print what it took as JSON."""
    started = time.monotonic()
    from evalkit.cli.past_runs import open_run
    from evalkit.reports.page import scorecard_page

    loaded = time.monotonic()
    opened = open_run(run, Path(run).parent)
    opened.all_tables()
    read = time.monotonic()
    text = scorecard_page(opened)
    rendered = time.monotonic()
    Path(page).write_text(text, encoding="utf-8")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    told = {
        "import_s": loaded - started,
        "read_s": read - loaded,
        "render_s": rendered - read,
        "cpu_s": time.process_time(),
        "peak_mib": peak,
    }
    print(json.dumps(told))


def rendered(run: Path, page: Path) -> dict[str, float]:
    """Render a page in a process of its own."""
    command = [sys.executable, __file__, "--render", str(run), str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command} exited with {done.returncode}:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout))


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine for as long as the block lasts."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@contextmanager
def chromium() -> Iterator[object]:
    """A running Chromium; None where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        path = None
    if path is None:
        yield None
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


LOADED = "() => performance.getEntriesByType('navigation')[0].loadEventEnd / 1000"
PAINTED = """() => new Promise((done) => requestAnimationFrame(() => setTimeout(() => {
    const paint = performance.getEntriesByType('paint').find((p) => p.name === 'first-contentful-paint');
    done(paint ? paint.startTime / 1000 : null);
})))"""


def opened(browser, page: Path) -> tuple[float, float, float]:
    """Return seconds until the page is loaded, until the verdict is painted, and from the samples to the first one."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.goto(page.as_uri())
    assert tab.locator("#summary").is_visible(), "the page tells no verdict"
    loaded, painted = tab.evaluate(LOADED), tab.evaluate(PAINTED)
    started = time.monotonic()
    tab.locator("#samples-browser").scroll_into_view_if_needed()
    tab.wait_for_selector("details.sample")
    first = time.monotonic() - started
    tab.close()
    return loaded, painted, first


def bundled(folder: Path, count: int) -> tuple[float, float, float, float]:
    """Return seconds, seconds of processor, peak MiB and size in MB of inspect-ai's bundle of the same samples."""
    write_logs(folder / "logs", count)
    command = [str(Path(sys.executable).parent / "inspect"), "view", "bundle"]
    command += ["--log-dir", str(folder / "logs"), "--output-dir", str(folder / "bundle")]
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} exited with {process.returncode}")
    size = sum(file.stat().st_size for file in (folder / "bundle").rglob("*") if file.is_file())
    return wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, size / 1e6


def write_logs(folder: Path, count: int) -> None:
    """Write one log for each model, as ``inspect eval`` would."""
    from inspect_ai.log import (
        EvalConfig,
        EvalDataset,
        EvalLog,
        EvalSample,
        EvalSpec,
        write_eval_log,
    )
    from inspect_ai.model import ModelOutput
    from inspect_ai.scorer import Score

    every = list(items(count))
    for model in MODELS:
        samples = [
            EvalSample(
                id=item.id,
                epoch=1,
                input=item.text,
                target=item.target,
                output=ModelOutput.from_content(model, item.said[model] or ""),
                scores={"match": Score(value="C" if item.said[model] == item.target else "I")},
            )
            for item in every
        ]
        spec = EvalSpec(
            created="2025-01-01T00:00:00+00:00",
            task="bench",
            dataset=EvalDataset(
                name="bench", samples=count, sample_ids=[item.id for item in every]
            ),
            model=f"mock/{model}",
            config=EvalConfig(),
        )
        log = EvalLog(status="success", eval=spec, samples=samples)
        write_eval_log(log, str(folder / f"2025-01-01T00-00-00+00-00_bench_{model}.eval"))


def viewed(browser, folder: Path) -> tuple[float, float]:
    """Return seconds until the bundle's page is loaded, and until it names the logs."""
    with served(folder) as url:
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        started = time.monotonic()
        tab.goto(url)
        loaded = tab.evaluate(LOADED)
        tab.get_by_text("mock/candidate").first.wait_for(timeout=60_000)
        named = time.monotonic() - started
        tab.close()
    return loaded, named


def middle(rows: list[tuple[float, ...]]) -> list[float]:
    """Return the median of each column."""
    return [float(each) for each in np.median(rows, axis=0)]


def main() -> None:
    """Measure each size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--samples", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--peer-most", type=int, default=10_000, help="larger runs go without the peer"
    )
    parser.add_argument("--render", nargs=2, metavar=("RUN", "PAGE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    sys.path.remove(str(Path(__file__).resolve().parent))  # a neighbour is called statistics.py
    if options.render:
        render(*options.render)
        return
    try:
        import inspect_ai

        peer = f"inspect-ai {inspect_ai.__version__}"
    except ImportError:
        peer = ""
        print("inspect-ai is not installed: no peer")
    print(f"median of {options.rounds} rounds, {len(os.sched_getaffinity(0))} cores")
    with chromium() as browser:
        for count in options.samples:
            measure(count, options.rounds, browser, peer if count <= options.peer_most else "")


def measure(count: int, rounds: int, browser, peer: str) -> None:
    """Print one size's figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run, page = make_run(folder, count), folder / "report.html"
        takes = [rendered(run, page) for _ in range(rounds)]
        take = {key: float(np.median([each[key] for each in takes])) for key in takes[0]}
        size = page.stat().st_size / 1e6
        rows = (run / "samples.jsonl").stat().st_size / 1e6
        print(
            f"\n{count:>8,} samples × 2 models ({rows:,.1f} MB of rows)\n"
            f"  {'evalkit':<18} render {take['render_s']:6.2f} s  (import {take['import_s']:.2f} s, "
            f"tables {take['read_s']:.2f} s; processor in all {take['cpu_s']:.2f} s)  "
            f"peak {take['peak_mib']:6,.0f} MiB  size {size:6.2f} MB"
        )
        if browser:
            loaded, painted, first = middle([opened(browser, page) for _ in range(rounds)])
            print(
                f"  {'in Chromium':<18} loaded {loaded:6.2f} s  verdict painted {painted:.2f} s  "
                f"samples {first:.2f} s"
            )
        if peer:
            wall_s, cpu_s, peak, bundle = bundled(folder, count)
            own = sum(take[key] for key in ("import_s", "read_s", "render_s"))
            print(
                f"  {peer:<18} bundle {wall_s:6.2f} s  (processor {cpu_s:.2f} s)  peak {peak:6,.0f} MiB  "
                f"size {bundle:6.2f} MB\n"
                f"  {'evalkit ÷ peer':<18} time {own / wall_s:.2f}, processor {take['cpu_s'] / cpu_s:.2f}, "
                f"memory {take['peak_mib'] / peak:.2f}, size {size / bundle:.2f}"
            )
            if browser:
                loaded, named = middle([viewed(browser, folder / "bundle") for _ in range(rounds)])
                print(
                    f"  {'in Chromium':<18} loaded {loaded:6.2f} s  logs named {named:.2f} s  (by a web server)"
                )


if __name__ == "__main__":
    main()
