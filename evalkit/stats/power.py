"""What a decision can see with n samples: closed forms, and exact chances of whatever answers a rule gives.

Theory. A test of a mean difference at one-sided alpha sees a distance δ between truth and limit with probability
``power`` when δ = (z_{1−α} + z_power)·σ/√n. Real rules are stepped functions of counts, not of a normal variable; for
them every outcome is given its probability and the rule's own answer. The answers change only at few places, so that
*stretches* of equal answers are found by bisection and their probabilities are differences of a distribution function.

**Source**: Schuirmann 1987, J. Pharmacokinet. Biopharm. 15, 657; Miller 2024, arXiv 2411.00640, section 5 (σ² = ω² +
σ_A²/K_A + σ_B²/K_B); Fréchet 1935, Fund. Math. 25, 379 (bounds of joint chances).

**Deviation**: numbers of discordant pairs are taken in blocks of at most 0.7 standard deviations, each decided at its
middle; the error is below 0.003 (checked against full enumeration).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import pairwise
from math import ceil, log2, prod, sqrt
from typing import TypeVar

Answer = TypeVar("Answer", bound=Hashable)

NEGLIGIBLE = 3.5
"""Standard deviations beyond which outcomes count as those next to them: 5 of 10,000 lie there."""


def required_samples(variance: float, distance: float, *, alpha: float, power: float) -> float:
    """Return n = (z_{1−α} + z_power)²·variance/distance², for a one-sided test at ``alpha``.

    ``variance`` is that of one sample's score or paired difference (the share of discordant pairs for zeros and ones),
    ``distance`` how far the truth lies from the limit. A two-sided test at α is a one-sided one at α/2.

    >>> round(required_samples(0.06, 0.02, alpha=0.05, power=0.8))
    927
    """
    return _quantiles(alpha, power) ** 2 * variance / distance**2


def detectable_distance(variance: float, n: float, *, alpha: float, power: float) -> float:
    """Return the distance from the limit that n samples show with probability ``power``."""
    return _quantiles(alpha, power) * sqrt(variance / n)


def _quantiles(alpha: float, power: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(1 - alpha) + ndtri(power))


def joint_chance(chances: Sequence[float]) -> tuple[float, float]:
    """Return the chance that all hold if they are independent, and Fréchet's lower bound whatever they are.

    >>> joint_chance([0.5, 0.75])
    (0.375, 0.25)
    """
    return prod(chances), max(0.0, 1.0 - sum(1.0 - chance for chance in chances))


Stretches = list[tuple[int, int, Answer]]
"""(first, last, answer) in ascending order, without gaps."""


def stretches(answer: Callable[[int], Answer], probes: Iterable[int]) -> Stretches[Answer]:
    """Return the stretches of equal answers between the least and the greatest probe.

    Between two neighbouring probes of equal answer nothing else is looked for; between others every change found by
    halving is followed up.
    """
    places = sorted(set(probes))
    found: Stretches[Answer] = [(places[0], places[0], answer(places[0]))]

    def walk(low: int, at_low: Answer, high: int, at_high: Answer) -> None:
        """Extend ``found``, which ends at ``low``, to ``high``."""
        if at_low != at_high and high - low > 1:
            middle = (low + high) // 2
            at_middle = answer(middle)
            walk(low, at_low, middle, at_middle)
            walk(middle, at_middle, high, at_high)
        elif at_low == at_high:
            found[-1] = (found[-1][0], high, at_low)
        else:
            found.append((high, high, at_high))

    for low, high in pairwise(places):
        walk(low, found[-1][2], high, answer(high))
    return found


def chances_of(held: Stretches[Answer], below: Callable[[float], float]) -> dict[Answer, float]:
    """Return each answer's probability; ``below(k)`` is P(K ≤ k). The ends of the first and last stretch are open."""
    chances: dict[Answer, float] = {}
    reached = 0.0
    for place, (_, last, answer) in enumerate(held):
        so_far = 1.0 if place == len(held) - 1 else below(last)
        chances[answer] = chances.get(answer, 0.0) + max(0.0, so_far - reached)
        reached = so_far
    return chances


def binomial_below(n: int, p: float) -> Callable[[float], float]:
    """Return k ↦ P(Binomial(n, p) ≤ k)."""
    from scipy.special import bdtr

    share = min(max(p, 0.0), 1.0)

    def below(k: float) -> float:
        return 0.0 if k < 0 else 1.0 if k >= n else float(bdtr(k, n, share))

    return below


def likely_counts(n: int, p: float) -> tuple[int, int]:
    """Return the counts between which Binomial(n, p) lies but for a negligible probability."""
    spread = sqrt(n * p * (1 - p))
    reach = NEGLIGIBLE * spread + 2 if spread else 0.0
    return max(0, int(n * p - reach)), min(n, ceil(n * p + reach))


