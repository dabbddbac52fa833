"""The quickstart's checkpoints, asked by two workers of pytest in a project that makes errors of warnings."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys

import pytest
from commands import environment

pytest.importorskip("torch", reason="the extra 'transformers' is not installed")


@pytest.mark.slow
def test_two_workers_load_the_checkpoints_once_and_say_the_verdict_rule_by_rule(tmp_path, root):
    shutil.copytree(root / "suites" / "quickstart", tmp_path / "suites" / "quickstart")
    shutil.copytree(root / "gates", tmp_path / "gates")
    points = importlib.metadata.entry_points(group="pytest11")
    installed = any(point.name == "evalkit" for point in points)
    words = [sys.executable, "-m", "pytest", "-W", "error", "-n", "2", "--strict-markers", "-v"]
    words += [] if installed else ["-p", "evalkit.pytest_plugin"]
    words += ["--evalkit", "--evalkit-backend=transformers", "--evalkit-limit=20", "suites"]
    done = subprocess.run(
        words, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    (folder,) = (tmp_path / "reports").glob("quickstart-*")
    verdict = json.loads((folder / "verdict.json").read_text())
    facts = json.loads((folder / "scorecard.json").read_text())["circumstances"]
    assert facts["asked"] > 0
    assert facts["reused"] == 0
    blocking = {
        outcome["rule"]
        for outcome in verdict["outcomes"]
        if outcome["severity"] == "block" and outcome["counts_as"] not in ("pass", "waived")
    }
    failed = re.findall(r"^FAILED \S+::quickstart::(\S+)", done.stdout, re.MULTILINE)
    assert set(failed) == blocking
    assert f"report: reports/{folder.name}/report.html" in done.stdout
