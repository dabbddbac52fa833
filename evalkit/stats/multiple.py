"""p-values adjusted for how many there are.

**Source**: Holm 1979, Scand. J. Stat. 6, 65; Benjamini and Hochberg 1995, J. R. Stat. Soc. B 57, 289.
"""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values: those at most alpha are rejected, with an error rate of alpha for them all.

    The k-th smallest of m is max over j ≤ k of (m − j + 1)·p_(j), 1 at most.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    m, greatest = len(p_values), 0.0
    adjusted = [0.0] * m
    for rank, place in enumerate(sorted(range(m), key=p_values.__getitem__)):
        greatest = max(greatest, min(1.0, (m - rank) * p_values[place]))
        adjusted[place] = greatest
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Return Benjamini and Hochberg's adjusted p-values: those at most q hold a share of false ones of q on average."""
    from scipy.stats import false_discovery_control

    return [float(p) for p in false_discovery_control(p_values)] if p_values else []
