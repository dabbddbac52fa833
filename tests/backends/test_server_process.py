"""A server never outlives the process that wanted it. The servers here are small programs that behave badly."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evalkit.backends.server_process import ServerProcess, clean, ending, telling_line
from evalkit.errors import RunError

# A server with a child that ignores SIGTERM and another that made a session of its own; writes down the ids.
FAMILY = """
import os, signal, subprocess, sys, time
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
stubborn += "; print('up', flush=True); time.sleep(600)"
children = [
    subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE),
    subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE, start_new_session=True),
]
for child in children:
    child.stdout.readline()
with open(sys.argv[1] + ".part", "w") as out:
    out.write(" ".join(str(p) for p in [os.getpid(), *(c.pid for c in children)]))
os.rename(sys.argv[1] + ".part", sys.argv[1])
time.sleep(600)
"""

PARENT = """
import sys, time
from evalkit.backends.server_process import ServerProcess
process = ServerProcess(sys.argv[1:], {}, grace_s=0.5)
process.start()
print(process.log, flush=True)
time.sleep(600)
"""


def wait_for(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # gone, or going while it is read
        return False


def family_of(note: Path):
    return [int(pid) for pid in wait_for(lambda: note.exists() and note.read_text()).split()]


def started(*command, grace_s=0.5, **environment):
    process = ServerProcess([sys.executable, *command], environment, grace_s)
    process.start()
    return process


linux = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")


@linux
def test_stopping_ends_the_whole_family(tmp_path):
    note = tmp_path / "pids"
    process = started("-c", FAMILY, str(note))
    pids = family_of(note)
    assert all(map(alive, pids))
    asyncio.run(process.stop())
    assert not any(map(alive, pids))
    assert not process.log.exists()


@linux
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_server_goes_when_its_parent_is_killed(tmp_path, root, number):
    note = tmp_path / "pids"
    command = [sys.executable, "-c", PARENT, sys.executable, "-c", FAMILY, str(note)]
    # SIGINT goes to the whole foreground group, as Ctrl-C does; here the parent's group holds it alone.
    parent = subprocess.Popen(
        command,
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with parent:
        folder = Path(os.fsdecode(parent.stdout.readline().strip())).parent
        pids = family_of(note)
        assert folder.is_dir()
        os.killpg(parent.pid, number)
        parent.communicate()
    wait_for(lambda: not any(map(alive, pids)))
    wait_for(lambda: not folder.exists())


@linux
def test_a_server_goes_when_its_guard_is_killed(tmp_path):
    note = tmp_path / "pids"
    process = started("-c", FAMILY, str(note))
    server = family_of(note)[0]
    guard = int(Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(guard, signal.SIGKILL)
    wait_for(lambda: not alive(server))
    assert wait_for(process.ended) == -signal.SIGKILL
    asyncio.run(process.stop())
    for left in family_of(note)[1:]:  # nobody adopts them for us here
        os.kill(left, signal.SIGKILL)


@linux
def test_what_a_dead_server_leaves_behind_is_stopped(tmp_path):
    note = tmp_path / "pids"
    process = started("-c", FAMILY, str(note))
    server, *children = family_of(note)
    os.kill(server, signal.SIGKILL)
    assert wait_for(process.ended) == -signal.SIGKILL
    wait_for(lambda: not any(map(alive, children)))
    asyncio.run(process.stop())


def test_how_a_server_ended_and_what_it_said_is_known():
    process = started("-c", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)")
    assert wait_for(process.ended) == 3
    assert sorted(process.tail()) == ["err", "out"]
    asyncio.run(process.stop(keep_log=True))
    assert process.log.exists()
    process.log.unlink()
    process.log.parent.rmdir()


def test_a_server_that_ended_well_is_not_taken_for_a_running_one():
    process = started("-c", "pass")
    wait_for(lambda: process.ended() is not None)
    assert process.ended() == 0
    asyncio.run(process.stop())


def test_a_running_server_has_not_ended():
    process = started("-c", "import time; time.sleep(600)")
    assert process.ended() is None
    asyncio.run(process.stop())
    asyncio.run(process.stop())


def test_a_servers_folder_leaves_room_for_the_paths_of_sockets(monkeypatch, tmp_path):
    long = tmp_path / ("x" * 60)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    process = started("-c", "pass")
    assert len(str(process.log)) < 60
    asyncio.run(process.stop())


def test_a_command_that_cannot_be_run_is_a_run_error(tmp_path):
    process = ServerProcess([str(tmp_path / "nowhere")], {})
    with pytest.raises(RunError, match="nowhere"):
        process.start()
    asyncio.run(process.stop())


def test_a_server_gets_its_environment_and_a_folder_of_its_own():
    show = "import os; print(os.environ['SECRET'], os.getcwd() == os.environ['TMPDIR'], flush=True)"
    process = started("-c", show, SECRET="s3")
    wait_for(lambda: process.ended() is not None)
    assert process.tail() == ["s3 True"]
    asyncio.run(process.stop())


# Lines of vLLM 0.32 logs.
PREFIX = "(EngineCore pid=9386) ERROR 11-20 14:31:44 [core.py:1104] "


def test_lines_are_shown_without_prefix_and_control_characters():
    assert clean(PREFIX + "ValueError: no\x1b[31m way\x1b[0m\x07 \r") == "ValueError: no way"
    assert clean("(APIServer pid=1) INFO 11-20 14:32:33 [launcher.py:186] Routes:") == "Routes:"
    assert clean("\x1b]0;title\x07plain") == "plain"
    assert clean("   indented") == "   indented"


def test_a_progress_bar_is_one_line(tmp_path):
    process = started("-c", r"print('a\rb\r100%'); print(); print('x\r')")
    wait_for(lambda: process.ended() is not None)
    assert process.tail() == ["100%", "x"]
    asyncio.run(process.stop())


@pytest.mark.parametrize(
    ("lines", "telling"),
    [
        ([], ""),
        (["all is well", "INFO: Error: none"], ""),
        (
            [
                "KeyError: 'first'",
                "During handling of the above exception, another exception occurred:",
                "safetensors_rust.SafetensorError: Error while deserializing header: header too large",
                "RuntimeError: Engine core initialization failed. See root cause above.",
            ],
            "safetensors_rust.SafetensorError: Error while deserializing header: header too large",
        ),
        (
            ["ValidationError: 1 validation error for ModelConfig", "  Value error, no such thing"],
            "ValidationError: 1 validation error for ModelConfig Value error, no such thing",
        ),
        (["api_server.py: error: unrecognized arguments: --x"],) * 1
        + ("api_server.py: error: unrecognized arguments: --x",),
    ],
)
def test_the_telling_line_is_the_last_error_that_points_to_no_other(lines, telling):
    assert telling_line(lines) == telling


def test_an_ending_is_told_in_words():
    assert ending(1) == "ended with exit code 1"
    assert ending(-15) == "was killed by signal 15 (SIGTERM)"
    assert "memory" in ending(-9)
