"""Groups of people and the gaps between them, drawn for a terminal. Returns drawings; only the command line prints.

Values of a field are untrusted text: they become plain text with every control character written as its escape.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from rich import box
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from evalkit.records.scorecard import Cell, Comparison, Disparity, Estimate, Interval, Scorecard
from evalkit.records.verdict import Verdict
from evalkit.reports.clean import printable
from evalkit.reports.fairness import Block, blocks, group_name, short_name
from evalkit.reports.fairness_limits import not_shown
from evalkit.reports.flip_ledger import p_text
from evalkit.reports.view import number, ordered_outcomes, signed, span

WIDE: Final = 118
"""From this many columns on, columns stand farther apart and names of gaps are not broken."""
UNLIMITED: Final = 10_000
"""Columns in which any table has room, to measure it."""
MOST_NAMED: Final = 4
"""Groups that a note names; the others are counted."""
LONGEST_NAME: Final = 22
"""Characters of a gap's name that stand on one line where room is short."""
MOST_OF_NAME: Final = 32
"""Columns that names of gaps take at most."""
NO_INTERVAL: Final = "(no interval)"
LEFT_OUT: Final = "†"
OBSERVED, IF_EQUAL, CORRECTED, P, HOLM, ENDS = COLUMNS = (
    "observed",
    "if equal",
    "corrected",
    "p",
    "Holm p",
    "lowest < highest",
)
"""Columns of the table of gaps."""
BASELINE, CHANGE = "  baseline", "  change"
"""Lines under a gap."""
FIRST_TO_GO: Final = (P, CORRECTED)
"""Columns that go where there is no room."""
LEGEND: Final = (
    "A gap is the greatest group's number − the least's (a ratio: least ÷ greatest). 'if equal' is the gap that chance "
    "alone would show of these samples, 'corrected' the gap less the bias of picking the extremes, p that of no "
    "difference, by permutation; rules read the interval."
)


def fairness_drawing(scorecard: Scorecard, verdict: Verdict, width: int) -> list[RenderableType]:
    """Return the groups, the gaps between them and what they do not show; nothing where no task declares groups."""
    if not scorecard.disparities:
        return []
    read = [outcome.estimate for outcome in ordered_outcomes(verdict)]
    shown, rest = blocks(scorecard, read)
    parts: list[RenderableType] = [
        Text("Fairness: groups of people, and the gaps between them", "italic")
    ]
    parts += [Text(LEGEND, "dim"), Text()]
    for block in shown:
        parts += [*_block(block, width), Text()]
    if rest:
        names = ", ".join(map(printable, rest[:3])) + (", …" if len(rest) > 3 else "")
        parts += [Text(f"… and {len(rest)} more in scorecard.json: {names}", "dim"), Text()]
    parts.append(Text("What this does not show", "italic"))
    parts += [_item(said) for said in not_shown(scorecard, shown)]
    return [*parts, Text()]


def _item(said: str) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    grid.add_row("·", Text(said))
    return grid


def _block(block: Block, width: int) -> Iterator[RenderableType]:
    heading = printable(f"{block.task}/{block.metric}")
    yield Text.assemble((heading, "bold"), " by ", (printable(block.by), "bold"))
    yield from _groups(block, width)
    yield _gaps(block, width)
    if block.more:
        gaps = "gap" if block.more == 1 else "gaps"
        yield _note(f"… and {block.more} more {gaps} in scorecard.json", "dim")
    for told in (*block.not_estimable(), *block.not_compared(), *block.warnings()):
        yield _note(f"{told}.", "yellow")


def _note(text: str, style: str) -> RenderableType:
    return Padding(Text(text, style), (0, 0, 0, 2), expand=False)


def _groups(block: Block, width: int) -> Iterator[RenderableType]:
    """Yield the groups' numbers, as many measures beside each other as the width holds.

    Where that saves a table, the baseline's values go: the changes of the gaps tell what they are for.
    """
    with_baseline = _in_tables(block, width, baseline=block.paired)
    without = _in_tables(block, width, baseline=False)
    for table in with_baseline if len(with_baseline) <= len(without) else without:
        yield from (table, Text())
    notes = list(_notes(block))
    yield from (_note(text, style) for text, style in notes)
    if notes:
        yield Text()


