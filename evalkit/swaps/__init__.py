"""Texts about one group told about another: the words for the group change, and nothing else does."""

from evalkit.swaps.lexicon import Lexicon, Mention
from evalkit.swaps.rows import swapped_rows
from evalkit.swaps.shipped import SHIPPED, Shipped, groups_of, lexicon_of, shipped_lexicon

__all__ = [
    "SHIPPED",
    "Lexicon",
    "Mention",
    "Shipped",
    "groups_of",
    "lexicon_of",
    "shipped_lexicon",
    "swapped_rows",
]
