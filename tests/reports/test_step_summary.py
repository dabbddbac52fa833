"""The summary in the file that GitHub's runner names: appended, within its limit, never in the way."""

from __future__ import annotations

import pytest

from evalkit.cli.step_summary import LIMIT, append_step_summary


def test_without_the_variable_nothing_happens(capsys):
    assert append_step_summary("## PASS\n", {}) is False
    assert append_step_summary("## PASS\n", {"GITHUB_STEP_SUMMARY": ""}) is False
    assert capsys.readouterr().err == ""


def test_it_stands_behind_what_is_there_already(tmp_path):
    file = tmp_path / "summary"
    environ = {"GITHUB_STEP_SUMMARY": str(file)}
    assert append_step_summary("## one ✅\n", environ)
    assert append_step_summary("## two\n", environ)
    assert file.read_text(encoding="utf-8") == "## one ✅\n\n\n## two\n"


@pytest.mark.parametrize("held", [0, 500_000, LIMIT - 400])
def test_it_never_grows_beyond_what_a_step_may_hold_and_says_that_it_was_cut(tmp_path, held):
    file = tmp_path / "summary"
    file.write_bytes(b"x" * held)
    text = "\n\n".join(f"paragraph ✅ {n}" for n in range(100_000))
    assert append_step_summary(text, {"GITHUB_STEP_SUMMARY": str(file)})
    content = file.read_bytes()
    assert len(content) <= LIMIT
    told = content[held:].decode("utf-8")
    assert told.endswith("holds 1 MiB.\n")
    assert "paragraph ✅ 0" in told


def test_a_full_summary_is_one_line_of_warning(tmp_path, capsys):
    file = tmp_path / "summary"
    file.write_bytes(b"x" * LIMIT)
    assert append_step_summary("## PASS\n", {"GITHUB_STEP_SUMMARY": str(file)}) is False
    assert file.stat().st_size == LIMIT
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("name", ["absent/summary", ".", "nul\0"])
def test_a_file_that_cannot_be_written_is_one_line_of_warning(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    assert append_step_summary("## PASS\n", {"GITHUB_STEP_SUMMARY": name}) is False
    warned = capsys.readouterr().err
    assert warned.count("\n") == 1
    assert "GITHUB_STEP_SUMMARY" in warned
