"""The power of every rule and gate over the samples there are, from assumptions or an earlier run.

**Deviation**: the standard deviation of means and corpus measures is taken for the one that a run will find.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from evalkit.gates.against_baseline import AgainstBaseline
from evalkit.gates.census import reads_census
from evalkit.gates.conditions import Condition, Evidence
from evalkit.gates.evaluate import condition_of
from evalkit.gates.judged import reads_card
from evalkit.gates.people import reads_ratings
from evalkit.powering.answers import (
    ask_of,
    family_alpha,
    matched,
    matched_of_groups,
    remade,
)
from evalkit.powering.estimands import Estimand
from evalkit.powering.evidence import NeedsSamples
from evalkit.powering.hypothetical import Ask, NormalDifference, Outcomes, outcomes_of
from evalkit.powering.possible import MOST_SAMPLES, possible
from evalkit.powering.spreads import Assumptions, Spread, spread_of
from evalkit.records.power import GatePower, PowerReport, Range, RulePower
from evalkit.records.suite import GateSpec, RuleSpec, SpectralTask
from evalkit.reports.power import READ_IN_FULL
from evalkit.stats.estimate import real_clusters
from evalkit.stats.power import joint_chance, least_samples, region_above, required_samples

OF_GROUPS = (
    "the power of gaps between groups is not computed; a run shows how wide their intervals are"
)
"""Why a rule on what groups of people add to a metric has no power."""
OF_PEOPLE = (
    "people rate some of the answers after the run: the power of their ratings is not computed"
)
"""Why a rule on people's ratings has no power."""
OF_CARDS = "power of a share behind a judge's errors is not computed"
"""Why nothing is told of a rule on what a judge's card corrects."""
MOST_COUNTED = 10_000
"""Above so many pairs the difference of zeros and ones is taken as normal; the intervals are the same by then."""


def power_of(
    gates: Sequence[GateSpec],
    estimands: Sequence[Estimand],
    assumed: Assumptions,
    past: Mapping[str, Evidence],
    *,
    power: float,
    level: float,
    weighed: Sequence[SpectralTask] = (),
) -> PowerReport:
    """Return the power of every rule on every estimand that it matches.

    ``past`` is an earlier run's evidence by name, empty where there is none; ``power`` the chance wanted, 0–1;
    ``level`` the suite's confidence. Rules on the ``weighed`` tasks have no power to be asked for: nothing is drawn.
    """
    rules: list[RulePower] = []
    told: list[GatePower] = []
    asked: dict[object, RulePower] = {}
    for gate in gates:
        family = family_alpha(gate, estimands, level)
        of_gate = [
            row
            for rule in gate.rules
            for row in _rows(
                gate, rule, estimands, assumed, past, power, level, family, asked, weighed
            )
        ]
        rules += of_gate
        told.append(_together(gate, of_gate))
    return PowerReport(power=power, rules=tuple(rules), gates=tuple(told))


