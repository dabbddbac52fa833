"""Loads a gate file; every mistake is told at once.

A rule's keys are those that every rule has, and beside them those of the condition that it requires. A waiver must
name a rule of its gate, a slice that the rule can match, and a last day that has not passed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path

from pydantic import PrivateAttr

from evalkit.errors import Problem, UsageError
from evalkit.gates.evaluate import matching
from evalkit.gates.waivers import is_expired
from evalkit.loaders.declarations import check, names_twice, refusals
from evalkit.loaders.places import KeyPath, Value
from evalkit.loaders.references import import_plugins, with_documents
from evalkit.loaders.sentences import A_DATE, found, keys_of
from evalkit.loaders.yaml_source import YamlSource, read_yaml
from evalkit.records.suite import GateSpec, RuleSpec, Spec
from evalkit.registry import Part, nearest, parts

COMMON_KEYS = tuple(name for name in RuleSpec.model_fields if name != "options")
"""The keys that every rule may have."""
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


class LoadedGate(GateSpec):
    """A gate that knows where its rules and waivers were written."""

    _source: YamlSource = PrivateAttr()

    def problem(self, at: KeyPath, message: str, allowed: str = "", close: str = "") -> Problem:
        """Return a problem with the value at ``at``, with its line."""
        return self._source.problem(at, message, allowed, close)


def load_gate(path: Path, today: date | None = None) -> LoadedGate:
    """Return a gate; raises one UsageError with every problem in the file, in the order of its lines.

    ``today`` is the day by which waivers expire, by default today's date in UTC. Modules under ``plugins:`` are
    imported, which runs their code.
    """
    source = read_yaml(path)
    problems = list(import_plugins(source))
    value = dict(source.value)
    twice = names_twice(value.get("rules"), "id", source, ("rules",))
    problems += twice
    if isinstance(value.get("rules"), list):
        read = [_read_rule(rule, source, ("rules", n)) for n, rule in enumerate(value["rules"])]
        value["rules"] = [rule for rule, _ in read]
        problems += [problem for _, wrong in read for problem in wrong]
    today = datetime.now(UTC).date() if today is None else today
    problems += _wrong_waivers(value, source, today)
    gate, wrong = check(LoadedGate, value, source)
    problems += [p for p in wrong if p.key or not twice]  # the gate's own law names no line
    told = source.in_order(problems)
    if told or gate is None:
        raise UsageError(told)
    gate._source = source
    return gate


def _read_rule(rule: Value, source: YamlSource, at: KeyPath) -> tuple[Value, list[Problem]]:
    """Return a rule in the form that ``RuleSpec`` declares, and what is wrong with it beyond its form."""
    if not isinstance(rule, dict):
        return rule, []
    common = {key: value for key, value in rule.items() if key in COMMON_KEYS}
    own = {key: value for key, value in rule.items() if key not in COMMON_KEYS}
    problems = list(_odd_estimate(rule.get("estimate"), source, (*at, "estimate")))
    name, known = rule.get("require"), parts("condition")
    if isinstance(name, str) and name in known:
        common["options"], wrong = _read_options(known[name], own, source, at)
        return common, problems + wrong
    if isinstance(name, str):
        message = f"unknown condition {name!r}"
        problems.append(
            source.problem((*at, "require"), message, ", ".join(known), nearest(name, known))
        )
    any_condition = dict.fromkeys(
        key for part in known.values() for key in keys_of(part.make.Options)
    )
    return common, problems + _unknown_keys(own, any_condition, source, at)


def _odd_estimate(estimate: Value, source: YamlSource, at: KeyPath) -> Iterator[Problem]:
    if isinstance(estimate, str) and not {"/", "*"} & set(estimate.partition("@")[0]):
        allowed = "task/metric, task/metric.measure, task/metric@field=value"
        yield source.problem(at, f"{estimate!r} names no metric", allowed)


def _read_options(
    part: Part, own: Mapping[str, Value], source: YamlSource, at: KeyPath
) -> tuple[Mapping[str, Value], list[Problem]]:
    """Return the keys of a rule that are its condition's, and what is wrong with them."""
    declared: type[Spec] = part.make.Options
    keys = keys_of(declared)
    unknown = _unknown_keys(own, keys, source, at)
    options, wrong = with_documents(
        declared, {k: v for k, v in own.items() if k in keys}, source, at
    )
    checked, more = check(declared, options, source, at)
    wrong += more
    if checked is not None and not wrong:
        wrong += refusals(partial(part.make, checked), source, at)
    return options, unknown + wrong


def _wrong_waivers(
    value: Mapping[str, Value], source: YamlSource, today: date
) -> Iterator[Problem]:
    """Yield what is wrong with each waiver beyond its form."""
    rules = {
        str(rule.get("id")): str(rule.get("estimate"))
        for rule in _mappings(value.get("rules")).values()
    }
    for place, waiver in _mappings(value.get("waivers")).items():
        at = ("waivers", place)
        rule, slice_, expires = (waiver.get(key) for key in ("rule", "slice", "expires"))
        if isinstance(rule, str) and rule not in rules:
            message = f"no rule of this gate has the id {rule!r}"
            yield source.problem((*at, "rule"), message, ", ".join(rules), nearest(rule, rules))
        if isinstance(slice_, str):
            yield from _odd_slice(slice_, rules.get(str(rule)), source, (*at, "slice"))
        if isinstance(expires, str):
            yield from _odd_day(expires, today, source, (*at, "expires"))


def _mappings(entries: Value) -> dict[int, Mapping[str, Value]]:
    """Return the entries of a list that are mappings, by place."""
    listed = entries if isinstance(entries, list) else []
    return {place: entry for place, entry in enumerate(listed) if isinstance(entry, dict)}


def _odd_slice(
    slice_: str, estimate: str | None, source: YamlSource, at: KeyPath
) -> Iterator[Problem]:
    of_gap = estimate is not None and matching(f"@{estimate.partition('@')[2]}", [f"@{slice_}"])
    if "=" not in slice_ and not of_gap:
        yield source.problem(at, found(slice_), "field=value")
    elif estimate is not None:
        pattern = estimate.partition("@")[2]
        if not pattern:
            message = f"the rule matches no slice: its estimate is {estimate!r}"
            yield source.problem(
                at, message, "no slice: the waiver covers all that the rule matches"
            )
        elif not matching(f"@{pattern}", [f"@{slice_}"]):
            message = f"{slice_!r} is none of the slices that the rule matches"
            yield source.problem(at, message, pattern)


def _odd_day(expires: str, today: date, source: YamlSource, at: KeyPath) -> Iterator[Problem]:
    if not _DAY.fullmatch(expires):  # pydantic takes seconds since 1970 in quotes for a date
        yield source.problem(at, found(expires), A_DATE)
        return
    try:
        passed = is_expired(date.fromisoformat(expires), today)
    except ValueError:  # a day that no month has, which is told as such
        return
    if passed:
        message = f"the waiver expired on {expires}; today is {today} (UTC)"
        yield source.problem(at, message, "a later day, if its owner grants it, or no waiver")


def _unknown_keys(
    own: Mapping[str, Value], conditions_keys: Iterable[str], source: YamlSource, at: KeyPath
) -> list[Problem]:
    allowed = [*COMMON_KEYS, *conditions_keys]
    return [
        source.problem((*at, key), "unknown key", ", ".join(allowed), nearest(key, allowed))
        for key in own
        if key not in allowed
    ]
