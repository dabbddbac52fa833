"""``evalkit list``: the named parts, one line each and an example."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import click

from evalkit.registry import Group as PartGroup

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.table import Table

GROUPS: Mapping[str, PartGroup] = {
    "metrics": "metric",
    "conditions": "condition",
    "backends": "backend",
    "reporters": "reporter",
}
WEIGHTS = "weights"
"""What tasks of kind spectral measure and check: a fixed catalogue, no registered parts."""
SWAPS = "swaps"
"""Words that tasks of kind counterfactual exchange: the mappings that come with evalkit."""

JUDGE_PROMPTS = "judge-prompts"
"""Templates by which judges are asked: those that come with evalkit."""
MOST_ENTRIES = 8
"""Entries of an option's default that are shown."""


@click.command("list")
@click.argument("what", type=click.Choice([*GROUPS, JUDGE_PROMPTS, SWAPS, WEIGHTS]), required=False)
@click.option("--options", "show_options", is_flag=True, help="Also list each part's own options.")
def command(what: str | None, *, show_options: bool) -> None:
    """List metrics, conditions, backends, reporters, what ships for judges and swaps, what is measured on weights.

    \b
    evalkit list                    everything
    evalkit list metrics --options  metrics with their options
    evalkit list judge-prompts      the texts by which judges are asked
    evalkit list swaps              mappings of words for tasks of kind counterfactual
    evalkit list weights            numbers and checks of tasks of kind spectral
    """
    from rich.console import Group
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
            options = Table.grid(
                padding=(0, 1)
            )  # the further lines of an option stand under its first
            for line in option_lines(part.make) if show_options else ():
                options.add_row(" ·", Text(line))
            table.add_row(
                Text(f"  {part.name}", "cyan"), Group(told, options) if options.rows else told
            )
        out.print(table)
        out.print()
    if what in (None, JUDGE_PROMPTS):
        out.print(Text(JUDGE_PROMPTS, "bold"))
        for name, text in judge_prompts():
            out.print(Text(f"  {name}", "cyan"))
            out.print(Text(text, "dim"), soft_wrap=True)  # to the letter: no line is folded
    if what in (None, SWAPS):
        out.print(Text(SWAPS, "bold"))
        out.print(swaps_table())
        out.print()
    if what in (None, WEIGHTS):
        out.print(Text(WEIGHTS, "bold"))
        out.print(weights_table())


def judge_prompts() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of every shipped prompt of judges."""
    from evalkit.judging.prompts import PROMPTS, shipped_prompt

    for name in PROMPTS:
        yield name, shipped_prompt(name)


def swaps_table() -> Table:
    """Return every shipped mapping: its name, what it swaps, its groups, and how it is written."""
    from rich.table import Table
    from rich.text import Text

    from evalkit.swaps import SHIPPED, shipped_lexicon

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    for name, shipped in SHIPPED.items():
        groups = ", ".join(shipped_lexicon(name).groups)
        told = Text.assemble(
            f"{shipped.summary} Variants: {groups}.", "\n", (shipped.example, "dim")
        )
        table.add_row(Text(f"  {name}", "cyan"), told)
    return table


def weights_table() -> Table:
    """Return every measure and check of weights: its name in an estimate, what it is, what it takes."""
    from rich.table import Table
    from rich.text import Text

    from evalkit.gates.evaluate import TAKES
    from evalkit.spectral.catalogue import CHECKS, MEASURES

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    for measure in MEASURES:
        first, *others = measure.summaries
        summaries = "".join(f", .{summary}" for summary in others)
        takes = TAKES.get(measure.name, TAKES.get(measure.needs))
        each = ", @tensor=…" if measure.per_tensor else ""
        told = Text.assemble(measure.meaning, _advisory(measure.advisory), "\n")
        told.append(f"task/{measure.name} ({first}){summaries}{each}", "dim")
        told.append(f"; takes {takes}" if takes else "", "dim")
        table.add_row(Text(f"  {measure.name}", "cyan"), told)
    for check in CHECKS:
        told = Text.assemble(f"findings: {check.meaning}", _advisory(check.advisory))
        told.append(f"; takes {TAKES[check.needs]}" if check.needs in TAKES else "", "dim")
        table.add_row(Text(f"  {check.name}", "cyan"), told)
    return table


def _advisory(advisory: bool) -> str:
    return " (advisory)" if advisory else ""


def _written(default: object) -> str:
    """Return a default as a suite writes it; of a long list its first entries and how many there are."""
    if isinstance(default, list | tuple | set | frozenset):
        entries = list(default) if isinstance(default, list | tuple) else sorted(default)
        if (more := len(entries) - MOST_ENTRIES) > 0:
            shown = ", ".join(json.dumps(entry, default=str) for entry in entries[:MOST_ENTRIES])
            return f"[{shown}, and {more} more]"
    return json.dumps(default, default=str)


def option_lines(part: type) -> Iterator[str]:
    """Yield one line per option that a part declares, under the name a file writes it by."""
    declared: type[BaseModel] | None = getattr(part, "Args", None) or getattr(part, "Options", None)
    if declared is None:
        return
    from evalkit.records.declared import descriptions

    told = descriptions(declared)
    for name, field in declared.model_fields.items():
        default = field.get_default(call_default_factory=True)
        note = "required" if field.is_required() else f"default {_written(default)}"
        key = field.alias or name
        yield f"{key} ({note}): {' '.join(told.get(key, '').split())}"
