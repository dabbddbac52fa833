"""What rules can decide, drawn for a terminal. Returns drawings; only the command line prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from evalkit.records.power import GatePower, PowerReport, RulePower
from evalkit.reports.terminal import WIDE
from evalkit.reports.view import number


def power_drawing(report: PowerReport, width: int) -> RenderableType:
    """Return the table of rules, a sentence on each that needs attention, what it rests on, and the gates last."""
    parts: list[RenderableType] = [_table(report, width), *_attention(report), ""]
    parts += [*_grounds(report.rules), "", *map(_gate, report.gates)]
    return Group(*parts)


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
    for row in (*blocking, *others):
        if row.unknown and not row.cannot_pass:
            yield _sentence("?", "yellow", row, f"cannot be told: {row.unknown}", several=several)


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


def _gate(gate: GatePower) -> Text:
    if not gate.blocking:
        return Text(f"Gate {gate.gate}: no rule blocks.")
    told = gate.blocking - gate.unknown
    which = f"{'all ' if told > 1 else ''}{told:,} blocking outcome{'' if told == 1 else 's'}"
    text = Text.assemble(
        ("Gate ", "bold"),
        (gate.gate, "bold"),
        f": an unchanged candidate passes {which} with {chance(gate.if_independent)} if they are independent, and with "
        f"{chance(gate.at_least)} at the least.",
    )
    if gate.unknown:
        text.append(f" {gate.unknown:,} more cannot be told and may lower that.", "yellow")
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
