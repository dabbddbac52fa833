"""The history of promotions only grows, whole line by whole line, whoever writes at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evalkit.errors import RunError, UsageError
from evalkit.store.aliases import (
    Promotion,
    aliases,
    append_promotion,
    check_alias,
    promotions,
    relative_run,
)

ROOT = Path(__file__).resolve().parents[2]


def promotion(alias: str = "production", run: str = "orders-1", **changes: object) -> Promotion:
    held = {
        "time": "2026-11-21T12:00:00+00:00",
        "alias": alias,
        "run": run,
        "scorecard": "a" * 64,
        "status": "pass",
        "exit_code": 0,
        "by": "mara",
    }
    return Promotion.model_validate({**held, **changes})


def test_without_a_history_there_are_no_aliases(tmp_path):
    assert promotions(tmp_path) == ()
    assert aliases(tmp_path / "nowhere") == {}


def test_promotions_are_read_back_in_order_and_an_alias_is_its_last_one(tmp_path):
    made = [promotion(), promotion("staging"), promotion(run="orders-2", note="né ☂")]
    for one in made:
        append_promotion(tmp_path / "reports", one)
    assert promotions(tmp_path / "reports") == tuple(made)
    assert list(aliases(tmp_path / "reports").items()) == [
        ("production", made[2]),
        ("staging", made[1]),
    ]


def test_what_was_written_is_never_changed(tmp_path):
    file = tmp_path / "aliases.jsonl"
    before = b""
    for number in range(5):
        append_promotion(tmp_path, promotion(run=f"orders-{number}"))
        content = file.read_bytes()
        assert content.startswith(before) and content.endswith(b"\n")
        before = content


def test_the_torn_line_of_a_kill_is_passed_over_and_then_removed(tmp_path):
    """It was never acknowledged; joined with the next line it would damage that one."""
    append_promotion(tmp_path, promotion())
    file = tmp_path / "aliases.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole + whole[:40])
    assert promotions(tmp_path) == (promotion(),)
    append_promotion(tmp_path, promotion("staging"))
    assert promotions(tmp_path) == (promotion(), promotion("staging"))


def test_every_damaged_line_is_told_with_its_number(tmp_path):
    append_promotion(tmp_path, promotion())
    file = tmp_path / "aliases.jsonl"
    file.write_bytes(file.read_bytes() + b'{"alias": "x"}\nnot json\n')
    with pytest.raises(UsageError) as error:
        promotions(tmp_path)
    assert {problem.line for problem in error.value.problems} == {2, 3}


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_aliases import promotion
from evalkit.store.aliases import append_promotion
for number in range(int(sys.argv[4])):
    append_promotion(Path(sys.argv[1]), promotion(sys.argv[3], run=f"run-{number}", note="x" * 5000))
    print(number, flush=True)
"""


def writer(out: Path, alias: str, times: int) -> subprocess.Popen[str]:
    arguments = [str(out), str(Path(__file__).parent), alias, str(times)]
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def test_writers_at_once_lose_nothing_and_tear_nothing(tmp_path):
    writers = [writer(tmp_path, name, 30) for name in ("a", "b", "c")]
    for process in writers:
        process.communicate(timeout=120)
        assert process.returncode == 0
    held = promotions(tmp_path)
    for name in ("a", "b", "c"):
        runs = [one.run for one in held if one.alias == name]
        assert runs == [f"run-{number}" for number in range(30)]


def test_after_kill_9_everything_acknowledged_is_there(tmp_path):
    with writer(tmp_path, "a", 10**6) as process:
        process.stdout.readline()
        time.sleep(0.03)
        process.send_signal(signal.SIGKILL)
        acknowledged = process.stdout.read().splitlines()
    held = [one.run for one in promotions(tmp_path)]
    assert held == [f"run-{number}" for number in range(len(held))]
    assert len(held) > int(acknowledged[-1] if acknowledged else 0)
    append_promotion(tmp_path, promotion("b"))
    assert aliases(tmp_path)["b"] == promotion("b")


def test_a_run_is_named_relative_to_out_so_that_both_can_move(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert relative_run(Path("reports/orders-1"), Path("reports")) == "orders-1"
    assert relative_run(tmp_path / "else/where", Path("reports")) == "../else/where"


@pytest.mark.parametrize("name", ["none", "a.jsonl", "scorecard.json", "a/b", "", "-x", "ü", "a b"])
def test_a_name_that_means_something_else_is_no_alias(name):
    with pytest.raises(UsageError, match="alias"):
        check_alias(name)


def test_names_of_releases_are_aliases():
    for name in ("production", "v1.4", "2026-11-21", "None"):
        check_alias(name)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_place_that_cannot_be_written_is_a_run_error(tmp_path):
    (tmp_path / "reports").mkdir(mode=0o500)
    with pytest.raises(RunError, match="cannot be written"):
        append_promotion(tmp_path / "reports", promotion())


def test_a_file_in_the_place_of_the_folder_is_a_run_error(tmp_path):
    (tmp_path / "reports").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        append_promotion(tmp_path / "reports", promotion())
