"""``evalkit schema``: JSON Schemas of the file formats, for editors and other tools."""

from __future__ import annotations

import json

import click


@click.command("schema")
@click.argument(
    "format_", metavar="FORMAT", type=click.Choice(["suite", "gate", "scorecard", "verdict"])
)
def command(format_: str) -> None:
    """Print the JSON Schema of FORMAT: suite, gate, scorecard or verdict.

    \b
    Editors with a YAML language server check files as you type when they begin with
      # yaml-language-server: $schema=suite.schema.json
    """
    from evalkit.loaders import schemas

    makers = {
        "suite": schemas.suite_schema,
        "gate": schemas.gate_schema,
        "scorecard": schemas.scorecard_schema,
        "verdict": schemas.verdict_schema,
    }
    click.echo(json.dumps(makers[format_](), indent=2, ensure_ascii=False))