def count_chances(answer: Callable[[int], Answer], n: int, p: float) -> dict[Answer, float]:
    """Return each answer's probability for a count that is Binomial(n, p).

    ``answer(k)`` is asked at likely counts about two standard deviations apart and at the mean, then by halving; it
    should remember what it was asked before.
    """
    low, high = likely_counts(n, p)
    step = _power_of_two(2 * sqrt(n * p * (1 - p)))
    likely = [*range(-(-low // step) * step, high + 1, step), round(n * p)]
    held = stretches(answer, [low, high, *(k for k in likely if low <= k <= high)])
    return chances_of(held, binomial_below(n, p))


def pair_chances(
    answer: Callable[[int, int], Answer], n: int, gained: float, lost: float
) -> dict[Answer, float]:
    """Return each answer's probability over n pairs, of which shares ``gained`` and ``lost`` go one way or the other.

    ``answer(g, l)`` is asked for g pairs gained and l lost; it should remember what it was asked before.
    """
    share = min(gained + lost, 1.0)
    if not lost:
        return count_chances(lambda d: answer(d, 0), n, share)
    if not gained:
        return count_chances(lambda d: answer(0, d), n, share)
    up = gained / share
    low, high = likely_counts(n, share)
    step = _block(n, share, up)
    places = sorted({min(d, n) for d in range(low // step * step, high + step, step)})
    below = binomial_below(n, share)
    chances: dict[Answer, float] = {}
    reached, near = 0.0, set[int]()
    for discordant in places:
        so_far = 1.0 if discordant == places[-1] else below(discordant + step // 2)
        held = _over_gained(answer, discordant, up, near)
        # As more pairs are discordant, answers turn at about the same gained − lost.
        near = {first + place for first, _, _ in held[1:] for place in (step // 2 - 1, step // 2)}
        within = chances_of(held, binomial_below(discordant, up))
        for found, chance in within.items():
            chances[found] = chances.get(found, 0.0) + (so_far - reached) * chance
        reached = so_far
    return chances


def _over_gained(
    answer: Callable[[int, int], Answer], discordant: int, up: float, near: Iterable[int]
) -> Stretches[Answer]:
    """Return the stretches over the likely numbers gained, looked for between few places and those that are ``near``.

    Among the few are the mean and the half, where two-sided requirements are met if anywhere.
    """
    low, high = likely_counts(discordant, up)
    places = {round(discordant * up), discordant // 2, *near}
    likely = [low, high, *(g for g in places if low <= g <= high)]
    return stretches(lambda gained: answer(gained, discordant - gained), likely)


def _block(n: int, share: float, up: float) -> int:
    """Return how many numbers of discordant pairs are taken together.

    Not more than 0.7 standard deviations of their number, nor than moves the mean of gained − lost by 0.7 standard
    deviations of it, but 1/16 of the first. An odd number, so that even and odd numbers are met in turn: which
    differences there can be depends on that.
    """
    spread = sqrt(n * share * (1 - share))
    within = 2 * sqrt(n * share * up * (1 - up)) / max(abs(2 * up - 1), 1e-9)
    return max(1, (int(max(0.7 * min(spread, within), spread / 16)) - 1) // 2 * 2 + 1)


def _power_of_two(at_most: float) -> int:
    """Return the greatest power of two that is not above a number; 1 where none is. Halving meets the same places."""
    return 1 << max(0, int(log2(max(1.0, at_most))))


def normal_below(mean: float, error: float) -> Callable[[float], float]:
    """Return x ↦ P(X ≤ x) for X normal with this mean and standard error > 0."""
    from scipy.special import ndtr

    return lambda x: float(ndtr((x - mean) / error))


Region = tuple[float, float]


def region_above(
    chance: Callable[[float], float],
    grid: Sequence[float],
    wanted: float,
    tolerance: float,
) -> Region | None:
    """Return the ends of the region around the likeliest point of an ascending grid where ``chance`` ≥ ``wanted``.

    An end of the grid means that the region does not end within it. None where no point of the grid reaches it.
    """
    values = [chance(x) for x in grid]
    best = max(range(len(grid)), key=values.__getitem__)
    if values[best] < wanted:
        return None
    first = last = best
    while first > 0 and values[first - 1] >= wanted:
        first -= 1
    while last < len(grid) - 1 and values[last + 1] >= wanted:
        last += 1

    def edge(inside: float, outside: float) -> float:
        while abs(outside - inside) > tolerance:
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if chance(middle) >= wanted else (inside, middle)
        return inside

    low = grid[0] if first == 0 else edge(grid[first], grid[first - 1])
    high = grid[-1] if last == len(grid) - 1 else edge(grid[last], grid[last + 1])
    return low, high


def least_samples(
    enough: Callable[[int], bool], guess: int, most: int, precision: float = 0.02
) -> int | None:
    """Return the n from which ``enough`` holds, to a relative ``precision``; None above ``most``.

    It is bracketed from ``guess`` in growing steps, then halved: where ``enough`` is not monotone (counts are steps),
    some n below may do as well.
    """
    high, factor = min(max(2, guess), most), 1.15
    if enough(high):
        while (low := max(1, int(high / factor))) > 1 and enough(low):
            high, factor = low, factor**1.5
    else:
        low = high
        while not enough(high := min(ceil(low * factor), most)):
            if high >= most:
                return None
            low, factor = high, factor**1.5
    while high - low > max(1, int(precision * low)):
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
