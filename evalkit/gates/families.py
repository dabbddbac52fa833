"""How a gate's rules combine: all must be shown to hold, or any regression that is shown blocks.

``all_must_hold`` is an intersection–union test. The gate passes only where every requirement is shown at its own
alpha, so it passes a candidate that breaks one with that requirement's alpha at most, however many there are: nothing
is corrected. Power is what suffers, for every one of them must succeed.

``any_regression`` asks of every blocking comparison whether its requirement is *broken*, and many such questions find
something by chance. Holm's adjustment keeps the chance of any false alarm at the gate's alpha, however the comparisons
depend on one another. All of them are in the family, whatever they answered: the gate file fixed it. A rule that
passed at its own alpha stays passed (its interval lies on the good side, so no correction can reject it). One that is
undecided, or fails only uncorrected, passes too, with the reason told. What was not measured, had no interval to test,
or has no such p-value (``at_least``, ``keeps``) counts as its rule says.

p-values are upper bounds, read from intervals at a few levels. Holm's adjustment grows with each of them, so it stays
valid and errs towards no alarm. A comparison at the finest level may be far beyond it: where Holm would reject if its
p-value were 0, nothing is known either way, and it counts as undecided, never as passed.

Comparisons of rules that do not block get Benjamini and Hochberg's adjustment, as a diagnostic: it decides nothing.

**Source**: Berger 1982, Technometrics 24, 295 (intersection–union); Holm 1979, Scand. J. Stat. 6, 65; Benjamini and
Hochberg 1995, J. R. Stat. Soc. B 57, 289.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import isclose

from evalkit.gates.wording import percent, plain
from evalkit.records.suite import GateSpec
from evalkit.records.verdict import CountsAs, Outcome
from evalkit.stats.multiple import benjamini_hochberg, holm

POWER_OF_ONE = 0.8
"""The usual power of one rule, from which the power of all is told."""
SLACK = 1e-9
"""p-values lie on round levels, so a product may equal alpha but for its last digit."""


def combined(
    gate: GateSpec,
    outcomes: Sequence[Outcome],
    finest: Sequence[float],
    weighed: Collection[str] = (),
) -> tuple[list[Outcome], str]:
    """Return a gate's outcomes with what they count as in its family, and what that means, in a sentence.

    ``finest`` holds, per outcome, the least p-value that could have been read for it; ``weighed`` names the tasks that
    read weights.
    """
    blocking = sum(outcome.severity == "block" for outcome in outcomes)
    found = list(outcomes)
    if gate.family == "all_must_hold":
        sampled = sum(o.severity == "block" and _on_samples(o, weighed) for o in outcomes)
        return found, _all_must_hold(blocking, sampled)
    p_values = {n: o.p_broken for n, o in enumerate(outcomes) if o.p_broken is not None}
    deciding = {n: p for n, p in p_values.items() if outcomes[n].severity == "block"}
    at_best = {n: 0.0 if isclose(p, finest[n]) else p for n, p in deciding.items()}
    strong = dict(zip(at_best, holm([*at_best.values()]), strict=True))
    for n, adjusted in zip(deciding, holm([*deciding.values()]), strict=True):
        found[n] = _decided(gate, outcomes[n], adjusted, strong[n], len(deciding))
    shown = {n: p for n, p in p_values.items() if n not in deciding}
    for n, adjusted in zip(shown, benjamini_hochberg([*shown.values()]), strict=True):
        found[n] = outcomes[n].model_copy(update={"p_adjusted": adjusted})
    coarsest = max((finest[n] for n in deciding), default=0.0)
    return found, _any_regression(gate.alpha, len(deciding), blocking - len(deciding), coarsest)


def _decided(
    gate: GateSpec, outcome: Outcome, adjusted: float, at_best: float, family: int
) -> Outcome:
    """Return a blocking comparison as Holm's adjustment over its family of so many decides it."""
    untested = outcome.interval is None and outcome.status == "inconclusive"
    if outcome.status == "pass" or untested:
        return outcome.model_copy(update={"p_adjusted": adjusted})
    counts_as: CountsAs
    told = f"Holm's p over {_comparisons(family)} is {_p(adjusted)}"
    if adjusted <= gate.alpha + SLACK:
        counts_as, why = "fail", f"a regression is shown: {told}, not above {plain(gate.alpha)}"
    elif at_best <= gate.alpha + SLACK:
        undecided = next(rule.on_inconclusive for rule in gate.rules if rule.id == outcome.rule)
        counts_as = "fail" if undecided == "fail" else "inconclusive"
        why = (
            f"whether that is a regression stays open: {told} or less, as finer levels are not held"
        )
    else:
        counts_as, why = "pass", f"no regression is shown: {told}, above {plain(gate.alpha)}"
    reason = f"{outcome.reason}; {why}"
    return outcome.model_copy(
        update={"p_adjusted": adjusted, "counts_as": counts_as, "reason": reason}
    )


def _p(value: float) -> str:
    return f"{value:.2g}"


def _on_samples(outcome: Outcome, weighed: Collection[str]) -> bool:
    """Return whether a draw of samples decides an outcome: not what was read in full (weights), nor what is missing."""
    interval = outcome.interval
    in_full = interval is not None and interval.method == "exact"
    task = outcome.estimate.partition("/")[0]
    return not in_full and task not in weighed and outcome.status != "missing"


def _all_must_hold(blocking: int, sampled: int) -> str:
    if blocking == 0:
        return "no rule blocks"
    if blocking == 1:
        return "the one blocking requirement must be shown to hold"
    told = (
        f"{blocking} blocking requirements must all hold: no correction is needed for false passes"
    )
    if sampled < 2:
        return told
    some = f"the {sampled} on samples each pass" if sampled < blocking else "each passes"
    return (
        f"{told}; if {some} an acceptable candidate with {percent(POWER_OF_ONE)}, all pass with about "
        f"{100 * POWER_OF_ONE**sampled:.2g} % if independent, so power multiplies"
    )


def _any_regression(alpha: float, comparisons: int, others: int, finest: float) -> str:
    rest = f"other blocking requirements, which must hold: {others}"
    if not comparisons:
        return f"no blocking comparison with the baseline was tested; {rest}"
    told = (
        f"any of {_comparisons(comparisons)} with the baseline blocks where Holm's correction shows a regression: an "
        f"unchanged candidate fails by them with a chance of {percent(alpha)} at most, and a regression too small to "
        "be shown passes"
    )
    if finest * comparisons > alpha + SLACK:
        told += (
            f"; among so many, one alone must reach p {_p(alpha / comparisons)}, but the finest level held is "
            f"{_p(finest)}: what reaches that stays undecided"
        )
    return f"{told}; {rest}" if others else told


def _comparisons(count: int) -> str:
    return f"{count} comparison{'' if count == 1 else 's'}"