def _rows(
    gate: GateSpec,
    rule: RuleSpec,
    estimands: Sequence[Estimand],
    assumed: Assumptions,
    past: Mapping[str, Evidence],
    power: float,
    level: float,
    family: float | None,
    asked: dict[object, RulePower],
    weighed: Sequence[SpectralTask],
) -> list[RulePower]:
    condition = condition_of(rule)
    found = matched(rule, estimands)
    empty = RulePower(
        gate=gate.gate,
        rule=rule.id,
        estimate=rule.estimate,
        severity=rule.severity,
        required=condition.required,
        reads=condition.reads,
        samples=0,
    )
    rows = (
        [empty.model_copy(update={"unknown": READ_IN_FULL})] if reads_census(rule, weighed) else []
    )
    rows += [
        empty.model_copy(update={"estimate": name, "samples": samples, "unknown": OF_GROUPS})
        for name, samples in matched_of_groups(rule, estimands).items()
    ]
    if reads_card(rule.estimate):
        rows.append(empty.model_copy(update={"unknown": OF_CARDS}))
    if reads_ratings(rule.estimate):
        rows.append(empty.model_copy(update={"unknown": OF_PEOPLE}))
    if not found and not rows:
        reason = f"the data hold nothing named {rule.estimate}"
        can = f"can never pass: {reason}"
        return [empty.model_copy(update={"cannot_pass": can, "unknown": reason})]
    for estimand in found:
        row = empty.model_copy(update={"estimate": estimand.name, "samples": estimand.samples})
        spread = spread_of(estimand, assumed, past)
        clusters = None if estimand.clusters_N is None else estimand.clusters_N.tobytes()
        key = gate.gate, rule.id, estimand.task, estimand.metric, estimand.samples, clusters, spread
        if key not in asked:
            work = _Work(rule, estimand, spread, power, level, family)
            asked[key] = work.fill(row)
        rows.append(asked[key].model_copy(update={"estimate": estimand.name}))
    return rows


@dataclass(frozen=True)
class _Work:
    """One rule on one estimand."""

    rule: RuleSpec
    estimand: Estimand
    spread: Spread
    power: float
    level: float
    family: float | None

    def fill(self, row: RulePower) -> RulePower:
        """Return the row with all that can be told."""
        condition = condition_of(self.rule)
        ask = ask_of(self.rule, condition, self.family)
        try:
            could = possible(
                condition, ask, self.estimand, self.level, remade(self.rule, self.family)
            )
            told = self._chances(condition, ask)
        except NeedsSamples:
            return row.model_copy(
                update={
                    "unknown": "it reads single samples, which no assumption tells apart",
                    "notes": self._notes(),
                }
            )
        except Exception as error:
            reason = f"the condition could not be asked: {type(error).__name__}: {error}"
            return row.model_copy(update={"unknown": reason, "notes": self._notes()})
        limits = {"cannot_pass": could.cannot_pass, "cannot_fail": could.cannot_fail}
        if condition.reads == "comparison" and self.estimand.measure.better == "lower":
            told = _turned(told)
        return row.model_copy(update={**limits, **told, "notes": self._notes()})

    def _notes(self) -> tuple[str, ...]:
        """Return what the numbers leave out."""
        notes = []
        told = self._basis().endswith("clusters included")
        if real_clusters(self.estimand.clusters_N)[1] is not None and not told:
            notes.append(
                "samples share clusters and are taken as independent here: the real power is lower"
            )
        if self.estimand.anytime:
            notes.append(
                "the task may stop early: by tests that hold at any look, taken here after its last sample"
            )
        return tuple(notes)

    def _basis(self) -> str:
        reads = condition_of(self.rule).reads
        return self.spread.value_from if reads == "estimate" else self.spread.pairs_from

    def _outcomes(self, condition: Condition, ask: Ask, n: int) -> Outcomes | str:
        spread = self.spread
        if (
            n > MOST_COUNTED
            and not self.estimand.anytime
            and isinstance(condition, AgainstBaseline)
        ):
            spread = replace(spread, discordance=None)
        held = outcomes_of(self.estimand, spread, n, ask, condition.reads, self.level)
        if isinstance(held, NormalDifference) and not isinstance(condition, AgainstBaseline):
            return "it counts the samples that changed, which a normal difference does not tell"
        return held

    def _chances(self, condition: Condition, ask: Ask) -> dict[str, object]:
        n = self.estimand.samples
        held = self._outcomes(condition, ask, n) if n else "the data hold no sample"
        if isinstance(held, str):
            return {"unknown": held}
        tolerance = held.tolerance
        passing = region_above(self._chance(held, "pass"), held.effects, self.power, tolerance)
        told: dict[str, object] = {
            "basis": self._basis(),
            "unchanged": held.unchanged,
            "passes": _range(passing, held.effects),
            **self._failing(held, passing),
        }
        if held.unchanged is not None:
            now = held.chances(held.unchanged)
            told["passes_unchanged"] = now.get("pass", 0.0)
            told["fails_unchanged"] = now.get("fail", 0.0)
            told["needed"] = self._needed(condition, ask)
        return told

    def _chance(self, held: Outcomes, answer: str) -> Callable[[float], float]:
        return lambda effect: held.chances(effect).get(answer, 0.0)

    def _failing(
        self, held: Outcomes, passing: tuple[float, float] | None
    ) -> dict[str, float | None]:
        """Return the effects on both sides of the passing ones from which on it fails with the wanted power."""
        chance, effects = self._chance(held, "fail"), held.effects
        # Where nothing passes, failing is told from what is unchanged, or from the middle of what there can be.
        centre = passing or (held.unchanged, held.unchanged)
        low = effects[0] if centre[0] is None else centre[0]
        high = effects[-1] if centre[1] is None else centre[1]
        below = [x for x in effects if x <= low]
        above = [x for x in effects if x >= high]
        ends: dict[str, float | None] = {"fails_below": None, "fails_above": None}
        if len(below) > 1 and (found := region_above(chance, below, self.power, held.tolerance)):
            ends["fails_below"] = found[1]
        if len(above) > 1 and (found := region_above(chance, above, self.power, held.tolerance)):
            ends["fails_above"] = found[0]
        return ends

    def _needed(self, condition: Condition, ask: Ask) -> int | None:
        """Return the number of samples from which an unchanged candidate passes with the wanted power."""

        def enough(n: int) -> bool:
            held = self._outcomes(condition, ask, n)
            assert not isinstance(held, str), "what varies for some samples varies for all"
            assert held.unchanged is not None, "an unchanged candidate is known"
            return held.chances(held.unchanged).get("pass", 0.0) >= self.power

        return least_samples(enough, self._guess(condition), MOST_SAMPLES)

    def _guess(self, condition: Condition) -> int:
        """Return a number of samples to begin with: that of non-inferiority where the rule has a margin."""
        margin = getattr(condition.options, "margin", None)
        if margin and condition.reads == "comparison" and self.spread.sd_difference:
            if getattr(condition.options, "relative", False):
                margin *= abs(self.spread.value or 1.0)
            variance = self.spread.sd_difference**2
            alpha = getattr(condition.options, "alpha", 0.05)
            guess = required_samples(variance, margin, alpha=alpha, power=self.power)
            return int(min(guess, MOST_SAMPLES)) + 1
        return max(self.estimand.samples, 2)


