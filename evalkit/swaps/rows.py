"""A row of a data set, told about each group in turn.

The row is taken to be about the group that is named first in its fields, in the order in which the swap lists them. The
variant of that group is the row as it is; in each other's, the two groups are exchanged throughout. So the variant's
name tells whom the row is about, whichever group it was written about, and differences between variants have a
direction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from evalkit.swaps.lexicon import Lexicon

Row = Mapping[str, Any]
"""One row of a data set: field → value."""


def swapped_rows(row: Row, fields: Sequence[str], lexicon: Lexicon) -> dict[str, Row]:
    """Return group → the row about it, in the lexicon's order; fields hold a text or a list of texts.

    Raises ValueError, in words for a report, where a field holds no text or no word of any group stands in them.
    """
    texts = [text for field in fields for text in _texts(row, field)]
    about = next((m.group for text in texts for m in lexicon.mentions(text)), None)
    if about is None:
        where = " and ".join(map(repr, fields))
        raise ValueError(
            f"nothing to swap: no word of {lexicon.name} ({', '.join(lexicon.groups)}) stands in {where}"
        )
    return {
        group: {
            **row,
            **{
                field: _each(row[field], partial(lexicon.exchanged, one=about, other=group))
                for field in fields
            },
        }
        for group in lexicon.groups
    }


def _texts(row: Row, field: str) -> Iterator[str]:
    if field not in row:
        raise ValueError(f"nothing to swap: the row has no field {field!r}")
    value = row[field]
    held = value if isinstance(value, list) else [value]
    for text in held:
        if not isinstance(text, str):
            raise ValueError(f"field {field!r} holds no text to swap words in")
        yield text


def _each(value: str | list[str], rewrite: Callable[[str], str]) -> str | list[str]:
    return [rewrite(text) for text in value] if isinstance(value, list) else rewrite(value)
