"""The quickstart on a real vLLM server: the same numbers as transformers and as lm-eval, and a server that dies."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from functools import partial
from pathlib import Path

import pytest
from commands import environment, evalkit, holds, only_run, scorecard, start, stored

from evalkit.backends.vllm_command import VllmArgs
from evalkit.backends.vllm_server import VllmBackend
from evalkit.loaders.checkpoints import find_checkpoint
from evalkit.loaders.file_digests import FileDigests

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

LIMIT = 60
SAME_TEXT = 0.02
"""Largest difference of a score between backends: one greedy answer in fifty may flip on a near tie."""
SAME_NATS = 1e-3
"""Largest relative difference of a likelihood between two float32 engines."""


class Silent:
    def step(self, text):
        pass

    def advance(self, done, total, failed=0):
        pass


@pytest.fixture(scope="module")
def suite(root):
    return root / "suites/quickstart/suite.yaml"


@pytest.fixture(scope="module")
def by_transformers(suite, root, tmp_path_factory):
    out = tmp_path_factory.mktemp("transformers")
    arguments = (
        "--backend",
        "transformers",
        "--limit",
        str(LIMIT),
        "--out",
        out,
        "--baseline",
        "none",
    )
    done = evalkit("run", suite, *arguments, cwd=root)
    assert done.code in (1, 4), done.err
    return out


@pytest.fixture(scope="module")
def by_vllm(suite, root, tmp_path_factory):
    out = tmp_path_factory.mktemp("vllm")
    arguments = ("--backend", "vllm", "--limit", str(LIMIT), "--out", out, "--baseline", "none")
    done = evalkit("run", suite, *arguments, cwd=root, timeout=600)
    assert done.code in (1, 4), done.err
    return out


def values(out):
    return {(e["task"], e["metric"], e["slice"]): e["value"] for e in scorecard(out)["estimates"]}


def test_the_same_suite_gives_the_same_scores_on_transformers_and_on_vllm(by_transformers, by_vllm):
    ours, theirs = values(by_transformers), values(by_vllm)
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        if key[0] == "fluency":
            assert theirs[key] == pytest.approx(value, rel=SAME_NATS), key
        else:
            scale = 100 if key[1] in ("bleu", "chrf") else 1
            assert theirs[key] == pytest.approx(value, abs=SAME_TEXT * scale), key


def test_the_scorecard_says_which_engine_answered(by_transformers, by_vllm):
    engines = [
        scorecard(out)["provenance"]["models"]["candidate"]["engine"]
        for out in (by_transformers, by_vllm)
    ]
    assert [e["backend"] for e in engines] == ["transformers", "vllm"]
    assert all(e["dtype"] == "float32" for e in engines)
    assert scorecard(by_vllm)["provenance"]["models"]["candidate"]["pinned"]


def test_a_second_run_on_vllm_starts_no_server_and_asks_nothing(suite, root, by_vllm):
    arguments = ("--backend", "vllm", "--limit", str(LIMIT), "--out", by_vllm, "--baseline", "none")
    done = evalkit("run", suite, *arguments, cwd=root)
    assert done.code in (1, 4), done.err
    assert " 0 requests asked" in done.out.replace("\n", " ") or "\n0 requests asked" in done.out
    assert "starting vLLM" not in done.err


def server_of(parent):
    """Process ids of the vLLM server that ``parent`` started: not its guard, whose command line holds the server's."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_text()
            ours = "vllm.entrypoints.openai.api_server" in line and "server_guard" not in line
            if ours and _descends(int(path.parent.name), parent):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def _descends(pid, ancestor):
    while pid > 1:
        if pid == ancestor:
            return True
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        pid = int(fields[1])
    return False


