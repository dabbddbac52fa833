"""Groups of people: how far a model's numbers lie apart between them, with what chance alone would show.

A gap is the greatest group's number minus the least's (or the least ÷ the greatest). As a point it is biased upward:
the more groups and the smaller they are, the wider it is by chance. So a gap has an interval whose lower end is above 0
only where the data show a difference, and stands beside its expectation under equal groups.
"""

from evalkit.fairness.changes import compare_gaps
from evalkit.fairness.gaps import Gaps, estimate_gaps
from evalkit.fairness.names import gap_metrics, gap_names, group_names, may_match_gap

__all__ = [
    "Gaps",
    "compare_gaps",
    "estimate_gaps",
    "gap_metrics",
    "gap_names",
    "group_names",
    "may_match_gap",
]
