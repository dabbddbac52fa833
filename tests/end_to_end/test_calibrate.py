"""``evalkit calibrate``: a model against itself, over a server that repeats itself and over one that does not."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest
from commands import evalkit, start, stored
from stub_server import answer_text, running_stub

N = 40
SUITE = """
suite: words
version: 1
gates: [gate.yaml]
tasks:
  - name: words
    dataset: {path: rows.jsonl}
    prompt: "Say {{ n }}:"
    target: "{{ target }}"
    decoding: {max_tokens: 100, temperature: TEMPERATURE}
    slices: [part]
    metrics: [exact_match, chrf]
"""
GATE = """
gate: words
rules:
  - {id: no-worse, estimate: words/exact_match, require: no_worse_than, margin: 0.15}
  - {id: half-right, estimate: words/exact_match, require: at_least, value: 0.5}
"""


def write_suite(folder, temperature=0.0):
    with (folder / "rows.jsonl").open("w") as out:
        for n in range(N):
            row = {"id": f"s{n}", "n": n, "target": answer_text(f"Say {n}:").strip()}
            out.write(json.dumps({**row, "part": "even" if n % 2 == 0 else "odd"}) + "\n")
    (folder / "gate.yaml").write_text(GATE)
    (folder / "suite.yaml").write_text(SUITE.replace("TEMPERATURE", str(temperature)))
    return folder / "suite.yaml"


@pytest.fixture
def suite(tmp_path):
    return write_suite(tmp_path)


def arguments(suite, url, revision="1", k="3"):
    pinned = ("--model-arg", f"revision={revision}") if revision else ()
    command = ("calibrate", suite, "--model", url, "-k", k, *pinned, "--quiet")
    return (*command, "--model-arg", "concurrency=8")


def calibrate(suite, url, **changes):
    return evalkit(*arguments(suite, url, **changes), cwd=suite.parent)


def written(folder):
    return sorted((folder / "reports/calibrations").glob("*.json"))


def the_one(folder):
    (file,) = written(folder)
    return json.loads(file.read_text())


def floor(calibration, metric, slice_=None):
    (found,) = (
        e for e in calibration["estimates"] if e["metric"] == metric and e["slice"] == slice_
    )
    return found


def test_a_server_that_repeats_itself_has_no_noise_and_a_second_call_asks_nothing(suite, tmp_path):
    with running_stub(tmp_path / "stub") as stub:
        done = calibrate(suite, stub.url)
        assert done.code == 0, done.err
        assert "its noise floor is 0" in done.out.replace("\n", " ")
        assert len(stub.asked()) == 3 * N, "each repetition asks everything anew"
        before = written(tmp_path)
        again = calibrate(suite, stub.url)
        assert again.code == 0, again.err
        assert len(stub.asked()) == 3 * N
        more = calibrate(suite, stub.url, k="4")
        assert more.code == 0, more.err
        assert len(stub.asked()) == 4 * N, "a fourth repetition is all that is asked"
    assert len(before) == 1 and before[0] in written(tmp_path) and len(written(tmp_path)) == 2
    card = json.loads(before[0].read_text())
    assert {e["range"] for e in card["estimates"]} == {0.0}
    assert [(a["differing"], a["samples"]) for a in card["answers"]] == [(0.0, N)]
    assert card["verdicts"]["flips"] == 0
    assert {r["passed"] for r in card["rules"]} == {6}


def test_drawn_answers_keep_their_seeds_so_that_only_the_engine_can_differ(tmp_path):
    suite = write_suite(tmp_path, temperature=0.7)
    with running_stub(tmp_path / "stub") as stub:
        done = calibrate(suite, stub.url, k="2")
        assert done.code == 0, done.err
        seeds = [entry["body"]["seed"] for entry in stub.asked()]
    assert sorted(seeds[:N]) == sorted(seeds[N:]) and len(set(seeds)) == N
    assert the_one(tmp_path)["answers"][0]["differing"] == 0


def test_an_interrupted_calibration_is_resumed_by_the_same_command(suite, tmp_path):
    with running_stub(tmp_path / "stub", latency_ms=10) as stub:
        process = start(*arguments(suite, stub.url), cwd=tmp_path)
        while len(stub.asked()) < N + 10 and process.poll() is None:
            time.sleep(0.005)
        assert process.poll() is None, process.communicate()
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert not (tmp_path / "reports/calibrations").exists()
        held, before = stored(tmp_path / "reports/answers.sqlite"), len(stub.asked())
        assert held >= N
        done = calibrate(suite, stub.url)
        assert done.code == 0, done.err
        assert len(stub.asked()) - before == 3 * N - held, "what was answered is not asked again"


def test_what_changes_between_repetitions_is_measured_as_noise(suite, tmp_path):
    # For the third repetition another server stands in, which answers eight samples differently.
    changed = {f"Say {n}:": " something else" for n in range(8)}
    with running_stub(tmp_path / "first") as stub:
        assert calibrate(suite, stub.url, k="2").code == 0
    (without,) = written(tmp_path)
    with running_stub(tmp_path / "second", answers=changed) as stub:
        done = calibrate(suite, stub.url, k="3")
        assert done.code == 0, done.err
        assert len(stub.asked()) == N, "the first two repetitions are not asked again"
    (file,) = set(written(tmp_path)) - {without}
    card = json.loads(file.read_text())
    assert (card["circumstances"]["asked"], card["circumstances"]["reused"]) == (N, 2 * N)
    whole, even = floor(card, "exact_match"), floor(card, "exact_match", "part=even")
    # Repetition 3 differs from 1 and 2 in 8 of 40 samples, 1 and 2 not at all.
    assert whole["values"] == [1.0, 1.0, 0.8] and even["values"] == [1.0, 1.0, 0.8]
    assert whole["range"] == pytest.approx(0.2)
    assert whole["sd"] == pytest.approx(0.2 / 3**0.5)
    assert whole["discordance"] == pytest.approx(0.2 * 2 / 3)
    assert floor(card, "chrf")["discordance"] is None and floor(card, "chrf")["range"] > 0
    (answers,) = card["answers"]
    assert answers["differing"] == pytest.approx(0.2 * 2 / 3)
    assert answers["unstable"] == pytest.approx(0.2)
    rules = {r["rule"]: r for r in card["rules"]}
    assert (rules["half-right"]["passed"], rules["half-right"]["failed"]) == (6, 0)
    # 8 of 40 lost at a margin of 15 %: undecided; nothing lost, or 8 gained: passed.
    no_worse = rules["no-worse"]
    assert (no_worse["passed"], no_worse["undecided"]) == (4, 2)
    assert card["verdicts"]["inconclusive"] == 2
    shown = evalkit("calibrate", "--show", file, cwd=tmp_path)
    assert shown.code == 0, shown.err
    assert "13.33%" in shown.out and "no-worse" in shown.out
    assert "up to 13.33% of a task's samples differently" in " ".join(shown.out.split())


def test_without_a_stated_revision_a_finished_calibration_is_asked_anew(suite, tmp_path):
    with running_stub(tmp_path / "stub") as stub:
        for round_ in (1, 2):
            done = calibrate(suite, stub.url, revision=None, k="2")
            assert done.code == 0, done.err
            assert len(stub.asked()) == round_ * 2 * N, "nobody knows the weights are the same"


def test_too_few_answers_end_with_code_3_and_say_so(suite, tmp_path):
    with running_stub(tmp_path / "stub", faults=[f"400@{n}" for n in range(1, 5)]) as stub:
        done = calibrate(suite, stub.url, k="2")
    assert done.code == 3, done.out + done.err
    assert "repetition 1" in " ".join(done.out.split())
    card = the_one(tmp_path)
    assert card["incomplete"] == [1]
    assert card["verdicts"]["incomplete"] == 2


def test_wrong_commands_say_what_is_wrong(suite, tmp_path):
    neither = evalkit("calibrate", cwd=tmp_path)
    assert neither.code == 2 and "--show" in neither.err
    no_model = evalkit("calibrate", suite, cwd=tmp_path)
    assert no_model.code == 2 and "--model" in no_model.err
    once = evalkit("calibrate", suite, "-k", "1", cwd=tmp_path)
    assert once.code == 2
    no_calibration = evalkit("calibrate", "--show", tmp_path / "gate.yaml", cwd=tmp_path)
    assert no_calibration.code == 2 and "not JSON" in no_calibration.err
