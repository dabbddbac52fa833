"""What every record of a file starts from, and the interval that stands beside each number."""

from __future__ import annotations

from evalkit.records.declared import Declared


class Record(Declared):
    """Base of the records that are written to disk: frozen, no NaN or infinity, unknown keys refused."""


class Interval(Record):
    """A confidence interval."""

    low: float
    """Lower end, in the estimate's unit."""
    high: float
    """Upper end."""
    level: float
    """Nominal coverage, such as 0.95."""
    method: str
    """``wilson``, ``t``, ``cr1-t``, ``bca`` …"""
