"""What rules can decide, drawn for a terminal. Returns drawings; only the command line prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from evalkit.records.power import GatePower, PowerReport, RulePower
from evalkit.reports.terminal import WIDE
from evalkit.reports.view import number

READ_IN_FULL: Final = (
    "weights are read in full and nothing is sampled, so it is no question of power"
)
"""What a rule on weights says in ``RulePower.unknown``."""


def power_drawing(report: PowerReport, width: int) -> RenderableType:
    """Return the table of rules, a sentence on each that needs attention, what it rests on, and the gates last.

    Rules on weights have no place in the table: they are named under it.
    """
    told: list[RenderableType] = [*_attention(report), *_in_full(report)]
    if not all(map(_is_census, report.rules)):
        told.insert(0, _table(report, width))
    drawn: list[RenderableType] = []
    for parts in (told, _grounds(report.rules), [_gate(g, report.rules) for g in report.gates]):
        held = list(parts)
        drawn += ["", *held] if drawn and held else held
    return Group(*drawn)


def _is_census(row: RulePower) -> bool:
    return row.unknown == READ_IN_FULL


def _table(report: PowerReport, width: int) -> Table:
    power = chance(report.power)
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title="What the rules can decide",
        title_justify="left",
    )
    wide = width >= WIDE
    table.add_column("rule, estimate", overflow="fold")
    table.add_column("n", justify="right", no_wrap=True)
    table.add_column("unchanged\npasses", justify="right", no_wrap=True)
    table.add_column(f"passes with\n{power}", justify="right", no_wrap=True)
    table.add_column(f"fails with\n{power}", justify="right", no_wrap=True)
    if wide:
        table.add_column("n needed", justify="right", no_wrap=True)
    rule = gate = None
    for row in report.rules:
        if _is_census(row):
            continue
        if row.gate != gate and len(report.gates) > 1:
            table.add_row(Text.assemble("gate ", (row.gate, "bold")))
            gate = row.gate
        if (row.gate, row.rule) != rule:
            rule = row.gate, row.rule
            severity = "" if row.severity == "block" else f" ({row.severity})"
            required = f"  {row.required}" if wide else ""
            table.add_row(Text.assemble((row.rule, "bold"), severity, (required, "dim")))
        cells = _cells(row, report.power)
        table.add_row(*(cells if wide else cells[:-1]))
    return table


def _cells(row: RulePower, wanted: float) -> list[Text]:
    name = Text(f"  {row.estimate}")
    if row.unknown:
        return [name, Text(f"{row.samples:,}"), *[Text("?", "yellow")] * 4]
    held = row.passes_unchanged
    style = "green" if held is not None and held >= wanted else "yellow"
    if row.cannot_pass or row.cannot_fail:
        style = "bold red"
    needed = "–" if row.needed is None else about(row.needed)
    return [
        name,
        Text(f"{row.samples:,}"),
        Text("?" if held is None else chance(held), style),
        Text(_passing(row)),
        Text(_failing(row)),
        Text(needed),
    ]


def _passing(row: RulePower) -> str:
    if row.passes is None:
        return "never"
    low, high = row.passes.low, row.passes.high
    if low is None and high is None:
        return "always"
    if low is None or high is None:
        end = high if low is None else low
        assert end is not None, "one end is closed"
        return f"{'≤' if low is None else '≥'} {_effect(row, end)}"
    return f"{_effect(row, low)} to {_effect(row, high)}"


def _failing(row: RulePower) -> str:
    below, above = row.fails_below, row.fails_above
    if below is not None and above is not None and below >= above:
        return "always"
    ends = (("≤", below), ("≥", above))
    return (
        ", ".join(f"{sign} {_effect(row, end)}" for sign, end in ends if end is not None) or "never"
    )


def _effect(row: RulePower, value: float) -> str:
    digits = f"{abs(value):.3f}" if abs(value) < 10 else f"{abs(value):.1f}"
    if row.reads == "estimate":
        return f"{'−' if value < 0 else ''}{digits}"
    return f"{'−' if value < 0 else '+'}{digits}"


def _attention(report: PowerReport) -> Iterator[Text]:
    """Yield a sentence on each rule that cannot decide, is likely not to, or cannot be told; the worst first."""
    several = len(report.gates) > 1
    blocking = [row for row in report.rules if row.severity == "block"]
    others = [row for row in report.rules if row.severity != "block"]
    for row in (*blocking, *others):
        for why in (row.cannot_pass,
                    row.cannot_fail):  # fmt: skip
            if why:
                style = "bold red" if row.severity == "block" else "yellow"
                yield _sentence("✗", style, row, why, several=several)
    for row in (*blocking, *others):
        held = row.passes_unchanged
        if not row.cannot_pass and held is not None and held < report.power:
            yield _sentence("?", "yellow", row, _weak(row, held), several=several)
    unknown: dict[str, list[RulePower]] = {}
    for row in (*blocking, *others):
        if row.unknown and not row.cannot_pass and not _is_census(row):
            unknown.setdefault(row.unknown, []).append(row)
    for why, rows in unknown.items():
        yield _untold(why, rows, several=several)


def _untold(why: str, rows: Sequence[RulePower], *, several: bool) -> Text:
    """Return a sentence on the rules whose chances cannot be told for one reason."""
    told = f"cannot be told: {why}"
    if len(rows) == 1:
        return _sentence("?", "yellow", rows[0], told, several=several)
    counts = Counter(f"{row.gate}/{row.rule}" if several else row.rule for row in rows)
    rules = ", ".join(f"{name} ({n} estimates)" if n > 1 else name for name, n in counts.items())
    return Text.assemble(("? ", "yellow"), (rules, "bold"), f" {told}.")


def _in_full(report: PowerReport) -> Iterator[Text]:
    """Yield a sentence on the rules that read weights."""
    several = len(report.gates) > 1
    named: dict[str, list[str]] = {}
    for row in filter(_is_census, report.rules):
        rule = f"{row.gate}/{row.rule}" if several else row.rule
        named.setdefault(rule, []).append(row.estimate)
    if named:
        rules = ", ".join(f"{rule} ({', '.join(read)})" for rule, read in named.items())
        told = "Weights are read in full, and no number of samples matters to "
        yield Text.assemble(told, (rules, "bold"), ".")


def _sentence(mark: str, style: str, row: RulePower, told: str, *, several: bool) -> Text:
    rule = f"{row.gate}/{row.rule}" if several else row.rule
    return Text.assemble((f"{mark} ", style), (rule, "bold"), f" on {row.estimate} {told}.")


def _weak(row: RulePower, held: float) -> str:
    passes = f"passes an unchanged candidate with {chance(held)}"
    noun = "pairs" if row.reads == "comparison" else "samples"
    if row.needed is not None and row.needed > row.samples:
        return f"{passes}: it needs about {about(row.needed)} {noun}; you have {row.samples:,}"
    at = (
        ""
        if row.reads == "comparison" or row.unchanged is None
        else f", at {number(row.unchanged)},"
    )
    return f"{passes}: no number of {noun} shows that such a candidate{at} is {row.required}"


def _grounds(rows: Sequence[RulePower]) -> Iterator[Text]:
    """Yield what the chances rest on, once for all estimates that rest on the same."""
    held: dict[str, list[str]] = {}
    for row in rows:
        for told in (row.basis, *row.notes):
            if told and row.estimate not in held.setdefault(told, []):
                held[told].append(row.estimate)
    for told, names in held.items():
        yield Text.assemble((", ".join(names), ""), (f": {told}", "dim"))


def _gate(gate: GatePower, rules: Sequence[RulePower]) -> Text:
    blocking = [row for row in rules if row.gate == gate.gate and row.severity == "block"]
    in_full = sum(map(_is_census, blocking))
    text = Text.assemble(("Gate ", "bold"), (gate.gate, "bold"), ":")
    if not gate.blocking:
        return text.append(" no rule blocks.")
    told, unknown = gate.blocking - gate.unknown, gate.unknown - in_full
    if told:
        which = f"{'all ' if told > 1 else ''}{told:,} blocking outcome{'' if told == 1 else 's'}"
        text.append(
            f" an unchanged candidate passes {which}{' on samples' if in_full else ''} with "
            f"{chance(gate.if_independent)} if they are independent, and with {chance(gate.at_least)} at the least."
        )
    if unknown:
        what = "more" if told else f"blocking outcome{'' if unknown == 1 else 's'}"
        may = " and may lower that" if told else ""
        text.append(f" {unknown:,} {what} cannot be told{may}.", "yellow")
    if in_full:
        which = "1 blocking rule reads" if in_full == 1 else f"{in_full:,} blocking rules read"
        text.append(f" {which} weights, which leaves nothing to chance.")
    return text


def chance(value: float) -> str:
    """Return a probability as a percentage, never as certainty.

    >>> chance(0.8), chance(0.9996), chance(0.0)
    ('80 %', '> 99 %', '< 1 %')
    """
    if value < 0.01:
        return "< 1 %"
    if value > 0.99:
        return "> 99 %"
    return f"{100 * value:.0f} %"


def about(n: int) -> str:
    """Return a number of samples with three significant digits, rounded up.

    >>> about(1536), about(27)
    ('1,540', '27')
    """
    digits = 10 ** max(0, len(str(n)) - 3)
    return f"{-(-n // digits) * digits:,}"
