"""The page on judges: its examples load, its command exists, its numbers are the program's."""

from __future__ import annotations

import re
import shlex

import click

from evalkit.cli import list_parts
from evalkit.cli.judge import command
from evalkit.gates.judged import LESS_THAN_PEOPLE
from evalkit.judging.prompts import PROMPTS, shipped_prompt
from evalkit.loaders.gates import load_gate
from evalkit.loaders.suites import load_suite
from evalkit.records.suite import JudgeDemands
from evalkit.reports.judge_card import TITLES
from evalkit.stats.intervals import clopper_pearson_interval


def test_its_suite_its_judge_and_its_gate_load_together(root, tmp_path):
    page = (root / "gates/JUDGES.md").read_text()
    for name, text in re.findall(r"```yaml\n# (\S+)\n(.*?)```", page, re.DOTALL):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "tickets.jsonl").write_text('{"ticket": "Where is my parcel?"}\n')
    suite = load_suite(tmp_path / "suite.yaml")
    assert {name: judge.spec.form for name, judge in suite.judges.items()} == {
        "quality": "pointwise",
        "better": "pairwise",
    }
    gate = load_gate(tmp_path / "gate.yaml")
    asked = {rule.estimate for rule in gate.rules}
    assert asked == {"reply/judged.score", "reply/preferred.win_rate"}
    assert gate.rules[0].judge is None and gate.rules[1].judge.labels == 200


def test_its_command_exists_with_its_flags(root):
    page = (root / "gates/JUDGES.md").read_text()
    lines = re.findall(r"^\$ evalkit judge (.*)$", page, re.MULTILINE)
    for line in lines:
        name, *arguments = shlex.split(line)
        known = {
            flag
            for p in command.get_command(click.Context(command), name).params
            for flag in p.opts
        }
        assert {a for a in arguments if a.startswith("--")} <= known
    assert lines


def test_it_names_every_figure_and_every_demand_with_its_default(root):
    page = (root / "gates/JUDGES.md").read_text()
    assert [name for name in TITLES if f"`{name}`" not in page] == []
    for name, field in JudgeDemands.model_fields.items():
        assert f"| `{name}` | {field.default} |" in page
    assert f"kappa − {LESS_THAN_PEOPLE}" in page


def test_so_many_items_show_that_a_verdict_is_hardly_ever_missing():
    for n, most in ((368, 0.01), (91, 0.04)):
        assert clopper_pearson_interval(0, n, 0.95).high <= most
        assert clopper_pearson_interval(0, n - 1, 0.95).high > most


def test_the_shipped_prompts_are_open_to_reading(capsys, monkeypatch):
    """To the letter: what a judge is asked is what the list shows, however narrow the terminal."""
    monkeypatch.setenv("COLUMNS", "40")
    list_parts.command.main(["judge-prompts"], standalone_mode=False)
    shown = capsys.readouterr().out
    for name in PROMPTS:
        text = shipped_prompt(name)
        assert text.strip()
        assert f"  {name}\n{text}" in shown
