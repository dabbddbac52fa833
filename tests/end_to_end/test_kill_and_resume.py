"""A run killed at any moment is resumed by the same command, and ends in the same scorecard."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest
from commands import evalkit, holds, only_run, scorecard, start, stored
from stub_server import answer_text, running_stub

N = 400
IN_FLIGHT = 8
LOST_AT_MOST = IN_FLIGHT + 60
"""Requests under way, and answers that arrived in the 20 ms (doubled for a busy machine) before they are durable."""

SUITE = """
suite: killed
version: 1
tasks:
  - name: words
    dataset: {path: rows.jsonl}
    prompt: "Say {{ n }}:"
    target: "{{ target }}"
    decoding: {max_tokens: 100}
    slices: [part]
    metrics: [exact_match, chrf, {rouge: {variants: [rougeL]}}]
"""


@pytest.fixture
def suite(tmp_path):
    with (tmp_path / "rows.jsonl").open("w") as out:
        for n in range(N):
            target = answer_text(f"Say {n}:") if n % 3 else "something else"
            row = {"id": f"s{n}", "n": n, "target": target, "part": "even" if n % 2 == 0 else "odd"}
            out.write(json.dumps(row) + "\n")
    (tmp_path / "suite.yaml").write_text(SUITE)
    return tmp_path / "suite.yaml"


def arguments(suite, url, out):
    extra = ("--model-arg", "revision=1", "--model-arg", f"concurrency={IN_FLIGHT}")
    return ("run", suite, "--candidate", url, *extra, "--out", out, "--quiet")


@pytest.fixture
def reference(suite, tmp_path):
    with running_stub(tmp_path / "calm") as stub:
        done = evalkit(*arguments(suite, stub.url, tmp_path / "calm-out"), cwd=tmp_path)
    assert done.code == 4, done.err  # no gate: nothing is decided
    return tmp_path / "calm-out"


def test_killed_at_several_points_it_asks_only_what_is_missing(suite, tmp_path, reference):
    out = tmp_path / "out"
    with running_stub(tmp_path / "stub", latency_ms=20) as stub:
        for kill_at in (1, 90, 200, 330):
            process = start(*arguments(suite, stub.url, out), cwd=tmp_path)
            while len(stub.asked()) < kill_at and process.poll() is None:
                time.sleep(0.005)
            assert process.poll() is None, process.communicate()
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            assert not list(out.glob("*/scorecard.json")), "a killed run leaves no scorecard"
            assert not list(out.glob("*/verdict.json"))
            held, before = stored(out / "answers.sqlite"), len(stub.asked())
            assert before - held <= LOST_AT_MOST * (1 + (1, 90, 200, 330).index(kill_at))
        done = evalkit(*arguments(suite, stub.url, out), cwd=tmp_path)
        assert done.code == 4, done.err
        assert len(stub.asked()) - before == N - held, "what was answered is not asked again"
    assert scorecard(out) == scorecard(reference)
    assert (only_run(out) / "samples.jsonl").read_bytes() == (
        only_run(reference) / "samples.jsonl"
    ).read_bytes()


def test_a_second_run_asks_nothing_and_writes_the_same_bytes(suite, tmp_path, reference):
    before = (only_run(reference) / "samples.jsonl").read_bytes()
    card = scorecard(reference)
    with running_stub(tmp_path / "again") as stub:
        done = evalkit(*arguments(suite, stub.url, reference), cwd=tmp_path)
        assert done.code == 4, done.err
        assert stub.asked() == []
    assert scorecard(reference) == card
    assert (only_run(reference) / "samples.jsonl").read_bytes() == before


def test_a_server_that_dies_mid_run_ends_it_with_code_3_and_nothing_lost(
    suite, tmp_path, reference
):
    out = tmp_path / "out"
    with running_stub(tmp_path / "dying", faults=["exit@150"], latency_ms=5) as stub:
        done = evalkit(*arguments(suite, stub.url, out), cwd=tmp_path)
        answered = len(stub.asked())
    assert done.code == 3, done.err
    assert "the same command resumes" in done.err
    held = stored(out / "answers.sqlite")
    assert answered - IN_FLIGHT <= held <= answered
    assert not list(out.glob("*/scorecard.json"))
    with running_stub(tmp_path / "restarted") as stub:  # another port: the identity is the model's
        done = evalkit(*arguments(suite, stub.url, out), cwd=tmp_path)
        assert done.code == 4, done.err
        assert len(stub.asked()) == N - held
    assert scorecard(out) == scorecard(reference)


def test_interrupted_by_ctrl_c_or_sigterm_it_says_so_with_code_130(suite, tmp_path):
    for number in (signal.SIGINT, signal.SIGTERM):
        with running_stub(tmp_path / f"stub-{number}", latency_ms=50) as stub:
            process = start(*arguments(suite, stub.url, tmp_path / f"out-{number}"), cwd=tmp_path)
            while len(stub.asked()) < 40 and process.poll() is None:
                time.sleep(0.01)
            process.send_signal(number)
            _, err = process.communicate(timeout=30)
            asked = len(stub.asked())
        assert process.returncode == 130, err
        assert "the same command resumes" in err
        assert stored(tmp_path / f"out-{number}" / "answers.sqlite") >= asked - IN_FLIGHT


def test_without_a_stated_revision_answers_serve_one_run_even_a_killed_one(suite, tmp_path):
    out = tmp_path / "out"
    with running_stub(tmp_path / "stub", latency_ms=20) as stub:
        command = (
            "run",
            suite,
            "--candidate",
            stub.url,
            "--model-arg",
            f"concurrency={IN_FLIGHT}",
            "--out",
            out,
        )
        process = start(*command, cwd=tmp_path)
        while len(stub.asked()) < 150 and process.poll() is None:
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        held, before = stored(out / "answers.sqlite"), len(stub.asked())
        assert held > 0
        assert evalkit(*command, cwd=tmp_path).code == 4
        assert len(stub.asked()) - before == N - held, "the killed run is resumed"
        before = len(stub.asked())
        assert evalkit(*command, cwd=tmp_path).code == 4
        assert len(stub.asked()) - before == N, (
            "a new run asks anew: nobody knows the weights are the same"
        )
    folders = sorted(path.name for path in out.iterdir() if path.is_dir())
    assert len(folders) == 2 and folders[1] == f"{folders[0]}-2"
    model = json.loads((out / folders[0] / "scorecard.json").read_text())["provenance"]["models"][
        "candidate"
    ]
    assert model["pinned"] is False


def test_two_runs_may_share_one_store(suite, tmp_path):
    with running_stub(tmp_path / "stub", latency_ms=10) as stub:
        outs = [tmp_path / "one", tmp_path / "two"]
        shared = ("--store", tmp_path / "shared.sqlite")
        processes = [start(*arguments(suite, stub.url, out), *shared, cwd=tmp_path) for out in outs]
        for process in processes:
            _, err = process.communicate(timeout=120)
            assert process.returncode == 4, err
        assert len(stub.asked()) <= 2 * N
    assert stored(tmp_path / "shared.sqlite") == N
    assert scorecard(outs[0]) == scorecard(outs[1])


def test_a_killed_run_of_a_checkpoint_resumes_to_the_same_scorecard(root, tmp_path):
    suite = root / "suites/quickstart/suite.yaml"

    def command(out):
        return ("run", suite, "--backend", "transformers", "--limit", "70", "--out", out, "--quiet")

    calm = evalkit(*command(tmp_path / "calm"), cwd=root)
    out = tmp_path / "out"
    process = start(*command(out), cwd=root)
    while process.poll() is None and not holds(out / "answers.sqlite", 150):
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    done = evalkit(*command(out), cwd=root)
    assert done.code == calm.code, done.err
    assert scorecard(out) == scorecard(tmp_path / "calm")
    assert (only_run(out) / "samples.jsonl").read_bytes() == (
        only_run(tmp_path / "calm") / "samples.jsonl"
    ).read_bytes()