def test_a_server_stopped_mid_run_ends_with_code_3_and_the_same_command_completes(
    suite, root, tmp_path
):
    arguments = (
        "run",
        suite,
        "--backend",
        "vllm",
        "--baseline",
        "none",
        "--out",
        tmp_path,
        "--model-arg",
        "concurrency=4",
    )
    process = start(*arguments, cwd=root)
    store = tmp_path / "answers.sqlite"
    while process.poll() is None and not holds(store, 100):
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()
    servers = server_of(process.pid)
    assert servers, "the server runs below the command"
    for pid in servers:
        os.kill(pid, signal.SIGKILL)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 3, err
    assert "the same command resumes" in err
    assert not list(tmp_path.glob("*/scorecard.json"))
    held = stored(store)
    assert held >= 100
    done = evalkit(*arguments, cwd=root, timeout=600)
    assert done.code in (1, 4), done.err
    card = json.loads((only_run(tmp_path) / "scorecard.json").read_text())
    assert card["circumstances"]["reused"] >= held
    assert card["circumstances"]["asked"] + held <= stored(store) + 8
    assert all(task["complete"] for task in card["tasks"])


TASKS = {
    "quiz": """
task: quiz
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}/units.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_choice: choices
doc_to_target: answer
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
""",
    "notes": """
task: notes
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}/notes.jsonl}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list: [{{metric: word_perplexity}}, {{metric: byte_perplexity}}, {{metric: bits_per_byte}}]
""",
}


def test_perplexity_and_multiple_choice_equal_lm_evals_on_the_same_server(suite, root, tmp_path):
    pytest.importorskip("lm_eval")
    folder = root / "suites/quickstart/models/candidate"
    find = partial(find_checkpoint, folder=root, digest_file=FileDigests(None))
    backend = VllmBackend.from_model(str(folder), VllmArgs(), find)
    with asyncio.Runner() as runner:
        runner.run(backend.open(Silent()))
        try:
            url = f"http://127.0.0.1:{backend.engine()['port']}"
            key = backend._served._client._headers["Authorization"].removeprefix("Bearer ")
            ours = _evalkit_numbers(suite, root, url, key, folder, tmp_path)
            theirs = _lm_eval_numbers(root, url, key, folder, tmp_path)
        finally:
            runner.run(backend.close())
    assert ours["acc"] == theirs["quiz"]["acc,none"]
    assert ours["acc_norm"] == theirs["quiz"]["acc_norm,none"]
    for measure in ("word_perplexity", "byte_perplexity", "bits_per_byte"):
        assert ours[measure] == pytest.approx(theirs["notes"][f"{measure},none"], rel=1e-4), measure


def _evalkit_numbers(suite, root, url, key, folder, tmp_path):
    done = evalkit(
        "run", suite, "--candidate", url, "--baseline", "none", "--out", tmp_path / "ours",
        "--model-arg", f"tokenizer={folder}", "--model-arg", "concurrency=16",
        cwd=root, EVALKIT_API_KEY=key,
    )  # fmt: skip
    assert done.code in (1, 4), done.err
    found = values(tmp_path / "ours")
    return {
        "acc": found["categorise", "multiple_choice.acc", None],
        "acc_norm": found["categorise", "multiple_choice.acc_norm", None],
        "word_perplexity": found["fluency", "perplexity.word", None],
        "byte_perplexity": found["fluency", "perplexity.byte", None],
        "bits_per_byte": found["fluency", "perplexity.bits_per_byte", None],
    }


def _lm_eval_numbers(root, url, key, folder, tmp_path):
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    for name, text in TASKS.items():
        (tasks / f"{name}.yaml").write_text(text.format(data=root / "suites/quickstart/data"))
    question = urllib.request.Request(
        f"{url}/v1/models", headers={"Authorization": f"Bearer {key}"}
    )
    with urllib.request.urlopen(question) as reply:
        served = json.load(reply)["data"][0]["id"]
    results = {}
    for task, extra in (("quiz", "add_bos_token=True"), ("notes", "custom_prefix_token_id=1")):
        arguments = (
            f"model={served},base_url={url}/v1/completions,tokenizer={folder},num_concurrent=16,max_length=512,"
            f"tokenized_requests=True,{extra}"
        )
        done = subprocess.run(
            [
                sys.executable, "-m", "lm_eval", "--model", "local-completions", "--model_args", arguments,
                "--tasks", task, "--include_path", str(tasks), "--output_path", str(tmp_path / task),
            ],
            env=environment(OPENAI_API_KEY=key, HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1",
                            HF_HOME=str(tmp_path / "hf")),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        (file,) = (tmp_path / task).rglob("results_*.json")
        results |= json.loads(file.read_text())["results"]
    return results
