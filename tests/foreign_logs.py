"""Real results of other harnesses on the shipped checkpoints, made once per test session, each in a process of its own.

lm-evaluation-harness runs four local tasks on two checkpoints by the calls that its own command line makes; inspect
runs one task on both through its Hugging Face provider, and others on a model of recorded answers.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
QUICKSTART = ROOT / "suites" / "quickstart"
DOCUMENTS = 40
"""Of each task of lm-eval."""

TASKS = {
    "quiz.yaml": """\
task: quiz
dataset_path: json
dataset_kwargs: {data_files: {test: DATA/units.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
metadata: {version: 1.0}
""",
    "orders.yaml": """\
task: orders
dataset_path: json
dataset_kwargs: {data_files: {test: DATA/orders.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "Order: {{text}}\\nJSON:"
doc_to_target: "{{target}}"
generation_kwargs: {until: ["\\n"], do_sample: false, max_gen_toks: 96}
filter_list:
  - {name: strict, filter: [{function: take_first}]}
  - {name: stripped, filter: [{function: remove_whitespace}, {function: take_first}]}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
  - {metric: bleu, aggregation: bleu, higher_is_better: true}
metadata: {version: 2}
""",
    "notes.yaml": """\
task: notes
dataset_path: json
dataset_kwargs: {data_files: {test: DATA/notes.jsonl}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}, {metric: byte_perplexity}, {metric: bits_per_byte}]
""",
    "tickets.yaml": """\
task: tickets
dataset_path: json
dataset_kwargs: {data_files: {test: DATA/tickets.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "Ticket: {{text}}\\nSummary:"
doc_to_target: "{{summary}}"
generation_kwargs: {until: ["\\n"], do_sample: false, max_gen_toks: 24}
process_results: !function grading.grade
metric_list:
  - {metric: characters, aggregation: mean, higher_is_better: false}
  - {metric: longest, aggregation: !function grading.longest, higher_is_better: true}
  - {metric: of_some, aggregation: mean, higher_is_better: true}
  - {metric: with_gaps, aggregation: nanmean, higher_is_better: true}
metadata: {version: 1}
""",
    "grading.py": """\
def grade(doc, results):
    length = len(results[0])
    number = int("".join(c for c in doc["id"] if c.isdigit()))
    given = {"characters": length, "longest": length, "with_gaps": float("nan") if number % 8 == 0 else 0.5}
    return given | ({"of_some": number % 3} if number % 2 else {})

def longest(items):
    return max(items)
""",
}

_LM_EVAL = """
import sys
from lm_eval import simple_evaluate
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager

tasks, out, limit, *models = sys.argv[1:]
for model in models:
    tracker = EvaluationTracker(output_path=out)
    results = simple_evaluate(
        model="hf", model_args={"pretrained": model, "dtype": "float32"},
        tasks=["quiz", "orders", "notes", "tickets"], device="cpu", batch_size=16, limit=int(limit),
        task_manager=TaskManager(include_path=tasks, include_defaults=False),
        log_samples=True, evaluation_tracker=tracker, bootstrap_iters=10,
    )
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for task in results["configs"]:
        tracker.save_results_samples(task_name=task, samples=samples[task])
"""

_INSPECT = """
import json, sys
from pathlib import Path
from inspect_ai import Epochs, Task, eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import write_eval_log
from inspect_ai.model import GenerateConfig, ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import Score, accuracy, includes, mean, scorer, stderr
from inspect_ai.solver import generate, solver

out, data, *models = sys.argv[1:]
rows = [json.loads(line) for line in Path(data).read_text().splitlines()]

@scorer(metrics=[accuracy(), stderr()])
def same():
    async def score(state, target):
        right = state.output.completion.strip() == target.text
        return Score(value="C" if right else "I", answer=state.output.completion)
    return score

@scorer(metrics={"characters": [mean(), stderr()], "grade": [accuracy()]})
def parts():
    async def score(state, target):
        text = state.output.completion
        return Score(value={"characters": len(text), "grade": "P" if "," in text else "C"})
    return score

@scorer(metrics=[mean()])
def some():
    async def score(state, target):
        if str(state.sample_id).endswith("3"):
            return Score.unscored(reason="no_response")
        return Score(value=len(state.output.completion) / 2)
    return score

@scorer(metrics=[mean()])
def odd():
    async def score(state, target):
        return Score(value="maybe" if str(state.sample_id).endswith("5") else 1)
    return score

@solver
def failing():
    async def solve(state, generate):
        if str(state.sample_id).endswith("7"):
            raise ValueError("the tool broke")
        return await generate(state)
    return solve

def samples(n):
    return MemoryDataset(
        [Sample(id=row["id"], input=f"Order: {row['text']}\\nJSON:", target=row["target"],
                metadata={"region": row["region"]}) for row in rows[:n]], name="orders")

plain = "{% for m in messages %}{{ m.content }}{% endfor %}"
for model in models:
    task = Task(name="orders", dataset=samples(16), solver=generate(), scorer=[same(), includes()], version=3,
                config=GenerateConfig(max_tokens=72, stop_seqs=["\\n"]))
    arguments = {"model_path": model, "device": "cpu", "do_sample": False, "chat_template": plain}
    eval(task, model="hf/local", model_args=arguments, log_dir=f"{out}/{Path(model).name}", display="none")

def recorded(name, scorers, solve=None, n=16, **settings):
    answers = ["a", "b,c", "dd", "e, f", rows[4]["target"]] * 40
    outputs = [ModelOutput.from_content("mockllm/model", answer) for answer in answers]
    for output in outputs:  # told, for the model would load a tokenizer from the network to count them
        output.usage = ModelUsage(input_tokens=7, output_tokens=2, total_tokens=9)
    model = get_model("mockllm/model", custom_outputs=outputs)
    task = Task(name=name, dataset=samples(n), solver=solve or generate(), scorer=scorers, version="1-b")
    return eval(task, model=model, log_dir=f"{out}/{name}", display="none", max_connections=1, **settings)[0]

log = recorded("several", [same(), parts(), some()], n=16)
write_eval_log(log, f"{out}/several.json")
recorded("epochs", [parts(), some()], n=6, epochs=3)
recorded("reduced", [same()], n=6, epochs=Epochs(3, "max"))
recorded("broken", [same()], failing(), fail_on_error=False)
recorded("halted", [same()], failing())
recorded("words", [odd()])
"""


def _once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that ``make`` has filled, once for all the workers of a test session."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    folder.mkdir(exist_ok=True)
    with (folder / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / ".made").exists():
            make(folder)
            (folder / ".made").touch()
    return folder


def _python(script: str, *arguments: str | Path, cwd: Path) -> None:
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(cwd / "hf")}
    quiet = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | offline | quiet,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def lm_eval_output(factory: pytest.TempPathFactory) -> Path:
    """Return what lm_eval wrote for the two quickstart checkpoints: one folder for each model."""
    pytest.importorskip("lm_eval", reason="lm-eval is not installed")

    def make(folder: Path) -> None:
        tasks = folder / "tasks"
        tasks.mkdir()
        for name, text in TASKS.items():
            (tasks / name).write_text(text.replace("DATA", str(QUICKSTART / "data")))
        models = [QUICKSTART / "models" / name for name in ("candidate", "baseline")]
        _python(_LM_EVAL, tasks, folder / "out", str(DOCUMENTS), *models, cwd=folder)

    return _once(factory, "lm-eval", make) / "out"


def of_model(output: Path, model: str) -> Path:
    """Return lm_eval's folder of one model."""
    return next(folder for folder in output.iterdir() if folder.name.endswith(model))


def inspect_logs(factory: pytest.TempPathFactory) -> Path:
    """Return what inspect wrote, a folder for each log."""
    pytest.importorskip("inspect_ai", reason="inspect_ai is not installed")

    def make(folder: Path) -> None:
        models = [QUICKSTART / "models" / name for name in ("candidate", "baseline")]
        _python(_INSPECT, folder, QUICKSTART / "data" / "orders.jsonl", *models, cwd=folder)

    return _once(factory, "inspect", make)


def log_of(logs: Path, name: str) -> Path:
    """Return the one log in a folder."""
    return next((logs / name).glob("*.eval"))
