"""Numbers as a release manager reads them, and how many samples a decision would need."""

from __future__ import annotations

from evalkit.records.scorecard import Disparity, Interval
from evalkit.stats.intervals import normal_quantile

MOST_DECIMALS = 8
"""Numbers that differ only beyond these are shown alike."""
MOST_SAMPLES = 10_000_000
"""Above this many, a number of samples is no plan."""


def figures(*values: float) -> tuple[str, ...]:
    """Return numbers with as many decimals as it takes to tell them apart, three at least.

    >>> figures(0.95004, 0.95)
    ('0.95004', '0.95000')
    """
    apart = len({round(value, MOST_DECIMALS) for value in values})
    decimals = 3
    while decimals < MOST_DECIMALS and len({f"{value:.{decimals}f}" for value in values}) < apart:
        decimals += 1
    # Adding 0 turns the −0 that rounding leaves into 0.
    return tuple(
        f"{round(value, decimals) + 0.0:,.{decimals}f}".replace("-", "−") for value in values
    )


def plain(value: float) -> str:
    """Return a number as a file would say it: ``0.95``, ``40``."""
    return f"{value + 0.0:.10g}".replace("-", "−")


def short(value: float) -> str:
    """Return a computed number with four significant digits.

    >>> short(-0.0160001)
    '−0.016'
    """
    return plain(float(f"{value:.4g}"))


def percent(level: float) -> str:
    """Return a level of confidence: ``95 %``."""
    return f"{100 * level:.4g} %"


def value_with_interval(value: float, interval: Interval, *others: float) -> str:
    """Return ``0.981 (95 % interval 0.962 to 0.991)``, with decimals enough to tell it from ``others``."""
    shown, low, high = figures(value, interval.low, interval.high, *others)[:3]
    return f"{shown} ({percent(interval.level)} interval {low} to {high})"


def samples_needed(value: float, interval: Interval, threshold: float, n: int) -> float:
    """Return the number of samples at which an interval around ``value`` would no longer hold ``threshold``.

    Normal approximation: half an interval's width shrinks with 1/√n, so with h from value to the end beyond the
    threshold, n·(h/|value − threshold|)². Wilson's interval excludes p₀ exactly from z²·p₀·(1 − p₀)/(value − p₀)² on,
    and Clopper and Pearson's from a little more.
    Infinite where the value is the threshold. The value is taken to stay what it is, so this is no power calculation.
    """
    gap = abs(value - threshold)
    if gap < 10**-MOST_DECIMALS:
        return float("inf")
    if interval.method in ("wilson", "clopper-pearson") and 0 < threshold < 1:
        z = normal_quantile(interval.level)
        return z * z * threshold * (1 - threshold) / gap**2
    half = value - interval.low if threshold < value else interval.high - value
    return n * (max(half, 0.0) / gap) ** 2


def need_in_words(needed: float, n: int, noun: str = "samples") -> str:
    """Return what an undecided rule asks for: ``at this value it needs about 1,540 samples; you have 300``."""
    if needed > MOST_SAMPLES:
        return f"the value is so close to it that no number of {noun} would decide; you have {n:,}"
    digits = max(0, len(str(round(needed))) - 3)
    about = max(round(needed / 10**digits) * 10**digits, n + 1)
    return f"at this value it needs about {about:,} {noun}; you have {n:,}"


def between(disparity: Disparity) -> str:
    """Return the groups farthest apart with their numbers: ``tpr is lowest for Oak (0.512 of 201, 95 % …)``."""
    if disparity.low is not None and disparity.low == disparity.high:
        held = [c for c in disparity.cells if c.measure == disparity.measure and not c.left_out]
        if held and held[0].value is not None and all(c.value == held[0].value for c in held):
            return f"{disparity.measure} is {figures(held[0].value)[0]} for every {disparity.by}"
    ends = []
    for word, group in (("lowest", disparity.low), ("highest", disparity.high)):
        cell = next(
            (c for c in disparity.cells if (c.measure, c.group) == (disparity.measure, group)), None
        )
        if cell is None or cell.value is None:
            continue
        (value,) = figures(cell.value)
        told = f"{value} on {cell.n:,} samples"
        if cell.interval is not None:
            low, high = figures(cell.interval.low, cell.interval.high)
            told += f", {percent(cell.interval.level)} interval {low} to {high}"
        ends.append(f"{word} for {disparity.by}={cell.group} ({told})")
    return f"{disparity.measure} is {' and '.join(ends)}"
