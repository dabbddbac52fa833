"""Run folders hold one run's results, whole, or say that they do not."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.errors import RunError, UsageError
from evalkit.records.scorecard import (
    Circumstances,
    Counts,
    Estimate,
    Interval,
    Provenance,
    Scorecard,
)
from evalkit.records.verdict import Verdict
from evalkit.store.runs import RunFolder, read_scorecard, read_verdict, write_verdict
from evalkit.store.tables import read_weights

ROOT = Path(__file__).resolve().parents[2]


def scorecard(value: float = 0.5, name: str = "orders", slice_: str | None = None) -> Scorecard:
    counts = Counts(planned=10, completed=9, failed=1, scored=8, unscored=1)
    interval = Interval(low=0.1, high=0.9, level=0.95, method="wilson")
    estimate = Estimate(
        model="candidate",
        task="extract",
        metric="exact_match",
        slice=slice_,
        value=value,
        interval=interval,
        counts=counts,
        unit="fraction",
        better="higher",
        signature="exact_match|v:1",
    )
    provenance = Provenance(
        suite=name,
        suite_version=1,
        suite_digest="0" * 64,
        models={},
        datasets={"extract": "1" * 64},
        seed=0,
        versions={"evalkit": "0.1.0"},
    )
    circumstances = Circumstances(
        started="2026-11-20T12:00:00+00:00",
        finished="2026-11-20T12:01:00+00:00",
        command=("evalkit", "run"),
        git_commit=None,
        hardware={"cores": 2, "gib": 24.0},
        host={},
        asked=3,
        reused=7,
        seconds=60.0,
    )
    card = Scorecard(
        provenance=provenance,
        estimates=(estimate,),
        comparisons=(),
        tasks=(),
        circumstances=circumstances,
    )
    return card.sealed()


def verdict(of: Scorecard, reason: str = "all is well") -> Verdict:
    return Verdict(
        status="pass", exit_code=0, scorecard=of.digest, gates={}, reason=reason, outcomes=()
    )


def finish(folder: RunFolder) -> None:
    with folder, folder.write_samples() as write:
        write({"id": "1"})
    folder.write_text("report.html", "<p>old</p>")
    folder.write_verdict(verdict(scorecard()))
    folder.write_scorecard(scorecard())


def shown(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def test_a_new_folder_says_when_and_by_which_command_it_was_started(tmp_path):
    with RunFolder.create(tmp_path / "reports", "orders-1", command=["evalkit", "run"]) as folder:
        state = json.loads((folder.path / "run.json").read_bytes())
    assert folder.path == tmp_path / "reports" / "orders-1"
    assert state["command"] == ["evalkit", "run"]
    assert state["started"].endswith("+00:00")
    assert state["salt"] == folder.salt
    assert shown(folder.path) == {"run.json"}


def test_the_command_is_this_process_s_own_if_none_is_given(tmp_path):
    with RunFolder.create(tmp_path, "a") as folder:
        assert json.loads((folder.path / "run.json").read_bytes())["command"] == sys.argv


def test_every_run_has_its_own_salt(tmp_path):
    salts = set()
    for name in "abc":
        with RunFolder.create(tmp_path, name) as folder:
            salts.add(folder.salt)
            assert len(bytes.fromhex(folder.salt)) == 16
    assert len(salts) == 3


def test_an_incomplete_run_keeps_its_salt_when_it_is_resumed(tmp_path):
    with RunFolder.create(tmp_path, "a") as first:
        first.write_verdict(verdict(scorecard()))
    with RunFolder.create(tmp_path, "a", fresh_if_finished=True) as second:
        assert second.path == first.path
        assert second.salt == first.salt


def test_a_finished_run_is_kept_when_a_fresh_one_is_asked_for(tmp_path):
    salts = []
    for number in range(3):
        folder = RunFolder.create(tmp_path, "a", fresh_if_finished=True)
        assert folder.path.name == ["a", "a-2", "a-3"][number]
        salts.append(folder.salt)
        finish(folder)
    assert len(set(salts)) == 3
    assert "report.html" in shown(tmp_path / "a")


def test_an_incomplete_fresh_run_is_resumed_where_it_was(tmp_path):
    finish(RunFolder.create(tmp_path, "a", fresh_if_finished=True))
    with RunFolder.create(tmp_path, "a", fresh_if_finished=True) as interrupted:
        pass
    with RunFolder.create(tmp_path, "a", fresh_if_finished=True) as resumed:
        assert resumed.path.name == "a-2"
        assert resumed.salt == interrupted.salt


def test_rewriting_a_finished_run_begins_with_nothing_of_the_old_one(tmp_path):
    finish(RunFolder.create(tmp_path, "a"))
    (tmp_path / "a" / "my-notes.txt").write_text("mine")
    with RunFolder.create(tmp_path, "a") as folder:
        assert shown(folder.path) == {"run.json", "my-notes.txt"}


def test_the_verdict_goes_first_when_a_run_is_rewritten(tmp_path, monkeypatch):
    """Whatever the moment of a kill, no old verdict lies beside new samples."""
    finish(RunFolder.create(tmp_path, "a"))
    gone: list[str] = []
    unlink = Path.unlink
    monkeypatch.setattr(
        Path, "unlink", lambda self, **more: (gone.append(self.name), unlink(self, **more))[1]
    )
    with RunFolder.create(tmp_path, "a"):
        pass
    gone = [name for name in gone if not name.startswith(".")]
    assert gone[:2] == ["verdict.json", "scorecard.json"]
    assert "samples.jsonl" in gone


def test_two_runs_do_not_write_into_one_folder(tmp_path):
    with (
        RunFolder.create(tmp_path, "a"),
        pytest.raises(RunError, match="another evalkit run is writing") as error,
    ):
        RunFolder.create(tmp_path, "a")
    assert "wait" in error.value.advice
    RunFolder.create(tmp_path, "a").close()


HOLDER = """
import sys
from pathlib import Path
from evalkit.store.runs import RunFolder
folder = RunFolder.create(Path(sys.argv[1]), "a")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_killed_process_holds_no_folder(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunError, match="another evalkit run"):
            RunFolder.create(tmp_path, "a")
        holder.send_signal(signal.SIGKILL)
    RunFolder.create(tmp_path, "a").close()


