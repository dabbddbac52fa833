"""What gates/PEOPLE.md says is so: its examples load, its flags exist, its figures are those of Wilson's interval."""

from __future__ import annotations

import re

from ruamel.yaml import YAML

from evalkit.cli.review import export, import_
from evalkit.loaders.gates import load_gate
from evalkit.records.suite import ReviewSpec
from evalkit.reviewing import NAMES
from evalkit.stats.intervals import wilson_interval


def blocks(root, language):
    text = (root / "gates/PEOPLE.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_its_examples_load(root, tmp_path):
    review, gate = blocks(root, "yaml")
    declared = YAML(typ="safe").load(review)["review"]
    assert ReviewSpec.model_validate({**declared, "labels": tuple(declared["labels"])}).ratings
    (tmp_path / "gate.yaml").write_text(gate)
    assert [rule.require for rule in load_gate(tmp_path / "gate.yaml").rules] == [
        "labelled",
        "at_least",
        "no_worse_than",
    ]


def test_its_flags_exist_and_its_numbers_are_those_that_ratings_give(root):
    text = (root / "gates/PEOPLE.md").read_text()
    known = {flag for each in (export, import_) for p in each.params for flag in p.opts}
    assert set(re.findall(r"--[a-z]+", text)) <= known
    assert all(f"`task/{name}`" in text for name in NAMES)


def test_its_widths_are_those_of_wilsons_interval(root):
    text = (root / "gates/PEOPLE.md").read_text()
    for right, told in ((50, "±10 points"), (90, "±6 around")):
        interval = wilson_interval(right, 100, 0.95)
        assert f"±{50 * (interval.high - interval.low):.0f}" == told.split()[0]
        assert told in text
