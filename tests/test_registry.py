"""Named parts."""

from __future__ import annotations

import pytest

from evalkit.errors import UsageError
from evalkit.registry import find, load_plugins, nearest, parts, register


def test_every_part_has_a_line_and_an_example():
    for group in ("metric", "condition", "backend"):
        held = [p for p in parts(group).values() if p.make.__module__.startswith("evalkit.")]
        assert held  # what other tests register in this process is not ours
        for part in held:
            assert part.summary.strip().endswith("."), part.name
            assert "\n" not in part.summary, part.name
            assert part.example, part.name


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'exact_match'"):
        find("metric", "exact_mach")


def test_a_name_far_from_all_others_has_no_nearest():
    assert nearest("zzzz", ["exact_match", "bleu"]) == ""


def test_a_plug_in_cannot_replace_a_built_in():
    with pytest.raises(UsageError, match="already taken"):

        @register("metric", "exact_match", summary="Mine.", example="exact_match")
        class Mine:
            pass


def test_a_plug_in_that_fails_to_import_is_a_usage_error(tmp_path, monkeypatch):
    (tmp_path / "broken_plugin_for_test.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=r"broken_plugin_for_test.*division by zero"):
        load_plugins(["broken_plugin_for_test"])
