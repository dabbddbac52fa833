"""The flip ledger for a terminal: which slices lost, which samples changed sides, and what both models answered.

What a model wrote is untrusted: it becomes plain text with every control character written as its escape, never
markup.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from evalkit.flips import Flip, FlipLedger, SliceFlips
from evalkit.metrics.answer import final_answer
from evalkit.reports.clean import printable
from evalkit.reports.view import number, signed, span

MOST_SLICES = 12
"""Slices shown."""
MOST_ANSWERS = 3
"""Answers of one model to one sample shown."""
LABELS = 13
"""Columns that labels take beside a text."""
LINES = 3
"""Lines that a text may take."""
STYLES = {"worse": "red", "better": "green", "": ""}


def ledger_drawing(ledger: FlipLedger, width: int) -> RenderableType:
    """Return one measure's ledger."""
    return Group(*_parts(ledger, width))


def _parts(ledger: FlipLedger, width: int) -> Iterator[RenderableType]:
    yield Text.assemble("\n", (f"Flips of {ledger.name}", "bold"))
    yield _told(ledger)
    if ledger.slices:
        yield _slices(ledger)
    for held in (ledger.whole, *ledger.slices):
        yield from _samples(ledger, held, width)


def _told(ledger: FlipLedger) -> Text:
    """Return the ledger in two sentences."""
    held = ledger.whole
    if not held.pairs:
        return Text("No sample was scored for both models.", "yellow")
    worse, better = _words(ledger)
    changed = held.worsened + held.improved
    counts = (
        f"Of {held.pairs:,} pairs {held.worsened:,} got worse{worse}, {held.improved:,} got better{better}, "
        f"{held.pairs - changed:,} stayed. "
        if changed
        else f"Of {held.pairs:,} pairs none changed{_by(ledger)}. "
    )
    return Text.assemble(counts, _conclusion(held) if held.difference else "")


def _words(ledger: FlipLedger) -> tuple[str, str]:
    if not ledger.binary:
        return _by(ledger), _by(ledger)
    higher = ledger.better == "higher"
    return (" (right → wrong)", " (wrong → right)") if higher else (" (0 → 1)", " (1 → 0)")


def _by(ledger: FlipLedger) -> str:
    return f" by more than {number(ledger.threshold)}" if ledger.threshold else ""


def _conclusion(held: SliceFlips) -> Text:
    p = f"p {p_text(held.p_value, '=')}, {held.test}" if held.test else "no test possible"
    if held.finding:
        return Text(f"The candidate is {held.finding} ({p}).", STYLES[held.finding])
    return Text(f"This may be noise ({p}).")


def _slices(ledger: FlipLedger) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("slice", overflow="fold")
    for name in ("pairs", "worse", "better", "difference", "p adj."):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("shown", no_wrap=True)
    for held in ledger.slices[:MOST_SLICES]:
        table.add_row(*_slice_cells(held))
    more = len(ledger.slices) - MOST_SLICES
    if more > 0:
        table.add_row(Text(f"and {more} slices that lost less", "dim"))
    return table


def _slice_cells(held: SliceFlips) -> list[Text]:
    style = STYLES[held.finding]
    return [
        Text(printable(held.slice or "")),
        Text(f"{held.pairs:,}"),
        Text(f"{held.worsened:,}"),
        Text(f"{held.improved:,}"),
        Text.assemble((signed(held.difference), style), " ", (span(held.interval), "dim")),
        Text(p_text(held.p_adjusted)),
        Text(held.finding or ("noise?" if held.difference else "–"), style or "dim"),
    ]


def _samples(ledger: FlipLedger, held: SliceFlips, width: int) -> Iterator[RenderableType]:
    worse, better = _words(ledger)
    of = f" in {printable(held.slice)}" if held.slice else ""
    for title, flips, count in (
        (f"Worse{worse}{of}", held.worse, held.worsened),
        (f"Better{better}{of}", held.better, held.improved),
    ):
        if flips:
            shown = f"{len(flips):,} of {count:,}" if len(flips) < count else f"all {count:,}"
            yield Text.assemble("\n", (title, "bold"), (f", {shown}", "dim"))
            for flip in flips:
                yield Padding(_flip(ledger, flip, width - 2), (0, 0, 0, 2))


def _flip(ledger: FlipLedger, flip: Flip, width: int) -> RenderableType:
    slices = ", ".join(f"{name}={value}" for name, value in flip.slices.items())
    scores = "" if ledger.binary else f"  {number(flip.baseline)} → {number(flip.candidate)}"
    head = Text.assemble(
        (printable(flip.sample), "bold"), scores, (f"  {printable(slices)}", "dim")
    )
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=LABELS - 1, no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    limit = LINES * (width - LABELS)
    if flip.question:
        grid.add_row("asked", Text(_end(printable(flip.question.strip()), limit)))
    for target in flip.targets[:1]:
        more = len(flip.targets) - 1
        also = f"  (or one of {more:,} more)" if more else ""
        grid.add_row("target", Text.assemble(_start(printable(target), limit), (also, "dim")))
    for label, text in _answers(flip, limit):
        grid.add_row(label, text)
    return Group(head, grid)


def _answers(flip: Flip, limit: int) -> Iterator[tuple[str, Text]]:
    """Yield label and text of both models' answers; of two long ones the part where they first differ."""
    ours, theirs = flip.candidate_answers, flip.baseline_answers
    if len(ours) == len(theirs) == 1:
        texts = _apart(_shown(theirs[0]), _shown(ours[0]), limit)
        yield from zip(("baseline", "candidate"), texts, strict=True)
        return
    for label, answers in (("baseline", theirs), ("candidate", ours)):
        if not answers:
            yield label, Text("not recorded", "dim")
        for place, answer in enumerate(answers[:MOST_ANSWERS], start=1):
            yield f"{label} {place}", Text(_start(_shown(answer), limit) or "(empty)")
        if len(answers) > MOST_ANSWERS:
            yield "", Text(f"and {len(answers) - MOST_ANSWERS:,} more", "dim")


def _shown(answer: str) -> str:
    """Return what of an answer is shown: what follows its reasoning, if anything does."""
    return printable(final_answer(answer).strip() or answer.strip())


def _apart(one: str, two: str, limit: int) -> Iterator[Text]:
    """Yield two texts cut to ``limit`` characters around the first place where they differ; what differs is bold."""
    before = _alike(one, two)
    after = _alike(one[before:][::-1], two[before:][::-1])
    start = max(0, min(before - limit // 3, max(len(one), len(two)) - limit))
    for text in (one, two):
        whole = Text(text)
        if before + after:
            whole.stylize("bold", before, len(text) - after)
        shown = whole[start : start + limit]
        yield (
            Text.assemble(
                ("…" if start else "", "dim"),
                shown,
                ("…" if start + limit < len(text) else "", "dim"),
            )
            if text
            else Text("(empty)", "dim")
        )


def _alike(one: str, two: str) -> int:
    """Return how many characters two texts have in common at their beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, two, strict=False)))


def _start(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"


def _end(text: str, limit: int) -> str:
    """Return the end of a text: of a long prompt that is where the question stands."""
    return text if len(text) <= limit else f"…{text[-limit:]}"


def p_text(p: float | None, equals: str = "") -> str:
    """Return a p-value with three decimals; a dash for none.

    >>> p_text(0.0412), p_text(0.00001), p_text(None), p_text(0.5, "=")
    ('0.041', '<0.001', '–', '= 0.500')
    """
    if p is None:
        return "–"
    if p < 0.001:
        return "< 0.001" if equals else "<0.001"
    return f"{equals} {p:.3f}".strip()
