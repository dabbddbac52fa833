"""Compares two JSON documents leaf by leaf: how much of a nested payload is right.

A leaf is a value that holds no other: a string, number, boolean or null, and an empty object or array. A leaf of the
prediction is right when the same leaf stands at the same place of the gold document with an equal value. With ``right``
such leaves, precision is ``right / predicted``, recall ``right / gold``; ``aligned`` counts the places where both have
a leaf, so the union of the places is ``gold + predicted - aligned``.

Deviation: places are told apart by kind, not by JSON Pointer alone: ``{"0": x}`` is not ``[x]``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from evalkit.metrics.json_places import MISSING, Json, Place, pointer_text

ASSIGN_LIMIT = 1_000_000
"""Most leaf pairs (gold × predicted) of two arrays that ``assign`` tries; longer arrays go by index."""

Path = tuple[str | int, ...]


@dataclass(slots=True)
class Tally:
    """Counts of leaves of one gold document, or a part of it, and one prediction."""

    right: int = 0
    """Leaves at the same place with equal values."""
    gold: int = 0
    """Leaves of the gold document."""
    predicted: int = 0
    """Leaves of the prediction."""
    aligned: int = 0
    """Places where both have a leaf."""
    difference: tuple[Path, Json, Json] | None = None
    """The first place, in the gold document's order, that is not right, and what stands there."""

    @property
    def exact(self) -> bool:
        """Whether every leaf of both is right."""
        return self.right == self.gold == self.predicted

    def add(self, part: Tally) -> None:
        """Add the counts of a part."""
        self.right += part.right
        self.gold += part.gold
        self.predicted += part.predicted
        self.aligned += part.aligned
        self.differs(part.difference)

    def differs(self, difference: tuple[Path, Json, Json] | None) -> None:
        """Note a difference, if it is the first."""
        if self.difference is None:
            self.difference = difference

    def describe(self) -> str:
        """Return the first difference in words; an empty text when there is none."""
        if self.difference is None:
            return ""
        path, gold, predicted = self.difference
        where = pointer_text(path) or "the document"
        if gold is MISSING:
            return f"{where}: not expected"
        if predicted is MISSING:
            return f"{where}: missing"
        return f"{where}: expected {_excerpt(gold)}, found {_excerpt(predicted)}"


def compare(gold: Json, predicted: Json, place: Place) -> Tally:
    """Return the counts of a prediction against the gold document, both as the strict parser reads them.

    ``place`` says what counts as equal; what it ignores has been removed. A document always has a leaf, since an
    empty one is its own.
    """
    tally = Tally()
    _compare(gold, predicted, place, (), tally)
    return tally


def count_leaves(value: Json) -> int:
    """Return how many leaves a document has.

    >>> count_leaves({"a": [1, 2], "b": {}, "c": None})
    4
    """
    if not value or not isinstance(value, dict | list):
        return 1
    return sum(map(count_leaves, value.values() if isinstance(value, dict) else value))


def _compare(gold: Json, predicted: Json, place: Place, path: Path, tally: Tally) -> None:
    if gold and predicted and isinstance(gold, dict) and isinstance(predicted, dict):
        _compare_objects(gold, predicted, place, path, tally)
    elif gold and predicted and isinstance(gold, list) and isinstance(predicted, list):
        _compare_arrays(gold, predicted, place, path, tally)
    else:
        right = False
        if _is_leaf(gold) and _is_leaf(predicted):
            right = place.equality.same(gold, predicted)
            tally.aligned += 1
            tally.right += right
        tally.gold += count_leaves(gold)
        tally.predicted += count_leaves(predicted)
        if not right:
            tally.differs((path, gold, predicted))


def _compare_objects(
    gold: dict[str, Json],
    predicted: dict[str, Json],
    place: Place,
    path: Path,
    tally: Tally,
) -> None:
    identical = 0
    for name, value in gold.items():
        other = predicted.get(name, MISSING)
        kind = type(value)
        if kind is type(other) and kind is not dict and kind is not list and value == other:
            identical += 1  # by far the commonest case, equal under every rule
        elif other is MISSING:
            tally.gold += count_leaves(value)
            tally.differs(((*path, name), value, MISSING))
        else:
            _compare(value, other, place.at(name), (*path, name), tally)
    tally.right += identical
    tally.gold += identical
    tally.predicted += identical
    tally.aligned += identical
    for name, other in predicted.items():
        if name not in gold:
            tally.predicted += count_leaves(other)
            tally.differs(((*path, name), MISSING, other))


def _compare_arrays(
    gold: list[Json],
    predicted: list[Json],
    place: Place,
    path: Path,
    tally: Tally,
) -> None:
    arrays = place.equality.arrays
    if arrays == "assign" and count_leaves(gold) * count_leaves(predicted) <= ASSIGN_LIMIT:
        pairs, parts = _best_pairs(gold, predicted, place, path)
    else:
        by_key = _pairs_by_key(gold, predicted, place.equality.key) if arrays == "key" else None
        pairs = (
            by_key if by_key is not None else {i: i for i in range(min(len(gold), len(predicted)))}
        )
        parts = {}
    for i, value in enumerate(gold):
        here = (*path, i)
        if i not in pairs:
            tally.gold += count_leaves(value)
            tally.differs((here, value, MISSING))
        elif i in parts:
            tally.add(parts[i])
        else:
            _compare(value, predicted[pairs[i]], place.at(i), here, tally)
    paired = set(pairs.values())
    for j, other in enumerate(predicted):
        if j not in paired:
            tally.predicted += count_leaves(other)
            tally.differs(((*path, j), MISSING, other))


def _pairs_by_key(gold: list[Json], predicted: list[Json], key: str) -> dict[int, int] | None:
    """Return gold index → predicted index of elements with one key; None where gold elements are not keyed.

    Of predicted elements with the same key the first is taken.
    """
    keys = [_identity(element, key) for element in gold]
    if None in keys or len(set(keys)) < len(keys):
        return None
    found: dict[tuple[bool, Json] | None, int] = {}
    for j, element in enumerate(predicted):
        found.setdefault(_identity(element, key), j)
    return {i: found[identity] for i, identity in enumerate(keys) if identity in found}


def _identity(element: Json, key: str) -> tuple[bool, Json] | None:
    value = element.get(key) if isinstance(element, dict) else None
    if value is None or isinstance(value, dict | list):
        return None
    return isinstance(value, bool), value


def _best_pairs(
    gold: list[Json], predicted: list[Json], place: Place, path: Path
) -> tuple[dict[int, int], dict[int, Tally]]:
    """Return the pairs of elements that make most leaves right, then align most, and their tallies."""
    from scipy.optimize import linear_sum_assignment

    parts = [[Tally() for _ in predicted] for _ in gold]
    for i, value in enumerate(gold):
        for j, other in enumerate(predicted):
            _compare(value, other, place.at(i), (*path, i), parts[i][j])
    most_aligned = sum(map(count_leaves, gold))
    worth = [[part.right * (most_aligned + 1) + part.aligned for part in row] for row in parts]
    rows, columns = linear_sum_assignment(worth, maximize=True)
    pairs = dict(zip(rows.tolist(), columns.tolist(), strict=True))
    return pairs, {i: parts[i][j] for i, j in pairs.items()}


def _is_leaf(value: Json) -> bool:
    return not value or not isinstance(value, dict | list)


def _excerpt(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"
