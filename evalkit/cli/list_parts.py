"""``evalkit list``: the named parts, one line each and an example."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import click

from evalkit.registry import Group

if TYPE_CHECKING:
    from pydantic import BaseModel

GROUPS: Mapping[str, Group] = {
    "metrics": "metric",
    "conditions": "condition",
    "backends": "backend",
}


@click.command("list")
@click.argument("what", type=click.Choice(list(GROUPS)), required=False)
@click.option("--options", "show_options", is_flag=True, help="Also list each part's own options.")
def command(what: str | None, *, show_options: bool) -> None:
    """List metrics, conditions and backends: what each is and how it is written.

    \b
    evalkit list                    everything
    evalkit list metrics --options  metrics with their options
    """
    from rich.table import Table
    from rich.text import Text

    from evalkit.cli.terminal import console
    from evalkit.registry import parts

    out = console()
    for title, group in GROUPS.items():
        if what not in (None, title):
            continue
        out.print(Text(title, "bold"))
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column()
        for part in parts(group).values():
            told = Text.assemble(part.summary, "\n", (part.example, "dim"))
            for line in option_lines(part.make) if show_options else ():
                told.append(f"\n  {line}")
            table.add_row(Text(f"  {part.name}", "cyan"), told)
        out.print(table)
        out.print()


def option_lines(part: type) -> Iterator[str]:
    """Yield one line per option that a part declares, under the name a file writes it by."""
    declared: type[BaseModel] | None = getattr(part, "Args", None) or getattr(part, "Options", None)
    if declared is None:
        return
    from evalkit.records.declared import descriptions

    told = descriptions(declared)
    for name, field in declared.model_fields.items():
        default = field.get_default(call_default_factory=True)
        note = "required" if field.is_required() else f"default {json.dumps(default, default=str)}"
        key = field.alias or name
        yield f"{key} ({note}): {' '.join(told.get(key, '').split())}"
