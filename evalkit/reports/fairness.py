"""What a run told about groups of people, as rows that a report draws: which gaps are shown, and which first.

A block is one metric of one task between the groups of one field. Gaps that a rule reads come first, then the three
that the field names first (demographic parity, equal opportunity, equalized odds) or, of a metric that has none of
them, the gap of its first measure; the rest is counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from evalkit.records.scorecard import Cell, Comparison, Disparity, Estimate, Scorecard
from evalkit.reports.clean import printable

FIRST: Final = (
    "demographic_parity_difference",
    "equal_opportunity_difference",
    "equalized_odds_difference",
)
"""Gaps of decisions that are shown whether a rule reads them or not."""
UNSCORED: Final = "unscored.gap"
"""The gap of answers without a score; shown where there is one."""
MOST_GAPS: Final = 6
"""Gaps shown of a block."""
MOST_BLOCKS: Final = 4
"""Blocks shown of a run."""
MOST_GROUPS: Final = 12
"""Groups shown of a block."""
LONGEST: Final = 40
"""Characters of a group's name that are shown."""

Key = tuple[str, str, str]
Rank = tuple[int, int]
_LAST: Final[Rank] = (9, 0)


@dataclass(frozen=True, slots=True)
class GapRow:
    """One gap of both models, and how it changed."""

    name: str
    """The gap's name, without its metric's."""
    candidate: Disparity | None
    """What stands behind the candidate's gap."""
    baseline: Disparity | None
    """The same of the baseline's."""
    candidate_estimate: Estimate | None
    """The candidate's gap with its interval."""
    baseline_estimate: Estimate | None
    """The baseline's."""
    change: Comparison | None
    """Candidate − baseline, on the same samples."""

    @property
    def shown(self) -> Disparity:
        """The candidate's disparity; the baseline's where the candidate has none."""
        held = self.candidate or self.baseline
        assert held is not None, "a row stands for at least one disparity"
        return held


@dataclass(frozen=True, slots=True)
class Block:
    """One metric of one task between the groups of one field."""

    task: str
    """The task's name."""
    metric: str
    """The metric's name."""
    by: str
    """The field that names the groups."""
    rows: tuple[GapRow, ...]
    """The gaps that are shown, what matters first."""
    more: int
    """How many gaps are not."""

    @property
    def paired(self) -> bool:
        """Whether a baseline was measured as well."""
        return any(row.baseline is not None for row in self.rows)

    @property
    def measures(self) -> list[str]:
        """The measures behind the gaps that are shown, in their order.

        The share without a score is one of them only where there is no other: ``without_score`` tells it too.
        """
        found = list(dict.fromkeys([*self.cells("candidate"), *self.cells("baseline")]))
        others = [m for m in found if short_name(m, self.metric) != "unscored"]
        return others or found

    def without_score(self) -> dict[str, int]:
        """Return group → planned samples without a score, the most first; groups without one are left out."""
        found: dict[str, int] = {}
        for cells in self.cells("candidate").values():
            for group, cell in cells.items():
                found[group] = max(found.get(group, 0), cell.missing)
        lost = [(group, n) for group, n in found.items() if n]
        return dict(sorted(lost, key=lambda item: -item[1]))

    def _sizes(self) -> dict[str, int]:
        """Return group → samples of the measure that is over the most of them."""
        sizes: dict[str, int] = {}
        for role in ("candidate", "baseline"):
            for cells in self.cells(role).values():
                for group, cell in cells.items():
                    sizes[group] = max(sizes.get(group, 0), cell.n)
        return sizes

    def cells(self, role: str) -> dict[str, dict[str, Cell]]:
        """Return measure → group → the group's number, of the gaps that are shown, in their order."""
        found: dict[str, dict[str, Cell]] = {}
        for row in self.rows:
            held = row.candidate if role == "candidate" else row.baseline
            for cell in held.cells if held else ():
                found.setdefault(cell.measure, {}).setdefault(cell.group, cell)
        return found

    def groups(self) -> tuple[list[str], int]:
        """Return the groups that are shown, in the order of their names, and how many are not.

        Where they are too many, those at the ends of a gap are shown first, then the largest.
        """
        sizes = self._sizes()
        ends = {end for row in self.rows for end in (row.shown.low, row.shown.high)}
        ranked = sorted(sizes, key=lambda group: (group not in ends, -sizes[group]))
        kept = set(ranked[:MOST_GROUPS])
        return [group for group in sizes if group in kept], max(0, len(sizes) - MOST_GROUPS)

    def left_out(self) -> dict[str, list[str]]:
        """Return reason → groups that are no part of a gap for it; how few samples they have the table says."""
        found: dict[str, dict[str, None]] = {}
        for cells in self.cells("candidate").values():
            for group, cell in cells.items():
                if cell.left_out:
                    _, _, least = cell.left_out.partition(
                        " samples, " if cell.n != 1 else " sample, "
                    )
                    reason = f"{least} samples" if least else cell.left_out
                    found.setdefault(reason, {})[group] = None
        return {reason: list(groups) for reason, groups in found.items()}

    def not_estimable(self) -> Iterator[str]:
        """Yield a sentence for each reason why gaps that are shown have no value."""
        found: dict[tuple[str, str], list[str]] = {}
        for row in self.rows:
            held = (("candidate", row.candidate), ("baseline", row.baseline))
            why = {role: d.reason for role, d in held if d is not None and d.value is None}
            for role, reason in why.items():
                if role == "baseline" and why.get("candidate") == reason:
                    continue
                whose = " of the baseline" if role == "baseline" else ""
                found.setdefault((whose, reason), []).append(row.name)
        for (whose, reason), names in found.items():
            are = "is" if len(names) == 1 else "are"
            yield f"{', '.join(names)}{whose} {are} not estimable: {printable(reason)}"

    def not_compared(self) -> list[str]:
        """Return why changes of gaps that are shown are not known, each reason once."""
        found = (row.change for row in self.rows)
        why = {
            printable(change.reason): change.status
            for change in found
            if change is not None and change.status != "compared"
        }
        return [f"{status}: {reason}" for reason, status in why.items() if reason]

    def warnings(self) -> list[str]:
        """Return what else a reader of the gaps that are shown must know, each once."""
        found: dict[str, None] = {}
        for row in self.rows:
            held = ((row.candidate, row.candidate_estimate), (row.baseline, row.baseline_estimate))
            for disparity, estimate in held:
                for warning in estimate.warnings if estimate else ():
                    # The table's cells show which groups are left out, and its notes why there is no gap.
                    told = warning.startswith("groups left out")
                    if not told and (disparity is None or warning != disparity.reason):
                        found[printable(warning)] = None
        return list(found)