# Runs over and over in one folder; run n writes n into every file.
RUNNER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_runs import scorecard, verdict
from evalkit.store.runs import RunFolder
for n in range(10**9):
    print(n, flush=True)
    with RunFolder.create(Path(sys.argv[1]), "a") as folder:
        with folder.write_samples() as write:
            for k in range(2000):
                write({"run": n, "row": k})
        card = scorecard(name=f"run-{n}")
        folder.write_verdict(verdict(card, reason=str(n)))
        folder.write_scorecard(card)
"""


@pytest.mark.parametrize("seed", range(6))
def test_after_kill_9_a_folder_never_mixes_two_runs(tmp_path, seed):
    command = [sys.executable, "-c", RUNNER, str(tmp_path), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as runner:
        chance = random.Random(seed)
        for _ in range(chance.randint(2, 10)):
            runner.stdout.readline()
        time.sleep(chance.random() * 0.02)
        runner.send_signal(signal.SIGKILL)
    path = tmp_path / "a"
    found = shown(path)
    runs = set()
    if "samples.jsonl" in found:
        rows = [json.loads(line) for line in (path / "samples.jsonl").read_bytes().splitlines()]
        assert [row["row"] for row in rows] == list(range(2000))
        runs |= {str(row["run"]) for row in rows}
    if "verdict.json" in found:
        runs.add(read_verdict(path).reason)
        assert "samples.jsonl" in found
    if "scorecard.json" in found:
        card = read_scorecard(path)
        runs.add(card.provenance.suite.removeprefix("run-"))
        if "verdict.json" in found:
            assert read_verdict(path).scorecard == card.digest
    assert len(runs) <= 1
    RunFolder.create(tmp_path, "a").close()


def test_samples_appear_when_all_are_written(tmp_path):
    with RunFolder.create(tmp_path, "a") as folder:
        with folder.write_samples() as write:
            write({"id": "1", "answer": "né", "score": 0.1, "none": None})
            write({"id": "2", "answer": "a\nb", "score": 1.0, "none": None})
            assert shown(folder.path) == {"run.json"}
        assert (folder.path / "samples.jsonl").read_bytes() == (
            '{"id":"1","answer":"né","score":0.1,"none":null}\n'
            '{"id":"2","answer":"a\\nb","score":1.0,"none":null}\n'
        ).encode()


def test_samples_of_an_interrupted_run_do_not_appear(tmp_path):
    with RunFolder.create(tmp_path, "a") as folder:
        with pytest.raises(KeyboardInterrupt), folder.write_samples() as write:
            write({"id": "1"})
            raise KeyboardInterrupt
        assert [path.name for path in folder.path.iterdir() if "samples" in path.name] == []


@given(
    st.lists(
        st.dictionaries(
            st.text(max_size=5),
            st.none()
            | st.booleans()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.integers(-(2**70), 2**70)
            | st.text(st.characters(codec=None, exclude_categories=()), max_size=20),
            max_size=4,
        ),
        max_size=4,
    )
)
def test_every_sample_reads_back_as_it_was_written(tmp_path_factory, rows):
    """Any text, lone surrogates too; any finite number, exactly; one line each; keys in order."""
    with RunFolder.create(tmp_path_factory.mktemp("runs"), "a") as folder:
        with folder.write_samples() as write:
            for row in rows:
                write(row)
        content = (folder.path / "samples.jsonl").read_bytes()
    assert content.count(b"\n") == len(rows)
    back = [json.loads(line) for line in content.split(b"\n")[:-1]]
    assert [list(row.items()) for row in back] == [list(row.items()) for row in rows]


def test_weights_read_back_as_they_were_written_and_not_when_they_were_changed(tmp_path):
    rows = [{"tensor": "a", "value": 0.1 + 0.2}, {"tensor": "b", "value": None}]
    with RunFolder.create(tmp_path, "a") as folder:
        assert folder.weights_digest == ""
        folder.write_weights(iter(rows))
    held = (folder.path / "weights.jsonl").read_bytes()
    assert folder.weights_digest == hashlib.sha256(held).hexdigest()
    assert list(read_weights(folder.path, folder.weights_digest)) == rows
    (folder.path / "weights.jsonl").write_bytes(held.replace(b"0.3", b"0.2"))
    with pytest.raises(UsageError, match="the weights were changed after the run"):
        list(read_weights(folder.path, folder.weights_digest))
    (folder.path / "weights.jsonl").unlink()
    with pytest.raises(UsageError, match="the run's weights were removed"):
        list(read_weights(folder.path, folder.weights_digest))


def test_weights_of_an_earlier_run_are_gone_when_a_new_one_begins(tmp_path):
    with RunFolder.create(tmp_path, "a") as folder:
        folder.write_weights([{"tensor": "a"}])
    with RunFolder.create(tmp_path, "a") as folder:
        assert not (folder.path / "weights.jsonl").exists()


def test_a_scorecard_reads_back_from_folder_and_file(tmp_path):
    with RunFolder.create(tmp_path, "a") as folder:
        folder.write_scorecard(scorecard(0.1 + 0.2))
    assert read_scorecard(folder.path) == scorecard(0.1 + 0.2)
    assert read_scorecard(folder.path / "scorecard.json") == scorecard(0.1 + 0.2)


@given(st.floats(allow_nan=False, allow_infinity=False), st.text(st.characters(codec=None)))
def test_whatever_a_scorecard_says_its_digest_fits_after_reading(tmp_path_factory, value, name):
    with RunFolder.create(tmp_path_factory.mktemp("runs"), "a") as folder:
        folder.write_scorecard(scorecard(value, slice_=name))
    back = read_scorecard(folder.path)
    assert back.estimates[0].value == value
    assert back.estimates[0].slice == name


def test_the_same_scorecard_is_written_as_the_same_bytes_and_for_people_to_read(tmp_path):
    contents = set()
    for name in ("a", "b"):
        with RunFolder.create(tmp_path, name) as folder:
            folder.write_scorecard(scorecard())
        contents.add((folder.path / "scorecard.json").read_bytes())
    (content,) = contents
    assert content.startswith(b'{\n  "format": 1,\n  "digest": "')
    assert content.endswith(b"}\n")
    assert list(json.loads(content)) == list(Scorecard.model_fields)


def test_a_scorecard_without_its_digest_is_never_written(tmp_path):
    with RunFolder.create(tmp_path, "a") as folder, pytest.raises(AssertionError, match="sealed"):
        folder.write_scorecard(scorecard().model_copy(update={"digest": ""}))


def test_a_scorecard_that_was_changed_is_refused(tmp_path):
    finish(RunFolder.create(tmp_path, "a"))
    file = tmp_path / "a" / "scorecard.json"
    file.write_bytes(file.read_bytes().replace(b'"value": 0.5', b'"value": 0.9'))
    with pytest.raises(UsageError, match="changed after it was written") as error:
        read_scorecard(tmp_path / "a")
    assert error.value.problems[0].file == str(file)


class LaterScorecard(Scorecard):
    """What a later version may know, with a default."""

    added: str = ""


def test_a_scorecard_from_before_a_field_was_added_is_still_itself():
    card = scorecard().sealed()
    read = LaterScorecard.model_validate(card.model_dump(mode="json"))
    assert read.computed_digest() == card.digest
    assert read.model_copy(update={"added": "x"}).computed_digest() != card.digest


def test_circumstances_may_be_edited_without_changing_what_was_measured(tmp_path):
    finish(RunFolder.create(tmp_path, "a"))
    file = tmp_path / "a" / "scorecard.json"
    file.write_bytes(file.read_bytes().replace(b'"seconds": 60.0', b'"seconds": 61.0'))
    assert read_scorecard(file).circumstances.seconds == 61


@pytest.mark.parametrize(
    ("content", "key", "message"),
    [
        (b"", "", "not JSON"),
        (b'{"format": 1,\n"digest": }', "", "not JSON"),
        (b'{"format": NaN}', "", "NaN is no number"),
        (b"\xff\xfe", "", "not JSON"),
        (b"[]", "", "valid dictionary"),
        (b'{"format": 2}', "format", "newer evalkit"),
        (b'{"format": 1}', "provenance", "required"),
        (b'{"format": 1, "estimates": [{"value": "high"}]}', "estimates[0].value", "number"),
    ],
)
def test_what_is_no_scorecard_is_refused_with_all_that_is_wrong(tmp_path, content, key, message):
    file = tmp_path / "scorecard.json"
    file.write_bytes(content)
    with pytest.raises(UsageError) as error:
        read_scorecard(file)
    assert [p for p in error.value.problems if p.key == key and message in p.message]
    assert all(problem.file == str(file) for problem in error.value.problems)


def test_a_mistake_in_the_json_is_shown_by_its_line(tmp_path):
    file = tmp_path / "scorecard.json"
    file.write_bytes(b'{"format": 1,\n\n"digest": }')
    with pytest.raises(UsageError) as error:
        read_scorecard(file)
    assert error.value.problems[0].line == 3


def test_a_folder_without_a_run_is_told_from_a_run_that_is_not_finished(tmp_path):
    with pytest.raises(UsageError, match="no run's folder"):
        read_scorecard(tmp_path)
    with RunFolder.create(tmp_path, "a") as folder, pytest.raises(UsageError, match="not finished"):
        read_scorecard(folder.path)


def test_a_verdict_reads_back_and_can_be_replaced_later(tmp_path):
    finish(RunFolder.create(tmp_path, "a"))
    assert read_verdict(tmp_path / "a").reason == "all is well"
    write_verdict(tmp_path / "a", verdict(scorecard(), "decided again"))
    assert read_verdict(tmp_path / "a" / "verdict.json").reason == "decided again"


def test_a_report_is_written_as_utf_8_whatever_the_model_said(tmp_path):
    with RunFolder.create(tmp_path, "a") as folder:
        folder.write_text("summary.md", "né \ud800\n")
        assert (folder.path / "summary.md").read_bytes() == "né ?\n".encode()


@pytest.mark.parametrize("name", ["../outside.html", "/etc/report.html", "a/b", "", ".."])
def test_a_report_stays_in_its_folder(tmp_path, name):
    with RunFolder.create(tmp_path, "a") as folder, pytest.raises(AssertionError, match="plain"):
        folder.write_text(name, "text")


def test_a_damaged_run_file_is_a_run_error_with_advice(tmp_path):
    RunFolder.create(tmp_path, "a").close()
    (tmp_path / "a" / "run.json").write_text('{"salt": ""}')
    with pytest.raises(RunError, match=r"run\.json is damaged") as error:
        RunFolder.create(tmp_path, "a")
    assert "remove the folder" in error.value.advice
    (tmp_path / "a" / "run.json").unlink()
    RunFolder.create(tmp_path, "a").close()


def test_another_kind_of_file_is_refused_in_one_sentence(tmp_path):
    with RunFolder.create(tmp_path, "a") as folder:
        folder.write_verdict(verdict(scorecard()))
        with pytest.raises(UsageError, match="this is no scorecard: it lacks") as error:
            read_scorecard(folder.path / "verdict.json")
    assert len(error.value.problems) == 1


def test_an_older_format_says_how_to_get_a_newer_one(tmp_path):
    (tmp_path / "scorecard.json").write_text('{"format": 0}')
    with pytest.raises(UsageError, match="older evalkit; run the command that wrote it again"):
        read_scorecard(tmp_path)


def test_a_place_that_cannot_be_written_is_a_run_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written") as error:
        RunFolder.create(tmp_path / "file", "a")
    assert "write elsewhere" in error.value.advice


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk always full")
def test_a_full_disk_is_a_run_error_and_leaves_no_half_written_file(tmp_path):
    with RunFolder.create(tmp_path, "a") as folder:
        partial = folder.path / ".samples.jsonl.partial"
        partial.symlink_to("/dev/full")
        with (
            pytest.raises(RunError, match="No space left on device") as error,
            folder.write_samples() as write,
        ):
            for _ in range(100_000):
                write({"id": "x" * 50})
        assert "free some space" in error.value.advice
        assert not partial.is_symlink()
        assert shown(folder.path) == {"run.json"}


def test_an_error_of_the_caller_s_own_is_not_taken_for_the_disk_s(tmp_path):
    with (
        RunFolder.create(tmp_path, "a") as folder,
        pytest.raises(ConnectionResetError),
        folder.write_samples(),
    ):
        raise ConnectionResetError(os.strerror(104))
