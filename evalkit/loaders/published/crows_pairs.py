"""Rows of CrowS-Pairs: two sentences that differ in the words for a group, one of them more stereotypical.

**Fields**: ``id`` (the file's own number), ``sentences`` (the more stereotypical one first), ``bias_type`` and
``direction``: ``stereo`` where the first sentence shows a stereotype of a disadvantaged group, ``antistereo`` where the
second goes against one.

**Source**: Nangia et al. 2020, EMNLP, section 2; ``data/crows_pairs_anonymized.csv``, whose first column has no name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from evalkit.loaders.rows import CsvRows, Format, Row

DIRECTIONS = ("stereo", "antistereo")
NUMBER = ""
"""The name of the column that holds a pair's number."""


class CrowsPairsRows(CsvRows):
    """CrowS-Pairs' pairs."""

    format: ClassVar[Format] = "crows_pairs"
    unnamed: ClassVar[bool] = True

    def _read(self) -> Iterator[tuple[int, Row]]:
        needed = (NUMBER, "sent_more", "sent_less", "stereo_antistereo", "bias_type")
        for line, row in super()._read():
            if lacking := [column for column in needed if not row.get(column)]:
                self._refuse(
                    line,
                    f"this is no pair of CrowS-Pairs: nothing under {', '.join(map(repr, lacking))}",
                    ", ".join(map(repr, needed)),
                )
            if row["stereo_antistereo"] not in DIRECTIONS:
                found = f"the direction is {row['stereo_antistereo']!r}"
                self._refuse(line, found, " or ".join(DIRECTIONS))
            yield (
                line,
                {
                    "id": row[NUMBER],
                    "sentences": [row["sent_more"], row["sent_less"]],
                    "bias_type": row["bias_type"],
                    "direction": row["stereo_antistereo"],
                },
            )
