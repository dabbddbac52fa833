"""Which samples changed sides between two models: scores by sample, the ledger of flips, and both answers to them."""

from evalkit.flips.answers import find_rows, shown_samples, with_answers
from evalkit.flips.ledger import Flip, FlipLedger, SliceFlips, flip_ledger
from evalkit.flips.scores import Scores, measure_name, same_definition, sample_scores

__all__ = [
    "Flip",
    "FlipLedger",
    "Scores",
    "SliceFlips",
    "find_rows",
    "flip_ledger",
    "measure_name",
    "same_definition",
    "sample_scores",
    "shown_samples",
    "with_answers",
]