def _notes(block: Block) -> Iterator[tuple[str, str]]:
    """Yield what else is to be said of the groups, with its style."""
    _, more = block.groups()
    if more:
        yield f"… and {more} more groups in scorecard.json", "dim"
    if out := block.left_out():
        told = "; ".join(f"{printable(why)}: {_some(groups)}" for why, groups in out.items())
        yield f"{LEFT_OUT} no part of a gap; {told}", "yellow"
    if lost := block.without_score():
        told = _some(list(lost), [f" {n:,}" for n in lost.values()])
        yield f"without a score: {told}", "yellow"


def _in_tables(block: Block, width: int, *, baseline: bool) -> list[Table]:
    wide, measures, tables = width >= WIDE, block.measures, list[Table]()
    while measures:
        count = len(measures)
        table = _group_table(block, measures, wide=wide, baseline=baseline)
        while count > 1 and Console(width=UNLIMITED).measure(table).maximum > width:
            count -= 1
            table = _group_table(block, measures[:count], wide=wide, baseline=baseline)
        tables.append(table)
        measures = measures[count:]
    return tables


def _some(groups: Sequence[str], counts: Sequence[str] = ()) -> str:
    """Return the first of the groups, each with its count if there are any, and how many more there are."""
    named = [group_name(group) for group in groups]
    told = [
        f"{name}{count}" for name, count in zip(named, counts or [""] * len(named), strict=True)
    ]
    more = len(told) - MOST_NAMED
    return ", ".join(told[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _group_table(block: Block, measures: Sequence[str], *, wide: bool, baseline: bool) -> Table:
    ours, theirs = block.cells("candidate"), block.cells("baseline")
    table = _table(wide=wide)
    table.add_column(Text(printable(block.by)), overflow="fold")
    for measure in measures:
        table.add_column("n", justify="right", no_wrap=True)
        table.add_column(Text(short_name(measure, block.metric)), no_wrap=True)
        if baseline:
            table.add_column("baseline", justify="right", no_wrap=True)
    for group in block.groups()[0]:
        cells = [Text(group_name(group))]
        for measure in measures:
            cells += _cell(ours.get(measure, {}).get(group))
            if baseline:
                held = theirs.get(measure, {}).get(group)
                cells.append(Text(number(held.value if held else None), "dim"))
        table.add_row(*cells)
    return table


def _cell(cell: Cell | None) -> list[Text]:
    """Return how many samples a group's number rests on, and the number with its interval."""
    if cell is None:
        return [Text("0"), Text("–")]
    mark = f" {LEFT_OUT}" if cell.left_out else ""
    if cell.value is None:
        return [Text(f"{cell.n:,}"), Text(f"–{mark}", "yellow")]
    style = "yellow" if cell.left_out else ""
    told = _with_interval(Text(number(cell.value), style), cell.interval)
    told.append(mark, style)
    return [Text(f"{cell.n:,}"), told]


def _gaps(block: Block, width: int) -> Table:
    """Return a line for each gap, with the baseline's and the change under it.

    Where there is no room, numbers go that others imply; the groups at the ends never do.
    """
    wide, gone = width >= WIDE, list[str]()
    told = [_ends(block, d) for row in block.rows for d in (row.candidate, row.baseline) if d]
    ends = max(cell_len(word) for text in (ENDS, *(t.plain for t in told)) for word in text.split())
    for column in FIRST_TO_GO:
        narrow = _gap_table(block, gone, wide=wide, ends=max(ends, len(ENDS)))
        if Console(width=UNLIMITED).measure(narrow).maximum <= width:
            break
        gone.append(column)
    return _gap_table(block, gone, wide=wide)


def _gap_table(block: Block, gone: Sequence[str], *, wide: bool, ends: int | None = None) -> Table:
    """Return the table without the columns that are ``gone``; ``ends`` is the most that its last column takes."""
    names = {row.name: row.name if wide else _broken(row.name) for row in block.rows}
    lines = [line for name in (*names.values(), BASELINE, CHANGE) for line in name.split("\n")]
    longest = max(map(cell_len, lines))
    table = _table(wide=wide)
    table.add_column("gap", overflow="fold", width=min(longest, MOST_OF_NAME))
    shown = [column for column in COLUMNS if column not in gone]
    for column in shown[:-1]:
        level = _level(block) if column == OBSERVED else ""
        table.add_column(f"{column}{level}", justify="right", no_wrap=True)
    table.add_column(ENDS, overflow="fold", min_width=len(ENDS), max_width=ends)

    def add(name: Text, cells: Mapping[str, Text]) -> None:
        table.add_row(name, *(cells.get(column, Text()) for column in shown))

    for row in block.rows:
        ours = _gap(block, row.candidate, row.candidate_estimate)
        add(Text(names[row.name]), ours)
        if block.paired:
            theirs = _gap(block, row.baseline, row.baseline_estimate)
            if ENDS in theirs and ours.get(ENDS) == theirs[ENDS]:
                theirs[ENDS] = Text("the same")
            add(Text(BASELINE, "dim"), theirs)
        if row.change is not None:
            add(Text(CHANGE), _change(row.change))
    return table


def _broken(name: str) -> str:
    """Return a long name on two lines, broken before its last word."""
    stem, _, last = name.rpartition("_")
    return f"{stem}_\n{last}" if len(name) > LONGEST_NAME and stem else name


def _level(block: Block) -> str:
    for row in block.rows:
        held = row.candidate_estimate or row.baseline_estimate
        if held is not None and held.interval is not None:
            return f" [{100 * held.interval.level:.4g} %]"
    return ""


def _gap(block: Block, disparity: Disparity | None, estimate: Estimate | None) -> dict[str, Text]:
    """Return column → what stands in it."""
    if disparity is None:
        return {OBSERVED: Text("–")}
    if disparity.value is None:
        return {OBSERVED: Text("not estimable", "yellow")}
    interval = estimate.interval if estimate else None
    none = 0.0 if disparity.form == "difference" else 1.0
    apart = interval is not None and not interval.low <= none <= interval.high
    style = "yellow" if apart else ""
    return {
        OBSERVED: _with_interval(Text(number(disparity.value), style), interval),
        IF_EQUAL: Text(number(disparity.expected)),
        CORRECTED: Text(number(disparity.corrected)),
        P: Text(p_text(disparity.p_value)),
        HOLM: Text(p_text(disparity.p_adjusted)),
        ENDS: _ends(block, disparity),
    }


def _ends(block: Block, disparity: Disparity) -> Text:
    """Return the groups at the ends of a gap, and of which measure where it joins several."""
    if disparity.low is None or disparity.high is None:
        return Text("–")
    if disparity.low == disparity.high:
        return Text("all are equal")
    several = len({cell.measure for cell in disparity.cells}) > 1
    where = (
        f" ({short_name(disparity.measure, block.metric)})" if several and disparity.measure else ""
    )
    return Text(f"{group_name(disparity.low)} < {group_name(disparity.high)}{where}")


def _change(change: Comparison) -> dict[str, Text]:
    """Return how a gap changed, in the columns of the gap; why it is not known stands under the table."""
    if change.status != "compared":
        return {OBSERVED: Text(change.status, "yellow")}
    told = _with_interval(Text(signed(change.difference)), change.interval)
    return {OBSERVED: told, ENDS: Text(_direction(change))}


def _with_interval(value: Text, interval: Interval | None) -> Text:
    return Text.assemble(value, " ", (span(interval) or NO_INTERVAL, "dim"))


def _direction(change: Comparison) -> str:
    """Return in which direction a gap is shown to have changed, and on how many pairs."""
    pairs = f"{change.pairs:,} pairs"
    held = change.interval
    if held is None or held.low <= 0 <= held.high:
        return pairs
    return f"{'wider' if held.low > 0 else 'narrower'}, {pairs}"


def _table(*, wide: bool) -> Table:
    apart = 2 if wide else 1
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, apart, 0, 0))
