"""The documentation says what is: links lead somewhere, commands and flags exist, examples load."""

from __future__ import annotations

import importlib
import json
import re
import shlex
from pathlib import Path

import click
import jsonschema
import pytest
from ruamel.yaml import YAML

from evalkit.cli.main import COMMANDS
from evalkit.loaders.schemas import gate_schema, suite_schema
from evalkit.registry import parts

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *sorted(ROOT.glob("*.md")),
    ROOT / "gates/STATISTICS.md",
    ROOT / "gates/PEOPLE.md",
    ROOT / "gates/WEIGHTS.md",
    *(
        ROOT / f"gates/{page}.md"
        for page in ("FAIRNESS", "JUDGES", "PEOPLE", "PYTEST", "SIGN_OFF")
        if (ROOT / f"gates/{page}.md").exists()
    ),
    ROOT / "reports/PYTHON.md",
    ROOT / "suites/INTERCHANGE.md",
    *(
        ROOT / folder / "README.md"
        for folder in ("suites", "gates", "reports", "suites/quickstart", "suites/bias")
    ),
]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_evalkit_command_in_the_pages_exists_with_its_flags(page):
    for line in re.findall(r"^\$ (evalkit .*)$", page.read_text(), re.MULTILINE):
        _, name, *arguments = shlex.split(line, comments=True)
        command = importlib.import_module(COMMANDS[name][0]).command
        if isinstance(command, click.Group) and arguments:
            command = command.commands[arguments.pop(0)]
        known = {flag for parameter in command.params for flag in parameter.opts}
        assert {a for a in arguments if a.startswith("--")} <= known, line


def test_every_make_target_in_the_pages_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"(?:^|`|\$ )make ([a-z-]+)", page.read_text(), re.MULTILINE))
        assert named <= targets, page


def test_the_examples_of_suites_and_gates_satisfy_their_schemas():
    yaml = YAML(typ="safe")
    checked = 0
    for page, schema in (("suites/README.md", suite_schema()), ("gates/README.md", gate_schema())):
        for example in blocks(ROOT / page, "yaml"):
            # A date is text in JSON, and to an editor.
            held = json.loads(json.dumps(yaml.load(example), default=str))
            jsonschema.Draft202012Validator(schema).validate(held)
            checked += 1
    assert checked >= 2


@pytest.mark.parametrize(
    ("page", "group"),
    [
        ("suites/README.md", "metric"),
        ("gates/README.md", "condition"),
        ("suites/README.md", "backend"),
    ],
)
def test_the_pages_name_every_part(page, group):
    text = (ROOT / page).read_text()
    ours = [
        name for name, part in parts(group).items() if part.make.__module__.startswith("evalkit.")
    ]
    assert [name for name in ours if f"`{name}`" not in text] == []


def test_architecture_names_every_room():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    rooms = [
        path.name
        for path in (ROOT / "evalkit").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    ]
    assert [room for room in rooms if not room.startswith("__") and room not in text] == []
