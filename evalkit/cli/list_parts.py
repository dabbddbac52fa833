"""``evalkit list``: the named parts, one line each and an example."""

from __future__ import annotations

import click

GROUPS = {"metrics": "metric", "conditions": "condition", "backends": "backend"}


@click.command("list")
@click.argument("what", type=click.Choice(list(GROUPS)), required=False)
@click.option("--options", "show_options", is_flag=True, help="Also list each part's own options.")
def command(what: str | None, *, show_options: bool) -> None:
    """List metrics, conditions and backends: what each is and how it is written.

    \b
    evalkit list                    everything
    evalkit list metrics --options  metrics with their options
    """
    from rich.text import Text

    from evalkit.cli.terminal import console
    from evalkit.registry import parts

    out = console()
    for title, group in GROUPS.items():
        if what not in (None, title):
            continue
        out.print(Text(title, "bold"))
        for part in parts(group).values():  # type: ignore[arg-type]
            out.print(Text.assemble("  ", (f"{part.name:<18}", "cyan"), part.summary))
            out.print(Text.assemble(" " * 20, (part.example, "dim")))
            declared = getattr(part.make, "Args", None) or getattr(part.make, "Options", None)
            if show_options and declared is not None:
                for name, field in declared.model_fields.items():
                    default = "required" if field.is_required() else f"default {field.default!r}"
                    note = (field.description or "").replace("\n", " ")
                    out.print(Text(f"{' ' * 22}{name} ({default}): {note}"))
        out.print()