def blocks(scorecard: Scorecard, read: Sequence[str]) -> tuple[list[Block], list[str]]:
    """Return the blocks that are shown, and the names of those that are not.

    ``read`` holds the names of the estimates that rules were decided on, what needs attention first. Blocks come in the
    scorecard's order; where they are too many, those with such a gap go first, then those of decisions.
    """
    rows: dict[Key, list[GapRow]] = {}
    for (task, metric, by), row in _rows(scorecard).items():
        rows.setdefault((task, metric.partition(".")[0], by), []).append(row)
    places = {name: place for place, name in reversed(list(enumerate(read)))}
    ranks = {key: [_rank(row, found, places) for row in found] for key, found in rows.items()}
    kept = sorted(rows, key=lambda key: min(ranks[key]))[:MOST_BLOCKS]
    shown = [_block(key, rows[key], ranks[key]) for key in rows if key in kept]
    rest = [
        f"{task}/{metric} by {by}" for task, metric, by in rows if (task, metric, by) not in kept
    ]
    return shown, rest


def _block(key: Key, rows: Sequence[GapRow], ranks: Sequence[Rank]) -> Block:
    matter = sorted((rank, place) for place, rank in enumerate(ranks) if rank != _LAST)
    shown = tuple(rows[place] for _, place in matter[:MOST_GAPS])
    return Block(*key, rows=shown, more=len(rows) - len(shown))


def _rank(row: GapRow, rows: Sequence[GapRow], places: Mapping[str, int]) -> Rank:
    """Return where a gap stands; ``_LAST`` where it is only counted."""
    if row.shown.name in places:
        return 0, places[row.shown.name]
    if row.name in FIRST:
        return 1, FIRST.index(row.name)
    if row is rows[0] and not any(other.name in FIRST for other in rows):
        return 2, 0
    held = (row.candidate_estimate, row.baseline_estimate)
    refused = any(e is not None and e.interval is not None and e.interval.low > 0 for e in held)
    return (2, 1) if row.name == UNSCORED and refused else _LAST


def _rows(scorecard: Scorecard) -> dict[Key, GapRow]:
    """Return every gap by (task, metric.gap, field), in the scorecard's order."""
    held: dict[Key, dict[str, Disparity]] = {}
    for disparity in scorecard.disparities:
        key = disparity.task, disparity.metric, disparity.by
        held.setdefault(key, {})[disparity.model] = disparity
    estimates = {
        (e.model, e.task, e.metric, e.slice): e for e in scorecard.estimates if e.kind == "gap"
    }
    changes = {(c.task, c.metric, c.slice): c for c in scorecard.comparisons}
    return {
        key: GapRow(
            short_name(key[1], key[1].partition(".")[0]),
            found.get("candidate"),
            found.get("baseline"),
            estimates.get(("candidate", *key)),
            estimates.get(("baseline", *key)),
            changes.get(key),
        )
        for key, found in held.items()
    }


def short_name(name: str, metric: str) -> str:
    """Return what a metric's name is followed by; the name itself where that is nothing.

    >>> short_name("decisions.tpr", "decisions"), short_name("exact_match", "exact_match")
    ('tpr', 'exact_match')
    """
    return name.removeprefix(f"{metric}.")


def group_name(name: str) -> str:
    r"""Return a group's name as it may be printed: no control character, not empty, not too long.

    >>> group_name("F"), group_name(""), group_name("a\u202eb"), group_name("x" * 50)[-4:]
    ('F', '(empty)', 'a\\u202eb', 'xxx…')
    """
    shown = printable(name) or "(empty)"
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}…"
