"""Rows of ``weights.jsonl`` as tensors again, few enough of them to be drawn, and drawn to fit the page.

A mixture of experts has tens of thousands of tensors. Where they are too many, those of one kind and block are drawn
together, and the page says how.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from statistics import median_low
from typing import Any, Final, Literal

from evalkit.records.exchange import Role
from evalkit.records.weights import Fitted, Tensor, TensorRow
from evalkit.reports.clean import printable
from evalkit.reports.vega import COLOURS, WIDTH, Spec

KEPT: Final = ("drift", "cosine", "norm_change", "alpha", "alpha_tail", "importance")
"""Measures that the page draws or lists of each tensor."""
MOST_DRAWN: Final = 700
"""From so many tensors on, those of one kind and block are drawn together."""
MOST_OUTSIDE: Final = 24
"""Tensors outside blocks that are drawn."""
NARROW: Final = {WIDTH: 168, 2 * WIDTH: 380}
"""Width of a small plot → its width on the page."""
Rows = dict[str, dict[Role, list[TensorRow]]]
"""Task → model → its tensors."""


def tensor_rows(rows: Iterable[Mapping[str, Any]]) -> Rows:
    """Return every tensor with the measures of ``KEPT``, in the order of the file."""
    found: Rows = {}
    for row in rows:
        held = found.setdefault(row["task"], {"candidate": [], "baseline": []})
        held[row["model"]].append(_tensor_row(row))
    return found


def _tensor_row(row: Mapping[str, Any]) -> TensorRow:
    tensor = Tensor(
        name=printable(row["tensor"]),
        stored=row["stored"],
        shape=tuple(row["shape"]),
        dtype=row["dtype"],
        module=row["module"] if row["module"] in COLOURS else "other",
        form=row["form"],
        depth=row["depth"],
        expert=row.get("expert"),
        part_of=row.get("part_of", ""),
    )
    measured = row["measured"]
    return TensorRow(tensor, {name: Fitted(**measured[name]) for name in KEPT if name in measured})


def number_of(row: TensorRow, measure: str) -> float | None:
    """Return a tensor's number; None where it has none that is finite."""
    held = row.measured.get(measure)
    if held is None or held.value is None or not isfinite(held.value):
        return None
    return held.value


def drawable(
    rows: Sequence[TensorRow],
    measure: str,
    how: Literal["greatest", "median", "sum"],
    most: int = MOST_DRAWN,
) -> tuple[list[TensorRow], str]:
    """Return so few tensors that they can be drawn, and what was done, in words; all, and nothing, where they can be.

    Those without a number are kept: plots count them.
    """
    having = [row for row in rows if number_of(row, measure) is not None]
    if len(having) <= most:
        return list(rows), ""
    places: dict[tuple[str, int], list[TensorRow]] = {}
    outside: list[TensorRow] = []
    for row in having:
        if row.tensor.depth is None:
            outside.append(row)
        else:
            places.setdefault((row.tensor.module, row.tensor.depth), []).append(row)
    outside.sort(key=lambda row: -(number_of(row, measure) or 0.0))
    drawn = [_together(held, measure, how) for held in places.values()]
    several = any(len(held) > 1 for held in places.values())
    told = [f"{len(having):,} tensors have this number."]
    if several:
        what = {
            "greatest": "the greatest of each kind in a block is drawn",
            "median": "the median one of each kind in a block is drawn",
            "sum": "those of one kind in a block are drawn as one",
        }
        told.append(f"Of them {what[how]}.")
    if len(outside) > MOST_OUTSIDE:
        told.append(f"Of {len(outside):,} outside blocks the greatest {MOST_OUTSIDE} are drawn.")
    without = [row for row in rows if number_of(row, measure) is None]
    said = " ".join([*told, "weights.jsonl has each."]) if len(told) > 1 else ""
    return [*drawn, *outside[:MOST_OUTSIDE], *without], said


def _together(held: Sequence[TensorRow], measure: str, how: str) -> TensorRow:
    if len(held) == 1:
        return held[0]
    value: Callable[[TensorRow], float] = lambda row: number_of(row, measure) or 0.0  # noqa: E731
    if how == "greatest":
        return max(held, key=value)
    if how == "median":
        middle = median_low(map(value, held))
        return next(row for row in held if value(row) == middle)
    first = held[0].tensor
    name = f"{first.name} and {len(held) - 1:,} more"
    tensor = replace(first, name=name, shape=(sum(row.tensor.count for row in held),))
    return TensorRow(tensor, {measure: Fitted(sum(map(value, held)))})


def parted(spec: Spec) -> tuple[str, list[str], Spec]:
    """Return a plot's title, the lines under it, and the plot without them, narrow enough for the page's column.

    Text of the page wraps, grows and is read aloud; text in a drawing does not.
    """
    bare = _narrowed(spec)
    title = bare.pop("title")
    # The figure around it says what it shows.
    bare["config"] = spec["config"] | {"mark": {"aria": False}}
    return title["text"], title["subtitle"], bare


def _narrowed(part: Spec) -> Spec:
    held = dict(part)
    for several in ("vconcat", "concat"):
        if several in held:
            held[several] = [_narrowed(each) for each in held[several]]
    if "layer" in held:
        held["width"] = NARROW.get(held["width"], held["width"])
    return held