def _turned(told: dict[str, object]) -> dict[str, object]:
    """Return what is told of gains as told of differences, where lower is better."""

    def minus(value: object) -> float | None:
        return -value if isinstance(value, float) else None

    passes = told.get("passes")
    turned = {
        "fails_below": minus(told.get("fails_above")),
        "fails_above": minus(told.get("fails_below")),
    }
    if isinstance(passes, Range):
        turned_range = Range(low=minus(passes.high), high=minus(passes.low))
        return {**told, **turned, "passes": turned_range}
    return {**told, **turned}


def _range(found: tuple[float, float] | None, effects: Sequence[float]) -> Range | None:
    if found is None:
        return None
    low, high = found
    return Range(low=None if low == effects[0] else low, high=None if high == effects[-1] else high)


def _together(gate: GateSpec, rows: Sequence[RulePower]) -> GatePower:
    blocking = [row for row in rows if row.severity == "block"]
    chances = [
        row.passes_unchanged or 0.0
        for row in blocking
        if row.cannot_pass or row.passes_unchanged is not None
    ]
    if_independent, at_least = joint_chance(chances)
    return GatePower(
        gate=gate.gate,
        family=gate.family,
        blocking=len(blocking),
        unknown=len(blocking) - len(chances),
        if_independent=if_independent,
        at_least=at_least,
    )
