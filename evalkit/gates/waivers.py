"""Waivers: owned, dated exceptions. One changes what an outcome counts as, never what was measured or found.

A waiver covers the outcomes of its rule, or those of one slice, that would otherwise count as failed, undecided or
missing. It holds up to and including its last day; after that it is a mistake in the gate file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date

from evalkit.errors import UsageError
from evalkit.records.suite import GateSpec, WaiverSpec
from evalkit.records.verdict import Outcome


def check_dates(gates: Sequence[GateSpec], today: date | None) -> None:
    """Raise UsageError where a waiver has expired, or where there are some and no day is given to judge them by."""
    held = [(gate, waiver) for gate in gates for waiver in gate.waivers]
    if held and today is None:
        names = ", ".join(dict.fromkeys(gate.gate for gate, _ in held))
        raise UsageError(f"waivers cannot be judged without today's date (gates: {names})")
    expired = [
        f"gate {gate.gate}: {named(waiver)} expired on {waiver.expires}"
        for gate, waiver in held
        if today is not None and is_expired(waiver.expires, today)
    ]
    if expired:
        raise UsageError("; ".join(expired))


def is_expired(expires: date, today: date) -> bool:
    """Return whether the last day has passed."""
    return today > expires


def waived(gate: GateSpec, outcomes: Sequence[Outcome]) -> tuple[tuple[Outcome, ...], list[str]]:
    """Return a gate's outcomes with its waivers on those they cover, and a note on each waiver that did nothing."""
    narrow_first = sorted(gate.waivers, key=lambda waiver: waiver.slice is None)

    def under(outcome: Outcome) -> Outcome:
        waiver = next((w for w in narrow_first if covers(w, outcome)), None)
        if waiver is None or outcome.counts_as == "pass":
            return outcome
        return outcome.model_copy(update={"counts_as": "waived", "waiver": waiver})

    return tuple(map(under, outcomes)), list(_idle(gate, outcomes))


def named(waiver: WaiverSpec) -> str:
    """Return which waiver is meant: ``the waiver of rule json-valid on region=eu``."""
    return f"the waiver of rule {waiver.rule}" + (f" on {waiver.slice}" if waiver.slice else "")


def covers(waiver: WaiverSpec, outcome: Outcome) -> bool:
    """Tell whether a waiver is of an outcome's rule and, where it names one, of its slice."""
    slice_ = outcome.estimate.partition("@")[2]
    return waiver.rule == outcome.rule and waiver.slice in (None, slice_)


def _idle(gate: GateSpec, outcomes: Sequence[Outcome]) -> Iterator[str]:
    for waiver in gate.waivers:
        covered = [outcome for outcome in outcomes if covers(waiver, outcome)]
        whose = f"gate {gate.gate}: {named(waiver)} ({waiver.owner}, until {waiver.expires})"
        if not covered:
            yield f"{whose} matched no outcome of this run"
        elif all(outcome.counts_as == "pass" for outcome in covered):
            yield f"{whose} was not needed: what it covers passed"
